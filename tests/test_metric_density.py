"""The true log-density of samples: closed forms, orientation and errors."""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples, gaussian_data

from ganbench.errors import SampleError
from ganbench.execution.worker import load_data
from ganbench.metrics.density import DataLogDensity, data_log_density
from ganbench.registry import find
from ganbench.suite.spec import PluginSpec


def standard(x):
    """Log-density of N(0, I)."""
    return -0.5 * (x.square().sum(1) + x.shape[1] * math.log(2 * math.pi))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.0, 1.0), (0.0, 0.3)])
def test_gaussians_have_the_known_cross_entropy(mean, std):
    torch.manual_seed(0)
    score = data_log_density(std * torch.randn(20_000, 3) + mean, standard)
    expected = -1.5 * (math.log(2 * math.pi) + std**2 + mean**2)
    assert score.value == pytest.approx(expected, abs=4 * (score.sem or 0))


def test_by_hand_and_in_float64():
    x = torch.tensor([[0.0], [2.0]])
    score = data_log_density(x, standard)
    assert score.value == pytest.approx(-1 - 0.5 * math.log(2 * math.pi), rel=1e-12)
    assert score.sem == pytest.approx(1.0)
    assert score.details["lowest"] == pytest.approx(-2 - 0.5 * math.log(2 * math.pi), rel=1e-12)
    assert data_log_density(x.double(), standard).value == score.value


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        (torch.zeros(1, 2), "samples: holds 1 examples; at least 2 are needed"),
        (torch.full((5, 2), torch.nan), "samples: 5 of 5 examples hold NaN or infinity"),
        (torch.full((5, 2), 1e30), "samples: 5 of 5 have no finite log-density"),
    ],
)
def test_bad_input(samples, text):
    with pytest.raises(SampleError, match=text):
        data_log_density(samples, lambda x: standard(x * 1e200))


def test_orientation_on_a_ring_and_its_control():
    data = load_data(PluginSpec(find("dataset", "ring"), {"n_train": 2000, "n_test": 4000}))
    metric = DataLogDensity(n=2000)
    control = metric.reference(data)
    sigma, modes = 0.02, 8
    entropy = math.log(modes) + 1 + math.log(2 * math.pi * sigma**2)  # the modes do not overlap
    assert control == pytest.approx(-entropy, abs=4 / math.sqrt(4000))
    torch.manual_seed(1)
    noisy = data.train + 0.02 * torch.randn_like(data.train)
    assert data.modes is not None
    peaks = data.modes.centers[:1].float().repeat(2000, 1)
    found = [metric(Samples(x), data, control) for x in (noisy, data.train, peaks)]
    assert found[0].value < control - 0.5
    assert found[1].value == pytest.approx(control, abs=5 * (found[1].sem or 0))
    assert found[2].value == pytest.approx(control + 1, abs=0.1)
    assert found[0].controls["test"] == control
    assert "2000 samples of the true log-density of ring" in metric.protocol(data)
    with pytest.raises(SampleError, match="gaussian: its density is not known"):
        metric.reference(gaussian_data())
