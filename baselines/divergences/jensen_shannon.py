"""The Jensen–Shannon divergence (Nowozin et al. 2016, tables 1, 2, 5 and 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ganbench import Divergence, divergence


@divergence("jensen-shannon")
@dataclass(frozen=True)
class JensenShannon(Divergence):
    """Twice the Jensen–Shannon divergence: KL(P‖M) + KL(Q‖M) with M = (P + Q)/2; at most 2 log 2.

    f = u log u − (u + 1) log((1 + u)/2), T* = log(2u/(1 + u)), f* = −log(2 − exp t) for t < log 2,
    g_f = log 2 − softplus(−v), f*(g_f(v)) = softplus(v) − log 2.
    """

    def f(self, u: Tensor) -> Tensor:
        return torch.xlogy(u, u) - (u + 1) * torch.log((1 + u) / 2)

    def slope(self, u: Tensor) -> Tensor:
        return torch.log(2 * u / (1 + u))

    def conjugate(self, t: Tensor) -> Tensor:
        return -torch.log(2 - torch.exp(t))

    def activation(self, v: Tensor) -> Tensor:
        return math.log(2) - softplus(-v)

    def composed(self, v: Tensor) -> Tensor:
        return softplus(v) - math.log(2)
