"""The report of a run, one self-contained HTML file: results, protocols, failures, and how to reproduce them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ..analysis import controls
from ..analysis.check import CheckResult
from ..analysis.compare import Comparison, compare
from ..analysis.search import read_search
from ..analysis.summary import FAILURES, run_summary
from ..errors import RequestError
from ..format import plural, seed_names
from ..store import layout
from ..store.results import Cell, Run, open_run
from . import check, comparison, search, standings, style
from . import figures as plots
from . import tables as table
from .document import environment

MAX_SUITE = 2**24  # bytes of the YAML of a suite
COMMANDS = """ganbench run suite.resolved.yaml    # the same numbers again
ganbench report .                   # this page again, from the records
ganbench compare . --help           # other baselines, chosen metrics"""


@dataclass(frozen=True)
class Protocol:
    """The protocol sentence of some values, with the values and datasets that it applies to."""

    anchor: str
    text: str
    values: tuple[str, ...]
    hashes: tuple[str, ...]
    datasets: tuple[str, ...]


def write(
    run: Path | Run, checked: CheckResult | None = None, outcome: standings.Outcome | None = None
) -> Path:
    """Write `report.html` of a run and return its path; plots that are missing or older than the records are drawn
    first. `checked`: a result of `check`; `outcome`: the place of its methods in the standings; each has a section.
    Raises StoreError for a run that cannot be read or written."""
    run = open_run(run)
    pictures = _pictures(run)
    frame = run_summary(run)
    compared = _comparison(run, frame)
    protocols = _protocols(run)
    files = run.files
    suite = files.read_text(files.path(layout.SUITE), MAX_SUITE) or ""
    script = environment().get_template("report.js").render()
    page = environment().get_template("report.html.j2")
    text = page.render(
        title=str(frame["suite"].iloc[0]) if len(frame) else run.folder.name,
        about=_about(suite),
        meta=_meta(run),
        overview=_overview(run, frame),
        compared=comparison.template_values(compared, copying(run)) if compared else None,
        diagrams=list(_diagrams(compared)) if compared else [],
        against=check.template_values(checked) if checked else None,
        placed=_placed(outcome) if outcome else None,
        sections=_sections(run, pictures),
        searches=[search.table(one) for one in read_search(files)],
        protocols=protocols,
        tuned=[(dataset, table.tuned_notes(run.of(dataset))) for dataset in run.datasets],
        protocol_of={
            (v, h): protocol for protocol in protocols for v in protocol.values for h in protocol.hashes
        },
        score_plots=[picture for picture in pictures if not picture.dataset],
        failures=list(_failures(run)),
        cells=[_trained(cell) for cell in run.cells],
        commands=COMMANDS,
        environment=list(_flatten(files.read_object(files.path(layout.ENVIRONMENT)))),
        suite=suite,
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )
    return files.write(files.path(layout.REPORT), text.encode())


# ---------------------------------------------------------------------------------------------- in words


def _about(suite: str) -> str:
    try:
        about = (yaml.safe_load(suite) or {}).get("about")
    except (yaml.YAMLError, AttributeError, ValueError, TypeError, RecursionError):  # edited by hand
        return ""
    return about if isinstance(about, str) else ""


def _meta(run: Run) -> str:
    """Version, day and devices of the run."""
    finished = max((str(s.info.get("finished") or "") for c in run.cells for s in c.seeds), default="")
    day = re.match(r"\d{4}-\d{2}-\d{2}", finished)
    versions = ", ".join(sorted(set(run.records["version"].dropna().astype(str))))
    parts = [f"ganbench {versions}" if versions else "", f"last training {day[0]}" if day else ""]
    devices = ", ".join(sorted(set(run.records["device"].dropna().astype(str)) - {""}))
    return " · ".join(part for part in [*parts, f"on {devices}" if devices else ""] if part)


def _overview(run: Run, frame: pd.DataFrame) -> str:
    """The number of methods, datasets and training runs, and how many failed."""
    seeds = [seed.status for cell in run.cells for seed in cell.seeds]
    bad = {status: seeds.count(status) for status in FAILURES if status in seeds}
    methods, datasets = frame["label"].nunique(), frame["dataset"].nunique()
    did = f"{plural(methods, 'method')} on {plural(datasets, 'dataset')}, {plural(len(seeds), 'training run')}: "
    ended = ", ".join(f"{count} {status}" for status, count in bad.items())
    return f"{did}{len(seeds) - sum(bad.values())} succeeded, {ended}." if bad else f"{did}all succeeded."


def _comparison(run: Run, frame: pd.DataFrame) -> Comparison | None:
    """The comparison of the first method of each dataset with the others, by all metrics that have one protocol; None
    if there is nothing to compare."""
    mixed = set(frame.loc[frame["mixed"], "metric"])
    metrics = [
        str(n) for n in dict.fromkeys(frame.loc[frame["better"] != "neither", "metric"]) if n not in mixed
    ]
    try:
        return compare(run.records, metric=metrics) if metrics else None
    except RequestError:
        return None


# ---------------------------------------------------------------------------------------------- pictures


_SCALE = 115  # CSS pixels per inch of a figure, so that its text of 8.5 points is as large as the captions


