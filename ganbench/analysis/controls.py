"""Controls of the metrics on the same data, and their verdicts and cautions, which help to interpret the scores."""

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


def _details(cell: Cell) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The metric and the details, without tensors, of every score."""
    for seed in cell.ok:
        for score in seed.scores:
            yield str(score.info.get("metric", "")), score.info.get("details") or {}


def _numbers(details: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The names and numbers of controls: `ceiling`, `train` for `control_train`, and `train precision` if that is a
    mapping."""
    for name, value in details.items():
        if not name.startswith(CONTROLS):
            continue
        words = name.removeprefix("control_").replace("_", " ")
        inside = value if isinstance(value, Mapping) else {"": value}
        for part, number in inside.items():
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield f"{words} {part.replace('_', ' ')}".strip(), float(number)


def verdicts(cells: Sequence[Cell]) -> dict[str, dict[str, Counter[str]]]:
    """metric -> method -> verdict -> number of seeds with it."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for cell in cells:
        for metric, details in _details(cell):
            # Without the numbers in parentheses, which differ between seeds.
            if verdict := str(details.get("verdict") or "").split(" (")[0]:
                counts.setdefault(metric, {}).setdefault(cell.label, Counter())[verdict] += 1
    return counts


def tuned(cells: Sequence[Cell]) -> dict[str, dict[str, str]]:
    """How settings were searched (by what, how long) -> method -> which setting it has."""
    found: dict[str, dict[str, str]] = {}
    for cell in cells:
        setting, comma, how = str(cell.info.get("tuned") or "").partition(", ")
        if setting:
            found.setdefault(how if comma else setting, {})[cell.label] = setting
    return found


def devices(cells: Sequence[Cell]) -> dict[str, Counter[str]]:
    """device -> method -> number of seeds trained on it, without samples made by another program."""
    counts: dict[str, Counter[str]] = {}
    for cell in cells:
        for seed in cell.seeds if cell.info.get("interface") != "samples" else ():
            if device := seed.info.get("device"):
                counts.setdefault(str(device), Counter())[cell.label] += 1
    return counts


def cautions(cells: Sequence[Cell]) -> list[str]:
    """The cautions of the metrics, each text once."""
    texts = (details.get("caution") for cell in cells for _, details in _details(cell))
    return list(dict.fromkeys(str(text) for text in texts if text))
