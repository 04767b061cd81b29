"""The result of training: one seed, with its tensors, or read back without them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..contracts import Status

if TYPE_CHECKING:
    from torch import Tensor

SUMMARY = ("seed", "status", "error", "traceback", "seconds", "stack", "device", "dtype", "note")


@dataclass(frozen=True)
class TrainedSeed:
    """One trained seed of a cell. One that was read back from a run directory has no tensors."""

    seed: int
    status: Status
    error: str | None = None
    traceback: str | None = None
    seconds: float = 0.0  # training time of its stack, divided by the seeds in it
    stack: int = 1  # seeds trained together
    device: str = "cpu"
    dtype: str = "float32"
    note: str | None = None  # shown in reports, such as a stack that was split because memory ran out
    # Parameters of a game ("G.0.weight"), or the `state` of the sampler that `fit` returned.
    state: dict[str, Tensor] = field(default_factory=dict)
    samples: Tensor | None = None  # [N, *shape], uint8 pixels or floats, for methods that are not games
    # "step" [L] and each player's loss [L], or the `curves` of the sampler.
    curves: dict[str, Tensor] = field(default_factory=dict)
    snapshots: Tensor | None = None  # [T, n, *shape]
    snapshot_steps: tuple[int, ...] = ()

    @property
    def summary(self) -> dict[str, Any]:
        """Everything but the tensors, as a JSON object."""
        return {name: getattr(self, name) for name in SUMMARY}
