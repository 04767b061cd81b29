"""The result of a check in sentences: as text for a terminal, JSON, JUnit XML for a CI server, and Markdown for a pull
request."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from ..analysis.check import CheckResult
from ..analysis.reference import Entry
from ..analysis.stats import MAX_SEEDS
from ..analysis.verdicts import FAILING, OUTCOMES, Outcome, Row, within_rounding
from ..format import number, p_value, plural
from .document import render, terminal
from .tables import AT_FLOOR, INVALID

SCHEMA = 1  # increased when programs that read the JSON would have to change
MEANING: Mapping[Outcome, str] = {
    "missing": "in the reference, not in the results",
    "protocol changed": "measured in another way, so not compared",
    "not valid": "its metric's own control failed, and had not in the reference, so not compared",
    "regressed": "worse by more than the tolerance and by more than the noise",
    "fewer seeds": "more seeds failed than in the reference",
    "changed": "moved by more than the tolerance and the noise, in a metric that is not ranked",
    "improved": "better by more than the tolerance and the noise, or fewer seeds failed, or valid again",
    "unclear": "neither shown worse nor shown equal",
    "same": "shown equal within the tolerance, or the same within rounding",
    "new": "not in the reference",
}
HEADS = ("dataset", "method", "metric", "reference", "now", "outcome")
_STYLES: dict[Outcome, str] = {**dict.fromkeys(FAILING, "bold red"), "changed": "yellow", "improved": "green"}

# ---------------------------------------------------------------------------------------------- in words


def headline(result: CheckResult) -> str:
    """`quickstart against quickstart.csv: none of 20 rows fails (12 same, 8 unclear)`"""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in result.counts.items())
    rows, failed = plural(len(result.rows), "row"), len(result.failed)
    verdict = (
        f"{failed} of {rows} {'fails' if failed == 1 else 'fail'}" if failed else f"none of {rows} fails"
    )
    return f"{_plain(result.suite)} against {_plain(result.reference)}: {verdict} ({counts})"


def sentence(row: Row) -> str:
    """The outcome of a row: `ring, gan: kde_ll fell from 225.0 to 201.3 nats (5 against 5 seeds; ...)`"""
    old, new = row.reference, row.result
    if old and new:
        what = _mean_sentence(row, old, new) if row.means else _without_means(row, old, new)
    elif new:
        value = f": {_number(new.mean, _error(new))}{_unit(new)} over {plural(new.n_ok, 'seed')}"
        what = f"is not in the reference{value if new.n_ok else ''}"
    else:
        what = "is in the reference but not in the results"
    return _plain(f"{row.dataset}, {row.label}: {row.metric} {what}")


def _without_means(row: Row, old: Entry, new: Entry) -> str:
    """The sentence of a row without two means to compare."""
    if row.outcome == "protocol changed":
        now = " and ".join(protocol or "none" for protocol in row.protocols)
        how = f"protocol {now}, in the reference {old.protocol or 'none'}"
        hint = "so it is not compared; if that was meant, keep a new reference"
        return f"was measured in another way ({how}), {hint}"
    if row.outcome == "fewer seeds":
        return _seeds(old, new)
    if new.invalid:
        how = "now as in the reference" if old.invalid else "but in the reference it is"
        return f"is not valid, {how} ({new.invalid})"
    if old.invalid:
        return f"is valid now, in the reference it is not ({old.invalid})"
    return _seeds(old, new) if new.n_ok else "has no value, now as in the reference"


def _mean_sentence(row: Row, old: Entry, new: Entry) -> str:
    """`fell from 225.0 to 201.3 nats (5 against 5 seeds; tolerance 2.25, corrected p = 0.003)`"""
    # The change of the mean.
    error = max(_error(old), _error(new))
    before, after = (_number(mean, error) for mean in (old.mean, new.mean))
    rounding = within_rounding(old, new)
    if new.mean == old.mean:
        moved = f"is {after}{_unit(old)} as before"
    elif rounding:
        moved = f"is {after}{_unit(old)}, the same within rounding"
    else:
        moved = f"{'fell' if new.mean < old.mean else 'rose'} from {before} to {after}{_unit(old)}"
    if row.outcome != row.means:  # the outcome follows from failed seeds, which count more than the mean
        return f"{_seeds(old, new)}; over these it {moved}"
    # The result of the test.
    counts = f"{new.n_ok} against {old.n_ok} seeds"
    if row.means == "same":
        text = (
            f"{moved} ({counts})" if rounding else f"{moved}, the same within {row.tolerance:.3g} ({counts})"
        )
    else:
        what = "changed" if old.better == "neither" else "worse"
        doubt = f", neither shown {what} nor shown equal" if row.means == "unclear" else ""
        text = (
            f"{moved}{doubt} ({counts}; tolerance {row.tolerance:.3g}, corrected p {p_value(row.p or 0.0)})"
        )
    # The seeds needed, and other possible causes.
    if row.seeds_needed > MAX_SEEDS:
        text += f"; more than {MAX_SEEDS:,} seeds on each side would be needed to tell"
    elif row.seeds_needed:
        step = 10 ** max(len(str(row.seeds_needed)) - 2, 0)  # round up to two digits, as it is an estimate
        text += f"; about {math.ceil(row.seeds_needed / step) * step} seeds on each side would tell"
    if row.means != "same":
        text += "".join(f"; {what}" for what in _training_differences(old, new))
    if (old.n, old.failures) != (new.n, new.failures) and (old.bad or new.bad):
        text += f"; it {_seeds(old, new)}"
    return text


def _training_differences(old: Entry, new: Entry) -> list[str]:
    """Differences in device and stack size, by which the same seeds differ in rounding; empty if not known."""
    sides = (("trained on", old.device, new.device), ("trained in stacks of", old.stack, new.stack))
    return [
        f"{how} {now}, in the reference {before}"
        for how, before, now in sides
        if before and now and before != now
    ]


def _seeds(old: Entry, new: Entry) -> str:
    """`has a value for 3 of 5 seeds (2 diverged), in the reference for 5 of 5`"""
    why = (", ".join(f"{count} {name}" for name, count in entry.failures.items()) for entry in (new, old))
    now, before = (f" ({text})" if text else "" for text in why)
    return f"has a value for {new.n_ok} of {new.n} seeds{now}, in the reference for {old.n_ok} of {old.n}{before}"


def notes(result: CheckResult) -> list[str]:
    """Why the same seeds may have other numbers, if some row has moved."""
    pairs = [
        (row.reference, row.result)
        for row in result.rows
        if row.reference and row.result and row.means != "same"
    ]
    if not any(row.means not in (None, "same") for row in result.rows):
        return []
    texts = []
    if any(_training_differences(*pair) for pair in pairs):
        texts.append(
            "Seeds that were trained on another device or in stacks of another size differ by rounding, which training "
            "amplifies: 0.4 to 0.6 % of a score after 200 rounds. A row that moved by no more shows no change of the "
            "method."
        )
    if result.environment:
        each = ", ".join(f"{name} {now} ({before})" for name, (before, now) in result.environment.items())
        texts.append(
            f"The environment differs from the reference's (in brackets): {_plain(each)}. So the same seeds need not "
            "give the same digits."
        )
    return texts


def explanation(result: CheckResult) -> str:
    """The meaning of the outcomes, and the tests behind them."""
    meanings = "; ".join(f"{outcome}: {MEANING[outcome]}" for outcome in result.counts)
    entries = [entry for row in result.rows for entry in (row.reference, row.result) if entry]
    mark = f" {INVALID}: not valid." if any(entry.invalid for entry in entries) else ""
    if any(_mark(entry) == AT_FLOOR for entry in entries):
        mark += f" {AT_FLOOR}: no better than the floor, which a trivial sampler reaches."
    return (
        f"{meanings[0].upper()}{meanings[1:]}. Noise: the greater p of Student's and Welch's one-sided test over "
        f"training seeds, corrected for all rows (Benjamini-Hochberg), at {result.alpha:g}. ± is the standard error "
        f"over seeds.{mark}"
    )


def notable(result: CheckResult) -> list[Row]:
    """The rows with a failure, a change or an improvement, failing ones first."""
    return [
        row for outcome in (*FAILING, "changed", "improved") for row in result.rows if row.outcome == outcome
    ]


# ---------------------------------------------------------------------------------------------- numbers


def cells(row: Row) -> tuple[str, ...]:
    """The cells of a row, under `HEADS`: the metric with its unit, both values as `7.80 ± 0.20† (4/5)`."""
    entry = row.reference or row.result
    unit = f" ({entry.unit})" if entry and entry.unit not in ("", row.metric) else ""
    values = []
    for side in (row.reference, row.result):
        if side is None or not side.n_ok:
            values.append("–")
            continue
        error = _error(side)
        text = _number(side.mean, error) + (f" ± {_number(error, error)}" if side.n_ok > 1 else "")
        values.append(f"{text}{_mark(side)}{f' ({side.n_ok}/{side.n})' if side.bad else ''}")
    return tuple(map(_plain, (row.dataset, row.label, f"{row.metric}{unit}", *values, row.outcome)))


def _mark(entry: Entry) -> str:
    return INVALID if entry.invalid else AT_FLOOR if entry.at_floor else ""


def _unit(entry: Entry) -> str:
    return f" {entry.unit}" if entry.unit and entry.unit != entry.metric else ""


def _error(entry: Entry) -> float:
    """Standard error of the mean over seeds; zero if it is unknown."""
    return entry.std / math.sqrt(entry.n_ok) if entry.n_ok > 1 else 0.0


def _number(value: float, error: float) -> str:
    return number(value, error).replace("-", "−")


def _plain(text: str) -> str:
    """Text with control characters replaced, which terminals would interpret and XML does not allow."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs", "Cn") else c for c in text)


