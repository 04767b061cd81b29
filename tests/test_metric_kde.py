"""The kernel density estimate against closed forms, scikit-learn, direct float64 and known values."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from metric_models import Samples, gaussian_data, image_data
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity

from ganbench.errors import SampleError
from ganbench.metrics.kde import (
    GOODFELLOW_GRID,
    KdeCrossValidated,
    KdeFolds,
    KdeLL,
    KdeScales,
    _gaussian,
    kde_log_likelihood,
    kde_log_likelihood_folds,
    kde_log_likelihood_scales,
    log_densities,
    pyramid,
    scale_grid,
)
from ganbench.metrics.subset import random_subset

HALVES = tuple(0.1 * 2 ** (i / 4) for i in range(16))


def _direct(samples, points, bandwidths):
    d2 = (points.double().flatten(1)[:, None] - samples.double().flatten(1)[None]).square().sum(2)
    d = samples[0].numel()
    return torch.stack(
        [
            torch.logsumexp(-d2 / (2 * s * s), 1)
            - math.log(len(samples))
            - d / 2 * math.log(2 * math.pi * s * s)
            for s in bandwidths
        ]
    )


@pytest.mark.parametrize("grid", [GOODFELLOW_GRID, HALVES, (0.3,), (0.5, 0.1, 0.25)])
def test_one_kernel_is_a_gaussian(grid):
    sample, points = torch.tensor([[1.0, -2.0]]), torch.randn(50, 2)
    expected = torch.stack(
        [torch.distributions.Normal(sample.double(), s).log_prob(points.double()).sum(1) for s in grid]
    )
    torch.testing.assert_close(log_densities(sample, points, grid), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("grid", [GOODFELLOW_GRID, HALVES])
@pytest.mark.parametrize("d", [1, 2, 100])
@pytest.mark.parametrize("block", [None, (1, 1000), (17, 29)])
def test_densities_equal_direct_ones_in_any_blocks(grid, d, block):
    torch.manual_seed(0)
    samples, points = torch.randn(90, d), torch.randn(40, d)
    found = log_densities(samples, points, grid, block=block)
    torch.testing.assert_close(found, _direct(samples, points, grid), rtol=1e-6, atol=1e-4)


def test_error_at_784_dimensions_is_below_a_thousandth_of_a_nat():
    torch.manual_seed(0)
    samples = torch.rand(300, 784)
    points = (samples[:200] + 0.17 * torch.randn(200, 784)).clamp(0, 1)
    grid = tuple(s for s in GOODFELLOW_GRID if s > 0.15)
    found, expected = log_densities(samples, points, grid), _direct(samples, points, grid)
    assert (found - expected).abs().max() < 1e-3
    assert (found.mean(1) - expected.mean(1)).abs().max() < 1e-4
    doubles = log_densities(samples.double(), points.double(), grid)
    assert (doubles - expected).abs().max() < 1e-5  # only the exponentials are float32


def test_the_number_of_threads_changes_nothing():
    torch.manual_seed(3)
    samples, points, before = torch.rand(300, 100), torch.rand(1100, 100), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(log_densities(samples, points, GOODFELLOW_GRID))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-4)


def test_far_points_and_tiny_bandwidths_do_not_underflow():
    samples, points = torch.zeros(5, 2), torch.full((3, 2), 1000.0)
    torch.testing.assert_close(
        log_densities(samples, points, (1e-3,)), _direct(samples, points, (1e-3,)), rtol=1e-9, atol=0
    )


def test_equals_scikit_learn():
    torch.manual_seed(1)
    samples, points = torch.randn(200, 6), torch.randn(100, 6)
    sklearn = KernelDensity(bandwidth=0.4).fit(samples.numpy()).score_samples(points.numpy())
    score = kde_log_likelihood(samples, points, bandwidths=[0.4])
    assert score.value == pytest.approx(sklearn.mean(), abs=1e-5)
    assert score.sem == pytest.approx(sklearn.std(ddof=1) / 10, rel=1e-5)
    assert score.n == 100


@pytest.mark.slow
def test_total_standard_error_is_the_spread_over_fresh_samples_and_test_points():
    """± over test points alone, which papers print, is too small by a third here; the jackknife holds the rest."""
    scores = []
    for seed in range(80):
        g = torch.Generator().manual_seed(seed)
        x, test = torch.randn(100, 30, generator=g), torch.randn(300, 30, generator=g)
        scores.append(kde_log_likelihood(x, test, bandwidths=[0.8]))
    spread = torch.tensor([s.value for s in scores]).std().item()
    total, points = (
        torch.tensor(sems).square().mean().sqrt().item()
        for sems in ([s.details["sem_total"] for s in scores], [s.sem or 0 for s in scores])
    )
    assert total == pytest.approx(spread, rel=0.25)
    assert points < 0.75 * spread


def test_the_jackknife_leaves_out_every_twentieth_sample():
    torch.manual_seed(0)
    samples, points = torch.randn(50, 3), torch.randn(9, 3)
    score = kde_log_likelihood(samples, points, bandwidths=[0.5])
    without = [
        kde_log_likelihood(samples[torch.arange(50) % 20 != i], points, bandwidths=[0.5]).value
        for i in range(20)
    ]
    deviations = torch.tensor(without, dtype=torch.float64) - sum(without) / 20
    expected = (19 / 20 * deviations.square().sum()).sqrt().item()
    assert score.details["sem_samples"] == pytest.approx(expected, rel=1e-6)
    assert score.details["sem_total"] == pytest.approx(math.hypot(score.sem or 0, expected), rel=1e-6)
    images = torch.rand(2, 12, 1, 4, 4)
    scales = kde_log_likelihood_scales(images[0], images[1], images[1] + 0.01, levels=1)
    assert scales.details["sem_total"] > (scales.sem or 0)
    assert "sem_total" not in kde_log_likelihood(samples[:1], points, bandwidths=[0.5]).details


@pytest.mark.slow
def test_many_samples_reach_the_entropy_of_a_gaussian():
    torch.manual_seed(2)
    samples, valid, test = torch.randn(20_000, 1), torch.randn(1000, 1), torch.randn(2000, 1)
    score = kde_log_likelihood(samples, test, valid=valid)
    assert score.sem is not None
    truth = torch.distributions.Normal(0.0, 1.0).log_prob(test).mean().item()
    assert score.value == pytest.approx(truth, abs=0.01)
    assert not score.details["at_edge"]
    assert score.warning is None


def test_bandwidth_is_the_best_on_valid():
    torch.manual_seed(3)
    samples, valid, test = torch.randn(500, 2), torch.randn(400, 2), torch.randn(300, 2)
    grid = (1.5, 0.05, 0.35, 0.2, 0.8)
    score = kde_log_likelihood(samples, test, valid=valid, bandwidths=grid)
    curve = _direct(samples, valid, grid).mean(1)
    assert score.details["bandwidths"] == list(grid)
    assert score.details["valid_curve"] == pytest.approx(curve.tolist(), abs=1e-5)
    assert score.details["bandwidth"] == grid[int(curve.argmax())]
    assert score.value == pytest.approx(_direct(samples, test, [score.details["bandwidth"]]).mean().item())


def test_a_best_bandwidth_on_the_edge_is_said():
    torch.manual_seed(4)
    x = torch.randn(3, 300, 2)
    score = kde_log_likelihood(x[0], x[1], valid=x[2], bandwidths=(0.01, 0.02))
    assert score.details["at_edge"]
    assert score.warning == (
        "the best bandwidth, 0.02, is at the edge of the grid (0.01 to 0.02): the score may be higher outside it"
    )


def test_orientation():
    torch.manual_seed(5)
    data = gaussian_data(1500, 2)
    two = torch.where(torch.rand(1500, 1) < 0.5, -4.0, 4.0)
    truth = data.train + torch.cat([two, 0 * two], 1)
    side = torch.where(torch.rand(1500, 1) < 0.5, -4.0, 4.0)
    valid, test = (x + torch.cat([side, 0 * side], 1) for x in (data.valid, data.test))

    def score(samples):
        return kde_log_likelihood(samples, test, valid=valid).value

    perfect = score(truth)
    assert perfect > score(truth + 0.5 * torch.randn_like(truth)) + 0.02
    assert perfect > score(data.train + torch.tensor([4.0, 0.0])) + 0.5  # one of two modes
    assert perfect > score(test[:1].repeat(1500, 1)) + 0.5  # a constant sampler has a score, a low one


def test_grid_follows_the_scale_of_the_data():
    torch.manual_seed(6)
    x = torch.randn(400, 3)
    assert scale_grid(10 * x) == pytest.approx([10 * s for s in scale_grid(x)], rel=1e-6)
    a = kde_log_likelihood(x[:200], x[200:300], valid=x[300:])
    b = kde_log_likelihood(1000 * x[:200], 1000 * x[200:300], valid=1000 * x[300:])
    assert b.value == pytest.approx(a.value - 3 * math.log(1000), abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "the bandwidth must be chosen on examples that are not scored: give `valid`, or one bandwidth"),
        ({"bandwidths": (0.1, 0.2)}, "the bandwidth must be chosen on examples that are not scored"),
        ({"bandwidths": (0.0,)}, "bandwidths: expected positive numbers, got 0.0"),
        ({"bandwidths": ()}, "bandwidths: expected positive numbers, got none"),
        ({"bandwidths": (0.1, math.nan), "valid": torch.zeros(2, 2)}, "expected positive numbers, got nan"),
        ({"valid": torch.ones(5, 2)}, "valid: all examples are equal, so they set no scale"),
        ({"valid": torch.ones(5, 3)}, r"valid: one example has shape \[3\]; expected \[2\]"),
        ({"samples": torch.zeros(0, 2)}, "samples: holds 0 examples; at least 1 are needed"),
        ({"samples": torch.full((4, 2), torch.nan)}, "samples: 4 of 4 examples hold NaN or infinity"),
        (
            {"samples": torch.full((4, 2), 1e90, dtype=torch.float64), "bandwidths": (1e-80,)},
            "samples: too far from the test",
        ),
        ({"test": torch.zeros(1, 2)}, "test: holds 1 examples; at least 2 are needed"),
    ],
)
def test_bad_input(arguments, text):
    given = {"samples": torch.zeros(4, 2), "test": torch.ones(4, 2), **arguments}
    with pytest.raises(SampleError, match=text):
        kde_log_likelihood(**given)


def test_metric_scores_between_its_floor_and_ceiling():
    data = gaussian_data()
    centre = torch.tensor([5.0, 0.0, 0.0])
    bimodal = type(data)(
        "bimodal", *(torch.cat([x + centre, x - centre]) for x in (data.train, data.valid, data.test)), (3,)
    )
    metric = KdeLL(n=500, n_valid=200)
    shuffled = bimodal.train[torch.randperm(1200, generator=torch.Generator().manual_seed(0))]
    bimodal = type(data)("bimodal", shuffled, bimodal.valid[::3], bimodal.test, (3,))
    score = metric(Samples(shuffled[500:1000] + 0.1), bimodal, metric.reference(bimodal))
    assert score.controls["floor"] + 0.1 < score.value < score.controls["ceiling"] + 0.1
    assert metric(Samples(shuffled[500:1000] + 0.1), bimodal).value == score.value
    assert "500 samples" in metric.protocol(bimodal)
    assert metric.protocol(bimodal) != KdeLL(n=500, n_valid=100).protocol(bimodal)


def test_metric_uses_goodfellows_grid_for_pixels():
    data = image_data()
    score = KdeLL(n=100)(Samples(data.floats(data.train)), data)
    assert score.details["bandwidths"] == list(GOODFELLOW_GRID)
    np.testing.assert_allclose(GOODFELLOW_GRID, np.logspace(-1, 0, 10))


def test_floor_draws_have_the_mean_and_covariance_of_the_data():
    torch.manual_seed(7)
    x = torch.randn(500, 2, 2) @ torch.tensor([[1.0, 0.5], [0.0, 0.3]]) + 3
    draws = _gaussian(x, 40_000)
    assert draws.shape == (40_000, 2, 2)
    torch.testing.assert_close(draws.mean(0), x.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(draws.flatten(1).T.cov(), x.flatten(1).T.cov(correction=0), atol=0.04, rtol=0)


# ---------------------------------------------------------------------------------------------- variants


def test_the_tile_order_and_far_tiles_change_nothing():
    """Nearest samples last: what was summed before is scaled down, and rows without weight are left out."""
    torch.manual_seed(8)
    samples, points = torch.rand(3000, 70), torch.rand(50, 70)
    samples[2990:] = points[:10] + 0.01 * torch.randn(10, 70)
    for order in (samples, samples.flip(0)):
        found = log_densities(order, points, GOODFELLOW_GRID)
        torch.testing.assert_close(found, _direct(samples, points, GOODFELLOW_GRID), rtol=1e-6, atol=2e-4)


def test_cross_validation_is_scikit_learns():
    torch.manual_seed(9)
    samples, test, grid, folds = torch.randn(203, 3), torch.randn(100, 3), (0.9, 0.3, 0.5), 4
    score = kde_log_likelihood(samples, test, bandwidths=grid, folds=folds)
    order = np.argsort(np.arange(203) % folds, kind="stable")  # ours as consecutive folds
    search = GridSearchCV(KernelDensity(), {"bandwidth": grid}, cv=KFold(folds)).fit(samples.numpy()[order])
    assert score.details["bandwidth"] == search.best_params_["bandwidth"]
    totals = sum(search.cv_results_[f"split{i}_test_score"] for i in range(folds))
    assert score.details["valid_curve"] == pytest.approx(totals / 203, rel=1e-5)
    alone = kde_log_likelihood(samples, test, bandwidths=[score.details["bandwidth"]])
    assert (score.value, score.sem) == (alone.value, alone.sem)


def test_cross_validation_of_sorted_and_of_repeated_samples():
    torch.manual_seed(10)
    modes = torch.cat([torch.randn(300, 2) - 20, torch.randn(300, 2) + 20])
    test = torch.cat([torch.randn(200, 2) - 20, torch.randn(200, 2) + 20])
    sorted_, mixed = (
        kde_log_likelihood(x, test, bandwidths=scale_grid(test), folds=3)
        for x in (modes, modes[torch.randperm(600)])
    )
    assert sorted_.details["bandwidth"] == pytest.approx(mixed.details["bandwidth"], rel=0.5)
    twice = kde_log_likelihood(torch.cat([modes, modes[:1], modes]), test, folds=3)
    assert twice.details["bandwidth"] == min(twice.details["bandwidths"])
    assert twice.warning is not None


def test_folds_each_have_their_bandwidth():
    torch.manual_seed(11)
    samples, test, valid = torch.randn(400, 2), torch.randn(301, 2), torch.randn(203, 2)
    valid[::2] *= 3  # the first of two folds is wider
    grid = scale_grid(valid)
    score = kde_log_likelihood_folds(samples, test, valid, folds=2)
    each = [
        kde_log_likelihood(samples, test[i::2], valid=valid[i::2], bandwidths=grid).value for i in range(2)
    ]
    assert score.details["fold_values"] == pytest.approx(each)
    assert score.value == pytest.approx(sum(each) / 2)
    assert score.sem == pytest.approx(abs(each[0] - each[1]) / 2)
    assert score.n == 2
    assert score.details["fold_bandwidths"][0] > 1.5 * score.details["fold_bandwidths"][1]


@pytest.mark.parametrize(
    ("shape", "levels", "coarse"),
    [((1, 28, 28), None, 7), ((3, 32, 32), None, 8), ((1, 48, 48), None, 6), ((2, 4, 4), None, 2),
     ((1, 8, 8), 3, 1)],
)  # fmt: skip
def test_pyramid_is_an_orthonormal_basis(shape, levels, coarse):
    images = torch.randn(20, *shape, dtype=torch.float64)
    parts = pyramid(images, levels)
    assert parts[0].shape == (20, shape[0], coarse, coarse)
    within = torch.cat([part.flatten(1) for part in parts], 1)
    assert within.shape == images.flatten(1).shape
    torch.testing.assert_close(within @ within.T, images.flatten(1) @ images.flatten(1).T)
    blank = pyramid(torch.full((1, *shape), 0.5), levels)
    assert all(not part.any() for part in blank[1:])
    assert blank[0].unique().tolist() == pytest.approx([0.5 * shape[1] / coarse])


def test_scales_are_a_density_of_the_image():
    torch.manual_seed(12)
    image, test = torch.rand(1, 1, 8, 8), torch.rand(20, 1, 8, 8)
    one = kde_log_likelihood_scales(
        image, test, test, bandwidths=[0.4]
    )  # one kernel: a Gaussian in any basis
    assert one.value == pytest.approx(kde_log_likelihood(image, test, bandwidths=[0.4]).value, abs=1e-4)
    samples, valid = torch.randn(2, 4000, 1, 2, 2)
    test = torch.randn(1000, 1, 2, 2)
    score = kde_log_likelihood_scales(samples, test, valid[:500])
    truth = torch.distributions.Normal(0.0, 1.0).log_prob(test).flatten(1).sum(1).mean().item()
    assert score.value == pytest.approx(truth, abs=0.15)
    assert score.value == pytest.approx(sum(level["value"] for level in score.details["levels"]))
    assert [level["shape"] for level in score.details["levels"]] == [[1, 1, 1], [3, 1, 1]]


def _smooth(n):
    """Images [n, 1, 8, 8] of two kinds, coarse and fine each with little noise."""
    kind = (torch.rand(n, 1, 1, 1) < 0.5).float()
    return 0.3 + 0.4 * kind + 0.05 * torch.randn(n, 1, 8, 8)


@pytest.mark.parametrize("by", ["folds", "scales", "cross-validation"])
def test_orientation_of_variants(by):
    torch.manual_seed(13)
    train, valid, test = _smooth(1000), _smooth(400), _smooth(400)

    def score(samples):
        if by == "cross-validation":
            return kde_log_likelihood(samples, test, folds=3).value
        function = {"folds": kde_log_likelihood_folds, "scales": kde_log_likelihood_scales}[by]
        return function(samples, test, valid).value

    perfect = score(train)
    assert perfect > score(train + 0.1 * torch.randn_like(train)) + 5
    assert perfect > score(train[train.mean((1, 2, 3)) > 0.5]) + 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: kde_log_likelihood(x, x, valid=x, folds=2), "chosen by `valid` or by `folds`; both are given"),
        (lambda x: kde_log_likelihood(x, x, folds=1), "folds: expected at least 2, got 1"),
        (lambda x: kde_log_likelihood(x, x, folds=7), "samples: holds 6 examples; 7 folds need at least as many"),
        (lambda x: kde_log_likelihood(x, 0 * x, folds=2), "test: all examples are equal"),
        (lambda x: kde_log_likelihood_folds(x, x, x, folds=0), "folds: expected at least 2, got 0"),
        (lambda x: kde_log_likelihood_folds(x, x, x[:4]), "valid: holds 4 examples; at least 5 are needed"),
        (lambda x: kde_log_likelihood_scales(x, x, x, levels=3), r"has shape \[1, 4, 4\]; expected \[C, H, W\] "
         r"whose sides can be halved 3 time\(s\)"),
        (lambda x: kde_log_likelihood_scales(*3 * [x[:, 0]]), r"has shape \[4, 4\]; expected \[C, H, W\]"),
        (lambda x: kde_log_likelihood_scales(*3 * [x[..., :3]]), r"has shape \[1, 4, 3\]; expected"),
        (lambda x: kde_log_likelihood_scales(x * torch.nan, x, x), "samples: 6 of 6 examples hold NaN"),
    ],
)  # fmt: skip
def test_bad_input_of_variants(call, text):
    with pytest.raises(SampleError, match=text):
        call(torch.rand(6, 1, 4, 4))


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        (KdeCrossValidated(n=150, folds=3), "that is best by 3-fold cross-validation over the samples"),
        (KdeFolds(n=150, folds=4), "mean over 4 folds of all 200 test examples"),
        (KdeScales(n=150, n_valid=100), "coarse image and 1 bands of an orthonormal Haar pyramid"),
    ],
)
def test_variants_stand_between_floor_and_ceiling(metric, sentence):
    data = image_data()
    train = data.floats(random_subset(data.train, 150))
    copies = metric(Samples(train), data, metric.reference(data))
    assert copies.value == pytest.approx(copies.controls["ceiling"])
    assert metric(Samples(train), data).value == copies.value
    noisy = metric(Samples(data.floats(data.train) + torch.randn(200, 1, 4, 4)), data)
    assert noisy.value < copies.value - 1
    assert math.isfinite(copies.controls["floor"])
    assert copies.caution.startswith("Theis et al. 2016")
    assert sentence in metric.protocol(data)
    assert "150 samples" in metric.protocol(data)


# ---------------------------------------------------------------------------------------------- known values


def _images(folder):
    """All 60,000 training and 10,000 test images, floats in [0, 1]."""
    from torchvision.datasets import MNIST

    return (MNIST(str(folder), train=split).data[:, None].float() / 255 for split in (True, False))


@pytest.mark.slow
def test_known_value_on_mnist(mnist):
    train, test = _images(mnist)
    goodfellow = kde_log_likelihood(
        train[:10_000], test, valid=train[50_000:51_000], bandwidths=GOODFELLOW_GRID
    )
    assert goodfellow.value == pytest.approx(241.2, abs=0.2)
    assert goodfellow.sem == pytest.approx(2.1, abs=0.1)
    assert goodfellow.value == pytest.approx(243, abs=3)


BEST = {10_000: (0.18, 243.0), 16_384: (0.1668, 269.5), 60_000: (0.1585, 328.6)}  # σ and nats


@pytest.mark.slow
@pytest.mark.parametrize("n", BEST)
def test_known_values_by_number_of_training_images(mnist, n):
    """At the best bandwidth, on every fifth test image, or with GANBENCH_BENCH_FULL=1 on all of them; the
    60,000 are all training images, the validation part too."""
    train, test = _images(mnist)
    draw = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]
    full = os.environ.get("GANBENCH_BENCH_FULL") == "1"
    sigma, nats = BEST[n]
    score = kde_log_likelihood(train[draw], test if full else test[::5], bandwidths=[sigma])
    assert score.value == pytest.approx(nats, abs=3 if full else 6)  # ± is 4.5 nats on 2,000 images


# ------------------------------------------------------------------------------------------ choice of the bandwidth


class OnTest(KdeLL):
    """A planted mistake: it chooses the bandwidth on the test split."""

    def _score(self, samples, data):
        return kde_log_likelihood(samples, data.floats(data.test), valid=data.floats(data.test))


def chosen(metric, data):
    """All bandwidths of a score: those that were tried and those that were taken."""
    torch.manual_seed(0)
    made = data.floats(data.train) + 0.1 * torch.randn(data.train.shape)
    details = metric(Samples(made), data, metric.reference(data)).details
    parts = [details, *details.get("levels", ())]
    names = ("bandwidth", "bandwidths", "fold_bandwidths", "valid_curve")
    return [part.get(name) for part in parts for name in names]


@pytest.mark.parametrize("kind", [KdeLL, KdeCrossValidated, KdeFolds, KdeScales, OnTest])
def test_the_bandwidth_never_depends_on_the_test_split(kind):
    """Neither its choice nor the grid: other test examples, of another scale, change nothing of them."""
    data = image_data(n=300) if kind is KdeScales else gaussian_data(300, 2)
    other = replace(
        data, test=data.valid.flip(0)[:50] // 7 if kind is KdeScales else 30 * data.valid[:50] + 5
    )
    same = chosen(kind(n=100), data) == chosen(kind(n=100), other)
    assert same == (kind is not OnTest)
