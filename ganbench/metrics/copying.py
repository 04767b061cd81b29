"""Data copying: the three-sample test of Meehan et al. 2020, authenticity (Alaa et al. 2022), near-duplicates."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, device

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples, nearest
from .extractors import extractor, identity
from .memorisation import PIXELS, Found, find_nearest, leaning, real_features, verdict
from .once import Once

LEAST = 20  # samples in a cell that counts
FITTED = 10_000  # training examples that place the cells
RARE = 0.01  # share of held-out examples that may lie as near to the training set as a near-duplicate
NAMES = ("ct", "authenticity", "near_duplicates")


def data_copying(samples: Tensor, train: Tensor, test: Tensor, *, cells: int = 1) -> Score:
    """C_T, the three-sample test of `samples` [n, *shape] against `test` [m, *shape] by their distances to
    `train` (Meehan et al. 2020, section 4): standard deviations by which samples lie further from their
    nearest training example than held-out data do. About 0 for fresh data; far below for copies (−38.7 for
    exact ones at n = m = 1000 in one cell); far above for samples that lie off the data.

    Within each of `cells` cells (k-means on the training set) Mann and Whitney's U over pairs, with distances
    to training examples of that cell, ties half, continuity-corrected and standardised; then the mean over the
    cells that hold at least 20 samples, weighted by held-out mass. Details: "cells" [c], the statistic of
    those; "weights" [c]; "null_sd", the spread of C_T when there is no copying; "verdict", what it says of
    copying in words (`verdict` in memorisation.py). There is no standard error: C_T is itself in units of its
    spread, and grows with √n.

    Raises SampleError for sets that are too small, of different shapes or not finite, and where no cell holds
    enough samples, or one holds no test example.
    """
    train = check_samples(train, "train")
    test = check_samples(test, "test", like=train, least=2)
    samples = check_samples(samples, "samples", like=train, least=LEAST)
    sizes = (len(train), len(test))
    return _with_verdict(
        _three_samples(samples, train, test, cells),
        find_nearest(samples, train),
        find_nearest(samples, test),
        sizes,
    )


def _three_samples(samples: Tensor, train: Tensor, test: Tensor, cells: int) -> Score:
    of_train, of_test, of_samples = _partition(cells, train, test, samples)
    found, weights, copies = [], [], []
    for cell in range(cells):
        inside = samples[of_samples == cell]
        held = test[of_test == cell]
        if len(inside) < LEAST or not len(held):
            continue
        own = train[of_train == cell]
        found.append(_standardised(nearest(inside, own)[0][:, 0], nearest(held, own)[0][:, 0]))
        weights.append(len(held))
        copies.append(math.sqrt(3 * len(inside) * len(held) / (len(inside) + len(held) + 1)))
    if not found:
        raise SampleError(
            f"samples: none of {cells} cells holds {LEAST} samples and a test example; use fewer cells, or more"
        )
    share = torch.tensor(weights).double() / sum(weights)
    each = torch.tensor(found).double()
    most = (share * torch.tensor(copies).double()).sum().item()
    details = {"cells": each, "weights": share, "null_sd": share.norm().item(), "most": most}
    return Score((share * each).sum().item(), None, len(samples), details)


def _with_verdict(ct: Score, to_train: Found, to_test: Found, sizes: tuple[int, int]) -> Score:
    """C_T and what it says of copying; `sizes` of the training set and of the held-out one of `to_test`."""
    details = dict(ct.details)
    null_sd, most = details["null_sd"], details.pop("most")
    said = verdict(-ct.value / null_sd, most / null_sd, leaning(to_train, to_test, *sizes))
    return replace(ct, details={**details, "verdict": said})


def _partition(cells: int, train: Tensor, *others: Tensor) -> list[Tensor]:
    """The cell of each training example and of each of the others: that of the nearest centre."""
    if not 1 <= cells <= len(train):
        raise SampleError(f"cells: expected 1 to {len(train)}, the number of training examples; got {cells}")
    sets = (train, *others)
    if cells == 1:
        return [torch.zeros(len(x), dtype=torch.int64, device=x.device) for x in sets]
    from sklearn.cluster import KMeans

    known = train[:FITTED].flatten(1).double().cpu().numpy()
    centres = KMeans(cells, random_state=0).fit(known).cluster_centers_
    centres = torch.as_tensor(centres, device=train.device)
    return [nearest(x.flatten(1), centres)[1][:, 0] for x in sets]


def _standardised(samples: Tensor, heldout: Tensor) -> float:
    """Mann and Whitney's U, pairs in which the sample is further, ties half, as a standard normal number."""
    n, m = len(samples), len(heldout)
    held = heldout.sort().values
    u = (torch.searchsorted(held, samples) + torch.searchsorted(held, samples, right=True)).sum().item() / 2
    return (u - n * m / 2 + 0.5) / math.sqrt(n * m * (n + m + 1) / 12)


def authenticity(samples: Tensor, train: Tensor) -> Score:
    """AuthPct: % of `samples` [n, *shape] that are no nearer to their nearest example of `train` than that one
    is to its own nearest in `train` (Alaa et al. 2022, section 4), ± binomial. Exact copies score 0.

    Read it only beside its value for held-out data, which is not 50: about 38 in two dimensions and 90 for
    a Gaussian in 784. Raises SampleError for sets that are too small, of different shapes or not finite.
    """
    train = check_samples(train, "train", least=2)
    samples = check_samples(samples, "samples", like=train)
    return _authenticity(find_nearest(samples, train), train)


