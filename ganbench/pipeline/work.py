"""What a worker process does: the part of a cell that is its task, whatever comes in between.

Each task has a fresh process of one thread. It locks its seeds, looks once more at what is missing, trains,
and scores; every result is in the store before the next one is begun.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.connection import wait as wait_for
from operator import itemgetter
from pathlib import Path

import torch

from .. import plugins
from ..contracts import Data, Status
from ..errors import GanbenchError, PluginError, StoreError
from .progress import Board, State
from .score import Scorer, explain, unmeasured
from .store import SETTLED, Entry, Store, Training, few
from .suite import Part
from .train import Progress, Trained, model, out_of_memory, train

OVERHEAD = 200  # numbers that an example is worth whatever its size, when costs are guessed

Tell = Callable[[State], None]


@dataclass(frozen=True)
class Task:
    """Some seeds of a cell, for one worker."""

    number: int
    entry: Entry
    seeds: tuple[int, ...]
    root: Path  # of the run directory
    device: str

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
    with store.lock(task.entry.id, task.seeds), _noting_failures(task, store, task.seeds):
        todo = missing(store, task.entry, task.seeds)  # a second look: another run may have been here
        if todo:
            data = load_data(task.entry.cell.dataset.part)
            _train(task, store, data, todo.train, tell)
            _score(task, store, data, tell)
    return Done(store.warnings, max(0.0, time.monotonic() - started))


@contextmanager
def _noting_failures(task: Task, store: Store, seeds: Sequence[int]) -> Iterator[None]:
    """An exception in here is the status of what these seeds lack."""
    try:
        yield
    except StoreError:
        raise
    except (Exception, SystemExit) as error:
        status: Status = "oom" if out_of_memory(error) else "failed"
        give_up(task, store, seeds, status, explain(error), traceback.format_exc())


def _train(task: Task, store: Store, data: Data, seeds: Sequence[int], tell: Tell) -> None:
    """Games as one stack; other methods seed by seed, each kept as soon as it is there."""
    cell = task.entry.cell

    def progress(now: Progress) -> None:
        tell(State("training", now.seeds, now.step, now.steps, now.rate, now.losses))

    size = max(1, len(seeds)) if cell.rung == "game" else 1
    for stack in (seeds[start : start + size] for start in range(0, len(seeds), size)):
        tell(State("training", len(stack)))
        with _noting_failures(task, store, stack):
            for trained in train(cell, data, stack, device=task.device, progress=progress):
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
                store.write_score(entry, seed, score(index, subject, training))


def _keep(task: Task, store: Store, data: Data, trained: Trained) -> None:
    """Store a training, with some of its samples."""
    entry, n, shown = task.entry, few(data.shape), trained.samples
    if trained.status == "ok" and shown is None:
        shown = model(entry.cell, data, trained.seed, trained.state, None, device=task.device).samples(n)
    training = Training.of(trained, entry.train_keys[trained.seed])
    store.write_training(entry.id, training, trained, shown[:n] if shown is not None else None)


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


def start_worker(cpu: bool) -> None:
    """Set up a fresh worker process."""
    if cpu:
        torch.set_num_threads(1)  # sums depend on the number of threads, so it never changes
    parent = multiprocessing.parent_process()
    if parent:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


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
