"""What the theory suites measure: divergences by quadrature, the best Gaussian, discriminators against p/(p + q)."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cells import cells, points
from fake_run import write_arrays
from metric_models import Samples, gaussian_data
from torch import Tensor

from ganbench import find_divergence
from ganbench.contracts import Data, Draw, Game
from ganbench.datasets.toy import mixture1d, mixture_log_density
from ganbench.errors import SampleError
from ganbench.metrics import bounds
from ganbench.metrics.bounds import Gaussian, GaussianFit, Quadrature, VariationalBound
from ganbench.metrics.figures import variational_bound
from ganbench.metrics.gradients import GeneratorGradient
from ganbench.metrics.subset import random_subset
from ganbench.report import figures, style
from ganbench.store.files import Folder
from ganbench.store.results import Cell, Dataset, ScoreFile, Seed
from ganbench.training.loop import train
from ganbench.training.model import model
from ganbench.training.rng import build_game

NAMES = (
    "kl", "reverse-kl", "pearson", "neyman", "squared-hellinger", "jeffrey", "jensen-shannon", "gan", "js-weighted",
    "alpha",
)  # fmt: skip


def normal_data(mean: float = 0.0, std: float = 1.0, d: int = 1) -> Data:
    """N(mean, std²) in each of d dimensions."""
    x = mean + std * torch.randn(2000, d, generator=torch.Generator().manual_seed(1))
    centers = torch.full((1, d), mean, dtype=torch.float64)

    def density(x: Tensor) -> Tensor:
        stds = torch.tensor([std], dtype=torch.float64)
        return mixture_log_density(x, centers, stds, torch.zeros(1, dtype=torch.float64))

    return Data("normal", x, x, x, (d,), log_density=density)


def affine(mean: float, std: float, d: int = 1, f: Any = None, net: Any = None) -> Samples:
    """A model with G(z) = mean + std z, and a net D for the divergence f."""
    game = Game({}, {}, {"z": (d,)}, lambda nets, z: z, bound=("D", f)) if f else None
    model = Samples(torch.zeros(1, d), Draw.normal(d), lambda z: mean + std * z, game, SimpleNamespace(D=net))
    model.state = {}  # type: ignore[attr-defined]
    return model


def quadrature(mean: float, std: float, data: Data) -> Quadrature:
    return Quadrature.of(data, Gaussian.of(affine(mean, std, data.shape[0])))


def test_divergences_of_gaussians_in_closed_form():
    m, s = 0.7, 1.3  # N(0, 1) against N(m, s²)
    on = quadrature(m, s, normal_data())
    kl = math.log(s) + (1 + m**2) / (2 * s**2) - 0.5
    reverse = -math.log(s) + (s**2 + m**2) / 2 - 0.5
    overlap = math.sqrt(2 * s / (1 + s**2)) * math.exp(-(m**2) / (4 * (1 + s**2)))
    chi2 = s**2 / math.sqrt(2 * s**2 - 1) * math.exp(m**2 / (2 * s**2 - 1)) - 1
    expected = {"kl": kl, "reverse-kl": reverse, "jeffrey": kl + reverse, "pearson": chi2}
    expected |= {"squared-hellinger": 2 - 2 * overlap, "alpha": chi2 / 2}
    for name, value in expected.items():  # to what the generator's float32 lets through
        assert on.divergence(find_divergence(name)) == pytest.approx(value, abs=1e-7), (
            name
        )  # the generator is in float32


def test_divergences_in_the_plane_add_up_over_the_axes():
    m, s = 0.7, 1.3
    kl = math.log(s) + (1 + m**2) / (2 * s**2) - 0.5
    assert quadrature(m, s, normal_data(d=2)).divergence(find_divergence("kl")) == pytest.approx(
        2 * kl, abs=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_is_tight_at_the_optimal_output_and_lower_elsewhere(name):
    f, data = find_divergence(name), normal_data()
    on = quadrature(0.4, 1.2, data)
    outputs = optimal_output(f, on.log_p - on.log_q)
    exact = on.divergence(f)
    assert on.bound(f, outputs) == pytest.approx(exact, abs=1e-6)
    assert on.bound(f, outputs + 0.1) < exact - 1e-4
    assert on.bound(f, 0.9 * outputs) < exact - 1e-7
    implied = bounds.implied_probability(f, outputs)
    torch.testing.assert_close(implied, torch.sigmoid(on.log_p - on.log_q), atol=1e-6, rtol=0)


def test_outputs_far_out_stand_for_certainty():
    for name in NAMES:
        far = bounds.implied_probability(find_divergence(name), torch.tensor([-2000.0, 2000.0]).double())
        assert far[1] > 0.999, name
        assert far[0] < 0.5, name


def optimal_output(f: Any, log_ratio: Tensor) -> Tensor:
    """The v with g_f(v) = f'(u), by bisection: g_f increases."""
    target = f.slope(log_ratio.exp())
    low, high = torch.full_like(target, -60.0), torch.full_like(target, 60.0)
    widest = float(target.abs().max()) + 1
    low, high = low.clamp(max=-min(widest, 1e6)), high.clamp(min=min(widest, 1e6))
    for _ in range(100):
        middle = (low + high) / 2
        below = f.activation(middle) < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def test_an_optimal_discriminator_has_no_error_and_one_that_knows_nothing_has():
    f, data = find_divergence("gan"), normal_data()
    on = quadrature(1.0, 1.0, data)

    def optimal(x: Tensor) -> Tensor:  # log p/q = 1/2 - x
        return 0.5 - x.double()

    exact, bound, gap, error = VariationalBound()(affine(1.0, 1.0, f=f, net=optimal), data)
    assert exact.value == pytest.approx(on.divergence(f))
    assert -math.log(4) < exact.value < 0  # -log 4 + 2 JSD
    assert bound.value == pytest.approx(exact.value, abs=1e-9)
    assert gap.value == pytest.approx(0, abs=1e-9)
    assert error.value == pytest.approx(0, abs=1e-9)
    curves = error.details
    assert {len(curve) for curve in curves.values()} == {400}
    torch.testing.assert_close(curves["discriminator"], curves["optimal_discriminator"])

    blind = VariationalBound()(affine(1.0, 1.0, f=f, net=torch.zeros_like), data)
    assert blind[1].value == pytest.approx(-math.log(4))  # D = 1/2 everywhere
    difference = (torch.sigmoid(on.log_p - on.log_q) - 0.5).abs()
    weights = (on.log_p.exp() + on.log_q.exp()) / 2
    assert blind[3].value == pytest.approx(on.integral(weights * difference))
    assert blind[2].value > 0.1


