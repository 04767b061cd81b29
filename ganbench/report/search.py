"""The search before a comparison: the best score against the number of trials, and the settings that were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..analysis.search import DatasetSearch, MethodSearch, changes_of_place
from ..format import plural
from ..store.layout import file_name
from . import style
from .style import Plot
from .tables import AT_FLOOR

ARROWS = {"higher": "↑", "lower": "↓"}
HEADS = (
    "method", "default", "best", "trial", "settings of the best", "quartiles of the trials", "failed",
    "seconds a trial",
)  # fmt: skip
FLOOR = f" {AT_FLOOR} Not better than the floor, which a trivial sampler reaches."


@dataclass(frozen=True)
class SearchTable:
    """The search on one dataset as a table: a row for each method."""

    dataset: str
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def table(search: DatasetSearch) -> SearchTable:
    """The trials and the chosen settings on one dataset."""
    rows = []
    for method in search.methods:
        means, best = method.means, method.best
        ok = means[np.isfinite(means)]
        quartiles = [_number(x) for x in np.quantile(ok, [0.25, 0.75])] if len(ok) else []
        settings = [
            f"{name} {_number(value) if isinstance(value, float) else value}"
            for name, value in method.settings[best].items()
        ]
        rows.append(
            (
                method.label,
                _score_text(method, means[0]),
                _score_text(method, means[best]),
                f"{best + 1} of {len(means)}",
                ", ".join(settings) or "the default",
                " to ".join(quartiles),
                str(int(np.isnan(means).sum())),
                _seconds(method.seconds.sum(1)),
            )
        )
    marks = any(AT_FLOOR in cell for row in rows for cell in row[1:3])
    arrow = ARROWS[search.methods[0].better] if search.methods else ""
    trials = max((len(method.settings) for method in search.methods), default=0)
    seeds = max((method.scores.shape[1] for method in search.methods), default=0)
    return SearchTable(
        search.dataset,
        f"{plural(trials, 'setting')} of each method, {plural(seeds, 'seed')} each, judged by {search.value} {arrow} "
        "on validation data. A setting of which one seed failed or diverged counts as the worst of all. "
        f"Seconds: of training all seeds of a trial, the mean over trials and their range.{FLOOR * marks}",
        HEADS,
        rows,
    )


def plot(search: DatasetSearch, colours: Mapping[str, str]) -> Plot | None:
    """The expected best score against the number of trials, a line and a band for each method that was searched."""
    from matplotlib.ticker import MaxNLocator

    curves = [(m, m.curve) for m in search.methods if len(m.settings) > 1]
    drawn = [(method, curve) for method, curve in curves if curve is not None]
    if not drawn:
        return None
    figure, ((ax,),) = style.grid(1, 1, (5.6, 3.0))
    for number, (method, curve) in enumerate(drawn):
        trials = np.arange(1, len(curve.expected) + 1)
        colour = colours.get(method.label, style.INK)
        ax.fill_between(trials, curve.low, curve.high, color=colour, alpha=0.12, linewidth=0)
        ax.plot(
            trials,
            curve.expected,
            color=colour,
            linewidth=1.4,
            linestyle=style.STROKES[number],
            label=method.label,
        )
    constant = [(m, m.means[0]) for m in search.methods if len(m.settings) == 1 and np.isfinite(m.means[0])]
    for (
        method,
        value,
    ) in constant:  # methods without parameters to search, such as the training examples themselves
        ax.axhline(
            value,
            color=colours.get(method.label, style.MUTED),
            linewidth=0.9,
            linestyle=(0, (1, 3)),
            label=method.label,
        )
    ax.set(xlabel="trials, the default first", ylabel=f"best {search.value} so far [{search.unit}]")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    shown = [curve.expected for _, curve in drawn]
    if min(map(np.min, shown)) > 0 and max(map(np.max, shown)) > 10 * min(map(np.min, shown)):
        style.logarithmic(ax, "y")  # one bad default would press all other lines together
    ax.grid(axis="y")
    figure.legend(loc="outside right upper")
    crossings = changes_of_place([curve for _, curve in drawn])
    names = ", ".join(method.label for method, _ in drawn)
    return Plot(
        name=file_name("search", search.dataset),
        kind="search",
        dataset=search.dataset,
        title="Search",
        caption=(
            "Best score on validation data after so many trials: the mean over all orders of the trials after the "
            "default (Tang et al. 2020), with a band from the 5 % to the 95 % quantile. Where lines cross, the winner "
            f"depends on the length of the search: {plural(crossings, 'crossing')} here."
        ),
        alt=f"Expected best {search.value} against the number of trials on {search.dataset} of {names}.",
        figure=figure,
    )


def _score_text(method: MethodSearch, score: float) -> str:
    return _number(score) + AT_FLOOR * method.at_floor(score)


def _seconds(seconds: np.ndarray) -> str:
    """`3.1 (2.9 to 8.0)`, without a range for one trial; empty where they are not known."""
    known = seconds[np.isfinite(seconds)]
    if not len(known):
        return ""
    mean, low, high = (
        f"{x:.1f}" if x < 10 else f"{x:,.0f}" for x in (known.mean(), known.min(), known.max())
    )
    return f"{mean} ({low} to {high})" if low != high else mean


def _number(x: float) -> str:
    return f"{x:.3g}" if np.isfinite(x) else "failed"
