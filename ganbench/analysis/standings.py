"""The standings: kept scores of every method on the standard datasets, for each seed, and the rank of a new method
among them.

`<suite>.csv` has a row for each dataset, method, seed and value; `<suite>.json` beside it says how they were made: the
machine, the versions, the command, the budget, the protocols, the settings of each method and the search.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import yaml

from .. import registry
from ..contracts import COLUMNS
from ..errors import RequestError, StoreError, did_you_mean
from ..format import plural
from ..store import layout
from ..store.results import read_records
from ..store.rundir import Store
from ..suite.plan import PROTOCOL
from .compare import Comparison, compare
from .search import DatasetSearch, MethodSearch, read_search

FORMAT = 2  # goes up when the files are written in another way
CSV = ("dataset", "label", "seed", "metric", "value", "sem", "floor", "status", "invalid", "train_seconds")
BUDGET = ("steps", "batch", "dtype", "precision")  # what a comparison needs to be equal
HERE = "(here)"  # ends the name of a method that has the name of one in the standings


@dataclass(frozen=True)
class Measure:
    """A value on a dataset and how it is measured."""

    dataset: str
    metric: str
    protocol: str
    unit: str
    better: str
    text: str  # the protocol in words


@dataclass(frozen=True)
class Entrant:
    """A method on a dataset; `tuned`: how its settings were chosen, empty for the defaults."""

    dataset: str
    label: str
    method: str
    tricks: tuple[str, ...]
    params: Mapping[str, Any]
    tuned: str
    interface: str  # "game", "fit" or "samples"
    train: Mapping[str, Any]  # the values of BUDGET


@dataclass(frozen=True)
class Standings:
    """The scores of a suite and how they were made: kept ones, or those of a run that is compared with them.

    records: as `load_records` gives them
    made: the run's environment
    engine: `suite.plan.PROTOCOL` at that time
    digests: SHA-256 of the data by dataset
    by: the value by which the methods are ranked, by dataset
    """

    name: str
    about: str
    made: Mapping[str, Any]
    engine: int
    digests: Mapping[str, str]
    by: Mapping[str, str]
    measures: tuple[Measure, ...]
    entrants: tuple[Entrant, ...]
    searches: tuple[DatasetSearch, ...]
    records: pd.DataFrame

    @property
    def datasets(self) -> tuple[str, ...]:
        """Labels of the datasets, in the suite's order."""
        return tuple(self.digests)

    def budget(self, dataset: str) -> Mapping[str, Any]:
        """The budget of training on a dataset, the same for all methods but for exceptions."""
        # Nothing is known of how samples were trained. An exception is outvoted by the others.
        own = [e.train for e in self.entrants if e.dataset == dataset and e.interface != "samples"]
        return max(own, key=own.count, default={})

    def measure(self, dataset: str, metric: str) -> Measure | None:
        """How a value is measured on a dataset; None where it is not."""
        return next((m for m in self.measures if (m.dataset, m.metric) == (dataset, metric)), None)

    def labels(self, dataset: str, tuned: bool) -> list[str]:
        """The methods that share a table, which are never tuned and untuned ones: at their defaults, or after the
        search, where those with nothing to search stand too."""
        own = [entrant for entrant in self.entrants if entrant.dataset == dataset]
        searched = {entrant.label.removesuffix("-tuned") for entrant in own if entrant.tuned}
        # A rank among tuned and untuned methods would be a rank of the effort that went into their settings.
        return [
            entrant.label
            for entrant in own
            if bool(entrant.tuned) == tuned or (tuned and entrant.label not in searched)
        ]

    def references(self, dataset: str) -> list[str]:
        """Methods that only say what a number means, such as the training examples themselves: they fit by themselves
        and have nothing to search, in standings where the others were searched."""
        # Without any search nothing tells a reference from a method that was left at its defaults.
        tuned = {e.label.removesuffix("-tuned") for e in self.entrants if e.dataset == dataset and e.tuned}
        own = [e for e in self.entrants if e.dataset == dataset and not e.tuned and e.interface == "fit"]
        return [e.label for e in own if e.label not in tuned] if tuned else []

    def rows(self, dataset: str, labels: Sequence[str]) -> pd.DataFrame:
        """The records of some methods on a dataset."""
        return self.records[(self.records["dataset"] == dataset) & self.records["label"].isin(labels)]


