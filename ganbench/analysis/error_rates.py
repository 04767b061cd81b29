"""Tests of whether a mean over training seeds has moved by more than the variation between seeds explains, from means,
spreads and counts alone, since a reference table holds nothing else.

Student's test with a pooled variance is exact for normal data while nothing has changed; but with a long tail on the
side of bad seeds, and fewer seeds than in the reference, it raised false alarms in up to 29 of 100 tables. Welch's test
raised them in 50 of 100 if the few new seeds happen to agree. Each is reliable where the other is not, so the greater p
of both is used (results/reference/check-error-rates.md, by scripts/error-rates). Rows are corrected by Benjamini &
Hochberg 1995: while nothing has changed, all rejections are false, so the false discovery rate is the probability of
any false alarm in the table. Arrays are [..., R], R rows of a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .stats import Floats


@dataclass(frozen=True)
class Sample:
    """Seeds of R rows: their mean, their standard deviation (n - 1; ignored where n is 1), their number (≥ 1)."""

    mean: Floats  # [..., R]
    std: Floats
    n: NDArray[np.int64]

    @property
    def spread(self) -> Floats:
        """The standard deviation; zero for a single seed, which contributes nothing to a pooled one."""
        return np.where(self.n > 1, self.std, 0.0)


def p_greater(gap: Floats, a: Sample, b: Sample) -> Floats:
    """One-sided p of `gap`, a difference of the means of a and b, against a true difference of at most zero.

    The greater of Student's (pooled) and Welch's p; only Student's if a side has a single seed, whose spread is
    unknown. If all seeds of each side are equal there is no t statistic: p is then the greatest probability with which
    one distribution gives one value n_a times and a worse one n_b times, max_q q^n_a (1 - q)^n_b.
    """
    from scipy.stats import ttest_ind_from_stats

    # SciPy's test from means takes the gap as one mean and zero as the other.
    zero = np.zeros_like(gap)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled, welch = (
            ttest_ind_from_stats(
                gap, a.spread, a.n, zero, b.spread, b.n, equal_var=equal, alternative="greater"
            ).pvalue
            for equal in (True, False)
        )
    p = np.where(np.minimum(a.n, b.n) > 1, np.maximum(pooled, welch), pooled)
    share = a.n / (a.n + b.n)
    split = np.where(gap > 0, share**a.n * (1 - share) ** b.n, 1.0)
    return np.where((a.spread == 0) & (b.spread == 0), split, p)


def p_equal(rise: Floats, tolerance: Floats, a: Sample, b: Sample) -> Floats:
    """p of two one-sided tests (Schuirmann 1987): a small p shows that |true difference| < tolerance."""
    return np.maximum(p_greater(tolerance - rise, a, b), p_greater(tolerance + rise, a, b))


def corrected(p: Floats) -> Floats:
    """p of each row of a table [..., R], corrected for all of them (Benjamini & Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return false_discovery_control(p, axis=-1) if p.shape[-1] else p


def outside(rise: Floats, p: Floats, tolerance: Floats, alpha: float) -> NDArray[np.bool_]:
    """Rows that rose by more than the tolerance and by more than the noise; p from `corrected`."""
    return (rise > tolerance) & (p <= alpha)
