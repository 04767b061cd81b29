"""The toy datasets: samples against densities, densities against quadrature, modes where they belong."""

from __future__ import annotations

import inspect
import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from ganbench.contracts import Data
from ganbench.datasets import toy
from ganbench.errors import DatasetError

NAMES = ("ring", "grid", "mixture1d", "swiss_roll")


def make(name: str, seed: int = 0, **params: object) -> Data:
    return getattr(toy, name)(torch.Generator().manual_seed(seed), **params)


@cache
def default(name: str) -> Data:
    return make(name)


def midpoints(low: float, high: float, n: int) -> torch.Tensor:
    return low + (torch.arange(n, dtype=torch.float64) + 0.5) * ((high - low) / n)


def mass(data: Data, low: float, high: float, n: int) -> float:
    """Integral of the density over [low, high]^d by the midpoint rule, n points a side."""
    line = midpoints(low, high, n)
    points = torch.cartesian_prod(*[line] * data.shape[0]).reshape(-1, data.shape[0])
    assert data.log_density
    return float(data.log_density(points).exp().sum()) * ((high - low) / n) ** data.shape[0]


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_float32_points_of_the_stated_numbers(name):
    data = default(name)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [100_000, 10_000, 10_000]
    assert data.name == name
    assert data.train.dtype == data.valid.dtype == data.test.dtype == torch.float32
    assert data.shape == tuple(data.train.shape[1:]) == ((1,) if name == "mixture1d" else (2,))
    assert data.scale is None
    assert data.labels is None


@pytest.mark.parametrize("name", NAMES)
def test_no_point_is_in_two_splits(name):
    data = default(name)
    every = torch.cat([data.train, data.valid, data.test])
    if name != "mixture1d":  # on the line, float32 has too few numbers for that
        assert len(every.unique(dim=0)) == len(every)
    assert not torch.equal(data.valid, data.test)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_bits_and_another_seed_others(name):
    sizes = {"n_train": 500, "n_valid": 100, "n_test": 100}
    once, twice, other = make(name, 3, **sizes), make(name, 3, **sizes), make(name, 4, **sizes)
    assert torch.equal(once.train, twice.train)
    assert torch.equal(once.test, twice.test)
    assert not torch.equal(once.train, other.train)


@pytest.mark.parametrize("name", NAMES)
def test_more_training_points_leave_the_other_splits_alone(name):
    few, many = make(name, n_train=10), make(name, n_train=1000)
    assert torch.equal(few.test, many.test)
    assert torch.equal(few.valid, many.valid)


@pytest.mark.parametrize("name", NAMES)
def test_marks_say_what_the_data_have(name):
    data, provides = default(name), getattr(toy, name).__ganbench__.provides
    assert ("modes" in provides) == (data.modes is not None)
    assert ("log_density" in provides) == (data.log_density is not None)


def test_ring_has_eight_distinct_centres_at_equal_angles():
    modes = default("ring").modes
    assert modes is not None
    assert modes.std == 0.02
    expected = [[2 * math.cos(math.pi * k / 4), 2 * math.sin(math.pi * k / 4)] for k in range(8)]
    torch.testing.assert_close(modes.centers, torch.tensor(expected))
    assert float(torch.pdist(modes.centers).min()) == pytest.approx(4 * math.sin(math.pi / 8), abs=1e-5)


