"""An f-divergence of your own. In a suite beside it: `methods: [{fgan: {divergence: ./mine.py}}]`."""

from dataclasses import dataclass

import torch

from ganbench import Divergence, divergence


@divergence
@dataclass(frozen=True)
class Mine(Divergence):
    """Le Cam 1986, triangular discrimination ∫(p − q)²/(p + q): symmetric, and at most 2.

    f = (u − 1)²/(u + 1), T* = 1 − 4/(u + 1)², f* = 4 − t − 4√(1 − t), g_f = 4 sigmoid(v) − 3.
    `ganbench test` checks every formula against a numerical supremum.
    """

    def f(self, u):
        """Convex, f(1) = 0; u = p/q > 0."""
        return (u - 1).square() / (u + 1)

    def conjugate(self, t):
        """f*(t) = sup over u > 0 of t u − f(u), for t in (−3, 1)."""
        return 4 - t - 4 * torch.sqrt(1 - t)

    def activation(self, v):
        """g_f(v): an output of any sign into the domain of f*, increasing."""
        return 4 * torch.sigmoid(v) - 3

    def composed(self, v):
        """f*(g_f(v)), which losses use; written out, since 1 − sigmoid(v) cancels for large v."""
        return 7 - 4 * torch.sigmoid(v) - 8 * torch.exp(0.5 * torch.nn.functional.logsigmoid(-v))
