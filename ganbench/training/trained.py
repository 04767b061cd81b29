"""What training gives: one seed, with its tensors or read back without them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..contracts import Status

if TYPE_CHECKING:
    from torch import Tensor

SUMMARY = ("seed", "status", "error", "traceback", "seconds", "stack", "device", "dtype", "note")


@dataclass(frozen=True)
class TrainedSeed:
    """One trained seed of a cell. What was read back from a run directory has no tensors."""

    seed: int
    status: Status
    error: str | None = None
    traceback: str | None = None
    seconds: float = 0.0  # of its stack, divided by the seeds in it
    stack: int = 1  # seeds trained together
    device: str = "cpu"
    dtype: str = "float32"
    note: str | None = None  # what the record must say, such as a stack split for want of memory
    state: dict[str, Tensor] = field(
        default_factory=dict
    )  # a game's "G.0.weight"; what a sampler of `fit` carries
    samples: Tensor | None = None  # [N, *shape], uint8 pixels or floats, for methods that are not games
    curves: dict[str, Tensor] = field(
        default_factory=dict
    )  # "step" [L], each player's loss [L]; or the sampler's
    snapshots: Tensor | None = None  # [T, n, *shape]
    snapshot_steps: tuple[int, ...] = ()

    @property
    def summary(self) -> dict[str, Any]:
        """All but the tensors, as JSON can hold it."""
        return {name: getattr(self, name) for name in SUMMARY}
