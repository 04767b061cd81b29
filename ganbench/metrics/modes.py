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
    %; "high_quality_ceiling": the % that true samples reach, P(χ²_d < stds²), 98.89 in two dimensions;
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
    ceiling = torch.special.gammainc(torch.tensor(d / 2.0).double(), torch.tensor(stds**2 / 2.0).double())
    details: dict[str, Any] = {
        "counts": counts,
        "high_quality_pct": 100 * high,
        "high_quality_sem": 100 * math.sqrt(high * (1 - high) / n),
        "high_quality_ceiling": 100 * ceiling.item(),
        "reverse_kl": kl,
        "reverse_kl_sem": kl_sem,
        "reverse_kl_floor": (k - 1) / (2 * n),
    }
    if ceiling < 0.5:
        details["warning"] = (
            f"only {100 * ceiling.item():.2g} % of true samples lie within {stds:g} standard deviations of their "
            f"mode in {d} dimensions; raise `stds`"
        )
    return Score(float((counts > 0).sum()), None, n, details)


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
