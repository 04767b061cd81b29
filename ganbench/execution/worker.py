"""The worker process: trains and scores the seeds of one task.

Each task has a fresh single-threaded process. It locks its seeds, checks again what is missing, trains, and scores.
Every result is stored before the next one is started. Output of methods and metrics goes into a log.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from multiprocessing.connection import wait
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import registry
from ..atomic import write_error
from ..contracts import Data, Labels, Modes, Status
from ..errors import GanbenchError, PluginError, StoreError
from ..format import seed_names
from ..precision import set_float32
from ..scoring import Scorer, explain, unmeasured
from ..store import layout
from ..store.rundir import SETTLED, Store, preview_size
from ..suite.load import PluginSpec
from ..suite.plan import Cell, data_digest
from ..training.checkpoint import Checkpoint
from ..training.loop import Progress, out_of_memory, train
from ..training.model import model
from ..training.trained import TrainedSeed
from .file_reads import Reads
from .progress import WAITING, ProgressDir, TaskProgress, TaskResult

OVERHEAD = 200  # cost of an example besides its size, in numbers; for the estimate of `Task.cost`
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h

Report = Callable[[TaskProgress], None]
_reads: Reads | None = None  # of this process, once it is a worker


@dataclass(frozen=True)
class Task:
    """Some seeds of a cell, for one worker."""

    number: int
    cell: Cell
    seeds: tuple[int, ...]
    root: Path  # of the run directory; absolute, since plugins may change the working directory
    device: str
    timeout: float | None = None  # seconds that its worker may take
    data: Path | None = None  # stored copy of the dataset; None: it is loaded by its plugin

    @property
    def log(self) -> Path:
        """The file for the output of its worker."""
        ends = "-".join(map(str, sorted({min(self.seeds), max(self.seeds)})))
        return self.root / layout.log(self.cell.id, ends)

    @property
    def label(self) -> str:
        """`ring-gan, seeds 0–2`"""
        return f"{self.cell.label}, {seed_names(self.seeds)}"

    def cost(self, seeds: int) -> float:
        """An estimate of the time to train this number of seeds, in arbitrary units; the longest tasks start first."""
        settings, method = self.cell.train, self.cell.method
        work = settings.steps * settings.batch * (OVERHEAD + self.cell.size) * 4 ** len(method.tricks)
        return seeds * work if method.part else 0.0


@dataclass(frozen=True)
class PendingWork:
    """The seeds still to be trained and the scores still to be computed."""

    train: tuple[int, ...]  # seeds
    scores: tuple[tuple[TrainedSeed, int], ...]  # trained seed, index of the metric

    def __bool__(self) -> bool:
        return bool(self.train or self.scores)


def pending_work(store: Store, cell: Cell, seeds: Sequence[int]) -> PendingWork:
    """The pending work of these seeds of a cell. Failures are tried again; diverged seeds are not, since they would
    diverge again."""
    untrained, unscored = [], []
    for seed in seeds:
        trained = store.training(cell, seed)
        if trained is None or trained.status not in SETTLED:
            untrained.append(seed)
        elif (
            cell.min_samples
            and trained.status == "ok"
            and store.sample_count(cell.id, seed) < cell.min_samples
        ):
            untrained.append(seed)  # an added metric needs more samples than were stored
        elif trained.status == "ok":
            for index in range(len(cell.metrics)):
                score = store.score(cell, seed, index)
                if score is None or score["status"] != "ok":
                    unscored.append((trained, index))
    return PendingWork(tuple(untrained), tuple(unscored))


# ---------------------------------------------------------------------------------------------- the process


def worker_main(task: Task, progress: ProgressDir, cpu: bool, gpu: str | None) -> None:
    """The entry point of a worker process. If it ends without writing a result, the parent counts it as dead."""
    worker_init(progress, cpu, gpu)
    try:
        try:
            Store(task.root).path(layout.LOGS).mkdir(exist_ok=True)
            log = os.open(task.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW)
        except OSError as error:
            raise write_error(error, task.log) from None
        for output in (1, 2):
            os.dup2(log, output)
        faulthandler.enable(file=log)  # writes the stacks of a crash in compiled code into the log
        result = run_task(task, progress)
        # Remove an empty log.
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # a plugin may have closed or replaced it
                stream.flush()
        if not os.fstat(log).st_size:
            task.log.unlink(missing_ok=True)
    except StoreError as error:
        result = TaskResult(error=str(error))
    progress.write_result(task.number, result)
    os._exit(0)  # immediately, since threads of a plugin that still run would keep the process alive


def worker_init(progress: ProgressDir, cpu: bool, gpu: str | None) -> None:
    """Set up a fresh process."""
    # A new session: its children can be killed together with it, and Ctrl-C reaches only the parent.
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent:
        arguments = (parent.sentinel, progress.folder)
        threading.Thread(target=_exit_with_parent, args=arguments, daemon=True).start()
    global _reads
    _reads = Reads()
    gc.freeze()  # a garbage collection would touch, and so copy, all pages inherited from the server: 0.3 s
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # CUDA reads it at its first use
    set_float32()  # full float32 everywhere, also in convolutions
    torch.backends.cudnn.deterministic = True
    if cpu:
        torch.set_num_threads(1)  # always 1, since the rounding of sums depends on the number of threads
        keep_memory()


def _exit_with_parent(sentinel: int, folder: Path) -> None:
    """Kill this process and its children when the parent dies, and remove the parent's temporary folder."""
    wait([sentinel])
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def keep_memory() -> None:
    """Raise glibc's thresholds so that freed tensor memory is reused. By default every large block is returned to the
    system, and each new tensor causes page faults."""
    with suppress(OSError, AttributeError):  # not glibc
        mallopt = ctypes.CDLL(None).mallopt
        if not mallopt(M_MMAP_THRESHOLD, 2**30):
            mallopt(M_MMAP_THRESHOLD, 2**25)  # the maximum of older versions
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


