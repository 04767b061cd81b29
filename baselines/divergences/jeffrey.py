"""Jeffrey's divergence (Nowozin et al. 2016, tables 1, 2, 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganbench import Divergence, divergence


@divergence("jeffrey")
@dataclass(frozen=True)
class Jeffrey(Divergence):
    """Jeffrey's divergence KL(P‖Q) + KL(Q‖P) = ∫ (p − q) log(p/q).

    f = (u − 1) log u, T* = 1 + log u − 1/u, g_f = v, and f* = ω + 1/ω + t − 2 with ω = W(exp(1 − t)), Lambert's
    function, whose argument overflows. With y = log ω, which solves y + exp(y) = 1 − t, the same is
    f* = exp(−y) − 1 − y.
    """

    def f(self, u: Tensor) -> Tensor:
        return (u - 1) * torch.log(u)

    def slope(self, u: Tensor) -> Tensor:
        return 1 + torch.log(u) - 1 / u

    def conjugate(self, t: Tensor) -> Tensor:
        y = log_omega(1 - t)
        return torch.expm1(-y) - y

    def activation(self, v: Tensor) -> Tensor:
        return v


def log_omega(z: Tensor) -> Tensor:
    """The y that solves y + exp(y) = z: the logarithm of the Wright omega function, log W(exp(z)).

    Newton's method on a convex increasing function, from a start at which nothing overflows. The last steps
    are recorded: from a converged start, n of them make derivatives up to the order 2^n − 1 exact.
    """
    y = torch.where(z > 1, torch.log(z.clamp(min=1)), z).detach()
    fixed = z.detach()
    for _ in range(6):
        y = _newton(y, fixed)
    for _ in range(2):
        y = _newton(y, z)
    return y


def _newton(y: Tensor, z: Tensor) -> Tensor:
    return y - (y + torch.exp(y) - z) / (1 + torch.exp(y))
