"""Intervals over training seeds, and the number of seeds that a test needs."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAX_SEEDS = 1000  # the largest number of seeds to recommend
POWER = 0.8  # of the test with the recommended number of seeds
# float32 holds 7 digits, and a metric adds up thousands of roundings: 8 units in the last place.
ROUNDING = 1e-6


def rounding(*sizes: float) -> float:
    """How far rounding of float32 may move a number that is computed from others of these sizes; NaN are left out."""
    return ROUNDING * max((abs(size) for size in sizes if not math.isnan(size)), default=0.0)


def mean_interval(values: Floats) -> tuple[Floats, Floats]:
    """Student's 95 % t interval of the mean of each row of `values` [G, n], n observations (training seeds) a row.

    Its coverage for the mean of normal numbers is exact at every n, and for 5 log-normal ones better than that of a
    percentile bootstrap, whose coverage is .50, .75, .88 and .92 with 2, 3, 4 and 5 normal numbers. It is symmetric
    and not clipped to a range: the possible values of a score are not known here, an end beyond them (a share above 1)
    shows that the seeds are too few, and a clipped interval would not agree with the t-test.

    Returns (low, high), each [G]; NaN if n < 2, since the spread of a single seed is unknown; of zero width if all
    values are equal.
    """
    from scipy.special import stdtrit

    groups, n = values.shape
    if n < 2 or groups == 0:
        return np.full(groups, np.nan), np.full(groups, np.nan)
    mean = values.mean(axis=1)
    half = stdtrit(n - 1, 0.975) * values.std(axis=1, ddof=1) / math.sqrt(n)
    # The computed mean of equal numbers may differ from them by rounding.
    same = values.min(axis=1) == values.max(axis=1)
    mean, half = np.where(same, values[:, 0], mean), np.where(same, 0.0, half)
    return mean - half, mean + half


def share_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share of n trials (Wilson 1927, JASA 22:209); it lies in [0, 1], and has a
    positive width even if the share is 0 or 1."""
    from scipy.special import ndtri

    z2 = float(ndtri(0.975)) ** 2
    center, half = share + z2 / (2 * n), math.sqrt(z2 * share * (1 - share) / n + (z2 / (2 * n)) ** 2)
    return max((center - half) / (1 + z2 / n), 0.0), min((center + half) / (1 + z2 / n), 1.0)


def seeds_needed(effect: float, level: float, *, paired: bool, power: float = POWER) -> int:
    """The number of seeds of each method with which a one-sided t-test at `level` has this power for a true `effect`, a
    difference in standard deviations (if `paired`, of the differences); MAX_SEEDS + 1 if more are needed.

    Exact for normal data, by the noncentral t of statsmodels. A two-sided test at 2 · `level` needs the same number:
    at such a power its rejections on the wrong side are negligible, and there the noncentral t has numerical gaps.
    """
    from statsmodels.stats.power import TTestIndPower, TTestPower

    def reached(n: int) -> float:
        test = TTestPower() if paired else TTestIndPower()
        value = float(test.power(effect, n, level, alternative="larger"))
        return (
            1.0 if math.isnan(value) else value
        )  # a gap of the noncentral t: only where the power is almost 1

    if reached(MAX_SEEDS) < power:  # the power grows with n, and most differences need more seeds than that
        return MAX_SEEDS + 1
    return bisect_left(range(MAX_SEEDS + 1), power, lo=2, key=reached)


def by_size(groups: NDArray[np.int64], count: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Ragged groups as a few matrices: for each group size n, the groups [g] of that size and the positions of their
    members [g, n]. `groups` [N] holds the group of each observation, in 0..count-1; empty groups are left out."""
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups, minlength=count)
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes[sizes > 0]):
        alike = np.flatnonzero(sizes == size)
        yield alike, order[starts[alike][:, None] + np.arange(size)]
