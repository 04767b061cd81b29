"""Diversity of samples: the distances among them beside those among data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import Block, check_samples, squared_distances


class Pairs(NamedTuple):
    """Distances among the members of one set."""

    mean: float
    sem: float  # of the mean, to first order


def pairwise_diversity(samples: Tensor, test: Tensor, *, block: Block | None = None) -> Score:
    """Mean Euclidean distance between two of `samples` [n, *shape] as a multiple of that between two of
    `test` [m, *shape]: 1 for fresh data, 0 for a single repeated sample. Above 1 the samples spread further
    than the data do, which noise does too, so that more is not better.

    ± is its standard error over both sets. Details: "mean_distance" and "mean_distance_data".

    Raises SampleError for fewer than two examples, different shapes, values that are not finite, and
    test examples that are all equal.
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
    n = len(x)
    sums = torch.zeros(n, dtype=torch.float64, device=x.device)
    for rows, columns, tile in squared_distances(x, x, block):
        tile = tile.clamp_(min=0).sqrt_()
        same = torch.arange(rows.start, rows.stop, device=x.device)
        same = same[(same >= columns.start) & (same < columns.stop)]
        tile[same - rows.start, same - columns.start] = 0  # nobody's distance to itself, less its rounding
        sums[rows] += tile.sum(1, dtype=torch.float64)
    each = sums / (n - 1)
    return Pairs(each.mean().item(), 2 * each.std().item() / math.sqrt(n))


@metric(Value("diversity", "of the data's", "neither"), name="diversity")
@dataclass(frozen=True)
class Diversity:
    """Mean distance between two samples as a multiple of that between two test examples: 1 is right.

    Below 1 samples are too much alike; above, they spread further than data, as noise does.
    """

    n: int = 2000  # samples, and test examples at most

    def __call__(self, model: Model, data: Data, reference: Pairs | None = None) -> Score:
        samples = check_samples(model.samples(self.n), "samples", least=2)
        return _ratio(_pairs(samples), reference or self.reference(data), len(samples))

    def reference(self, data: Data) -> Pairs:
        """Distances among the data, the same for all models."""
        return _pairs(check_samples(data.floats(data.test[: self.n]), "test", least=2))

    def protocol(self, data: Data) -> str:
        """What defines the number."""
        return (
            f"mean Euclidean distance over all pairs of {self.n} samples, divided by that of the first "
            f"{min(self.n, len(data.test))} test examples, in the data's own scale"
        )