def _authenticity(to_train: Found, train: Tensor) -> Score:
    near, position = to_train.row.unique(return_inverse=True)
    gap = nearest(train[near], train, 2)[0][:, 1]  # the first is the example itself
    return _percentage(to_train.distance >= gap[position])


def near_duplicates(samples: Tensor, train: Tensor, test: Tensor) -> Score:
    """% of `samples` [n, *shape] that are near-duplicates of an example of `train`: nearer to it than all but 1 %
    of `test` [m, *shape] are to theirs. ± is binomial, at that radius.

    Exact copies score 100, and fresh data "false_positive_pct" on average, in the details: 100 (k + 1)/(m + 1)
    with k = ⌊m / 100⌋, since the radius is the distance of the (k + 1)th nearest of m. Details also: "radius".
    Samples that keep to where data are dense score more, without being copies.

    Raises SampleError for sets that are too small, of different shapes or not finite.
    """
    train = check_samples(train, "train")
    test = check_samples(test, "test", like=train)
    samples = check_samples(samples, "samples", like=train)
    return _duplicates(find_nearest(samples, train).distance, find_nearest(test, train).distance)


def _duplicates(distance: Tensor, heldout: Tensor) -> Score:
    k, m = math.floor(RARE * len(heldout)), len(heldout)
    radius = heldout.sort().values[k]
    score = _percentage(distance < radius)
    return replace(score, details={"radius": radius.item(), "false_positive_pct": 100 * (k + 1) / (m + 1)})


def _percentage(chosen: Tensor) -> Score:
    share, n = chosen.double().mean().item(), len(chosen)
    return Score(100 * share, 100 * math.sqrt(share * (1 - share) / n), n)


class Controls(NamedTuple):
    """What copies and held-out data score on the same data."""

    copies: tuple[float, float, float]  # C_T, AuthPct, near-duplicates
    fresh: tuple[float, float, float]
    heldout: Tensor  # [m], distances of the held-out data
    real: tuple[Tensor, Tensor] | None  # what `real_features` gives, where it was costly to make


@metric(
    Value("data_copying", "standard deviations", "neither"),
    Value("authenticity", "%", "neither"),
    Value("near_duplicates", "%", "neither"),
    name="data_copying",
)
@dataclass(frozen=True)
class DataCopying:
    """C_T (Meehan et al. 2020), AuthPct (Alaa et al. 2022) and near-duplicates, to be read beside their controls.

    C_T is about 0 for fresh data, very negative for copies, positive for samples off the data; a near-duplicate is
    nearer to a training example than all but 1 % of held-out data are. In the details stand a "verdict" in
    words, as `memorisation` has it, and "control_copies" and "control_heldout": what training examples, and one
    half of the held-out data against the other, score on the same data.

    Checked against SciPy's Mann-Whitney U (1e-6, relative), Meehan et al.'s −38.7 for copies (0.05), AuthPct of
    fresh data in two dimensions, 37.5 (4 standard errors).
    """

    n: int = 1000  # samples, and held-out examples at most
    cells: int = 1  # of k-means, in which samples and data are compared
    features: str = PIXELS  # that distances are of: pixels, classifier, inception or dinov2

    def __call__(
        self, model: Model, data: Data, reference: Once[Controls] | None = None
    ) -> tuple[Score, Score, Score]:
        samples = check_samples(model.samples(self.n), "samples", least=LEAST)
        controls = (reference or self.reference(data)).on(samples.device)
        train, test = controls.real or real_features(self.features, data, samples.device)
        seen = extractor(self.features, data, samples.device)(samples)
        to_train, to_test = find_nearest(seen, train), find_nearest(seen, test)
        ct = _three_samples(seen, train, test[: self.n], self.cells)
        ct = _with_verdict(ct, to_train, to_test, (len(train), len(test)))
        found = {
            "control_copies": dict(zip(NAMES, controls.copies, strict=True)),
            "control_heldout": dict(zip(NAMES, controls.fresh, strict=True)),
        }
        ct = replace(ct, details={**ct.details, **found})
        return ct, _authenticity(to_train, train), _duplicates(to_train.distance, controls.heldout)

    def reference(self, data: Data) -> Once[Controls]:
        """The controls, the same for all models."""
        if min(self.n, len(data.test)) < 2 * LEAST:
            raise SampleError(
                f"{data.name}: data copying needs at least {2 * LEAST} test examples; there are "
                f"{min(self.n, len(data.test))}"
            )
        return Once(lambda place: self._controls(data, place))

    def _controls(self, data: Data, place: device) -> Controls:
        train, every = real_features(self.features, data, place)
        test, copies = every[: self.n], train[: self.n]
        half = len(test) // 2
        heldout, near = find_nearest(test, train), find_nearest(copies, train)
        return Controls(
            (
                _three_samples(copies, train, test, self.cells).value,
                _authenticity(near, train).value,
                _duplicates(near.distance, heldout.distance).value,
            ),
            (
                _three_samples(test[:half], train, test[half:], self.cells).value,
                _authenticity(heldout, train).value,
                _duplicates(heldout.distance[:half], heldout.distance[half:]).value,
            ),
            heldout.distance,
            None if self.features == PIXELS else (train, every),
        )

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        where = "the data's own scale" if self.features == PIXELS else identity(self.features, data)
        return (
            f"{self.n} samples, the first {min(self.n, len(data.test))} test and all {len(data.train)} training "
            f"examples, Euclidean in {where}; C_T: {self.cells} k-means cells, those with at least "
            f"{LEAST} samples, weighted by held-out mass; AuthPct: % of samples no nearer to their nearest "
            "training example than that one is to its own; near-duplicates: nearer than all but "
            f"{100 * RARE:g} % of those test examples are to theirs"
        )
