"""The weighted Jensen–Shannon divergence (Nowozin et al. 2016, tables 1, 2, 5 and 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ganbench import Divergence, PluginError, divergence

FAR = 30.0  # log softplus(-v) is -v to within 1e-13 beyond


@divergence("js-weighted")
@dataclass(frozen=True)
class WeightedJensenShannon(Divergence):
    """Weighted Jensen–Shannon divergence: π KL(P‖M) + (1 − π) KL(Q‖M) with M = πP + (1 − π)Q.

    f = πu log u − (1 − π + πu) log(1 − π + πu), T* = π log(u/(1 − π + πu)),
    f* = (1 − π) log((1 − π)/(1 − π exp(t/π))) for t < −π log π, g_f = −π log π − softplus(−v).
    """

    pi: float = 0.5  # weight of P, between 0 and 1

    def __post_init__(self) -> None:
        if not 0 < self.pi < 1:
            raise PluginError(f"js-weighted: pi must lie between 0 and 1, got {self.pi}")

    def f(self, u: Tensor) -> Tensor:
        mixed = 1 - self.pi + self.pi * u
        return self.pi * torch.xlogy(u, u) - mixed * torch.log(mixed)

    def slope(self, u: Tensor) -> Tensor:
        return self.pi * torch.log(u / (1 - self.pi + self.pi * u))

    def conjugate(self, t: Tensor) -> Tensor:
        rest = 1 - self.pi
        return rest * (math.log(rest) - torch.log(-torch.expm1(t / self.pi + math.log(self.pi))))

    def activation(self, v: Tensor) -> Tensor:
        return -self.pi * math.log(self.pi) - softplus(-v)

    def composed(self, v: Tensor) -> Tensor:
        near = torch.log(-torch.expm1(-softplus(-v.clamp(max=FAR)) / self.pi))
        far = -v - math.log(self.pi)
        return (1 - self.pi) * (math.log1p(-self.pi) - torch.where(v > FAR, far, near))
