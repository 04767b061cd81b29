"""The appearance of figures: colours, grids, panels and drawings of examples, and `Style`, which passes them to the
`figure` of a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..store.layout import file_name
from ..store.results import Array, Cell, Dataset, Seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
INK, MUTED, FAINT = "#24292f", "#6b7280", "#d6dae0"
STROKES: Any = (
    "-",
    (0, (4, 2)),
    (0, (1, 1.5)),
    (0, (5, 1, 1, 1)),
) * 9  # line styles, distinct without colour
_STYLE: Any = {
    "figure.dpi": DPI, "savefig.dpi": DPI, "svg.hashsalt": "ganbench", "text.parse_math": False,
    "font.family": "DejaVu Sans", "font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": MUTED, "axes.linewidth": 0.7,
    "axes.labelcolor": INK, "axes.titlecolor": INK, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "axes.grid": False, "grid.color": FAINT, "grid.linewidth": 0.6, "axes.axisbelow": True,
    "legend.frameon": False, "legend.fontsize": 8, "figure.constrained_layout.h_pad": 0.05,
    "figure.constrained_layout.w_pad": 0.05,
}  # fmt: skip


def style() -> AbstractContextManager[None]:
    """The matplotlib settings under which figures are created and saved."""
    from matplotlib import rc_context

    return rc_context(_STYLE)


def colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label, the same in every plot of a run."""
    import seaborn

    palette = seaborn.color_palette("colorblind").as_hex()
    palette.pop(6)  # a pink that is too pale on white; darkened, it equals its neighbour
    if len(labels) > len(palette):
        palette = seaborn.husl_palette(len(labels), s=0.75, l=0.55).as_hex()
    return {label: contrasting(colour, 2.5) for label, colour in zip(labels, palette, strict=False)}


def contrasting(colour: str, ratio: float) -> str:
    """The colour, darkened until it has this contrast with white (WCAG 2.2: 4.5 for text)."""
    from matplotlib.colors import to_hex, to_rgb

    rgb = np.asarray(to_rgb(colour))
    while 1.05 / (_luminance(rgb) + 0.05) < ratio:
        rgb = rgb * 0.96
    return to_hex(tuple(rgb))


