"""One example very far from all others, among samples or real data, changes no score by rounding."""

from __future__ import annotations

import math

import pytest
import torch

from ganbench.metrics.copying import authenticity, data_copying, near_duplicates
from ganbench.metrics.diversity import birthday_collisions, pairwise_diversity
from ganbench.metrics.kde import kde_log_likelihood
from ganbench.metrics.memorisation import memorisation
from ganbench.metrics.prdc import prdc
from ganbench.metrics.sampled_classifier import nearest_neighbour_error
from ganbench.metrics.two_sample import c2st

N, D = 200, 150
CLASSES = torch.arange(N) % 3
SCORES = {
    "kde": lambda samples, train, test: kde_log_likelihood(samples, test, bandwidths=[0.2]).value,
    "diversity": lambda samples, train, test: pairwise_diversity(samples, test).value,
    "birthday": lambda samples, train, test: birthday_collisions(samples, test, rate=0.01).value,
    "prdc": lambda samples, train, test: tuple(vars(prdc(test, samples)).values()),
    "c2st": lambda samples, train, test: c2st(samples, test).value,
    "sample_classifier": lambda samples, train, test: (
        nearest_neighbour_error(samples, CLASSES, test, CLASSES).value
    ),
    "memorisation": lambda samples, train, test: memorisation(samples, train, test).value,
    "data_copying": lambda samples, train, test: data_copying(samples, train, test).value,
    "authenticity": lambda samples, train, test: authenticity(samples, train).value,
    "near_duplicates": lambda samples, train, test: near_duplicates(samples, train, test).value,
}


def sets():
    generator = torch.Generator().manual_seed(0)
    return [0.5 + 0.1 * torch.randn(N, D, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("side", ["samples", "real", "both"])
@pytest.mark.parametrize("score", SCORES)
def test_scores_are_those_in_float64(score, side):
    """In float64 one of 1e6 leaves an error of 1e-4 in squared distances of its own, and none in the others."""
    samples, train, test = sets()
    for x in {"samples": (samples,), "real": (train, test), "both": (samples, train, test)}[side]:
        x[7] = 1e6
    found = SCORES[score](samples, train, test)
    assert found == pytest.approx(SCORES[score](*(x.double() for x in (samples, train, test))), rel=1e-6)


def test_a_far_sample_takes_part_in_no_density():
    samples, _, test = sets()
    others = kde_log_likelihood(samples[1:], test, bandwidths=[0.2]).value
    samples[0] = 1e6
    found = kde_log_likelihood(samples, test, bandwidths=[0.2]).value
    assert found == pytest.approx(others + math.log(1 - 1 / N), abs=1e-4)


def test_a_far_sample_collides_with_none():
    samples, _, test = sets()
    clean = birthday_collisions(samples, test, rate=0.05)
    samples[0] = 1e6
    found = birthday_collisions(samples, test, rate=0.05)
    assert found.details["radius"] == clean.details["radius"]
    assert found.value == pytest.approx(clean.value, rel=0.05)


def test_samples_that_are_all_far_are_told_apart():
    """Collapsed far away: a generator that puts out nearly one picture is no diverse one."""
    samples, _, test = sets()
    shift = samples.double() + 1000
    for x in (shift.float(), shift):
        assert pairwise_diversity(x, test.to(x)).value == pytest.approx(1.0, abs=0.05)
        assert birthday_collisions(x, test.to(x), rate=0.05).value == pytest.approx(1.0, abs=0.5)
