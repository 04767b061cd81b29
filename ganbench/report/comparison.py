"""A comparison as text for a terminal, as JSON, and as the files of a run: tables and critical-difference diagrams."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..analysis.compare import ALPHA, UNCLEAR, UNLEARNED, Comparison
from ..analysis.rankings import Ranking
from ..format import escape_markdown, markdown_table, p_value
from ..store import layout
from ..store.files import Folder
from . import diagram, sentences
from . import style as drawing
from .tables import guarded_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = 3  # goes up when a program that reads the JSON would have to change
_STYLES = {"better": "green", "worse": "red", UNLEARNED: "yellow", UNCLEAR: ""}
HEADS = ("metric", "dataset", "difference", "wins", "p", "verdict")
RANK_HEADS = ("method", "mean rank", "beats, % of all other seeds [95 % bootstrap interval]")
Row = Mapping[Hashable, Any]


def as_text(compared: Comparison, width: int = 100, color: bool = False) -> str:
    """For each method and baseline a sentence and its numbers, then how all methods rank, then how to read it."""
    parts: list[RenderableType] = []
    groups = compared.rows.groupby(["method", "baseline"], sort=False)
    for headline, (_, rows) in zip(compared.headlines, groups, strict=True):
        grid = _grid([_short(row) for row in rows.to_dict("records")], HEADS)
        failed = [Text(f"  {text}", "yellow") for text in sentences.failures(rows)]
        parts += [Text(headline, "bold"), *failed, Padding(grid, (0, 0, 1, 2))]
    for ranked in compared.rankings:
        head = Text.assemble((f"All methods by {ranked.metric}", "bold"), f": {sentences.ranking(ranked)}")
        parts += [head, Padding(_grid(_standing(compared, ranked), RANK_HEADS), (0, 0, 1, 2))]
    parts += [Text(note) for note in shown(compared).notes]
    system = "standard" if color else None
    console = Console(width=width, force_terminal=color, highlight=False, color_system=system)
    with console.capture() as written:
        console.print(Group(*parts))
    return "\n".join(line.rstrip() for line in written.get().splitlines()) + "\n"


def _grid(lines: Sequence[Sequence[str]], heads: Sequence[str]) -> Table:
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in heads:
        grid.add_column(Text(head), overflow="fold", no_wrap=head in HEADS[2:])
    for line in lines:
        style = next((style for verdict, style in _STYLES.items() if line[-1].startswith(verdict)), "")
        grid.add_row(*(Text(cell, style if cell is line[-1] else "") for cell in line))
    return grid


def _short(row: Row) -> tuple[str, ...]:
    """A line that fits a terminal: without the unit and the interval of the wins."""
    metric, dataset, shown, won, p, _ = _line(row)
    return metric, dataset, shown.removesuffix(f" {row['unit']}"), won.split(" [")[0], p, sentences.short(row)


def _line(row: Row) -> tuple[str, ...]:
    """Metric, dataset, difference, wins, p, verdict."""
    shown = sentences.difference(row) if math.isfinite(row["difference"]) else "–"
    known = math.isfinite(row["p_corrected"])
    p = p_value(row["p_corrected"]).removeprefix("= ") if known else "–"
    won = sentences.wins(*(row[f"improvement{end}"] for end in ("", "_low", "_high")))
    arrow = {"higher": "↑", "lower": "↓"}[row["better"]]
    return f"{row['metric']} {arrow}", row["dataset"], shown, won, p, sentences.full(row)


def _standing(compared: Comparison, ranked: Ranking) -> list[tuple[str, str, str]]:
    """Name, mean rank and interquartile standing of each method, the best first."""
    rows = compared.win_rates[compared.win_rates["metric"] == ranked.metric].to_dict("records")
    shown = {row["label"]: f"{row['iqm']:.0f}{_ends(row)}" for row in rows}
    return [(str(label), f"{rank:.2f}", shown[label]) for label, rank in ranked.ranks.sort_values().items()]


def _ends(row: Row) -> str:
    return f" [{row['low']:.0f}, {row['high']:.0f}]" if math.isfinite(row["low"]) else ""


def as_json(compared: Comparison, files: Sequence[Path] = ()) -> str:
    """One object: `schema`, `alpha`, `headlines`, `verdicts`, `notes`, `files`, and lists of objects `comparisons`,
    `overall` and `standings` (its `win_rates`), whose columns are those of `compare.Comparison`, and `rankings`."""
    found = {
        "schema": SCHEMA,
        "alpha": ALPHA,
        "headlines": compared.headlines,
        "verdicts": compared.verdicts,
        "comparisons": _objects(compared.rows),
        "overall": _objects(compared.overall),
        "standings": _objects(compared.win_rates),
        "rankings": [_ranking(ranked) for ranked in compared.rankings],
        "notes": list(compared.notes),
        "files": [str(path) for path in files],
    }
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _objects(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Rows as objects, null for what there is not."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _ranking(ranked: Ranking) -> dict[str, Any]:
    names = ("metric", "datasets", "p", "critical")
    found = {name: getattr(ranked, name) for name in names}
    tables = {"ranks": ranked.ranks.to_dict(), "apart": ranked.apart.to_dict("index")}
    return {**found, **tables, "left_out": list(ranked.left_out)}


# ---------------------------------------------------------------------------------------------- for the report


@dataclass(frozen=True)
class Line:
    """One comparison as it is printed."""

    method: str
    baseline: str
    cells: tuple[str, ...]  # `HEADS`
    verdict: str  # better, worse, neither has learned, can't tell
    difference: float | None
    improvement: float
    p: float | None


@dataclass(frozen=True)
class Shown:
    """What a page shows of a comparison."""

    headlines: list[str]
    lines: list[Line]
    notes: list[str]


def shown(compared: Comparison) -> Shown:
    """A comparison for the report's template."""
    lines = [
        Line(
            row["method"],
            row["baseline"],
            _line(row),
            row["verdict"],
            _finite(row["difference"]),
            row["improvement"],
            _finite(row["p_corrected"]),
        )
        for row in compared.rows.to_dict("records")
    ]
    notes = [*compared.notes, *([sentences.READING] if compared.rankings else [])]
    return Shown(compared.headlines, lines, notes)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# ---------------------------------------------------------------------------------------------- files


