"""The losses of a stack, recorded once as tensor operations and then played back.

For small nets, Python, vmap and autograd cost more than the arithmetic. A recording does the same tensor operations on
the same numbers without this overhead, so it does not change results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from ..errors import PluginError
from .replay import BufferPool, Playback
from .simplify import functional, mutates, simplify
from .stack import Stack

MIN_ROUNDS = 500  # recording takes as long as a few hundred rounds
# Earlier calls fill caches (`GameLayout.cached_inputs`), after which fewer operations are left.
RECORDED_CALL = 3
# Relative to the largest number; a wrong recording misses a whole term, so it differs by much more.
RTOL = 1e-3

Function = Callable[..., tuple[Tensor, ...]]
Player = Callable[[list[Tensor]], tuple[Tensor, ...]]


def record_losses(stack: Stack, steps: int) -> None:
    """Record the losses of a stack on the CPU, if a training of `steps` rounds is long enough to pay for it."""
    if stack.alive.device.type == "cpu" and steps >= MIN_ROUNDS:
        pool = BufferPool()
        for player, function in stack.gradients.items():
            stack.gradients[player] = RecordedFunction(function, f"the loss of player {player!r}", pool)


class RecordedFunction:
    """A function of tensors, recorded at its third call and then played back. At calls 4, 8, 16, ... the function
    itself is called too, and must agree. A function that cannot be recorded is always called itself."""

    def __init__(self, function: Function, name: str, pool: BufferPool) -> None:
        """name: of the function, in error messages"""
        self.function, self.name, self.pool = function, name, pool
        self.calls = 0
        self.player: Player | None = None

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        """The function's results. Raises PluginError if the function depends on more than its inputs."""
        self.calls += 1
        if self.calls == RECORDED_CALL:
            self.player = _record(self.function, inputs, self.pool)
        if self.player is None:
            return self.function(*inputs)
        with torch.no_grad():
            results = self.player(pytree.tree_leaves(inputs))
        if (
            self.calls.bit_count() == 1
        ):  # a power of two: checks become rarer, so their total cost stays small
            check_recording(self.name, results, self.function(*inputs))
        return results


def check_recording(name: str, results: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Raises PluginError if the results of a recording differ from those of the function itself, called `name`."""
    for result, other in zip(results, expected, strict=True):
        # A diverged replica is NaN in both.
        one, two = torch.nan_to_num(result), torch.nan_to_num(other)
        if one.numel() and float((one - two).abs().max()) > RTOL * float(two.abs().max()):
            raise PluginError(
                f"{name} returned different values for the same nets and minibatch: it may depend on these, on "
                "b.step, b.progress and the game's memory, but not on Python variables that it changes itself"
            )


def _record(function: Function, inputs: tuple[Any, ...], pool: BufferPool) -> Player | None:
    """The function as tensor operations; None where PyTorch cannot trace it."""
    tensors, structure = pytree.tree_flatten(inputs)
    try:
        graph = make_fx(lambda *leaves: function(*pytree.tree_unflatten(leaves, structure)))(*tensors)
        graph.graph.eliminate_dead_code()
        if mutates(functional(graph)):
            return lambda leaves: graph(*leaves)
        with torch.no_grad():
            return Playback(simplify(graph, tensors), tensors, pool)
    except Exception:
        # If the function itself is wrong, calling it raises its error with its own traceback.
        return None
