"""How many samples a metric asks for, found out without computing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from .contracts import Data
from .errors import SampleError
from .suite.spec import PluginSpec


class _Asked:
    """A model that writes down how many samples it is first asked for, and has none."""

    latent = game = nets = None

    def __init__(self) -> None:
        self.n: int | None = None
        self.state: Mapping[str, Tensor] = {}

    def samples(self, n: int) -> Tensor:
        self.n = int(n) if self.n is None else self.n
        raise SampleError("only the number of samples is wanted")

    def generate(self, z: Tensor) -> Tensor:
        raise SampleError("only the number of samples is wanted")

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        return ()

    def generator(self, purpose: str) -> Generator:
        return Generator().manual_seed(0)


def samples_needed(metric: PluginSpec, data: Data) -> int | None:
    """How many samples the metric first asks its model for on these data; None where that cannot be known.

    The metric is called with a model that only writes the number down, with a reference that nothing can be read
    from, and with splits that have shapes but no values (PyTorch's device "meta"), so that what it computes before
    it asks costs nothing. It is not known of a metric that asks for no samples, or reads values first.
    """
    bare = {name: getattr(data, name).to("meta") for name in ("train", "valid", "test")}
    model: Any = _Asked()
    try:
        made = metric.build()
        more = (object(),) if hasattr(made, "reference") else ()
        with torch.random.fork_rng(devices=[]):
            made(model, replace(data, **bare), *more)
    except Exception:  # whatever a metric raises for want of values
        return model.n
    return model.n


def count_setting(metric: PluginSpec, data: Data, n: int) -> tuple[str, int] | None:
    """The parameter, and its value, with which the metric asks for `n` samples, or fewer where it never asks for so
    many; None where no parameter does that.

    The parameter is the first whole number, `n` before the others, that makes the metric ask for less when it falls.
    Its value is `n`, or in proportion where samples are counted by the class or the like. Where nothing is known
    of the metric's need, the parameter is `n`.
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


def too_few(needed: int, at_hand: int) -> str:
    """What is said of a metric that needs more samples than there are."""
    return f"{needed} samples are needed, {at_hand} are at hand"
