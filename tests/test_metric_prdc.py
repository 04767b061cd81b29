"""Precision, recall, density and coverage against the authors' package and the known expectations."""

from __future__ import annotations

import pytest
import torch
from metric_models import Samples, gaussian_data

from ganbench.contracts import Data
from ganbench.errors import SampleError
from ganbench.metrics import prdc as prdc_file
from ganbench.metrics.per_device import PerDevice
from ganbench.metrics.prdc import PRDC, Control, PrecisionRecall, prdc
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


def _pixels(n, levels, d, generator):
    """Numbers 0..levels − 1 that are often alike, as those of images are."""
    pattern = torch.randint(0, levels, (8, d), generator=generator)
    noise = torch.randint(0, levels, (n, d), generator=generator)
    keep = torch.rand(n, d, generator=generator) < 0.9
    return torch.where(keep, pattern[torch.randint(0, 8, (n,), generator=generator)], noise)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("low", "high"), [(0, None), (0, 1), (-1, 1), (3, 17.3)])
@pytest.mark.parametrize(("levels", "d"), [(2, 64), (2, 200), (256, 200)])
def test_ties_are_those_of_the_authors_package_on_any_scale(levels, d, low, high, dtype):
    """Whole numbers are exact in the package, which computes in float64: a tie is outside the ball."""
    package = pytest.importorskip("prdc")
    generator = torch.Generator().manual_seed(8)
    real, fake = (_pixels(200, levels, d, generator) for _ in range(2))
    expected = package.compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=5)
    step = 1 if high is None else (high - low) / (levels - 1)
    found = prdc(*(x.to(dtype) * step + low for x in (real, fake)))
    assert vars(found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("d", [3, 100])
def test_copies_of_real_examples_have_exact_ties(d):
    """Each copy is in the balls of the k examples that have it nearer than their k-th neighbour, or are it. The balls
    whose k-th neighbour it is, as many on average, do not count, whatever the rounding."""
    torch.manual_seed(9)
    real = torch.randn(60, d)
    order = torch.randperm(60)
    for given in (real, real.double()):
        found = prdc(given, given[order])
        assert found == prdc(given, given[order], block=(7, 13))
        assert found.density == pytest.approx(1.0, abs=1e-12)
        assert found.coverage == found.precision == found.recall == 1.0


def test_equal_samples_are_compared_by_their_differences():
    """Samples of two kinds have balls of no size, in which nothing is, not even by rounding."""
    torch.manual_seed(10)
    real = torch.rand(60, 100)
    found = prdc(real, real[torch.arange(60) % 2])
    assert found.recall == 0.0
    assert found.precision == 1.0
    assert prdc(torch.full((20, 100), 0.3), torch.full((20, 100), 0.3)).density == 0.0


@pytest.mark.slow
def test_standard_error_of_coverage_is_the_spread_over_fresh_sets():
    torch.manual_seed(11)
    metric, values, errors = PrecisionRecall(n=240, k=3), [], []
    for _ in range(60):
        real, fake = torch.randn(2, 240, 2)
        data = Data("fresh", real, real, real, (2,))
        scores = metric(
            Samples(fake + torch.tensor([1.0, 0.0])),
            data,
            PerDevice(lambda _, real=real: Control(real, PRDC(0, 0, 0, 0))),
        )
        values.append(scores[3].value)
        errors.append(scores[3].sem)
    spread = torch.tensor(values).std().item()
    assert torch.tensor(errors).square().mean().sqrt().item() == pytest.approx(spread, rel=0.25)


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
    control = scores[0].controls["train"]
    assert control["coverage"] == pytest.approx(1 - 2**-3, abs=0.05)
    assert control["density"] == pytest.approx(1.0, abs=0.1)
    parts = [prdc(random_subset(data.test, 600)[i::10], data.valid[i::10], k=3) for i in range(10)]
    spread = torch.tensor(
        [[p.precision, p.recall, p.density, p.coverage] for p in parts], dtype=torch.float64
    ).std(0)
    assert [score.sem for score in scores] == pytest.approx((spread / 10**0.5).tolist())
    few = PrecisionRecall(n=79, k=3)(Samples(data.valid), data)
    assert [score.sem for score in few] == [None] * 4
    assert "600 samples against 600 random test examples, k = 3" in metric.protocol(data)


def test_features_of_an_extractor(monkeypatch):
    monkeypatch.setattr(prdc_file, "extractor", lambda *_: lambda x: x[:, :2])
    monkeypatch.setattr("ganbench.metrics.extractors.identity", lambda *_: "two numbers")
    data, far = gaussian_data(), torch.tensor([0.0, 0.0, 50.0])
    metric = PrecisionRecall(n=300, features="two")
    scores = metric(Samples(data.valid + far), data, metric.reference(data))
    expected = prdc(random_subset(data.test, 300)[:, :2], data.valid[:300, :2])
    assert [score.value for score in scores] == list(vars(expected).values())
    assert "Euclidean in two numbers; a ball holds" in metric.protocol(data)
    assert "Euclidean in the data's own scale; a ball holds" in PrecisionRecall().protocol(data)
