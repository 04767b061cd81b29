"""A run directory as tables, plots and reports read it: what was run, how it ended, and what lies beside the
scores. Only what `records.jsonl` names is read, so that cells of an earlier version of the suite stay out."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..contracts import COLUMNS
from ..errors import StoreError

Array = NDArray[Any]


@dataclass(frozen=True)
class Dataset:
    """A dataset as the run describes it."""

    label: str
    info: Mapping[str, Any]
    arrays: Mapping[str, Array]  # "examples" [n, *shape]; "log_density" [h, w] or [w], "extent" [4] or [2]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.info.get("shape") or self.arrays["examples"].shape[1:])

    @property
    def scale(self) -> tuple[float, float] | None:
        """Least and greatest value, where there is one."""
        scale = self.info.get("scale")
        return (float(scale[0]), float(scale[1])) if scale else None

    @property
    def kind(self) -> Literal["image", "line", "plane"]:
        """How examples are drawn: as pictures, on a line, or as points (of which two coordinates show)."""
        if len(self.shape) == 3:
            return "image"
        return "line" if int(np.prod(self.shape)) == 1 else "plane"

    @property
    def modes(self) -> tuple[Array, float] | None:
        """Centers [K, d] and standard deviation of the modes of a mixture."""
        modes = self.info.get("modes")
        return (np.asarray(modes["centers"], dtype=float), float(modes["std"])) if modes else None


class Kept(Mapping[str, Any]):
    """The tensors of a safetensors file, and `plain` values beside them, by name. A tensor is read when it is asked
    for and not kept: what all seeds of a large run hold would not fit into memory. Raises StoreError for a file that
    is damaged; one that is missing holds nothing."""

    def __init__(self, path: Path, plain: Mapping[str, Any] | None = None) -> None:
        self.path, self.plain = path, plain or {}
        file = self._opened()
        self.tensors = frozenset(file.keys() if file else ())

    def _opened(self) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            return safe_open(self.path, framework="numpy")
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"{self.path}: cannot be read as safetensors ({error}); run the suite again to rebuild it"
            ) from None

    def __getitem__(self, name: str) -> Any:
        file = self._opened() if name in self.tensors else None
        return file.get_tensor(name) if file else self.plain[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tensors or name in self.plain

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.tensors | self.plain.keys()))

    def __len__(self) -> int:
        return len(self.tensors | self.plain.keys())


@dataclass(frozen=True)
class ScoreFile:
    """One metric of one seed: its JSON less its records, and the tensors beside it."""

    path: Path
    info: Mapping[str, Any]
    values: tuple[tuple[str, str], ...] = ()  # (metric, protocol) of each of its records
    bare: bool = False  # no tensors lie beside it

    @cached_property
    def details(self) -> Mapping[str, Any]:
        """What the metric says besides its values: numbers, strings and arrays."""
        found = self.info.get("details") or {}
        return found if self.bare else Kept(self.path.with_suffix(".safetensors"), found)


@dataclass(frozen=True)
class Seed:
    """One trained replica."""

    number: int
    folder: Path
    info: Mapping[str, Any]  # train.json, at least status and error
    scores: tuple[ScoreFile, ...]

    @property
    def status(self) -> str:
        """How its training ended."""
        return str(self.info["status"])

    @cached_property
    def media(self) -> Mapping[str, Array]:
        """Preview samples, curves and snapshots; empty where there are none."""
        return Kept(self.folder / "media.safetensors")

    def details(self, name: str) -> Mapping[str, Any] | None:
        """Details of the score that has one of this name, such as "counts"."""
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
        """Seeds whose training went well."""
        return tuple(seed for seed in self.seeds if seed.status == "ok")

    def median(self, name: str = "") -> Seed | None:
        """The seed to show where only one has room: the median one, else the first whose training went well
        and, if `name` is given, which has such a detail or such media."""
        ok = sorted(self.ok, key=lambda seed: seed.number != self.shown)
        return next((s for s in ok if not name or name in s.media or s.details(name) is not None), None)


@dataclass(frozen=True, eq=False)  # identity: what is derived from a run can be cached
class Run:
    """A run directory."""

    folder: Path
    records: pd.DataFrame
    datasets: Mapping[str, Dataset]
    cells: tuple[Cell, ...]

    @cached_property
    def labels(self) -> list[str]:
        """Labels of the methods, in the suite's order."""
        return list(dict.fromkeys(self.records["label"]))

    def of(self, dataset: str) -> list[Cell]:
        """The cells of a dataset, in the suite's order."""
        return [cell for cell in self.cells if cell.dataset == dataset]


Names = Mapping[int, Sequence[str]]  # seed -> names of its scores' files, without their endings
Ended = dict[str, Any]  # status and error, as the first record of a seed has them


def open_run(run: Path | Run) -> Run:
    """A run directory with its records, unless it is open already: tables, figures and report can share one, so that
    its files are read once. Raises StoreError for files that cannot be read."""
    if isinstance(run, Run):
        return run
    folder, records = Path(run), read_records(run)
    cells = tuple(_cells(folder, records))
    datasets = {label: _dataset(folder, label) for label in dict.fromkeys(records["dataset"])}
    return Run(folder, records, {label: data for label, data in datasets.items() if data}, cells)


