"""The checks of a trick, on a small GAN."""

from __future__ import annotations

from typing import Any

import torch

from .. import registry
from ..contracts import Data, Game
from ..suite.plan import Cell
from ..suite.spec import PluginSpec
from ..training import loop
from ..training.rng import build_game
from . import fixtures
from .checks import Check, CheckFailed, Checks, Target, as_plugin, run_checks, trial_cell
from .fixtures import plane
from .methods import game_checks


def check_trick(target: Target, data: Data | None = None, **params: Any) -> list[Check]:
    """Check a trick with these parameters on a small GAN, on `data` or on points. Raises PluginError if there is no
    such trick."""
    part = PluginSpec(as_plugin("trick", target), params)
    plain = PluginSpec(registry.find("method", f"{fixtures.__file__}:Reference"), {})
    data = data or plane()
    return run_checks(part, lambda: _trick_checks(trial_cell(plain), part, data))


def _trick_checks(plain: Cell, part: PluginSpec, data: Data) -> Checks:
    cell = trial_cell(*[p for p in (plain.method.part, part) if p])
    game = build_game(plain, data, 0)
    nets = dict(game.nets)
    result = part.build()(game, data)
    if not isinstance(result, Game):
        raise CheckFailed(
            "it gives a Game",
            f"it returned a {type(result).__name__}; return the game, as game.with_loss(...)",
        )
    changed = dict(game.nets) != nets
    text = "it changed game.nets in place; return a new game by game.with_net, with_loss, with_view or with_memory"
    yield Check("it leaves the game that it is given alone", text if changed else None)
    lost = {name for name in ("z",) if result.draws.get(name) != game.draws[name]}
    text = (
        "it removes the draw 'z'; add draws by game.with_draws, so that methods keep seeing the same latents"
    )
    yield Check("it leaves the draws of the game alone", text if lost else None)
    yield from game_checks(cell, data)
    # The same seed with and without the trick: equal samples mean that it has no effect.
    trained = [loop.train(one, data, [0])[0] for one in (plain, cell)]
    shots = [one.snapshots for one in trained if one.snapshots is not None]
    alike = torch.equal(shots[0], shots[1])
    text = "three rounds with it gave the same samples as without; does it return the changed game?"
    yield Check("it changes something", text if alike else None)
