"""Each trick against its formula, written by hand for one replica in float64."""

from __future__ import annotations

import copy
import math
import textwrap
from dataclasses import replace

import pytest
import torch
from cells import cells, pixels, points
from torch.nn.functional import softplus

from ganbench import SGD, BatchNorm, Game, Player, PluginError, mlp
from ganbench.registry import find, load
from ganbench.training import loop as engine
from ganbench.training import model

F64 = torch.float64
CPU = torch.device("cpu")


class Rig:
    """A small GAN with tricks, one replica of it, and a minibatch."""

    def __init__(
        self, folder, tricks, data=None, *, params="{width: 16, z_dim: 3}", seed=0, steps=3, batch=7
    ):
        self.data = data or points(dtype=F64)
        method = f"[{{method: gan, params: {params}, tricks: [{tricks}]}}]"
        train = f"{{steps: {steps}, batch: {batch}, dtype: float64, snapshots: 1}}"
        (self.cell,) = cells(folder, method, train=train)
        self.game = engine.build_game(self.cell, self.data, seed)
        self.stack = engine.Stack([self.game], CPU, F64)
        draws = engine.Draws(self.game, self.data, [seed], batch, CPU, F64)
        self.rounds = list(draws.rounds(steps))
        clock = {"step": torch.tensor(0.0, dtype=F64), "progress": torch.tensor(0.0, dtype=F64)}
        self.batch = {**self.rounds[0][0], **clock}
        self.x, self.z = self.batch["x"][0], self.batch["z"][0]
        self.G, self.D = self.game.nets["G"], self.game.nets["D"]

    def loss(self, player):
        return self.stack.gradient(player, self.batch)[0].item()

    def plain(self):
        """The losses of the GAN itself: D, G."""
        real, fake = self.D(self.x), self.D(self.G(self.z))
        return (softplus(-real).mean() + softplus(fake).mean()).item(), softplus(-fake).mean().item()

    def play(self):
        for step, minibatches in enumerate(self.rounds):
            self.stack.play(step, len(self.rounds), minibatches)


def close(value):
    return pytest.approx(value.item() if isinstance(value, torch.Tensor) else value, abs=1e-12, rel=1e-10)


# ---------------------------------------------------------------------------------------------- feature matching


@pytest.mark.parametrize(("layer", "until"), [(-1, 5), (1, 3), (2, 5), (-2, 3)])
def test_feature_matching(tmp_path, layer, until):
    """D is Flatten, Linear, ReLU, Linear, ReLU, Linear: its hidden layers end at 3 and 5."""
    rig = Rig(tmp_path, f"{{feature_matching: {{layer: {layer}}}}}")
    real, fake = (rig.D[:until](x).mean(0) for x in (rig.x, rig.G(rig.z)))
    assert rig.loss("G") == close((real - fake).square().sum())
    assert rig.loss("D") == close(rig.plain()[0])


FEATURE = """
    from dataclasses import dataclass
    from ganbench import feature

    @feature
    @dataclass(frozen=True)
    class Cubes:
        factor: float = 1.0

        def __call__(self, x):
            return self.factor * x.flatten(1) ** 3
"""


def test_feature_matching_on_a_feature_function_of_the_users(tmp_path):
    (tmp_path / "cubes.py").write_text(textwrap.dedent(FEATURE), encoding="utf-8")
    features = "{./cubes.py: {factor: 2}}"
    rig = Rig(tmp_path, f"{{feature_matching: {{features: {features}}}}}, {{instance_noise: {{sigma: 0.3}}}}")
    real, fake = ((2 * x.flatten(1) ** 3).mean(0) for x in (rig.x, rig.G(rig.z)))
    assert rig.loss("G") == close((real - fake).square().sum())
    before = replace(rig.cell, digest="data").train_keys[0]
    (tmp_path / "cubes.py").write_text(textwrap.dedent(FEATURE).replace("** 3", "** 2"), encoding="utf-8")
    edited = Rig(
        tmp_path, f"{{feature_matching: {{features: {features}}}}}, {{instance_noise: {{sigma: 0.3}}}}"
    )
    assert replace(edited.cell, digest="data").train_keys[0] != before  # what is edited is trained again


