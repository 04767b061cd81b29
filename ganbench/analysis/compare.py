"""Methods against baselines, over training seeds and datasets: which differences are more than chance.

A comparison is one method against one baseline by one metric on one dataset. Its p-value is that of a paired t-test
over seeds (Welch's test if the methods ran on different seeds), with Holm's correction over all comparisons of one
call. A failed seed is not a missing value: it loses every comparison of seeds and ranks last, and a method that fails
more often than another is never called better because of the seeds that survived. Values that differ only by rounding
are equal. A value that is not valid (its metric's own control failed) is left out of everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..errors import RequestError, did_you_mean
from ..store import layout
from ..store.files import Folder
from ..store.results import read_records
from . import rankings, significance
from .rankings import ALPHA, Ranking
from .stats import Floats, rounding
from .summary import invalid, with_protocols
from .verdicts import MIXED, UNCLEAR, verdict_of_pair

Results = Path | str | Sequence[Path | str] | pd.DataFrame
Pair = tuple[str, str, str]  # dataset, method, baseline
Seeds = Mapping[tuple[str, str, str], pd.Series]  # (metric, dataset, label) -> goodness by seed; -inf: failed


@dataclass(frozen=True)
class Comparison:
    """The comparisons of `compare` and their results.

    `rows`: a row for each comparison. dataset, method, baseline, metric, unit, better, protocol; `seeds`, the number
    of seeds of the method (`seeds_baseline`: of the baseline), of which `n_ok` (`n_ok_baseline`) have a value;
    `pairs`, the number of pairs of the same seed in the test (0: unpaired); `mean`, `mean_baseline`; `difference`
    (method minus baseline, in the metric's unit, over the seeds in the test) with the test's 95 % interval `low`,
    `high`, which excludes 0 exactly if `p` is below 0.05; `improvement`, the probability that a seed of the method
    beats one of the baseline, with its 95 % interval `improvement_low`, `improvement_high` (NaN for a single seed);
    `test`, `p`, `p_corrected`; `floor` and `floor_baseline`, the score of a trivial sampler (NaN if the metric has no
    floor); `verdict` (better, worse, can't tell, or neither has learned: both means are no better than their floor,
    whatever the test says); `seeds_needed`, for a verdict "can't tell", to find the observed difference with a power
    of 80 % (1001: more than 1,000).

    `overall`: the same over all datasets, a row for each method, baseline and metric: `improvement` averaged over
    datasets with its 95 % interval, `verdict` ("mixed" if the verdicts of the datasets differ).

    `win_rates`: a row for each metric and method. The win rate of a seed is the percentage of all other methods'
    seeds on the same dataset that it beats. `datasets`, the number of datasets; `rank`, the rank of the method's mean
    win rate, averaged over datasets; `iqm`, the interquartile mean of its seeds' win rates over all datasets, with
    its 95 % bootstrap interval `low`, `high`.

    `rankings`: Friedman's and Nemenyi's tests and the data of the critical-difference diagram, for each metric that
    three methods share on enough datasets (`rankings.least_datasets`).

    `headlines`, `verdicts` and `notes` say the same in sentences (`report.comparison`).
    """

    rows: pd.DataFrame
    overall: pd.DataFrame
    win_rates: pd.DataFrame
    rankings: tuple[Ranking, ...]
    labels: tuple[str, ...]  # of all methods in the results, compared or not
    alone: tuple[str, ...]  # methods that take part in no comparison
    repeated: int  # results found in several directories, of which the first was taken
    invalid: Mapping[tuple[str, ...], str]  # dataset, label, metric, protocol that is not compared -> why
    undrawn: Mapping[
        int, int
    ]  # number of methods without a critical-difference diagram -> datasets that it needs

    @property
    def headlines(self) -> list[str]:
        """For each method and baseline, one sentence in plain words."""
        from ..report import comparison

        return comparison.headlines(self.rows)

    @property
    def verdicts(self) -> list[str]:
        """For each method, baseline and metric, one sentence with its numbers."""
        from ..report import comparison

        return comparison.verdicts(self.rows, self.overall)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and how to read the comparisons."""
        from ..report import comparison

        return tuple(comparison.notes(self))


def compare(
    results: Results,
    baseline: str | Sequence[str] = (),
    method: str | Sequence[str] = (),
    metric: str | Sequence[str] = (),
) -> Comparison:
    """Compare methods with baselines. `results` is a run directory, several of them (their seeds are pooled), or
    records as `load_records` returns them.

    Without `baseline` and `method`, the first method of each dataset is the baseline of the others. A `baseline`
    alone or a `method` alone is compared with every other method; of two `method`s alone, the first is compared with
    the second. `metric`: the metrics to compare by; default: all that have a better direction. Choose before you
    look: p-values are corrected for the comparisons made, not for those you looked at and left out.

    Raises RequestError for unknown names, metrics without a direction, values of one metric by different protocols,
    results that do not fit together or in which there is nothing to compare; StoreError for damaged records.
    """
    # Select the records, metrics and pairs to compare.
    joined, repeated = (results, 0) if isinstance(results, pd.DataFrame) else _join(results)
    records = with_protocols(joined)
    metrics = _metrics(records, _names(metric))
    pairs = list(_pairs(records, _names(baseline), _names(method)))
    # Leave out invalid values.
    chosen = records[records["metric"].isin(metrics)]
    unfit = invalid(chosen)
    keys = zip(*(chosen[name] for name in ("dataset", "label", "metric", "protocol")), strict=True)
    valid = chosen[[key not in unfit for key in keys]] if unfit else chosen
    seeds = _seeds(valid)
    rows = _tested(_rows(valid, metrics, pairs, seeds), seeds, _floors(valid))
    if rows.empty:
        left_out = [
            f"{name} of {label} on {data} is not valid ({why})"
            for (data, label, name, _), why in unfit.items()
        ]
        raise RequestError(
            f"there is nothing to compare: {'; '.join(left_out) or _nothing(records, metrics)}"
        )
    shown = [name for name in metrics if name in set(rows["metric"])]
    ranked = tuple(found for name in shown if (found := rankings.ranking(name, _of(seeds, name))))
    win_rates = _win_rates(shown, seeds)
    labels = tuple(map(str, dict.fromkeys(records["label"])))
    compared = {name for pair in pairs for name in pair[1:]}
    alone = tuple(label for label in labels if label not in compared)
    undrawn = _undrawn([_of(seeds, name) for name in shown])
    overall = _overall(rows, seeds)
    return Comparison(rows, overall, win_rates, ranked, labels, alone, repeated, unfit, undrawn)


# ---------------------------------------------------------------------------------------------- reading


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))


