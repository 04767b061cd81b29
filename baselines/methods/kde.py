"""The training set itself."""

from dataclasses import dataclass

import torch

from ganbench import method


@method
@dataclass(frozen=True)
class KDE:
    """Nowozin et al. 2016, Table 4, last row: the training images as samples.

    Nothing is learned. Under `kde_ll` this is the kernel density estimate of the training set, the ceiling
    beside which a sampler's value should be read (though Theis et al. 2016 show that k-means centroids pass
    it); under `memorisation` it is the copier that must be caught.
    """

    def fit(self, data, seed, budget):
        def sampler(n, generator):
            """n training examples in random order; when all are used, all of them again."""
            rounds = -(-n // len(data.train))
            order = [
                torch.randperm(len(data.train), generator=generator, device=generator.device)
                for _ in range(rounds)
            ]
            return data.floats(data.train[torch.cat(order)[:n].to(data.train.device)])

        return sampler
