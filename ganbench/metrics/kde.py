"""Kernel density (Parzen window) estimate of the log-likelihood, as in Goodfellow et al. 2014, section 5."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, device

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import (
    OUTLIER_FACTOR,
    Block,
    Prepared,
    centre,
    check_samples,
    in_threads,
    norms,
    prepare,
    squared_distances,
)
from .per_device import PerDevice
from .statistics import standard_error
from .subset import random_subset

GOODFELLOW_GRID = tuple(10 ** (i / 9 - 1) for i in range(10))  # logspace(−1, 0, 10), for pixels in [0, 1]
GRID_EXPONENTS = range(-40, 9)  # for other data: bandwidths of 2^(i/4) standard deviations, from 0.001 to 4
CAUTION = (
    "Theis et al. 2016: a kernel density estimate is poor in high dimension and may rank models wrongly; a score "
    "above the ceiling is a sign of that, not of a better model."
)
CEILING = (
    "ceiling: as many random training examples in the place of samples"  # the end of every protocol sentence
)
JACKKNIFE_BLOCKS = 20  # of the samples
MAX_STRIP = 2**16  # distances at a time, so that they stay in a core's cache


def kde_log_likelihood(
    samples: Tensor,
    test: Tensor,
    *,
    valid: Tensor | None = None,
    bandwidths: Sequence[float] | None = None,
    folds: int | None = None,
) -> Score:
    """Mean log-likelihood (nats) of `test` [m, *shape] under isotropic Gaussians centred on `samples` [n, *shape],
    with its standard error over the test points for these samples. Goodfellow et al. 2014, section 5.

    Papers print that ±. Fresh samples change the value too: in the details, "sem_samples" is the standard error over
    the samples (jackknife over 20 blocks) and "sem_total" combines both, for comparing single models. Neither includes
    the choice of the bandwidth.

    The bandwidth is the one of `bandwidths` (None: `scale_grid` of `valid`, else of `test`) with the highest mean on
    `valid` [v, *shape] or, given `folds`, by cross-validation over the samples (Nowozin et al. 2016, section
    4): the highest mean log-likelihood of each sample under those outside its fold. Cross-validation fits the
    bandwidth to the samples, not to the data: if samples repeat, it chooses the narrowest one. A single bandwidth
    needs neither. Details: "bandwidth", "bandwidths", "valid_curve" (the mean for each), "at_edge". There is a
    `warning` if the best bandwidth is at the edge of the grid.

    Compare values only at the same n, and never across dimensions. Theis et al. 2016, section 3.2: in high dimension
    the estimate is far below the true log-likelihood even with millions of samples, and it can rank models wrongly:
    k-means centroids beat samples of the true distribution.

    Raises SampleError for samples that are empty, of another shape than the test points or not finite, for bandwidths
    that are not positive, and if neither or both of `valid` and `folds` are given for several bandwidths.
    """
    test = check_samples(test, "test", least=2)
    samples = check_samples(samples, "samples", like=test)
    valid = None if valid is None else check_samples(valid, "valid", like=test)
    if folds is None:
        grid = _grid(valid, bandwidths)
        curve = [] if valid is None else log_densities(samples, valid, grid).mean(1).tolist()
    else:
        if valid is not None:
            raise SampleError("the bandwidth is chosen by `valid` or by `folds`; both are given")
        grid = _grid(test, bandwidths, "test")
        curve = _cross_validate(samples, grid, folds)
    details = _choice(grid, curve)
    densities = _block_densities(samples, test, details["bandwidth"])
    return _score(densities.values, details, densities.without)


def kde_log_likelihood_folds(
    samples: Tensor,
    test: Tensor,
    valid: Tensor,
    *,
    folds: int = 5,
    bandwidths: Sequence[float] | None = None,
) -> Score:
    """`kde_log_likelihood` with a bandwidth for each fold, as Goodfellow et al. 2014, section 5, score the TFD: the
    mean over folds of the mean log-likelihood (nats) of the fold's part of `test` [m, *shape], with the bandwidth that
    is best on its part of `valid` [v, *shape], and the standard error over folds. Fold i has every `folds`-th example
    from the i-th on.

    The samples [n, *shape] are those of one model, so that ± is the effect of the choice of examples. The official
    folds of the TFD, each with a model of its own, are a parameter of the dataset `tfd`. Details: "fold_values",
    "fold_bandwidths", "bandwidths" and "at_edge", with the same `warning`.

    Raises SampleError as `kde_log_likelihood` does, and for fewer than two folds or fewer examples than folds.
    """
    test = check_samples(test, "test", least=_check_folds(folds))
    samples = check_samples(samples, "samples", like=test)
    valid = check_samples(valid, "valid", like=test, least=folds)
    grid = _grid(valid, bandwidths)
    curves = log_densities(samples, valid, grid)
    choices = [_choice(grid, curves[:, i::folds].mean(1).tolist()) for i in range(folds)]
    each = [choice["bandwidth"] for choice in choices]
    chosen = sorted(set(each))
    values = _check_finite(log_densities(samples, test, chosen))
    means = torch.stack([values[chosen.index(each[i]), i::folds].mean() for i in range(folds)])
    details = {"fold_values": means.tolist(), "fold_bandwidths": each, "bandwidths": list(grid)}
    return _score(means, {**details, **_edge_details(choices)})


def kde_log_likelihood_scales(
    samples: Tensor,
    test: Tensor,
    valid: Tensor,
    *,
    levels: int | None = None,
    bandwidths: Sequence[float] | None = None,
) -> Score:
    """Mean log-likelihood (nats) of the images `test` [m, C, H, W] under a kernel density for each level of a pyramid,
    with its standard error over the test images. For the models of Denton et al. 2015, whose own Parzen estimate over
    scales is not published; this definition is ganbench's.

    `pyramid` decomposes images, by an orthonormal change of coordinates (which preserves volumes), into a coarse image
    and bands of detail. Each level has a kernel density of the samples [n, C, H, W] with the bandwidth that is best on
    `valid` [v, C, H, W]; the log-densities are added. This is a density of whole images, in nats and with a ± like that
    of `kde_log_likelihood`, under the assumption that the levels are independent: it does not detect details that do
    not fit the coarse image.

    `levels`: the number of halvings (None: down to 8 pixels or fewer, or an odd number). `bandwidths` are tried on all
    levels; None: `scale_grid` of each. Details: "levels", with "shape", "value" and the details of the bandwidth of
    each; "at_edge". There is a `warning` as in `kde_log_likelihood`.

    Raises SampleError as `kde_log_likelihood` does, and for images that cannot be halved so often.
    """
    test = check_samples(test, "test", least=2)
    samples = check_samples(samples, "samples", like=test)
    valid = check_samples(valid, "valid", like=test)
    densities, details = [], []
    for fake, held_out, real in zip(*(pyramid(x, levels) for x in (samples, valid, test)), strict=True):
        grid = _grid(held_out, bandwidths)
        choice = _choice(grid, log_densities(fake, held_out, grid).mean(1).tolist())
        level = _block_densities(fake, real, choice["bandwidth"])
        densities.append(level)
        details.append({"shape": list(fake.shape[1:]), "value": level.values.mean().item(), **choice})
    values, without = (torch.stack(part).sum(0) for part in zip(*densities, strict=True))
    return _score(values, {"levels": details, **_edge_details(details)}, without)


def pyramid(images: Tensor, levels: int | None = None) -> list[Tensor]:
    """Images [n, C, H, W] in the Haar basis: the coarse image [n, C, H/2^levels, W/2^levels] and the bands of detail
    [n, 3C, h, w] from coarse to fine.

    Each 2 × 2 pixels become half their sum, which is the next coarser pixel, and half of three differences: an
    orthonormal change of coordinates. Raises SampleError if `images` are not images, or their sides are not divisible
    by 2^levels.
    """
    shape, side = list(images.shape[1:]), images.shape[2:]
    if levels is None and images.ndim == 4:
        levels = 1
        while all(size % 2 ** (levels + 1) == 0 and size > 8 * 2**levels for size in side):
            levels += 1
    if levels is None or images.ndim != 4 or levels < 1 or any(size % 2**levels for size in side):
        often = f"{levels or 1} time(s)"
        raise SampleError(
            f"one example has shape {shape}; expected [C, H, W] whose sides can be halved {often}"
        )
    bands = []
    for _ in range(levels):
        a, b, c, d = (images[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
        bands.insert(0, torch.cat([a + b - c - d, a - b + c - d, a - b - c + d], dim=1) / 2)
        images = (a + b + c + d) / 2
    return [images, *bands]


def _cross_validate(samples: Tensor, grid: Sequence[float], folds: int) -> list[float]:
    """Mean log-density [bandwidths] of the samples, each under those outside its fold. Fold i is every `folds`-th
    sample from the i-th on, so that the order of the samples (by class, by mode) does not define the folds."""
    if not _check_folds(folds) <= len(samples):
        raise SampleError(f"samples: holds {len(samples)} examples; {folds} folds need at least as many")
    fold = torch.arange(len(samples), device=samples.device) % folds
    parts = [log_densities(samples[fold != i], samples[fold == i], grid).sum(1) for i in range(folds)]
    return (torch.stack(parts).sum(0) / len(samples)).tolist()


def _check_folds(folds: int) -> int:
    if folds < 2:
        raise SampleError(f"folds: expected at least 2, got {folds}")
    return folds


def _choice(grid: tuple[float, ...], curve: list[float]) -> dict[str, Any]:
    """Details: the best bandwidth of the grid, or its only one if there is no curve, and whether it is at the edge."""
    best = grid[curve.index(max(curve)) if curve else 0]
    at_edge = len(grid) > 1 and best in (min(grid), max(grid))
    details = {"bandwidth": best, "bandwidths": list(grid), "valid_curve": curve, "at_edge": at_edge}
    if at_edge:
        details["warning"] = (
            f"the best bandwidth, {best:.3g}, is at the edge of the grid ({min(grid):.3g} to {max(grid):.3g}): "
            "the score may be higher outside it"
        )
    return details


def _edge_details(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether any of several bandwidths is at the edge of its grid, with the first warning."""
    warnings = [choice["warning"] for choice in choices if choice["at_edge"]]
    return {"at_edge": bool(warnings), **({"warning": warnings[0]} if warnings else {})}


