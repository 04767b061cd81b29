"""A classifier of a dataset's own classes, for metrics that use classes or features.

Published nets (Inception, DINOv2) are trained on photographs. This one is small, is trained here on the dataset's own
training split, always in the same way, and reports its test accuracy. It is trained once for each content of the data
and stored in the user's cache folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ..cache import cached, digest, fingerprint
from ..contracts import Data, Labels
from ..errors import SampleError
from ..precision import float32_products
from .distances import check_samples

RECIPE = 1  # increase it when the net or its training changes, so that no older net is loaded
FEATURES = 128  # of the last hidden layer
BATCH = 128
MAX_UPDATES = 800  # minibatches: two passes over MNIST
MAX_EPOCHS = 80  # passes, for small data
MAX_LEARNING_RATE = 3e-3  # of the cycle
BLOCK = 500  # examples at a time when the net is applied


class Net(nn.Module):
    """Two convolutions 5 × 5 (16 and 32 channels, ReLU, each pooled by 2 × 2), means over at most 8 × 8 places,
    128 ReLU features, a linear layer to the logits."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        rows, columns = (min(8, max(1, -(-side // 4))) for side in (height, width))
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
            nn.AdaptiveAvgPool2d((rows, columns)), nn.Flatten(),
            nn.Linear(32 * rows * columns, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, K] logits
        return self.head(self.trunk(x))


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained net. It takes floats [n, C, H, W] in the data's scale; the result of an example does not depend on its
    batch."""

    net: Net
    shape: tuple[int, ...]  # of one example
    scale: tuple[float, float]  # of the data
    accuracy: float  # on the test split
    key: str  # hash of the recipe and of all that the net was trained and tested on

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer [n, 128]. Raises SampleError unless `x` are finite floats of the data's shape."""
        return self._apply(self.net.trunk, x)

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities [n, K]. Raises SampleError as `features` does."""
        return self._apply(self.net, x).softmax(1)

    def predict(self, x: Tensor) -> Tensor:
        """The most probable class [n], int64. Raises SampleError as `features` does."""
        return self._apply(self.net, x).argmax(1)

    def _apply(self, net: nn.Module, x: Tensor) -> Tensor:
        weight = self.net.head.weight
        x = check_samples(x, "samples", like=weight.new_empty(0, *self.shape))
        return in_blocks(lambda part: net(_normalise(part.to(weight.dtype), self.scale)), x, BLOCK)


def in_blocks(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """`function` of `x` [n, ...], `size` examples at a time, without gradients and without TF32."""
    with torch.no_grad(), float32_products():
        return torch.cat([function(part) for part in x.split(size)])


def classifier(data: Data, device: torch.device | str = "cpu") -> Classifier:
    """The classifier of the classes of `data`: loaded from the cache folder, or trained now (half a minute for MNIST).
    It is trained on one CPU thread, so that it does not depend on the device.

    Other kinds of CPU may round differently; then the net and the scores that use it differ a little. Raises
    SampleError for data that are not images or have labels of less than two classes.
    """
    labels = _labels(data)
    shape, scale = _image_shape(data), data.scale or (0.0, 1.0)
    key = classifier_key(data)

    def make() -> dict[str, Tensor]:
        net = _train(data, labels)
        trained = Classifier(net.eval(), shape, scale, 0.0, key)
        predictions = torch.cat([trained.predict(data.floats(part)) for part in data.test.split(BLOCK)])
        accuracy = (predictions == labels.test).double().mean()
        weights = {f"net.{name}": value.contiguous() for name, value in net.state_dict().items()}
        return {"accuracy": accuracy, **weights}

    stored = cached("classifiers", key, make)
    net = Net(shape, _classes(data))
    net.load_state_dict({name: stored[f"net.{name}"] for name in net.state_dict()})
    return Classifier(
        net.to(device).eval().requires_grad_(False), shape, scale, float(stored["accuracy"]), key
    )


def classifier_key(data: Data) -> str:
    """The hash under which the classifier of these data is stored. Raises SampleError as `classifier` does."""
    labels, shape = _labels(data), _image_shape(data)
    content = {
        "train": data.train,
        "test": data.test,
        "train_labels": labels.train,
        "test_labels": labels.test,
    }
    about = f"recipe {RECIPE} {shape} {_classes(data)} {data.scale}"
    return digest([about.encode(), fingerprint({name: x.cpu() for name, x in content.items()}).encode()])


def recipe(data: Data) -> str:
    """The classifier of these data in a protocol's sentence. Raises SampleError as `classifier` does."""
    return (
        f"a classifier (2 convolutions, {FEATURES} features) of the {_classes(data)} classes of {data.name}, "
        f"trained on its {len(data.train)} training examples, recipe {RECIPE}, {classifier_key(data)[:12]}"
    )


def recipe_fields(data: Data) -> dict[str, Any]:
    """The classifier of these data in a protocol's fields. Raises SampleError as `classifier` does."""
    return {
        "dataset": data.name,
        "classes": _classes(data),
        "train": len(data.train),
        "features": FEATURES,
        "recipe": RECIPE,
        "key": classifier_key(data)[:12],
    }


def _labels(data: Data) -> Labels:
    if data.labels is None or _classes(data) < 2:
        raise SampleError(
            f"{data.name}: a classifier needs labels of at least two classes; the data have none"
        )
    return data.labels


def _classes(data: Data) -> int:
    return len(data.classes) or (int(data.labels.train.max()) + 1 if data.labels else 0)


def _image_shape(data: Data) -> tuple[int, int, int]:
    if len(data.shape) != 3:
        raise SampleError(
            f"{data.name}: one example has shape {list(data.shape)}; the classifier takes images [C, H, W]"
        )
    channels, height, width = data.shape
    return channels, height, width


def _normalise(x: Tensor, scale: tuple[float, float]) -> Tensor:
    """The data's scale mapped to [-1, 1], in the memory format in which convolutions on a CPU are fastest."""
    low, high = scale
    return ((x - low) * (2 / (high - low)) - 1).contiguous(memory_format=torch.channels_last)


def _train(data: Data, labels: Labels) -> Net:
    """A net trained by Adam with one cycle of the learning rate and cross entropy, for MAX_UPDATES minibatches, or
    MAX_EPOCHS passes over small data."""
    batch = min(BATCH, len(data.train))
    updates = min(MAX_UPDATES, MAX_EPOCHS * (len(data.train) // batch))
    generator = torch.Generator().manual_seed(0)
    with _single_thread(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)  # for the initial weights
        net = Net(_image_shape(data), _classes(data)).to(memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(net.parameters(), lr=MAX_LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, MAX_LEARNING_RATE, total_steps=updates)
        for rows in islice(_minibatches(len(data.train), batch, generator), updates):
            x = _normalise(data.floats(data.train[rows]), data.scale or (0.0, 1.0))
            optimiser.zero_grad()
            F.cross_entropy(net(x), labels.train[rows]).backward()
            optimiser.step()
            schedule.step()
    return net


def _minibatches(n: int, batch: int, generator: Generator) -> Iterator[Tensor]:
    """Endless passes over 0..n-1, each in a new random order; an incomplete last minibatch is dropped."""
    while True:
        yield from torch.randperm(n, generator=generator)[: n // batch * batch].split(batch)


@contextmanager
def _single_thread() -> Iterator[None]:
    """One PyTorch thread: the rounding of sums depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
