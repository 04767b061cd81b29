"""Neyman's χ² divergence (Nowozin et al. 2016, tables 1, 2, 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganbench import Divergence, divergence


@divergence("neyman")
@dataclass(frozen=True)
class Neyman(Divergence):
    """Neyman's χ², ∫ (p − q)²/p.

    f = (1 − u)²/u, T* = 1 − 1/u², f* = 2 − 2√(1 − t) for t < 1, g_f = 1 − exp(−v),
    f*(g_f(v)) = 2 − 2 exp(−v/2).
    """

    def f(self, u: Tensor) -> Tensor:
        return (1 - u).square() / u

    def slope(self, u: Tensor) -> Tensor:
        return 1 - u**-2

    def conjugate(self, t: Tensor) -> Tensor:
        return 2 - 2 * torch.sqrt(1 - t)

    def activation(self, v: Tensor) -> Tensor:
        return -torch.expm1(-v)

    def composed(self, v: Tensor) -> Tensor:
        return -2 * torch.expm1(-v / 2)
