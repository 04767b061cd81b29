"""The data themselves."""

from dataclasses import dataclass

import torch

from ganbench import method


@method
@dataclass(frozen=True)
class Heldout:
    """Meehan et al. 2020, section 2: validation examples as samples, the honest sampler beside which `kde` copies.

    Samples of a perfect model are as far from the training set as held-out data are. Nothing is learned (so nothing is
    stacked), and no example of the training or test set is shown. As a control for scores against the test set it
    gives what no sampler can be expected to pass: under `memorisation` 0.5, under `data_copying` about 0. Two cases
    are not meaningful: `kde_ll`, which takes its bandwidth from the validation examples, so that here each lies on
    its own kernel and the bandwidth comes out too small; and any score of more samples than there are validation
    examples (`digits` has 200), which come again when all are used.
    """

    def fit(self, data, seed, budget):
        def sampler(n, generator):
            """n validation examples in random order; when all are used, all of them again."""
            rounds = -(-n // len(data.valid))
            order = [
                torch.randperm(len(data.valid), generator=generator, device=generator.device)
                for _ in range(rounds)
            ]
            return data.floats(data.valid[torch.cat(order)[:n].to(data.valid.device)])

        return sampler
