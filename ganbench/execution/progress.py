"""What a run prints: live progress bars, or plain lines where the output is not a terminal.

Workers report through small files which the parent polls. Files, not a queue: a killed worker cannot corrupt them.
"""

from __future__ import annotations

import json
import os
import re
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

REPORT_INTERVAL = 0.5  # seconds between two reports of a worker
STATUS_INTERVAL = 60.0  # seconds between two lines about a running task in a plain log
WAITING = "waiting for another run"  # activity of a worker whose seeds are locked
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # characters that a terminal would obey


@dataclass(frozen=True)
class TaskProgress:
    """What a worker is doing with its task."""

    activity: str  # "training", or the metric and seed that it scores
    seeds: int
    step: int = 0
    steps: int = 0
    rate: float = 0.0  # rounds of the whole stack in a second
    losses: Mapping[str, float] = field(default_factory=dict)
    resumed: int = 0  # the step of the checkpoint from which the training went on

    @property
    def text(self) -> str:
        """One line: seeds, activity, speed, losses, time left."""
        seeds = f"{self.seeds} seed{'s' * (self.seeds != 1)}"
        return "  ".join([seeds, *self._parts()])

    @property
    def sentence(self) -> str:
        """The same within a sentence, in which the seeds are named already."""
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
    """What a worker reports when it ends; its scores are in the store."""

    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""  # why the store cannot be written, which ends the run


class ProgressDir:
    """The folder through which workers report to the parent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def reporter(self, task: int) -> Callable[[TaskProgress], None]:
        """A function with which the worker of a task reports. It may be called at any rate: it writes twice a second,
        and when the activity changes."""
        last, activity, resumed = 0.0, "", 0

        def report(progress: TaskProgress) -> None:
            nonlocal last, activity, resumed
            resumed = progress.resumed or resumed  # said again in every later report, so that none is missed
            now = time.monotonic()
            if progress.activity == activity and now - last < REPORT_INTERVAL:
                return
            last, activity = now, progress.activity
            with suppress(StoreError):  # not worth failing a training
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
        """The file for the stacks of a worker that takes too long; it exists from when its time starts."""
        return self.folder / f"{task}.stacks"

    def write_result(self, task: int, result: TaskResult) -> None:
        """Called by the worker, last of all. Raises StoreError."""
        self._write(f"{task}.result", result)

    def take_result(self, task: int) -> TaskResult | None:
        """The result of a task, which is removed; None where its worker died before."""
        path = self.folder / f"{task}.result"
        with suppress(OSError, ValueError, TypeError):
            result = TaskResult(**json.loads(path.read_text()))
            path.unlink()
            return result
        return None

    def _write(self, name: str, message: TaskProgress | TaskResult) -> None:
        # JSON escapes to ASCII: text of a plugin may hold lone surrogates, which UTF-8 does not encode.
        write_atomic(self.folder / name, json.dumps(asdict(message)).encode(), durable=False)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder of this process. Removes those of processes that were killed when they had no worker that
    could do so."""
    prefix = f"ganbench-{socket.gethostname()}-"
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            os.kill(int(path.name.removeprefix(prefix).partition("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (OSError, ValueError, OverflowError):  # another user's, or not made here
            continue
    return tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-")


@dataclass
class Row:
    """A running task on the display."""

    bar: TaskID
    started: float  # by the monotonic clock
    printed: float  # when the last line about it was printed in a plain log
    events: set[str] = field(default_factory=set)  # that have been printed


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
            self.bars.update(
                row.bar, visible=task in reports
            )  # one that went to a node has none from then on
        for task, report in sorted(reports.items()):
            label = self.labels[task]
            if task not in self.rows:
                self.rows[task] = Row(self.bars.add_task(label, total=None, text=""), now, now)
            row = self.rows[task]
            if self.console.is_terminal:
                self.bars.update(row.bar, total=report.steps or None, completed=report.step, text=report.text)
                continue
            # A plain log: a line at each event, and one a minute, so that a task that hangs shows.
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
        self.refresh()  # what it did last
        self.progress.clear(task)
        if row := self.rows.pop(task, None):
            self.bars.remove_task(row.bar)
        self.done += 1
        count = f"{self.done} of {len(self.labels)}"
        self.bars.update(self.total, completed=self.done, text=f"{count} tasks")
        say(self.console, f"{self.labels[task]}: {outcome} ({count})")


def say(console: Console, text: str) -> None:
    """Print a text without markup and wrapping."""
    console.print(printable(text, console), markup=False, highlight=False, soft_wrap=True)


def printable(text: str, console: Console) -> str:
    """A text with escapes for what the terminal would obey (control characters) or its encoding lacks."""
    text = CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)
    return text.encode(console.encoding, "backslashreplace").decode(console.encoding)


def print_grid(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """A table on a terminal, without lines between its columns where it is too wide; elsewhere lines with aligned
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
