"""The classifier two-sample test: its chance level, its power, and scikit-learn's neighbours."""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples, gaussian_data
from sklearn.neighbors import KNeighborsClassifier

from ganbench.errors import SampleError
from ganbench.metrics import two_sample
from ganbench.metrics.subset import random_subset
from ganbench.metrics.two_sample import C2ST, _neighbours, c2st


def test_neighbours_are_those_of_scikit_learn():
    torch.manual_seed(0)
    train, points = torch.randn(200, 3).double(), torch.randn(150, 3).double()
    labels = torch.arange(2).repeat_interleave(100)
    expected = KNeighborsClassifier(13).fit(train.numpy(), labels.numpy()).predict(points.numpy())
    assert _neighbours(train, labels, points).tolist() == expected.tolist()


def test_chance_level_and_its_spread():
    torch.manual_seed(1)
    scores = [c2st(torch.randn(200, 4), torch.randn(200, 4)) for _ in range(200)]
    values = torch.tensor([s.value for s in scores])
    assert scores[0].details["null_sd"] == math.sqrt(1 / (4 * 200))
    assert values.mean().item() == pytest.approx(0.5, abs=4 * scores[0].details["null_sd"] / 200**0.5)
    assert values.std().item() == pytest.approx(scores[0].details["null_sd"], rel=0.25)
    assert sum(s.details["p_value"] < 0.05 for s in scores) / 200 < 0.12


@pytest.mark.parametrize("classifier", ["knn", "mlp"])
def test_orientation(classifier):
    torch.manual_seed(2)
    side = torch.where(torch.rand(2, 400, 1) < 0.5, -3.0, 3.0)
    test, fresh = torch.randn(2, 400, 2) + side * torch.tensor([1.0, 0.0])
    dropped, noisy = torch.randn(400, 2) + torch.tensor([3.0, 0.0]), fresh + 2 * torch.randn(400, 2)
    fine, one, noise, far = (
        c2st(x, test, classifier=classifier) for x in (fresh, dropped, noisy, fresh + 20)
    )
    assert abs(fine.value - 0.5) < 3.5 * fine.details["null_sd"]
    assert one.value > 0.65
    assert noise.value > 0.58
    assert far.value > 0.99
    assert far.details["p_value"] < 1e-6


def test_accuracy_of_two_gaussians_is_that_of_the_best_rule():
    torch.manual_seed(3)
    score = c2st(torch.randn(1500, 1) + 1, torch.randn(1500, 1) - 1, classifier="mlp")
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))  # Φ(1)
    assert score.value == pytest.approx(best, abs=4 * (score.sem or 0))


def test_larger_sets_are_cut_and_float64_changes_nothing():
    torch.manual_seed(4)
    x, y = torch.randn(300, 80) + 0.3, torch.randn(100, 80)
    score = c2st(x, y)
    assert score.n == 100
    assert c2st(x.double(), y.double()).value == score.value
    assert c2st(x.view(300, 8, 10), y.view(100, 8, 10)).value == score.value


def test_constant_features_do_not_stop_the_net():
    torch.manual_seed(5)
    x = torch.cat([torch.randn(40, 2), torch.ones(40, 1)], 1)
    assert 0 <= c2st(x, x.flip(0), classifier="mlp").value <= 1


@pytest.mark.parametrize(
    ("samples", "options", "text"),
    [
        (torch.zeros(7, 2), {}, "samples: holds 7 examples; at least 8 are needed"),
        (torch.zeros(9, 3), {}, r"samples: one example has shape \[3\]; expected \[2\]"),
        (torch.full((9, 2), torch.nan), {}, "samples: 9 of 9 examples hold NaN or infinity"),
        (torch.zeros(9, 2), {"classifier": "svm"}, "classifier: expected 'knn' or 'mlp', got 'svm'"),
    ],
)
def test_bad_input(samples, options, text):
    with pytest.raises(SampleError, match=text):
        c2st(samples, torch.rand(9, 2), **options)


def test_metric_and_its_control():
    data = gaussian_data()
    metric = C2ST(n=500)
    score = metric(Samples(data.valid), data, metric.reference(data))
    assert score.value == c2st(data.valid[:500], random_subset(data.test, 500)).value
    assert abs(score.controls["train"] - 0.5) < 0.1
    assert metric(Samples(data.valid + 1), data).value > 0.7
    assert "⌊√n_train⌋ nearest" in metric.protocol(data)
    assert "20 ReLU neurons" in C2ST(classifier="mlp").protocol(data)
    assert metric.protocol(data).startswith(
        "accuracy of the majority of the ⌊√n_train⌋ nearest (made odd), Euclid"
    )


@pytest.mark.parametrize("classifier", ["knn", "mlp"])
def test_features_of_an_extractor(monkeypatch, classifier):
    monkeypatch.setattr(two_sample, "extractor", lambda *_: lambda x: x[:, :2])
    monkeypatch.setattr("ganbench.metrics.extractors.identity", lambda *_: "two numbers")
    data, far = gaussian_data(200), torch.tensor([0.0, 0.0, 50.0])
    metric = C2ST(n=200, classifier=classifier, features="two")
    score = metric(Samples(data.valid + far), data, metric.reference(data))
    assert (
        score.value
        == c2st(data.valid[:, :2], random_subset(data.test, 200)[:, :2], classifier=classifier).value
    )
    assert "of two numbers" in metric.protocol(data) or "Euclidean in two numbers" in metric.protocol(data)
