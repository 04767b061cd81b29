"""Classes as modes, counted by a classifier: stacked MNIST (Metz et al. 2017, section 3.3.1), and any labelled images.

Stacked images have a class in each channel. Their class names have one character for each channel, in all
combinations, such as "000" to "999". Their classifier is applied to single channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, device

from ..contracts import Data, Labels, Model, Score, Value, metric
from ..errors import SampleError
from .classifier import Classifier, classifier, recipe, recipe_fields
from .modes import FittedGaussian, histogram_kl
from .per_device import PerDevice
from .subset import random_subset

MAX_FITTED = 10_000  # training examples to which the control's Gaussian is fitted
BLOCK = 2500  # draws of the Gaussian at a time


class Coverage(NamedTuple):
    """Coverage of the classes by samples."""

    captured: int  # classes with at least one sample
    kl: float  # KL(p̂ ‖ uniform), nats
    kl_sem: float | None  # None for a single sample
    kl_data: float  # KL(p̂ ‖ data), nats
    perfect: float  # mean of `kl` for a perfect generator
    perfect_data: float  # mean of `kl_data` for a perfect generator


class Controls(NamedTuple):
    """Values of other samplers: "class_modes", "class_kl" and "kl_data" of each."""

    gaussian: dict[str, float]
    test: dict[str, float]


def class_coverage(counts: Tensor, truth: Tensor) -> Coverage:
    """Coverage from the number of samples in each class, `counts` [K], and the classes' probabilities in the data,
    `truth` [K].

    p̂ = counts / N. The divergences of a perfect generator are not 0: to first order KL(p̂ ‖ data) is (K − 1) / 2N on
    average, and KL(p̂ ‖ uniform) is that plus KL(data ‖ uniform). ± is by the jackknife.

    Raises SampleError if there is no sample, and for probabilities that are not positive or do not add up to 1.
    """
    counts, truth = counts.double(), truth.double().to(counts.device)
    n, k = counts.sum().item(), len(counts)
    if n == 0:
        raise SampleError("class coverage needs at least one sample")
    if truth.shape != counts.shape or not (truth > 0).all() or abs(truth.sum().item() - 1) > 1e-6:
        raise SampleError(f"class coverage: expected {k} probabilities above 0 that add up to 1")
    p = counts / n
    kl, kl_sem = histogram_kl(counts, torch.full_like(truth, 1 / k), int(n))
    sampling = (k - 1) / (2 * n)
    return Coverage(
        captured=int((counts > 0).sum()),
        kl=kl,
        kl_sem=kl_sem,
        kl_data=(torch.special.xlogy(p, p) - p * truth.log()).sum().item(),
        perfect=sampling + (truth * (truth * k).log()).sum().item(),
        perfect_data=sampling,
    )


def _has_stacked_classes(data: Data) -> bool:
    """Whether each channel has a class of its own."""
    channels, letters = data.shape[0], sorted(set("".join(data.classes)))
    whole = len(data.classes) == len(letters) ** channels and len(set(data.classes)) == len(data.classes)
    return channels > 1 and whole and all(len(name) == channels for name in data.classes)


def _single_channels(data: Data) -> Data:
    """Stacked data as images of one channel, [N·C, 1, H, W], labelled by channel; other data as they are."""
    if data.labels is None or not _has_stacked_classes(data):
        return data
    shape = (1, *data.shape[1:])
    letters = tuple(sorted(set("".join(data.classes))))
    digits = torch.tensor([[letters.index(letter) for letter in name] for name in data.classes])  # [K, C]
    train, valid, test = (split.reshape(-1, *shape) for split in (data.train, data.valid, data.test))
    labels = Labels(*(digits[label].flatten() for label in data.labels))
    name = f"the channels of {data.name}"
    return Data(name, train, valid, test, shape, data.scale, labels=labels, classes=letters)


def _channels(data: Data) -> int:
    """The number of channels that have a class of their own."""
    return data.shape[0] if _has_stacked_classes(data) else 1


def _counts(net: Classifier, samples: Tensor, singles: Data) -> Tensor:
    """The number of `samples` [n, *shape] in each class of the data [K], by the classifier of `singles`."""
    labels = net.predict(samples.reshape(-1, *singles.shape)).reshape(len(samples), -1)
    k, channels = len(singles.classes), labels.shape[1]
    # The labels of the channels are the digits of the class, to the base k.
    place_value = k ** torch.arange(channels - 1, -1, -1, device=labels.device)
    return torch.bincount((labels * place_value).sum(1), minlength=k**channels).cpu()


def _class_probabilities(singles: Data, channels: int) -> Tensor:
    """Probabilities [K] of the classes in data whose channels are independent of each other."""
    if singles.labels is None:
        raise SampleError(f"{singles.name}: has no labels")
    one = torch.bincount(singles.labels.train, minlength=len(singles.classes)).double()
    one, every = one / one.sum(), torch.ones(1, dtype=torch.float64)
    for _ in range(channels):
        every = (every[:, None] * one).flatten()
    return every


@metric(
    Value("class_modes", "modes", "higher"),
    Value("class_kl", "nats", "lower"),
    name="class_coverage",
    needs=("pixels", "labels"),
    version=2,
)
@dataclass(frozen=True)
class ClassCoverage:
    """The number of classes among samples, and KL(p̂ ‖ uniform) of their frequencies: stacked MNIST's 1000 modes (Metz
    et al. 2017), or the classes of any labelled images.

    A classifier assigns a class to every sample, so that noise covers many classes too: compare the values with their
    controls. Modes within a class are not detected. Details: "kl_data", KL(p̂ ‖ data's classes). Controls: the
    classifier's "accuracy" (for stacked data, on single channels); "floor_gaussian", the value of the Gaussian with
    the mean and covariance of training examples, clipped to the data's range; "ceiling", the value of test examples
    (all, if there are fewer than n); "perfect", the mean divergences of a perfect generator at this number of samples:
    (K − 1) / 2N, and for `class_kl` also the imbalance of the data's classes. ± is by the jackknife.

    Checked against counts by hand (1e-6, relative), Metz et al.'s floor of 0.0195 nats (5e-5), the spread of a
    perfect sampler's values.
    """

    n: int = 25_600  # samples, as Metz et al. 2017

    def __call__(
        self, model: Model, data: Data, reference: PerDevice[Controls] | None = None
    ) -> tuple[Score, Score]:
        singles, samples = _single_channels(data), model.samples(self.n)
        net = classifier(singles, samples.device)
        controls = (reference or self.reference(data)).on(samples.device)
        counts = _counts(net, samples, singles)
        coverage = class_coverage(counts, _class_probabilities(singles, _channels(data)))
        details = {"counts": counts, "kl_data": coverage.kl_data}
        by_name = {
            "floor_gaussian": controls.gaussian,
            "ceiling": controls.test,
            "perfect": {"class_kl": coverage.perfect, "kl_data": coverage.perfect_data},
            "accuracy": net.accuracy,
        }
        return (
            Score(coverage.captured, None, self.n, details, by_name),
            Score(coverage.kl, coverage.kl_sem, self.n),
        )

    def reference(self, data: Data) -> PerDevice[Controls]:
        """The controls, the same for all models."""
        return PerDevice(lambda place: self._controls(data, place))

    def _controls(self, data: Data, place: device) -> Controls:
        singles, generator = _single_channels(data), torch.Generator().manual_seed(0)
        net, truth = classifier(singles, place), _class_probabilities(singles, _channels(data))
        gaussian = FittedGaussian(data.floats(random_subset(data.train, MAX_FITTED)).flatten(1))
        test = data.floats(random_subset(data.test, self.n))

        def scores(counts: Tensor) -> dict[str, float]:
            coverage = class_coverage(counts, truth)
            return {"class_modes": coverage.captured, "class_kl": coverage.kl, "kl_data": coverage.kl_data}

        sizes = torch.ones(self.n).split(BLOCK)
        draws = (gaussian.draw(len(size), generator).reshape(-1, *data.shape) for size in sizes)
        clipped = (draw.clamp(*data.scale) if data.scale else draw for draw in draws)
        counts = sum((_counts(net, draw.to(place), singles) for draw in clipped), torch.zeros(len(truth)))
        return Controls(scores(counts), scores(_counts(net, test.to(place), singles)))

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        each = "each channel by itself, " if _has_stacked_classes(data) else ""
        return (
            f"{self.n} samples over {len(data.classes)} classes; captured: one sample at least; KL(p̂ ‖ uniform), "
            f"nats; classes by {each}{recipe(_single_channels(data))}"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        classifier = recipe_fields(_single_channels(data))
        return {
            "classes": len(data.classes),
            "each_channel": _has_stacked_classes(data),
            "classifier": classifier,
        }
