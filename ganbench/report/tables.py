"""Tables of a run: for people in text, Markdown, LaTeX and HTML, for programs as CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis import controls
from ..analysis.summary import FAILURES, TEXTS, run_summary
from ..format import escape_markdown, markdown_table, number, plural
from ..store import layout
from ..store.results import Run, open_run
from . import ranks

Line = Mapping[Hashable, Any]  # one row of a `summary`
_GUARDED = (*TEXTS, "baseline", "invalid")  # texts that others wrote
INVALID, AT_FLOOR = "†", "‡"  # marks of values

# ---------------------------------------------------------------------------------------------- for people


@dataclass(frozen=True)
class Column:
    """One metric of a human-readable table."""

    metric: str
    unit: str
    better: str
    protocol: str
    mixed: bool  # another column has the same metric by another protocol

    @property
    def arrow(self) -> str:
        """The direction in which values get better, if there is one."""
        return {"higher": "↑", "lower": "↓"}.get(self.better, "")

    @property
    def unit_shown(self) -> str:
        """The unit, unless the name already says it."""
        return "" if self.unit == self.metric else self.unit


@dataclass(frozen=True)
class Entry:
    """One value as it is printed; empty strings for what there is not."""

    mean: str
    low: str = ""
    high: str = ""
    sem: str = ""
    best: bool = False
    mark: str = ""  # `INVALID`, `AT_FLOOR`
    seeds: str = ""  # "4/5" where a seed is missing here that the method's other metrics have
    sort: float | None = None  # None: not ranked

    @property
    def text(self) -> str:
        """`7.80‡ [7.40, 8.00] ± 0.12 (4/5)`"""
        interval = f"[{self.low}, {self.high}]" if self.low else ""
        parts = (
            self.mean + self.mark,
            interval,
            f"± {self.sem}" if self.sem else "",
            f"({self.seeds})" if self.seeds else "",
        )
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Row:
    """One method of a human-readable table."""

    label: str
    seeds: str  # "4/5", or "3–5/5" where the metrics differ
    failures: str  # "1 diverged, 1 timeout"
    entries: tuple[Entry | None, ...]  # None: the metric does not apply


@dataclass(frozen=True)
class Table:
    """The methods of one dataset against its metrics."""

    dataset: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    show_seeds: bool  # some seed is missing somewhere, or methods have different numbers of seeds
    caption: str
    notes: tuple[str, ...]  # what its marks mean, verdicts and cautions of its metrics
    controls: ControlTable | None = None


@dataclass(frozen=True)
class ControlTable:
    """What controls score on one dataset: a row for each control, a column for each value."""

    columns: tuple[str, ...]  # in the order of the table above it, then values that only controls have
    rows: tuple[tuple[str, ...], ...]  # name of the control, then its value in each column; empty: none
    caption: str = "Controls: what the same metrics give for real data, trivial samplers and the like."

    @property
    def heads(self) -> tuple[str, ...]:
        """The header, as many cells as a row has."""
        return ("control", *self.columns)


def tables(
    frame: pd.DataFrame,
    notes: Mapping[str, tuple[str, ...]] | None = None,
    beside: Mapping[str, ControlTable] | None = None,
) -> list[Table]:
    """Human-readable tables of a `summary`, one for each dataset, with its `notes` (`controls.notes`) and the
    `control_tables` of its run."""
    return [
        _table(str(dataset), rows, (notes or {}).get(str(dataset), ()), (beside or {}).get(str(dataset)))
        for dataset, rows in frame.groupby("dataset", sort=False)
    ]


def of_run(run: Path | Run) -> list[Table]:
    """The tables of a run with their notes and controls. Raises StoreError."""
    run = open_run(run)
    return tables(run_summary(run), controls.notes(run), control_tables(run))


def _table(
    dataset: str, frame: pd.DataFrame, notes: tuple[str, ...], beside: ControlTable | None = None
) -> Table:
    lines = frame.to_dict("records")
    columns = {(line["metric"], line["protocol"]): line for line in lines}
    methods: dict[str, list[Line]] = {}
    for line in lines:
        methods.setdefault(str(line["label"]), []).append(line)
    rows = [_row(label, own, list(columns)) for label, own in methods.items()]
    complete = bool((frame["n_ok"] == frame["n"]).all()) and frame["n"].nunique() == 1
    seeds = int(frame["n"].max())
    caption = "Mean over training seeds"
    if seeds > 1:
        caption += " [95 % t interval over seeds; it may leave the range of a score]"
    if frame["sem"].notna().any():
        caption += " ± standard error over test points (root mean square of the seeds)"
    caption += f"; {plural(seeds, 'seed')} each." if complete else "; failed seeds enter no mean."
    if frame["best"].any():
        caption += " Bold: best mean."
    heads = tuple(Column(*(line[field.name] for field in fields(Column))) for line in columns.values())
    return Table(dataset, heads, tuple(rows), not complete, caption, (*footnotes(frame), *notes), beside)


def footnotes(frame: pd.DataFrame) -> list[str]:
    """What the marks mean, a sentence for each metric of a `summary` and kind of mark."""
    found = []
    several = frame["dataset"].nunique() > 1
    frame = frame.assign(who=frame["label"] + (" on " + frame["dataset"] if several else ""))
    for metric, rows in frame[frame["invalid"] != ""].groupby("metric", sort=False):
        each = "; ".join(f"{row['who']} ({row['invalid']})" for row in rows.to_dict("records"))
        found.append(f"{INVALID} {metric} is not valid here, so neither ranked nor compared: {each}.")
    low = frame[frame["at_floor"] & (frame["invalid"] == "")]
    for (metric, better), rows in low.groupby(["metric", "better"], sort=False):
        side = "above" if better == "higher" else "below"
        each = ", ".join(f"{row['who']} ({row['floor']:.4g})" for row in rows.to_dict("records"))
        found.append(f"{AT_FLOOR} {metric} is not {side} the floor, which a trivial sampler reaches: {each}.")
    return found


def mark(row: Line) -> str:
    """The mark of a row of a `summary`; empty for a value that needs none."""
    return INVALID if row["invalid"] else AT_FLOOR if row["at_floor"] else ""


def _row(label: str, lines: Sequence[Line], columns: Sequence[tuple[str, str]]) -> Row:
    own = {(line["metric"], line["protocol"]): line for line in lines}
    good = [line["n_ok"] for line in lines]
    least, most, n = min(good), max(good), max(line["n"] for line in lines)
    bad = {name: max(line[name] for line in lines) for name in FAILURES}
    return Row(
        label=label,
        seeds=f"{least}–{most}/{n}" if least < most else f"{least}/{n}",
        failures=", ".join(f"{count} {name}" for name, count in bad.items() if count),
        entries=tuple(_entry(own[key], least < most) if key in own else None for key in columns),
    )


def _entry(row: Line, differs: bool) -> Entry:
    seeds = f"{row['n_ok']}/{row['n']}" if differs and row["n_ok"] < row["n"] else ""
    if not row["n_ok"]:
        return Entry("–", seeds=seeds)
    spread = row["std"] / math.sqrt(row["n_ok"])
    error = max((e for e in (spread, row["sem"]) if e > 0), default=math.nan)  # NaN > 0 is false
    mean, low, high = (number(row[name], error) for name in ("mean", "low", "high"))
    sem = number(row["sem"], row["sem"]) if row["sem"] != 0 else "0"
    place = None if row["invalid"] else row["mean"]
    return Entry(mean, low, high, sem, row["best"], mark(row), seeds, place)


# ---------------------------------------------------------------------------------------------- controls

_CONTROL_NAMES = {
    "floor": "trivial sampler", "ceiling": "real data", "gaussian": "fitted Gaussian", "smeared": "smeared data",
    "flat": "flat patches", "copies": "copied examples", "heldout": "held-out examples",
    "train": "training examples", "test": "test examples", "labels": "true labels", "perfect": "perfect generator",
    "untrained": "untrained net",
}  # fmt: skip


def control_tables(run: Run) -> dict[str, ControlTable]:
    """The controls of each dataset that has some. One that is the same for all methods has one row; where methods
    differ, each has a row of its own."""
    frame = controls.controls(run)
    values: dict[str, dict[str, None]] = {}  # metric -> names of its values
    for score in (score for cell in run.cells for seed in cell.ok for score in seed.scores):
        known = values.setdefault(str(score.info.get("metric", "")), {})
        known.update(dict.fromkeys(name for name, _ in score.values))
    order = list(dict.fromkeys(run.records["metric"])) if len(run.records) else []
    return {
        str(dataset): _control_table(rows, values, order)
        for dataset, rows in frame.groupby("dataset", sort=False)
    }


def _control_table(
    frame: pd.DataFrame, values: Mapping[str, Mapping[str, None]], order: Sequence[str]
) -> ControlTable:
    """`frame`: `controls.controls` of one dataset; `order`: of the values in the table above."""
    # name -> column -> value; a value without a control has the method's name
    cells: dict[str, dict[str, float]] = {}
    for metric, own in frame.groupby("metric", sort=False):
        places = _places(str(metric), list(dict.fromkeys(own["control"])), list(values.get(str(metric), ())))
        for control, rows in own.groupby("control", sort=False):
            name, column = places[str(control)]
            numbers = rows["value"]
            shared = numbers.max() - numbers.min() <= 1e-9 * max(1.0, numbers.abs().max())
            for label, value in zip(rows["label"], numbers, strict=True):
                row = (name or "all methods") if shared else f"{name}, {label}".removeprefix(", ")
                cells.setdefault(row, {})[column] = value
    # floors and ceilings first, since values are read between them
    rank = {"floor": 0, "ceiling": 1}
    names = sorted(cells, key=lambda name: rank.get(name.split(",")[0].split(" ")[0], 2))
    used = dict.fromkeys(column for row in cells.values() for column in row)
    columns = [name for name in order if name in used] + [name for name in used if name not in order]
    rows = [
        (
            _control_name(name),
            *(f"{cells[name][column]:.4g}" if column in cells[name] else "" for column in columns),
        )
        for name in names
    ]
    return ControlTable(tuple(columns), tuple(rows))


def _places(metric: str, names: Sequence[str], values: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The row and column of each control of a metric: `floor gaussian reverse kl` stands in the row `floor gaussian`
    and the column `reverse_kl`. What names no value is a value itself, of the method: its row is empty."""
    if len(values) < 2:
        return {name: (name, values[0] if values else metric) for name in names}
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        for value in sorted(values, key=len, reverse=True):
            if f" {name}".endswith(f" {value.replace('_', ' ')}"):
                found[name] = name[: len(name) - len(value)].strip(), value
                break
    # values that only controls have, such as `modes 10 pct`: what follows the name of a row
    rows = sorted({row for row, _ in found.values() if row}, key=len, reverse=True)
    rest = [name for name in names if name not in found]
    for name in rest:
        if row := next((row for row in rows if name.startswith(f"{row} ")), None):
            found[name] = row, name.removeprefix(row).strip().replace(" ", "_")
    return {name: found.get(name, ("", name.replace(" ", "_"))) for name in names}


