"""Mode coverage of a known mixture, by the protocol of VEEGAN (Srivastava et al. 2017) and PacGAN (Lin et al.
2018)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from ..contracts import Data, Model, Modes, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples, nearest
from .statistics import binomial_sem
from .subset import random_subset

DRAWS = 10  # draws of n samples that a control is the mean of
LEAST_PART = 0.1  # of a perfect sampler's samples in a mode, for a count that is stricter than the papers'
Controls = dict[str, dict[str, float]]


def mode_coverage(samples: Tensor, modes: Modes, *, stds: float = 3.0) -> Score:
    """Number of modes of `modes` captured by `samples` [n, *shape].

    A sample is of high quality when it lies strictly within `stds` standard deviations of its nearest mode;
    a mode is captured when it has at least one such sample. Details:

    "counts" [K]: high-quality samples of each mode; "high_quality_pct" and
    "high_quality_sem" (binomial), in %; "high_quality_ceiling": the % that true samples reach, P(χ²_d < stds²) for d
    dimensions with noise, 98.89 in two; "reverse_kl" and "reverse_kl_sem" (jackknife), nats: KL(p̂ ‖ weights of the
    modes) of the histogram of the high-quality samples; with equal weights this is PacGAN's reverse KL.
    A perfect sampler's is not 0 but about "perfect_reverse_kl" = (K − 1) / 2n. The control "modes_10_pct": modes that
    hold at least a tenth of the high-quality samples that a perfect sampler would put there, a stricter count. A
    `warning` where `stds` is too small for the dimension. Without any high-quality sample it is
    −log of the least weight (log K for equal ones), the worst that it can be.

    Raises SampleError for samples that are empty, of another shape than the modes or not finite, and for
    modes without a positive standard deviation.
    """
    samples = check_samples(samples, "samples")
    d, (k, width) = samples[0].numel(), modes.centers.flatten(1).shape
    if d != width:
        raise SampleError(f"samples: one example holds {d} numbers; the centers of the modes hold {width}")
    if not modes.std > 0:
        raise SampleError(f"modes: the standard deviation must be positive, got {modes.std}")
    n = len(samples)
    distance, mode = (x[:, 0] for x in nearest(samples.flatten(1), modes.centers.flatten(1).to(samples)))
    counts = torch.bincount(mode[distance < stds * modes.std], minlength=k).cpu()
    high = counts.sum().item() / n
    kl, kl_sem = histogram_kl(counts, modes.probabilities.cpu(), n)
    noisy = modes.dims or d
    ceiling = _ceiling(noisy, stds)
    least = (LEAST_PART * n * ceiling * modes.probabilities.cpu()).clamp(min=1)
    details = {
        "counts": counts,
        "high_quality_pct": 100 * high,
        "high_quality_sem": 100 * binomial_sem(high, n),
        "high_quality_ceiling": 100 * ceiling,
        "reverse_kl": kl,
        "reverse_kl_sem": kl_sem,
        "perfect_reverse_kl": (k - 1) / (2 * n),
    }
    warning = None
    if ceiling < 0.5:
        warning = (
            f"only {100 * ceiling:.2g} % of true samples lie within {stds:g} standard deviations of their "
            f"mode in {noisy} dimensions; raise `stds`"
        )
    controls = {"modes_10_pct": int((counts >= least).sum())}
    return Score(float((counts > 0).sum()), None, n, details, controls, warning=warning)


def _ceiling(dims: int, stds: float) -> float:
    """P(χ² < stds²) with `dims` degrees of freedom."""
    return torch.special.gammainc(
        torch.tensor(dims / 2.0).double(), torch.tensor(stds**2 / 2.0).double()
    ).item()


def mode_kl(samples: Tensor, modes: Modes, *, stds: float = 3.0) -> Score:
    """KL(w ‖ p̃) in nats, where w are the weights of the modes and p̃ the shares of `samples` [n, *shape] that lie
    within `stds` standard deviations of each mode, and the rest is in none: what modes cost that are missed, or
    seldom hit.

    The reverse, KL(p̂ ‖ w) of `mode_coverage`, hardly minds a mode that is missed; this direction would be
    infinite. No paper says how it keeps it finite; here half a sample is added to each mode and to the rest
    (Krichevsky & Trofimov 1981), so that p̃_k = (counts_k + ½) / (n + (K + 1)/2). ± is by the jackknife.
    Details: "perfect_kl", the mean for a perfect sampler to first order, K / 2n − log(share of true samples that
    lie so near).

    Raises SampleError as `mode_coverage` does.
    """
    coverage = mode_coverage(samples, modes, stds=stds)
    counts, n = coverage.details["counts"], len(samples)
    ceiling = coverage.details["high_quality_ceiling"] / 100
    perfect = len(counts) / (2 * n) - math.log(ceiling) if ceiling > 0 else math.inf
    return Score(*_forward_kl(counts, modes.probabilities.cpu(), n), n, {"perfect_kl": perfect})


def _forward_kl(counts: Tensor, weights: Tensor, n: int) -> tuple[float, float]:
    """KL(weights ‖ p̃), nats, where p̃ has half a sample more in each mode and outside, and its standard error by the
    jackknife; `counts` [K] among `n` samples."""
    counts, k = counts.double(), len(counts)
    p = (counts + 0.5) / (n + (k + 1) / 2)
    # A mode without samples has none to leave out: its part of the value does not vary.
    hit = counts > 0
    change = torch.where(hit, weights * ((counts + 0.5) / (counts - 0.5).abs()).log(), 0.0)
    second = torch.where(hit, (weights / (counts + 0.5)).square() / 2, 0.0).sum().item()
    return (weights * (weights / p).log()).sum().item(), _jackknife(counts, change, n, second)


def histogram_kl(counts: Tensor, weights: Tensor, n: int) -> tuple[float, float | None]:
    """KL(p̂ ‖ weights) in nats of the histogram p̂ = counts / N [K], of which N of `n` samples are part, and its
    standard error by the jackknife.

    `weights` [K] are probabilities above 0. Without any sample the value is the worst, −log of the least weight. The
    standard error is None for less than two samples.
    """
    counts, weights = counts.double(), weights.double().to(counts.device)
    total, worst = int(counts.sum()), -weights.min().log().item()
    if total < 2:
        return (worst if total == 0 else -(weights[counts > 0]).log().item()), None
    terms = torch.special.xlogy(counts, counts / weights)
    kl = terms.sum().item() / total - math.log(total)
    less = (counts - 1).clamp(min=0)
    without = (terms.sum() - terms + torch.special.xlogy(less, less / weights)) / (total - 1)
    change = torch.where(counts > 0, without - math.log(total - 1) - kl, 0.0)
    # 2 N KL has a χ² distribution with K - 1 degrees of freedom where p̂ is drawn from the weights.
    second = (int((counts > 0).sum()) - 1) / (2 * total**2)
    return max(kl, 0.0), _jackknife(counts, change, n, second)


def _jackknife(counts: Tensor, change: Tensor, n: int, second: float) -> float:
    """Standard error of a statistic of the `counts` [K] among `n` samples, the rest of which are in no mode.

    `change` [K]: by how much the statistic changes when a sample of that mode is left out. `second`: the variance of
    its part of second order, which the jackknife counts twice (Efron & Stein 1981, section 3); it is also the least
    that the variance can be.
    """
    total = (counts * change).sum()
    variance = (n - 1) / n * ((counts * change.square()).sum() - total.square() / n)
    return math.sqrt(max(variance.item() - second, second))


# ---------------------------------------------------------------------------------------------- controls


def mode_controls(data: Data, n: int, stds: float) -> Controls:
    """What samplers that know no mode, and real examples, score: for "floor_gaussian", "floor_smeared" and "ceiling"
    the mean "modes", "modes_10_pct", "high_quality_pct", "reverse_kl" and "mode_kl" over 10 draws of `n`.

    "floor_gaussian": the Gaussian with the mean and covariance of the training examples. "floor_smeared": test
    examples with normal noise in all dimensions that makes the standard deviation of a mode half the distance to its
    nearest neighbour, of which the largest is taken: two equal Gaussians have a single peak from there on. A single
    mode has neither, as the fitted Gaussian is its best model. "ceiling": test examples, in as many draws without
    repetition as there are.

    Raises SampleError for data without modes.
    """
    if data.modes is None:
        raise SampleError(f"{data.name}: its modes are not known")
    modes, found = data.modes, Controls()
    for name, draws in _draws(data, modes, n):
        each = [_values(draw, modes, stds) for draw in draws]
        if each:
            found[name] = {key: sum(values[key] for values in each) / len(each) for key in each[0]}
    return found


def _draws(data: Data, modes: Modes, n: int) -> Iterator[tuple[str, Iterator[Tensor]]]:
    """The controls by name, each with its draws [n, d]."""
    test = data.floats(random_subset(data.test, DRAWS * n)).flatten(1)
    generator = torch.Generator().manual_seed(0)
    centers = modes.centers.flatten(1).cpu()
    if len(centers) > 1:  # a fitted Gaussian is the best model of a single mode, not a floor
        gaussian = FittedGaussian(data.floats(data.train).flatten(1))
        yield "floor_gaussian", (gaussian.draw(n, generator) for _ in range(DRAWS))
        gap = nearest(centers, centers, 2)[0][:, 1].max().item()
        noise = math.sqrt(max((gap / 2) ** 2 - modes.std**2, 0.0))

        def smeared() -> Tensor:
            chosen = test[torch.randint(len(test), (n,), generator=generator)]
            return chosen + noise * torch.randn(chosen.shape, generator=generator)

        yield "floor_smeared", (smeared() for _ in range(DRAWS))
    whole = len(test) // n * n
    yield "ceiling", iter(test[: whole or len(test)].split(n))


def _values(samples: Tensor, modes: Modes, stds: float) -> dict[str, float]:
    coverage = mode_coverage(samples, modes, stds=stds)
    return {
        "modes": coverage.value,
        **{name: value for name, value in coverage.controls.items() if isinstance(value, int | float)},
        "high_quality_pct": coverage.details["high_quality_pct"],
        "reverse_kl": coverage.details["reverse_kl"],
        "mode_kl": mode_kl(samples, modes, stds=stds).value,
    }


class FittedGaussian:
    """The Gaussian with the mean and covariance of `x` [N, d]."""

    def __init__(self, x: Tensor) -> None:
        self.mean = x.double().mean(0)
        centred = x.double() - self.mean
        covariance = centred.T @ centred / len(x)
        # Some numbers may be constant; a billionth of the mean variance is below all that is measured.
        covariance.diagonal().add_(1e-9 * covariance.diagonal().mean().clamp(min=1e-30))
        self.factor = torch.linalg.cholesky(covariance)

    def draw(self, n: int, generator: Generator) -> Tensor:
        """`n` draws [n, d], float32."""
        normal = torch.randn(n, len(self.mean), generator=generator)
        return self.mean.float() + normal @ self.factor.T.float()


# ---------------------------------------------------------------------------------------------- the metrics


@metric(
    Value("modes", "modes", "higher"),
    Value("high_quality_pct", "%", "higher"),
    Value("reverse_kl", "nats", "lower"),
    name="modes",
    needs=("modes",),
    version=2,
)
@dataclass(frozen=True)
class ModeCoverage:
    """Modes captured, high-quality samples, and KL to the weights of the modes (VEEGAN, PacGAN).

    One sample captures a mode, so samples without any mode capture many: a Gaussian fitted to the 25 modes of the grid
    captures 17 of them. Read the values beside their controls: "floor_gaussian", that Gaussian;
    "floor_smeared", the data smeared until neighbouring modes are one; "ceiling", test examples. Each has the three
    values and "modes_10_pct", the modes that hold at least a tenth of the samples that a perfect sampler would put
    there; "modes_10_pct" is that of the samples. ± is over samples: binomial for the percentage, the
    jackknife for the divergence.

    Checked against counts by hand (1e-6, relative), the ceiling of true samples in closed form, 98.89 % in the
    plane (4 standard errors), the floor of a perfect sampler (30 %), the spread over fresh draws
    (± is .95 to 1.3 times it, 1.1 to 1.3 times where the samples have the weights but for chance).
    """

    n: int = 2500  # samples
    stds: float = 3.0  # radius of high quality, in standard deviations of a mode; VEEGAN's 1200-D data: 10

    def __call__(
        self, model: Model, data: Data, reference: Controls | None = None
    ) -> tuple[Score, Score, Score]:
        if data.modes is None:
            raise SampleError(f"{data.name}: its modes are not known")
        controls = reference or self.reference(data)
        captured = mode_coverage(model.samples(self.n), data.modes, stds=self.stds)
        found = captured.details
        return (
            replace(captured, controls={**captured.controls, **controls}),
            Score(found["high_quality_pct"], found["high_quality_sem"], captured.n),
            Score(found["reverse_kl"], found["reverse_kl_sem"], int(found["counts"].sum())),
        )

    def reference(self, data: Data) -> Controls:
        """The controls, the same for all models."""
        controls = mode_controls(data, self.n, self.stds)
        return {name: {k: v for k, v in own.items() if k != "mode_kl"} for name, own in controls.items()}

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        return (
            f"{self.n} samples; high quality: strictly within {self.stds:g} standard deviations of the nearest "
            "mode; captured: at least one high-quality sample; reverse KL: KL(p̂ ‖ weights of the modes) of the "
            "histogram of high-quality samples, nats, -log of the least weight without any"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from these data and from the constants of this file."""
        return {}


