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

SEM_PARTS = 10  # of both sets, whose spread gives the standard errors


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
    features. A sample's ball reaches to its k-th neighbour in its own set, that distance excluded (<), as in the
    authors' package: a tie is outside. Ties are exact where the real examples lie on a grid, as pixels do, in any type
    and on any scale; examples that are alike to the last bit are at exactly 0.

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
        radius = nearest_squared(x, x, k + 1, block=block)[0][
            :, k
        ]  # the first neighbour is the example itself
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
    doubt: Tensor  # [n], how far from it a squared distance may be by rounding and belong on the other side


def _standard_errors(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    """Standard errors over fresh draws of both sets, from disjoint parts of them; empty for parts that are too small.

    These numbers are sums of what happens near each example, so that their variance falls with the size of the sets
    as 1/n: that of a part, divided by the number of parts, is that of the whole. A jackknife would not do: examples
    share balls, and it comes out at up to twice the spread.
    """
    if min(len(real), len(fake)) < 2 * SEM_PARTS * (k + 1):
        return {}
    parts = [vars(prdc(real[i::SEM_PARTS], fake[i::SEM_PARTS], k)) for i in range(SEM_PARTS)]
    return {name: statistics.stdev(part[name] for part in parts) / math.sqrt(SEM_PARTS) for name in parts[0]}


class Control(NamedTuple):
    """The test examples as the extractor sees them, and what training examples score against them."""

    test: Tensor  # [n, d]
    scores: PRDC


def _inside(ready: Prepared, real: Balls, fake: Balls, block: Block | None) -> tuple[Tensor, Tensor, Tensor]:
    """Real balls that hold each of the m fake samples, [m]; real samples whose ball holds one of them [n], and
    those inside the ball of one of them [n]."""
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
    """A tile of squared distances, [rows, columns], and the examples that they are between."""

    tile: Tensor
    points: Tensor
    reference: Tensor

    def nearer(self, squared: Tensor, doubt: Tensor) -> Tensor:
        """1 where a squared distance is less than `squared`, else 0, [rows, columns]: floats, which are compared and
        summed faster than truths. Pairs within `doubt` of it are decided by their differences."""
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

    ± is the spread over ten parts, each a tenth of the samples against a tenth of the test examples, divided by √10:
    that of fresh real and fresh fake examples, which a binomial one at fixed balls understates. It is itself uncertain
    by a quarter, and none where a part has too few examples. Fresh data do not score 1 in precision, recall and
    coverage: the control "train" is what training examples score. Neighbours are those
    of the data's own numbers, such as pixels, unless `features` says otherwise; published values are of an image
    classifier's features.

    Checked against the authors' package prdc (1e-9, with ties too), density 1 and coverage 1 − 2^−k of fresh data
    (0.03, 0.01), the spread of coverage over fresh real and fake examples (25 %).
    """

    n: int = 5000  # samples, and test examples, at most as many as there are of the latter
    k: int = 5  # neighbour that a ball reaches to
    features: str = PIXELS  # that distances are of: pixels, classifier, inception or dinov2

    def __call__(
        self, model: Model, data: Data, reference: PerDevice[Control] | None = None
    ) -> tuple[Score, ...]:
        n = self._size(data)
        samples = check_samples(model.samples(n), "samples", least=self.k + 1)
        control = (reference or self.reference(data)).on(samples.device)
        seen = extractor(self.features, data, samples.device)(samples)
        errors = _standard_errors(control.test, seen, self.k)
        scores = [
            Score(value, errors.get(name), n)
            for name, value in vars(prdc(control.test, seen, self.k)).items()
        ]
        return (replace(scores[0], controls={"train": vars(control.scores)}), *scores[1:])

    def reference(self, data: Data) -> PerDevice[Control]:
        """The test examples, and what as many training examples score."""
        return PerDevice(lambda place: self._control(data, place))

    def _size(self, data: Data) -> int:
        return min(self.n, len(data.test))

    def _control(self, data: Data, place: device) -> Control:
        seen = extractor(self.features, data, place)
        n = self._size(data)
        train, test = (seen(data.floats(random_subset(x, n)).to(place)) for x in (data.train, data.test))
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
