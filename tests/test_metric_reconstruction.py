"""Reconstruction against closed forms, scipy's L-BFGS and images that the generator itself made."""

from __future__ import annotations

import pytest
import torch
from metric_models import Samples, image_data
from scipy.optimize import minimize
from torch import nn

from ganbench.contracts import Draw
from ganbench.errors import SampleError
from ganbench.metrics import reconstruction
from ganbench.metrics.reconstruction import (
    Reconstruction,
    failed_search,
    flat_patch_error,
    lbfgs,
    reconstruction_error,
)


def _net(inputs=16, outputs=128, activation=nn.Tanh):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(inputs, 64), activation(), nn.Linear(64, 64), activation(), nn.Linear(64, outputs)
    )
    for parameter in net.parameters():
        parameter.data.mul_(2)
        parameter.requires_grad_(False)
    return net


def _generator():
    return torch.Generator().manual_seed(0)


def test_a_linear_generator_gives_the_least_squares_residual():
    torch.manual_seed(1)
    matrix, targets = torch.randn(30, 5, dtype=torch.float64), torch.randn(8, 30, dtype=torch.float64)
    best = torch.linalg.lstsq(matrix, targets.T).solution
    expected = (matrix @ best - targets.T).square().mean(0)
    score = reconstruction_error(lambda z: z @ matrix.T, targets, Draw.normal(5), generator=_generator())
    torch.testing.assert_close(score.details["all_errors"], expected, rtol=1e-8, atol=0)
    torch.testing.assert_close(score.details["latents"], best.T, rtol=1e-3, atol=1e-3)
    assert score.value == pytest.approx(expected.mean().item())
    assert score.sem == pytest.approx(expected.std().item() / 8**0.5)


def test_each_problem_of_the_batch_is_solved_as_if_alone():
    """Rosenbrock's valley from several points, 8 at once and one by one."""

    def evaluate(x, problems):
        a, b = x[:, 0], x[:, 1]
        value = (1 - a) ** 2 + 100 * (b - a * a) ** 2
        gradient = torch.stack([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)], 1)
        return value, gradient

    torch.manual_seed(2)
    starts = 2 * torch.randn(8, 2, dtype=torch.float64)
    x, value = lbfgs(evaluate, starts, 200)
    assert value.max() < 1e-10
    torch.testing.assert_close(x, torch.ones_like(x), atol=1e-4, rtol=0)
    alone = torch.cat([lbfgs(evaluate, start[None], 200)[0] for start in starts])
    torch.testing.assert_close(x, alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("activation", [pytest.param(nn.Tanh, marks=pytest.mark.slow), nn.ReLU])
def test_no_worse_than_scipy_one_by_one(activation):
    net = _net(activation=activation).double()
    torch.manual_seed(3)
    targets = net(torch.randn(6, 16, dtype=torch.float64))
    targets = targets + targets.std() * 0.3 * torch.randn_like(targets)
    ours = reconstruction_error(net, targets, Draw.normal(16), starts=4, steps=300, generator=_generator())
    starts = torch.randn(24, 16, generator=_generator()).double().view(6, 4, 16)

    def scipy(target, start):
        def f(z):
            z = torch.tensor(z, requires_grad=True)
            error = (net(z) - target).square().mean()
            error.backward()
            return error.item(), z.grad.numpy()

        return minimize(f, start.numpy(), jac=True, method="L-BFGS-B", options={"maxfun": 300}).fun

    theirs = [min(scipy(t, z) for z in zs) for t, zs in zip(targets, starts, strict=True)]
    assert ours.value <= 1.02 * sum(theirs) / 6


@pytest.mark.parametrize("latent", [Draw.normal(16), Draw.uniform(16, low=-1.0, high=1.0)])
def test_images_of_the_generator_itself_come_back(latent):
    net = _net()
    torch.manual_seed(4)
    targets = net(torch.randn(12, 16))
    score = reconstruction_error(net, targets, latent, starts=5, steps=300, generator=_generator())
    assert score.value < 1e-4 * targets.var().item()


def test_orientation_and_shapes():
    net = _net(outputs=16)
    torch.manual_seed(5)

    def image(z):
        return net(z.flatten(1)).view(-1, 1, 4, 4)

    own = image(torch.randn(12, 4, 4))
    values = [
        reconstruction_error(image, x, Draw.normal(4, 4), generator=_generator(), steps=60)
        for x in (own, own + 3 * own.std() * torch.randn_like(own))
    ]
    assert values[0].value < values[1].value
    details = values[0].details
    assert details["targets"].shape == details["reconstructions"].shape == (10, 1, 4, 4)
    assert details["latents"].shape == (12, 4, 4)
    found = (details["reconstructions"] - details["targets"]).square().flatten(1).mean(1)
    torch.testing.assert_close(details["errors"], found, rtol=1e-3, atol=1e-9)


def test_more_starts_and_more_steps_are_no_worse():
    net = _net(activation=nn.ReLU)
    targets = torch.randn(5, 128)

    def score(starts, steps):
        return reconstruction_error(
            net, targets, Draw.normal(16), starts=starts, steps=steps, generator=_generator()
        )

    assert score(1, 50).value <= score(1, 5).value
    assert score(8, 50).value <= score(1, 50).value * 1.05


def test_searches_in_several_batches_are_the_same(monkeypatch):
    net, targets = _net().double(), torch.randn(9, 128, dtype=torch.float64)

    def errors():
        score = reconstruction_error(net, targets, Draw.normal(16), steps=20, generator=_generator())
        return score.details["all_errors"]

    whole = errors()
    monkeypatch.setattr("ganbench.metrics.reconstruction.MAX_SEARCHES", 7)
    torch.testing.assert_close(errors(), whole, rtol=1e-6, atol=0)


def test_constant_generator_is_scored():
    score = reconstruction_error(
        lambda z: 0 * z.sum(1, keepdim=True) + torch.ones(len(z), 3), torch.zeros(4, 3), Draw.normal(2)
    )
    assert (score.value, score.sem) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("generate", "targets", "text"),
    [
        (lambda z: z, torch.zeros(1, 2), "targets: holds 1 examples; at least 2 are needed"),
        (lambda z: z, torch.full((4, 2), torch.nan), "targets: 4 of 4 examples hold NaN"),
        (
            lambda z: z[:, :1],
            torch.zeros(4, 2),
            r"generate\(z\): one example has shape \[1\]; expected \[2\]",
        ),
        (lambda z: z / 0, torch.zeros(4, 2), r"generate\(z\): 1 of 1 examples hold NaN or infinity"),
    ],
)
def test_bad_input(generate, targets, text):
    with pytest.raises(SampleError, match=text):
        reconstruction_error(generate, targets, Draw.normal(2))


