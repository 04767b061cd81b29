"""Figures of a run, as PNG and SVG: samples, snapshots through training, mode occupancy, learning curves,
scores by method, nearest neighbours, walks in latent space and reconstructions. What is missing is left out; a
method of which no seed ended well has an empty panel that says so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import __version__
from ..analysis.summary import run_summary
from ..store import layout
from ..store.files import Folder
from ..store.layout import file_name
from ..store.results import MAX_RECORDS, Cell, Dataset, Run, open_run
from . import ranks, tables
from . import style as drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_METHODS = 12  # of a dataset that have panels, rows or figures of their own; scores are drawn of all
MOST_SEEDS = 5  # columns, where every seed has a panel
PROBE = "curve.probe."  # how the probes of a game begin among its curves
MAX_PICTURE = 2**26  # bytes
_WORDS = ("name", "kind", "dataset", "title", "caption", "alt")  # of a plot in the index
MOST_BARS = 12  # modes that are drawn as bars; more as a strip of colours
_STROKES: Any = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1))) * 9  # a method's players, by name


@dataclass(frozen=True)
class Plot:
    """A figure with the words that go with it."""

    name: str  # of its files, without the ending
    kind: str
    dataset: str  # empty for plots over all datasets
    title: str
    caption: str
    alt: str
    figure: Figure


def write(run: Path | Run) -> list[Path]:
    """Draw all plots of a run into `plots/` (PNG and SVG), with their captions in `plots/index.json`, and
    return the paths of the pictures. Plots of an earlier version of the suite are removed. Raises StoreError."""
    run = open_run(run)
    files, old = run.files, read_index(run.files)
    entries, written = [], []
    with drawing.style():
        for plot in figures(run):
            drawing.settle(plot.figure)
            for kind, draw in (("png", drawing.png), ("svg", drawing.svg)):
                written.append(files.write(files.path(layout.plot(plot.name, kind)), draw(plot.figure)))
            frames = {"frames": _frames(plot.figure)} if plot.kind == "snapshots" else {}
            entries.append({**{word: getattr(plot, word) for word in _WORDS}, **frames})
    index = {"drawn_from": _source(files), "plots": entries}
    files.write(files.path(layout.PLOT_INDEX), json.dumps(index, indent=1, ensure_ascii=False).encode())
    for name in {entry["name"] for entry in old} - {entry["name"] for entry in entries}:
        for kind in ("png", "svg"):
            files.remove_file(files.path(layout.PLOTS) / f"{name}.{kind}")
    return written


def read_index(files: Folder) -> list[dict[str, Any]]:
    """The words that go with the plots of a run, as `write` wrote them. A name that `write` would not give a file is
    passed over: it may lead out of the folder."""
    plots = files.read_object(files.path(layout.PLOT_INDEX)).get("plots")
    entries = [entry for entry in plots if isinstance(entry, dict)] if isinstance(plots, list) else []
    texts = [{**entry, **{word: str(entry.get(word, "")) for word in _WORDS}} for entry in entries]
    return [entry for entry in texts if entry["name"] and file_name(entry["name"]) == entry["name"]]


def read_pictures(run: Run) -> list[tuple[dict[str, Any], bytes]] | None:
    """The plots of a run, words and PNG; None where one is not there, or they were not drawn from the records as they
    are now by this ganbench. Raises StoreError."""
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
    """What the plots of a run are drawn from: this version of ganbench and the records."""
    content = files.read_bytes(files.path(layout.RECORDS), MAX_RECORDS) or b""
    return f"{__version__} {hashlib.sha256(content).hexdigest()}"


def figures(run: Run) -> Iterator[Plot]:
    """All plots of a run, to be drawn under `drawing.style()`. With hundreds of methods those after the first
    `MOST_METHODS` of a dataset have no panels of their own, and the captions say so."""
    colours = drawing.colours(run.labels)
    yield from _scores(run_summary(run), run.records, colours)
    for dataset in run.datasets.values():
        cells = run.of(dataset.label)
        for plot in _together(dataset, cells, colours):
            said = f"{plot.caption} {few(len(cells))}".rstrip()
            yield replace(plot, caption=said)
        yield from _each(dataset, cells, colours)


def few(methods: int) -> str:
    """A sentence where not all of so many methods of a dataset are drawn, else nothing."""
    if methods <= MOST_METHODS:
        return ""
    return f"Only the first {MOST_METHODS} of the {methods} methods are drawn; tables and scores have all."


def _together(dataset: Dataset, every: list[Cell], colours: dict[str, str]) -> Iterator[Plot]:
    """The plots of the methods of one dataset side by side."""
    cells = every[:MOST_METHODS]
    for draw in (_samples, _snapshots, _modes, _curves, _probes, _discriminators, _searches):
        if plot := draw(dataset, cells, colours):
            yield plot
    if plot := _reconstructions(dataset, every, colours):
        yield plot


def _each(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Iterator[Plot]:
    """The plots of single methods."""
    for cell in cells[:MOST_METHODS]:
        for draw_one in (_latent, _neighbours):
            if plot := draw_one(dataset, cell, colours[cell.label]):
                yield plot


# ---------------------------------------------------------------------------------------------- samples


def _samples(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    if not any(cell.median("samples") for cell in cells):
        return None
    every_seed = dataset.kind != "image" and len(cells) <= 4 and any(len(cell.seeds) > 1 for cell in cells)
    draw = _samples_by_seed if every_seed else _samples_by_method
    figure, which = draw(dataset, cells, colours)
    truth = {
        "image": " beside real images",
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
    numbers = sorted({seed.number for cell in cells for seed in cell.seeds})[:MOST_SEEDS]
    size = (1.5, 1.5) if dataset.kind == "plane" else (1.7, 1.2)
    figure, axes = drawing.grid(len(cells), len(numbers), size, label_width=1.2)
    for cell, row in zip(cells, axes, strict=True):
        seeds = {seed.number: seed for seed in cell.seeds}
        for number, ax in zip(numbers, row, strict=True):
            seed = seeds.get(number)
            if seed and seed.status == "ok" and "samples" in seed.media:
                drawing.examples(ax, dataset, seed.media["samples"], colours[cell.label])
            else:
                drawing.empty(ax, seed.status if seed else "not run")
        drawing.row_label(row[0], cell.label, colours[cell.label])
    for number, ax in zip(numbers, axes[0], strict=True):
        ax.set_title(f"seed {number}")
    return figure, "a row for each method, a column for each training seed"


def _samples_by_method(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> tuple[Figure, str]:
    """Real data first, then a panel for each method."""
    columns = min(len(cells) + 1, 4)
    rows = -(-(len(cells) + 1) // columns)
    figure, axes = drawing.grid(rows, columns, (2.0, 2.0) if dataset.kind != "line" else (2.0, 1.5))
    panels = [ax for row in axes for ax in row]
    drawing.examples(panels[0], dataset, dataset.arrays["examples"], drawing.MUTED)
    panels[0].set_title("data", color=drawing.MUTED)
    for cell, ax in zip(cells, panels[1:], strict=False):
        seed = cell.median("samples")
        if seed:
            drawing.examples(ax, dataset, seed.media["samples"], colours[cell.label])
        else:
            drawing.empty(ax, _why(cell))
        drawing.panel_title(ax, cell.label, colours[cell.label])
    for ax in panels[len(cells) + 1 :]:
        ax.set_visible(False)
    return figure, "of each method the seed whose first score is the median"


def _why(cell: Cell) -> str:
    """Why there is nothing to draw of a cell."""
    statuses = sorted({seed.status for seed in cell.seeds})
    if statuses == ["ok"]:
        return "nothing kept"
    return f"no seed ended well\n({', '.join(statuses)})"


# ---------------------------------------------------------------------------------------------- snapshots


def _snapshots(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    """Rows are methods, columns training steps, the data stand last (as Metz et al. 2017, figure 2)."""
    shown = [(cell, seed) for cell in cells if (seed := cell.median("snapshots"))]
    if not shown:
        return None
    columns = max(len(seed.media["snapshot.step"]) for _, seed in shown)
    size = (1.7, 1.2) if dataset.kind == "line" else (1.45, 1.45)
    figure, axes = drawing.grid(len(shown), columns + 1, size, label_width=1.2)
    titles: list[str] = []
    for (cell, seed), row in zip(shown, axes, strict=True):
        snapshots, steps = seed.media["snapshots"], seed.media["snapshot.step"].astype(int)
        own = [f"step {step:,}" for step in steps]
        for ax, title, points in zip(row, own, snapshots, strict=False):
            drawing.examples(ax, dataset, points, colours[cell.label], columns=_side(dataset, len(points)))
            if own != titles:  # once for all rows below that have the same steps
                ax.set_title(title)
        for ax in row[len(steps) : -1]:
            ax.set_visible(False)
        _data_panel(row[-1], dataset, snapshots.shape[1], titled=not titles)
        drawing.row_label(row[0], cell.label, colours[cell.label])
        titles = own
    return Plot(
        name=file_name("snapshots", dataset.label),
        kind="snapshots",
        dataset=dataset.label,
        title="Through training",
        caption="Samples after the given numbers of training steps, from the same latents; the data stand last.",
        alt=f"Samples of {', '.join(cell.label for cell, _ in shown)} on {dataset.label} as training goes on.",
        figure=figure,
    )


def _frames(figure: Figure) -> list[float]:
    """Where the columns of a strip begin and where its last one ends, as fractions of the figure's width: so that a
    page can show them one after the other."""
    sides: dict[int, tuple[float, float]] = {}
    for ax in figure.axes:
        place = ax.get_subplotspec()
        if place is not None:
            x0, x1 = ax.get_position().x0, ax.get_position().x1
            low, high = sides.get(place.colspan.start, (x0, x1))
            sides[place.colspan.start] = min(low, x0), max(high, x1)
    columns = [sides[i] for i in sorted(sides)]  # two at least: the data stand last
    gaps = [(left[1] + right[0]) / 2 for left, right in pairwise(columns)]
    margin = gaps[0] - columns[0][1]
    return [columns[0][0] - margin, *gaps, min(columns[-1][1] + margin, 1.0)]


def _data_panel(ax: Axes, dataset: Dataset, n: int, titled: bool) -> None:
    real = dataset.arrays["examples"][:n]
    drawing.examples(ax, dataset, real, drawing.MUTED, columns=_side(dataset, n))
    if titled:
        ax.set_title("data", color=drawing.MUTED)


def _side(dataset: Dataset, n: int) -> int:
    """Pictures in a row of a square sheet of at most n."""
    return max(1, min(5, int(n**0.5))) if dataset.kind == "image" else 1


# ---------------------------------------------------------------------------------------------- modes


def _shares(cell: Cell) -> np.ndarray | None:
    """Fraction of the captured samples in each mode [seeds, K]."""
    found = [details["counts"] for seed in cell.ok if (details := seed.details("counts")) is not None]
    if not found:
        return None
    counts = np.asarray(found, dtype=float)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _modes(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    shares = {cell.label: _shares(cell) for cell in cells}
    known = {label: share for label, share in shares.items() if share is not None}
    if not known:
        return None
    modes = next(iter(known.values())).shape[1]
    weights = (dataset.info.get("modes") or {}).get("weights") or ()
    # Classes may be counted too, and be more or fewer than the modes.
    true = np.asarray(weights if len(weights) == modes else [1 / modes] * modes, dtype=float)
    equal = bool(np.allclose(true, 1 / modes))
    if modes <= MOST_BARS:
        figure = _mode_bars(cells, shares, true, colours)
        dashed = "all modes equally often" if equal else "how often they are in the data"
        how = f"Bars: mean over seeds; dots: seeds; dashed: {dashed}."
    else:
        figure = _mode_strips(known, true, colours)
        darkest = "if all were equally frequent" if equal else "in the data"
        how = f"A line for each seed; white: no sample, darkest: twice as often as {darkest}."
    return Plot(
        name=file_name("modes", dataset.label),
        kind="modes",
        dataset=dataset.label,
        title="Mode occupancy",
        caption=f"Share of the captured samples in each of the {modes} modes. {how}",
        alt=f"Share of samples in each mode of {dataset.label} for {', '.join(known)}.",
        figure=figure,
    )


def _mode_bars(
    cells: list[Cell], shares: dict[str, np.ndarray | None], true: np.ndarray, colours: dict[str, str]
) -> Figure:
    """`true` [K]: the share of each mode in the data."""
    columns = min(len(cells), 3)
    figure, axes = drawing.grid(-(-len(cells) // columns), columns, (2.6, 1.6))
    panels = [ax for row in axes for ax in row]
    top = 100 * max(float(share.max()) for share in (true, *shares.values()) if share is not None)
    positions = np.arange(len(true))
    for cell, ax in zip(cells, panels, strict=False):
        share, colour = shares[cell.label], colours[cell.label]
        drawing.panel_title(ax, cell.label, colours[cell.label])
        if share is None:
            drawing.empty(ax, _why(cell))
            continue
        ax.bar(positions, 100 * share.mean(axis=0), width=0.75, color=colour, alpha=0.45)
        spread = np.linspace(-0.22, 0.22, len(share)) if len(share) > 1 else np.zeros(1)
        dots = (positions + spread[:, None]).ravel()
        ax.plot(dots, 100 * share.ravel(), ".", color=colour, markersize=3.5)
        dashed = {"color": drawing.INK, "linewidth": 0.8, "linestyle": (0, (4, 3))}
        ax.step([*positions - 0.5, len(true) - 0.5], 100 * np.append(true, true[-1]), where="post", **dashed)
        ax.set(ylim=(0, 1.08 * top or 1), xticks=positions, xlabel="mode", ylabel="% of samples")
        ax.label_outer()
    for ax in panels[len(cells) :]:
        ax.set_visible(False)
    return figure


def _mode_strips(shares: dict[str, np.ndarray], true: np.ndarray, colours: dict[str, str]) -> Figure:
    figure, axes = drawing.grid(len(shares), 1, (6.0, 0.75), label_width=1.2)
    for (label, share), row in zip(shares.items(), axes, strict=True):
        row[0].imshow(share / true, cmap="Greys", vmin=0, vmax=2, aspect="auto", interpolation="nearest")
        drawing.framed(row[0])
        drawing.row_label(row[0], label, colours[label])
    axes[-1][0].set_xlabel("mode")
    return figure


# ---------------------------------------------------------------------------------------------- curves


def _curves(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    shown = [cell for cell in cells if cell.median("curve.step")]
    if not shown:
        return None
    strokes: dict[Any, list[str]] = {}  # the players of each: a method's first has a solid line, and so on
    for cell in shown:
        for stroke, name in zip(_STROKES, _curve_names(cell), strict=False):
            strokes.setdefault(stroke, []).append(name.removeprefix("curve."))
    columns = min(len(shown), 3)
    figure, axes = drawing.grid(-(-len(shown) // columns), columns, (2.6, 1.9))
    panels = [ax for row in axes for ax in row]
    for cell, ax in zip(shown, panels, strict=False):
        _losses(ax, cell, colours[cell.label])
        drawing.panel_title(ax, cell.label, colours[cell.label])
    for ax in panels[len(shown) :]:
        ax.set_visible(False)
    handles = [_handle(drawing.INK, linestyle=stroke) for stroke in strokes]
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
    for name, stroke in zip(_curve_names(cell), _STROKES, strict=False):
        losses = np.stack([arrays[name][:length] for arrays in media if name in arrays])
        ax.fill_between(steps, losses.min(axis=0), losses.max(axis=0), color=colour, alpha=0.16, linewidth=0)
        ax.plot(steps, np.median(losses, axis=0), color=colour, linewidth=1.2, linestyle=stroke)
        seen.append(losses[np.isfinite(losses)])
    finite = np.concatenate(seen) if seen else np.zeros(0)
    if len(finite):
        low, high = np.quantile(finite, (0.005, 0.995))  # a few spikes must not flatten the rest
        margin = 0.08 * (high - low) + 1e-9
        ax.set_ylim(low - margin, high + margin)
    ax.grid(axis="y")
    ax.set(xlabel="step", ylabel="loss")


# ---------------------------------------------------------------------------------------------- probes


def _probes(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    """What a game writes down beside its losses: a panel for each probe, a line for each method."""
    found = {cell.label: _probed(cell) for cell in cells}
    names = list(dict.fromkeys(name for probes in found.values() for name in probes))
    if not names:
        return None
    columns = min(len(names), 3)
    figure, axes = drawing.grid(-(-len(names) // columns), columns, (2.9, 2.1))
    panels = [ax for row in axes for ax in row]
    shown = [label for label, probes in found.items() if probes]
    for name, ax in zip(names, panels, strict=False):
        for label, stroke in zip(shown, _STROKES, strict=False):
            if name in found[label]:
                _probe(ax, *found[label][name], colours[label], stroke)
        ax.set_title(name)
        ax.set(xlabel="rounds since it began")
        ax.grid(axis="y")
    for ax in panels[len(names) :]:
        ax.set_visible(False)
    handles = [
        _handle(colours[label], linestyle=stroke) for label, stroke in zip(shown, _STROKES, strict=False)
    ]
    names_shown = [drawing.shortened(label) for label in shown]
    figure.legend(handles, names_shown, loc="outside lower center", ncols=4)
    return Plot(
        name=file_name("probes", dataset.label),
        kind="probes",
        dataset=dataset.label,
        title="Probes",
        caption="What the methods write down through training: median over the seeds, with a band from the least to "
        f"the greatest. {'; '.join(names)}.",
        alt=f"Probes through training on {dataset.label} of {', '.join(shown)}: {', '.join(names)}.",
        figure=figure,
    )


def _probed(cell: Cell) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each probe the rounds since it began [L], and its values [seeds, L], in the order in which they come."""
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


