"""A comparison in plain sentences, as text for a terminal, as JSON, and as files of a run: tables and
critical-difference diagrams."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..analysis.compare import ALPHA, Comparison
from ..analysis.rankings import Ranking
from ..analysis.stats import MAX_SEEDS
from ..analysis.verdicts import UNCLEAR, UNLEARNED
from ..format import number, p_value, plural
from ..store import layout
from ..store.files import Folder
from . import style
from .document import render, terminal
from .tables import guarded_csv

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.figure import Figure

SCHEMA = 3  # increased when programs that read the JSON would have to change
HEADS = ("metric", "dataset", "difference", "wins", "p", "verdict")
RANK_HEADS = ("method", "mean rank", "beats, % of all other seeds [95 % bootstrap interval]")
_STYLES = {"better": "green", "worse": "red", UNLEARNED: "yellow", UNCLEAR: ""}
_ORDER = ("better", "worse", UNLEARNED, UNCLEAR)
Row = Mapping[Hashable, Any]

# ---------------------------------------------------------------------------------------------- in words


def headlines(rows: pd.DataFrame) -> list[str]:
    """`b is better than a on modes and kde_ll, worse on recon_mse; on coverage can't tell with 5 seeds.`, one for
    each method and baseline of `compare.Comparison.rows`."""
    return [
        _headline(str(method), str(baseline), own)
        for (method, baseline), own in rows.groupby(["method", "baseline"], sort=False)
    ]


def _headline(method: str, baseline: str, rows: pd.DataFrame) -> str:
    found: dict[str, list[str]] = {verdict: [] for verdict in _ORDER}
    for metric, own in rows.groupby("metric", sort=False):
        for verdict, part in own.groupby("verdict", sort=False):
            where = "" if len(part) == len(own) else f" ({join(list(part['dataset']))})"
            found[str(verdict)].append(f"{metric}{where}")
    open_ = rows[rows["verdict"] == UNCLEAR].to_dict("records")
    decided = [f"{v} than {baseline} on {join(found[v])}" for v in ("better", "worse") if found[v]]
    parts = [f"{method} is {', and '.join(decided)}"] if decided else []
    if found[UNLEARNED]:
        parts.append(f"{UNLEARNED} on {join(found[UNLEARNED])}, where both are no better than the floor")
    if open_:
        counts = [min(row["seeds"], row["seeds_baseline"]) for row in open_]
        least, most = min(counts), max(counts)
        seeds = plural(least, "seed") if least == most else f"{least}–{most} seeds"
        parts.append(f"{UNCLEAR} with {seeds} on {join(found[UNCLEAR])}{_enough(open_)}")
    return f"{'' if decided else f'{method} or {baseline}: '}{'; '.join(parts)}."


def _enough(rows: Sequence[Row]) -> str:
    """`, where about 11 to 40 would do for the differences seen`; "" if no number can be given."""
    needed = [int(row["seeds_needed"]) for row in rows if not pd.isna(row["seeds_needed"])]
    if not needed or len(needed) < len(rows):
        return ""
    seen = "the difference seen" if len(needed) == 1 else "the differences seen"
    if min(needed) > MAX_SEEDS:
        return f", where more than {MAX_SEEDS:,} would be needed for {seen}"
    most = f" to more than {MAX_SEEDS:,}" if max(needed) > MAX_SEEDS else f" to {max(needed)}"
    return f", where about {min(needed)}{most if max(needed) > min(needed) else ''} would do for {seen}"


def verdicts(rows: pd.DataFrame, overall: pd.DataFrame) -> list[str]:
    """One sentence for each row of `compare.Comparison.overall`, with the numbers of its datasets."""
    names = ["method", "baseline", "metric"]
    groups = {key: own.to_dict("records") for key, own in rows.groupby(names, sort=False)}
    return [
        _verdict(row, groups[row["method"], row["baseline"], row["metric"]])
        for row in overall.to_dict("records")
    ]


def _verdict(overall: Row, rows: Sequence[Row]) -> str:
    method, baseline, metric = (overall[name] for name in ("method", "baseline", "metric"))
    by = {verdict: [row for row in rows if row["verdict"] == verdict] for verdict in _ORDER}
    parts = [
        f"{verdict} on {'; on '.join(_numbers(row) for row in own)}" for verdict, own in by.items() if own
    ]
    win = f"wins {wins(overall['improvement'], overall['low'], overall['high'])} of the pairs of seeds"
    return f"{method} against {baseline} by {metric}: {'; '.join(parts)}. It {win}."


def _numbers(row: Row) -> str:
    """`ring (+2.1 [1.2, 3.0] modes, p = 0.004)`; for an open verdict also the number of seeds needed."""
    found = [difference(row)] if math.isfinite(row["difference"]) else []
    found += [f"p {p_value(row['p_corrected'])}"] if math.isfinite(row["p_corrected"]) else []
    found += failed(row)
    if row["verdict"] in (UNCLEAR, UNLEARNED):
        found.append(why(row))
    return f"{row['dataset']} ({', '.join(found)})"


def difference(row: Row) -> str:
    """`+2.1 [1.2, 3.0] modes`"""
    width = (row["high"] - row["low"]) / 4  # about its standard error
    mean, low, high = (number(row[name], width).replace("-", "−") for name in ("difference", "low", "high"))
    sign = "+" if row["difference"] > 0 else ""
    return f"{sign}{mean}{f' [{low}, {high}]' if low else ''} {row['unit']}"


def wins(value: float, low: float, high: float) -> str:
    """`96 % [88, 100]`; only `96 %` if the interval is NaN."""
    interval = f" [{100 * low:.0f}, {100 * high:.0f}]" if math.isfinite(low) else ""
    return f"{100 * value:.0f} %{interval}"


def short(row: Row) -> str:
    """The verdict; for an open one also the number of seeds needed: `can't tell (14 seeds)`."""
    needed = row["seeds_needed"]
    if pd.isna(needed) or row["difference"] == 0:
        unfair = row["verdict"] == UNCLEAR and row["p_corrected"] < 0.05
        return f"{UNCLEAR} (failures)" if unfair else row["verdict"]
    return f"{row['verdict']} ({f'> {MAX_SEEDS:,}' if needed > MAX_SEEDS else needed} seeds)"


def full(row: Row) -> str:
    """The verdict, the number of failed seeds, and the reason for an open verdict."""
    parts = [*failed(row), *([why(row)] if row["verdict"] in (UNCLEAR, UNLEARNED) else [])]
    return f"{row['verdict']}{': ' if parts else ''}{', '.join(parts)}"


def failures(rows: pd.DataFrame) -> list[str]:
    """`1 of 5 seeds of gan failed on ring.`, once for each method and dataset."""
    found = {}
    for row in rows.to_dict("records"):
        for end, name in (("", "method"), ("_baseline", "baseline")):
            bad, all_ = row[f"seeds{end}"] - row[f"n_ok{end}"], row[f"seeds{end}"]
            if bad:
                found[f"{bad} of {all_} seeds of {row[name]} failed on {row['dataset']}."] = None
    return list(found)


def why(row: Row) -> str:
    """The reason for the verdict "can't tell", and the seeds needed; or the floor that neither method beats."""
    if row["verdict"] == UNLEARNED:
        return f"floor {join(list(dict.fromkeys(f'{row[x]:.4g}' for x in ('floor', 'floor_baseline'))))}"
    least, needed = min(row["n_ok"], row["n_ok_baseline"]), row["seeds_needed"]
    if row["p_corrected"] < 0.05:
        return "the better mean is that of the one that failed more often"
    if not math.isfinite(row["p"]):
        return "one seed does not show how much seeds vary"
    if row["test"] == "Fisher" or pd.isna(needed):
        return "too few seeds succeeded"
    if row["difference"] == 0:
        return f"no difference was seen in {least} seeds"
    if needed > MAX_SEEDS:
        return f"more than {MAX_SEEDS:,} seeds"
    return f"about {needed} seeds would do"


def failed(row: Row) -> list[str]:
    """`2 of 5 seeds failed`, for the method and for the baseline."""
    sides = (("", "seeds", "n_ok"), (f" of {row['baseline']}", "seeds_baseline", "n_ok_baseline"))
    return [
        f"{row[all_] - row[ok]} of {row[all_]} seeds{whose} failed"
        for whose, all_, ok in sides
        if row[ok] < row[all_]
    ]


def excluded(invalid: Mapping[tuple[str, ...], str]) -> list[str]:
    """A sentence for each value that is left out because it is not valid (`Comparison.invalid`)."""
    return [
        f"Not compared because it is not valid: {metric} of {label} on {dataset} ({reason})."
        for (dataset, label, metric, _), reason in invalid.items()
    ]


def notes(compared: Comparison) -> list[str]:
    """What was left out of a comparison, and how to read it."""
    rows = compared.rows
    tested = int(rows["p"].notna().sum())
    found = []
    if compared.repeated:
        found.append(
            f"{plural(compared.repeated, 'result')} found in several of the directories; the first was used."
        )
    found += excluded(compared.invalid)
    if tested:
        many = f", corrected by Holm's method for {tested} comparisons" if tested > 1 else ""
        found.append(
            f"p: how often seeds alone would give a difference as large{many}. If no methods differed, at most "
            f"{100 * ALPHA:.0f} % of such tables would say better or worse anywhere."
        )
    if rows["low"].notna().any():
        found.append(
            "Brackets: 95 % t interval of the difference, not corrected for the number of comparisons. It excludes 0 "
            "exactly if the uncorrected p is below 0.05."
        )
    # Readers who know that t assumes normality ask for a sign or rank test: say why there is none.
    pairs = rows.loc[rows["pairs"] > 0, "pairs"]
    least = 2.0 ** (1 - int(pairs.min())) if len(pairs) else 0.0  # p of signs or ranks that all agree
    if least > ALPHA / max(tested, 1):
        found.append(
            f"With {pairs.min()} pairs of seeds no sign or rank test can give p below {least:.3g}; p is from the "
            "paired t-test, which assumes that differences between seeds are about normal."
        )
    if (rows["verdict"] == UNLEARNED).any():
        found.append(
            f"{UNLEARNED.capitalize()}: both means are no better than the floor, which a trivial sampler reaches, so "
            "that neither is called better, whatever p is."
        )
    if rows["seeds_needed"].notna().any():
        found.append(
            "The seeds that would do find a difference of the observed size in 8 of 10 cases; that size is itself an "
            "estimate. Run again with --seeds to add seeds; fewer metrics, chosen beforehand, need fewer."
        )
    if (rows["test"] == "Welch").any():
        found.append(
            "If two methods have different seeds, or too few in common, the test is Welch's, unpaired."
        )
    if ((rows["n_ok"] < rows["seeds"]) | (rows["n_ok_baseline"] < rows["seeds_baseline"])).any():
        found.append(
            "A failed seed is left out of the mean, but it loses every comparison of seeds, and a method that fails "
            "more often is not called better."
        )
    if compared.alone:
        found.append(f"Not compared: {join(compared.alone)}.")
    found += [
        f"No critical-difference diagram of {methods} methods: it takes {datasets} datasets or more to tell even a "
        "method that is first on all of them from the others."
        for methods, datasets in compared.undrawn.items()
    ]
    return found


def join(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# ---------------------------------------------------------------------------------------------- rankings

READING = (
    "Mean ranks: 1 is best, a failed seed ranks last. Two methods whose ranks differ by less than the critical "
    "difference may be in the opposite order on other datasets (Nemenyi's test at 5 %), whatever the seeds on each "
    "dataset show."
)


def ranking(ranked: Ranking) -> str:
    """The number of datasets, Friedman's p and the critical difference."""
    left = f"; no valid value on all of these: {', '.join(ranked.left_out)}" if ranked.left_out else ""
    return (
        f"{ranked.datasets} datasets; Friedman's test: p {p_value(ranked.p)}; critical difference "
        f"{ranked.critical:.2f}{left}"
    )


