"""AIS log-likelihood against closed forms, quadrature and importance sampling; the BDMC sandwich; where KDE misranks.

No light public package computes this quantity, so scipy's quadrature and plain importance sampling with many
draws stand in for one.
"""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples, gaussian_data
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn

from ganbench.contracts import Draw
from ganbench.errors import SampleError
from ganbench.metrics.ais import AisLL, ais_log_likelihood, bdmc, choose_sigma, geometric, sigmoid
from ganbench.metrics.kde import kde_log_likelihood


def _seed(seed=0):
    return torch.Generator().manual_seed(seed)


class Linear:
    """G(z) = Wz + b, whose log-likelihood is known."""

    def __init__(self, k, d, sigma, dtype=torch.float64, spread=1.0):
        self.w = spread * torch.randn(d, k, generator=_seed(1), dtype=torch.float64).to(dtype)
        self.b = torch.randn(d, generator=_seed(2), dtype=torch.float64).to(dtype)
        self.k, self.d, self.sigma = k, d, sigma

    def __call__(self, z):
        return z @ self.w.T + self.b

    def draw(self, n, seed=3):
        generator = _seed(seed)
        z = torch.randn(n, self.k, generator=generator).to(self.w)
        return self(z) + self.sigma * torch.randn(n, self.d, generator=generator).to(self.w)

    def exact(self, x):
        w, b = self.w.double(), self.b.double()
        covariance = w @ w.T + self.sigma**2 * torch.eye(self.d, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(b, covariance).log_prob(x.double())

    def ais(self, x, sigma=None, **options):
        options = {"steps": 100, "simulated": 0, "generator": _seed()} | options
        return ais_log_likelihood(self, x, Draw.normal(self.k), sigma=sigma or self.sigma, **options)


@pytest.mark.parametrize(("k", "d", "sigma"), [(2, 5, 0.5), (3, 20, 0.1), (8, 4, 0.3)])
def test_a_linear_generator_has_its_closed_form(k, d, sigma):
    model = Linear(k, d, sigma)
    x = model.draw(12)
    score, exact = model.ais(x), model.exact(x)
    error = score.details["log_likelihoods"] - exact
    assert abs(error.mean().item()) < 0.25 + 2 * error.std().item() / 12**0.5
    assert error.abs().max() < 2.5
    assert score.value == pytest.approx(score.details["log_likelihoods"].mean().item())
    assert score.sem == pytest.approx(exact.std().item() / 12**0.5, rel=0.2)
    assert 0.5 < score.details["acceptance"] < 0.8
    assert 1 < score.details["ess"] <= 16


def test_the_mean_weight_is_unbiased():
    """E[w] = p(x) for one chain and few steps, where the bound itself is loose: over 1000 copies of a point."""
    model = Linear(2, 3, 0.5)
    x = model.draw(1)
    found = model.ais(x.expand(1000, 3), steps=8, chains=1, leapfrog=3).details["log_likelihoods"]
    ratio = (found - model.exact(x)).exp()
    assert ratio.mean().item() == pytest.approx(1, abs=4 * ratio.std().item() / 1000**0.5)
    assert found.mean() < model.exact(x) - 0.1


@pytest.mark.parametrize("schedule", ["geometric", "sigmoid"])
def test_the_sandwich_holds_the_truth(schedule):
    model = Linear(3, 6, 0.3)
    like = model.draw(1)
    found = bdmc(
        model, 40, Draw.normal(3), like, sigma=0.3, steps=40, chains=4, schedule=schedule, generator=_seed()
    )
    exact = model.exact(found.x)
    for gap in (exact - found.lower, found.upper - exact):
        assert gap.mean().item() > -3 * gap.std().item() / 40**0.5
    assert 0.1 < (found.upper - found.lower).mean().item() < 20


def test_simulated_examples_are_those_of_the_model():
    model = Linear(2, 3, 0.4)
    x = bdmc(model, 1000, Draw.normal(2), model.draw(1), sigma=0.4, steps=2, chains=1, leapfrog=1).x
    expected = model.w @ model.w.T + 0.16 * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(x.T.cov(), expected, atol=0.4, rtol=0)
    torch.testing.assert_close(x.mean(0), model.b, atol=0.3, rtol=0)


@pytest.mark.slow
def test_more_steps_are_tighter():
    model = Linear(6, 12, 0.2)
    x = model.draw(8)
    scores = [model.ais(x, steps=steps, simulated=8) for steps in (20, 200)]
    below = [model.exact(x).mean().item() - score.value for score in scores]
    assert below[0] > 5 * max(below[1], 0.5)
    gaps = [score.details["bdmc_gap"] for score in scores]
    assert gaps[0] > 5 * max(gaps[1], 0.5)
    assert "use more than 20 steps" in scores[0].warning
    assert scores[0].details["bdmc_upper"].shape == scores[0].details["bdmc_lower"].shape == (8,)


@pytest.mark.parametrize("latent", [Draw.uniform(1, low=-2.0, high=1.0), Draw.normal(1)], ids=str)
def test_one_latent_against_quadrature(latent):
    sigma = 0.15
    x = torch.tensor([[-1.5, 0.2], [0.4, 0.1], [0.9, 0.9]], dtype=torch.float64)

    def curve(z):
        return torch.cat([z, torch.sin(2 * z)], 1)

    def density(point):
        def integrand(z):
            fit = norm.pdf(point[0], z, sigma) * norm.pdf(point[1], math.sin(2 * z), sigma)
            return fit * (norm.pdf(z) if latent.low is None else 1 / (latent.high - latent.low))

        ends = (-8, 8) if latent.low is None else (latent.low, latent.high)
        return quad(integrand, *ends, points=[-1.5, 0.4, 0.9], limit=200)[0]

    exact = torch.tensor([math.log(density(point)) for point in x.tolist()], dtype=torch.float64)
    score = ais_log_likelihood(
        curve, x, latent, sigma=sigma, steps=60, chains=400, simulated=0, generator=_seed()
    )
    torch.testing.assert_close(score.details["log_likelihoods"], exact, atol=0.25, rtol=0)


@pytest.mark.slow
def test_a_net_against_importance_sampling():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 9)).double().requires_grad_(False)
    net[2].weight.mul_(3)
    x = net(torch.randn(6, 2).double()).view(6, 1, 3, 3)
    x = x + 0.8 * torch.randn_like(x)
    z = torch.randn(100_000, 2, generator=_seed(9)).double()
    fit = -torch.cdist(x.flatten(1), net(z)).square() / (2 * 0.8**2)
    exact = fit.logsumexp(1) - math.log(len(z)) - 4.5 * math.log(2 * math.pi * 0.8**2)

    def image(z):
        return net(z.flatten(1)).view(-1, 1, 3, 3)

    score = ais_log_likelihood(
        image, x, Draw.normal(1, 2), sigma=0.8, steps=100, chains=32, simulated=4, generator=_seed()
    )
    torch.testing.assert_close(score.details["log_likelihoods"], exact, atol=0.4, rtol=0)
    assert score.value == pytest.approx(exact.mean().item(), abs=0.15)
    assert abs(score.details["bdmc_gap"]) < 0.1 + 3 * score.details["bdmc_gap_sem"]