def test_a_fixed_generator_is_the_gaussian_it_is_asked_for_and_its_discriminator_learns(tmp_path):
    (cell,) = cells(
        tmp_path,
        "[{method: fixed_generator, params: {mean: 1.0, std: 1.5, width: 16, lr: 0.01}}]",
        train="{steps: 200, batch: 128}",
    )
    data = normal_data()
    (one,) = train(cell, data, [0])
    trained = model(cell, data, 0, one.state, None, device="cpu")
    q = Gaussian.of(trained)
    assert (float(q.mean), float(q.covariance)) == pytest.approx((1.0, 2.25), abs=1e-5)
    exact, bound, gap, error = VariationalBound()(trained, data)
    assert -math.log(4) < bound.value < exact.value
    assert gap.value < 0.02
    assert error.value < 0.05


def test_the_discriminators_are_drawn_where_there_are_some(tmp_path):
    x = np.linspace(-3, 3, 400)
    density, d = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi), 1 / (1 + np.exp(-x))
    curves = {"places": x, "density_data": density, "density_samples": density}
    write_arrays(
        tmp_path / "bound.safetensors", {**curves, "discriminator": d + 0.01, "optimal_discriminator": d}
    )
    score = ScoreFile(tmp_path / "bound.json", {}, files=Folder(tmp_path))
    seeds = tuple(Seed(number, tmp_path, {"status": "ok"}, (score,)) for number in range(3))
    drawn = Cell(tmp_path, "line", "gan", {}, seeds, 0)
    bare = Cell(tmp_path, "line", "kde", {}, (Seed(0, tmp_path, {"status": "ok"}, ()),), 0)
    dataset, colours = Dataset("line", {"shape": [1]}, {}), {"gan": "#0072b2", "kde": "#d55e00"}
    with style.style():
        with_both = style.Style("variational_bound", dataset, [bare, drawn], colours)
        plot = variational_bound.figure([bare, drawn], with_both)
        assert variational_bound.figure([bare], with_both) is None
    assert plot is not None
    (panel,) = plot.figure.axes
    *lines, optimal = panel.get_lines()
    assert len(lines) == 3  # the seeds
    assert len(panel.collections) == 1 + 3  # densities of the data, and of the samples of each seed
    np.testing.assert_allclose(np.asarray(optimal.get_ydata()), d, atol=1e-6)


