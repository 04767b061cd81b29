"""Memorisation against Mann-Whitney's U of scipy, its controls and known values."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from metric_models import Samples, gaussian_data, image_data
from scipy.stats import fisher_exact, hypergeom, mannwhitneyu, norm

from ganbench import api
from ganbench.errors import SampleError
from ganbench.execution.worker import load_data
from ganbench.metrics import memorisation as memorisation_file
from ganbench.metrics.copying import data_copying
from ganbench.metrics.memorisation import (
    Exact,
    Memorisation,
    Nearest,
    Nearness,
    Overlap,
    _is_more_often,
    _probability_below,
    find_nearest,
    memorisation,
    nearness_test,
    overlap,
    row_keys,
    verdict,
)
from ganbench.metrics.subset import random_subset
from ganbench.scoring import protocol


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
    assert score.controls["copies"] == 1.0
    assert score.controls["heldout"] == pytest.approx(0.5, abs=0.15)
    assert score.value == pytest.approx(0.5, abs=0.1)
    assert metric(Samples(data.valid), data).value == score.value
    assert metric(Samples(data.train), data, reference).value == 1.0
    expected = memorisation(data.valid[:300], data.train, random_subset(data.test, 300))
    assert (score.value, score.sem) == (expected.value, expected.sem)
    assert "over 300 samples and 300 random test examples" in metric.protocol(data)
    assert "nearest of 600 training examples" in metric.protocol(data)


def test_metric_on_images_and_too_few_of_them():
    data = image_data()
    assert math.isfinite(Memorisation(n=50)(Samples(data.floats(data.valid)), data).value)
    small = type(data)("few", data.train, data.valid, data.test[:3], data.shape, data.scale)
    with pytest.raises(SampleError, match="few: memorisation needs at least 4 test examples; there are 3"):
        Memorisation(n=50).reference(small)


def neighbours(distance, row, m):
    """Each sample's one nearest of m examples, none of which are equal."""
    row = torch.tensor(row)
    return Nearest(torch.tensor(distance).double(), row, torch.arange(len(row)), row, torch.ones(m).double())


NONE = Overlap(0.0, 0.0, 1.0, 0)
NO_COPY = Exact(100, 0, 0, NONE, False, False, False, False)


@pytest.mark.parametrize("kind", ["continuous", "integers"])
def test_leaning_has_the_mean_and_spread_of_all_divisions(kind):
    torch.manual_seed(7)
    real, samples = torch.randn(6, 2), torch.randn(9, 2)
    if kind == "integers":  # examples that are equal, and examples at one distance
        real = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [3.0, 0.0]])
        samples = torch.tensor([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0], [2.0, 0.0], [1.0, 0.0], [9.0, 0.0]])
    shares, parts = [], list(combinations(range(6), 4))
    for part in parts:
        rest = [i for i in range(6) if i not in part]
        train, test = real[list(part)], real[rest]
        nearness = nearness_test(find_nearest(samples, train), find_nearest(samples, test), 1.0)
        shares.append(nearness.share)
    assert nearness.chance == pytest.approx(sum(shares) / len(parts)) == pytest.approx(4 / 6)
    assert nearness.sd == pytest.approx(torch.tensor(shares).double().std(correction=0).item())


def test_leaning_of_samples_with_neighbours_of_their_own_is_hypergeometric():
    to_train, to_test = ([1.0] * 6, range(6), 14), ([2.0, 2.0, 2.0, 0.5, 0.5, 0.5], range(6), 7)
    nearness = nearness_test(neighbours(*to_train), neighbours(*to_test), 1.0)
    expected = hypergeom(21, 14, 6)
    assert (nearness.share, nearness.chance) == (0.5, pytest.approx(expected.mean() / 6))
    assert nearness.sd == pytest.approx(expected.std() / 6)


def test_leaning_counts_identical_samples_once():
    tie = nearness_test(neighbours([1.0, 1.0], [0, 1], 10), neighbours([1.0, 1.0], [0, 1], 10), 1.0)
    assert (tie.share, tie.z) == (0.5, 0.0)
    same = nearness_test(neighbours([0.0] * 50, [3] * 50, 10), neighbours([1.0] * 50, [0] * 50, 10), 1.0)
    assert same.share == pytest.approx(1.0)
    assert same.z == pytest.approx(1.0)  # as one sample: 1/2 from 1/2 with a spread of 1/2


