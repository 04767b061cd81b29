"""Training examples and the nearest that each generator reaches, with ranks (Metz et al. 2017, figure 4, table 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from matplotlib.figure import Figure

    from ...report.style import Plot, Style
    from ...store.results import Array, Cell

Found = list[tuple["Cell", "Mapping[str, Any]"]]


def figure(cells: Sequence[Cell], style: Style) -> Plot | None:
    """A row of pictures or a panel of points for each method. Reads "targets" and "reconstructions" [k, *shape],
    "errors" [k], and "all_errors" for the ranks among all methods of the dataset."""
    found = [(cell, details) for cell in cells if (details := _details(cell)) is not None]
    if not found or style.dataset.kind == "line":
        return None
    draw: Callable[..., Figure] = _pictures if style.dataset.kind == "image" else _points
    how = (
        "Training images as targets, and below them what each generator comes nearest to, with the mean squared "
        "error per number"
        if style.dataset.kind == "image"
        else "Circles: training examples as targets; dots: the nearest that the generator reaches; lines join them"
    )
    places = style.ranks()
    return style.plot(
        draw(found, _rank_notes(places), style),
        f"{how}; of each method the seed whose first score is the median.{_ranked(places)}",
        f"Training examples of {style.dataset.label} and the nearest that each generator reaches.",
        title="Reconstructions",
        kind="reconstructions",
    )


def _details(cell: Cell) -> Mapping[str, Any] | None:
    seed = cell.median("reconstructions")
    return seed.details("reconstructions") if seed else None


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


def _pictures(found: Found, notes: dict[str, str], style: Style) -> Figure:
    """The targets stand once on top, or above each method where these had different ones."""
    k = min(min(len(details["targets"]) for _, details in found), 10)
    shared = all(np.array_equal(details["targets"], found[0][1]["targets"]) for _, details in found)
    rows: list[tuple[str, str, Array, Any]] = []
    for i, (cell, details) in enumerate(found):
        if not shared or i == 0:
            rows.append(("targets", style.muted, details["targets"], ()))
        colour = style.colours[cell.label]
        rows.append((cell.label, colour, details["reconstructions"], details.get("errors", ())))
    figure, axes = style.grid(len(rows), 1, (0.72 * k, 0.86), label_width=2.3 if notes else 1.2)
    for (label, colour, images, errors), row in zip(rows, axes, strict=True):
        style.pictures(row[0], images[:k], k)
        style.row_label(row[0], label, colour)
        place = {"ha": "left", "va": "center", "transform": row[0].transAxes}
        row[0].text(1.012, 0.5, notes.get(label, ""), fontsize=7.5, color=style.muted, **place)
        style.below(row[0], [f"{error:#.2g}" if error < 10 else f"{error:.0f}" for error in errors[:k]])
    return figure


def _points(found: Found, notes: dict[str, str], style: Style) -> Figure:
    columns = min(len(found), 4)
    figure, axes = style.grid(-(-len(found) // columns), columns, (1.8, 2.0 if notes else 1.75))
    panels = [ax for row in axes for ax in row]
    for (cell, details), ax in zip(found, panels, strict=False):
        targets, rebuilt = (
            details[name].reshape(len(details[name]), -1) for name in ("targets", "reconstructions")
        )
        style.scatter(ax, rebuilt, style.colours[cell.label])
        for a, b in zip(targets, rebuilt, strict=True):
            ax.plot([a[0], b[0]], [a[1], b[1]], color=style.muted, linewidth=0.6)
        circles = {"color": style.ink, "markersize": 5, "fillstyle": "none", "markeredgewidth": 0.8}
        ax.plot(targets[:, 0], targets[:, 1], "o", **circles)
        ax.set_xlabel(notes.get(cell.label, ""), fontsize=7.5, color=style.muted)
        style.panel_title(ax, cell.label, style.colours[cell.label])
    for ax in panels[len(found) :]:
        ax.set_visible(False)
    return figure
