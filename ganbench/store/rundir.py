"""The run directory of a suite: a crash, a full disk or a second run at the same time spoils nothing in it.

The truth is one small JSON for each trained seed and each score (`files.Folder` says how it is written).
`records.jsonl` and the tables are derived from these files and can be made again at any time: `plan.json`
says which of them belong to the suite as it stands. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..atomic import explained
from ..contracts import COLUMNS, Data, Status
from ..errors import StoreError
from ..suite.load import DatasetSpec
from ..suite.plan import Cell, identity
from ..suite.spec import PluginSpec
from ..training.trained import SUMMARY, TrainedSeed
from . import layout
from .files import Folder

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..scoring import ScoredSeed
    from ..training.checkpoint import Checkpoint

SETTLED: tuple[Status, ...] = ("ok", "diverged")  # what running again would only repeat
PREVIEW_POINTS, PREVIEW_IMAGES = 2048, 64  # examples and samples kept for the plots
CHECKPOINT = "checkpoint.json"  # in the folder of the first seed of a stack
GRID_1D, GRID_2D = 512, 200  # points along each axis of a drawn density
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "safetensors")

Tensors = Mapping[str, "Tensor"]


# ---------------------------------------------------------------------------------------------- the store


class Store(Folder):
    """The results of one suite (the layout is drawn in the documentation of the run directory)."""

    def prepare(self) -> None:
        """Make the directory ready for a run. Raises StoreError where that cannot be done."""
        self.create()
        self.read(self.path(layout.PLAN))  # refuses a directory of a newer ganbench

    @contextmanager
    def lock(self, cell: str, seeds: Sequence[int], *, wait: bool = True) -> Iterator[None]:
        """Nobody else works on these seeds of the cell meanwhile; waits until that is so, or raises
        filelock.Timeout. A lock goes with the process that holds it, however that ends; what its last holder left
        half-written goes now."""
        with ExitStack() as stack:
            for seed in sorted(seeds):  # in one order, so that two runs never wait for each other
                stack.enter_context(self._locked(layout.lock(cell, seed), wait=wait))
                for temporary in self.path(layout.seed(cell, seed)).rglob(".*.tmp"):
                    temporary.unlink(missing_ok=True)
            yield

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        from filelock import FileLock, Timeout

        path = self.path(name)
        lock = FileLock(path, timeout=-1 if wait else 0)
        try:
            path.parent.mkdir(exist_ok=True)
            lock.acquire()
        except Timeout:  # which is an OSError
            raise
        except OSError as error:
            raise explained(error, path) from None
        try:
            yield
        finally:
            lock.release()

    def remove(self, cell: Cell) -> None:
        """Forget everything about a cell."""
        with self.lock(cell.id, cell.seeds):
            path = self.path(layout.cell(cell.id))
            try:
                shutil.rmtree(path)
            except FileNotFoundError:
                return
            except OSError as error:
                raise explained(error, path) from None

    # ------------------------------------------------------------------------------------------ trainings

    def training(self, cell: Cell, seed: int, *, artefacts: bool = True) -> TrainedSeed | None:
        """A trained seed of the cell, without its tensors; None where there is none of its key, or none that can be
        trusted."""
        return self._training(cell.id, seed, cell.train_keys[seed], artefacts=artefacts)

    def _training(self, cell: str, seed: int, key: str, *, artefacts: bool) -> TrainedSeed | None:
        path = self.path(layout.training(cell, seed))
        document = self.read(path, ["key", *SUMMARY], whole=path.parent, artefacts=artefacts)
        if document is None or document["key"] != key:
            return None
        return TrainedSeed(**{name: document[name] for name in SUMMARY})

    def write_training(self, cell: Cell, trained: TrainedSeed, preview: Tensor | None = None) -> None:
        """Keep a trained seed, its tensors, and a few samples [n, *shape] for the plots."""
        artefacts: dict[str, Tensors] = {}
        if trained.state:
            artefacts[layout.WEIGHTS] = trained.state
        if trained.samples is not None:
            artefacts[layout.SAMPLES] = {"samples": trained.samples}
        if media := _media(trained, preview):
            artefacts[layout.MEDIA] = media
        document = {
            "key": cell.train_keys[trained.seed],
            **trained.summary,
            "seconds": max(0.0, trained.seconds),  # the clock may have been set back
            "versions": versions(),
            "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        # Scores of an earlier training are of other samples.
        shutil.rmtree(self.path(layout.scores(cell.id, trained.seed)), ignore_errors=True)
        self.commit(self.path(layout.training(cell.id, trained.seed)), document, artefacts)
        if trained.status in SETTLED:
            self._remove_checkpoints(cell.id, trained.seed)

    def tensors(self, cell: str, seed: int) -> tuple[dict[str, Tensor], Tensor | None]:
        """The weights of a seed (or what else its sampler carries), and its samples (None for a game)."""
        state = self.read_tensors(self.path(layout.seed(cell, seed), layout.WEIGHTS), "pt")
        return state, self.read_tensors(self.path(layout.seed(cell, seed), layout.SAMPLES), "pt").get(
            "samples"
        )

    def sample_count(self, cell: str, seed: int) -> int:
        """How many samples are stored of a seed."""
        samples = self.open_tensors(self.path(layout.seed(cell, seed), layout.SAMPLES))
        return samples.get_slice("samples").get_shape()[0] if samples else 0

    def curves(self, cell: str, seed: int) -> dict[str, NDArray[Any]]:
        """What was written down along the training of a seed, by name, [L] each; "step" are the rounds."""
        media = self.read_tensors(self.path(layout.seed(cell, seed), layout.MEDIA))
        return {name.removeprefix("curve."): x for name, x in media.items() if name.startswith("curve.")}

    # ------------------------------------------------------------------------------------------ checkpoints

    def checkpoint(self, cell: Cell, seeds: Sequence[int], *, tensors: bool = True) -> Checkpoint | None:
        """The checkpoint of a stack of these seeds, without its tensors where they are not wanted; None where there
        is none, or none that these versions of PyTorch and ganbench can go on from to the same numbers."""
        from ..training.checkpoint import Checkpoint

        folder = layout.seed(cell.id, seeds[0])
        needs = ("keys", "versions", "step", "seconds", "details")
        document = self.read(self.path(folder, layout.CHECKPOINT), needs, artefacts=tensors)
        keys = [cell.train_keys[seed] for seed in seeds]
        if document is None or document["keys"] != keys or document["versions"] != versions():
            return None
        found = {}
        for name in document["artefacts"] if tensors else ():
            found |= self.read_tensors(self.path(folder, name), "pt")
        return Checkpoint(document["step"], document["seconds"], document["details"], found)

    def write_checkpoint(self, cell: Cell, seeds: Sequence[int], checkpoint: Checkpoint) -> None:
        """Keep the checkpoint of a stack, in the folder of its first seed, until the seed is trained."""
        document = {
            "keys": [cell.train_keys[seed] for seed in seeds],
            "versions": versions(),
            "step": checkpoint.step,
            "seconds": checkpoint.seconds,
            "details": dict(checkpoint.details),
        }
        # A name of its own, so that the one before stays whole until the document names the new one.
        name = f"checkpoint-{checkpoint.step}.safetensors"
        path = self.path(layout.seed(cell.id, seeds[0]), layout.CHECKPOINT)
        self.commit(path, document, {name: checkpoint.tensors})
        self._remove_checkpoints(cell.id, seeds[0], keep=(layout.CHECKPOINT, name))

    def _remove_checkpoints(self, cell: str, seed: int, keep: Sequence[str] = ()) -> None:
        for path in self.path(layout.seed(cell, seed)).glob("checkpoint*"):
            if path.name not in keep:
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------ scores

    def score(self, cell: Cell, seed: int, index: int, *, artefacts: bool = True) -> dict[str, Any] | None:
        """The score of a seed by the metric of this index; None where there is none of its key, or none that can be
        trusted."""
        name, key = cell.metrics[index].plugin.name, cell.score_keys[index][seed]
        return self._score(cell.id, seed, name, key, artefacts=artefacts)

    def _score(
        self, cell: str, seed: int, metric: str, key: str, *, artefacts: bool
    ) -> dict[str, Any] | None:
        path = self.root / layout.score(cell, seed, metric, key)  # `read` refuses links
        document = self.read(path, ("key", "status", "records"), artefacts=artefacts)
        return document if document and document["key"] == key else None

    def write_score(self, cell: Cell, scored: ScoredSeed) -> None:
        """Keep a score and what the plots show of it."""
        key = cell.score_keys[scored.index][scored.seed]
        path = self.path(layout.score(cell.id, scored.seed, scored.metric, key))
        document = {
            "key": key,
            "metric": scored.metric,
            "status": scored.status,
            "error": scored.error,
            "traceback": scored.traceback,
            "records": [asdict(record) for record in scored.records],
            "protocol_text": cell.protocols[scored.index][1],
            "details": scored.details,
        }
        tensors = {path.with_suffix(layout.TENSORS).name: scored.tensors} if scored.tensors else {}
        self.commit(path, document, tensors)

    # ------------------------------------------------------------------------------------------ descriptions

    def write_plan(self, suite: str, about: str, cells: Sequence[Cell]) -> None:
        """Say which cells, seeds and scores belong to the suite as it stands, and describe each cell."""
        for cell in cells:
            self.write_json(self.path(layout.cell_card(cell.id)), _describe(cell))
        plan = {"suite": suite, "about": about, "cells": [_planned(cell) for cell in cells]}
        self.write_json(self.path(layout.PLAN), plan)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of this name."""
        self.write(self.path(name), text.encode())

    def write_environment(self, device: str) -> None:
        """Write down on what the run happens."""
        self.write_json(self.path(layout.ENVIRONMENT), environment(device))

    def write_dataset(self, preview: Preview) -> None:
        """Keep what the plots show of a dataset."""
        path = self.path(layout.dataset(preview.card["label"]))
        self.commit(path, preview.card, {path.with_suffix(layout.TENSORS).name: preview.tensors})

    # ------------------------------------------------------------------------------------------ records

    def records(self) -> list[dict[str, Any]]:
        """One row, with the columns of `contracts.COLUMNS`, for each value of each metric of each seed that
        has been trained and scored, in the order of the plan. Raises StoreError where there is no plan."""
        plan = self.read(self.path(layout.PLAN))
        if plan is None:
            raise StoreError(f"{self.root}: is not a folder of results (it has no readable {layout.PLAN})")
        return [
            {column: row.get(column) for column in COLUMNS}  # earlier versions had fewer
            for cell in plan["cells"]
            for seed, key in cell["seeds"].items()
            for row in self._rows(cell, int(seed), key)
        ]

    def _rows(self, cell: Mapping[str, Any], seed: int, key: str) -> Iterator[dict[str, Any]]:
        trained = self._training(cell["cell"], seed, key, artefacts=False)
        if trained is None:
            return
        for metric in cell["metrics"]:
            if trained.status != "ok":
                yield from _unscored(cell, metric, trained)
                continue
            name, score_key = metric["metric"], metric["keys"][str(seed)]
            document = self._score(cell["cell"], seed, name, score_key, artefacts=False)
            for record in document["records"] if document else ():
                yield {**record, "suite": cell["suite"]}

    def write_records(self) -> list[dict[str, Any]]:
        """Write the records again from the scores, with their SHA-256 beside them, and return them."""
        rows = self.records()
        lines = [json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows]
        content = "".join(lines).encode()
        path, checksum = self.path(layout.RECORDS), self.path(layout.RECORDS_SUM)
        # Another run of the directory may end at the same time, and this one may be killed between the two files:
        # records without a checksum are believed, since earlier versions wrote none.
        with self._locked(layout.RECORDS_LOCK):
            self.remove_file(checksum)
            self.write(path, content)
            self.write(checksum, f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode())
        return rows


