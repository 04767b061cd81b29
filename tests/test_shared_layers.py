"""Layers that nets share are one layer, and buffers that a forward changes are refused (InfoGAN, BiGAN, BatchNorm)."""

from __future__ import annotations

import pytest
import torch
from cells import cells, points

from ganbench import PluginError
from ganbench.training import loop as engine
from ganbench.training.loop import train
from ganbench.training.model import model

HEAD = """
    from dataclasses import dataclass
    import torch
    from torch import nn
    from torch.nn import functional as F
    from ganbench import SGD, Game, Player, method, mlp, trick
"""

INFOGAN = f"""{HEAD}
    @method
    @dataclass(frozen=True)
    class Mine:
        owners: str = "D"

        def game(self, data):
            trunk = nn.Sequential(nn.Linear(2, 8), nn.Tanh())
            nets = {{
                "G": mlp(4, 8, data.shape),
                "D": nn.Sequential(trunk, nn.Linear(8, 1)),
                "Q": nn.Sequential(trunk, nn.Linear(8, 4)),
            }}
            players = {{
                "D": Player(("D", "Q") if self.owners == "D" else "D", self.d_loss, SGD(0.1)),
                "G": Player(("G", "Q") if self.owners == "G" else "G", self.g_loss, SGD(0.1)),
            }}
            return Game(nets, players, {{"z": (4,)}}, lambda nets, z: nets.G(z))

        def d_loss(self, nets, b):
            fake = nets.G(b.z)
            real = F.softplus(-nets.D(b.x)).mean()
            return real + F.softplus(nets.D(fake)).mean() + (nets.Q(fake) - b.z).square().mean()

        def g_loss(self, nets, b):
            fake = nets.G(b.z)
            return F.softplus(-nets.D(fake)).mean() + (nets.Q(fake) - b.z).square().mean()

    @trick
    @dataclass(frozen=True)
    class Copies:
        def __call__(self, game, data):
            import copy
            return game.with_net("D", copy.deepcopy(game.nets["D"]))
"""


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_a_layer_of_two_nets_has_the_gradient_of_both(tmp_path, seeds):
    """Against autograd on the modules themselves, in float64."""
    (cell,) = cells(tmp_path, "[./mine.py:Mine]", plugins=INFOGAN)
    data, where = points(dtype=torch.float64), (torch.device("cpu"), torch.float64)
    games = [engine.build_game(cell, data, seed) for seed in seeds]
    stack = engine.Stack(games, *where)
    minibatch = next(engine.Draws(games[0], data, seeds, 16, *where).rounds(1))[0]
    losses, slopes = stack.gradient("D", {**minibatch, **engine_clock()})
    for index, seed in enumerate(seeds):
        game = engine.build_game(cell, data, seed)
        nets = {name: net.double() for name, net in game.nets.items()}
        x, z = minibatch["x"][index], minibatch["z"][index]
        fake = nets["G"](z).detach()
        loss = (
            torch.nn.functional.softplus(-nets["D"](x)).mean()
            + torch.nn.functional.softplus(nets["D"](fake)).mean()
            + (nets["Q"](fake) - z).square().mean()
        )
        loss.backward()
        parameters = {**dict(nets["D"].named_parameters()), **dict(nets["Q"].named_parameters())}
        assert float(losses[index]) == pytest.approx(loss.item(), abs=1e-12)
        found = stack.layout.players["D"].unpack(slopes[index])
        for name in ("0.0.weight", "0.0.bias"):
            assert torch.equal(found["D"][name], found["Q"][name])
            assert torch.allclose(found["D"][name], parameters[name].grad, atol=1e-12)
        assert torch.allclose(found["Q"]["1.weight"], nets["Q"][1].weight.grad, atol=1e-12)
    assert slopes.shape[1] == 2 * 8 + 8 + 8 + 1 + 8 * 4 + 4  # the trunk once


def engine_clock():
    return {name: torch.tensor(0.0, dtype=torch.float64) for name in ("step", "progress")}


def test_shared_layers_are_stored_and_loaded_as_one(tmp_path):
    (cell,) = cells(tmp_path, "[./mine.py:Mine]", plugins=INFOGAN)
    data = points()
    (seed,) = train(cell, data, [0])
    assert torch.equal(seed.state["D.0.0.weight"], seed.state["Q.0.0.weight"])
    nets = model(cell, data, 0, seed.state, None).game.nets
    assert nets["D"][0][0] is nets["Q"][0][0]
    assert torch.equal(nets["D"][0][0].weight, seed.state["D.0.0.weight"])


