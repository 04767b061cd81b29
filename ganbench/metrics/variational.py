"""A divergence estimated from samples alone: the variational bound of a discriminator trained for it."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor, device, nn

from ..contracts import Data, Model, Score, Value, metric
from ..divergences import (
    KL,
    Divergence,
    Jeffrey,
    JensenShannon,
    Neyman,
    Pearson,
    ReverseKL,
    SquaredHellinger,
)
from ..errors import SampleError
from ..nets import Sequential, mlp
from .distances import check_samples
from .extractors import extractor, identity
from .once import Once

WIDTH = 64  # ELU units of both hidden layers
STEPS = 600  # minibatches at most
BATCH = 128  # examples of either side in one
LR = 3e-3  # of Adam
EVERY = 20  # minibatches after which the bound on the part set aside is looked at
FAR = 1e12  # no v that matters is further out: Pearson has 2(u − 1)
PATIENCE = 200  # minibatches without a better one that end the training
KNOWN: dict[str, Divergence] = {
    "jensen-shannon": JensenShannon(),
    "kl": KL(),
    "reverse-kl": ReverseKL(),
    "jeffrey": Jeffrey(),
    "squared-hellinger": SquaredHellinger(),
    "pearson": Pearson(),
    "neyman": Neyman(),
}


def variational_divergence(
    samples: Tensor, test: Tensor, divergence: Divergence, *, generator: Generator | None = None
) -> Score:
    """A lower bound, in nats, on D_f(P‖Q) of the distributions P of `test` [m, *shape] and Q of `samples`
    [n, *shape]: E_P[T] − E_Q[f*(T)] (Nowozin et al. 2016, eq. 4; Nguyen et al. 2010), T = g_f(v).

    v is a net of 64 ELU units twice on standardised numbers, trained to raise the bound on half of both sets
    and taken as it was where a quarter of that half, set aside, puts the bound less two standard errors highest.
    It starts at T = f'(1), which gives zero. The bound is then that of the other half, which took no part, so
    that its expectation is at most the divergence, however bad the net; it may come out negative. ± is the
    standard error over that half. T is kept between f'(1/n) and f'(n): n examples show no higher ratio.

    It says how much this net finds, which for few examples of many numbers is little. The bound of
    Jensen–Shannon has the least spread; those with a power or an exponential of v (KL, Pearson, Neyman, Jeffrey)
    fall short of divergences above a few nats, or are lost in their spread. `generator`, on the CPU, draws the
    halves, the weights and the minibatches; None: a fixed seed. Raises SampleError for fewer than 16 examples,
    different shapes and values that are not finite.
    """
    test = check_samples(test, "test", least=16)
    samples = check_samples(samples, "samples", like=test, least=16)
    generator = generator or torch.Generator().manual_seed(0)
    halves = [_halves(z.flatten(1), generator) for z in (test, samples)]
    known = torch.cat([half for half, _ in halves]).double()
    deviation, mean = torch.std_mean(known, dim=0)
    scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    (p, p_held), (q, q_held) = ([((z - mean) / scale).float() for z in pair] for pair in halves)
    net = _train(p, q, divergence, generator)
    with torch.no_grad():
        value, sem = _judged(net, divergence, p_held, q_held)
    return Score(value, sem, len(p_held) + len(q_held))


def _halves(x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(x), generator=generator).to(x.device)
    return x[order[: len(x) // 2]], x[order[len(x) // 2 :]]


def _train(p: Tensor, q: Tensor, f: Divergence, generator: Generator) -> Sequential:
    """The net that ascends the bound on three quarters of p [n, d] and q [m, d], as it was when the others put
    it highest."""
    net = _start(p.shape[1], f, generator).to(p.device)
    optimiser = torch.optim.Adam(net.parameters(), LR)
    aside, fitted = (
        [z[part(len(z) // 4)] for z in (p, q)] for part in (lambda n: slice(n), lambda n: slice(n, None))
    )
    best, chosen, when = -math.inf, copy.deepcopy(net.state_dict()), 0
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            with torch.no_grad():
                value, sem = _judged(net, f, *aside)
            found = value - 2 * sem  # of many looks the best one is easily luck
            if found > best:
                best, chosen, when = found, copy.deepcopy(net.state_dict()), step
            elif step - when >= PATIENCE:
                break
        rows = [torch.randint(len(z), (BATCH,), generator=generator).to(z.device) for z in fitted]
        optimiser.zero_grad()
        (-_bound(net, f, *(z[row] for z, row in zip(fitted, rows, strict=True)))).backward()
        optimiser.step()
    net.load_state_dict(chosen)
    return net


def _bound(net: nn.Module, f: Divergence, p: Tensor, q: Tensor) -> Tensor:
    return f.activation(net(p)).mean() - f.composed(net(q)).mean()


def _judged(net: nn.Module, f: Divergence, p: Tensor, q: Tensor) -> tuple[float, float]:
    """The bound and its standard error, with T kept in reach of so many examples."""
    low, high = (_place(f, ratio) for ratio in (1 / len(q), float(len(p))))
    gain, cost = (net(z).double().clamp(low, high) for z in (p, q))
    gain, cost = f.activation(gain), f.composed(cost)
    sem = (gain.var() / len(gain) + cost.var() / len(cost)).sqrt().item()
    return (gain.mean() - cost.mean()).item(), sem


def _start(d: int, f: Divergence, generator: Generator) -> Sequential:
    """A net whose output is everywhere the v of T = f'(1), where the bound of a constant is highest: f(1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31 - 1, (), generator=generator)))
        net = mlp(d, WIDTH, WIDTH, 1, activation=nn.ELU)
    *_, weight, bias = net.parameters()
    nn.init.zeros_(weight)
    nn.init.constant_(bias, _place(f, 1.0))
    return net


