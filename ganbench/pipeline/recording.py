"""Functions of tensors, recorded once as the tensor operations that they come to, and played back after that.

Losses of small nets cost more in Python, vmap and autograd than in arithmetic. A recording is the same operations
on the same numbers without those, so it changes no result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ..errors import PluginError
from .simplify import simplify

WORTH = 500  # calls from which on a recording pays for itself: it takes as long as some hundred of them
FIRST = 3  # the call that is recorded: the ones before fill caches that change what is computed
CLOSE = 1e-3  # of the largest number; what a recording misses is a whole term

Function = Callable[..., tuple[Tensor, ...]]


class Recorded:
    """Plays a function of tensors back, and asks the function itself at the calls 4, 8, 16, ... whether that is
    still right. One that cannot be recorded is called as it is."""

    def __init__(self, function: Function, of: str) -> None:
        self.function, self.of = function, of
        self.calls, self.playback = 0, function

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        """Raises PluginError where the function depends on more than its inputs."""
        self.calls += 1
        if self.calls == FIRST:
            self.playback = _record(self.function, inputs)
        if self.playback is self.function:
            return self.function(*inputs)
        with torch.no_grad():
            found = self.playback(*inputs)
        if self.calls.bit_count() == 1:
            self._check(found, self.function(*inputs))
        return found

    def _check(self, found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
        for one, other in zip(found, expected, strict=True):
            one, other = torch.nan_to_num(one), torch.nan_to_num(other)
            if float((one - other).abs().max()) > CLOSE * float(other.abs().max()):
                raise PluginError(
                    f"{self.of} gave something else for the same nets and minibatch: it may depend on these, on "
                    "b.step, b.progress and the game's memory, not on what it counts or keeps itself"
                )


def _record(function: Function, inputs: tuple[Any, ...]) -> Function:
    """The function as a graph of tensor operations; the function itself where PyTorch cannot trace it."""
    try:
        graph = make_fx(function)(*inputs)
        graph.graph.eliminate_dead_code()
        return simplify(graph, inputs)
    except Exception:
        return function  # what is wrong with it, if anything, shows when it is called
