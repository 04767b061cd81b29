"""What became of each row of a reference, told apart and said in plain words."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..format import number, p_value, plural
from . import error_rates
from .reference import Entry, Key
from .stats import MOST_SEEDS
from .tolerance import Tolerances

Outcome = Literal[
    "missing", "protocol changed", "not valid", "regressed", "fewer seeds", "changed", "improved", "unclear", "same",
    "new",
]  # fmt: skip
MEANING: Mapping[Outcome, str] = {
    "missing": "in the reference, not in the results",
    "protocol changed": "measured in another way, so not compared",
    "not valid": "its metric's own control failed, and had not in the reference, so not compared",
    "regressed": "worse by more than the tolerance and by more than the noise",
    "fewer seeds": "more seeds failed than in the reference",
    "changed": "moved by more than the tolerance and the noise, in a metric that is not ranked",
    "improved": "better by more than the tolerance and the noise, or fewer seeds failed, or valid again",
    "unclear": "neither shown worse nor shown equal",
    "same": "shown equal within the tolerance",
    "new": "not in the reference",
}
FAILING: tuple[Outcome, ...] = ("missing", "protocol changed", "not valid", "regressed", "fewer seeds")


@dataclass(frozen=True)
class Row:
    """One row of the reference or of the results, and what became of it."""

    dataset: str
    label: str
    metric: str
    outcome: Outcome
    sentence: str
    reference: Entry | None
    result: Entry | None
    tolerance: float | None = None  # in the metric's unit
    p: float | None = None  # of being no worse (of not having moved, where nothing is ranked), corrected

    @property
    def fails(self) -> bool:
        """Whether the check fails for it."""
        return self.outcome in FAILING


Marks = NDArray[np.bool_]  # [R]


class Pair(NamedTuple):
    """The same row before and now."""

    old: Entry
    new: Entry


# ---------------------------------------------------------------------------------------------- judging


def judge(old: Sequence[Entry], new: Sequence[Entry], allowed: Tolerances, alpha: float) -> list[Row]:
    """What became of each row of the reference `old`, and which rows of `new` it does not have.

    The rows of ranked metrics are one family of tests, corrected together; the others, which cannot fail the check,
    are another.
    """
    rows: dict[Key, Row] = {}
    pairs: list[Pair] = []
    by_key: dict[Key, list[Entry]] = {}
    for entry in new:
        by_key.setdefault(entry.key, []).append(entry)
    for entry in old:
        same = by_key.get(entry.key, [])
        found = next((one for one in same if _comparable(entry, one)), None)
        if found and entry.n_ok and found.n_ok and not (entry.invalid or found.invalid):
            pairs.append(Pair(entry, found))
        else:
            rows[entry.key] = _without_numbers(entry, found, same)
    for ranked in (True, False):
        family = [pair for pair in pairs if (pair.old.better != "neither") == ranked]
        rows |= {row.reference.key: row for row in _compared(family, allowed, alpha) if row.reference}
    known = {entry.key for entry in old}
    return [rows[entry.key] for entry in old] + [_new(entry) for entry in new if entry.key not in known]


def _comparable(old: Entry, new: Entry) -> bool:
    """Whether both were measured by the same protocol, as far as their seeds came far enough to have one."""
    known = bool(old.protocol and new.protocol)
    return (old.unit, old.better) == (new.unit, new.better) and (old.protocol == new.protocol or not known)


def _without_numbers(old: Entry, new: Entry | None, others: Sequence[Entry]) -> Row:
    """A row of which there is nothing to compare."""
    where = _where(old)
    if not others:
        return _row("missing", f"{where} is in the reference but not in the results", old, None)
    if new is None:
        how = f"protocol {_protocols(others)}, in the reference {old.protocol or 'none'}"
        hint = "so it is not compared; if that was meant, keep a new reference"
        return _row(
            "protocol changed", f"{where} was measured in another way ({how}), {hint}", old, others[0]
        )
    if _fewer(old, new):
        return _row("fewer seeds", f"{where} {_seeds_changed(old, new)}", old, new)
    if new.invalid:
        how = "now as in the reference" if old.invalid else "but in the reference it is"
        outcome = "unclear" if old.invalid else "changed" if old.better == "neither" else "not valid"
        return _row(outcome, f"{where} is not valid, {how} ({new.invalid})", old, new)
    if old.invalid:
        return _row("improved", f"{where} is valid now, in the reference it is not ({old.invalid})", old, new)
    if new.n_ok:
        return _row("improved", f"{where} {_seeds_changed(old, new)}", old, new)
    return _row("unclear", f"{where} has no value, now as in the reference", old, new)


def _new(entry: Entry) -> Row:
    value = f": {_value(entry, _error(entry))}" if entry.n_ok else ""
    return Row(*entry.key, "new", plain(f"{_where(entry)} is not in the reference{value}"), None, entry)


def _row(outcome: Outcome, sentence: str, old: Entry, new: Entry | None) -> Row:
    return Row(*old.key, outcome, plain(sentence), old, new)


# ---------------------------------------------------------------------------------------------- comparing


def _compared(pairs: Sequence[Pair], allowed: Tolerances, alpha: float) -> list[Row]:
    """One family of rows, all of them ranked or none."""
    if not pairs:
        return []
    old, new = _sample([pair.old for pair in pairs]), _sample([pair.new for pair in pairs])
    tolerance = np.array([allowed.of(pair.old.metric, pair.old.mean) for pair in pairs])
    worse_up = np.array([-1.0 if pair.old.better == "higher" else 1.0 for pair in pairs])
    rise = (new.mean - old.mean) * worse_up
    equal = error_rates.p_equal(rise, tolerance, old, new) <= alpha
    equal |= np.array([_identical(*pair) for pair in pairs])
    worse, better = error_rates.p_greater(rise, old, new), error_rates.p_greater(-rise, old, new)
    told: dict[Outcome, Marks] = {}
    if pairs[0].old.better == "neither":
        p = error_rates.corrected(np.minimum(2 * np.minimum(worse, better), 1.0))
        told["changed"] = error_rates.outside(np.abs(rise), p, tolerance, alpha)
    else:
        p, p_better = error_rates.corrected(worse), error_rates.corrected(better)
        told["regressed"] = error_rates.outside(rise, p, tolerance, alpha)
        told["improved"] = error_rates.outside(-rise, p_better, tolerance, alpha)
        p = np.where(told["improved"], p_better, p)
    told["same"] = equal
    seeds = error_rates.seeds_to_tell(rise, tolerance, old, new, len(pairs), alpha)
    return [
        _told(pair, _first(told, i), float(tolerance[i]), float(p[i]), int(seeds[i]))
        for i, pair in enumerate(pairs)
    ]


def _first(told: Mapping[Outcome, Marks], row: int) -> Outcome:
    """The first outcome that holds for a row."""
    for outcome, holds in told.items():
        if holds[row]:
            return outcome
    return "unclear"


def _identical(old: Entry, new: Entry) -> bool:
    """Whether no digit differs, as when the same seeds run again, or every seed has the same value."""
    alike = old.std == new.std and (old.n_ok == new.n_ok or old.std == 0)
    return old.mean == new.mean and (alike or old.n_ok == new.n_ok == 1)


def _sample(entries: Sequence[Entry]) -> error_rates.Sample:
    mean, std = (np.array([getattr(entry, name) for entry in entries]) for name in ("mean", "std"))
    return error_rates.Sample(mean, std, np.array([entry.n_ok for entry in entries]))


def _told(pair: Pair, outcome: Outcome, tolerance: float, p: float, seeds: int) -> Row:
    """The row of a pair with the outcome of its means, unless its failed seeds say more."""
    told = f"{_moved(pair)}{_judged(pair, outcome, tolerance, p)}{_advice(seeds) if outcome == 'unclear' else ''}"
    counted = _seeds_changed(*pair)
    if _fewer(*pair) and outcome != "regressed":
        outcome, sentence = "fewer seeds", f"{counted}; over these it {_moved(pair)}"
    elif _more(*pair) and outcome in ("same", "unclear"):
        outcome, sentence = "improved", f"{counted}; over these it {_moved(pair)}"
    else:
        alike = pair.old.bad == pair.new.bad == 0 or _ended(pair.old) == _ended(pair.new)
        sentence = told if alike else f"{told}; it {counted}"
    return Row(*pair.old.key, outcome, plain(f"{_where(pair.old)} {sentence}"), *pair, tolerance, p)


def _ended(entry: Entry) -> tuple[int, Mapping[str, int]]:
    return entry.n, entry.failures


def _fewer(old: Entry, new: Entry) -> bool:
    """Whether more seeds failed than the reference's share of them, rounded up to whole seeds."""
    return new.bad > -(-old.bad * new.n // old.n)


def _more(old: Entry, new: Entry) -> bool:
    """Whether fewer seeds failed than the reference's share of them, rounded down to whole seeds."""
    return new.bad < old.bad * new.n // old.n


# ---------------------------------------------------------------------------------------------- in words


def _moved(pair: Pair) -> str:
    """`fell from 225.0 to 201.3 nats`"""
    old, new = pair
    error = max(_error(old), _error(new))
    before, after = (_number(mean, error) for mean in (old.mean, new.mean))
    if new.mean == old.mean:
        return f"is {after}{_unit(old)} as before"
    return f"{'fell' if new.mean < old.mean else 'rose'} from {before} to {after}{_unit(old)}"


def _judged(pair: Pair, outcome: Outcome, tolerance: float, p: float) -> str:
    """What follows: ` (5 against 5 seeds; tolerance 2.25, corrected p = 0.003)`"""
    old, new = pair
    counts = f"{new.n_ok} against {old.n_ok} seeds"
    if outcome == "same":
        return f" ({counts})" if _identical(*pair) else f", the same within {tolerance:.3g} ({counts})"
    what = "changed" if old.better == "neither" else "worse"
    doubt = f", neither shown {what} nor shown equal" if outcome == "unclear" else ""
    return f"{doubt} ({counts}; tolerance {tolerance:.3g}, corrected p {p_value(p)})"


def _advice(seeds: int) -> str:
    """How many seeds would tell, where that can be said."""
    if not seeds:
        return ""
    if seeds > MOST_SEEDS:
        return f"; more than {MOST_SEEDS:,} seeds on each side would be needed to tell"
    step = 10 ** max(len(str(seeds)) - 2, 0)  # two digits are more than enough
    return f"; about {math.ceil(seeds / step) * step} seeds on each side would tell"


def _seeds_changed(old: Entry, new: Entry) -> str:
    """`has a value for 3 of 5 seeds (2 diverged), in the reference for 5 of 5`"""
    now = f"{new.n_ok} of {new.n} seeds{_failures(new)}"
    return f"has a value for {now}, in the reference for {old.n_ok} of {old.n}{_failures(old)}"


def _failures(entry: Entry) -> str:
    found = ", ".join(f"{count} {name}" for name, count in entry.failures.items())
    return f" ({found})" if found else ""


def _where(entry: Entry) -> str:
    return f"{entry.dataset}, {entry.label}: {entry.metric}"


def _protocols(entries: Sequence[Entry]) -> str:
    return " and ".join(entry.protocol or "none" for entry in entries)


def _value(entry: Entry, error: float) -> str:
    return f"{_number(entry.mean, error)}{_unit(entry)} over {plural(entry.n_ok, 'seed')}"


def _unit(entry: Entry) -> str:
    return f" {entry.unit}" if entry.unit and entry.unit != entry.metric else ""


def _error(entry: Entry) -> float:
    """Standard error of the mean over seeds; zero where there is no telling."""
    return entry.std / math.sqrt(entry.n_ok) if entry.n_ok > 1 else 0.0


def _number(value: float, error: float) -> str:
    return number(value, error).replace("-", "−")


def plain(text: str) -> str:
    """Text without control characters, which terminals and XML would take for more than text."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs", "Cn") else c for c in text)
