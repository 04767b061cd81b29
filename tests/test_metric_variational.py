"""The variational bound from samples: exact divergences of Gaussians, orientation, what it starts from."""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples, gaussian_data
from shipped_divergences import GAN, KL, Alpha, Jeffrey, JensenShannon, ReverseKL

from ganbench import find_divergence
from ganbench.errors import SampleError
from ganbench.metrics import variational
from ganbench.metrics.subset import random_subset
from ganbench.metrics.variational import (
    DIVERGENCES,
    EstimatedDivergence,
    Pair,
    _bound,
    variational_divergence,
)


@pytest.fixture
def few_nets(monkeypatch):
    """Two nets of each half instead of three."""
    monkeypatch.setattr(variational, "NETS_PER_HALF", 2)


def exact(f, shift: float) -> float:
    """D_f(N(shift, 1) ‖ N(0, 1)), nats, by quadrature."""
    x = torch.linspace(-12, 14, 20_001, dtype=torch.float64)
    log_p, log_q = -(x - shift).square() / 2, -x.square() / 2
    values = log_q.exp() * f.f((log_p - log_q).exp()) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(values, x))


@pytest.mark.parametrize(("f", "d"), [pytest.param(JensenShannon(), 8, marks=pytest.mark.slow), (KL(), 1)])
def test_bound_of_gaussians_is_below_the_exact_divergence_and_near_it(f, d):
    torch.manual_seed(0)
    shift = torch.zeros(d)
    shift[0] = 1.0
    score = variational_divergence(torch.randn(3000, d), torch.randn(3000, d) + shift, f)
    value = exact(f, 1.0)
    assert exact(KL(), 1.0) == pytest.approx(0.5, abs=1e-6)
    assert score.sem is not None
    assert score.value < value + 3 * score.sem
    assert score.value > 0.8 * value - 2 * score.sem
    assert score.n == 6000


def exact_noise(std: float, noise: float) -> float:
    """Jensen-Shannon's divergence, as ours is twice it, of a Gaussian in the plane and one with noise, by quadrature
    over the radius: that of mixtures too whose modes lie far apart."""
    wide = math.hypot(std, noise)
    r = torch.linspace(1e-9, 9 * wide, 400_001, dtype=torch.float64)
    log_p, log_q = (-r.square() / (2 * s * s) - math.log(2 * math.pi * s * s) for s in (std, wide))
    values = log_q.exp() * JensenShannon().f((log_p - log_q).exp()) * 2 * math.pi * r
    return float(torch.trapezoid(values, r))


