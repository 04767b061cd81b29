"""Recorded losses: the same numbers to the bit, and refused where a recording would be wrong."""

from __future__ import annotations

import pytest
import torch
from cells import cells, pixels, points
from torch.fx.experimental.proxy_tensor import make_fx

from ganbench import PluginError
from ganbench.training import trace
from ganbench.training.loop import train
from ganbench.training.replay import BufferPool, Playback
from ganbench.training.rng import build_game
from ganbench.training.simplify import functional, simplify
from ganbench.training.stack import Stack

METHODS = [
    "{method: gan, params: {width: 8, z_dim: 4}}",
    "{method: gan, params: {width: 8, z_dim: 4, d_steps: 2}, tricks: [feature_matching]}",
    "{method: fgan, params: {g_width: 8, v_width: 8, z_dim: 4, g_norm: true}}",
    "{method: vae, params: {width: 8, z_dim: 4}}",
    *(
        pytest.param(method, marks=pytest.mark.slow)
        for method in (
            "{method: gan, params: {width: 8, z_dim: 4}, tricks: [{unrolling: {k: 2}}]}",
            "{method: gan, params: {width: 8, z_dim: 4}, tricks: [instance_noise, ema, historical_averaging]}",
            "{method: wgan_gp, params: {width: 8, z_dim: 4}}",
            "{method: gan, params: {net: conv, width: 4, z_dim: 4}}",
            "{method: dcgan, params: {width: 4, z_dim: 4}, tricks: [instance_noise]}",
        )
    ),
]


@pytest.fixture
def recorded(monkeypatch):
    """Have all losses recorded from now on; gives what is played."""
    played = []

    def record(*given, _record=trace._record):
        played.append(_record(*given))
        return played[-1]

    def start():
        monkeypatch.setattr(trace, "MIN_ROUNDS", 1)
        monkeypatch.setattr(trace, "_record", record)
        return played

    return start


@pytest.mark.parametrize("seeds", [pytest.param([0], marks=pytest.mark.slow), [0, 1, 2]])
@pytest.mark.parametrize("method", METHODS)
def test_a_recording_changes_no_bit(tmp_path, recorded, method, seeds):
    (cell,) = cells(tmp_path, f"[{method}]", train="{steps: 7, batch: 8}")
    data = pixels(16) if "conv" in method or "dcgan" in method else points()
    expected = train(cell, data, seeds)
    played = recorded()
    found = train(cell, data, seeds)
    assert played
    assert all(isinstance(one, Playback) for one in played)
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
    with pytest.raises(PluginError, match="the loss of player 'G' returned different values"):
        train(cell, points(), [0, 1, 2])


def test_a_loss_that_cannot_be_recorded_is_called(tmp_path, recorded, monkeypatch):
    (cell,) = cells(tmp_path, f"[{METHODS[0]}]", train="{steps: 6, batch: 8}")
    expected = train(cell, points(), [0, 1, 2])
    played = recorded()

    def fails(function):
        raise NotImplementedError("no tracing here")

    monkeypatch.setattr(trace, "make_fx", fails)
    found = train(cell, points(), [0, 1, 2])
    assert played == [None, None]
    assert all(torch.equal(found[2].state[name], expected[2].state[name]) for name in found[2].state)


def test_short_trainings_are_not_recorded(tmp_path):
    (cell,) = cells(tmp_path, "[{method: gan, params: {width: 8}}]")

    game, where = build_game(cell, points(), 0), (torch.device("cpu"), torch.float32)
    for steps in (499, 500):
        stack = Stack([game], *where)
        trace.record_losses(stack, steps)
        assert isinstance(stack.gradients["G"], trace.RecordedFunction) == (steps == 500)


