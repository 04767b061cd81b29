"""Held-out data that are made worse in one way, by a known amount."""

import math
import zlib
from dataclasses import dataclass
from typing import Literal

import torch

from ganbench import PluginError, method, random_subset
from ganbench.metrics.modes import FittedGaussian

BANDWIDTH_EXAMPLES = (
    1000  # validation examples on which `kde_ll` chooses its bandwidth; they are never samples
)
CENTROIDS = 1000
ITERATIONS = 10  # of k-means
BLUR_REACH = 4.0  # standard deviations after which the kernel of the blur ends


@method
@dataclass(frozen=True)
class Corrupted:
    """Xu et al. 2018, section 3, and Theis et al. 2016, section 3.2: real examples with one fault of known strength.

    Samples are validation examples, so that strength 0 is what a perfect generator gives: nothing of the training or
    test set is shown, and nothing is learned. The first 1000 of them in the order of `random_subset` (at most half) are
    left out, since `kde_ll` chooses its bandwidth on them; `kde_ll_cv` and `kde_ll_folds` use all, and are no measure
    of these samples. Where more samples are wanted than there are examples, all come again. Every fault and strength
    draws examples of its own. Images are rounded to bytes, as data are.

    The faults, and what their strength is:

    none: a perfect generator; no strength
    dropped: the last modes (or classes) are missing; share of the modes, rounded, of which at least one stays
    skewed: the weight of mode k = 0, 1, ... is multiplied by (1 - strength)^k
    blur: of images, with a Gaussian kernel; its standard deviation in pixels
    noise: normal noise in every number; its standard deviation, in root mean square standard deviations of the data
    copies: examples of the training set; share of the samples
    centroids: centres of 1000 k-means clusters of the training set (Theis et al. 2016); share of the samples
    gaussian: draws of the Gaussian with the mean and covariance of the training set; share of the samples
    smeared: examples with so much noise that neighbouring modes merge, or with one standard deviation of the data where
    there are no modes; share of the samples
    colours: first and last channel of images change places; share of the samples

    Raises PluginError for a strength that is out of range and for data that cannot have the fault.
    """

    fault: Literal[
        "none", "dropped", "skewed", "blur", "noise", "copies", "centroids", "gaussian", "smeared", "colours"
    ] = "none"  # what is wrong with the samples
    strength: float = 0.0  # how much of it; see above

    def fit(self, data, seed, budget):
        most = math.inf if self.fault in ("blur", "noise") else 1.0
        if not 0 <= self.strength <= most or (self.fault == "none" and self.strength):
            raise PluginError(
                f"corrupted: strength of {self.fault} must be 0 to {most:g}, got {self.strength}"
            )
        if (self.fault == "blur" and len(data.shape) != 3) or (
            self.fault == "colours" and (len(data.shape) != 3 or data.shape[0] != 3)
        ):
            shape = list(data.shape)
            raise PluginError(f"corrupted: {data.name} has examples {shape}, which cannot have {self.fault}")
        every = random_subset(torch.arange(len(data.valid)), len(data.valid))
        rows = every[min(BANDWIDTH_EXAMPLES, len(every) // 2) :]
        train, held = data.floats(data.train), data.floats(data.valid[rows])
        scale = train.flatten(1).var(0).mean().sqrt().item()
        if self.fault in ("dropped", "skewed"):
            modes, count = mode_of_each(data)
            weights = mode_weights(self.fault, self.strength, torch.bincount(modes[rows], minlength=count))
        if self.fault == "centroids":
            centres = k_means(train, CENTROIDS, torch.Generator().manual_seed(seed))
        if self.fault == "gaussian":
            gaussian = FittedGaussian(train.flatten(1))

        def sampler(n, generator):
            """n samples; images as bytes."""
            # The same seed has the same generator in every cell, and cells that share examples would not be
            # independent of each other, as two generators' samples are.
            draw = torch.randint(2**31, (), generator=generator, device=generator.device).item()
            own = torch.Generator().manual_seed(zlib.crc32(f"{self.fault} {self.strength} {draw}".encode()))
            if self.fault in ("dropped", "skewed"):
                x = held[weighted_rows(modes[rows], weights, n, own)]
            else:
                x = held[repeated(len(held), n, own)]
            if self.fault == "blur":
                x = blurred(x, self.strength)
            elif self.fault == "noise":
                x = x + self.strength * scale * torch.randn(x.shape, generator=own)
            elif self.fault == "copies":
                x = replaced(x, train[repeated(len(train), n, own)], self.strength, own)
            elif self.fault == "centroids":
                x = replaced(x, centres[repeated(len(centres), n, own)], self.strength, own)
            elif self.fault == "gaussian":
                x = replaced(x, gaussian.draw(n, own).reshape(x.shape), self.strength, own)
            elif self.fault == "smeared":
                noise = merging_noise(data.modes) if data.modes else scale
                x = replaced(x, x + noise * torch.randn(x.shape, generator=own), self.strength, own)
            elif self.fault == "colours":
                x = replaced(x, x.flip(1), self.strength, own)
            return as_stored(x, data)

        return sampler


def repeated(count, n, generator):
    """`n` row numbers [n] below `count` in random order: each once, then all again in another order."""
    rounds = -(-n // count)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])[:n]


def replaced(x, others, share, generator):
    """`x` [n, *shape], in which each example is that of `others` with probability `share`."""
    chosen = torch.rand(len(x), generator=generator) < share
    return torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), others, x)


def mode_of_each(data):
    """The mode, or else the class, of each validation example [N], and their number. Raises PluginError where the data
    have neither."""
    if data.modes:
        apart = torch.cdist(data.valid.flatten(1), data.modes.centers.flatten(1).to(data.valid.dtype))
        return apart.argmin(1), len(data.modes.centers)
    if data.labels is None:
        raise PluginError(
            f"corrupted: {data.name} has neither modes nor labels, so that no mode can be missing"
        )
    return data.labels.valid, len(data.classes) or int(data.labels.valid.max()) + 1


def mode_weights(fault, strength, counts):
    """Probabilities [K] of the modes whose held-out examples are `counts` [K], with the fault."""
    k = torch.arange(len(counts))
    if fault == "dropped":
        kept = max(1, len(counts) - round(strength * len(counts)))
        weights = counts * (k < kept).double()
    else:
        weights = counts * (1 - strength) ** k.double()
    return weights / weights.sum()


def weighted_rows(modes, weights, n, generator):
    """`n` row numbers [n], of which each is of mode k with probability weights[k]; the rows of a mode as in
    `repeated`. modes [N], weights [K]."""
    wanted = torch.multinomial(weights, n, replacement=True, generator=generator)
    rows = torch.empty(n, dtype=torch.int64)
    for k in wanted.unique():
        places, own = (wanted == k).nonzero()[:, 0], (modes == k).nonzero()[:, 0]
        rows[places] = own[repeated(len(own), len(places), generator)]
    return rows


def blurred(x, std):
    """Images [n, C, H, W] under a Gaussian kernel of `std` pixels; beyond the edge an image goes on as it ends."""
    if std == 0:
        return x
    reach = math.ceil(BLUR_REACH * std)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1).double() ** 2) / (2 * std**2)).to(x.dtype)
    kernel = kernel / kernel.sum()
    n, channels, height, width = x.shape
    flat = torch.nn.functional.pad(x.reshape(n * channels, 1, height, width), [reach] * 4, mode="replicate")
    along = torch.nn.functional.conv2d(flat, kernel.view(1, 1, 1, -1))
    return torch.nn.functional.conv2d(along, kernel.view(1, 1, -1, 1)).view(x.shape)


