"""Ranks of all methods at once: Friedman's and Nemenyi's tests and the critical-difference diagram (Demšar 2006,
Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..store.layout import file_name
from .significance import win_rates
from .stats import Floats

ALPHA = 0.05
Values = Mapping[tuple[str, str], pd.Series]  # (dataset, label) -> goodness by seed; -inf: failed


@dataclass(frozen=True)
class Ranking:
    """Ranks of methods by one metric over datasets, 1 the best."""

    metric: str
    ranks: pd.Series  # mean rank by label
    datasets: int
    p: float  # of Friedman's test that all methods rank alike
    apart: (
        pd.DataFrame
    )  # p of Nemenyi's test for each pair of labels; all 1 if Friedman's test is not significant
    critical: float  # critical difference of mean ranks by Nemenyi's test
    left_out: tuple[str, ...]  # labels without a valid value on all of these datasets

    @property
    def name(self) -> str:
        """The name of the diagram's files, without suffix."""
        return file_name("critical-difference", self.metric)


def least_datasets(methods: int) -> int:
    """The least number of datasets on which the diagram of `methods` methods (≥ 3) can show a difference. This is where
    a method that is first on every dataset (mean rank 1) differs from k - 1 others of equal mean rank k / 2 + 1, at 5 %
    by Friedman's and by Nemenyi's test. 5 for three methods, 6 for four and five, 8 for ten."""
    from scipy.stats import chi2

    k, datasets = methods, 2
    while chi2.sf(3 * datasets * (k - 1) / (k + 1), k - 1) >= ALPHA or _critical(k, datasets) >= k / 2:
        datasets += 1
    return datasets


def _critical(methods: int, datasets: int) -> float:
    """Nemenyi's critical difference of mean ranks."""
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(1 - ALPHA, methods, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * datasets))


def too_few(labels: Sequence[str], datasets: Sequence[str]) -> bool:
    """Whether there are too few methods or datasets for the diagram to show any difference."""
    return len(labels) < 3 or len(datasets) < least_datasets(len(labels))


def ranking(metric: str, values: Values) -> Ranking | None:
    """Ranks of the methods by goodness; None unless three of them share `least_datasets` datasets.

    Methods rank on each dataset by the mean win rate of their seeds, in which failed seeds count as the worst. The
    blocks of these tests are datasets, not seeds: with seeds they would repeat the t-tests with less power, and say
    nothing about other datasets.
    """
    labels, datasets = complete(values)
    if too_few(labels, datasets):
        return None
    # [N, k]: the mean win rate of each method's seeds on each dataset.
    table = [
        [float(own.mean()) for own in win_rates([values[dataset, label].to_numpy() for label in labels])]
        for dataset in datasets
    ]
    # Ranks need every method on every dataset; those that are missing somewhere are named instead.
    left = tuple(label for label in dict.fromkeys(label for _, label in values) if label not in labels)
    return _test_ranks(metric, labels, np.asarray(table), left)


def _test_ranks(metric: str, labels: Sequence[str], goodness: Floats, left: tuple[str, ...]) -> Ranking:
    """The tests, on goodness [N, k] of k methods on N datasets."""
    from scikit_posthocs import posthoc_nemenyi_friedman
    from scipy.stats import friedmanchisquare, rankdata

    ranks = rankdata(-goodness, axis=1)  # [N, k]
    datasets, k = ranks.shape
    # With nothing but ties Friedman's statistic is 0 / 0. Nemenyi's test is only for what Friedman's has found.
    alike = bool((ranks == ranks.mean()).all())
    p = 1.0 if alike else float(friedmanchisquare(*ranks.T).pvalue)
    apart = posthoc_nemenyi_friedman(ranks) if p < ALPHA else pd.DataFrame(np.ones((k, k)))
    apart = pd.DataFrame(apart.to_numpy(), index=pd.Index(labels), columns=pd.Index(labels))
    means = pd.Series(ranks.mean(axis=0), pd.Index(labels))
    return Ranking(metric, means, datasets, p, apart, _critical(k, datasets), left)


def complete(values: Values) -> tuple[list[str], list[str]]:
    """The methods and datasets of the largest table without missing values."""
    where: dict[str, set[str]] = {}
    for dataset, label in values:
        where.setdefault(label, set()).add(dataset)
    best: tuple[list[str], set[str]] = [], set()
    for datasets in where.values():
        labels = [label for label, own in where.items() if datasets <= own]
        if len(labels) >= 3 and len(labels) * len(datasets) > len(best[0]) * len(best[1]):
            best = labels, datasets
    return best[0], [
        dataset for dataset in dict.fromkeys(dataset for dataset, _ in values) if dataset in best[1]
    ]