@pytest.mark.parametrize("wrong", [{"starts": 0}, {"steps": 0}, {"optimiser": "sgd"}])
def test_searches_that_mean_nothing(wrong):
    with pytest.raises(SampleError, match="expected at least 1, at least 1 and one of lbfgs, adam"):
        reconstruction_error(lambda z: z, torch.zeros(4, 2), Draw.normal(2), **wrong)


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_no_more_generator_calls_than_allowed(optimiser):
    net, calls = _net(), []

    def counted(z):
        if z.requires_grad:
            calls.append(len(z))
        return net(z)

    reconstruction_error(counted, torch.randn(5, 128), Draw.normal(16), steps=17, optimiser=optimiser)
    assert calls == [15] * 17


def test_adam_comes_as_near_with_more_calls():
    net = _net()
    torch.manual_seed(6)
    targets = net(torch.randn(6, 16)) + 0.3 * torch.randn(6, 128)

    def score(optimiser, steps):
        return reconstruction_error(
            net, targets, Draw.normal(16), steps=steps, starts=4, optimiser=optimiser, generator=_generator()
        )

    best = score("lbfgs", 150)
    assert score("adam", 500).value == pytest.approx(best.value, rel=0.03)
    assert score("adam", 500).value < score("adam", 50).value


def test_adam_of_a_linear_generator_gives_the_least_squares_residual():
    torch.manual_seed(1)
    matrix, targets = torch.randn(30, 5, dtype=torch.float64), torch.randn(8, 30, dtype=torch.float64)
    best = torch.linalg.lstsq(matrix, targets.T)
    expected = (matrix @ best.solution - targets.T).square().mean(0)
    score = reconstruction_error(
        lambda z: z @ matrix.T, targets, Draw.normal(5), optimiser="adam", steps=400, generator=_generator()
    )
    torch.testing.assert_close(score.details["all_errors"], expected, rtol=1e-3, atol=0)


def test_size_of_blocks_changes_nothing(monkeypatch):
    net = _net().double()
    targets = torch.randn(11, 128, dtype=torch.float64)

    def errors():
        score = reconstruction_error(net, targets, Draw.normal(16), steps=60, generator=_generator())
        return score.details["all_errors"]

    whole = errors()
    monkeypatch.setattr(reconstruction, "MAX_SEARCHES", 7)
    torch.testing.assert_close(errors(), whole, rtol=1e-9, atol=0)


