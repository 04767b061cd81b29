"""Statistics of two methods over training seeds: tests of the difference of means, the probability of improvement,
and the number of seeds needed.

In all functions a [n] and b [m] are values for which higher is better, one for each seed. A failed seed is -inf: it is
left out of means, and loses against every successful seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import stats
from .stats import MAX_SEEDS, Floats

_RESAMPLES = 4000  # enough for the interval of `interquartile_mean`, which is printed in whole per cent


def resolution(values: Floats) -> float:
    """The step of a metric's scale, estimated from its values [n]: the least distance of two different finite values,
    at most 1 for whole numbers; 0 if all are equal."""
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
            least = (
                least if values[i] - least <= stats.rounding(float(values[i]), typical) else float(values[i])
            )
            merged[i] = least
    return merged


@dataclass(frozen=True)
class TTest:
    """Student's t-test that a difference of means is zero, and the corresponding interval."""

    difference: float  # mean(a) - mean(b)
    error: float  # its standard error
    degrees: float  # of freedom

    @property
    def p(self) -> float:
        """Two-sided p; NaN if there are too few seeds."""
        from scipy.special import stdtr

        if self.error == 0:
            return 1.0 if self.difference == 0 else 0.0
        return float(2 * stdtr(self.degrees, -abs(self.difference) / self.error))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval, which excludes 0 exactly if p < 0.05."""
        from scipy.special import stdtrit

        half = self.error * float(stdtrit(self.degrees, 0.975)) if self.error else 0.0
        return self.difference - half, self.difference + half


UNTESTED = TTest(math.nan, math.nan, math.nan)


def paired(differences: Floats, step: float = 0.0) -> TTest:
    """Student's t-test that differences [n] of pairs of seeds have the mean 0; NaN if n < 2.

    If the methods do not differ, the distribution of differences is symmetric. For symmetric distributions with
    heavier tails than the normal's, the t-test is conservative (Benjamini 1983, Is the t test really conservative when
    the parent distribution is long-tailed? JASA 78:383). Sign and rank tests are no alternative: with n pairs their p
    is never below 2 / 2^n, 0.0625 for 5.

    `step`: values are known only to ± step/2 (`resolution`), so a difference has at least the variance step²/6 of two
    rounding errors. Otherwise five seeds with the same whole number would have no variance at all.
    """
    n = len(differences)
    if n < 2:
        return UNTESTED
    same = differences.min() == differences.max()
    variance = 0.0 if same else float(differences.var(ddof=1))
    mean = float(differences[0] if same else differences.mean())
    return TTest(mean, math.sqrt((variance + step**2 / 6) / n), n - 1)


def unpaired(a: Floats, b: Floats, step: float = 0.0) -> TTest:
    """Welch's t-test that the means of a [n] and b [m] are equal, for different seeds; NaN if n or m is below 2.
    `step` as in `paired`. Degrees of freedom by Welch & Satterthwaite."""
    if min(len(a), len(b)) < 2:
        return UNTESTED
    parts = [((0.0 if x.min() == x.max() else x.var(ddof=1)) + step**2 / 12) / len(x) for x in (a, b)]
    total = sum(parts)
    free = sum(part**2 / (len(x) - 1) for part, x in zip(parts, (a, b), strict=True))
    return TTest(float(a.mean() - b.mean()), math.sqrt(total), total**2 / free if free else math.inf)


def failures(a: Floats, b: Floats) -> float:
    """Two-sided p of Fisher's exact test that seeds of a [n] and b [m] fail equally often; used if too few seeds have a
    value for a t-test."""
    from scipy.stats import fisher_exact

    bad = [int(np.isneginf(x).sum()) for x in (a, b)]
    return float(np.asarray(fisher_exact([bad, [len(a) - bad[0], len(b) - bad[1]]]))[1])


# ---------------------------------------------------------------------------------------------- wins


def improvement(datasets: Sequence[tuple[Floats, Floats]]) -> tuple[float, float, float]:
    """Probability of improvement P(a > b) + P(a = b) / 2 over all pairs of a seed of a [n] and one of b [m], averaged
    over datasets (Agarwal et al. 2021, Deep RL at the Edge of the Statistical Precipice, section 4.3), and its 95 %
    interval (NaN if a method has a single seed). On one dataset it is the Mann-Whitney statistic U / (n m).

    The variance of U / (n m) is at most θ (1 - θ) / min(n, m) (Birnbaum & Klose 1957, Annals of Mathematical
    Statistics 28:933), the variance of a share of min(n, m) trials, so the interval is Wilson's for that many trials.
    Intervals of several datasets are combined by the distances of their ends from the shares (Zou & Donner 2008,
    Statistics in Medicine 27:1693). Coverage is .93 to 1 with two seeds or more on one dataset, .90 to .97 on three.
    A stratified bootstrap, as in Agarwal et al., covers .39 to .81 with three seeds on one dataset, and has zero width
    if one method always wins.
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
    """The win rate of each seed of each method [n] on one dataset: the percentage of all other seeds, of all methods,
    that it beats; a tie is half a win. Unlike scores, win rates of different datasets have a common scale, without
    the choice of a reference for normalisation."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate(methods))
    share = 100 * (ranks - 1) / max(len(ranks) - 1, 1)
    return list(np.split(share, np.cumsum([len(values) for values in methods])[:-1]))


def interquartile_mean(datasets: Sequence[Floats]) -> tuple[float, float, float]:
    """Interquartile mean of the win rates of one method over all seeds and datasets together, and its 95 % interval
    by a stratified bootstrap over the seeds [n] of each dataset (Agarwal et al. 2021, section 4.3; as in their library
    rliable).

    The bootstrap interval of few seeds is too narrow. Its ends are therefore stretched away from the value by the
    factor by which Student's t interval of a mean is wider than the bootstrap's, sqrt(n / (n - 1)) t / z, with the
    degrees of freedom of all seeds together. The interval is clipped to [0, 100]. NaN if no dataset has two seeds.
    """
    from scipy.special import ndtri, stdtrit
    from scipy.stats import trim_mean

    rng = np.random.default_rng(0)
    value = float(trim_mean(np.concatenate(datasets), 0.25))
    seeds = sum(map(len, datasets))
    degrees = seeds - len(datasets)
    if not degrees:
        return value, math.nan, math.nan
    # A fixed seed: the same records must give the same table.
    drawn = [scores[rng.integers(len(scores), size=(_RESAMPLES, len(scores)))] for scores in datasets]
    ends = np.quantile(trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1), (0.025, 0.975))
    stretch = math.sqrt(seeds / degrees) * float(stdtrit(degrees, 0.975) / ndtri(0.975))
    low, high = np.clip(value + stretch * (ends - value), 0, 100)
    return value, float(low), float(high)


# ---------------------------------------------------------------------------------------------- how many seeds


def seeds_needed(a: Floats, b: Floats, pairs: bool, level: float, step: float = 0.0) -> int | None:
    """The number of seeds of each method with which the t-test of `paired` or `unpaired` has the power `stats.POWER`
    for the observed difference, at this two-sided level. `MAX_SEEDS` + 1 if more are needed; None if the spread is
    unknown, with fewer than two seeds. The observed difference is itself only an estimate."""
    if min(len(a), len(b)) < 2:
        return None
    variance = (a - b).var(ddof=1) if pairs else (a.var(ddof=1) + b.var(ddof=1)) / 2
    spread = math.sqrt(variance + step**2 / (6 if pairs else 12))
    if spread == 0:
        return MAX_SEEDS + 1
    return stats.seeds_needed(abs(a.mean() - b.mean()) / spread, level / 2, paired=pairs)
