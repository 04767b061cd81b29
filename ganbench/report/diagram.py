"""The critical-difference diagram of a ranking (Demšar 2006)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..analysis.rankings import Ranking
from . import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(found: Ranking, colours: Mapping[str, str]) -> Figure:
    """The critical-difference diagram, to be drawn under `style.style()`."""
    from matplotlib.figure import Figure
    from scikit_posthocs import critical_difference_diagram

    k = len(found.ranks)
    picture = Figure(figsize=(6.6, 0.9 + 0.24 * (k + 1)), layout="constrained")
    ax = picture.subplots()
    shown = _names([str(label) for label in found.ranks.index])
    ranks = found.ranks.rename(index=shown)
    critical_difference_diagram(
        ranks,
        found.apart.rename(index=shown, columns=shown),
        ax=ax,
        label_fmt_left="{label}  {rank:.2f} ",
        label_fmt_right=" {rank:.2f}  {label}",
        label_props={"fontsize": 8.5},
        marker_props={"s": 14},
        elbow_props={"linewidth": 1.1},
        crossbar_props={"color": style.INK, "linewidth": 3, "solid_capstyle": "butt"},
        color_palette={shown[label]: style.contrasting(colours[label], 4.5) for label in found.ranks.index},
        text_h_margin=0.06 * (k - 1),
    )
    ax.spines["top"].set_visible(True)
    ax.set(xlim=(0.6, k + 0.4), xticks=range(1, k + 1), title=f"mean rank by {found.metric} (1 is best)")
    return picture


def _names(labels: Sequence[str]) -> dict[str, str]:
    """Labels short enough for a line, each another."""
    names: dict[str, str] = {}
    for label in labels:
        name = style.shortened(label)
        names[label] = name if name not in names.values() else f"{name} ({len(names) + 1})"
    return names
