"""Memorisation: are samples nearer to the training set than fresh data are?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples, nearest

PANEL = 10  # fair draws in the picture


def memorisation(samples: Tensor, train: Tensor, test: Tensor) -> Score:
    """P(d_sample < d_test), ties counted half: the probability that a random sample of `samples` [n, *shape]
    is nearer to its nearest neighbour in `train` (Euclidean, pixel space) than a random example of `test`
    [m, *shape] is. Mann and Whitney's U / nm; ± is DeLong's standard error over samples and test examples.

    Read it against 0.5, which fresh data score: 1 is copies, or noise near them; below 0.5 the samples are
    further from the training set than data are, which may only mean that they are poor. Details: "ct", the
    same statistic as Meehan et al. 2020 standardise it (C_T with one cell: about 0 for fresh data, very
    negative for copies); "distance_samples" [n] and "distance_heldout" [m]; "panel_samples" and
    "panel_neighbours" [10, *shape], the first samples and their nearest training examples (Goodfellow et
    al. 2014, figure 2).

    Raises SampleError for sets that are too small, of different shapes or not finite.
    """
    train = check_samples(train, "train")
    test = check_samples(test, "test", like=train, least=2)
    return _compare(samples, train, nearest(test, train)[0][:, 0])


def _compare(samples: Tensor, train: Tensor, heldout: Tensor) -> Score:
    samples = check_samples(samples, "samples", like=train, least=2)
    distance, index = (found[:, 0] for found in nearest(samples, train))
    value, sem = _probability_below(distance, heldout)
    n, m = len(distance), len(heldout)
    u = (1 - value) * n * m  # pairs in which the sample is further
    details = {
        "ct": (u - n * m / 2 + 0.5) / math.sqrt(n * m * (n + m + 1) / 12),
        "distance_samples": distance,
        "distance_heldout": heldout,
        "panel_samples": samples[:PANEL],
        "panel_neighbours": train[index[:PANEL]],
    }
    return Score(value, sem, n, details)


def _probability_below(x: Tensor, y: Tensor) -> tuple[float, float]:
    """P(x < y) + P(x = y) / 2 and its standard error (DeLong et al. 1988) from each one's placement among
    the others."""
    among_y, among_x = _share_below(x, y), _share_below(y, x)
    variance = among_y.var() / len(x) + among_x.var() / len(y)
    return 1 - among_y.mean().item(), math.sqrt(variance.item())


def _share_below(x: Tensor, y: Tensor) -> Tensor:
    """The share of `y` that is less than each of `x`, ties counted half."""
    y = y.sort().values
    return (torch.searchsorted(y, x) + torch.searchsorted(y, x, right=True)) / (2.0 * len(y))


class Controls(NamedTuple):
    """The held-out distances, and what copies and fresh data score on the same data."""

    heldout: Tensor  # [m]
    copies: float
    fresh: float


@metric(Value("memorisation", "probability", "neither"), name="memorisation")
@dataclass(frozen=True)
class Memorisation:
    """P(a sample is nearer to the training set than held-out data): 0.5 is honest, 1 copies.

    Below 0.5 the samples are further from the training set than data are, which may only mean that they are
    poor: "lower" is right above 0.5 only. Beside it stand two controls on the same data: copies of training
    examples, and one half of the held-out data against the other.
    """

    n: int = 2000  # samples, and held-out examples at most

    def __call__(self, model: Model, data: Data, reference: Controls | None = None) -> Score:
        controls = reference or self.reference(data)
        samples = model.samples(self.n)
        train = data.floats(data.train).to(samples.device)
        score = _compare(samples, train, controls.heldout.to(samples.device))
        found = {"control_copies": controls.copies, "control_heldout": controls.fresh}
        return Score(score.value, score.sem, score.n, {**score.details, **found})

    def reference(self, data: Data) -> Controls:
        """Distances of the held-out data and the controls, the same for all models."""
        train, test = data.floats(data.train), data.floats(data.test[: self.n])
        if len(test) < 4:
            raise SampleError(
                f"{data.name}: memorisation needs at least 4 test examples; there are {len(test)}"
            )
        heldout = nearest(test, train)[0][:, 0]
        copies = nearest(train[: self.n], train)[0][:, 0]
        half = len(heldout) // 2
        return Controls(
            heldout,
            _probability_below(copies, heldout)[0],
            _probability_below(heldout[:half], heldout[half:])[0],
        )

    def protocol(self, data: Data) -> str:
        """What defines the number."""
        return (
            f"Euclidean distance to the nearest of {len(data.train)} training examples, in the data's own scale; "
            f"P(d of a sample < d of a test example), ties half, over {self.n} samples and the first "
            f"{min(self.n, len(data.test))} test examples"
        )