def write(folder: Path, compared: Comparison) -> list[Path]:
    """Write `tables/compare.{csv,md}` and `plots/critical-difference-<metric>.{png,svg}` of a run and return their
    paths; diagrams of an earlier comparison are removed. Raises StoreError."""
    files = Folder(Path(folder))
    contents = {
        layout.table("compare.csv"): guarded_csv(_with_overall(compared)).encode(),
        layout.table("compare.md"): as_markdown(compared).encode(),
    }
    for ranked in compared.rankings:
        with drawing.style():
            figure = _diagram(ranked, compared.labels)
            contents[layout.plot(ranked.name, "png")] = drawing.png(figure)
            contents[layout.plot(ranked.name, "svg")] = drawing.svg(figure)
    written = [files.write(files.path(name), content) for name, content in contents.items()]
    for path in files.path(layout.PLOTS).glob("critical-difference-*"):
        if path not in written:
            files.remove_file(path)
    return written


def picture(ranked: Ranking, labels: Sequence[str]) -> bytes:
    """The critical-difference diagram as PNG; of `labels`, those of all methods, each has the colour that it has in
    the run's other plots."""
    with drawing.style():
        return drawing.png(_diagram(ranked, labels))


def _diagram(ranked: Ranking, labels: Sequence[str]) -> Figure:
    return drawing.settle(diagram.figure(ranked, drawing.colours(labels)))


def _with_overall(compared: Comparison) -> pd.DataFrame:
    """The comparisons, with the probability of improvement over all datasets beside that of each."""
    names = ["method", "baseline", "metric"]
    wins = {
        name: f"improvement_all{end}"
        for name, end in (("improvement", ""), ("low", "_low"), ("high", "_high"))
    }
    overall = compared.overall[[*names, *wins]].rename(columns=wins)
    return compared.rows.merge(overall, on=names, how="left")


def as_markdown(compared: Comparison) -> str:
    """Verdicts first, then the numbers."""
    heads = ("method", "baseline", *HEADS)
    lines = [(row["method"], row["baseline"], *_line(row)) for row in compared.rows.to_dict("records")]
    blocks = ["# Compared", *_items(compared.headlines), "## Numbers", _markdown_table(heads, lines)]
    for ranked in compared.rankings:
        standing = _markdown_table(RANK_HEADS, _standing(compared, ranked))
        blocks += [
            f"## All methods by {escape_markdown(ranked.metric)}",
            standing,
            escape_markdown(sentences.diagram_caption(ranked)),
        ]
    return "\n\n".join([*blocks, *map(escape_markdown, shown(compared).notes)]) + "\n"


def _items(texts: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {escape_markdown(text)}" for text in texts)]


def _markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return markdown_table(heads, [[escape_markdown(cell) for cell in line] for line in lines])