def _join(results: Path | str | Sequence[Path | str]) -> tuple[pd.DataFrame, int]:
    """The records of all directories without duplicates, and the number of duplicates."""
    several = [results] if isinstance(results, Path | str) else results
    paths = list(dict.fromkeys(map(Path, several)))
    frames = [read_records(path) for path in paths]
    _same_budget(paths, frames)
    records = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    names = records.groupby(["dataset", "label"], sort=False)["cell"].nunique()
    if len(frames) > 1 and (names > 1).any():
        dataset, label = names[names > 1].index[0]
        raise RequestError(
            f"{label!r} on {dataset!r} is not the same in all of these results: its source, parameters, data or "
            "budget differ; give them different labels in their suites, and run these again"
        )
    twice = records.duplicated(["dataset", "label", "metric", "protocol", "seed"])
    return records[~twice].reset_index(drop=True), int(twice.sum())


def _same_budget(paths: Sequence[Path], frames: Sequence[pd.DataFrame]) -> None:
    """Raises RequestError where directories trained for different budgets on the same dataset."""
    seen: dict[str, tuple[Path, set[str]]] = {}
    for path, frame in zip(paths, frames, strict=True):
        files = Folder(path, read_only=True)
        for dataset, cells in frame.groupby("dataset")["cell"]:
            cards = [files.read_object(files.path(layout.cell_card(str(cell)))) for cell in set(cells)]
            trained = [card["train"] for card in cards if isinstance(card.get("train"), dict)]
            own = {f"{train.get('steps')} steps of {train.get('batch')}" for train in trained}
            rounded = {
                str(train["precision"]) for train in trained if train.get("precision", "float32") != "float32"
            }
            own = {f"{budget} in {' and '.join(sorted(rounded))}" for budget in own} if rounded else own
            first, before = seen.setdefault(str(dataset), (path, own))
            if own and before and not own & before:
                there, here = (" or ".join(sorted(budgets)) for budgets in (before, own))
                raise RequestError(
                    f"{dataset!r} was trained on for different budgets: {there} in {first}, {here} in {path}; results "
                    "of different budgets are not compared"
                )