def _luminance(rgb: Array) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def grid(
    rows: int, columns: int, cell: tuple[float, float], label_width: float = 0.0
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows x columns axes, each about `cell` inches wide and high, with room for row labels."""
    from matplotlib.figure import Figure

    size = (columns * cell[0] + label_width + 0.15, rows * cell[1] + 0.35)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(line) for line in axes]


def panels(
    count: int, columns: int, cell: tuple[float, float], label_width: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes in rows of `columns`; the rest of the last row is empty."""
    figure, axes = grid(-(-count // columns), columns, cell, label_width)
    flat = [ax for row in axes for ax in row]
    for ax in flat[count:]:
        ax.set_visible(False)
    return figure, flat[:count]


def settle(figure: Figure) -> Figure:
    """Compute the figure's layout once, so that saving it as PNG and SVG does not compute it twice."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)
    return figure


def svg(figure: Figure) -> bytes:
    """The figure as SVG, reproducible byte for byte; scattered points are embedded as a bitmap."""
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as PNG, with a palette of 255 colours (a third of the size) unless that is visible."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image, ImageChops, ImageStat

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
    reduced = image.quantize(255, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    wrong = ImageStat.Stat(ImageChops.difference(reduced.convert("RGB"), image)).mean  # of each colour
    buffer = BytesIO()
    small = bool(np.mean(wrong) < 1.0)  # without a palette, `optimize` takes long and gains nothing
    (reduced if small else image).save(buffer, format="PNG", optimize=small, dpi=(DPI, DPI))
    return buffer.getvalue()


# ---------------------------------------------------------------------------------------------- axes


def bare(ax: Axes) -> None:
    """No ticks and no frame."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def logarithmic(ax: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis with plain numbers: powers would need matplotlib's formulas, which are switched off so that
    names with $ are shown literally."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        """0.6 where LogFormatter has 6e-01; that one only decides which ticks have a label."""

        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axis = ax.xaxis if which == "x" else ax.yaxis
    ax.set(**{f"{which}scale": "log"})
    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain(minor_thresholds=(1, 0.4)))


def framed(ax: Axes) -> None:
    """No ticks, a thin frame."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(FAINT)


def empty(ax: Axes, text: str) -> None:
    """An empty panel that says why."""
    framed(ax)
    ax.set_facecolor("#f6f7f9")
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, color=MUTED, fontsize=8)


def row_label(ax: Axes, text: str, colour: str) -> None:
    """The name of a row of panels, left of its first one."""
    style = {"color": contrasting(colour, 4.5), "fontweight": "bold", "labelpad": 8}
    ax.set_ylabel(shortened(text), rotation=0, ha="right", va="center", **style)


def panel_title(ax: Axes, text: str, colour: str) -> None:
    """The name of a panel, above it."""
    ax.set_title(shortened(text, 28), color=contrasting(colour, 4.5), fontweight="bold")


def shortened(text: str, most: int = 26) -> str:
    """A label, shortened to at most `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def headline(figure: Figure, text: str, colour: str) -> None:
    """The name of the method that a whole figure shows."""
    figure.suptitle(shortened(text, 60), color=contrasting(colour, 4.5), fontweight="bold", fontsize=9)


def below(ax: Axes, texts: Sequence[str]) -> None:
    """A text under each picture of a sheet with one row."""
    width, bottom = (ax.get_xlim()[1] + 0.5) / max(len(texts), 1), ax.get_ylim()[0]
    for i, text in enumerate(texts):
        place = {"ha": "center", "va": "top", "fontsize": 7, "color": MUTED}
        ax.text((i + 0.5) * width - 0.5, bottom + 0.06 * width, text, **place)


def handle(colour: str, **looks: Any) -> Any:
    """A line for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, **looks)


def why(cell: Cell) -> str:
    """Why a cell has nothing to draw."""
    statuses = sorted({seed.status for seed in cell.seeds})
    if statuses == ["ok"]:
        return "nothing stored"
    return f"no seed succeeded\n({', '.join(statuses)})"


def median_seeds(shown: Sequence[tuple[str, Seed | None]]) -> str:
    """The part of a caption that names the seeds, if a figure shows one of each method: `of each method the seed whose
    first score is the median (gan: 2, vae: 0)`; for a single method just its seed."""
    numbers = {label: seed.number for label, seed in shown if seed}
    if len(set(numbers.values())) == 1:
        each = f"seed {next(iter(numbers.values()))}"
    else:
        each = ", ".join(f"{label}: {number}" for label, number in numbers.items())
    return f"of each method the seed whose first score is the median{f' ({each})' if each else ''}"


# ---------------------------------------------------------------------------------------------- examples


def examples(ax: Axes, dataset: Dataset, points: Array, colour: str, *, columns: int = 6) -> None:
    """Examples [n, *shape] of a dataset: a sheet of images, or a scatter plot or histogram over the true density."""
    if dataset.kind == "image":
        pictures(ax, dataset, points[: columns * columns], columns)
    elif dataset.kind == "line":
        histogram(ax, dataset, points, colour)
    else:
        scatter(ax, dataset, points, colour)


def pictures(ax: Axes, dataset: Dataset, images: Array, columns: int) -> None:
    """Images [n, C, H, W] as one sheet, `columns` in a row."""
    sheet = _sheet(_unit(images, dataset), columns)
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    bare(ax)


def _unit(images: Array, dataset: Dataset) -> Array:
    """Pixels in [0, 1]; data without a scale are mapped from the range of the real examples."""
    real = dataset.arrays["examples"]
    low, high = dataset.scale or (float(real.min()), float(real.max()))
    return np.clip((images.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)


def _sheet(images: Array, columns: int) -> Array:
    """[n, C, H, W] -> [rows·(H+gap) - gap, columns·(W+gap) - gap] for grey images, [..., 3] for three channels, with
    white gaps. Of any other number of channels, the mean is shown in grey."""
    n, channels, height, width = images.shape
    rows, gap = -(-n // columns), max(1, height // 14)
    colours = 3 if channels == 3 else 1
    if channels not in (1, 3):
        images = images.mean(axis=1, keepdims=True)
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, colours))
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet if colours == 3 else sheet[:, :, 0]


def scatter(ax: Axes, dataset: Dataset, points: Array, colour: str) -> None:
    """Points [n, d], the first two coordinates, over the true log-density and the modes."""
    flat = points.reshape(len(points), -1)[:, :2]
    x0, x1, y0, y1 = window(dataset)
    _density(ax, dataset)
    size = float(np.clip(1800 / max(len(flat), 1), 1.2, 6))
    ax.scatter(flat[:, 0], flat[:, 1], s=size, color=colour, alpha=0.55, linewidths=0, rasterized=True)
    ax.set(xlim=(x0, x1), ylim=(y0, y1), aspect="equal")
    framed(ax)
    inside = (flat[:, 0] >= x0) & (flat[:, 0] <= x1) & (flat[:, 1] >= y0) & (flat[:, 1] <= y1)
    if len(flat) and inside.mean() < 0.99:
        note = f"{100 * (1 - inside.mean()):.0f} % outside"
        box = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1}
        ax.text(0.03, 0.03, note, transform=ax.transAxes, fontsize=6.5, color=MUTED, bbox=box)


def window(dataset: Dataset) -> tuple[float, float, float, float]:
    """The part of the plane to show: the extent of the density, else that of the real examples with a margin."""
    extent = dataset.arrays.get("extent")
    if extent is not None and len(extent) == 4:
        return float(extent[0]), float(extent[1]), float(extent[2]), float(extent[3])
    real = dataset.arrays["examples"].reshape(len(dataset.arrays["examples"]), -1)[:, :2].astype(np.float64)
    low, high = real.min(axis=0), real.max(axis=0)
    margin = np.where(high > low, 0.1 * (high - low), 1.0)  # one number has no extent
    (x0, y0), (x1, y1) = low - margin, high + margin
    return float(x0), float(x1), float(y0), float(y1)


