"""The linear probe of a discriminator: scikit-learn's machine, pooled features, orientation, controls."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from metric_models import Samples, image_data
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn
from torch.nn.functional import max_pool2d

from ganbench import Sequential, conv_discriminator, mlp
from ganbench.contracts import Data, Game, Labels
from ganbench.errors import SampleError
from ganbench.metrics.probe import Probe, _reset_copy, discriminator_features, linear_probe
from ganbench.nets import BatchNorm


def labelled(n: int = 400, d: int = 12, classes: int = 3, seed: int = 0):
    """Gaussian classes [n, d] whose means differ in the first numbers, and labels [n]."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=generator)
    x = torch.randn(n, d, generator=generator)
    x[:, :classes] += 2.5 * torch.nn.functional.one_hot(y, classes)
    return x, y


def image_classes(n: int = 200) -> Data:
    """Bytes [n, 1, 16, 16]: stripes across or down, at any place, under noise; two classes."""
    generator = torch.Generator().manual_seed(3)
    splits, labels = [], []
    for _ in range(3):
        y = torch.randint(2, (n,), generator=generator)
        wave = torch.arange(16) + torch.randint(8, (n, 1), generator=generator)
        rows = 90 * (wave % 8 < 4).float()[:, None, :].expand(n, 16, 16)
        x = torch.where(y[:, None, None] == 1, rows, rows.mT) + 60 * torch.rand(
            n, 16, 16, generator=generator
        )
        splits.append(x[:, None].byte())
        labels.append(y)
    return Data(
        "stripes", *splits, (1, 16, 16), (0.0, 1.0), labels=Labels(*labels), classes=("down", "across")
    )


def playing(net) -> Samples:
    return Samples(torch.zeros(1, 1), game=Game({"D": net}, {}, {"z": (1,)}, lambda nets, z: z))


def test_accuracy_is_that_of_scikit_learn():
    (x, y), (asked, truth) = labelled(), labelled(seed=1)
    machine = make_pipeline(StandardScaler(), LinearSVC(C=0.1 / 12, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = machine.fit(x.numpy(), y.numpy()).score(asked.numpy(), truth.numpy())
    score = linear_probe(x, y, asked, truth, strength=0.1)
    assert score.value == pytest.approx(100 * expected, abs=0.5)  # its deviation has n, ours n - 1
    assert score.sem == pytest.approx(100 * np.sqrt(expected * (1 - expected) / 400), rel=0.05)
    assert score.n == 400
    assert linear_probe(x.double(), y, asked.double(), truth, strength=0.1).value == score.value


def test_orientation_and_chance():
    (x, y), (asked, truth) = labelled(), labelled(seed=1)
    noise = torch.randn(2, 400, 12, generator=torch.Generator().manual_seed(2))
    values = [linear_probe(x + s * noise[0], y, asked + s * noise[1], truth).value for s in (0.0, 1.0, 4.0)]
    assert values[0] > 85
    assert values == sorted(values, reverse=True)
    assert linear_probe(noise[0], y, noise[1], truth).value == pytest.approx(100 / 3, abs=9)
    assert linear_probe(1000 * x + 7, y, 1000 * asked + 7, truth).value == pytest.approx(values[0], abs=0.5)


def test_constant_features_are_left_alone():
    (x, y), (asked, truth) = labelled(), labelled(seed=1)
    x[:, 5] = asked[:, 5] = 3.0
    assert linear_probe(x, y, asked, truth).value > 85


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"train": torch.zeros(1, 12)}, "train: holds 1 examples; at least 2"),
        ({"test": torch.zeros(5, 3)}, r"test: one example has shape \[3\]; expected \[12\]"),
        ({"test": torch.full((5, 12), torch.nan)}, "test: 5 of 5 examples hold NaN"),
        ({"test_labels": torch.zeros(4).long()}, r"test: expected 5 labels \[5\], got \[4\]"),
        ({"train_labels": torch.zeros(9).long()}, "train: all examples have the same label"),
    ],
)
def test_bad_input(change, text):
    given = {"train": torch.rand(9, 12), "train_labels": torch.arange(9) % 2,
             "test": torch.rand(5, 12), "test_labels": torch.arange(5) % 2, **change}  # fmt: skip
    with pytest.raises(SampleError, match=text):
        linear_probe(**given)