def test_float32_against_float64():
    """The same random numbers, so the same chains, where a rounding error turns no decision."""
    single, double = Linear(3, 6, 0.5, torch.float32), Linear(3, 6, 0.5)
    x = double.draw(8)
    found = [model.ais(x.to(model.w), steps=20).details["log_likelihoods"] for model in (single, double)]
    assert found[0].dtype == torch.float64
    assert (found[0] - found[1]).abs().median() < 1e-3
    assert abs((found[0] - found[1]).mean().item()) < 0.2


def test_points_do_not_depend_on_each_other(monkeypatch):
    model = Linear(3, 6, 0.5)
    x = model.draw(7)

    def values(points):
        return model.ais(points, steps=10, chains=4, leapfrog=4).details["log_likelihoods"]

    whole = values(x)
    torch.testing.assert_close(values(x[:3]), whole[:3], rtol=1e-9, atol=0)
    gap = model.ais(x, steps=10, chains=4, leapfrog=4, simulated=5).details["bdmc_gap"]
    monkeypatch.setattr("ganbench.metrics.ais.MAX_CHAINS", 10)  # two points at a time
    torch.testing.assert_close(values(x), whole, rtol=1e-9, atol=0)
    assert model.ais(x, steps=10, chains=4, leapfrog=4, simulated=5).details["bdmc_gap"] == pytest.approx(
        gap, rel=1e-9
    )


def test_orientation():
    model = Linear(2, 8, 0.4)
    x = model.draw(20)

    def score(generate):
        return ais_log_likelihood(
            generate, x, Draw.normal(2), sigma=0.4, steps=40, leapfrog=5, simulated=0, generator=_seed()
        ).value

    true = score(model)
    others = {
        "shifted": lambda z: model(z) + 0.5,
        "narrowed": lambda z: model(0.4 * z),
        "one direction dropped": lambda z: model(z * torch.tensor([1.0, 0.0])),
    }
    for name, other in others.items():
        assert score(other) < true - 0.1, name
    assert score(lambda z: model(-z)) == pytest.approx(true, abs=0.5)  # the same density