# ---------------------------------------------------------------------------------------------- the task


def run_task(task: Task, progress: ProgressDir) -> TaskResult:
    """Do the pending work of a task. A failure of the method, a metric or the data is stored as the status of the seeds
    or scores concerned. Raises StoreError if results cannot be written."""
    started = time.monotonic()
    store, cell = Store(task.root), task.cell
    report = progress.reporter(task.number)
    with ExitStack() as stack:
        # Several runs may share a folder: one of them trains a seed, the others wait and find it finished.
        try:
            stack.enter_context(store.lock(cell.id, task.seeds, wait=False))
        except Timeout:
            report(TaskProgress(WAITING, len(task.seeds)))
            stack.enter_context(store.lock(cell.id, task.seeds))
        # After the lock, so that waiting does not count as time of the task.
        stack.enter_context(_time_limit(task, progress))
        stack.enter_context(_store_failures(task, store, task.seeds))
        work = pending_work(store, cell, task.seeds)  # again, since another run may have done it
        if work:
            report(TaskProgress("loading data", len(task.seeds)))
            with plugin_code():
                if task.data:
                    data, digest = read_data(task.data)
                else:
                    data = load_data(cell.dataset.part, cell.dataset.split)
                    digest = data_digest(data, cell.dataset.part)
            # Results are stored under the keys of the start of the run, so refuse data and sources that have changed
            # since then, or that differ on this node.
            if replace(cell, digest=digest) != cell:
                raise PluginError(
                    "the data, or the source of the method, a trick or a metric, have changed since the run started; "
                    "run the same command again to use the new ones"
                )
            with _reads.recording() if _reads else nullcontext():
                _train(task, store, data, work.train, report)
                _score(task, store, data, report)
            store.warnings += _reads.warnings(cell, task.root) if _reads else []
    return TaskResult(store.warnings, max(0.0, time.monotonic() - started))