def test_feature_matching_on_moments(tmp_path):
    rig = Rig(tmp_path, "{feature_matching: {features: moments}}")

    def moments(x):
        return torch.cat([x.mean(0), (x.T @ x / len(x))[[0, 0, 1], [0, 1, 1]]])

    assert rig.loss("G") == close((moments(rig.x) - moments(rig.G(rig.z))).square().sum())


@pytest.mark.parametrize("layer", [0, 3, -3])
def test_feature_matching_on_a_layer_that_is_not_there(tmp_path, layer):
    with pytest.raises(PluginError, match=f"layer is {layer}, but net 'D' has 2 hidden layers"):
        Rig(tmp_path, f"{{feature_matching: {{layer: {layer}}}}}")


def test_feature_matching_replaces_no_other_trick(tmp_path):
    with pytest.raises(
        PluginError, match="replaces the loss of 'G', on which the tricks before it have built"
    ):
        Rig(tmp_path, "historical_averaging, feature_matching")


def test_feature_matching_sees_the_noise_of_d(tmp_path):
    rig = Rig(tmp_path, "feature_matching, {instance_noise: {sigma: 0.3}}")
    noise = rig.batch["instance_noise"][0]
    real, fake = (rig.D[:5](x + 0.3 * noise[:, i]).mean(0) for i, x in enumerate((rig.x, rig.G(rig.z))))
    assert rig.loss("G") == close((real - fake).square().sum())


# ------------------------------------------------------------------------------------------ historical averaging


def test_historical_averaging(tmp_path):
    rig = Rig(tmp_path, "{historical_averaging: {weight: 0.5}}")
    seen = {player: [rig.stack.params[player][0].clone()] for player in ("G", "D")}
    for step, minibatches in enumerate(rig.rounds):
        rig.stack.play(step, 3, minibatches)
        for player, rows in seen.items():
            rows.append(rig.stack.params[player][0].clone())
    replica = rig.stack.replica(0)
    plain = dict(zip(("D", "G"), _plain_of(replica, rig), strict=True))
    for player, rows in seen.items():
        mean = torch.stack(rows).mean(0)
        assert torch.allclose(rig.stack.memory["historical_averaging"][player][0], mean, atol=1e-12)
        assert rig.loss(player) == close(plain[player] + 0.5 * (rows[-1] - mean).square().sum())


def _plain_of(nets, rig):
    real, fake = nets.D(rig.x), nets.D(nets.G(rig.z))
    return softplus(-real).mean() + softplus(fake).mean(), softplus(-fake).mean()


def test_the_pull_of_the_past_is_part_of_the_steps_that_unrolling_foresees(tmp_path):
    """D's foreseen gradient has 2 · weight · (θ − θ̄) more, whichever trick comes first."""
    found = []
    for tricks in ("{unrolling: {k: 1}}, historical_averaging", "historical_averaging, {unrolling: {k: 1}}"):
        rig = Rig(tmp_path, tricks)
        rig.play()
        found.append(rig.loss("G"))
    assert found[0] == close(found[1])
    d, mean = rig.stack.params["D"][0], rig.stack.memory["historical_averaging"]["D"][0]
    state = tuple(s[0] for s in rig.stack.states["D"])
    replica = rig.stack.replica(0)
    slope = torch.func.grad(lambda flat: _plain_of(replica.with_flat("D", flat), rig)[0])(d)
    ahead, _ = rig.game.players["D"].optimiser.step(d, slope + 2 * (d - mean), state)
    g, past = rig.stack.params["G"][0], rig.stack.memory["historical_averaging"]["G"][0]
    surrogate = _plain_of(replica.with_flat("D", ahead), rig)[1]
    assert found[0] == close(surrogate + (g - past).square().sum())


# ------------------------------------------------------------------------------------------------ label smoothing


