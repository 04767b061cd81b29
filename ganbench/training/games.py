"""The games of a cell, one for each seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from .. import registry
from ..contracts import Data, Game
from ..errors import PluginError
from .rng import derive
from .stack import shared_nets

if TYPE_CHECKING:
    from ..suite.plan import Cell


def build(cell: Cell, data: Data, seed: int) -> Game:
    """The game of one seed: the method under that seed's random state, then the tricks in their order, each
    under a random state of its own. Raises PluginError where a trick refuses the game, or copies a net that shares
    a layer with another one: two layers would be trained then instead of one."""
    game = under(seed, lambda: make(cell.method.part).game(data))
    for part in cell.method.tricks:
        shared = shared_nets(game.nets)
        game = under(seed, lambda g=game, p=part: make(p)(g, data), f"init/{part.name}")
        for first, second in sorted(shared - shared_nets(game.nets)):
            raise PluginError(
                f"{part.name} replaces a net by a copy, and {first!r} and {second!r} share a layer: they would have "
                "one each; leave the trick out, or build nets that share no layer"
            )
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
