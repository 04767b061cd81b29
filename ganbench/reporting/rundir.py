"""A run directory as tables, plots and reports read it: what was run, how it ended, and what lies beside the
scores. Only what `records.jsonl` names is read, so that cells of an earlier version of the suite stay out."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class ScoreFile:
    """One metric of one seed: its JSON, and the tensors beside it."""

    path: Path
    info: Mapping[str, Any]

    @cached_property
    def details(self) -> dict[str, Any]:
        """What the metric says besides its values: numbers, strings and arrays."""
        tensors = read_arrays(self.path.with_suffix(".safetensors"))
        return {**(self.info.get("details") or {}), **tensors}


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
    def media(self) -> dict[str, Array]:
        """Preview samples, curves and snapshots; empty where there are none."""
        return read_arrays(self.folder / "media.safetensors")

    def details(self, name: str) -> dict[str, Any] | None:
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


@dataclass(frozen=True)
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


Scores = Set[tuple[str, int, str]]  # cell, seed, name of a score's file without its ending


def open_run(folder: Path, records: pd.DataFrame) -> Run:
    """The run directory whose records these are. Raises StoreError for files that cannot be read."""
    plan = read_json(folder / "plan.json")
    current = {
        (cell["cell"], int(seed), f"{metric['metric']}-{key[:12]}")
        for cell in plan.get("cells", ())
        for metric in cell["metrics"]
        for seed, key in metric["keys"].items()
    }
    cells = tuple(_cells(folder, records, current))
    datasets = {label: _dataset(folder, label) for label in dict.fromkeys(records["dataset"])}
    return Run(folder, records, {label: data for label, data in datasets.items() if data}, cells)


def _cells(folder: Path, records: pd.DataFrame, current: Scores) -> Iterator[Cell]:
    for (name, dataset, label), rows in records.groupby(["cell", "dataset", "label"], sort=False):
        path = folder / "cells" / str(name)
        seeds = tuple(_seed(path, own, current) for _, own in rows.groupby("seed"))
        info = read_json(path / "cell.json")
        yield Cell(path, str(dataset), str(label), info, seeds, _median_seed(rows))


def _median_seed(rows: pd.DataFrame) -> int | None:
    good = rows[rows["value"].notna()]
    first = good[good["metric"] == good["metric"].iloc[0]] if len(good) else good
    ranked = first.sort_values(["value", "seed"])["seed"].tolist()
    return int(ranked[(len(ranked) - 1) // 2]) if ranked else None


def _seed(cell: Path, records: pd.DataFrame, current: Scores) -> Seed:
    """Earlier scores stay in the folder; only those of the present plan are taken. A run that was lost has
    left no train.json, so its records tell how it ended."""
    number = int(records["seed"].iloc[0])
    folder = cell / f"seed-{number}"
    ended = {"status": records["status"].iloc[0], "error": records["error"].iloc[0]}
    paths = sorted((folder / "scores").glob("*.json"))
    scores = [ScoreFile(path, read_json(path)) for path in paths if (cell.name, number, path.stem) in current]
    return Seed(number, folder, {**ended, **read_json(folder / "train.json")}, tuple(scores))


def _dataset(folder: Path, label: str) -> Dataset | None:
    path = folder / "datasets" / f"{label}.json"
    arrays = read_arrays(path.with_name(f"{label}.safetensors"))
    return Dataset(label, read_json(path), arrays) if "examples" in arrays else None


# ---------------------------------------------------------------------------------------------- files


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file. Raises StoreError when it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
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
