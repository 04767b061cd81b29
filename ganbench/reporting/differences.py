"""Two methods over training seeds: is the difference of their means more than chance, how often does one win, and
how many seeds would tell them apart.

Everywhere a [n] and b [m] are values of which the higher are better, one for each seed. A seed that failed is
-inf: it enters no mean, and loses against every seed that ended well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import stats
from .stats import MOST_SEEDS, POWER, Floats

_RESAMPLES = 4000  # of `improvement`, whose ends are shown in whole per cent


def resolution(values: Floats) -> float:
    """The steps in which a metric counts, as far as its values [n] show: the least distance of two that differ, at
    most 1 for whole numbers. Values without an end count, others do not. 0 where all are equal."""
    finite = np.unique(values[np.isfinite(values)])
    gap = float(np.diff(finite).min()) if len(finite) > 1 else 0.0
    return min(gap, 1.0) if np.array_equal(finite, np.round(finite)) else gap


def paired(differences: Floats, step: float = 0.0) -> float:
    """Two-sided p of Student's t-test that differences [n] of pairs of seeds have the mean 0; NaN where n < 2.

    If nothing differs, a difference and its negative are equally likely, and of symmetric distributions with
    heavier tails than the normal's the t-test claims less than it may (Benjamini 1983, Is the t test really
    conservative when the parent distribution is long-tailed? JASA 78:383). Signs and ranks are no alternative: of n
    pairs they give no p below 2 / 2^n, 0.0625 for 5.

    `step`: values are known to ± step/2 only (`resolution`), so that a difference has at least the variance
    step²/6 of two rounding errors: the same whole number in five seeds is not certain to come a sixth time.
    """
    from scipy.special import stdtr

    n = len(differences)
    if n < 2:
        return math.nan
    error = math.sqrt((differences.var(ddof=1) + step**2 / 6) / n)
    if error == 0:
        return 1.0 if differences[0] == 0 else 0.0
    return float(2 * stdtr(n - 1, -abs(differences.mean()) / error))


def unpaired(a: Floats, b: Floats, step: float = 0.0) -> float:
    """Two-sided p of Welch's t-test that the means of a [n] and b [m] are equal, for different seeds; NaN where n or
    m is below 2. `step` as in `paired`."""
    from scipy.stats import ttest_ind_from_stats

    if min(len(a), len(b)) < 2:
        return math.nan
    spread = [math.sqrt(x.var(ddof=1) + step**2 / 12) for x in (a, b)]
    if max(spread) == 0:
        return 1.0 if a[0] == b[0] else 0.0
    found = ttest_ind_from_stats(a.mean(), spread[0], len(a), b.mean(), spread[1], len(b), equal_var=False)
    return float(found.pvalue)


def failures(a: Floats, b: Floats) -> float:
    """Two-sided p of Fisher's exact test that seeds of a [n] and b [m] fail equally often, for methods of which too
    few seeds have a value."""
    from scipy.stats import fisher_exact

    bad = [int(np.isneginf(x).sum()) for x in (a, b)]
    return float(np.asarray(fisher_exact([bad, [len(a) - bad[0], len(b) - bad[1]]]))[1])


def interval(a: Floats, b: Floats, pairs: bool) -> tuple[float, float]:
    """95 % interval of mean(a) - mean(b), all values finite: bootstrap of the differences of pairs
    (`stats.mean_interval`), Welch's for different seeds. NaN where there are fewer than two seeds."""
    from scipy.stats import ttest_ind

    if min(len(a), len(b)) < 2:
        return math.nan, math.nan
    if pairs:
        low, high = stats.mean_interval((a - b)[None])
        return float(low[0]), float(high[0])
    difference = float(a.mean() - b.mean())
    if a.std() == b.std() == 0:
        return difference, difference
    found = ttest_ind(a, b, equal_var=False).confidence_interval()
    return float(found.low), float(found.high)


# ---------------------------------------------------------------------------------------------- who wins


