"""Tables of a run: as text, Markdown, LaTeX and HTML for readers, as CSV for programs."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from .. import registry
from ..analysis import controls
from ..analysis.summary import FAILURES, TEXTS, run_summary
from ..format import number, plural
from ..store import layout
from ..store.results import Cell, Run, open_run
from .document import escape_latex, render

Line = Mapping[Hashable, Any]  # one row of a `summary`
_GUARDED = (*TEXTS, "baseline", "invalid", "device", "stack")  # columns of text that may come from a stranger
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
        """An arrow in the better direction; "" if there is none."""
        return {"higher": "↑", "lower": "↓"}.get(self.better, "")

    @property
    def unit_shown(self) -> str:
        """The unit, unless it is the name."""
        return "" if self.unit == self.metric else self.unit


@dataclass(frozen=True)
class Entry:
    """One value as it is printed; missing parts are empty strings."""

    mean: str
    low: str = ""
    high: str = ""
    sem: str = ""
    best: bool = False
    mark: str = ""  # `INVALID`, `AT_FLOOR`
    seeds: str = ""  # "4/5" if fewer seeds have this value than the method's other metrics
    sort: float | None = None  # None: not ranked

    @property
    def text(self) -> str:
        """`7.80‡ [7.40, 8.00] ± 0.12 (4/5)`"""
        return f"{self.mean}{self._rest}"

    @property
    def _rest(self) -> str:
        interval = f" [{self.low}, {self.high}]" if self.low else ""
        sem = f" ± {self.sem}" if self.sem else ""
        return f"{self.mark}{interval}{sem}{f' ({self.seeds})' if self.seeds else ''}"

    @property
    def markdown(self) -> str:
        """The best in bold."""
        return f"**{self.mean}**{self._rest}" if self.best else self.text

    @property
    def latex(self) -> str:
        """In mathematics, the best in bold."""
        if self.mean == "–":
            return escape_latex(self.text)
        mean = rf"\mathbf{{{self.mean}}}" if self.best else self.mean
        mean += {INVALID: r"^\dagger", AT_FLOOR: r"^\ddagger"}.get(self.mark, "")
        interval = rf"\;[{self.low},\,{self.high}]" if self.low else ""
        sem = rf"\pm {self.sem}" if self.sem else ""
        text = re.sub(r"e(-?\d+)", r"\\mathrm{e}{\1}", f"{mean}{interval}{sem}")  # e-3 would be e minus 3
        return f"${text}$" + (f" ({self.seeds})" if self.seeds else "")


@dataclass(frozen=True)
class Row:
    """One method of a human-readable table."""

    label: str
    seeds: str  # "4/5", or "3–5/5" if the metrics differ
    failures: str  # "1 diverged, 1 timeout"
    entries: tuple[Entry | None, ...]  # None: the metric does not apply


@dataclass(frozen=True)
class Table:
    """The methods of one dataset against its metrics."""

    dataset: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    show_seeds: bool  # if some seed is missing, or methods have different numbers of seeds
    caption: str
    notes: tuple[str, ...]  # the meaning of its marks, verdicts and cautions of its metrics
    controls: ControlTable | None = None

    @property
    def heads(self) -> list[str]:
        """The header of Markdown and LaTeX."""
        heads = ["method", *(["seeds"] if self.show_seeds else [])]
        for column in self.columns:
            unit = f" ({column.unit_shown})" if column.unit_shown else ""
            protocol = f" [protocol {column.protocol}]" if column.mixed else ""
            heads.append(f"{column.metric} {column.arrow}{unit}{protocol}")
        return heads

    @property
    def cells(self) -> list[list[str | Entry]]:
        """The rows of Markdown and LaTeX."""
        rows: list[list[str | Entry]] = []
        for row in self.rows:
            seeds = f"{row.seeds} ({row.failures})" if row.failures else row.seeds
            rows.append(
                [row.label, *([seeds] if self.show_seeds else []), *(entry or "" for entry in row.entries)]
            )
        return rows


@dataclass(frozen=True)
class ControlTable:
    """The scores of controls on one dataset: a row for each control, a column for each value."""

    columns: tuple[str, ...]  # in the order of the table above it, then values that only controls have
    rows: tuple[tuple[str, ...], ...]  # name of the control, then its value in each column; empty: none
    caption: str = "Controls: what the same metrics give for real data, trivial samplers and the like."

    @property
    def heads(self) -> tuple[str, ...]:
        """The header, with as many cells as a row."""
        return ("control", *self.columns)


def tables(
    frame: pd.DataFrame,
    notes: Mapping[str, tuple[str, ...]] | None = None,
    controls: Mapping[str, ControlTable] | None = None,
) -> list[Table]:
    """Human-readable tables of a `summary`, one for each dataset, with its `notes` and the `control_tables` of its
    run."""
    return [
        _table(str(name), rows, (notes or {}).get(str(name), ()), (controls or {}).get(str(name)))
        for name, rows in frame.groupby("dataset", sort=False)
    ]


def dataset_tables(run: Path | Run) -> list[Table]:
    """The tables of a run with their notes and controls. Raises StoreError for a run that cannot be read."""
    run = open_run(run)
    datasets = dict.fromkeys(cell.dataset for cell in run.cells)
    return tables(run_summary(run), {name: notes(run.of(name)) for name in datasets}, control_tables(run))


def notes(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Sentences on the devices of training, if there are several, on the search of tuned methods, on the verdicts of
    the metrics, counted over seeds, and the cautions of the metrics."""
    sentences = []
    trained = controls.devices(cells)
    if len(trained) > 1:  # possible, since content keys do not depend on the device
        each = "; ".join(
            f"{device}: {', '.join(f'{label} ({count})' for label, count in counts.items())}"
            for device, counts in sorted(trained.items())
        )
        sentences.append(f"Seeds trained on several devices, where their minibatches differ: {each}.")
    sentences += tuned_notes(cells)
    for metric, methods in controls.verdicts(cells).items():
        counted = {
            label: ", ".join(f"{verdict} ({count})" for verdict, count in counts.most_common())
            for label, counts in methods.items()
        }
        each = "; ".join(f"{label}: {text}" for label, text in counted.items())
        sentences.append(f"Verdict of {metric}, by seeds: {each}.")
    return (*sentences, *controls.cautions(cells))


