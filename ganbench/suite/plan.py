"""What a suite comes to: cells, and the content keys under which their results are stored.

A cell is a dataset, a method with its tricks and parameters, and all seeds: one stacked execution. Its keys
say what its numbers depend on, and nothing else: the source of the plugins (less comments and docstrings),
their parameters, the data, the budget, the precision and the seed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from .. import registry
from ..errors import PluginError
from .load import DatasetSpec, MethodSpec, PluginSpec, Suite, TrainSettings, slug

PROTOCOL = 2  # goes up when the engine's own arithmetic changes, so that old results are not taken for new
READING = 2  # goes up when files of samples are read in another way


@dataclass(frozen=True)
class Cell:
    """A dataset, a method and all seeds."""

    suite: str
    dataset: DatasetSpec
    method: MethodSpec
    seeds: tuple[int, ...]
    train: TrainSettings  # the suite's, then the dataset's, then the method's
    metrics: tuple[PluginSpec, ...]  # those that apply

    @property
    def label(self) -> str:
        """`<dataset label>-<method label>`."""
        return f"{self.dataset.label}-{self.method.label}"

    @property
    def rung(self) -> Literal["game", "fit", "samples"]:
        """How much of the method ganbench knows: its game, how to train it, or only its samples."""
        return _rung(self.method)

    def key(self, data_digest: str) -> str:
        """Everything that training depends on but the seed, as 64 hexadecimal digits."""
        return _sha256({**self._recipe, "data": data_digest})

    def id(self, data_digest: str) -> str:
        """The name of the cell's folder."""
        names = f"{slug(self.dataset.label)}-{slug(self.method.label)}"
        return f"{names}-{self.key(data_digest)[:12]}"

    def train_key(self, data_digest: str, seed: int) -> str:
        """Everything that the training of this seed depends on."""
        recipe = self._recipe
        if self.rung == "samples":
            recipe = {**recipe, "samples": self._files[self.seeds.index(seed)]}
        return _sha256({**recipe, "data": data_digest, "seed": seed})

    def score_key(self, data_digest: str, seed: int, metric: PluginSpec) -> str:
        """Everything that this score of this seed depends on."""
        return _sha256(
            {
                "train": self.train_key(data_digest, seed),
                "metric": metric.name,
                "source": self._sources[metric.plugin.path],
                "version": metric.plugin.version,
                "params": metric.resolved,
                **file_digests(metric),
            }
        )

    @cached_property
    def _recipe(self) -> dict[str, Any]:
        if self.method.part is None:
            return {"protocol": PROTOCOL, "reading": READING, "samples": self._files}
        # Left out where it is the default, so that keys of results without it stay as they were.
        rounded = {"precision": self.train.precision} if self.train.precision != "float32" else {}
        return {
            "protocol": PROTOCOL,
            "method": identity(self.method.part),
            "tricks": [identity(trick) for trick in self.method.tricks],
            "train": {
                "steps": self.train.steps,
                "batch": self.train.batch,
                "dtype": self.train.dtype,
                **rounded,
            },
        }

    @cached_property
    def _files(self) -> list[str]:
        return [_file_sha256(path) for path in self.method.samples]

    @cached_property
    def _sources(self) -> dict[Path, str]:
        return {metric.plugin.path: registry.digest(metric.plugin.path) for metric in self.metrics}


@dataclass(frozen=True)
class Plan:
    """The cells of a suite, in its order: dataset by dataset, method by method."""

    suite: Suite
    cells: tuple[Cell, ...]


def resolve(suite: Suite) -> Plan:
    """The plan of a suite."""
    cells = tuple(
        _cell(suite, dataset, method)
        for dataset in suite.datasets
        for method in suite.methods
        if method.datasets is None or dataset.label in method.datasets
    )
    return Plan(suite, cells)


def _cell(suite: Suite, dataset: DatasetSpec, method: MethodSpec) -> Cell:
    has = {*dataset.part.plugin.provides, *(["generator"] if _rung(method) == "game" else [])}
    has |= set(method.part.plugin.provides if method.part else ())
    return Cell(
        suite=suite.name,
        dataset=dataset,
        method=method,
        seeds=suite.seeds if method.part else tuple(range(len(method.samples))),
        train=replace(suite.train, **{**dataset.train, **method.train}),
        metrics=tuple(metric for metric in suite.metrics if has.issuperset(metric.plugin.needs)),
    )


def _rung(method: MethodSpec) -> Literal["game", "fit", "samples"]:
    if method.part is None:
        return "samples"
    return "game" if method.part.plugin.rung == "game" else "fit"


def identity(part: PluginSpec) -> dict[str, Any]:
    """What the numbers of a plugin depend on: its source, its parameters, and the files that it reads."""
    inner = {name: identity(one) for name, one in part.parts.items()}  # not where their files lie
    params = {**part.resolved, **inner}
    source = registry.digest(part.plugin.path)
    return {"name": part.name, "source": source, "params": params, **file_digests(part)}


def file_digests(part: PluginSpec) -> dict[str, dict[str, str]]:
    """SHA-256 of the files that a plugin reads, under "files"; empty where it reads none. Raises PluginError."""
    digests = {}
    for name, path in part.files.items():
        try:
            files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
            parts = [(file.relative_to(path).as_posix(), _file_sha256(file)) for file in files]
        except OSError as error:
            raise PluginError(
                f"{part.plugin.path}: {part.name} needs {name!r}, but {path} cannot be read ({error.strerror})"
            ) from None
        digests[name] = parts[0][1] if path.is_file() else _sha256(parts)
    return {"files": digests} if digests else {}


def _sha256(value: Any) -> str:
    """SHA-256 of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    state = path.stat()
    return _content_sha256(path, state.st_mtime_ns, state.st_size)


@cache  # each seed and each metric asks again
def _content_sha256(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