@pytest.mark.parametrize(
    ("function", "overwritten"),
    [
        (lambda a, b: torch.relu(a @ b) + a[0, 0], 1),
        (lambda a, b: torch.relu(a) @ b, 0),  # an input
        (lambda a, b: torch.relu(a.mT) @ b, 0),  # an input by another name
        (lambda a, b: (product := a @ b, torch.relu(product) @ a), 0),  # read by whoever called
        (lambda a, b: torch.relu(product := a @ b) @ product, 0),  # read later
        (lambda a, b: (product := a @ b, view := product.mT, torch.relu(product) @ view)[2], 0),
        (lambda a, b: torch.relu((a @ b)[:2]) @ b, 0),  # not the whole of what was made
        (lambda a, b: ((product := a @ b) + product.mT) @ a, 0),  # read in another order
        (lambda a, b: (a[:, 0].unsqueeze(1) + a @ b) @ a, 1),  # the second argument
        (lambda a, b: (torch.tanh(-torch.relu(a @ b)) * b) @ a, 4),  # one after the other
        (lambda a, b: torch.sub(*torch.var_mean(a @ b, dim=0)) @ a, 1),  # one of two that were made at once
        (lambda a, b: (a @ b).max(dim=0).values @ (b @ a).max(dim=0).indices.float().unsqueeze(1), 0),
        (lambda a, b: torch.relu((a @ b).double()).float() @ a, 1),
        (lambda a, b: (a[:, :1] @ b[:1] + a.view(4, 4).expand(4, 4)) @ b, 1),  # a column by a row
        (lambda a, b: torch.ones_like(a).mul(2).add(1) @ b, 0),  # the same at every call
        (lambda a, b: (a, a.mT, a @ b, torch.ones_like(a)), 0),  # given and asked for
        (lambda a, b: ((p := a @ b).sum(0), torch.relu(p) @ a), 0),  # what is asked for is made in the end
        (lambda a, b: torch.where(a > 0, torch.cat([a, b]).amax(0), a.max(dim=0).values).exp() @ b, 1),
        (lambda a, b: torch.nn.functional.silu(a @ b) @ a, 1),
    ],
)
def test_a_playback_changes_no_bit(function, overwritten):
    torch.manual_seed(0)
    given = (torch.randn(4, 4), torch.randn(4, 4))
    graph = make_fx(lambda a, b: found if isinstance(found := function(a, b), tuple) else (found,))(*given)
    playback = Playback(simplify(functional(graph), given), given, BufferPool())
    written = [
        any(one is place for one in kernel.args)
        for kernel in playback.kernels
        for name, place in kernel.keywords.items()
        if name in ("out", "grad_input")
    ]
    assert sum(written) == overwritten
    kept = []
    for turn in range(5):
        tensors = given if turn % 3 == 0 else (torch.randn(4, 8).mT[::2], torch.randn(4, 4))  # other strides
        before = [tensor.clone() for tensor in tensors]
        found, expected = playback(tensors), graph(*tensors)
        torch.testing.assert_close(found, expected, **({"rtol": 0, "atol": 0} if turn == 0 else {}))
        assert all(map(torch.equal, tensors, before))
        kept += [(one, one.clone()) for one in found]
    assert all(torch.equal(one, then) for one, then in kept)  # what was given away is not written over


def test_a_loss_that_writes_over_tensors_is_played_as_it_is(tmp_path, recorded):
    what = "weight = (b.x @ b.x.mT).relu_().add_(1).mean() * 0 + 1"
    (cell,) = cells(tmp_path, "[./mine.py]", train="{steps: 12, batch: 8}", plugins=MINE.format(what=what))
    expected = train(cell, points(), [0, 1, 2])
    played = recorded()
    found = train(cell, points(), [0, 1, 2])
    assert not any(isinstance(one, Playback) for one in played)
    assert None not in played
    assert all(torch.equal(found[2].state[name], expected[2].state[name]) for name in found[2].state)


def test_graphs_of_a_game_share_their_memory():
    given = (torch.randn(64, 64), torch.randn(64, 64))
    pool = BufferPool()
    chain = make_fx(lambda a, b: (((((a @ b) @ a) @ b) @ a).sum(),))(*given)
    one = Playback(simplify(chain, given), given, pool)
    sizes = [len(buffer) for buffer in pool.buffers]
    assert sizes == [64 * 64 * 4] * 2  # what a product reads and what it writes; the sum is made anew
    other = Playback(simplify(chain, given), given, pool)
    assert [len(buffer) for buffer in pool.buffers] == sizes
    assert torch.equal(one(given)[0], other(given)[0])


def test_what_does_nothing_is_not_called():
    given = (torch.randn(4, 1), torch.randn(1, 4))
    graph = make_fx(lambda a, b: (a.expand(4, 1).view(4, 1) @ b).detach())(*given)
    graph = simplify(graph, given)
    calls = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert calls == ["aten.mul.Tensor"]
    assert torch.equal(graph(*given), given[0] @ given[1])


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (lambda a, b: (a.mT @ b).mT.contiguous(), (32, 8), ["transpose", "bmm"]),  # without its copy
        (lambda a, b: (a.mT @ b).mT.mT, (32, 8), ["transpose", "bmm"]),  # nothing to gain
        (lambda a, b: (product := a.mT @ b, product.mT), (32, 8), ["transpose", "bmm", "transpose"]),  # both
        (lambda a, b: (a @ b.mT).mT, (8, 8), ["transpose", "bmm", "transpose"]),
        (lambda a, b: (a.mT @ b).mT, (8, 32), ["transpose", "bmm", "transpose"]),  # narrow: slow if turned
    ],
)
def test_products_are_turned_where_that_is_faster(function, given, expected):
    given = [torch.randn(3, 5, width) for width in given]
    wanted = function(*given)
    graph = make_fx(lambda a, b: function(a, b))(*given)
    graph = simplify(graph, given)
    calls = [node.target._schema.name for node in graph.graph.nodes if node.op == "call_function"]
    assert [name.split("::")[1] for name in calls if "view" not in name and "expand" not in name] == expected
    torch.testing.assert_close(graph(*given), wanted)