def merging_noise(modes):
    """Standard deviation of the noise with which neighbouring modes merge: as in the control "floor_smeared" of
    `modes`, that of a mode becomes half the largest distance of nearest centres."""
    apart = torch.cdist(modes.centers, modes.centers).fill_diagonal_(math.inf)
    return math.sqrt(max((apart.min(1).values.max().item() / 2) ** 2 - modes.std**2, 0.0))


def k_means(x, count, generator):
    """Centres [count, *shape] of clusters of `x` [N, *shape], by Lloyd's iterations from random examples; all examples
    where there are no more than `count`. A cluster without examples keeps its centre."""
    flat = x.flatten(1)
    centres = flat[torch.randperm(len(flat), generator=generator)[:count]].clone()
    for _ in range(ITERATIONS):
        nearest = torch.cat([torch.cdist(part, centres).argmin(1) for part in flat.split(2000)])
        sums = torch.zeros_like(centres).index_add_(0, nearest, flat)
        sizes = torch.bincount(nearest, minlength=len(centres))[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return centres.reshape(-1, *x.shape[1:])


def as_stored(x, data):
    """Samples in the data's scale; images rounded to bytes, a quarter of the disk."""
    if data.train.dtype != torch.uint8:
        return x
    low, high = data.scale
    return ((x - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)
