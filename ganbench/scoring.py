"""Scores a trained seed by a metric: records for the tables, details for the plots."""

from __future__ import annotations

import hashlib
import json
import math
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import __version__
from .contracts import Data, Model, Record, Score, Status, Value
from .errors import GanbenchError, PluginError, SampleError
from .sample_counts import count_setting, samples_needed, too_few
from .suite.load import PluginSpec
from .suite.plan import Cell
from .training.loop import out_of_memory
from .training.model import SampleModel
from .training.rng import derive
from .training.trained import TrainedSeed


@dataclass(frozen=True)
class ScoredSeed:
    """One metric of one seed."""

    seed: int
    index: int  # of the metric in its cell
    metric: str
    status: Status
    error: str | None
    traceback: str | None
    records: tuple[Record, ...]
    details: Mapping[str, Any]  # as a JSON object, without tensors
    tensors: Mapping[str, Tensor]


def protocol(metric: PluginSpec, data: Data) -> tuple[str, str]:
    """The protocol of a metric on these data: a hash of 8 hexadecimal digits, and a sentence for readers.

    Values with different hashes are never compared. The hash covers the metric's name, version and parameters, and its
    `protocol_fields(data)`; if it has none, its sentence, which then cannot be reworded without changing the hash.
    Raises PluginError if the metric cannot be created, or if its fields are not a mapping that can be written as JSON.
    """
    plugin, made = metric.plugin, metric.build()
    try:
        sentence = str(made.protocol(data)) if hasattr(made, "protocol") else ""
        fields = made.protocol_fields(data) if hasattr(made, "protocol_fields") else sentence
        # No `default=str`: an object's text may contain its address, and the hash would change with every run.
        hashed = json.dumps(fields, sort_keys=True)
    except Exception as error:
        raise PluginError(f"{plugin.path}: the protocol of {plugin.name} failed: {explain(error)}") from error
    if not isinstance(fields, Mapping | str):
        raise PluginError(
            f"{plugin.path}: protocol_fields of {plugin.name} must return a mapping of names to numbers and texts; "
            f"it returned a {type(fields).__name__}"
        )
    identity = [plugin.name, plugin.version, dict(metric.resolved), json.loads(hashed)]
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8], sentence


@dataclass
class Scorer:
    """Scores the seeds of one cell. The reference of a metric, which depends on the data alone, is computed once."""

    cell: Cell
    data: Data
    references: dict[int, Any] = field(default_factory=dict)

    def __call__(self, index: int, model: Model, trained: TrainedSeed) -> ScoredSeed:
        """Score one seed by the metric of this index. Never raises: an exception gives the status "failed" (or "oom"),
        and a value that is NaN or infinite gives a record without a value, whose error says so."""
        started = time.monotonic()
        try:
            scores = self._measure(index, model, trained.seed)
        except Exception as error:
            status: Status = "oom" if out_of_memory(error) else "failed"
            trace = traceback.format_exc()
            return unmeasured(self.cell, index, trained, status, explain(error), trace)
        # The details of all scores, with controls and sentences: the part for JSON, and the tensors, on the CPU.
        merged = {name: value for score in scores for name, value in score.stored.items()}
        arrays = {name: value for name, value in merged.items() if isinstance(value, Tensor | np.ndarray)}
        details = {name: _plain(value) for name, value in merged.items() if name not in arrays}
        tensors = {name: torch.as_tensor(value).detach().cpu() for name, value in arrays.items()}
        seconds = max(0.0, time.monotonic() - started)
        metric = self.cell.metrics[index]
        records = [
            _record(self.cell, index, trained, column, score, seconds, floor=_floor(value, score, scores))
            for column, value, score in zip(metric.values, metric.plugin.values, scores, strict=True)
        ]
        return ScoredSeed(
            trained.seed, index, metric.name, "ok", None, None, tuple(records), details, tensors
        )

    def _measure(self, index: int, model: Model, seed: int) -> tuple[Score, ...]:
        metric = self.cell.metrics[index]
        # Too few samples are an error before the reference is computed in vain.
        if isinstance(model, SampleModel):
            needed, at_hand = samples_needed(metric, self.data), len(model.stored)
            if needed is not None and needed > at_hand:
                setting, name = count_setting(metric, self.data, at_hand), metric.plugin.name
                advice = f"; `{name}: {{{setting[0]}: {setting[1]}}}` scores these" if setting else ""
                raise SampleError(too_few(needed, at_hand) + advice)
        made = metric.build()
        # For metrics that draw from PyTorch's global generator instead of the model's.
        torch.manual_seed(derive(seed, f"score/{metric.plugin.name}"))
        if not hasattr(made, "reference"):
            found = made(model, self.data)
        else:
            if index not in self.references:
                self.references[index] = made.reference(self.data)
            found = made(model, self.data, self.references[index])
        scores = found if isinstance(found, tuple) else (found,)
        expected = len(metric.plugin.values)
        if len(scores) != expected or not all(isinstance(score, Score) for score in scores):
            kinds = ", ".join(type(score).__name__ for score in scores)
            raise PluginError(
                f"{metric.plugin.path}: {metric.plugin.name} declares {expected} value(s), so it must return "
                f"{'a Score' if expected == 1 else f'a tuple of {expected} Scores'}; it returned: {kinds}"
            )
        return scores


