"""Diversity against sums by hand and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples, gaussian_data

from ganbench.errors import SampleError
from ganbench.metrics.diversity import Diversity, _pairs, pairwise_diversity


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
    assert score.value == pairwise_diversity(data.valid[:400], data.test[:400]).value
    assert score.value == pytest.approx(1.0, abs=0.1)
    assert "all pairs of 400 samples" in metric.protocol(data)