@pytest.mark.parametrize("label", [0.9, 0.75])
def test_label_smoothing(tmp_path, label):
    rig = Rig(tmp_path, f"{{label_smoothing: {{label: {label}}}}}")
    real, fake = torch.sigmoid(rig.D(rig.x)), torch.sigmoid(rig.D(rig.G(rig.z)))
    smooth = -label * real.log() - (1 - label) * (1 - real).log() - (1 - fake).log()
    assert rig.loss("D") == close(smooth.mean())
    assert rig.loss("G") == close(rig.plain()[1])


def test_label_smoothing_under_instance_noise_smooths_the_same_noisy_examples(tmp_path):
    rig = Rig(tmp_path, "label_smoothing, {instance_noise: {sigma: 0.3}}")
    noise = 0.3 * rig.batch["instance_noise"][0]
    real, fake = rig.D(rig.x + noise[:, 0]), rig.D(rig.G(rig.z) + noise[:, 1])
    assert rig.loss("D") == close((softplus(-real) + 0.1 * real + softplus(fake)).mean())


LOSSES = """
    from dataclasses import dataclass
    import torch
    from ganbench import Adam, Game, Player, bce_fake, bce_real, gradient_norm, method, mlp

    @method
    @dataclass(frozen=True)
    class Mine:
        def game(self, data):
            bce = lambda n, b: bce_real(n.D(b.x)) + bce_fake(n.D(n.G(b.z)))
            loss = {loss}
            return Game({{"G": mlp(2, 2), "D": mlp(2, 4, 1)}}, {{"D": Player("D", loss, Adam()),
                        "G": Player("G", lambda n, b: bce_real(n.D(n.G(b.z))), Adam())}}, {{"z": (2,)}},
                        lambda n, z: n.G(z))
"""


@pytest.mark.parametrize(
    ("loss", "fits"),
    [
        ("lambda n, b: bce_fake(n.D(n.G(b.z))) + bce_real(n.D(b.x))", True),
        ("lambda n, b: (gradient_norm(n.D, b.x) - 1).square().mean() + bce(n, b)", True),
        ("lambda n, b: bce(n, b) + n.flat('D').square().sum()", True),
        ("lambda n, b: n.D(n.G(b.z)).mean() - n.D(b.x).mean()", False),
        ("lambda n, b: (n.D(b.x) - 1).square().mean() + n.D(n.G(b.z)).square().mean()", False),
        ("lambda n, b: torch.relu(1 - n.D(b.x)).mean() + torch.relu(1 + n.D(n.G(b.z))).mean()", False),
        ("lambda n, b: 0.5 * bce(n, b)", False),
        ("lambda n, b: bce_real(n.D(b.x) - n.D(n.G(b.z)))", False),
    ],
)
def test_label_smoothing_knows_the_losses_that_have_labels(tmp_path, loss, fits):
    """Half the cross entropy would need half the term, which nobody could know from outside."""
    (cell,) = cells(
        tmp_path, "[{method: ./mine.py, tricks: [label_smoothing]}]", plugins=LOSSES.format(loss=loss)
    )
    if fits:
        engine.build_game(cell, points(), 0)
    else:
        with pytest.raises(PluginError, match=r"does not descend -log D\(x\) on real examples"):
            engine.build_game(cell, points(), 0)


# ------------------------------------------------------------------------------------- minibatch discrimination


def test_minibatch_discrimination(tmp_path):
    rig = Rig(tmp_path, "{minibatch_discrimination: {kernels: 4, dims: 3}}")
    layer, head = rig.D[-2], rig.D[-1]
    f = rig.D[:-2](rig.x)
    m = (f @ layer.project.weight.T).view(7, 4, 3)
    o = torch.zeros(7, 4, dtype=F64)
    for i in range(7):
        for j in range(7):
            if i != j:
                o[i] += torch.exp(-(m[i] - m[j]).abs().sum(-1)) / 6
    assert layer.project.weight.shape == (12, 16)
    assert torch.allclose(rig.D(rig.x), head(torch.cat([f, o], 1)), atol=1e-12)
    assert rig.loss("D") == close(rig.plain()[0])


