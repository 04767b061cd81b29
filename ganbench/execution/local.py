"""Executors, which run each task in a separate worker process; `Local` does so on this machine.

A crashed worker fails only its own task: the executor reports how it exited, and the caller decides what to do.
Nothing here imports torch, so that the command line can start the fork server before it imports torch itself.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .. import registry
from ..errors import GanbenchError
from .progress import ProgressDir, TaskResult

if TYPE_CHECKING:
    from .worker import Task

# Modules that every worker needs and that take seconds to import: sklearn imports SciPy, torch.func.grad needs _dynamo.
PRELOAD = ["sklearn.datasets", "torch._dynamo", "ganbench.execution.worker"]
MAX_TEMPORARY_PATH = 60  # bytes; the name of a socket in it has 31 more, and some systems allow 103 in all
GRACE_PERIOD = 5.0  # seconds after --timeout when the parent kills a worker that has not ended itself
START_ATTEMPTS = 3  # to start a process, if the fork server was killed
RETRY_INTERVAL = 0.2  # seconds between them
LOG_LIMIT = 10_000_000  # bytes of a log; a longer one is emptied
RESUME = "run the same command again to continue from here"


@dataclass(frozen=True)
class Outcome:
    """How a task ended: with a result, by its timeout, or with the death of its worker."""

    task: Task
    result: TaskResult | None = None
    stacks: str | None = None  # of a worker that took too long; "" if it could not write them
    death: str = ""  # how the worker exited, in words


class Executor(Protocol):
    """Runs tasks, each in a fresh single-threaded process."""

    def submit(self, task: Task) -> None:
        """Queue a task."""
        ...

    def wait(self, timeout: float) -> list[Outcome]:
        """Start queued tasks while there is room, and wait up to `timeout` seconds for any to end. The results of a
        task that ended are in the store. Raises GanbenchError if no task can be run."""
        ...

    def stop(self) -> None:
        """Kill all workers, and wait until they have ended."""
        ...


@dataclass
class Worker:
    """A running process."""

    process: ForkServerProcess
    task: Task
    slot: int
    deadline: float | None = None  # on the parent's monotonic clock
    late: bool = False  # whether it was killed at its deadline


class Local:
    """Processes on this machine, one per task, forked from a server that has imported torch already.

    Workers share nothing (such as the queue of a process pool) that a killed worker could leave in a broken state.
    """

    def __init__(self, progress: ProgressDir, jobs: int, device: str, gpus: Sequence[str] = ()) -> None:
        """progress: the folder through which workers report
        jobs: number of processes at the same time
        gpus: names for CUDA_VISIBLE_DEVICES, over which processes are distributed; by default each process sees all"""
        self.progress, self.cpu, self.gpus = progress, device == "cpu", gpus
        self.waiting: deque[Task] = deque()
        self.running: dict[int, Worker] = {}  # by sentinel
        self.slots = list(reversed(range(jobs)))  # numbers of the free slots for processes

    def submit(self, task: Task) -> None:
        self.waiting.append(task)

    def wait(self, timeout: float) -> list[Outcome]:
        self._start()
        ready = wait(list(self.running), timeout)
        outcomes = [
            self._outcome(self.running.pop(sentinel)) for sentinel in ready if isinstance(sentinel, int)
        ]
        for worker in self.running.values():
            self._check(worker)
        self._start()  # the caller may be busy with the outcomes for a while
        return outcomes

    def _start(self) -> None:
        """Start queued tasks while there are free slots. Raises GanbenchError if no process can be started."""
        from . import worker as work

        while self.waiting and self.slots:
            task, slot = self.waiting.popleft(), self.slots.pop()
            self.progress.stacks(task.number).unlink(missing_ok=True)
            gpu = self.gpus[slot % len(self.gpus)] if self.gpus else None
            arguments = (task, self.progress, self.cpu, gpu)
            for attempt in range(1, START_ATTEMPTS + 1):
                try:
                    # Not a daemon, which could not start processes, such as the workers of a DataLoader.
                    process = start_server().Process(target=work.worker_main, args=arguments, daemon=False)
                    process.start()
                    self.running[process.sentinel] = Worker(process, task, slot)
                    break
                except (OSError, EOFError) as error:
                    # The fork server was killed, or the process before it had read its task: try again.
                    if attempt < START_ATTEMPTS and isinstance(error, EOFError | ConnectionError):
                        time.sleep(RETRY_INTERVAL)
                        continue
                    raise GanbenchError(
                        f"no worker process can be started ({error or 'the fork server has ended'}); {RESUME}"
                    ) from None

    def _outcome(self, worker: Worker) -> Outcome:
        """The outcome of a process that has exited."""
        task = worker.task
        worker.process.join()
        code = worker.process.exitcode or 0
        _kill(worker)
        worker.process.close()
        self.slots.append(worker.slot)
        if result := self.progress.take_result(task.number):
            return Outcome(task, result)
        stacks = ""
        with suppress(OSError):
            stacks = self.progress.stacks(task.number).read_text(errors="replace")
        return (
            Outcome(task, stacks=stacks)
            if stacks or worker.late
            else Outcome(task, death=describe_exit(code))
        )

    def _check(self, worker: Worker) -> None:
        """Keep the log short, and kill a worker that should have ended itself at its timeout."""
        task, now = worker.task, time.monotonic()
        with suppress(OSError):
            if task.log.stat().st_size > LOG_LIMIT:
                os.truncate(task.log, 0)  # the worker appends, so it continues at the new end
        if task.timeout is None:
            return
        if worker.deadline is None and self.progress.stacks(task.number).exists():
            worker.deadline = now + task.timeout + GRACE_PERIOD
        if worker.deadline is not None and now > worker.deadline:
            worker.late = True
            _kill(worker)

    def stop(self) -> None:
        # Killed at once: the store survives that, so there is no need to let workers end by themselves.
        self.waiting.clear()
        for worker in self.running.values():
            _kill(worker)
        for worker in self.running.values():
            worker.process.join()
        self.running.clear()


def _kill(worker: Worker) -> None:
    """Kill a worker and the processes that its plugins have forked, which are all in its process group."""
    worker.process.kill()  # it may not have its process group yet; no effect if it has exited
    # The group keeps its number while any of its processes runs, even after the worker has exited.
    if pid := worker.process.pid:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def describe_exit(code: int) -> str:
    """How a process exited, by its exit code."""
    if code == -signal.SIGKILL:
        return "was killed (signal 9, as the system does when it runs out of memory)"
    return f"died (signal {-code})" if code < 0 else f"ended with exit code {code} in the middle of its task"


def start_server() -> ForkServerContext:
    """Start the fork server, unless it is running, without waiting for it; returns its multiprocessing context. Its
    imports (`PRELOAD`) take seconds, so call this early."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    # The server must import the same modules as this process, not those of the same name in the working directory,
    # such as a checkout of ganbench next to an installed one: hence PYTHONSAFEPATH. But `python -m ganbench` has
    # imported the one in the working directory, which is then added to PYTHONPATH.
    changed = {"PYTHONSAFEPATH": "1"}
    if Path(sys.path[0] or ".").resolve() == registry.PACKAGE.parent:
        changed["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(registry.PACKAGE.parent), os.environ.get("PYTHONPATH")])
        )
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    chosen = tempfile.tempdir
    try:
        # The server's socket lies in the temporary folder, and its path may have about 100 bytes. Clusters often give
        # each job a longer one; Python 3.14 takes /tmp then by itself.
        if len(os.fsencode(tempfile.gettempdir())) > MAX_TEMPORARY_PATH:
            tempfile.tempdir = "/tmp"  # noqa: S108  (a folder of our own is made in it)
        forkserver.ensure_running()
    finally:
        tempfile.tempdir = chosen
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return context


@contextmanager
def no_collection() -> Iterator[None]:
    """Switch off garbage collection in a block of imports, where it finds nothing and takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