def test_a_tie_counts_by_the_share_of_training_examples():
    train, test = torch.tensor([[0.0], [0.0], [0.0], [2.0]]), torch.tensor([[0.0], [4.0], [9.0]])
    shares = {0.0: 3 / 4, 1.0: 4 / 5, 2.0: 1.0, 3.0: 1 / 2, 9.0: 0.0}
    for point, share in shares.items():
        sample = torch.tensor([[point], [point]])
        nearness = nearness_test(find_nearest(sample, train), find_nearest(sample, test), 1.0)
        assert nearness.share == pytest.approx(share)
        assert nearness.chance == 4 / 7


@pytest.mark.parametrize("d", [1, 3, 100])
def test_neighbours_are_all_that_tie(d):
    """Against all distances, computed as whole numbers."""
    torch.manual_seed(10)
    real, samples = torch.randint(0, 2 if d == 100 else 4, (200, d)), torch.randint(-1, 5, (80, d))
    near = find_nearest(samples.float(), real.float())
    squared = (samples[:, None] - real).square().sum(2)
    least = squared.amin(1)
    assert torch.allclose(near.distance, least.double().sqrt())
    assert torch.equal(near.row, (squared == least[:, None]).double().argmax(1))  # the first of them
    count = torch.bincount(near.sample, near.sizes[near.group], len(samples))
    assert torch.equal(count, (squared == least[:, None]).sum(1).double())
    assert near.sizes.sum() == 200


def test_equal_examples_have_equal_keys():
    x = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [0.0, 1.0000001]])
    keys = row_keys(x)
    assert (keys[0] == keys[1], len(set(keys.tolist()))) == (True, 3)
    shared = overlap(x[[0, 1, 2]], x[[0, 3]].double())
    assert shared == Overlap(1 / 2, 2 / 3, pytest.approx((2 / 3 + 2 / 3 + 1) / 3), 2)
    assert overlap(x[:2], x[2:]) == NONE


def test_more_often_is_fishers_exact_test():
    chosen, row = torch.arange(50) < 8, torch.arange(50)
    for m, share in ((400, 0.02), (400, 0.05), (30, 0.0)):
        table = [[8, 42], [round(share * m), m - round(share * m)]]
        p = fisher_exact(table, alternative="greater").pvalue
        assert _is_more_often(chosen, row, share, m) == (p < norm.sf(3))
    assert not _is_more_often(
        torch.ones(50).bool(), torch.zeros(50).long(), 0.01, 1000
    )  # one example, 50 times


def test_leaning_is_standard_normal_for_fresh_data():
    torch.manual_seed(8)
    values = torch.tensor([memorise(torch.randn(150, 2), 100, 50).z for _ in range(300)])
    assert values.mean().item() == pytest.approx(0.0, abs=0.25)
    assert values.std().item() == pytest.approx(1.0, rel=0.15)


def memorise(samples, n_train, n_test):
    train, test = torch.randn(n_train, samples.shape[1]), torch.randn(n_test, samples.shape[1])
    return nearness_test(find_nearest(samples, train), find_nearest(samples, test), 1.0)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("copies", "copies ("),
        ("near copies", "copies ("),
        ("half copies", "copies ("),
        ("fresh", "no sign of copying ("),
        ("dense", "no sign of copying: samples may just concentrate where data are dense ("),
        ("wide", "far from the data: says nothing about copying ("),
        ("shifted", "far from the data: says nothing about copying ("),
        (
            "noisy copies",
            "can't tell: no nearer to the training set than data are, but nearer to it than to the test set (",
        ),
        ("few", "can't tell: too few examples ("),
        ("one copy", "can't tell: samples may just concentrate where data are dense ("),
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
    assert memorisation(samples, train, test[: len(samples)]).verdict.startswith(words)
    score = data_copying(torch.cat([samples, samples])[: max(20, len(samples))], train, test[: len(samples)])
    assert score.verdict.startswith(words)


SIZES = [(300, 1000), (1000, 300), (1000, 1000)]


def verdicts(samples, train, test):
    """The first of both metrics' scores, and their verdicts."""
    score, copying = memorisation(samples, train, test), data_copying(samples, train, test)
    for count in ("exact_train", "exact_test"):
        assert copying.details[count] == score.details[count]
    return score, score.verdict.split(" (")[0], copying.verdict.split(" (")[0]