def test_features_are_hidden_layers_pooled_to_four_by_four():
    torch.manual_seed(4)
    net = conv_discriminator((1, 32, 32), width=3, norm=False).eval()
    x = torch.rand(7, 1, 32, 32)
    first = net[1](net[0](x))  # [7, 3, 16, 16]
    second = net[3](net[2](first))  # [7, 6, 8, 8]
    third = net[5](net[4](second))  # [7, 12, 4, 4]
    expected = [max_pool2d(first, 4).flatten(1), max_pool2d(second, 2).flatten(1), third.flatten(1)]
    torch.testing.assert_close(discriminator_features(net, x), torch.cat(expected, 1))
    odd = conv_discriminator((1, 28, 28), width=3, norm=False).eval()
    assert discriminator_features(odd, torch.rand(2, 1, 28, 28)).shape == (2, 16 * (3 + 6))


def test_features_of_a_fully_connected_net_do_not_depend_on_the_block():
    torch.manual_seed(5)
    net, x = mlp((1, 4, 4), 8, 5, 1), torch.rand(1203, 1, 4, 4)
    found = discriminator_features(net, x)
    expected = torch.cat([net(x, upto=1), net(x, upto=2)], 1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(discriminator_features(net, x[700:]), found[700:])
    with pytest.raises(SampleError, match="has no hidden layer"):
        discriminator_features(mlp(4, 1), torch.rand(3, 4))


def test_an_untrained_net_has_other_weights_and_statistics_of_the_data():
    torch.manual_seed(6)
    net = conv_discriminator((1, 16, 16), width=4)
    x = 5 + torch.rand(200, 1, 16, 16)
    state = torch.get_rng_state()
    fresh = _reset_copy(net.eval(), x)
    assert torch.equal(torch.get_rng_state(), state)
    assert fresh is not None
    assert not torch.equal(fresh[0].weight, net[0].weight)
    norm = next(layer for layer in fresh if isinstance(layer, BatchNorm))
    values = fresh[: list(fresh).index(norm) + 1](x)
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.var((0, 2, 3)), torch.ones(8), atol=1e-2, rtol=0)
    assert torch.equal(_reset_copy(net, x)(x), fresh(x))

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.by = nn.Parameter(torch.ones(()))

    assert _reset_copy(Sequential(Scale()), x) is None


def trained(data: Data) -> Sequential:
    """A D that was told the classes."""
    torch.manual_seed(7)
    net = conv_discriminator(data.shape, width=8, norm=False)
    assert data.labels is not None
    x, y = data.floats(data.train), data.labels.train.float()
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(net(x)[:, 0], y).backward()
        optimiser.step()
    return net.eval()


def test_metric_and_its_controls():
    data = image_classes()
    metric = Probe(n_train=100, n_test=200)
    reference = metric.reference(data)
    score = metric(playing(trained(data)), data, reference)
    assert score.value > 97
    assert score.value >= score.controls["untrained"] > 55
    assert score.controls["pixels"] == reference.on(torch.device("cpu")) < 90
    assert score.details["strength"] in (0.01, 0.1, 1.0, 10.0)
    assert metric(playing(trained(data)), data).value == score.value
    assert "trained on 100 training examples" in metric.protocol(data)


def test_a_game_without_such_a_net():
    data = image_classes(60)
    for model in (Samples(torch.zeros(1, 1)), playing(nn.Linear(3, 1)), playing(mlp(3, 1))):
        with pytest.raises(SampleError, match=r"no net D that is a ganbench\.Sequential with hidden layers"):
            Probe()(model, data)
    with pytest.raises(SampleError, match="noise: has no labels"):
        Probe().reference(image_data())