def _metrics(records: pd.DataFrame, asked: tuple[str, ...]) -> list[str]:
    """Metrics to compare by, in the order of the records."""
    directions = dict(zip(records["metric"], records["better"], strict=True))
    for name in asked:
        if name not in directions:
            raise RequestError(f"these results have no metric {name!r}{did_you_mean(name, directions)}")
        if directions[name] == "neither":
            raise RequestError(f"{name!r} cannot be ranked: neither higher nor lower is better")
    chosen = [name for name in directions if (name in asked if asked else directions[name] != "neither")]
    known = records[records["metric"].isin(chosen) & (records["protocol"] != "")]
    for (dataset, name), own in known.groupby(["dataset", "metric"], sort=False):
        if own["protocol"].nunique() > 1:
            each = [
                f"{key} ({', '.join(dict.fromkeys(rows['label']))})" for key, rows in own.groupby("protocol")
            ]
            raise RequestError(
                f"{name!r} on {dataset!r} was measured by different protocols, which are not compared: "
                f"{', '.join(each)}; choose other metrics with --metric, or score again by one protocol"
            )
    return chosen


def _pairs(records: pd.DataFrame, baselines: tuple[str, ...], methods: tuple[str, ...]) -> Iterator[Pair]:
    """Who is compared with whom, on each dataset."""
    labels = list(dict.fromkeys(records["label"]))
    for name in (*baselines, *methods):
        if name not in labels:
            raise RequestError(f"these results have no method {name!r}{did_you_mean(name, labels)}")
    if both := sorted(set(baselines) & set(methods)):
        raise RequestError(f"{both[0]!r} cannot be compared with itself; name it as method or as baseline")
    if len(methods) == 2 and not baselines:  # two names alone ask which of the two is better
        methods, baselines = methods[:1], methods[1:]
    for dataset, rows in records.groupby("dataset", sort=False):
        here = list(dict.fromkeys(rows["label"]))
        against = baselines or (tuple(n for n in here if n not in methods) if methods else here[:1])
        for name in methods or [n for n in here if n not in against]:
            yield from ((str(dataset), name, base) for base in against if {name, base} <= set(here))


def _nothing(records: pd.DataFrame, metrics: Sequence[str]) -> str:
    labels = list(dict.fromkeys(records["label"]))
    if len(labels) < 2:
        return f"these results hold {'one method, ' + repr(labels[0]) if labels else 'no method'}; two are needed"
    if not metrics:
        return "none of the metrics says whether higher or lower is better"
    return "no metric was measured of two of these methods on the same dataset"


def _undrawn(metrics: Sequence[rankings.Values]) -> dict[int, int]:
    """For metrics that three methods share on too few datasets for a critical-difference diagram: how many methods,
    and how many datasets it needs."""
    shared = [rankings.complete(values) for values in metrics]
    few = {len(labels) for labels, datasets in shared if rankings.too_few(labels, datasets)} - {0, 1, 2}
    return {methods: rankings.least_datasets(methods) for methods in sorted(few)}


def _seeds(records: pd.DataFrame) -> Seeds:
    """The goodness of each seed: higher is better, -inf where it failed; equal where only rounding differs."""
    sign = np.where(records["better"] == "lower", -1.0, 1.0)
    # A failed seed is the worst outcome, not a missing one: otherwise a method could win by its surviving seeds alone.
    good = (records["value"] * sign).where(records["status"] == "ok").fillna(-math.inf)
    # What is the same within rounding is a tie everywhere: in the wins, the tests and the ranks.
    good = good.groupby([records["metric"], records["dataset"]], sort=False).transform(
        lambda values: significance.merge_rounding(values.to_numpy())
    )
    found: dict[tuple[str, str, str], tuple[list[int], list[float]]] = {}
    names = (records[name].tolist() for name in ("metric", "dataset", "label", "seed"))
    for metric, dataset, label, seed, value in zip(*names, good.tolist(), strict=True):
        numbers, values = found.setdefault((metric, dataset, label), ([], []))
        numbers.append(seed)
        values.append(value)
    return {
        key: pd.Series(values, pd.Index(numbers, name="seed")) for key, (numbers, values) in found.items()
    }