@dataclass(frozen=True)
class Picture:
    """A plot as the page embeds it; width and height in CSS pixels."""

    kind: str
    dataset: str
    title: str
    caption: str
    alt: str
    source: str
    width: int
    height: int
    frames: str  # JSON: the columns of a strip of training steps, as fractions of its width; empty: a single picture


def _pictures(run: Run) -> list[Picture]:
    pictures = plots.read_pictures(run)
    if pictures is None:
        plots.write(run)
        pictures = plots.read_pictures(run) or []
    return [
        _embed(
            content,
            {word: entry[word] for word in ("kind", "dataset", "title", "caption", "alt")},
            entry.get("frames") or (),
        )
        for entry, content in pictures
    ]


def _embed(content: bytes, words: Mapping[str, str], frames: Sequence[Sequence[float]] = ()) -> Picture:
    width, height = (round(side * _SCALE / style.DPI) for side in struct.unpack(">II", content[16:24]))
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return Picture(
        **words, source=source, width=width, height=height, frames=json.dumps(frames) if frames else ""
    )


def _placed(outcome: standings.Outcome) -> dict[str, Any]:
    """What `standings.html.j2` shows, each block with its picture."""
    shown = standings.template_values(outcome)
    drawn = []
    for plot in (block.plot for block in shown["blocks"]):
        with style.style():
            content = style.png(plot.figure) if plot else b""
        words = ("kind", "dataset", "title", "caption", "alt")
        drawn.append(_embed(content, {word: getattr(plot, word) for word in words}) if plot else None)
    return {**shown, "blocks": list(zip(shown["blocks"], drawn, strict=True))}


def _diagrams(compared: Comparison) -> Iterator[Picture]:
    """Critical-difference diagrams."""
    for ranked in compared.rankings:
        words = {
            "title": f"Ranks by {ranked.metric}",
            "caption": comparison.diagram_caption(ranked),
            "alt": comparison.diagram_alt(ranked),
        }
        with style.style():
            content = style.png(comparison.diagram(ranked, style.colours(compared.labels)))
        yield _embed(content, {"kind": "ranks", "dataset": "", **words})


# ---------------------------------------------------------------------------------------------- sections


@dataclass(frozen=True)
class Notice:
    """A warning of a metric, and the methods and seeds concerned."""

    metric: str
    who: str
    text: str


@dataclass(frozen=True)
class Section:
    """One dataset."""

    dataset: str
    anchor: str
    about: str
    table: table.Table
    warnings: Sequence[Notice]
    plots: Sequence[Picture]
    neighbours: Sequence[Picture]
    few: str  # a note if not all methods are drawn
    undrawn: str  # a note if the dataset has no figures of its own since there are many


def _sections(run: Run, pictures: Sequence[Picture]) -> list[Section]:
    sections = []
    drawn = [dataset.label for dataset in plots.drawn_datasets(run)]
    undrawn = f"Figures are drawn of the first {len(drawn)} of {len(run.datasets)} datasets only."
    for i, shown in enumerate(table.dataset_tables(run)):
        own = [picture for picture in pictures if picture.dataset == shown.dataset]
        sections.append(
            Section(
                dataset=shown.dataset,
                anchor=f"dataset-{i}",
                about=_describe(run, shown.dataset),
                table=shown,
                warnings=[*_warnings(run.of(shown.dataset)), *_missing(run, shown.dataset)],
                plots=[picture for picture in own if picture.kind != "neighbours"],
                neighbours=[picture for picture in own if picture.kind == "neighbours"],
                few=plots.omission_note(len(shown.rows)),
                undrawn=undrawn if shown.dataset in run.datasets and shown.dataset not in drawn else "",
            )
        )
    return sections


def _describe(run: Run, label: str) -> str:
    """A dataset in one line: what it is, its shape and its splits."""
    if label not in run.datasets:
        return ""
    info = run.datasets[label].info
    shape = " × ".join(str(side) for side in info.get("shape", ()))
    splits = ((info.get(f"n_{name}"), words) for name, words in _SPLITS.items())
    sizes = ", ".join(f"{size:,} {words}" for size, words in splits if size is not None)
    # The actual parameters, since the description may mention defaults. Sizes of splits follow separately.
    params = info.get("params")
    items = params.items() if isinstance(params, dict) else ()
    actual = ", ".join(
        f"{name} {value}" for name, value in items if value is not None and not name.startswith("n_")
    )
    parts = [str(info.get("about") or "").rstrip("."), actual, f"shape {shape}" if shape else "", sizes]
    return " · ".join(part for part in parts if part)


_SPLITS = {"train": "to train", "valid": "to validate", "test": "to test"}


def _warnings(cells: Sequence[Cell]) -> list[Notice]:
    """The warnings of the metrics, each text once, with the seeds that have it."""
    found: dict[tuple[str, str], dict[str, list[int]]] = {}
    for cell in cells:
        for seed in cell.seeds:
            for score in seed.scores:
                text = (score.info.get("details") or {}).get("warning")
                if text:
                    metric = str(score.info.get("metric", ""))
                    found.setdefault((metric, str(text)), {}).setdefault(cell.label, []).append(seed.number)
    return [
        Notice(metric, "; ".join(f"{label}, {seed_names(numbers)}" for label, numbers in who.items()), text)
        for (metric, text), who in found.items()
    ]


