"""Distances between two sets of features: Fréchet (Heusel et al. 2017) and kernel (Bińkowski et al. 2018).

The values depend on the features: report the extractor, and compare only values of the same one. Distances of pixels
are not "FID" or "KID", which use Inception's features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, device

from ..contracts import Data, Model, Score, Value, metric
from ..precision import float32_products
from .distances import check_samples
from .extractors import extractor, extractor_fields, identity
from .per_device import PerDevice
from .subset import random_subset

KERNEL_BLOCK = 1024  # rows and columns of the kernel matrix held at once


def frechet_distance(features: Tensor, reference: Tensor) -> Score:
    """Fréchet distance between Gaussians on `features` [n, d] and `reference` [m, d]:
    ‖μ₁ − μ₂‖² + Tr(C₁ + C₂ − 2(C₁C₂)^½), squared units of the features (Heusel et al. 2017, eq. 6).

    In float64. With Cᵢ = RᵢᵀRᵢ the trace of the root is the sum of the singular values of R₁R₂ᵀ; this also holds for
    singular covariances, so that nothing is added to their diagonals. The estimate is biased upwards by an amount that
    falls with n and m: compare only at the same n and m. There is a `warning` if a covariance does not have full rank.

    Raises SampleError for fewer than two examples, different shapes and values that are not finite.
    """
    reference = check_samples(reference, "reference", least=2)
    features = check_samples(features, "features", like=reference, least=2)
    (mean, root), (other_mean, other_root) = (_moments(x) for x in (features, reference))
    shift = (mean - other_mean).square().sum()
    spread = root.square().sum() + other_root.square().sum()
    value = shift + spread - 2 * torch.linalg.svdvals(root @ other_root.T).sum()
    least, d = min(len(features), len(reference)), len(mean)
    warning = None
    if least <= d:
        warning = (
            f"{least} examples give no covariance of {d} features full rank: the distance is mostly bias; "
            f"use more than {d}, better ten times as many"
        )
    return Score(max(value.item(), 0.0), None, least, warning=warning)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean [d] and a factor R [min(n, d), d] of the covariance, RᵀR."""
    x = x.flatten(1).double()
    mean = x.mean(0)
    return mean, torch.linalg.qr((x - mean) / math.sqrt(len(x) - 1), mode="r").R


def kernel_distance(features: Tensor, reference: Tensor, *, block: int = KERNEL_BLOCK) -> Score:
    """Squared maximum mean discrepancy between `features` [n, d] and `reference` [m, d] under the kernel
    ((x·y)/d + 1)³, unbiased, so that it may be negative (Bińkowski et al. 2018, section 4).

    The paper averages the estimate over random subsets of 1000. This is the U-statistic over all pairs, which has the
    same expectation and a smaller error. ± is its standard error over both sets to first order, which near 0 is too
    large by up to √2. Memory is that of the inputs plus a block.

    Raises SampleError for fewer than two examples, different shapes and values that are not finite.
    """
    reference = check_samples(reference, "reference", least=2)
    features = check_samples(features, "features", like=reference, least=2)
    x, y = features.flatten(1).double(), reference.flatten(1).double()
    n, m = len(x), len(y)
    own, other = (_kernel_sums(z, z, block, skip_self=True)[0] for z in (x, y))
    cross, back = _kernel_sums(x, y, block)
    x_part = own / (n - 1) - cross / m
    y_part = other / (m - 1) - back / n
    variance = 4 * (x_part.var() / n + y_part.var() / m)
    return Score((x_part.mean() + y_part.mean()).item(), math.sqrt(variance.item()), min(n, m))