def _density(ax: Axes, dataset: Dataset) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Circle

    if dataset.arrays.get("log_density") is not None and dataset.arrays["log_density"].ndim == 2:
        log = dataset.arrays["log_density"].astype(np.float64)
        soft = LinearSegmentedColormap.from_list("soft", ["#ffffff", "#c3cbd6"])
        depth = np.clip(log - log.max(), -10, 0)  # below e^-10 of the peak everything is white
        ax.imshow(depth, extent=window(dataset), origin="lower", cmap=soft, interpolation="bilinear")
    if dataset.modes:
        centers, std = dataset.modes
        for center in centers[:100]:
            circle = Circle((center[0], center[1]), 3 * std, fill=False, color=MUTED, linewidth=0.5)
            ax.add_patch(circle)


def histogram(ax: Axes, dataset: Dataset, points: Array, colour: str) -> None:
    """Numbers [n, 1] as a histogram, with the true density as a line."""
    extent = dataset.arrays.get("extent", dataset.arrays["examples"][[0, 0]].reshape(-1))
    real = dataset.arrays["examples"].ravel()
    low, high = (float(extent[0]), float(extent[-1])) if extent[0] < extent[-1] else (real.min(), real.max())
    if low == high:
        low, high = low - 1, high + 1
    style = {"histtype": "stepfilled", "color": colour, "alpha": 0.55, "linewidth": 0}
    ax.hist(points.ravel(), bins=60, range=(low, high), density=True, **style)
    log = dataset.arrays.get("log_density")
    if log is not None:
        ax.plot(np.linspace(low, high, len(log)), np.exp(log), color=INK, linewidth=1)
    ax.set(xlim=(low, high), yticks=[])
    ax.spines["left"].set_visible(False)


# ---------------------------------------------------------------------------------------------- for metrics


@dataclass(frozen=True)
class Plot:
    """A figure with its name, title, caption and alternative text."""

    name: str  # of its files, without the ending
    kind: str
    dataset: str  # empty for plots over all datasets
    title: str
    caption: str
    alt: str
    figure: Figure
    label: str = ""  # of the method, if it shows only one


@dataclass(frozen=True)
class Style:
    """Drawing functions for `figure(cells, style)` of a metric, so that it looks like the other figures of a report.

    Its argument `cells` are the methods to draw (`store.results.Cell`): `cell.ok` are the successfully trained seeds,
    `seed.details("gap")["gap"]` is a detail of the Score (a tensor as a NumPy array, read at each access), and
    `cell.median("gap")` is the seed to show if there is room for one only.
    """

    metric: str
    dataset: Dataset
    cells: Sequence[Cell]  # of all methods, even if there are too many to draw
    colours: Mapping[str, str]  # of the methods, by label
    variant: str = ""  # `(n=500)`, if a suite has the metric with several sets of parameters

    ink, muted, faint, strokes = INK, MUTED, FAINT, STROKES
    grid = staticmethod(grid)
    bare, framed, logarithmic = staticmethod(bare), staticmethod(framed), staticmethod(logarithmic)
    empty, why = staticmethod(empty), staticmethod(why)
    row_label, panel_title, headline = (
        staticmethod(row_label),
        staticmethod(panel_title),
        staticmethod(headline),
    )
    shortened, below, handle = staticmethod(shortened), staticmethod(below), staticmethod(handle)
    median_seeds = staticmethod(median_seeds)

    def examples(self, ax: Axes, points: Array, colour: str, *, columns: int = 6) -> None:
        """Examples [n, *shape] in the way of the dataset: a sheet of images, a scatter plot or a histogram."""
        examples(ax, self.dataset, points, colour, columns=columns)

    def pictures(self, ax: Axes, images: Array, columns: int) -> None:
        """Images [n, C, H, W] as one sheet, `columns` in a row."""
        pictures(ax, self.dataset, images, columns)

    def scatter(self, ax: Axes, points: Array, colour: str) -> None:
        """Points [n, d], the first two coordinates, over the true density and the modes."""
        scatter(ax, self.dataset, points, colour)

    def plot(
        self, figure: Figure, caption: str, alt: str, *, title: str = "", kind: str = "", label: str = ""
    ) -> Plot:
        """A figure with its caption and alternative text, for `figure` to return. `title`: by default the metric's
        name; `kind`: prefix of its file names, by default the metric's name; `label`: of the method, if it shows only
        one."""
        kind, parts = kind or self.metric, [self.dataset.label, *([label] if label else [])]
        name = file_name(f"{kind}{self.variant}", *parts)
        title = f"{title} {self.variant}".strip() if title else f"{self.metric}{self.variant}"
        return Plot(name, kind, self.dataset.label, title, caption, alt, figure, label)
