"""What a worker process does: the part of a cell that is its task, whatever comes in between.

Each task has a fresh process of one thread. It locks its seeds, looks once more at what is missing, trains,
and scores; every result is in the store before the next one is begun. What the code of methods and metrics
prints goes into a log of the task.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from multiprocessing.connection import wait as wait_for
from operator import itemgetter
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from .. import plugins
from ..contracts import Data, Status
from ..errors import GanbenchError, PluginError, StoreError
from .files import explained
from .progress import Board, State
from .score import Scorer, explain, unmeasured
from .store import SETTLED, Entry, Store, Training, data_digest, few
from .subject import model
from .suite import Part
from .train import Progress, Trained, out_of_memory, train

OVERHEAD = 200  # numbers that an example is worth whatever its size, when costs are guessed
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LOG_LIMIT = 10_000_000  # bytes of a log; what goes beyond begins it anew

POLL = 0.05  # seconds between two looks for a free GPU
HELD: list[FileLock] = []  # a lock that nobody refers to is given back

Tell = Callable[[State], None]


@dataclass(frozen=True)
class Task:
    """Some seeds of a cell, for one worker."""

    number: int
    entry: Entry
    seeds: tuple[int, ...]
    root: Path  # of the run directory
    device: str
    timeout: float | None = None  # seconds that its worker may take

    @property
    def log(self) -> Path:
        """Where what its worker prints is kept."""
        ends = "-".join(map(str, sorted({min(self.seeds), max(self.seeds)})))
        return self.root / "logs" / f"{self.entry.id}-seed-{ends}.log"

    @property
    def label(self) -> str:
        """`ring-gan, seeds 0-2`"""
        return f"{self.entry.cell.label}, {seed_names(self.seeds)}"

    def cost(self, seeds: int) -> float:
        """How long that many trainings may take, in no unit: only to begin with the longest."""
        settings, method = self.entry.cell.train, self.entry.cell.method
        work = settings.steps * settings.batch * (OVERHEAD + self.entry.size) * 4 ** len(method.tricks)
        return seeds * work if method.part else 0.0


def seed_names(seeds: Sequence[int]) -> str:
    """`seed 3`, `seeds 0-2` or `seeds 1, 3`"""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    in_a_row = seeds[-1] - seeds[0] == len(seeds) - 1
    return "seeds " + (f"{seeds[0]}-{seeds[-1]}" if in_a_row else ", ".join(map(str, seeds)))


@dataclass(frozen=True)
class Missing:
    """What is still to be done."""

    train: tuple[int, ...]  # seeds
    scores: tuple[tuple[Training, int], ...]  # of seeds that are trained: which, and index of the metric

    def __bool__(self) -> bool:
        return bool(self.train or self.scores)


def missing(store: Store, entry: Entry, seeds: Sequence[int]) -> Missing:
    """What these seeds of a cell lack. What failed last time counts as missing; a seed that diverged would
    only diverge again."""
    train, scores = [], []
    for seed in seeds:
        training = store.training(entry.id, seed, entry.train_keys[seed])
        if training is None or training.status not in SETTLED:
            train.append(seed)
        elif training.status == "ok":
            for index, metric in enumerate(entry.cell.metrics):
                score = store.score(entry.id, seed, metric.name, entry.score_keys[index][seed])
                if score is None or score["status"] != "ok":
                    scores.append((training, index))
    return Missing(tuple(train), tuple(scores))


# ---------------------------------------------------------------------------------------------- working


@dataclass(frozen=True)
class Done:
    """What a worker hands back; its results are in the store."""

    warnings: list[str]
    seconds: float


def work(task: Task, board: Path) -> Done:
    """Do what is missing of a task. A failure of the method, the metric or the data is written down as the
    status of what it hit. Raises StoreError where nothing can be written."""
    started = time.monotonic()
    store = Store(task.root)
    tell = Board(board).teller(task.number)
    tell(State("waiting", len(task.seeds)))
    with (
        store.lock(task.entry.id, task.seeds),
        _limited(task, board),
        _noting_failures(task, store, task.seeds),
    ):
        todo = missing(store, task.entry, task.seeds)  # a second look: another run may have been here
        if todo:
            data = load_data(task.entry.cell.dataset.part)
            _check(task.entry, data)
            _train(task, store, data, todo.train, tell)
            _score(task, store, data, tell)
    return Done(store.warnings, max(0.0, time.monotonic() - started))


def _check(entry: Entry, data: Data) -> None:
    """Results are stored under keys that were made when the run began: refuse files and data that are others
    now, or on this node. Raises PluginError."""
    cell = replace(entry.cell)  # which has not read the files yet
    if Entry.of(cell, data_digest(data), entry.protocols, entry.size) != entry:
        raise PluginError(
            "the data, or the source of the method, a trick or a metric, are not those with which the run began; "
            "run the same command again to use the new ones"
        )


@contextmanager
def _noting_failures(task: Task, store: Store, seeds: Sequence[int]) -> Iterator[None]:
    """An exception in here is the status of what these seeds lack."""
    worker = os.getpid()
    try:
        yield
        _end_copies(worker)
    except StoreError:
        raise
    except (
        BaseException
    ) as error:  # whatever a method may raise, KeyboardInterrupt too: workers ignore Ctrl-C
        _end_copies(worker)
        status: Status = "oom" if out_of_memory(error) else "failed"
        give_up(task, store, seeds, status, explain(error), traceback.format_exc())


def _end_copies(worker: int) -> None:
    """A copy of the worker, which a method or metric made by forking and that came back here, goes no further."""
    if os.getpid() != worker:
        os._exit(0)


@contextmanager
def _limited(task: Task, board: Path) -> Iterator[None]:
    """Ends this process, and leaves the stacks of all its threads on the board, if it is in here for too long."""
    if task.timeout is None:
        yield
        return
    with open(stacks(task, board), "w") as file:
        faulthandler.dump_traceback_later(task.timeout, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def stacks(task: Task, board: Path) -> Path:
    """The file with the stacks of a worker that took too long; absent or empty otherwise."""
    return board / f"{task.number}.stacks"


def overdue(task: Task, board: Path) -> str | None:
    """Write down that the worker of a task took too long, and give what to say of it; None where it did not."""
    path = stacks(task, board)
    if task.timeout is None or not path.exists() or not (trace := path.read_text(errors="replace")):
        return None
    text = f"took longer than {task.timeout / 60:g} minutes (--timeout)"
    store = Store(task.root)
    with store.lock(task.entry.id, task.seeds):
        give_up(task, store, task.seeds, "timeout", text, trace)
    with task.log.open("a") as log:
        log.write(f"\n{text}; where it was:\n{trace}")
    return text


def _train(task: Task, store: Store, data: Data, seeds: Sequence[int], tell: Tell) -> None:
    """Games as one stack; other methods seed by seed, each kept as soon as it is there."""
    cell = task.entry.cell

    def progress(now: Progress) -> None:
        tell(State("training", now.seeds, now.step, now.steps, now.rate, now.losses))

    size = max(1, len(seeds)) if cell.rung == "game" else 1
    for stack in (seeds[start : start + size] for start in range(0, len(seeds), size)):
        tell(State("training", len(stack)))
        with _noting_failures(task, store, stack):
            worker = os.getpid()
            for trained in train(cell, data, stack, device=task.device, progress=progress):
                _end_copies(worker)
                _keep(task, store, data, trained)


def _score(task: Task, store: Store, data: Data, tell: Tell) -> None:
    """Score all seeds that are trained by all metrics that they lack."""
    entry, cell = task.entry, task.entry.cell
    score = Scorer(entry, data)
    for training, own in groupby(missing(store, entry, task.seeds).scores, key=itemgetter(0)):
        seed = training.seed
        with _noting_failures(task, store, [seed]):
            subject = model(cell, data, seed, *store.tensors(entry.id, seed), device=task.device)
            for _, index in own:
                tell(State(f"{cell.metrics[index].name} of seed {seed}", 1))
                worker = os.getpid()
                scored = score(index, subject, training)
                _end_copies(worker)
                store.write_score(entry, seed, scored)


def _keep(task: Task, store: Store, data: Data, trained: Trained) -> None:
    """Store a training, with some of its samples."""
    entry, n, shown = task.entry, few(data.shape), trained.samples
    if trained.status == "ok" and shown is None:
        shown = model(entry.cell, data, trained.seed, trained.state, None, device=task.device).samples(n)
    training = Training.of(trained, entry.train_keys[trained.seed])
    store.write_training(entry.id, training, trained, data.floats(shown[:n]) if shown is not None else None)


def give_up(
    task: Task, store: Store, seeds: Sequence[int], status: Status, error: str, trace: str | None = None
) -> None:
    """Write this status down for all that these seeds of a task lack."""
    entry, todo = task.entry, missing(store, task.entry, seeds)
    for seed in todo.train:
        key, dtype = entry.train_keys[seed], entry.cell.train.dtype
        failed = Training(key, seed, status, error, trace, 0.0, len(todo.train), task.device, dtype, None)
        store.write_training(entry.id, failed)
    for training, index in todo.scores:
        store.write_score(entry, training.seed, unmeasured(entry, index, training, status, error, trace))


def begin(task: Task, board: Path, cpu: bool, places: Sequence[str]) -> Done:
    """`attend` in a fresh process, which sees one GPU where there are several."""
    gc.enable()  # see `preloaded`
    if places:
        os.environ["CUDA_VISIBLE_DEVICES"] = take_gpu(board, places)  # read when CUDA is first used
    torch.backends.cudnn.allow_tf32 = False  # what is called float32 is float32, in convolutions too
    if cpu:
        torch.set_num_threads(1)  # sums depend on the number of threads, so it never changes
        keep_memory()
    parent = multiprocessing.parent_process()
    if parent:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    return attend(task, board)


def attend(task: Task, board: Path) -> Done:
    """`work` in a process of its own: marked on the board while it goes on, its output in the task's log."""
    mark = attended(task, board)
    mark.write_text(str(os.getpid()))
    try:
        Store(task.root).path("logs").mkdir(exist_ok=True)
        log = os.open(task.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW)
    except OSError as error:
        raise explained(error, task.log) from None
    for output in (1, 2):
        os.dup2(log, output)
    faulthandler.enable(file=log)  # a crash in compiled code leaves its stacks there
    try:
        return work(task, board)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if not os.fstat(log).st_size:
            task.log.unlink(missing_ok=True)
        mark.unlink(missing_ok=True)


