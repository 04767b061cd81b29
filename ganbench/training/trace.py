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
from .replay import Memory, Playback
from .simplify import functional, mutates, simplify
from .tree import leaves, rebuilt

WORTH = 500  # calls from which on a recording pays for itself: it takes as long as some hundred of them
FIRST = 3  # the call that is recorded: the ones before fill caches that change what is computed
CLOSE = 1e-3  # of the largest number; what a recording misses is a whole term

Function = Callable[..., tuple[Tensor, ...]]
Played = Callable[[list[Tensor]], tuple[Tensor, ...]]


class Recorded:
    """Plays a function of tensors back, and asks the function itself at the calls 4, 8, 16, ... whether that is
    still right. One that cannot be recorded is called as it is."""

    def __init__(self, function: Function, of: str, memory: Memory) -> None:
        self.function, self.of, self.memory = function, of, memory
        self.calls = 0
        self.playback: Played | None = None

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        """Raises PluginError where the function depends on more than its inputs."""
        self.calls += 1
        if self.calls == FIRST:
            self.playback = _record(self.function, inputs, self.memory)
        if self.playback is None:
            return self.function(*inputs)
        with torch.no_grad():
            found = self.playback(leaves(inputs))
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


def _record(function: Function, inputs: tuple[Any, ...], memory: Memory) -> Played | None:
    """The function as tensor operations; None where PyTorch cannot trace it."""
    tensors = leaves(inputs)
    try:
        graph = make_fx(lambda *given: function(*rebuilt(inputs, given)))(*tensors)
        graph.graph.eliminate_dead_code()
        if mutates(functional(graph)):
            return lambda given: graph(*given)
        with torch.no_grad():
            return Playback(simplify(graph, tensors), tensors, memory)
    except Exception:
        return None  # what is wrong with it, if anything, shows when it is called