def test_minibatch_discrimination_keeps_real_and_generated_apart(tmp_path):
    """A generator stuck at one point looks the same to D whatever the data do."""
    rig = Rig(tmp_path, "{minibatch_discrimination: {kernels: 4, dims: 3}}")
    stuck = torch.zeros(7, 2, dtype=F64)
    assert torch.allclose(rig.D[:-1](stuck)[:, -4:], torch.ones(7, 4, dtype=F64))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("batch", [1, 2, 300])
def test_closeness_is_a_share_whatever_the_batch_and_the_scale_of_the_features(tmp_path, scale, batch):
    layer = Rig(tmp_path, "{minibatch_discrimination: {kernels: 4, dims: 3}}").D[-2]
    noise = torch.randn(batch, 16, generator=torch.Generator().manual_seed(0), dtype=F64)
    o = layer(scale * noise)[:, -4:]
    assert o.min() >= -1e-12
    assert o.max() <= 1 + 1e-12
    if batch == 1:
        assert torch.equal(o, torch.zeros_like(o))


def test_the_layers_of_a_trick_differ_between_seeds_and_leave_the_method_alone(tmp_path):
    first, second = (Rig(tmp_path, "minibatch_discrimination", seed=seed) for seed in (0, 1))
    plain = Rig(tmp_path, "")
    assert not torch.equal(first.D[-1].weight, second.D[-1].weight)
    assert torch.equal(first.D[1].weight, plain.D[1].weight)
    assert torch.equal(first.G[0].weight, plain.G[0].weight)


# -------------------------------------------------------------------------------------------- virtual batch norm


IMAGES = {"data": pixels(n=32), "params": "{net: conv, width: 2, z_dim: 3}"}


def test_virtual_batch_norm_by_hand(tmp_path):
    """The first BatchNorm of a convolutional G, as in Salimans et al.'s code: means of x and x²."""
    rig = Rig(tmp_path, "{virtual_batch_norm: {reference: 5}}", **IMAGES)
    net = rig.G.net
    assert not any(isinstance(module, BatchNorm) for module in net.modules())
    reference, x = net[:2](rig.G.reference), net[:2](rig.z)  # before the first norm: [5 or 7, C, H, W]
    mean = 5 / 6 * reference.mean((0, 2, 3))[None] + 1 / 6 * x.mean((2, 3))
    square = 5 / 6 * reference.square().mean((0, 2, 3))[None] + 1 / 6 * x.square().mean((2, 3))
    deviation = (square - mean.square() + 1e-5).sqrt()
    expected = (x - mean[..., None, None]) / deviation[..., None, None]
    assert torch.allclose(net[2](torch.cat([reference, x]))[5:], expected, atol=1e-10)
    own = torch.nn.functional.batch_norm(reference, None, None, training=True)
    assert torch.allclose(net[2](torch.cat([reference, x]))[:5], own, atol=1e-10)


def test_an_example_under_virtual_batch_norm_does_not_depend_on_its_batch_mates(tmp_path):
    rig = Rig(tmp_path, "{virtual_batch_norm: {reference: 5}}", **IMAGES)
    z = rig.z
    assert torch.allclose(rig.G(z)[2:3], rig.G(z[2:3]), atol=1e-12)
    assert rig.G(z).shape == (7, 1, 8, 8)


def test_each_seed_has_its_own_reference_which_is_stored_and_never_moves(tmp_path):
    tricks = "{virtual_batch_norm: {reference: 5}}"
    first, second = (Rig(tmp_path, tricks, seed=seed, **IMAGES).G.reference for seed in (0, 1))
    assert not torch.equal(first, second)
    rig = Rig(tmp_path, tricks, **IMAGES)
    one, two = engine.train(rig.cell, rig.data, [0, 1])
    assert torch.allclose(one.state["G.reference"], first)
    assert torch.allclose(two.state["G.reference"], second)


