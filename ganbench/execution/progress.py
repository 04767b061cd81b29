"""The progress of a run: live bars on a terminal, plain lines elsewhere.

Workers report through small files, which the parent polls. Unlike a queue, these cannot be corrupted by killing a
worker.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..atomic import write_atomic
from ..errors import StoreError
from ..format import escape_controls, plural

REPORT_INTERVAL = 0.5  # seconds between two reports of a worker
STATUS_INTERVAL = 60.0  # seconds between two lines about a running task in a plain log
WAITING = "waiting for another run"  # activity of a worker whose seeds are locked


@dataclass(frozen=True)
class TaskProgress:
    """The present activity of a worker."""

    activity: str  # "training", or the metric and seed being scored
    seeds: int
    step: int = 0
    steps: int = 0
    rate: float = 0.0  # rounds of the whole stack per second
    losses: Mapping[str, float] = field(default_factory=dict)
    resumed: int = 0  # the step of the checkpoint from which training was resumed

    @property
    def text(self) -> str:
        """One line: seeds, activity, speed, losses, time left."""
        return "  ".join([plural(self.seeds, "seed"), *self._parts()])

    @property
    def sentence(self) -> str:
        """The same for a sentence that names the seeds itself."""
        return ", ".join(self._parts())

    def _parts(self) -> list[str]:
        if not self.steps:
            return [self.activity]
        parts = [f"step {self.step:,} of {self.steps:,}"]
        if self.resumed:
            parts.append(f"resumed after {self.resumed:,}")
        if self.rate > 0:
            parts.append(f"{self.rate * self.seeds:,.0f} seed·steps/s")
        if self.losses:
            parts += [f"{name} {loss:.3g}" for name, loss in self.losses.items()]
        if self.rate > 0:
            parts.append(f"{format_seconds((self.steps - self.step) / self.rate)} left")
        return parts


@dataclass(frozen=True)
class TaskResult:
    """The report of a worker at its end; its results are in the store."""

    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""  # why results cannot be written, which ends the run


class ProgressDir:
    """The folder through which workers report to the parent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def reporter(self, task: int) -> Callable[[TaskProgress], None]:
        """The function through which the worker of a task reports. It may be called at any rate: it writes at most
        twice a second, and when the activity changes."""
        last, activity, resumed = 0.0, "", 0

        def report(progress: TaskProgress) -> None:
            nonlocal last, activity, resumed
            resumed = (
                progress.resumed or resumed
            )  # repeated in all later reports, since the parent may miss one
            now = time.monotonic()
            if progress.activity == activity and now - last < REPORT_INTERVAL:
                return
            last, activity = now, progress.activity
            with suppress(StoreError):  # a report that cannot be written must not end the training
                self._write(f"{task}.json", replace(progress, resumed=resumed))

        return report

    def read(self) -> dict[int, TaskProgress]:
        """The last report of each task."""
        reports = {}
        for path in self.folder.glob("*.json"):
            with suppress(OSError, ValueError, TypeError):
                reports[int(path.stem)] = TaskProgress(**json.loads(path.read_text()))
        return reports

    def clear(self, task: int) -> None:
        """Remove the report of a task that has ended."""
        with suppress(OSError):
            (self.folder / f"{task}.json").unlink(missing_ok=True)

    def stacks(self, task: int) -> Path:
        """The file for the stacks of a worker that takes too long; it is created when its time starts to count."""
        return self.folder / f"{task}.stacks"

    def write_result(self, task: int, result: TaskResult) -> None:
        """Write the result of a task; the last action of a worker. Raises StoreError if it cannot be written."""
        self._write(f"{task}.result", result)

    def take_result(self, task: int) -> TaskResult | None:
        """Read and remove the result of a task; None if its worker died before writing it."""
        path = self.folder / f"{task}.result"
        with suppress(OSError, ValueError, TypeError):
            result = TaskResult(**json.loads(path.read_text()))
            path.unlink()
            return result
        return None

    def _write(self, name: str, message: TaskProgress | TaskResult) -> None:
        # JSON is escaped to ASCII: text from a plugin may contain lone surrogates, which UTF-8 cannot encode.
        write_atomic(self.folder / name, json.dumps(asdict(message)).encode(), durable=False)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder of this process. Also removes those that killed processes have left."""
    prefix = f"ganbench-{socket.gethostname()}-"
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            os.kill(int(path.name.removeprefix(prefix).partition("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (OSError, ValueError, OverflowError):  # of another user, or not a folder of ganbench
            continue
    return tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-")


@dataclass
class Row:
    """A running task on the display."""

    bar: TaskID
    started: float  # by the monotonic clock
    printed: float  # when the last line about it was printed in a plain log
    events: set[str] = field(default_factory=set)  # already printed


class Display:
    """Shows tasks, by their labels, from start to finish: as bars on a terminal, elsewhere as plain lines."""

    def __init__(self, progress: ProgressDir, labels: Mapping[int, str], console: Console) -> None:
        self.progress, self.labels, self.console = progress, labels, console
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self.total = self.bars.add_task("all", total=len(labels), text=f"0 of {len(labels)} tasks")
        self.rows: dict[int, Row] = {}
        self.done = 0

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def refresh(self) -> None:
        """Read the workers' reports again."""
        now = time.monotonic()
        reports = self.progress.read()
        for task, row in self.rows.items():
            # The report of a waiting task is removed when it is sent to a node of a cluster.
            self.bars.update(row.bar, visible=task in reports)
        for task, report in sorted(reports.items()):
            label = self.labels[task]
            if task not in self.rows:
                self.rows[task] = Row(self.bars.add_task(label, total=None, text=""), now, now)
            row = self.rows[task]
            if self.console.is_terminal:
                self.bars.update(row.bar, total=report.steps or None, completed=report.step, text=report.text)
                continue
            # A plain log: a line for each event, and one a minute, so that a hanging task is noticed.
            event = WAITING if report.activity == WAITING else "started"
            if report.resumed:
                event = f"resumed after step {report.resumed:,}"
            if event not in row.events:
                say(self.console, f"{label}: {event}")
                row.events.add(event)
                row.printed = now
            elif now - row.printed >= STATUS_INTERVAL:
                say(
                    self.console,
                    f"{label}: running for {format_seconds(now - row.started)} ({report.sentence})",
                )
                row.printed = now

    def finish(self, task: int, outcome: str) -> None:
        """Print how a task ended."""
        self.refresh()  # show its last report
        self.progress.clear(task)
        if row := self.rows.pop(task, None):
            self.bars.remove_task(row.bar)
        self.done += 1
        count = f"{self.done} of {len(self.labels)}"
        self.bars.update(self.total, completed=self.done, text=f"{count} tasks")
        say(self.console, f"{self.labels[task]}: {outcome} ({count})")


def say(console: Console, text: str) -> None:
    """Print a text, without interpreting markup and without wrapping."""
    console.print(printable(text, console), markup=False, highlight=False, soft_wrap=True)


def printable(text: str, console: Console) -> str:
    """A text with control characters, and characters that the encoding lacks, replaced by escapes."""
    return escape_controls(text).encode(console.encoding, "backslashreplace").decode(console.encoding)


def print_grid(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print a table: on a terminal with borders (without, if it is too wide), elsewhere as lines with aligned
    columns."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    if console.is_terminal:
        wide = sum(widths) + 3 * len(widths) + 1 > console.width
        grid = Table(title=Text(printable(title, console)), title_justify="left")
        if wide:
            grid.box, grid.show_edge, grid.padding = SIMPLE_HEAD, False, 0
        for head in heads:
            grid.add_column(Text(printable(head, console)), overflow="fold")  # never cut a number
        for row in rows:
            grid.add_row(*(Text(printable(cell, console)) for cell in row))
        console.print(grid)
        return
    say(console, title)
    for row in (heads, *rows):
        say(console, "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def format_seconds(seconds: float) -> str:
    """`1:23` or `2:01:23`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