def _control_name(name: str) -> str:
    """`floor gaussian` -> `fitted Gaussian (floor)`"""
    control, comma, label = name.partition(",")
    kind, _, rest = control.partition(" ")
    if kind in ("floor", "ceiling"):
        control = f"{_CONTROL_NAMES.get(rest or kind, rest)} ({kind})"
    return f"{_CONTROL_NAMES.get(control, control)}{comma}{label}"


# ---------------------------------------------------------------------------------------------- writing


def write(run: Path | Run) -> list[Path]:
    """Write `tables/summary.{csv,md,tex,html}` of a run, `tables/controls.csv` where its metrics have controls, and
    `tables/reconstruction-ranks.csv` where methods were to reconstruct the same images, and return their paths.
    Raises StoreError."""
    run = open_run(run)
    frame = run_summary(run)
    title = str(frame["suite"].iloc[0]) if len(frame) else run.folder.name
    shown = of_run(run)
    contents = {
        "summary.csv": guarded_csv(frame),
        "summary.md": _markdown(title, shown),
        "summary.tex": _latex(title, shown),
        "summary.html": _html(title, shown),
    }
    for name, rows in {
        "controls.csv": controls.controls(run),
        "reconstruction-ranks.csv": _ranks(run),
    }.items():
        if len(rows):
            contents[name] = guarded_csv(rows)
        else:
            run.files.remove_file(run.files.path(layout.table(name)))  # of an earlier version of the suite
    return [
        run.files.write(run.files.path(layout.table(name)), content.encode())
        for name, content in contents.items()
    ]