def test_float32_against_float64():
    net = _net()
    torch.manual_seed(7)
    targets = net(torch.randn(8, 16)) + 0.3 * torch.randn(8, 128)
    single = reconstruction_error(net, targets, Draw.normal(16), generator=_generator())
    double = reconstruction_error(net.double(), targets.double(), Draw.normal(16), generator=_generator())
    assert single.value == pytest.approx(double.value, rel=1e-3)


def test_a_lost_mode_is_reconstructed_worse():
    """Modes at ±2, z to a point near either (tanh), against a generator that only has the one at +2."""
    targets = torch.tensor([[2.0], [-2.0]]).repeat(10, 1) + 0.05 * torch.randn(20, 1)
    both = reconstruction_error(lambda z: 2.2 * z.tanh(), targets, Draw.normal(1), generator=_generator())
    one = reconstruction_error(lambda z: 2 + 0.2 * z.tanh(), targets, Draw.normal(1), generator=_generator())
    errors = one.details["all_errors"]
    assert both.value < 1e-8
    assert errors[::2].max() < 1e-3
    assert errors[1::2].min() > 12


def test_latents_may_leave_the_range_of_uniform_numbers():
    targets = torch.tensor([[5.0], [-3.0]])
    score = reconstruction_error(lambda z: z, targets, Draw.uniform(1, low=-1.0), generator=_generator())
    assert score.value < 1e-8


def test_metric_has_fixed_targets_and_a_control():
    data = image_data()
    net = _net(outputs=16)

    def image(z):
        return net(z).sigmoid().view(-1, 1, 4, 4)

    model = Samples(image(torch.randn(20, 16)), Draw.normal(16), image)
    metric = Reconstruction(n=12, steps=80)
    targets = metric.reference(data)
    assert torch.equal(targets, metric.reference(data))
    assert targets.shape == (12, 1, 4, 4)
    score = metric(model, data, targets)
    assert metric(model, data).value == score.value
    assert score.n == 12
    assert score.controls["own_samples"] < 0.1 * score.value
    assert score.invalid is None
    assert score.controls["floor_flat"] == pytest.approx(
        (targets - targets.mean((2, 3), keepdim=True)).square().mean().item(), rel=1e-6
    )
    assert "12 random training examples" in metric.protocol(data)
    with pytest.raises(SampleError, match="reconstruction needs a generator"):
        metric(Samples(torch.zeros(20, 1, 4, 4)), data)
    adam = Reconstruction(n=12, steps=80, optimiser="adam")
    assert adam(model, data, targets).value != score.value
    assert "Adam" in adam.protocol(data)
    assert "L-BFGS" in metric.protocol(data)


def test_a_flat_patch_has_the_mean_of_each_channel():
    halves = torch.zeros(2, 2, 4, 4)
    halves[:, 0, :2] = 1.0  # variance a quarter in the first channel, none in the second
    halves[1, 1] = 0.7
    assert flat_patch_error(halves) == pytest.approx(0.125)


def test_a_search_that_does_not_find_the_generators_own_images_makes_no_score():
    """A generator whose error has no slope almost everywhere: the search stays where it starts."""

    def steps(z):
        return torch.floor(4 * z).clamp(-8, 8).view(-1, 1, 4, 4) + 0 * z.view(-1, 1, 4, 4)

    own = steps(torch.randn(20, 16))
    data = image_data()
    score = Reconstruction(n=12, steps=20)(Samples(own, Draw.normal(16), steps), data)
    assert score.controls["own_samples"] > score.value / 2
    assert score.invalid.startswith("The search did not converge: for images of the generator itself")
    assert "Raise `steps` or `starts`." in score.invalid


@pytest.mark.parametrize(
    ("score", "own", "failed"),
    [
        (0.014, 0.0188, True),  # seen on CIFAR
        (0.014, 0.0071, True),
        (0.014, 0.0069, False),
        (1e-9, 1e-7, False),  # rounding: the targets' variance is about 1
        (1e-9, 1e-4, True),
        (0.0, 0.0, False),
    ],
)
def test_when_a_score_is_that_of_the_search(score, own, failed):
    targets = torch.randn(64, 3, 4, 4, generator=_generator())
    assert bool(failed_search(score, own, targets)) == failed
