"""Two methods over training seeds: is the difference of their means more than chance, how often does one win, and
how many seeds would tell them apart.

Everywhere a [n] and b [m] are values of which the higher are better, one for each seed. A seed that failed is
-inf: it enters no mean, and loses against every seed that ended well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import stats
from .stats import MAX_SEEDS, Floats

_RESAMPLES = 4000  # of `interquartile_mean`, whose ends are printed in whole per cent


def resolution(values: Floats) -> float:
    """The steps in which a metric counts, as far as its values [n] show: the least distance of two that differ, at
    most 1 for whole numbers. Values without an end count, others do not. 0 where all are equal."""
    finite = np.unique(values[np.isfinite(values)])
    gap = float(np.diff(finite).min()) if len(finite) > 1 else 0.0
    return min(gap, 1.0) if np.array_equal(finite, np.round(finite)) else gap


def merge_rounding(values: Floats) -> Floats:
    """`values` [n] in which those that differ by no more than rounding of float32 (`stats.rounding`, of the value or of
    the median size, whichever is greater) are equal: each is replaced by the least of its group, so that the last digit
    decides nothing. Values without an end stay."""
    finite = np.isfinite(values)
    typical = float(np.median(np.abs(values[finite]))) if finite.any() else 0.0
    merged, least = values.copy(), -math.inf
    for i in np.argsort(values, kind="stable"):
        if finite[i]:
            least = least if values[i] - least <= stats.rounding(values[i], typical) else float(values[i])
            merged[i] = least
    return merged


@dataclass(frozen=True)
class TTest:
    """Student's t-test that a difference of means is zero, and the interval that belongs to it."""

    difference: float  # mean(a) - mean(b)
    error: float  # its standard error
    degrees: float  # of freedom

    @property
    def p(self) -> float:
        """Two-sided p; NaN where there are too few seeds."""
        from scipy.special import stdtr

        if self.error == 0:
            return 1.0 if self.difference == 0 else 0.0
        return float(2 * stdtr(self.degrees, -abs(self.difference) / self.error))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval: excludes 0 exactly where p < 0.05."""
        from scipy.special import stdtrit

        half = self.error * float(stdtrit(self.degrees, 0.975)) if self.error else 0.0
        return self.difference - half, self.difference + half


UNTESTED = TTest(math.nan, math.nan, math.nan)


def paired(differences: Floats, step: float = 0.0) -> TTest:
    """Student's t-test that differences [n] of pairs of seeds have the mean 0; NaN where n < 2.

    If nothing differs, a difference and its negative are equally likely, and of symmetric distributions with
    heavier tails than the normal's the t-test claims less than it may (Benjamini 1983, Is the t test really
    conservative when the parent distribution is long-tailed? JASA 78:383). Signs and ranks are no alternative: of n
    pairs they give no p below 2 / 2^n, 0.0625 for 5.

    `step`: values are known to ± step/2 only (`resolution`), so that a difference has at least the variance
    step²/6 of two rounding errors: the same whole number in five seeds is not certain to come a sixth time.
    """
    n = len(differences)
    if n < 2:
        return UNTESTED
    same = differences.min() == differences.max()
    variance = 0.0 if same else float(differences.var(ddof=1))
    mean = float(differences[0] if same else differences.mean())
    return TTest(mean, math.sqrt((variance + step**2 / 6) / n), n - 1)


def unpaired(a: Floats, b: Floats, step: float = 0.0) -> TTest:
    """Welch's t-test that the means of a [n] and b [m] are equal, for different seeds; NaN where n or m is below 2.
    `step` as in `paired`. Degrees of freedom by Welch & Satterthwaite."""
    if min(len(a), len(b)) < 2:
        return UNTESTED
    parts = [((0.0 if x.min() == x.max() else x.var(ddof=1)) + step**2 / 12) / len(x) for x in (a, b)]
    total = sum(parts)
    free = sum(part**2 / (len(x) - 1) for part, x in zip(parts, (a, b), strict=True))
    return TTest(float(a.mean() - b.mean()), math.sqrt(total), total**2 / free if free else math.inf)


def failures(a: Floats, b: Floats) -> float:
    """Two-sided p of Fisher's exact test that seeds of a [n] and b [m] fail equally often, for methods of which too
    few seeds have a value."""
    from scipy.stats import fisher_exact

    bad = [int(np.isneginf(x).sum()) for x in (a, b)]
    return float(np.asarray(fisher_exact([bad, [len(a) - bad[0], len(b) - bad[1]]]))[1])


# ---------------------------------------------------------------------------------------------- who wins


def improvement(datasets: Sequence[tuple[Floats, Floats]]) -> tuple[float, float, float]:
    """Probability of improvement P(a > b) + P(a = b) / 2 over pairs of any seed of a [n] with any of b [m], averaged
    over datasets (Agarwal et al. 2021, Deep RL at the Edge of the Statistical Precipice, section 4.3), and its 95 %
    interval, NaN where a method has a single seed. On one dataset it is the Mann-Whitney statistic U / (n m).

    The variance of U / (n m) is at most θ (1 - θ) / min(n, m) (Birnbaum & Klose 1957, Annals of Mathematical
    Statistics 28:933), that of a share of min(n, m) trials: so the interval is Wilson's of that many. Datasets are
    combined by their distances to its ends (Zou & Donner 2008, Statistics in Medicine 27:1693). It covers .93 to 1
    with two seeds or more on one dataset, .90 to .97 on three; a stratified bootstrap, as in Agarwal et al., .39 to
    .81 with three seeds on one, and it has no width where one always wins.
    """
    shares = [float(((a[:, None] > b) + 0.5 * (a[:, None] == b)).mean()) for a, b in datasets]
    ends = [
        stats.share_interval(share, min(len(a), len(b)))
        for share, (a, b) in zip(shares, datasets, strict=True)
    ]
    below, above = (
        math.hypot(*(end[i] - share for end, share in zip(ends, shares, strict=True))) for i in (0, 1)
    )
    share, count = sum(shares) / len(shares), len(shares)
    if min(len(seeds) for pair in datasets for seeds in pair) < 2:
        return share, math.nan, math.nan
    return share, share - below / count, share + above / count


def win_rates(methods: Sequence[Floats]) -> list[Floats]:
    """For each seed of each method [n] on one dataset the percentage of all other seeds, of all methods, that it
    beats; a tie is half a win. Scores of different datasets have no scale in common, these have, and they need no
    reference that somebody has to choose."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate(methods))
    share = 100 * (ranks - 1) / max(len(ranks) - 1, 1)
    return list(np.split(share, np.cumsum([len(values) for values in methods])[:-1]))


