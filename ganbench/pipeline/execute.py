"""Run a suite: find out what is missing, do it in worker processes, derive the tables, the plots, the report.

Each task (some seeds of a cell) gets a fresh process of one thread. Whatever a task does, including to die,
the others go on, and what is finished stays: running again does only what is still missing.
"""

from __future__ import annotations

import importlib
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console

from ..contracts import Data
from ..errors import PluginError, RequestError
from ..imports import uncollected
from . import plan as planning
from .executors import Executor, Local, error_of
from .plan import Cell
from .progress import Board, Display, print_grid, say
from .score import explain, protocol
from .store import Entry, Preview, Store, data_digest, preview
from .suite import Suite, dump
from .tracking import Tracking
from .train import rehearse
from .work import Done, Task, give_up, load_data, missing, overdue, seed_names

if TYPE_CHECKING:
    from ..reporting.rundir import Run

BUSY = 2  # cells for each core from which on cells alone keep all cores busy
POLL = 0.2  # seconds between two looks at the workers
ATTEMPTS = 2  # at a task whose worker is killed
REPORTS = ("table", "plots", "report")  # modules of ganbench.reporting with a `write(run directory)`
Start = Callable[[int, Path], Executor]  # tasks at the same time, folder of the board
RESUME = "run the same command again to go on from here"


# ---------------------------------------------------------------------------------------------- run


def run(
    suite: Suite,
    out: Path,
    *,
    device: str = "auto",
    executor: Literal["local", "ray"] = "local",
    jobs: int | None = None,
    timeout: float | None = None,
    shard: tuple[int, int] | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
) -> int:
    """Train and score what is missing of a suite in the run directory `out`, then write tables and report.

    device: "auto", "cpu" or "cuda"
    executor: "local", processes on this machine, or "ray", the cluster that Ray's own settings name
    jobs: worker processes; by default one for each core, or on CUDA one for each GPU. With Ray: tasks at the same
        time, by default as many as there is room for; on CUDA: on each GPU, by default one
    timeout: minutes that a task may take before it is ended; by default as long as it likes
    shard: (i, n) does only every n-th cell, starting with the i-th (counted from 1)
    fresh: forget what is there of these cells first
    dry_run: only print what would be done; nothing is written

    Gives the exit code: 0, 1 where something failed, 130 after Ctrl-C. Raises RequestError for data,
    plugins or a device that are not there, before anything is written, and StoreError for a directory that
    cannot be used.
    """
    console = console or Console()
    try:
        device, start, at_once = _choose(executor, device, jobs, console)
        with uncollected():
            entries, previews = survey(suite)
        for card in (preview.card for preview in previews):
            for note in card["notes"]:
                say(console, f"{card['label']}: {note}")
        store = Store(out, read_only=dry_run)
        own = entries[shard[0] - 1 :: shard[1]] if shard else entries
        names = {entry.id for entry in own}
        seconds = 60 * timeout if timeout else None
        tasks = [
            replace(task, timeout=seconds)
            for task in divide(entries, out, device, cores() if device == "cpu" else len(gpus()))
            if task.entry.id in names
        ]
        if dry_run:
            _print_plan(store, own, tasks, console)
            return 0
        tracking = Tracking(suite.track, store)
        _open(store, suite, entries, previews, device, forget=own if fresh else ())
        stopped = _work_through(store, tasks, start, at_once or len(tasks), tracking, console)
        code = _conclude(store, console, stopped)
        if not stopped:
            tracking.finish(tasks)
            _warn(tracking.warnings, console)
        return code
    except KeyboardInterrupt:
        say(console, f"interrupted; {RESUME}")
        return 130