def _unscored(
    cell: Mapping[str, Any], metric: Mapping[str, Any], trained: TrainedSeed
) -> Iterator[dict[str, Any]]:
    """The rows of a seed that has nothing to be scored."""
    shared = {name: cell[name] for name in COLUMNS if name in cell}
    for value in metric["values"]:
        yield {
            **shared,
            "seed": trained.seed,
            "metric": value["name"],
            "protocol": metric["protocol"],
            "value": None,
            "sem": None,
            "n": None,
            "unit": value["unit"],
            "better": value["better"],
            "status": trained.status,
            "error": trained.error,
            "seconds": 0.0,
            "train_seconds": trained.seconds,
            "device": trained.device,
            "dtype": trained.dtype,
            "stack": trained.stack,
            "version": __version__,
        }


def _planned(cell: Cell) -> dict[str, Any]:
    """What plan.json says of a cell: all that `records` needs, when the suite is no longer at hand."""
    return {
        **cell.columns,
        "seeds": {str(seed): key for seed, key in cell.train_keys.items()},
        "metrics": [
            {
                "metric": metric.name,
                "protocol": protocol,
                "protocol_text": sentence,
                "values": [asdict(value) for value in metric.values],
                "keys": {str(seed): key for seed, key in keys.items()},
            }
            for metric, keys, (protocol, sentence) in zip(
                cell.metrics, cell.score_keys, cell.protocols, strict=True
            )
        ],
    }