def test_grid_has_the_25_centres_of_veegan():
    modes = default("grid").modes
    assert modes is not None
    assert modes.std == 0.05
    expected = {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert {tuple(center) for center in modes.centers.tolist()} == expected


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_true_samples_are_9889_of_10000_within_three_standard_deviations(name):
    data = default(name)
    assert data.modes
    nearest = torch.cdist(data.train.double(), data.modes.centers.double()).min(1)
    share = float((nearest.values < 3 * data.modes.std).double().mean())
    assert share == pytest.approx(1 - math.exp(-4.5), abs=0.003)  # 98.89 %


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_modes_are_equally_likely_and_independent(name):
    data = default(name)
    assert data.modes
    counts = torch.cdist(data.train, data.modes.centers).argmin(1).bincount()
    # Independent draws scatter; equal counts would be a stratified sampler, whose p is near 1.
    assert 1e-3 < stats.chisquare(counts.numpy()).pvalue < 0.999


def test_a_ring_with_weights():
    weights = (0.4, 0.3, 0.2, 0.1)
    data = make("ring", modes=4, weights=weights)
    assert data.modes
    torch.testing.assert_close(data.modes.probabilities, torch.tensor(weights).double(), atol=1e-7, rtol=0)
    counts = torch.cdist(data.train, data.modes.centers).argmin(1).bincount()
    assert 1e-3 < stats.chisquare(counts.numpy(), 100_000 * np.array(weights)).pvalue < 0.999
    assert data.log_density
    log = data.log_density(data.modes.centers.double())
    torch.testing.assert_close(log - log[0], (torch.tensor(weights) / 0.4).log().double(), atol=1e-6, rtol=0)
    equal = make("ring", modes=4)
    assert equal.modes
    assert equal.modes.weights is None
    assert equal.modes.probabilities.tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ((0.5, 0.5), "ring: expected 4 weights, one for each mode, got 2"),
        ((0.5, 0.5, 0.0, 0.0), r"ring: weights\[2\] must be above 0 and finite, got 0.0"),
        ((0.5, 0.5, 0.5, 0.5), "ring: weights must add up to 1, got 2"),
    ],
)
def test_weights_of_a_ring_that_are_no_probabilities(weights, text):
    with pytest.raises(DatasetError, match=text):
        make("ring", modes=4, weights=weights)


@pytest.mark.parametrize(
    ("name", "low", "high", "n", "params"),
    [
        ("ring", -2.5, 2.5, 1000, {"std": 0.02}),
        ("grid", -4.5, 4.5, 900, {"std": 0.05}),
        ("mixture1d", -12.0, 14.0, 4000, {}),
        ("swiss_roll", -2.3, 2.3, 140, {}),
    ],
)
def test_density_integrates_to_one(name, low, high, n, params):
    assert mass(make(name, n_train=1, **params), low, high, n) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_mean_log_density_of_samples_is_minus_the_entropy(name):
    """For well separated modes the entropy is log K + log(2πe s²)."""
    data = default(name)
    assert data.modes
    assert data.log_density
    values = data.log_density(data.train)
    entropy = math.log(len(data.modes.centers)) + math.log(2 * math.pi * math.e * data.modes.std**2)
    sem = float(values.std()) / math.sqrt(len(values))
    assert float(values.mean()) == pytest.approx(-entropy, abs=4 * sem)


def test_mixture1d_samples_follow_their_distribution():
    def cdf(x):
        return 0.33 * stats.norm.cdf(x, -1, 0.255) + 0.67 * stats.norm.cdf(x, 2, 1.415)

    assert stats.kstest(default("mixture1d").train[:, 0].numpy(), cdf).pvalue > 1e-3


def test_mixture1d_density_is_the_closed_form():
    data, x = default("mixture1d"), torch.tensor([[-1.0], [0.3], [2.0], [7.0]], dtype=torch.float64)
    expected = 0.33 * stats.norm.pdf(x[:, 0], -1, 0.255) + 0.67 * stats.norm.pdf(x[:, 0], 2, 1.415)
    assert data.log_density
    torch.testing.assert_close(data.log_density(x), torch.from_numpy(expected).log())


def test_swiss_roll_samples_follow_their_density():
    """A χ² test over a coarse histogram whose cells are integrated finely."""
    data, bins, fine = default("swiss_roll"), 10, 16
    assert data.log_density
    line = midpoints(-2.3, 2.3, bins * fine)
    density = data.log_density(torch.cartesian_prod(line, line)).exp()
    cells = density.reshape(bins, fine, bins, fine).sum((1, 3)) * (4.6 / (bins * fine)) ** 2
    counts = torch.histogramdd(data.train.double(), bins=[bins] * 2, range=[-2.3, 2.3] * 2).hist
    expected = cells * len(data.train)
    often = expected > 20
    statistic = float(((counts - expected) ** 2 / expected)[often].sum())
    assert stats.chi2.sf(statistic, int(often.sum())) > 1e-3