def _place(f: Divergence, ratio: float) -> float:
    """The output v of a net that stands for this density ratio, g_f(v) = f'(ratio), by bisection, since g_f
    increases."""
    target = f.slope(torch.tensor(ratio, dtype=torch.float64))
    low, high = torch.tensor([-FAR, FAR], dtype=torch.float64)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if f.activation(middle) < target else (low, middle)
    return high.item()


class Control(NamedTuple):
    """The test examples as the net sees them, and what training examples score against them."""

    test: Tensor  # [n, d]
    value: float


@metric(Value("estimated_divergence", "nats", "lower"), name="estimated_divergence")
@dataclass(frozen=True)
class EstimatedDivergence:
    """A lower bound on an f-divergence of data and samples, by a discriminator that is trained for it alone and
    judged by what it was not trained on (Nowozin et al. 2016, eq. 4): for where densities are not known.

    The same net for all methods, whatever they were trained by. "jensen-shannon" is twice the Jensen–Shannon
    divergence, at most 1.386. In the details "control_train": training examples in the place of samples.

    Checked against the divergence of two Gaussians by quadrature, from below (0.15 nats).
    """

    n: int = 5000  # samples, and test examples, at most as many as there are of the latter
    divergence: Literal[
        "jensen-shannon", "kl", "reverse-kl", "jeffrey", "squared-hellinger", "pearson", "neyman"
    ] = "jensen-shannon"  # which one; of data from samples
    features: str = "pixels"  # what the net sees: the numbers themselves, or what an extractor makes of them

    def __call__(self, model: Model, data: Data, reference: Once[Control] | None = None) -> Score:
        samples = check_samples(model.samples(self._size(data)), "samples", least=16)
        control = (reference or self.reference(data)).on(samples.device)
        seen = extractor(self.features, data, samples.device)(samples)
        score = variational_divergence(seen, control.test, self._f())
        return replace(score, details={**score.details, "control_train": control.value})

    def reference(self, data: Data) -> Once[Control]:
        """The test examples, and what as many training examples score."""
        return Once(lambda place: self._control(data, place))

    def _control(self, data: Data, place: device) -> Control:
        seen = extractor(self.features, data, place)
        rows = slice(self._size(data))
        train, test = (seen(data.floats(x[rows]).to(place)) for x in (data.train, data.test))
        return Control(test, variational_divergence(train, test, self._f()).value)

    def _size(self, data: Data) -> int:
        return min(self.n, len(data.test))

    def _f(self) -> Divergence:
        if self.divergence not in KNOWN:
            raise SampleError(f"divergence: expected one of {', '.join(KNOWN)}; got {self.divergence!r}")
        return KNOWN[self.divergence]

    def protocol(self, data: Data) -> str:
        """What defines the number."""
        n = self._size(data)
        return (
            f"bound on {self.divergence}(data ‖ samples) by a net of {WIDTH} ELU units twice on standardised numbers; "
            f"Adam {LR:g}, minibatches of {BATCH}, at most {STEPS}, trained on {n // 2} samples and {n // 2} test "
            f"examples, a quarter of both set aside to stop; the bound of the other {n - n // 2} of each; "
            f"{identity(self.features, data)}"
        )
