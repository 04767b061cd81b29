"""Ranks of all methods at once: Friedman's and Nemenyi's tests and the critical-difference diagram (Demšar 2006,
Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..store.layout import file_name
from .differences import win_rates
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
    apart: pd.DataFrame  # p of Nemenyi's test for each two labels; all 1 where Friedman's finds nothing
    critical: float  # difference of mean ranks that Nemenyi's test finds
    left_out: tuple[str, ...]  # labels without a valid value on all of these datasets

    @property
    def name(self) -> str:
        """Of the diagram's files, without the ending."""
        return file_name("critical-difference", self.metric)


def least_datasets(methods: int) -> int:
    """The fewest datasets on which the diagram of so many methods (≥ 3) can show anything: there a method that is
    first on every one, its rank 1, is told from the others, alike with the rank k / 2 + 1, at 5 % by Friedman's and by
    Nemenyi's test. 5 for three methods, 6 for four and five, 8 for ten."""
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
    """Whether a diagram of these methods on these datasets could show nothing."""
    return len(labels) < 3 or len(datasets) < least_datasets(len(labels))


def ranking(metric: str, values: Values) -> Ranking | None:
    """Ranks of the methods by goodness; None where no three of them share a dataset, or not `least_datasets`.

    Methods rank on each dataset by the mean standing of their seeds, to which a failed one adds the least. Seeds are
    no blocks of these tests: they would say what the t-tests over seeds say, with less power, and nothing of other
    datasets.
    """
    labels, datasets = complete(values)
    if too_few(labels, datasets):
        return None
    table = [_standing([values[dataset, label] for label in labels]) for dataset in datasets]
    left = tuple(label for label in dict.fromkeys(label for _, label in values) if label not in labels)
    return _ranked(metric, labels, np.asarray(table), left)


def _ranked(metric: str, labels: Sequence[str], goodness: Floats, left: tuple[str, ...]) -> Ranking:
    """The tests, on goodness [N, k] of k methods on N datasets."""
    from scikit_posthocs import posthoc_nemenyi_friedman
    from scipy.stats import friedmanchisquare, rankdata

    ranks = rankdata(-goodness, axis=1)  # [N, k]
    datasets, k = ranks.shape
    alike = bool((ranks == ranks.mean()).all())
    p = 1.0 if alike else float(friedmanchisquare(*ranks.T).pvalue)
    apart = posthoc_nemenyi_friedman(ranks) if p < ALPHA else pd.DataFrame(np.ones((k, k)))
    apart = pd.DataFrame(apart.to_numpy(), index=pd.Index(labels), columns=pd.Index(labels))
    means = pd.Series(ranks.mean(axis=0), pd.Index(labels))
    return Ranking(metric, means, datasets, p, apart, _critical(k, datasets), left)


def complete(values: Values) -> tuple[list[str], list[str]]:
    """The methods and datasets of the largest table without holes."""
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


def _standing(columns: Sequence[pd.Series]) -> list[float]:
    """What a seed of each method beats on one dataset, on the mean."""
    return [float(own.mean()) for own in win_rates([own.to_numpy() for own in columns])]
