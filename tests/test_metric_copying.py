"""Data copying: known values, scipy's U, orientation and controls."""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples, gaussian_data
from scipy.stats import mannwhitneyu

from ganbench.errors import SampleError
from ganbench.metrics.copying import (
    VALUES,
    DataCopying,
    _z_statistic,
    authenticity,
    data_copying,
    near_duplicates,
)
from ganbench.metrics.subset import random_subset


def test_standardised_statistic_is_mann_whitneys():
    torch.manual_seed(0)
    x, y = torch.randint(0, 30, (200,)).double(), torch.randint(5, 40, (150,)).double()
    u = mannwhitneyu(x.numpy(), y.numpy()).statistic
    expected = (u - 200 * 150 / 2 + 0.5) / math.sqrt(200 * 150 * 351 / 12)
    assert _z_statistic(x, y) == pytest.approx(expected)


@pytest.mark.parametrize("d", [2, 100])
def test_exact_copies_have_the_known_value(d):
    torch.manual_seed(1)
    train, test = torch.randn(2, 1000, d)
    assert data_copying(train, train, test).value == pytest.approx(-38.7, abs=0.05)
    assert authenticity(train, train).value == 0.0


def test_fresh_data_are_at_zero_with_the_stated_spread():
    torch.manual_seed(2)
    # Held-out data and samples share the training set, which adds nothing where it is large beside both.
    scores = [data_copying(*torch.randn(4000, 2).split([200, 3600, 200]), cells=3) for _ in range(40)]
    values = torch.tensor([s.value for s in scores])
    null = sum(s.details["null_sd"] for s in scores) / 40
    assert values.mean().item() == pytest.approx(0.0, abs=4 * null / 40**0.5)
    assert values.std().item() == pytest.approx(null, rel=0.4)
    assert null == pytest.approx(3**-0.5, rel=0.15)


def test_orientation():
    torch.manual_seed(3)
    train, test, fresh, noise = torch.randn(4, 800, 5)
    half = torch.cat([train[:400], fresh[:400]])
    sets = (train + 0.01 * noise, half, fresh, 3 * fresh)
    values = [data_copying(x, train, test, cells=3).value for x in sets]
    assert values == sorted(values)
    assert values[0] < -15
    assert abs(values[2]) < 3
    assert values[3] > 10
    shares = [authenticity(x, train).value for x in sets]
    assert shares == sorted(shares)


def test_copies_in_one_cell_are_found_there():
    torch.manual_seed(4)
    far = torch.tensor([20.0, 0.0])
    train, test, fresh = (torch.randn(3, 600, 2) + (torch.arange(600) % 2)[None, :, None] * far).unbind()
    samples = torch.where((torch.arange(600) % 2 == 1)[:, None], train, fresh)
    cells = data_copying(samples, train, test, cells=2).details["cells"].sort().values
    assert cells[0] < -20
    assert abs(cells[1]) < 4


def test_a_cell_without_enough_samples_does_not_count():
    torch.manual_seed(5)
    far = torch.tensor([20.0, 0.0])
    train, test = torch.randn(2, 400, 2) + (torch.arange(400) % 4 == 0)[None, :, None] * far
    score = data_copying(torch.randn(300, 2), train, test, cells=2)
    assert score.details["weights"].tolist() == [1.0]
    assert score.details["null_sd"] == 1.0


def test_authenticity_of_fresh_data_in_two_dimensions():
    torch.manual_seed(6)
    score = authenticity(torch.randn(4000, 2), torch.randn(4000, 2))
    assert score.value == pytest.approx(37.5, abs=4 * (score.sem or 0))


def test_authenticity_by_hand():
    train = torch.tensor([[0.0], [1.0], [5.0]])
    samples = torch.tensor([[0.5], [-1.0], [-1.1], [3.5], [9.1]])  # gaps of the nearest: 1, 1, 1, 4, 4
    assert authenticity(samples, train).value == 40.0
    assert authenticity(samples.double(), train.double()).value == 40.0


