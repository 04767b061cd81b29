"""The parts that baselines are built from."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from cells import pixels
from torch import nn

from ganbench import (
    BatchNorm,
    Maxout,
    Squash,
    adversaries,
    bce_fake,
    bce_real,
    conv_discriminator,
    conv_generator,
    gradient_norm,
    mlp,
    orthogonal,
)
from ganbench.nets import initialise


def test_mlp_shapes():
    images = mlp(5, 7, (3, 4, 4), squash=(-1.0, 1.0))
    out = images(torch.randn(6, 5) * 100)
    assert out.shape == (6, 3, 4, 4)
    assert (out.min().item(), out.max().item()) == (-1.0, 1.0)
    assert mlp((3, 4, 4), 7, 1)(out).shape == (6, 1)
    assert mlp(*(2,), 7, 1)(torch.randn(6, 2)).shape == (6, 1)


def test_mlp_has_a_bare_output_layer():
    net = mlp(2, 3, 4, 1, norm=True)
    names = [type(layer).__name__ for layer in net]
    assert names == ["Linear", "BatchNorm", "ReLU", "Linear", "BatchNorm", "ReLU", "Linear"]


def test_orthogonal_init():
    first = mlp(4, 4, init=orthogonal(0.8))[0]
    assert torch.allclose(first.weight @ first.weight.T, 0.64 * torch.eye(4), atol=1e-5)
    assert not first.bias.any()


@pytest.mark.parametrize(
    ("shape", "first"), [((1, 8, 8), 4), ((1, 28, 28), 7), ((3, 32, 32), 4), ((3, 64, 64), 4)]
)
def test_conv_nets_fit_the_image(shape, first):
    generator = conv_generator(10, shape, width=4, squash=(0.0, 1.0))
    assert generator[1].unflattened_size[-1] == first
    images = generator(torch.randn(3, 10))
    assert images.shape == (3, *shape)
    assert conv_discriminator(shape, width=4)(images).shape == (3, 1)


def test_batch_norm_against_torch():
    x = torch.randn(16, 5, 3, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
    ours, theirs = BatchNorm(5), torch.nn.BatchNorm2d(5, track_running_stats=False)
    with torch.no_grad():
        for net in (ours, theirs):
            net.weight.copy_(torch.arange(5.0))
            net.bias.copy_(torch.arange(5.0) - 2)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    mean, var = ours.seen
    ours.mean.copy_(mean.detach())
    ours.var.copy_(var.detach())
    whole = ours.eval()(x)
    assert torch.allclose(whole, theirs(x), atol=1e-5)
    assert torch.equal(ours(x[:1]), whole[:1])  # fixed statistics: no example depends on the others


def test_maxout_is_the_largest_of_its_pieces():
    net = Maxout(3, 4, pieces=5)
    x = torch.randn(2, 3)
    assert torch.equal(net(x), net.linear(x).view(2, 4, 5).max(-1).values)


def test_squash_leaves_unbounded_data_alone():
    x = torch.randn(3)
    assert torch.equal(Squash(None)(x), x)
    assert torch.allclose(Squash((2.0, 4.0))(torch.zeros(1)), torch.tensor([3.0]))


def test_cross_entropies_are_those_of_goodfellow_and_stay_finite():
    logits = torch.tensor([[-1.0], [2.0]])
    d = torch.sigmoid(logits)
    assert torch.allclose(bce_real(logits), -torch.log(d).mean())
    assert torch.allclose(bce_fake(logits), -torch.log(1 - d).mean())
    assert math.isclose(float(bce_real(torch.zeros(1)) + bce_fake(torch.zeros(1))), math.log(4), rel_tol=1e-6)
    assert float(bce_real(torch.tensor([-1e4]))) == 1e4


def test_hidden_layers_of_a_perceptron():
    net = mlp((2, 3), 5, 4, 1)
    x = torch.randn(7, 2, 3)
    assert net.hidden == 2
    assert torch.equal(net(x, upto=1), torch.relu(net[1](x.flatten(1))))
    assert torch.equal(net(x, upto=2), net(x, upto=-1))
    assert torch.equal(net[-1](net(x, upto=-1)), net(x))


def test_hidden_layers_of_a_convolutional_net():
    net = conv_discriminator((1, 28, 28), width=4)
    x = torch.randn(3, 1, 28, 28)
    assert net.hidden == 2
    assert net(x, upto=1).shape == (3, 4, 14, 14)
    assert net(x, upto=-1).shape == (3, 8 * 7 * 7)  # normalised, rectified and flat
    assert torch.equal(net[-1](net(x, upto=-1)), net(x))


@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_adversaries_fit_the_data_and_each_other(net):
    data = pixels(side=8, channels=3)
    nets = adversaries(data, net=net, z_dim=5, width=4, depth=1)
    x = nets["G"](torch.randn(6, 5)).detach()
    assert x.shape == (6, 3, 8, 8)
    assert 0 <= float(x.min()) < float(x.max()) <= 1
    assert nets["D"](x).shape == (6, 1)


def test_a_critic_without_norm_treats_each_example_on_its_own():
    x = torch.randn(6, 1, 16, 16)
    for norm in (True, False):
        critic = adversaries(pixels(side=16), net="conv", z_dim=5, width=4, norm=norm)["D"]
        alone = torch.cat([critic(x[:3]), critic(x[3:])])
        assert torch.allclose(critic(x), alone, atol=1e-6) is not norm


def test_gradient_norm():
    x = torch.randn(5, 2, dtype=torch.float64)
    found = gradient_norm(lambda x: (x**2).sum(1, keepdim=True) / 2, x)
    assert torch.allclose(found, x.norm(dim=1))
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    critic = adversaries(pixels(side=8, channels=3), net="conv", z_dim=2, width=4, norm=False)["D"].double()
    each = [torch.func.grad(lambda x: critic(x[None])[0, 0])(image).norm() for image in images]
    assert torch.allclose(gradient_norm(critic, images), torch.stack(each))


def test_a_vanishing_gradient_has_a_finite_slope():
    scale = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    norms = gradient_norm(lambda x: (scale * x**2).sum(1), torch.ones(3, 2, dtype=torch.float64))
    (slope,) = torch.autograd.grad((norms - 1).square().sum(), scale)
    assert norms.tolist() == [0, 0, 0]
    assert slope.flatten().tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 16)])
def test_conv_nets_have_the_same_weights_as_before_they_could_choose(shape):
    """DCGAN's normal numbers, drawn layer by layer: stored numbers stay valid."""
    for make in (
        lambda **init: conv_generator(8, shape, 4, **init),
        lambda **init: conv_discriminator(shape, 4, **init),
    ):
        torch.manual_seed(3)
        net = make()
        torch.manual_seed(3)
        plain = make(init="torch")  # draws what PyTorch draws, then nothing
        expected = {}
        for name, layer in plain.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                expected[f"{name}.weight"] = torch.empty_like(layer.weight).normal_(0.0, 0.02)
        state = net.state_dict()
        assert all(torch.equal(state[name], weight) for name, weight in expected.items())
        assert all(not state[name.replace("weight", "bias")].any() for name in expected)


