"""Classes as modes, counted by a classifier: stacked MNIST (Metz et al. 2017, section 3.3.1), and any labelled images.

Stacked images have a class in each channel: their classes are named by one character for each channel, in all
combinations, as "000" to "999" are. Their classifier sees single channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..contracts import Data, Labels, Model, Score, Value, metric
from ..errors import SampleError
from .classifier import classifier, recipe


class Coverage(NamedTuple):
    """What counts of classes say."""

    captured: int  # classes with a sample or more
    kl: float  # KL(p̂ ‖ uniform), nats
    kl_sem: float
    kl_data: float  # KL(p̂ ‖ data), nats
    floor: float  # the mean of `kl` for a perfect generator
    floor_data: float  # and that of `kl_data`


def class_coverage(counts: Tensor, truth: Tensor) -> Coverage:
    """Coverage from the numbers of samples of each class [K] and the classes' probabilities among data [K].

    p̂ = counts / N. A perfect generator's divergences are not 0: to first order KL(p̂ ‖ data) is (K − 1) / 2N on
    average, and KL(p̂ ‖ uniform) is that plus KL(data ‖ uniform). ± is by the delta method.

    Raises SampleError for no samples, and for probabilities that are not above 0 or do not add up to 1.
    """
    counts, truth = counts.double(), truth.double().to(counts.device)
    n, k = counts.sum().item(), len(counts)
    if n == 0:
        raise SampleError("class coverage needs one sample at least")
    if truth.shape != counts.shape or not (truth > 0).all() or abs(truth.sum().item() - 1) > 1e-6:
        raise SampleError(f"class coverage: expected {k} probabilities above 0 that add up to 1")
    p = counts / n
    excess = torch.where(p > 0, (p * k).log(), 0.0)  # log p̂/uniform
    kl = (p * excess).sum()
    variance = (p * excess.square()).sum() - kl**2
    sampling = (k - 1) / (2 * n)
    return Coverage(
        captured=int((counts > 0).sum()),
        kl=kl.item(),
        kl_sem=math.sqrt(max(variance.item(), 0.0) / n),
        kl_data=(torch.special.xlogy(p, p) - p * truth.log()).sum().item(),
        floor=sampling + (truth * (truth * k).log()).sum().item(),
        floor_data=sampling,
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
)
@dataclass(frozen=True)
class ClassCoverage:
    """Classes that samples fall into, and KL(p̂ ‖ uniform) of how often: stacked MNIST's 1000 modes (Metz et al.
    2017), or the classes of any labelled images.

    A classifier gives each sample a class, whatever it looks like, so that noise too covers many: read it beside
    the samples. Modes inside a class are not seen. Details: "floor", what a perfect generator scores on average
    at this number of samples, (K − 1) / 2N and the imbalance of the data's own classes; "kl_data", KL(p̂ ‖ data's
    classes), and its "floor_kl_data"; the classifier's "accuracy" (for stacked data, on single channels).

    Checked against counts by hand (1e-6, relative), Metz et al.'s floor of 0.0195 nats (5e-5), the spread of a
    perfect sampler's values.
    """

    n: int = 25_600  # samples, as Metz et al. 2017

    def __call__(self, model: Model, data: Data) -> tuple[Score, Score]:
        singles, samples = _singles(data), model.samples(self.n)
        channels = data.shape[0] if _stacked(data) else 1
        judge, k = classifier(singles, samples.device), len(singles.classes)
        found = judge.predict(samples.reshape(-1, *singles.shape)).reshape(len(samples), channels)
        place = k ** torch.arange(channels - 1, -1, -1, device=found.device)
        counts = torch.bincount((found * place).sum(1), minlength=k**channels).cpu()
        coverage = class_coverage(counts, _truth(singles, channels))
        details = {
            "counts": counts,
            "kl_data": coverage.kl_data,
            "floor": coverage.floor,
            "floor_kl_data": coverage.floor_data,
            "accuracy": judge.accuracy,
        }
        return (
            Score(coverage.captured, None, self.n, details),
            Score(coverage.kl, coverage.kl_sem, self.n),
        )

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        each = "each channel by itself, " if _stacked(data) else ""
        return (
            f"{self.n} samples over {len(data.classes)} classes; captured: one sample at least; KL(p̂ ‖ uniform), "
            f"nats; classes by {each}{recipe(_singles(data))}"
        )