def mixture(name: str, n: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    if name == "ring":
        angle = torch.randint(8, (n,), generator=g) * (math.pi / 4)
        return 2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.02 * torch.randn(n, 2, generator=g)
    return 2.0 * torch.randint(-2, 3, (n, 2), generator=g) + 0.05 * torch.randn(n, 2, generator=g)


@pytest.mark.parametrize(
    ("name", "noise"), [("ring", 0.1), pytest.param("grid", 0.3, marks=pytest.mark.slow)]
)
def test_noise_around_modes_is_seen(name, noise):
    """Scales of a hundredth of the data's, which a net does not resolve: the bound was 0 ± 0 here."""
    x, test = mixture(name, 1500, 0), mixture(name, 1500, 1)
    g = torch.Generator().manual_seed(2)
    score = variational_divergence(x + noise * torch.randn(x.shape, generator=g), test, JensenShannon())
    value = exact_noise({"ring": 0.02, "grid": 0.05}[name], noise)
    assert score.value == pytest.approx(value, abs=0.08)
    assert 0.005 < (score.sem or 0) < 0.03
    assert score.value < value + 3 * (score.sem or 0)
    assert score.warning is None


@pytest.mark.slow
def test_exact_values_and_the_spread_over_fresh_sets(few_nets):
    """Below the exact value in the mean, near it, and ± the spread between fresh sets."""
    scores, seeds = [], 8
    for seed in range(seeds):
        g = torch.Generator().manual_seed(seed)
        x, test = mixture("ring", 1000, 2 * seed), mixture("ring", 1000, 2 * seed + 1)
        if seed == 0:  # without noise every bound is 0 or nearly so
            assert abs(variational_divergence(x, test, JensenShannon()).value) < 0.005
        x = x + 0.05 * torch.randn(x.shape, generator=g)
        scores.append(variational_divergence(x, test, JensenShannon(), generator=g))
    values = torch.tensor([s.value for s in scores])
    value = exact_noise(0.02, 0.05)
    assert values.mean() < value + 2 * values.std() / seeds**0.5
    assert values.mean() > value - 0.06
    sem = torch.tensor([s.sem or 0 for s in scores]).square().mean().sqrt()
    assert 0.6 < sem / values.std() < 1.8


@pytest.mark.slow
def test_scale_shift_and_far_samples_change_little(few_nets):
    """The inputs are standardised by the real side, where no sample reaches."""
    x, test = mixture("ring", 600, 3) + torch.tensor([0.5, 0.0]), mixture("ring", 600, 4)
    value = variational_divergence(x, test, JensenShannon()).value
    assert variational_divergence(1000 * x + 7, 1000 * test + 7, JensenShannon()).value == pytest.approx(
        value, abs=0.05
    )
    fresh = mixture("ring", 600, 5)
    fresh[0] = 1e6
    assert abs(variational_divergence(fresh, test, JensenShannon()).value) < 0.03


def test_repeated_and_constant_examples_are_scored(few_nets, monkeypatch):
    monkeypatch.setattr(variational, "MAX_STEPS", 100)
    test = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).repeat(50, 1)
    assert variational_divergence(test, test, JensenShannon()).value < 0.05
    far = variational_divergence(test + 1, test, JensenShannon()).value
    assert far == pytest.approx(2 * math.log(2), abs=0.15)
    same = torch.zeros(40, 3)
    assert variational_divergence(same, same, JensenShannon()).value == 0


def test_a_bound_of_zero_warns_where_a_two_sample_test_differs(monkeypatch):
    monkeypatch.setattr(variational, "MAX_STEPS", 0)  # nets that never leave their start
    torch.manual_seed(6)
    x, y = torch.randn(2, 300, 2)
    score = variational_divergence(x + 1, y, JensenShannon())
    assert (score.value, score.sem) == (0, 0)
    assert "a two-sample test tells samples from data" in score.warning
    assert variational_divergence(x, y, JensenShannon()).warning is None


@pytest.mark.parametrize("f", [*map(find_divergence, DIVERGENCES), GAN()], ids=str)
def test_the_bound_of_a_constant_and_of_the_true_ratio(f):
    """log u = 0 gives f(1); the true log u of N(1, 1) to N(0, 1), the divergence."""
    zero = torch.zeros(10, dtype=torch.float64)
    assert _bound(Pair(zero, zero), f)[0] == pytest.approx(f.minimum, abs=1e-9)
    torch.manual_seed(0)
    real, made = torch.randn(2, 200_000, dtype=torch.float64)
    value, sem = _bound(Pair(0.5 * (real + 0.5) - 0.125, 0.5 * made - 0.125), f)
    assert value == pytest.approx(exact(f, 0.5), abs=4 * sem)


def test_fresh_data_have_no_divergence():
    torch.manual_seed(1)
    score = variational_divergence(torch.randn(400, 5), torch.randn(400, 5), Jeffrey())
    assert score.value < 3 * (score.sem or 0) + 1e-6
    assert score.value > -0.1