def _floors(records: pd.DataFrame) -> dict[tuple[str, ...], float]:
    """(metric, dataset, label) -> mean floor of the successful seeds; NaN where the metric has none."""
    good = records[(records["status"] == "ok") & records["value"].notna()]
    groups = good.assign(floor=good["floor"].astype("float64")).groupby(
        ["metric", "dataset", "label"], sort=False
    )
    means = groups["floor"].mean()
    return {tuple(map(str, key)): value for key, value in zip(means.index, means.tolist(), strict=True)}


def _of(seeds: Seeds, metric: str) -> dict[tuple[str, str], pd.Series]:
    """(dataset, label) -> goodness by seed, of one metric."""
    return {(dataset, label): own for (name, dataset, label), own in seeds.items() if name == metric}


# ---------------------------------------------------------------------------------------------- comparisons


def _rows(records: pd.DataFrame, metrics: Sequence[str], pairs: Sequence[Pair], seeds: Seeds) -> pd.DataFrame:
    """All comparisons, before correction and verdicts."""
    names = ["metric", "dataset"]
    first = records.drop_duplicates(names)[[*names, "unit", "better", "protocol"]].to_dict("records")
    about = {(row["metric"], row["dataset"]): row for row in first}
    steps = {
        key: significance.resolution(np.concatenate([own for at, own in seeds.items() if at[:2] == key]))
        for key in about
        if key[0] in metrics
    }
    found = []
    for dataset, method, baseline in pairs:
        for metric in metrics:
            keys = [(metric, dataset, method), (metric, dataset, baseline)]
            if all(key in seeds for key in keys):
                known = {"dataset": dataset, "method": method, "baseline": baseline, "metric": metric}
                described = about[(metric, dataset)]
                sign = -1 if described["better"] == "lower" else 1
                step = steps[(metric, dataset)]
                found.append({**described, **known, **_row(seeds[keys[0]], seeds[keys[1]], sign, step)})
    return pd.DataFrame(found)


def _row(own: pd.Series, base: pd.Series, sign: int, step: float) -> dict[str, Any]:
    """One comparison by goodness; `sign` converts means and difference back to the metric's unit."""
    a, b, pairs = _entering(own, base)
    test, p, interval = _test(own.to_numpy(), base.to_numpy(), a, b, pairs, step)
    difference = _mean(a) - _mean(b)
    if abs(difference) <= rounding(_mean(a), _mean(b)):
        difference = 0.0
    ends = sorted(sign * end for end in interval)
    wins = significance.improvement([(own.to_numpy(), base.to_numpy())])
    fine = [x[np.isfinite(x)] for x in (own.to_numpy(), base.to_numpy())]
    return {
        "seeds": len(own), "seeds_baseline": len(base), "n_ok": len(fine[0]), "n_ok_baseline": len(fine[1]),
        "pairs": pairs, "mean": _mean(sign * fine[0]), "mean_baseline": _mean(sign * fine[1]),
        "difference": sign * difference, "low": ends[0], "high": ends[1],
        **dict(zip(("improvement", "improvement_low", "improvement_high"), wins, strict=True)),
        "test": test, "p": p, "_gain": difference, "_step": step,
    }  # fmt: skip


def _entering(own: pd.Series, base: pd.Series) -> tuple[Floats, Floats, int]:
    """The values of both sides for the test, and the number of pairs (0: unpaired).

    If both ran on the same seeds and at least two of these succeeded for both, those pairs; else all successful seeds.
    """
    a, b = own.to_numpy(), base.to_numpy()
    fine, fine_base = np.isfinite(a), np.isfinite(b)
    place = dict(zip(base.index.tolist(), range(len(b)), strict=True))
    if place.keys() == set(own.index.tolist()):
        order = np.array([place[seed] for seed in own.index.tolist()])
        both = fine & fine_base[order]
        if both.sum() >= 2:
            return a[both], b[order][both], int(both.sum())
    return a[fine], b[fine_base], 0


Test = Literal["paired t", "Welch", "Fisher", "none"]


