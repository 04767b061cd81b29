"""A classifier that learns from samples: scikit-learn's neighbours, orientation, what a real one would do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from metric_models import Samples, gaussian_data
from sklearn.neighbors import KNeighborsClassifier

from ganbench import api
from ganbench.errors import SampleError
from ganbench.execution.worker import load_data
from ganbench.metrics import sampled_classifier
from ganbench.metrics.sampled_classifier import SampleClassifier, nearest_neighbour_error
from ganbench.metrics.subset import random_subset


def test_error_is_that_of_scikit_learn():
    torch.manual_seed(0)
    x, asked = torch.randn(200, 4), torch.randn(150, 4)
    y, truth = torch.randint(3, (200,)), torch.randint(3, (150,))
    model = KNeighborsClassifier(1).fit(x.numpy(), y.numpy())
    score = nearest_neighbour_error(x, y, asked, truth)
    assert score.value == pytest.approx(100 * (1 - model.score(asked.numpy(), truth.numpy())))
    assert score.sem == pytest.approx((score.value * (100 - score.value) / 150) ** 0.5)
    assert nearest_neighbour_error(x.double(), y, asked.double(), truth) == score
    assert nearest_neighbour_error(x.view(200, 2, 2), y, asked.view(150, 2, 2), truth) == score


def test_orientation():
    torch.manual_seed(1)
    y, truth = torch.arange(600) % 3, torch.arange(300) % 3
    x = torch.randn(600, 2) + 6 * torch.nn.functional.one_hot(y, 3)[:, :2]
    asked = torch.randn(300, 2) + 6 * torch.nn.functional.one_hot(truth, 3)[:, :2]
    known = y != 2
    fine, noisy, dropped = (
        nearest_neighbour_error(*given, asked, truth).value
        for given in ((x, y), (x + 4 * torch.randn(600, 2), y), (x[known], y[known]))
    )
    assert fine < 1
    assert noisy > 8
    assert dropped == pytest.approx(100 / 3, abs=1)  # the class that is missing


@pytest.mark.parametrize(
    ("samples", "labels", "text"),
    [
        (torch.zeros(0, 2), torch.zeros(0).long(), "samples: holds 0 examples; at least 1 are needed"),
        (torch.zeros(9, 3), torch.zeros(9).long(), r"samples: one example has shape \[3\]; expected \[2\]"),
        (torch.full((9, 2), torch.nan), torch.zeros(9).long(), "samples: 9 of 9 examples hold NaN"),
        (torch.zeros(9, 2), torch.zeros(8).long(), r"samples: expected 9 labels \[9\], got \[8\]"),
    ],
)
def test_bad_input(samples, labels, text):
    with pytest.raises(SampleError, match=text):
        nearest_neighbour_error(samples, labels, torch.rand(5, 2), torch.zeros(5).long())


def test_metric_and_its_controls(monkeypatch):
    data = load_data(api.request("digits", [], []).dataset)
    assert data.labels is not None
    model = KNeighborsClassifier(5).fit(data.train.flatten(1).numpy() / 255, data.labels.train.numpy())
    known = SimpleNamespace(predict=lambda x: torch.as_tensor(model.predict(x.flatten(1).numpy())))
    monkeypatch.setattr(sampled_classifier, "classifier", lambda *_: known)
    metric = SampleClassifier(n=200)
    reference = metric.reference(data)
    score = metric(Samples(data.floats(data.valid)), data, reference)
    assert score.n == len(data.test)
    assert score.value < 30
    controls = reference.on(torch.device("cpu"))
    assert score.value == pytest.approx(controls.relabelled, abs=12)
    expected = nearest_neighbour_error(
        data.floats(random_subset(data.train, 200)),
        random_subset(data.labels.train, 200),
        data.floats(data.test),
        data.labels.test,
    )
    assert score.controls["labels"] == controls.true == expected.value
    assert score.controls["train"] == controls.relabelled
    assert score.details["classes"].sum().item() == pytest.approx(1.0)
    one = data.floats(data.train[data.labels.train == 3][:1]).expand(200, 1, 8, 8)
    assert metric(Samples(one), data, reference).value > 80
    assert "a classifier (2 convolutions" in metric.protocol(data)
    with pytest.raises(SampleError, match="gaussian: has no labels"):
        metric.reference(gaussian_data())