def _probe(ax: Axes, steps: np.ndarray, values: np.ndarray, colour: str, stroke: Any) -> None:
    low, middle, high = np.nanmin(values, axis=0), np.nanmedian(values, axis=0), np.nanmax(values, axis=0)
    ax.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
    ax.plot(steps, middle, color=colour, linewidth=1.2, linestyle=stroke)
    if float(low.min()) > 0 and float(high.max()) > 20 * float(low.min()):
        drawing.logarithmic(ax, "y")


# ---------------------------------------------------------------------------------------------- discriminators


def _discriminators(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    """What discriminators on the line have become, beside p/(p + q) (as Goodfellow et al. 2014, figure 1)."""
    found = {
        cell.label: [d for seed in cell.ok if (d := seed.details("optimal_discriminator")) is not None]
        for cell in cells
    }
    shown = [cell for cell in cells if found[cell.label]]
    if not shown:
        return None
    columns = min(len(shown), 4)
    figure, axes = drawing.grid(-(-len(shown) // columns), columns, (2.1, 1.7))
    panels = [ax for row in axes for ax in row]
    for cell, ax in zip(shown, panels, strict=False):
        _discriminator(ax, found[cell.label], colours[cell.label])
        drawing.panel_title(ax, cell.label, colours[cell.label])
    for ax in panels[len(shown) :]:
        ax.set_visible(False)
    handles = [_handle(drawing.INK, linewidth=1), _handle(drawing.INK, linewidth=1, linestyle=_STROKES[1])]
    figure.legend(handles, ["D, a line for each seed", "p/(p + q)"], loc="outside lower center", ncols=2)
    return Plot(
        name=file_name("discriminators", dataset.label),
        kind="discriminators",
        dataset=dataset.label,
        title="Discriminators",
        caption="Probability that the discriminator gives to the data, a line for each seed, and the optimal "
        "p/(p + q) for the samples of the first seed (dashed); below, the densities of the data (grey) and of these "
        "samples (coloured).",
        alt=f"Discriminators on {dataset.label} against the optimal one: {', '.join(c.label for c in shown)}.",
        figure=figure,
    )


def _discriminator(ax: Axes, seeds: Sequence[Mapping[str, Any]], colour: str) -> None:
    first = seeds[0]
    x = first["places"]
    top = 2.2 * max(float(first["density_data"].max()), float(first["density_samples"].max()))
    ax.fill_between(x, first["density_data"] / top, color=drawing.MUTED, alpha=0.35, linewidth=0)
    ax.fill_between(x, first["density_samples"] / top, color=colour, alpha=0.3, linewidth=0)
    for details in seeds:
        ax.plot(details["places"], details["discriminator"], color=colour, linewidth=0.8, alpha=0.7)
    ax.plot(x, first["optimal_discriminator"], color=drawing.INK, linewidth=1, linestyle=_STROKES[1])
    ax.set(xlim=(float(x[0]), float(x[-1])), ylim=(0, 1.02), yticks=[0, 0.5, 1], xlabel="x", ylabel="D(x)")
    ax.label_outer()


# ---------------------------------------------------------------------------------------------- searches


def _searches(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    """How near searches for a simulator's parameters came, against what they spent."""
    shown = [(cell, found) for cell in cells if (found := _passed(cell)) is not None]
    if not shown:
        return None
    figure, ((ax,),) = drawing.grid(1, 1, (6.2, 2.9))
    for (cell, (calls, distances)), stroke in zip(shown, _STROKES, strict=False):
        low, middle, high = np.quantile(distances, (0.25, 0.5, 0.75), axis=0)
        ax.fill_between(calls, low, high, color=colours[cell.label], alpha=0.12, linewidth=0)
        style = {"color": colours[cell.label], "linestyle": stroke}
        ax.plot(calls, middle, **style, label=drawing.shortened(cell.label))
    drawing.logarithmic(ax, "y")
    ax.set(xlim=(0, None), xlabel="simulator calls", ylabel="least distance so far (of range)")
    ax.grid(axis="y")
    figure.legend(loc="outside right upper")
    return Plot(
        name=file_name("searches", dataset.label),
        kind="searches",
        dataset=dataset.label,
        title="Distance from the true parameters",
        caption="Least distance so far from the true parameters, as a fraction of the range searched: median over "
        "the seeds, with the band of their quartiles. A line starts when all its seeds have a first estimate.",
        alt=f"Distance from the true parameters against simulator calls on {dataset.label} for "
        f"{', '.join(cell.label for cell, _ in shown)}.",
        figure=figure,
    )


def _passed(cell: Cell) -> tuple[np.ndarray, np.ndarray] | None:
    """Numbers of calls [L], and the least distance of each seed by then [seeds, L]."""
    found = [details for seed in cell.ok if (details := seed.details("distance")) is not None]
    if not found:
        return None
    return found[0]["calls"], np.maximum([details["distance"] for details in found], 1e-6)


# ---------------------------------------------------------------------------------------------- scores


def _scores(summary: pd.DataFrame, records: pd.DataFrame, colours: dict[str, str]) -> Iterator[Plot]:
    for metric, rows in summary.groupby("metric", sort=False):
        if rows["mean"].notna().any():
            yield _score_plot(str(metric), rows, records[records["metric"] == metric], colours)


def _score_plot(metric: str, rows: pd.DataFrame, records: pd.DataFrame, colours: dict[str, str]) -> Plot:
    rows = rows.assign(row=rows["label"] + np.where(rows["mixed"], " · " + rows["protocol"], ""))
    names = list(dict.fromkeys(rows["row"]))
    datasets = list(dict.fromkeys(rows["dataset"]))
    columns = 2 if len(datasets) == 4 else min(len(datasets), 3)
    size = (max(2.5, 6.2 / columns), 0.55 + 0.3 * len(names))
    figure, axes = drawing.grid(-(-len(datasets) // columns), columns, size, label_width=1.3)
    panels = [ax for line in axes for ax in line]
    for i, (dataset, ax) in enumerate(zip(datasets, panels, strict=False)):
        own = rows[rows["dataset"] == dataset].to_dict("records")
        _score_panel(ax, own, records[records["dataset"] == dataset], names, colours)
        labels = [drawing.shortened(name) for name in names] if i % columns == 0 else []
        ax.set_yticks(range(len(names)) if labels else [], labels)
        ax.set_title(dataset)
    for ax in panels[len(datasets) :]:
        ax.set_visible(False)
    first = rows.iloc[0]
    unit = f" ({first['unit']})" if first["unit"] != metric else ""
    ranked = f", {first['better']} is better" if first["better"] != "neither" else ""
    for ax in panels[: len(datasets)]:
        ax.set_xlabel(f"{metric}{unit}{ranked}")
    return Plot(
        name=file_name("scores", metric),
        kind="scores",
        dataset="",
        title=metric,
        caption=" ".join(
            ["Dots: training seeds; bar: their mean with its 95 % t interval.", *tables.footnotes(rows)]
        ),
        alt=f"{metric} of {', '.join(names)} on {', '.join(datasets)}{ranked}.",
        figure=figure,
    )


def _score_panel(
    ax: Axes,
    rows: Sequence[Mapping[Any, Any]],
    records: pd.DataFrame,
    names: list[str],
    colours: dict[str, str],
) -> None:
    """Seeds as dots, mean and interval; the mark of a value, and how many seeds went well where not all did."""
    good = records[records["value"].notna()]
    seeds: dict[tuple[str, str], list[float]] = {}
    for label, protocol, value in zip(good["label"], good["protocol"], good["value"], strict=True):
        seeds.setdefault((label, protocol), []).append(value)
    place, hues = {name: y for y, name in enumerate(names)}, [colours[row["label"]] for row in rows]
    ys = np.array([place[row["row"]] for row in rows])
    for y, hue, row in zip(ys, hues, rows, strict=True):
        own = [x for protocol in {row["protocol"], ""} for x in seeds.get((row["label"], protocol), ())]
        dots = np.full(len(own), y + 0.2)
        ax.plot(own, dots, "o", color=hue, markersize=3.8, alpha=0.5, markeredgewidth=0)
    low, high, mean = ([row[name] for row in rows] for name in ("low", "high", "mean"))
    ax.hlines(ys - 0.12, low, high, colors=hues, linewidth=2, capstyle="butt")
    ax.scatter(mean, ys - 0.12, s=81, marker="|", c=hues, linewidths=2.2).set_snap(True)
    for y, row in zip(ys, rows, strict=True):
        ended = f"{row['n_ok']}/{row['n']} ok" if row["n_ok"] < row["n"] else ""
        if note := f"{tables.mark(row)} {ended}".strip():
            beside = {"xy": (1.01, y), "xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
            ax.annotate(note, **beside, fontsize=7, color=drawing.MUTED)
    values = good["value"]
    if len(values) and values.min() > 0 and values.max() > 100 * values.min():
        drawing.logarithmic(ax, "x")
    ax.grid(axis="x")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(names) - 0.35, -0.65)
    ax.margins(x=0.08)


# ---------------------------------------------------------------------------------------------- neighbours


def _neighbours(dataset: Dataset, cell: Cell, colour: str) -> Plot | None:
    """Samples above their nearest training examples (Goodfellow et al. 2014, figure 2), and how far samples
    and held-out examples are from the training data."""
    seed = cell.median("distance_samples") or cell.median("panel_samples")
    details = (seed.details("distance_samples") or seed.details("panel_samples")) if seed else None
    if not seed or not details:
        return None
    pictures = dataset.kind == "image" and "panel_neighbours" in details
    distances = "distance_samples" in details and "distance_heldout" in details
    if not pictures and not distances:
        return None
    figure, panels = _neighbour_axes(pictures, distances)
    if pictures:
        _pairs(panels[0], dataset, details)
    if distances:
        _distances(panels[-1], details, colour)
    _headline(figure, cell, colour)
    parts = ["top: samples, below: the nearest training example of each"] * pictures
    parts += ["distances to the nearest training example, of samples and of held-out data"] * distances
    said = f" Verdict: {details['verdict']}." if details.get("verdict") else ""
    return Plot(
        name=file_name("neighbours", dataset.label, cell.label),
        kind="neighbours",
        dataset=dataset.label,
        title=f"Nearest neighbours: {cell.label}",
        caption=f"{cell.label}, seed {seed.number}; {'; '.join(parts)}.{said}",
        alt=f"Samples of {cell.label} on {dataset.label} against the training examples nearest to them.",
        figure=figure,
    )


def _headline(figure: Figure, cell: Cell, colour: str) -> None:
    """The name of the method of which a whole figure is."""
    style = {"color": drawing.contrasting(colour, 4.5), "fontweight": "bold", "fontsize": 9}
    figure.suptitle(drawing.shortened(cell.label, 60), **style)


def _neighbour_axes(pictures: bool, distances: bool) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2 if pictures and distances else 4.4, 1.75), layout="constrained")
    ratios = [2.4, 1] if pictures and distances else [1]
    return figure, list(figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0])


def _pairs(ax: Axes, dataset: Dataset, details: Mapping[str, Any]) -> None:
    k = min(len(details["panel_samples"]), 10)
    pairs = np.concatenate([details["panel_samples"][:k], details["panel_neighbours"][:k]])
    drawing.pictures(ax, dataset, pairs, k)
    for y, text in ((0.75, "samples"), (0.25, "nearest\ntraining\nexample")):
        ax.text(
            -0.015,
            y,
            text,
            transform=ax.transAxes,
            ha="right",
            va="center",
            fontsize=7.5,
            color=drawing.MUTED,
        )


def _distances(ax: Axes, details: Mapping[str, Any], colour: str) -> None:
    samples, heldout = details["distance_samples"], details["distance_heldout"]
    bins = np.histogram_bin_edges(np.concatenate([samples, heldout]), bins=40)
    ax.hist(heldout, bins=bins.tolist(), density=True, histtype="step", color=drawing.INK, linewidth=1)
    filled = {"histtype": "stepfilled", "color": colour, "alpha": 0.5, "linewidth": 0}
    ax.hist(samples, bins=bins.tolist(), density=True, **filled)
    ax.set(yticks=[], xlabel="distance to nearest training example")
    ax.spines["left"].set_visible(False)
    handles = [_handle(colour, alpha=0.5, linewidth=5), _handle(drawing.INK, linewidth=1)]
    above = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.97), "ncols": 2}
    ax.legend(handles, ["samples", "held-out data"], handlelength=1.2, columnspacing=1.2, **above)


def _handle(colour: str, **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, **style)


# ---------------------------------------------------------------------------------------------- latent space


def _latent(dataset: Dataset, cell: Cell, colour: str) -> Plot | None:
    """Walks between latents and arithmetic with them (Radford et al. 2016, figures 4 and 7), and the way from
    coarse to fine (Denton et al. 2015, figure 4b), as far as they are there."""
    from matplotlib.figure import Figure

    seed = cell.median("walk")
    details = seed.details("walk") if seed else None
    if not seed or not details or dataset.kind != "image":
        return None
    sheets = list(_latent_sheets(details))
    ratios = [max(images.shape[1] / images.shape[0], 0.5) for _, images, _ in sheets]  # room for titles
    figure = Figure(figsize=(2.2 * sum(ratios) + 0.6, 2.9), layout="constrained")
    panels = figure.subplots(1, len(sheets), squeeze=False, width_ratios=ratios)[0]
    for ax, (title, images, names) in zip(panels, sheets, strict=True):
        drawing.pictures(ax, dataset, images.reshape(-1, *images.shape[2:]), images.shape[1])
        ax.set_title(title, color=drawing.MUTED)
        _beside(ax, names)
    if "chain_sides" in details:
        sides = [str(side) for side in details["chain_sides"]]
        _below(panels[-1], sides, len(sides))
    _headline(figure, cell, colour)
    parts = ["walks in latent space, each row from one random latent to the next"]
    if "arithmetic_results" in details:
        parts.append(_sum_in_words(details))
    elif "arithmetic_none" in details:
        parts.append(f"no arithmetic: {details['arithmetic_none']}")
    if "chain" in details:
        parts.append("samples on their way from coarse to fine, a row each, with the side in pixels below")
    return Plot(
        name=file_name("latent", dataset.label, cell.label),
        kind="latent",
        dataset=dataset.label,
        title=f"Latent space: {cell.label}",
        caption=f"{cell.label}, seed {seed.number}; {'; '.join(parts)}.",
        alt=f"What {cell.label} makes of {dataset.label}: {'; '.join(parts)}.",
        figure=figure,
    )


def _latent_sheets(details: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray, Sequence[str]]]:
    """Title, images [rows, columns, *shape] and names of the rows of each panel."""
    yield "walks", details["walk"], ()
    if "arithmetic_results" in details:
        a, b, c = details["arithmetic_terms"]
        yield "arithmetic: samples | mean", details["arithmetic_concepts"], (a, f"− {b}", f"+ {c}")
        results = details["arithmetic_results"]
        side = int(len(results) ** 0.5)
        middle = side * side // 2
        order = [*range(1, middle + 1), 0, *range(middle + 1, side * side)]  # the result amid its neighbours
        yield "result amid neighbours", results[order].reshape(side, side, *results.shape[1:]), ()
    if "chain" in details:
        yield "coarse to fine, px", details["chain"], ()