@pytest.mark.parametrize("upsampling", [False, True])
def test_hes_initialisation_keeps_the_second_moment_through_relu_layers(upsampling):
    """Weights of variance 2 / inputs give E y² = 2 E x², and the ReLU of y has half of that again."""
    torch.manual_seed(0)
    if upsampling:
        layer = nn.ConvTranspose2d(64, 64, 4, 2, 1).double()
        x = torch.randn(8, 64, 16, 16, dtype=torch.float64).relu()
    else:
        layer = nn.Linear(512, 512).double()
        x = torch.randn(256, 512, dtype=torch.float64).relu()
    initialise(layer, "he")
    y = layer(x).detach()
    inner = y[..., 4:-4, 4:-4] if upsampling else y  # at the edge fewer inputs overlap
    assert float(inner.square().mean()) == pytest.approx(2 * float(x.square().mean()), rel=0.05)


def test_an_mlp_is_initialised_by_name():
    torch.manual_seed(0)
    net, he = mlp(300, 200, (2,)), mlp(300, 200, (2,), init="he")
    assert float(net[0].weight.detach().std()) == pytest.approx((3 * 300) ** -0.5, rel=0.02)
    assert float(he[0].weight.detach().std()) == pytest.approx((2 / 300) ** 0.5, rel=0.02)
    assert not he[0].bias.any()
    assert float(mlp(300, 200, (2,), init="dcgan")[0].weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    data = SimpleNamespace(shape=(1, 8, 8), scale=(0.0, 1.0))
    for kind in ("mlp", "conv"):
        nets = adversaries(data, net=kind, z_dim=200, width=64, init="he")
        first = next(layer for layer in nets["G"] if isinstance(layer, nn.Linear))
        assert float(first.weight.detach().std()) == pytest.approx(0.1, rel=0.05)
    with pytest.raises(ValueError, match='expected "torch", "he" or "dcgan", got \'xavier\''):
        mlp(2, 3, 1, init="xavier")
