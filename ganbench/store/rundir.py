"""The run directory of a suite, safe against crashes, a full disk and several runs at the same time.

The source of truth is one small JSON for each trained seed and each score (see `files.Folder`). `records.jsonl` and
the tables are derived from these files and can be rebuilt at any time; `plan.json` lists those that belong to the
present version of the suite. Nothing is ever unpickled.
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

from .. import __version__, registry
from ..atomic import write_error
from ..contracts import COLUMNS, Data, Status
from ..errors import RequestError, StoreError
from ..suite.load import DatasetSpec, Suite, dump
from ..suite.plan import Cell
from ..suite.sources import relocate, user_files
from ..training.trained import SUMMARY, TrainedSeed
from . import layout
from .files import REBUILD, Folder

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..scoring import ScoredSeed
    from ..training.checkpoint import Checkpoint

SETTLED: tuple[Status, ...] = ("ok", "diverged")  # results that training again would only repeat
PREVIEW_POINTS, PREVIEW_IMAGES = 2048, 64  # examples and samples stored for the plots
MAX_PLUGIN = 2**24  # bytes of a user's plugin file with all files that it imports and reads
MAX_RECORDS = 2**30  # bytes: a million records and more
GRID_1D, GRID_2D = 512, 200  # points along each axis of a drawn density
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "safetensors")


class Store(Folder):
    """The run directory of one suite: the only code that knows how its results are written and read back."""

    def prepare(self) -> None:
        """Create the directory for a run. Raises StoreError if that fails, or if a newer ganbench has written it."""
        self.create()
        self.read(layout.PLAN)  # raises for a newer schema

    def check_suite(self, suite: Suite) -> None:
        """Raises RequestError if the directory has the results of another suite, whose tables and report a run would
        overwrite. A suite that was edited, moved or copied counts as the same, and so does the resolved suite in this
        directory."""
        known, own = self._source(), _source(suite)
        if not known or own["path"] in (known["path"], os.path.realpath(self.path(layout.SUITE))):
            return
        if own["sha256"] == known["sha256"] or (own["shipped"] and own["shipped"] == known["shipped"]):
            return
        if os.path.exists(known["path"]):  # else it was moved and then edited, or comes from another machine
            raise RequestError(
                f"{self.root}: has the results of another suite, {known['path']}; running {own['path']} would "
                "overwrite its tables and report. Choose another folder with --out, or give the suite another `name`, "
                "from which its default folder is named"
            )

    def _source(self) -> dict[str, str] | None:
        """The suite that the directory belongs to; None if that is not recorded, as by earlier versions."""
        source = (self.read(layout.PLAN) or {}).get("source")
        names = ("path", "sha256", "shipped")
        whole = isinstance(source, dict) and all(isinstance(source.get(name), str) for name in names)
        return source if whole else None

    @contextmanager
    def lock(self, cell: str, seeds: Sequence[int], *, wait: bool = True) -> Iterator[None]:
        """Hold the locks of these seeds of a cell. Waits for another holder, or without `wait` raises filelock.Timeout.
        The operating system releases a lock when its process ends, even if killed; temporary files that the last
        holder left are removed here."""
        with ExitStack() as stack:
            for seed in sorted(seeds):  # always in the same order, so that two runs cannot deadlock
                stack.enter_context(self._lock_file(layout.lock(cell, seed), wait=wait))
                for temporary in self.path(layout.seed(cell, seed)).rglob(".*.tmp"):
                    temporary.unlink(missing_ok=True)
            yield

    @contextmanager
    def _lock_file(self, name: str, *, wait: bool = True) -> Iterator[None]:
        from filelock import FileLock, Timeout

        path = self.path(name)
        lock = FileLock(path, timeout=-1 if wait else 0)
        try:
            path.parent.mkdir(exist_ok=True)
            lock.acquire()
        except Timeout:  # a subclass of OSError
            raise
        except OSError as error:
            raise write_error(error, path) from None
        try:
            yield
        finally:
            lock.release()

    def remove(self, cell: Cell) -> None:
        """Remove all results of a cell. Raises StoreError if that fails."""
        path = self.path(layout.cell(cell.id))
        with self.lock(cell.id, cell.seeds):
            try:
                shutil.rmtree(path)
            except FileNotFoundError:
                return
            except OSError as error:
                raise write_error(error, path) from None

    # ------------------------------------------------------------------------------------------ trainings

    def training(self, cell: Cell, seed: int, *, artefacts: bool = True) -> TrainedSeed | None:
        """A trained seed of the cell, without its tensors; None if there is none with the same key, or if it is
        damaged. `artefacts`: whether to verify the checksums of its tensors too."""
        return self._training(cell.id, seed, cell.train_keys[seed], artefacts=artefacts)

    def _training(self, cell: str, seed: int, key: str, *, artefacts: bool) -> TrainedSeed | None:
        # Weights, samples and curves belong to one training, so a damaged file makes the whole folder useless.
        document = self.read(layout.training(cell, seed), ["key", *SUMMARY], folder=True, artefacts=artefacts)
        if document is None or document["key"] != key:
            return None
        return TrainedSeed(**{name: document[name] for name in SUMMARY})

    def write_training(self, cell: Cell, trained: TrainedSeed, preview: Tensor | None = None) -> None:
        """Store a trained seed, its tensors, and a few samples [n, *shape] for the plots."""
        import torch

        media = {f"curve.{name}": curve for name, curve in trained.curves.items()}
        if trained.snapshots is not None:
            media["snapshots"] = trained.snapshots.float()
            media["snapshot.step"] = torch.tensor(trained.snapshot_steps, dtype=torch.int64)
        if preview is not None:
            media["samples"] = preview.float()
        samples = {} if trained.samples is None else {"samples": trained.samples}
        artefacts = {layout.WEIGHTS: trained.state, layout.SAMPLES: samples, layout.MEDIA: media}
        document = {
            "key": cell.train_keys[trained.seed],
            **trained.summary,
            "seconds": max(0.0, trained.seconds),  # negative if the clock was set back
            "versions": versions(),
            "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        # Remove the scores of an earlier training, which are of other samples.
        shutil.rmtree(self.path(layout.scores(cell.id, trained.seed)), ignore_errors=True)
        self.commit(layout.training(cell.id, trained.seed), document, artefacts)
        if trained.status in SETTLED:
            self._remove_checkpoints(cell.id, trained.seed)

    def copy_seed(self, source: Cell, target: Cell, seed: int) -> None:
        """Copy the training and the scores of a seed from `source` to `target`, which has the same keys under another
        label. Raises StoreError if that fails."""
        origin, path = (self.path(layout.seed(cell.id, seed)) for cell in (source, target))
        training = self.path(layout.training(source.id, seed))
        shutil.rmtree(path, ignore_errors=True)
        try:
            shutil.copytree(origin, path, ignore=shutil.ignore_patterns(training.name, "checkpoint*"))
        except OSError as error:
            raise write_error(error, path) from None
        # The document last: without it, what an interrupted copy has left counts for nothing.
        self.write(layout.training(target.id, seed), training.read_bytes())

    def tensors(self, cell: str, seed: int) -> tuple[dict[str, Tensor], Tensor | None]:
        """The weights of a seed (or the `state` of its sampler), and its samples (None for a game)."""
        folder = self.path(layout.seed(cell, seed))
        samples = self.read_tensors(folder / layout.SAMPLES, "pt").get("samples")
        return self.read_tensors(folder / layout.WEIGHTS, "pt"), samples

    def sample_count(self, cell: str, seed: int) -> int:
        """The number of stored samples of a seed."""
        samples = self.open_tensors(self.path(layout.seed(cell, seed), layout.SAMPLES))
        return samples.get_slice("samples").get_shape()[0] if samples else 0

    def curves(self, cell: str, seed: int) -> dict[str, NDArray[Any]]:
        """The curves recorded during the training of a seed, by name, [L] each; "step" are the rounds."""
        media = self.read_tensors(self.path(layout.seed(cell, seed), layout.MEDIA))
        return {name.removeprefix("curve."): x for name, x in media.items() if name.startswith("curve.")}

    # ------------------------------------------------------------------------------------------ checkpoints

    def checkpoint(self, cell: Cell, seeds: Sequence[int], *, tensors: bool = True) -> Checkpoint | None:
        """The checkpoint of a stack of these seeds, without its tensors if `tensors` is false; None if there is none,
        or if other versions of PyTorch or ganbench wrote it, with which training would give other numbers."""
        from ..training.checkpoint import Checkpoint

        path = self.path(layout.seed(cell.id, seeds[0]), layout.CHECKPOINT)
        document = self.read(path, ("keys", "versions", "step", "seconds", "details"), artefacts=tensors)
        keys = [cell.train_keys[seed] for seed in seeds]
        if document is None or document["keys"] != keys or document["versions"] != versions():
            return None
        state = {}
        for name in document["artefacts"] if tensors else ():
            state |= self.read_tensors(path.with_name(name), "pt")
        return Checkpoint(document["step"], document["seconds"], document["details"], state)

    def write_checkpoint(self, cell: Cell, seeds: Sequence[int], checkpoint: Checkpoint) -> None:
        """Store the checkpoint of a stack in the folder of its first seed, where it stays until the seed is trained."""
        document = {
            "keys": [cell.train_keys[seed] for seed in seeds],
            "versions": versions(),
            "step": checkpoint.step,
            "seconds": checkpoint.seconds,
            "details": dict(checkpoint.details),
        }
        # A new file name for each checkpoint: the previous one stays valid until the document is replaced.
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
        """The score of a seed by the metric of this index; None if there is none with the same key, or if it is
        damaged. `artefacts`: as for `training`."""
        name, key = cell.metrics[index].name, cell.score_keys[index][seed]
        return self._score(cell.id, seed, name, key, artefacts=artefacts)

    def _score(
        self, cell: str, seed: int, metric: str, key: str, *, artefacts: bool
    ) -> dict[str, Any] | None:
        needs = ("key", "status", "records")
        document = self.read(layout.score(cell, seed, metric, key), needs, artefacts=artefacts)
        return document if document and document["key"] == key else None

    def write_score(self, cell: Cell, scored: ScoredSeed) -> None:
        """Store a score with its details and tensors."""
        key = cell.score_keys[scored.index][scored.seed]
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
        name = layout.score(cell.id, scored.seed, scored.metric, key)
        self.commit(name, document, {layout.TENSORS: scored.tensors})

    # ------------------------------------------------------------------------------------------ the plan

    def write_suite(self, suite: Suite) -> None:
        """Store the resolved suite, with copies of the user's plugins that it names, so that the directory can be
        reported, loaded and run again on a machine that does not have them."""
        paths, folders = [], set()
        for file, needed in user_files(suite).items():
            try:
                size = sum(path.stat().st_size for path in needed.values())
                if size > MAX_PLUGIN:
                    raise OSError(
                        0, f"with the files it needs it has {size:,} bytes; at most {MAX_PLUGIN:,} are copied"
                    )
                if any(name.startswith(os.pardir) for name in needed):
                    raise OSError(0, "it reads files outside its folder")
                contents = {name: path.read_bytes() for name, path in sorted(needed.items())}
            except OSError as error:
                self.warnings.append(
                    f"{file}: is not copied into the run directory ({error.strerror}), so this run can be loaded "
                    "and run again only on machines that have the file"
                )
                continue
            sums = [(name, hashlib.sha256(content).hexdigest()) for name, content in contents.items()]
            # Named by its content, so that files which another run is reading are never changed.
            folder = layout.plugin(file.name, hashlib.sha256(repr(sums).encode()).hexdigest())
            for name, content in contents.items():
                self.write(self.path(folder, name), content)
            folders.add(folder.rpartition("/")[2])
            paths.append((str(file), f"{folder}/{file.name}"))
        self.write(layout.SUITE, dump(relocate(suite, paths)).encode())  # last, when all files it names exist
        for folder in self.path(layout.PLUGINS).glob("*"):
            if folder.name not in folders:
                shutil.rmtree(folder, ignore_errors=True)

    def write_plan(self, suite: Suite, cells: Sequence[Cell]) -> None:
        """Store the plan (the cells, seeds and scores of this version of the suite) and a description of each cell."""
        known, source = self._source(), _source(suite)
        if known and known["path"] != source["path"] and os.path.exists(known["path"]):
            source = known  # this suite is a copy of the one that the directory belongs to
        for cell in cells:
            part, columns = cell.method.part, cell.columns
            card = {
                **{name: columns[name] for name in ("suite", "dataset", "method", "label", "tricks")},
                "params": dict(part.resolved) if part else {},
                "trick_params": [{"name": t.name, "params": dict(t.resolved)} for t in cell.method.tricks],
                "train": asdict(cell.train),
                "key": cell.key[:12],
                "interface": cell.interface,
                "about": part.plugin.summary if part else "samples made by another program",
                **({"tuned": cell.method.tuned} if cell.method.tuned else {}),
            }
            self.write_json(layout.cell_card(cell.id), card)
        planned = [_plan_entry(cell) for cell in cells]
        plan = {"suite": suite.name, "about": suite.about, "source": source, "cells": planned}
        self.write_json(layout.PLAN, plan)

    def planned_scores(self) -> dict[str, dict[int, list[str]]]:
        """The names of the scores of the present plan, by cell and seed; empty if there is no plan. Scores of earlier
        plans stay in their folders but are not listed. Raises StoreError for a plan that no run writes."""
        planned: dict[str, dict[int, list[str]]] = {}
        try:
            for cell in self.read_object(layout.PLAN).get("cells", ()):
                seeds = planned.setdefault(cell["cell"], {})
                for metric in cell["metrics"]:
                    for seed, key in metric["keys"].items():
                        name = layout.score(cell["cell"], int(seed), metric["metric"], key)
                        seeds.setdefault(int(seed), []).append(name)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise StoreError(f"{self.path(layout.PLAN)}: is not the plan of a run; {REBUILD}") from None
        return planned

    def write_environment(self, device: str) -> None:
        """Store a description of the machine and the versions of the packages."""
        self.write_json(layout.ENVIRONMENT, environment(device))

    def write_dataset(self, preview: Preview) -> None:
        """Store the preview of a dataset."""
        self.commit(layout.dataset(preview.card["label"]), preview.card, {layout.TENSORS: preview.tensors})

    # ------------------------------------------------------------------------------------------ records

    def records(self) -> list[dict[str, Any]]:
        """One row, with the columns of `contracts.COLUMNS`, for each value of each metric of each seed that has been
        trained and scored, in the order of the plan. Raises StoreError if there is no plan."""
        plan = self.read(layout.PLAN)
        if plan is None:
            raise StoreError(f"{self.root}: is not a folder of results (it has no readable {layout.PLAN})")
        return [
            {column: row.get(column) for column in COLUMNS}  # earlier versions had fewer columns
            for cell in plan["cells"]
            for seed, key in cell["seeds"].items()
            for row in self._rows(cell, int(seed), key)
        ]

    def _rows(self, cell: Mapping[str, Any], seed: int, key: str) -> Iterator[dict[str, Any]]:
        trained = self._training(cell["cell"], seed, key, artefacts=False)
        if trained is None:
            return
        for metric in cell["metrics"]:
            if trained.status == "ok":
                score_key = metric["keys"][str(seed)]
                score = self._score(cell["cell"], seed, metric["metric"], score_key, artefacts=False)
                for record in score["records"] if score else ():
                    # The names of the plan, since the score may be a copy of another cell's (`copy_seed`).
                    yield {**record, **{name: cell[name] for name in COLUMNS if name in cell}}
                continue
            # A seed that was not trained successfully has a row without value for each value, with its error.
            for value in metric["values"]:
                yield {
                    **{name: cell[name] for name in COLUMNS if name in cell},
                    **{name: getattr(trained, name) for name in ("seed", "status", "error")},
                    **{name: getattr(trained, name) for name in ("device", "dtype", "stack")},
                    "metric": value["name"],
                    "protocol": metric["protocol"],
                    "unit": value["unit"],
                    "better": value["better"],
                    "seconds": 0.0,
                    "train_seconds": trained.seconds,
                    "version": __version__,
                }

    def write_records(self) -> list[dict[str, Any]]:
        """Rebuild `records.jsonl` and its SHA-256 from the scores; returns the records."""
        rows = self.records()
        lines = [json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows]
        content = "".join(lines).encode()
        # Locked, since another run of the directory may end at the same time. The checksum is removed first: if this
        # process is killed between the two writes, records without a checksum are accepted (earlier versions wrote
        # none), but records with a wrong one are not.
        with self._lock_file(layout.RECORDS_LOCK):
            self.remove_file(layout.RECORDS_SUM)
            self.write(layout.RECORDS, content)
            checksum = f"{hashlib.sha256(content).hexdigest()}  {layout.RECORDS}\n"
            self.write(layout.RECORDS_SUM, checksum.encode())
        return rows

    def read_records(self) -> bytes:
        """The content that `write_records` wrote. Raises StoreError if there is none, or if it was changed."""
        path, checksum = self.path(layout.RECORDS), self.path(layout.RECORDS_SUM)
        for _ in range(3):  # retry, since a run that ends now may replace both files between the two reads
            expected, content = self.read_text(checksum), self.read_bytes(path, MAX_RECORDS)
            if content is None:
                raise StoreError(f"{path}: no such file; expected the directory that `run` wrote")
            if expected is None or expected.split(maxsplit=1)[:1] == [hashlib.sha256(content).hexdigest()]:
                return content
        raise StoreError(
            f"{path}: has been changed since the run wrote it (its SHA-256 is not that in {checksum.name}); {REBUILD}, "
            f"or remove {checksum.name} to use the changed file"
        )


def _source(suite: Suite) -> dict[str, str]:
    """What distinguishes a suite from another one of the same name: its path, content, and shipped name."""
    path = os.path.realpath(suite.path)
    shipped = Path(path).is_relative_to(os.path.realpath(registry.shipped("suites")))
    text = hashlib.sha256(suite.source_text.encode()).hexdigest()
    return {"path": path, "sha256": text, "shipped": suite.path.stem if shipped else ""}


def _plan_entry(cell: Cell) -> dict[str, Any]:
    """The entry of a cell in plan.json: everything that `records` needs, without the suite."""
    metrics = [
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
    ]
    seeds = {str(seed): key for seed, key in cell.train_keys.items()}
    return {**cell.columns, "seeds": seeds, "metrics": metrics}


# ---------------------------------------------------------------------------------------------- datasets


def preview_size(shape: Sequence[int]) -> int:
    """The number of examples of this shape to store for the plots."""
    return PREVIEW_POINTS if math.prod(shape) <= 3 else PREVIEW_IMAGES


@dataclass(frozen=True)
class Preview:
    """The part of a dataset that plots and report show."""

    card: dict[str, Any]
    tensors: dict[str, Tensor]


def preview(dataset: DatasetSpec, data: Data, digest: str) -> Preview:
    """The preview of a dataset: a description, some test examples [n, *shape] and, if it is known and has at most two
    dimensions, the log density in nats: [w] over `extent` (x0, x1), or [h, w] over (x0, x1, y0, y1) with y growing
    along the rows."""
    import torch

    n = min(preview_size(data.shape), len(data.test))
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
    """The log density on a grid around these points [n, d], d ≤ 2."""
    import torch

    low, high = points.amin(0), points.amax(0)
    margin = 0.1 * (high - low).clamp(min=1e-6)
    ends = list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))
    size = GRID_1D if len(ends) == 1 else GRID_2D
    grid = torch.stack(torch.meshgrid(*(torch.linspace(a, b, size) for a, b in ends), indexing="xy"), -1)
    values = log_density(grid.flatten(0, -2)).reshape(grid.shape[:-1])
    return {"log_density": values, "extent": torch.tensor(ends).flatten()}


# ---------------------------------------------------------------------------------------------- the machine


@cache
def versions() -> dict[str, str]:
    """Versions of ganbench and of the packages that its numbers depend on."""
    installed = {"ganbench": __version__}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def environment(device: str) -> dict[str, Any]:
    """The machine, the versions of packages, and the command of this run."""
    import torch

    return {
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        # PyTorch chooses its kernels by the instruction set, so the last digits of results depend on it.
        "processor": f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})",
        "threads": 1 if device == "cpu" else torch.get_num_threads(),  # of a training
        "device": torch.cuda.get_device_name(device)
        if torch.cuda.is_available() and device != "cpu"
        else device,
        "command": " ".join(shlex.quote(word) for word in ["ganbench", *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    """The model name of the CPU on Linux; elsewhere whatever Python knows of it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
