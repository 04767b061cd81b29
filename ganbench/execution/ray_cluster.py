"""Tasks on the nodes of a Ray cluster (an extra: `pip install 'ganbench[ray]'`).

Nodes need not share files with the machine that runs the suite. A payload contains a task, the user's source files and
the existing results of its seeds. The node does the task in a local directory, in a worker process as on a single
machine; its new files are returned and written here. Ray retries nothing: the caller decides that.
"""

# Ray is an extra, which may not be installed where types are checked.
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import os
import platform
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from filelock import Timeout

from .. import __version__, registry
from ..errors import GanbenchError, RequestError, StoreError
from ..store import layout
from ..store.rundir import Store
from ..suite.plan import Cell
from ..suite.sources import relocate
from .local import Local, Outcome
from .progress import WAITING, ProgressDir, TaskProgress, TaskResult, temporary_folder
from .worker import Task, pending_work, record_timeout

MAX_RUNNING = 256  # tasks submitted to Ray at the same time; more wait here
CONNECT_TIMEOUT = 10.0  # seconds to wait for the cluster's first answer
POLL_INTERVAL = 0.5  # seconds between two polls of a node's worker


# ---------------------------------------------------------------------------------------------- the cluster


@dataclass(frozen=True)
class Resources:
    """The resources of a cluster."""

    nodes: int
    cpus: float
    gpus: float

    @property
    def about(self) -> str:
        """`Ray: 2 nodes, 8 CPUs, no GPU`"""
        gpus = f"{self.gpus:g} GPU{'s' * (self.gpus != 1)}" if self.gpus else "no GPU"
        return f"Ray: {self.nodes} node{'s' * (self.nodes != 1)}, {self.cpus:g} CPUs, {gpus}"