def _describe(cell: Cell) -> dict[str, Any]:
    """What cell.json says."""
    method, columns = cell.method, cell.columns
    return {
        **{name: columns[name] for name in ("suite", "dataset", "method", "label", "tricks")},
        "params": dict(method.part.resolved) if method.part else {},
        "trick_params": [{"name": t.name, "params": dict(t.resolved)} for t in method.tricks],
        "train": asdict(cell.train),
        "key": cell.key[:12],
        "interface": cell.interface,
        "about": method.part.plugin.summary if method.part else "samples made elsewhere",
    }


# ---------------------------------------------------------------------------------------------- previews


def few(shape: Sequence[int]) -> int:
    """How many examples of this shape a plot shows."""
    return PREVIEW_POINTS if math.prod(shape) <= 3 else PREVIEW_IMAGES


def _media(trained: TrainedSeed, preview: Tensor | None) -> Tensors:
    import torch

    found = {f"curve.{name}": curve for name, curve in trained.curves.items()}
    if trained.snapshots is not None:
        found["snapshots"] = trained.snapshots.float()
        found["snapshot.step"] = torch.tensor(trained.snapshot_steps, dtype=torch.int64)
    return found | ({"samples": preview.float()} if preview is not None else {})


@dataclass(frozen=True)
class Preview:
    """What the plots and the report show of a dataset."""

    card: dict[str, Any]
    tensors: dict[str, Tensor]


