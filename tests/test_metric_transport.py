"""Sliced Wasserstein distance against POT, closed forms and brute force."""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples, gaussian_data, image_data
from scipy.stats import wasserstein_distance

from ganbench.errors import SampleError
from ganbench.metrics.subset import random_subset
from ganbench.metrics.transport import SlicedWasserstein, _potentials, sliced_wasserstein, transport_costs


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("m", [300, 210, 7])
def test_equals_pot(p, m):
    ot = pytest.importorskip("ot")
    torch.manual_seed(0)
    x, y = torch.randn(300, 5).double(), 0.5 * torch.randn(m, 5).double() + 1
    directions = torch.nn.functional.normalize(torch.randn(130, 5).double(), dim=1)
    expected = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), p=p, projections=directions.T.numpy())
    found = transport_costs(x, y, directions, p).costs.mean() ** (1 / p)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_equals_scipy_along_one_direction():
    torch.manual_seed(1)
    x, y = torch.randn(97), 2 * torch.randn(64) + 1
    found = transport_costs(x[:, None], y[:, None], torch.ones(1, 1).double() * 3, 1.0).costs
    assert found.item() == pytest.approx(wasserstein_distance(x.numpy(), y.numpy()), rel=1e-6)


@pytest.mark.parametrize("d", [2, 100])
def test_a_shift(d):
    torch.manual_seed(2)
    x, shift = torch.randn(200, d), torch.randn(d)
    score = sliced_wasserstein(x + shift, x, projections=4000)
    assert score.value == pytest.approx(
        shift.norm().item() / math.sqrt(d), abs=4 * score.details["sem_directions"]
    )
    assert 0 < score.details["sem_directions"] < 0.05 * score.value
    assert score.n == 4000


def test_scaled_gaussians_are_as_far_as_their_deviations():
    torch.manual_seed(3)
    x, y = torch.randn(40_000, 2), 3 * torch.randn(40_000, 2)
    assert sliced_wasserstein(x, y, projections=50).value == pytest.approx(2.0, rel=0.02)


def test_part_of_the_standard_error_is_the_spread_over_directions():
    torch.manual_seed(4)
    x, y = torch.randn(60, 3), torch.randn(50, 3) * torch.tensor([3.0, 1.0, 0.2])
    scores = [
        sliced_wasserstein(x, y, projections=50, generator=torch.Generator().manual_seed(s))
        for s in range(200)
    ]
    spread = torch.tensor([s.value for s in scores]).std().item()
    assert sum(s.details["sem_directions"] for s in scores) / 200 == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize(
    ("n", "m", "shift", "least", "most"), [(100, 250, 0.5, 0.8, 1.2), (200, 200, 0.0, 0.8, 2.2)]
)
def test_standard_error_is_the_spread_over_fresh_sets(n, m, shift, least, most):
    """Without a difference it may be too large, but not by more than about 2."""
    scores = []
    for seed in range(150):
        g = torch.Generator().manual_seed(seed)
        x, y = torch.randn(n, 3, generator=g) + shift, torch.randn(m, 3, generator=g)
        scores.append(sliced_wasserstein(x, y, projections=30, generator=g))
    spread = torch.tensor([s.value for s in scores]).std().item()
    sem = torch.tensor([s.sem or 0 for s in scores]).square().mean().sqrt().item()
    assert least < sem / spread < most
    for score in scores[:3]:
        assert score.sem == pytest.approx(math.hypot(*score.details.values()))
        assert len(score.details) == 3


@pytest.mark.parametrize(("n", "m"), [(9, 14), (12, 12), (1, 5)])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_potentials_solve_the_dual(n, m, p):
    """φ(x) + ψ(y) ≤ |x - y|^p everywhere, and the means of both add up to the cost, the most that they can."""
    torch.manual_seed(7)
    x, y = torch.randn(1, n).double().sort().values, 2 * torch.randn(1, m).double().sort().values
    phi = _potentials(x, y, p)[0]
    costs = (x[0, :, None] - y[0]).abs() ** p
    psi = (costs - phi[:, None]).amin(0)  # the best partner of φ
    expected = transport_costs(x.T, y.T, torch.ones(1, 1).double(), p).costs.item()
    assert (phi.mean() + psi.mean()).item() == pytest.approx(expected, rel=1e-9)