@pytest.mark.parametrize("angle", [1.5 * math.pi, 2.2 * math.pi, 3.7 * math.pi, 4.5 * math.pi])
@pytest.mark.parametrize("away", [0.0, 1.0, 3.0, 5.0])
def test_swiss_roll_density_is_right_to_1e6_nats_at_the_ends_too(angle, away):
    data, std = default("swiss_roll"), 0.25 / 7.5
    x = angle * math.cos(angle) / 7.5 + away * std
    y = angle * math.sin(angle) / 7.5

    def noise(t: float) -> float:
        squared = (x - t * math.cos(t) / 7.5) ** 2 + (y - t * math.sin(t) / 7.5) ** 2
        return math.exp(-squared / (2 * std**2))

    start, end = 1.5 * math.pi, 4.5 * math.pi
    near = [t for t in (angle - 0.2, angle - 0.05, angle, angle + 0.05, angle + 0.2) if start < t < end]
    value = integrate.quad(noise, start, end, points=near, limit=500, epsabs=0, epsrel=1e-9)[0]
    expected = math.log(value / (3 * math.pi) / (2 * math.pi * std**2))
    assert data.log_density
    found = data.log_density(torch.tensor([[x, y]], dtype=torch.float64))
    assert float(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_density_in_float32_agrees_with_float64_and_keeps_the_dtype(name):
    data = default(name)
    assert data.log_density
    single, double = data.log_density(data.test), data.log_density(data.test.double())
    assert single.dtype == torch.float32
    assert double.dtype == torch.float64
    assert single.shape == (10_000,)
    torch.testing.assert_close(single.double(), double, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_density_has_a_gradient_and_takes_no_points(name):
    data = default(name)
    assert data.log_density
    x = data.test[:5].double().requires_grad_()
    data.log_density(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert data.log_density(data.test[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("ring", {"modes": 0}, "ring: modes must be above 0 and finite, got 0"),
        ("ring", {"std": -0.1}, "ring: std must be above 0 and finite, got -0.1"),
        ("grid", {"spacing": math.nan}, "grid: spacing must be above 0 and finite, got nan"),
        ("grid", {"n_test": 0}, "grid: n_test must be above 0 and finite, got 0"),
        ("swiss_roll", {"noise": 0.001}, "swiss_roll: noise must be at least 0.01, got 0.001"),
        ("mixture1d", {"weights": (0.5, 0.6)}, "mixture1d: weights must add up to 1, got 1.1"),
        ("mixture1d", {"stds": (0.5, 0.0)}, "mixture1d: stds[1] must be above 0 and finite, got 0.0"),
        ("mixture1d", {"means": (0.0, math.inf)}, "mixture1d: means must be finite numbers, got (0.0, inf)"),
        (
            "mixture1d",
            {"means": (1.0,)},
            "mixture1d: weights, means and stds must be of one length, got 2, 1 and 2",
        ),
    ],
)
def test_impossible_parameters_are_named(name, params, message):
    with pytest.raises(DatasetError) as caught:
        make(name, **params)
    assert str(caught.value) == message


def test_every_parameter_has_a_default():
    for name in NAMES:
        parameters = list(inspect.signature(getattr(toy, name)).parameters.values())[1:]
        assert all(parameter.default is not parameter.empty for parameter in parameters)


def test_mixture1200d_has_700_dimensions_of_noise_around_ten_centres():
    data = make("mixture1200d", n_train=1000, n_valid=10, n_test=500)
    modes = data.modes
    assert modes is not None
    assert (data.shape, tuple(modes.centers.shape), modes.dims, data.log_density) == (
        (1200,),
        (10, 1200),
        700,
        None,
    )
    distance, mode = torch.cdist(data.train, modes.centers).min(1)
    away = data.train - modes.centers[mode]
    assert away[:, 700:].abs().max() == 0
    assert float(away[:, :700].std()) == pytest.approx(1.0, abs=0.01)
    assert 1e-3 < stats.chisquare(mode.bincount(minlength=10).numpy()).pvalue < 0.999
    assert float((distance < 28).double().mean()) == pytest.approx(stats.chi2.cdf(28**2, 700), abs=0.02)
    assert stats.chi2.cdf(28**2, 700) == pytest.approx(0.987, abs=0.002)
    assert torch.equal(data.test, make("mixture1200d", n_train=3, n_valid=10, n_test=500).test)
    with pytest.raises(DatasetError, match="mixture1200d: noisy must be at most dims, 5, got 7"):
        make("mixture1200d", dims=5, noisy=7)
