"""The reverse Kullback–Leibler divergence (Nowozin et al. 2016, tables 1, 2, 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganbench import Divergence, divergence


@divergence("reverse-kl")
@dataclass(frozen=True)
class ReverseKL(Divergence):
    """Reverse Kullback–Leibler divergence KL(Q‖P) = ∫ q log(q/p); seeks a mode of P.

    f = −log u, T* = −1/u, f* = −1 − log(−t) for t < 0, g_f = −exp(−v), f*(g_f(v)) = v − 1.
    """

    def f(self, u: Tensor) -> Tensor:
        return -torch.log(u)

    def slope(self, u: Tensor) -> Tensor:
        return -1 / u

    def conjugate(self, t: Tensor) -> Tensor:
        return -1 - torch.log(-t)

    def activation(self, v: Tensor) -> Tensor:
        return -torch.exp(-v)

    def composed(self, v: Tensor) -> Tensor:
        return v - 1
