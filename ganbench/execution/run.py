"""Run a suite: find the missing results, compute them in worker processes, write tables, plots and report.

Each task (some seeds of a cell) gets a fresh single-threaded process. If it fails or crashes, the other tasks go on and
finished results are kept: running again computes only what is still missing.
"""

from __future__ import annotations

import importlib
import math
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console

from ..errors import PluginError, RequestError, StoreError
from ..format import plural, seed_names
from ..scoring import explain, protocol
from ..store import layout
from ..store.results import open_run
from ..store.rundir import Preview, Store, preview
from ..suite.load import Suite
from ..suite.plan import Cell, data_digest, make_cells
from ..training.loop import samples_for_metrics, smoke_test
from .cost import HEADS, Cost, search_costs, total
from .local import RESUME, Executor, Local, Outcome, no_collection
from .progress import Display, ProgressDir, TaskResult, print_grid, say, temporary_folder
from .search import search
from .tracking import Tracking
from .worker import (
    Task,
    load_data,
    pending_work,
    plugin_code,
    record_failure,
    record_timeout,
    save_data,
)

if TYPE_CHECKING:
    from ..store.results import Run

MIN_CELLS_PER_CORE = 2  # with fewer cells, their seeds are split so that all cores are busy
WORKERS_OF_GPU = 4  # most tasks that share a GPU
MEMORY_OF_WORKER = 4 * 2**30  # bytes of free GPU memory for each of them
POLL_INTERVAL = 0.2  # seconds between two polls of the workers
ATTEMPTS = 2  # runs of a task, if its worker is killed
REPORTS = ("tables", "figures", "page")  # modules of ganbench.report with a `write(run directory)`
StartExecutor = Callable[[ProgressDir], Executor]


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
    """Train and score whatever is missing in the run directory `out`, then write tables and report.

    device: "auto", "cpu" or "cuda"
    executor: "local", processes on this machine, or "ray", the cluster that Ray's own settings name
    jobs: worker processes; by default one for each core, or on CUDA up to four for each GPU, as cores and its
        memory allow. With Ray: tasks at the same time, by default as many as the cluster has room for; on CUDA: tasks
        on each GPU, by default one
    timeout: minutes that a task may take before it is killed; by default unlimited
    shard: (i, n) does only every n-th cell, starting with the i-th (counted from 1)
    fresh: remove existing results of these cells first
    dry_run: only print what would be done; nothing is written

    A suite with a search (`tune`) is run twice: first the trials on each dataset, in separate run directories, then the
    suite with the best settings in addition to the defaults.

    Returns the exit code: 0; 1 if something failed, records are missing or every seed diverged; 130 after Ctrl-C,
    SIGTERM or SIGHUP. Raises RequestError for missing data, plugins or devices, before anything is written, and
    StoreError for a directory that cannot be used.
    """
    console = console or Console()
    options = {
        "device": device, "executor": executor, "jobs": jobs, "timeout": timeout, "shard": shard, "fresh": fresh,
        "dry_run": dry_run, "console": console,
    }  # fmt: skip
    if suite.tune:
        root = Path(os.getcwd(), out)
        Store(root, read_only=True).check_suite(suite)  # before the search, which takes long
        costs: list[Cost] = []
        trials = partial(_run, **options, reports=(), costs=costs)
        tuned, code = search(suite, root, trials, console, dry_run=dry_run)
        if dry_run:
            say(console, total(costs))
        if tuned is None:
            return code
        suite = tuned
    return _run(suite, out, **options)


