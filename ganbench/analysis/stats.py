"""Intervals over training seeds, and how many decimals of a number mean something."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_SEEDS = 1000  # that are advised; more would be no advice
POWER = 0.8  # with which an advised number of seeds finds the difference


def mean_interval(values: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Student's t interval of the mean of each row of `values` [G, n], n observations (training seeds) a row.

    It covers the mean of normal numbers exactly at every n, and that of 5 log-normal ones more often than a
    percentile bootstrap does, which covers .50, .75, .88 and .92 at 2, 3, 4 and 5 normal numbers. It is symmetric
    and not cut to a range: a score does not say which values it can take, an end beyond them (a share above 1)
    shows that the seeds are too few, and a cut interval would no longer agree with the t-test.

    Returns (low, high), each [G]; NaN where n < 2, since one seed says nothing about its spread; without width
    where all values are equal.
    """
    from scipy.special import stdtrit

    groups, n = values.shape
    if n < 2 or groups == 0:
        return np.full(groups, np.nan), np.full(groups, np.nan)
    mean = values.mean(axis=1)
    half = stdtrit(n - 1, (1 + level) / 2) * values.std(axis=1, ddof=1) / math.sqrt(n)
    same = values.min(axis=1) == values.max(
        axis=1
    )  # the mean of equal numbers may be off by a rounding error
    mean, half = np.where(same, values[:, 0], mean), np.where(same, 0.0, half)
    return mean - half, mean + half


def share_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share of n trials (Wilson 1927, JASA 22:209); it lies in [0, 1], and has a
    width where the share is 0 or 1."""
    from scipy.special import ndtri

    z2 = float(ndtri(0.975)) ** 2
    center, half = share + z2 / (2 * n), math.sqrt(z2 * share * (1 - share) / n + (z2 / (2 * n)) ** 2)
    return max((center - half) / (1 + z2 / n), 0.0), min((center + half) / (1 + z2 / n), 1.0)


def interquartile_mean(values: Floats) -> Floats:
    """Mean of the middle half of each row of `values` [G, n]: the n // 4 least and greatest are left out
    (Agarwal et al. 2021, section 4.3). Returns [G]; NaN where n is 0."""
    groups, n = values.shape
    if n == 0:
        return np.full(groups, np.nan)
    return np.sort(values, axis=1)[:, n // 4 : n - n // 4].mean(axis=1)


def by_size(groups: NDArray[np.int64], count: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Ragged groups as few matrices: for each group size n, the groups [g] that have it and the positions of
    their members [g, n]. `groups` [N] holds the group of each observation, in 0..count-1; empty ones are
    left out."""
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups, minlength=count)
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes[sizes > 0]):
        alike = np.flatnonzero(sizes == size)
        yield alike, order[starts[alike][:, None] + np.arange(size)]