def preview(dataset: DatasetSpec, data: Data, digest: str) -> Preview:
    """Numbers, names, some test examples [n, *shape] and, where it is known and can be drawn, the log density
    in nats: [w] over `extent` (x0, x1), or [h, w] over (x0, x1, y0, y1) with y growing along the rows."""
    import torch

    n = min(few(data.shape), len(data.test))
    chosen = torch.linspace(0, len(data.test) - 1, n).round().long()
    tensors = {"examples": data.floats(data.test[chosen])}
    if data.log_density and data.shape in ((1,), (2,)):
        tensors |= _density(data.log_density, tensors["examples"])
    modes = data.modes and {
        "centers": data.modes.centers.tolist(),
        "std": float(data.modes.std),
        "weights": data.modes.probabilities.tolist(),
    }
    card = {
        "name": data.name,
        "label": dataset.label,
        "about": dataset.part.plugin.summary,
        "shape": list(data.shape),
        "scale": list(data.scale) if data.scale else None,
        "n_train": len(data.train),
        "n_valid": len(data.valid),
        "n_test": len(data.test),
        "digest": digest,
        "params": dict(dataset.part.resolved),
        "modes": modes,
        "classes": list(data.classes),
        "notes": list(data.notes),
    }
    return Preview(card, tensors)


def _density(log_density: Callable[[Tensor], Tensor], points: Tensor) -> dict[str, Tensor]:
    """On a grid around these points [n, d], d ≤ 2."""
    import torch

    low, high = points.amin(0), points.amax(0)
    margin = 0.1 * (high - low).clamp(min=1e-6)
    ends = list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))
    size = GRID_1D if len(ends) == 1 else GRID_2D
    grid = torch.stack(torch.meshgrid(*(torch.linspace(a, b, size) for a, b in ends), indexing="xy"), -1)
    values = log_density(grid.flatten(0, -2)).reshape(grid.shape[:-1])
    return {"log_density": values, "extent": torch.tensor(ends).flatten()}


# ---------------------------------------------------------------------------------------------- identity


def data_digest(data: Data, part: PluginSpec | None = None) -> str:
    """SHA-256 over all that a method or metric can see of a dataset.

    part: the plugin that the data come from, with its parameters. The log density and the simulator are functions,
    which cannot be hashed: its source, parameters, version and files stand for them.
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
    # What data without any of these never had in their digest, so that their results stay valid.
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


@cache
def versions() -> dict[str, str]:
    """Versions of ganbench and of the packages that its numbers depend on."""
    found = {"ganbench": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment(device: str) -> dict[str, Any]:
    """On what the numbers were made."""
    import torch

    return {
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        # PyTorch chooses its kernels by the instruction set, on which the last digits depend.
        "processor": f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})",
        "threads": 1 if device == "cpu" else torch.get_num_threads(),  # of a training
        "device": torch.cuda.get_device_name(device)
        if torch.cuda.is_available() and device != "cpu"
        else device,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "command": " ".join(shlex.quote(word) for word in ["ganbench", *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    """The model of the CPU as Linux names it; elsewhere what Python knows of it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
