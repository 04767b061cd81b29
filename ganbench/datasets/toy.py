"""Toy datasets of which all is known: mixtures of Gaussians and a noisy curve.

Every split is drawn independently, the test split first and the training split last, so
that a larger `n_train` changes neither of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor

from ..contracts import Data, Modes, dataset
from ..errors import DatasetError

TERMS = 4_000_000  # numbers held at a time while a density is computed: tens of megabytes


@dataset("ring", provides=("modes", "log_density"))
def ring(
    generator: Generator,
    modes: int = 8,  # number of Gaussians
    radius: float = 2.0,  # of the circle on which their centres lie
    std: float = 0.02,  # standard deviation of each
    weights: tuple[float, ...] = (),  # probability of each Gaussian, adding up to 1; none: all equal
    n_train: int = 100_000,  # training points
    n_valid: int = 10_000,  # validation points
    n_test: int = 10_000,  # test points
) -> Data:
    """Gaussians on a circle (Metz et al. 2017, section 3.1; VEEGAN: radius 1, std 0.01).

    Equally likely without `weights`. Centres at the angles 2πk/K, k = 0..K-1. Points [N, 2]. Raises DatasetError
    for impossible parameters.
    """
    _require("ring", modes=modes, radius=radius, std=std)
    angles = torch.arange(modes, dtype=torch.float64) * (2 * math.pi / modes)
    centers = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    return _mixture("ring", generator, centers, std, (n_train, n_valid, n_test), weights)


@dataset("grid", provides=("modes", "log_density"))
def grid(
    generator: Generator,
    side: int = 5,  # Gaussians along each side
    spacing: float = 2.0,  # distance of neighbouring centres
    std: float = 0.05,  # standard deviation of each
    n_train: int = 100_000,  # training points
    n_valid: int = 10_000,  # validation points
    n_test: int = 10_000,  # test points
) -> Data:
    """Gaussians on a square grid around the origin, equally likely (VEEGAN, Srivastava et al. 2017).

    Centres {-4, -2, 0, 2, 4}² by default. Points [N, 2]. Raises DatasetError for impossible parameters.
    """
    _require("grid", side=side, spacing=spacing, std=std)
    axis = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * spacing
    return _mixture("grid", generator, torch.cartesian_prod(axis, axis), std, (n_train, n_valid, n_test))


@dataset("mixture1200d", provides=("modes",))
def mixture1200d(
    generator: Generator,
    modes: int = 10,  # number of Gaussians
    dims: int = 1200,  # dimensions of the space
    noisy: int = 700,  # the first of them, in which a Gaussian has noise
    spread: float = 1.0,  # standard deviation of the coordinates of their centres
    std: float = 1.0,  # of the noise
    n_train: int = 20_000,  # training points
    n_valid: int = 2_000,  # validation points
    n_test: int = 5_000,  # test points
) -> Data:
    """Gaussians of 700 dimensions in a space of 1200, equally likely (VEEGAN, Srivastava et al. 2017, section 4.1).

    The paper does not say where the centres are; here their coordinates are normal, and they come first from
    the generator. In the other 500 dimensions a point is at its centre, so that there is no density. Points
    [N, 1200] lie √700 = 26.5 standard deviations from their centre, so none within the paper's 10: score them
    by `modes: {stds: 28}`, which 98.7 % of true points meet. Raises DatasetError for impossible parameters.
    """
    _require("mixture1200d", modes=modes, dims=dims, noisy=noisy, spread=spread, std=std)
    if noisy > dims:
        raise DatasetError(f"mixture1200d: noisy must be at most dims, {dims}, got {noisy}")
    centers = spread * torch.randn(modes, dims, generator=generator)

    def draw(n: int) -> Tensor:
        points = centers[torch.randint(modes, (n,), generator=generator)]
        points[:, :noisy] += std * torch.randn(n, noisy, generator=generator)
        return points

    found = Modes(centers, std, noisy)
    return _data("mixture1200d", draw, None, (n_train, n_valid, n_test), found)


@dataset("mixture1d", provides=("log_density",))
def mixture1d(
    generator: Generator,
    weights: tuple[float, ...] = (0.33, 0.67),  # probability of each Gaussian; they add up to 1
    means: tuple[float, ...] = (-1.0, 2.0),  # mean of each
    stds: tuple[float, ...] = (0.255, 1.415),  # standard deviation of each
    n_train: int = 100_000,  # training points
    n_valid: int = 10_000,  # validation points
    n_test: int = 10_000,  # test points
) -> Data:
    """A mixture of Gaussians on the line (Nowozin et al. 2016, section 4.1, univariate example).

    The paper does not print its mixture; the default is the one that fits all its published divergences.
    Points [N, 1]. The standard deviations differ, so that there are no `modes`. Raises DatasetError for
    impossible parameters.
    """
    if not len(weights) == len(means) == len(stds) or not weights:
        found = f"{len(weights)}, {len(means)} and {len(stds)}"
        raise DatasetError(f"mixture1d: weights, means and stds must be of one length, got {found}")
    _require("mixture1d", **{f"stds[{k}]": std for k, std in enumerate(stds)})
    if not all(math.isfinite(mean) for mean in means):
        raise DatasetError(f"mixture1d: means must be finite numbers, got {means}")
    chances = _probabilities("mixture1d", weights)
    centers, scales = (torch.tensor(v, dtype=torch.float64) for v in (means, stds))
    centers = centers[:, None]
    draw = partial(_draw_mixture, generator, centers, scales, chances)
    density = partial(mixture_log_density, centers=centers, stds=scales, log_weights=chances.log())
    return _data("mixture1d", draw, density, (n_train, n_valid, n_test))


@dataset("swiss_roll", provides=("log_density",))
def swiss_roll(
    generator: Generator,
    noise: float = 0.25,  # standard deviation of the noise, before the division by 7.5
    n_train: int = 100_000,  # training points
    n_valid: int = 10_000,  # validation points
    n_test: int = 10_000,  # test points
) -> Data:
    """The spiral t·(cos t, sin t), t uniform in [1.5π, 4.5π], plus Gaussian noise, divided by 7.5 (the toy
    data of Gulrajani et al. 2017, figure 1).

    Points [N, 2]. The density is the integral over t of the noise around the curve, by Gauss-Legendre
    quadrature on panels of at most 2.5 standard deviations of noise: in float64 right to 1e-6 nats within
    five standard deviations of the curve. Raises DatasetError for impossible parameters.
    """
    _require("swiss_roll", noise=noise)
    if noise < 0.01:
        raise DatasetError(f"swiss_roll: noise must be at least 0.01, got {noise:g}")
    points, log_weights = _spiral_quadrature(noise)
    stds = torch.full((len(points),), noise / 7.5, dtype=torch.float64)

    def draw(n: int) -> Tensor:
        time = torch.rand(n, generator=generator, dtype=torch.float64) * (3 * math.pi) + 1.5 * math.pi
        shift = torch.randn(n, 2, generator=generator, dtype=torch.float64) * (noise / 7.5)
        return (_spiral(time) + shift).float()

    density = partial(mixture_log_density, centers=points, stds=stds, log_weights=log_weights)
    return _data("swiss_roll", draw, density, (n_train, n_valid, n_test))


def mixture_log_density(x: Tensor, centers: Tensor, stds: Tensor, log_weights: Tensor) -> Tensor:
    """Log density in nats of a mixture of isotropic Gaussians: x [B, d] -> [B], in the dtype of x.

    centers [K, d], stds [K], log_weights [K].
    """
    centers, stds, log_weights = (part.to(x) for part in (centers, stds, log_weights))
    constants = log_weights - centers.shape[1] * (stds.log() + 0.5 * math.log(2 * math.pi))

    def of(rows: Tensor) -> Tensor:
        # Differences before squares: |x|² + |c|² - 2xc would cancel all digits of float32 near a centre.
        squared = sum((rows[:, None, axis] - centers[:, axis]) ** 2 for axis in range(centers.shape[1]))
        return torch.logsumexp(constants - squared / (2 * stds**2), dim=1)

    return torch.cat([of(rows) for rows in x.split(max(1, TERMS // len(centers)))])


def _spiral(time: Tensor) -> Tensor:  # [n] -> [n, 2]
    return torch.stack([time * time.cos(), time * time.sin()], dim=1) / 7.5


def _spiral_quadrature(noise: float, order: int = 8) -> tuple[Tensor, Tensor]:
    """Points on the spiral [K, 2] and the logarithms of their weights [K], which add up to 1.

    The whole spiral is a uniform mixture over t; K Gaussians with these weights are its integral.
    """
    start, end = 1.5 * math.pi, 4.5 * math.pi
    panels = math.ceil((end**2 - start**2) / 2 / (2.5 * noise))
    edges = np.sqrt(np.linspace(start**2, end**2, panels + 1))  # equally long, for |d curve / dt| is about t
    widths = np.diff(edges)[:, None]
    nodes, weights = np.polynomial.legendre.leggauss(order)
    times = edges[:-1, None] + (nodes + 1) / 2 * widths
    log_weights = np.log(weights / 2 * widths / (end - start)).ravel()
    return _spiral(torch.from_numpy(times.ravel())), torch.from_numpy(log_weights)


def _mixture(
    name: str,
    generator: Generator,
    centers: Tensor,
    std: float,
    sizes: tuple[int, int, int],
    weights: tuple[float, ...] = (),
) -> Data:
    """Gaussians of one width around `centers` [K, d], equally likely where there are no `weights`."""
    stds = centers.new_full((len(centers),), std)
    if weights and len(weights) != len(centers):
        raise DatasetError(f"{name}: expected {len(centers)} weights, one for each mode, got {len(weights)}")
    chances = _probabilities(name, weights) if weights else torch.full_like(stds, 1 / len(centers))
    draw = partial(_draw_mixture, generator, centers, stds, chances)
    density = partial(mixture_log_density, centers=centers, stds=stds, log_weights=chances.log())
    return _data(
        name, draw, density, sizes, Modes(centers.float(), std, weights=chances if weights else None)
    )


def _probabilities(name: str, weights: tuple[float, ...]) -> Tensor:
    """The weights [K] as float64, or a DatasetError that says what is wrong with them."""
    _require(name, **{f"weights[{k}]": weight for k, weight in enumerate(weights)})
    if not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise DatasetError(f"{name}: weights must add up to 1, got {sum(weights):g}")
    return torch.tensor(weights, dtype=torch.float64)


def _draw_mixture(generator: Generator, centers: Tensor, stds: Tensor, weights: Tensor, n: int) -> Tensor:
    chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
    noise = torch.randn(n, centers.shape[1], generator=generator, dtype=torch.float64)
    return (centers[chosen] + stds[chosen, None] * noise).float()


def _data(
    name: str,
    draw: Callable[[int], Tensor],
    log_density: Callable[[Tensor], Tensor] | None,
    sizes: tuple[int, int, int],
    modes: Modes | None = None,
) -> Data:
    _require(name, **dict(zip(("n_train", "n_valid", "n_test"), sizes, strict=True)))
    test, valid, train = (draw(n) for n in reversed(sizes))
    shape = tuple(train.shape[1:])
    return Data(name, train, valid, test, shape, modes=modes, log_density=log_density)


def _require(name: str, **values: float) -> None:
    """Every value is a finite number above 0, or a DatasetError says which is not."""
    for key, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise DatasetError(f"{name}: {key} must be above 0 and finite, got {value}")
