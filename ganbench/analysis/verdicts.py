"""The words of `check` and of `compare`, and the rules by which a row gets its word.

`check` gives each row of a reference an outcome: first by the values that exist, then by tests of the means, then by
failed seeds. `compare` gives each pair of methods a verdict. The sentences are made by `report.check` and
`report.comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from . import error_rates
from .rankings import ALPHA
from .reference import Entry, Key
from .stats import MAX_SEEDS, POWER, rounding, seeds_needed
from .tolerance import Tolerance

Outcome = Literal[
    "missing", "protocol changed", "not valid", "regressed", "fewer seeds", "changed", "improved", "unclear", "same",
    "new",
]  # fmt: skip
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FAILING: tuple[Outcome, ...] = ("missing", "protocol changed", "not valid", "regressed", "fewer seeds")

UNCLEAR = "can't tell"
UNLEARNED = "neither has learned"  # both means are no better than their floor
MIXED = "mixed"  # the verdicts of several datasets differ


@dataclass(frozen=True)
class Row:
    """One row of the reference or of the results, with its outcome."""

    dataset: str
    label: str
    metric: str
    outcome: Outcome
    reference: Entry | None
    result: Entry | None
    protocols: tuple[str, ...] = ()  # of the results, if none is the reference's
    # The outcome of the means alone, without failures; None if they are not compared.
    means: Outcome | None = None
    tolerance: float | None = None  # in the metric's unit
    # Corrected p of being no worse (for metrics that are not ranked: of not having moved).
    p: float | None = None
    seeds_needed: int = 0  # on each side, to decide an unclear row; MAX_SEEDS + 1: more; 0: unknown

    @property
    def fails(self) -> bool:
        """Whether this row fails the check."""
        return self.outcome in FAILING

    @property
    def sentence(self) -> str:
        """The outcome as a sentence."""
        from ..report.check import sentence

        return sentence(self)


def classify(old: Sequence[Entry], new: Sequence[Entry], tolerance: Tolerance, alpha: float) -> list[Row]:
    """The outcome of each row of the reference `old`, then the rows of `new` that are not in the reference.

    The rows of ranked metrics are one family of tests, corrected together. The rows of other metrics, which cannot fail
    the check, are a second family.
    """
    by_key: dict[Key, list[Entry]] = {}
    for entry in new:
        by_key.setdefault(entry.key, []).append(entry)
    rows: dict[Key, Row] = {}
    families: dict[bool, list[tuple[Entry, Entry]]] = {True: [], False: []}
    for entry in old:
        candidates = by_key.get(entry.key, [])
        match = next((other for other in candidates if _comparable(entry, other)), None)
        if match and entry.n_ok and match.n_ok and not (entry.invalid or match.invalid):
            families[entry.better != "neither"].append((entry, match))
        else:
            rows[entry.key] = _without_means(entry, match, candidates)
    for pairs in families.values():
        rows |= {row.reference.key: row for row in _by_means(pairs, tolerance, alpha) if row.reference}
    known = {entry.key for entry in old}
    added = [Row(*entry.key, "new", None, entry) for entry in new if entry.key not in known]
    return [rows[entry.key] for entry in old] + added


def _comparable(old: Entry, new: Entry) -> bool:
    """Whether both were measured by the same protocol, or one of them has none since all its seeds failed."""
    known = bool(old.protocol and new.protocol)
    return (old.unit, old.better) == (new.unit, new.better) and (old.protocol == new.protocol or not known)


def _without_means(old: Entry, new: Entry | None, candidates: Sequence[Entry]) -> Row:
    """A row without two means to compare."""
    outcome: Outcome = "unclear"
    if not candidates:
        outcome = "missing"
    elif new is None:
        protocols = tuple(entry.protocol for entry in candidates)
        return Row(*old.key, "protocol changed", old, candidates[0], protocols)
    elif _more_failed(old, new):
        outcome = "fewer seeds"
    elif new.invalid and not old.invalid:
        outcome = "changed" if old.better == "neither" else "not valid"
    elif not new.invalid and (old.invalid or new.n_ok):
        outcome = "improved"
    return Row(*old.key, outcome, old, new)


def _by_means(pairs: Sequence[tuple[Entry, Entry]], allowed: Tolerance, alpha: float) -> list[Row]:
    """The rows of one family, all of them ranked or none."""
    if not pairs:
        return []
    # One-sided tests in both directions, for all rows at once.
    old, new = (_sample([pair[side] for pair in pairs]) for side in (0, 1))
    tolerance = np.array([allowed.of(entry.metric, entry.mean) for entry, _ in pairs])
    worse_up = np.array([-1.0 if entry.better == "higher" else 1.0 for entry, _ in pairs])
    rise = (new.mean - old.mean) * worse_up
    worse, better = error_rates.p_greater(rise, old, new), error_rates.p_greater(-rise, old, new)
    # The outcome of the means is the first of these that holds.
    holds: dict[Outcome, NDArray[np.bool_]] = {}
    if pairs[0][0].better == "neither":
        p = error_rates.corrected(np.minimum(2 * np.minimum(worse, better), 1.0))
        holds["changed"] = error_rates.outside(np.abs(rise), p, tolerance, alpha)
    else:
        p, p_better = error_rates.corrected(worse), error_rates.corrected(better)
        holds["regressed"] = error_rates.outside(rise, p, tolerance, alpha)
        holds["improved"] = error_rates.outside(-rise, p_better, tolerance, alpha)
        p = np.where(holds["improved"], p_better, p)
    holds["same"] = error_rates.p_equal(rise, tolerance, old, new) <= alpha
    rows = []
    for i, (before, now) in enumerate(pairs):
        # Rounding is tested first: without any spread, the tests would call a difference in the last digit a change.
        tested: list[Outcome] = [name for name, marks in holds.items() if marks[i]]
        means: Outcome = "same" if within_rounding(before, now) else tested[0] if tested else "unclear"
        # Failed seeds take precedence over the mean of the others: a mean of survivors is no improvement.
        outcome: Outcome = means
        if _more_failed(before, now) and means != "regressed":
            outcome = "fewer seeds"
        elif _fewer_failed(before, now) and means in ("same", "unclear"):
            outcome = "improved"
        limit = float(tolerance[i])
        needed = seeds_to_tell(before, now, limit, alpha, len(pairs)) if means == "unclear" else 0
        rows.append(Row(*before.key, outcome, before, now, (), means, limit, float(p[i]), needed))
    return rows


def _sample(entries: Sequence[Entry]) -> error_rates.Sample:
    mean, std = (np.array([getattr(entry, name) for entry in entries]) for name in ("mean", "std"))
    return error_rates.Sample(mean, std, np.array([entry.n_ok for entry in entries]))


def within_rounding(old: Entry, new: Entry) -> bool:
    """Whether mean and spread differ by no more than float32 rounding (`stats.rounding`, of the greater of mean and
    spread), as when the same seeds run again, or when every seed has the same value."""
    single = old.n_ok == new.n_ok == 1  # without a spread
    size = rounding(old.mean, old.std)
    # Comparisons with NaN, the spread of a single seed, are False.
    alike = abs(new.std - old.std) <= size and (old.n_ok == new.n_ok or old.std <= size)
    return (single or alike) and abs(new.mean - old.mean) <= size


def _more_failed(old: Entry, new: Entry) -> bool:
    """Whether more seeds failed than the reference's share of them, rounded up to whole seeds."""
    return new.bad > -(-old.bad * new.n // old.n)


def _fewer_failed(old: Entry, new: Entry) -> bool:
    """Whether fewer seeds failed than the reference's share of them, rounded down to whole seeds."""
    return new.bad < old.bad * new.n // old.n


def seeds_to_tell(old: Entry, new: Entry, tolerance: float, alpha: float, rows: int) -> int:
    """The seeds on each side that decide the row with a power of 80 %, if the observed means and spreads are the true
    ones. Within the tolerance: to show that the means are equal; beyond it: to find the difference, in a table of
    `rows` rows."""
    spreads = [entry.std if entry.n_ok > 1 else 0.0 for entry in (old, new)]
    degrees = max(old.n_ok + new.n_ok - 2, 1)
    std = math.sqrt(((old.n_ok - 1) * spreads[0] ** 2 + (new.n_ok - 1) * spreads[1] ** 2) / degrees)
    if std == 0:
        return 0
    gap = abs(new.mean - old.mean)
    if gap <= tolerance:  # both one-sided tests must reject, so each may miss only half as often
        found = seeds_needed((tolerance - gap) / std, alpha, paired=False, power=(1 + POWER) / 2)
    else:  # at the strictest level that the correction can require
        found = seeds_needed(gap / std, alpha / rows, paired=False)
    return min(max(found, old.n_ok + 1, new.n_ok + 1), MAX_SEEDS + 1)


def verdict_of_pair(row: Mapping[Any, Any]) -> str:
    """Better or worse only if the test shows it, the winner did not fail more often, and at least one of the two beats
    a trivial sampler. `row`: of the table of `compare`, before its verdict."""
    sign = -1 if row["better"] == "lower" else 1
    if all(sign * (row[f"mean{x}"] - row[f"floor{x}"]) <= 0 for x in ("", "_baseline")):  # false for NaN
        return UNLEARNED
    if not row["p_corrected"] < ALPHA:
        return UNCLEAR
    failed, failed_baseline = (1 - row[f"n_ok{x}"] / row[f"seeds{x}"] for x in ("", "_baseline"))
    if row["test"] == "Fisher":
        return "worse" if failed > failed_baseline else "better"
    if row["_gain"] > 0:
        return "better" if failed <= failed_baseline else UNCLEAR
    return "worse" if failed_baseline <= failed else UNCLEAR
