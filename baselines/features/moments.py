"""The moments of the data, as a test that a generator can be trained to pass."""

from dataclasses import dataclass

import torch

from ganbench import feature


@feature
@dataclass(frozen=True)
class Moments:
    """Li, Swersky & Zemel 2015, section 2: the numbers of an example and their products, for matching moments.

    Features whose means are those of the data leave nothing to be told by the mean and the covariance (order 2; the
    mean alone for order 1), whatever else differs: such a test is passed by a Gaussian. [B, *shape] -> [B, d] for
    order 1, [B, d + d(d + 1)/2] for order 2, d numbers in an example.
    """

    order: int = 2  # 1: the numbers alone; 2: also their products

    def __call__(self, x):
        x = x.flatten(1)
        if self.order == 1:
            return x
        row, column = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
        return torch.cat([x, x[:, row] * x[:, column]], 1)
