"""Where tasks are done. An `Executor` gives each to a worker of its own; `Local` has processes on this machine.

Workers may die as they like: that is an exception in one future, and `lost` says how it came to it. Whether the
task is tried again is for the caller to say.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pebble import ProcessExpired
from pebble.concurrent import process

from ..errors import GanbenchError
from . import server
from .work import Done, Task, attended, begin, trim

WATCH = 1.0  # seconds between two looks at the processes
PATIENCE = 3.0  # seconds that a process has to end when told to


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
    """Processes on this machine, one for each task, forked from a server that has imported torch already.

    They share nothing with each other, such as the queue of a pool, that one could take along when it is killed.
    """

    def __init__(self, jobs: int, board: Path, device: str, gpus: Sequence[str] = ()) -> None:
        """jobs: processes at the same time
        board: a folder of its own, where workers say where they are
        gpus: names for CUDA_VISIBLE_DEVICES, over which the processes are spread evenly; by default each sees all"""
        places = [gpus[place % len(gpus)] for place in range(jobs)] if gpus else []
        self.jobs, self.board, self.given = jobs, board, (board, device == "cpu", places)
        self.name = f"ganbench worker of {board.name}"
        self.waiting: deque[tuple[Task, Future[Done]]] = deque()
        self.running: dict[Future[Done], Task] = {}
        self.changing = threading.RLock()  # the two above
        self.stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, task: Task) -> Future[Done]:
        future: Future[Done] = Future()
        self.waiting.append((task, future))
        self._begin()
        return future

    def _begin(self) -> None:
        """Begin with tasks that wait, as long as there is room."""
        with self.changing:
            while self.waiting and len(self.running) < self.jobs and not self.stopped.is_set():
                task, future = self.waiting.popleft()
                attended(task, self.board).unlink(missing_ok=True)
                try:
                    # Its own types call the last one `mp_context`, under which name it is not heard.
                    start: Any = {"name": self.name, "daemon": False, "context": server.start()}
                    running = process(**start)(begin)(task, *self.given)
                except (OSError, EOFError) as error:
                    what = f"no worker process can be started ({error or 'the server of workers has ended'})"
                    future.set_exception(
                        GanbenchError(f"{what}; run the same command again to go on from here")
                    )
                    continue
                self.running[running] = task
                running.add_done_callback(partial(self._ended, future))

    def _ended(self, future: Future[Done], running: Future[Done]) -> None:
        with self.changing:
            del self.running[running]
        error = error_of(running)
        if error is None:
            future.set_result(running.result())
        else:
            future.set_exception(error)
        self._begin()

    def lost(self, error: BaseException) -> str | None:
        if isinstance(error, CancelledError):
            return "ended in the middle of its task, and left a copy of itself behind"
        return _death(error.exitcode) if isinstance(error, ProcessExpired) else None

    def stop(self) -> None:
        self.stopped.set()
        with self.changing:
            self.waiting.clear()
        workers = [one for one in multiprocessing.active_children() if one.name == self.name]
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(PATIENCE)
            worker.kill()
            worker.join()

    def _watch(self) -> None:
        """Keep logs short, and cancel the tasks of processes that are no more, but whose end is not heard of since
        a copy that a method has forked goes on. Seen twice, so that there was time to hear of any other."""
        before: set[Future[Done]] = set()
        while not self.stopped.wait(WATCH):
            with self.changing:
                running = dict(self.running)
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
    return (
        f"died (signal {-code})"
        if code and code < 0
        else f"ended with exit code {code} in the middle of its task"
    )