def tuned_notes(cells: Sequence[Cell]) -> list[str]:
    """Which setting each tuned method of a dataset has, and how it was searched: a sentence for each search."""
    return [
        f"Tuned: {', '.join(f'{label} ({setting})' for label, setting in methods.items())}: {how}."
        for how, methods in controls.tuned(cells).items()
    ]


def _table(dataset: str, frame: pd.DataFrame, notes: tuple[str, ...], controls: ControlTable | None) -> Table:
    lines = frame.to_dict("records")
    columns = {(line["metric"], line["protocol"]): line for line in lines}
    methods: dict[str, list[Line]] = {}
    for line in lines:
        methods.setdefault(str(line["label"]), []).append(line)
    # One notation in a column: if one value needs an exponent, all get one.
    exponents = {
        key for line in lines for key in [(line["metric"], line["protocol"])] if "e" in _entry(line).mean
    }
    rows = []
    for label, own in methods.items():
        good = [line["n_ok"] for line in own]
        least, most, n = min(good), max(good), max(line["n"] for line in own)
        # A training that failed counts in each metric, so the most of one kind in any metric is the number of seeds.
        bad = {name: max(line[name] for line in own) for name in FAILURES}
        entries: dict[tuple[Any, Any], Entry] = {}
        for line in own:
            key = line["metric"], line["protocol"]
            missing = f"{line['n_ok']}/{line['n']}" if least < most and line["n_ok"] < line["n"] else ""
            entries[key] = _entry(line, missing, key in exponents)
        rows.append(
            Row(
                label=label,
                seeds=f"{least}–{most}/{n}" if least < most else f"{least}/{n}",
                failures=", ".join(f"{count} {name}" for name, count in bad.items() if count),
                entries=tuple(entries.get(key) for key in columns),
            )
        )
    complete = bool((frame["n_ok"] == frame["n"]).all()) and frame["n"].nunique() == 1
    seeds = int(frame["n"].max())
    caption = "Mean over training seeds"
    if seeds > 1:
        caption += " [95 % t interval over seeds; it may leave the range of a score]"
    if frame["sem"].notna().any():
        caption += " ± standard error over test points (root mean square of the seeds)"
    caption += f"; {plural(seeds, 'seed')} each." if complete else "; failed seeds are left out of means."
    if frame["best"].any():
        caption += " Bold: best mean."
    heads = tuple(Column(*(line[field.name] for field in fields(Column))) for line in columns.values())
    return Table(dataset, heads, tuple(rows), not complete, caption, (*footnotes(frame), *notes), controls)


