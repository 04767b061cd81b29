"""Mode coverage against counts made by hand and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from metric_models import Samples, gaussian_data

from ganbench.contracts import Modes
from ganbench.datasets.toy import grid
from ganbench.errors import DatasetError, SampleError
from ganbench.metrics.modes import (
    FittedGaussian,
    ModeCoverage,
    ModeKL,
    _forward_kl,
    histogram_kl,
    mode_controls,
    mode_coverage,
    mode_kl,
)


def _ring(k=8, std=0.01):
    angle = torch.arange(k) * (2 * math.pi / k)
    return Modes(torch.stack([angle.cos(), angle.sin()], 1), std)


def _truth(modes, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mode = torch.multinomial(modes.probabilities, n, replacement=True, generator=generator)
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
    assert mean == pytest.approx(found[0]["perfect_reverse_kl"], rel=0.3)


SHARES = {  # of samples in each of eight modes
    "all modes": torch.full((8,), 1 / 8),
    "unequal": torch.tensor([0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05]),
    "one missing": torch.tensor([0.0, *[1 / 7] * 7]),
    "half missing": torch.tensor([0.0] * 4 + [0.25] * 4),
    "one rare": torch.tensor([0.004, *[0.996 / 7] * 7]),  # two samples of 500 on average
}


@pytest.mark.parametrize("n", [500, pytest.param(2500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("weights", [SHARES["all modes"], SHARES["unequal"]], ids=["equal", "weights"])
@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
def test_standard_errors_are_the_spread_over_fresh_draws(shares, weights, n):
    generator = torch.Generator().manual_seed(n)
    inside = torch.cat([0.989 * shares, torch.tensor([0.011])])
    drawn = torch.multinomial(inside, 600 * n, replacement=True, generator=generator).view(600, n)
    draws = [row.bincount(minlength=9)[:8] for row in drawn]
    weights = weights.double() / weights.double().sum()

    def ratio(found):
        """Root mean square of ± over the spread of the values."""
        value, error = torch.tensor(found).double().T
        return (error.square().mean().sqrt() / value.std()).item()

    assert 0.85 < ratio([_forward_kl(counts, weights, n) for counts in draws]) < 1.1
    # Too large where the histogram is that of the weights but for chance, or where some modes are empty.
    assert 0.85 < ratio([histogram_kl(counts, weights, n) for counts in draws]) < 1.45


def test_modes_that_are_missing_add_nothing_to_the_error():
    """It was 0.468 where 0.0002 is right, by half a sample in modes that never have one."""
    modes = _ring()
    score = mode_kl(modes.centers[:4].repeat(625, 1), modes)
    assert score.sem == pytest.approx(2e-4, abs=1e-4)


def test_jackknife_leaves_out_one_sample_after_another():
    modes = Modes(torch.tensor([[0.0], [10.0], [20.0]]), 1.0, weights=torch.tensor([0.5, 0.2, 0.3]))
    samples = torch.tensor([[0.0]] * 4 + [[10.0]] * 2 + [[15.0]] * 3)
    counts, w = torch.tensor([4.0, 2.0, 0.0]), modes.probabilities
    less = [torch.cat([samples[:i], samples[i + 1 :]]) for i in range(9)]
    forward = torch.tensor([mode_kl(x, modes).value for x in less]).double()
    reverse = torch.tensor([mode_coverage(x, modes).details["reverse_kl"] for x in less]).double()
    second = 0.5 * ((w / (counts + 0.5))[:2] ** 2).sum()
    expected = 8 / 9 * (forward - forward.mean()).square().sum() - second
    assert mode_kl(samples, modes).sem == pytest.approx(expected.sqrt().item(), rel=1e-6)
    expected = 8 / 9 * (reverse - reverse.mean()).square().sum() - 1 / (2 * 6**2)
    found = mode_coverage(samples, modes).details["reverse_kl_sem"]
    assert found == pytest.approx(expected.clamp(min=1 / 72).sqrt().item(), rel=1e-6)


# ---------------------------------------------------------------------------------------------- weights


def test_a_perfect_sampler_of_unequal_gaussians_has_no_divergence():
    modes = replace(_ring(), weights=SHARES["unequal"])
    found = [
        (mode_coverage(x, modes), mode_kl(x, modes)) for x in (_truth(modes, 2500, i) for i in range(60))
    ]
    reverse = sum(coverage.details["reverse_kl"] for coverage, _ in found) / 60
    assert reverse == pytest.approx(found[0][0].details["perfect_reverse_kl"], rel=0.3)
    values = torch.tensor([kl.value for _, kl in found])
    assert values.mean().item() == pytest.approx(
        found[0][1].details["perfect_kl"], abs=4 * values.std().item() / 60**0.5
    )
    equal = mode_coverage(_truth(modes, 2500), _ring()).details["reverse_kl"]
    assert equal == pytest.approx((SHARES["unequal"] * (8 * SHARES["unequal"]).log()).sum().item(), abs=0.02)


def test_weights_by_hand():
    modes = Modes(torch.tensor([[0.0], [10.0], [20.0]]), 1.0, weights=torch.tensor([0.5, 0.3, 0.2]))
    samples = torch.tensor([[0.0], [1.0], [-1.0], [10.0], [15.0]])
    p = [3.5 / 7, 1.5 / 7, 0.5 / 7]
    by_hand = sum(w * math.log(w / q) for w, q in zip([0.5, 0.3, 0.2], p, strict=True))
    assert mode_kl(samples, modes).value == pytest.approx(by_hand, rel=1e-6)
    details = mode_coverage(samples, modes).details
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.3)
    assert details["reverse_kl"] == pytest.approx(by_hand, rel=1e-6)
    nothing = mode_coverage(torch.full((4, 1), 15.0), modes).details
    assert nothing["reverse_kl"] == pytest.approx(-math.log(0.2), rel=1e-6)
    assert nothing["reverse_kl_sem"] is None


def test_equal_weights_are_none():
    modes = _ring()
    samples, same = _truth(modes, 400), replace(modes, weights=torch.full((8,), 0.125))
    assert mode_kl(samples, modes) == mode_kl(samples, same)
    assert mode_coverage(samples, modes).details["reverse_kl"] == pytest.approx(
        mode_coverage(samples, same).details["reverse_kl"], rel=1e-12
    )


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (torch.full((7,), 1 / 7), r"expected \[8\] probabilities above 0 that add up to 1, .*; got \[7\]"),
        (torch.tensor([0.0, *[1 / 7] * 7]), "least 0, sum 1"),
        (torch.full((8,), 0.25), "sum 2"),
        (torch.full((8,), torch.nan), "least nan"),
    ],
)
def test_weights_that_are_no_probabilities(weights, text):
    with pytest.raises(DatasetError, match=text):
        replace(_ring(), weights=weights)


# ---------------------------------------------------------------------------------------------- controls


def test_samplers_that_know_no_mode_capture_most_of_the_grid():
    data = grid(torch.Generator().manual_seed(0), n_train=20_000, n_valid=10, n_test=6000)
    found = mode_controls(data, 2500, 3.0)
    assert list(found) == ["floor_gaussian", "floor_smeared", "ceiling"]
    # A Gaussian of variance 8 + 0.05² at the centres, and circles of radius 0.15: exact but for the circles' size.
    variance, area = 8 + 0.05**2, math.pi * 0.15**2
    squares = torch.cartesian_prod(*[torch.tensor([-4.0, -2.0, 0.0, 2.0, 4.0]).square()] * 2).sum(1)
    share = area * (-squares / (2 * variance)).exp() / (2 * math.pi * variance)
    expected = (1 - (1 - share) ** 2500).sum().item()
    assert found["floor_gaussian"]["modes"] == pytest.approx(expected, abs=2)
    assert 16 < expected < 19
    assert found["floor_gaussian"]["high_quality_pct"] == pytest.approx(100 * share.sum().item(), rel=0.15)
    # Smeared: sd 1 in a distance of 2, where two Gaussians become one peak.
    centers = data.modes.centers
    share = area * (-torch.cdist(centers, centers).square() / 2).exp().mean(1) / (2 * math.pi)
    assert found["floor_smeared"]["high_quality_pct"] == pytest.approx(100 * share.sum().item(), rel=0.15)
    assert found["floor_smeared"]["modes"] == pytest.approx((1 - (1 - share) ** 2500).sum().item(), abs=2)
    for name in ("floor_gaussian", "floor_smeared"):
        assert found[name]["modes_10_pct"] < 1
        assert found[name]["reverse_kl"] > 30 * found["ceiling"]["reverse_kl"]
        assert found[name]["mode_kl"] > 30 * found["ceiling"]["mode_kl"]
    assert found["ceiling"]["modes"] == found["ceiling"]["modes_10_pct"] == 25
    assert found["ceiling"]["high_quality_pct"] == pytest.approx(98.89, abs=0.7)
    assert mode_controls(data, 2500, 3.0) == found


def test_controls_of_a_single_mode_and_of_few_examples():
    modes = Modes(torch.zeros(1, 2), 1.0)
    data = replace(gaussian_data(d=2), modes=modes)
    found = mode_controls(data, 1000, 3.0)
    assert list(found) == ["ceiling"]  # a fitted Gaussian is no floor here
    assert found["ceiling"]["high_quality_pct"] == pytest.approx(98.89, abs=1.5)  # of the 600 that there are
    with pytest.raises(SampleError, match="gaussian: its modes are not known"):
        mode_controls(gaussian_data(d=2), 1000, 3.0)


def test_fitted_gaussian_has_the_moments_of_the_data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5000, 3, generator=generator) @ torch.tensor([[2.0, 1, 0], [0, 0.5, 0], [0, 0, 0]]) + 5
    draws = FittedGaussian(x).draw(20_000, generator)
    torch.testing.assert_close(draws.mean(0), x.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(draws.T.cov(), x.T.cov(), atol=0.1, rtol=0)  # the third number is constant


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
    assert score.warning.startswith("only 0 % of true samples lie within 3 standard deviations")
    assert mode_coverage(_truth(modes, 50), modes, stds=40).warning is None


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
    assert captured.value == captured.controls["modes_10_pct"] == 8
    assert set(captured.controls["floor_gaussian"]) == {
        "modes",
        "modes_10_pct",
        "high_quality_pct",
        "reverse_kl",
    }
    assert metric(Samples(_truth(modes, 2000)), data, metric.reference(data))[0].value == 8
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


def test_forward_kl_of_a_perfect_sampler():
    modes = _ring()
    scores = [mode_kl(_truth(modes, 500, seed), modes) for seed in range(200)]
    values = torch.tensor([s.value for s in scores])
    spread = values.std().item()
    assert values.mean().item() == pytest.approx(scores[0].details["perfect_kl"], abs=4 * spread / 200**0.5)


def test_forward_kl_as_a_metric():
    modes, data = _ring(), gaussian_data(d=2)
    data = type(data)("ring", data.train, data.valid, data.test, (2,), modes=modes)
    score, alone = ModeKL(n=100)(Samples(_truth(modes, 200)), data), mode_kl(_truth(modes, 200)[:100], modes)
    assert (score.value, score.sem, score.n) == (alone.value, alone.sem, 100)
    assert set(score.details) == {"perfect_kl"}
    assert set(score.controls) == {"floor_gaussian", "floor_smeared", "ceiling"}
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
    assert "in 20 dimensions" in mode_coverage(samples, modes, stds=2).warning