@pytest.mark.parametrize(("n_train", "n_test"), SIZES)
@pytest.mark.parametrize(("d", "scale"), [(2, 8.0), (8, 1.0), (5, None)])
def test_verdict_of_copies_and_of_fresh_samples(n_train, n_test, d, scale):
    """Integers, of which many tie or are equal, and continuous data."""

    def draw(n, width=1.0):
        x = width * torch.randn(n, d)
        return x if scale is None else (scale * x).round()

    torch.manual_seed(11)
    train, test = draw(n_train), draw(n_test)
    copies = train[torch.randint(0, n_train, (1000,))]
    assert verdicts(copies, train, test)[1:] == ("copies", "copies")
    half = torch.cat([copies[:500], draw(500)])
    assert verdicts(half, train, test)[1] == "copies"
    assert verdicts(draw(1000), train, test)[1:] == ("no sign of copying", "no sign of copying")
    dense = verdicts(draw(1000, 0.5), train, test)  # independent, but where data are dense
    assert all(word.endswith("samples may just concentrate where data are dense") for word in dense[1:])


@pytest.mark.slow
@pytest.mark.parametrize(("n_train", "n_test", "d", "scale"), [(300, 1000, 2, 12.0), (1000, 300, 8, 1.0)])
def test_error_rate_on_integers(n_train, n_test, d, scale):
    """Three standard errors are exceeded once in 740 times on each side: of 100 independent samples at most 4 may
    have another verdict than "no sign", by 4 chances each, and of those where data are dense at most 2 "copies"."""

    def draw(n, width=1.0):
        return (width * scale * torch.randn(n, d)).round()

    torch.manual_seed(12)
    fresh, dense, leans = [], [], []
    for _ in range(100):
        train, test, narrow = draw(n_train), draw(n_test), draw(500, 0.5)
        fresh.append(memorisation(draw(500), train, test).verdict.startswith("no sign"))
        dense.append(memorisation(narrow, train, test).verdict.startswith("copies"))
        leans.append(nearness_test(find_nearest(narrow, train), find_nearest(narrow, test), 1.0).z)
    assert sum(fresh) >= 96
    assert sum(dense) <= 2
    z = torch.tensor(leans)
    assert z.mean().item() == pytest.approx(0.0, abs=0.4)
    assert z.std().item() == pytest.approx(1.0, rel=4 / 200**0.5)


def pictures(n, levels=256):
    """Random pictures of 36 pixels in whole grey levels."""
    return torch.randint(0, levels, (n, 1, 6, 6)) / (levels - 1)


@pytest.mark.parametrize(
    ("n_copies", "n_leaked", "words"),
    [
        (179, 121, "copies of training and test examples"),
        (0, 300, "copies of test examples"),
        (0, 60, "copies of test examples"),
        (300, 0, "copies"),
        (100, 0, "copies"),
        (12, 0, "can't tell: more samples than data equal training examples"),
        (1, 1, "no sign of copying"),
        (0, 0, "no sign of copying"),
    ],
)
def test_verdict_of_leaked_data(n_copies, n_leaked, words):
    torch.manual_seed(13)
    train, test = pictures(3000), pictures(1000)
    samples = torch.cat([train[:n_copies], test[:n_leaked], pictures(300 - n_copies - n_leaked)])
    for scaled in (samples, samples.double() + 1e-8):  # equal up to rounding
        score, *both = verdicts(scaled, train, test)
        assert both == [words, words]
        assert (score.details["exact_train"], score.details["exact_test"]) == (n_copies, n_leaked)
    said = f"{n_copies} of 300 samples ({n_copies / 3:.1f} %) equal a training example, and 0.0 % of the test"
    assert (said in score.verdict) == (n_copies + n_leaked > 0)