def _ranks(run: Run) -> pd.DataFrame:
    """`ranks.ranks` of all datasets; no rows where there are none."""
    datasets = dict.fromkeys(cell.dataset for cell in run.cells)
    found = [ranks.ranks(run.of(dataset)).assign(dataset=dataset) for dataset in datasets]
    full = [frame for frame in found if len(frame)]
    return pd.concat(full)[["dataset", *ranks.COLUMNS]] if full else pd.DataFrame()


def guarded_csv(frame: pd.DataFrame) -> str:
    """Unrounded numbers. A spreadsheet would run text that begins like a formula: it gets an apostrophe."""
    texts = {name: frame[name].map(_guard) for name in _GUARDED if name in frame}
    return frame.assign(**texts).to_csv(index=False, lineterminator="\n")


def _guard(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _markdown(title: str, found: Sequence[Table]) -> str:
    blocks = [f"# {escape_markdown(title)}"]
    for table in found:
        heads, rows = _grid(table, escape_markdown, _markdown_entry)
        body = markdown_table(heads, rows, right=range(1, len(heads)))
        notes = [escape_markdown(note) for note in table.notes]
        blocks += [f"## {escape_markdown(table.dataset)}", body, table.caption]
        if beside := table.controls:
            lines = [list(map(escape_markdown, row)) for row in (beside.heads, *beside.rows)]
            right = range(1, len(beside.heads))
            blocks += [beside.caption, markdown_table(lines[0], lines[1:], right)]
        blocks += notes
    return "\n\n".join(blocks) + "\n"


def _grid(
    table: Table, escape: Callable[[str], str], show: Callable[[Entry], str]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table as text."""
    heads = ["method", *(["seeds"] if table.show_seeds else [])]
    for column in table.columns:
        unit = f" ({column.unit_shown})" if column.unit_shown else ""
        protocol = f" [protocol {column.protocol}]" if column.mixed else ""
        heads.append(escape(f"{column.metric} {column.arrow}{unit}{protocol}"))
    rows = []
    for row in table.rows:
        seeds = f"{row.seeds} ({row.failures})" if row.failures else row.seeds
        cells = [show(entry) if entry else "" for entry in row.entries]
        rows.append([escape(row.label), *([escape(seeds)] if table.show_seeds else []), *cells])
    return heads, rows


def _markdown_entry(entry: Entry) -> str:
    return f"**{entry.mean}**{entry.text.removeprefix(entry.mean)}" if entry.best else entry.text


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "[": "{[}", "*": "{*}",  # at the start of a row they would be arguments of the \\\\ before it
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "±": r"$\pm$", "†": r"\dag{}", "‡": r"\ddag{}",
}  # fmt: skip


def _escape_latex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in " ".join(text.split()))


def _latex_entry(entry: Entry) -> str:
    if entry.mean == "–":
        return _escape_latex(entry.text)
    mean = rf"\mathbf{{{entry.mean}}}" if entry.best else entry.mean
    mean += {INVALID: r"^\dagger", AT_FLOOR: r"^\ddagger"}.get(entry.mark, "")
    interval = rf"\;[{entry.low},\,{entry.high}]" if entry.low else ""
    sem = rf"\pm {entry.sem}" if entry.sem else ""
    return f"${mean}{interval}{sem}$" + (f" ({entry.seeds})" if entry.seeds else "")


def _latex(title: str, found: Sequence[Table]) -> str:
    blocks = [f"% {' '.join(title.split())}: needs \\usepackage{{booktabs}}"]
    for table in found:
        heads, rows = _grid(table, _escape_latex, _latex_entry)
        caption = _escape_latex(" ".join([f"{table.dataset}.", table.caption, *table.notes]))
        opening = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}"]
        body = _tabular(heads, rows)
        if beside := table.controls:
            heads, *rows = (list(map(_escape_latex, row)) for row in (beside.heads, *beside.rows))
            rows = [[row[0], *(value.replace("-", "$-$") for value in row[1:])] for row in rows]
            body += [r"\par\medskip", _escape_latex(beside.caption), r"\par\smallskip"]
            body += _tabular(heads, rows)
        blocks.append("\n".join([*opening, *body, r"\end{table}"]))
    return "\n\n".join(blocks) + "\n"


def _tabular(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a tabular, the first column to the left and the others to the right."""
    head, *lines = [rf"{' & '.join(row)} \\" for row in (heads, *rows)]
    opening = rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}"
    return [opening, r"\toprule", head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}"]


def _html(title: str, found: Sequence[Table]) -> str:
    from .document import environment

    return environment().get_template("summary.html.j2").render(title=title, tables=found)
