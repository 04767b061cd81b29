"""What a run says on the terminal: a live picture, or plain lines where the output is not a terminal.

Workers say where they are in small files that the parent polls. There is no queue, so that a worker that is
killed while it speaks spoils nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

EVERY = 0.5  # seconds between two words of a worker


@dataclass(frozen=True)
class State:
    """What a worker is doing with its task."""

    doing: str  # "training", or the metric and seed that it scores
    seeds: int
    step: int = 0
    steps: int = 0
    rate: float = 0.0  # rounds of the whole stack in a second
    losses: Mapping[str, float] = field(default_factory=dict)


class Board:
    """The folder through which workers tell the parent where they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def teller(self, task: int) -> Callable[[State], None]:
        """What the worker of a task calls as often as it likes: twice a second it is heard, and whenever it
        does something else than before."""
        last, doing = 0.0, ""

        def tell(state: State) -> None:
            nonlocal last, doing
            now = time.monotonic()
            if state.doing == doing and now - last < EVERY:
                return
            last, doing = now, state.doing
            temporary = self.folder / f"{task}.tmp"
            with suppress(OSError):  # no reason to lose a training
                temporary.write_text(json.dumps(asdict(state)))
                os.replace(temporary, self.folder / f"{task}.json")

        return tell

    def read(self) -> dict[int, State]:
        """The last word of each task."""
        found = {}
        for path in self.folder.glob("*.json"):
            with suppress(OSError, ValueError, TypeError):
                found[int(path.stem)] = State(**json.loads(path.read_text()))
        return found

    def forget(self, task: int) -> None:
        """Wipe out the word of a task that has ended."""
        with suppress(OSError):
            (self.folder / f"{task}.json").unlink(missing_ok=True)


class Display:
    """Shows tasks, by their labels, from start to finish."""

    def __init__(self, board: Board, labels: Mapping[int, str], console: Console) -> None:
        self.board, self.labels, self.console = board, labels, console
        self.states: dict[int, State] = {}
        self.started: set[int] = set()
        self.done = 0
        self.began = time.monotonic()
        self.live = Live(get_renderable=self._picture, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def refresh(self) -> None:
        """Look at the board again."""
        self.states = self.board.read()
        for task in sorted(self.states.keys() - self.started):
            self.started.add(task)
            if not self.console.is_terminal:
                self.say(f"{self.labels[task]}: started")

    def finish(self, task: int, outcome: str) -> None:
        """A task has ended."""
        self.refresh()
        self.board.forget(task)
        self.states.pop(task, None)
        self.done += 1
        self.say(f"{self.labels[task]}: {outcome} ({self.done} of {len(self.labels)})")

    def say(self, text: str) -> None:
        """A line that stays."""
        say(self.console, text)

    def _picture(self) -> RenderableType:
        elapsed = _clock(time.monotonic() - self.began)
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=len(self.labels), completed=self.done, width=40)
        head.add_row(bar, f"{self.done} of {len(self.labels)} tasks", elapsed)
        rows = Table.grid(padding=(0, 2))
        for task, state in sorted(self.states.items()):
            rows.add_row(*(Text(cell) for cell in (self.labels[task], *_cells(state))))
        return Group(head, rows)


def say(console: Console, text: str) -> None:
    """Print a text as it is: no markup, no wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_grid(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """A table on a terminal; elsewhere lines with aligned columns."""
    if console.is_terminal:
        grid = Table(title=Text(title), title_justify="left")
        for head in heads:
            grid.add_column(Text(head))
        for row in rows:
            grid.add_row(*map(Text, row))
        console.print(grid)
        return
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    say(console, title)
    for row in (heads, *rows):
        say(console, "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(state: State) -> tuple[str, ...]:
    """Seeds, what is done, speed, losses, time left."""
    seeds = f"{state.seeds} seed{'s' * (state.seeds != 1)}"
    if not state.steps:
        return seeds, state.doing, "", "", ""
    left = _clock((state.steps - state.step) / state.rate) + " left" if state.rate > 0 else ""
    losses = "  ".join(f"{name} {loss:.3g}" for name, loss in state.losses.items())
    speed = f"{state.rate * state.seeds:,.0f} seed·steps/s"
    return seeds, f"step {state.step:,} of {state.steps:,}", speed, losses, left


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