def _check_finite(values: Tensor) -> Tensor:
    if not torch.isfinite(values).all():
        raise SampleError("samples: too far from the test points for a finite log-likelihood")
    return values


class _BlockDensities(NamedTuple):
    """Log-densities of points, and their means if a block of the samples is left out."""

    values: Tensor  # [m]
    without: Tensor  # [blocks]; empty for a single sample


def _block_densities(samples: Tensor, points: Tensor, bandwidth: float) -> _BlockDensities:
    """Log-densities of `points` [m, *shape], and the jackknife over blocks; block i is every 20th sample from the i-th
    on."""
    blocks = [samples[i::JACKKNIFE_BLOCKS] for i in range(min(JACKKNIFE_BLOCKS, len(samples)))]
    sizes = torch.tensor([len(block) for block in blocks], dtype=torch.float64, device=points.device)
    sums = torch.stack([log_densities(block, points, [bandwidth])[0] for block in blocks])
    sums += sizes.log()[:, None]  # log of each block's sum of kernels
    values = _check_finite(sums.logsumexp(0) - math.log(len(samples)))
    others = ~torch.eye(len(blocks), dtype=torch.bool, device=points.device) if len(blocks) > 1 else []
    without = [(sums[rest].logsumexp(0) - sizes[rest].sum().log()).mean() for rest in others]
    return _BlockDensities(values, torch.stack(without) if without else sums.new_zeros(0))


