"""What discriminators on the line have become, beside p/(p + q) (as Goodfellow et al. 2014, figure 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from ...report.style import Plot, Style
    from ...store.results import Cell


def figure(cells: Sequence[Cell], style: Style) -> Plot | None:
    """A panel for each method. Reads "places", "discriminator", "optimal_discriminator" and the two densities [L]."""
    found = {
        cell.label: [d for seed in cell.ok if (d := seed.details("optimal_discriminator")) is not None]
        for cell in cells
    }
    shown = [cell for cell in cells if found[cell.label]]
    if not shown:
        return None
    columns = min(len(shown), 4)
    figure, axes = style.grid(-(-len(shown) // columns), columns, (2.1, 1.7))
    panels = [ax for row in axes for ax in row]
    for cell, ax in zip(shown, panels, strict=False):
        _panel(ax, cell, found[cell.label], style)
        style.panel_title(ax, cell.label, style.colours[cell.label])
    for ax in panels[len(shown) :]:
        ax.set_visible(False)
    solid = style.handle(style.ink, linewidth=1)
    handles = [solid, style.handle(style.ink, linewidth=1, linestyle=style.strokes[1])]
    figure.legend(handles, ["D, a line for each seed", "p/(p + q)"], loc="outside lower center", ncols=2)
    return style.plot(
        figure,
        f"Probability that the discriminator gives to the data, a line for each seed, and the optimal p/(p + q) "
        f"(dashed), {style.median_seeds([(cell.label, cell.median('optimal_discriminator')) for cell in shown])}; "
        "below, the densities of the data (grey) and of the samples of each seed (coloured, darker where seeds agree).",
        f"Discriminators on {style.dataset.label} against the optimal one: {', '.join(c.label for c in shown)}.",
        title="Discriminators",
        kind="discriminators",
    )


def _panel(ax: Axes, cell: Cell, seeds: Sequence[Mapping[str, Any]], style: Style) -> None:
    shown = cell.median("optimal_discriminator")
    details = shown.details("optimal_discriminator") if shown else None
    colour, x = style.colours[cell.label], seeds[0]["places"]
    top = 2.2 * max(float(one[name].max()) for one in seeds for name in ("density_data", "density_samples"))
    ax.fill_between(x, seeds[0]["density_data"] / top, color=style.muted, alpha=0.35, linewidth=0)
    alpha = 1 - 0.65 ** (1 / len(seeds))  # 0.35 where all seeds lie over each other
    for one in seeds:
        ax.fill_between(one["places"], one["density_samples"] / top, color=colour, alpha=alpha, linewidth=0)
        ax.plot(one["places"], one["discriminator"], color=colour, linewidth=0.8, alpha=0.7)
    if details is not None:
        optimal = details["optimal_discriminator"]
        ax.plot(details["places"], optimal, color=style.ink, linewidth=1, linestyle=style.strokes[1])
    ax.set(xlim=(float(x[0]), float(x[-1])), ylim=(0, 1.02), yticks=[0, 0.5, 1], xlabel="x", ylabel="D(x)")
    ax.label_outer()
