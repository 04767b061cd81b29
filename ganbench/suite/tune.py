"""Hyperparameter search with equal budgets: the settings to try, the suite of all trials, the suite with the best.

A trial is a cell like any other, so it is cached, resumed, and distributed over workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import qmc

from ..format import seed_names
from ..search_range import SearchRange
from .spec import DatasetSpec, MethodSpec, PluginSpec, Suite, TuneSettings

COLUMNS = 32  # of the Sobol sequence; a method reads the first, one for each of its parameters
SEED = 0  # of the scrambling, the same for all methods, suites and machines
MARK = " #"  # between the label of a method and the number of a trial


@dataclass(frozen=True)
class Trial:
    """One setting of a method on a dataset: number 0 is its default."""

    number: int
    settings: Mapping[str, Any]  # parameter ("lr", or "r1.gamma" of a trick) -> value
    failed: bool = False  # as did all others of the method, so that the default stays


def search_space(method: MethodSpec, ranges: Mapping[str, SearchRange]) -> dict[str, SearchRange]:
    """The search range of each parameter to search, in the order of the source: the parameters that the method and its
    tricks declare `tunable` and that the suite does not set, and those in `ranges`."""
    space: dict[str, SearchRange] = {}
    for prefix, part in _parts(method):
        for param in part.plugin.params:
            name = prefix + param.name
            if name in ranges:
                space[name] = ranges[name]
            elif param.search and param.name not in part.params:
                space[name] = param.search
    return space


def points(trials: int, dimensions: int) -> np.ndarray:
    """Points of the unit cube [trials, dimensions], which become the settings after the default.

    A scrambled Sobol sequence: all methods get the same points (common random numbers), and a longer search starts with
    the points of a shorter one.
    """
    # Always `COLUMNS` columns: the scrambling depends on their number, and an added parameter must not move the others.
    sobol = qmc.Sobol(max(COLUMNS, dimensions), scramble=True, rng=SEED)
    # A power of two, for which a Sobol sequence is balanced.
    exponent = max(0, int(trials - 1).bit_length())
    return sobol.random_base2(exponent)[:trials, :dimensions]


def trials(method: MethodSpec, tune: TuneSettings) -> list[Trial]:
    """The settings to try for a method; only the default if there is nothing to search."""
    space = search_space(method, tune.ranges.get(method.label, {}))
    if not space:
        return [Trial(0, {})]
    rows = points(tune.trials - 1, len(space))
    found = [
        {name: r.value(float(u)) for (name, r), u in zip(space.items(), row, strict=True)} for row in rows
    ]
    return [Trial(number, settings) for number, settings in enumerate([{}, *found])]


def with_settings(method: MethodSpec, settings: Mapping[str, Any]) -> MethodSpec:
    """The method with these values of its parameters and those of its tricks."""
    parts = []
    for prefix, part in _parts(method):
        own = {p.name: settings[prefix + p.name] for p in part.plugin.params if prefix + p.name in settings}
        parts.append(replace(part, params={**part.params, **own}))
    return replace(method, part=parts[0], tricks=tuple(parts[1:]))


def search_suite(suite: Suite, tune: TuneSettings, dataset: DatasetSpec) -> Suite:
    """The trials of all methods on one dataset, judged on its validation data by one metric."""
    value = tune.by[dataset.label]
    metrics = [metric for metric in suite.metrics if value in {v.name for v in metric.values}]
    train = suite.train if tune.steps is None else replace(suite.train, steps=tune.steps)
    own = dict(dataset.train) if tune.steps is None else {**dataset.train, "steps": tune.steps}
    methods = [
        replace(
            with_settings(method, trial.settings),
            label=f"{method.label}{MARK}{trial.number}",
            train=method.train if tune.steps is None else {**method.train, "steps": tune.steps},
            datasets=None,
        )
        for method in searched(suite, dataset)
        for trial in trials(method, tune)
    ]
    return replace(
        suite,
        name=f"{suite.name}: search on {dataset.label}",
        about=f"{tune.trials} settings of each method, judged by {value} on validation data.",
        seeds=tune.seeds,
        train=train,
        datasets=(replace(dataset, split="valid", train=own),),
        methods=tuple(methods),
        metrics=tuple(metrics[:1]),
        track=(),
        tune=None,
    )


def searched(suite: Suite, dataset: DatasetSpec) -> list[MethodSpec]:
    """The methods that are trained on a dataset: all but samples made by another program."""
    return [m for m in suite.methods if m.part and (m.datasets is None or dataset.label in m.datasets)]


def tuned_suite(suite: Suite, tune: TuneSettings, best: Mapping[tuple[str, str], Trial]) -> Suite:
    """The suite with the best setting of every method, as `<label>-tuned`, in addition to its default.

    best: (label of the dataset, label of the method) -> trial. If the default is the best, `<label>-tuned` is added
    all the same, to show that the search chose it.
    """
    methods: list[MethodSpec] = []
    for method in suite.methods:
        methods.append(method)
        for dataset in suite.datasets:
            if method.datasets is not None and dataset.label not in method.datasets:
                continue  # another method may have this label there
            trial = best.get((dataset.label, method.label))
            if trial is None or not search_space(method, tune.ranges.get(method.label, {})):
                continue
            methods.append(
                replace(
                    with_settings(method, trial.settings),
                    label=f"{method.label}-tuned",
                    datasets=(dataset.label,),
                    tuned=_search_words(trial, tune, dataset),
                )
            )
    return replace(suite, methods=tuple(methods), tune=None)


def _search_words(trial: Trial, tune: TuneSettings, dataset: DatasetSpec) -> str:
    """Which setting was chosen, then after a comma by what, how long and over which seeds was searched."""
    seeds = seed_names(tune.seeds)
    steps = f", {tune.steps:,} rounds each" if tune.steps else ""
    if trial.failed:
        return f"the default, as all {tune.trials} settings failed over {seeds}{steps}"
    chosen = f"setting {trial.number + 1} of {tune.trials}"
    return f"{chosen}, the best by {tune.by[dataset.label]} on validation data over {seeds}{steps}"


def _parts(method: MethodSpec) -> list[tuple[str, PluginSpec]]:
    """The method and its tricks, each with the prefix of its parameters' names."""
    own = [("", method.part)] if method.part else []
    return own + [(f"{trick.name}.", trick) for trick in method.tricks]
