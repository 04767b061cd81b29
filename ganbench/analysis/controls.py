"""What stands beside a number so that it can be read: controls on the same data, cautions, verdicts in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ..contracts import CONTROLS
from ..store.results import Cell, Run

COLUMNS = ("dataset", "label", "metric", "control", "value", "n")


def controls(run: Run) -> pd.DataFrame:
    """A row for each control of each metric and method: `value`, its mean over the `n` seeds that have it."""
    rows = [
        (cell.dataset, cell.label, metric, name, value)
        for cell in run.cells
        for metric, details in _details(cell)
        for name, value in _numbers(details)
    ]
    frame = pd.DataFrame(rows, columns=pd.Index([name for name in COLUMNS if name != "n"]))
    groups = frame.groupby([name for name in COLUMNS if name not in ("value", "n")], sort=False)["value"]
    return groups.agg(value="mean", n="count").reset_index()


def notes(run: Run) -> dict[str, tuple[str, ...]]:
    """For each dataset what its seeds were trained on, if on several devices, and the verdicts and cautions of its
    metrics, a sentence each."""
    datasets = dict.fromkeys(cell.dataset for cell in run.cells)
    return {dataset: (*_devices(run.of(dataset)), *_said(run.of(dataset))) for dataset in datasets}


def _devices(cells: Sequence[Cell]) -> Iterator[str]:
    """Which seeds were trained where, if not all on one device: keys do not hold it, and a seed's minibatches follow
    from it. Samples that were made elsewhere were trained on none that is known."""
    trained: dict[str, Counter[str]] = {}
    for cell in cells:
        for seed in cell.seeds if cell.info.get("rung") != "samples" else ():
            if device := seed.info.get("device"):
                trained.setdefault(str(device), Counter())[cell.label] += 1
    if len(trained) > 1:
        each = "; ".join(f"{device}: {_counted(labels)}" for device, labels in sorted(trained.items()))
        yield f"Trained on several devices, on which a seed has other minibatches and roundings: {each} seeds."


def _details(cell: Cell) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The metric and the details, less its tensors, of every score."""
    for seed in cell.ok:
        for score in seed.scores:
            yield str(score.info.get("metric", "")), score.info.get("details") or {}


def _numbers(details: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """`ceiling`, and `train` of `control_train`, or `train precision` where that holds several."""
    for name, value in details.items():
        if not name.startswith(CONTROLS):
            continue
        words = name.removeprefix("control_").replace("_", " ")
        inside = value if isinstance(value, Mapping) else {"": value}
        for part, number in inside.items():
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield f"{words} {part.replace('_', ' ')}".strip(), float(number)


def _said(cells: Sequence[Cell]) -> Iterator[str]:
    """Verdicts, counted over the seeds of each method, and cautions."""
    verdicts: dict[str, dict[str, Counter[str]]] = {}
    cautions: dict[str, None] = {}
    for cell in cells:
        for metric, details in _details(cell):
            if verdict := str(details.get("verdict") or "").split(" (")[0]:
                verdicts.setdefault(metric, {}).setdefault(cell.label, Counter())[verdict] += 1
            if caution := details.get("caution"):
                cautions[str(caution)] = None
    for metric, methods in verdicts.items():
        each = "; ".join(f"{label}: {_counted(counts)}" for label, counts in methods.items())
        yield f"Verdict of {metric}, by seeds: {each}."
    yield from cautions


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{verdict} ({count})" for verdict, count in counts.most_common())
