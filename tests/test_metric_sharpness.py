"""The share of power at high frequencies against waves of known frequency, white noise and blurs."""

from __future__ import annotations

import math

import pytest
import torch
from metric_models import Samples
from torch.nn import functional as F

from ganbench.contracts import Data
from ganbench.errors import SampleError
from ganbench.metrics.sharpness import Sharpness, high_frequency_share, relative_sharpness
from ganbench.metrics.subset import random_subset


def wave(cycles: int, side: int = 16) -> torch.Tensor:
    """One image [1, 1, side, side] of a cosine along the rows with so many cycles."""
    row = torch.cos(2 * math.pi * cycles * torch.arange(side, dtype=torch.float64) / side)
    return row.expand(1, 1, side, side)


@pytest.mark.parametrize(("cycles", "share"), [(1, 0.0), (3, 0.0), (4, 1.0), (5, 1.0), (8, 1.0)])
def test_a_wave_has_the_share_of_its_frequency(cycles, share):
    assert high_frequency_share(0.5 + 0.3 * wave(cycles)).item() == pytest.approx(share, abs=1e-9)


def test_the_share_is_that_of_the_squared_amplitudes():
    image = torch.cat([2 * wave(1) + wave(6), wave(7)], 1)  # two channels: powers 4, 1 and 1
    assert high_frequency_share(image).item() == pytest.approx(2 / 6, abs=1e-9)


def test_a_diagonal_wave_counts_by_its_length():
    image = wave(3) * wave(3).mT  # frequencies of (3, 3) / 16: a length of 0.265, above the cutoff
    assert high_frequency_share(image).item() == pytest.approx(1.0, abs=1e-9)
    image = wave(2) * wave(3).mT  # 0.225
    assert high_frequency_share(image).item() == pytest.approx(0.0, abs=1e-9)


def test_white_noise_has_the_share_of_the_frequencies():
    torch.manual_seed(0)
    shares = high_frequency_share(torch.randn(2000, 1, 8, 8))
    f = torch.fft.fftfreq(8)
    count = int(((f[:, None] ** 2 + f**2).sqrt() >= 0.25).sum())
    assert count == 55  # of 64, all but the constant and 8 near it
    expected, error = count / 63, shares.std().item() / math.sqrt(len(shares))
    assert shares.mean().item() == pytest.approx(expected, abs=4 * error)


def test_constant_images_have_none():
    assert high_frequency_share(torch.full((3, 2, 8, 8), 0.3)).tolist() == [0.0, 0.0, 0.0]


def test_blurred_images_are_below_and_noisy_ones_above_one():
    torch.manual_seed(1)
    smooth = F.avg_pool2d(torch.rand(900, 1, 16, 16), 3, stride=1)
    test, fresh = smooth[:400], smooth[400:]
    blurred = F.avg_pool2d(F.pad(fresh, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    speckled = fresh + 0.2 * torch.randn(500, 1, 14, 14)
    found = [relative_sharpness(x, test) for x in (blurred, fresh, speckled)]
    values = [score.value for score in found]
    assert values[0] < 0.8 < 1.3 < values[2]
    assert values[1] == pytest.approx(1.0, abs=4 * (found[1].sem or 0))
    assert found[1].details["share"] / found[1].details["share_data"] == pytest.approx(values[1])


def test_standard_error_is_the_spread():
    torch.manual_seed(2)
    scores = [relative_sharpness(torch.rand(50, 1, 8, 8), torch.rand(60, 1, 8, 8)) for _ in range(300)]
    spread = torch.tensor([s.value for s in scores]).std().item()
    assert sum(s.sem or 0 for s in scores) / 300 == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize(
    ("samples", "test", "text"),
    [
        (torch.rand(1, 1, 8, 8), torch.rand(5, 1, 8, 8), "samples: holds 1 examples; at least 2 are needed"),
        (torch.rand(5, 1, 9, 9), torch.rand(5, 1, 8, 8), "samples: one example has shape"),
        (torch.rand(5, 1, 8, 8), torch.ones(5, 1, 8, 8), "test: no image has power at high frequencies"),
        (torch.rand(5, 3), torch.rand(5, 3), "expected images"),
        (torch.rand(5, 1, 3, 9), torch.rand(5, 1, 3, 9), "at least 4 × 4 pixels"),
    ],
)
def test_bad_input(samples, test, text):
    with pytest.raises(SampleError, match=text):
        relative_sharpness(samples, test)


def test_metric():
    generator = torch.Generator().manual_seed(6)
    train, valid, test = (
        torch.randint(0, 256, (200, 1, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(3)
    )
    data = Data("noise", train, valid, test, (1, 8, 8), scale=(0.0, 1.0))
    metric = Sharpness(n=150)
    images = data.floats(valid)
    score = metric(Samples(images), data, metric.reference(data))
    real = data.floats(random_subset(test, 150))
    assert score.value == relative_sharpness(images[:150], real).value
    assert score.value == pytest.approx(1.0, abs=4 * (score.sem or 0))
    assert score.controls["train"] == pytest.approx(1.0, abs=0.05)
    assert score.controls["blurred"] < 0.9
    assert "mean over 150 samples" in metric.protocol(data)
