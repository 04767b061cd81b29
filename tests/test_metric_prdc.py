"""Precision, recall, density and coverage against the authors' package and the known expectations."""

from __future__ import annotations

import pytest
import torch
from metric_models import Samples, gaussian_data

from ganbench.errors import SampleError
from ganbench.metrics import prdc as prdc_file
from ganbench.metrics.prdc import PrecisionRecall, prdc
from ganbench.metrics.subset import random_subset


@pytest.mark.parametrize("d", [2, 100])
@pytest.mark.parametrize("k", [1, 5])
def test_equals_the_authors_package(d, k):
    package = pytest.importorskip("prdc")
    torch.manual_seed(0)
    real, fake = (
        torch.randn(300, d, dtype=torch.float64),
        0.9 * torch.randn(250, d, dtype=torch.float64) + 0.1,
    )
    expected = package.compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    for given in ((real, fake), (real.float(), fake.float())):
        found = prdc(*given, k=k)
        assert vars(found) == pytest.approx(expected, abs=1e-9)


def test_blocks_change_nothing():
    torch.manual_seed(1)
    real, fake = torch.randn(80, 70), torch.randn(60, 70)
    whole = prdc(real, fake)
    assert prdc(real, fake, block=(7, 13)) == whole
    assert prdc(real.view(80, 7, 10), fake.view(60, 7, 10)) == whole


@pytest.mark.parametrize("k", [1, 3, 5])
def test_fresh_data_have_density_one_and_the_known_coverage(k):
    torch.manual_seed(2)
    found = [prdc(torch.randn(500, 2), torch.randn(500, 2), k=k) for _ in range(30)]
    assert sum(f.density for f in found) / 30 == pytest.approx(1.0, abs=0.03)
    assert sum(f.coverage for f in found) / 30 == pytest.approx(1 - 2**-k, abs=0.01)


def test_orientation():
    torch.manual_seed(3)
    side = torch.where(torch.rand(2, 600, 1) < 0.5, -9.0, 9.0)
    real, fresh = torch.randn(2, 600, 2) + side * torch.tensor([1.0, 0.0])
    dropped = torch.randn(600, 2) + torch.tensor([9.0, 0.0])
    fine, one, noisy = prdc(real, fresh), prdc(real, dropped), prdc(real, fresh + 2 * torch.randn(600, 2))
    assert one.coverage < 0.6 < 0.9 < fine.coverage
    assert one.recall < 0.6 < 0.9 < fine.recall
    assert one.precision > 0.9
    assert noisy.precision < 0.9 < fine.precision
    assert noisy.density < fine.density - 0.2


@pytest.mark.parametrize(
    ("real", "fake", "text"),
    [
        (torch.rand(5, 2), torch.rand(9, 2), "real: holds 5 examples; at least 6 are needed"),
        (torch.rand(9, 2), torch.rand(5, 2), "fake: holds 5 examples; at least 6 are needed"),
        (torch.rand(9, 2), torch.rand(9, 3), r"fake: one example has shape \[3\]; expected \[2\]"),
        (torch.rand(9, 2), torch.full((9, 2), torch.nan), "fake: 9 of 9 examples hold NaN"),
    ],
)
def test_bad_input(real, fake, text):
    with pytest.raises(SampleError, match=text):
        prdc(real, fake)


def test_collapsed_samples_are_scored():
    torch.manual_seed(4)
    found = prdc(torch.rand(50, 2), torch.zeros(50, 2))
    assert found.recall == 0.0
    assert found.coverage < 0.2


def test_metric_and_its_control():
    data = gaussian_data()
    metric = PrecisionRecall(n=1000, k=3)
    scores = metric(Samples(data.valid), data, metric.reference(data))
    expected = prdc(data.test, data.valid, k=3)
    assert [score.value for score in scores] == list(vars(expected).values())
    assert [score.n for score in scores] == [600] * 4
    control = scores[0].details["control_train"]
    assert control["coverage"] == pytest.approx(1 - 2**-3, abs=0.05)
    assert control["density"] == pytest.approx(1.0, abs=0.1)
    p = expected.precision
    assert scores[0].sem == pytest.approx((p * (1 - p) / 600) ** 0.5)
    assert scores[2].sem is None
    assert "600 samples against 600 random test examples, k = 3" in metric.protocol(data)


def test_features_of_an_extractor(monkeypatch):
    monkeypatch.setattr(prdc_file, "extractor", lambda *_: lambda x: x[:, :2])
    monkeypatch.setattr(prdc_file, "identity", lambda *_: "two numbers")
    data, far = gaussian_data(), torch.tensor([0.0, 0.0, 50.0])
    metric = PrecisionRecall(n=300, features="two")
    scores = metric(Samples(data.valid + far), data, metric.reference(data))
    expected = prdc(random_subset(data.test, 300)[:, :2], data.valid[:300, :2])
    assert [score.value for score in scores] == list(vars(expected).values())
    assert "Euclidean in two numbers; a ball holds" in metric.protocol(data)
    assert "Euclidean in the data's own scale; a ball holds" in PrecisionRecall().protocol(data)