def choose_device(device: str) -> str:
    """The device that is meant: "auto" is CUDA where there is one. Raises RequestError for CUDA where there is none."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise RequestError(f"there is no device {device!r}; expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise RequestError("this machine (or this build of PyTorch) has no CUDA; use --device cpu")
    return device


def _choose(executor: str, device: str, jobs: int | None, console: Console) -> tuple[str, Start, int]:
    """The device that is meant, what starts the executor, and how many tasks it is given at the same time; 0 for
    all, since Ray knows what there is room for. Raises RequestError."""
    if executor == "local":
        device = choose_device(device)
        own = gpus() if device == "cuda" else []
        start = partial(Local, device=device, gpus=own if len(own) > 1 else ())
        return device, start, jobs or (cores() if device == "cpu" else max(1, len(own)))
    from . import cluster

    say(console, "Ray: connecting to the cluster")
    found = cluster.connect()
    say(console, found.about)
    if device == "cuda" and not found.gpus:
        raise RequestError("this cluster has no GPU that Ray knows of; use --device cpu")
    if device == "cpu" or not found.gpus:
        return "cpu", partial(cluster.Cluster, share=0), jobs or 0
    return "cuda", partial(cluster.Cluster, share=1 / (jobs or 1)), 0


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs that this process may use, by their names in CUDA_VISIBLE_DEVICES."""
    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[:count] if names else [str(number) for number in range(count)]


def survey(suite: Suite) -> tuple[list[Entry], list[Preview]]:
    """The cells of a suite with their keys, and what to show of each dataset. Loads every dataset once, one
    after the other, and rehearses the tricks, so that whatever is missing or does not go together is told
    before anything is trained. Raises RequestError."""
    cells = planning.resolve(suite).cells
    found: dict[int, Entry] = {}
    previews, refused = [], []
    for dataset in suite.datasets:
        own = [index for index, cell in enumerate(cells) if cell.dataset.label == dataset.label]
        if not own:
            continue
        data = load_data(dataset.part)
        digest = data_digest(data)
        previews.append(preview(dataset, data, digest))
        for index in own:
            protocols = [protocol(metric, data) for metric in cells[index].metrics]
            found[index] = Entry.of(cells[index], digest, protocols, math.prod(data.shape))
            refused += _refusal(cells[index], data)
    if refused:
        raise PluginError("\n".join(refused))
    return [found[index] for index in sorted(found)], previews


def _refusal(cell: Cell, data: Data) -> list[str]:
    """Why its tricks cannot be used with its method, if so."""
    try:
        rehearse(cell, data)
    except PluginError as error:
        return [f"{cell.label}: {error}"]
    return []


def _open(
    store: Store,
    suite: Suite,
    entries: Sequence[Entry],
    previews: Sequence[Preview],
    device: str,
    forget: Sequence[Entry],
) -> None:
    """Make the run directory ready; whatever cannot be written is found out here, before any training."""
    store.prepare()
    for entry in forget:
        store.remove(entry)
    store.write_text("suite.resolved.yaml", dump(suite))
    store.write_environment(device)
    for each in previews:
        store.write_dataset(each)
    store.write_plan(suite.name, suite.about, entries)


# ---------------------------------------------------------------------------------------------- tasks


def divide(entries: Sequence[Entry], root: Path, device: str, units: int) -> Iterator[Task]:
    """The tasks of a plan. Cells too few to keep all cores, or all GPUs, busy are cut into nearly equal parts.

    What is cut follows from the plan and the machine alone, never from what is there already or from the
    number of workers: the seeds of a stack agree with the same seeds trained alone only to rounding.
    """
    enough = BUSY * units if device == "cpu" else units
    parts = units if len(entries) < enough else 1
    number = 0
    for entry in entries:
        seeds = entry.cell.seeds
        count = min(parts, len(seeds))
        ends = [round(part * len(seeds) / count) for part in range(count + 1)]
        for start, end in pairwise(ends):
            yield Task(number, entry, seeds[start:end], root, device)
            number += 1


# ---------------------------------------------------------------------------------------------- in the parent


