"""Tasks on the nodes of a Ray cluster (an extra: `pip install 'ganbench[ray]'`).

Nodes need not share files with the machine that runs the suite. A payload takes a task there, with the source of
the user's files and with what its seeds have already; the node works in a directory of its own, in a process as on
one machine, and what it made comes back and is written here. Ray retries nothing: the caller decides that.
"""

# Ray is an extra, which need not be there where types are checked.
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

MAX_RUNNING = 256  # tasks handed to Ray; more wait here
CONNECT_TIMEOUT = 10.0  # seconds to wait for the cluster's first answer
POLL_INTERVAL = 0.5  # seconds between two looks of a node at its worker


# ---------------------------------------------------------------------------------------------- the cluster


@dataclass(frozen=True)
class Resources:
    """What a cluster has."""

    nodes: int
    cpus: float
    gpus: float

    @property
    def about(self) -> str:
        """`Ray: 2 nodes, 8 CPUs, no GPU`"""
        gpus = f"{self.gpus:g} GPU{'s' * (self.gpus != 1)}" if self.gpus else "no GPU"
        return f"Ray: {self.nodes} node{'s' * (self.nodes != 1)}, {self.cpus:g} CPUs, {gpus}"


def connect() -> Resources:
    """Connect to the cluster that Ray's own settings name (RAY_ADDRESS, RAY_AUTH_MODE, ...), or to one of this
    machine alone where they name none. Raises RequestError where Ray is missing or cannot be reached."""
    try:
        import ray
    except ImportError:
        raise RequestError("--executor ray needs Ray: pip install 'ganbench[ray]'") from None
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray warns of otherwise
    where = os.environ.get("RAY_ADDRESS", "")
    _check_reachable(where)
    with tempfile.TemporaryFile() as output:
        try:
            with _stderr_into(output.fileno()):  # Ray repeats itself there for half a minute
                ray.init(log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except Exception as error:
            output.seek(0)
            refused = b"InvalidAuthToken" in output.read()
            why = "it wants another token (RAY_AUTH_MODE, RAY_AUTH_TOKEN)" if refused else _first_line(error)
            raise RequestError(f"Ray at {where or 'this machine'} cannot be used: {why}") from None
    has = ray.cluster_resources()
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    return Resources(nodes, has.get("CPU", 0.0), has.get("GPU", 0.0))


@contextmanager
def _stderr_into(file: int) -> Iterator[None]:
    """Redirect what this process and its libraries print to stderr into a file."""
    before = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _check_reachable(address: str) -> None:
    """Raises RequestError where nobody answers at an address with a port. Ray itself takes two minutes to say so, and
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
    """The first line of an exception's text, or its type where there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class Cluster:
    """Hands tasks to Ray: one CPU each and, on CUDA, a share of a GPU."""

    def __init__(self, progress: ProgressDir, *, jobs: int | None = None, share: float = 0) -> None:
        """jobs: tasks at the same time, at most
        share: of a GPU, for each task; 0 on the CPU

        Nodes cannot write into the progress folder, so a run says which tasks wait for another run and when tasks
        end, and not how far they are."""
        import ray
        import ray.exceptions

        self.ray, self.progress = ray, progress
        self.remote = ray.remote(num_cpus=1, num_gpus=share, max_retries=0)(run_on_node)
        self.jobs = min(jobs or MAX_RUNNING, MAX_RUNNING)
        self.waiting: deque[Task] = deque()
        self.locked: set[int] = set()  # tasks whose seeds another run works on
        # By Ray's reference; with the locks of its seeds.
        self.running: dict[Any, tuple[Task, Store, ExitStack]] = {}

    def submit(self, task: Task) -> None:
        self.waiting.append(task)

    def wait(self, timeout: float) -> list[Outcome]:
        outcomes = self._send()
        if self.running:
            ready, _ = self.ray.wait(list(self.running), timeout=0 if outcomes else timeout)
            outcomes += [self._receive(reference) for reference in ready]
        elif not outcomes:
            time.sleep(timeout)  # other runs have the locks of all that is left
        return outcomes

    def _send(self) -> list[Outcome]:
        """Send tasks away, with the locks of their seeds taken as by a local worker; those with nothing to do."""
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
                    self.waiting.append(task)  # until the other run is done with it
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
        """Store what a node made of a task. Raises GanbenchError where nodes cannot work on this run."""
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
    """A task with all that a node needs for it and may not have."""

    task: Task
    version: str  # of ganbench
    roots: tuple[str, ...]  # folders of ganbench, here
    sources: Mapping[str, bytes]  # users' files by their paths here
    stored: Mapping[str, bytes]  # files of the run directory


@dataclass(frozen=True)
class NodeResult:
    """What a node made of a task."""

    node: str
    files: Mapping[str, bytes] = field(default_factory=dict)  # of the run directory
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    death: str = ""  # how the worker ended, where it did before its task
    refusal: str = ""  # why the node cannot do any task of this run


def pack(task: Task, trained: set[int]) -> TaskPayload:
    """The payload of a task, with the files of the seeds that are `trained`."""
    seeds = [task.root / layout.seed(task.cell.id, seed) for seed in sorted(trained)]
    stored = {file: content for folder in seeds for file, content in _contents(task.root, folder)}
    sources = {str(file): file.read_bytes() for file in sorted(_sources(task.cell))}
    return TaskPayload(task, __version__, _roots(), sources, stored)


def run_on_node(payload: TaskPayload) -> NodeResult:
    """Do a task on the machine where this is called, with files of its own and in a process of its own."""
    node = platform.node()
    if payload.version != __version__:
        return NodeResult(
            node,
            refusal=f"has ganbench {__version__}, the run has {payload.version}; install the same version everywhere",
        )
    vars(sys.modules["__main__"]).pop("__file__", None)  # which a worker would run again: it is Ray's own
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
        # What the task made or changed.
        folders = [task.root / layout.CELLS, task.root / layout.LOGS]
        files = {name: content for each in folders for name, content in _contents(task.root, each)}
        files = {name: content for name, content in files.items() if payload.stored.get(name) != content}
        return NodeResult(node, files, result.warnings, result.seconds)


def unpack(payload: TaskPayload, folder: Path) -> Task:
    """Write the files of a payload into a folder; the task with the paths of this machine."""
    root = folder / "run"
    paths = list(zip(payload.roots, _roots(), strict=True))
    for name, content in payload.sources.items():
        file = Path(f"{folder}/files{name}")  # the same tree, so that files find their neighbours
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        paths.insert(0, (name, str(file)))
    for name, content in payload.stored.items():
        Store(root).write(root / name, content)
    root.mkdir(exist_ok=True)
    return replace(relocate(payload.task, paths), root=root)


def store_files(store: Store, files: Mapping[str, bytes]) -> None:
    """Write files that a node made into the run directory: artefacts first, then the documents that vouch for
    them. Raises StoreError for a name that leads out of it."""
    for name in sorted(files, key=lambda name: (name.endswith(".json"), name)):
        store.write(store.path(*name.split("/")), files[name])


def _contents(root: Path, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files in a folder, by their names in `root`."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_symlink() and file.suffix != ".tmp":
            yield file.relative_to(root).as_posix(), file.read_bytes()


def _roots() -> tuple[str, ...]:
    """The folders of ganbench in which plugins lie, on this machine."""
    return str(registry.shipped("baselines")), str(registry.PACKAGE)


def _sources(cell: Cell) -> set[Path]:
    """The users' files that a cell names: samples, and plugins with the neighbours that they import."""
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
    """All texts and paths in a value."""
    if isinstance(value, str | Path):
        yield str(value)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _texts([getattr(value, field.name) for field in fields(value)])
    elif isinstance(value, Mapping):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
