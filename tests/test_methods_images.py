"""The methods that are made for images, and walks and arithmetic in their latent spaces."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch
from cells import cells, pixels
from metric_models import Samples, image_data
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, softplus

from ganbench import Dropout, Rescale, Sequential, latent_arithmetic, latent_walk, registry
from ganbench.contracts import Data, Draw, Labels
from ganbench.errors import PluginError, SampleError
from ganbench.metrics.latent import Latent, _classes
from ganbench.training import loop as engine
from ganbench.training import model as subject

DCGAN, LAPGAN, FIRST = "width: 4, z_dim: 6", "width: 2, units: 8, z_dim: 6", "width: 4, z_dim: 6"
EXACT = "{steps: 2, batch: 6, dtype: float64, snapshots: 1}"


def cell_of(folder, method, params, train=EXACT):
    return cells(folder, f"[{{method: {method}, params: {{{params}}}}}]", train=train)[0]


def labelled(data, classes=3):
    """The data with labels 0, 1, 2, 0, ..."""
    labels = torch.arange(len(data.train)) % classes
    return replace(data, labels=Labels(labels, labels, labels), classes=tuple("abc"[:classes]))


def played(folder, method, params, data, seeds=(0,)):
    """The game of the first seed in float64, its stack, and a minibatch [S, B, ...] with its clock."""
    cell = cell_of(folder, method, params)
    games = [engine.build_game(cell, data, seed) for seed in seeds]
    stack = engine.Stack(games, torch.device("cpu"), torch.float64)
    for net in games[0].nets.values():
        net.requires_grad_(
            False
        )  # its parameters are constants where the tests use it; the stack has its own
    draws = engine.Draws(games[0], data, seeds, 6, torch.device("cpu"), torch.float64)
    clock = {"step": torch.tensor(0.0), "progress": torch.tensor(0.0)}
    return games[0], stack, {**clock, **next(draws.rounds(1))[0]}


@pytest.mark.parametrize(
    ("method", "params", "data"),
    [
        ("dcgan", DCGAN, pixels(28)),
        ("dcgan", DCGAN, pixels(32, 3)),
        ("metz_2017", "d_width: 2, z_dim: 6", pixels(28, 3)),
        ("gan_2014", FIRST, pixels(28)),
        ("lapgan", LAPGAN, pixels(28)),
        ("lapgan", f"{LAPGAN}, conditional: true", labelled(pixels(16, 3))),
    ],
    ids=["dcgan-28", "dcgan-32", "metz_2017-28", "gan_2014-28", "lapgan-28", "lapgan-class"],
)
def test_a_seed_alone_is_the_seed_in_a_stack(tmp_path, method, params, data):
    cell = cell_of(tmp_path, method, params)
    stack, (alone,) = engine.train(cell, data, [0, 1]), engine.train(cell, data, [1])
    assert [one.status for one in stack] == ["ok", "ok"]
    for name, value in stack[1].state.items():
        assert torch.allclose(value, alone.state[name], atol=1e-9, rtol=1e-9), name
    assert torch.allclose(stack[1].snapshots, alone.snapshots, atol=1e-6)
    seen = subject.model(cell, data, 1, alone.state, None)
    z = torch.rand(5, *seen.latent.shape) * 2 - 1
    images = seen.generate(z)
    assert images.shape == (5, *data.shape)
    assert torch.allclose(images[3:4], seen.generate(z[3:4]))  # no sample depends on its batch
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1


# ---------------------------------------------------------------------------------------------- DCGAN

SIZES = {  # side, channels, width -> channels and side of every map of G from coarse to fine
    (28, 1, 64): [(128, 7), (64, 14), (1, 28)],
    (32, 3, 128): [(512, 4), (256, 8), (128, 16), (3, 32)],
    (64, 3, 128): [(1024, 4), (512, 8), (256, 16), (128, 32), (3, 64)],
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size[0]))
def test_dcgan_has_the_papers_maps(tmp_path, size):
    side, channels, width = size
    with torch.device("meta"):
        game = registry.load(registry.find("method", "dcgan"))(width=width).game(pixels(side, channels, 2))
    x, maps = torch.empty(2, 100, device="meta"), []
    for layer in game.nets["G"]:
        x = layer(x)
        maps += [(x.shape[1], x.shape[2])] if x.ndim == 4 else []
    assert list(dict.fromkeys(maps)) == SIZES[size]
    back = []
    for layer in game.nets["D"]:
        x = layer(x)
        back += [(x.shape[1], x.shape[2])] if x.ndim == 4 else []
    assert list(dict.fromkeys(back)) == SIZES[size][::-1]
    assert x.shape == (2, 1)


def test_dcgan_has_the_papers_layers(tmp_path):
    game, _, minibatch = played(tmp_path, "dcgan", DCGAN, pixels(28))
    block = ["Linear", "BatchNorm", "ReLU"]
    assert [type(layer).__name__ for layer in game.nets["G"]] == [
        *block, *block, "Unflatten", "ConvTranspose2d", "BatchNorm", "ReLU", "ConvTranspose2d", "Tanh", "Rescale",
    ]  # fmt: skip
    assert [type(layer).__name__ for layer in game.nets["D"]] == [
        "Rescale", "Conv2d", "LeakyReLU", "Conv2d", "BatchNorm", "LeakyReLU", "Flatten",
        "Linear", "BatchNorm", "LeakyReLU", "Linear",
    ]  # fmt: skip
    assert float(game.nets["G"][3].weight.std()) == pytest.approx(0.02, rel=0.05)
    assert game.nets["G"][7].weight.shape[-2:] == (5, 5)
    assert -1 <= float(minibatch["z"].min()) < -0.8
    assert 0.8 < float(minibatch["z"].max()) < 1


@pytest.mark.parametrize(("side", "maps"), [(28, [4, 7, 14, 28]), (32, [4, 8, 16, 32])])
def test_the_discriminator_of_metz_is_a_fraction_of_its_generator(side, maps):
    """`d_width` 8 mirrors the channels of G; 4 is the paper's half, 2 its quarter."""
    channels = {}
    for width in (8, 4, 2):
        made = registry.load(registry.find("method", "metz_2017"))(d_width=width)
        game = made.game(pixels(side, 3, 2))
        x, seen = torch.rand(2, 256), []
        for layer in game.nets["G"]:
            x = layer(x)
            seen += [x.shape[-1]] if x.ndim == 4 else []
        assert list(dict.fromkeys(seen)) == maps
        assert game.nets["D"](x).shape == (2, 1)
        channels[width] = [layer.out_channels for layer in game.nets["D"] if hasattr(layer, "out_channels")]
    ups = [layer.out_channels for layer in game.nets["G"] if isinstance(layer, nn.ConvTranspose2d)]
    assert channels[8] == ups[::-1] == [8, 16, 32]
    assert (channels[4], channels[2]) == ([4, 8, 16], [2, 4, 8])