def attended(task: Task, board: Path) -> Path:
    """The file with the process id of the worker that has a task; absent where none has."""
    return board / f"{task.number}.pid"


def trim(log: Path) -> None:
    """Empty a log that has grown too long; what prints into it appends."""
    with suppress(OSError):
        if log.stat().st_size > LOG_LIMIT:
            os.truncate(log, 0)


def take_gpu(board: Path, places: Sequence[str]) -> str:
    """The GPU of the first place that no other worker has. It is this process's until it ends, however it ends."""
    while True:
        for number, name in enumerate(places):
            lock = FileLock(board / f"gpu-{number}.lock")
            with suppress(Timeout):
                lock.acquire(timeout=0)
                HELD.append(lock)
                return name
        time.sleep(POLL)  # the worker before is still ending


def keep_memory() -> None:
    """Have glibc keep the memory that tensors give back. By default it returns every large block to the system, and
    each new tensor begins with page faults."""
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        _ = mallopt(M_MMAP_THRESHOLD, 2**30) or mallopt(
            M_MMAP_THRESHOLD, 2**25
        )  # the most that older ones take
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _die_with(sentinel: int) -> None:
    """A worker whose parent was killed must not train on for nobody."""
    wait_for([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def load_data(part: Part) -> Data:
    """A dataset, the same for everybody: under a fixed seed, on one thread. Raises DatasetError, and
    PluginError where a dataset's code fails."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return plugins.load(part.plugin)(torch.Generator().manual_seed(0), **part.params)
    except GanbenchError:
        raise
    except Exception as error:
        raise PluginError(
            f"{part.plugin.path}: the dataset {part.name!r} failed: {explain(error)}"
        ) from error
    finally:
        torch.set_num_threads(threads)
