"""The squared Hellinger distance (Nowozin et al. 2016, tables 1, 2, 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganbench import Divergence, divergence


@divergence("squared-hellinger")
@dataclass(frozen=True)
class SquaredHellinger(Divergence):
    """Squared Hellinger distance ∫ (√p − √q)².

    f = (√u − 1)², T* = 1 − 1/√u, f* = t/(1 − t) for t < 1, g_f = 1 − exp(−v), f*(g_f(v)) = exp(v) − 1.
    """

    def f(self, u: Tensor) -> Tensor:
        return (torch.sqrt(u) - 1).square()

    def slope(self, u: Tensor) -> Tensor:
        return 1 - torch.rsqrt(u)

    def conjugate(self, t: Tensor) -> Tensor:
        return t / (1 - t)

    def activation(self, v: Tensor) -> Tensor:
        return -torch.expm1(-v)

    def composed(self, v: Tensor) -> Tensor:
        return torch.expm1(v)
