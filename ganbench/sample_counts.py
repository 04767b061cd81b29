"""The number of samples that a metric needs, without computing its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from .contracts import Data
from .errors import SampleError
from .suite.spec import PluginSpec


class _CountingModel:
    """A model without samples that records the number of the first request."""

    latent = game = nets = None

    def __init__(self) -> None:
        self.n: int | None = None
        self.state: Mapping[str, Tensor] = {}

    def samples(self, n: int) -> Tensor:
        self.n = int(n) if self.n is None else self.n
        raise SampleError("this model only records the number of samples")

    def generate(self, z: Tensor) -> Tensor:
        raise SampleError("this model only records the number of samples")

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        return ()

    def generator(self, purpose: str) -> Generator:
        return Generator().manual_seed(0)


def samples_needed(metric: PluginSpec, data: Data) -> int | None:
    """The number of samples that the metric first requests from its model on these data; None if it is unknown.

    The metric is called with a model that only records the number, with an opaque reference, and with splits on
    PyTorch's device "meta", which have shapes but no values, so that anything it computes before the request costs
    nothing. The number is unknown for a metric that requests no samples, or that reads values first.
    """
    meta = {name: getattr(data, name).to("meta") for name in ("train", "valid", "test")}
    model: Any = _CountingModel()
    try:
        made = metric.build()
        reference = (object(),) if hasattr(made, "reference") else ()
        with torch.random.fork_rng(devices=[]):
            made(model, replace(data, **meta), *reference)
    except Exception:  # any error, since there are no values
        return model.n
    return model.n


def count_setting(metric: PluginSpec, data: Data, n: int) -> tuple[str, int] | None:
    """The parameter and its value with which the metric requests `n` samples, or fewer if it never requests so many;
    None if there is no such parameter.

    The parameter is the first integer one, `n` before the others, whose decrease makes the metric request fewer
    samples. Its value is `n`, or in proportion, for example if samples are counted per class. If the number of samples
    is unknown, the parameter is `n`.
    """
    needed = samples_needed(metric, data)
    counts = [param.name for param in metric.plugin.params if "int" in param.annotation.split(" | ")]
    if needed is None:
        return ("n", n) if "n" in counts else None
    for name in sorted(counts, key=lambda name: name != "n"):
        now = metric.resolved.get(name)
        value = now if isinstance(now, int) else needed
        less = samples_needed(with_param(metric, name, min(value, needed) - 1), data)
        if less is None or less >= needed:
            continue
        for choice in (n, value * n // needed):
            asked = samples_needed(with_param(metric, name, choice), data)
            if asked is not None and asked <= n:
                return name, choice
    return None


def with_param(metric: PluginSpec, name: str, value: int) -> PluginSpec:
    """The metric with another value of one parameter."""
    return replace(metric, params={**metric.params, name: value})


def too_few(needed: int, available: int) -> str:
    """The error of a metric that needs more samples than are available."""
    return f"{needed} samples are needed, {available} are available"