def _work_through(
    store: Store, tasks: Sequence[Task], start: Start, jobs: int, tracking: Tracking, console: Console
) -> bool:
    """Do all tasks that lack something, the longest first; whether Ctrl-C ended it."""
    lacking = [(task, todo) for task in tasks if (todo := missing(store, task.entry, task.seeds))]
    lacking.sort(key=lambda pair: -pair[0].cost(len(pair[1].train)))
    todo = [task for task, _ in lacking]
    _warn(store.warnings, console)
    say(console, f"{len(todo)} of {len(tasks)} tasks to do" if todo else f"all {len(tasks)} tasks are done")
    if not todo:
        return False
    with tempfile.TemporaryDirectory(prefix="ganbench-") as folder:
        board = Board(Path(folder))
        with Display(board, {task.number: task.label for task in todo}, console) as display:
            try:
                executor = start(min(jobs, len(todo)), board.folder)
                _Driver(store, executor, board, tracking, display).do(todo)
            except KeyboardInterrupt:
                return True
    return False


class _Driver:
    """Gives tasks to an executor and hears what became of them. Of workers that are killed, the task is tried once
    more."""

    def __init__(
        self, store: Store, executor: Executor, board: Board, tracking: Tracking, display: Display
    ) -> None:
        self.store, self.executor, self.board = store, executor, board
        self.tracking, self.display = tracking, display
        self.running: dict[Future[Done], tuple[Task, int]] = {}

    def do(self, tasks: Sequence[Task]) -> None:
        """Returns when all have ended. Raises what is no task's own fault, such as StoreError; then, as after
        Ctrl-C, no worker is left."""
        try:
            for task in tasks:
                self.running[self.executor.submit(task)] = (task, 1)
            threading.Thread(target=_import_reports, daemon=True).start()
            while self.running:
                done, _ = wait(self.running, timeout=POLL, return_when=FIRST_COMPLETED)
                for future in done:
                    self._ended(future)
                self.tracking.look(tasks)
                _warn(self.tracking.warnings, self.display.console)
                self.display.refresh()
        finally:
            self.executor.stop()

    def _ended(self, future: Future[Done]) -> None:
        task, attempt = self.running.pop(future)
        error = error_of(future)
        how = self.executor.lost(error) if error else None
        if error is None:
            done = future.result()
            _warn(done.warnings, self.display.console)
            self.display.finish(task.number, f"{self._outcome(task)} in {done.seconds:.1f} s")
        elif how is None:
            raise error
        elif text := overdue(task, self.board.folder):
            self.display.finish(task.number, f"timeout: {text}{_place(task)}")
        elif attempt < ATTEMPTS:
            self.display.say(f"{task.label}: its worker {how}; trying once more")
            self.running[self.executor.submit(task)] = (task, attempt + 1)
        else:
            text = f"its worker {how}, {ATTEMPTS} times"
            with self.store.lock(task.entry.id, task.seeds):
                give_up(task, self.store, task.seeds, "lost", text)
            self.display.finish(task.number, f"lost: {text}{_place(task)}")

    def _outcome(self, task: Task) -> str:
        """`finished`, or what did not go well."""
        entry = task.entry
        known = [self.store.training(entry.id, s, entry.train_keys[s], artefacts=False) for s in task.seeds]
        bad = [training for training in known if training and training.status != "ok"]
        if not bad:
            return "finished"
        return f"{len(bad)} of {len(known)} seeds {bad[0].status} ({bad[0].error})"


def _import_reports() -> None:
    """Import what the tables and plots will need, which takes seconds, while there is nothing but to wait."""
    with suppress(Exception):  # whatever is wrong shows when they are written
        for name in REPORTS:
            importlib.import_module(f"ganbench.reporting.{name}")
        importlib.import_module("matplotlib.backends.backend_agg")
        importlib.import_module("seaborn")


def _place(task: Task) -> str:
    """Where to read more."""
    return f"; see {task.log}" if task.log.exists() else ""


def _warn(warnings: list[str], console: Console) -> None:
    """Tell these warnings, once."""
    while warnings:
        say(console, f"warning: {warnings.pop(0)}")


