"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..contracts import Data, Model, Score, Value, metric
from .distances import Block, check_samples, nearest, squared_distances


@dataclass(frozen=True)
class PRDC:
    """Fidelity and diversity by nearest-neighbour balls; for fresh data density is 1 and coverage
    1 − 2^−k on average, for both sets equally large."""

    precision: float  # share of fake samples inside the ball of some real one
    recall: float  # share of real samples inside the ball of some fake one
    density: (
        float  # real balls that hold a fake sample, mean over the fake samples, divided by k; may exceed 1
    )
    coverage: float  # share of real samples whose ball holds some fake one


def prdc(real: Tensor, fake: Tensor, k: int = 5, *, block: Block | None = None) -> PRDC:
    """Precision, recall, density and coverage of `fake` [m, *shape] against `real` [n, *shape], pixels or
    features. A sample's ball reaches to its k-th neighbour in its own set, that distance excluded.

    Memory is twice that of the inputs plus a block. Raises SampleError for sets of different shapes, not finite,
    or with no more than `k` examples.
    """
    real = check_samples(real, "real", least=k + 1)
    fake = check_samples(fake, "fake", like=real, least=k + 1)
    # The first neighbour in the own set is the sample itself.
    real_radius, fake_radius = (nearest(x, x, k + 1, block=block)[0][:, k].square() for x in (real, fake))
    balls = torch.zeros(
        len(fake), dtype=torch.int64, device=real.device
    )  # real balls that hold a fake sample
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    recalled = torch.zeros_like(covered)
    for fakes, reals, tile in squared_distances(fake, real, block):
        inside = tile < real_radius[reals].to(tile.dtype)
        balls[fakes] += inside.sum(1)
        covered[reals] |= inside.any(0)
        recalled[reals] |= (tile < fake_radius[fakes, None].to(tile.dtype)).any(0)
    return PRDC(
        precision=(balls > 0).double().mean().item(),
        recall=recalled.double().mean().item(),
        density=balls.double().mean().item() / k,
        coverage=covered.double().mean().item(),
    )


@metric(
    Value("precision", "share", "higher"),
    Value("recall", "share", "higher"),
    Value("density", "of fresh data's", "higher"),
    Value("coverage", "share", "higher"),
    name="prdc",
)
@dataclass(frozen=True)
class PrecisionRecall:
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of samples.

    ± is binomial over the points that are counted, at fixed balls. Fresh data do not score 1 in precision,
    recall and coverage: in the details "control_train" is what training examples score. Neighbours are those
    of the data's own numbers, such as pixels; published values are of an image classifier's features.
    """

    n: int = 5000  # samples, and test examples, at most as many as there are of the latter
    k: int = 5  # neighbour that a ball reaches to

    def __call__(self, model: Model, data: Data, reference: PRDC | None = None) -> tuple[Score, ...]:
        control = reference or self.reference(data)
        n = self._size(data)
        found = vars(self._score(model.samples(n), data))
        errors = {
            name: math.sqrt(max(p * (1 - p), 0.0) / n) for name, p in found.items() if name != "density"
        }
        scores = [Score(value, errors.get(name), n) for name, value in found.items()]
        return (replace(scores[0], details={"control_train": vars(control)}), *scores[1:])

    def reference(self, data: Data) -> PRDC:
        """What as many training examples score."""
        return self._score(data.floats(data.train[: self._size(data)]), data)

    def _size(self, data: Data) -> int:
        return min(self.n, len(data.test))

    def _score(self, samples: Tensor, data: Data) -> PRDC:
        return prdc(data.floats(data.test[: self._size(data)]).to(samples.device), samples, self.k)

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        n = self._size(data)
        return (
            f"{n} samples against the first {n} test examples, k = {self.k} neighbours, Euclidean in the data's "
            "own scale; density is 1 for fresh data"
        )
