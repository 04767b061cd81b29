"""Fréchet and kernel distance against scipy's matrix root, sums by hand and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from ganbench.errors import SampleError
from ganbench.metrics.features import frechet_distance, kernel_distance


@pytest.mark.parametrize("d", [1, 3, 40])
def test_frechet_equals_the_formula_with_scipys_root(d):
    torch.manual_seed(0)
    x = torch.randn(300, d).double() @ torch.randn(d, d).double()
    y = torch.randn(200, d).double() @ torch.randn(d, d).double() + 0.3
    a, b = (np.cov(z.numpy(), rowvar=False).reshape(d, d) for z in (x, y))
    root = np.trace(np.real(sqrtm(a @ b)))
    expected = (x.mean(0) - y.mean(0)).square().sum().item() + np.trace(a + b) - 2 * root
    assert frechet_distance(x, y).value == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(x.float(), y.float()).value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("n", [10, 500])
def test_frechet_of_a_shift_and_of_a_scale(n):
    torch.manual_seed(1)
    x, shift = torch.randn(n, 30).double(), torch.randn(30).double()
    assert frechet_distance(x + shift, x).value == pytest.approx(shift.square().sum().item(), rel=1e-9)
    centred = x - x.mean(0)
    total = centred.square().sum().item() / (n - 1)
    assert frechet_distance(3 * centred, centred).value == pytest.approx(4 * total, rel=1e-9)
    assert frechet_distance(x, x).value == pytest.approx(0.0, abs=1e-10)


def test_frechet_warns_of_too_few_examples():
    torch.manual_seed(2)
    assert "10 examples give no covariance of 30 features" in str(
        frechet_distance(torch.randn(500, 30), torch.randn(10, 30)).warning
    )
    assert not frechet_distance(torch.randn(100, 30), torch.randn(100, 30)).warning


def by_hand(x, y):
    """The unbiased estimate from the three matrices of kernel values."""
    xx, yy, xy = (((a @ b.T) / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    own = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return (own - 2 * xy.mean()).item()


def test_kernel_distance_equals_the_sum_by_hand_whatever_the_block():
    torch.manual_seed(3)
    x, y = torch.randn(150, 20).double() + 0.2, torch.randn(110, 20).double()
    expected = by_hand(x, y)
    found = [kernel_distance(x, y, block=block) for block in (1024, 64, 7)]
    assert [f.value for f in found] == pytest.approx([expected] * 3, rel=1e-10)
    assert [f.sem for f in found] == pytest.approx([found[0].sem] * 3, rel=1e-9)
    assert kernel_distance(x.float(), y.float()).value == pytest.approx(expected, rel=1e-4)
    images = (x.view(150, 4, 5), y.view(110, 4, 5))
    assert kernel_distance(*images).value == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_is_unbiased_and_its_error_honest():
    torch.manual_seed(4)
    same = [kernel_distance(torch.randn(60, 8), torch.randn(80, 8)) for _ in range(300)]
    values = torch.tensor([s.value for s in same])
    assert values.mean().item() == pytest.approx(0.0, abs=4 * values.std().item() / 300**0.5)
    mean_sem = sum(s.sem or 0 for s in same) / 300
    assert values.std().item() * 0.9 < mean_sem < values.std().item() * 1.7  # √2 near 0
    apart = [kernel_distance(torch.randn(60, 8) + 0.7, torch.randn(80, 8)) for _ in range(300)]
    spread = torch.tensor([s.value for s in apart]).std().item()
    assert sum(s.sem or 0 for s in apart) / 300 == pytest.approx(spread, rel=0.15)


def test_kernel_distance_of_a_shift_in_one_dimension():
    # E(xy+1)³ over products of moments: with x ~ N(μ, 1) and y ~ N(0, 1) the squared distance is
    # 3μ² + 3(E x² − 1)² + (E x³)² = 3μ² + 3μ⁴ + (μ³ + 3μ)².
    torch.manual_seed(5)
    mu = 0.5
    score = kernel_distance(torch.randn(6000, 1) + mu, torch.randn(6000, 1))
    expected = 3 * mu**2 + 3 * mu**4 + (mu**3 + 3 * mu) ** 2
    assert score.value == pytest.approx(expected, abs=4 * (score.sem or 0))
    assert (score.sem or 0) < 0.2 * expected


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_orientation(distance):
    torch.manual_seed(6)
    test, fresh = torch.randn(2, 500, 4)
    noisy, dropped = fresh + torch.randn(500, 4), fresh * torch.tensor([1.0, 1.0, 1.0, 0.0])
    fine = distance(fresh, test).value
    assert fine + 0.05 < min(distance(noisy, test).value, distance(dropped, test).value)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(
    ("features", "text"),
    [
        (torch.zeros(1, 2), "features: holds 1 examples; at least 2 are needed"),
        (torch.zeros(5, 3), r"features: one example has shape \[3\]; expected \[2\]"),
        (torch.full((5, 2), torch.inf), "features: 5 of 5 examples hold NaN or infinity"),
    ],
)
def test_bad_input(distance, features, text):
    with pytest.raises(SampleError, match=text):
        distance(features, torch.rand(5, 2))