def _entry(row: Line, seeds: str = "", exponent: bool = False) -> Entry:
    """A value with the decimals that its uncertainty supports, or with an exponent and two decimals."""
    if not row["n_ok"]:
        return Entry("–", seeds=seeds)
    spread = row["std"] / math.sqrt(row["n_ok"])
    error = max((e for e in (spread, row["sem"]) if e > 0), default=math.nan)  # NaN > 0 is false

    show = _with_exponent if exponent else number
    mean, low, high = (show(row[name], error) for name in ("mean", "low", "high"))
    sem = show(row["sem"], row["sem"]) if row["sem"] != 0 else "0"
    # A value that is not valid is shown but takes no place when a reader sorts the column.
    place = None if row["invalid"] else row["mean"]
    return Entry(mean, low, high, sem, row["best"], mark(row), seeds, place)


def _with_exponent(value: float, error: float) -> str:
    """`3.70e-1`, for an uncertainty `9.1e-2`; "" for NaN."""
    if not math.isfinite(value):
        return ""
    mantissa, exponent = f"{value:.{1 if value == error else 2}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def footnotes(frame: pd.DataFrame) -> list[str]:
    """The meaning of the marks: a sentence for each metric of a `summary` and kind of mark."""
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
    """The mark of a row of a `summary`; "" if it needs none."""
    return INVALID if row["invalid"] else AT_FLOOR if row["at_floor"] else ""


# ---------------------------------------------------------------------------------------------- controls

_CONTROL_NAMES = {
    "floor": "trivial sampler", "ceiling": "real data", "gaussian": "fitted Gaussian", "smeared": "smeared data",
    "flat": "flat patches", "copies": "copied examples", "heldout": "held-out examples",
    "train": "training examples", "test": "test examples", "labels": "true labels", "perfect": "perfect generator",
    "untrained": "untrained net",
}  # fmt: skip


def control_values(run: Run) -> dict[str, dict[str, dict[str, float]]]:
    """dataset -> control -> value's name -> number, of the datasets that have controls. A control that is the same for
    all methods occurs once; if methods differ, there is one for each: `pixels, gan`."""
    values: dict[str, dict[str, None]] = {}  # metric -> names of its values
    for score in (score for cell in run.cells for seed in cell.ok for score in seed.scores):
        known = values.setdefault(str(score.info.get("metric", "")), {})
        known.update(dict.fromkeys(name for name, _ in score.values))
    datasets: dict[str, dict[str, dict[str, float]]] = {}
    for (dataset, metric), own in controls.controls(run).groupby(["dataset", "metric"], sort=False):
        cells = datasets.setdefault(str(dataset), {})
        places = _control_positions(
            str(metric), list(dict.fromkeys(own["control"])), list(values.get(str(metric), ()))
        )
        for control, rows in own.groupby("control", sort=False):
            name, column = places[str(control)]
            numbers = rows["value"]
            shared = numbers.max() - numbers.min() <= 1e-9 * max(1.0, numbers.abs().max())
            for label, value in zip(rows["label"], numbers, strict=True):
                # A value that is not of a control is named by its method.
                row = (name or "all methods") if shared else f"{name}, {label}".removeprefix(", ")
                cells.setdefault(row, {})[column] = value
    return datasets


