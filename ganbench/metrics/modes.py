"""Mode coverage of a known mixture, by the protocol of VEEGAN (Srivastava et al. 2017) and PacGAN (Lin et al.
2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..contracts import Data, Model, Modes, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples, nearest


def mode_coverage(samples: Tensor, modes: Modes, *, stds: float = 3.0) -> Score:
    """Number of modes of `modes` captured by `samples` [n, *shape].

    A sample is of high quality when it lies strictly within `stds` standard deviations of its nearest mode;
    a mode is captured when it has at least one such sample. Details:

    "counts" [K]: high-quality samples of each mode; "high_quality_pct" and "high_quality_sem" (binomial), in
    %; "high_quality_ceiling": the % that true samples reach, P(χ²_d < stds²) for d dimensions with noise, 98.89 in two;
    "reverse_kl" and "reverse_kl_sem" (delta method), nats: KL(p̂ ‖ uniform) of the histogram of the
    high-quality samples, PacGAN's reverse KL. A perfect sampler's is not 0 but about `reverse_kl_floor` =
    (K − 1) / 2n. Without any high-quality sample it is log K, the worst that it can be.

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
    distance, mode = nearest(samples.flatten(1), modes.centers.flatten(1).to(samples))
    counts = torch.bincount(mode[distance < stds * modes.std], minlength=k)
    high = counts.sum().item() / n
    kl, kl_sem = _kl_to_uniform(counts)
    noisy = modes.dims or d
    ceiling = _ceiling(noisy, stds)
    details: dict[str, Any] = {
        "counts": counts,
        "high_quality_pct": 100 * high,
        "high_quality_sem": 100 * math.sqrt(high * (1 - high) / n),
        "high_quality_ceiling": 100 * ceiling,
        "reverse_kl": kl,
        "reverse_kl_sem": kl_sem,
        "reverse_kl_floor": (k - 1) / (2 * n),
    }
    if ceiling < 0.5:
        details["warning"] = (
            f"only {100 * ceiling:.2g} % of true samples lie within {stds:g} standard deviations of their "
            f"mode in {noisy} dimensions; raise `stds`"
        )
    return Score(float((counts > 0).sum()), None, n, details)


def _ceiling(dims: int, stds: float) -> float:
    """P(χ² < stds²) with `dims` degrees of freedom."""
    return torch.special.gammainc(
        torch.tensor(dims / 2.0).double(), torch.tensor(stds**2 / 2.0).double()
    ).item()


def mode_kl(samples: Tensor, modes: Modes, *, stds: float = 3.0) -> Score:
    """KL(uniform ‖ p̃) in nats, where p̃ are the shares of `samples` [n, *shape] that lie within `stds` standard
    deviations of each mode, and the rest is in none: what modes cost that are missed, or seldom hit.

    The reverse, KL(p̂ ‖ uniform) of `mode_coverage`, hardly minds a mode that is missed; this direction would be
    infinite. No paper says how it keeps it finite; here half a sample is added to each mode and to the rest
    (Krichevsky & Trofimov 1981), so that p̃_k = (counts_k + ½) / (n + (K + 1)/2). ± is by the delta method.
    Details: "kl_floor", the mean for a perfect sampler to first order, K / 2n − log(share of true samples that
    lie so near).

    Raises SampleError as `mode_coverage` does.
    """
    coverage = mode_coverage(samples, modes, stds=stds)
    counts, n = coverage.details["counts"].double(), len(samples)
    k = len(counts)
    p = (counts + 0.5) / (n + (k + 1) / 2)
    variance = (1 / p).sum().item() / k**2 - 1
    ceiling = coverage.details["high_quality_ceiling"] / 100
    floor = k / (2 * n) - math.log(ceiling) if ceiling > 0 else math.inf
    value = -math.log(k) - p.log().mean().item()
    return Score(value, math.sqrt(max(variance, 0.0) / n), n, {"kl_floor": floor})


def _kl_to_uniform(counts: Tensor) -> tuple[float, float | None]:
    """KL(p̂ ‖ uniform) in nats with its standard error (the spread of log p̂ over samples)."""
    total, k = int(counts.sum()), len(counts)
    if total == 0:
        return math.log(k), None
    p = counts[counts > 0].double() / total
    kl = (p * (p * k).log()).sum()
    variance = (p * (p * k).log().square()).sum() - kl**2
    return max(kl.item(), 0.0), math.sqrt(max(variance.item(), 0.0) / total)


@metric(
    Value("modes", "modes", "higher"),
    Value("high_quality_pct", "%", "higher"),
    Value("reverse_kl", "nats", "lower"),
    name="modes",
    needs=("modes",),
)
@dataclass(frozen=True)
class ModeCoverage:
    """Modes captured, high-quality samples, and KL to uniform over modes (VEEGAN, PacGAN).

    ± is over samples: binomial for the percentage, the delta method for the divergence.

    Checked against counts by hand (1e-6, relative), the ceiling of true samples in closed form, 98.89 % in the
    plane (4 standard errors), the floor of a perfect sampler (30 %).
    """

    n: int = 2500  # samples
    stds: float = 3.0  # radius of high quality, in standard deviations of a mode; VEEGAN's 1200-D data: 10

    def __call__(self, model: Model, data: Data) -> tuple[Score, Score, Score]:
        if data.modes is None:
            raise SampleError(f"{data.name}: its modes are not known")
        captured = mode_coverage(model.samples(self.n), data.modes, stds=self.stds)
        found = captured.details
        return (
            captured,
            Score(found["high_quality_pct"], found["high_quality_sem"], captured.n),
            Score(found["reverse_kl"], found["reverse_kl_sem"], int(found["counts"].sum())),
        )

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        return (
            f"{self.n} samples; high quality: strictly within {self.stds:g} standard deviations of the nearest "
            "mode; captured: at least one high-quality sample; reverse KL: KL(p̂ ‖ uniform) of the histogram of "
            "high-quality samples, nats, log K without any"
        )


@metric(Value("mode_kl", "nats", "lower"), name="mode_kl", needs=("modes",))
@dataclass(frozen=True)
class ModeKL:
    """KL(uniform over the modes ‖ samples): what missed modes cost, where the reverse KL of `modes` shows how
    unevenly the captured ones are hit. Details: "kl_floor", what a perfect generator scores on average.

    Checked against the sum by hand (1e-6, relative), the floor of a perfect sampler (4 standard errors).
    """

    n: int = 2500  # samples
    stds: float = 3.0  # radius that counts as in a mode, in standard deviations of it

    def __call__(self, model: Model, data: Data) -> Score:
        if data.modes is None:
            raise SampleError(f"{data.name}: its modes are not known")
        return mode_kl(model.samples(self.n), data.modes, stds=self.stds)

    def protocol(self, data: Data) -> str:
        """What defines the number."""
        return (
            f"{self.n} samples; KL(uniform ‖ shares strictly within {self.stds:g} standard deviations of each mode), "
            "nats, half a sample added to each mode and to what is in none"
        )
