"""Memorisation against Mann-Whitney's U of scipy, its controls and known values."""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples, gaussian_data, image_data
from scipy.stats import mannwhitneyu

from ganbench.errors import SampleError
from ganbench.metrics.memorisation import Memorisation, _probability_below, memorisation


def test_probability_is_mann_whitneys():
    torch.manual_seed(0)
    x, y = torch.randint(0, 30, (200,)).double(), torch.randint(5, 40, (150,)).double()
    u = mannwhitneyu(y.numpy(), x.numpy()).statistic  # pairs with y above x, ties half
    assert _probability_below(x, y)[0] == pytest.approx(u / (200 * 150))


def test_standard_error_is_the_spread():
    torch.manual_seed(1)
    found = [_probability_below(torch.randn(80) - 0.5, torch.randn(120)) for _ in range(400)]
    spread = torch.tensor([value for value, _ in found]).std().item()
    assert sum(sem for _, sem in found) / 400 == pytest.approx(spread, rel=0.12)


@pytest.mark.parametrize("d", [2, 100])
def test_fresh_data_score_one_half(d):
    torch.manual_seed(2)
    score = memorisation(torch.randn(1000, d), torch.randn(2000, d), torch.randn(1000, d))
    assert score.value == pytest.approx(0.5, abs=4 * (score.sem or 0))
    assert abs(score.details["ct"]) < 4


def test_copies_score_one_and_the_known_value_of_meehan():
    torch.manual_seed(3)
    train, test = torch.randn(1000, 20), torch.randn(1000, 20)
    score = memorisation(train, train, test)
    assert (score.value, score.sem) == (1.0, 0.0)
    assert score.details["ct"] == pytest.approx(-38.7, abs=0.05)


def test_orientation():
    torch.manual_seed(4)
    train, test, fresh = torch.randn(3, 800, 5)
    half = torch.cat([train[:400], fresh[:400]])
    values = [memorisation(x, train, test).value for x in (train + 0.05 * fresh, half, fresh, 3 * fresh)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.99
    assert values[1] == pytest.approx(0.75, abs=0.04)
    assert values[3] < 0.2


def test_panel_shows_the_first_samples_and_their_neighbours():
    torch.manual_seed(5)
    train, test = torch.rand(40, 1, 6, 6), torch.rand(40, 1, 6, 6)
    order = torch.randperm(40)
    details = memorisation(train[order] + 0.001, train, test).details
    assert details["panel_samples"].shape == details["panel_neighbours"].shape == (10, 1, 6, 6)
    assert torch.equal(details["panel_neighbours"], train[order][:10])
    torch.testing.assert_close(
        details["distance_samples"], torch.full((40,), 0.006).double(), rtol=1e-3, atol=0
    )
    assert details["distance_heldout"].shape == (40,)


def test_float64_gives_the_same():
    torch.manual_seed(6)
    x = torch.rand(3, 100, 80)
    a, b = memorisation(*x), memorisation(*x.double())
    assert a.value == b.value
    assert a.sem == b.sem


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        (torch.zeros(1, 2), "samples: holds 1 examples; at least 2 are needed"),
        (torch.zeros(5, 3), r"samples: one example has shape \[3\]; expected \[2\]"),
        (torch.full((5, 2), torch.nan), "samples: 5 of 5 examples hold NaN or infinity"),
    ],
)
def test_bad_input(samples, text):
    with pytest.raises(SampleError, match=text):
        memorisation(samples, torch.rand(5, 2), torch.rand(5, 2))


def test_constant_samples_have_a_score():
    score = memorisation(torch.full((50, 2), 9.0), torch.rand(50, 2), torch.rand(50, 2))
    assert score.value == 0.0


def test_metric_prints_its_controls():
    data = gaussian_data()
    metric = Memorisation(n=300)
    reference = metric.reference(data)
    score = metric(Samples(data.valid), data, reference)
    assert score.details["control_copies"] == 1.0
    assert score.details["control_heldout"] == pytest.approx(0.5, abs=0.15)
    assert score.value == pytest.approx(0.5, abs=0.1)
    assert metric(Samples(data.valid), data).value == score.value
    assert metric(Samples(data.train), data, reference).value == 1.0
    assert score.value == memorisation(data.valid[:300], data.train, data.test[:300]).value
    assert "nearest of 600 training examples" in metric.protocol(data)


def test_metric_on_images_and_too_few_of_them():
    data = image_data()
    assert math.isfinite(Memorisation(n=50)(Samples(data.floats(data.valid)), data).value)
    small = type(data)("few", data.train, data.valid, data.test[:3], data.shape, data.scale)
    with pytest.raises(SampleError, match="few: memorisation needs at least 4 test examples; there are 3"):
        Memorisation(n=50).reference(small)
