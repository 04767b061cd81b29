"""Classes as modes, counted by a classifier: stacked MNIST (Metz et al. 2017, section 3.3.1), and any labelled images.

Stacked images have a class in each channel: their classes are named by one character for each channel, in all
combinations, as "000" to "999" are. Their classifier sees single channels.
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

FITTED = 10_000  # training examples that the Gaussian of the control is fitted to
PART = 2500  # draws of it at a time


class Coverage(NamedTuple):
    """What counts of classes say."""

    captured: int  # classes with a sample or more
    kl: float  # KL(p̂ ‖ uniform), nats
    kl_sem: float | None  # None for a single sample
    kl_data: float  # KL(p̂ ‖ data), nats
    perfect: float  # the mean of `kl` for a perfect generator
    perfect_data: float  # and that of `kl_data`


class Controls(NamedTuple):
    """What samplers other than the model capture: each "class_modes", "class_kl" and "kl_data"."""

    gaussian: dict[str, float]
    test: dict[str, float]


def class_coverage(counts: Tensor, truth: Tensor) -> Coverage:
    """Coverage from the numbers of samples of each class [K] and the classes' probabilities among data [K].

    p̂ = counts / N. A perfect generator's divergences are not 0: to first order KL(p̂ ‖ data) is (K − 1) / 2N on
    average, and KL(p̂ ‖ uniform) is that plus KL(data ‖ uniform). ± is by the jackknife.

    Raises SampleError for no samples, and for probabilities that are not above 0 or do not add up to 1.
    """
    counts, truth = counts.double(), truth.double().to(counts.device)
    n, k = counts.sum().item(), len(counts)
    if n == 0:
        raise SampleError("class coverage needs one sample at least")
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


def _stacked(data: Data) -> bool:
    """Whether there is a class in each channel."""
    channels, letters = data.shape[0], sorted(set("".join(data.classes)))
    whole = len(data.classes) == len(letters) ** channels and len(set(data.classes)) == len(data.classes)
    return channels > 1 and whole and all(len(name) == channels for name in data.classes)


def _singles(data: Data) -> Data:
    """Stacked data as grey images of one channel each, [N·C, 1, H, W], with the labels of the channels."""
    if data.labels is None or not _stacked(data):
        return data
    shape = (1, *data.shape[1:])
    letters = tuple(sorted(set("".join(data.classes))))
    digits = torch.tensor([[letters.index(letter) for letter in name] for name in data.classes])  # [K, C]
    train, valid, test = (split.reshape(-1, *shape) for split in (data.train, data.valid, data.test))
    labels = Labels(*(digits[label].flatten() for label in data.labels))
    name = f"the channels of {data.name}"
    return Data(name, train, valid, test, shape, data.scale, labels=labels, classes=letters)


def _channels(data: Data) -> int:
    """How many channels have a class of their own."""
    return data.shape[0] if _stacked(data) else 1


def _counts(judge: Classifier, samples: Tensor, singles: Data) -> Tensor:
    """How many of `samples` [n, *shape] are in each class of the data [K], by the classifier of `singles`."""
    found = judge.predict(samples.reshape(-1, *singles.shape)).reshape(len(samples), -1)
    k, channels = len(singles.classes), found.shape[1]
    place = k ** torch.arange(channels - 1, -1, -1, device=found.device)
    return torch.bincount((found * place).sum(1), minlength=k**channels).cpu()


def _truth(singles: Data, channels: int) -> Tensor:
    """Probabilities [K] of the classes among data, the channels of which are independent of each other."""
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
    """Classes that samples fall into, and KL(p̂ ‖ uniform) of how often: stacked MNIST's 1000 modes (Metz et al.
    2017), or the classes of any labelled images.

    A classifier gives each sample a class, whatever it looks like, so that noise too covers many: read the values
    beside their controls. Modes inside a class are not seen. Details: "kl_data", KL(p̂ ‖ data's classes). Controls: the
    classifier's "accuracy" (for stacked data, on single channels); "floor_gaussian", what the Gaussian with the mean
    and covariance of training examples, clipped to the data's range, scores; "ceiling", what test examples score, at
    most as many as there are; "perfect", the divergences of a perfect generator on average at this number of
    samples, (K − 1) / 2N and for `class_kl` the imbalance of the data's own classes. ± is by the jackknife.

    Checked against counts by hand (1e-6, relative), Metz et al.'s floor of 0.0195 nats (5e-5), the spread of a
    perfect sampler's values.
    """

    n: int = 25_600  # samples, as Metz et al. 2017

    def __call__(
        self, model: Model, data: Data, reference: PerDevice[Controls] | None = None
    ) -> tuple[Score, Score]:
        singles, samples = _singles(data), model.samples(self.n)
        judge = classifier(singles, samples.device)
        controls = (reference or self.reference(data)).on(samples.device)
        counts = _counts(judge, samples, singles)
        coverage = class_coverage(counts, _truth(singles, _channels(data)))
        details = {
            "counts": counts,
            "kl_data": coverage.kl_data,
        }
        beside = {
            "floor_gaussian": controls.gaussian,
            "ceiling": controls.test,
            "perfect": {"class_kl": coverage.perfect, "kl_data": coverage.perfect_data},
            "accuracy": judge.accuracy,
        }
        return (
            Score(coverage.captured, None, self.n, details, beside),
            Score(coverage.kl, coverage.kl_sem, self.n),
        )

    def reference(self, data: Data) -> PerDevice[Controls]:
        """The controls, the same for all models."""
        return PerDevice(lambda place: self._controls(data, place))

    def _controls(self, data: Data, place: device) -> Controls:
        singles, generator = _singles(data), torch.Generator().manual_seed(0)
        judge, truth = classifier(singles, place), _truth(singles, _channels(data))
        gaussian = FittedGaussian(data.floats(random_subset(data.train, FITTED)).flatten(1))
        test = data.floats(random_subset(data.test, self.n))

        def scores(counts: Tensor) -> dict[str, float]:
            found = class_coverage(counts, truth)
            return {"class_modes": found.captured, "class_kl": found.kl, "kl_data": found.kl_data}

        sizes = torch.ones(self.n).split(PART)
        draws = (gaussian.draw(len(size), generator).reshape(-1, *data.shape) for size in sizes)
        clipped = (draw.clamp(*data.scale) if data.scale else draw for draw in draws)
        counts = sum((_counts(judge, draw.to(place), singles) for draw in clipped), torch.zeros(len(truth)))
        return Controls(scores(counts), scores(_counts(judge, test.to(place), singles)))

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        each = "each channel by itself, " if _stacked(data) else ""
        return (
            f"{self.n} samples over {len(data.classes)} classes; captured: one sample at least; KL(p̂ ‖ uniform), "
            f"nats; classes by {each}{recipe(_singles(data))}"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from these data and from the constants of this file."""
        classifier = recipe_fields(_singles(data))
        return {"classes": len(data.classes), "each_channel": _stacked(data), "classifier": classifier}
