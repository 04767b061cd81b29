"""Recorded losses: the same numbers to the bit, and refused where a recording would be wrong."""

from __future__ import annotations

import pytest
import torch
from cells import cells, points

from ganbench import PluginError
from ganbench.pipeline import recording, stack
from ganbench.pipeline.games import build
from ganbench.pipeline.train import train

METHODS = [
    "{method: gan, params: {width: 8, z_dim: 4}}",
    "{method: gan, params: {width: 8, z_dim: 4}, tricks: [{unrolling: {k: 2}}]}",
    "{method: gan, params: {width: 8, z_dim: 4}, tricks: [instance_noise, ema, historical_averaging]}",
    "{method: gan, params: {width: 8, z_dim: 4, d_steps: 2}, tricks: [feature_matching]}",
    "{method: wgan_gp, params: {width: 8, z_dim: 4}}",
    "{method: fgan, params: {g_width: 8, v_width: 8, z_dim: 4, g_norm: true}}",
    "{method: vae, params: {width: 8, z_dim: 4}}",
]


@pytest.fixture
def recorded(monkeypatch):
    """Have all losses recorded from now on; gives the graphs."""
    graphs = []

    def record(function, inputs, _record=recording._record):
        graphs.append(_record(function, inputs))
        return graphs[-1]

    def start():
        monkeypatch.setattr(stack, "WORTH", 1)
        monkeypatch.setattr(recording, "_record", record)
        return graphs

    return start


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
@pytest.mark.parametrize("method", METHODS)
def test_a_recording_changes_no_bit(tmp_path, recorded, method, seeds):
    (cell,) = cells(tmp_path, f"[{method}]", train="{steps: 10, batch: 8}")
    expected = train(cell, points(), seeds)
    graphs = recorded()
    found = train(cell, points(), seeds)
    assert graphs
    assert all(isinstance(graph, torch.fx.GraphModule) for graph in graphs)
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in ((one.state, other.state), (one.curves, other.curves)):
            assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


MINE = """
    from dataclasses import dataclass
    from ganbench import Adam, Game, Player, method, mlp

    calls = []

    @method
    @dataclass(frozen=True)
    class Mine:
        def game(self, data):
            return Game({{"G": mlp(2, 2)}}, {{"G": Player("G", self.loss, Adam(1e-2))}}, {{"z": (2,)}},
                        lambda nets, z: nets.G(z))

        def loss(self, nets, b):
            calls.append(1)
            {what}
            return (nets.G(b.z) - b.x).square().mean() * weight
"""


def test_a_seed_that_diverges_is_the_same_when_recorded(tmp_path, recorded):
    what = "weight = (b.step > 5).logical_and(b.x[0, 0] > 0).float() * float('inf') + 1"
    (cell,) = cells(tmp_path, "[./mine.py]", train="{steps: 12, batch: 8}", plugins=MINE.format(what=what))
    expected = train(cell, points(), [0, 1, 2, 3])
    recorded()
    found = train(cell, points(), [0, 1, 2, 3])
    assert [(one.status, one.error) for one in found] == [(one.status, one.error) for one in expected]
    assert all(torch.equal(found[0].state[name], expected[0].state[name]) for name in found[0].state)


def test_a_loss_that_counts_its_calls_is_refused(tmp_path, recorded):
    """Every fourth round something else, as lazy regularisation is often written."""
    what = "weight = 1.0 if len(calls) % 4 else 2.0"
    (cell,) = cells(tmp_path, "[./mine.py]", train="{steps: 40, batch: 8}", plugins=MINE.format(what=what))
    recorded()
    with pytest.raises(PluginError, match="the loss of player 'G' gave something else"):
        train(cell, points(), [0, 1, 2])


def test_a_loss_that_cannot_be_recorded_is_called(tmp_path, recorded, monkeypatch):
    (cell,) = cells(tmp_path, f"[{METHODS[0]}]", train="{steps: 6, batch: 8}")
    expected = train(cell, points(), [0, 1, 2])
    graphs = recorded()

    def fails(function):
        raise NotImplementedError("no tracing here")

    monkeypatch.setattr(recording, "make_fx", fails)
    found = train(cell, points(), [0, 1, 2])
    assert len(graphs) == 2
    assert all(torch.equal(found[2].state[name], expected[2].state[name]) for name in found[2].state)


def test_short_trainings_and_convolutions_are_not_recorded(tmp_path):
    (cell,) = cells(tmp_path, "[{method: gan, params: {width: 8}}]")

    game, where = build(cell, points(), 0), (torch.device("cpu"), torch.float32)
    assert not isinstance(stack.Stack([game], *where, rounds=499).gradients["G"], recording.Recorded)
    assert isinstance(stack.Stack([game], *where, rounds=500).gradients["G"], recording.Recorded)