def test_the_influence_of_an_example_is_what_the_distance_changes_by():
    """A little more weight on one example: the derivative of the cost is its potential."""
    torch.manual_seed(8)
    x, y = torch.randn(30, 2).double(), torch.randn(47, 2).double() + 1
    directions = torch.nn.functional.normalize(torch.randn(5, 2).double(), dim=1)
    found = transport_costs(x, y, directions, 2.0)
    copies = 200  # of every example, and one more of example 4
    more = torch.cat([x.repeat(copies, 1), x[4:5]])
    change = transport_costs(more, y, directions, 2.0).costs.mean() - found.costs.mean()
    assert (change * len(more)).item() == pytest.approx(found.by_x[4].item(), rel=0.02)
    more = torch.cat([y.repeat(copies, 1), y[11:12]])
    change = transport_costs(x, more, directions, 2.0).costs.mean() - found.costs.mean()
    assert (change * len(more)).item() == pytest.approx(found.by_y[11].item(), rel=0.02)


def test_orientation_and_symmetry():
    torch.manual_seed(5)
    side = torch.where(torch.rand(3, 600, 1) < 0.5, -3.0, 3.0)
    test, fresh, other = torch.randn(3, 600, 2) + side * torch.tensor([1.0, 0.0])
    dropped, noisy = torch.randn(600, 2) + torch.tensor([3.0, 0.0]), fresh + torch.randn(600, 2)
    fine, one, noise = (sliced_wasserstein(x, test, projections=100).value for x in (fresh, dropped, noisy))
    assert fine < noise < one
    assert sliced_wasserstein(test, test, projections=100).value == 0.0
    swapped = sliced_wasserstein(other, fresh[:400], projections=100).value
    assert sliced_wasserstein(fresh[:400], other, projections=100).value == pytest.approx(swapped, rel=1e-6)


def test_float64_and_shape_change_nothing():
    torch.manual_seed(6)
    x, y = torch.rand(2, 120, 4, 20)
    found = sliced_wasserstein(x, y).value
    assert sliced_wasserstein(x.double(), y.double()).value == pytest.approx(found, rel=1e-5)
    assert sliced_wasserstein(x.flatten(1), y.flatten(1)).value == found


@pytest.mark.parametrize(
    ("samples", "options", "text"),
    [
        (torch.zeros(0, 2), {}, "samples: holds 0 examples"),
        (torch.zeros(5, 3), {}, r"samples: one example has shape \[3\]; expected \[2\]"),
        (torch.full((5, 2), torch.nan), {}, "samples: 5 of 5 examples hold NaN or infinity"),
        (torch.zeros(5, 2), {"projections": 1}, "at least 2 projections"),
        (torch.zeros(5, 2), {"p": 0.5}, "got 1000 projections and p = 0.5"),
    ],
)
def test_bad_input(samples, options, text):
    with pytest.raises(SampleError, match=text):
        sliced_wasserstein(samples, torch.rand(5, 2), **options)


def test_metric_and_its_control():
    data = gaussian_data()
    metric = SlicedWasserstein(n=500, projections=100)
    score = metric(Samples(data.valid), data, metric.reference(data))
    assert score.value == metric(Samples(data.valid), data).value
    assert score.value == sliced_wasserstein(data.valid[:500], data.test, projections=100).value
    assert 0 < score.controls["train"] < 0.3
    drawn = sliced_wasserstein(random_subset(data.train, 500), data.test, projections=100).value
    assert score.controls["train"] == drawn
    assert score.sem == pytest.approx(
        math.hypot(*(score.details[f"sem_{x}"] for x in ("samples", "test", "directions")))
    )
    assert metric(Samples(data.valid + 1), data).value > 0.8
    assert "100 fixed random directions between 500 samples and all 600 test" in metric.protocol(data)
    images = image_data()
    assert metric(Samples(images.floats(images.train).repeat(3, 1, 1, 1)), images).value < 0.1
