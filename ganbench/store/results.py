"""The results of a run as tables, plots and reports read them: datasets, cells, seeds, scores with their details. Only
results in `records.jsonl` are read, so that cells of an earlier version of the suite are left out."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..contracts import COLUMNS
from ..errors import StoreError
from . import layout
from .files import REBUILD, Folder
from .protocols import current_protocol
from .rundir import Store

Array = NDArray[Any]


@dataclass(frozen=True)
class Dataset:
    """The preview of a dataset that the run has stored."""

    label: str
    info: Mapping[str, Any]
    arrays: Mapping[str, Array]  # "examples" [n, *shape]; "log_density" [h, w] or [w], "extent" [4] or [2]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.info.get("shape") or self.arrays["examples"].shape[1:])

    @property
    def scale(self) -> tuple[float, float] | None:
        """Least and greatest value; None if unbounded."""
        scale = self.info.get("scale")
        return (float(scale[0]), float(scale[1])) if scale else None

    @property
    def kind(self) -> Literal["image", "line", "plane"]:
        """How examples are drawn: as images, on a line, or as points in a plane (by their first two coordinates)."""
        if len(self.shape) == 3:
            return "image"
        return "line" if int(np.prod(self.shape)) == 1 else "plane"

    @property
    def modes(self) -> tuple[Array, float] | None:
        """Centers [K, d] and standard deviation of the modes of a mixture."""
        modes = self.info.get("modes")
        return (np.asarray(modes["centers"], dtype=float), float(modes["std"])) if modes else None


class LazyTensors(Mapping[str, Any]):
    """The tensors of a safetensors file, and `plain` values, by name. A tensor is read at each access and not cached,
    since the tensors of all seeds of a large run would not fit into memory. Raises StoreError for a damaged file; a
    missing file has no tensors."""

    def __init__(self, files: Folder, path: Path, plain: Mapping[str, Any] | None = None) -> None:
        self.files, self.path, self.plain = files, path, plain or {}
        file = files.open_tensors(path)
        self.tensors = frozenset(file.keys() if file else ())

    def __getitem__(self, name: str) -> Any:
        file = self.files.open_tensors(self.path) if name in self.tensors else None
        return file.get_tensor(name) if file else self.plain[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tensors or name in self.plain

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.tensors | self.plain.keys()))

    def __len__(self) -> int:
        return len(self.tensors | self.plain.keys())


@dataclass(frozen=True)
class ScoreFile:
    """One metric of one seed: its JSON without the records, and its tensors."""

    path: Path
    info: Mapping[str, Any]
    values: tuple[tuple[str, str], ...] = ()  # (metric, protocol) of each of its records
    files: Folder | None = None  # None: it has no tensors

    @cached_property
    def details(self) -> Mapping[str, Any]:
        """The details that the metric returned with its values: numbers, strings and arrays."""
        plain = self.info.get("details") or {}
        return LazyTensors(self.files, self.path.with_suffix(layout.TENSORS), plain) if self.files else plain


@dataclass(frozen=True)
class Seed:
    """One trained replica."""

    number: int
    folder: Path
    info: Mapping[str, Any]  # train.json, at least status and error
    scores: tuple[ScoreFile, ...]
    files: Folder | None = None  # None: it has no tensors

    @property
    def status(self) -> str:
        """The status of its training."""
        return str(self.info["status"])

    @cached_property
    def media(self) -> Mapping[str, Array]:
        """Preview samples, curves and snapshots; empty if there are none."""
        return LazyTensors(self.files, self.folder / layout.MEDIA) if self.files else {}

    def details(self, name: str) -> Mapping[str, Any] | None:
        """The details of the first score that has a detail of this name, such as "counts"."""
        return next((score.details for score in self.scores if name in score.details), None)


@dataclass(frozen=True)
class Cell:
    """One method on one dataset, all seeds."""

    folder: Path
    dataset: str
    label: str
    info: Mapping[str, Any]  # cell.json
    seeds: tuple[Seed, ...]
    shown: int | None  # the seed whose value of the first metric is the median

    @property
    def ok(self) -> tuple[Seed, ...]:
        """The seeds that were trained successfully."""
        return tuple(seed for seed in self.seeds if seed.status == "ok")

    def median(self, name: str = "") -> Seed | None:
        """The seed to show if there is room for one only: the median one, else the first successful one. If `name` is
        given, only seeds with such a detail or such media count."""
        ok = sorted(self.ok, key=lambda seed: seed.number != self.shown)
        return next((s for s in ok if not name or name in s.media or s.details(name) is not None), None)


@dataclass(frozen=True, eq=False)  # compared by identity, so that functions of a run can be cached
class Run:
    """The results in a run directory."""

    files: Store  # access to its directory
    records: pd.DataFrame
    datasets: Mapping[str, Dataset]
    cells: tuple[Cell, ...]
    # Whether plugins that it names may be run, as this process has just run them anyway.
    trusted: bool = False

    @property
    def folder(self) -> Path:
        """The directory."""
        return self.files.root

    @cached_property
    def labels(self) -> list[str]:
        """Labels of the methods, in the suite's order."""
        return list(dict.fromkeys(self.records["label"]))

    def of(self, dataset: str) -> list[Cell]:
        """The cells of a dataset, in the suite's order."""
        return [cell for cell in self.cells if cell.dataset == dataset]