# ---------------------------------------------------------------------------------------------- formats


def as_text(result: CheckResult, width: int = 100, color: bool = False) -> str:
    """A sentence for each row, those that fail at the end, and the headline as the last line."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for outcome in reversed(OUTCOMES):
        for row in result.rows:
            if row.outcome == outcome:
                grid.add_row(Text(outcome, _STYLES.get(outcome, "")), Text(row.sentence))
    last = Text(result.headline, "bold green" if result.ok else "bold red")
    return terminal([grid, *map(Text, notes(result)), last], width, color)


def as_json(result: CheckResult) -> str:
    """One object: `schema`, `ok`, `suite`, `reference`, `alpha`, `headline`, `counts` by outcome, `notes`, and
    `rows`."""
    names = ("dataset", "label", "metric", "outcome", "fails", "sentence", "tolerance", "p")
    rows = [
        {
            **{name: getattr(row, name) for name in names},
            "reference": _side(row.reference),
            "result": _side(row.result),
        }
        for row in result.rows
    ]
    top = {
        name: getattr(result, name) for name in ("ok", "suite", "reference", "alpha", "headline", "counts")
    }
    document = {"schema": SCHEMA, **top, "notes": notes(result), "rows": rows}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _side(entry: Entry | None) -> dict[str, Any] | None:
    """The numbers of a row in one of the tables; None for NaN, and for a missing row."""
    if entry is None:
        return None
    numbers = {name: None if math.isnan(value := getattr(entry, name)) else value for name in ("mean", "std")}
    others = ("n_ok", "n", "failures", "protocol", "unit", "better", "invalid", "device", "stack")
    return {**numbers, **{name: getattr(entry, name) for name in others}}


def as_junit(result: CheckResult) -> str:
    """A test case for each row; a failing row fails with its sentence."""
    rows = [
        (row, _plain(f"{result.suite}.{row.dataset}.{row.label}"), _plain(row.metric)) for row in result.rows
    ]
    return render("check.xml.j2", suite=_plain(result.suite), failures=len(result.failed), rows=rows)


def as_markdown(result: CheckResult) -> str:
    """The headline, the notable rows, and a folded table of all rows."""
    return render("check.md.j2", **template_values(result), heads=HEADS)


def template_values(result: CheckResult) -> dict[str, Any]:
    """The variables of the templates."""
    return {
        "result": result,
        "notable": notable(result),
        "notes": notes(result),
        "rows": [(row, cells(row)) for row in result.rows],
        "explanation": explanation(result),
    }


FORMATS = {"text": as_text, "json": as_json, "junit": as_junit, "markdown": as_markdown}