def connect() -> Resources:
    """Connect to the cluster of Ray's own settings (RAY_ADDRESS, RAY_AUTH_MODE, ...), or start one on this machine if
    they name none. Raises RequestError if Ray is not installed or the cluster cannot be reached."""
    try:
        import ray
    except ImportError:
        raise RequestError("--executor ray needs Ray: pip install 'ganbench[ray]'") from None
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # avoids a warning of Ray
    where = os.environ.get("RAY_ADDRESS", "")
    _check_reachable(where)
    with tempfile.TemporaryFile() as output:
        try:
            with _stderr_into(output.fileno()):  # Ray prints the same errors there for half a minute
                ray.init(log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except Exception as error:
            output.seek(0)
            refused = b"InvalidAuthToken" in output.read()
            why = "it needs another token (RAY_AUTH_MODE, RAY_AUTH_TOKEN)" if refused else _first_line(error)
            raise RequestError(f"Ray at {where or 'this machine'} cannot be used: {why}") from None
    has = ray.cluster_resources()
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    return Resources(nodes, has.get("CPU", 0.0), has.get("GPU", 0.0))


@contextmanager
def _stderr_into(file: int) -> Iterator[None]:
    """Redirect stderr of this process, including compiled libraries, into a file."""
    before = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _check_reachable(address: str) -> None:
    """Raises RequestError if nothing answers at an address with a port. Ray itself takes two minutes to notice, and
    then ends the process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise RequestError(
            f"no Ray cluster answers at {address} (RAY_ADDRESS): {error}; start one with `ray start --head`"
        ) from None


def _first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class Cluster:
    """Submits tasks to Ray, which gives each one CPU and, on CUDA, a share of a GPU."""

    def __init__(self, progress: ProgressDir, *, jobs: int | None = None, share: float = 0) -> None:
        """jobs: maximum number of tasks at the same time
        share: fraction of a GPU for each task; 0 on the CPU

        Nodes cannot write into the progress folder, so the display shows only which tasks wait for another run and
        when tasks end."""
        import ray
        import ray.exceptions

        self.ray, self.progress = ray, progress
        self.remote = ray.remote(num_cpus=1, num_gpus=share, max_retries=0)(run_on_node)
        self.jobs = min(jobs or MAX_RUNNING, MAX_RUNNING)
        self.waiting: deque[Task] = deque()
        self.locked: set[int] = set()  # tasks whose seeds are locked by another run
        # Ray's reference -> task, store, and the locks of the task's seeds.
        self.running: dict[Any, tuple[Task, Store, ExitStack]] = {}

    def submit(self, task: Task) -> None:
        self.waiting.append(task)

    def wait(self, timeout: float) -> list[Outcome]:
        outcomes = self._send()
        if self.running:
            ready, _ = self.ray.wait(list(self.running), timeout=0 if outcomes else timeout)
            outcomes += [self._receive(reference) for reference in ready]
        elif not outcomes:
            time.sleep(timeout)  # all remaining tasks are locked by other runs
        return outcomes

    def _send(self) -> list[Outcome]:
        """Submit tasks to Ray while there is room, holding the locks of their seeds here. Returns the outcomes of tasks
        with nothing to do."""
        outcomes = []
        for _ in range(len(self.waiting)):
            if len(self.running) == self.jobs:
                break
            task = self.waiting.popleft()
            store = Store(task.root)
            with ExitStack() as locks:
                try:
                    locks.enter_context(store.lock(task.cell.id, task.seeds, wait=False))
                except Timeout:
                    self.waiting.append(task)  # try again later, when the other run may have finished
                    if task.number not in self.locked:
                        self.locked.add(task.number)
                        self.progress.reporter(task.number)(TaskProgress(WAITING, len(task.seeds)))
                    continue
                self.locked.discard(task.number)
                self.progress.clear(task.number)
                work = pending_work(store, task.cell, task.seeds)
                if not work:
                    outcomes.append(Outcome(task, TaskResult(store.warnings)))
                    continue
                trained = {one.seed for one, _ in work.scores}
                seeds = tuple(seed for seed in task.seeds if seed in trained or seed in work.train)
                reference = self.remote.remote(pack(replace(task, seeds=seeds), trained))
                self.running[reference] = (task, store, locks.pop_all())
        return outcomes

    def _receive(self, reference: Any) -> Outcome:
        """Store the results of a task from a node. Raises GanbenchError if nodes cannot do tasks of this run."""
        task, store, locks = self.running.pop(reference)
        errors = self.ray.exceptions
        with locks:
            try:
                back: NodeResult = self.ray.get(reference)
            except errors.RayTaskError as error:
                raise GanbenchError(f"on a node of the cluster: {_first_line(error.cause)}") from error
            except errors.RayError as error:
                return Outcome(task, death=f"was lost with its node or by Ray ({type(error).__name__})")
            if back.refusal:
                raise GanbenchError(f"node {back.node}: {back.refusal}")
            if back.death:
                return Outcome(task, death=f"on node {back.node} {back.death}")
            store_files(store, back.files)
        return Outcome(task, TaskResult([*store.warnings, *back.warnings], back.seconds))

    def stop(self) -> None:
        self.waiting.clear()
        for reference, (_, _, locks) in self.running.items():
            self.ray.cancel(reference, force=True)
            locks.close()
        self.running.clear()
        self.ray.shutdown()


# ---------------------------------------------------------------------------------------------- to a node and back


@dataclass(frozen=True)
class TaskPayload:
    """A task with all files that a node needs for it and may not have."""

    task: Task
    version: str  # of ganbench
    roots: tuple[str, ...]  # folders of ganbench on the sending machine
    sources: Mapping[str, bytes]  # the user's files by their paths on the sending machine
    stored: Mapping[str, bytes]  # files of the run directory


@dataclass(frozen=True)
class NodeResult:
    """The results of a task from a node."""

    node: str
    files: Mapping[str, bytes] = field(default_factory=dict)  # of the run directory
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    death: str = ""  # how the worker exited, if it did not finish its task
    refusal: str = ""  # why the node cannot do any task of this run


def pack(task: Task, trained: set[int]) -> TaskPayload:
    """The payload of a task, with the files of the seeds that are `trained`."""
    seeds = [task.root / layout.seed(task.cell.id, seed) for seed in sorted(trained)]
    stored = {file: content for folder in seeds for file, content in _contents(task.root, folder)}
    sources = {str(file): file.read_bytes() for file in sorted(_sources(task.cell))}
    return TaskPayload(task, __version__, _roots(), sources, stored)


def run_on_node(payload: TaskPayload) -> NodeResult:
    """Do a task on this machine, in a temporary directory and a worker process."""
    node = platform.node()
    if payload.version != __version__:
        return NodeResult(
            node,
            refusal=f"has ganbench {__version__}, the run has {payload.version}; install the same version everywhere",
        )
    # Without `__file__`, multiprocessing does not run this process's main script, Ray's own, in the worker.
    vars(sys.modules["__main__"]).pop("__file__", None)
    with temporary_folder() as folder:
        try:
            task = unpack(payload, Path(folder))
            executor = Local(ProgressDir(Path(folder)), 1, task.device)
            try:
                executor.submit(task)
                while not (outcomes := executor.wait(POLL_INTERVAL)):
                    continue
            finally:
                executor.stop()
            (outcome,) = outcomes
            result = outcome.result or TaskResult(seconds=task.timeout or 0.0)
            if outcome.stacks is not None:
                record_timeout(task, outcome.stacks)
        except StoreError as error:
            return NodeResult(node, death=str(error))
        if outcome.death or result.error:
            return NodeResult(node, death=outcome.death or result.error)
        # Return the files that the task created or changed.
        folders = [task.root / layout.CELLS, task.root / layout.LOGS]
        files = {name: content for each in folders for name, content in _contents(task.root, each)}
        files = {name: content for name, content in files.items() if payload.stored.get(name) != content}
        return NodeResult(node, files, result.warnings, result.seconds)


def unpack(payload: TaskPayload, folder: Path) -> Task:
    """Write the files of a payload into a folder; returns the task with the paths of this machine."""
    root = folder / "run"
    paths = list(zip(payload.roots, _roots(), strict=True))
    for name, content in payload.sources.items():
        file = Path(f"{folder}/files{name}")  # the same tree, so that files can import their neighbours
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        paths.insert(0, (name, str(file)))
    for name, content in payload.stored.items():
        Store(root).write(root / name, content)
    root.mkdir(exist_ok=True)
    return replace(relocate(payload.task, paths), root=root)


def store_files(store: Store, files: Mapping[str, bytes]) -> None:
    """Write the files from a node into the run directory: artefacts first, then the documents with their checksums.
    Raises StoreError for a name that leads out of the directory."""
    for name in sorted(files, key=lambda name: (name.endswith(".json"), name)):
        store.write(store.path(*name.split("/")), files[name])


def _contents(root: Path, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files in a folder: path relative to `root`, content."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_symlink() and file.suffix != ".tmp":
            yield file.relative_to(root).as_posix(), file.read_bytes()


def _roots() -> tuple[str, ...]:
    """The folders of ganbench with plugins, on this machine."""
    return str(registry.shipped("baselines")), str(registry.PACKAGE)


def _sources(cell: Cell) -> set[Path]:
    """The user's files that a cell needs: samples, and plugins with the modules that they import and the files that
    they read."""
    found: set[Path] = set()
    for text in _texts(cell):
        file = Path(text.partition(".py:")[0] + ".py" if ".py:" in text else text)
        if (
            not file.is_absolute()
            or not file.is_file()
            or any(file.is_relative_to(root) for root in _roots())
        ):
            continue
        if file.suffix == ".py":
            found.update(registry.neighbours(file))
            reads = {file.parent / name for plugin in registry.scan(file) for name in plugin.reads}
            found.update(read for read in reads if read.is_file())
        elif file in cell.method.samples:
            found.add(file)
    return found


def _texts(value: Any) -> Iterator[str]:
    """All strings and paths in a nested value."""
    if isinstance(value, str | Path):
        yield str(value)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _texts([getattr(value, field.name) for field in fields(value)])
    elif isinstance(value, Mapping):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