# Why t: with five pairs no sign or rank test can give p below 0.06, and differences of seeds are nearly normal.
# Why Holm: it controls the family-wise error under any dependence between comparisons.
def _test(
    own: Floats, base: Floats, a: Floats, b: Floats, pairs: int, step: float
) -> tuple[Test, float, tuple[float, float]]:
    """The test, its p-value and the interval of the difference; with too few values, a test of the failure rates."""
    if pairs or min(len(a), len(b)) >= 2:
        # Pairing removes what two runs with one seed share, such as their minibatches.
        found = significance.paired(a - b, step) if pairs else significance.unpaired(a, b, step)
        return "paired t" if pairs else "Welch", found.p, found.interval
    if len(a) < len(own) or len(b) < len(base):
        return "Fisher", significance.failures(own, base), (math.nan, math.nan)
    return "none", math.nan, (math.nan, math.nan)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def _tested(rows: pd.DataFrame, seeds: Seeds, floors: Mapping[tuple[str, ...], float]) -> pd.DataFrame:
    """The rows with corrected p-values, floors, verdicts and the seeds needed."""
    from statsmodels.stats.multitest import multipletests

    if rows.empty:
        return rows
    # Holm's step-down procedure over all comparisons of this call.
    tested = rows["p"].notna().to_numpy()
    corrected = np.full(len(rows), math.nan)
    if tested.any():
        corrected[tested] = multipletests(rows.loc[tested, "p"], ALPHA, method="holm")[1]
    rows = rows.assign(p_corrected=corrected)
    for end, name in (("", "method"), ("_baseline", "baseline")):
        keys = zip(rows["metric"], rows["dataset"], rows[name], strict=True)
        rows[f"floor{end}"] = [floors.get(key, math.nan) for key in keys]
    rows["verdict"] = [verdict_of_pair(row) for row in rows.to_dict("records")]
    # A decided comparison needs no more seeds, so only the open ones share the level.
    open_ = int((tested & (rows["verdict"] == UNCLEAR)).sum())
    needed = [_needed(row, seeds, ALPHA / max(open_, 1)) for row in rows.to_dict("records")]
    rows["seeds_needed"] = pd.array(needed, dtype="Int64")
    return rows.drop(columns=["_gain", "_step"])


def _needed(row: Mapping[Any, Any], seeds: Seeds, level: float) -> int | None:
    """Number of seeds that would decide an open comparison at `level`, its share of the error rate."""
    if row["verdict"] != UNCLEAR or not row["p_corrected"] >= ALPHA:
        return None
    own, base = (seeds[row["metric"], row["dataset"], row[name]] for name in ("method", "baseline"))
    a, b, pairs = _entering(own, base)
    return significance.seeds_needed(a, b, pairs > 0, level, row["_step"])


def _overall(rows: pd.DataFrame, seeds: Seeds) -> pd.DataFrame:
    names = ["method", "baseline", "metric"]
    found = []
    for (method, baseline, metric), own in rows.groupby(names, sort=False):
        values = [
            tuple(seeds[str(metric), str(dataset), str(label)].to_numpy() for label in (method, baseline))
            for dataset in own["dataset"]
        ]
        wins = significance.improvement([(a, b) for a, b in values])
        verdicts = set(own["verdict"])
        verdict = verdicts.pop() if len(verdicts) == 1 else MIXED
        found.append((method, baseline, metric, len(own), *wins, verdict))
    columns = [*names, "datasets", "improvement", "low", "high", "verdict"]
    return pd.DataFrame(found, columns=pd.Index(columns))


def _win_rates(metrics: Sequence[str], seeds: Seeds) -> pd.DataFrame:
    found = []
    for metric in metrics:
        scores: dict[str, list[Floats]] = {}
        ranks: dict[str, list[float]] = {}
        values = _of(seeds, metric)
        for dataset in dict.fromkeys(dataset for dataset, _ in values):
            labels = [label for where, label in values if where == dataset]
            shares = significance.win_rates([values[dataset, label].to_numpy() for label in labels])
            means = pd.Series([share.mean() for share in shares]).rank(ascending=False)
            for label, share, rank in zip(labels, shares, means, strict=True):
                scores.setdefault(label, []).append(share)
                ranks.setdefault(label, []).append(float(rank))
        for label, own in scores.items():
            aggregate = significance.interquartile_mean(own)
            found.append((metric, label, len(own), float(np.mean(ranks[label])), *aggregate))
    columns = ["metric", "label", "datasets", "rank", "iqm", "low", "high"]
    return pd.DataFrame(found, columns=pd.Index(columns))