Names = Mapping[int, Sequence[str]]  # seed -> its scores, as paths below the run directory
SeedStatus = dict[str, Any]  # status and error of a seed, from its first record
_NUMBER = (int, float)
_CARD = {  # the type of each entry of a document; entries may be missing
    "training": {
        "status": str,
        "error": str,
        "traceback": str,
        "seconds": _NUMBER,
        "note": str,
        "finished": str,
    },
    "cell": {"params": dict, "trick_params": list, "train": dict, "about": str, "tuned": str},
    "dataset": {"about": str, "shape": list, "scale": list, "modes": dict, "classes": list, "notes": list},
    "score": {
        "metric": str,
        "status": str,
        "error": str,
        "traceback": str,
        "details": dict,
        "protocol_text": str,
    },
}


def open_run(run: Path | Run, *, trusted: bool = False) -> Run:
    """The results in a run directory. A `Run` is returned unchanged, so that tables, figures and report can share one
    and read its files once. `trusted`: see `Run`. Raises StoreError for files that cannot be read, or that no run
    writes."""
    if isinstance(run, Run):
        return run
    # Read-only: tables and reports are also made of other people's runs, in which nothing may be moved or locked.
    files = Store(Path(run), read_only=True)
    records = read_records(files)
    cells = tuple(_cells(files, records))
    datasets = {label: _dataset(files, label) for label in dict.fromkeys(records["dataset"])}
    return Run(files, records, {label: data for label, data in datasets.items() if data}, cells, trusted)


def _cells(files: Store, records: pd.DataFrame) -> Iterator[Cell]:
    """The cells of the records. In plain Python, since grouping a data frame by the seeds of 500 cells takes longer
    than reading all their files."""
    current = files.planned_scores()
    seeds: dict[tuple[str, str, str], dict[int, SeedStatus]] = {}
    values: dict[tuple[str, str, str], list[tuple[str, float, int]]] = {}
    names = ("cell", "dataset", "label", "seed", "status", "error", "metric", "value")
    for name, dataset, label, seed, status, error, metric, value in zip(
        *(records[column].tolist() for column in names), strict=True
    ):
        key = (name, dataset, label)
        seeds.setdefault(key, {}).setdefault(seed, {"status": status, "error": error})
        if not math.isnan(value):
            values.setdefault(key, []).append((metric, value, seed))
    for key, ended in seeds.items():
        name, planned = key[0], current.get(key[0], {})
        path, info = files.root / layout.cell(name), _read_card(files, "cell", layout.cell_card(name))
        own = tuple(_seed(files, name, number, ended[number], planned) for number in sorted(ended))
        # The seed to show: the one with the median value of the first metric (the lower of two medians).
        scored = values.get(key, [])
        ranked = sorted((value, seed) for metric, value, seed in scored if metric == scored[0][0])
        shown = ranked[(len(ranked) - 1) // 2][1] if ranked else None
        yield Cell(path, *key[1:], info, own, shown)


def _seed(files: Store, cell: str, number: int, ended: SeedStatus, planned: Names) -> Seed:
    """One seed. If train.json is missing, as for a seed whose worker was lost, its records give its status."""
    folder = files.path(layout.scores(cell, number))
    # One listing instead of a look for each file: there are a hundred thousand of them in a large run.
    there = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
    names = (name for name in sorted(planned.get(number, ())) if name.rpartition("/")[2] in there)
    scores = tuple(_score(files, name, there) for name in names)
    known = _read_card(files, "training", layout.training(cell, number))
    return Seed(number, folder.parent, {**ended, **known}, scores, files)


def _score(files: Store, name: str, there: Set[str]) -> ScoreFile:
    path, info = files.root / name, _read_card(files, "score", name)
    try:
        rows = info.pop("records", ())
        values = tuple((str(row["metric"]), current_protocol(str(row["protocol"]))) for row in rows)
    except (TypeError, KeyError):
        raise StoreError(f"{path}: 'records' has an entry that is not a record; {REBUILD}") from None
    has_tensors = path.with_suffix(layout.TENSORS).name in there
    return ScoreFile(path, info, values, files if has_tensors else None)


def _dataset(files: Store, label: str) -> Dataset | None:
    name = layout.dataset(label)
    info, path = _read_card(files, "dataset", name), files.path(name)
    arrays = files.read_tensors(path.with_suffix(layout.TENSORS))
    if "examples" not in arrays:
        return None
    try:
        data = Dataset(label, info, arrays)
        _ = data.shape, data.scale, data.kind, data.modes  # computed now, so that errors show now
    except (KeyError, TypeError, ValueError, IndexError):
        raise StoreError(f"{path}: is not the description of a dataset; {REBUILD}") from None
    return data


def _read_card(files: Store, kind: str, name: str) -> dict[str, Any]:
    """A document of this kind; empty if there is none. Raises StoreError for an entry of another type than a run
    writes."""
    path, document = files.root / name, files.read_object(name)
    for key, expected in _CARD[kind].items():
        value = document.get(key)
        if value is not None and (not isinstance(value, expected) or isinstance(value, bool)):
            words = _WORDS[expected if isinstance(expected, type) else float]
            raise StoreError(f"{path}: {key!r} is {_short(value)}, expected {words}; {REBUILD}")
    return document


_WORDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a finite number",
    list: "a list",
    dict: "an object",
}