def test_the_gradient_that_a_linear_discriminator_leaves():
    """Logits a x: the slope of log(1 - D) is -a σ(a x), that of -log D is -a (1 - σ(a x))."""
    data = normal_data()
    fake = torch.tensor([[-1.0], [-3.0]])
    game = Game({}, {}, {}, lambda nets, z: z, bound=("D", find_divergence("gan")))
    trained = Samples(fake, game=game, nets=SimpleNamespace(D=lambda x: 2 * x))
    trained.state = {}  # type: ignore[attr-defined]
    accuracy, minimax, non_saturating = GeneratorGradient(n=2)(trained, data)
    right = int((random_subset(data.test, 2) > 0).sum()) + 2
    assert accuracy.value == pytest.approx(100 * right / 4)
    d = 1 / (1 + torch.exp(-2 * fake.double()))
    assert minimax.value == pytest.approx(float((4 * d.square().mean()).sqrt()), rel=1e-5)
    assert non_saturating.value == pytest.approx(float((4 * (1 - d).square().mean()).sqrt()), rel=1e-5)
    assert minimax.value < 0.2 < 1.8 < non_saturating.value
    trained.game = Game({}, {}, {}, lambda nets, z: z, bound=("D", find_divergence("pearson")))
    with pytest.raises(SampleError, match="no logit"):
        GeneratorGradient(n=2)(trained, data)


def test_a_frozen_generator_stays_and_its_discriminator_starts_then(tmp_path):
    params = "{{warmup: {}, width: 16, z_dim: 2}}"
    method = f"{{{{method: frozen_generator, params: {params}, train: {{{{steps: {{}}}}}}, label: {{}}}}}}"
    short, long = cells(
        tmp_path, f"[{method.format(20, 20, 'short')}, {method.format(20, 60, 'long')}]", train="{batch: 32}"
    )
    data = points()
    (early, other), (late, _) = train(short, data, [0, 1]), train(long, data, [0, 1])
    start = build_game(short, data, 0).nets["D"].state_dict()
    for name, value in early.state.items():
        same = torch.equal(value, late.state[name])
        assert same == name.startswith(("G.", "first.")), name
        if name.startswith("D."):
            torch.testing.assert_close(value, start[name.removeprefix("D.")], rtol=0, atol=0)
    assert not torch.equal(early.state["G.0.weight"], other.state["G.0.weight"])
    probes = {name: curve for name, curve in late.curves.items() if name.startswith("probe.")}
    assert len(probes) == 5
    for curve in probes.values():
        assert curve[:20].isnan().all()
        assert curve[20:].isfinite().all()
    expected = gradient_by_hand(data, long, late)
    assert float(probes["probe.gradient of -log D"][-1]) == pytest.approx(expected, rel=0.5)


def gradient_by_hand(data: Data, cell: Any, one: Any) -> float:
    """Norm of the gradient of -E log D in the parameters of G, on latents of its own."""
    nets = build_game(cell, data, 0).nets
    for net, module in nets.items():
        prefix = f"{net}."
        own = {k.removeprefix(prefix): v for k, v in one.state.items() if k.startswith(prefix)}
        module.load_state_dict(own)
    z = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    loss = torch.nn.functional.softplus(-nets["D"](nets["G"](z))).mean()
    grads = torch.autograd.grad(loss, list(nets["G"].parameters()))
    return float(torch.cat([g.flatten() for g in grads]).norm())


