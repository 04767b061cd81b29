"""The divergence of Goodfellow's value function (Nowozin et al. 2016, tables 1, 2, 5 and 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ganbench import Divergence, divergence


@divergence
@dataclass(frozen=True)
class GAN(Divergence):
    """Goodfellow's value function: twice the Jensen–Shannon divergence, minus log 4.

    f = u log u − (u + 1) log(u + 1), which is −log 4 and not 0 at u = 1 as in the paper; T* = log(u/(1 + u)),
    f* = −log(1 − exp t) for t < 0, g_f = −softplus(−v), f*(g_f(v)) = softplus(v): v is the logit of D.
    """

    minimum = -math.log(4)

    def f(self, u: Tensor) -> Tensor:
        return torch.xlogy(u, u) - (u + 1) * torch.log1p(u)

    def slope(self, u: Tensor) -> Tensor:
        return torch.log(u / (1 + u))

    def conjugate(self, t: Tensor) -> Tensor:
        return -torch.log(-torch.expm1(t))

    def activation(self, v: Tensor) -> Tensor:
        return -softplus(-v)

    def composed(self, v: Tensor) -> Tensor:
        return softplus(v)
