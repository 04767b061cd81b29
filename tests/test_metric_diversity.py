"""Diversity against sums by hand and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples, gaussian_data

from ganbench.errors import SampleError
from ganbench.metrics.diversity import (
    Birthday,
    Diversity,
    _pairs,
    birthday_collisions,
    pairwise_diversity,
)
from ganbench.metrics.subset import random_subset


@pytest.mark.parametrize("d", [3, 100])
def test_mean_distance_is_that_of_all_pairs_whatever_the_block(d):
    torch.manual_seed(0)
    x = torch.randn(90, d)
    expected = torch.pdist(x.double()).mean().item()
    for block in (None, (7, 13), (13, 7)):
        assert _pairs(x, block).mean == pytest.approx(expected, rel=1e-6)
    assert _pairs(x.double()).mean == pytest.approx(expected, rel=1e-12)


def test_gaussians_have_the_known_mean_distance():
    torch.manual_seed(1)
    pairs = _pairs(torch.randn(3000, 2))
    assert pairs.mean == pytest.approx(math.sqrt(math.pi), abs=4 * pairs.sem)  # √2 · √(π/2)


def test_standard_error_is_the_spread():
    torch.manual_seed(2)
    scores = [pairwise_diversity(1.5 * torch.randn(80, 2), torch.randn(100, 2)) for _ in range(300)]
    values = torch.tensor([s.value for s in scores])
    assert values.mean().item() == pytest.approx(1.5, abs=0.05)
    assert sum(s.sem or 0 for s in scores) / 300 == pytest.approx(values.std().item(), rel=0.15)


def test_orientation():
    torch.manual_seed(3)
    side = torch.where(torch.rand(2, 500, 1) < 0.5, -3.0, 3.0)
    test, fresh = torch.randn(2, 500, 2) + side * torch.tensor([1.0, 0.0])
    found = [
        pairwise_diversity(x, test)
        for x in (torch.ones(500, 2), torch.randn(500, 2), fresh, fresh + 3 * torch.randn(500, 2))
    ]
    values = [score.value for score in found]
    assert values == sorted(values)
    assert values[0] == 0.0
    assert values[2] == pytest.approx(1.0, abs=4 * (found[2].sem or 0))


@pytest.mark.parametrize(
    ("samples", "test", "text"),
    [
        (torch.zeros(1, 2), torch.rand(5, 2), "samples: holds 1 examples; at least 2 are needed"),
        (torch.zeros(5, 3), torch.rand(5, 2), r"samples: one example has shape \[3\]; expected \[2\]"),
        (torch.full((5, 2), torch.nan), torch.rand(5, 2), "samples: 5 of 5 examples hold NaN or infinity"),
        (torch.rand(5, 2), torch.ones(5, 2), "test: all examples are equal"),
    ],
)
def test_bad_input(samples, test, text):
    with pytest.raises(SampleError, match=text):
        pairwise_diversity(samples, test)


def test_metric():
    data = gaussian_data()
    metric = Diversity(n=400)
    score = metric(Samples(data.valid), data, metric.reference(data))
    assert score.value == pairwise_diversity(data.valid[:400], random_subset(data.test, 400)).value
    assert score.value == pytest.approx(1.0, abs=0.1)
    assert "all pairs of 400 samples" in metric.protocol(data)


# ---------------------------------------------------------------------------------------------- birthday


def ring(n, modes=8, of=8):
    """Points near some of the corners of an octagon."""
    angle = torch.randint(0, modes, (n,)) * (2 * math.pi / of)
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.001 * torch.randn(n, 2)


@pytest.mark.parametrize("block", [None, (7, 13)])
@pytest.mark.parametrize("d", [2, 80])
def test_collisions_are_those_counted_by_hand(block, d):
    torch.manual_seed(4)
    x, y = torch.randn(120, d), torch.randn(150, d)
    score = birthday_collisions(x, y, rate=0.02, block=block)
    real = torch.pdist(y.double()).sort().values
    radius = real[int(0.02 * len(real)) - 1].item()
    assert score.details["radius"] == pytest.approx(radius, rel=1e-5)
    own = (torch.pdist(x.double()) <= radius * (1 + 1e-6)).double().mean()
    share = (real <= radius * (1 + 1e-6)).double().mean()
    assert score.value == pytest.approx((own / share).item(), rel=1e-6)
    assert score.details["batch"] == pytest.approx(math.sqrt(2 * math.log(2) / own.item()))
    assert birthday_collisions(x.double(), y.double(), rate=0.02).value == pytest.approx(score.value)


@pytest.mark.parametrize("modes", [1, 2, 4, 8])
def test_a_part_of_the_support_collides_as_many_times_as_often(modes):
    torch.manual_seed(5)
    score = birthday_collisions(ring(1500, modes), ring(1500), rate=0.01)
    assert score.value == pytest.approx(8 / modes, abs=4 * (score.sem or 0))
    assert (score.sem or 0) < 0.1 * score.value


def test_repeats_collide_and_noise_keeps_apart():
    torch.manual_seed(6)
    test = torch.randn(500, 2)
    few = torch.randn(20, 2)[torch.randint(0, 20, (500,))]
    found = [birthday_collisions(x, test) for x in (100 * torch.randn(500, 2), torch.randn(500, 2), few)]
    assert found[0].value < 0.2 < 0.5 < found[1].value < 2 < 20 < found[2].value
    assert found[2].details["batch"] == pytest.approx(math.sqrt(2 * math.log(2) * 20), rel=0.1)
    same = birthday_collisions(torch.ones(300, 2), test)
    assert same.details["batch"] == pytest.approx(math.sqrt(2 * math.log(2)))


def test_standard_error_of_collisions_is_their_spread():
    torch.manual_seed(7)
    scores = [birthday_collisions(ring(200, 3), ring(200), rate=0.05) for _ in range(200)]
    spread = torch.tensor([s.value for s in scores]).std().item()
    assert 0.7 * spread < sum(s.sem or 0 for s in scores) / 200 < 1.8 * spread


@pytest.mark.parametrize(
    ("samples", "rate", "text"),
    [
        (torch.zeros(1, 2), 0.1, "samples: holds 1 examples; at least 2 are needed"),
        (torch.zeros(9, 3), 0.1, r"samples: one example has shape \[3\]; expected \[2\]"),
        (torch.full((9, 2), torch.nan), 0.1, "samples: 9 of 9 examples hold NaN or infinity"),
        (torch.rand(9, 2), 1e-3, "test: 50 examples have too few pairs for a rate of 0.001"),
        (torch.rand(9, 2), 1.0, "too few pairs for a rate of 1"),
    ],
)
def test_bad_input_of_birthday(samples, rate, text):
    with pytest.raises(SampleError, match=text):
        birthday_collisions(samples, torch.rand(50, 2), rate=rate)


def test_birthday_metric_and_its_control():
    data = gaussian_data()
    metric = Birthday(n=500)
    score = metric(Samples(data.valid), data, metric.reference(data))
    assert score.value == birthday_collisions(data.valid[:500], random_subset(data.test, 500)).value
    assert 0.3 < score.controls["train"] < 3
    assert "nearest 0.001 of the pairs of 500 random test examples" in metric.protocol(data)