def _run(
    suite: Suite,
    out: Path,
    *,
    device: str,
    executor: Literal["local", "ray"],
    jobs: int | None,
    timeout: float | None,
    shard: tuple[int, int] | None,
    fresh: bool,
    dry_run: bool,
    console: Console,
    reports: Sequence[str] | None = None,
    costs: list[Cost] | None = None,
) -> int:
    """Run a suite without a search, and write `reports`, which are modules of `REPORTS` (by default all). A dry run
    appends the measured costs of training to `costs`."""
    root = Path(os.getcwd(), out)  # absolute, since plugins may change the working directory
    store = Store(root, read_only=dry_run)
    store.check_suite(suite)
    try:
        with _signals_interrupt(), temporary_folder() as temporary:
            device, start = _choose_executor(executor, device, jobs, console)

            # Load the data, give all cells their keys, and split them into tasks.
            copies = Path(temporary) if executor == "local" and not dry_run else None
            with no_collection():
                cells, previews, data = prepare(suite, copies)
            for card in (preview.card for preview in previews):
                for note in card["notes"]:
                    say(console, f"{card['label']}: {note}")
            own = cells[shard[0] - 1 :: shard[1]] if shard else cells
            # Split all cells, then select those of the shard: the stack of a seed must not depend on the shard.
            ids, seconds = {cell.id for cell in own}, 60 * timeout if timeout else None
            tasks = [
                replace(task, timeout=seconds, data=data.get(task.cell.dataset.label))
                for task in split_tasks(cells, root, device, cores() if device == "cpu" else len(gpus()))
                if task.cell.id in ids
            ]
            if dry_run:
                _print_plan(store, own, tasks, console, costs)
                return 0

            # Errors in logging or writing show here, before any training.
            tracking = Tracking(suite.track, store)
            _prepare_directory(store, suite, device, cells, previews, own if fresh else ())

            # Do the work, then write records and reports.
            progress = ProgressDir(Path(temporary))
            stopped = _run_all(tasks, store, start, progress, tracking, console)
            code = _conclude(store, out, own, console, stopped, REPORTS if reports is None else reports)
            if not stopped:
                tracking.finish(tasks)
                _print_warnings(tracking.warnings, console)
            return code
    except KeyboardInterrupt:
        say(console, f"interrupted; {RESUME}")
        return 130


def _prepare_directory(
    store: Store,
    suite: Suite,
    device: str,
    cells: Sequence[Cell],
    previews: Sequence[Preview],
    remove: Sequence[Cell],
) -> None:
    """Write the suite, the environment, the datasets and the plan, and remove the results of the cells in `remove`."""
    store.prepare()
    for cell in remove:
        store.remove(cell)
    store.write_suite(suite)
    store.write_environment(device)
    for each in previews:
        store.write_dataset(each)
    store.write_plan(suite, cells)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does: finished results are kept, workers and temporary files are
    removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    changed = []
    if threading.current_thread() is threading.main_thread():  # Python sets signal handlers only there
        # Only default handlers: the signals may be ignored, as under nohup, or handled by the calling program.
        changed = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) == signal.SIG_DFL]
    for each in changed:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each in changed:
            signal.signal(each, signal.SIG_DFL)