def diagram_caption(ranked: Ranking) -> str:
    """The caption of the critical-difference diagram; show `READING` near it."""
    bars = "A bar joins methods whose ranks differ by less than the critical difference."
    return f"Mean ranks by {ranked.metric} over {ranking(ranked)}. {bars}"


def diagram_alt(ranked: Ranking) -> str:
    """The alternative text of the critical-difference diagram."""
    each = ", ".join(f"{label} {rank:.2f}" for label, rank in ranked.ranks.sort_values().items())
    return f"Critical-difference diagram of {ranked.metric}; mean ranks: {each}."


# ---------------------------------------------------------------------------------------------- cells of tables


def _cells(row: Row) -> tuple[str, ...]:
    """The cells of one comparison, under `HEADS`."""
    known = math.isfinite(row["p_corrected"])
    return (
        f"{row['metric']} {'↑' if row['better'] == 'higher' else '↓'}",
        row["dataset"],
        difference(row) if math.isfinite(row["difference"]) else "–",
        wins(*(row[f"improvement{end}"] for end in ("", "_low", "_high"))),
        p_value(row["p_corrected"]).removeprefix("= ") if known else "–",
        full(row),
    )


def _rank_cells(compared: Comparison, ranked: Ranking) -> list[tuple[str, ...]]:
    """The cells of each method, under `RANK_HEADS`, the best first."""
    rows = compared.win_rates[compared.win_rates["metric"] == ranked.metric].to_dict("records")
    shares = {}
    for row in rows:
        ends = f" [{row['low']:.0f}, {row['high']:.0f}]" if math.isfinite(row["low"]) else ""
        shares[row["label"]] = f"{row['iqm']:.0f}{ends}"
    return [(str(label), f"{rank:.2f}", shares[label]) for label, rank in ranked.ranks.sort_values().items()]


