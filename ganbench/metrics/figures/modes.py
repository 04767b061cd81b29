"""Mode occupancy: how many of the captured samples lie in each mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from ...report.style import Plot, Style
    from ...store.results import Array, Cell

MOST_BARS = 12  # modes that are drawn as bars; more as a strip of colours


def figure(cells: Sequence[Cell], style: Style) -> Plot | None:
    """Bars for each method, or a strip where there are many modes. Reads "counts" [K]."""
    shares = {cell.label: _shares(cell) for cell in cells}
    known = {label: share for label, share in shares.items() if share is not None}
    if not known:
        return None
    modes = next(iter(known.values())).shape[1]
    weights = (style.dataset.info.get("modes") or {}).get("weights") or ()
    # Classes may be counted too, and be more or fewer than the modes.
    true = np.asarray(weights if len(weights) == modes else [1 / modes] * modes, dtype=float)
    equal = bool(np.allclose(true, 1 / modes))
    if modes <= MOST_BARS:
        figure = _bars(cells, shares, true, style)
        dashed = "all modes equally often" if equal else "how often they are in the data"
        how = f"Bars: mean over seeds; dots: seeds; dashed: {dashed}."
    else:
        figure = _strips(known, true, style)
        darkest = "if all were equally frequent" if equal else "in the data"
        how = f"A line for each seed; white: no sample, darkest: twice as often as {darkest}."
    return style.plot(
        figure,
        f"Share of the captured samples in each of the {modes} modes. {how}",
        f"Share of samples in each mode of {style.dataset.label} for {', '.join(known)}.",
        title="Mode occupancy",
        kind="modes",
    )


def _shares(cell: Cell) -> Array | None:
    """Fraction of the captured samples in each mode [seeds, K]."""
    found = [details["counts"] for seed in cell.ok if (details := seed.details("counts")) is not None]
    if not found:
        return None
    counts = np.asarray(found, dtype=float)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _bars(cells: Sequence[Cell], shares: dict[str, Array | None], true: Array, style: Style) -> Figure:
    """`true` [K]: the share of each mode in the data."""
    columns = min(len(cells), 3)
    figure, axes = style.grid(-(-len(cells) // columns), columns, (2.6, 1.6))
    panels = [ax for row in axes for ax in row]
    top = 100 * max(float(share.max()) for share in (true, *shares.values()) if share is not None)
    positions = np.arange(len(true))
    for cell, ax in zip(cells, panels, strict=False):
        share, colour = shares[cell.label], style.colours[cell.label]
        style.panel_title(ax, cell.label, colour)
        if share is None:
            style.empty(ax, style.why(cell))
            continue
        ax.bar(positions, 100 * share.mean(axis=0), width=0.75, color=colour, alpha=0.45)
        spread = np.linspace(-0.22, 0.22, len(share)) if len(share) > 1 else np.zeros(1)
        dots = (positions + spread[:, None]).ravel()
        ax.plot(dots, 100 * share.ravel(), ".", color=colour, markersize=3.5)
        dashed = {"color": style.ink, "linewidth": 0.8, "linestyle": (0, (4, 3))}
        ax.step([*positions - 0.5, len(true) - 0.5], 100 * np.append(true, true[-1]), where="post", **dashed)
        ax.set(ylim=(0, 1.08 * top or 1), xticks=positions, xlabel="mode", ylabel="% of samples")
        ax.label_outer()
    for ax in panels[len(cells) :]:
        ax.set_visible(False)
    return figure


def _strips(shares: dict[str, Array], true: Array, style: Style) -> Figure:
    figure, axes = style.grid(len(shares), 1, (6.0, 0.75), label_width=1.2)
    for (label, share), row in zip(shares.items(), axes, strict=True):
        row[0].imshow(share / true, cmap="Greys", vmin=0, vmax=2, aspect="auto", interpolation="nearest")
        style.framed(row[0])
        style.row_label(row[0], label, style.colours[label])
    axes[-1][0].set_xlabel("mode")
    return figure