def test_metz_2017_wants_images_of_its_sizes():
    made = registry.load(registry.find("method", "metz_2017"))()
    with pytest.raises(
        PluginError, match=r"28 × 28 or 32 × 32 pixels; one example has the shape \[1, 16, 16\]"
    ):
        made.game(pixels(16))


def test_the_discriminator_of_dcgan_sees_real_and_generated_images_apart(tmp_path):
    """BatchNorm takes its statistics of each minibatch alone, and both are logits of a sigmoid."""
    game, stack, minibatch = played(tmp_path, "dcgan", DCGAN, pixels(16))
    G, D = (game.nets[name] for name in "GD")
    x, z = minibatch["x"][0], minibatch["z"][0]
    expected = softplus(-D(x)).mean() + softplus(D(G(z))).mean()
    assert float(stack.gradient("D", minibatch)[0]) == pytest.approx(float(expected), abs=1e-12)
    assert float(stack.gradient("G", minibatch)[0]) == pytest.approx(
        float(softplus(-D(G(z))).mean()), abs=1e-12
    )


@pytest.mark.parametrize("method", ["dcgan", "lapgan"])
@pytest.mark.parametrize("shape", [(2,), (1, 8, 10)])
def test_data_that_are_no_square_images_are_refused(method, shape):
    x = torch.zeros(4, *shape)
    made = registry.load(registry.find("method", method))()
    text = re.escape(f"{method}: the data are no square images")
    with pytest.raises(PluginError, match=f"^{text}.* {re.escape(str(list(shape)))}$"):
        made.game(Data("odd", x, x, x, shape, (0.0, 1.0)))


# ---------------------------------------------------------------------------------------------- LAPGAN


