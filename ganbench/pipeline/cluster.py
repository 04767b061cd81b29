"""Tasks on the nodes of a Ray cluster (an extra: `pip install 'ganbench[ray]'`).

Nodes need not share files with the machine that runs the suite. A parcel takes a task there, with the source of
the user's files and with what its seeds have already; the node works in a directory of its own, in a process as on
one machine, and what it made comes back and is written here. Ray retries nothing: that is for the caller to say.
"""

# Ray is an extra, which need not be there where types are checked.
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import os
import platform
import queue
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from .. import __version__, plugins
from ..errors import GanbenchError, RequestError, StoreError
from .executors import Local, error_of
from .store import Entry, Store
from .work import Done, Task, missing, overdue

AT_ONCE = 256  # tasks handed to Ray; more wait here
KNOCK = 10.0  # seconds to wait for the cluster's first answer
POLL = 0.5  # seconds between two looks at whether to stop


# ---------------------------------------------------------------------------------------------- the cluster


@dataclass(frozen=True)
class Found:
    """What a cluster has."""

    nodes: int
    cpus: float
    gpus: float

    @property
    def about(self) -> str:
        """`Ray: 2 nodes, 8 CPUs, no GPU`"""
        gpus = f"{self.gpus:g} GPU{'s' * (self.gpus != 1)}" if self.gpus else "no GPU"
        return f"Ray: {self.nodes} node{'s' * (self.nodes != 1)}, {self.cpus:g} CPUs, {gpus}"


def connect() -> Found:
    """Connect to the cluster that Ray's own settings name (RAY_ADDRESS, RAY_AUTH_MODE, ...), or to one of this
    machine alone where they name none. Raises RequestError where Ray is missing or cannot be reached."""
    try:
        import ray
    except ImportError:
        raise RequestError("--executor ray needs Ray: pip install 'ganbench[ray]'") from None
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray warns of otherwise
    where = os.environ.get("RAY_ADDRESS", "")
    _knock(where)
    with tempfile.TemporaryFile() as words:
        try:
            with _stderr_into(words.fileno()):  # where Ray repeats itself for half a minute
                ray.init(log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except Exception as error:
            words.seek(0)
            refused = b"InvalidAuthToken" in words.read()
            why = "it wants another token (RAY_AUTH_MODE, RAY_AUTH_TOKEN)" if refused else _first_line(error)
            raise RequestError(f"Ray at {where or 'this machine'} cannot be used: {why}") from None
    has = ray.cluster_resources()
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    return Found(nodes, has.get("CPU", 0.0), has.get("GPU", 0.0))


@contextmanager
def _stderr_into(file: int) -> Iterator[None]:
    """What this process and its libraries say meanwhile goes into a file."""
    before = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _knock(address: str) -> None:
    """Raises RequestError where nobody answers at an address with a port: Ray itself takes two minutes to say so,
    and then ends the process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()
    except (OSError, OverflowError) as error:
        raise RequestError(
            f"no Ray cluster answers at {address} (RAY_ADDRESS): {error}; start one with `ray start --head`"
        ) from None


def _first_line(error: BaseException) -> str:
    """What an exception says, in a line; its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class WorkerLost(Exception):
    """A worker or its node has ended, or could not work; the text says how."""


class Cluster:
    """Hands tasks to Ray: one CPU each and, on CUDA, a share of a GPU."""

    def __init__(self, jobs: int, _board: Path, share: float) -> None:
        """jobs: tasks at the same time, at most
        share: of a GPU, for each task; 0 on the CPU

        Nodes cannot write on the board, so a run says when tasks end, and not how far they are."""
        import ray
        import ray.exceptions

        self.ray = ray
        self.remote = ray.remote(num_cpus=1, num_gpus=share, max_retries=0)(at_node)
        self.waiting: queue.SimpleQueue[tuple[Task, Future[Done]]] = queue.SimpleQueue()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(min(jobs, AT_ONCE))]
        for thread in self.threads:
            thread.start()

    def submit(self, task: Task) -> Future[Done]:
        future: Future[Done] = Future()
        self.waiting.put((task, future))
        return future

    def lost(self, error: BaseException) -> str | None:
        return str(error) if isinstance(error, WorkerLost) else None

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(2 * POLL)  # one that waits for another run's lock goes with this process
        self.ray.shutdown()

    def _serve(self) -> None:
        """Do one task after the other, until the executor stops."""
        while not self.stopped.is_set():
            try:
                task, future = self.waiting.get(timeout=POLL)
            except queue.Empty:
                continue
            try:
                future.set_result(self._do(task))
            except BaseException as error:
                future.set_exception(error)

    def _do(self, task: Task) -> Done:
        """Send a task away and store what comes back; meanwhile its seeds are locked, as by a local worker."""
        store = Store(task.root)
        with store.lock(task.entry.id, task.seeds):
            todo = missing(store, task.entry, task.seeds)
            if not todo:
                return Done(store.warnings, 0.0)
            trained = {training.seed for training, _ in todo.scores}
            seeds = tuple(seed for seed in task.seeds if seed in trained or seed in todo.train)
            back = self._wait(self.remote.remote(pack(replace(task, seeds=seeds), trained)))
            if back.refused:
                raise GanbenchError(f"node {back.node}: {back.refused}")
            if back.lost:
                raise WorkerLost(f"on node {back.node} {back.lost}")
            store_files(store, back.files)
        return Done([*store.warnings, *back.warnings], back.seconds)

    def _wait(self, reference: Any) -> Back:
        """What a node gives back. Raises WorkerLost where the node, or Ray's worker on it, has ended."""
        errors = self.ray.exceptions
        while not self.stopped.is_set():
            try:
                return self.ray.get(reference, timeout=POLL)
            except errors.GetTimeoutError:
                continue
            except errors.RayTaskError as error:
                raise GanbenchError(f"on a node of the cluster: {_first_line(error.cause)}") from error
            except errors.RayError as error:
                raise WorkerLost(f"was lost with its node or by Ray ({type(error).__name__})") from None
        self.ray.cancel(reference, force=True)
        raise CancelledError


