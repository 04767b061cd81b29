"""The checks of a metric, with held-out examples in place of samples."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, get_args

from ..contracts import Better, Data, Score
from ..errors import PluginError
from ..scoring import protocol
from ..suite.spec import PluginSpec
from .checks import Check, CheckFailed, Checks, Target, as_plugin, documentation, run_checks
from .fixtures import SampledModel, suitable


def check_metric(target: Target, data: Data | None = None, **params: Any) -> list[Check]:
    """Check a metric with these parameters on `data`, or on points or images, according to its needs. Raises
    PluginError if there is no such metric."""
    part = PluginSpec(as_plugin("metric", target), params)
    data = data or suitable(part.plugin.needs)
    if data is None:
        text = f"it has not been run; no data here have {' and '.join(part.plugin.needs)}"
        return [*documentation(part.plugin), Check("it can be tried", text, advice=True)]
    return run_checks(part, lambda: _metric(part, data))


def _metric(part: PluginSpec, data: Data) -> Checks:
    plugin = part.plugin
    undirected = [v.name for v in plugin.values if v.better not in get_args(Better)]
    text = None if plugin.values else "declare its values: @metric(Value('distance', 'nats', 'lower'))"
    if undirected:
        text = f"`better` of {' and '.join(undirected)} must be one of: {', '.join(get_args(Better))}"
    yield Check("its values have a name, a unit and a better side", text)
    metric = part.build()
    sentence = getattr(metric, "protocol", lambda _: "")(data)
    text = None if isinstance(sentence, str) else "protocol(data) must return a sentence (str)"
    yield Check("its protocol is a sentence", text)
    if hasattr(metric, "protocol_fields"):
        try:
            same = protocol(part, data) == protocol(part, data)
            text = None if same else "protocol_fields(data) must return the same mapping every time"
        except PluginError as error:
            text = str(error)
        yield Check("its protocol has a hash that stays the same", text)
    # Twice on the same samples: a score that differs would differ for every reader of a table.
    first, second = (_scores(metric, data) for _ in range(2))
    if len(first) != len(plugin.values) or not all(isinstance(score, Score) for score in first):
        kinds = ", ".join(type(score).__name__ for score in first)
        raise CheckFailed(
            "it gives a Score for each value",
            f"it declares {len(plugin.values)} value(s) but returned: {kinds}; return Score(value), or a tuple of them",
        )
    yield Check("it gives a Score for each value")
    bad = [v.name for v, s in zip(plugin.values, first, strict=True) if not math.isfinite(float(s.value))]
    yield Check(
        "its values are finite", f"{' and '.join(bad)} is NaN or infinite for good samples" if bad else None
    )
    alike = all(
        float(a.value) == float(b.value) for a, b in zip(first, second, strict=True) if a.value == a.value
    )
    text = "the same samples gave another value; take random numbers from model.generator(purpose)"
    yield Check("it gives the same value twice", None if alike else text)
    yield Check("its details can be stored", _storage_issue(first))


def _scores(metric: Any, data: Data) -> tuple[Any, ...]:
    model: Any = SampledModel(data)
    scores = (
        metric(model, data, metric.reference(data)) if hasattr(metric, "reference") else metric(model, data)
    )
    return scores if isinstance(scores, tuple) else (scores,)


def _storage_issue(scores: Sequence[Score]) -> str | None:
    for name, value in (item for score in scores for item in score.details.items()):
        try:
            json.dumps(value, default=lambda v: v.tolist())  # tensors and arrays
        except (TypeError, ValueError, AttributeError):
            return f"details[{name!r}] is a {type(value).__name__}; give numbers, texts, lists or tensors"
    return None