@pytest.mark.parametrize(
    ("side", "coarsest", "sides"),
    [(28, 7, [7, 14, 28]), (32, 7, [8, 16, 32]), (96, 7, [12, 24, 48, 96]), (8, 4, [4, 8]), (8, 7, [8])],
)
def test_levels(side, coarsest, sides):
    made = registry.load(registry.find("method", "lapgan"))(coarsest=coarsest, width=1, units=2, z_dim=5)
    game = made.game(pixels(side, n=2))
    assert list(game.players) == [f"{net}{at}" for at in sides for net in "DG"]
    assert game.draw("z").shape == (5 + sum(at * at for at in sides[1:]),)


def test_the_pyramid_holds_the_image(tmp_path):
    """Where each G makes the true difference, the chain gives back the data, whatever the scale."""
    data = replace(pixels(28, n=5), scale=(-0.5, 2.0))
    game = registry.load(registry.find("method", "lapgan"))(width=1, units=2, z_dim=5).game(data)
    x = data.floats(data.train, torch.float64)
    centred = Rescale(data.scale, (-1.0, 1.0))(x)
    scales = {28: centred, 14: avg_pool2d(centred, 2), 7: avg_pool2d(centred, 4)}

    class Perfect:
        G7 = staticmethod(lambda z: scales[7])
        G14 = staticmethod(lambda seen: scales[14] - seen[:, 1:])
        G28 = staticmethod(lambda seen: scales[28] - seen[:, 1:])

    stages = game.stages(Perfect(), torch.rand(5, *game.draw("z").shape).double())
    assert [stage.shape[-1] for stage in stages] == [7, 14, 28]
    assert torch.allclose(stages[-1], x, atol=1e-12)
    assert torch.allclose(stages[0], avg_pool2d(x, 4), atol=1e-12)


def test_each_level_is_trained_on_real_coarse_images(tmp_path):
    game, stack, minibatch = played(tmp_path, "lapgan", LAPGAN, pixels(16))
    b = {name: value[0] for name, value in minibatch.items() if value.ndim}
    fine = 2 * b["x"] - 1
    coarse = interpolate(avg_pool2d(fine, 2), scale_factor=2, mode="bilinear")
    noise = b["z"][:, 6:].view(-1, 1, 16, 16)
    fake, D, u = coarse + game.nets["G16"](torch.cat([noise, coarse], 1)), game.nets["D16"], b["drop_16"]
    expected = {
        "D16": (softplus(-D(fine, u=u[:, 0])).mean() + softplus(D(fake, u=u[:, 1])).mean()) / 2,
        "G16": softplus(-D(fake, u=u[:, 1])).mean(),
    }
    for player, loss in expected.items():
        assert float(stack.gradient(player, minibatch)[0]) == pytest.approx(float(loss), abs=1e-12)


def test_nets_of_a_level_see_the_class(tmp_path):
    data = labelled(pixels(16))
    game, stack, minibatch = played(tmp_path, "lapgan", f"{LAPGAN}, conditional: true", data)
    before = {player: float(stack.gradient(player, minibatch)[0]) for player in game.players}
    other = {**minibatch, "y": (minibatch["y"] + 1) % 3}
    assert all(float(stack.gradient(player, other)[0]) != loss for player, loss in before.items())
    assert game.nets["G16"].net[0].in_channels == 3  # noise, image, class
    z = torch.rand(9, *game.draw("z").shape).double()
    z[:] = z[0]
    z[:, 0] = torch.linspace(-0.99, 0.99, 9)
    images = game.sample(stack.replica(0), z).detach()
    groups = images.unflatten(0, (3, 3))  # three latents of each class, which differ in nothing else
    assert torch.allclose(groups, groups[:, :1].expand_as(groups), rtol=0, atol=1e-12)
    # The first number of z picks one of three classes.
    assert torch.pdist(groups[:, 0].flatten(1)).min() > 1e-6