def test_sigma_is_found_again_and_the_curve_is_right():
    model = Linear(2, 10, 0.3)
    valid = model.draw(40)
    found = choose_sigma(model, valid, Draw.normal(2), steps=120, chains=8, generator=_seed())
    assert found.best == pytest.approx(0.3, rel=0.12)
    i = min(range(120), key=lambda i: abs(found.sigmas[i] - 0.6))
    wide = Linear(2, 10, found.sigmas[i])
    assert found.curve[i] == pytest.approx(wide.exact(valid).mean().item(), abs=0.5)
    scale = valid.var(0).mean().sqrt().item()
    assert min(found.sigmas) == pytest.approx(scale / 256)
    assert max(found.sigmas) > scale


# KDE against AIS, with samples as few as they always are for the dimension.


@pytest.mark.slow
def test_kde_prefers_a_narrowed_generator_and_ais_does_not():
    """Data in 100 dimensions from 20 latents, σ = 1: the true generator, and one that shrinks its latents to 0.6.

    From 300 samples of each, the density estimate ranks the narrowed one first; the closed form and AIS, of a part of
    the points, do not.
    """
    true, narrow = Linear(20, 100, 1.0), Linear(20, 100, 1.0, spread=0.6)
    test, valid = true.draw(40, seed=5), true.draw(400, seed=6)
    z = torch.randn(300, 20, generator=_seed(7)).double()
    kde = [kde_log_likelihood(model(z), test, valid=valid).value for model in (true, narrow)]
    ais = [model.ais(test[:16], steps=300).value for model in (true, narrow)]
    assert kde == pytest.approx([-282.8, -276.6], abs=0.1)
    assert [model.exact(test).mean().item() for model in (true, narrow)] == pytest.approx(
        [-184.1, -190.7], abs=0.1
    )
    assert ais == pytest.approx([model.exact(test[:16]).mean().item() for model in (true, narrow)], abs=2)
    assert ais[0] > ais[1]


class Copies:
    """A generator that makes one of K given points, smoothly chosen by the angle of two latents."""

    def __init__(self, points, sharp):
        self.points, self.sharp = points, sharp

    def __call__(self, z):
        place = torch.atan2(z[:, 1], z[:, 0])[:, None] / (2 * math.pi) + 0.5  # uniform in [0, 1)
        at = (torch.arange(len(self.points)).to(z) + 0.5) / len(self.points)
        off = torch.remainder(place - at + 0.5, 1) - 0.5
        return torch.softmax(-self.sharp * (len(self.points) * off).square(), 1) @ self.points


@pytest.mark.slow
def test_kde_prefers_a_memoriser_and_ais_does_not():
    """Data in 50 dimensions from 20 latents, σ = 1: the true generator, and one that repeats 30 centres of its data.

    Theis et al. 2016, section 3.2, in small: from 100 samples of each the density estimate prefers the centres. Their
    density is known by quadrature over the angle.
    """
    torch.manual_seed(0)
    true = Linear(20, 50, 1.0)
    train, test, valid = true.draw(3000, seed=4), true.draw(40, seed=5), true.draw(400, seed=6)
    copies = Copies(_centres(train, 30), sharp=4.0)
    sigma = (copies.points[torch.cdist(valid, copies.points).argmin(1)] - valid).square().mean().sqrt().item()
    angles = torch.linspace(-math.pi, math.pi, 20_001, dtype=torch.float64)[:-1]
    made = copies(torch.stack([angles.cos(), angles.sin()], 1))
    fit = -torch.cdist(test, made).square() / (2 * sigma**2)
    known = fit.logsumexp(1) - math.log(len(made)) - 25 * math.log(2 * math.pi * sigma**2)
    z = torch.randn(100, 20, generator=_seed(7)).double()
    kde = [kde_log_likelihood(model(z), test, valid=valid).value for model in (true, copies)]
    memorised = ais_log_likelihood(
        copies, test[:16], Draw.normal(2), sigma=sigma, steps=200, simulated=0, generator=_seed()
    )
    ais = [true.ais(test[:16], steps=300).value, memorised.value]
    assert kde == pytest.approx([-146.9, -142.4], abs=0.1)
    assert [true.exact(test).mean().item(), known.mean().item()] == pytest.approx([-106.4, -141.6], abs=0.1)
    assert ais == pytest.approx([true.exact(test[:16]).mean().item(), known[:16].mean().item()], abs=2)
    assert ais[0] > ais[1]


def _centres(x, k):
    """Means of k clusters (Lloyd's algorithm)."""
    centres = x[:k]
    for _ in range(20):
        nearest = torch.cdist(x, centres).argmin(1)
        centres = torch.stack([x[nearest == i].mean(0) for i in range(k)])
    return centres


