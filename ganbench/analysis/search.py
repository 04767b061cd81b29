"""The result of a hyperparameter search: the best setting of each method, and the expected best score after fewer
trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from ..errors import StoreError
from ..store import layout
from ..store.files import Folder

BAND = (0.05, 0.95)  # quantiles between which the best of so many trials lies


@dataclass(frozen=True)
class SearchCurve:
    """The best score after n = 1 … N trials, over all orders of the N - 1 trials after the default.

    expected: mean of the best score [N]
    low, high: its 5 % and 95 % quantile [N]
    """

    expected: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class MethodSearch:
    """The trials of one method on one dataset, the default first.

    scores: of each trial and seed, on validation data [T, S]; NaN where the seed failed or diverged
    seconds: of training each of them [T, S]; NaN where it is not known
    floor: what a trivial sampler scores; NaN where the metric has no floor
    """

    label: str
    settings: tuple[Mapping[str, Any], ...]
    scores: NDArray[np.float64]
    better: str
    seconds: NDArray[np.float64]
    floor: float = math.nan

    @property
    def means(self) -> NDArray[np.float64]:
        """The mean over seeds of each trial [T]; NaN if one of its seeds failed."""
        return self.scores.mean(1)

    @property
    def best(self) -> int:
        """The index of the best trial by its mean; the first of equal ones; the default (0) if all trials failed."""
        means = self.means if self.better == "higher" else -self.means
        return int(np.nanargmax(means)) if not np.isnan(means).all() else 0

    def at_floor(self, score: float) -> bool:
        """Whether a score is no better than that of a trivial sampler."""
        return bool((score - self.floor) * (1.0 if self.better == "higher" else -1.0) <= 0)  # NaN is not

    @property
    def curve(self) -> SearchCurve | None:
        """The best score after 1 … T trials; None if all trials failed."""
        return None if np.isnan(self.means).all() else search_curve(list(self.means), self.better)


@dataclass(frozen=True)
class DatasetSearch:
    """The search on one dataset; settings were judged by `value` [`unit`]."""

    dataset: str
    value: str
    unit: str
    methods: tuple[MethodSearch, ...]


def read_search(files: Folder) -> tuple[DatasetSearch, ...]:
    """The searches of a run; empty if its suite has none. Raises StoreError for a file that no run writes."""
    path = files.path(layout.SEARCH_RESULT)
    try:
        return tuple(
            DatasetSearch(
                str(entry["dataset"]),
                str(entry["value"]),
                str(entry["unit"]),
                tuple(_method_search(method) for method in entry["methods"]),
            )
            for entry in files.read_object(path).get("datasets", [])
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise StoreError(
            f"{path}: is not the result of a search; run the suite again to rebuild it"
        ) from None


def _method_search(entry: Mapping[str, Any]) -> MethodSearch:
    scores = _table(entry["scores"])
    seconds = _table(entry["seconds"]) if "seconds" in entry else np.full_like(scores, np.nan)
    floor = math.nan if entry.get("floor") is None else float(entry["floor"])
    settings = tuple({str(name): value for name, value in setting.items()} for setting in entry["settings"])
    if scores.ndim != 2 or len(scores) != len(settings) or seconds.shape != scores.shape:
        raise ValueError
    if entry["better"] not in ("higher", "lower"):
        raise ValueError
    return MethodSearch(str(entry["label"]), settings, scores, str(entry["better"]), seconds, floor)


def _table(rows: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    """A table as JSON holds it, null for NaN."""
    return np.array([[np.nan if x is None else float(x) for x in row] for row in rows], dtype=np.float64)


def search_curve(scores: Sequence[float], better: str) -> SearchCurve:
    """The curve of a method from the validation scores of its trials, the default first.

    Tang et al. 2020: the mean over all subsets of n trials without replacement, which is unbiased. The estimator of
    Dodge et al. 2019 draws with replacement, and its mean lies below. The default is always the first trial, so
    the best of n is the better of the default and the best of n - 1 others.

    scores: one for each trial, NaN where it failed; a failed trial counts as the worst of all
    better: "higher" or "lower"
    Raises ValueError if all trials failed.
    """
    sign = 1.0 if better == "higher" else -1.0
    values = sign * np.asarray(scores, dtype=np.float64)
    if np.isnan(values).all():
        raise ValueError("all trials failed")
    # A search that is run again may fail too, so a failure is an outcome, the worst of those seen.
    values = np.where(np.isnan(values), np.nanmin(values), values)
    best = np.sort(np.maximum(values[0], values[1:]))  # of the default and one other, ascending
    total, rank = len(best), np.arange(1, len(best) + 1)
    rows = [(values[0], values[0], values[0])]
    for n in range(1, total + 1):
        # P(best of n ≤ i-th) = C(i, n) / C(N, n), by logarithms, since binomials of 100 trials overflow.
        with np.errstate(invalid="ignore"):
            log_below = (
                gammaln(rank + 1) - gammaln(rank - n + 1) + gammaln(total - n + 1) - gammaln(total + 1)
            )
        below = np.where(rank >= n, np.exp(log_below), 0.0)
        weights = np.diff(below, prepend=0.0)
        low, high = (best[min(int(np.searchsorted(below, q - 1e-12)), total - 1)] for q in BAND)
        rows.append((float(weights @ best), low, high))
    expected, low, high = sign * np.array(rows).T
    return SearchCurve(expected, low, high) if sign > 0 else SearchCurve(expected, high, low)


def changes_of_place(curves: Sequence[SearchCurve]) -> int:
    """How often the curves of expected best scores of two methods cross, over all pairs of methods."""
    crossings = 0
    for one, two in combinations(curves, 2):
        n = min(len(one.expected), len(two.expected))
        order = np.sign(one.expected[:n] - two.expected[:n])
        order = order[order != 0]  # equal for a while, then apart, is no crossing
        crossings += int((order[1:] != order[:-1]).sum())
    return crossings