@pytest.mark.parametrize(
    ("side", "channels", "conditional"), [(32, 3, True), pytest.param(96, 3, False, marks=pytest.mark.slow)]
)
def test_pyramids_of_the_papers_sizes_are_trained(tmp_path, side, channels, conditional):
    """CIFAR-10's size with classes, and STL-10's."""
    data = labelled(pixels(side, channels, n=8))
    params = f"width: 2, units: 8, z_dim: 3, conditional: {str(conditional).lower()}"
    cell = cell_of(tmp_path, "lapgan", params, train="{steps: 1, batch: 2, snapshots: 0}")
    (one,) = engine.train(cell, data, [0])
    assert one.status == "ok"
    start, model = engine.build_game(cell, data, 0).nets, subject.model(cell, data, 0, one.state, None)
    moved = {name for name, value in one.state.items() if not torch.equal(value, _named(start, name))}
    assert {name.split(".")[0] for name in moved} >= {net for net in start if net[0] == "D"}
    assert model.samples(2).shape == (2, channels, side, side)
    stages = model.stages(torch.zeros(1, *model.latent.shape))
    assert [stage.shape[-1] for stage in stages] == [side >> k for k in range(len(stages))][::-1]


def _named(nets, name):
    net, rest = name.split(".", 1)
    return dict(nets[net].named_parameters())[rest]


def test_classes_need_labels():
    with pytest.raises(PluginError, match="lapgan: conditional is true, but the data have no labels"):
        registry.load(registry.find("method", "lapgan"))(conditional=True).game(pixels(16))


def test_the_papers_optimiser():
    made = registry.load(registry.find("method", "lapgan"))(optimiser="sgd")
    sgd = made.game(pixels(16, n=1280)).players["D16"].optimiser
    assert (sgd.lr, sgd.momentum, sgd.momentum_end, sgd.ramp) == (0.02, 0.5, 0.7, 2500)


# ---------------------------------------------------------------------------------------------- GAN of 2014


