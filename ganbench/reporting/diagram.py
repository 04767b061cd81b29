"""Ranks of all methods at once: Friedman's and Nemenyi's tests and the critical-difference diagram (Demšar 2006,
Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import drawing
from .differences import standings
from .rundir import file_name
from .stats import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENOUGH_DATASETS = 5  # from here on the datasets are the blocks, as Demšar has it
ALPHA = 0.05
READING = (
    "Mean ranks: 1 is best, a failed seed ranks last; two that are nearer than the critical difference are not told "
    f"apart (Nemenyi's test at 5 %). Over seeds of fewer than {ENOUGH_DATASETS} datasets this says whether other "
    "training seeds would rank the methods alike on these, not how they rank elsewhere."
)
Values = Mapping[tuple[str, str], pd.Series]  # (dataset, label) -> goodness by seed; -inf: failed


@dataclass(frozen=True)
class Ranking:
    """Ranks of methods by one metric over blocks, 1 the best."""

    metric: str
    ranks: pd.Series  # mean rank by label
    blocks: int
    block: str  # "datasets", or "seeds on ..." where there are too few datasets for that
    p: float  # of Friedman's test that all methods rank alike
    apart: pd.DataFrame  # p of Nemenyi's test for each two labels; all 1 where Friedman's finds nothing
    critical: float  # difference of mean ranks that Nemenyi's test finds
    left_out: tuple[str, ...]  # labels that were not measured on all of these datasets

    @property
    def name(self) -> str:
        """Of the diagram's files, without the ending."""
        return file_name("critical-difference", self.metric)

    @property
    def summary(self) -> str:
        """Over what it ranks, and what the tests say."""
        left = f"; not measured on all of these: {', '.join(self.left_out)}" if self.left_out else ""
        return (
            f"{self.blocks} {self.block}; Friedman's test: p {_below(self.p)}; critical difference "
            f"{self.critical:.2f}{left}"
        )

    @property
    def caption(self) -> str:
        """What the diagram shows; `READING` is to stand near it."""
        bars = "Methods joined by a bar are not told apart."
        return f"Mean ranks by {self.metric} over {self.summary}. {bars}"

    @property
    def alt(self) -> str:
        """The diagram for those who do not see it."""
        each = ", ".join(f"{label} {rank:.2f}" for label, rank in self.ranks.sort_values().items())
        return f"Critical-difference diagram of {self.metric}; mean ranks: {each}."


def _below(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"


def ranking(metric: str, values: Values) -> Ranking | None:
    """Ranks of the methods by goodness; None where no three of them share a dataset and two blocks.

    With five datasets or more a block is a dataset, where methods rank by the mean standing of their seeds, to
    which a failed one adds the least. With fewer it is a seed on a dataset: of given datasets the seeds are
    independent repetitions, of datasets at large they are not, and the caption says so.
    """
    labels, datasets = _complete(values)
    if len(labels) < 3:
        return None
    chosen = {dataset: [values[dataset, label] for label in labels] for dataset in datasets}
    if len(datasets) >= ENOUGH_DATASETS:
        table, block = [_standing(columns) for columns in chosen.values()], "datasets"
    else:
        table = [row for columns in chosen.values() for row in _by_seed(columns)]
        names = ", ".join(datasets)
        block = f"seeds on {names}" if len(datasets) == 1 else f"pairs of a dataset and a seed ({names})"
    if len(table) < 2:
        return None
    left = tuple(label for label in dict.fromkeys(label for _, label in values) if label not in labels)
    return _ranked(metric, labels, np.asarray(table), block, left)


def _ranked(
    metric: str, labels: Sequence[str], goodness: Floats, block: str, left: tuple[str, ...]
) -> Ranking:
    """The tests, on goodness [N, k] of k methods in N blocks."""
    from scikit_posthocs import posthoc_nemenyi_friedman
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    ranks = rankdata(-goodness, axis=1)  # [N, k]
    blocks, k = ranks.shape
    alike = bool((ranks == ranks.mean()).all())
    p = 1.0 if alike else float(friedmanchisquare(*ranks.T).pvalue)
    apart = posthoc_nemenyi_friedman(ranks) if p < ALPHA else pd.DataFrame(np.ones((k, k)))
    apart = pd.DataFrame(apart.to_numpy(), index=pd.Index(labels), columns=pd.Index(labels))
    quantile = float(studentized_range.ppf(1 - ALPHA, k, math.inf)) / math.sqrt(2)
    critical = quantile * math.sqrt(k * (k + 1) / (6 * blocks))
    means = pd.Series(ranks.mean(axis=0), pd.Index(labels))
    return Ranking(metric, means, blocks, block, p, apart, critical, left)


def _complete(values: Values) -> tuple[list[str], list[str]]:
    """The methods and datasets of the largest table without holes."""
    where: dict[str, set[str]] = {}
    for dataset, label in values:
        where.setdefault(label, set()).add(dataset)
    best: tuple[list[str], set[str]] = [], set()
    for datasets in where.values():
        labels = [label for label, own in where.items() if datasets <= own]
        if len(labels) >= 3 and len(labels) * len(datasets) > len(best[0]) * len(best[1]):
            best = labels, datasets
    return best[0], [
        dataset for dataset in dict.fromkeys(dataset for dataset, _ in values) if dataset in best[1]
    ]


def _standing(columns: Sequence[pd.Series]) -> list[float]:
    """What a seed of each method beats on one dataset, on the mean."""
    return [float(own.mean()) for own in standings([own.to_numpy() for own in columns])]


def _by_seed(columns: Sequence[pd.Series]) -> list[list[float]]:
    """A row for each seed that all methods ran on one dataset."""
    common = sorted(set.intersection(*(set(own.index) for own in columns)))
    return [[float(own[seed]) for own in columns] for seed in common]


# ---------------------------------------------------------------------------------------------- picture


def figure(found: Ranking, colours: Mapping[str, str]) -> Figure:
    """The critical-difference diagram, to be drawn under `drawing.style()`."""
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
        crossbar_props={"color": drawing.INK, "linewidth": 3, "solid_capstyle": "butt"},
        color_palette={shown[label]: drawing.contrasting(colours[label], 4.5) for label in found.ranks.index},
        text_h_margin=0.06 * (k - 1),
    )
    ax.spines["top"].set_visible(True)
    ax.set(xlim=(0.6, k + 0.4), xticks=range(1, k + 1), title=f"mean rank by {found.metric} (1 is best)")
    return picture


def _names(labels: Sequence[str]) -> dict[str, str]:
    """Labels short enough for a line, each another."""
    names: dict[str, str] = {}
    for label in labels:
        name = drawing.shortened(label)
        names[label] = name if name not in names.values() else f"{name} ({len(names) + 1})"
    return names
