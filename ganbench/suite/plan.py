"""The cells of a suite, and the content keys under which their results are stored.

A cell is a dataset, a method with its tricks and parameters, and all seeds: one stacked execution. Its keys
hash exactly what its numbers depend on: the source of the plugins (without comments and docstrings), their
parameters, the data, the budget, the precision and the seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from .. import registry
from ..contracts import Data
from ..errors import PluginError, RequestError, StoreError, SuiteError, SuiteIssue, did_you_mean
from . import nodes
from .load import DatasetSpec, MethodSpec, PluginSpec, Suite, TrainSettings, slug
from .nodes import YamlNode
from .normalise import KEYS
from .reader import Cursor, Reader

# Increased when the engine's own arithmetic changes, so that old results are not taken for new ones.
PROTOCOL = 2
READING = 2  # increased when the way in which files of samples are read changes


@dataclass(frozen=True)
class Cell:
    """A dataset, a method and all seeds. With the digest of the data it has the keys of its results."""

    suite: str
    dataset: DatasetSpec
    method: MethodSpec
    seeds: tuple[int, ...]
    train: TrainSettings  # the suite's, then the dataset's, then the method's
    metrics: tuple[PluginSpec, ...]  # those that apply
    digest: str | None = None  # of the data; None before they are loaded, when the cell has no keys
    protocols: tuple[tuple[str, str], ...] = ()  # of each metric: short hash, sentence
    size: int = 1  # numbers in an example
    min_samples: int = 0  # samples that must be stored of each seed for its metrics
    # 64 hexadecimal digits each: hash of everything but the seed that training depends on,
    key: str = field(init=False, default="")
    # the same with the seed, by seed,
    train_keys: Mapping[int, str] = field(init=False, default_factory=dict)
    # and of each metric with its training, by seed.
    score_keys: tuple[Mapping[int, str], ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        # Hashed now and not when a worker asks: results belong to the sources and files as they were when the run
        # began. `replace(cell, digest=...) == cell` tests whether they have changed since.
        if self.digest is None:
            return
        if self.method.part is None:
            files = [_file_sha256(path) for path in self.method.samples]
            shared: dict[str, Any] = {"protocol": PROTOCOL, "reading": READING, "data": self.digest}
            key = _sha256({**shared, "samples": files})
            trainings = {
                seed: {**shared, "samples": file} for seed, file in zip(self.seeds, files, strict=True)
            }
        else:
            shared = {
                "protocol": PROTOCOL,
                "method": identity(self.method.part),
                "tricks": [identity(trick) for trick in self.method.tricks],
                "train": {
                    "steps": self.train.steps,
                    "batch": self.train.batch,
                    "dtype": self.train.dtype,
                    # Left out where it is the default, so that keys of results without it stay as they were.
                    **({} if self.train.precision == "float32" else {"precision": self.train.precision}),
                },
                "data": self.digest,
            }
            key, trainings = _sha256(shared), dict.fromkeys(self.seeds, shared)
        train_keys = {seed: _sha256({**one, "seed": seed}) for seed, one in trainings.items()}
        score_keys = []
        for metric in self.metrics:
            one = {
                "metric": metric.name,
                "source": registry.digest(metric.plugin.path),
                "version": metric.plugin.version,
                "params": metric.resolved,
                **file_digests(metric),
            }
            score_keys.append({seed: _sha256({**one, "train": train}) for seed, train in train_keys.items()})
        for name, value in (("key", key), ("train_keys", train_keys), ("score_keys", tuple(score_keys))):
            object.__setattr__(self, name, value)  # the dataclass is frozen

    @property
    def label(self) -> str:
        """`<dataset label>-<method label>`."""
        return f"{self.dataset.label}-{self.method.label}"

    @property
    def id(self) -> str:
        """The name of the cell's folder; "" before the data are loaded."""
        return f"{slug(self.dataset.label)}-{slug(self.method.label)}-{self.key[:12]}" if self.key else ""

    @property
    def interface(self) -> Literal["game", "fit", "samples"]:
        """How the method is given: as a game, with a training loop of its own (fit), or as samples only."""
        return _interface(self.method)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that all records of the cell share."""
        part, tricks = self.method.part, self.method.tricks
        params = dict(part.resolved) if part else {}
        params |= {f"{t.name}.{name}": value for t in tricks for name, value in t.resolved.items()}
        return {
            "suite": self.suite,
            "dataset": self.dataset.label,
            "method": part.plugin.name if part else "samples",
            "label": self.method.label,
            "tricks": [trick.name for trick in tricks],
            "params": params,
            "cell": self.id,
        }


def make_cells(suite: Suite) -> tuple[Cell, ...]:
    """The cells of a suite, dataset by dataset and method by method; they have no keys, since no data are loaded."""
    return tuple(
        _cell(suite, dataset, method)
        for dataset in suite.datasets
        for method in suite.methods
        if method.datasets is None or dataset.label in method.datasets
    )


def read_cell(path: Path, label: str, dataset: str | None = None) -> Cell:
    """One cell of a resolved suite, without its metrics. No other method, dataset or metric of the suite is read, so
    their files may be broken or missing. Raises RequestError if there is no such cell, SuiteError for mistakes."""
    issues: list[SuiteIssue] = []
    root, text = nodes.read(path, issues)
    try:
        datasets = {node.value["label"].value: node for node in root.value["datasets"].value}
        methods = [(node.value["label"].value, dict(node.value)) for node in root.value["methods"].value]
        # Two methods may have one label on different datasets, as tuned ones do. Without `datasets`: on all.
        own = {
            name: method
            for method in (method for other, method in methods if other == label)
            for name in (method["datasets"].plain() if "datasets" in method else datasets)
        }
        if not own:
            others = [other for other, _ in methods]
            raise RequestError(f"no method has the label {label!r}{did_you_mean(label, others)}")
        if dataset is None and len(own) > 1:
            raise RequestError(f"{label!r} was run on several datasets; say which: {', '.join(own)}")
        if dataset not in (None, *own):
            raise RequestError(f"{label!r} was not run on {dataset!r}{did_you_mean(str(dataset), own)}")
        name = dataset or next(iter(own))
        dataset_node, method_node = datasets[name], own[name]
        method_node.pop("datasets", None)  # it may name datasets that are not read here
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise StoreError(
            f"{path}: is not the resolved suite of a run; run the suite again to rebuild it"
        ) from None
    reader, position = Reader(path, issues), root.position
    entry = YamlNode(method_node, position, dict.fromkeys(method_node, position))
    keys = Cursor(root, "", issues).fields(KEYS)
    # The dataset first: the method's `needs` are checked against it.
    reader.valid_datasets = reader.datasets(Cursor(YamlNode([dataset_node], position), "datasets", issues))
    suite = Suite(
        name=str(root.value["name"].value) if "name" in root.value else path.stem,
        about="",
        seeds=reader.seeds(keys["seeds"]),
        train=TrainSettings(**reader.train(keys["train"])),
        datasets=tuple(reader.valid_datasets),
        methods=tuple(reader.methods(Cursor(YamlNode([entry], position), "methods", issues))),
        metrics=(),
        path=path,
        source_text=text,
    )
    if issues:
        raise SuiteError(issues)
    return make_cells(suite)[0]


def _cell(suite: Suite, dataset: DatasetSpec, method: MethodSpec) -> Cell:
    has = {*dataset.part.plugin.provides, *(["generator"] if _interface(method) == "game" else [])}
    has |= set(method.part.plugin.provides if method.part else ())
    return Cell(
        suite=suite.name,
        dataset=dataset,
        method=method,
        seeds=suite.seeds if method.part else tuple(range(len(method.samples))),
        train=replace(suite.train, **{**dataset.train, **method.train}),
        metrics=tuple(metric for metric in suite.metrics if has.issuperset(metric.plugin.needs)),
    )


def _interface(method: MethodSpec) -> Literal["game", "fit", "samples"]:
    if method.part is None:
        return "samples"
    return "game" if method.part.plugin.interface == "game" else "fit"


def identity(part: PluginSpec) -> dict[str, Any]:
    """Everything that the numbers of a plugin depend on: its source, its parameters, and the files that it reads."""
    # A plugin in a parameter counts by its own identity, not by the path of its file.
    inner = {name: identity(one) for name, one in part.parts.items()}
    params = {**part.resolved, **inner}
    source = registry.digest(part.plugin.path)
    return {"name": part.name, "source": source, "params": params, **file_digests(part)}


def file_digests(part: PluginSpec) -> dict[str, dict[str, str]]:
    """SHA-256 of the files that a plugin reads, under "files"; empty if it reads none. Raises PluginError for a file
    that cannot be read."""
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


def data_digest(data: Data, part: PluginSpec | None = None) -> str:
    """SHA-256 of everything in a dataset that a method or metric can see.

    part: the plugin that made the data, with its parameters. The log density and the simulator are functions and cannot
    be hashed: the plugin's source, parameters, version and files are hashed instead.
    """
    import torch

    tensors = {"train": data.train, "valid": data.valid, "test": data.test}
    if data.labels:
        tensors |= {f"labels of {split}": labels for split, labels in data.labels._asdict().items()}
    if data.modes:
        tensors["centers"] = data.modes.centers
        if data.modes.weights is not None:
            tensors["weights of the modes"] = data.modes.weights
    digest = hashlib.sha256(repr((data.name, data.shape, data.scale, data.modes and data.modes.std)).encode())
    if data.simulator:
        known = data.simulator
        digest.update(repr((known.parameters, known.low, known.high, known.truth)).encode())
    # Later additions are hashed only where present, so that the digests of data without them did not change.
    more: dict[str, Any] = {"classes": data.classes} if data.classes else {}
    if data.modes and data.modes.dims is not None:
        more["dims"] = data.modes.dims
    if part and part.plugin.version != 1:
        more["version"] = part.plugin.version
    if part and (data.log_density or data.simulator):
        more["functions"] = identity(part)
    if more:
        digest.update(json.dumps(more, sort_keys=True).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sha256(value: Any) -> str:
    """SHA-256 of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    state = path.stat()
    return _content_sha256(path, state.st_mtime_ns, state.st_size)


@cache  # asked for by each seed and each metric; time and size in the key detect a changed file
def _content_sha256(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
