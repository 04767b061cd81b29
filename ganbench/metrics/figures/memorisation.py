"""Samples above their nearest training examples (Goodfellow et al. 2014, figure 2), and how far samples and held-out
examples are from the training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...report.style import Plot, Style
    from ...store.results import Cell


def figure(cells: Sequence[Cell], style: Style) -> Iterator[Plot]:
    """A picture for each method. Reads "panel_samples" and "panel_neighbours" [k, *shape] of images,
    "distance_samples" [n], "distance_heldout" [m] and "verdict"."""
    for cell in cells:
        if plot := _one(cell, style):
            yield plot


def _one(cell: Cell, style: Style) -> Plot | None:
    seed = cell.median("distance_samples") or cell.median("panel_samples")
    details = (seed.details("distance_samples") or seed.details("panel_samples")) if seed else None
    if not seed or not details:
        return None
    pictures = style.dataset.kind == "image" and "panel_neighbours" in details
    distances = "distance_samples" in details and "distance_heldout" in details
    if not pictures and not distances:
        return None
    figure, panels = _axes(pictures, distances)
    colour = style.colours[cell.label]
    if pictures:
        _pairs(panels[0], details, style)
    if distances:
        _distances(panels[-1], details, colour, style)
    style.headline(figure, cell.label, colour)
    parts = ["top: samples, below: the nearest training example of each"] * pictures
    parts += ["distances to the nearest training example, of samples and of held-out data"] * distances
    said = f" Verdict: {details['verdict']}." if details.get("verdict") else ""
    return style.plot(
        figure,
        f"{cell.label}, seed {seed.number}; {'; '.join(parts)}.{said}",
        f"Samples of {cell.label} on {style.dataset.label} against the training examples nearest to them.",
        title=f"Nearest neighbours: {cell.label}",
        kind="neighbours",
        label=cell.label,
    )


def _axes(pictures: bool, distances: bool) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2 if pictures and distances else 4.4, 1.75), layout="constrained")
    ratios = [2.4, 1] if pictures and distances else [1]
    return figure, list(figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0])


def _pairs(ax: Axes, details: Mapping[str, Any], style: Style) -> None:
    k = min(len(details["panel_samples"]), 10)
    style.pictures(ax, np.concatenate([details["panel_samples"][:k], details["panel_neighbours"][:k]]), k)
    place = {"ha": "right", "va": "center", "transform": ax.transAxes}
    for y, text in ((0.75, "samples"), (0.25, "nearest\ntraining\nexample")):
        ax.text(-0.015, y, text, fontsize=7.5, color=style.muted, **place)


def _distances(ax: Axes, details: Mapping[str, Any], colour: str, style: Style) -> None:
    samples, heldout = details["distance_samples"], details["distance_heldout"]
    both = np.concatenate([samples, heldout])
    edges = np.histogram_bin_edges(both, bins=40)
    # Where nearly all of one kind fall into one bar the bars say nothing: equal factors instead of equal widths. What
    # lies at 0, copies, counts to the first.
    crowded = max(np.histogram(one, edges)[0].max() / len(one) for one in (samples, heldout)) > 0.9
    if crowded and (positive := both[both > 0]).size and positive.max() > 10 * positive.min():
        edges = np.geomspace(positive.min(), positive.max(), 41)
        samples, heldout = (np.clip(one, edges[0], edges[-1]) for one in (samples, heldout))
        style.logarithmic(ax, "x")
    looks = (
        (heldout, {"histtype": "step", "color": style.ink, "linewidth": 1}),
        (samples, {"histtype": "stepfilled", "color": colour, "alpha": 0.5, "linewidth": 0}),
    )
    for one, look in looks:  # shares of all, which equal factors keep comparable
        ax.hist(one, bins=edges.tolist(), weights=np.full(len(one), 1 / len(one)), **look)
    ax.set(yticks=[], xlabel="distance to nearest training example")
    ax.spines["left"].set_visible(False)
    handles = [style.handle(colour, alpha=0.5, linewidth=5), style.handle(style.ink, linewidth=1)]
    above = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.97), "ncols": 2}
    ax.legend(handles, ["samples", "held-out data"], handlelength=1.2, columnspacing=1.2, **above)