@metric(Value("mode_kl", "nats", "lower"), name="mode_kl", needs=("modes",), version=2)
@dataclass(frozen=True)
class ModeKL:
    """KL(weights of the modes ‖ samples): what missed modes cost, where the reverse KL of `modes` shows how
    unevenly the captured ones are hit. Details: "perfect_kl", what a perfect generator scores on average. Controls:
    "floor_gaussian", "floor_smeared" and "ceiling", what a fitted Gaussian, smeared data and test examples score,
    as in `modes`. ± is by the jackknife.

    Checked against the sum by hand (1e-6, relative), the mean of a perfect sampler (4 standard errors), the spread
    over fresh draws with all modes, one missing and half missing (± within 15 % of it).
    """

    n: int = 2500  # samples
    stds: float = 3.0  # radius that counts as in a mode, in standard deviations of it

    def __call__(self, model: Model, data: Data, reference: dict[str, float] | None = None) -> Score:
        if data.modes is None:
            raise SampleError(f"{data.name}: its modes are not known")
        controls = reference or self.reference(data)
        score = mode_kl(model.samples(self.n), data.modes, stds=self.stds)
        return replace(score, controls=controls)

    def reference(self, data: Data) -> dict[str, float]:
        """The controls, the same for all models."""
        return {name: own["mode_kl"] for name, own in mode_controls(data, self.n, self.stds).items()}

    def protocol(self, data: Data) -> str:
        """What defines the number."""
        return (
            f"{self.n} samples; KL(weights of the modes ‖ shares strictly within {self.stds:g} standard deviations of "
            "each mode), nats, half a sample added to each mode and to what is in none"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from these data and from the constants of this file."""
        return {}