def _train(task: Task, store: Store, data: Data, seeds: Sequence[int], report: Report) -> None:
    """Train these seeds and store them: a game as one stack, other methods seed by seed, so that a finished seed is
    stored even if the next one fails."""
    cell = task.cell

    def progress(now: Progress) -> None:
        report(TaskProgress("training", now.seeds, now.step, now.steps, now.rate, now.losses))

    stacks = [seeds] if seeds and cell.interface == "game" else [(seed,) for seed in seeds]
    for stack in stacks:
        report(TaskProgress("training", len(stack)))
        with _store_failures(task, store, stack):
            with plugin_code():
                checkpoints = StoredCheckpoints(store, cell, report)
                trained = train(
                    cell, data, stack, device=task.device, progress=progress, checkpoints=checkpoints
                )
            for one in trained:
                samples, n = one.samples, preview_size(data.shape)
                if one.status == "ok" and samples is None:  # a game, whose generator can make samples
                    with plugin_code():
                        samples = model(cell, data, one.seed, one.state, None, device=task.device).samples(n)
                preview = data.floats(samples[:n]) if samples is not None else None
                store.write_training(cell, one, preview)


class StoredCheckpoints:
    """The checkpoints of a cell in its run directory, one every `train.checkpoint` minutes."""

    def __init__(self, store: Store, cell: Cell, report: Report) -> None:
        self.store, self.cell, self.report = store, cell, report
        self.saved = time.monotonic()

    def load(self, seeds: Sequence[int]) -> Checkpoint | None:
        """The checkpoint from which these seeds resume; None if there is none."""
        checkpoint = self.store.checkpoint(self.cell, seeds)
        if checkpoint:
            step, steps = checkpoint.step, self.cell.train.steps
            self.report(TaskProgress("training", len(seeds), step, steps, resumed=step))
        return checkpoint

    def due(self, step: int) -> bool:
        """Whether `train.checkpoint` minutes have passed since the last one."""
        return time.monotonic() - self.saved >= 60 * self.cell.train.checkpoint

    def save(self, seeds: Sequence[int], checkpoint: Checkpoint) -> None:
        """Store a checkpoint in place of the previous one."""
        self.store.write_checkpoint(self.cell, seeds, checkpoint)
        self.saved = time.monotonic()


def _score(task: Task, store: Store, data: Data, report: Report) -> None:
    """Compute the missing scores of all trained seeds."""
    cell = task.cell
    scorer = Scorer(cell, data)
    # The model is built once per seed. Each score is stored before the next metric runs, which may crash.
    for trained, group in groupby(pending_work(store, cell, task.seeds).scores, key=itemgetter(0)):
        seed = trained.seed
        with _store_failures(task, store, [seed]):
            with plugin_code():
                subject = model(cell, data, seed, *store.tensors(cell.id, seed), device=task.device)
            for _, index in group:
                report(TaskProgress(f"{cell.metrics[index].name} of seed {seed}", 1))
                with plugin_code():
                    scored = scorer(index, subject, trained)
                store.write_score(cell, scored)


@contextmanager
def plugin_code() -> Iterator[None]:
    """A guard around code of plugins, which may fork and change the working directory."""
    worker, folder = os.getpid(), os.getcwd()
    try:
        yield
    finally:
        if os.getpid() != worker:
            os._exit(0)  # a forked child that returns from the plugin would repeat the rest of the task
        os.chdir(folder)  # relative paths, such as GANBENCH_DATA, refer to it


@contextmanager
def _store_failures(task: Task, store: Store, seeds: Sequence[int]) -> Iterator[None]:
    """Store an exception as the status of the pending work of these seeds, and continue. StoreError is raised."""
    try:
        yield
    except StoreError:
        raise
    except BaseException as error:  # a method may raise anything, even SystemExit and KeyboardInterrupt
        status: Status = "oom" if out_of_memory(error) else "failed"
        record_failure(task, store, seeds, status, explain(error), traceback.format_exc())


def record_failure(
    task: Task, store: Store, seeds: Sequence[int], status: Status, error: str, trace: str | None = None
) -> None:
    """Store this status for the pending work of these seeds of a task."""
    cell, work = task.cell, pending_work(store, task.cell, seeds)
    for seed in work.train:
        stack, dtype = len(work.train), cell.train.dtype
        failed = TrainedSeed(seed, status, error, trace, stack=stack, device=task.device, dtype=dtype)
        store.write_training(cell, failed)
    for trained, index in work.scores:
        store.write_score(cell, unmeasured(cell, index, trained, status, error, trace))