def _kernel_sums(x: Tensor, y: Tensor, block: int, *, skip_self: bool = False) -> tuple[Tensor, Tensor]:
    """Sums of the kernel over `y` for each of `x` [n], and over `x` for each of `y` [m]. `skip_self`: both are the same
    set, and an example is not paired with itself."""
    over_y, over_x = x.new_zeros(len(x)), x.new_zeros(len(y))
    for i in range(0, len(x), block):
        for j in range(0, len(y), block):
            with float32_products():
                tile = (x[i : i + block] @ y[j : j + block].T).div_(x.shape[1]).add_(1).pow_(3)
            if skip_self and i == j:
                tile.fill_diagonal_(0)
            over_y[i : i + block] += tile.sum(1)
            over_x[j : j + block] += tile.sum(0)
    return over_y, over_x


# --------------------------------------------------------------------------------------------- metrics

Distance = Callable[[Tensor, Tensor], Score]
drawn = random_subset  # its name before 0.1; other people's scripts import it from here


class Control(NamedTuple):
    """Features of the test examples, and the value of training examples against them."""

    test: Tensor  # [n, d]
    train: float


@dataclass(frozen=True)
class Comparison:
    """A distance between features of samples and of equally many test examples."""

    distance: ClassVar[Distance]
    about: ClassVar[str]  # the distance in the protocol's sentence

    n: int = 5000  # samples, and as many test examples; at most the size of the test split
    features: str | None = None  # an extractor; null: classifier for labelled images, pixels for other data

    def __call__(self, model: Model, data: Data, reference: PerDevice[Control] | None = None) -> Score:
        samples = model.samples(self._size(data))
        control = (reference or self.reference(data)).on(samples.device)
        features = extractor(self._name(data), data, samples.device)(samples)
        score = self.distance(features, control.test)
        return replace(score, controls={"train": control.train})

    def reference(self, data: Data) -> PerDevice[Control]:
        """The test examples' features, and the value of as many training examples."""
        return PerDevice(lambda place: self._control(data, place))

    def _control(self, data: Data, place: device) -> Control:
        n, extract = self._size(data), extractor(self._name(data), data, place)
        test, train = (extract(data.floats(random_subset(split, n))) for split in (data.test, data.train))
        return Control(test, self.distance(train, test).value)

    def _size(self, data: Data) -> int:
        return min(self.n, len(data.test))

    def _name(self, data: Data) -> str:
        return self.features or ("classifier" if data.labels and len(data.shape) == 3 else "pixels")

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        n, features = self._size(data), identity(self._name(data), data)
        sets = f"{n} samples against {n} test examples (a fixed random subset)"
        return f"{self.about}; {sets}; features: {features}"

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        n = self._size(data)
        return {"samples": n, "test": n, "space": extractor_fields(self._name(data), data)}


@metric(Value("frechet", "squared", "lower"), name="frechet")
@dataclass(frozen=True)
class Frechet(Comparison):
    """Fréchet distance between Gaussians on features of samples and of test data (Heusel et al. 2017, eq. 6).

    Papers' FID is this with `features: inception` and 50,000 samples. It is biased upwards, more so with fewer samples.
    The control "train" is the value of as many training examples, about that of a perfect generator. A generator that
    repeats the training set scores as well: memorisation is not detected.

    Checked against the formula with SciPy's matrix root (1e-8, relative), the square of a shift (1e-9,
    relative).
    """

    distance = staticmethod(frechet_distance)
    about = "Fréchet distance between Gaussians, float64, nothing added to the covariances, biased upwards at this n"


@metric(Value("kernel", "squared", "lower"), name="kernel")
@dataclass(frozen=True)
class Kernel(Comparison):
    """Kernel distance between features of samples and of test data (Bińkowski et al. 2018). It is unbiased: 0 on
    average for a perfect generator at any number of samples, and sometimes negative.

    Papers' KID is this with `features: inception`. The control "train" is the value of as many training examples. A
    generator that repeats the training set scores as well: memorisation is not detected.

    Checked against the sum over all pairs by hand (1e-10, relative), a shift in one dimension in closed form (4
    standard errors).
    """

    distance = staticmethod(kernel_distance)
    about = "squared maximum mean discrepancy under ((x·y)/d + 1)³, unbiased, the U-statistic over all pairs"
