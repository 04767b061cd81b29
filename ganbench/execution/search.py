"""Hyperparameter search before a suite is run: trials of every method's settings, stored next to the results."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from ..analysis.search import DatasetSearch, MethodSearch
from ..errors import StoreError
from ..format import plural
from ..store import layout
from ..store.results import read_records
from ..store.rundir import Store
from ..suite.load import slug
from ..suite.spec import DatasetSpec, Suite, TuneSettings
from ..suite.tune import MARK, Trial, search_suite, searched, trials, tuned_suite
from .progress import say

RunSuite = Callable[[Suite, Path], int]


def search(
    suite: Suite, root: Path, run: RunSuite, console: Console, *, dry_run: bool
) -> tuple[Suite | None, int]:
    """Run the trials of every dataset of a suite, and write `search.json`.

    Returns the suite with the best settings added to the defaults, and an exit code. The suite is None if the search
    is not complete: it was interrupted, or other shards have the rest.
    """
    tune = suite.tune
    if tune is None:
        return suite, 0
    results = []
    for dataset in suite.datasets:
        trial_suite = search_suite(suite, tune, dataset)
        methods, seeds = len(searched(suite, dataset)), len(tune.seeds)
        say(
            console,
            f"search on {dataset.label}: {len(trial_suite.methods)} settings of {plural(methods, 'method')}, "
            f"{plural(seeds, 'seed')} each, judged by {tune.by[dataset.label]} on validation data",
        )
        folder = root / layout.SEARCH / slug(dataset.label)
        code = run(trial_suite, folder)
        if code == 130:
            return None, code
        results.append(_result(suite, tune, dataset, trial_suite, folder))
    if None in results:
        if dry_run:
            say(
                console,
                "The settings will be chosen when the search is complete; this dry run shows the defaults instead.",
            )
            best = {(d.label, m.label): Trial(0, {}) for d in suite.datasets for m in searched(suite, d)}
            return tuned_suite(suite, tune, best), 0
        say(console, "The search is not complete; run the other shards, then this command again.")
        return None, 0
    complete = [result for result in results if result]
    if not dry_run:
        store = Store(root)
        store.prepare()
        store.write_json(
            store.path(layout.SEARCH_RESULT), {"trials": tune.trials, "datasets": list(map(_plain, complete))}
        )
    best = {
        (result.dataset, method.label): Trial(
            method.best, method.settings[method.best], failed=bool(np.isnan(method.means).all())
        )
        for result in complete
        for method in result.methods
    }
    return tuned_suite(suite, tune, best), 0


def _result(
    suite: Suite, tune: TuneSettings, dataset: DatasetSpec, trial_suite: Suite, folder: Path
) -> DatasetSearch | None:
    """The trials on one dataset; None if some are missing."""
    value = tune.by[dataset.label]
    try:
        records = read_records(folder)
    except StoreError:
        return None
    own = records[records["metric"] == value].set_index(["label", "seed"])
    # Other shards may still have some: the best of those that are there would be another than the best of all.
    if any((method.label, seed) not in own.index for method in trial_suite.methods for seed in tune.seeds):
        return None
    scores = own["value"].where(own["status"] == "ok")
    # By the numbers of trials, whose settings follow from the method and the search, not from the records.
    column = next(v for m in trial_suite.metrics for v in m.plugin.values if v.name == value)
    methods = []
    for method in searched(suite, dataset):
        tried = trials(method, tune)
        keys = [[(f"{method.label}{MARK}{trial.number}", seed) for seed in tune.seeds] for trial in tried]
        values, seconds, floors = (
            np.array([[series[key] for key in row] for row in keys], dtype=np.float64)
            for series in (scores, own["train_seconds"], own["floor"].where(scores.notna()))
        )
        floor = float(np.nanmean(floors)) if np.isfinite(floors).any() else math.nan
        settings = tuple(trial.settings for trial in tried)
        methods.append(MethodSearch(method.label, settings, values, column.better, seconds, floor))
    return DatasetSearch(dataset.label, value, column.unit, tuple(methods))


def _plain(result: DatasetSearch) -> dict[str, object]:
    """The result as a JSON object; a failed seed is null."""
    methods = [
        {
            "label": method.label,
            "better": method.better,
            "settings": list(map(dict, method.settings)),
            "scores": _nested(method.scores),
            "seconds": _nested(method.seconds),
            "floor": method.floor if math.isfinite(method.floor) else None,
            "best": method.best,
        }
        for method in result.methods
    ]
    return {"dataset": result.dataset, "value": result.value, "unit": result.unit, "methods": methods}


def _nested(table: np.ndarray) -> list[list[float | None]]:
    """A table [T, S] for JSON, null for what there is not."""
    return [[float(x) if np.isfinite(x) else None for x in row] for row in table]
