"""Where tasks are done. An `Executor` gives each to a worker of its own; `Local` has processes on this machine.

Workers may die as they like: that is an exception in one future, and `lost` says how it came to it. Whether the
task is tried again is for the caller to say.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Protocol

from pebble import ProcessExpired, ProcessPool

from . import server
from .work import Done, Task, attend, attended, start_worker, trim

WATCH = 1.0  # seconds between two looks at the processes


class Executor(Protocol):
    """Does tasks, each in a fresh process of one thread."""

    def submit(self, task: Task) -> Future[Done]:
        """Begin with a task when there is room for it. When its future is done, its results are in the store."""
        ...

    def lost(self, error: BaseException) -> str | None:
        """How the worker ended, where the exception of a future says that it did; None where it says something
        else."""
        ...

    def stop(self) -> None:
        """End all workers, at once. None is left when this returns."""
        ...


class Local:
    """Processes on this machine, forked from a server that has imported torch already."""

    def __init__(self, jobs: int, board: Path, device: str, gpus: Sequence[str] = ()) -> None:
        """jobs: processes at the same time
        board: a folder of its own, where workers say where they are
        gpus: names for CUDA_VISIBLE_DEVICES, over which the processes are spread evenly; by default each sees all"""
        places = [gpus[place % len(gpus)] for place in range(jobs)] if gpus else []
        given = [device == "cpu", board, places]
        self.pool = ProcessPool(
            jobs, max_tasks=1, initializer=start_worker, initargs=given, context=server.start()
        )
        self.board = board
        self.running: dict[Future[Done], Task] = {}
        self.stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, task: Task) -> Future[Done]:
        attended(task, self.board).unlink(missing_ok=True)
        future = self.pool.schedule(attend, args=[task, self.board])
        self.running[future] = task
        return future

    def lost(self, error: BaseException) -> str | None:
        if isinstance(error, CancelledError):
            return "ended with exit code 0 in the middle of its task"
        return _death(error.exitcode) if isinstance(error, ProcessExpired) else None

    def stop(self) -> None:
        self.stopped.set()
        self.pool.stop()
        self.pool.join()

    def _watch(self) -> None:
        """Keep logs short, and cancel the tasks of processes that are no more: the pool itself says nothing of
        one that ends with exit code 0. Seen twice, so that it has had the time to speak of any other."""
        before: set[Future[Done]] = set()
        while not self.stopped.wait(WATCH):
            running = {future: task for future, task in [*self.running.items()] if not future.done()}
            dead = {future for future, task in running.items() if _is_gone(attended(task, self.board))}
            for future in dead & before:
                future.cancel()
            for task in running.values():
                trim(task.log)
            before = dead


def error_of(future: Future[Done]) -> BaseException | None:
    """The exception of a future that is done, also where it was cancelled."""
    try:
        return future.exception()
    except CancelledError as error:
        return error


def _is_gone(mark: Path) -> bool:
    """Whether the process whose id is in this file has ended."""
    try:
        os.kill(int(mark.read_text()), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):  # no worker yet, or not a whole number yet
        return False
    return False


def _death(code: int | None) -> str:
    """How a process ended, by its exit code."""
    if code == -signal.SIGKILL:
        return "was killed (signal 9, which is how a system out of memory helps itself)"
    return f"died (signal {-code})" if code and code < 0 else f"ended with exit code {code}"
