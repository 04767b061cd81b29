"""The Kullback–Leibler divergence (Nowozin et al. 2016, tables 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganbench import Divergence, divergence


@divergence("kl")
@dataclass(frozen=True)
class KL(Divergence):
    """Kullback–Leibler divergence KL(P‖Q) = ∫ p log(p/q); covers the modes of P.

    f = u log u, T* = 1 + log u, f* = exp(t − 1), g_f = v.
    """

    def f(self, u: Tensor) -> Tensor:
        return torch.xlogy(u, u)

    def slope(self, u: Tensor) -> Tensor:
        return 1 + torch.log(u)

    def conjugate(self, t: Tensor) -> Tensor:
        return torch.exp(t - 1)

    def activation(self, v: Tensor) -> Tensor:
        return v
