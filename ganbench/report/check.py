"""A verdict as text for a terminal, as JSON, as JUnit XML for a CI server, as Markdown for a pull request."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..analysis.check import Verdict
from ..analysis.reference import Entry
from ..analysis.verdicts import FAILING, MEANING, Outcome, Row, plain
from ..format import escape_markdown, markdown_table, number
from .tables import INVALID

SCHEMA = 1  # goes up when a program that reads the JSON would have to change
_STYLES: dict[Outcome, str] = {"changed": "yellow", "improved": "green"}
NOTABLE: tuple[Outcome, ...] = (*FAILING, "changed", "improved")


def as_text(verdict: Verdict, width: int = 100, color: bool = False) -> str:
    """A sentence for each row, those that fail at the end, and the verdict as the last line."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for outcome in reversed(list(MEANING)):
        style = "bold red" if outcome in FAILING else _STYLES.get(outcome, "")
        for row in verdict.rows:
            if row.outcome == outcome:
                grid.add_row(Text(outcome, style), Text(row.sentence))
    system = "standard" if color else None
    console = Console(width=width, force_terminal=color, highlight=False, color_system=system)
    with console.capture() as written:
        console.print(grid)
        console.print(Text(verdict.headline, "bold green" if verdict.ok else "bold red"))
    return "\n".join(line.rstrip() for line in written.get().splitlines()) + "\n"


def as_json(verdict: Verdict) -> str:
    """One object: `schema`, `ok`, `suite`, `reference`, `alpha`, `headline`, `counts` by outcome, and `rows`."""
    found = {
        "schema": SCHEMA,
        "ok": verdict.ok,
        "suite": verdict.suite,
        "reference": verdict.reference,
        "alpha": verdict.alpha,
        "headline": verdict.headline,
        "counts": verdict.counts,
        "rows": [_object(row) for row in verdict.rows],
    }
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _object(row: Row) -> dict[str, Any]:
    texts = {
        name: getattr(row, name) for name in ("dataset", "label", "metric", "outcome", "fails", "sentence")
    }
    sides = {"reference": _side(row.reference), "result": _side(row.result)}
    return {**texts, "tolerance": row.tolerance, "p": row.p, **sides}


def _side(entry: Entry | None) -> dict[str, Any] | None:
    """The numbers of a row as they stand in one of the tables; null for what there is not."""
    if entry is None:
        return None
    numbers = {name: None if math.isnan(value := getattr(entry, name)) else value for name in ("mean", "std")}
    others = ("n_ok", "n", "failures", "protocol", "unit", "better", "invalid")
    return {**numbers, **{name: getattr(entry, name) for name in others}}


def as_junit(verdict: Verdict) -> str:
    """A test case for each row, which fails with its sentence."""
    suite = ElementTree.Element(
        "testsuite",
        name=plain(f"ganbench check {verdict.suite}"),
        tests=str(len(verdict.rows)),
        failures=str(len(verdict.failed)),
        errors="0",
        skipped="0",
        time="0",
    )
    for row in verdict.rows:
        place = plain(".".join((verdict.suite, row.dataset, row.label)))
        case = ElementTree.SubElement(suite, "testcase", classname=place, name=plain(row.metric), time="0")
        if row.fails:
            failure = ElementTree.SubElement(case, "failure", type=row.outcome, message=row.sentence)
            failure.text = row.sentence
        else:
            ElementTree.SubElement(case, "system-out").text = f"{row.outcome}: {row.sentence}"
    suites = ElementTree.Element("testsuites", dict(suite.attrib))
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def as_markdown(verdict: Verdict) -> str:
    """The verdict, the rows that matter, and all rows folded away."""
    mark = "✅" if verdict.ok else "❌"
    blocks = [f"### {mark} {escape_markdown(verdict.headline)}"]
    notable = notables(verdict)
    blocks += (
        ["\n".join(f"- **{row.outcome}**: {escape_markdown(row.sentence)}" for row in notable)]
        if notable
        else []
    )
    heads = ("dataset", "method", "metric", "reference", "now", "outcome")
    rows = [tuple(map(escape_markdown, cells(row))) for row in verdict.rows]
    blocks += [
        "<details>",
        "<summary>All rows, and what the outcomes mean</summary>",
        markdown_table(heads, rows, right=(3, 4)),
        explained(verdict),
        "</details>",
    ]
    return "\n\n".join(blocks) + "\n"


@dataclass(frozen=True)
class Shown:
    """A verdict as the report shows it."""

    headline: str
    ok: bool
    notable: list[Row]
    rows: list[tuple[Row, tuple[str, ...]]]  # with its `cells`
    explained: str


def shown(verdict: Verdict) -> Shown:
    """A verdict for the report's template."""
    rows = [(row, cells(row)) for row in verdict.rows]
    return Shown(verdict.headline, verdict.ok, notables(verdict), rows, explained(verdict))


def notables(verdict: Verdict) -> list[Row]:
    """The rows that matter, failing ones first."""
    return [row for outcome in NOTABLE for row in verdict.rows if row.outcome == outcome]


def cells(row: Row) -> tuple[str, ...]:
    """A row of a table: dataset, method, metric with its unit, value in the reference, value now, outcome."""
    one = row.reference or row.result
    unit = f" ({one.unit})" if one and one.unit not in ("", row.metric) else ""
    texts = (
        row.dataset,
        row.label,
        f"{row.metric}{unit}",
        _value(row.reference),
        _value(row.result),
        row.outcome,
    )
    return tuple(map(plain, texts))


def _value(entry: Entry | None) -> str:
    """`7.80 ± 0.20† (4/5)`: mean, its standard error over seeds, a mark where it is not valid, seeds where some
    failed."""
    if entry is None or not entry.n_ok:
        return "–"
    seeds = f"{INVALID if entry.invalid else ''}{f' ({entry.n_ok}/{entry.n})' if entry.bad else ''}"
    if entry.n_ok == 1:
        return f"{number(entry.mean, 0)}{seeds}"
    error = entry.std / math.sqrt(entry.n_ok)
    return f"{number(entry.mean, error)} ± {number(error, error)}{seeds}".replace("-", "−")


def explained(verdict: Verdict) -> str:
    """How it was judged."""
    found = "; ".join(f"{outcome}: {MEANING[outcome]}" for outcome in verdict.counts)
    return (
        f"{found[0].upper()}{found[1:]}. Noise: the greater p of Student's and Welch's one-sided test over training "
        f"seeds, corrected for all rows (Benjamini-Hochberg), at {verdict.alpha:g}. ± is the standard error over "
        f"seeds.{f' {INVALID}: not valid.' if any(map(_marked, verdict.rows)) else ''}"
    )


def _marked(row: Row) -> bool:
    return any(entry is not None and entry.invalid for entry in (row.reference, row.result))


FORMATS = {"text": as_text, "json": as_json, "junit": as_junit, "markdown": as_markdown}
