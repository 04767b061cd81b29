"""Memorisation: are samples nearer to the training set than fresh data are?"""

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
from .once import Once

PANEL = 10  # fair draws in the picture
PIXELS = "pixels"
CLEAR = 3.0  # standard errors from which a difference counts; chance alone gives more once in 740 times


class Found(NamedTuple):
    """The nearest real example of each sample: how far, and which."""

    distance: Tensor  # [n], float64
    row: Tensor  # [n]


def find_nearest(samples: Tensor, real: Tensor) -> Found:
    """The nearest of `real` [m, *shape] to each of `samples` [n, *shape]."""
    distance, index = nearest(samples, real)
    return Found(distance[:, 0], index[:, 0])


# ---------------------------------------------------------------------------------------------- the verdict


class Leaning(NamedTuple):
    """Whether samples lie nearer to the training examples than to examples that took no part in training."""

    share: float  # of samples whose nearest real example is a training one, ties half
    chance: float  # that share for samples that know nothing of which is which
    sd: float  # its standard deviation then

    @property
    def z(self) -> float:
        """Standard deviations by which the share exceeds chance."""
        return (self.share - self.chance) / self.sd

    @property
    def rules_out(self) -> bool:
        """Whether the share is clearly below what it would be if half of the samples were copies."""
        return self.share + CLEAR * self.sd < (1 + self.chance) / 2


def leaning(to_train: Found, to_test: Found, n_train: int, n_test: int) -> Leaning:
    """How often the nearest real example of a sample is one of the `n_train` in the training set rather than
    one of the `n_test` beside it, against chance.

    Where nothing is copied, training and test examples can be exchanged. The share then has the mean p = N/M,
    N of M = N + m, and over all divisions of the M the variance p (1 − p) M/(M − 1) Σ (w − w̄)², where w are
    the shares of samples that each real example is nearest to: exact also for samples that are all alike.
    """
    total, n = n_train + n_test, len(to_train.distance)
    own = (to_train.distance < to_test.distance).double()
    own += (to_train.distance == to_test.distance).double() / 2
    weights = (
        torch.cat(
            [
                torch.bincount(to_train.row, own, n_train),
                torch.bincount(to_test.row, 1 - own, n_test),
            ]
        )
        / n
    )  # [M], add up to 1
    chance = n_train / total
    spread = weights.square().sum().item() - 1 / total
    sd = math.sqrt(max(chance * (1 - chance) * total / (total - 1) * spread, 0.0))
    return Leaning(own.mean().item(), chance, sd or math.inf)


def verdict(nearer: float, most: float, lean: Leaning) -> str:
    """What two tests say of copying, in words that begin with "copies", "no sign of copying", "far from the
    data" or "can't tell", and the numbers.

    nearer: standard errors by which samples are nearer to the training set than held-out data are; `most` for
        exact copies. Copies are nearer, but so are samples that keep to where data are dense.
    lean: whether they are nearer to training than to held-out examples. Copies are; samples that keep to where
        data are dense are not.

    A difference counts from three standard errors. Copies need both. Far from the data are samples that are
    further from the training set than held-out data, and do not lean to it. There is no sign of copying in
    samples that are nearer, only if the second test could have seen it if half of them were copies.
    """
    numbers = (
        f"{abs(nearer):.1f} standard errors {'nearer to' if nearer > 0 else 'further from'} the training set than "
        f"held-out data; the nearest real example is a training one for {100 * lean.share:.1f} % of samples, "
        f"{100 * lean.chance:.1f} % by chance, {abs(lean.z):.1f} standard deviations "
        f"{'more' if lean.z > 0 else 'less'}"
    )
    return f"{_judged(nearer, most, lean)} ({numbers})"


def _judged(nearer: float, most: float, lean: Leaning) -> str:
    leans = lean.z > CLEAR
    if most < 2 * CLEAR:  # half of which would not count
        return "can't tell: too few examples"
    if nearer > CLEAR:
        if leans:
            return "copies"
        dense = "they may only keep to where data are dense"
        return f"no sign of copying: {dense}" if lean.rules_out else f"can't tell: {dense}"
    if leans:
        return "can't tell: no nearer to the training set than data, yet drawn to it"
    if nearer < -CLEAR:
        return "far from the data: says nothing about copying"
    return "no sign of copying"


# ---------------------------------------------------------------------------------------------- the score


