"""Sharpness of images: the share of their power at high spatial frequencies, against that of real ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples
from .per_device import PerDevice
from .statistics import standard_error
from .subset import random_subset

CUTOFF = 0.25  # cycles per pixel, half of the highest that pixels can show along an axis


class Sharp(NamedTuple):
    """The mean share of power at high frequencies of a set of images."""

    mean: float
    sem: float


def high_frequency_share(images: Tensor) -> Tensor:
    """For each of `images` [n, C, H, W] the share of its power at spatial frequencies of at least 0.25 cycles per
    pixel, [n] in float64: the sum of |DFT|² over the channels and over the frequencies with √(fx² + fy²) ≥ 0.25,
    divided by the sum over all but the constant. A constant image has 0. Durall et al. 2020, section 3.1, have the
    whole azimuthal spectrum of which this is the upper part. No window is applied: images whose opposite edges differ
    have power at high frequencies from that alone, in both sets.

    Raises SampleError for images of less than 4 × 4 pixels.
    """
    if images.ndim != 4 or min(images.shape[-2:]) < 4:
        raise SampleError(f"expected images [n, C, H, W] of at least 4 × 4 pixels, got {list(images.shape)}")
    images = images.double()
    x = images - images.mean((2, 3), keepdim=True)
    power = torch.fft.fft2(x).abs().square().sum(1)  # [n, H, W]
    fy, fx = (torch.fft.fftfreq(side, dtype=torch.float64, device=x.device) for side in images.shape[-2:])
    high = (fy[:, None].square() + fx.square()).sqrt() >= CUTOFF - 1e-12
    total, upper = power.sum((1, 2)), (power * high).sum((1, 2))
    # What is left of a constant image is rounding.
    flat = x.square().sum((1, 2, 3)) <= 1e-24 * images.square().sum((1, 2, 3)).clamp(min=1e-300)
    return torch.where(flat, 0.0, upper / total.clamp(min=1e-300))


def _sharp(images: Tensor) -> Sharp:
    shares = high_frequency_share(images)
    return Sharp(shares.mean().item(), standard_error(shares))


def relative_sharpness(samples: Tensor, test: Tensor) -> Score:
    """The mean share of power at high frequencies (`high_frequency_share`) of `samples` [n, C, H, W], divided by that
    of `test` [m, C, H, W]: 1 for fresh data, 0 without any detail, above 1 for images with more detail than data, as
    speckled ones. ± is its standard error over both sets to first order. Details: "share" and "share_data".

    Raises SampleError for fewer than two images, different shapes, values that are not finite, and constant test
    images.
    """
    test = check_samples(test, "test", least=2)
    samples = check_samples(samples, "samples", like=test, least=2)
    return _ratio(_sharp(samples), _sharp(test), len(samples))


def _ratio(own: Sharp, real: Sharp, n: int) -> Score:
    if real.mean == 0:
        raise SampleError("test: no image has power at high frequencies, so there is nothing to compare with")
    value = own.mean / real.mean
    sem = math.hypot(own.sem, value * real.sem) / real.mean
    return Score(value, sem, n, {"share": own.mean, "share_data": real.mean})


class Reference(NamedTuple):
    """Test images, and the values of training and of blurred images."""

    test: Sharp
    train: float
    blurred: float


@metric(Value("sharpness", "of the data's", "neither"), name="sharpness", needs=("pixels",))
@dataclass(frozen=True)
class Sharpness:
    """How much of the power of the samples is at high spatial frequencies, divided by that of test images: 1 is right.

    Below 1 samples are blurred; above 1 they have more detail than data, as speckled ones do, so that higher is not
    better (Durall et al. 2020). Controls: "train", training images; "blurred", test images of which every pixel is the
    mean of its neighbourhood of 3 × 3.

    Checked against waves of known frequency (1e-9), and white noise, whose share is that of the frequencies (4 standard
    errors).
    """

    n: int = 2000  # samples, and test images at most

    def __call__(self, model: Model, data: Data, reference: PerDevice[Reference] | None = None) -> Score:
        samples = check_samples(model.samples(self.n), "samples", least=2)
        real = (reference or self.reference(data)).on(samples.device)
        controls = {"train": real.train, "blurred": real.blurred}
        return replace(_ratio(_sharp(samples), real.test, len(samples)), controls=controls)

    def reference(self, data: Data) -> PerDevice[Reference]:
        """What test, training and blurred images score, the same for all models."""
        return PerDevice(lambda place: self._reference(data, place))

    def _reference(self, data: Data, place: torch.device) -> Reference:
        train, test = (
            check_samples(data.floats(random_subset(split, self.n)).to(place), name, least=2)
            for split, name in ((data.train, "train"), (data.test, "test"))
        )
        real = _sharp(test)
        blurred = F.avg_pool2d(F.pad(test, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return Reference(real, *(_ratio(_sharp(x), real, len(x)).value for x in (train, blurred)))

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"share of the power at spatial frequencies of at least {CUTOFF:g} cycles per pixel in all but the "
            f"constant, mean over {self.n} samples, divided by that over {min(self.n, len(data.test))} random test "
            "images; no window"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"test": min(self.n, len(data.test)), "cutoff": CUTOFF}
