"""Figures of a run, as PNG and SVG: samples, snapshots during training, learning curves and scores by method, and the
figures of the metrics. Missing data are left out; a method of which no seed succeeded gets an empty panel that says
so."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from .. import __version__, registry
from ..analysis.search import read_search
from ..analysis.summary import run_summary
from ..errors import GanbenchError, PluginError, StoreError
from ..store import layout
from ..store.files import Folder
from ..store.layout import file_name
from ..store.results import Cell, Dataset, Run, open_run
from ..store.rundir import MAX_RECORDS
from . import search, style, tables
from .style import Plot, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_METHODS = 12  # methods of a dataset with panels, rows or figures of their own
MAX_ROWS = 60  # methods in a plot of scores: more make pictures of metres that take most of the report's time
MAX_DATASETS = 12  # datasets with figures of their own, and panels of a plot of scores
MAX_SEEDS = 5  # columns, if every seed has a panel
PROBE = "curve.probe."  # prefix of the probes among the curves of a game
MAX_PICTURE = 2**26  # bytes
_WORDS = ("name", "kind", "dataset", "title", "caption", "alt")  # of a plot in the index


def write(run: Path | Run) -> list[Path]:
    """Draw all plots of a run into `plots/` (PNG and SVG), with their captions in `plots/index.json`, and return the
    paths of the pictures. Plots of an earlier version of the suite are removed. Raises StoreError for a run that cannot
    be read or written."""
    run = open_run(run)
    files, old = run.files, read_index(run.files)
    entries, written, missing = [], [], []
    with style.style():
        for plot in figures(run, missing):
            style.settle(plot.figure)
            for kind, draw in (("png", style.png), ("svg", style.svg)):
                written.append(files.write(files.path(layout.plot(plot.name, kind)), draw(plot.figure)))
            frames = {"frames": _column_bounds(plot.figure)} if plot.kind == "snapshots" else {}
            entries.append({**{word: getattr(plot, word) for word in _WORDS}, **frames})
    index = {"drawn_from": _source(files), "plots": entries, "missing": [asdict(one) for one in missing]}
    files.write(files.path(layout.PLOT_INDEX), json.dumps(index, indent=1, ensure_ascii=False).encode())
    for name in {entry["name"] for entry in old} - {entry["name"] for entry in entries}:
        for kind in ("png", "svg"):
            files.remove_file(files.path(layout.PLOTS) / f"{name}.{kind}")
    return written


def read_index(files: Folder) -> list[dict[str, Any]]:
    """The index of the plots of a run: names, captions and so on. An entry with a name that `write` would not use is
    skipped, since it may lead out of the folder."""
    plots = files.read_object(files.path(layout.PLOT_INDEX)).get("plots")
    entries = [entry for entry in plots if isinstance(entry, dict)] if isinstance(plots, list) else []
    texts = [{**entry, **{word: str(entry.get(word, "")) for word in _WORDS}} for entry in entries]
    return [entry for entry in texts if entry["name"] and file_name(entry["name"]) == entry["name"]]


def read_pictures(run: Run) -> list[tuple[dict[str, Any], bytes]] | None:
    """The plots of a run: index entry and PNG. None if one is missing, or if they were drawn from other records or by
    another version of ganbench. Raises StoreError for files that cannot be read."""
    files, pictures = run.files, []
    if files.read_object(files.path(layout.PLOT_INDEX)).get("drawn_from") != _source(files):
        return None
    for entry in read_index(files):
        content = files.read_bytes(files.path(layout.plot(entry["name"], "png")), MAX_PICTURE)
        if content is None or not content.startswith(b"\x89PNG\r\n\x1a\n") or len(content) < 24:
            return None
        pictures.append((entry, content))
    return pictures


def _source(files: Folder) -> str:
    """The version of ganbench and the hash of the records, from which plots are drawn."""
    content = files.read_bytes(files.path(layout.RECORDS), MAX_RECORDS) or b""
    return f"{__version__} {hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Missing:
    """A figure of a metric that could not be drawn."""

    dataset: str
    metric: str
    reason: str


def figures(run: Run, missing: list[Missing] | None = None) -> Iterator[Plot]:
    """All plots of a run; iterate under `style.style()`. Only the first `MAX_DATASETS` datasets are drawn, the first
    `MAX_METHODS` methods of each in panels, and the first `MAX_ROWS` in plots of scores; captions say so if there are
    more. Figures of metrics that could not be drawn are added to `missing`."""
    colours = style.colours(run.labels)
    yield from _scores(run, colours)
    missing = [] if missing is None else missing
    metrics = Metrics(run)
    searches = {one.dataset: one for one in read_search(run.files)}
    for dataset in drawn_datasets(run):
        cells = run.of(dataset.label)
        if dataset.label in searches and (plot := search.plot(searches[dataset.label], colours)):
            yield plot
        for draw in (samples, _snapshots, _curves, _probes):
            if plot := draw(dataset, cells[:MAX_METHODS], colours):
                yield _with_omission_note(plot, len(cells))
        names: set[str] = set()
        for metric in metrics.of(cells):
            try:
                for plot in metrics.draw(metric, dataset, cells, colours):
                    if plot.name not in names:  # modes and class_coverage draw the same figure
                        yield _with_omission_note(plot, len(cells))
                    names.add(plot.name)
            except PluginError as error:
                missing.append(Missing(dataset.label, metric, str(error)))


def _with_omission_note(plot: Plot, methods: int) -> Plot:
    """The plot, with a note in its caption if not all methods are drawn."""
    return plot if plot.label else replace(plot, caption=f"{plot.caption} {omission_note(methods)}".rstrip())


def omission_note(methods: int) -> str:
    """A sentence if not all of `methods` methods of a dataset are drawn, else ""."""
    if methods <= MAX_METHODS:
        return ""
    more = "tables and score plots show all" if methods <= MAX_ROWS else "the tables show all"
    return f"Only the first {MAX_METHODS} of the {methods} methods are drawn; {more}."


def drawn_datasets(run: Run) -> list[Dataset]:
    """The datasets that have figures of their own: the first `MAX_DATASETS`."""
    return list(run.datasets.values())[:MAX_DATASETS]


# ---------------------------------------------------------------------------------------------- samples


def samples(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    """What methods have made of a dataset; None where none has made anything."""
    if not any(cell.median("samples") for cell in cells):
        return None
    every_seed = dataset.kind != "image" and len(cells) <= 4 and any(len(cell.seeds) > 1 for cell in cells)
    draw = _samples_by_seed if every_seed else _samples_by_method
    figure, which = draw(dataset, cells, colours)
    truth = {
        "image": " next to real images",
        "line": " (bars) against the true density (line)",
        "plane": " over the true density (grey)" + (" and its modes (circles)" if dataset.modes else ""),
    }[dataset.kind]
    names = ", ".join(cell.label for cell in cells)
    return Plot(
        name=file_name("samples", dataset.label),
        kind="samples",
        dataset=dataset.label,
        title="Samples",
        caption=f"Samples{truth}; {which}.",
        alt=f"Samples of {names} on {dataset.label}{truth}.",
        figure=figure,
    )


def _samples_by_seed(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> tuple[Figure, str]:
    """A row for each method, a column for each seed."""
    numbers = sorted({seed.number for cell in cells for seed in cell.seeds})[:MAX_SEEDS]
    size = (1.5, 1.5) if dataset.kind == "plane" else (1.7, 1.2)
    figure, axes = style.grid(len(cells), len(numbers), size, label_width=1.2)
    for cell, row in zip(cells, axes, strict=True):
        seeds = {seed.number: seed for seed in cell.seeds}
        for number, ax in zip(numbers, row, strict=True):
            seed = seeds.get(number)
            if seed and seed.status == "ok" and "samples" in seed.media:
                style.examples(ax, dataset, seed.media["samples"], colours[cell.label])
            else:
                style.empty(ax, seed.status if seed else "not run")
        style.row_label(row[0], cell.label, colours[cell.label])
    for number, ax in zip(numbers, axes[0], strict=True):
        ax.set_title(f"seed {number}")
    return figure, "a row for each method, a column for each training seed"


def _samples_by_method(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> tuple[Figure, str]:
    """Real data first, then a panel for each method."""
    count, size = len(cells) + 1, (2.0, 2.0) if dataset.kind != "line" else (2.0, 1.5)
    figure, panels = style.panels(count, min(count, 4), size)
    style.examples(panels[0], dataset, dataset.arrays["examples"], style.MUTED)
    panels[0].set_title("data", color=style.MUTED)
    for cell, ax in zip(cells, panels[1:], strict=True):
        seed = cell.median("samples")
        if seed:
            style.examples(ax, dataset, seed.media["samples"], colours[cell.label])
        else:
            style.empty(ax, style.why(cell))
        style.panel_title(ax, cell.label, colours[cell.label])
    return figure, style.median_seeds([(cell.label, cell.median("samples")) for cell in cells])


# ---------------------------------------------------------------------------------------------- snapshots


def _snapshots(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    """Rows are methods, columns training steps, with the data in the last column (as Metz et al. 2017, figure 2)."""
    shown = [(cell, seed) for cell in cells if (seed := cell.median("snapshots"))]
    if not shown:
        return None
    columns = max(len(seed.media["snapshot.step"]) for _, seed in shown)
    size = (1.7, 1.2) if dataset.kind == "line" else (1.45, 1.45)
    figure, axes = style.grid(len(shown), columns + 1, size, label_width=1.2)
    titles: list[str] = []
    for (cell, seed), row in zip(shown, axes, strict=True):
        snapshots, steps = seed.media["snapshots"], seed.media["snapshot.step"].astype(int)
        own = [f"step {step:,}" for step in steps]
        for ax, title, points in zip(row, own, snapshots, strict=False):
            style.examples(ax, dataset, points, colours[cell.label], columns=_side(dataset, len(points)))
            if own != titles:  # rows with the same steps as the row above need no titles
                ax.set_title(title)
        for ax in row[len(steps) : -1]:
            ax.set_visible(False)
        n = snapshots.shape[1]
        real = dataset.arrays["examples"][:n]
        style.examples(row[-1], dataset, real, style.MUTED, columns=_side(dataset, n))
        if not titles:
            row[-1].set_title("data", color=style.MUTED)
        style.row_label(row[0], cell.label, colours[cell.label])
        titles = own
    return Plot(
        name=file_name("snapshots", dataset.label),
        kind="snapshots",
        dataset=dataset.label,
        title="Through training",
        caption="Samples after the given numbers of training steps, from the same latents; data in the last column; "
        f"{style.median_seeds([(cell.label, seed) for cell, seed in shown])}.",
        alt=f"Samples of {', '.join(cell.label for cell, _ in shown)} on {dataset.label} as training goes on.",
        figure=figure,
    )


def _column_bounds(figure: Figure) -> list[float]:
    """The left ends of the columns of a strip, and the right end of the last, as fractions of the figure's width, so
    that a page can show the columns one after the other."""
    sides: dict[int, tuple[float, float]] = {}
    for ax in figure.axes:
        place = ax.get_subplotspec()
        if place is not None:
            x0, x1 = ax.get_position().x0, ax.get_position().x1
            low, high = sides.get(place.colspan.start, (x0, x1))
            sides[place.colspan.start] = min(low, x0), max(high, x1)
    columns = [sides[i] for i in sorted(sides)]  # at least two, since the last one shows the data
    gaps = [(left[1] + right[0]) / 2 for left, right in pairwise(columns)]
    margin = gaps[0] - columns[0][1]
    return [columns[0][0] - margin, *gaps, min(columns[-1][1] + margin, 1.0)]


def _side(dataset: Dataset, n: int) -> int:
    """The number of images in a row of a square sheet of at most n images."""
    return max(1, min(5, int(n**0.5))) if dataset.kind == "image" else 1


# ---------------------------------------------------------------------------------------------- curves


def _curves(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    shown = [cell for cell in cells if cell.median("curve.step")]
    if not shown:
        return None
    strokes: dict[Any, list[str]] = {}  # line style -> players; the first player of a method has a solid line
    for cell in shown:
        for stroke, name in zip(style.STROKES, _curve_names(cell), strict=False):
            strokes.setdefault(stroke, []).append(name.removeprefix("curve."))
    figure, panels = style.panels(len(shown), min(len(shown), 3), (2.6, 1.9))
    for cell, ax in zip(shown, panels, strict=True):
        _losses(ax, cell, colours[cell.label])
        style.panel_title(ax, cell.label, colours[cell.label])
    handles = [style.handle(style.INK, linestyle=stroke) for stroke in strokes]
    names = [f"loss of {', '.join(dict.fromkeys(players))}" for players in strokes.values()]
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    return Plot(
        name=file_name("curves", dataset.label),
        kind="curves",
        dataset=dataset.label,
        title="Losses",
        caption="Loss of each player: median over the seeds, with a band from the least to the greatest.",
        alt=f"Losses through training on {dataset.label} of {', '.join(cell.label for cell in shown)}.",
        figure=figure,
    )


def _curve_names(cell: Cell) -> list[str]:
    media = {name for seed in cell.ok for name in seed.media}
    losses = (name for name in media if name.startswith("curve.") and not name.startswith(PROBE))
    return sorted(name for name in losses if name != "curve.step")


def _losses(ax: Axes, cell: Cell, colour: str) -> None:
    media = [seed.media for seed in cell.ok if "curve.step" in seed.media]
    length = min(len(arrays["curve.step"]) for arrays in media)
    steps, seen = media[0]["curve.step"][:length], []
    for name, stroke in zip(_curve_names(cell), style.STROKES, strict=False):
        losses = np.stack([arrays[name][:length] for arrays in media if name in arrays])
        ax.fill_between(steps, losses.min(axis=0), losses.max(axis=0), color=colour, alpha=0.16, linewidth=0)
        ax.plot(steps, np.median(losses, axis=0), color=colour, linewidth=1.2, linestyle=stroke)
        seen.append(losses[np.isfinite(losses)])
    finite = np.concatenate(seen) if seen else np.zeros(0)
    if len(finite):
        low, high = np.quantile(finite, (0.005, 0.995))  # so that a few spikes do not flatten the rest
        margin = 0.08 * (high - low) + 1e-9
        ax.set_ylim(low - margin, high + margin)
    ax.grid(axis="y")
    ax.set(xlabel="step", ylabel="loss")


# ---------------------------------------------------------------------------------------------- probes


def _probes(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    """The probes of the games: a panel for each probe, a line for each method."""
    found = {cell.label: _probe_values(cell) for cell in cells}
    names = list(dict.fromkeys(name for probes in found.values() for name in probes))
    if not names:
        return None
    figure, panels = style.panels(len(names), min(len(names), 3), (2.9, 2.1))
    shown = [label for label, probes in found.items() if probes]
    for name, ax in zip(names, panels, strict=True):
        for label, stroke in zip(shown, style.STROKES, strict=False):
            if name not in found[label]:
                continue
            steps, values = found[label][name]
            low, middle, high = (f(values, axis=0) for f in (np.nanmin, np.nanmedian, np.nanmax))
            ax.fill_between(steps, low, high, color=colours[label], alpha=0.12, linewidth=0)
            ax.plot(steps, middle, color=colours[label], linewidth=1.2, linestyle=stroke)
            if float(low.min()) > 0 and float(high.max()) > 20 * float(low.min()):
                style.logarithmic(ax, "y")
        ax.set_title(name)
        ax.set(xlabel="rounds since the probe started")
        ax.grid(axis="y")
    handles = [
        style.handle(colours[label], linestyle=stroke)
        for label, stroke in zip(shown, style.STROKES, strict=False)
    ]
    names_shown = [style.shortened(label) for label in shown]
    figure.legend(handles, names_shown, loc="outside lower center", ncols=4)
    return Plot(
        name=file_name("probes", dataset.label),
        kind="probes",
        dataset=dataset.label,
        title="Probes",
        caption="Values that the methods record during training: median over the seeds, with a band from the least to "
        f"the greatest. {'; '.join(names)}.",
        alt=f"Probes through training on {dataset.label} of {', '.join(shown)}: {', '.join(names)}.",
        figure=figure,
    )


def _probe_values(cell: Cell) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each probe, the rounds since its first value [L], and its values [seeds, L]."""
    media = [seed.media for seed in cell.ok if "curve.step" in seed.media]
    names = sorted({name for arrays in media for name in arrays if name.startswith(PROBE)})
    found = {}
    for name in names:
        length = min(len(arrays[name]) for arrays in media)
        values = np.stack([arrays[name][:length] for arrays in media])
        begun = np.isfinite(values).any(axis=0)
        if begun.any():
            steps = media[0]["curve.step"][:length]
            before = steps[~begun].max(initial=0)  # where the probe had no value yet
            found[name.removeprefix(PROBE)] = (steps[begun] - before, values[:, begun])
    return found


