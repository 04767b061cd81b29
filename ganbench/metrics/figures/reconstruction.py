"""Training examples and the nearest that each generator reaches, with ranks (Metz et al. 2017, figure 4, table 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.figure import Figure

    from ...report.style import Plot, Style
    from ...store.results import Array, Cell

Found = list[tuple["Cell", "Mapping[str, Any]"]]
COLUMNS = (
    "label", "images", "n", "rank", "rank_low", "rank_high", "best_pct", "best_low", "best_high",
    "best_of_means_pct",
)  # fmt: skip


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
    places = ranks(style.cells)
    seeds = style.median_seeds([(cell.label, cell.median("reconstructions")) for cell, _ in found])
    return style.plot(
        draw(found, _rank_notes(places), style),
        f"{how}; {seeds}.{_ranked(places)}",
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
    figure, axes = style.grid(len(rows), 1, (0.72 * k, 0.86), label_width=2.6 if notes else 1.2)
    for (label, colour, images, errors), row in zip(rows, axes, strict=True):
        style.pictures(row[0], images[:k], k)
        row[0].set_anchor("W")  # centred, the free space beside the sheet hides how much room the texts need
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


# ---------------------------------------------------------------------------------------------- ranks


def per_image(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks [M, ..., I] of M methods on each of I images, 1 for the least of `errors` [M, ..., I], and the share
    of each image [M, ..., I] that a method wins. Ties share: the mean of their ranks, equal parts of the image."""
    from scipy.stats import rankdata

    won = errors == errors.min(axis=0)
    return rankdata(errors, axis=0), won / won.sum(axis=0)


def ranks(cells: Sequence[Cell]) -> pd.DataFrame:
    """Ranks of the methods of one dataset over the images that all of them were to reconstruct; a row each.

    Columns: label, `images`, `n` (seeds that ended well for all methods); `rank`, the mean over images and seeds,
    and `best_pct`, the percentage of images of which a method has the least error, each with the 95 % t interval over
    seeds (NaN for a single one), cut to the values that are possible; a seed of one method against the same seed of
    the others;
    `best_of_means_pct`, the percentage where errors are averaged over seeds first, so that each image is won once
    (the shares in Metz et al. are whole numbers of their 1280 images, of 5 seeds).

    A method of which a seed's reconstruction is not valid has no rank. Empty where fewer than two methods have errors,
    or where they have no seed or not all images in common.
    """
    from scipy.special import stdtrit

    found = {cell.label: own for cell in cells if not _invalid(cell) and (own := _all_errors(cell))}
    seeds = sorted(set.intersection(*map(set, found.values()))) if len(found) > 1 else []
    alike = {(targets.tobytes(), len(errors)) for own in found.values() for targets, errors in own.values()}
    if not seeds or len(alike) > 1:
        return pd.DataFrame(columns=pd.Index(COLUMNS))
    errors = np.stack([[own[seed][1] for seed in seeds] for own in found.values()])  # [M, S, I]
    places, won = per_image(errors)
    mean, best = places.mean(axis=2), 100 * won.mean(axis=2)
    pooled = 100 * per_image(errors.mean(axis=1))[1].mean(axis=1)
    columns = [list(found), errors.shape[2], len(seeds)]
    for values, least, most in ((mean, 1, len(found)), (best, 0, 100)):
        half = np.full(len(values), np.nan)
        if len(seeds) > 1:
            half = stdtrit(len(seeds) - 1, 0.975) * values.std(axis=1, ddof=1) / len(seeds) ** 0.5
        center = values.mean(axis=1)
        columns += [center, *(np.clip(end, least, most) for end in (center - half, center + half))]
    return pd.DataFrame(dict(zip(COLUMNS, [*columns, pooled], strict=True)))


def _invalid(cell: Cell) -> bool:
    """Whether the control of a seed's reconstruction failed."""
    scores = [score for seed in cell.ok for score in seed.scores if "all_errors" in score.details]
    return any("invalid" in score.details for score in scores)


def _all_errors(cell: Cell) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Of each seed some of the targets, to tell whether they are the same, and the errors of all [I]; those below
    1e-12, where the search stops, as equal."""
    scores = {seed.number: seed.details("all_errors") for seed in cell.ok}
    return {
        number: (found["targets"], np.maximum(found["all_errors"], 1e-12))
        for number, found in scores.items()
        if found
    }