def _missing(run: Run, dataset: str) -> Iterator[Notice]:
    """The figures of metrics that could not be drawn."""
    index = run.files.read_object(run.files.path(layout.PLOT_INDEX))
    for one in index.get("missing") or ():
        if isinstance(one, dict) and one.get("dataset") == dataset:
            yield Notice(str(one.get("metric")), "figure left out", str(one.get("reason")))


def _protocols(run: Run) -> list[Protocol]:
    """The protocol sentences of the scores, each once."""
    found: dict[str, list[dict[str, None]]] = {}
    for cell in run.cells:
        for score in (score for seed in cell.seeds for score in seed.scores):
            for value, protocol in score.values:
                names = found.setdefault(str(score.info.get("protocol_text") or ""), [{}, {}, {}])
                for own, name in zip(names, (value, protocol, cell.dataset), strict=True):
                    own[name] = None
    texts = [(text, map(tuple, names)) for text, names in found.items() if text]
    return [Protocol(f"protocol-{i}", text, *names) for i, (text, names) in enumerate(texts)]


def copying(run: Run) -> dict[str, str]:
    """method -> a sentence which says that it copies examples, if the verdict of a metric on any of its seeds says
    so."""
    found: dict[str, list[str]] = {}
    of_test: set[str] = set()
    for dataset in dict.fromkeys(cell.dataset for cell in run.cells):
        for metric, methods in controls.verdicts(run.of(dataset)).items():
            for label, counts in methods.items():
                copies = {verdict: n for verdict, n in counts.items() if verdict.startswith("copies")}
                if copies:
                    seeds = f"{sum(copies.values())} of {plural(counts.total(), 'seed')}"
                    found.setdefault(label, []).append(f"on {dataset} in {seeds} ({metric})")
                    of_test |= {label} if copies.keys() != {"copies"} else set()
    return {
        label: f"{label} copies {'real' if label in of_test else 'training'} examples: {'; '.join(where)}."
        for label, where in found.items()
    }


# ---------------------------------------------------------------------------------------------- failures


@dataclass(frozen=True)
class Failure:
    """Seeds of a method that failed in the same way."""

    dataset: str
    label: str
    what: str
    seeds: str
    status: str
    reason: str
    trace: str


def _failures(run: Run) -> Iterator[Failure]:
    for cell in run.cells:
        found: dict[tuple[str, str, str, str], list[int]] = {}
        for seed in cell.seeds:
            failed = [
                (str(score.info.get("metric", "")), score.info)
                for score in seed.scores
                if score.info.get("status", "ok") != "ok"
            ]
            if seed.info["status"] != "ok":  # the training, then, and not each of the scores that it has not
                failed = [("training", seed.info)]
            for what, info in failed:
                error = str(info.get("error") or "no reason given").strip()
                trace = str(info.get("traceback") or (error if "\n" in error else ""))
                key = (what, str(info["status"]), error.splitlines()[-1], trace)
                found.setdefault(key, []).append(seed.number)
        for (what, status, reason, trace), numbers in found.items():
            yield Failure(cell.dataset, cell.label, what, seed_names(numbers), status, reason, trace)


# ---------------------------------------------------------------------------------------------- to make it again


@dataclass(frozen=True)
class Trained:
    """How a cell was trained, in words."""

    dataset: str
    label: str
    about: str
    params: str
    tuned: str  # how the parameters were chosen; empty where nobody searched
    train: str
    seconds: str
    where: str


def _trained(cell: Cell) -> Trained:
    info = cell.info
    params = [f"{name} = {value}" for name, value in (info.get("params") or {}).items()]
    for trick in info.get("trick_params") or ():
        inner = ", ".join(f"{name} = {value}" for name, value in trick.get("params", {}).items())
        params.append(f"+ {trick['name']}({inner})")
    budget = info.get("train") or {}
    train = ", ".join(f"{name} = {value}" for name, value in budget.items() if value is not None)
    spent = [float(seed.info["seconds"]) for seed in cell.seeds if seed.info.get("seconds") is not None]
    seconds = f"{sum(spent) / len(spent):.1f}" if spent else ""
    kinds = {
        f"{seed.info.get('device')}, {seed.info.get('dtype')}"
        for seed in cell.seeds
        if seed.info.get("device")
    }
    notes = {str(seed.info["note"]) for seed in cell.seeds if seed.info.get("note")}
    where = "; ".join([*sorted(kinds), *sorted(notes)])
    about = str(info.get("about") or "")
    tuned = str(info.get("tuned") or "")
    return Trained(cell.dataset, cell.label, about, ", ".join(params), tuned, train, seconds, where)


def _flatten(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested object as pairs (dotted name, text); entries of `versions` get no prefix."""
    for name, value in found.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flatten(value, "" if name == "versions" else f"{path}.")
        elif value is not None:
            yield path, " ".join(map(str, value)) if isinstance(value, list) else str(value)