def unmeasured(
    cell: Cell, index: int, trained: TrainedSeed, status: Status, error: str, trace: str | None = None
) -> ScoredSeed:
    """The score of a metric without values, because training or scoring failed."""
    metric = cell.metrics[index]
    records = tuple(_record(cell, index, trained, value, None, 0.0, status, error) for value in metric.values)
    return ScoredSeed(trained.seed, index, metric.name, status, error, trace, records, {}, {})


def explain(error: BaseException) -> str:
    """An exception as text; any but ganbench's own with its type."""
    return str(error) if isinstance(error, GanbenchError) else f"{type(error).__name__}: {error}"


def _record(
    cell: Cell,
    index: int,
    trained: TrainedSeed,
    column: Value,
    score: Score | None,
    seconds: float,
    status: Status = "ok",
    error: str | None = None,
    floor: float | None = None,
) -> Record:
    value = float(score.value) if score else None
    if value is not None and not math.isfinite(value):
        value, status, error = None, "failed", f"{column.name} is {value}, which cannot be averaged"
    sem = float(score.sem) if score and score.sem is not None else None
    return Record(
        **cell.columns,
        seed=trained.seed,
        metric=column.name,
        protocol=cell.protocols[index][0],
        value=value,
        sem=sem if sem is not None and math.isfinite(sem) else None,
        n=int(score.n) if score and score.n is not None else None,
        unit=column.unit,
        better=column.better,
        status=status,
        error=error,
        seconds=seconds,
        train_seconds=trained.seconds,
        device=trained.device,
        dtype=trained.dtype,
        stack=trained.stack,
        version=__version__,
        floor=floor,
        invalid=str(score.stored["invalid"]) if score and score.stored.get("invalid") else None,
    )


def _floor(column: Value, score: Score, scores: Sequence[Score]) -> float | None:
    """The best floor among the controls of a value (see `contracts.Score`); None if there is none."""
    stated = [(key, value) for key, value in score.stored.items() if not isinstance(value, Mapping)]
    for one in scores:
        stated += [
            (key, part.get(column.name)) for key, part in one.stored.items() if isinstance(part, Mapping)
        ]
    floors = [
        x for key, x in stated if key.startswith("floor") and isinstance(x, int | float) and math.isfinite(x)
    ]
    if not floors or column.better == "neither":
        return None
    return float(max(floors) if column.better == "higher" else min(floors))


# ---------------------------------------------------------------------------------------------- details


def _plain(value: Any) -> Any:
    """A value that can be written as JSON: NaN and infinity become None, unknown objects become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)