def _score(values: Tensor, details: dict[str, Any], without: Tensor | None = None) -> Score:
    """Mean of `values` [m] with its standard error, and the jackknife's from the means `without` each block. A
    "warning" in `details` becomes the warning of the score."""
    sem = standard_error(values)
    if without is not None and len(without):
        sem_samples = math.sqrt(len(without) - 1) * without.std(correction=0).item()
        details = {**details, "sem_samples": sem_samples, "sem_total": math.hypot(sem, sem_samples)}
    warning = details.get("warning")
    details = {name: value for name, value in details.items() if name != "warning"}
    return Score(values.mean().item(), sem, len(values), details, warning=warning)


def _grid(real: Tensor | None, bandwidths: Sequence[float] | None, name: str = "valid") -> tuple[float, ...]:
    if real is None and (bandwidths is None or len(bandwidths) > 1):
        raise SampleError(
            "the bandwidth must be chosen on examples that are not scored: give `valid`, or one bandwidth"
        )
    if real is not None and bandwidths is None:
        return scale_grid(real, name)
    grid = tuple(float(bandwidth) for bandwidth in bandwidths or ())
    bad = [bandwidth for bandwidth in grid if not 1e-100 < bandwidth < 1e100]
    if bad or not grid:
        raise SampleError(f"bandwidths: expected positive numbers, got {bad[0] if bad else 'none'}")
    return grid