def test_dropout_keeps_the_mean_and_drops_its_share():
    u = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0))
    layer = Dropout(0.2, 3)
    x = torch.tensor([1.0, -2.0, 0.5]).expand(20_000, 3)
    out = layer(x, u)
    assert torch.allclose(out.mean(0), x[0], rtol=0.02)
    assert float((out == 0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert torch.allclose(out[out[:, 0] != 0, 0], torch.tensor(1.25))
    assert torch.equal(layer(x), x)


def test_each_dropout_layer_has_its_own_numbers():
    net = Sequential(Dropout(0.5, 2), torch.nn.Flatten(), Dropout(0.5, 3), torch.nn.Identity())
    assert net.drawn == 5
    with pytest.raises(RuntimeError):
        net(torch.ones(1, 2), u=torch.ones(1, 5))  # 2 units reach a layer of 3
    net = Sequential(Dropout(0.5, 2), torch.nn.Linear(2, 2, bias=False), Dropout(0.5, 2))
    torch.nn.init.eye_(net[1].weight)
    u = torch.tensor([[0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
    assert net(torch.ones(2, 2), u=u).tolist() == [[0.0, 4.0], [4.0, 0.0]]


def test_the_first_gan_against_its_formulas(tmp_path):
    game, stack, minibatch = played(tmp_path, "gan_2014", f"{FIRST}, d_init: 0.5", pixels())
    b = {name: value[0] for name, value in minibatch.items() if value.ndim}
    first, second, last = (game.nets["D"][index] for index in (2, 4, 6))

    def judge(x, u):
        x = x.flatten(1) * (u[:, :64] >= 0.2) / 0.8
        for layer, part in ((first, u[:, 64:68]), (second, u[:, 68:])):
            pieces = (x @ layer.linear.weight.T + layer.linear.bias).view(len(x), 4, 5)
            x = pieces.max(2).values * (part >= 0.5) * 2
        return torch.sigmoid(x @ last.weight.T + last.bias)

    fake = judge(game.nets["G"](b["z"]), b["drop_fake"])
    expected = -(torch.log(judge(b["x"], b["drop_real"])).mean() + torch.log(1 - fake).mean()) / 2
    assert float(stack.gradient("D", minibatch)[0]) == pytest.approx(float(expected), abs=1e-12)
    assert float(stack.gradient("G", minibatch)[0]) == pytest.approx(
        float(-torch.log(fake).mean()), abs=1e-12
    )


def test_the_first_gan_starts_as_its_authors_let_it(tmp_path):
    data = pixels(n=100)
    game, _, minibatch = played(tmp_path, "gan_2014", "width: 40", data)
    weights = [p for name, p in game.nets["G"].named_parameters() if "weight" in name]
    assert [tuple(w.shape) for w in weights] == [(200, 100), (200, 200), (64, 200)]
    assert all(0.049 < float(w.abs().max()) <= 0.05 for w in weights)
    out = torch.sigmoid(game.nets["G"][game.nets["G"].reads[-1]].bias)
    assert torch.allclose(out, data.floats(data.train).mean(0).flatten().double(), atol=1e-6)
    assert float(minibatch["z"].square().mean()) == pytest.approx(1, abs=0.15)
    assert float(minibatch["z"].abs().max()) <= math.sqrt(3)
    sgd = game.players["D"].optimiser
    assert (sgd.lr, sgd.momentum_end, sgd.ramp, sgd.decay, sgd.floor) == (0.1, 0.7, 250, 1.000004, 1e-6)


# ---------------------------------------------------------------------------------------------- latent space


def linear(z):
    """[n, 2] -> images [n, 1, 2, 2]."""
    return (z @ torch.tensor([[1.0, 0, 2, 0], [0, 1, 0, -1]])).view(-1, 1, 2, 2)


def test_a_walk_of_a_linear_generator_is_a_line():
    stops = torch.tensor([[0.0, 0.0], [1.0, 3.0], [-1.0, 1.0]])
    walk = latent_walk(linear, stops, steps=5)
    assert walk.shape == (2, 5, 1, 2, 2)
    ends = linear(stops)
    assert torch.allclose(walk[:, [0, -1]], torch.stack([ends[:-1], ends[1:]], 1))
    assert torch.allclose(walk[1, 2], (ends[1] + ends[2]) / 2)
    with pytest.raises(SampleError, match="at least 2 stops and 2 steps; got 1 and 5"):
        latent_walk(linear, stops[:1], steps=5)
    with pytest.raises(SampleError, match="NaN or infinity"):
        latent_walk(lambda z: linear(z) / 0, stops)


def test_arithmetic_of_a_linear_generator():
    generator = torch.Generator().manual_seed(0)
    a, b, c = torch.randn(3, 3, 2, generator=generator)
    found = latent_arithmetic(linear, a, b, c, neighbours=400, generator=generator)
    assert found.concepts.shape == (3, 4, 1, 2, 2)
    assert torch.allclose(found.concepts[:, :3], torch.stack([linear(z) for z in (a, b, c)]))
    assert torch.allclose(found.concepts[:, 3], found.concepts[:, :3].mean(1), atol=1e-6)
    assert torch.allclose(found.results[0], linear(a - b + c).mean(0), atol=1e-6)
    apart = (found.results[1:] - found.results[0])[:, 0, 0, :].abs()  # the two latent numbers themselves
    assert 0.24 < float(apart.max()) <= 0.25 + 1e-6
    assert float(apart.mean()) == pytest.approx(0.125, abs=0.01)
    with pytest.raises(SampleError, match=r"\[3, 2\], \[2, 2\], \[3, 2\]"):
        latent_arithmetic(linear, a, b[:2], c)


def test_numbers_of_a_walk():
    """A linear generator walks evenly, one with a threshold jumps, one that does not move counts as even."""
    data = replace(image_data(), train=torch.zeros(5, 1, 2, 2).byte(), shape=(1, 2, 2))
    metric = Latent(n=40, steps=5)

    def values(net):
        model = Samples(torch.zeros(1, 1, 2, 2), Draw.uniform(2, low=-1.0), net)
        return [score.value for score in metric(model, data)]

    assert values(linear)[1] == pytest.approx(1, abs=1e-5)
    assert values(linear)[0] < 0.95  # a chord lies nearer to the middle, where the data are, than its ends
    assert values(lambda z: (z[:, :1] > 0).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2))[1] > 2
    assert values(lambda z: torch.ones(len(z), 1, 2, 2)) == [1, 1]
    assert metric(Samples(torch.zeros(1, 1, 2, 2), Draw((2,)), linear), data)[0].n == 40


def bars(z):
    """The first number picks a vertical or a horizontal bar, the second how bright it is: [n, 1, 4, 4]."""
    upright = torch.tensor([0.0, 1, 1, 0]).expand(4, 4)
    across = torch.where((z[:, 0] > 0)[:, None, None], upright, upright.T)
    return (across * (0.55 + 0.4 * z[:, 1, None, None].clamp(-1, 1)))[:, None]


def test_arithmetic_among_the_samples_of_a_generator_that_knows_class_and_brightness():
    z = torch.rand(200, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1
    images, kinds = (bars(z) * 255).byte(), (z[:, 0] > 0).long()
    data = Data("bars", images, images, images, (1, 4, 4), (0.0, 1.0), labels=Labels(kinds, kinds, kinds))
    model = Samples(torch.zeros(1, 1, 4, 4), Draw.uniform(2, low=-1.0), bars)
    details = Latent()(model, data)[0].details
    assert details["walk"].shape == (8, 10, 1, 4, 4)
    assert details["arithmetic_concepts"].shape == (3, 4, 1, 4, 4)
    assert details["arithmetic_results"].shape == (9, 1, 4, 4)
    assert details["arithmetic_brighter"] == 9
    a, b = (term.split()[1] for term in details["arithmetic_terms"][1:])
    assert details["arithmetic_terms"] == [f"bright {a}", f"dark {a}", f"dark {b}"]
    assert {a, b} == {"0", "1"}


def test_a_sample_between_two_classes_is_of_none():
    angle = torch.tensor([0.0, 0.1, 0.2, 1.3, 1.4, 1.5])
    train, labels = torch.stack([angle.cos(), angle.sin()], 1), torch.tensor([0, 0, 0, 1, 1, 1])
    towards = torch.tensor([0.05, 0.3, 1.45])
    seen = torch.stack([towards.cos(), towards.sin()], 1) * torch.tensor(
        [[9.0], [0.1], [3.0]]
    )  # bright or not
    assert _classes(seen, train, labels).tolist() == [0, 0, 1]
    assert _classes(torch.ones(1, 2), train[1:5], labels[1:5]).tolist() == [-1]
    assert _classes(train[:1], train[:1], torch.tensor([4])).tolist() == [4]  # as many as there are


def test_no_arithmetic_where_all_samples_resemble_one_class():
    data = labelled(image_data())
    model = Samples(torch.zeros(1, 1, 4, 4), Draw((2,)), lambda z: torch.zeros(len(z), 1, 4, 4))
    details = Latent(candidates=50)(model, data)[0].details
    assert details["arithmetic_none"] == "fewer than 6 of 50 samples resemble a second class"
    assert "arithmetic_results" not in details


def test_the_chain_of_a_pyramid_is_in_the_details(tmp_path):
    data = pixels(28)
    cell = cell_of(tmp_path, "lapgan", LAPGAN, train="{steps: 1, batch: 6, snapshots: 0}")
    (one,) = engine.train(cell, data, [0])
    model = subject.model(cell, data, 0, one.state, None)
    details = Latent()(model, data)[0].details
    chain = details["chain"]
    assert chain.shape == (8, 3, 1, 28, 28)
    assert details["chain_sides"] == [7, 14, 28]
    small = chain[:, 0, :, ::4, ::4]
    assert torch.equal(chain[:, 0], small.repeat_interleave(4, 2).repeat_interleave(4, 3))


# ---------------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize(
    ("method", "params", "steps"),
    [
        ("dcgan", "width: 8, z_dim: 8, lr: 2.0e-3", 60),
        pytest.param("lapgan", "width: 2, units: 256, z_dim: 8, coarsest: 4", 250, marks=pytest.mark.slow),
    ],
)
def test_samples_come_nearer_to_real_digits(tmp_path, method, params, steps):
    """A few rounds on the digits of scikit-learn: the mean of the samples (of a pyramid, those of its coarsest
    level) approaches the data's, both at 4×4 pixels."""
    data = registry.load(registry.find("dataset", "digits"))(torch.Generator())
    target = avg_pool2d(data.floats(data.train).mean(0), 2)

    def distance(rounds):
        cell = cell_of(tmp_path, method, params, train=f"{{steps: {rounds}, batch: 32, snapshots: 0}}")
        (one,) = engine.train(cell, data, [0])
        model = subject.model(cell, data, 0, one.state, None)
        z = torch.rand(200, *model.latent.shape, generator=model.generator("test")) * 2 - 1
        images = model.stages(z)[0] if method == "lapgan" else avg_pool2d(model.generate(z), 2)
        return float((images.mean(0) - target).norm())

    assert distance(steps) < 0.75 * distance(1)


SOURCES = {
    "dcgan": "Radford et al. 2016",
    "lapgan": "Denton et al. 2015",
    "gan_2014": "Goodfellow et al. 2014",
    "metz_2017": "Metz et al. 2017",
}


@pytest.mark.parametrize("name", SOURCES)
def test_methods_of_images_say_where_they_come_from(name):
    assert registry.find("method", name).doc.startswith(SOURCES[name])
