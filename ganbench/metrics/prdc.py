"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, device

from ..contracts import Data, Model, Score, Value, metric
from .distances import (
    TIE_RTOL,
    Block,
    Prepared,
    all_whole,
    check_samples,
    in_threads,
    nearest_squared,
    norms,
    pair_squares,
    prepare,
    rounding,
    squared_distances,
    whole_numbers,
)
from .extractors import PIXELS, extractor, space, space_fields
from .per_device import PerDevice
from .subset import random_subset

SEM_PARTS = 10  # parts of both sets; the spread of their values gives the standard errors


@dataclass(frozen=True)
class PRDC:
    """Fidelity and diversity by nearest-neighbour balls. For fresh data, with sets of the same size, density is 1 and
    coverage 1 − 2^−k on average."""

    precision: float  # share of fake samples in the ball of a real one
    recall: float  # share of real samples in the ball of a fake one
    # Number of real balls that hold a fake sample, mean over the fake samples, divided by k; may exceed 1.
    density: float
    coverage: float  # share of real samples whose ball holds a fake one


def prdc(real: Tensor, fake: Tensor, k: int = 5, *, block: Block | None = None) -> PRDC:
    """Precision, recall, density and coverage of `fake` [m, *shape] against `real` [n, *shape], pixels or features.
    The radius of a sample's ball is the distance to its k-th neighbour in its own set; that distance is outside (<),
    as in the authors' package. Ties are exact if the real examples lie on a grid, as pixels do, in any type and on any
    scale; identical examples are at distance 0.

    Memory is four times that of the inputs plus a block for each core. Raises SampleError for sets of different
    shapes, not finite, or with no more than `k` examples.
    """
    real = check_samples(real, "real", least=k + 1)
    fake = check_samples(fake, "fake", like=real, least=k + 1)
    real, fake, _ = whole_numbers(real, fake)
    ready = prepare(real, fake)
    whole = all(all_whole(x, ready.centre) for x in (real, fake))
    sets = []
    for x in (real, fake):
        # The first neighbour is the example itself.
        radius = nearest_squared(x, x, k + 1, block=block)[0][:, k]
        doubt = rounding(norms(x, ready.centre), radius, ready.centre.dtype, whole=whole)
        sets.append(Balls(x, radius, doubt))
    parts = in_threads(lambda *part: _inside(ready, sets[0], Balls(*part), block), *sets[1])
    balls = torch.cat([part[0] for part in parts])
    covered, recalled = (torch.stack([part[i] for part in parts]).any(0) for i in (1, 2))
    return PRDC(
        precision=(balls > 0).double().mean().item(),
        recall=recalled.double().mean().item(),
        density=balls.double().mean().item() / k,
        coverage=covered.double().mean().item(),
    )


class Balls(NamedTuple):
    """Balls around examples."""

    centres: Tensor  # [n, *shape]
    squared: Tensor  # [n], squared radii, float64
    doubt: Tensor  # [n], a squared distance this close to it may be on the wrong side by rounding