def control_tables(run: Run) -> dict[str, ControlTable]:
    """The controls of each dataset that has some, with columns in the order of the records."""
    order = list(dict.fromkeys(run.records["metric"])) if len(run.records) else []
    made = {}
    for dataset, cells in control_values(run).items():
        # Floors and ceilings first, since they bound the range of values.
        rank = {"floor": 0, "ceiling": 1}
        names = sorted(cells, key=lambda name: rank.get(name.split(",")[0].split(" ")[0], 2))
        used = dict.fromkeys(column for row in cells.values() for column in row)
        columns = [name for name in order if name in used] + [name for name in used if name not in order]
        texts = {
            column: _format_column({name: row[column] for name, row in cells.items() if column in row})
            for column in columns
        }
        rows = [(_control_name(name), *(texts[column].get(name, "") for column in columns)) for name in names]
        made[dataset] = ControlTable(tuple(columns), tuple(rows))
    return made


def _format_column(values: Mapping[str, float]) -> dict[str, str]:
    """Four digits each, in one notation."""
    texts = {name: f"{value:.4g}" for name, value in values.items()}
    if any("e" in text for text in texts.values()):
        return {name: _with_exponent(value, math.nan) for name, value in values.items()}
    return texts


def _control_positions(
    metric: str, names: Sequence[str], values: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """The row and column of each control of a metric: `floor gaussian reverse kl` goes into the row `floor gaussian`
    and the column `reverse_kl`. A name without the name of a value becomes a column, in the row of all methods ("")."""
    if len(values) < 2:
        return {name: (name, values[0] if values else metric) for name in names}
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        for value in sorted(values, key=len, reverse=True):
            if f" {name}".endswith(f" {value.replace('_', ' ')}"):
                found[name] = name[: len(name) - len(value)].strip(), value
                break
    # Values that only controls have, such as `modes 10 pct`: the part after the name of a row.
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
    """Write `tables/summary.{csv,md,tex,html}` of a run, `tables/controls.csv` if its metrics have controls, and
    `tables/reconstruction-ranks.csv` if methods reconstructed the same images; returns their paths. Raises StoreError
    for a run that cannot be read or written."""
    run = open_run(run)
    frame = run_summary(run)
    title = str(frame["suite"].iloc[0]) if len(frame) else run.folder.name
    shown = dataset_tables(run)
    contents = {"summary.csv": guarded_csv(frame)}
    for kind in ("md", "tex", "html"):
        contents[f"summary.{kind}"] = render(f"summary.{kind}.j2", title=title, tables=shown)
    for name, rows in {
        "controls.csv": controls.controls(run),
        "reconstruction-ranks.csv": _ranks(run),
    }.items():
        if len(rows):
            contents[name] = guarded_csv(rows)
        else:
            run.files.remove_file(
                run.files.path(layout.table(name))
            )  # left by an earlier version of the suite
    return [
        run.files.write(run.files.path(layout.table(name)), content.encode())
        for name, content in contents.items()
    ]


def _ranks(run: Run) -> pd.DataFrame:
    """The ranks of reconstructions on all datasets; empty if there are none."""
    path = registry.PACKAGE / "metrics" / "figures" / "reconstruction.py"
    ranks = registry.load(registry.Plugin("metric", "reconstruction", path, "ranks", "", ()))
    frames = {
        dataset: ranks(run.of(dataset)) for dataset in dict.fromkeys(cell.dataset for cell in run.cells)
    }
    full = [frame.assign(dataset=dataset) for dataset, frame in frames.items() if len(frame)]
    return pd.concat(full)[["dataset", *full[0].columns.drop("dataset")]] if full else pd.DataFrame()


def guarded_csv(frame: pd.DataFrame) -> str:
    """The frame as CSV, with unrounded numbers. Text that a spreadsheet would run as a formula gets an apostrophe."""
    texts = {
        name: frame[name].map(
            lambda text: f"'{text}" if str(text).startswith(("=", "+", "-", "@", "\t", "\r")) else text
        )
        for name in _GUARDED
        if name in frame
    }
    return frame.assign(**texts).to_csv(index=False, lineterminator="\n")
