"""A physics simulator as the generator, its parameters found by adversarial variational optimisation."""

from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch.nn.functional import softplus

from ganbench import Adam, BoostedDivergence, Search, method


@method(needs=("simulator",), provides=("parameters",))
@dataclass(frozen=True)
class AVO:
    """Louppe et al. 2017, Algorithm 1: adversarial variational optimisation of a simulator.

    The parameters are drawn from a Gaussian q (in the unit cube, mirrored at its faces, axes independent),
    the discriminator tells the data from what the simulator makes of them, and q descends E_q E log(1 −
    D(x)) by the score function: the mean over held-out examples x of (log(1 − D(x)) − its mean) · ∇ log q(θ
    of x). As Borisyak et al. 2020, the discriminator is made anew for each step, by boosting, at full or
    adaptive capacity. The sampler is the simulator at the mean of q, which starts in the middle of the
    ranges. In a suite `steps` is the number of simulator calls and `batch` the size of a comparison's first
    sample.

    The seeds run one after the other: their samples and discriminators differ in size.
    """

    capacity: Literal["full", "linear", "logarithmic"] = "full"  # of the discriminator; full: plain JSD
    gap: float = 0.03  # nats by which training examples may flatter the discriminator; else more are made
    trees: int = 100  # of the discriminator at full capacity
    depth: int = 3  # of a tree
    sigma: float = 0.2  # first standard deviation of q; 1: the range of a parameter
    lr: float = 1e-2  # of Adam, for the mean and the log of the standard deviation of q
    proposals: int = 16  # parameters drawn for each step

    def fit(self, data, seed, budget):
        search, optimiser = Search(data, seed, budget), Adam(self.lr, betas=(0.9, 0.999))
        divergence = BoostedDivergence(self.capacity, self.gap, self.trees, self.depth)
        q = torch.cat([torch.full((search.dimensions,), v) for v in (0.5, log(self.sigma))])
        state = optimiser.init(q)
        while search.left >= search.first:
            mean, std = q[: search.dimensions], q[search.dimensions :].exp()
            noise = torch.randn(self.proposals, search.dimensions, generator=search.generator)
            ensemble = Ensemble(search, folded(mean + std * noise))
            compared = divergence(search.real, ensemble, search.first, search.left)
            search.visit(mean, compared.divergence)
            loss = -softplus(compared.odds).float()  # log(1 − D)
            score = torch.cat([noise / std, noise**2 - 1], dim=1)  # ∇ log q, for the mean and for log σ
            owners = torch.cat(ensemble.owners)[1::2]
            q, state = optimiser.step(q, ((loss - loss.mean())[:, None] * score[owners]).mean(0), state)
            q[: search.dimensions].clamp_(0, 1)
        return search.found(q[: search.dimensions])


def folded(places):
    """Places that lie outside the unit cube mirrored at its faces until they lie in it."""
    return 1 - (places.remainder(2) - 1).abs()


class Ensemble:
    """The simulator at several places [K, P], of which each makes as many examples as the others."""

    def __init__(self, search, places):
        self.search, self.places = search, places
        self.owners = []  # of the examples made so far, the index of the place

    def __call__(self, n):
        """n examples [n, *shape], the K places in equal parts."""
        bounds = torch.linspace(0, n, len(self.places) + 1).round().long()
        counts = bounds.diff()
        self.owners.append(torch.repeat_interleave(torch.arange(len(self.places)), counts))
        pairs = zip(self.places, counts.tolist(), strict=True)
        return torch.cat([self.search.simulate(place, k) for place, k in pairs if k])
