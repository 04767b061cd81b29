"""The variational bound from samples: exact divergences of Gaussians, orientation, what it starts from."""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples, gaussian_data

from ganbench.divergences import GAN, KL, Alpha, Jeffrey, JensenShannon, ReverseKL
from ganbench.errors import SampleError
from ganbench.metrics import variational
from ganbench.metrics.variational import KNOWN, EstimatedDivergence, _place, variational_divergence


def exact(f, shift: float) -> float:
    """D_f(N(shift, 1) ‖ N(0, 1)), nats, by quadrature."""
    x = torch.linspace(-12, 14, 20_001, dtype=torch.float64)
    log_p, log_q = -(x - shift).square() / 2, -x.square() / 2
    values = log_q.exp() * f.f((log_p - log_q).exp()) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(values, x))


@pytest.mark.parametrize(("f", "d"), [(JensenShannon(), 8), (KL(), 1)])
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
    assert score.n == 3000


@pytest.mark.parametrize("f", [*KNOWN.values(), GAN()], ids=str)
def test_a_constant_starts_at_the_bound_of_no_difference(f):
    v = torch.tensor(_place(f, 1.0), dtype=torch.float64)
    assert (f.activation(v) - f.composed(v)).item() == pytest.approx(f.minimum, abs=1e-9)
    for ratio in (1e-3, 40.0):
        v = torch.tensor(_place(f, ratio), dtype=torch.float64)
        slope = f.slope(torch.tensor(ratio, dtype=torch.float64))
        assert f.activation(v).item() == pytest.approx(slope.item(), rel=1e-9)


def test_fresh_data_have_no_divergence():
    torch.manual_seed(1)
    score = variational_divergence(torch.randn(400, 5), torch.randn(400, 5), Jeffrey())
    assert score.value < 3 * (score.sem or 0) + 1e-6
    assert score.value > -0.1


def test_orientation():
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


def test_it_is_the_divergence_of_data_from_samples():
    torch.manual_seed(3)
    wide, narrow = torch.randn(1500, 1), 0.3 * torch.randn(1500, 1)
    expected = math.log(1 / 0.3) + 0.09 / 2 - 0.5  # KL(narrow ‖ wide)
    assert variational_divergence(wide, narrow, KL()).value == pytest.approx(expected, abs=0.15)
    assert variational_divergence(narrow, wide, ReverseKL()).value == pytest.approx(expected, abs=0.15)


def test_generator_decides_and_the_global_one_is_left_alone(monkeypatch):
    monkeypatch.setattr(variational, "STEPS", 60)
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
    monkeypatch.setattr(variational, "STEPS", 100)
    data = gaussian_data(300)
    metric = EstimatedDivergence(n=250)
    reference = metric.reference(data)
    score = metric(Samples(data.valid + 2), data, reference)
    assert score.value > 0.5
    assert abs(score.details["control_train"]) < 0.15
    assert score.value == variational_divergence(data.valid[:250] + 2, data.test[:250], JensenShannon()).value
    assert metric(Samples(data.valid + 2), data).value == score.value
    assert "bound on jensen-shannon(data ‖ samples)" in metric.protocol(data)
    with pytest.raises(SampleError, match=r"divergence: expected one of jensen-shannon, .*; got 'tv'"):
        EstimatedDivergence(divergence="tv")(Samples(data.valid), data)  # pyright: ignore