def _beside(ax: Axes, names: Sequence[str]) -> None:
    """Names of the rows of a sheet, on its left."""
    for row, name in enumerate(names):
        place = {"ha": "right", "va": "center", "transform": ax.transAxes}
        ax.text(-0.02, 1 - (row + 0.5) / len(names), name, fontsize=7.5, color=drawing.MUTED, **place)


def _sum_in_words(details: Mapping[str, Any]) -> str:
    a, b, c = details["arithmetic_terms"]
    n = len(details["arithmetic_results"])
    return (
        f"{a} − {b} + {c}, each the mean of the latents of the samples left of it, gives the picture in the middle on "
        f"the right, amid neighbours of that latent: {details['arithmetic_kept']} of these {n} still are nearest to "
        f"training images of the class of “{c}”, {details['arithmetic_brighter']} are brighter than its samples"
    )


# ---------------------------------------------------------------------------------------------- reconstructions


def _reconstructions(dataset: Dataset, cells: list[Cell], colours: dict[str, str]) -> Plot | None:
    """Of the first methods, with their ranks among all."""
    shown = cells[:MOST_METHODS]
    found = [(cell, details) for cell in shown if (details := _reconstruction(cell)) is not None]
    if not found or dataset.kind == "line":
        return None
    draw: Callable[..., Figure] = _rebuilt_pictures if dataset.kind == "image" else _rebuilt_points
    how = (
        "Training images as targets, and below them what each generator comes nearest to, with the mean squared "
        "error per number"
        if dataset.kind == "image"
        else "Circles: training examples as targets; dots: the nearest that the generator reaches; lines join them"
    )
    places = ranks.ranks(cells)
    return Plot(
        name=file_name("reconstructions", dataset.label),
        kind="reconstructions",
        dataset=dataset.label,
        title="Reconstructions",
        caption=f"{how}; of each method the seed whose first score is the median.{_ranked(places)}",
        alt=f"Training examples of {dataset.label} and the nearest that each generator reaches.",
        figure=draw(dataset, found, colours, _rank_notes(places)),
    )


