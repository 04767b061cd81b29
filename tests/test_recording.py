"""Recorded losses: the same numbers to the bit, and refused where a recording would be wrong."""

from __future__ import annotations

import pytest
import torch
from cells import cells, points
from torch.fx.experimental.proxy_tensor import make_fx

from ganbench import PluginError
from ganbench.pipeline import recording, stack
from ganbench.pipeline.games import build
from ganbench.pipeline.simplify import ELEMENTWISE, simplify
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


@pytest.mark.parametrize(
    ("function", "overwritten"),
    [
        (lambda a, b: torch.relu(a @ b), 1),
        (lambda a, b: torch.relu(a), 0),  # an input
        (lambda a, b: torch.relu(a.mT), 0),  # an input by another name
        (lambda a, b: (product := a @ b, torch.relu(product)), 0),  # read by whoever called
        (lambda a, b: torch.relu(product := a @ b) @ product, 0),  # read later
        (lambda a, b: (product := a @ b, view := product.mT, torch.relu(product) @ view)[2], 0),
        (
            lambda a, b: torch.relu((a @ b)[:2]).sum() + 1,
            1,
        ),  # not the whole of what was made; the sum is overwritten
        (lambda a, b: (product := a @ b) + product.mT, 0),  # read in another order
        (lambda a, b: a[:, 0].unsqueeze(1) + a @ b, 1),  # the second argument
        (lambda a, b: torch.tanh(-torch.relu(a @ b)) * b, 4),  # one after the other
        (lambda a, b: torch.sub(*torch.var_mean(a @ b, dim=0)), 1),  # one of two that were made at once
        (lambda a, b: torch.relu((a @ b).double()), 1),
        (
            lambda a, b: torch.relu((product := a @ b).add_(1)) @ product,
            0,
        ),  # written over by the author already
        (lambda a, b: (a[:, :1] @ b[:1]) + a.view(4, 4).expand(4, 4), 1),  # a column by a row
    ],
)
def test_a_recording_is_simplified_without_changing_a_bit(function, overwritten):
    torch.manual_seed(0)
    given = (torch.randn(4, 4), torch.randn(4, 4))
    graph = make_fx(function)(*given)
    before = [tensor.clone() for tensor in given]
    expected = graph(*given)
    graph = simplify(graph, given)
    assert (
        sum(node.target in [room for room, _ in ELEMENTWISE.values()] for node in graph.graph.nodes)
        == overwritten
    )
    for _ in range(2):
        torch.testing.assert_close(graph(*given), expected, rtol=0, atol=0)
    assert all(map(torch.equal, given, before))


def test_what_does_nothing_is_not_called():
    given = (torch.randn(4, 1), torch.randn(1, 4))
    graph = make_fx(lambda a, b: (a.expand(4, 1).view(4, 1) @ b).detach())(*given)
    graph = simplify(graph, given)
    calls = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert calls == ["aten.mul.Tensor"]
    assert torch.equal(graph(*given), given[0] @ given[1])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda a, b: (a.mT @ b).mT.contiguous(), ["transpose", "bmm"]),  # without its copy
        (lambda a, b: (a.mT @ b).mT.mT, ["transpose", "bmm"]),  # nothing to gain
        (
            lambda a, b: (product := a.mT @ b, product.mT),
            ["transpose", "bmm", "transpose"],
        ),  # both are asked for
        (lambda a, b: (a @ b).mT, ["bmm", "transpose"]),
    ],
)
def test_transposed_products_are_turned(function, expected):
    given = (torch.randn(3, 4, 5), torch.randn(3, 4, 2))
    given = given if expected[0] == "transpose" else (torch.randn(3, 4, 5), torch.randn(3, 5, 2))
    wanted = function(*given)
    graph = make_fx(lambda a, b: function(a, b))(*given)
    graph = simplify(graph, given)
    calls = [node.target._schema.name for node in graph.graph.nodes if node.op == "call_function"]
    assert [name.split("::")[1] for name in calls if "view" not in name and "expand" not in name] == expected
    torch.testing.assert_close(graph(*given), wanted)