def interquartile_mean(datasets: Sequence[Floats]) -> tuple[float, float, float]:
    """Interquartile mean of the win rates of one method over all seeds and datasets together, and its 95 % interval
    by a stratified bootstrap over the seeds [n] of each dataset (Agarwal et al. 2021, section 4.3; as their library
    rliable).

    A bootstrap of few seeds is too narrow: its percentiles are stretched about the value as far as Student's t
    interval of a mean is wider than the bootstrap's, sqrt(n / (n - 1)) t / z, with the degrees of freedom of all
    seeds together. The interval is cut to 0 and 100. NaN where no dataset has two seeds.
    """
    from scipy.special import ndtri, stdtrit
    from scipy.stats import trim_mean

    rng = np.random.default_rng(0)
    value = float(trim_mean(np.concatenate(datasets), 0.25))
    seeds = sum(map(len, datasets))
    degrees = seeds - len(datasets)
    if not degrees:
        return value, math.nan, math.nan
    drawn = [scores[rng.integers(len(scores), size=(_RESAMPLES, len(scores)))] for scores in datasets]
    ends = np.quantile(trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1), (0.025, 0.975))
    stretch = math.sqrt(seeds / degrees) * float(stdtrit(degrees, 0.975) / ndtri(0.975))
    low, high = np.clip(value + stretch * (ends - value), 0, 100)
    return value, float(low), float(high)


# ---------------------------------------------------------------------------------------------- how many seeds


def seeds_needed(a: Floats, b: Floats, pairs: bool, level: float, step: float = 0.0) -> int | None:
    """Seeds of each method with which the t-test of `paired` or `unpaired` would find the difference that was seen
    8 times in 10 (`stats.POWER`) at this two-sided level; `MAX_SEEDS` + 1 where more are needed, None where fewer than
    two seeds tell nothing about the spread. The difference seen is itself a guess."""
    if min(len(a), len(b)) < 2:
        return None
    variance = (a - b).var(ddof=1) if pairs else (a.var(ddof=1) + b.var(ddof=1)) / 2
    spread = math.sqrt(variance + step**2 / (6 if pairs else 12))
    if spread == 0:
        return MAX_SEEDS + 1
    return stats.seeds_needed(abs(a.mean() - b.mean()) / spread, level / 2, paired=pairs)
