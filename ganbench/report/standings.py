"""A method among the standings, in words, as text, as JSON and as a section of its report; and the page of the
standings themselves."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from ..analysis import rankings
from ..analysis.compare import compare
from ..analysis.search import DatasetSearch, MethodSearch, changes_of_place
from ..analysis.standings import HERE, Agreement, Place, Placement, Standings
from ..analysis.stats import mean_interval
from ..analysis.summary import summary
from ..analysis.verdicts import UNCLEAR, UNLEARNED
from ..format import markdown_table, number, p_value, plural
from ..store.layout import file_name
from ..store.results import Run, open_run
from . import comparison, figures, search, style, tables
from .document import environment, terminal
from .style import Plot

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = 1  # goes up when a program that reads the JSON would have to change
HEADS = ("rank", "method", "mean [95 %]", "difference [95 %]", "p", "verdict")
ARROWS = {"higher": "↑", "lower": "↓"}
MOST_CURVES = 8  # that are drawn, those that end best


@dataclass(frozen=True)
class Outcome:
    """All that a comparison with the standings came to."""

    kept: Standings
    own: Standings
    placements: tuple[Placement, ...]
    agreement: Agreement | None
    pairs: tuple[str, ...]  # the new method against what was trained again beside it, a sentence each
    notes: tuple[str, ...]


# ---------------------------------------------------------------------------------------------- in words


def sentence(placed: Placement, place: Place) -> str:
    """`my_gan on ring, at its defaults: rank 3 of 16 by sliced_wasserstein [95 %: 2 to 5]; better than gan and wgan;
    can't tell from lsgan.`"""
    rows = _of(placed.compared.rows, place)
    # A rank is of settings too, so the sentence says how they were chosen.
    how = "after the same search" if placed.tuned else "at its defaults"
    if not math.isfinite(place.means[placed.label]):
        return (
            f"{placed.label} on {place.dataset}, {how}: no seed ended well, so it is last of {place.methods}."
        )
    found = {verdict: list(rows.loc[rows["verdict"] == verdict, "baseline"]) for verdict in _WORDS}
    # If nothing is decided, a list of all the others would say no more.
    if not any(found[verdict] for verdict in ("better", "worse", UNLEARNED)):
        told = f"{UNCLEAR} which of them it is better than"
    else:
        told = "; ".join(f"{word} {comparison.join(found[v])}" for v, word in _WORDS.items() if found[v])
    interval = f" [95 %: {place.low} to {place.high}]"
    return (
        f"{placed.label} on {place.dataset}, {how}: rank {place.rank} of {place.methods} by {place.metric}{interval}; "
        f"{told}."
    )


_WORDS = {
    "better": "better than",
    "worse": "worse than",
    UNCLEAR: f"{UNCLEAR} from",
    UNLEARNED: "not above the floor, as",
}


def agreement_sentence(found: Agreement) -> str:
    """Whether this machine agrees with the kept numbers."""
    rows = found.compared.rows
    same = f"{found.same} of {plural(found.values, 'value')} of the same seed are the same to five digits"
    if found.agrees is None:
        return (
            f"Whether this machine agrees with the standings cannot be told: too few seeds of {found.label} ended well "
            "here or there."
        )
    if found.agrees:
        return (
            f"This machine agrees with the standings: {found.label}, trained here too, differs from its kept scores in "
            f"none of {plural(len(rows), 'comparison')} ({same})."
        )
    each = []
    for row in rows[rows["verdict"].isin(("better", "worse"))].to_dict("records"):
        # Fisher's test of failures has no difference of means to show.
        known = math.isfinite(row["difference"])
        change = comparison.difference(row) if known else ", ".join(comparison.failed(row))
        each.append(f"{row['metric']} on {row['dataset']} ({change})")
    return (
        f"This machine does not agree with the standings: {found.label}, trained here too, differs from its kept "
        f"scores by {'; '.join(each)} ({same}). Read the new method against {found.label} as it was trained here."
    )


def sentences(outcome: Outcome) -> list[str]:
    """What came out, first the places, then whether this machine agrees."""
    found = [sentence(placed, place) for placed in outcome.placements for place in placed.places]
    found += outcome.pairs
    return [*found, *([agreement_sentence(outcome.agreement)] if outcome.agreement else [])]


def reading(outcome: Outcome) -> list[str]:
    """How the numbers are to be read, a sentence each."""
    made = outcome.kept.made
    versions = ", ".join(f"{name} {version}" for name, version in (made.get("versions") or {}).items())
    tested = [int(placed.compared.rows["p"].notna().sum()) for placed in outcome.placements]
    return [
        *outcome.notes,
        f"The others: kept scores of the standings {outcome.kept.name!r}, made with {versions} on "
        f"{made.get('processor', 'an unknown processor')}, {str(made.get('started', ''))[:10]}.",
        "Two machines share no numbers, so seeds are not paired: Welch's test, corrected by Holm's method for "
        f"{' and '.join(map(str, dict.fromkeys(tested)))} comparisons of a method. The interval of "
        "the rank counts those that are better and those that are worse by these tests.",
    ]


def _of(rows: pd.DataFrame, place: Place) -> pd.DataFrame:
    return rows[(rows["dataset"] == place.dataset) & (rows["metric"] == place.metric)]


# ---------------------------------------------------------------------------------------------- rows


def lines(placed: Placement, place: Place) -> list[tuple[str, ...]]:
    """A row for each method with what `HEADS` says, the best first, the new method in its place."""
    # The others are the baselines: differences are of the new method minus another one.
    rows = {row["baseline"]: row for row in _of(placed.compared.rows, place).to_dict("records")}
    own = placed.records[
        (placed.records["dataset"] == place.dataset) & (placed.records["metric"] == place.metric)
    ]
    better = str(own["better"].iloc[0])
    sign = -1.0 if better == "lower" else 1.0
    order = sorted(
        place.means, key=lambda label: -sign * place.means[label] if _known(place, label) else math.inf
    )
    # References stand in their place but take no rank.
    ranked = [sign * mean for label, mean in place.means.items() if label not in placed.references]
    found = []
    for label in order:
        values = own.loc[(own["label"] == label) & (own["status"] == "ok"), "value"].dropna().to_numpy()
        if label in placed.references:
            found.append(
                ("–", label, _mean(values), "", "", "not ranked: a reference, which has nothing to search")
            )
            continue
        rank = 1 + sum(x > sign * place.means[label] for x in ranked) if _known(place, label) else len(ranked)
        cells = (str(rank), label, _mean(values))
        row = rows.get(label)
        if row is None:  # the new method is compared with all the others, not with itself
            found.append((*cells, "", "", "the new method" if label == placed.label else "not compared"))
            continue
        # Without the unit, which is the same in every row.
        known = math.isfinite(row["difference"])
        change = comparison.difference(row).removesuffix(f" {row['unit']}") if known else "–"
        p = p_value(row["p_corrected"]).removeprefix("= ") if math.isfinite(row["p_corrected"]) else "–"
        found.append((*cells, change, p, comparison.full(row)))
    return found


def _known(place: Place, label: str) -> bool:
    return math.isfinite(place.means[label])


def _mean(values: Any) -> str:
    """`22.6 [21.9, 23.3]`"""
    if not len(values):
        return "– (no seed ended well)"
    low, high = (float(end[0]) for end in mean_interval(np.asarray(values)[None, :]))
    # The interval reaches about two standard errors to either side, which is enough to choose the digits.
    error = (high - low) / 4
    mean, a, b = (number(x, error).replace("-", "−") for x in (float(np.mean(values)), low, high))
    return f"{mean} [{a}, {b}]" if a else mean  # one seed has no interval


# ---------------------------------------------------------------------------------------------- formats


def as_text(outcome: Outcome, width: int = 100, color: bool = False) -> str:
    """The sentences, a table for each dataset and metric, and how to read them."""
    parts: list[RenderableType] = []
    for placed in outcome.placements:
        for place in placed.places:
            grid = Grid(box=None, padding=(0, 2, 0, 0), header_style="dim")
            for head in HEADS:
                grid.add_column(
                    Text(head),
                    overflow="fold",
                    no_wrap=head == "method",
                    justify="right" if head == "rank" else "left",
                )
            for line in lines(placed, place):
                look = "bold" if line[1] == placed.label else ""
                grid.add_row(*(Text(cell, look) for cell in line))
            parts += [Text(sentence(placed, place), "bold"), Padding(grid, (0, 0, 1, 2))]
    rest = [*outcome.pairs, *([agreement_sentence(outcome.agreement)] if outcome.agreement else [])]
    parts += [Text(text, "bold") for text in rest]
    return terminal([*parts, *map(Text, reading(outcome))], width, color)


def as_json(outcome: Outcome, files: Sequence[Path] = ()) -> str:
    """One object: `schema`, `standings`, `sentences`, `notes`, `files`, `places` (label, tuned, and what
    `analysis.standings.Place` has), `comparisons` as those of `ganbench compare`, and `agrees` (null without
    --retrain)."""
    places = []
    for placed in outcome.placements:
        for place in placed.places:
            # JSON has no NaN: a method without a good seed has no mean.
            means = {label: mean if math.isfinite(mean) else None for label, mean in place.means.items()}
            places.append({"label": placed.label, "tuned": placed.tuned, **vars(place), "means": means})
    found = {
        "schema": SCHEMA,
        "standings": outcome.kept.name,
        "sentences": sentences(outcome),
        "places": places,
        "comparisons": [row for placed in outcome.placements for row in _objects(placed.compared.rows)],
        "agrees": outcome.agreement.agrees if outcome.agreement else None,
        "notes": reading(outcome),
        "files": list(map(str, files)),
    }
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _objects(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


@dataclass(frozen=True)
class Block:
    """One table of the section: the places by one value on one dataset, then all that was measured there."""

    heading: str
    sentence: str
    label: str
    heads: Sequence[str]
    lines: Sequence[Sequence[str]]
    table: tables.Table | None  # once for each dataset
    plot: Plot | None  # the search curve among the others


def template_values(outcome: Outcome) -> dict[str, Any]:
    """What `standings.html.j2` shows."""
    blocks, seen = [], set()
    for placed in outcome.placements:
        for place in placed.places:
            key = placed.label, place.dataset
            # All values of the dataset and its search once, by however many of them it is ranked.
            full = None if key in seen else _table(placed, place)
            curve = curves(outcome, place.dataset, placed.label) if placed.tuned and key not in seen else None
            seen.add(key)
            heading = f"{place.metric} on {place.dataset}"
            text = sentence(placed, place)
            blocks.append(Block(heading, text, placed.label, HEADS, lines(placed, place), full, curve))
    return {
        "name": outcome.kept.name,
        "sentences": sentences(outcome),
        "blocks": blocks,
        "notes": reading(outcome),
    }


def _table(placed: Placement, place: Place) -> tables.Table:
    """All values on the dataset, in the order of the ranks."""
    own = placed.records[placed.records["dataset"] == place.dataset]
    return _summary_table(own, [line[1] for line in lines(placed, place)])


def _summary_table(records: pd.DataFrame, order: Sequence[str]) -> tables.Table:
    """The table of the records of one dataset, with its methods in this order."""
    place = {label: number for number, label in enumerate(order)}
    # A stable sort keeps the metrics of a method in the order of the suite.
    rows = records.assign(_order=records["label"].map(place)).sort_values("_order", kind="stable")
    (table,) = tables.tables(summary(rows.drop(columns="_order")))
    return table


def curves(outcome: Outcome, dataset: str, label: str) -> Plot | None:
    """The search curve of the new method among those of the best others."""
    mine = [m for one in outcome.own.searches if one.dataset == dataset for m in one.methods]
    theirs = next((one for one in outcome.kept.searches if one.dataset == dataset), None)
    if theirs is None or not mine:
        return None
    # The search knows the method without what the label says of settings and machine.
    own = [m for m in mine if label in (m.label, f"{m.label}-tuned", f"{m.label}-tuned {HERE}")]
    return _curves(theirs, own)


def _curves(found: DatasetSearch, first: Sequence[MethodSearch] = ()) -> Plot | None:
    """The curves of `first` and of the methods that end best, since more than a few cannot be told apart."""
    sign = -1.0 if any(m.better == "lower" for m in found.methods) else 1.0
    scored = [m for m in found.methods if m.curve is not None and len(m.settings) > 1]
    best = sorted(scored, key=lambda m: -sign * float(m.means[m.best]))[:MOST_CURVES]
    drawn = replace(found, methods=(*first, *best))
    plot = search.plot(drawn, style.colours([method.label for method in drawn.methods]))
    left = (
        f" Of {len(scored)} methods the {len(best)} that end best are drawn."
        if len(best) < len(scored)
        else ""
    )
    return plot and replace(plot, caption=f"{plot.caption}{left}")


# ---------------------------------------------------------------------------------------------- the page


def pictures(run: Path | Run, kept: Standings) -> list[Plot]:
    """Samples of every method of the standings and the curves of the search, to be drawn under `style.style()`."""
    run, found = open_run(run), []
    for dataset in run.datasets.values():
        # As in the table: tuned where there was a search, the best first.
        labels = kept.labels(dataset.label, tuned=bool(kept.searches))
        cells = {cell.label: cell for cell in run.of(dataset.label)}
        order = [label for label in _ranked(kept, dataset.label, labels) if label in cells]
        plot = figures.samples(dataset, [cells[label] for label in order], style.colours(order))
        found += [plot] if plot else []
        for one in kept.searches:
            if one.dataset == dataset.label and (plot := _curves(one)):
                found.append(plot)
        plot = costs(kept, dataset.label)
        found += [plot] if plot else []
    return found


def costs(kept: Standings, dataset: str) -> Plot | None:
    """The mean score of each method against its seconds of training, at its defaults and after the search; None where
    no seconds are known."""
    by, references = kept.by[dataset], kept.references(dataset)
    rows = kept.rows(dataset, [e.label for e in kept.entrants if e.dataset == dataset])
    rows = rows[(rows["metric"] == by) & (rows["status"] == "ok")]
    seconds, values = (rows.groupby("label")[name] for name in ("train_seconds", "value"))
    means, spent = values.mean(), seconds.mean()
    intervals = {str(label): mean_interval(own.to_numpy()[None]) for label, own in values}
    order = [label for label in _ranked(kept, dataset, list(means.index)) if label not in references]
    order = [label for label in order if spent[label] > 0]
    if not order:
        return None
    tuned = {e.label for e in kept.entrants if e.tuned}
    names = list(dict.fromkeys(label.removesuffix("-tuned") for label in order))
    colours = style.colours(names)
    # Neighbours in a long palette look alike, so that the shapes differ too.
    shapes = dict(zip(names, itertools.cycle("osD^vPX"), strict=False))
    figure, ((ax,),) = style.grid(1, 1, (6.4, 3.6))
    for name in names:
        pair = [label for label in (name, f"{name}-tuned") if label in order]
        ax.plot(spent[pair], means[pair], color=colours[name], linewidth=0.8, alpha=0.6)
        for label in pair:
            ax.vlines(spent[label], *intervals[label], color=colours[name], linewidth=0.8, alpha=0.6)
            face = colours[name] if label in tuned else "white"
            looks = {"marker": shapes[name], "color": colours[name], "markerfacecolor": face, "markersize": 5}
            ax.plot(spent[label], means[label], **looks)
    for name in (name for name in references if name in means):
        ax.axhline(means[name], color=style.MUTED, linewidth=0.9, linestyle=(0, (1, 3)))
        # At the right end of the line, above it.
        right = ax.get_yaxis_transform()
        ax.text(1, means[name], name, transform=right, ha="right", va="bottom", color=style.MUTED)
    style.logarithmic(ax, "x")
    if means[order].min() > 0 and means[order].max() > 10 * means[order].min():
        style.logarithmic(ax, "y")
    measure = kept.measure(dataset, by)
    unit = f" [{measure.unit}]" if measure and measure.unit else ""
    arrow = f" {ARROWS[measure.better]}" if measure and measure.better in ARROWS else ""
    ax.set(xlabel="seconds of training a seed", ylabel=f"{by}{arrow}{unit}")
    ax.grid(axis="y")
    filled = {"white": "default", style.MUTED: "after the search"}
    kinds = [
        style.handle(style.MUTED, marker="o", linestyle="", markerfacecolor=face, label=text)
        for face, text in filled.items()
    ]
    handles = [style.handle(colours[name], marker=shapes[name], label=name) for name in names]
    figure.legend(handles=[*(kinds if tuned else []), *handles], loc="outside right upper")
    return Plot(
        name=file_name("costs", dataset),
        kind="costs",
        dataset=dataset,
        title="Costs",
        caption=(
            f"Mean {by} over seeds, with its 95 % interval, against the processor seconds of training a seed at equal "
            "rounds. More updates of the discriminator in a round move a method to the right. "
            "Seconds are of the machine below, of seeds that were trained together, and change with its load."
        ),
        alt=f"{by} against seconds of training on {dataset} of {', '.join(names)}.",
        figure=figure,
    )


def _ranked(kept: Standings, dataset: str, labels: Sequence[str]) -> list[str]:
    """The methods, the best mean first."""
    rows = kept.rows(dataset, labels)
    rows = rows[(rows["metric"] == kept.by[dataset]) & (rows["status"] == "ok")]
    means = rows.groupby("label")["value"].mean()
    sign = -1.0 if "lower" in set(rows["better"]) else 1.0
    # A method without a good seed has no mean, and is last.
    return sorted(labels, key=lambda label: -sign * means.get(label, -sign * math.inf))


def page(everything: Sequence[Standings], pictured: Mapping[str, Sequence[Mapping[str, str]]]) -> str:
    """The page of the standings, in Markdown. `pictured`: by suite, the kept pictures with their words and `file`."""
    if not everything:
        return f"{_HEAD}{_NONE}"
    blocks = [f"{_HEAD}{_INTRODUCTION}"]
    for kept in everything:
        for dataset in kept.datasets:
            blocks.append(_dataset_page(kept, dataset, pictured.get(kept.name, ())))
    return "\n\n".join([*blocks, _ranks_page(everything), _made_page(everything)]).rstrip() + "\n"


_HEAD = "# Standings\n\n"
_NONE = "No suite of the standings has kept results yet, so there is nothing to read here.\n"
_INTRODUCTION = (
    "Methods on standard datasets, with the same nets, latent numbers, batch, rounds and average on each dataset, and "
    "an equal search of what is a method's own. Only suites that have been run and kept are listed. "
    "`ganbench compare my_gan.py --on NAME` puts a method of yours among them, and `ganbench.load_standings(NAME)` "
    "gives the scores of each seed."
)


def _dataset_page(kept: Standings, dataset: str, pictured: Sequence[Mapping[str, str]]) -> str:
    searched = any(one.dataset == dataset for one in kept.searches)
    labels = _ranked(kept, dataset, kept.labels(dataset, searched))
    blocks = [f"## {dataset}", f"Suite `{kept.name}`. {kept.about}", " ".join(conclusions(kept, dataset))]
    blocks.append(_markdown(kept, dataset, labels))
    # Defaults stand in a table of their own, since a rank among both kinds would reward the search.
    if searched:
        defaults = _ranked(kept, dataset, kept.labels(dataset, False))
        blocks.append("At their defaults, which share no column with the above:")
        blocks.append(_markdown(kept, dataset, defaults))
        table = next(search.table(one) for one in kept.searches if one.dataset == dataset)
        blocks.append("What was chosen in the search:")
        blocks.append(markdown_table(table.heads, [list(map(_md, row)) for row in table.rows]))
        blocks.append(table.caption)
    for picture in pictured:
        if picture["dataset"] == dataset:
            blocks.append(f"![{picture['alt']}](../results/reference/standings/{picture['file']})")
            blocks.append(f"*{picture['title']}.* {picture['caption']}")
    return "\n\n".join(blocks)


def _md(cell: object) -> str:
    return environment().filters["md"](cell)


def _markdown(kept: Standings, dataset: str, labels: Sequence[str]) -> str:
    """The table of a dataset, the best first, with the seconds that a seed took."""
    rows = kept.rows(dataset, labels)
    table = _summary_table(rows, labels)
    seconds = rows.groupby("label")["train_seconds"].mean()
    heads = [*table.heads, "seconds a seed"]
    cells = [
        [*map(_md, line), f"{seconds[row.label]:.3g}"]
        for row, line in zip(table.rows, table.cells, strict=True)
    ]
    notes = "\n\n".join([table.caption, *map(_md, table.notes)])
    return f"{markdown_table(list(map(_md, heads)), cells, range(1, len(heads)))}\n\n{notes}"


def conclusions(kept: Standings, dataset: str) -> list[str]:
    """In five sentences what may be concluded from the standings on a dataset, and what not."""
    by, searched = kept.by[dataset], any(one.dataset == dataset for one in kept.searches)
    references = kept.references(dataset)
    # Who is first, without what only says what a number means.
    labels = [
        name for name in _ranked(kept, dataset, kept.labels(dataset, searched)) if name not in references
    ]
    rows = kept.rows(dataset, labels)
    rows = rows[rows["metric"] == by]
    measure = kept.measure(dataset, by)
    arrow, unit = (ARROWS.get(measure.better, ""), measure.unit) if measure else ("", "")
    how = "after the search" if searched else "at their defaults"
    best = _mean(
        rows.loc[(rows["label"] == labels[0]) & (rows["status"] == "ok"), "value"].dropna().to_numpy()
    )
    found = [
        f"By {by} {arrow}, {how}, {labels[0]} is first of {plural(len(labels), 'method')} with {best} {unit}."
    ]
    # Every other method against the best.
    if len(labels) > 1:
        told = compare(rows, baseline=[labels[0]]).rows.set_index("method")["verdict"]
        open_ = [label for label in labels[1:] if told.get(label) not in ("better", "worse")]
        seeds = plural(int(rows.groupby("label")["seed"].nunique().max()), "seed")
        found.append(
            f"With {seeds} it cannot be told from {comparison.join(open_)}; the others are worse."
            if 0 < len(open_) < len(labels) - 1
            else f"With {seeds} none of the others can be told from it."
            if open_
            else f"With {seeds} each of the others is worse."
        )
    # What the search did.
    one = next((one for one in kept.searches if one.dataset == dataset), None)
    if one:
        tried = [m for m in one.methods if len(m.settings) > 1]
        better = [m.label for m in tried if m.best]
        drawn = [curve for m in tried if (curve := m.curve) is not None]
        trials = max((len(m.settings) for m in tried), default=1)
        # A search over few seeds may choose what was lucky, and other seeds tell.
        lasting = [name for name in better if _ranked(kept, dataset, [name, f"{name}-tuned"])[0] != name]
        found.append(
            f"Of {plural(len(tried), 'method')} with something to search, {len(better)} found a setting better than "
            f"the default in {plural(trials, 'trial')}. On the seeds of the table {len(lasting)} of these "
            f"{'has' if len(lasting) == 1 else 'have'} a better mean than at the default. The order of two methods "
            f"changes {plural(changes_of_place(drawn), 'time')} along the curves: who wins "
            "depends on how long was searched."
        )
    else:
        found.append("Nothing was searched, so a method with better defaults may not be a better method.")
    # How far the conclusion reaches.
    budget = kept.budget(dataset)
    found.append(
        f"This holds for {budget.get('steps', 0):,} rounds of {budget.get('batch')} examples, these nets and these "
        "test examples, over which the intervals do not reach; it does not say which method is better on other data, "
        "with larger nets or by another value."
    )
    found.append(
        "That a method cannot be told from another does not show that it is as good: more seeds might tell them apart."
    )
    return found


def _ranks_page(everything: Sequence[Standings]) -> str:
    """Ranks over all datasets, each by its own value, where there are enough of them."""
    values: dict[tuple[str, str], pd.Series] = {}
    for kept in everything:
        for dataset in kept.datasets:
            labels = kept.labels(dataset, any(one.dataset == dataset for one in kept.searches))
            rows = kept.rows(dataset, labels)
            rows = rows[rows["metric"] == kept.by[dataset]]
            sign = -1.0 if "lower" in set(rows["better"]) else 1.0
            # A failed seed ranks last: a method must not gain by failing where it would be bad.
            good = (sign * rows["value"]).where(rows["status"] == "ok").fillna(-math.inf)
            for label, own in good.groupby(rows["label"], sort=False):
                values[dataset, str(label)] = own.set_axis(rows.loc[own.index, "seed"])
    labels, datasets = rankings.complete(values)
    ranked = rankings.ranking("the value of each dataset", values)
    head = "## Ranks over datasets"
    if ranked is None:  # with so few datasets no ranks would be significant
        few = plural(len({dataset for dataset, _ in values}), "dataset")
        needed = (
            f"; {len(labels)} methods need {rankings.least_datasets(len(labels))}" if len(labels) > 2 else ""
        )
        return f"{head}\n\nNot shown: {few} can tell no method from the others by ranks{needed}."
    rows = [[_md(label), f"{rank:.2f}"] for label, rank in ranked.ranks.sort_values().items()]
    note = f"Over {comparison.join(datasets)}. {comparison.ranking(ranked)}. {comparison.READING}"
    return f"{head}\n\n{markdown_table(['method', 'mean rank'], rows, (1,))}\n\n{note}"


def _made_page(everything: Sequence[Standings]) -> str:
    """How the scores were made and measured."""
    blocks = ["## How they were made"]
    for kept in everything:
        made = kept.made
        versions = ", ".join(f"{name} {version}" for name, version in (made.get("versions") or {}).items())
        blocks.append(
            f"`{kept.name}`: by `{made.get('command', '')}`, started {made.get('started', '')}, on "
            f"{made.get('device', '')} ({made.get('processor', '')}), Python {made.get('python', '')}, {versions}. "
            f"Scores of each seed: [{kept.name}.csv](../results/reference/standings/{kept.name}.csv)."
        )
    # Most values share the sentence of their protocol with others, so each sentence stands once.
    texts: dict[str, dict[str, None]] = {}
    for kept in everything:
        for measure in kept.measures:
            texts.setdefault(measure.text, {})[
                f"{measure.metric} on {measure.dataset} ({measure.protocol})"
            ] = None
    blocks += [f"- {', '.join(names)}: {_md(text)}" for text, names in texts.items()]
    return "\n\n".join(blocks)
