"""A feature function of your own. In a suite beside it:
`methods: [gan, {method: gan, tricks: [{feature_matching: {features: ./mine.py}}]}]`."""

from dataclasses import dataclass

import torch

from ganbench import feature


@feature
@dataclass(frozen=True)
class Mine:
    """Feuerverger & Mureika 1977: cosines and sines, whose means are the characteristic function of each number.

    Features with the means of the data leave every single number with nearly the data's distribution, whatever
    the numbers have to do with each other. [B, *shape] -> [B, 2 · frequencies · d], d numbers in an example.
    """

    frequencies: int = 4  # 1, 2, ... times `base`; every parameter needs a default and such a comment
    base: float = 1.0  # radians for each unit of the data

    def __call__(self, x):
        """Each example by itself, and differentiable: x.detach() and statistics over B are out."""
        times = self.base * torch.arange(1, self.frequencies + 1, device=x.device).to(x)  # [F]
        phase = (x.flatten(1).unsqueeze(-1) * times).flatten(1)  # [B, d · F]
        return torch.cat([phase.cos(), phase.sin()], 1)
