"""A new method on the standings' suite: the same data, budget, seeds, metrics, sizes of the nets, and the same search.

In: a file with a method, or samples. Out: a run directory, and what the method had to be given.
Not its business: how its scores are compared and shown (`analysis.standings`, `report.standings`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import registry
from .analysis.compare import compare
from .analysis.standings import BUDGET, Standings, agreement, placement, read_run
from .errors import RequestError, StoreError, did_you_mean
from .report.page import copying
from .report.standings import Outcome
from .store.results import open_run
from .suite.load import dump, load, slug
from .suite.plan import make_cells
from .suite.spec import MethodSpec, PluginSpec, Suite

if TYPE_CHECKING:
    from rich.console import Console

SIZES = ("z_dim", "width", "depth")  # fields that hold the sizes of the nets, which are the dataset's
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Entry:
    """A method as it enters the standings. `notes`: what it was given, and what it could not be given, in words."""

    suite: Suite
    label: str
    notes: tuple[str, ...]


def suite_file(name: str) -> Path:
    """The suite that made the standings of this name."""
    return registry.shipped("suites") / "standings" / f"{name}.yaml"


def entry(
    targets: Sequence[str],
    kept: Standings,
    datasets: Sequence[str],
    *,
    tune: bool = False,
    retrain: str | None = None,
) -> Entry:
    """The suite of a new method: `targets` is a file (`my_gan.py`, `my_gan.py:Second`), or samples, a file for each
    seed. `retrain`: the label of a method of the standings that is trained beside it.

    Raises PluginError for a file without a method, RequestError for what does not fit the standings, SuiteError for a
    suite that this installation cannot read.
    """
    suite = _suite(kept, datasets)
    if retrain and retrain not in {method.label for method in suite.methods}:
        known = [method.label for method in suite.methods]
        raise RequestError(
            f"--retrain {retrain}: the standings have no method of this name{did_you_mean(retrain, known)}"
        )
    if Path(targets[0]).suffix.lower() in ARRAYS:
        methods, notes = _samples(targets, datasets, tune)
    else:
        if len(targets) > 1:
            raise RequestError(f"{targets[1]}: expected one file with a method; compare the other by itself")
        plugin = registry.find("method", targets[0])
        # A copy of a shipped method, once changed, is another method than the one of this name in the standings.
        label = f"my_{plugin.name}" if plugin.name in {m.label for m in suite.methods} else plugin.name
        made = [_given(plugin, label, suite, dataset) for dataset in datasets]
        notes = tuple(dict.fromkeys(note for _, own in made for note in own))  # each once
        methods = tuple(method for method, _ in made)
    label = methods[0].label
    if tune:  # before anything is trained
        _same_search(kept, suite, datasets)
    again = [method for method in suite.methods if method.label == retrain]
    if tune:  # the search is of the new method: one with every parameter given has nothing to search
        again = [_fixed(method) for method in again]
    search = suite.tune if tune and suite.tune else None
    # `ranges` are of the standings' own methods, by their labels: the new one has those of its file.
    own = replace(
        suite,
        name=f"{label} on {kept.name if len(datasets) > 1 else datasets[0]}",
        about=f"{label} against the methods of the standings {kept.name!r}, on the same data, budget and seeds.",
        methods=(*methods, *again),
        tune=search and replace(search, by={name: search.by[name] for name in datasets}, ranges={}),
        track=(),
        path=Path(targets[0].partition(":")[0]).resolve(),
    )
    return Entry(replace(own, source_text=dump(own)), label, notes)


def _suite(kept: Standings, datasets: Sequence[str]) -> Suite:
    """The suite of the standings on these datasets. Raises RequestError where it is not the one that made them."""
    # The installed suite may have changed since its scores were kept, so what it would train is compared with what
    # they were trained for.
    suite = load(suite_file(kept.name))
    wanted = [dataset for dataset in suite.datasets if dataset.label in datasets]
    here = [m for m in suite.methods if m.datasets is None or set(m.datasets) & set(datasets)]
    suite = replace(suite, datasets=tuple(wanted), methods=tuple(here))
    budgets = {dataset.label: Counter[tuple[Any, ...]]() for dataset in wanted}
    for cell in make_cells(suite):
        if cell.method.part:  # samples have no budget
            budgets[cell.dataset.label][tuple(getattr(cell.train, name) for name in BUDGET)] += 1
    for dataset in datasets:
        # The commonest, as in `Standings.budget`: a method may override it.
        budget = (
            dict(zip(BUDGET, budgets[dataset].most_common(1)[0][0], strict=True))
            if budgets.get(dataset)
            else {}
        )
        if budget != kept.budget(dataset):
            raise RequestError(
                f"the suite {kept.name!r} of this installation is not the one that made its standings: on {dataset} it "
                f"trains for {budget}, they for {dict(kept.budget(dataset))}; reinstall ganbench, or keep its results "
                "again"
            )
    return suite


def _same_search(kept: Standings, suite: Suite, datasets: Sequence[str]) -> None:
    """Raises RequestError where this suite would not search as the standings did."""
    if not kept.searches:
        raise RequestError(
            f"--tune: the standings {kept.name!r} were made without a search, so none is comparable"
        )
    # (value, trials, seeds) by dataset. A method with nothing to search has one trial, so the most count.
    done = {one.dataset: (one.value, *max(m.scores.shape for m in one.methods)) for one in kept.searches}
    for dataset in datasets:
        tune = suite.tune
        if tune is None or done.get(dataset) != (tune.by[dataset], tune.trials, len(tune.seeds)):
            raise RequestError(
                f"--tune: the suite {kept.name!r} of this installation does not search on {dataset} as its standings "
                "did; reinstall ganbench, or keep its results again"
            )


def _given(plugin: registry.Plugin, label: str, suite: Suite, dataset: str) -> tuple[MethodSpec, list[str]]:
    """A method with what is the dataset's: sizes, tricks that all games have (the average), and budget; and what it
    did not take."""
    here = [m for m in suite.methods if m.part and (m.datasets is None or dataset in m.datasets)]
    games = [m for m in here if m.part and m.part.plugin.interface == "game"]
    sizes = {name: _commonest([m.part.params.get(name) for m in here if m.part]) for name in SIZES}
    fields = {param.name: param for param in plugin.params}
    params, notes = {}, []
    for name, value in sizes.items():
        if value is None:  # a size that no method on this dataset sets
            continue
        # A field of the same name and another type, such as a list of widths, means something else.
        if name in fields and fields[name].annotation in ("int", "float"):
            params[name] = value
        else:
            notes.append(
                f"{label} has no field {name}, so its nets are its own; in the standings {name} is {value}."
            )
    tricks = _shared_tricks(games)
    words = " and ".join(trick.name for trick in tricks)
    if plugin.interface != "game" and tricks:
        notes.append(
            f"{label} trains by itself and takes no tricks, so it goes without {words}, which all games here have."
        )
        tricks = ()
    # What most methods on this dataset override of the suite's budget.
    train = _commonest([dict(m.train) or None for m in here]) or {}
    given = ", ".join(f"{name} {value}" for name, value in params.items())
    if given or tricks:
        shared = " and ".join(part for part in (given, ", ".join(map(_worded, tricks))) if part)
        notes.insert(0, f"On {dataset} {label} has {shared}, as the games of the standings have.")
    part = PluginSpec(plugin, params)
    return MethodSpec(label, part, tricks, (), train, (dataset,)), notes


def _commonest(values: Sequence[Any]) -> Any:
    """The value that most methods have, of those that have one."""
    given = [value for value in values if value is not None]
    return max(given, key=given.count, default=None)


def _shared_tricks(games: Sequence[MethodSpec]) -> tuple[PluginSpec, ...]:
    """The tricks that every game has, in their order, with the parameters that most give them."""
    if not games:
        return ()
    names = [
        trick.name
        for trick in games[0].tricks
        if all(trick.name in {t.name for t in m.tricks} for m in games)
    ]
    each = {name: [t for m in games for t in m.tricks if t.name == name] for name in names}
    return tuple(_commonest(tricks) for tricks in each.values())


def _worded(trick: PluginSpec) -> str:
    """`ema (decay 0.998)`"""
    given = ", ".join(f"{name} {value}" for name, value in trick.params.items())
    return f"{trick.name} ({given})" if given else trick.name


def _samples(
    targets: Sequence[str], datasets: Sequence[str], tune: bool
) -> tuple[tuple[MethodSpec, ...], tuple[str, ...]]:
    """Samples that were made elsewhere, a file for each seed."""
    if missing := [target for target in targets if not Path(target).is_file()]:
        raise RequestError(f"{missing[0]}: there is no such file of samples")
    if len(datasets) > 1:
        raise RequestError(
            f"{targets[0]}: samples are of one dataset; choose it with --on: {', '.join(datasets)}"
        )
    if tune:
        raise RequestError(
            f"{targets[0]}: samples have no settings to search; leave out --tune, or give the method's file"
        )
    files = tuple(Path(target).resolve() for target in targets)
    label = files[0].stem if len(files) == 1 else files[0].parent.name or files[0].stem
    notes = [
        f"{label} was made elsewhere: nothing is known of its budget, its nets and how its settings were chosen."
    ]
    if len(files) == 1:
        notes.append(
            "One file of samples is one seed, which says nothing about the next: give a file for each seed."
        )
    return (MethodSpec(label, None, (), files, {}, tuple(datasets)),), tuple(notes)


def _fixed(method: MethodSpec) -> MethodSpec:
    """The method with all its parameters and those of its tricks written out."""
    if method.part is None:
        return method
    part = replace(method.part, params=method.part.resolved)
    return replace(method, part=part, tricks=tuple(replace(t, params=t.resolved) for t in method.tricks))


def folder_name(label: str, kept: Standings, datasets: Sequence[str]) -> str:
    """The usual folder of an entry: `my_gan-on-ring`."""
    return slug(f"{label}-on-{kept.name if len(datasets) > 1 else datasets[0]}")


def train(entry: Entry, out: Path, device: str = "auto", console: Console | None = None) -> int:
    """Train and score an entry in a run directory, and return the exit code of the run. Raises StoreError where it has
    no records then, and what `execution.run.run` raises."""
    from .execution import run  # imports torch, without which a finished run can be compared
    from .store import layout

    code = run.run(entry.suite, out, device=device, console=console)
    if code != 130 and not (Path(out) / layout.RECORDS).is_file():
        raise StoreError(f"{out}: nothing was scored, so that there is nothing to compare")
    return code


# ---------------------------------------------------------------------------------------------- what comes out


def outcome(
    run: Path,
    kept: Standings,
    datasets: Sequence[str],
    *,
    methods: Sequence[str] = (),
    metrics: Sequence[str] = (),
    retrain: str | None = None,
    notes: Sequence[str] = (),
) -> Outcome:
    """The methods of a run among the standings; without `methods` all that the standings do not have, each at its
    defaults and after its search. Raises RequestError for what cannot be compared, with the reason, StoreError for a
    run that cannot be read."""
    own = read_run(run)
    shared = [dataset for dataset in datasets if dataset in own.digests]
    if not shared:
        raise RequestError(
            f"{run}: was run on {' and '.join(own.digests)}, and the standings {kept.name!r} are of "
            f"{' and '.join(datasets)}; choose others with --on"
        )
    there = list(dict.fromkeys(entrant.label for entrant in own.entrants if entrant.dataset in shared))
    for label in methods:
        if label not in there:
            raise RequestError(f"{run}: has no method {label!r}{did_you_mean(label, there)}")
    known = {entrant.label for entrant in kept.entrants}
    # What is new in the run; a method of the standings only where it is named.
    chosen = list(methods) or [label for label in there if label not in known and label != retrain]
    if not chosen:
        raise RequestError(
            f"{run}: all of its methods have the names of those in the standings; choose one with --method: "
            f"{', '.join(there)}"
        )
    placed = tuple(placement(own, kept, label, shared, metrics) for label in chosen)
    agreed = agreement(own, kept, retrain, shared) if retrain else None
    pairs: list[str] = []
    if retrain:  # seeds of one machine are paired
        by = metrics or list(dict.fromkeys(kept.by[dataset] for dataset in shared))
        defaults = [label for label in chosen if not any(e.tuned for e in own.entrants if e.label == label)]
        records = own.records[own.records["dataset"].isin(shared)]
        # The retrained method has its default settings, so no tuned one is compared with it.
        pairs = compare(records, retrain, defaults, by).headlines if defaults else []
        pairs = [f"On this machine, with paired seeds: {text}" for text in pairs]
    copies = [text for label, text in copying(open_run(Path(run))).items() if label in chosen]
    return Outcome(kept, own, placed, agreed, tuple(pairs), (*copies, *notes))