def _short(value: object) -> str:
    """A JSON value, shortened for a message."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:60]}…"


# ---------------------------------------------------------------------------------------------- records


def read_records(run: Path | Store) -> pd.DataFrame:
    """The records of a run: one row per cell, seed and metric, the columns of `contracts.COLUMNS`.

    `value`, `sem` and `floor` are NaN if there are none. A `protocol` of an earlier version is replaced by the present
    hash of the same protocol (`current_protocol`). Raises StoreError if `records.jsonl` is missing, has been changed
    since the run wrote it (its SHA-256 is stored next to it, except by earlier versions), or has an invalid record.
    """
    files = run if isinstance(run, Store) else Store(Path(run), read_only=True)
    path = files.path(layout.RECORDS)
    try:
        lines = files.read_records().decode().split("\n")
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: cannot be read ({error})") from None
    rows = [_record(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    # Fixed types, also for columns without any value, in which pandas would guess.
    records = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    records["protocol"] = records["protocol"].map(current_protocol)
    numbers = {"value": "float64", "sem": "float64", "n": "Int64", "seconds": "float64"}
    return records.astype({**numbers, "train_seconds": "float64", "floor": "float64"})


_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("seed", "stack"), (int,)),
    "n": (int, NoneType),
    **dict.fromkeys(("seconds", "train_seconds"), (float, int)),
    **dict.fromkeys(("value", "sem", "floor"), (float, int, NoneType)),
    **dict.fromkeys(("error", "invalid"), (str, NoneType)),
    "tricks": (list,),
    "params": (dict,),
}  # by column; all others are text
_EXPECTED = tuple((name, _TYPES.get(name, (str,))) for name in COLUMNS)


def _record(path: Path, number: int, line: str) -> list[object]:
    try:
        row = json.loads(line)
        row = {"floor": None, "invalid": None, **row}  # columns that earlier versions did not have
        values = [row[name] for name in COLUMNS]
    except (ValueError, TypeError, RecursionError):
        raise StoreError(f"{path}:{number}: is not a record in JSON; {REBUILD}") from None
    except KeyError as error:
        raise StoreError(f"{path}:{number}: the record has no {error.args[0]!r}; {REBUILD}") from None
    for value, (name, types) in zip(values, _EXPECTED, strict=True):
        kind = type(value)  # not isinstance, since True must not pass for a number
        finite = math.isfinite(value) if kind is float else kind is not int or abs(value) < 2**63
        if kind not in types or not finite:
            raise StoreError(
                f"{path}:{number}: {name!r} is {_short(value)}, expected {_WORDS[types[0]]}; {REBUILD}"
            )
    return values