# ---------------------------------------------------------------------------------------------- scores


# The score of samples that cannot be distinguished from fresh data.
FAIR = {"memorisation": 0.5, "c2st": 0.5}
MARKS: Mapping[str, Any] = {
    "floor": (0, (1, 1.5)),
    "ceiling": (0, (5, 2)),
    "½: like fresh data": (0, (3, 1, 1, 1)),
}
Lines = Mapping[str, Mapping[str, float]]  # dataset -> name of `MARKS` -> value


def _scores(run: Run, colours: dict[str, str]) -> Iterator[Plot]:
    controls = tables.control_values(run)
    for metric, rows in run_summary(run).groupby("metric", sort=False):
        if not rows["mean"].notna().any():
            continue
        lines = {
            str(dataset): _marks(str(metric), own, controls.get(str(dataset), {}))
            for dataset, own in rows.groupby("dataset", sort=False)
        }
        yield _score_plot(str(metric), rows, run.records[run.records["metric"] == metric], lines, colours)


def _marks(metric: str, rows: pd.DataFrame, controls: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The reference lines for the scores on one dataset: the score of real data, that of the best trivial sampler, and
    ½ for metrics that distinguish samples from data. A control that differs between methods has no line."""
    marks = {"½: like fresh data": FAIR[metric]} if metric in FAIR else {}
    own = {name: values[metric] for name, values in controls.items() if metric in values and "," not in name}
    if "ceiling" in own:
        marks["ceiling"] = own["ceiling"]
    floors = [value for name, value in own.items() if name.split(" ")[0] == "floor"]
    known = rows["floor"].dropna()
    if len(known) or floors:
        best = min if rows["better"].iloc[0] == "lower" else max
        marks["floor"] = float(known.mean()) if len(known) else best(floors)
    return marks


def _score_plot(
    metric: str, rows: pd.DataFrame, records: pd.DataFrame, lines: Lines, colours: dict[str, str]
) -> Plot:
    rows = rows.assign(row=rows["label"] + np.where(rows["mixed"], " · " + rows["protocol"], ""))
    every, places = (list(dict.fromkeys(rows[column])) for column in ("row", "dataset"))
    names, datasets = every[:MAX_ROWS], places[:MAX_DATASETS]
    rows = rows[rows["row"].isin(names) & rows["dataset"].isin(datasets)]
    records = records[records["dataset"].isin(datasets) & records["label"].isin(set(rows["label"]))]
    columns = 2 if len(datasets) == 4 else min(len(datasets), 3)
    size = (max(2.5, 6.2 / columns), 0.55 + 0.3 * len(names))
    figure, panels = style.panels(len(datasets), columns, size, label_width=1.3)
    for i, (dataset, ax) in enumerate(zip(datasets, panels, strict=True)):
        own = rows[rows["dataset"] == dataset].to_dict("records")
        _score_panel(ax, own, records[records["dataset"] == dataset], names, colours, lines[dataset])
        labels = [style.shortened(name) for name in names] if i % columns == 0 else []
        ax.set_yticks(range(len(names)) if labels else [], labels)
        ax.set_title(dataset)
    first = rows.iloc[0]
    unit = f" ({first['unit']})" if first["unit"] != metric else ""
    ranked = f", {first['better']} is better" if first["better"] != "neither" else ""
    for ax in panels:
        ax.set_xlabel(f"{metric}{unit}{ranked}")
    drawn = [name for name in MARKS if any(name in marks for marks in lines.values())]
    if drawn:
        handles = [style.handle(style.MUTED, linewidth=1, linestyle=MARKS[name]) for name in drawn]
        figure.set_figheight(figure.get_figheight() + 0.25)
        figure.legend(handles, drawn, loc="outside lower center", ncols=3)
    return Plot(
        name=file_name("scores", metric),
        kind="scores",
        dataset="",
        title=metric,
        caption=" ".join(
            [
                "Dots: training seeds; bar: their mean with its 95 % t interval.",
                *tables.footnotes(rows),
                *_left_out(every, names, "methods"),
                *_left_out(places, datasets, "datasets"),
            ]
        ),
        alt=f"{metric} of {', '.join(names)} on {', '.join(datasets)}{ranked}.",
        figure=figure,
    )


def _left_out(every: Sequence[str], drawn: Sequence[str], what: str) -> list[str]:
    """A sentence if not all methods or datasets are in a plot of scores."""
    left = len(every) > len(drawn)
    return [f"Only the first {len(drawn)} of {len(every)} {what} are drawn; the tables show all."] * left


def _score_panel(
    ax: Axes,
    rows: Sequence[Mapping[Any, Any]],
    records: pd.DataFrame,
    names: list[str],
    colours: dict[str, str],
    marks: Mapping[str, float],
) -> None:
    """Seeds as dots, mean and interval; the mark of a value, and the number of successful seeds if some failed."""
    good = records[records["value"].notna()]
    seeds: dict[tuple[str, str], list[float]] = {}
    for label, protocol, value in zip(good["label"], good["protocol"], good["value"], strict=True):
        seeds.setdefault((label, protocol), []).append(value)
    heights, hues = {name: y for y, name in enumerate(names)}, [colours[row["label"]] for row in rows]
    ys = np.array([heights[row["row"]] for row in rows])
    dots = [
        (x, y + 0.2, hue)
        for y, hue, row in zip(ys, hues, rows, strict=True)
        for protocol in {row["protocol"], ""}
        for x in seeds.get((row["label"], protocol), ())
    ]
    if dots:  # as one collection, since an artist for each row takes long to draw
        across, down, tones = zip(*dots, strict=True)
        ax.scatter(across, down, s=14, c=tones, alpha=0.5, linewidths=0)
    low, high, mean = ([row[name] for row in rows] for name in ("low", "high", "mean"))
    ax.hlines(ys - 0.12, low, high, colors=hues, linewidth=2, capstyle="butt")
    ax.scatter(mean, ys - 0.12, s=81, marker="|", c=hues, linewidths=2.2).set_snap(True)
    for y, row in zip(ys, rows, strict=True):
        ended = f"{row['n_ok']}/{row['n']} ok" if row["n_ok"] < row["n"] else ""
        if note := f"{tables.mark(row)} {ended}".strip():
            place = {"xy": (1.01, y), "xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
            ax.annotate(note, **place, fontsize=7, color=style.MUTED)
    # On a linear axis, the small ones of values that span two powers of ten would coincide.
    values = [*good["value"], *marks.values()]
    if values and min(values) > 0 and max(values) > 100 * min(values):
        style.logarithmic(ax, "x")
    for name, value in marks.items():
        ax.axvline(value, color=style.MUTED, linewidth=1, linestyle=MARKS[name], zorder=1)
    ax.grid(axis="x")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(names) - 0.35, -0.65)
    ax.margins(x=0.08)


# ---------------------------------------------------------------------------------------------- metrics


class Metrics:
    """The figures of the metrics of a run.

    A shipped metric has its figure in `metrics/figures/<name>.py`, which does not import torch. A user's metric has it
    as `figure(self, cells, style)` in its class, in the file that the resolved suite names. That file is run only if it
    has a `figure`, and only for a run that this process has just done: a run directory may come from a stranger.
    """

    def __init__(self, run: Run) -> None:
        self.trusted = run.trusted
        self.own: dict[
            str, tuple[registry.Plugin, Mapping[str, Any]]
        ] = {}  # the user's, with their parameters
        self.unread: list[str] = []  # why files of the user cannot be read
        self.order: list[str] = []
        self.shipped: dict[str, str] = {}  # name of a shipped metric with label -> without
        try:
            suite = yaml.safe_load(run.files.read_text(run.files.path(layout.SUITE)) or "") or {}
            entries = suite.get("metrics") or []
        except (StoreError, AttributeError, yaml.YAMLError):
            entries = []
        for entry in entries if isinstance(entries, list) else []:
            known = entry if isinstance(entry, Mapping) else {"metric": entry}
            reference, label = str(known.get("metric")), known.get("label")
            label = f"({label})" if label else ""  # as `PluginSpec.name` has it
            if not reference.partition(":")[0].endswith(".py"):
                self.order.append(f"{reference}{label}")
                self.shipped[f"{reference}{label}"] = reference
                continue
            if not self.trusted:  # not even read, since the path may lead anywhere
                self.unread.append(f"{reference}: only `ganbench run` executes its code; run the suite again")
                continue
            try:
                plugin = registry.find("metric", reference, run.folder)
            except PluginError as error:
                self.unread.append(str(error))
            else:
                self.own[f"{plugin.name}{label}"] = (plugin, known.get("params") or {})
                self.order.append(f"{plugin.name}{label}")

    def of(self, cells: Sequence[Cell]) -> list[str]:
        """The metrics of which these cells have details, in the suite's order."""
        metrics = {str(score.info.get("metric")): None for c in cells for s in c.ok for score in s.scores}
        return sorted(metrics, key=lambda name: (*self.order, name).index(name))

    def draw(
        self, metric: str, dataset: Dataset, cells: Sequence[Cell], colours: Mapping[str, str]
    ) -> Iterator[Plot]:
        """The figures of a metric for a dataset. Raises PluginError if its file cannot be read or its code fails."""
        name = self.own[metric][0].name if metric in self.own else self.shipped.get(metric, metric)
        path = registry.PACKAGE / "metrics" / "figures" / f"{name}.py"
        if metric in self.own:
            path = self.own[metric][0].path
        elif not (name.isidentifier() and path.is_file()):  # a stranger's run directory may name any file
            if self.unread and metric not in registry.catalog()["metric"]:
                raise PluginError("; ".join(self.unread))
            return
        every = [_cell_of_metric(cell, metric) for cell in cells]
        try:
            figure = self._figure(metric, path)
            look = Style(name, dataset, every, colours, metric.removeprefix(name))
            made = figure(every[:MAX_METHODS], look) if figure else None
            yield from [made] if isinstance(made, Plot) else made or ()
        except GanbenchError:
            raise
        except Exception as error:
            raise PluginError(f"{path}: its figure failed: {type(error).__name__}: {error}") from error

    def _figure(self, metric: str, path: Path) -> Callable[[Sequence[Cell], Style], Any] | None:
        if metric not in self.own:
            return registry.load(registry.Plugin("metric", metric, path, "figure", "", ()))
        plugin, params = self.own[metric]
        if not any(getattr(node, "name", "") == "figure" for node in ast.walk(ast.parse(path.read_bytes()))):
            return None
        return getattr(registry.build(plugin, params), "figure", None)


def _cell_of_metric(cell: Cell, metric: str) -> Cell:
    """The cell with the scores of this metric only, so that it does not get the details of another one."""
    seeds = [
        replace(seed, scores=tuple(score for score in seed.scores if score.info.get("metric") == metric))
        for seed in cell.seeds
    ]
    return replace(cell, seeds=tuple(seeds))