# ---------------------------------------------------------------------------------------------- kept files


def folder() -> Path:
    """Where the standings are kept: shipped with ganbench."""
    return registry.shipped("results/reference") / "standings"


def names() -> list[str]:
    """The suites that have kept results."""
    return sorted(path.stem for path in folder().glob("*.csv"))


def load_standings(suite: str) -> pd.DataFrame:
    """The scores of the standings for each seed, as `load_records` gives those of a run: `"points"`, `"digits"` or
    `"mnist"`. `compare` takes them too.

    `<label>` is a method at its defaults, `<label>-tuned` the same after the search. Raises RequestError for a suite
    that has no kept results, StoreError for files that cannot be read.
    """
    return read(suite).records


def read(suite: str) -> Standings:
    """The standings of a suite. Raises RequestError and StoreError as `load_standings`."""
    known = names()
    if suite not in known:
        near = did_you_mean(suite, known) or "; there are none in this installation yet"
        raise RequestError(f"there are no standings {suite!r}{near}")
    path = folder() / f"{suite}.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        # Only an empty field is a missing value: a method may be labelled "NA" or "None".
        table = pd.read_csv(path.with_suffix(".csv"), keep_default_na=False, na_values=[""])
        if document["format"] != FORMAT:
            raise StoreError(f"{path}: has format {document['format']}, and this ganbench reads {FORMAT}")
        return _parsed(document, table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: is no kept standings ({type(error).__name__}: {error})") from None


def _parsed(document: Mapping[str, Any], table: pd.DataFrame) -> Standings:
    measures = tuple(Measure(**entry) for entry in document["measures"])
    entrants = tuple(Entrant(**{**entry, "tricks": tuple(entry["tricks"])}) for entry in document["methods"])
    how = {(m.dataset, m.metric): m for m in measures}
    who = {(e.dataset, e.label): e for e in entrants}
    # The CSV has what differs between seeds. What a method or a value has once stands in the JSON file.
    lines = table[list(CSV)].to_dict("records")
    rows = []
    for line in lines:
        measure, entrant = how[line["dataset"], line["metric"]], who[line["dataset"], line["label"]]
        row = dict.fromkeys(COLUMNS) | {
            **line,
            "suite": document["suite"],
            "invalid": line["invalid"] if isinstance(line["invalid"], str) else None,
            **{name: getattr(measure, name) for name in ("protocol", "unit", "better")},
            **{name: getattr(entrant, name) for name in ("method", "params")},
            **{
                "tricks": list(entrant.tricks),
                "cell": "",  # no run directory has it
                "version": document["made"]["versions"]["ganbench"],
            },
            **{name: document["made"].get(name, "") for name in ("device", "dtype", "stack")},
        }
        rows.append([row[name] for name in COLUMNS])
    numbers = dict.fromkeys(("value", "sem", "seconds", "train_seconds", "floor"), "float64")
    # A column that is not kept, such as `seconds`, would be one of objects.
    records = pd.DataFrame(rows, columns=pd.Index(COLUMNS)).astype({**numbers, "seed": "int64"})
    keys = ("about", "made", "engine", "digests", "by")
    rest = {name: document[name] for name in keys}
    return Standings(
        name=document["suite"],
        measures=measures,
        entrants=entrants,
        searches=_searches(document["search"]),
        records=records,
        **rest,
    )


def _searches(entries: Sequence[Mapping[str, Any]]) -> tuple[DatasetSearch, ...]:
    """Of the settings only those of the best trial are kept; the others follow from the ranges."""
    found: dict[tuple[str, str, str], list[MethodSearch]] = {}
    for one in entries:
        scores, seconds = (
            np.array([[np.nan if x is None else x for x in row] for row in one[name]], dtype=np.float64)
            for name in ("scores", "seconds")
        )
        settings = tuple(one["best"] if number == one["trial"] else {} for number in range(len(scores)))
        method = MethodSearch(one["label"], settings, scores, one["better"], seconds)
        found.setdefault((one["dataset"], one["value"], one["unit"]), []).append(method)
    return tuple(DatasetSearch(*key, tuple(methods)) for key, methods in found.items())


def keep(run: Path, into: Path) -> list[Path]:
    """Write the CSV and JSON files of the standings from a run directory, and return their paths. Raises RequestError
    for a run whose cells are not all there, StoreError for one that cannot be read."""
    read = read_run(run)
    seeds = read.records.groupby(["dataset", "label"])["seed"].nunique()
    counts = cast(Mapping[tuple[str, str], int], seeds.to_dict())
    # A seed that failed has its records too, so a method with fewer seeds was interrupted.
    short = {
        f"{label} on {dataset}": count for (dataset, label), count in counts.items() if count < seeds.max()
    }
    # But a file of samples is a seed, and there may be fewer files than seeds of other methods.
    samples = {f"{e.label} on {e.dataset}" for e in read.entrants if e.interface == "samples"}
    missing = [
        f"{e.label} on {e.dataset}" for e in read.entrants if (e.dataset, e.label) not in seeds.index
    ] + [f"{who} ({count} of {seeds.max()} seeds)" for who, count in short.items() if who not in samples]
    if missing:
        raise RequestError(f"{run}: is not complete: {', '.join(missing)}; run its suite again to finish it")
    return write(read, into)


def write(read: Standings, into: Path) -> list[Path]:
    """Write the CSV and JSON files and return their paths."""
    into.mkdir(parents=True, exist_ok=True)
    table = read.records.assign(train_seconds=read.records["train_seconds"].round(2))[list(CSV)]
    # Seven digits, about as many as float32 has; the same bytes on every system.
    table.to_csv(into / f"{read.name}.csv", index=False, float_format="%.7g", lineterminator="\n")
    # The environment without what only its machine knows: schema and checksum of the file, and folders in the command.
    made = {name: value for name, value in read.made.items() if name not in ("schema", "checksum")}
    words = re.sub(r" --out[ =]\S+", "", str(made.get("command", ""))).split(" ")
    made["command"] = " ".join(Path(word).name if word.startswith(("/", "~")) else word for word in words)
    document = {
        "format": FORMAT,
        "suite": read.name,
        "about": read.about,
        "made": made,
        **{name: getattr(read, name) for name in ("engine", "digests", "by")},
        "measures": [vars(measure) for measure in read.measures],
        "methods": [vars(entrant) for entrant in read.entrants],
        "search": [entry for search in read.searches for entry in _plain(search)],
    }
    (into / f"{read.name}.json").write_text(_lines(document), encoding="utf-8")
    return [into / f"{read.name}.csv", into / f"{read.name}.json"]


def _plain(search: DatasetSearch) -> list[dict[str, Any]]:
    return [
        {
            **{"dataset": search.dataset, "value": search.value, "unit": search.unit, "label": method.label},
            "better": method.better,
            "trial": method.best,
            "best": dict(method.settings[method.best]),
            **{
                name: [[float(f"{x:.{digits}g}") if np.isfinite(x) else None for x in row] for row in numbers]
                for name, numbers, digits in (("scores", method.scores, 7), ("seconds", method.seconds, 3))
            },
        }
        for method in search.methods
    ]


def _lines(document: Mapping[str, Any]) -> str:
    """JSON with a line for each key, and for each object of a list, so that a change shows as its lines."""

    def plain(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def entry(value: Any) -> str:
        return (
            "[\n" + ",\n".join(f"  {plain(one)}" for one in value) + "\n ]"
            if isinstance(value, list)
            else plain(value)
        )

    return "{\n" + ",\n".join(f" {plain(name)}: {entry(value)}" for name, value in document.items()) + "\n}\n"


# ---------------------------------------------------------------------------------------------- runs


def read_run(run: Path) -> Standings:
    """The same of a run directory. Raises StoreError for one that cannot be read."""
    store = Store(Path(run), read_only=True)
    records = read_records(store)
    plan = store.read_object(layout.PLAN)
    resolved = yaml.safe_load(store.read_text(layout.SUITE) or "") or {}
    shipped = str((plan.get("source") or {}).get("shipped") or "")
    # A search chooses settings on each dataset, so an entry of a tuned method is limited to one of them.
    tuned = {
        (dataset, str(entry["label"])): str(entry.get("tuned") or "")
        for entry in resolved.get("methods", ())
        for dataset in entry.get("datasets") or [one["label"] for one in resolved.get("datasets", ())]
    }
    entrants: list[Entrant] = []
    measures: dict[tuple[str, str], Measure] = {}
    for cell in plan.get("cells", ()):
        card = store.read_object(layout.cell_card(cell["cell"]))
        dataset, label = str(card["dataset"]), str(card["label"])
        budget = {name: card["train"][name] for name in BUDGET}
        params = dict(card["params"])
        for trick in card.get("trick_params") or ():
            params |= {f"{trick['name']}.{name}": value for name, value in trick["params"].items()}
        how = tuned.get((dataset, label), "")
        tricks = tuple(card["tricks"])
        entrants.append(
            Entrant(dataset, label, card["method"], tricks, params, how, card["interface"], budget)
        )
        for metric in cell["metrics"]:
            for value in metric["values"]:
                about = {name: value[name] for name in ("unit", "better")}
                measure = Measure(
                    dataset, value["name"], metric["protocol"], **about, text=metric["protocol_text"]
                )
                measures[dataset, value["name"]] = measure
    datasets = list(dict.fromkeys(entrant.dataset for entrant in entrants))
    searches = read_search(store)
    # Rank by what the search has judged by; else by the first value of the suite that has a better side.
    by = {dataset: _first(measures, dataset) for dataset in datasets}
    by |= {search.dataset: search.value for search in searches}
    cards = {dataset: store.read_object(layout.dataset(dataset)) for dataset in datasets}
    return Standings(
        name=shipped or str(plan.get("suite", "")).removeprefix("standings-"),
        about=str(plan.get("about", "")),
        made=store.read_object(layout.ENVIRONMENT),
        engine=PROTOCOL,
        digests={dataset: str(card.get("digest", "")) for dataset, card in cards.items()},
        by=by,
        measures=tuple(measures.values()),
        entrants=tuple(entrants),
        searches=searches,
        records=records,
    )


def _first(measures: Mapping[tuple[str, str], Measure], dataset: str) -> str:
    """The first value of a dataset that can be ranked; empty where there is none."""
    own = [m for (where, _), m in measures.items() if where == dataset and m.better != "neither"]
    return own[0].metric if own else ""


# ---------------------------------------------------------------------------------------------- on what


def locate(on: str) -> tuple[Standings, tuple[str, ...]]:
    """The standings that are meant, and which of their datasets: all of a suite, or one by its name.
    Raises RequestError with the nearest name."""
    known = names()
    if on in known:
        found = read(on)
        return found, found.datasets
    everything = {dataset: one for one in map(read, known) for dataset in one.datasets}
    if on not in everything:
        near = did_you_mean(on, {*known, *everything}) or "; no standings are kept in this installation yet"
        raise RequestError(f"--on {on}: no standings have this dataset{near}")
    return everything[on], (on,)


# ---------------------------------------------------------------------------------------------- places


@dataclass(frozen=True)
class Place:
    """Where a method stands on a dataset by one value.

    rank: by the mean over seeds, 1 the best; a method without a good seed is last
    low, high: 95 % interval of the rank. One more than those that are better, and the number of methods less those
        that are worse, by tests that are corrected over all methods: so it holds the rank of the true means with
        probability 0.95 or more (Mogstad, Romano, Shaikh & Wilhelm 2024, Review of Economic Studies 91:476, of
        one-step procedures)
    methods: how many are ranked, this one too; references are not
    means: of all of them and of the references, by label
    """

    dataset: str
    metric: str
    rank: int
    low: int
    high: int
    methods: int
    means: Mapping[str, float]


@dataclass(frozen=True)
class Placement:
    """One method of a run among the standings. `compared`: with each of the others, on every dataset at once.
    `references`: labels that take no part in ranks and tests."""

    label: str
    tuned: bool
    references: tuple[str, ...]
    places: tuple[Place, ...]
    compared: Comparison
    records: pd.DataFrame  # its own and those of the standings that it is ranked among


def placement(
    own: Standings, kept: Standings, label: str, datasets: Sequence[str], metrics: Sequence[str] = ()
) -> Placement:
    """Rank a method of a run among kept standings, by `metrics`, or else by what each dataset is ranked by.

    The seeds have nothing in common, since two machines share no numbers: Welch's test, corrected by Holm's method over
    all methods, datasets and metrics. Raises RequestError where something is not measured alike.
    """
    mine = [e for e in own.entrants if e.label == label and e.dataset in datasets]
    tuned = any(entrant.tuned for entrant in mine)
    # A method of the standings that was trained here too does not mix with its kept seeds.
    name = f"{label} {HERE}" if any(e.label == label for e in kept.entrants) else label
    frames, pairs = [], []
    opponents: dict[str, None] = {}
    references: dict[str, None] = {}
    for entrant in mine:
        dataset = entrant.dataset
        refuse(own, kept, entrant, list(metrics) or [kept.by[dataset]])
        labels = kept.labels(dataset, tuned)
        references |= dict.fromkeys(kept.references(dataset))
        opponents |= dict.fromkeys(label for label in labels if label not in references)
        pairs += [(dataset, metric) for metric in metrics or [kept.by[dataset]]]
        # A value by another protocol is left out of the tables; only one that ranks is an error.
        alike = [m.metric for m in kept.measures if m.dataset == dataset and _same(own, m)]
        theirs = own.rows(dataset, [label]).assign(label=name)
        # Other numbers than those of the standings: the same number is not the same seed on another machine.
        theirs = theirs.assign(seed=-1 - theirs["seed"])
        both = pd.concat([kept.rows(dataset, labels), theirs], ignore_index=True)
        frames.append(both[both["metric"].isin(alike)])
    if not frames:
        raise RequestError(f"{label!r} was not run on {' or '.join(datasets)}")
    records = pd.concat(frames, ignore_index=True)
    # Only what ranks is tested: every other value would make the correction stricter.
    tested = records[[pair in set(pairs) for pair in zip(records["dataset"], records["metric"], strict=True)]]
    there = set(tested["label"])  # some values are not measured of all methods
    compared = compare(tested, baseline=[label for label in opponents if label in there], method=[name])
    places = tuple(_place(compared, tested, name, list(references), *pair) for pair in pairs)
    return Placement(name, tuned, tuple(references), places, compared, records)


def _place(
    compared: Comparison,
    records: pd.DataFrame,
    name: str,
    references: Sequence[str],
    dataset: str,
    metric: str,
) -> Place:
    own = records[(records["dataset"] == dataset) & (records["metric"] == metric)]
    sign = -1.0 if "lower" in set(own["better"]) else 1.0
    good = own["value"].where(own["status"] == "ok")
    means = {str(label): float(mean) for label, mean in good.groupby(own["label"], sort=False).mean().items()}
    ranked = {label: mean for label, mean in means.items() if label not in references}
    # A method without a good seed is last; those with equal means share the better rank.
    goodness = {label: -math.inf if math.isnan(mean) else sign * mean for label, mean in ranked.items()}
    rank = 1 + sum(value > goodness[name] for value in goodness.values())
    rows = compared.rows[(compared.rows["dataset"] == dataset) & (compared.rows["metric"] == metric)]
    counts = rows["verdict"].value_counts()
    low, high = 1 + int(counts.get("worse", 0)), len(goodness) - int(counts.get("better", 0))
    # Verdicts also count failed seeds, means do not, so the rank by the mean may lie outside.
    return Place(dataset, metric, rank, min(low, rank), max(high, rank), len(goodness), means)


def _same(own: Standings, measure: Measure) -> bool:
    found = own.measure(measure.dataset, measure.metric)
    return found is not None and found.protocol == measure.protocol


def refuse(own: Standings, kept: Standings, entrant: Entrant, metrics: Sequence[str]) -> None:
    """Raises RequestError where a method was trained on other data or for another budget than the standings, or by
    another version of the engine, or is not measured by their protocols."""
    dataset, where = entrant.dataset, f"{entrant.label} on {entrant.dataset}"
    if own.digests[dataset] != kept.digests[dataset]:
        raise RequestError(
            f"{where}: the data are not those of the standings (SHA-256 {own.digests[dataset][:12]} here, "
            f"{kept.digests[dataset][:12]} there); take the dataset with the parameters of the suite {kept.name!r}"
        )
    if own.engine != kept.engine:
        raise RequestError(
            f"{where}: this version of ganbench computes otherwise than the one that made the standings (engine "
            f"{own.engine} here, {kept.engine} there); install the version of the standings, "
            f"{kept.made['versions']['ganbench']}, or wait for new ones"
        )
    # Samples were trained elsewhere, for a budget that nobody can check.
    here, there = entrant.train, kept.budget(dataset)
    differ = [name for name in BUDGET if here.get(name) != there.get(name)]
    if differ and entrant.interface != "samples":
        each = "; ".join(f"{name} {here.get(name)} here, {there.get(name)} there" for name in differ)
        raise RequestError(
            f"{where}: was not trained for the budget of the standings ({each}); set these under `train` in its suite"
        )
    for metric in metrics:
        theirs, mine = kept.measure(dataset, metric), own.measure(dataset, metric)
        ranked = [m.metric for m in kept.measures if m.dataset == dataset and m.better != "neither"]
        if theirs is None or theirs.better == "neither":
            raise RequestError(
                f"the standings on {dataset} are not ranked by {metric!r}{did_you_mean(metric, ranked)}"
            )
        if mine is None:
            raise RequestError(
                f"{where}: was not scored by {metric}, by which the standings are ranked; add it to the `metrics` of "
                f"its suite, or choose another with --metric ({', '.join(ranked)})"
            )
        if mine.protocol != theirs.protocol:
            raise RequestError(
                f"{where}: {metric} was measured by another protocol than in the standings, so the two are not "
                f"compared\n  here ({mine.protocol}): {mine.text}\n  there ({theirs.protocol}): {theirs.text}\nscore "
                "it by that protocol (another version or other parameters of the metric), or choose another --metric"
            )


# ---------------------------------------------------------------------------------------------- this machine


@dataclass(frozen=True)
class Agreement:
    """A method of the standings that was trained here as well, against its kept scores.

    compared: by every value that can be ranked, Welch's test, Holm's correction
    same, values: how many values of the same seed are the same to five digits
    """

    label: str
    compared: Comparison
    same: int
    values: int

    @property
    def agrees(self) -> bool | None:
        """Whether no difference was found; None where nothing could be tested."""
        rows = self.compared.rows
        if set(rows["verdict"]) & {"better", "worse"}:
            return False
        # With one good seed on a side there is no test of means, and silence is no agreement.
        return True if (rows["test"] == "Welch").all() else None


def agreement(own: Standings, kept: Standings, label: str, datasets: Sequence[str]) -> Agreement:
    """Whether this machine gives the kept numbers again, by a method that was trained on both.
    Raises RequestError as `placement`, and where the method here has other settings than there."""
    frames, same, values = [], 0, 0
    for dataset in datasets:
        here, there = (
            next((e for e in one.entrants if (e.dataset, e.label) == (dataset, label)), None)
            for one in (own, kept)
        )
        if here is None or there is None:
            continue
        refuse(own, kept, here, ())
        # JSON has lists for tuples
        if json.loads(json.dumps(here.params)) != json.loads(json.dumps(there.params)):
            raise RequestError(f"{label} on {dataset}: has other parameters here than in the standings")
        shared = [
            m.metric
            for m in kept.measures
            if m.dataset == dataset and m.better != "neither" and _same(own, m)
        ]
        a, b = (one.rows(dataset, [label]) for one in (own, kept))
        a, b = (rows[rows["metric"].isin(shared)] for rows in (a, b))
        # Another processor rounds in another way, and training magnifies that: few seeds may agree in all digits.
        both = a.merge(b, on=["metric", "seed"], suffixes=("", "_kept"))
        same += int(
            np.isclose(both["value"], both["value_kept"], rtol=1e-5, atol=1e-12, equal_nan=True).sum()
        )
        values += len(both)
        # Other numbers of seeds, as in `placement`, so that they are not paired.
        frames += [a.assign(label=f"{label} {HERE}", seed=-1 - a["seed"]), b]
    if not frames:
        raise RequestError(
            f"{label!r} was not run on {plural(len(datasets), 'dataset')} of the standings here"
        )
    compared = compare(pd.concat(frames, ignore_index=True), baseline=[label], method=[f"{label} {HERE}"])
    return Agreement(label, compared, same, values)
