"""Data copying: the three-sample test of Meehan et al. 2020, authenticity (Alaa et al. 2022), near-duplicates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, device

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples, nearest
from .extractors import PIXELS, extractor, space, space_fields
from .memorisation import (
    Nearest,
    Overlap,
    exact_copies,
    find_nearest,
    nearness_test,
    overlap,
    real_features,
    verdict,
)
from .per_device import PerDevice
from .statistics import halves_below, percentage
from .subset import random_subset

MIN_CELL_SAMPLES = 20  # in a cell that counts
DUPLICATE_QUANTILE = 0.01  # share of held-out examples as near to the training set as a near-duplicate
MAX_CLUSTERED = 10_000  # training examples for k-means
VALUES = ("ct", "authenticity", "near_duplicates")


def data_copying(samples: Tensor, train: Tensor, test: Tensor, *, cells: int = 1) -> Score:
    """C_T, the three-sample test of `samples` [n, *shape] against `test` [m, *shape] by their distances to `train`
    (Meehan et al. 2020, section 4): the number of standard deviations by which samples are further from their nearest
    training example than held-out data are. About 0 for fresh data; very negative for copies (−38.7 for exact ones at
    n = m = 1000 in one cell); very positive for samples off the data.

    In each of `cells` cells (k-means on the training set): the Mann-Whitney U over pairs, with distances to training
    examples of that cell, ties half, continuity-corrected and standardised. C_T is the mean over the cells with at
    least 20 samples, weighted by their share of the held-out data. Details: "cells" [c], the statistic of each;
    "weights" [c]; "null_sd", the spread of C_T without copying; "exact_train" and "exact_test", the numbers of samples
    that equal a training and a test example. Its `verdict` says in words whether samples are copies (`verdict` in
    memorisation.py). There is no standard error: C_T is in units of its spread, and grows with √n.

    Raises SampleError for sets that are too small, of different shapes or not finite, and if no cell holds enough
    samples and a test example.
    """
    train = check_samples(train, "train")
    test = check_samples(test, "test", like=train, least=2)
    samples = check_samples(samples, "samples", like=train, least=MIN_CELL_SAMPLES)
    to_train, to_test = find_nearest(samples, train), find_nearest(samples, test)
    heldout = nearest(test, train)[0][:, 0]
    ct = _c_t(samples, train, test, cells, to_train.distance, heldout)
    return _add_verdict(ct, samples, to_train, to_test, heldout, overlap(train, test))


def _c_t(
    samples: Tensor, train: Tensor, test: Tensor, cells: int, distance: Tensor, heldout: Tensor
) -> Score:
    """C_T. `distance` [n] and `heldout` [m] are distances to the nearest of all training examples, used for a single
    cell. The details also hold "most": the value of exact copies, in standard deviations, with the opposite sign."""
    of_train, of_test, of_samples = _partition(cells, train, test, samples)
    each, weights, most = [], [], []
    for cell in range(cells):
        inside, held = of_samples == cell, of_test == cell
        n, m = int(inside.sum()), int(held.sum())
        if n < MIN_CELL_SAMPLES or not m:
            continue
        if cells > 1:
            own = train[of_train == cell]
            near, fresh = (nearest(x, own)[0][:, 0] for x in (samples[inside], test[held]))
        else:
            near, fresh = distance, heldout
        each.append(_z_statistic(near, fresh))
        weights.append(m)
        apart = (fresh > 0).double().mean().item()  # exact copies tie with held-out examples at distance 0
        most.append(apart * math.sqrt(3 * n * m / (n + m + 1)))
    if not each:
        raise SampleError(
            f"samples: none of {cells} cells holds {MIN_CELL_SAMPLES} samples and a test example; use fewer cells, "
            "or more samples"
        )
    share = torch.tensor(weights).double() / sum(weights)
    z = torch.tensor(each).double()
    details = {
        "cells": z,
        "weights": share,
        "null_sd": share.norm().item(),
        "most": (share * torch.tensor(most).double()).sum().item(),
    }
    return Score((share * z).sum().item(), None, len(samples), details)


def _add_verdict(
    ct: Score, samples: Tensor, to_train: Nearest, to_test: Nearest, heldout: Tensor, shared: Overlap
) -> Score:
    """C_T with its verdict on copying."""
    details = dict(ct.details)
    null_sd, most = details["null_sd"], details.pop("most")
    exact = exact_copies(samples, to_train, to_test, heldout, shared)
    words = verdict(
        -ct.value / null_sd, most / null_sd, nearness_test(to_train, to_test, shared.copies), exact
    )
    return replace(ct, details={**details, **exact.counts}, verdict=words)


def _partition(cells: int, train: Tensor, *others: Tensor) -> list[Tensor]:
    """The cell (the nearest centre) of each training example and of each example of `others`."""
    if not 1 <= cells <= len(train):
        raise SampleError(f"cells: expected 1 to {len(train)}, the number of training examples; got {cells}")
    sets = (train, *others)
    if cells == 1:
        return [torch.zeros(len(x), dtype=torch.int64, device=x.device) for x in sets]
    from sklearn.cluster import KMeans

    known = random_subset(train, MAX_CLUSTERED).flatten(1).double().cpu().numpy()
    centres = KMeans(cells, random_state=0).fit(known).cluster_centers_
    centres = torch.as_tensor(centres, device=train.device)
    return [nearest(x.flatten(1), centres)[1][:, 0] for x in sets]


def _z_statistic(samples: Tensor, heldout: Tensor) -> float:
    """The Mann-Whitney U (pairs in which the sample is further, ties half) as a standard normal number."""
    n, m = len(samples), len(heldout)
    u = halves_below(samples, heldout).sum().item() / 2
    return (u - n * m / 2 + 0.5) / math.sqrt(n * m * (n + m + 1) / 12)


def authenticity(samples: Tensor, train: Tensor) -> Score:
    """AuthPct: percentage of `samples` [n, *shape] that are further from their nearest example of `train` than that
    example is from its own nearest neighbour in `train` (Alaa et al. 2022, section 4), ± binomial. Exact copies score
    0, also copies of examples that `train` holds twice. Of several nearest examples the first counts.

    Compare it with its value for held-out data, which is not 50: about 38 in two dimensions and 90 for a Gaussian in
    784. Raises SampleError for sets that are too small, of different shapes or not finite.
    """
    train = check_samples(train, "train", least=2)
    samples = check_samples(samples, "samples", like=train)
    return _authenticity(find_nearest(samples, train), train)


def _authenticity(to_train: Nearest, train: Tensor) -> Score:
    near, position = to_train.row.unique(return_inverse=True)
    gap = nearest(train[near], train, 2)[0][
        :, 1
    ]  # the first neighbour is the example itself, or an equal one
    return percentage(to_train.distance > gap[position])


def near_duplicates(samples: Tensor, train: Tensor, test: Tensor) -> Score:
    """Percentage of `samples` [n, *shape] that are near-duplicates of an example of `train`: nearer to it than all but
    1 % of `test` [m, *shape] are to theirs, not counting test examples that equal a training example. ± is binomial, at
    that radius.

    Exact copies score 100. Fresh data score "false_positive_pct" (in the details) on average: 100 (c + 1)/(m + 1) where
    c of the m test examples are near-duplicates themselves. If none equals a training example, c = ⌊m / 100⌋, since the
    radius is the distance of the (c + 1)th nearest. Details also: "radius". Samples that stay where data are dense
    score higher without being copies.

    Raises SampleError for sets that are too small, of different shapes or not finite.
    """
    train = check_samples(train, "train")
    test = check_samples(test, "test", like=train)
    samples = check_samples(samples, "samples", like=train)
    return _near_duplicates(*(nearest(x, train)[0][:, 0] for x in (samples, test)))


def _near_duplicates(distance: Tensor, heldout: Tensor) -> Score:
    apart = heldout[heldout > 0].sort().values
    radius = apart[math.floor(DUPLICATE_QUANTILE * len(apart))].item() if len(apart) else 0.0
    chosen, chance = ((x < radius) | (x == 0) for x in (distance, heldout))
    false = 100 * (int(chance.sum()) + 1) / (len(heldout) + 1)
    score = percentage(chosen)
    return replace(score, details={"radius": radius, "false_positive_pct": false})


class Controls(NamedTuple):
    """The values of copies and of held-out data on the same data."""

    copies: tuple[float, float, float]  # C_T, AuthPct, near-duplicates
    fresh: tuple[float, float, float]
    heldout: Tensor  # [m], distances of the held-out data
    shared: Overlap
    real: tuple[Tensor, Tensor] | None  # `real_features`, if they are expensive; None for pixels


@metric(
    Value("data_copying", "standard deviations", "neither"),
    Value("authenticity", "%", "neither"),
    Value("near_duplicates", "%", "neither"),
    name="data_copying",
    version=2,
)
@dataclass(frozen=True)
class DataCopying:
    """C_T (Meehan et al. 2020), AuthPct (Alaa et al. 2022) and near-duplicates, to be compared with their controls.

    C_T is about 0 for fresh data, very negative for copies, positive for samples off the data. A near-duplicate is
    nearer to a training example than all but 1 % of held-out data are, not counting those that equal a training
    example. As in `memorisation`, there is a verdict in words, and the details hold the numbers of samples that equal
    a training or a test example. Controls on the same data: "copies", training examples as samples; "heldout", one half
    of the held-out data against the other.

    Checked against SciPy's Mann-Whitney U (1e-6, relative), Meehan et al.'s −38.7 for copies (0.05), AuthPct by
    all distances as in dgm-eval, and 37.5 for fresh data in two dimensions (4 standard errors); near-duplicates of
    copies where splits hold equal examples.
    """

    n: int = 1000  # samples, and held-out examples at most
    cells: int = 1  # k-means cells in which samples and data are compared
    features: str = PIXELS  # for the distances: pixels, classifier, inception or dinov2

    def __call__(
        self, model: Model, data: Data, reference: PerDevice[Controls] | None = None
    ) -> tuple[Score, Score, Score]:
        samples = check_samples(model.samples(self.n), "samples", least=MIN_CELL_SAMPLES)
        controls = (reference or self.reference(data)).on(samples.device)
        train, test = controls.real or real_features(self.features, data, samples.device)
        features = extractor(self.features, data, samples.device)(samples)
        to_train, to_test = find_nearest(features, train), find_nearest(features, test)
        held = random_subset(test, self.n)
        ct = _c_t(features, train, held, self.cells, to_train.distance, controls.heldout)
        ct = _add_verdict(ct, samples, to_train, to_test, controls.heldout, controls.shared)
        by_name = {
            "copies": dict(zip(VALUES, controls.copies, strict=True)),
            "heldout": dict(zip(VALUES, controls.fresh, strict=True)),
        }
        ct = replace(ct, controls=by_name)
        return ct, _authenticity(to_train, train), _near_duplicates(to_train.distance, controls.heldout)

    def reference(self, data: Data) -> PerDevice[Controls]:
        """The controls, the same for all models."""
        if min(self.n, len(data.test)) < 2 * MIN_CELL_SAMPLES:
            raise SampleError(
                f"{data.name}: data copying needs at least {2 * MIN_CELL_SAMPLES} test examples; there are "
                f"{min(self.n, len(data.test))}"
            )
        return PerDevice(lambda place: self._controls(data, place))

    def _controls(self, data: Data, place: device) -> Controls:
        train, every = real_features(self.features, data, place)
        test, copies = random_subset(every, self.n), random_subset(train, self.n)
        half, cells = len(test) // 2, self.cells
        fresh, near = find_nearest(test, train), find_nearest(copies, train)
        heldout = fresh.distance
        first, rest = heldout[:half], heldout[half:]
        return Controls(
            (
                _c_t(copies, train, test, cells, near.distance, heldout).value,
                _authenticity(near, train).value,
                _near_duplicates(near.distance, heldout).value,
            ),
            (
                _c_t(test[:half], train, test[half:], cells, first, rest).value,
                _authenticity(fresh, train).value,
                _near_duplicates(first, rest).value,
            ),
            heldout,
            overlap(data.floats(data.train), data.floats(data.test)),
            None if self.features == PIXELS else (train, every),
        )

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        where = space(self.features, data)
        return (
            f"{self.n} samples, {min(self.n, len(data.test))} random test and all {len(data.train)} training "
            f"examples, Euclidean in {where}; C_T: {self.cells} k-means cells of "
            f"{min(MAX_CLUSTERED, len(data.train))} random training examples, those with at least {MIN_CELL_SAMPLES} "
            "samples, weighted by held-out mass; AuthPct: % of samples further from their nearest "
            "training example than that one is from its own; near-duplicates: nearer than all but "
            f"{100 * DUPLICATE_QUANTILE:g} % of those test examples are to theirs, equal ones left out"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {
            "test": min(self.n, len(data.test)),
            "train": len(data.train),
            "fitted": min(MAX_CLUSTERED, len(data.train)),
            "least": MIN_CELL_SAMPLES,
            "rare": DUPLICATE_QUANTILE,
            "space": space_fields(self.features, data),
        }