def test_schedules():
    assert sigmoid(4).tolist() == pytest.approx([0, 0.105, 0.5, 0.895, 1], abs=1e-3)
    betas = geometric(4, torch.tensor([999.0, 0.0]))
    assert betas[:, 0].tolist() == pytest.approx([0, 0.00462, 0.03064, 0.17696, 1], abs=1e-5)
    assert betas[:, 1].tolist() == pytest.approx([2 ** (i / 4) - 1 for i in range(5)])


def test_every_jump_of_a_schedule_shrinks_with_its_steps():
    for energy in (0.0, 30.0, 1e7):
        short, long = (geometric(steps, torch.tensor([energy]))[:, 0] for steps in (200, 1600))
        assert long[-1] == 1
        assert (long.diff() > 0).all()
        jumps = long[::8].diff() / 8  # the long schedule passes the places of the short one
        torch.testing.assert_close(long[::8], short)
        assert (long.diff().view(-1, 8).amax(1) < 2 * jumps).all()
    short, long = sigmoid(200), sigmoid(1600)
    assert (long.diff().view(-1, 8).amax(1) < short.diff() / 6).all()


@pytest.mark.parametrize("schedule", ["geometric", "sigmoid"])
def test_the_spread_falls_with_the_steps_and_the_bound_comes_up_to_the_closed_form(schedule):
    """Copies of one point, one chain each: 16 times the steps have about a quarter of the spread."""
    model = Linear(2, 3, 0.5)
    x = model.draw(1)
    few, many = (
        model.ais(x.expand(200, 3), steps=steps, chains=1, leapfrog=4, schedule=schedule)
        for steps in (20, 320)
    )
    a, b = (score.details["log_likelihoods"] - model.exact(x) for score in (few, many))
    assert b.std() < 0.4 * a.std()
    assert a.mean() < 3 * a.std() / 200**0.5
    assert -0.1 < b.mean() < 3 * b.std() / 200**0.5


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"test": torch.zeros(1, 2)}, "test: holds 1 examples; at least 2 are needed"),
        ({"test": torch.full((4, 2), torch.nan)}, "test: 4 of 4 examples hold NaN"),
        ({"sigma": 0.0}, "sigma: expected a positive number, got 0.0"),
        ({"sigma": math.nan}, "sigma: expected a positive number, got nan"),
        ({"steps": 1}, "steps: expected at least 2, got 1"),
        ({"chains": 0}, "chains: expected at least 1, got 0"),
        ({"schedule": "sigmoidal"}, "schedule: 'sigmoidal' is unknown; did you mean 'sigmoid'?"),
        ({"simulated": 1}, "simulated: expected 0, or at least 2"),
        ({"generate": lambda z: z[:, :1]}, r"generate\(z\): one example has shape \[1\]; expected \[2\]"),
        ({"generate": lambda z: z / 0}, r"generate\(z\): 2 of 2 examples hold NaN or infinity"),
        ({"generate": lambda z: z.detach()}, "does not depend differentiably on z"),
        ({"generate": lambda z: z / (z == 0)}, "NaN or infinity in every chain"),
    ],
)
def test_bad_input(changed, text):
    given = {"generate": lambda z: z, "test": torch.zeros(4, 2), "sigma": 1.0, "steps": 2} | changed
    generate, test = given.pop("generate"), given.pop("test")
    with pytest.raises(SampleError, match=text):
        ais_log_likelihood(generate, test, Draw.normal(2), **given)


def test_constant_validation_examples_set_no_scale():
    with pytest.raises(SampleError, match="all examples are equal"):
        choose_sigma(lambda z: z, torch.ones(5, 2), Draw.normal(2))


def test_metric():
    data = gaussian_data()
    model = Samples(torch.randn(5, 3), Draw.normal(3), lambda z: 0.4 * z)
    metric = AisLL(n=6, n_valid=8, n_simulated=2, chains=2, steps=10, leapfrog=4)
    score = metric(model, data)
    assert score.n == 6
    assert 0.6 < score.details["sigma"] < 1.3  # the data are N(0, I): sigma² + 0.16 = 1
    assert {"bdmc_gap", "bdmc_gap_sem", "acceptance", "ess", "valid_curve"} <= set(score.details)
    assert (
        AisLL(n=6, n_simulated=0, chains=2, steps=4, leapfrog=1, sigma=0.5)(model, data).details["sigma"]
        == 0.5
    )
    assert "best on 8 random validation examples" in metric.protocol(data)
    assert "standard deviation 0.5;" in AisLL(sigma=0.5).protocol(data)
    with pytest.raises(SampleError, match="ais_ll needs a generator"):
        metric(Samples(torch.zeros(5, 3)), data)
