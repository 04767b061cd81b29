"""Records to tables: one row per dataset, method and metric, with both uncertainties and every failure counted.

Two uncertainties stand apart: over training seeds (Student's t interval of the mean) and over what the metric
averages, such as test points (the root mean square of the seeds' standard errors, the papers' ±).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from ..analysis import controls, stats
from ..contracts import COLUMNS, Status
from ..errors import StoreError
from ..store.results import Run, open_run, write_bytes
from . import ranks

FAILURES = tuple(status for status in get_args(Status) if status != "ok")
_GROUP = ["dataset", "label", "metric", "protocol"]
Line = Mapping[Hashable, Any]  # one row of a `summary`
_TEXTS = ["suite", "dataset", "label", "method", "metric", "protocol", "unit", "better"]
_GUARDED = (*_TEXTS, "baseline", "invalid")  # texts that others wrote
INVALID, AT_FLOOR = "†", "‡"  # marks of values
SEM_RATIO = 100  # there is no common sem where that of one seed exceeds their median by more

# ---------------------------------------------------------------------------------------------- reading


def load(run_dir: Path) -> pd.DataFrame:
    """The records of a run: one row per cell, seed and metric, the columns of `contracts.COLUMNS`.

    `value`, `sem` and `floor` are NaN where there are none. Raises StoreError where `records.jsonl` is missing, is
    damaged or lacks a column.
    """
    path = Path(run_dir) / "records.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no such file; expected the directory that `run` wrote") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from None
    rows = [_record(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    records = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    numbers = {"value": "float64", "sem": "float64", "n": "Int64", "seconds": "float64"}
    return records.astype({**numbers, "train_seconds": "float64", "floor": "float64"})


def _record(path: Path, number: int, line: str) -> list[object]:
    try:
        row = json.loads(line)
        row = {"floor": None, "invalid": None, **row}  # earlier versions did not have them
        return [row[name] for name in COLUMNS]
    except (ValueError, TypeError):
        raise StoreError(
            f"{path}:{number}: is not a record in JSON; run the suite again to rebuild it"
        ) from None
    except KeyError as error:
        raise StoreError(
            f"{path}:{number}: the record has no {error.args[0]!r}; run the suite again to rebuild it"
        ) from None


def opened(run: Path | Run) -> Run:
    """A run directory with its records, unless it is open already: tables, plots and report can share one, so that
    its files are read once. Raises StoreError."""
    return run if isinstance(run, Run) else open_run(Path(run), load(run))


# ---------------------------------------------------------------------------------------------- summary


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """One row per dataset, label, metric and protocol, in the order of the records.

    Columns: suite, dataset, label, method, metric, protocol, unit, better; `mean` over the seeds that are ok,
    `low` and `high` (95 % interval by Student's t over these seeds; NaN for a single one), `std`, `iqm`
    (interquartile mean), `sem` (root mean square over seeds of the standard error over test points; NaN where one
    seed's is over 100 times the median, as no one number tells of both); `n_ok` of `n` seeds and the count of each
    failure; `mixed` (other rows of this dataset and metric were measured by another protocol, so that they cannot
    be compared), `best` (see `_best`); `invalid` (see `invalid`), empty where the values are valid; `floor`, the mean
    over seeds of what a trivial sampler scores, and `at_floor`, whether `mean` is no better.
    """
    records = with_protocols(records)
    groups = records.groupby(_GROUP, sort=False)
    first = groups[["suite", "method", "unit", "better"]].first()
    ok = ((records["status"] == "ok") & records["value"].notna()).to_numpy()
    codes = groups.ngroup().to_numpy()
    numbers = _numbers(records["value"].to_numpy()[ok], codes[ok], len(first))
    sem = _sem(records["sem"].where(ok), codes)
    frame = first.assign(**numbers, sem=sem, n_ok=np.bincount(codes[ok], minlength=len(first)))
    frame = frame.assign(
        n=np.bincount(codes, minlength=len(first)), **_failures(records, ok, codes, len(first))
    )
    frame = frame.reset_index()
    protocols = frame.groupby(["dataset", "metric"])["protocol"].transform("nunique")
    frame["mixed"] = protocols > 1
    reasons = invalid(records)
    frame["invalid"] = [reasons.get(key, "") for key in zip(*(frame[name] for name in _GROUP), strict=True)]
    frame["best"] = _best(frame)
    floors = pd.Series(records["floor"].astype("float64").to_numpy())
    frame["floor"] = floors.where(ok).groupby(codes).mean().to_numpy()
    signs = frame["better"].map({"higher": 1.0, "lower": -1.0})
    frame["at_floor"] = (frame["mean"] - frame["floor"]) * signs <= 0  # NaN is not
    return frame[_TEXTS + [name for name in frame.columns if name not in _TEXTS]]


def with_protocols(records: pd.DataFrame) -> pd.DataFrame:
    """A seed that failed before it was scored may have no protocol: it takes the one of its method's other
    seeds, else of the other methods, where that is unambiguous. Records of earlier versions get the columns that they
    lack."""
    records = records.reset_index(drop=True)
    records = records.assign(**{name: None for name in ("floor", "invalid") if name not in records})
    records["invalid"] = records["invalid"].where(records["invalid"].notna(), "")
    protocol = records["protocol"].replace("", None)
    for keys in (["dataset", "label", "metric"], ["dataset", "metric"]):
        known = protocol.groupby([records[key] for key in keys], sort=False)
        only = known.transform("first").where(known.transform("nunique") == 1)
        protocol = protocol.fillna(only)
    return records.assign(protocol=protocol.fillna(""))


def invalid(records: pd.DataFrame) -> dict[tuple[str, ...], str]:
    """Why the values of a (dataset, label, metric, protocol) mean nothing, as `3 of 5 seeds: ...`; those that are valid
    are not in it. One seed whose control failed is enough: to leave out such seeds would be to choose among them by
    what came out. Records as `with_protocols` gives them."""
    known = records[(records["status"] == "ok") & records["value"].notna()]
    if not (known["invalid"] != "").any():
        return {}
    found = {}
    for key, own in known.groupby(_GROUP, sort=False)["invalid"]:
        if sentences := [str(text) for text in own if text]:
            found[key] = f"{len(sentences)} of {len(own)} seed{'s' * (len(own) > 1)}: {sentences[0]}"
    return found


def _sem(sems: pd.Series, codes: np.ndarray) -> np.ndarray:
    """One standard error for the seeds of each group."""
    typical = (sems**2).groupby(codes).mean() ** 0.5
    groups = sems.groupby(codes)
    return typical.where(groups.max() <= SEM_RATIO * groups.median()).to_numpy()


def _numbers(values: stats.Floats, codes: np.ndarray, count: int) -> dict[str, stats.Floats]:
    found = {name: np.full(count, np.nan) for name in ("mean", "low", "high", "std", "iqm")}
    for groups, members in stats.by_size(codes, count):
        matrix = values[members]
        found["mean"][groups] = matrix.mean(axis=1)
        found["low"][groups], found["high"][groups] = stats.mean_interval(matrix)
        found["iqm"][groups] = stats.interquartile_mean(matrix)
        if matrix.shape[1] > 1:
            found["std"][groups] = matrix.std(axis=1, ddof=1)
    return found


def _failures(records: pd.DataFrame, ok: np.ndarray, codes: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """How often each failure occurs in each group; a value that is missing although all went well counts as
    failed."""
    status = records["status"].where(records["status"] != "ok", "failed").to_numpy()
    return {name: np.bincount(codes[~ok & (status == name)], minlength=count) for name in FAILURES}


def _best(frame: pd.DataFrame) -> pd.Series:
    """Whether a row has the best mean of its dataset and metric. Nothing is marked where that would mislead:
    mixed protocols, a best mean from fewer than two seeds or without the seeds that failed, a tie of all. A value that
    is not valid takes no part."""
    by = [frame["dataset"], frame["metric"]]
    signs = frame["better"].map({"higher": 1.0, "lower": -1.0})  # NaN for values that are not ranked
    goodness = (frame["mean"] * signs).where(frame["invalid"] == "")
    top = goodness.notna() & (goodness == goodness.groupby(by).transform("max"))
    fair = (frame["n_ok"] == frame["n"]) & (frame["n_ok"] >= 2) | ~top
    beaten = top.groupby(by).transform("sum") < goodness.groupby(by).transform("count")
    return top & beaten & fair.groupby(by).transform("all") & ~frame["mixed"]


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
    notes: tuple[str, ...]  # what its marks mean, and what it is to be read beside


def tables(frame: pd.DataFrame, notes: Mapping[str, tuple[str, ...]] | None = None) -> list[Table]:
    """Human-readable tables of a `summary`, one for each dataset, with its `notes` (`controls.notes`)."""
    return [
        _table(str(dataset), rows, (notes or {}).get(str(dataset), ()))
        for dataset, rows in frame.groupby("dataset", sort=False)
    ]


def of_run(run: Path | Run) -> list[Table]:
    """The tables of a run with their notes. Raises StoreError."""
    run = opened(run)
    return tables(run.summary, controls.notes(run))


def _table(dataset: str, frame: pd.DataFrame, notes: tuple[str, ...]) -> Table:
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
    caption += f"; {seeds} seed{'s' * (seeds > 1)} each." if complete else "; failed seeds enter no mean."
    if frame["best"].any():
        caption += " Bold: best mean."
    heads = tuple(Column(*(line[field.name] for field in fields(Column))) for line in columns.values())
    return Table(dataset, heads, tuple(rows), not complete, caption, (*footnotes(frame), *notes))


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


def number(value: float, error: float) -> str:
    """A number with as many decimals as its standard error allows; NaN: nothing. Without an error (NaN or
    zero) it has two decimals. Where zeros would hide it, three significant digits: 4.21e-07."""
    if not math.isfinite(value):
        return ""
    known = math.isfinite(error) and error > 0
    shown = stats.decimals(error)
    if abs(value) >= 1e7 or (not known and 0 < abs(value) < 0.1) or (shown > 5 and 0 < abs(value) < 0.001):
        return f"{value:.3g}"
    return f"{value:z.{min(shown, 5)}f}"


# ---------------------------------------------------------------------------------------------- writing


def write(run: Path | Run) -> list[Path]:
    """Write `tables/summary.{csv,md,tex,html}` of a run, `tables/controls.csv` where its metrics have controls, and
    `tables/reconstruction-ranks.csv` where methods were to reconstruct the same images, and return their paths.
    Raises StoreError."""
    run = opened(run)
    frame = run.summary
    title = str(frame["suite"].iloc[0]) if len(frame) else run.folder.name
    shown = of_run(run)
    contents = {
        "summary.csv": guarded_csv(frame),
        "summary.md": _markdown(title, shown),
        "summary.tex": _latex(title, shown),
        "summary.html": _html(title, shown),
    }
    folder = run.folder / "tables"
    for name, rows in {
        "controls.csv": controls.controls(run),
        "reconstruction-ranks.csv": _ranks(run),
    }.items():
        if len(rows):
            contents[name] = guarded_csv(rows)
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier version of the suite
    return [write_bytes(folder / name, content.encode()) for name, content in contents.items()]


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
        blocks += [f"## {escape_markdown(table.dataset)}", body, table.caption, *notes]
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


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()) -> str:
    """A table in Markdown of cells that are Markdown already; the columns `right`, counted from 0, are set to the
    right."""
    marks = ["---:" if column in right else "---" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, marks, *rows))


def escape_markdown(text: str) -> str:
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]#|~$" else c for c in " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


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
        lines = [rf"{' & '.join(row)} \\" for row in rows]
        caption = _escape_latex(" ".join([f"{table.dataset}.", table.caption, *table.notes]))
        opening = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}"]
        tabular = rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}"
        body = [tabular, r"\toprule", rf"{' & '.join(heads)} \\", r"\midrule", *lines, r"\bottomrule"]
        blocks.append("\n".join([*opening, *body, r"\end{tabular}", r"\end{table}"]))
    return "\n\n".join(blocks) + "\n"


def _html(title: str, found: Sequence[Table]) -> str:
    from .jinja import environment

    return environment().get_template("summary.html.j2").render(title=title, tables=found)