def _ranked(places: pd.DataFrame) -> str:
    """What the ranks in the figure are of."""
    if not len(places):
        return ""
    images, seeds = places["images"].iloc[0], places["n"].iloc[0]
    spread = f"; mean over {seeds} seeds [95 % t interval]" if seeds > 1 else "; one seed"
    return f" Rank among the methods for each of {images} examples, and how often a method is first{spread}."


def _rank_notes(places: pd.DataFrame) -> dict[str, str]:
    """Of each label its mean rank, and how often it is first."""

    def shown(row: Any, name: str, low: str, high: str, decimals: int) -> str:
        ends = "" if np.isnan(row[low]) else f" [{row[low]:.{decimals}f}, {row[high]:.{decimals}f}]"
        return f"{row[name]:.{decimals}f}{ends}"

    return {
        row["label"]: f"rank {shown(row, 'rank', 'rank_low', 'rank_high', 2)}\n"
        f"first {shown(row, 'best_pct', 'best_low', 'best_high', 0)} %"
        for row in places.to_dict("records")
    }


def _reconstruction(cell: Cell) -> Mapping[str, Any] | None:
    seed = cell.median("reconstructions")
    return seed.details("reconstructions") if seed else None


def _rebuilt_pictures(
    dataset: Dataset,
    found: list[tuple[Cell, Mapping[str, Any]]],
    colours: dict[str, str],
    notes: dict[str, str],
) -> Figure:
    """The targets stand once on top, or above each method where these had different ones."""
    k = min(min(len(details["targets"]) for _, details in found), 10)
    shared = all(np.array_equal(details["targets"], found[0][1]["targets"]) for _, details in found)
    rows: list[tuple[str, str, np.ndarray, Any]] = []
    for i, (cell, details) in enumerate(found):
        if not shared or i == 0:
            rows.append(("targets", drawing.MUTED, details["targets"], ()))
        rows.append((cell.label, colours[cell.label], details["reconstructions"], details.get("errors", ())))
    figure, axes = drawing.grid(len(rows), 1, (0.72 * k, 0.86), label_width=2.3 if notes else 1.2)
    for (label, colour, images, errors), row in zip(rows, axes, strict=True):
        drawing.pictures(row[0], dataset, images[:k], k)
        drawing.row_label(row[0], label, colour)
        style = {"ha": "left", "va": "center", "fontsize": 7.5, "color": drawing.MUTED}
        row[0].text(1.012, 0.5, notes.get(label, ""), transform=row[0].transAxes, **style)
        _below(row[0], [f"{error:#.2g}" if error < 10 else f"{error:.0f}" for error in errors[:k]], k)
    return figure