# ---------------------------------------------------------------------------------------------- in the end


def _conclude(store: Store, console: Console, stopped: bool) -> int:
    """Records, tables, plots, report, and a last word; the exit code."""
    rows = store.write_records()
    _warn(store.warnings, console)
    names = (REPORTS[:1] if stopped else REPORTS) if rows else ()
    run, failures = _write_reports(store.root, names)
    if rows and not failures:
        _print_tables(run, console)
    bad = _print_failures(rows, console)
    for text in failures:
        say(console, f"error: {text}\nThe records are kept in {store.root / 'records.jsonl'}.")
    if stopped:
        say(console, f"interrupted; {RESUME}")
        return 130
    if rows and not failures:
        say(console, f"report: {store.root / 'report.html'}")
    return 1 if bad or failures else 0


def _write_reports(root: Path, names: Sequence[str]) -> tuple[Path | Run, list[str]]:
    """Derive everything from the records: the run directory, read once for all of it, and what went wrong."""
    if not names:
        return root, []
    from ..reporting import table

    try:
        run = table.opened(root)
    except Exception as error:
        return root, [f"the results could not be read: {explain(error)}"]
    failures = []
    for name in names:
        try:
            importlib.import_module(f"ganbench.reporting.{name}").write(run)
        except Exception as error:
            failures.append(f"the {name} could not be written: {explain(error)}")
    return run, failures


def _print_tables(run: Path | Run, console: Console) -> None:
    """The tables of the report, in short."""
    from ..reporting import table

    for shown in table.of_run(run):
        heads = [f"{c.metric} {f'{c.protocol} ' if c.mixed else ''}{c.arrow}" for c in shown.columns]
        rows = [
            (row.label, row.seeds, *(entry.text if entry else "" for entry in row.entries))
            for row in shown.rows
        ]
        print_grid(shown.dataset, ("method", "seeds", *heads), rows, console)
        say(console, "\n".join([shown.caption, *shown.notes]) + "\n")


def _print_failures(rows: Sequence[Mapping[str, Any]], console: Console) -> bool:
    """Name every seed that is not ok; whether any of them failed (one that diverged is a result)."""
    seen: dict[tuple[str, ...], dict[int, None]] = {}
    for row in rows:
        if row["status"] != "ok":
            reason = (row["dataset"], row["label"], row["status"], row["error"])
            seen.setdefault(reason, {})[row["seed"]] = None
    count = len({(dataset, label, seed) for (dataset, label, *_), own in seen.items() for seed in own})
    if count:
        say(console, f"not ok: {count} seed{'s' * (count > 1)}")
    for (dataset, label, status, error), own in seen.items():
        say(console, f"  {dataset}-{label}, {seed_names(list(own))}: {status} ({error})")
    return any(reason[2] != "diverged" for reason in seen)


def _print_plan(store: Store, entries: Sequence[Entry], tasks: Sequence[Task], console: Console) -> None:
    """What there is and what would be done."""
    todo = {task.number: missing(store, task.entry, task.seeds) for task in tasks}
    rows = []
    for entry in entries:
        own = [task for task in tasks if task.entry is entry]
        seeds = sum(len(task.seeds) for task in own)
        train = sum(len(todo[task.number].train) for task in own)
        metrics = len(entry.cell.metrics)
        scores = train * metrics + sum(len(todo[task.number].scores) for task in own)
        done = f"{seeds - train}/{seeds}", f"{seeds * metrics - scores}/{seeds * metrics}"
        rows.append(
            (entry.cell.label, str(seeds), f"{entry.cell.train.steps:,}", *done, str(train), str(scores))
        )
    heads = ("cell", "seeds", "steps", "trained", "scored", "to train", "to score")
    print_grid("plan", heads, rows, console)
    count = sum(map(bool, todo.values()))
    say(console, f"{count} of {len(tasks)} tasks would be run; nothing has been written")
