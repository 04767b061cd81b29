"""Memorisation: are samples nearer to the training set than held-out data are?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, device

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples, nearest
from .extractors import PIXELS, extractor, space, space_fields
from .per_device import PerDevice
from .statistics import halves_below
from .subset import random_subset

PICTURE_SAMPLES = 10  # in the figure: the first, which are not selected
MIN_Z = 3.0  # standard errors of a difference that counts; by chance it is exceeded once in 740 times
TIE_RATIO = 1 + 1e-12  # distances up to this ratio are equal: float64 sums in different orders
DUPLICATE_RADIUS = 1e-5  # times the median distance: the rounding error between two equal examples


# ---------------------------------------------------------------------------------------------- equal examples


def row_keys(x: Tensor) -> np.ndarray:
    """A 64-bit hash of each example of `x` [n, *shape]: [n], equal for equal examples (0 and -0 are equal)."""
    keys = bytearray()
    for block in x.flatten(1).split(4096):
        for row in (block + torch.zeros((), dtype=x.dtype)).cpu().numpy():  # -0 + 0 is 0
            keys += blake2b(row, digest_size=8).digest()
    return np.frombuffer(bytes(keys), np.uint64)


class Overlap(NamedTuple):
    """Equal examples in the training and the test split. All are 0, and `copies` is 1, if there are none."""

    test: float  # share of the test examples that equal a training example
    train: float  # share of the training examples that equal a test example
    copies: float  # `Nearness.share` of a sampler that copies training examples
    pairs: int  # pairs of an equal training and test example


def overlap(train: Tensor, test: Tensor) -> Overlap:
    """The overlap of `train` [N, *shape] and `test` [m, *shape]."""
    n = len(train)
    if train.dtype != test.dtype:
        train, test = train.float(), test.float()
    keys = np.concatenate([row_keys(train), row_keys(test)])
    group = np.unique(keys, return_inverse=True)[1]
    of_train, of_test = (np.bincount(part, minlength=group.max() + 1) for part in (group[:n], group[n:]))
    return Overlap(
        of_test[of_train > 0].sum() / len(test),
        of_train[of_test > 0].sum() / n,
        (of_train**2 / (of_train + of_test)).sum() / n,
        int(of_train @ of_test),
    )


# ---------------------------------------------------------------------------------------------- neighbours


class Nearest(NamedTuple):
    """The nearest real examples of each sample. Equal real examples form a group; several groups may be at the same
    distance from a sample."""

    distance: Tensor  # [n], float64
    row: Tensor  # [n], index of the nearest real example, the first of several
    sample: Tensor  # [p], the sample of each pair of a sample and a nearest group
    group: Tensor  # [p], the group of each pair
    sizes: Tensor  # [u], float64, the number of real examples in each group


def find_nearest(samples: Tensor, real: Tensor) -> Nearest:
    """The nearest of `real` [m, *shape] to each of `samples` [n, *shape], including all ties."""
    distance, index = nearest(samples, real, min(2, len(real)))
    sample, row = torch.arange(len(samples), device=real.device), index[:, 0]
    tied = distance[:, -1] <= distance[:, 0] * TIE_RATIO
    if len(real) == 1 or not tied.any():
        sizes = torch.ones(len(real), dtype=torch.float64, device=real.device)
        return Nearest(distance[:, 0].contiguous(), row, sample, row, sizes)

    # Grouping equal examples takes time, so it is done only if there are ties.
    first, group, sizes = (
        torch.as_tensor(x.astype(np.int64), device=real.device)
        for x in np.unique(row_keys(real), return_index=True, return_inverse=True, return_counts=True)[1:]
    )
    examples = real[first]
    pairs = [torch.stack([sample[~tied], group[row[~tied]]])]
    rest, k = sample[tied], 1
    while len(rest):  # until the k-th nearest group is further away than the first
        k = min(4 * k, len(examples))
        near, index = nearest(samples[rest], examples, k)
        equal = near <= near[:, :1] * TIE_RATIO
        full = equal[:, -1] & (k < len(examples))
        at, column = (equal & ~full[:, None]).nonzero(as_tuple=True)
        pairs.append(torch.stack([rest[at], index[at, column]]))
        rest = rest[full]
    sample, group = torch.cat(pairs, dim=1)
    row = torch.full_like(row, len(real)).scatter_reduce(0, sample, first[group], "amin")
    return Nearest(distance[:, 0].contiguous(), row, sample, group, sizes.double())


# ---------------------------------------------------------------------------------------------- the verdict


class Nearness(NamedTuple):
    """Whether samples are nearer to training examples than to test examples."""

    share: float  # of samples whose nearest real example is a training example
    chance: float  # expected share of samples that do not depend on which examples are for training
    sd: float  # standard deviation of the share of such samples
    copies: float  # share of a sampler that copies training examples

    @property
    def z(self) -> float:
        """The number of standard deviations by which the share exceeds chance."""
        return (self.share - self.chance) / self.sd

    @property
    def rules_out(self) -> bool:
        """Whether the share is significantly below its value if half of the samples were copies."""
        return self.share + MIN_Z * self.sd < (self.copies + self.chance) / 2


def nearness_test(to_train: Nearest, to_test: Nearest, copies: float) -> Nearness:
    """How often the nearest real example of a sample is one of the N training examples rather than one of the m test
    examples, compared with chance; `copies` is that of `Overlap`. If several real examples tie, a sample counts as the
    share of training examples among them.

    If nothing is copied, training and test examples are exchangeable. Each sample distributes a weight of 1/n evenly
    over its nearest among the M = N + m examples, and the share is the total weight w of the N. Over all splits of the
    M examples it has the mean p = N/M, with or without ties, and the variance p (1 − p) M/(M − 1) Σ (w − w̄)². This is
    exact even for samples that are all equal.
    """
    n, n_train, n_test = len(to_train.distance), to_train.sizes.sum().item(), to_test.sizes.sum().item()
    limit = torch.minimum(to_train.distance, to_test.distance) * TIE_RATIO  # of the nearest of both sets
    sides, among = [], torch.zeros(n, dtype=torch.float64, device=limit.device)
    for side in (to_train, to_test):
        near = side.distance[side.sample] <= limit[side.sample]
        sample, group = side.sample[near], side.group[near]
        among += torch.bincount(sample, side.sizes[group], n)
        sides.append((sample, group, side.sizes))
    weights = [
        torch.bincount(group, 1 / (n * among[sample]), len(sizes)) for sample, group, sizes in sides
    ]  # of each example of a group
    share = (weights[0] * to_train.sizes).sum().item()
    total = n_train + n_test
    spread = (
        sum((w.square() * s).sum().item() for w, (_, _, s) in zip(weights, sides, strict=True)) - 1 / total
    )
    chance = n_train / total
    sd = math.sqrt(max(chance * (1 - chance) * total / (total - 1) * spread, 0.0))
    return Nearness(share, chance, sd if sd > 1e-12 else math.inf, copies)


class Exact(NamedTuple):
    """Samples that equal a real example, and whether there are too many of them."""

    n: int  # samples
    train: int  # samples that equal a training example
    test: int  # samples that equal a test example
    overlap: Overlap
    more_train: bool  # samples equal training examples more often than test examples do
    more_test: bool  # samples equal test, and no training, examples more often than training examples do
    copies_train: bool  # so often that they must be copies of training examples
    copies_test: bool  # so often that they must be copies of test examples

    @property
    def counts(self) -> dict[str, int]:
        """The numbers in the details of a score."""
        return {"exact_train": self.train, "exact_test": self.test}

    def __str__(self) -> str:
        if not self.train + self.test:
            return "no sample equals a training or test example"
        parts = (
            f"{count} of {self.n} samples ({100 * count / self.n:.1f} %) equal a {kind} example, and "
            f"{100 * chance:.1f} % of the {other} examples do"
            for count, kind, chance, other in (
                (self.train, "training", self.overlap.test, "test"),
                (self.test, "test", self.overlap.train, "training"),
            )
        )
        return "; ".join(parts)


def exact_copies(
    samples: Tensor, to_train: Nearest, to_test: Nearest, heldout: Tensor, shared: Overlap
) -> Exact:
    """Which of `samples` [n, *shape] (not their features) equal a real example up to rounding. `heldout` [m] are the
    distances of test examples to their nearest training example, the scale of distances between different examples.

    Samples equal real examples more often than data do if the counts differ by Fisher's exact test at three standard
    errors. If the data hold equal examples, there are two possible reasons: copies, or samples that stay at frequent
    examples. The latter repeat each other too. With probabilities q of samples and p of data, the frequency of equal
    pairs is Σ qp for a sample and an example, Σ q² for two samples and Σ p² for two examples, and
    (Σ qp)² ≤ Σ q² Σ p² (Cauchy-Schwarz). Samples count as copies if the left side is more than four times the right
    side, with every number of pairs moved by three standard errors in favour of the samples.
    """
    usual = heldout[heldout > 0]
    radius = DUPLICATE_RADIUS * usual.median().item() if len(usual) else 0.0
    n, n_train, n_test = len(samples), *(round(x.sizes.sum().item()) for x in (to_train, to_test))
    in_train, in_test = (side.distance <= radius for side in (to_train, to_test))
    only = in_test & ~in_train
    repeats = np.unique(row_keys(samples), return_counts=True)[1]
    among_samples = _upper_limit((repeats * (repeats - 1)).sum() / 2) / (n * (n - 1) / 2)
    among_real = _upper_limit(shared.pairs) / (n_train * n_test)
    more, known = [], []
    for side, chosen, size, chance, others in (
        (to_train, in_train, n_train, shared.test, n_test),
        (to_test, only, n_test, shared.train, n_train),
    ):
        pairs = side.sizes[side.group[chosen[side.sample]]].sum().item()
        crossed = max(math.sqrt(pairs) - MIN_Z / 2, 0.0) ** 2 / (n * size)
        more.append(_is_more_often(chosen, side.row, chance, others))
        known.append(more[-1] and crossed**2 > 4 * among_samples * among_real)
    return Exact(n, int(in_train.sum()), int(in_test.sum()), shared, *more, *known)


def _upper_limit(count: float) -> float:
    """A Poisson number plus three standard errors (by its square root, whose standard deviation is ½)."""
    return (math.sqrt(count + 1) + MIN_Z / 2) ** 2


def _is_more_often(chosen: Tensor, row: Tensor, share: float, m: int) -> bool:
    """Whether the share of `chosen` samples [n] is higher than a `share` of `m` examples, by Fisher's exact test. The n
    samples count as 1 / Σ w² independent ones, where w are the shares of chosen samples with the same `row`."""
    from scipy.stats import hypergeom

    n, count = len(chosen), int(chosen.sum())
    if not count:
        return False
    squares = torch.bincount(row[chosen]).double().square().sum().item() + n - count
    independent = max(1, round(n * n / squares))
    hits, expected = round(count / n * independent), round(share * m)
    tail = hypergeom.sf(hits - 1, independent + m, hits + expected, independent)
    return bool(tail < math.erfc(MIN_Z / math.sqrt(2)) / 2)


def verdict(nearer: float, most: float, nearness: Nearness, exact: Exact) -> str:
    """The verdict on copying and its numbers, in words that begin with "copies", "no sign of copying", "far from the
    data" or "can't tell".

    nearer: standard errors by which samples are nearer to the training set than held-out data are
    most: the same for exact copies. Copies are nearer, but so are samples that stay where data are dense
    nearness: whether they are nearer to training than to test examples. Copies are; samples that stay where data are
        dense are not
    exact: samples that equal training or test examples

    A difference counts if it is at least three standard errors. Copies: both of the first two differences count, or
    `exact` says so. "copies of test examples" (samples made from real data): `exact` says so, or samples equal test
    examples more often than data do and are nearer to the test set. Far from the data: samples are further from the
    training set than held-out data are, and nearer to neither set. "no sign of copying" needs, for samples that are
    nearer, that the second difference would have been seen if half of them were copies; for others, that they do not
    equal training examples more often than data do.
    """
    numbers = (
        f"{abs(nearer):.1f} standard errors {'nearer to' if nearer > 0 else 'further from'} the training set than "
        f"held-out data; the nearest real example is a training one for {100 * nearness.share:.1f} % of samples, "
        f"{100 * nearness.chance:.1f} % by chance, {abs(nearness.z):.1f} standard deviations "
        f"{'more' if nearness.z > 0 else 'less'}; {exact}"
    )
    return f"{_finding(nearer, most, nearness, exact)} ({numbers})"


def _finding(nearer: float, most: float, nearness: Nearness, exact: Exact) -> str:
    leans, near = nearness.z > MIN_Z, nearer > MIN_Z
    enough = most >= 2 * MIN_Z  # half of which would count
    train = exact.copies_train or (enough and near and leans)
    test = exact.copies_test or (exact.more_test and nearness.z < -MIN_Z)
    if train or test:
        return "copies" if not test else f"copies of {'training and ' if train else ''}test examples"
    if not enough:
        few = (
            "too few examples" if exact.overlap.test < 0.5 else "most test examples are training examples too"
        )
        return f"can't tell: {few}"
    if nearness.z < -MIN_Z:
        return "can't tell: nearer to the test set than to the training set"
    if near:
        dense = "samples may just concentrate where data are dense"
        known = nearness.rules_out and not (exact.more_train and exact.more_test)
        return f"no sign of copying: {dense}" if known else f"can't tell: {dense}"
    if exact.more_train:
        return "can't tell: more samples than data equal training examples"
    if leans:
        return (
            "can't tell: no nearer to the training set than data are, but nearer to it than to the test set"
        )
    if nearer < -MIN_Z:
        return "far from the data: says nothing about copying"
    return "no sign of copying"


# ---------------------------------------------------------------------------------------------- the score


def memorisation(samples: Tensor, train: Tensor, test: Tensor) -> Score:
    """P(d_sample < d_test), ties counted half: the probability that a random sample of `samples` [n, *shape] is nearer
    to its nearest neighbour in `train` (Euclidean) than a random example of `test` [m, *shape] is to its own. The
    Mann-Whitney U / nm; ± is DeLong's standard error over samples and test examples.

    Fresh data score 0.5; copies, or samples with noise near them, score 1. Below 0.5 the samples are further from the
    training set than data are, which may only mean that they are poor. The `verdict` says so in words (function
    `verdict`, with the larger of ± and its value for fresh data). Details: "exact_train" and "exact_test", the numbers
    of samples that equal a training and a test example; "ct", the same statistic standardised as by Meehan et al. 2020
    (C_T with one cell: about 0 for fresh data, very negative for copies); "distance_samples" [n] and
    "distance_heldout" [m]; "panel_samples" and "panel_neighbours" [10, *shape], the first samples and their nearest
    training examples (Goodfellow et al. 2014, figure 2).

    Raises SampleError for sets that are too small, of different shapes or not finite.
    """
    train = check_samples(train, "train")
    test = check_samples(test, "test", like=train, least=2)
    samples = check_samples(samples, "samples", like=train, least=2)
    to_train, to_test = find_nearest(samples, train), find_nearest(samples, test)
    score = _compare(samples, to_train, to_test, nearest(test, train)[0][:, 0], overlap(train, test))
    near = train[to_train.row[:PICTURE_SAMPLES]]
    return replace(score, details={**score.details, **_panel(samples, near)})


def _compare(samples: Tensor, to_train: Nearest, to_test: Nearest, heldout: Tensor, shared: Overlap) -> Score:
    value, sem = _probability_below(to_train.distance, heldout)
    n, m = len(to_train.distance), len(heldout)
    null_sd = math.sqrt((n + m + 1) / (12 * n * m))
    most = (
        (heldout > 0).double().mean().item() / 2 / null_sd
    )  # exact copies tie with held-out examples at distance 0
    u = (1 - value) * n * m  # pairs in which the sample is further from the training set
    exact = exact_copies(samples, to_train, to_test, heldout, shared)
    nearness = nearness_test(to_train, to_test, shared.copies)
    details = {
        **exact.counts,
        "ct": (u - n * m / 2 + 0.5) / (n * m * null_sd),
        "distance_samples": to_train.distance,
        "distance_heldout": heldout,
    }
    words = verdict((value - 0.5) / max(sem, null_sd), most, nearness, exact)
    return Score(value, sem, n, details, verdict=words)


def _panel(samples: Tensor, near: Tensor) -> dict[str, Tensor]:
    return {"panel_samples": samples[:PICTURE_SAMPLES], "panel_neighbours": near}


def _probability_below(x: Tensor, y: Tensor) -> tuple[float, float]:
    """P(x < y) + P(x = y) / 2 and its standard error (DeLong et al. 1988), from the placement of each x among the y and
    of each y among the x."""
    among_y, among_x = _share_below(x, y), _share_below(y, x)
    variance = among_y.var() / len(x) + among_x.var() / len(y)
    return 1 - among_y.mean().item(), math.sqrt(variance.item())


def _share_below(x: Tensor, y: Tensor) -> Tensor:
    """The share of `y` that is less than each of `x`, ties counted half."""
    return halves_below(x, y) / (2.0 * len(y))


class Controls(NamedTuple):
    """The held-out distances, and the values of copies and of fresh data on the same data."""

    heldout: Tensor  # [m]
    copies: float
    fresh: float
    shared: Overlap
    real: tuple[Tensor, Tensor] | None  # `real_features`, if they are expensive; None for pixels


def real_features(name: str, data: Data, place: device) -> tuple[Tensor, Tensor]:
    """Features of all training [N, d] and test examples [m, d] by the extractor `name`."""
    extract = extractor(name, data, place)
    train, test = (extract(data.floats(x).to(place)) for x in (data.train, data.test))
    return train, test


@metric(Value("memorisation", "probability", "neither"), name="memorisation", version=2)
@dataclass(frozen=True)
class Memorisation:
    """P(a sample is nearer to the training set than held-out data): 0.5 without memorisation, 1 for copies.

    Below 0.5 the samples are further from the training set than data are, which may only mean that they are poor:
    lower is better only above 0.5. There is a verdict in words, and two controls on the same data: copies of training
    examples, and one half of the held-out data against the other.

    The verdict uses a second test, since samples that stay where data are dense are nearer to the training set too: the
    nearest real example of a copy is a training rather than a test example, more often than by chance. If several real
    examples tie, a sample counts as the share of training examples among them. Both differences count from three
    standard errors. Samples that equal training or test examples are counted too; they are copies if there are more
    than a sampler of the most frequent data would make.

    Checked against SciPy's Mann-Whitney U (1e-6, relative), fresh data (4 standard errors), copies; the verdict
    against simulated integers, splits that hold equal examples, and leaked data.
    """

    n: int = 2000  # samples, and held-out examples at most
    features: str = PIXELS  # for the distances: pixels, classifier, inception or dinov2

    def __call__(self, model: Model, data: Data, reference: PerDevice[Controls] | None = None) -> Score:
        samples = check_samples(model.samples(self.n), "samples", least=2)
        controls = (reference or self.reference(data)).on(samples.device)
        train, test = controls.real or real_features(self.features, data, samples.device)
        features = extractor(self.features, data, samples.device)(samples)
        to_train, to_test = find_nearest(features, train), find_nearest(features, test)
        score = _compare(samples, to_train, to_test, controls.heldout, controls.shared)
        near = data.floats(data.train[to_train.row[:PICTURE_SAMPLES].cpu()])
        values = {"copies": controls.copies, "heldout": controls.fresh}
        return replace(score, details={**score.details, **_panel(samples, near)}, controls=values)

    def reference(self, data: Data) -> PerDevice[Controls]:
        """Distances of the held-out data and the controls, the same for all models."""
        if len(data.test) < 4:
            raise SampleError(
                f"{data.name}: memorisation needs at least 4 test examples; there are {len(data.test)}"
            )
        return PerDevice(lambda place: self._controls(data, place))

    def _controls(self, data: Data, place: device) -> Controls:
        train, test = real_features(self.features, data, place)
        heldout, copies = (nearest(random_subset(x, self.n), train)[0][:, 0] for x in (test, train))
        half = len(heldout) // 2
        return Controls(
            heldout,
            _probability_below(copies, heldout)[0],
            _probability_below(heldout[:half], heldout[half:])[0],
            overlap(data.floats(data.train), data.floats(data.test)),
            None if self.features == PIXELS else (train, test),
        )

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        where = space(self.features, data)
        return (
            f"Euclidean distance to the nearest of {len(data.train)} training examples, in {where}; "
            f"P(d of a sample < d of a test example), ties half, over {self.n} samples and "
            f"{min(self.n, len(data.test))} random test examples"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {
            "train": len(data.train),
            "test": min(self.n, len(data.test)),
            "space": space_fields(self.features, data),
        }
