"""Summary of records: one row for each dataset, method and metric, with both uncertainties and counts of failures.

Two uncertainties are kept separate: over training seeds (Student's t interval of the mean), and over the items that
the metric averages, such as test points (root mean square of the seeds' standard errors; the ± in papers).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args

import numpy as np
import pandas as pd

from ..contracts import Status
from ..format import plural
from ..store.results import Run
from . import stats

FAILURES = tuple(status for status in get_args(Status) if status != "ok")
TEXTS = ["suite", "dataset", "label", "method", "metric", "protocol", "unit", "better"]
_GROUP = ["dataset", "label", "metric", "protocol"]
SEM_RATIO = 100  # no common sem is given if one seed's is larger than the median by more than this factor


@lru_cache(maxsize=4)
def run_summary(run: Run) -> pd.DataFrame:
    """The `summary` of a run's records, computed once for tables, figures and report."""
    return summary(run.records)


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """One row per dataset, label, metric and protocol, in the order of the records.

    Columns: suite, dataset, label, method, metric, protocol, unit, better; `mean` over the successful seeds, with its
    95 % t interval `low`, `high` (NaN for a single seed), `std`, `iqm` (interquartile mean); `sem` (root mean square
    over seeds of the standard error over test points; NaN if one seed's is over 100 times the median, since no single
    number describes both); `n_ok` of `n` seeds, and the count of each failure; `mixed`, whether other rows of this
    dataset and metric were measured by another protocol, so that they cannot be compared; `best` (see `_best`; never
    for a row that is `at_floor`); `invalid` (see `invalid`), empty if the values are valid; `floor`, the mean score of
    a trivial sampler, and `at_floor`, whether `mean` is no better; `device` of training, and `stack`, the sizes of the
    stacks that seeds were trained in: "5", or "2, 3".
    """
    records = with_protocols(records)
    groups = records.groupby(_GROUP, sort=False)
    first = groups[["suite", "method", "unit", "better"]].first()
    ok = ((records["status"] == "ok") & records["value"].notna()).to_numpy()
    codes = groups.ngroup().to_numpy()
    numbers = _numbers(records["value"].to_numpy()[ok], codes[ok], len(first))
    # The root mean square over seeds; NaN where one seed's is far above the others', since no number describes both.
    sems = records["sem"].where(ok)
    typical, by_row = (sems**2).groupby(codes).mean() ** 0.5, sems.groupby(codes)
    sem = typical.where(by_row.max() <= SEM_RATIO * by_row.median()).to_numpy()
    frame = first.assign(**numbers, sem=sem, n_ok=np.bincount(codes[ok], minlength=len(first)))
    frame = frame.assign(
        n=np.bincount(codes, minlength=len(first)), **_failures(records, ok, codes, len(first))
    )
    frame = frame.reset_index()
    protocols = frame.groupby(["dataset", "metric"])["protocol"].transform("nunique")
    frame["mixed"] = protocols > 1
    reasons = invalid(records)
    frame["invalid"] = [reasons.get(key, "") for key in zip(*(frame[name] for name in _GROUP), strict=True)]
    frame["best"] = _best(frame)
    floors = pd.Series(records["floor"].astype("float64").to_numpy())
    frame["floor"] = floors.where(ok).groupby(codes).mean().to_numpy()
    signs = frame["better"].map({"higher": 1.0, "lower": -1.0})
    frame["at_floor"] = (frame["mean"] - frame["floor"]) * signs <= 0  # False for NaN
    frame["best"] &= ~frame["at_floor"]  # a method that has learned nothing is not marked as the best
    # Recorded since the same seeds differ by rounding on another device, and in a stack of another size.
    for name in ("device", "stack"):
        values: list[set[Any]] = [set() for _ in range(len(first))]
        for code, value in zip(codes[ok].tolist(), records.loc[ok, name].tolist(), strict=True):
            values[code].add(value)
        frame[name] = [", ".join(str(value) for value in sorted(own - {"", None})) for own in values]
    return frame[TEXTS + [name for name in frame.columns if name not in TEXTS]]


def with_protocols(records: pd.DataFrame) -> pd.DataFrame:
    """The records with missing protocols filled in. A seed that failed before it was scored may have none: it gets the
    protocol of its method's other seeds, else that of the other methods, if that is unambiguous. Records of earlier
    versions get the columns that they lack."""
    records = records.reset_index(drop=True)
    records = records.assign(**{name: None for name in ("floor", "invalid") if name not in records})
    records["invalid"] = records["invalid"].where(records["invalid"].notna(), "")
    protocol = records["protocol"].replace("", None)
    for keys in (["dataset", "label", "metric"], ["dataset", "metric"]):
        known = protocol.groupby([records[key] for key in keys], sort=False)
        only = known.transform("first").where(known.transform("nunique") == 1)
        protocol = protocol.fillna(only)
    return records.assign(protocol=protocol.fillna(""))


def invalid(records: pd.DataFrame) -> dict[tuple[str, ...], str]:
    """(dataset, label, metric, protocol) -> why its values are not valid, such as `3 of 5 seeds: ...`; valid ones are
    not in the result. One seed whose control failed makes all invalid: leaving out only such seeds would select seeds
    by their results. Expects records from `with_protocols`."""
    known = records[(records["status"] == "ok") & records["value"].notna()]
    if not (known["invalid"] != "").any():
        return {}
    found = {}
    for key, own in known.groupby(_GROUP, sort=False)["invalid"]:
        if sentences := [str(text) for text in own if text]:
            found[key] = f"{len(sentences)} of {plural(len(own), 'seed')}: {sentences[0]}"
    return found


def _numbers(values: stats.Floats, codes: np.ndarray, count: int) -> dict[str, stats.Floats]:
    from scipy.stats import trim_mean

    found = {name: np.full(count, np.nan) for name in ("mean", "low", "high", "std", "iqm")}
    for groups, members in stats.by_size(codes, count):
        matrix = values[members]
        found["mean"][groups] = matrix.mean(axis=1)
        found["low"][groups], found["high"][groups] = stats.mean_interval(matrix)
        found["iqm"][groups] = trim_mean(matrix, 0.25, axis=1)  # Agarwal et al. 2021, section 4.3
        if matrix.shape[1] > 1:
            found["std"][groups] = matrix.std(axis=1, ddof=1)
    return found


def _failures(records: pd.DataFrame, ok: np.ndarray, codes: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """The count of each failure in each group; a value that is missing although its seed succeeded counts as
    failed."""
    status = records["status"].where(records["status"] != "ok", "failed").to_numpy()
    return {name: np.bincount(codes[~ok & (status == name)], minlength=count) for name in FAILURES}


def _best(frame: pd.DataFrame) -> pd.Series:
    """Whether a row has the best mean of its dataset and metric. No row is marked if that would mislead: with mixed
    protocols, with a best mean from fewer than two seeds or with failed seeds, or if all tie. Invalid values are
    ignored."""
    by = [frame["dataset"], frame["metric"]]
    signs = frame["better"].map({"higher": 1.0, "lower": -1.0})  # NaN for values that are not ranked
    goodness = (frame["mean"] * signs).where(frame["invalid"] == "")
    top = goodness.notna() & (goodness == goodness.groupby(by).transform("max"))
    fair = (frame["n_ok"] == frame["n"]) & (frame["n_ok"] >= 2) | ~top
    beaten = top.groupby(by).transform("sum") < goodness.groupby(by).transform("count")
    return top & beaten & fair.groupby(by).transform("all") & ~frame["mixed"]