def scale_grid(data: Tensor, name: str = "valid") -> tuple[float, ...]:
    """Bandwidths for the scale of `data` [n, *shape]: its standard deviation (root mean square over the dimensions)
    times 2^(i/4), i = −40..8, from 0.001 to 4 standard deviations.

    The grid depends on the real data, not on the samples, so that it is the same for all methods. Raises SampleError,
    with `name` for the data, if all examples are equal.
    """
    scale = data.flatten(1).double().var(0).mean().sqrt().item() if len(data) > 1 else 0.0
    if scale == 0:
        raise SampleError(f"{name}: all examples are equal, so they set no scale; give `bandwidths`")
    return tuple(scale * 2 ** (i / 4) for i in GRID_EXPONENTS)


def log_densities(
    samples: Tensor, points: Tensor, bandwidths: Sequence[float], *, block: Block | None = None
) -> Tensor:
    """Log-density [bandwidths, m] (nats, float64) at `points` [m, *shape] of the mean of isotropic Gaussians
    on `samples` [n, *shape], for all bandwidths in one pass over the distances.

    Memory is twice that of the inputs plus a block for each core. Bandwidths whose ratio is √2 or 2 share an
    exponential.
    """
    # Centred at the points, which are real, so that outliers among the samples have no effect. Points far from the
    # centre are compared in float64: float32 would lose the distance between them and samples that are near to them.
    middle, d = centre(points), samples[0].numel()
    size = norms(points, middle.to(points.dtype))
    far = size > OUTLIER_FACTOR**2 * size.median()
    densities = torch.empty((len(bandwidths), len(points)), dtype=torch.float64, device=points.device)
    for chosen, dtype in ((~far, None), (far, torch.float64)):
        if chosen.any():
            ready = prepare(samples, points, middle=middle, dtype=dtype)
            parts = in_threads(
                lambda part, ready=ready: _log_densities(ready, d, part, bandwidths, block), points[chosen]
            )
            densities[:, chosen] = torch.cat(parts, dim=1)
    return densities


def _log_densities(
    samples: Prepared, d: int, points: Tensor, bandwidths: Sequence[float], block: Block | None
) -> Tensor:
    n, m = len(samples.columns), len(points)
    groups = _doubling_groups([0.5 / bandwidth**2 for bandwidth in bandwidths])
    order = [i for _, group in groups for i in group]
    bandwidth = torch.tensor(bandwidths, dtype=torch.float64, device=points.device)[order, None]
    rates = 0.5 / bandwidth**2
    least = torch.full((m,), torch.inf, dtype=torch.float64, device=points.device)
    sums = torch.zeros((len(bandwidths), m), dtype=torch.float64, device=points.device)
    reach = math.log(n) + 16  # weights below e^−reach of the largest are together less than 2e-7 of it
    for rows, _, tile in squared_distances(points, samples, block):
        nearest = tile.amin(1)
        low = torch.minimum(least[rows], nearest)
        sums[:, rows] *= torch.exp(rates * (low - least[rows]))  # from here on relative to `low`
        least[rows] = low
        gap, by_gap = (nearest - low).sort()
        height = _strip_rows(tile)
        for strip, least_gap in zip(by_gap.split(height), gap[::height].tolist(), strict=True):
            excess = tile.index_select(0, strip).sub_(low[strip].to(tile.dtype)[:, None]).float()
            parts = _weights(excess, [group for group in groups if group[0] * least_gap < reach])
            sums[: len(parts), strip + rows.start] += parts
    constant = math.log(n) + d * (bandwidth.log() + 0.5 * math.log(2 * math.pi))
    densities = torch.empty_like(sums)
    densities[order] = sums.log() - rates * least.clamp(min=0) - constant
    return densities