def test_probes_are_drawn_apart_from_the_losses(tmp_path):
    steps, values = np.arange(1.0, 6.0), np.array([np.nan, np.nan, 1.0, 0.1, 0.01])
    write_arrays(
        tmp_path / "media.safetensors",
        {"curve.step": steps, "curve.D": steps, f"{figures.PROBE}gradient": values},
    )
    files = Folder(tmp_path)
    seeds = tuple(Seed(number, tmp_path, {"status": "ok"}, (), files) for number in range(2))
    cell = Cell(tmp_path, "line", "gan", {}, seeds, 0)
    assert figures._curve_names(cell) == ["curve.D"]
    probed = figures._probe_values(cell)
    assert list(probed) == ["gradient"]
    np.testing.assert_array_equal(probed["gradient"][0], [1, 2, 3])  # rounds since it started
    np.testing.assert_allclose(probed["gradient"][1], [values[2:]] * 2)
    dataset, colours = Dataset("line", {"shape": [1]}, {}), {"gan": "#0072b2"}
    with style.style():
        plot = figures._probes(dataset, [cell], colours)
    assert plot is not None
    assert plot.figure.axes[0].get_yscale() == "log"
    assert figures._probes(dataset, [replace(cell, seeds=())], colours) is None


def test_a_net_that_a_trick_replaces_bounds_nothing_any_more():
    game = Game({"D": torch.nn.Identity()}, {}, {}, lambda nets, z: z, bound=("D", find_divergence("gan")))
    assert game.with_draws(noise=(1,)).bound is not None
    assert game.with_net("D", torch.nn.Identity()).bound is None


PUBLISHED = {  # Nowozin et al. 2016, univariate example: exact mu and sigma, and the divergence there
    "kl": (1.0100, 1.8308, 0.2831),
    "reverse-kl": (1.5782, 1.6319, 0.2480),
    "jensen-shannon": (1.3070, 1.7542, 0.1280),
    "jeffrey": (1.3218, 1.7034, 0.5705),
    "pearson": (0.5737, 1.9274, 0.6457),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_best_gaussians_are_those_of_the_paper(name):
    data, f = mixture1d(torch.Generator().manual_seed(0)), find_divergence(name)
    mu, sigma = bounds.best_gaussian(data, f)
    assert (mu, sigma) == pytest.approx(PUBLISHED[name][:2], abs=5e-4)
    assert quadrature(mu, sigma, data).divergence(f) == pytest.approx(PUBLISHED[name][2], abs=3e-4)


def test_a_fit_is_read_off_the_generator():
    data, f = normal_data(0.5, 2.0), find_divergence("kl")
    mu, mu_error, sigma, sigma_error, *row = GaussianFit()(affine(0.7, -1.5, f=f), data)
    assert (mu.value, sigma.value) == pytest.approx((0.7, 1.5))  # a mirrored generator is as good
    assert (mu_error.value, sigma_error.value) == pytest.approx((0.2, -0.5), abs=1e-5)
    kl = math.log(1.5 / 2) + (4 + 0.04) / (2 * 1.5**2) - 0.5
    assert row[0].value == pytest.approx(kl, abs=1e-6)
    assert row[3].value == pytest.approx(row[0].value + row[1].value)  # Jeffrey's is the sum of both


def test_an_infinite_chi_square_is_a_number_to_rank():
    data, f = mixture1d(torch.Generator().manual_seed(0)), find_divergence("pearson")
    *_, pearson = GaussianFit()(affine(-1.0, 0.05, f=f), data)
    assert pearson.value == bounds.MAX_DIVERGENCE


def test_what_has_no_known_density_is_refused():
    data, f = normal_data(), find_divergence("kl")
    bent = affine(0.0, 1.0, f=f)
    bent.net = torch.tanh
    with pytest.raises(SampleError, match="not an affine map"):
        VariationalBound()(bent, data)
    with pytest.raises(SampleError, match="fill less than"):
        VariationalBound()(affine(0.0, 0.0, f=f), data)
    with pytest.raises(SampleError, match="normal latents"):
        Gaussian.of(Samples(torch.empty(0, 1)))
    with pytest.raises(SampleError, match="no net whose output"):
        VariationalBound()(affine(0.0, 1.0), data)
    with pytest.raises(SampleError, match="too narrow"):
        quadrature(0.0, 1e-4, data)
    with pytest.raises(SampleError, match="one or two dimensions"):
        Quadrature.of(gaussian_data(d=3), Gaussian.of(affine(0.0, 1.0, 3)))