def test_copies_are_not_authentic_where_the_training_set_holds_examples_twice():
    """Authentic is what is further from its nearest example than that one is from its own nearest."""
    train = torch.tensor([[0.0], [0.0], [3.0], [7.0], [7.0], [7.0]])
    assert authenticity(train, train).value == 0.0
    assert (
        authenticity(torch.tensor([[0.1], [6.0], [4.0], [-3.0]]), train).value == 75.0
    )  # 4 is 1 from 3, 3 is 3 from 0
    twice = torch.randn(50, 100, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    assert authenticity(twice, twice).value == 0.0


@pytest.mark.parametrize("d", [1, 3, 80])
def test_authenticity_is_that_of_dgm_eval(d):
    """Its rule on all distances: authentic where the gap of the nearest example is less than the distance to it."""
    torch.manual_seed(12)
    train, samples = torch.randint(0, 4, (300, d)).double(), torch.randint(0, 4, (200, d)).double()
    samples[:50] = train[:50]
    gaps = (train[:, None] - train).square().sum(2).fill_diagonal_(torch.inf).amin(1)
    squared = (samples[:, None] - train).square().sum(2)
    nearest = squared.numpy().argmin(1)  # the first
    authentic = gaps[nearest] < squared.amin(1)
    assert authenticity(samples, train).value == pytest.approx(100 * authentic.double().mean().item())


def test_authenticity_takes_the_first_of_several_nearest():
    train = torch.tensor([[0.0], [2.0], [2.5]])  # the gap of 0 is 2, that of 2 is 0.5
    assert authenticity(torch.tensor([[1.0]]), train).value == 0.0
    assert authenticity(torch.tensor([[1.0]]), train.flip(0)).value == 100.0


@pytest.mark.parametrize(
    ("samples", "cells", "text"),
    [
        (torch.zeros(19, 2), 1, "samples: holds 19 examples; at least 20 are needed"),
        (torch.zeros(30, 3), 1, r"samples: one example has shape \[3\]; expected \[2\]"),
        (torch.full((30, 2), torch.nan), 1, "samples: 30 of 30 examples hold NaN"),
        (torch.rand(30, 2), 0, "cells: expected 1 to 50, the number of training examples; got 0"),
        (torch.rand(30, 2), 25, "none of 25 cells holds 20 samples"),
    ],
)
def test_bad_input(samples, cells, text):
    torch.manual_seed(7)
    with pytest.raises(SampleError, match=text):
        data_copying(samples, torch.rand(50, 2), torch.rand(50, 2), cells=cells)


def test_too_few_for_authenticity():
    with pytest.raises(SampleError, match="train: holds 1 examples; at least 2"):
        authenticity(torch.rand(5, 2), torch.rand(1, 2))


def test_metric_prints_its_controls():
    data = gaussian_data()
    metric = DataCopying(n=500, cells=2)
    reference = metric.reference(data)
    ct, auth, near = metric(Samples(data.valid), data, reference)
    assert ct.controls["copies"]["ct"] < -15
    assert ct.controls["copies"]["authenticity"] == 0.0
    assert abs(ct.controls["heldout"]["ct"]) < 4
    assert auth.value == pytest.approx(ct.controls["heldout"]["authenticity"], abs=12)
    held = random_subset(data.test, 500)
    assert ct.value == data_copying(data.valid[:500], data.train, held, cells=2).value
    assert near.value == near_duplicates(data.valid[:500], data.train, held).value
    assert near.value == pytest.approx(ct.controls["heldout"]["near_duplicates"], abs=3)
    copied = metric(Samples(random_subset(data.train, 500)), data, reference)
    assert {name: score.value for name, score in zip(VALUES, copied, strict=True)} == ct.controls["copies"]
    assert copied[2].value == 100.0
    assert copied[0].verdict.startswith("copies")
    assert ct.verdict.startswith("no sign of copying")
    assert "500 random test and all 600 training examples" in metric.protocol(data)
    assert "near-duplicates: nearer than all but 1 % of those" in metric.protocol(data)
    few = type(data)("few", data.train, data.valid, data.test[:30], data.shape)
    with pytest.raises(SampleError, match="few: data copying needs at least 40 test examples; there are 30"):
        metric.reference(few)


def test_near_duplicates_by_hand():
    train, test = torch.tensor([[0.0], [100.0]]), torch.arange(1.0, 41.0)[:, None]  # distances 1, 2, ..., 40
    samples = torch.tensor([[0.0], [0.99], [1.0], [100.5], [7.0]])
    score = near_duplicates(samples, train, test)
    assert (score.value, score.n, score.details["radius"]) == (60.0, 5, 1.0)
    assert score.details["false_positive_pct"] == pytest.approx(100 / 41)
    assert score.sem == pytest.approx(100 * math.sqrt(0.6 * 0.4 / 5))
    twice = near_duplicates(
        samples, train, torch.arange(1.0, 201.0).mul(0.25)[:, None]
    )  # 2 of 200 are nearer
    assert twice.details["radius"] == 0.75
    assert near_duplicates(samples.double(), train.double(), test.double()) == score


@pytest.mark.parametrize("share", [0.005, 0.05, 1.0])
def test_copies_are_near_duplicates_where_test_examples_stand_in_the_training_set(share):
    torch.manual_seed(10)
    train, test, fresh, noise = torch.randn(4, 1000, 4)
    equal = round(share * 1000)
    test = torch.cat([train[:equal], test[equal:]])
    copies, near, apart = (near_duplicates(x, train, test) for x in (train, train + 1e-4 * noise, fresh))
    assert copies.value == 100.0
    if share < 1:
        assert near.value == 100.0
        rate = 100 * (equal + math.floor(0.01 * (1000 - equal)) + 1) / 1001
        assert apart.details["false_positive_pct"] == pytest.approx(rate)
        assert apart.value < 3  # fresh data that equal none
    else:
        assert (near.value, apart.value) == (0.0, 0.0)
        assert apart.details == {"radius": 0.0, "false_positive_pct": 100.0}


def test_near_duplicates_of_integers_are_as_many_as_stated():
    torch.manual_seed(11)
    scores = [near_duplicates(*(6 * torch.randn(1500, 2)).round().split([500, 500, 500])) for _ in range(60)]
    stated = sum(score.details["false_positive_pct"] for score in scores) / 60
    assert sum(score.value for score in scores) / 60 == pytest.approx(stated, abs=1.5)
    assert stated > 20


def test_near_duplicates_of_fresh_data_are_as_many_as_stated():
    torch.manual_seed(8)
    scores = [near_duplicates(*torch.randn(1500, 2).split([500, 500, 500])) for _ in range(100)]
    assert scores[0].details["false_positive_pct"] == pytest.approx(100 * 6 / 501)
    mean = sum(score.value for score in scores) / 100
    assert mean == pytest.approx(100 * 6 / 501, abs=0.2)


def test_near_duplicates_orientation():
    torch.manual_seed(9)
    train, test, fresh, noise = torch.randn(4, 500, 5)
    tenth = torch.cat([train[:50], fresh[50:]])
    values = [near_duplicates(x, train, test).value for x in (train, train + 0.01 * noise, tenth, 3 * fresh)]
    assert values[:2] == [100.0, 100.0]
    assert values[2] == pytest.approx(11, abs=2)
    assert values[3] < 0.5
    with pytest.raises(SampleError, match="samples: 9 of 9 examples hold NaN"):
        near_duplicates(torch.full((9, 5), torch.nan), train, test)