def test_verdict_where_the_splits_hold_equal_examples():
    """A tenth of the test set stands in the training set, and examples of the training set stand there twice."""
    torch.manual_seed(14)
    train, test, fresh = pictures(1000), pictures(500), pictures(500)
    train, test = torch.cat([train, train[:300]]), torch.cat([test[:450], train[:50]])
    assert overlap(train, test) == Overlap(
        0.1, pytest.approx(100 / 1300), pytest.approx(1267 / 1300, abs=0.02), 100
    )
    fresh[:50] = train[50:100]  # as many as of the test set
    score, *words = verdicts(fresh, train, test)
    assert words == ["no sign of copying"] * 2
    assert "50 of 500 samples (10.0 %) equal a training example, and 10.0 % of the test" in score.verdict
    assert verdicts(train[torch.randperm(1300)[:500]], train, test)[1:] == ("copies", "copies")
    assert verdicts(train[:300], train, test)[1] == "copies"  # only examples that stand there twice
    leaked = torch.cat([train[200:500], test[:200]])
    assert verdicts(leaked, train, test)[1:] == ("copies of training and test examples",) * 2


def test_verdict_where_copies_could_not_show():
    torch.manual_seed(15)
    train, test = torch.randint(0, 5, (2, 500, 2)).float()  # all of the 25 values are in both
    said = "can't tell: most test examples are training examples too"
    assert verdicts(train, train, test)[1:] == verdicts(test, train, test)[1:] == (said, said)


def test_verdict_of_samples_drawn_to_the_test_set():
    torch.manual_seed(16)
    train, test = torch.randn(2, 600, 30)
    for noise in (0.1, 1.2):
        samples = test + noise * torch.randn(600, 30)
        expected = "can't tell: nearer to the test set than to the training set"
        assert verdicts(samples, train, test)[1:] == (expected, expected)


def test_verdict_says_its_numbers():
    assert verdict(4.25, 40.0, Nearness(0.9, 0.5, 0.04, 1.0), NO_COPY) == (
        "copies (4.2 standard errors nearer to the training set than held-out data; the nearest real example is a "
        "training one for 90.0 % of samples, 50.0 % by chance, 10.0 standard deviations more; no sample equals a "
        "training or test example)"
    )
    far = verdict(-7.0, 40.0, Nearness(0.4, 0.5, 0.05, 1.0), NO_COPY)
    assert "7.0 standard errors further from" in far
    assert verdict(2.9, 40.0, Nearness(0.6, 0.5, 0.04, 1.0), NO_COPY).startswith("no sign of copying (")
    some = NO_COPY._replace(train=3, test=20, overlap=Overlap(0.01, 0.1, 1.0, 5))
    assert verdict(0.0, 40.0, Nearness(0.5, 0.5, 0.04, 1.0), some).endswith(
        "less; 3 of 100 samples (3.0 %) equal a training example, and 1.0 % of the test examples do; "
        "20 of 100 samples (20.0 %) equal a test example, and 10.0 % of the training examples do)"
    )


def test_half_copies_are_ruled_out_only_where_they_would_show():
    assert Nearness(0.5, 0.5, 0.05, 1.0).rules_out
    assert not Nearness(0.5, 0.5, 0.05, 0.6).rules_out  # copies tie with the test set nearly always


def test_features_of_an_extractor(monkeypatch):
    data = gaussian_data()
    far = replace(data, train=data.train * torch.tensor([1.0, 1.0, 1e4]))
    monkeypatch.setattr(memorisation_file, "extractor", lambda *_: lambda x: x[:, :2])
    monkeypatch.setattr("ganbench.metrics.extractors.identity", lambda *_: "two numbers")
    metric = Memorisation(n=300, features="two")
    reference = metric.reference(far)
    score = metric(Samples(far.valid), far, reference)
    expected = memorisation(far.valid[:300, :2], far.train[:, :2], random_subset(far.test, 300)[:, :2])
    assert (score.value, score.sem) == (expected.value, expected.sem)
    assert score.details["panel_neighbours"].shape == (10, 3)
    assert metric(Samples(far.valid), far).value == score.value
    assert ", in two numbers; P(d of a sample" in metric.protocol(far)


def test_the_protocol_of_pixels_is_what_it_is():
    entry = api.request("digits", ["memorisation"], ["memorisation.n=1000"])
    assert protocol(entry.metrics[0], load_data(entry.dataset))[0] == "00c4d78a"


def test_order_of_the_samples_changes_nothing():
    data = gaussian_data()
    metric = Memorisation(n=600)
    reference = metric.reference(data)
    turned = metric(Samples(data.valid.flip(0)), data, reference)
    score = metric(Samples(data.valid), data, reference)
    assert turned.value == pytest.approx(score.value, abs=1e-12)
    assert turned.verdict == score.verdict
