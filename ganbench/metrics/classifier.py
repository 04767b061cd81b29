"""A classifier of a dataset's own classes, for metrics that look at classes or at features.

Metrics of images need a net that knows images, and published ones (Inception, DINOv2) know photographs. This
one is small, is trained here on the dataset's own training split, in the same way for everybody, and says its
test accuracy. It is trained once for each content of the data and kept in the user's cache folder.
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
from .distances import check_samples, full_precision

RECIPE = 1  # goes up when another net or training is used, so that no older one is found again
FEATURES = 128  # of the last hidden layer
BATCH = 128
UPDATES = 800  # of a minibatch: two passes over MNIST
EPOCHS = 80  # passes at most, for small data
RATE = 3e-3  # greatest learning rate of the cycle
BLOCK = 500  # examples at a time when it is applied


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
    """A trained net. It takes floats [n, C, H, W] in the data's scale; no result depends on the batch."""

    net: Net
    shape: tuple[int, ...]  # of one example
    scale: tuple[float, float]  # of the data
    accuracy: float  # on the test split
    key: str  # hash of the recipe and of all that the net was trained and tested on

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer [n, 128]. Raises SampleError unless `x` are finite floats of the data's shape."""
        return self._apply(self.net.trunk, x)

    def probabilities(self, x: Tensor) -> Tensor:
        """Of the classes, [n, K]. Raises SampleError likewise."""
        return self._apply(self.net, x).softmax(1)

    def predict(self, x: Tensor) -> Tensor:
        """The most probable class [n], int64. Raises SampleError likewise."""
        return self._apply(self.net, x).argmax(1)

    def _apply(self, net: nn.Module, x: Tensor) -> Tensor:
        weight = self.net.head.weight
        x = check_samples(x, "samples", like=weight.new_empty(0, *self.shape))
        return in_blocks(lambda part: net(_normalised(part.to(weight.dtype), self.scale)), x, BLOCK)


def in_blocks(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """`function` of `x` [n, ...], `size` examples at a time, without gradients and without TF32."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.no_grad(), full_precision():
            return torch.cat([function(part) for part in x.split(size)])
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def classifier(data: Data, device: torch.device | str = "cpu") -> Classifier:
    """The classifier of the classes of `data`, from the cache folder if it is there, else trained now (half a
    minute for MNIST), on the CPU and one thread, so that it is the same whatever the device.

    Machines of another kind may round otherwise: then it differs a little, and so do scores made with it.
    Raises SampleError for data without labels of two classes or more, or other than images.
    """
    labels = _labels(data)
    shape, scale = _image_shape(data), data.scale or (0.0, 1.0)
    key = classifier_key(data)

    def make() -> dict[str, Tensor]:
        net = _train(data, labels)
        made = Classifier(net.eval(), shape, scale, 0.0, key)
        found = torch.cat([made.predict(data.floats(part)) for part in data.test.split(BLOCK)])
        accuracy = (found == labels.test).double().mean()
        weights = {f"net.{name}": value.contiguous() for name, value in net.state_dict().items()}
        return {"accuracy": accuracy, **weights}

    kept = cached("classifiers", key, make)
    net = Net(shape, _classes(data))
    net.load_state_dict({name: kept[f"net.{name}"] for name in net.state_dict()})
    return Classifier(net.to(device).eval().requires_grad_(False), shape, scale, float(kept["accuracy"]), key)


def classifier_key(data: Data) -> str:
    """The hash that a classifier of these data is kept under. Raises SampleError as `classifier` does."""
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
    """What a protocol says of the classifier of these data. Raises SampleError as `classifier` does."""
    return (
        f"a classifier (2 convolutions, {FEATURES} features) of the {_classes(data)} classes of {data.name}, "
        f"trained on its {len(data.train)} training examples, recipe {RECIPE}, {classifier_key(data)[:12]}"
    )


def recipe_fields(data: Data) -> dict[str, Any]:
    """`recipe` as fields of a protocol. Raises SampleError as `classifier` does."""
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
            f"{data.name}: has no labels of two classes or more, from which a classifier could learn"
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


def _normalised(x: Tensor, scale: tuple[float, float]) -> Tensor:
    """The data's scale onto [-1, 1], in the order of memory that convolutions on a CPU are fastest in."""
    low, high = scale
    return ((x - low) * (2 / (high - low)) - 1).contiguous(memory_format=torch.channels_last)


def _train(data: Data, labels: Labels) -> Net:
    """Adam, one cycle of the learning rate, cross entropy; UPDATES minibatches, or EPOCHS passes of few data."""
    batch = min(BATCH, len(data.train))
    updates = min(UPDATES, EPOCHS * (len(data.train) // batch))
    generator = torch.Generator().manual_seed(0)
    with _one_thread(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)  # of the weights at the start
        net = Net(_image_shape(data), _classes(data)).to(memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=updates)
        for rows in islice(_minibatches(len(data.train), batch, generator), updates):
            x = _normalised(data.floats(data.train[rows]), data.scale or (0.0, 1.0))
            optimiser.zero_grad()
            F.cross_entropy(net(x), labels.train[rows]).backward()
            optimiser.step()
            schedule.step()
    return net


def _minibatches(n: int, batch: int, generator: Generator) -> Iterator[Tensor]:
    """Endless passes over 0..n-1, each in an order of its own; what is left of a pass is dropped."""
    while True:
        yield from torch.randperm(n, generator=generator)[: n // batch * batch].split(batch)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
