"""How near searches for a simulator's parameters came, against what they spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...report.style import Plot, Style
    from ...store.results import Array, Cell


def figure(cells: Sequence[Cell], style: Style) -> Plot | None:
    """A line for each method. Reads "calls" [L] and "distance" [L]."""
    shown = [(cell, passed) for cell in cells if (passed := _passed(cell)) is not None]
    if not shown:
        return None
    figure, ((ax,),) = style.grid(1, 1, (6.2, 2.9))
    for (cell, (calls, distances)), stroke in zip(shown, style.strokes, strict=False):
        low, middle, high = np.quantile(distances, (0.25, 0.5, 0.75), axis=0)
        colour = style.colours[cell.label]
        ax.fill_between(calls, low, high, color=colour, alpha=0.12, linewidth=0)
        ax.plot(calls, middle, color=colour, linestyle=stroke, label=style.shortened(cell.label))
    style.logarithmic(ax, "y")
    ax.set(xlim=(0, None), xlabel="simulator calls", ylabel="least distance so far (of range)")
    ax.grid(axis="y")
    figure.legend(loc="outside right upper")
    return style.plot(
        figure,
        "Least distance so far from the true parameters, as a fraction of the range searched: median over the "
        "seeds, with the band of their quartiles. A line starts when all its seeds have a first estimate.",
        f"Distance from the true parameters against simulator calls on {style.dataset.label} for "
        f"{', '.join(cell.label for cell, _ in shown)}.",
        title="Distance from the true parameters",
        kind="searches",
    )


def _passed(cell: Cell) -> tuple[Array, Array] | None:
    """Numbers of calls [L], and the least distance of each seed by then [seeds, L]."""
    found = [details for seed in cell.ok if (details := seed.details("distance")) is not None]
    if not found:
        return None
    return found[0]["calls"], np.maximum([details["distance"] for details in found], 1e-6)