def improvement(datasets: Sequence[tuple[Floats, Floats]]) -> tuple[float, float, float]:
    """Probability of improvement P(a > b) + P(a = b) / 2 over pairs of any seed of a [n] with any of b [m], averaged
    over datasets, and its 95 % interval by a stratified bootstrap: the seeds of each method on each dataset are
    drawn anew (Agarwal et al. 2021, Deep RL at the Edge of the Statistical Precipice, section 4.3). On one dataset
    it is the Mann-Whitney statistic U / (n m).

    The interval is the percentiles', hence too narrow with few seeds, and without width where one always wins.
    """
    found, drawn = [], []
    for i, (a, b) in enumerate(datasets):
        wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)  # [n, m]
        counts_a, counts_b = (stats.resamples(len(x), _RESAMPLES, 2 * i + j) for j, x in enumerate((a, b)))
        drawn.append((counts_a @ wins * counts_b).sum(axis=1) / wins.size)
        found.append(wins.mean())
    low, high = np.quantile(np.mean(drawn, axis=0), (0.025, 0.975))
    return float(np.mean(found)), float(low), float(high)


def standings(methods: Sequence[Floats]) -> list[Floats]:
    """For each seed of each method [n] on one dataset the percentage of all other seeds, of all methods, that it
    beats; a tie is half a win. Scores of different datasets have no scale in common, these have, and they need no
    reference that somebody has to choose."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate(methods))
    share = 100 * (ranks - 1) / max(len(ranks) - 1, 1)
    return list(np.split(share, np.cumsum([len(values) for values in methods])[:-1]))


def interquartile_mean(datasets: Sequence[Floats]) -> tuple[float, float, float]:
    """Interquartile mean of the scores of one method over all seeds and datasets together, which must be on one
    scale, and its 95 % interval by a stratified bootstrap over the seeds [n] of each dataset (Agarwal et al. 2021,
    section 4.3; as their library rliable)."""
    rng = np.random.default_rng(0)
    value = stats.interquartile_mean(np.concatenate(datasets)[None])
    drawn = [scores[rng.integers(len(scores), size=(_RESAMPLES, len(scores)))] for scores in datasets]
    low, high = np.quantile(stats.interquartile_mean(np.concatenate(drawn, axis=1)), (0.025, 0.975))
    return float(value[0]), float(low), float(high)


# ---------------------------------------------------------------------------------------------- how many seeds


def seeds_needed(a: Floats, b: Floats, pairs: bool, level: float, step: float = 0.0) -> int | None:
    """Seeds of each method with which the t-test of `paired` or `unpaired` would find the difference that was seen
    8 times in 10 (`POWER`) at this two-sided level; `MOST_SEEDS` + 1 where more are needed, None where fewer than
    two seeds tell nothing about the spread. The difference seen is itself a guess."""
    from scipy.special import ncfdtr, stdtrit

    if min(len(a), len(b)) < 2:
        return None
    variance = (a - b).var(ddof=1) if pairs else (a.var(ddof=1) + b.var(ddof=1)) / 2
    spread = math.sqrt(variance + step**2 / (6 if pairs else 12))
    if spread == 0:
        return MOST_SEEDS + 1
    groups = 1 if pairs else 2

    def power(n: NDArray[np.int64]) -> Floats:
        free = groups * (n - 1)
        effect = n / groups * ((a.mean() - b.mean()) / spread) ** 2
        return 1 - ncfdtr(1, free, effect, stdtrit(free, 1 - level / 2) ** 2)

    if power(np.array([MOST_SEEDS]))[0] < POWER:  # it grows with n, and most differences are hopeless
        return MOST_SEEDS + 1
    n = np.arange(2, MOST_SEEDS + 1)
    found = power(n)
    known = np.isfinite(found)  # the noncentral F has gaps near 0, the noncentral t everywhere
    enough = np.interp(n, n[known], found[known]) >= POWER
    return int(n[enough.argmax()]) if enough.any() else MOST_SEEDS + 1
