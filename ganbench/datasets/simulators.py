"""Data from simulators at their true parameters, with the simulator itself as `Data.simulator`: a program with
one or two parameters and no gradient, whose parameters a method finds from the data (the "physics generator").

Every split is drawn independently, the test split first and the training split last, so that a larger
`n_train` changes neither of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from ..contracts import Data, Simulator, dataset
from ..errors import DatasetError

TURN = (-math.pi / 16, math.pi / 2)  # angles considered for the rotated data (Borisyak et al. 2020)

# The tree level of e+e- -> mu+mu- (constants of the Particle Data Group, 2022)
FERMI = 1.1663788e-5  # GeV^-2
ALPHA = 1 / 137.035999  # fine-structure constant
Z_MASS, Z_WIDTH = 91.1876, 2.4952  # GeV
WEAK_MIXING = 0.23121  # sin² of the weak mixing angle


@dataset("poisson", provides=("simulator",))
def poisson(
    generator: Generator,
    n_train: int = 100_000,  # training points
    n_valid: int = 10_000,  # validation points
    n_test: int = 10_000,  # test points
) -> Data:
    """Counts of rate 7 (Louppe et al. 2017, section 4.1); parameter: the rate, from 1 to 20.

    Points [N, 1]. Raises DatasetError for impossible sizes.
    """
    simulator = Simulator(_poisson, ("rate",), low=(1.0,), high=(20.0,), truth=(7.0,))
    return _simulated("poisson", generator, simulator, (n_train, n_valid, n_test))


@dataset("xor", provides=("simulator", "log_density"))
def xor(
    generator: Generator,
    n_train: int = 100_000,  # training points
    n_valid: int = 10_000,  # validation points
    n_test: int = 10_000,  # test points
) -> Data:
    """Two long Gaussians on a diagonal (Borisyak et al. 2020, XOR); parameter: the angle they are turned by.

    x = R(θ)·(A·z ± (2, 2)), z ~ N(0, I), A = [[¼, ½], [½, ¼]], both signs equally likely: each Gaussian has
    the standard deviation ¾ along the diagonal and ¼ across. The paper's two classes are one sample here,
    without labels. θ from −π/16 to π/2, truth 0. Points [N, 2]. Raises DatasetError for impossible sizes.
    """
    simulator = Simulator(_xor, ("angle",), low=TURN[:1], high=TURN[1:], truth=(0.0,))
    return _simulated("xor", generator, simulator, (n_train, n_valid, n_test), _xor_log_density)


@dataset("rotated_swiss_roll", provides=("simulator",))
def rotated_swiss_roll(
    generator: Generator,
    n_train: int = 100_000,  # training points
    n_valid: int = 10_000,  # validation points
    n_test: int = 10_000,  # test points
) -> Data:
    """The spiral of `swiss_roll` (Borisyak et al. 2020, Swiss roll); parameter: the angle it is turned by.

    x = R(θ)·(t·(cos t, sin t) + N(0, 0.25²)) / 7.5, t uniform in [1.5π, 4.5π]; θ from −π/16 to π/2, truth 0.
    Points [N, 2]. Raises DatasetError for impossible sizes.
    """
    simulator = Simulator(_swiss_roll, ("angle",), low=TURN[:1], high=TURN[1:], truth=(0.0,))
    return _simulated("rotated_swiss_roll", generator, simulator, (n_train, n_valid, n_test))


@dataset("muons", provides=("simulator", "log_density"))
def muons(
    generator: Generator,
    n_train: int = 100_000,  # training points
    n_valid: int = 10_000,  # validation points
    n_test: int = 10_000,  # test points
) -> Data:
    """cos θ of the muon in e+e− → μ+μ− (Louppe et al. 2017, section 4.2); parameters: beam energy, Fermi constant.

    dσ/dcos θ ∝ 1 + cos² θ + (8/3)·A_FB·cos θ, where A_FB is the forward-backward asymmetry of photon and Z
    exchange at tree level (see `asymmetry`). The energy of a beam is from 40 to 50 GeV, truth 42; the Fermi
    constant from 0.5 to 1.5 times the measured one, truth 0.9. Both act through A_FB alone: a curve of
    parameters fits the data as well as the truth, and the distance to the truth says how far along it a
    search ended. Points [N, 1]. Raises DatasetError for impossible sizes.
    """
    names = ("beam energy (GeV)", "Fermi constant (of the measured)")
    simulator = Simulator(_muons, names, low=(40.0, 0.5), high=(50.0, 1.5), truth=(42.0, 0.9))
    return _simulated("muons", generator, simulator, (n_train, n_valid, n_test), _muon_log_density)


def asymmetry(energy: float, fermi: float) -> float:
    """Forward-backward asymmetry of e+e− → μ+μ− at tree level with massless muons (Particle Data Group, review
    of cross-section formulae), at a beam energy in GeV and a multiple of the Fermi constant.

    A_FB = ¾·F_A / F_S with F_S = 1 + 2v²·Re χ + (1 + v²)²·|χ|², F_A = 2·Re χ + 4v²·|χ|², v = −1 + 4 sin² θ_W
    and χ = G_F·M_Z² / (8√2·πα) · s / (s − M_Z² + i·M_Z·Γ_Z), s = (2E)².
    """
    s, vector = (2 * energy) ** 2, (4 * WEAK_MIXING - 1) ** 2
    strength = fermi * FERMI * Z_MASS**2 / (8 * math.sqrt(2) * math.pi * ALPHA)
    chi = strength * s / complex(s - Z_MASS**2, Z_MASS * Z_WIDTH)
    symmetric = 1 + 2 * vector * chi.real + (1 + vector) ** 2 * abs(chi) ** 2
    return 0.75 * (2 * chi.real + 4 * vector * abs(chi) ** 2) / symmetric


# ---------------------------------------------------------------------------------------------- simulators


def _poisson(parameters: Tensor, n: int, generator: Generator) -> Tensor:
    rates = torch.full((n, 1), float(parameters[0]))
    return torch.poisson(rates, generator=generator)


def _xor(parameters: Tensor, n: int, generator: Generator) -> Tensor:
    noise = _normal(n, 2, generator=generator)
    sign = 2 * torch.randint(0, 2, (n, 1), generator=generator) - 1
    return _turned(noise @ _shear() + 2 * sign, float(parameters[0])).float()


def _swiss_roll(parameters: Tensor, n: int, generator: Generator) -> Tensor:
    time = torch.rand(n, 1, generator=generator, dtype=torch.float64) * (3 * math.pi) + 1.5 * math.pi
    curve = torch.cat([time * time.cos(), time * time.sin()], dim=1)
    noisy = curve + 0.25 * _normal(n, 2, generator=generator)
    return _turned(noisy / 7.5, float(parameters[0])).float()


def _muons(parameters: Tensor, n: int, generator: Generator) -> Tensor:
    """1 + c² + 2kc = (1 + k)/2·(1 + c)² + (1 − k)/2·(1 − c)²: a mixture of the two combinations of helicities,
    each of which is sampled by its inverse distribution function."""
    k = 4 / 3 * asymmetry(*parameters.tolist())
    forward = 2 * torch.rand(n, 1, generator=generator, dtype=torch.float64) ** (1 / 3) - 1
    chosen = torch.rand(n, 1, generator=generator, dtype=torch.float64) < (1 + k) / 2
    return torch.where(chosen, forward, -forward).float()


def _normal(*shape: int, generator: Generator) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _shear() -> Tensor:
    return torch.tensor([[0.25, 0.5], [0.5, 0.25]], dtype=torch.float64)


def _turned(x: Tensor, angle: float) -> Tensor:
    """Points [n, 2] turned counterclockwise around the origin."""
    cos, sin = math.cos(angle), math.sin(angle)
    return x @ torch.tensor([[cos, sin], [-sin, cos]], dtype=x.dtype)


# ---------------------------------------------------------------------------------------------- data


def _xor_log_density(x: Tensor) -> Tensor:
    """At the true angle: [B, 2] -> [B], nats, in the dtype of x."""
    shear = _shear().to(x)
    white = torch.stack([(x - 2) @ shear.inverse(), (x + 2) @ shear.inverse()])
    norm = math.log(2 * math.pi) + math.log(2) + math.log(abs(float(shear.det())))
    return torch.logsumexp(-white.square().sum(-1) / 2, dim=0) - norm


def _muon_log_density(x: Tensor) -> Tensor:
    """At the true parameters: [B, 1] -> [B], nats, in the dtype of x."""
    cos = x.squeeze(1)
    density = 3 / 8 * (1 + cos**2) + asymmetry(42.0, 0.9) * cos
    return torch.where(cos.abs() <= 1, density, 0.0).log()


def _simulated(
    name: str,
    generator: Generator,
    simulator: Simulator,
    sizes: tuple[int, int, int],
    log_density: Callable[[Tensor], Tensor] | None = None,
) -> Data:
    """The simulator's data at its true parameters."""
    for key, size in zip(("n_train", "n_valid", "n_test"), sizes, strict=True):
        if size < 1:
            raise DatasetError(f"{name}: {key} must be above 0, got {size}")
    draw = partial(simulator.simulate, torch.tensor(simulator.truth, dtype=torch.float64))
    test, valid, train = (draw(n, generator) for n in reversed(sizes))
    shape = tuple(train.shape[1:])
    return Data(name, train, valid, test, shape, log_density=log_density, simulator=simulator)
