"""Memorisation against Mann-Whitney's U of scipy, its controls and known values."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from metric_models import Samples, gaussian_data, image_data
from scipy.stats import hypergeom, mannwhitneyu

from ganbench import scoring
from ganbench.errors import SampleError
from ganbench.metrics import memorisation as memorisation_file
from ganbench.metrics.copying import data_copying
from ganbench.metrics.memorisation import (
    Found,
    Leaning,
    Memorisation,
    _probability_below,
    find_nearest,
    leaning,
    memorisation,
    verdict,
)
from ganbench.pipeline.score import protocol
from ganbench.pipeline.work import load_data


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


def found(distance, index):
    return Found(torch.tensor(distance).double(), torch.tensor(index))


def test_leaning_has_the_mean_and_spread_of_all_divisions():
    torch.manual_seed(7)
    real, samples = torch.randn(6, 2), torch.randn(9, 2)
    shares, parts = [], list(combinations(range(6), 4))
    for part in parts:
        rest = [i for i in range(6) if i not in part]
        train, test = real[list(part)], real[rest]
        lean = leaning(find_nearest(samples, train), find_nearest(samples, test), 4, 2)
        shares.append(lean.share)
    assert lean.chance == pytest.approx(sum(shares) / len(parts)) == pytest.approx(4 / 6)
    assert lean.sd == pytest.approx(torch.tensor(shares).double().std(correction=0).item())


def test_leaning_of_samples_with_neighbours_of_their_own_is_hypergeometric():
    lean = leaning(found([1.0] * 6, range(6)), found([2.0, 2.0, 2.0, 0.5, 0.5, 0.5], range(6)), 14, 7)
    expected = hypergeom(21, 14, 6)
    assert (lean.share, lean.chance) == (0.5, pytest.approx(expected.mean() / 6))
    assert lean.sd == pytest.approx(expected.std() / 6)


def test_leaning_counts_ties_half_and_identical_samples_once():
    tie = leaning(found([1.0, 1.0], [0, 1]), found([1.0, 1.0], [0, 1]), 10, 10)
    assert (tie.share, tie.z) == (0.5, 0.0)
    same = leaning(found([0.0] * 50, [3] * 50), found([1.0] * 50, [0] * 50), 10, 10)
    assert same.share == 1.0
    assert same.z == pytest.approx(1.0)  # as one sample: 1/2 from 1/2 with a spread of 1/2


def test_leaning_is_standard_normal_for_fresh_data():
    torch.manual_seed(8)
    values = torch.tensor([memorise(torch.randn(150, 2), 100, 50).z for _ in range(300)])
    assert values.mean().item() == pytest.approx(0.0, abs=0.25)
    assert values.std().item() == pytest.approx(1.0, rel=0.15)


def memorise(samples, n_train, n_test):
    train, test = torch.randn(n_train, samples.shape[1]), torch.randn(n_test, samples.shape[1])
    return leaning(find_nearest(samples, train), find_nearest(samples, test), n_train, n_test)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("copies", "copies ("),
        ("near copies", "copies ("),
        ("half copies", "copies ("),
        ("fresh", "no sign of copying ("),
        ("dense", "no sign of copying: they may only keep to where data are dense ("),
        ("wide", "far from the data: says nothing about copying ("),
        ("shifted", "far from the data: says nothing about copying ("),
        ("noisy copies", "can't tell: no nearer to the training set than data, yet drawn to it ("),
        ("few", "can't tell: too few examples ("),
        ("one copy", "can't tell: they may only keep to where data are dense ("),
    ],
)
def test_verdict(kind, words):
    torch.manual_seed(9)
    train, test, fresh, noise = torch.randn(4, 600, 30)
    samples = {
        "copies": train,
        "near copies": train + 0.1 * noise,
        "half copies": torch.cat([train[:300], fresh[:300]]),
        "fresh": fresh,
        "dense": 0.5 * fresh,  # all nearer to the training set than data are
        "wide": 2 * fresh,
        "shifted": fresh + 5,
        "noisy copies": train + 1.2 * noise,
        "few": train[:10],
        "one copy": train[:1].expand(600, 30),
    }[kind]
    assert memorisation(samples, train, test[: len(samples)]).details["verdict"].startswith(words)
    score = data_copying(torch.cat([samples, samples])[: max(20, len(samples))], train, test[: len(samples)])
    assert score.details["verdict"].startswith(words)


def test_verdict_says_its_numbers():
    assert verdict(4.25, 40.0, Leaning(0.9, 0.5, 0.04)) == (
        "copies (4.2 standard errors nearer to the training set than held-out data; the nearest real example is a "
        "training one for 90.0 % of samples, 50.0 % by chance, 10.0 standard deviations more)"
    )
    assert "7.0 standard errors further from" in verdict(-7.0, 40.0, Leaning(0.4, 0.5, 0.05))
    assert verdict(2.9, 40.0, Leaning(0.6, 0.5, 0.04)).startswith("no sign of copying (")


def test_features_of_an_extractor(monkeypatch):
    data = gaussian_data()
    far = replace(data, train=data.train * torch.tensor([1.0, 1.0, 1e4]))
    monkeypatch.setattr(memorisation_file, "extractor", lambda *_: lambda x: x[:, :2])
    monkeypatch.setattr(memorisation_file, "identity", lambda *_: "two numbers")
    metric = Memorisation(n=300, features="two")
    reference = metric.reference(far)
    score = metric(Samples(far.valid), far, reference)
    expected = memorisation(far.valid[:300, :2], far.train[:, :2], far.test[:300, :2])
    assert (score.value, score.sem) == (expected.value, expected.sem)
    assert score.details["panel_neighbours"].shape == (10, 3)
    assert metric(Samples(far.valid), far).value == score.value
    assert ", in two numbers; P(d of a sample" in metric.protocol(far)


def test_the_protocol_of_pixels_is_what_it_was():
    entry = scoring.request("digits", ["memorisation"], ["memorisation.n=1000"])
    assert protocol(entry.metrics[0], load_data(entry.dataset))[0] == "1e4538a3"


def test_order_of_the_samples_changes_nothing():
    data = gaussian_data()
    metric = Memorisation(n=600)
    reference = metric.reference(data)
    turned = metric(Samples(data.valid.flip(0)), data, reference)
    score = metric(Samples(data.valid), data, reference)
    assert turned.value == pytest.approx(score.value, abs=1e-12)
    assert turned.details["verdict"] == score.details["verdict"]