@pytest.mark.parametrize("owners", ["G", "nobody"])
def test_a_layer_of_two_players_is_refused_with_the_remedy(tmp_path, owners):
    methods = f"[{{method: './mine.py:Mine', params: {{owners: {owners}}}}}]"
    (cell,) = cells(tmp_path, methods, plugins=INFOGAN)
    with pytest.raises(PluginError, match=r"'D' and 'Q' share a layer.*Player\(\('D', 'Q'\), \.\.\.\)"):
        train(cell, points(), [0])


def test_a_trick_that_copies_one_of_two_nets_with_a_shared_layer_is_refused(tmp_path):
    methods = "[{method: './mine.py:Mine', tricks: ['./mine.py:Copies']}]"
    (cell,) = cells(tmp_path, methods, plugins=INFOGAN)
    with pytest.raises(PluginError, match="copies replaces a net by a copy, but 'D' and 'Q' share a layer"):
        engine.smoke_test(cell, points())


ONE_NET = f"""{HEAD}
    from ganbench import BatchNorm

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
            self.b.weight = self.a.weight

        def forward(self, z):
            return self.c(torch.tanh(self.b(torch.tanh(self.a(z)))))

    class Statistics(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.inplace = inplace
            self.register_buffer("m", torch.zeros(8))

        def forward(self, x):
            new = 0.9 * self.m + 0.1 * x.mean(0).detach()
            if self.inplace:
                self.m.copy_(new)
            else:
                self.m = new
            return x - self.m

    NORMS = {{
        "torch": lambda: nn.BatchNorm1d(8),
        "assigned": lambda: Statistics(False),
        "inplace": lambda: Statistics(True),
        "ganbench": lambda: BatchNorm(8),
    }}

    @method
    @dataclass(frozen=True)
    class Mine:
        kind: str = "tied"
        sampled_only: bool = False

        def game(self, data):
            if self.kind == "tied":
                g = Tied()
            else:
                g = nn.Sequential(nn.Linear(4, 8), NORMS[self.kind](), nn.ReLU(), nn.Linear(8, 2))
            nets = {{"G": g, "D": mlp(2, 8, 1)}}
            if self.sampled_only:
                nets = {{"G": mlp(4, 2), "D": mlp(2, 8, 1), "last": g}}
            players = {{"D": Player("D", self.d_loss, SGD(0.1)), "G": Player("G", self.g_loss, SGD(0.1))}}
            sample = (lambda nets, z: nets.last(z)) if self.sampled_only else (lambda nets, z: nets.G(z))
            return Game(nets, players, {{"z": (4,)}}, sample)

        def d_loss(self, nets, b):
            return F.softplus(-nets.D(b.x)).mean() + F.softplus(nets.D(nets.G(b.z))).mean()

        def g_loss(self, nets, b):
            return F.softplus(-nets.D(nets.G(b.z))).mean()
"""


def one_net(tmp_path, kind, more="", train="{steps: 6, batch: 16}"):
    methods = f"[{{method: './mine.py:Mine', params: {{kind: {kind}{more}}}}}]"
    return cells(tmp_path, methods, plugins=ONE_NET, train=train)[0]


def test_a_weight_of_two_layers_of_one_net_trains_and_is_loaded(tmp_path):
    cell, data = one_net(tmp_path, "tied"), points()
    (seed,) = train(cell, data, [0])
    start = engine.build_game(cell, data, 0).nets["G"].a.weight
    assert torch.equal(seed.state["G.a.weight"], seed.state["G.b.weight"])
    assert not torch.equal(seed.state["G.a.weight"], start)
    trained = model(cell, data, 0, seed.state, None)
    assert trained.game.nets["G"].a.weight is trained.game.nets["G"].b.weight
    assert trained.samples(5).isfinite().all()


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
@pytest.mark.parametrize("more", ["", ", sampled_only: true"])
@pytest.mark.parametrize(
    ("kind", "buffer"), [("torch", "1.running_mean"), ("assigned", "1.m"), ("inplace", "1.m")]
)
def test_a_buffer_that_a_forward_changes_is_refused_with_the_remedy(tmp_path, kind, buffer, more, seeds):
    net = "last" if more else "G"
    with pytest.raises(
        PluginError, match=f"net '{net}' changes its buffer '{buffer}'.*BatchNorm.*Game.memory"
    ):
        train(one_net(tmp_path, kind, more), points(), seeds)


def test_the_batch_norm_of_ganbench_is_not(tmp_path):
    (seed,) = train(one_net(tmp_path, "ganbench"), points(), [0])
    assert seed.status == "ok"
    assert bool(seed.state["G.1.mean"].any())