@contextmanager
def _time_limit(task: Task, progress: ProgressDir) -> Iterator[None]:
    """End this process after the task's timeout, and write the stacks of all its threads into a file."""
    if task.timeout is None:
        yield
        return
    with open(progress.stacks(task.number), "w") as file:
        faulthandler.dump_traceback_later(task.timeout, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def record_timeout(task: Task, stacks: str) -> str:
    """Store that the worker of a task took too long, with its stacks; returns the error message."""
    text = f"took longer than {(task.timeout or 0) / 60:g} minutes (--timeout)"
    stacks = stacks or "(the worker could not write its stacks)\n"
    store = Store(task.root)
    with store.lock(task.cell.id, task.seeds):
        record_failure(task, store, task.seeds, "timeout", text, stacks)
    with task.log.open("a", encoding="utf-8") as log:
        log.write(f"\n{text}; its stacks at that time:\n{stacks}")
    return text


# ---------------------------------------------------------------------------------------------- data


def load_data(part: PluginSpec, split: Literal["test", "valid"] = "test") -> Data:
    """Load a dataset with a fixed seed and on one thread, so that it is the same on every machine. Raises DatasetError
    for missing or wrong files, and PluginError if the dataset's code fails.

    split: the examples that metrics see as test data; see `DatasetSpec`
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if split == "valid":
            return _validation_data(load_data(part))
        return registry.load(part.plugin)(torch.Generator().manual_seed(0), **part.params)
    except GanbenchError:
        raise
    except Exception as error:
        raise PluginError(
            f"{part.plugin.path}: the dataset {part.name!r} failed: {explain(error)}"
        ) from error
    finally:
        torch.set_num_threads(threads)


def _validation_data(data: Data) -> Data:
    """The data for a search, without the test examples: the validation examples take their place, and a random tenth
    of the training examples, which are not trained on, becomes the validation examples."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    tenth = max(1, len(order) // 10)
    held_out, rest = order[:tenth].sort().values, order[tenth:].sort().values
    labels = data.labels and Labels(data.labels.train[rest], data.labels.train[held_out], data.labels.valid)
    return replace(data, train=data.train[rest], valid=data.train[held_out], test=data.valid, labels=labels)


def save_data(data: Data, digest: str, path: Path) -> Path | None:
    """Store a dataset, so that workers memory-map it instead of loading and hashing it again. Returns the path; None
    if the dataset has functions (a log density, a simulator), which only its plugin has, or cannot be stored."""
    if type(data) is not Data or data.log_density or data.simulator:
        return None
    tensors = {"train": data.train, "valid": data.valid, "test": data.test}
    if data.labels:
        tensors |= {f"labels.{split}": labels for split, labels in data.labels._asdict().items()}
    plain: dict[str, Any] = {name: getattr(data, name) for name in ("name", "shape", "scale", "classes")}
    if data.modes:
        tensors["centers"] = data.modes.centers
        plain["modes"] = {"std": data.modes.std, "dims": data.modes.dims}
        if data.modes.weights is not None:
            tensors["modes.weights"] = data.modes.weights
    try:
        metadata = {"digest": digest, "data": json.dumps(plain)}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError):  # a full disk, or unusual values
        path.unlink(missing_ok=True)
        return None
    return path


def read_data(path: Path) -> tuple[Data, str]:
    """The dataset that `save_data` stored, and its digest. Its tensors are memory-mapped: all workers share the memory,
    and if a plugin writes into a tensor, only its own process sees it."""
    with safe_open(path, framework="pt") as file:
        metadata: Mapping[str, str] = file.metadata()
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    plain = json.loads(metadata["data"])
    for name in ("shape", "scale", "classes"):
        plain[name] = plain[name] if plain[name] is None else tuple(plain[name])
    modes = plain.pop("modes", None)
    data = Data(
        **{split: tensors[split] for split in Labels._fields},
        **plain,
        modes=Modes(tensors["centers"], **modes, weights=tensors.get("modes.weights")) if modes else None,
        labels=Labels(*(tensors[f"labels.{split}"] for split in Labels._fields))
        if "labels.train" in tensors
        else None,
    )
    return data, metadata["digest"]
