"""Did a table get worse? Compares a run with a reference table of the same suite, row by row.

A row regresses only if its mean is worse by more than the tolerance *and* by more than the variation between training
seeds explains (`error_rates`). Other outcomes, such as missing rows or failed seeds, are reported separately
(`verdicts`).

If the same seeds are trained again, means may differ by rounding. On the same processor and in stacks of the same size
they do not differ at all. Otherwise sums are computed in another order, which training amplifies: to 0.4 to 0.6 % of a
score after 200 rounds. A mean and a spread within float32 rounding (1e-6) count as the same. All other rows are tested
as if their seeds were new ones; this is conservative, since rounding moves a score less than a new seed does. Each
row that moved names the stacks and devices of both trainings, if these differ.
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

# Entries of environment.json that do not affect results.
_NO_ENVIRONMENT = ("schema", "command", "started", "checksum")


@dataclass(frozen=True)
class CheckResult:
    """The result of a check."""

    suite: str
    reference: str  # the name of its file
    alpha: float
    rows: tuple[Row, ...]  # in the order of the reference, then new ones
    # Differences of the environments: name -> (reference, now). Empty if one of them is unknown.
    environment: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows for which the check fails."""
        return tuple(row for row in self.rows if row.fails)

    @property
    def ok(self) -> bool:
        """Whether no row fails."""
        return not self.failed

    @property
    def counts(self) -> dict[Outcome, int]:
        """The number of rows with each outcome that occurs, failing outcomes first."""
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
    """Compare a run with a reference table of the same suite.

    run: the run's directory, or its records (one row for each cell, seed and metric).
    reference: the `tables/summary.csv` of an earlier run.
    tolerance: "5%" for all metrics, "kde_ll=2" or "kde_ll=1%" for one, or several of these; by default 1 % of the
    reference's mean.
    alpha: the probability of a false alarm anywhere in the table while nothing has changed.

    Raises RequestError (the reference is not such a table or is of another suite, a tolerance names an unknown metric)
    and StoreError (the run cannot be read).
    """
    if not 0 < alpha < 0.5:
        raise RequestError(f"alpha is {alpha}; expected a probability above 0 and below 0.5")
    allowed = Tolerance.parse([tolerance] if isinstance(tolerance, str) else tolerance)
    suite, old = read(Path(reference))
    records = run if isinstance(run, pd.DataFrame) else read_records(Path(run))
    if records.empty:
        raise RequestError(f"{'the run' if isinstance(run, pd.DataFrame) else run}: has no records to check")
    names = list(dict.fromkeys(records["suite"]))
    if names != [suite]:  # another suite has other methods or another budget
        raise RequestError(
            f"{reference}: is a table of the suite {suite!r}, but the results are of {' and '.join(map(repr, names))}. "
            "A budget (as -ci, -full) is part of a suite's name: numbers of different budgets are never compared; "
            "expected a reference that was kept from the same suite at the same budget"
        )
    # The run is summarised by this version, so a reference need not be of the same version, only of the same protocols.
    new = rows_of(summary(records))
    allowed.check_names({entry.metric for entry in [*old, *new]})
    environment = {}
    # A reference that is still in its run directory has its environment there.
    if not isinstance(run, pd.DataFrame):
        before, now = _environment(Path(reference).absolute().parent.parent), _environment(Path(run))
        environment = {
            name: (before[name], now[name]) for name in before if name in now and before[name] != now[name]
        }
    return CheckResult(
        suite, Path(reference).name, alpha, tuple(classify(old, new, allowed, alpha)), environment
    )


def _environment(run: Path) -> dict[str, str]:
    """The environment in which a run was computed; empty if its directory has none."""
    try:
        files = Folder(run, read_only=True)
        card = files.read_object(files.path(layout.ENVIRONMENT))
    except StoreError:
        return {}
    flat = {**card, **(card["versions"] if isinstance(card.get("versions"), dict) else {})}
    return {name: str(value) for name, value in flat.items() if name not in (*_NO_ENVIRONMENT, "versions")}
