"""Walks between latents and arithmetic with them (Radford et al. 2016, figures 4 and 7), and the way from coarse to
fine (Denton et al. 2015, figure 4b)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes

    from ...report.style import Plot, Style
    from ...store.results import Array, Cell


def figure(cells: Sequence[Cell], style: Style) -> Iterator[Plot]:
    """A picture for each method, of images. Reads "walk" [rows, steps, *shape], and where they are there
    "arithmetic_…" and "chain"."""
    for cell in cells:
        if plot := _one(cell, style):
            yield plot


def _one(cell: Cell, style: Style) -> Plot | None:
    from matplotlib.figure import Figure

    seed = cell.median("walk")
    details = seed.details("walk") if seed else None
    if not seed or not details or style.dataset.kind != "image":
        return None
    sheets = list(_sheets(details))
    ratios = [max(images.shape[1] / images.shape[0], 0.5) for _, images, _ in sheets]  # room for titles
    figure = Figure(figsize=(2.2 * sum(ratios) + 0.6, 2.9), layout="constrained")
    panels = figure.subplots(1, len(sheets), squeeze=False, width_ratios=ratios)[0]
    for ax, (title, images, names) in zip(panels, sheets, strict=True):
        style.pictures(ax, images.reshape(-1, *images.shape[2:]), images.shape[1])
        ax.set_title(title, color=style.muted)
        _row_names(ax, names, style)
    if "chain_sides" in details:
        style.below(panels[-1], [str(side) for side in details["chain_sides"]])
    style.headline(figure, cell.label, style.colours[cell.label])
    parts = ["walks in latent space, each row from one random latent to the next"]
    if "arithmetic_results" in details:
        parts.append(_sum_in_words(details))
    elif "arithmetic_none" in details:
        parts.append(f"no arithmetic: {details['arithmetic_none']}")
    if "chain" in details:
        parts.append("samples on their way from coarse to fine, a row each, with the side in pixels below")
    return style.plot(
        figure,
        f"{cell.label}, seed {seed.number}; {'; '.join(parts)}.",
        f"What {cell.label} makes of {style.dataset.label}: {'; '.join(parts)}.",
        title=f"Latent space: {cell.label}",
        kind="latent",
        label=cell.label,
    )


def _sheets(details: Mapping[str, Any]) -> Iterator[tuple[str, Array, Sequence[str]]]:
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


def _row_names(ax: Axes, names: Sequence[str], style: Style) -> None:
    """Names of the rows of a sheet, on its left."""
    for row, name in enumerate(names):
        place = {"ha": "right", "va": "center", "transform": ax.transAxes}
        ax.text(-0.02, 1 - (row + 0.5) / len(names), name, fontsize=7.5, color=style.muted, **place)


def _sum_in_words(details: Mapping[str, Any]) -> str:
    a, b, c = details["arithmetic_terms"]
    n = len(details["arithmetic_results"])
    return (
        f"{a} − {b} + {c}, each the mean of the latents of the samples left of it, gives the picture in the middle on "
        f"the right, amid neighbours of that latent: {details['arithmetic_kept']} of these {n} still are nearest to "
        f"training images of the class of “{c}”, {details['arithmetic_brighter']} are brighter than its samples"
    )