@pytest.mark.slow
def test_orientation(few_nets):
    torch.manual_seed(2)
    side = torch.where(torch.rand(2, 800, 1) < 0.5, -3.0, 3.0)
    test, fresh = torch.randn(2, 800, 2) + side * torch.tensor([1.0, 0.0])
    dropped, noisy = torch.randn(800, 2) + torch.tensor([3.0, 0.0]), fresh + 1.5 * torch.randn(800, 2)
    fine, one, noise, far = (
        variational_divergence(x, test, JensenShannon()).value for x in (fresh, dropped, noisy, fresh + 30)
    )
    assert fine < 0.02
    assert one == pytest.approx(exact_half(), abs=0.08)
    assert noise > 0.04
    assert far == pytest.approx(2 * math.log(2), abs=0.02)


def exact_half() -> float:
    """Twice Jensen-Shannon's divergence of a mixture of two equal parts far apart from one of the parts."""
    f = JensenShannon()
    u = torch.tensor(0.5, dtype=torch.float64)  # density ratio where samples are
    return float(f.f(u)) + 0.5 * math.log(2)  # f(u)/u tends to log 2 for half of the data elsewhere


@pytest.mark.slow
def test_it_is_the_divergence_of_data_from_samples(few_nets):
    torch.manual_seed(3)
    wide, narrow = torch.randn(1500, 1), 0.3 * torch.randn(1500, 1)
    expected = math.log(1 / 0.3) + 0.09 / 2 - 0.5  # KL(narrow ‖ wide)
    assert variational_divergence(wide, narrow, KL()).value == pytest.approx(expected, abs=0.15)
    assert variational_divergence(narrow, wide, ReverseKL()).value == pytest.approx(expected, abs=0.15)


def test_generator_decides_and_the_global_one_is_left_alone(monkeypatch):
    monkeypatch.setattr(variational, "MAX_STEPS", 60)
    torch.manual_seed(4)
    x, y = torch.randn(60, 2, 3), 3 + torch.randn(60, 2, 3)
    state = torch.get_rng_state()
    a, b = (variational_divergence(x, y, JensenShannon()) for _ in range(2))
    assert a == b
    assert torch.equal(torch.get_rng_state(), state)
    other = variational_divergence(x, y, JensenShannon(), generator=torch.Generator().manual_seed(1))
    assert other.value != a.value
    flat = variational_divergence(x.double().flatten(1), y.double().flatten(1), JensenShannon())
    assert flat.value == pytest.approx(a.value, abs=1e-3)
    assert [len(values) for values in a.details["start_values"]] == [3, 3]
    assert 0 <= a.details["sem_training"] < (a.sem or 0)


def test_heavy_tails_stay_finite():
    torch.manual_seed(5)
    q = torch.distributions.StudentT(1.5).sample((400, 3))
    assert -2 < variational_divergence(q, torch.randn(400, 3), Alpha(3.0)).value < 3


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        (torch.zeros(15, 2), "samples: holds 15 examples; at least 16 are needed"),
        (torch.zeros(20, 3), r"samples: one example has shape \[3\]; expected \[2\]"),
        (torch.full((20, 2), torch.nan), "samples: 20 of 20 examples hold NaN or infinity"),
    ],
)
def test_bad_input(samples, text):
    with pytest.raises(SampleError, match=text):
        variational_divergence(samples, torch.rand(20, 2), JensenShannon())


def test_metric_and_its_control(monkeypatch):
    monkeypatch.setattr(variational, "MAX_STEPS", 60)
    data = gaussian_data(300)
    metric = EstimatedDivergence(n=250)
    reference = metric.reference(data)
    score = metric(Samples(data.valid + 2), data, reference)
    assert score.value > 0.5
    assert abs(score.controls["train"]) < 0.15
    assert (
        score.value
        == variational_divergence(data.valid[:250] + 2, random_subset(data.test, 250), JensenShannon()).value
    )
    assert metric(Samples(data.valid + 2), data).value == score.value
    assert "bound on jensen-shannon(data ‖ samples)" in metric.protocol(data)
    with pytest.raises(SampleError, match=r"divergence: expected one of jensen-shannon, .*; got 'tv'"):
        EstimatedDivergence(divergence="tv")(Samples(data.valid), data)  # pyright: ignore