def _cells(folder: Path, records: pd.DataFrame) -> Iterator[Cell]:
    """In plain Python: a data frame for each seed of 500 cells takes longer than to read what lies beside it."""
    current = _planned(folder)
    seeds: dict[tuple[str, str, str], dict[int, Ended]] = {}
    values: dict[tuple[str, str, str], list[tuple[str, float, int]]] = {}
    names = ("cell", "dataset", "label", "seed", "status", "error", "metric", "value")
    for name, dataset, label, seed, status, error, metric, value in zip(
        *(records[column].tolist() for column in names), strict=True
    ):
        key = (str(name), str(dataset), str(label))
        seeds.setdefault(key, {}).setdefault(int(seed), {"status": status, "error": error})
        if not math.isnan(value):
            values.setdefault(key, []).append((metric, value, int(seed)))
    for key, ended in seeds.items():
        path, planned = folder / "cells" / key[0], current.get(key[0], {})
        found = tuple(_seed(path, number, ended[number], planned) for number in sorted(ended))
        yield Cell(path, *key[1:], read_json(path / "cell.json"), found, _median_seed(values.get(key, ())))


def _planned(folder: Path) -> Mapping[str, Names]:
    """The scores of the present plan by cell: earlier ones stay in the folder, but are not read."""
    found: dict[str, dict[int, list[str]]] = {}
    for cell in read_json(folder / "plan.json").get("cells", ()):
        seeds = found.setdefault(cell["cell"], {})
        for metric in cell["metrics"]:
            for seed, key in metric["keys"].items():
                seeds.setdefault(int(seed), []).append(f"{metric['metric']}-{key[:12]}")
    return found


def _median_seed(values: Sequence[tuple[str, float, int]]) -> int | None:
    """The seed with the median of the first metric, of (metric, value, seed)."""
    ranked = sorted(pair[1:] for pair in values if pair[0] == values[0][0])
    return ranked[(len(ranked) - 1) // 2][1] if ranked else None


def _seed(cell: Path, number: int, ended: Ended, planned: Names) -> Seed:
    """A run that was lost has left no train.json, so its records tell how it ended."""
    folder = cell / f"seed-{number}"
    scores = folder / "scores"
    there = frozenset(os.listdir(scores)) if scores.is_dir() else frozenset()
    found = [
        _score(scores, name, there) for name in sorted(planned.get(number, ())) if f"{name}.json" in there
    ]
    return Seed(number, folder, {**ended, **read_json(folder / "train.json")}, tuple(found))


def _score(folder: Path, name: str, there: Set[str]) -> ScoreFile:
    path = folder / f"{name}.json"
    info = read_json(path)
    values = tuple((record["metric"], record["protocol"]) for record in info.pop("records", ()))
    return ScoreFile(path, info, values, bare=f"{name}.safetensors" not in there)


def _dataset(folder: Path, label: str) -> Dataset | None:
    path = folder / "datasets" / f"{label}.json"
    arrays = read_arrays(path.with_name(f"{label}.safetensors"))
    return Dataset(label, read_json(path), arrays) if "examples" in arrays else None


# ---------------------------------------------------------------------------------------------- records


def read_records(run_dir: Path) -> pd.DataFrame:
    """The records of a run: one row per cell, seed and metric, the columns of `contracts.COLUMNS`.

    `value`, `sem` and `floor` are NaN where there are none. Raises StoreError where `records.jsonl` is missing, is
    damaged or lacks a column.
    """
    path = Path(run_dir) / "records.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no such file; expected the directory that `run` wrote") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from None
    rows = [_record(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    records = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    numbers = {"value": "float64", "sem": "float64", "n": "Int64", "seconds": "float64"}
    return records.astype({**numbers, "train_seconds": "float64", "floor": "float64"})


def _record(path: Path, number: int, line: str) -> list[object]:
    try:
        row = json.loads(line)
        row = {"floor": None, "invalid": None, **row}  # earlier versions did not have them
        return [row[name] for name in COLUMNS]
    except (ValueError, TypeError):
        raise StoreError(
            f"{path}:{number}: is not a record in JSON; run the suite again to rebuild it"
        ) from None
    except KeyError as error:
        raise StoreError(
            f"{path}:{number}: the record has no {error.args[0]!r}; run the suite again to rebuild it"
        ) from None


# ---------------------------------------------------------------------------------------------- files


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file. Raises StoreError when it is damaged."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path}: cannot be read as JSON ({error}); run the suite again to rebuild it"
        ) from None
    if not isinstance(found, dict):
        raise StoreError(f"{path}: holds a JSON {type(found).__name__}, expected an object")
    return found


def read_arrays(path: Path) -> dict[str, Array]:
    """The tensors of a safetensors file; empty where there is no file. Raises StoreError when it is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{path}: cannot be read as safetensors ({error}); run the suite again to rebuild it"
        ) from None


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all. Raises StoreError where that is not possible."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # the folder may be a file
            temporary.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written ({error})") from None
    return path


def file_name(*parts: str) -> str:
    """`-`-joined parts as a portable file name; parts that had to be changed get a digest, to stay apart."""
    safe = [re.sub(r"[^A-Za-z0-9._+=@-]", "_", part) for part in parts]
    name = "-".join(safe)
    if safe == list(parts) and len(name) < 120:
        return name
    return f"{name[:100]}-{hashlib.sha256('-'.join(parts).encode()).hexdigest()[:6]}"
