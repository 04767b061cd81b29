"""Did a table get worse? A run against a kept table of the same suite, row by row.

A row regresses only where its mean is worse by more than the tolerance *and* by more than training seeds vary by
themselves (`noise`). What else may be wrong is told apart from that (`outcomes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..errors import RequestError
from ..format import plural
from ..store.results import read_records
from .reference import read, rows_of
from .summary import summary
from .tolerance import parse
from .verdicts import MEANING, Outcome, Row, judge, plain


@dataclass(frozen=True)
class Verdict:
    """What a check found."""

    suite: str
    reference: str  # the name of its file
    alpha: float
    rows: tuple[Row, ...]  # in the order of the reference, then new ones

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows for which the check fails."""
        return tuple(row for row in self.rows if row.fails)

    @property
    def ok(self) -> bool:
        """Whether nothing is worse, missing or measured otherwise."""
        return not self.failed

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many rows have each outcome that occurs, failing ones first."""
        found = [row.outcome for row in self.rows]
        return {outcome: found.count(outcome) for outcome in MEANING if outcome in found}

    @property
    def headline(self) -> str:
        """`quickstart against quickstart.csv: none of 20 rows fails (12 same, 8 unclear)`"""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        rows = plural(len(self.rows), "row")
        some = f"{len(self.failed)} of {rows} {'fails' if len(self.failed) == 1 else 'fail'}"
        found = some if self.failed else f"none of {rows} fails"
        return f"{plain(self.suite)} against {plain(self.reference)}: {found} ({counts})"


def check(
    run: Path | str | pd.DataFrame,
    reference: Path | str,
    tolerance: str | Iterable[str] = (),
    alpha: float = 0.05,
) -> Verdict:
    """Compare a run with a kept table of the same suite.

    run: the run's directory, or its records (one row for each cell, seed and metric).
    reference: a kept `tables/summary.csv`.
    tolerance: "5%" for all metrics, "kde_ll=2" or "kde_ll=1%" for one, or several of these; 1 % of the reference's
    mean where nothing is said.
    alpha: the chance of a false alarm in the whole table while nothing changed.

    Raises RequestError (the reference is no such table or of another suite, a tolerance is of no metric) and
    StoreError (the run cannot be read).
    """
    if not 0 < alpha < 0.5:
        raise RequestError(f"alpha is {alpha}; expected a probability above 0 and below 0.5")
    allowed = parse([tolerance] if isinstance(tolerance, str) else tolerance)
    suite, old = read(Path(reference))
    records = run if isinstance(run, pd.DataFrame) else read_records(Path(run))
    if records.empty:
        raise RequestError(f"{'the run' if isinstance(run, pd.DataFrame) else run}: has no records to check")
    _check_suite(suite, list(dict.fromkeys(records["suite"])), Path(reference))
    new = rows_of(summary(records))
    allowed.check_names({entry.metric for entry in [*old, *new]})
    return Verdict(suite, Path(reference).name, alpha, tuple(judge(old, new, allowed, alpha)))


def _check_suite(expected: str, found: Sequence[str], path: Path) -> None:
    """Another suite has other methods or another budget, so that its numbers are no reference."""
    if found != [expected]:
        raise RequestError(
            f"{path}: is a table of the suite {expected!r}, but the results are of {' and '.join(map(repr, found))}. "
            "A budget (as -ci, -full) is part of a suite's name: numbers of different budgets are never compared; "
            "expected a reference that was kept from the same suite at the same budget"
        )
