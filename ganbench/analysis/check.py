"""Did a table get worse? A run against a kept table of the same suite, row by row.

A row regresses only where its mean is worse by more than the tolerance *and* by more than training seeds vary by
themselves (`error_rates`). What else may be wrong is told apart from that (`verdicts`).

Where the same seeds were trained again, a mean may move by rounding alone. On the same processor and in stacks of the
same size nothing moves. Otherwise sums are taken in another order, and training amplifies that: 0.4 to 0.6 % of a score
after 200 rounds. The rule: a mean and a spread that moved by no more than float32 rounds (1e-6) are the same; all else
is tested as if seeds were fresh ones, which is on the safe side, since what rounding moves is less than what another
seed does; and each row that moved says in which stacks and on which devices both were trained, where these differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..errors import RequestError, StoreError
from ..store import layout
from ..store.files import Folder
from ..store.results import read_records
from .reference import read, rows_of
from .summary import summary
from .tolerance import Tolerance
from .verdicts import OUTCOMES, Outcome, Row, classify

# Of environment.json, what says nothing about how numbers were computed.
_NO_ENVIRONMENT = ("schema", "command", "started", "checksum")


@dataclass(frozen=True)
class CheckResult:
    """What a check found."""

    suite: str
    reference: str  # the name of its file
    alpha: float
    rows: tuple[Row, ...]  # in the order of the reference, then new ones
    # What differs between the environments of both: name -> in the reference, now. Empty where one is not known.
    environment: Mapping[str, tuple[str, str]] = field(default_factory=dict)

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
        outcomes = [row.outcome for row in self.rows]
        return {outcome: outcomes.count(outcome) for outcome in OUTCOMES if outcome in outcomes}

    @property
    def headline(self) -> str:
        """`quickstart against quickstart.csv: none of 20 rows fails (12 same, 8 unclear)`"""
        from ..report.check import headline

        return headline(self)


def check(
    run: Path | str | pd.DataFrame,
    reference: Path | str,
    tolerance: str | Iterable[str] = (),
    alpha: float = 0.05,
) -> CheckResult:
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
    allowed = Tolerance.parse([tolerance] if isinstance(tolerance, str) else tolerance)
    suite, old = read(Path(reference))
    records = run if isinstance(run, pd.DataFrame) else read_records(Path(run))
    if records.empty:
        raise RequestError(f"{'the run' if isinstance(run, pd.DataFrame) else run}: has no records to check")
    names = list(dict.fromkeys(records["suite"]))
    if names != [suite]:  # another suite has other methods or another budget: its numbers are no reference
        raise RequestError(
            f"{reference}: is a table of the suite {suite!r}, but the results are of {' and '.join(map(repr, names))}. "
            "A budget (as -ci, -full) is part of a suite's name: numbers of different budgets are never compared; "
            "expected a reference that was kept from the same suite at the same budget"
        )
    new = rows_of(summary(records))
    allowed.check_names({entry.metric for entry in [*old, *new]})
    environment = {}
    if not isinstance(
        run, pd.DataFrame
    ):  # a reference that still lies in its run's directory has its own beside it
        before, now = _environment(Path(reference).absolute().parent.parent), _environment(Path(run))
        environment = {
            name: (before[name], now[name]) for name in before if name in now and before[name] != now[name]
        }
    return CheckResult(
        suite, Path(reference).name, alpha, tuple(classify(old, new, allowed, alpha)), environment
    )


def _environment(run: Path) -> dict[str, str]:
    """With what a run was computed; empty where its directory does not say."""
    try:
        files = Folder(run, read_only=True)
        card = files.read_object(files.path(layout.ENVIRONMENT))
    except StoreError:
        return {}
    flat = {**card, **(card["versions"] if isinstance(card.get("versions"), dict) else {})}
    return {name: str(value) for name, value in flat.items() if name not in (*_NO_ENVIRONMENT, "versions")}
