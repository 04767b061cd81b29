"""Checkpoints of a game: everything that its next round depends on. A killed training resumes from its checkpoint and
reaches exactly the same numbers.

Anything that follows from the cell and the seed alone (nets, buffers, layouts, latents of snapshots) is built again.
State that a plugin keeps in Python variables is not stored; the check of recorded losses rejects such plugins anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor
from torch.utils import _pytree as pytree

from .rng import Draws
from .stack import Stack

if TYPE_CHECKING:
    from .loop import History


# The state that a round changes: name in a checkpoint -> attribute of the stack.
STACK_STATE = {
    "parameters": "params",
    "optimisers": "states",
    "memory": "memory",
    "alive": "alive",
    "died": "died",
}


@dataclass(frozen=True)
class Checkpoint:
    """A stack of seeds in the middle of its training."""

    step: int  # number of rounds played
    seconds: float  # time that they took
    details: Mapping[str, Any]  # everything else that is not a tensor, as JSON
    tensors: Mapping[str, Tensor]


class Checkpoints(Protocol):
    """Storage for the checkpoints of a cell, and the schedule of saving them."""

    def load(self, seeds: Sequence[int]) -> Checkpoint | None:
        """The checkpoint of a stack of these seeds; None if there is none."""
        ...

    def due(self, step: int) -> bool:
        """Whether to save after `step` rounds."""
        ...

    def save(self, seeds: Sequence[int], checkpoint: Checkpoint) -> None:
        """Store a checkpoint in place of the previous one."""
        ...


def capture(
    step: int, seconds: float, device: str, stack: Stack, draws: Draws, history: History
) -> Checkpoint:
    """The checkpoint after `step` rounds, which took `seconds`."""
    state: dict[str, Any] = {
        **{name: getattr(stack, attribute) for name, attribute in STACK_STATE.items()},
        "random": draws.random_states(step),
        "losses": history.losses,
        "probes": history.probes,
        "snapshots": history.snapshots,
    }
    leaves, structure = pytree.tree_flatten(state)
    details = {
        "device": device,
        "structure": pytree.treespec_dumps(structure),
        "points": history.points,
        "snapshot_steps": history.snapshot_steps,
        # A player's loss is vectorised when it is called for the first time, which rounds differently. With these
        # entries the first call after resuming is not taken for that first call.
        "cached_inputs": {player: sorted(inputs) for player, inputs in stack.layout.cached_inputs.items()},
    }
    return Checkpoint(step, seconds, details, {str(index): leaf for index, leaf in enumerate(leaves)})


def restore(checkpoint: Checkpoint, stack: Stack, draws: Draws, history: History) -> None:
    """Put a new stack, its draws and its history into the state of the checkpoint."""
    details, tensors = checkpoint.details, checkpoint.tensors
    leaves = [tensors[str(index)] for index in range(len(tensors))]
    state = pytree.tree_unflatten(leaves, pytree.treespec_loads(details["structure"]))
    # In place, into the tensors of the stack: a compiled round reads these.
    for name, attribute in STACK_STATE.items():
        pytree.tree_map(lambda own, saved: own.copy_(saved), getattr(stack, attribute), state[name])
    # Copies, since tensors read from a file may be memory-mapped and unaligned.
    at_device = {
        name: pytree.tree_map(lambda tensor: tensor.to(stack.alive.device, copy=True), state[name])
        for name in ("losses", "probes")
    }
    for player, inputs in details["cached_inputs"].items():
        stack.layout.cached_inputs[player] = {(net, draw) for net, draw in inputs}
    draws.set_random_states(state["random"])
    history.losses, history.probes = at_device["losses"], at_device["probes"]
    history.points, history.snapshot_steps = details["points"], details["snapshot_steps"]
    history.snapshots = state["snapshots"]
    history.reported_step = checkpoint.step
