"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, device

from ..contracts import Data, Model, Score, Value, metric
from .distances import Block, Prepared, check_samples, in_threads, nearest, prepare, squared_distances
from .extractors import extractor, identity
from .memorisation import PIXELS
from .once import Once


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

    Memory is twice that of the inputs plus a block for each core. Raises SampleError for sets of different
    shapes, not finite, or with no more than `k` examples.
    """
    real = check_samples(real, "real", least=k + 1)
    fake = check_samples(fake, "fake", like=real, least=k + 1)
    # The first neighbour in the own set is the sample itself.
    real_radius, fake_radius = (nearest(x, x, k + 1, block=block)[0][:, k].square() for x in (real, fake))
    ready = prepare(real, fake)
    parts = in_threads(lambda x, radius: _inside(ready, real_radius, x, radius, block), fake, fake_radius)
    balls = torch.cat([part[0] for part in parts])
    covered, recalled = (torch.stack([part[i] for part in parts]).any(0) for i in (1, 2))
    return PRDC(
        precision=(balls > 0).double().mean().item(),
        recall=recalled.double().mean().item(),
        density=balls.double().mean().item() / k,
        coverage=covered.double().mean().item(),
    )


class Control(NamedTuple):
    """The test examples as the extractor sees them, and what training examples score against them."""

    test: Tensor  # [n, d]
    scores: PRDC


def _inside(
    real: Prepared, real_radius: Tensor, fake: Tensor, fake_radius: Tensor, block: Block | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Real balls that hold each of `fake` [m, *shape], [m]; real samples whose ball holds one of them [n], and
    those inside the ball of one of them [n]. The radii, [n] and [m], are squared."""
    balls = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    covered = torch.zeros(len(real_radius), dtype=torch.bool, device=fake.device)
    recalled = torch.zeros_like(covered)
    for fakes, reals, tile in squared_distances(fake, real, block):
        inside = torch.empty_like(tile)  # 0 or 1 as floats, which are compared and summed faster than truths
        torch.lt(tile, real_radius[reals].to(tile.dtype), out=inside)
        balls[fakes] += inside.sum(1).long()
        covered[reals] |= inside.amax(0) > 0
        torch.lt(tile, fake_radius[fakes, None].to(tile.dtype), out=inside)
        recalled[reals] |= inside.amax(0) > 0
    return balls, covered, recalled


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
    of the data's own numbers, such as pixels, unless `features` says otherwise; published values are of an image
    classifier's features.

    Checked against the authors' package prdc (1e-9), density 1 and coverage 1 − 2^−k of fresh data (0.03,
    0.01).
    """

    n: int = 5000  # samples, and test examples, at most as many as there are of the latter
    k: int = 5  # neighbour that a ball reaches to
    features: str = PIXELS  # that distances are of: pixels, classifier, inception or dinov2

    def __call__(self, model: Model, data: Data, reference: Once[Control] | None = None) -> tuple[Score, ...]:
        n = self._size(data)
        samples = check_samples(model.samples(n), "samples", least=self.k + 1)
        control = (reference or self.reference(data)).on(samples.device)
        seen = extractor(self.features, data, samples.device)(samples)
        found = vars(prdc(control.test, seen, self.k))
        errors = {
            name: math.sqrt(max(p * (1 - p), 0.0) / n) for name, p in found.items() if name != "density"
        }
        scores = [Score(value, errors.get(name), n) for name, value in found.items()]
        return (replace(scores[0], details={"control_train": vars(control.scores)}), *scores[1:])

    def reference(self, data: Data) -> Once[Control]:
        """The test examples, and what as many training examples score."""
        return Once(lambda place: self._control(data, place))

    def _size(self, data: Data) -> int:
        return min(self.n, len(data.test))

    def _control(self, data: Data, place: device) -> Control:
        seen = extractor(self.features, data, place)
        rows = slice(self._size(data))
        train, test = (seen(data.floats(x[rows]).to(place)) for x in (data.train, data.test))
        return Control(test, prdc(test, train, self.k))

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        n = self._size(data)
        where = "the data's own scale" if self.features == PIXELS else identity(self.features, data)
        return (
            f"{n} samples against the first {n} test examples, k = {self.k} neighbours, Euclidean in {where}; "
            "density is 1 for fresh data"
        )