def test_virtual_batch_norm_of_vectors(tmp_path):
    """Where an example has one number for each feature, it has no variance of its own."""
    game = Game(
        {"G": mlp(3, 4, 2, norm=True)}, {"G": Player("G", lambda n, b: n.G(b.z).sum(), SGD())}, {"z": (3,)},
        lambda n, z: n.G(z),
    )  # fmt: skip
    G = load(find("trick", "virtual_batch_norm"))(reference=5)(game, points()).nets["G"].double()
    z = torch.randn(2, 3, dtype=F64)
    reference, x = G.net[0](G.reference), G.net[0](z)
    mean = 5 / 6 * reference.mean(0) + x / 6
    square = 5 / 6 * reference.square().mean(0) + x.square() / 6
    expected = (x - mean) / (square - mean.square() + 1e-5).sqrt()
    assert torch.allclose(G.net[1](torch.cat([reference, x]))[5:], expected, atol=1e-10)


# ------------------------------------------------------------------------------------------------ learning rates


@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
@pytest.mark.parametrize(("shape", "end"), [("linear", 0.1), ("cosine", 0.0)])
def test_lr_decay_is_the_schedule_of_pytorch(tmp_path, shape, end, order):
    """Adam with a LambdaLR that is stepped after every round, written by hand."""
    rig = Rig(tmp_path, f"{{lr_decay: {{shape: {shape}, end: {end}}}}}", steps=5)
    rig.stack.game = replace(rig.game, order=order)
    nets = {name: copy.deepcopy(rig.game.nets[name]) for name in "DG"}
    optims = {name: torch.optim.Adam(nets[name].parameters(), 1e-3, (0.5, 0.999)) for name in nets}

    def factor(step):
        done = step / 5 if shape == "linear" else (1 - math.cos(math.pi * step / 5)) / 2
        return 1 - (1 - end) * done

    schedules = [torch.optim.lr_scheduler.LambdaLR(optim, factor) for optim in optims.values()]

    def losses(batch):
        real, fake = nets["D"](batch["x"][0]), nets["D"](nets["G"](batch["z"][0]))
        return {"D": softplus(-real).mean() + softplus(fake).mean(), "G": softplus(-fake).mean()}

    for minibatches in rig.rounds:
        if order == "simultaneous":
            minibatches = minibatches[:1]  # all players see the first one
            grads = {
                name: torch.autograd.grad(loss, list(nets[name].parameters()), retain_graph=True)
                for name, loss in losses(minibatches[0]).items()
            }
            for name, own in grads.items():
                for parameter, grad in zip(nets[name].parameters(), own, strict=True):
                    parameter.grad = grad
                optims[name].step()
        else:
            for name, batch in zip("DG", minibatches, strict=True):
                optims[name].zero_grad()
                losses(batch)[name].backward()
                optims[name].step()
        for schedule in schedules:
            schedule.step()
    for step, minibatches in enumerate(rig.rounds):
        rig.stack.play(step, 5, minibatches if order == "alternating" else minibatches[:1])
    for name, net in nets.items():
        flat = torch.cat([parameter.detach().flatten() for parameter in net.parameters()])
        assert torch.allclose(rig.stack.params[name][0], flat, rtol=1e-6, atol=1e-9), name


def test_lr_decay_slows_the_steps_that_unrolling_foresees(tmp_path):
    rig = Rig(tmp_path, "{lr_decay: {end: 0.2}}, {unrolling: {k: 1}}")
    half = {**rig.batch, "progress": torch.tensor(0.5, dtype=F64)}
    loss = rig.stack.gradient("G", half)[0].item()
    d, state = rig.stack.params["D"][0], tuple(s[0] for s in rig.stack.states["D"])
    replica = rig.stack.replica(0)
    slope = torch.func.grad(lambda flat: _plain_of(replica.with_flat("D", flat), rig)[0])(d)
    ahead, _ = rig.game.players["D"].optimiser.step(d, slope, state)
    assert loss == close(_plain_of(replica.with_flat("D", d + 0.6 * (ahead - d)), rig)[1])


