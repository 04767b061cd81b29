"""The games of a cell, one for each seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from .. import registry
from ..contracts import Data, Game
from .rng import derive

if TYPE_CHECKING:
    from ..suite.plan import Cell


def build(cell: Cell, data: Data, seed: int) -> Game:
    """The game of one seed: the method under that seed's random state, then the tricks in their order, each
    under a random state of its own. Raises PluginError where a trick refuses the game."""
    game = under(seed, lambda: make(cell.method.part).game(data))
    for part in cell.method.tricks:
        game = under(seed, lambda g=game, p=part: make(p)(g, data), f"init/{part.name}")
    return game


def make(part: Any) -> Any:
    """The method or trick itself, with its parameters."""
    return registry.load(part.plugin)(**part.params)


def under(seed: int, make: Callable[[], Any], purpose: str = "init") -> Any:
    """Run with PyTorch's global generators seeded for the initialisation of `seed`, and left as they were."""
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, purpose))
        return make()
