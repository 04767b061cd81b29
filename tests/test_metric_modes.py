"""Mode coverage against counts made by hand and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples, gaussian_data

from ganbench.contracts import Modes
from ganbench.errors import SampleError
from ganbench.metrics.modes import ModeCoverage, ModeKL, mode_coverage, mode_kl


def _ring(k=8, std=0.01):
    angle = torch.arange(k) * (2 * math.pi / k)
    return Modes(torch.stack([angle.cos(), angle.sin()], 1), std)


def _truth(modes, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mode = torch.randint(0, len(modes.centers), (n,), generator=generator)
    return modes.centers[mode] + modes.std * torch.randn(n, modes.centers.shape[1], generator=generator)


def test_counts_by_hand():
    modes = Modes(torch.tensor([[0.0], [10.0], [20.0]]), 1.0)
    samples = torch.tensor([[0.0], [2.99], [3.0], [-2.5], [10.0], [15.0]])  # 3.0: not strictly within
    score = mode_coverage(samples, modes)
    assert score.value == 2
    assert score.details["counts"].tolist() == [3, 1, 0]
    assert score.details["high_quality_pct"] == pytest.approx(400 / 6)
    assert score.details["high_quality_sem"] == pytest.approx(100 * math.sqrt(4 / 6 * 2 / 6 / 6))
    p = [3 / 4, 1 / 4]
    assert score.details["reverse_kl"] == pytest.approx(sum(x * math.log(3 * x) for x in p))


def test_true_samples_reach_the_ceiling():
    modes = _ring()
    score = mode_coverage(_truth(modes, 100_000), modes)
    assert score.value == 8
    assert score.details["high_quality_ceiling"] == pytest.approx(100 * (1 - math.exp(-4.5)))  # 98.89
    assert score.details["high_quality_pct"] == pytest.approx(
        98.89, abs=4 * score.details["high_quality_sem"]
    )
    assert score.details["reverse_kl"] < 3e-4


def test_divergence_of_a_perfect_sampler_is_the_floor():
    modes = _ring()
    found = [mode_coverage(_truth(modes, 2500, seed), modes).details for seed in range(40)]
    mean = sum(d["reverse_kl"] for d in found) / 40
    assert mean == pytest.approx(found[0]["reverse_kl_floor"], rel=0.3)


def test_standard_error_of_the_divergence_is_its_spread():
    modes = _ring(4)
    weights = torch.tensor([0.5, 0.3, 0.15, 0.05])
    scores = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        mode = torch.multinomial(weights, 500, replacement=True, generator=generator)
        scores.append(mode_coverage(modes.centers[mode], modes).details)
    spread = torch.tensor([s["reverse_kl"] for s in scores]).std().item()
    assert sum(s["reverse_kl_sem"] for s in scores) / 200 == pytest.approx(spread, rel=0.15)


def test_orientation():
    modes = _ring()
    perfect = mode_coverage(_truth(modes, 2500), modes)
    dropped = mode_coverage(_truth(Modes(modes.centers[:6], 0.01), 2500), modes)
    noisy = mode_coverage(_truth(modes, 2500) + 0.02, modes)
    assert dropped.value == 6
    assert dropped.details["reverse_kl"] == pytest.approx(math.log(8 / 6), abs=0.01)
    assert noisy.details["high_quality_pct"] < perfect.details["high_quality_pct"] - 20


def test_no_sample_near_a_mode_scores_worst_of_all():
    modes = _ring()
    score = mode_coverage(torch.zeros(100, 2), modes)
    assert (score.value, score.details["high_quality_pct"]) == (0, 0)
    assert score.details["reverse_kl"] == pytest.approx(math.log(8))
    assert score.details["reverse_kl_sem"] is None
    one = mode_coverage(modes.centers[:1].repeat(100, 1), modes)
    assert one.details["reverse_kl"] == pytest.approx(math.log(8))


def test_three_deviations_in_many_dimensions_are_warned_of():
    modes = Modes(10 * torch.eye(3, 1200), 1.0)
    score = mode_coverage(_truth(modes, 50), modes)
    assert score.details["warning"].startswith("only 0 % of true samples lie within 3 standard deviations")
    assert "warning" not in mode_coverage(_truth(modes, 50), modes, stds=40).details


def test_float64_and_images_agree():
    modes = _ring()
    samples = _truth(modes, 500)
    a, b = mode_coverage(samples, modes), mode_coverage(samples.double().view(-1, 1, 2), modes)
    assert a.details["counts"].tolist() == b.details["counts"].tolist()


@pytest.mark.parametrize(
    ("samples", "std", "text"),
    [
        (torch.zeros(5, 3), 0.01, "samples: one example holds 3 numbers; the centers of the modes hold 2"),
        (torch.zeros(0, 2), 0.01, "samples: holds 0 examples"),
        (torch.full((5, 2), torch.inf), 0.01, "samples: 5 of 5 examples hold NaN or infinity"),
        (torch.zeros(5, 2), 0.0, "modes: the standard deviation must be positive, got 0.0"),
    ],
)
def test_bad_input(samples, std, text):
    with pytest.raises(SampleError, match=text):
        mode_coverage(samples, _ring(std=std))


def test_metric_fills_its_three_columns():
    modes, data = _ring(), gaussian_data(d=2)
    data = type(data)("ring", data.train, data.valid, data.test, (2,), modes=modes)
    metric = ModeCoverage(n=1000)
    captured, quality, kl = metric(Samples(_truth(modes, 2000)), data)
    assert captured.value == 8
    assert 97 < quality.value < 100
    assert 0 < kl.value < 0.02
    assert quality.n == 1000
    assert kl.n == int(captured.details["counts"].sum())
    assert metric.protocol(data) != ModeCoverage(n=1000, stds=10.0).protocol(data)
    with pytest.raises(SampleError, match="gaussian: its modes are not known"):
        metric(Samples(torch.zeros(1000, 2)), gaussian_data(d=2))


def test_forward_kl_by_hand_and_its_orientation():
    modes = Modes(torch.tensor([[0.0], [10.0], [20.0]]), 1.0)
    samples = torch.tensor([[0.0], [1.0], [-1.0], [10.0], [15.0]])
    p = [3.5 / 7, 1.5 / 7, 0.5 / 7]
    assert mode_kl(samples, modes).value == pytest.approx(-math.log(3) - sum(map(math.log, p)) / 3)
    ring = _ring()
    truth = _truth(ring, 2500)
    perfect, dropped, noisy, nothing = (
        mode_kl(x, ring).value
        for x in (truth, _truth(Modes(ring.centers[:7], 0.01), 2500), truth + 0.02, torch.zeros(2500, 2))
    )
    assert perfect < 0.02 < 0.3 < min(dropped, noisy)
    assert (
        dropped > 5 * mode_coverage(_truth(Modes(ring.centers[:7], 0.01), 2500), ring).details["reverse_kl"]
    )
    assert nothing > max(dropped, noisy)


def test_forward_kl_of_a_perfect_sampler_is_the_floor_and_its_error_honest():
    modes = _ring()
    scores = [mode_kl(_truth(modes, 500, seed), modes) for seed in range(200)]
    values = torch.tensor([s.value for s in scores])
    spread = values.std().item()
    assert values.mean().item() == pytest.approx(scores[0].details["kl_floor"], abs=4 * spread / 200**0.5)
    uneven = Modes(modes.centers[[0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]], 0.01)
    scores = [mode_kl(_truth(uneven, 500, seed), modes) for seed in range(200)]
    spread = torch.tensor([s.value for s in scores]).std().item()
    assert sum(s.sem or 0 for s in scores) / 200 == pytest.approx(spread, rel=0.25)


def test_forward_kl_as_a_metric():
    modes, data = _ring(), gaussian_data(d=2)
    data = type(data)("ring", data.train, data.valid, data.test, (2,), modes=modes)
    assert ModeKL(n=100)(Samples(_truth(modes, 200)), data) == mode_kl(_truth(modes, 200)[:100], modes)
    assert "half a sample" in ModeKL().protocol(data)
    with pytest.raises(SampleError, match="gaussian: its modes are not known"):
        ModeKL()(Samples(torch.zeros(2500, 2)), gaussian_data(d=2))


def test_modes_with_noise_in_some_dimensions_only():
    modes = Modes(10 * torch.eye(3, 60), 1.0, dims=20)
    generator = torch.Generator().manual_seed(0)
    samples = modes.centers.repeat(2000, 1)
    samples[:, :20] += torch.randn(len(samples), 20, generator=generator)
    details = mode_coverage(samples, modes, stds=5.5).details
    assert details["high_quality_pct"] == pytest.approx(details["high_quality_ceiling"], abs=1.5)
    assert details["high_quality_ceiling"] > 90
    assert "in 20 dimensions" in mode_coverage(samples, modes, stds=2).details["warning"]