def _standard_errors(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    """Standard errors over fresh draws of both sets, from disjoint parts of them; empty if the parts are too small.

    The values are sums of local contributions, so that their variance is proportional to 1/n: that of the whole is
    that of a part, divided by the number of parts. A jackknife gives up to twice the real spread, since examples share
    balls.
    """
    if min(len(real), len(fake)) < 2 * SEM_PARTS * (k + 1):
        return {}
    parts = [vars(prdc(real[i::SEM_PARTS], fake[i::SEM_PARTS], k)) for i in range(SEM_PARTS)]
    return {name: statistics.stdev(part[name] for part in parts) / math.sqrt(SEM_PARTS) for name in parts[0]}


class Control(NamedTuple):
    """Features of the test examples, and the values of training examples against them."""

    test: Tensor  # [n, d]
    scores: PRDC


def _inside(ready: Prepared, real: Balls, fake: Balls, block: Block | None) -> tuple[Tensor, Tensor, Tensor]:
    """The number of real balls that hold each of the m fake samples [m]; which real samples have one of them in their
    ball [n], and which are in the ball of one of them [n]."""
    balls = torch.zeros(len(fake.centres), dtype=torch.int64, device=fake.centres.device)
    covered = torch.zeros(len(real.centres), dtype=torch.bool, device=balls.device)
    recalled = torch.zeros_like(covered)
    for rows, columns, tile in squared_distances(fake.centres, ready, block):
        pairs = _Pairs(tile, fake.centres[rows], real.centres[columns])
        inside = pairs.nearer(real.squared[columns], real.doubt[columns])
        balls[rows] += inside.sum(1).long()
        covered[columns] |= inside.amax(0) > 0
        inside = pairs.nearer(fake.squared[rows, None], fake.doubt[rows, None])
        recalled[columns] |= inside.amax(0) > 0
    return balls, covered, recalled


class _Pairs(NamedTuple):
    """A tile of squared distances [rows, columns], and the examples of its rows and columns."""

    tile: Tensor
    points: Tensor
    reference: Tensor

    def nearer(self, squared: Tensor, doubt: Tensor) -> Tensor:
        """1 where a squared distance is less than `squared`, else 0: [rows, columns], as floats, which are compared and
        summed faster than booleans. Pairs within `doubt` of it are compared again by exact distances."""
        low, high = (x.to(self.tile.dtype) for x in (squared - doubt, squared + doubt))
        nearer = torch.lt(self.tile, low, out=torch.empty_like(self.tile))
        if not doubt.any():
            return nearer
        maybe = torch.le(self.tile, high, out=torch.empty_like(self.tile))
        unsure = (maybe.sum(1) > nearer.sum(1)).nonzero()[:, 0]
        i, j = (maybe[unsure] > nearer[unsure]).nonzero(as_tuple=True)
        i = unsure[i]
        exact = pair_squares(self.points, self.reference, i, j)
        nearer[i, j] = (exact < squared.expand_as(nearer)[i, j] * (1 - TIE_RTOL)).to(nearer.dtype)
        return nearer


@metric(
    Value("precision", "share", "higher"),
    Value("recall", "share", "higher"),
    Value("density", "of fresh data's", "higher"),
    Value("coverage", "share", "higher"),
    name="prdc",
    version=2,
)
@dataclass(frozen=True)
class PrecisionRecall:
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of samples.

    ± is the spread over ten parts, each a tenth of the samples against a tenth of the test examples, divided by √10. It
    includes fresh real and fresh fake examples; a binomial standard error for fixed balls would be too small. Its own
    relative error is about a quarter, and there is none if a part has too few examples. Fresh data do not score 1 in
    precision, recall and coverage: the control "train" is the value of training examples. Distances are of the data's
    own numbers, such as pixels, unless `features` names an extractor; published values use an image classifier's
    features.

    Checked against the authors' package prdc (1e-9, with ties too), density 1 and coverage 1 − 2^−k of fresh data
    (0.03, 0.01), the spread of coverage over fresh real and fake examples (25 %).
    """

    n: int = 5000  # samples, and as many test examples; at most the size of the test split
    k: int = 5  # the radius of a ball is the distance to the k-th neighbour
    features: str = PIXELS  # for the distances: pixels, classifier, inception or dinov2

    def __call__(
        self, model: Model, data: Data, reference: PerDevice[Control] | None = None
    ) -> tuple[Score, ...]:
        n = self._size(data)
        samples = check_samples(model.samples(n), "samples", least=self.k + 1)
        control = (reference or self.reference(data)).on(samples.device)
        features = extractor(self.features, data, samples.device)(samples)
        errors = _standard_errors(control.test, features, self.k)
        scores = [
            Score(value, errors.get(name), n)
            for name, value in vars(prdc(control.test, features, self.k)).items()
        ]
        return (replace(scores[0], controls={"train": vars(control.scores)}), *scores[1:])

    def reference(self, data: Data) -> PerDevice[Control]:
        """Features of the test examples, and the values of as many training examples."""
        return PerDevice(lambda place: self._control(data, place))

    def _size(self, data: Data) -> int:
        return min(self.n, len(data.test))

    def _control(self, data: Data, place: device) -> Control:
        extract, n = extractor(self.features, data, place), self._size(data)
        train, test = (extract(data.floats(random_subset(x, n)).to(place)) for x in (data.train, data.test))
        return Control(test, prdc(test, train, self.k))

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        n = self._size(data)
        where = space(self.features, data)
        return (
            f"{n} samples against {n} random test examples, k = {self.k} neighbours, Euclidean in {where}; a ball "
            "holds what is nearer (<) than its k-th neighbour, ties exact; density is 1 for fresh data without ties; "
            f"± over {SEM_PARTS} parts of both sets"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        n = self._size(data)
        return {"samples": n, "test": n, "parts": SEM_PARTS, "space": space_fields(self.features, data)}