def _below(ax: Axes, texts: list[str], k: int) -> None:
    """A text under each of the k pictures of a sheet with one row."""
    width, bottom = (ax.get_xlim()[1] + 0.5) / k, ax.get_ylim()[0]
    for i, text in enumerate(texts):
        place = {"ha": "center", "va": "top", "fontsize": 7, "color": drawing.MUTED}
        ax.text((i + 0.5) * width - 0.5, bottom + 0.06 * width, text, **place)


def _rebuilt_points(
    dataset: Dataset,
    found: list[tuple[Cell, Mapping[str, Any]]],
    colours: dict[str, str],
    notes: dict[str, str],
) -> Figure:
    columns = min(len(found), 4)
    figure, axes = drawing.grid(-(-len(found) // columns), columns, (1.8, 2.0 if notes else 1.75))
    panels = [ax for row in axes for ax in row]
    for (cell, details), ax in zip(found, panels, strict=False):
        targets, rebuilt = (
            details[name].reshape(len(details[name]), -1) for name in ("targets", "reconstructions")
        )
        drawing.scatter(ax, dataset, rebuilt, colours[cell.label])
        for a, b in zip(targets, rebuilt, strict=True):
            ax.plot([a[0], b[0]], [a[1], b[1]], color=drawing.MUTED, linewidth=0.6)
        circles = {"color": drawing.INK, "markersize": 5, "fillstyle": "none", "markeredgewidth": 0.8}
        ax.plot(targets[:, 0], targets[:, 1], "o", **circles)
        ax.set_xlabel(notes.get(cell.label, ""), fontsize=7.5, color=drawing.MUTED)
        drawing.panel_title(ax, cell.label, colours[cell.label])
    for ax in panels[len(found) :]:
        ax.set_visible(False)
    return figure
