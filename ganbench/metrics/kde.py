"""Kernel density (Parzen window) estimate of the log-likelihood, as in Goodfellow et al. 2014, section 5."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import Block, Prepared, check_samples, in_threads, prepare, squared_distances

GOODFELLOW = tuple(10 ** (i / 9 - 1) for i in range(10))  # logspace(−1, 0, 10), for pixels in [0, 1]
STRIP = 2**16  # distances at a time, which stay in the cache of a core


def kde_log_likelihood(
    samples: Tensor, test: Tensor, *, valid: Tensor | None = None, bandwidths: Sequence[float] | None = None
) -> Score:
    """Mean log-likelihood (nats) of `test` [m, *shape] under isotropic Gaussians on `samples` [n, *shape],
    with its standard error over the test points. Goodfellow et al. 2014, section 5.

    The bandwidth is the one of `bandwidths` (None: `scale_grid(valid)`) with the highest mean on `valid`
    [v, *shape]; a single bandwidth needs no `valid`. Details: "bandwidth", "bandwidths", "valid_curve" (the
    mean on `valid` for each), "at_edge", and a "warning" where the best bandwidth ends the grid.

    Compare such numbers only at the same n, and never across dimensions. Theis et al. 2016, section 3.2: in
    high dimension the estimate is far below the true log-likelihood even with millions of samples, and its
    ranking of models can be wrong: k-means centroids beat samples of the true distribution.

    Raises SampleError for samples that are empty, of another shape than the test points or not finite, for
    bandwidths that are not positive, and when there is nothing to choose the bandwidth by.
    """
    test = check_samples(test, "test", least=2)
    samples = check_samples(samples, "samples", like=test)
    valid = None if valid is None else check_samples(valid, "valid", like=test)
    grid = _grid(valid, bandwidths)
    curve = [] if valid is None else log_densities(samples, valid, grid).mean(1).tolist()
    best = curve.index(max(curve)) if curve else 0
    values = log_densities(samples, test, grid[best : best + 1])[0]
    if not torch.isfinite(values).all():
        raise SampleError("samples: too far from the test points for a finite log-likelihood")
    at_edge = len(grid) > 1 and grid[best] in (min(grid), max(grid))
    details: dict[str, Any] = {
        "bandwidth": grid[best],
        "bandwidths": list(grid),
        "valid_curve": curve,
        "at_edge": at_edge,
    }
    if at_edge:
        details["warning"] = (
            f"the best bandwidth, {grid[best]:.3g}, ends the grid ({min(grid):.3g} to {max(grid):.3g}): "
            "the score may be higher outside it"
        )
    sem = values.std().item() / math.sqrt(len(values))
    return Score(values.mean().item(), sem, len(values), details)


def _grid(valid: Tensor | None, bandwidths: Sequence[float] | None) -> tuple[float, ...]:
    if valid is None and (bandwidths is None or len(bandwidths) > 1):
        raise SampleError(
            "the bandwidth must be chosen on examples that are not scored: give `valid`, or one bandwidth"
        )
    if valid is not None and bandwidths is None:
        return scale_grid(valid)
    grid = tuple(float(bandwidth) for bandwidth in bandwidths or ())
    bad = [bandwidth for bandwidth in grid if not 1e-100 < bandwidth < 1e100]
    if bad or not grid:
        raise SampleError(f"bandwidths: expected positive numbers, got {bad[0] if bad else 'none'}")
    return grid


def scale_grid(data: Tensor) -> tuple[float, ...]:
    """Bandwidths that fit the scale of `data` [n, *shape]: its standard deviation (root mean square over
    the dimensions) times 2^(i/4), i = −40..8, that is from 0.001 to 4 standard deviations.

    The grid follows the real data, not the samples, so that it is the same for all methods.
    Raises SampleError when the data are constant.
    """
    scale = data.flatten(1).double().var(0).mean().sqrt().item() if len(data) > 1 else 0.0
    if scale == 0:
        raise SampleError("valid: all examples are equal, so they set no scale; give `bandwidths`")
    return tuple(scale * 2 ** (i / 4) for i in range(-40, 9))


def log_densities(
    samples: Tensor, points: Tensor, bandwidths: Sequence[float], *, block: Block | None = None
) -> Tensor:
    """Log-density [bandwidths, m] (nats, float64) at `points` [m, *shape] of the mean of isotropic Gaussians
    on `samples` [n, *shape], for all bandwidths in one pass over the distances.

    Memory is twice that of the inputs plus a block for each core. Bandwidths whose ratio is √2 or 2 share an
    exponential.
    """
    ready, d = prepare(samples, points), samples[0].numel()
    parts = in_threads(lambda part: _log_densities(ready, d, part, bandwidths, block), points)
    return torch.cat(parts, dim=1)


def _log_densities(
    samples: Prepared, d: int, points: Tensor, bandwidths: Sequence[float], block: Block | None
) -> Tensor:
    n, m = len(samples.columns), len(points)
    groups = _doublings([0.5 / bandwidth**2 for bandwidth in bandwidths])
    order = [i for _, group in groups for i in group]
    bandwidth = torch.tensor(bandwidths, dtype=torch.float64, device=points.device)[order, None]
    rates = 0.5 / bandwidth**2
    least = torch.full((m,), torch.inf, dtype=torch.float64, device=points.device)
    sums = torch.zeros((len(bandwidths), m), dtype=torch.float64, device=points.device)
    reach = math.log(n) + 16  # weights below e^−reach of the largest are together less than 2e-7 of it
    for rows, _, tile in squared_distances(points, samples, block):
        nearest = tile.amin(1)
        low = torch.minimum(least[rows], nearest)
        sums[:, rows] *= torch.exp(rates * (low - least[rows]))  # relative to `low` from here
        least[rows] = low
        gap, by_gap = (nearest - low).sort()
        height = _strip(tile)
        for strip, least_gap in zip(by_gap.split(height), gap[::height].tolist(), strict=True):
            excess = tile.index_select(0, strip).sub_(low[strip].to(tile.dtype)[:, None]).float()
            parts = _weights(excess, [group for group in groups if group[0] * least_gap < reach])
            sums[: len(parts), strip + rows.start] += parts
    constant = math.log(n) + d * (bandwidth.log() + 0.5 * math.log(2 * math.pi))
    densities = torch.empty_like(sums)
    densities[order] = sums.log() - rates * least.clamp(min=0) - constant
    return densities


def _strip(tile: Tensor) -> int:
    """Rows of a tile that stay in the cache of a core through all that is done to them."""
    return max(1, STRIP // tile.shape[1]) if tile.device.type == "cpu" else len(tile)


def _doublings(rates: list[float]) -> list[tuple[float, list[int]]]:
    """Groups of up to three indices whose rates are r, 2r, 4r, with r."""
    left, groups = sorted(range(len(rates)), key=rates.__getitem__), []
    while left:
        group = [left.pop(0)]
        while len(group) < 3:
            twice = 2 * rates[group[-1]]
            found = next((i for i in left if math.isclose(rates[i], twice, rel_tol=1e-9)), None)
            if found is None:
                break
            left.remove(found)
            group.append(found)
        groups.append((rates[group[0]], group))
    return groups


def _weights(excess: Tensor, groups: list[tuple[float, list[int]]]) -> Tensor:
    """Row sums [bandwidths, rows] of w = exp(−rate·excess), of w² and of w⁴, for the rates of all groups,
    ascending; `excess` [rows, columns] is overwritten.

    Exponents end where the highest power would leave float32's normal numbers: arithmetic on subnormal
    ones is slow. That adds at most 4e-10 of the largest term per sample.
    """
    sums, scale, buffer = [], -math.log(2), torch.empty_like(excess)
    for rate, group in groups:
        exponents = excess.mul_(rate / scale).clamp_(min=(-126.0, -63.0, -31.5)[len(group) - 1])
        weights, scale = torch.exp2(exponents, out=buffer), rate  # exp2 is three times as fast as exp
        sums.append(weights.sum(1))
        if len(group) > 1:
            sums.append(torch.linalg.vector_norm(weights, dim=1).square())
        if len(group) > 2:
            sums.append(torch.linalg.vector_norm(weights.mul_(weights), dim=1).square())
    return torch.stack(sums) if sums else excess.new_zeros(0, len(excess))


class Bounds(NamedTuple):
    """What the data themselves score, measured as the samples are."""

    ceiling: Score  # of the first training examples in the place of samples
    floor: Score  # of draws from the Gaussian with the mean and covariance of the training examples


@metric(Value("kde_ll", "nats", "higher"), name="kde_ll")
@dataclass(frozen=True)
class KdeLL:
    """Kernel density log-likelihood of the test set (Goodfellow et al. 2014, section 5), nats.

    ± is the standard error over test points. Beside it stand, in the details, the ceiling (as many training
    examples in the place of the samples) and the floor (draws from a fitted Gaussian). Theis et al. 2016:
    the estimate is poor in high dimension and may rank models wrongly; a score above the ceiling is a sign
    of that, not of a better model.
    """

    n: int = 10_000  # samples that carry a kernel
    n_valid: int = 1000  # first validation examples, which choose the bandwidth
    bandwidths: tuple[float, ...] | None = None  # None: Goodfellow's grid for pixels, else by the data's std

    def __call__(self, model: Model, data: Data, reference: Bounds | None = None) -> Score:
        bounds = reference or self.reference(data)
        score = self._score(model.samples(self.n), data)
        found = {name: bound.value for name, bound in bounds._asdict().items()}
        return replace(score, details={**score.details, **found})

    def reference(self, data: Data) -> Bounds:
        """Ceiling and floor, the same for all models."""
        train = data.floats(data.train)
        return Bounds(self._score(train[: self.n], data), self._score(_gaussian(train, self.n), data))

    def protocol(self, data: Data) -> str:
        """What defines the number."""
        rule = (
            "Goodfellow's grid logspace(-1, 0, 10)" if data.scale else "49 steps of 2^(1/4) by the data's std"
        )
        rule = "the given grid" if self.bandwidths else rule
        return (
            f"isotropic Gaussian kernel density of {self.n} samples; mean over all {len(data.test)} test "
            f"examples; bandwidth of {rule} that is best on the first {min(self.n_valid, len(data.valid))} "
            "validation examples"
        )

    def _score(self, samples: Tensor, data: Data) -> Score:
        test, valid = (data.floats(x).to(samples.device) for x in (data.test, data.valid[: self.n_valid]))
        grid = self.bandwidths or (GOODFELLOW if data.scale else None)
        return kde_log_likelihood(samples, test, valid=valid, bandwidths=grid)


def _gaussian(x: Tensor, n: int) -> Tensor:
    """`n` draws [n, *shape] from the Gaussian with the mean and covariance of `x`: random combinations of
    its deviations from the mean, so that no covariance matrix is ever built."""
    generator = torch.Generator(x.device).manual_seed(0)
    mean = x.mean(0, keepdim=True)
    draws = mean.flatten(1).repeat(n, 1)
    for part in (x - mean).flatten(1).split(8192):
        mix = torch.randn(n, len(part), generator=generator, device=x.device, dtype=x.dtype)
        draws.addmm_(mix, part, alpha=len(x) ** -0.5)
    return draws.unflatten(1, x.shape[1:])