def template_values(compared: Comparison, copying: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The variables of the templates. `lines`: for each comparison its row (None for NaN) and its cells under `HEADS`.
    `copying`: method -> a sentence which says that it copies training examples; shown with the headline, since such a
    method is better than others by most metrics."""
    rows = compared.rows.to_dict("records")
    pairs = dict.fromkeys((row["method"], row["baseline"]) for row in rows)
    warnings = [" ".join((copying or {})[name] for name in pair if name in (copying or {})) for pair in pairs]
    return {
        "headlines": [
            f"{text} {more}".rstrip() for text, more in zip(compared.headlines, warnings, strict=True)
        ],
        "lines": list(zip(_objects(compared.rows), map(_cells, rows), strict=True)),
        "notes": [*compared.notes, *([READING] if compared.rankings else [])],
    }


# ---------------------------------------------------------------------------------------------- formats


def as_text(compared: Comparison, width: int = 100, color: bool = False) -> str:
    """For each method and baseline a sentence and its numbers, then the ranks of all methods, then the notes."""
    parts: list[Any] = []
    groups = compared.rows.groupby(["method", "baseline"], sort=False)
    for headline, (_, rows) in zip(compared.headlines, groups, strict=True):
        lines = []
        for row in rows.to_dict(
            "records"
        ):  # shorter, to fit a terminal: no unit, interval of wins or reasons
            metric, dataset, change, won, p, _ = _cells(row)
            lines.append(
                (metric, dataset, change.removesuffix(f" {row['unit']}"), won.split(" [")[0], p, short(row))
            )
        failed = [Text(f"  {text}", "yellow") for text in failures(rows)]
        parts += [Text(headline, "bold"), *failed, _grid(lines, HEADS)]
    for ranked in compared.rankings:
        head = Text.assemble((f"All methods by {ranked.metric}", "bold"), f": {ranking(ranked)}")
        parts += [head, _grid(_rank_cells(compared, ranked), RANK_HEADS)]
    return terminal([*parts, *map(Text, template_values(compared)["notes"])], width, color)


def _grid(lines: Iterable[Sequence[str]], heads: Sequence[str]) -> Padding:
    """A table of these lines; the last cell is coloured by its verdict."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in heads:
        grid.add_column(Text(head), overflow="fold", no_wrap=head in HEADS[2:])
    for *cells, last in lines:
        colour = next((colour for verdict, colour in _STYLES.items() if last.startswith(verdict)), "")
        grid.add_row(*map(Text, cells), Text(last, colour))
    return Padding(grid, (0, 0, 1, 2))


def as_json(compared: Comparison, files: Sequence[Path] = ()) -> str:
    """One object: `schema`, `alpha`, `headlines`, `verdicts`, `notes`, `files`, and lists of objects `comparisons`,
    `overall` and `standings` (its `win_rates`), whose names are those of `compare.Comparison`, and `rankings`."""
    found = {
        "schema": SCHEMA,
        "alpha": ALPHA,
        "headlines": compared.headlines,
        "verdicts": compared.verdicts,
        "comparisons": _objects(compared.rows),
        "overall": _objects(compared.overall),
        "standings": _objects(compared.win_rates),
        "rankings": [
            {
                **{name: getattr(ranked, name) for name in ("metric", "datasets", "p", "critical")},
                "ranks": ranked.ranks.to_dict(),
                "apart": ranked.apart.to_dict("index"),
                "left_out": list(ranked.left_out),
            }
            for ranked in compared.rankings
        ],
        "notes": list(compared.notes),
        "files": [str(path) for path in files],
    }
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _objects(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Rows as objects, None for what there is not."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def as_markdown(compared: Comparison) -> str:
    """Verdicts first, then the numbers."""
    rankings = [
        (ranked.metric, _rank_cells(compared, ranked), diagram_caption(ranked))
        for ranked in compared.rankings
    ]
    return render(
        "compare.md.j2", **template_values(compared), heads=HEADS, rank_heads=RANK_HEADS, rankings=rankings
    )


def write(folder: Path, compared: Comparison) -> list[Path]:
    """Write `tables/compare.{csv,md}` and `plots/critical-difference-<metric>.{png,svg}` of a run and return their
    paths; diagrams of an earlier comparison are removed. Raises StoreError if the folder cannot be written."""
    files = Folder(Path(folder))
    # Beside each comparison stands the probability of improvement over all datasets.
    names = ["method", "baseline", "metric"]
    ends = (("improvement", ""), ("low", "_low"), ("high", "_high"))
    wins = {name: f"improvement_all{end}" for name, end in ends}
    overall = compared.overall[[*names, *wins]].rename(columns=wins)
    contents = {
        layout.table("compare.csv"): guarded_csv(compared.rows.merge(overall, on=names, how="left")).encode(),
        layout.table("compare.md"): as_markdown(compared).encode(),
    }
    for ranked in compared.rankings:
        with style.style():
            figure = diagram(ranked, style.colours(compared.labels))
            contents[layout.plot(ranked.name, "png")] = style.png(figure)
            contents[layout.plot(ranked.name, "svg")] = style.svg(figure)
    written = [files.write(files.path(name), content) for name, content in contents.items()]
    for path in files.path(layout.PLOTS).glob("critical-difference-*"):
        if path not in written:
            files.remove_file(path)
    return written


def diagram(ranked: Ranking, colours: Mapping[str, str]) -> Figure:
    """The critical-difference diagram (Demšar 2006); call it under `style.style()`. `colours`: label -> colour, as in
    the other plots of the run."""
    from matplotlib.figure import Figure
    from scikit_posthocs import critical_difference_diagram

    k = len(ranked.ranks)
    figure = Figure(figsize=(6.6, 0.9 + 0.24 * (k + 1)), layout="constrained")
    ax = figure.subplots()
    # Shorten the labels, but keep them distinct.
    names: dict[str, str] = {}
    for label in map(str, ranked.ranks.index):
        name = style.shortened(label)
        names[label] = name if name not in names.values() else f"{name} ({len(names) + 1})"
    critical_difference_diagram(
        ranked.ranks.rename(index=names),
        ranked.apart.rename(index=names, columns=names),
        ax=ax,
        label_fmt_left="{label}  {rank:.2f} ",
        label_fmt_right=" {rank:.2f}  {label}",
        label_props={"fontsize": 8.5},
        marker_props={"s": 14},
        elbow_props={"linewidth": 1.1},
        crossbar_props={"color": style.INK, "linewidth": 3, "solid_capstyle": "butt"},
        color_palette={names[label]: style.contrasting(colours[label], 4.5) for label in ranked.ranks.index},
        text_h_margin=0.06 * (k - 1),
    )
    ax.spines["top"].set_visible(True)
    ax.set(xlim=(0.6, k + 0.4), xticks=range(1, k + 1), title=f"mean rank by {ranked.metric} (1 is best)")
    return style.settle(figure)
