"""Diversity of samples: mean distance between two samples, and how often two samples nearly coincide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import Block, check_samples, prepare, squared_distances, whole_numbers
from .per_device import PerDevice
from .subset import random_subset


class Pairs(NamedTuple):
    """Distances between the examples of one set."""

    mean: float
    sem: float  # of the mean, to first order


def pairwise_diversity(samples: Tensor, test: Tensor, *, block: Block | None = None) -> Score:
    """Mean Euclidean distance between two of `samples` [n, *shape], divided by that between two of `test`
    [m, *shape]: 1 for fresh data, 0 for one repeated sample. Above 1 the samples are further apart than data are, as
    noise is too, so that higher is not better.

    ± is its standard error over both sets. Details: "mean_distance" and "mean_distance_data".

    Raises SampleError for fewer than two examples, different shapes, values that are not finite, and test examples
    that are all equal.
    """
    test = check_samples(test, "test", least=2)
    samples = check_samples(samples, "samples", like=test, least=2)
    return _ratio(_pairs(samples, block), _pairs(test, block), len(samples))


def _ratio(own: Pairs, real: Pairs, n: int) -> Score:
    if real.mean == 0:
        raise SampleError("test: all examples are equal, so there is no distance to compare with")
    value = own.mean / real.mean
    sem = math.hypot(own.sem, value * real.sem) / real.mean
    return Score(value, sem, n, {"mean_distance": own.mean, "mean_distance_data": real.mean})


def _pairs(x: Tensor, block: Block | None = None) -> Pairs:
    sums = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for rows, tile in _pair_tiles(x, block):
        # The distance of an example to itself is infinite in the tile; it must not count.
        sums[rows] += tile.clamp_(min=0).sqrt_().nan_to_num_(posinf=0.0).sum(1, dtype=torch.float64)
    each = sums / (len(x) - 1)
    return Pairs(each.mean().item(), 2 * each.std().item() / math.sqrt(len(x)))


def _pair_tiles(x: Tensor, block: Block | None) -> Iterator[tuple[slice, Tensor]]:
    """Rows and tiles of the squared distances between the examples of `x`; infinite from an example to itself.

    Always in float64: the sets are small, and float32 could not tell apart samples that are close to each other but
    far from the data.
    """
    ready = prepare(x, x, dtype=torch.float64)
    for rows, columns, tile in squared_distances(x, ready, block):
        first, last = max(rows.start, columns.start), min(rows.stop, columns.stop)
        own = torch.arange(first, max(first, last), device=x.device)
        tile[own - rows.start, own - columns.start] = torch.inf
        yield rows, tile


def birthday_collisions(
    samples: Tensor, test: Tensor, *, rate: float = 1e-3, block: Block | None = None
) -> Score:
    """How often two of `samples` [n, *shape] nearly coincide, divided by how often two of `test` [m, *shape] do: 1 for
    fresh data, 2 for a sampler with half the data's support, 0 where no two samples are close.

    The birthday paradox test of Arora & Zhang 2018, with a rule instead of human judges: a pair coincides if its
    distance is at most (≤) that of the `rate` nearest of all pairs of `test`. All pairs are counted, which has less
    noise than the paper's size of a batch with an even chance of a collision. Ties are exact where the test examples
    lie on a grid, as pixels do, in any type and on any scale; a tie with the radius coincides, in both sets. ± is its
    standard error over both sets to first order. Details: "radius"; "batch", the size of a batch of samples with an
    even chance of a collision (infinite without collisions), whose square is the paper's estimate of the support;
    "batch_data".

    It detects a support that is too small, not one that is wrong: noise has no collisions. Raises SampleError for sets
    that are too small for the rate, of different shapes or not finite.
    """
    test = check_samples(test, "test", least=2)
    samples = check_samples(samples, "samples", like=test, least=2)
    pairs = 2 * int(rate * len(test) * (len(test) - 1) / 2)  # the tiles hold each pair twice
    if not 0 < rate < 1 or pairs < 20:
        raise SampleError(
            f"test: {len(test)} examples have too few pairs for a rate of {rate:g}; use a larger one"
        )
    test, samples, step = whole_numbers(test, samples)
    near = torch.empty(0, dtype=torch.float64, device=test.device)
    for _, tile in _pair_tiles(test, block):
        near = torch.cat([near, tile.flatten()])
        near = near.topk(min(pairs, len(near)), largest=False).values
    squared = near.max().item()
    (own, own_sem), (real, real_sem) = (_collisions(x, squared, block) for x in (samples, test))
    details = {
        "radius": step * math.sqrt(max(squared, 0.0)),
        "batch": _even_chance_batch(own),
        "batch_data": _even_chance_batch(real),
    }
    return Score(own / real, math.hypot(own_sem, own / real * real_sem) / real, len(samples), details)


def _collisions(x: Tensor, squared: float, block: Block | None) -> tuple[float, float]:
    """The share of pairs with at most this squared distance, and its standard error."""
    counts = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for rows, tile in _pair_tiles(x, block):
        counts[rows] += (tile <= squared).sum(1)
    shares = counts / (len(x) - 1)
    return shares.mean().item(), 2 * shares.std().item() / math.sqrt(len(x))


def _even_chance_batch(rate: float) -> float:
    """Size of a batch in which two examples coincide with probability ½, if each pair does with probability `rate`."""
    return math.sqrt(2 * math.log(2) / rate) if rate > 0 else math.inf


@metric(Value("diversity", "of the data's", "neither"), name="diversity", version=2)
@dataclass(frozen=True)
class Diversity:
    """Mean distance between two samples, divided by that between two test examples: 1 is right.

    Below 1 samples are too similar; above 1 they are further apart than data, as noise is.

    Checked against all pairs by torch.pdist (1e-6, relative), the mean distance in a Gaussian in closed
    form (4 standard errors).
    """

    n: int = 2000  # samples, and test examples at most

    def __call__(self, model: Model, data: Data, reference: PerDevice[Pairs] | None = None) -> Score:
        samples = check_samples(model.samples(self.n), "samples", least=2)
        real = (reference or self.reference(data)).on(samples.device)
        return _ratio(_pairs(samples), real, len(samples))

    def reference(self, data: Data) -> PerDevice[Pairs]:
        """Distances between test examples, the same for all models."""
        test = check_samples(data.floats(random_subset(data.test, self.n)), "test", least=2)
        return PerDevice(lambda place: _pairs(test.to(place)))

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"mean Euclidean distance over all pairs of {self.n} samples, divided by that of "
            f"{min(self.n, len(data.test))} random test examples, in the data's own scale"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"test": min(self.n, len(data.test))}


@metric(Value("collisions", "of the data's", "neither"), name="birthday", version=2)
@dataclass(frozen=True)
class Birthday:
    """How often two samples nearly coincide, divided by how often two test examples do (Arora & Zhang 2018).

    1 is right; 2 means half the data's support; below 1 samples are further apart than data, as noise is. The control
    "train" is the value of training examples.

    Checked against all pairs one by one (1e-6, relative), mixtures of which a known share is left out (4
    standard errors).
    """

    n: int = 2000  # samples, and test examples at most
    rate: float = 1e-3  # share of the pairs of test examples that count as coinciding

    def __call__(self, model: Model, data: Data, reference: PerDevice[float] | None = None) -> Score:
        samples = model.samples(self.n)
        control = (reference or self.reference(data)).on(samples.device)
        return replace(self._score(samples, data), controls={"train": control})

    def reference(self, data: Data) -> PerDevice[float]:
        """What training examples score."""
        train = data.floats(random_subset(data.train, self.n))
        return PerDevice(lambda place: self._score(train.to(place), data).value)

    def _score(self, samples: Tensor, data: Data) -> Score:
        test = data.floats(random_subset(data.test, self.n)).to(samples.device)
        return birthday_collisions(samples, test, rate=self.rate)

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"share of the pairs of {self.n} samples within the radius (≤) that holds the nearest {self.rate:g} of the "
            f"pairs of {min(self.n, len(data.test))} random test examples, divided by the share of those; "
            "Euclidean in the data's own scale, ties exact"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"test": min(self.n, len(data.test))}