def _strip_rows(tile: Tensor) -> int:
    """The number of rows of a tile that fit into a core's cache."""
    return max(1, MAX_STRIP // tile.shape[1]) if tile.device.type == "cpu" else len(tile)


def _doubling_groups(rates: list[float]) -> list[tuple[float, list[int]]]:
    """Groups (r, indices) of up to three indices whose rates are r, 2r, 4r."""
    left, groups = sorted(range(len(rates)), key=rates.__getitem__), []
    while left:
        group = [left.pop(0)]
        while len(group) < 3:
            twice = 2 * rates[group[-1]]
            index = next((i for i in left if math.isclose(rates[i], twice, rel_tol=1e-9)), None)
            if index is None:
                break
            left.remove(index)
            group.append(index)
        groups.append((rates[group[0]], group))
    return groups


def _weights(excess: Tensor, groups: list[tuple[float, list[int]]]) -> Tensor:
    """Row sums [bandwidths, rows] of w = exp(−rate·excess), of w² and of w⁴, for the rates of all groups,
    ascending; `excess` [rows, columns] is overwritten.

    Exponents are clamped so that the highest power stays a normal float32 number, since arithmetic on subnormal numbers
    is slow. That adds at most 4e-10 of the largest term per sample.
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
    """Values of real and of trivial samples, measured as the samples are."""

    ceiling: Score  # of random training examples in the place of samples
    floor: Score  # of draws from the Gaussian with the mean and covariance of the training examples


class _Bounded(ABC):
    """A kernel density metric: its score, with ceiling, floor and a caution."""

    n: int  # samples, each the centre of a kernel

    def __call__(self, model: Model, data: Data, reference: PerDevice[Bounds] | None = None) -> Score:
        samples = model.samples(self.n)
        bounds = (reference or self.reference(data)).on(samples.device)
        score = self._score(samples, data)
        controls = {name: bound.value for name, bound in bounds._asdict().items()}
        return replace(score, controls=controls, caution=CAUTION)

    def reference(self, data: Data) -> PerDevice[Bounds]:
        """Ceiling and floor, the same for all models."""
        return PerDevice(lambda place: self._bounds(data, place))

    def _bounds(self, data: Data, place: device) -> Bounds:
        train = data.floats(data.train.to(place))
        return Bounds(
            self._score(random_subset(train, self.n), data), self._score(_gaussian(train, self.n), data)
        )

    @abstractmethod
    def _score(self, samples: Tensor, data: Data) -> Score: ...


@metric(Value("kde_ll", "nats", "higher"), name="kde_ll", version=2)
@dataclass(frozen=True)
class KdeLL(_Bounded):
    """Kernel density log-likelihood of the test set (Goodfellow et al. 2014, section 5), nats.

    ± is the standard error over test points, as papers print it; "sem_total" in the details includes the choice of the
    samples. Controls: the ceiling (as many random training examples in the place of the samples) and the floor (draws
    from a fitted Gaussian). Theis et al. 2016: the estimate is poor in high dimension and may rank models wrongly; a
    score above the ceiling is a sign of that, not of a better model.

    Checked against a direct sum in float64 (1e-3 nats in 784 dimensions), scikit-learn's KernelDensity (1e-5
    nats), the entropy of a Gaussian (0.01 nats), known values on MNIST (3 nats).
    """

    n: int = 10_000  # samples, each the centre of a kernel
    n_valid: int = 1000  # random validation examples, on which the bandwidth is chosen
    bandwidths: tuple[float, ...] | None = None  # null: Goodfellow's for pixels, else by the data's std

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"isotropic Gaussian kernel density of {self.n} samples; mean over all {len(data.test)} test "
            f"examples; bandwidth of {_grid_text(self.bandwidths, data)} that is best on "
            f"{min(self.n_valid, len(data.valid))} random validation examples; {CEILING}"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        valid = min(self.n_valid, len(data.valid))
        return {"test": len(data.test), "valid": valid, "grid": _grid_fields(self.bandwidths, data)}

    def _score(self, samples: Tensor, data: Data) -> Score:
        test, valid = _held_out(samples, data, self.n_valid)
        return kde_log_likelihood(samples, test, valid=valid, bandwidths=_default_grid(self.bandwidths, data))


@metric(Value("kde_ll_cv", "nats", "higher"), name="kde_ll_cv", version=2)
@dataclass(frozen=True)
class KdeCrossValidated(_Bounded):
    """Kernel density log-likelihood of the test set with the bandwidth by cross-validation over the samples
    (Nowozin et al. 2016, section 4), nats.

    ± is the standard error over test points; ceiling, floor and caution are those of `kde_ll`. The paper does
    not say how many folds. Its Table 4 is on another scale than this estimator, which cannot reach the paper's ceiling
    of 502 nats: compare rankings, and fractions of the ceiling.

    Checked against scikit-learn's grid search over the same folds (1e-5, relative).
    """

    n: int = 16_384  # samples, each the centre of a kernel
    folds: int = 5  # of the samples, for the choice of the bandwidth
    bandwidths: tuple[float, ...] | None = None  # null: Goodfellow's for pixels, else by the data's std

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"isotropic Gaussian kernel density of {self.n} samples; mean over all {len(data.test)} test examples; "
            f"bandwidth of {_grid_text(self.bandwidths, data, 'the std of the validation examples')} that is best by "
            f"{self.folds}-fold cross-validation over the samples; {CEILING}"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"test": len(data.test), "grid": _grid_fields(self.bandwidths, data)}

    def _score(self, samples: Tensor, data: Data) -> Score:
        test, valid = _held_out(samples, data, len(data.valid))
        # The grid must not depend on the test split, which is only scored.
        grid = _default_grid(self.bandwidths, data) or scale_grid(valid)
        return kde_log_likelihood(samples, test, bandwidths=grid, folds=self.folds)


@metric(Value("kde_ll_folds", "nats", "higher"), name="kde_ll_folds", version=2)
@dataclass(frozen=True)
class KdeFolds(_Bounded):
    """Kernel density log-likelihood of the test set with a bandwidth for each fold of the held-out data, as
    Goodfellow et al. 2014, section 5, score the TFD, nats.

    ± is the standard error over folds, for one model; ceiling, floor and caution are those of `kde_ll`. For the
    official folds of the TFD, train on each (parameter `fold` of the dataset `tfd`) and average the scores.

    Checked against each fold on its own (1e-6, relative).
    """

    n: int = 10_000  # samples, each the centre of a kernel
    folds: int = 5  # of the test and the validation examples
    bandwidths: tuple[float, ...] | None = None  # null: Goodfellow's for pixels, else by the data's std

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"isotropic Gaussian kernel density of {self.n} samples; mean over {self.folds} folds of all "
            f"{len(data.test)} test examples, in each with the bandwidth of {_grid_text(self.bandwidths, data)} that "
            f"is best on the same fold of all {len(data.valid)} validation examples; ± over folds; {CEILING}"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        grid = _grid_fields(self.bandwidths, data)
        return {"test": len(data.test), "valid": len(data.valid), "grid": grid}

    def _score(self, samples: Tensor, data: Data) -> Score:
        test, valid = (data.floats(x).to(samples.device) for x in (data.test, data.valid))
        grid = _default_grid(self.bandwidths, data)
        return kde_log_likelihood_folds(samples, test, valid, folds=self.folds, bandwidths=grid)


@metric(Value("kde_ll_scales", "nats", "higher"), name="kde_ll_scales", needs=("pixels",), version=2)
@dataclass(frozen=True)
class KdeScales(_Bounded):
    """Log-likelihood of the test images by a kernel density for each level of a pyramid, for LAPGAN (Denton et
    al. 2015, whose own protocol over scales is not published), nats.

    The levels are a coarse image and bands of detail in the orthonormal Haar basis; their log-densities are added,
    under the assumption that they are independent. ± is the standard error over test images; ceiling, floor and
    caution are those of `kde_ll`.

    Checked against the density of the whole image, which one level is (1e-4 nats), and a Gaussian with
    independent levels (0.15 nats).
    """

    n: int = 10_000  # samples, each the centre of a kernel
    n_valid: int = 1000  # random validation examples, on which the bandwidths are chosen
    levels: int | None = None  # halvings; null: down to 8 pixels or fewer, or an odd number
    bandwidths: tuple[float, ...] | None = None  # null: multiples of the std of each level

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        halvings = len(pyramid(data.floats(data.test[:1]), self.levels)) - 1
        rule = (
            "the given grid"
            if self.bandwidths
            else f"{len(GRID_EXPONENTS)} steps of 2^(1/4) by the std of the level"
        )
        return (
            f"sum over the coarse image and {halvings} bands of an orthonormal Haar pyramid, taken as "
            f"independent, of isotropic Gaussian kernel densities of {self.n} samples; mean over all "
            f"{len(data.test)} test examples; for each level the bandwidth of {rule} that is best on "
            f"{min(self.n_valid, len(data.valid))} random validation examples; {CEILING}"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {
            "test": len(data.test),
            "valid": min(self.n_valid, len(data.valid)),
            "halvings": len(pyramid(data.floats(data.test[:1]), self.levels)) - 1,
            "grid": None if self.bandwidths else list(GRID_EXPONENTS),
        }

    def _score(self, samples: Tensor, data: Data) -> Score:
        test, valid = _held_out(samples, data, self.n_valid)
        return kde_log_likelihood_scales(samples, test, valid, levels=self.levels, bandwidths=self.bandwidths)


def _held_out(samples: Tensor, data: Data, n_valid: int) -> tuple[Tensor, Tensor]:
    """All test and `n_valid` random validation examples as floats, on the device of the samples."""
    valid = random_subset(data.valid, n_valid)
    test, valid = (data.floats(x).to(samples.device) for x in (data.test, valid))
    return test, valid


def _default_grid(bandwidths: tuple[float, ...] | None, data: Data) -> tuple[float, ...] | None:
    return bandwidths or (GOODFELLOW_GRID if data.scale else None)


def _grid_text(bandwidths: tuple[float, ...] | None, data: Data, scale: str = "the data's std") -> str:
    """The grid of bandwidths in a protocol's sentence."""
    if bandwidths:
        return "the given grid"
    return (
        "Goodfellow's grid logspace(-1, 0, 10)"
        if data.scale
        else f"{len(GRID_EXPONENTS)} steps of 2^(1/4) by {scale}"
    )


def _grid_fields(bandwidths: tuple[float, ...] | None, data: Data) -> list[float] | None:
    """The grid of bandwidths in a protocol's fields; None if it is a parameter, which is hashed anyway."""
    if bandwidths:
        return None
    # Rounded, since the last digit of a power depends on the machine.
    return [round(b, 9) for b in GOODFELLOW_GRID] if data.scale else list(GRID_EXPONENTS)


def _gaussian(x: Tensor, n: int) -> Tensor:
    """`n` draws [n, *shape] from the Gaussian with the mean and covariance of `x`: random combinations of its
    deviations from the mean, which need no covariance matrix."""
    generator = torch.Generator().manual_seed(0)  # on the CPU, so that all devices have the same draws
    mean = x.mean(0, keepdim=True)
    draws = mean.flatten(1).repeat(n, 1)
    for part in (x - mean).flatten(1).split(8192):
        mix = torch.randn(n, len(part), generator=generator, dtype=x.dtype)
        draws.addmm_(mix.to(x.device), part, alpha=len(x) ** -0.5)
    return draws.unflatten(1, x.shape[1:])
