"""A reference table (`tables/summary.csv` of an earlier run), read strictly: anything wrong with it is reported with
row and column, before anything is compared."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn, cast, get_args

import pandas as pd

from ..contracts import Better
from ..errors import RequestError
from ..store.protocols import current_protocol
from .summary import FAILURES

Key = tuple[str, str, str]  # dataset, label, metric
_TEXTS = ("suite", "dataset", "label", "metric", "protocol", "unit", "better")
_COUNTS = ("n_ok", "n", *FAILURES)
_OPTIONAL = ("invalid", "device", "stack")  # columns of text that tables of earlier versions do not have
COLUMNS = (*_TEXTS, "mean", "std", *_COUNTS)
_EXPECTED = "expected the tables/summary.csv of an earlier run"
MAX_ROWS = 100_000  # of a table; the largest suites have a few thousand, and each row becomes a sentence


@dataclass(frozen=True)
class Entry:
    """One row of a table: a metric of a method on a dataset over its training seeds."""

    dataset: str
    label: str
    metric: str
    protocol: str  # empty if all seeds failed before they were scored
    unit: str
    better: Better
    mean: float  # over the successful seeds; NaN if there is none
    std: float  # NaN for fewer than two
    n_ok: int
    n: int
    failures: Mapping[str, int]  # status -> number of seeds, if not 0
    invalid: str = ""  # why the values are not valid
    device: str = ""  # of training; empty in tables of earlier versions
    stack: str = ""  # sizes of the stacks that seeds were trained in: "5", or "2, 3"
    floor: float = math.nan  # what a trivial sampler scores; NaN where there is none

    @property
    def key(self) -> Key:
        """Dataset, label and metric."""
        return self.dataset, self.label, self.metric

    @property
    def at_floor(self) -> bool:
        """Whether the mean is no better than what a trivial sampler scores."""
        sign = {"higher": 1.0, "lower": -1.0}.get(self.better, math.nan)
        return (self.mean - self.floor) * sign <= 0  # NaN is not

    @property
    def bad(self) -> int:
        """Seeds without a value."""
        return self.n - self.n_ok


def read(path: Path) -> tuple[str, list[Entry]]:
    """The suite of a reference table, and its rows. Raises RequestError for the first mistake in it."""
    path = Path(path)
    if path.exists() and not path.is_file():  # reading a pipe would block for ever
        raise RequestError(f"{path}: is a folder, a pipe or a device; {_EXPECTED}")
    try:
        # Spreadsheets save with a byte-order mark. `csv` and not pandas, which guesses types and forgives short rows.
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(islice(csv.reader(file, strict=True), MAX_ROWS + 2))  # header, rows, one too many
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file; {_EXPECTED}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path}: cannot be read as a table in CSV ({error})") from None
    if not rows:
        raise RequestError(f"{path}: is empty; {_EXPECTED}")
    if len(rows) > MAX_ROWS + 1:
        raise RequestError(
            f"{path}: has more than {MAX_ROWS:,} rows; {_EXPECTED}, with one row for each "
            "metric of each method on each dataset"
        )
    header, suites = rows[0], {}
    if missing := [name for name in COLUMNS if name not in header]:
        raise RequestError(
            f"{path}: row 1 has no column {missing[0]!r}; {_EXPECTED}, found: {', '.join(header)}"
        )
    if twice := [name for name in COLUMNS if header.count(name) > 1]:
        raise RequestError(f"{path}: row 1 has two columns {twice[0]!r}; expected one")
    found: dict[Key, Entry] = {}
    for number, cells in enumerate(rows[1:], 2):
        if len(cells) != len(header):
            raise RequestError(
                f"{path}: row {number} has {len(cells)} columns; expected {len(header)}, as in the header"
            )
        line = Line(path, number, dict(zip(header, cells, strict=True)))
        entry = _entry(line)
        if found.setdefault(entry.key, entry) is not entry:
            line.fail("metric", f"a second row of {', '.join(entry.key)}; expected one")
        suites[line.text("suite")] = number
        if len(suites) > 1:
            line.fail("suite", f"{' and '.join(map(repr, suites))}; expected one suite in a table")
    if not found:
        raise RequestError(f"{path}: has a header but no rows, so there is nothing to compare with")
    return next(iter(suites)), list(found.values())


def rows_of(frame: pd.DataFrame) -> list[Entry]:
    """The rows of a `summary.summary`; several of one key if it was measured by several protocols."""
    return [
        Entry(
            **{name: row[name] for name in ("dataset", "label", "metric", "protocol", "unit", "better")},
            **{name: row[name] for name in ("mean", "std", "n_ok", "n", "floor")},
            failures={name: row[name] for name in FAILURES if row[name]},
            **{name: row[name] for name in _OPTIONAL},
        )
        for row in frame.to_dict("records")
    ]


@dataclass(frozen=True)
class Line:
    """One row of the file as text, with its position for error messages."""

    path: Path
    number: int  # the header is row 1
    cells: Mapping[str, str]

    def fail(self, column: str, what: str) -> NoReturn:
        """Raises RequestError for this row and column."""
        raise RequestError(f"{self.path}: row {self.number}, column {column!r}: {what}")

    def text(self, column: str) -> str:
        """Text, without the apostrophe that keeps spreadsheets from running it as a formula; "" for a missing
        column."""
        found = self.cells.get(column, "")
        guarded = found.startswith("'") and found[1:].startswith(("=", "+", "-", "@", "\t", "\r"))
        return found[1:] if guarded else found

    def count(self, column: str) -> int:
        """A non-negative integer."""
        found = self.cells[column].strip()
        if not (found.isascii() and found.isdecimal()):
            self.fail(column, f"{found!r} is not a whole number of seeds")
        return int(found)

    def number_or_nan(self, column: str) -> float:
        """A finite number; NaN for an empty cell, or where there is no such column."""
        found = self.cells.get(column, "").strip()
        try:
            value = float(found or "nan")
        except ValueError:
            self.fail(column, f"{found!r} is not a number")
        if found and not math.isfinite(value):
            self.fail(column, f"{found!r} is not a finite number")
        return value


def _entry(line: Line) -> Entry:
    better = line.text("better")
    if better not in get_args(Better):
        line.fail("better", f"{better!r}; expected one of: {', '.join(get_args(Better))}")
    counts = {name: line.count(name) for name in _COUNTS}
    n_ok, n = counts["n_ok"], counts["n"]
    failures = {name: counts[name] for name in FAILURES if counts[name]}
    # Numbers that contradict each other show an edited table, whose verdicts would be wrong without an error.
    if n_ok + sum(failures.values()) != n or not n:
        line.fail("n", f"{n} seeds, but {n_ok} ok and {sum(failures.values())} failed")
    mean, std = line.number_or_nan("mean"), line.number_or_nan("std")
    if math.isnan(mean) != (n_ok == 0):
        line.fail("mean", f"{'is empty' if n_ok else 'has a value'} with {n_ok} seeds that are ok")
    if math.isnan(std) != (n_ok < 2) or std < 0:
        line.fail("std", f"{line.cells['std']!r} does not fit {n_ok} seeds that are ok")
    texts = {name: line.text(name) for name in ("dataset", "label", "metric", "protocol", "unit", *_OPTIONAL)}
    texts["protocol"] = current_protocol(texts["protocol"])
    return Entry(
        **texts,
        better=cast(Better, better),
        mean=mean,
        std=std,
        floor=line.number_or_nan("floor"),
        n_ok=n_ok,
        n=n,
        failures=failures,
    )