def test_two_decays_multiply_and_one_may_be_for_one_player(tmp_path):
    rig = Rig(tmp_path, "{lr_decay: {end: 0.5}}, {lr_decay: {player: G, shape: cosine}}")
    players = rig.game.players
    middle = torch.tensor(0.5, dtype=F64)
    assert players["D"].schedule(middle) == close(0.75)
    assert players["G"].schedule(middle) == close(0.375)


def test_an_end_below_zero_is_refused(tmp_path):
    with pytest.raises(PluginError, match=r"end is -0\.1, expected a factor of at least 0"):
        Rig(tmp_path, "{lr_decay: {end: -0.1}}")


# ------------------------------------------------------------------------------------------------------- R1, EMA


def test_r1(tmp_path):
    rig = Rig(tmp_path, "{r1: {gamma: 3.0}}")
    x = rig.x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(rig.D(x).sum(), x)
    assert rig.loss("D") == close(rig.plain()[0] + 1.5 * slope.square().sum(1).mean())
    assert rig.loss("G") == close(rig.plain()[1])


def test_r1_of_a_linear_critic_is_the_square_of_its_weights(tmp_path):
    rig = Rig(tmp_path, "{r1: {gamma: 2.0}}", params="{width: 6, z_dim: 3, depth: 0}")
    assert rig.loss("D") == close(rig.plain()[0] + rig.D[-1].weight.square().sum())


def test_ema_is_an_average_from_which_samples_come(tmp_path):
    rig = Rig(tmp_path, "{ema: {decay: 0.7}}")
    mean = rig.stack.params["G"][0].clone()
    for step, minibatches in enumerate(rig.rounds):
        rig.stack.play(step, 3, minibatches)
        mean = 0.7 * mean + 0.3 * rig.stack.params["G"][0]
    assert torch.allclose(rig.stack.memory["ema"][0], mean, atol=1e-12)
    replica = rig.stack.replica(0)
    expected = replica.with_flat("G", mean).G(rig.z)
    assert torch.allclose(rig.game.sample(replica, rig.z), expected, atol=1e-12)
    assert not torch.allclose(replica.G(rig.z), expected, atol=1e-6)


def test_ema_changes_samples_and_not_training(tmp_path):
    averaged, plain = Rig(tmp_path, "ema"), Rig(tmp_path, "")
    (one,), (two,) = (engine.train(rig.cell, rig.data, [0]) for rig in (averaged, plain))
    assert torch.equal(one.state["G.0.weight"], two.state["G.0.weight"])
    assert not torch.equal(one.snapshots, two.snapshots)
    made, own = (model.model(rig.cell, rig.data, 0, found.state, None).samples(5)
                 for rig, found in ((averaged, one), (plain, two)))  # fmt: skip
    assert not torch.equal(made, own)


def test_ema_fixes_the_statistics_of_batch_norm_under_the_average(tmp_path):
    rig = Rig(tmp_path, "{ema: {decay: 0.5}}", **IMAGES)
    (one,) = engine.train(rig.cell, rig.data, [0])
    layout = engine.Stack([rig.game], CPU, F64).layout.players["G"]
    first = layout.unpack(one.state["memory.ema"])["G"]
    z = engine.latents(rig.game, 0, engine.CALIBRATION_LATENTS, CPU, F64)
    hidden = (z @ first["0.weight"].T + first["0.bias"]).view(len(z), -1, 4, 4)
    assert torch.allclose(one.state["G.2.mean"], hidden.mean((0, 2, 3)), atol=1e-10)


# ------------------------------------------------------------------------------------------------- of all tricks


def test_a_trick_names_the_player_that_it_misses(tmp_path):
    for trick, text in (
        ("{unrolling: {opponent: E}}", "no player 'E'"),
        ("{r1: {net: E}}", "no net 'E'"),
        ("{ema: {player: E}}", "no player 'E'"),
        ("{instance_noise: {net: E}}", "no net 'E'"),
        ("{feature_matching: {generator: E}}", "no net 'E'"),
    ):
        with pytest.raises(PluginError, match=f"this game has {text}; expected one of: D, G"):
            Rig(tmp_path, trick)