def choose_device(device: str) -> str:
    """The device; "auto" means CUDA if it is available. Raises RequestError for an unknown device, and for CUDA if it
    is not available."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise RequestError(f"there is no device {device!r}; expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise RequestError("this machine (or this build of PyTorch) has no CUDA; use --device cpu")
    return device


def _choose_executor(
    executor: str, device: str, jobs: int | None, console: Console
) -> tuple[str, StartExecutor]:
    """The device, and a function that starts the executor. Raises RequestError if the device or the cluster is not
    available."""
    if executor == "local":
        device = choose_device(device)
        own = gpus() if device == "cuda" else []
        jobs = jobs or (cores() if device == "cpu" else _gpu_workers(len(own)))
        return device, partial(Local, jobs=jobs, device=device, gpus=own if len(own) > 1 else ())
    from . import ray_cluster

    say(console, "Ray: connecting to the cluster")
    resources = ray_cluster.connect()
    say(console, resources.about)
    if device == "cuda" and not resources.gpus:
        raise RequestError("this cluster has no GPU that Ray knows of; use --device cpu")
    if device == "cpu" or not resources.gpus:
        return "cpu", partial(ray_cluster.Cluster, jobs=jobs)
    return "cuda", partial(ray_cluster.Cluster, share=1 / (jobs or 1))


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu_workers(count: int) -> int:
    """The number of tasks to run at once on `count` GPUs. Small nets leave a GPU idle between their kernels, so several
    tasks share it, as far as there are cores to launch kernels and each task has `MEMORY_OF_WORKER`."""
    shared = max(1, min(WORKERS_OF_GPU, cores() // max(count, 1)))
    rooms = [torch.cuda.mem_get_info(index)[0] // MEMORY_OF_WORKER for index in range(count)]
    return max(1, count) * max(1, min([shared, *rooms]))


def gpus() -> list[str]:
    """The GPUs that this process may use, by their names in CUDA_VISIBLE_DEVICES."""
    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[:count] if names else [str(number) for number in range(count)]


# ---------------------------------------------------------------------------------------------- before


def prepare(
    suite: Suite, copies: Path | None = None
) -> tuple[list[Cell], list[Preview], dict[str, Path | None]]:
    """Load every dataset and play one round of each cell with tricks, so that missing data and incompatible tricks are
    reported before anything is trained.

    copies: a folder for copies of the datasets, which workers memory-map

    Returns the cells with their keys, the preview of each dataset, and the copies by label of the dataset (None if it
    cannot be copied). Raises DatasetError for missing data, PluginError for plugins that fail or do not fit together.
    """
    cells = list(make_cells(suite))
    stored: dict[str, Path | None] = {}
    previews, refusals = [], []
    # Dataset by dataset, so that each is loaded once and only one is in memory at a time.
    for number, dataset in enumerate(suite.datasets):
        own = [index for index, cell in enumerate(cells) if cell.dataset is dataset]
        if not own:
            continue
        with plugin_code():
            data = load_data(dataset.part, dataset.split)
            digest = data_digest(data, dataset.part)
            previews.append(preview(dataset, data, digest))
            if copies:
                stored[dataset.label] = save_data(data, digest, copies / f"{number}.safetensors")
            for index in own:
                cell = cells[index] = replace(
                    cells[index],
                    digest=digest,
                    protocols=tuple(protocol(metric, data) for metric in cells[index].metrics),
                    size=math.prod(data.shape),
                    min_samples=samples_for_metrics(cells[index], data),
                )
                try:
                    smoke_test(cell, data)
                except PluginError as error:  # a trick that cannot be used with the method
                    refusals.append(f"{cell.label}: {error}")
    if refusals:
        raise PluginError("\n".join(refusals))
    return cells, previews, stored


def split_tasks(cells: Sequence[Cell], root: Path, device: str, units: int) -> Iterator[Task]:
    """The tasks of a plan. The seeds of a cell are split into nearly equal parts if there are too few cells to keep all
    cores, or all GPUs, busy.

    units: cores or GPUs

    The split depends only on the plan and the machine, never on finished work or on the number of workers, because a
    seed in a stack of another size gets the same numbers only up to rounding.
    """
    enough = MIN_CELLS_PER_CORE * units if device == "cpu" else units
    parts = units if len(cells) < enough else 1
    number = 0
    for cell in cells:
        seeds = cell.seeds
        count = min(parts, len(seeds))
        ends = [round(part * len(seeds) / count) for part in range(count + 1)]
        for start, end in pairwise(ends):
            yield Task(number, cell, seeds[start:end], root, device)
            number += 1


def split_repeats(tasks: Sequence[Task]) -> tuple[list[Task], list[tuple[Task, Cell]]]:
    """The tasks to run, and those that would only repeat an earlier cell, each with that cell. A cell repeats another
    one if it has the same keys and budget under another label, as a tuned method where the search chose its default."""
    cells: dict[str, Cell] = {}
    first, repeats = [], []
    for task in tasks:
        own, earlier = task.cell, cells.setdefault(task.cell.key, task.cell)
        # The number of snapshots is part of the budget but of no key.
        same = (own.train_keys, own.score_keys, own.train) == (
            earlier.train_keys, earlier.score_keys, earlier.train,
        )  # fmt: skip
        if earlier is own or not same:
            first.append(task)
        else:
            repeats.append((task, earlier))
    return first, repeats


def _copy_repeats(repeats: Sequence[tuple[Task, Cell]], store: Store, console: Console) -> list[Task]:
    """Copy the results of the cells that are repeated; returns the tasks with work left to do."""
    for task, earlier in repeats:
        with store.lock(task.cell.id, task.seeds), store.lock(earlier.id, task.seeds):
            copied = [
                seed
                for seed in task.seeds
                if pending_work(store, task.cell, [seed]) and not pending_work(store, earlier, [seed])
            ]
            for seed in copied:
                store.copy_seed(earlier, task.cell, seed)
        if copied:
            say(
                console,
                f"{task.cell.label}, {seed_names(copied)}: copied from {earlier.label}, which has the same keys",
            )
    return [task for task, _ in repeats if pending_work(store, task.cell, task.seeds)]


def _print_plan(
    store: Store, cells: Sequence[Cell], tasks: Sequence[Task], console: Console, costs: list[Cost] | None
) -> None:
    """Print finished and pending work of each cell, and its cost if `costs` are asked for."""
    pending = {task.number: pending_work(store, task.cell, task.seeds) for task in tasks}
    rows = []
    for cell in cells:
        own = [task for task in tasks if task.cell is cell]
        seeds = sum(len(task.seeds) for task in own)
        train = sum(len(pending[task.number].train) for task in own)
        metrics = len(cell.metrics)
        scores = train * metrics + sum(len(pending[task.number].scores) for task in own)
        done = f"{seeds - train}/{seeds}", f"{seeds * metrics - scores}/{seeds * metrics}"
        rows.append((cell.label, str(seeds), f"{cell.train.steps:,}", *done, str(train), str(scores)))
    heads = ("cell", "seeds", "steps", "trained", "scored", "to train", "to score")
    print_grid("plan", heads, rows, console)
    for task in tasks:
        train = pending[task.number].train
        checkpoint = store.checkpoint(task.cell, train, tensors=False) if train else None
        if checkpoint:
            steps = task.cell.train.steps
            where = f"to be resumed after step {checkpoint.step:,} of {steps:,}"
            say(console, f"{task.cell.label}, {seed_names(train)}: {where}")
    if costs is not None and tasks:
        missing = [
            (cell, [s for task in tasks if task.cell is cell for s in pending[task.number].train])
            for cell in cells
        ]
        own = search_costs(store, missing, tasks[0].device)
        if own:
            print_grid("cost of training", HEADS, [cost.cells for cost in own], console)
        costs += own
    count = sum(map(bool, pending.values()))
    say(console, f"{count} of {len(tasks)} tasks would be run; nothing has been written")


# ---------------------------------------------------------------------------------------------- tasks


def _run_all(
    tasks: Sequence[Task],
    store: Store,
    start: StartExecutor,
    progress: ProgressDir,
    tracking: Tracking,
    console: Console,
) -> bool:
    """Run all tasks, of cells that repeat another one after that one; returns whether Ctrl-C interrupted them."""
    first, repeats = split_repeats(tasks)
    stopped = _run_pending(first, store, start, progress, tracking, console)
    left = [] if stopped else _copy_repeats(repeats, store, console)
    if left:  # seeds of which there is nothing to copy, since they failed
        stopped = _run_pending(left, store, start, progress, tracking, console)
    return stopped


def _run_pending(
    tasks: Sequence[Task],
    store: Store,
    start: StartExecutor,
    progress: ProgressDir,
    tracking: Tracking,
    console: Console,
) -> bool:
    """Run all tasks with pending work; returns whether Ctrl-C interrupted them."""
    pending = [(task, work) for task in tasks if (work := pending_work(store, task.cell, task.seeds))]
    # Longest first: a long task that starts last would leave the other workers idle at the end.
    pending.sort(key=lambda pair: -pair[0].cost(len(pair[1].train)))
    todo = [task for task, _ in pending]
    _print_warnings(store.warnings, console)
    say(console, f"{len(todo)} of {len(tasks)} tasks to do" if todo else f"all {len(tasks)} tasks are done")
    if not todo:
        return False
    with Display(progress, {task.number: task.label for task in todo}, console) as display:
        try:
            _run_tasks(todo, store, start(progress), tracking, display)
        except KeyboardInterrupt:
            return True
    return False


def _run_tasks(
    tasks: Sequence[Task], store: Store, executor: Executor, tracking: Tracking, display: Display
) -> None:
    """Submit tasks and handle their outcomes. Raises StoreError and other errors that end the whole run. In any case,
    also after Ctrl-C, no worker is left running."""
    attempts: Counter[int] = Counter()
    said: set[str] = set()  # warnings, which several tasks may share
    remaining = len(tasks)
    try:
        for task in tasks:
            executor.submit(task)
        threading.Thread(target=_import_reports, daemon=True).start()
        while remaining:
            for outcome in executor.wait(POLL_INTERVAL):
                task = outcome.task
                attempts[task.number] += 1
                # The system may have killed it because other tasks used up the memory, so try once more.
                if outcome.death and attempts[task.number] < ATTEMPTS:
                    say(display.console, f"{task.label}: its worker {outcome.death}; trying once more")
                    executor.submit(task)
                else:
                    display.finish(task.number, _settle(outcome, store, display.console, said))
                    remaining -= 1
            tracking.look(tasks)
            _print_warnings(tracking.warnings, display.console)
            display.refresh()
    finally:
        executor.stop()


def _settle(outcome: Outcome, store: Store, console: Console, said: set[str]) -> str:
    """How a task ended, in words. Stores the failure of a worker that was killed or took too long, and prints those of
    its warnings that are not in `said`. Raises StoreError if the worker could not write its results."""
    task, cell = outcome.task, outcome.task.cell
    log = f"; see {task.log}" if task.log.exists() else ""
    if outcome.death:
        text = f"its worker {outcome.death}, {ATTEMPTS} times"
        with store.lock(cell.id, task.seeds):
            record_failure(task, store, task.seeds, "lost", text)
        return f"lost: {text}{log}"
    if outcome.stacks is not None:
        return f"timeout: {record_timeout(task, outcome.stacks)}{log}"
    result = outcome.result or TaskResult()
    if result.error:
        raise StoreError(result.error)
    _print_warnings([warning for warning in result.warnings if warning not in said], console)
    said |= set(result.warnings)
    trained = [store.training(cell, seed, artefacts=False) for seed in task.seeds]
    bad = [one for one in trained if one and one.status != "ok"]
    what = f"{len(bad)} of {len(trained)} seeds {bad[0].status} ({bad[0].error})" if bad else "finished"
    return f"{what} in {result.seconds:.1f} s"


def _import_reports() -> None:
    """Import the libraries for tables and plots, which takes seconds, while the workers are busy."""
    with suppress(Exception):  # an error will be reported when they are written
        for name in REPORTS:
            importlib.import_module(f"ganbench.report.{name}")
        importlib.import_module("matplotlib.backends.backend_agg")
        importlib.import_module("seaborn")


def _print_warnings(warnings: list[str], console: Console) -> None:
    """Print and clear pending warnings."""
    while warnings:
        say(console, f"warning: {warnings.pop(0)}")


# ---------------------------------------------------------------------------------------------- after


def _conclude(
    store: Store, out: Path, cells: Sequence[Cell], console: Console, stopped: bool, reports: Sequence[str]
) -> int:
    """Write records, tables, plots and report, and print failures; returns the exit code."""
    rows = store.write_records()
    _print_warnings(store.warnings, console)

    # Everything below is derived from the records, so a failure loses no result.
    names = (reports[:1] if stopped else reports) if rows else ()
    run, errors = None, []
    try:
        if names:
            run = open_run(store.root, trusted=True)  # its plugins have been run by this command
    except Exception as error:
        errors.append(f"the results could not be read: {explain(error)}")
    for name in names if run else ():
        try:
            importlib.import_module(f"ganbench.report.{name}").write(run)
        except Exception as error:
            errors.append(f"the {name} could not be written: {explain(error)}")
    if run and not errors:
        _print_tables(run, console)

    # Print failures last, where they are noticed.
    bad = _print_failures(rows, console)
    for text in errors:
        say(console, f"error: {text}\nThe records are kept in {out / layout.RECORDS}.")
    if stopped:
        say(console, f"interrupted; {RESUME}")
        return 130
    missing = _missing_records(cells, rows)
    if missing:
        say(console, f"error: {missing}; {RESUME}")
    if names and not errors:
        say(console, f"report: {out / layout.REPORT}")
    return 1 if bad or errors or missing else 0


def _missing_records(cells: Sequence[Cell], rows: Sequence[Mapping[str, Any]]) -> str:
    """A description of the records of the plan that are missing although all tasks have ended; "" if none."""
    count, absent = 0, []
    there = Counter((row["cell"], row["seed"], row["metric"]) for row in rows)
    for cell in cells:
        values = [value.name for metric in cell.metrics for value in metric.values]
        planned = Counter((cell.id, seed, value) for seed in cell.seeds for value in values)
        count += planned.total()
        absent += (planned - there).elements()
    labels = {cell.id: cell.label for cell in cells}
    names = ", ".join(sorted({labels[id] for id, _, _ in absent}))
    return f"{len(absent)} of {count} records are missing ({names})" if absent else ""


def _print_tables(run: Run, console: Console) -> None:
    """Print the main tables of the report."""
    from ..report import tables

    for shown in tables.dataset_tables(run):
        heads = [f"{c.metric} {f'{c.protocol} ' if c.mixed else ''}{c.arrow}" for c in shown.columns]
        rows = [
            (row.label, row.seeds, *(entry.text if entry else "" for entry in row.entries))
            for row in shown.rows
        ]
        print_grid(shown.dataset, ("method", "seeds", *heads), rows, console)
        if shown.controls:
            print_grid(f"{shown.dataset}: controls", shown.controls.heads, shown.controls.rows, console)
        say(console, "\n".join([shown.caption, *shown.notes]) + "\n")


def _print_failures(rows: Sequence[Mapping[str, Any]], console: Console) -> bool:
    """Print all seeds that are not ok, by reason. Returns whether any failed or all diverged: a diverged seed is a
    valid result of its method, but a run of only diverged seeds counts as failed."""
    seeds_by_reason: dict[tuple[str, ...], dict[int, None]] = {}
    for row in rows:
        if row["status"] != "ok":
            reason = (row["dataset"], row["label"], row["status"], row["error"])
            seeds_by_reason.setdefault(reason, {})[row["seed"]] = None
    count = len({(*reason[:2], seed) for reason, seeds in seeds_by_reason.items() for seed in seeds})
    if count:
        say(console, f"not ok: {plural(count, 'seed')}")
    for (dataset, label, status, error), seeds in seeds_by_reason.items():
        say(console, f"  {dataset}-{label}, {seed_names(list(seeds))}: {status} ({error})")
    if rows and all(row["status"] == "diverged" for row in rows):
        say(console, "error: every seed diverged, so there is no result")
        return True
    return any(reason[2] != "diverged" for reason in seeds_by_reason)
