"""Has a mean over training seeds moved by more than its seeds do by themselves? From means, spreads and counts
alone, since that is what a kept table holds.

Student's test with a pooled variance is exact while nothing changed, if the data are normal; with a long tail on the
side of the bad seeds, and fewer seeds than the reference has, it raised alarms in up to 29 of 100 tables. Welch's does
where the few new seeds happen to agree (50 of 100). Each errs where the other does not, so the greater p of both is
taken (results/reference/check-error-rates.md, by scripts/error-rates). Rows are corrected by
Benjamini & Hochberg 1995: while nothing changed, all rejections are false, so that its false discovery rate is
the chance of any false alarm in the table. Arrays are [..., R], R rows of a table.
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
        """The standard deviation, zero for a single seed, which adds nothing to a pooled one."""
        return np.where(self.n > 1, self.std, 0.0)


def p_greater(gap: Floats, a: Sample, b: Sample) -> Floats:
    """One-sided p of `gap`, a difference of the means of a and b, against a true one of at most zero.

    The greater of Student's (pooled) and Welch's p; a single seed has no spread of its own, so there it is
    Student's. Where no seed differs from another on either side there is no t: p is then the greatest chance with
    which one distribution gives n_a times one value and n_b times a worse one, max_q q^n_a (1 - q)^n_b.
    """
    from scipy.stats import ttest_ind_from_stats

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
    """p of two one-sided tests (Schuirmann 1987): small where |true difference| < tolerance is shown."""
    return np.maximum(p_greater(tolerance - rise, a, b), p_greater(tolerance + rise, a, b))


def corrected(p: Floats) -> Floats:
    """p of each row of a table [..., R], corrected for all of them (Benjamini & Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return false_discovery_control(p, axis=-1) if p.shape[-1] else p


def outside(rise: Floats, p: Floats, tolerance: Floats, alpha: float) -> NDArray[np.bool_]:
    """Rows that rose by more than the tolerance and by more than the noise; p as `corrected` gives it."""
    return (rise > tolerance) & (p <= alpha)