def memorisation(samples: Tensor, train: Tensor, test: Tensor) -> Score:
    """P(d_sample < d_test), ties counted half: the probability that a random sample of `samples` [n, *shape]
    is nearer to its nearest neighbour in `train` (Euclidean, pixel space) than a random example of `test`
    [m, *shape] is. Mann and Whitney's U / nm; ± is DeLong's standard error over samples and test examples.

    Read it against 0.5, which fresh data score: 1 is copies, or noise near them; below 0.5 the samples are
    further from the training set than data are, which may only mean that they are poor. Details: "verdict",
    which says so in words (by `verdict` in this file, with the larger of ± and its value for fresh data); "ct",
    the same statistic as Meehan et al. 2020 standardise it (C_T with one cell: about 0 for fresh data, very
    negative for copies); "distance_samples" [n] and "distance_heldout" [m]; "panel_samples" and
    "panel_neighbours" [10, *shape], the first samples and their nearest training examples (Goodfellow et
    al. 2014, figure 2).

    Raises SampleError for sets that are too small, of different shapes or not finite.
    """
    train = check_samples(train, "train")
    test = check_samples(test, "test", like=train, least=2)
    samples = check_samples(samples, "samples", like=train, least=2)
    to_train = find_nearest(samples, train)
    lean = leaning(to_train, find_nearest(samples, test), len(train), len(test))
    score = _compare(to_train, find_nearest(test, train).distance, lean)
    near = train[to_train.row[:PANEL]]
    return replace(score, details={**score.details, **_panel(samples, near)})


def _compare(to_train: Found, heldout: Tensor, lean: Leaning) -> Score:
    value, sem = _probability_below(to_train.distance, heldout)
    n, m = len(to_train.distance), len(heldout)
    null_sd = math.sqrt((n + m + 1) / (12 * n * m))
    u = (1 - value) * n * m  # pairs in which the sample is further
    details = {
        "verdict": verdict((value - 0.5) / max(sem, null_sd), 0.5 / null_sd, lean),
        "ct": (u - n * m / 2 + 0.5) / (n * m * null_sd),
        "distance_samples": to_train.distance,
        "distance_heldout": heldout,
    }
    return Score(value, sem, n, details)


def _panel(samples: Tensor, near: Tensor) -> dict[str, Tensor]:
    return {"panel_samples": samples[:PANEL], "panel_neighbours": near}


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
    real: tuple[Tensor, Tensor] | None  # what `real_features` gives, where it was costly to make


def real_features(name: str, data: Data, place: device) -> tuple[Tensor, Tensor]:
    """All training [N, d] and test [m, d] examples as the extractor `name` sees them."""
    seen = extractor(name, data, place)
    train, test = (seen(data.floats(x).to(place)) for x in (data.train, data.test))
    return train, test


@metric(Value("memorisation", "probability", "neither"), name="memorisation")
@dataclass(frozen=True)
class Memorisation:
    """P(a sample is nearer to the training set than held-out data): 0.5 is honest, 1 copies.

    Below 0.5 the samples are further from the training set than data are, which may only mean that they are
    poor: "lower" is right above 0.5 only. Beside it stand a verdict in words, and two controls on the same data:
    copies of training examples, and one half of the held-out data against the other.

    The verdict needs a second test, since samples that keep to where data are dense are nearer to the training
    set too: copies have a training example as their nearest real one, rather than one of all test examples,
    more often than by chance. Both count from three standard errors.

    Checked against SciPy's Mann-Whitney U (1e-6, relative), fresh data (4 standard errors), copies.
    """

    n: int = 2000  # samples, and held-out examples at most
    features: str = PIXELS  # that distances are of: pixels, classifier, inception or dinov2

    def __call__(self, model: Model, data: Data, reference: Once[Controls] | None = None) -> Score:
        samples = check_samples(model.samples(self.n), "samples", least=2)
        controls = (reference or self.reference(data)).on(samples.device)
        train, test = controls.real or real_features(self.features, data, samples.device)
        seen = extractor(self.features, data, samples.device)(samples)
        to_train = find_nearest(seen, train)
        lean = leaning(to_train, find_nearest(seen, test), len(train), len(test))
        score = _compare(to_train, controls.heldout, lean)
        near = data.floats(data.train[to_train.row[:PANEL].cpu()])
        found = {"control_copies": controls.copies, "control_heldout": controls.fresh}
        return replace(score, details={**score.details, **_panel(samples, near), **found})

    def reference(self, data: Data) -> Once[Controls]:
        """Distances of the held-out data and the controls, the same for all models."""
        if len(data.test) < 4:
            raise SampleError(
                f"{data.name}: memorisation needs at least 4 test examples; there are {len(data.test)}"
            )
        return Once(lambda place: self._controls(data, place))

    def _controls(self, data: Data, place: device) -> Controls:
        train, test = real_features(self.features, data, place)
        heldout, copies = (find_nearest(x[: self.n], train).distance for x in (test, train))
        half = len(heldout) // 2
        return Controls(
            heldout,
            _probability_below(copies, heldout)[0],
            _probability_below(heldout[:half], heldout[half:])[0],
            None if self.features == PIXELS else (train, test),
        )

    def protocol(self, data: Data) -> str:
        """What defines the number."""
        where = "the data's own scale" if self.features == PIXELS else identity(self.features, data)
        return (
            f"Euclidean distance to the nearest of {len(data.train)} training examples, in {where}; "
            f"P(d of a sample < d of a test example), ties half, over {self.n} samples and the first "
            f"{min(self.n, len(data.test))} test examples"
        )
