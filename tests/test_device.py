"""What a GPU asks of games, seen without one: on PyTorch's meta device tensors have shapes and no numbers, so whatever
reads a number on the way, which on a GPU would wait for it, or mixes devices, raises there."""

from __future__ import annotations

import pytest
import torch
from cells import cells, pixels, points

from ganbench import registry
from ganbench.errors import PluginError
from ganbench.training.rng import build_game, minibatches_per_round
from ganbench.training.stack import Stack
from ganbench.training.trace import record_losses

META = torch.device("meta")
BATCH = 32
GAMES = [
    plugin.name for plugin in registry.catalog()["method"].values() if hasattr(registry.load(plugin), "game")
]
TRICKS = [
    pytest.param(f"{{method: dcgan, params: {{width: 4}}, tricks: [{name}]}}", marks=pytest.mark.slow)
    for name in registry.catalog()["trick"]
]


def play(folder, method: str) -> Stack:
    """Two rounds of three seeds on points, or on images where the method refuses these."""
    (cell,) = cells(folder, f"[{method}]")
    try:
        data, games = points(), [build_game(cell, points(), seed) for seed in range(3)]
    except PluginError:
        data, games = pixels(28), [build_game(cell, pixels(28), seed) for seed in range(3)]
    stack = Stack(games, META, torch.float32)
    record_losses(stack, 1000)
    shapes = {"x": data.shape, **{name: games[0].draw(name).shape for name in games[0].draws}}
    for step in range(2):
        minibatches = [
            {name: torch.empty(3, BATCH, *shape, device=META) for name, shape in shapes.items()}
            for _ in range(minibatches_per_round(games[0]))
        ]
        losses = stack.play(step, 2, minibatches)
        stack.probe(step, 2, minibatches[-1])
    assert all(loss.device == META and loss.shape == (3,) for loss in losses.values())
    return stack


@pytest.mark.parametrize("method", [*GAMES, *TRICKS])
def test_a_round_reads_no_number_and_stays_on_its_device(tmp_path, method):
    stack = play(tmp_path, method)
    assert all(flat.device == META for flat in stack.params.values())
    stack.game.sample(
        stack.replica(2), torch.empty(BATCH, *stack.game.draw(stack.game.latent).shape, device=META)
    )


READS = """
    from dataclasses import dataclass
    from ganbench import Adam, Game, Player, method, mlp

    @method
    @dataclass(frozen=True)
    class Reads:
        def game(self, data):
            return Game({"G": mlp(2, 2)}, {"G": Player("G", self.loss, Adam(1e-2))}, {"z": (2,)},
                        lambda nets, z: nets.G(z))

        def loss(self, nets, b):
            return (nets.G(b.z) - b.x).square().mean() * float(b.step)
"""


def test_a_loss_that_reads_a_number_is_found(tmp_path):
    (tmp_path / "reads.py").write_text("\n".join(line[4:] for line in READS.splitlines()), encoding="utf-8")
    with pytest.raises(RuntimeError, match="item"):
        play(tmp_path, "./reads.py")
