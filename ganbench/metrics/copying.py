"""Data copying: the three-sample test of Meehan et al. 2020, and authenticity (Alaa et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples, nearest

LEAST = 20  # samples in a cell that counts
FITTED = 10_000  # training examples that place the cells


def data_copying(samples: Tensor, train: Tensor, test: Tensor, *, cells: int = 1) -> Score:
    """C_T, the three-sample test of `samples` [n, *shape] against `test` [m, *shape] by their distances to
    `train` (Meehan et al. 2020, section 4): standard deviations by which samples lie further from their
    nearest training example than held-out data do. About 0 for fresh data; far below for copies (−38.7 for
    exact ones at n = m = 1000 in one cell); far above for samples that lie off the data.

    Within each of `cells` cells (k-means on the training set) Mann and Whitney's U over pairs, with distances
    to training examples of that cell, ties half, continuity-corrected and standardised; then the mean over the
    cells that hold at least 20 samples, weighted by held-out mass. Details: "cells" [c], the statistic of
    those; "weights" [c]; "null_sd", the spread of C_T when there is no copying. There is no standard error:
    C_T is itself in units of its spread, and grows with √n.

    Raises SampleError for sets that are too small, of different shapes or not finite, and where no cell holds
    enough samples, or one holds no test example.
    """
    train = check_samples(train, "train")
    test = check_samples(test, "test", like=train, least=2)
    samples = check_samples(samples, "samples", like=train, least=LEAST)
    of_train, of_test, of_samples = _partition(cells, train, test, samples)
    found, weights = [], []
    for cell in range(cells):
        inside = samples[of_samples == cell]
        held = test[of_test == cell]
        if len(inside) < LEAST or not len(held):
            continue
        own = train[of_train == cell]
        found.append(_standardised(nearest(inside, own)[0][:, 0], nearest(held, own)[0][:, 0]))
        weights.append(len(held))
    if not found:
        raise SampleError(
            f"samples: none of {cells} cells holds {LEAST} samples and a test example; use fewer cells, or more"
        )
    share = torch.tensor(weights).double() / sum(weights)
    each = torch.tensor(found).double()
    details = {"cells": each, "weights": share, "null_sd": share.norm().item()}
    return Score((share * each).sum().item(), None, len(samples), details)


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
    distance, index = nearest(samples, train)
    near, position = index[:, 0].unique(return_inverse=True)
    gap = nearest(train[near], train, 2)[0][:, 1]  # the first is the example itself
    share, n = (distance[:, 0] >= gap[position]).double().mean().item(), len(samples)
    return Score(100 * share, 100 * math.sqrt(share * (1 - share) / n), n)


class Controls(NamedTuple):
    """What copies and held-out data score on the same data."""

    copies: tuple[float, float]  # C_T, AuthPct
    fresh: tuple[float, float]


@metric(
    Value("data_copying", "standard deviations", "neither"),
    Value("authenticity", "%", "neither"),
    name="data_copying",
)
@dataclass(frozen=True)
class DataCopying:
    """C_T (Meehan et al. 2020) and AuthPct (Alaa et al. 2022), to be read beside their controls.

    C_T is about 0 for fresh data, very negative for copies, positive for samples off the data. In the details
    "control_copies" and "control_heldout" are what training examples, and one half of the held-out data
    against the other, score on the same data.
    """

    n: int = 1000  # samples, and held-out examples at most
    cells: int = 1  # of k-means, in which samples and data are compared

    def __call__(self, model: Model, data: Data, reference: Controls | None = None) -> tuple[Score, Score]:
        controls = reference or self.reference(data)
        samples = model.samples(self.n)
        train, test = (data.floats(x).to(samples.device) for x in (data.train, data.test[: self.n]))
        ct = data_copying(samples, train, test, cells=self.cells)
        auth = authenticity(samples, train)
        found = {
            "control_copies": dict(zip(("ct", "authenticity"), controls.copies, strict=True)),
            "control_heldout": dict(zip(("ct", "authenticity"), controls.fresh, strict=True)),
        }
        return Score(ct.value, None, ct.n, {**ct.details, **found}), auth

    def reference(self, data: Data) -> Controls:
        """The controls, the same for all models."""
        train, test = data.floats(data.train), data.floats(data.test[: self.n])
        if len(test) < 2 * LEAST:
            raise SampleError(
                f"{data.name}: data copying needs at least {2 * LEAST} test examples; there are {len(test)}"
            )
        copies, half = train[: self.n], len(test) // 2
        return Controls(
            (
                data_copying(copies, train, test, cells=self.cells).value,
                authenticity(copies, train).value,
            ),
            (
                data_copying(test[:half], train, test[half:], cells=self.cells).value,
                authenticity(test, train).value,
            ),
        )

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        return (
            f"{self.n} samples, the first {min(self.n, len(data.test))} test and all {len(data.train)} training "
            f"examples, Euclidean in the data's own scale; C_T: {self.cells} k-means cells, those with at least "
            f"{LEAST} samples, weighted by held-out mass; AuthPct: % of samples no nearer to their nearest "
            "training example than that one is to its own"
        )