# ---------------------------------------------------------------------------------------------- to a node and back


@dataclass(frozen=True)
class Parcel:
    """A task with all that a node needs for it and may not have."""

    task: Task
    version: str  # of ganbench
    roots: tuple[str, ...]  # folders of ganbench, here
    sources: Mapping[str, bytes]  # users' files by their paths here
    kept: Mapping[str, bytes]  # files of the run directory


@dataclass(frozen=True)
class Back:
    """What a node made of a parcel."""

    node: str
    files: Mapping[str, bytes]  # of the run directory
    warnings: list[str]
    seconds: float
    lost: str = ""  # how the worker ended, where it did before its task
    refused: str = ""  # why the node cannot do any task of this run


def pack(task: Task, trained: set[int]) -> Parcel:
    """A parcel for a task; of the seeds that are `trained`, what they have goes with it."""
    seeds = [task.root / "cells" / task.entry.id / f"seed-{seed}" for seed in sorted(trained)]
    kept = {file: content for folder in seeds for file, content in _contents(task.root, folder)}
    sources = {str(file): file.read_bytes() for file in sorted(_sources(task.entry))}
    return Parcel(task, __version__, _roots(), sources, kept)


def at_node(parcel: Parcel) -> Back:
    """Do a task on the machine where this is called, with files of its own; what ends the process that does it ends
    no more than that."""
    node = platform.node()
    if parcel.version != __version__:
        text = (
            f"has ganbench {__version__}, the run has {parcel.version}; install the same version everywhere"
        )
        return Back(node, {}, [], 0.0, refused=text)
    vars(sys.modules["__main__"]).pop("__file__", None)  # which a worker would run again: it is Ray's own
    with tempfile.TemporaryDirectory(prefix="ganbench-") as folder:
        board = Path(folder) / "board"
        board.mkdir()
        try:
            task = unpack(parcel, Path(folder))
            done = _alone(task, board)
        except (WorkerLost, StoreError) as error:
            return Back(node, {}, [], 0.0, lost=str(error))
        return Back(node, _results(task, parcel.kept), done.warnings, done.seconds)


def unpack(parcel: Parcel, folder: Path) -> Task:
    """Put the files of a parcel into a folder; the task as it is there."""
    root = folder / "run"
    places = list(zip(parcel.roots, _roots(), strict=True))
    for name, content in parcel.sources.items():
        place = Path(f"{folder}/files{name}")  # a tree like there, so that neighbours are neighbours
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        places.insert(0, (name, str(place)))
    for name, content in parcel.kept.items():
        Store(root).write(root / name, content)
    root.mkdir(exist_ok=True)
    return replace(moved(parcel.task, places), root=root)


def store_files(store: Store, files: Mapping[str, bytes]) -> None:
    """Write files that a node made into the run directory: artefacts first, then the documents that vouch for
    them. Raises StoreError for a name that leads out of it."""
    for name in sorted(files, key=lambda name: (name.endswith(".json"), name)):
        store.write(store.path(*name.split("/")), files[name])


def moved(value: Any, places: list[tuple[str, str]]) -> Any:
    """A value with every path in it, also as the text `file.py:Symbol`, taken from old places to new ones, of
    which the first that fits counts."""
    if isinstance(value, str | Path):
        text = str(value)
        for old, new in places:
            if text == old or text.startswith((f"{old}/", f"{old}:")):
                return type(value)(new + text[len(old) :])
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{f.name: moved(getattr(value, f.name), places) for f in fields(value) if f.init}
        )
    if isinstance(value, Mapping):
        return {moved(key, places): moved(item, places) for key, item in value.items()}
    return type(value)(moved(item, places) for item in value) if isinstance(value, list | tuple) else value


def _alone(task: Task, board: Path) -> Done:
    """Do a task in a process of its own. Raises WorkerLost, and what the worker raised."""
    executor = Local(1, board, task.device)
    try:
        future = executor.submit(task)
        wait([future])
        error = error_of(future)
        how = executor.lost(error) if error else None
        if error is None:
            return future.result()
        if how is None:
            raise error
        if overdue(task, board):
            return Done([], task.timeout or 0.0)
        raise WorkerLost(how)
    finally:
        executor.stop()


def _results(task: Task, kept: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files that a task made or changed."""
    folders = [task.root / "cells", task.root / "logs"]
    found = {name: content for folder in folders for name, content in _contents(task.root, folder)}
    return {name: content for name, content in found.items() if kept.get(name) != content}


def _contents(root: Path, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files in a folder, by their names in `root`."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_symlink() and file.suffix != ".tmp":
            yield file.relative_to(root).as_posix(), file.read_bytes()


def _roots() -> tuple[str, ...]:
    """The folders of ganbench in which plugins lie, on this machine."""
    return str(plugins.shipped("baselines")), str(plugins.PACKAGE)


def _sources(entry: Entry) -> set[Path]:
    """The users' files that a cell names: samples, and plugins with the neighbours that they import."""
    found: set[Path] = set()
    for text in _texts(entry.cell):
        file = Path(text.partition(".py:")[0] + ".py" if ".py:" in text else text)
        if (
            not file.is_absolute()
            or not file.is_file()
            or any(file.is_relative_to(root) for root in _roots())
        ):
            continue
        if file.suffix == ".py":
            found.update(plugins.neighbours(file))
        elif file in entry.cell.method.samples:
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
