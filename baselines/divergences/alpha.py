"""The α-divergences (Nowozin et al. 2016, tables 1, 2, 5 and 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ganbench import Divergence, PluginError, divergence

FAR = 30.0  # log softplus(-v) is -v to within 1e-13 beyond


@divergence("alpha")
@dataclass(frozen=True)
class Alpha(Divergence):
    """α-divergence (∫ p^α q^(1−α) − 1)/(α(α − 1)): KL(P‖Q) as α → 1, KL(Q‖P) as α → 0.

    f = (u^α − 1 − α(u − 1))/(α(α − 1)), T* = (u^(α−1) − 1)/(α − 1),
    f* = ((1 + t(α − 1))₊^(α/(α−1)) − 1)/α, for t < 1/(1 − α) where α < 1;
    g_f = v where α > 1, else 1/(1 − α) − softplus(−v).
    """

    alpha: float = 2.0  # neither 0 nor 1; 2 is half of Pearson's χ², 1/2 twice the squared Hellinger distance

    def __post_init__(self) -> None:
        if self.alpha in (0, 1):
            limit = "reverse-kl" if self.alpha == 0 else "kl"
            raise PluginError(
                f"alpha: alpha must be neither 0 nor 1, got {self.alpha}; use {limit!r}, its limit"
            )

    def f(self, u: Tensor) -> Tensor:
        a = self.alpha
        return (u**a - 1 - a * (u - 1)) / (a * (a - 1))

    def slope(self, u: Tensor) -> Tensor:
        return (u ** (self.alpha - 1) - 1) / (self.alpha - 1)

    def conjugate(self, t: Tensor) -> Tensor:
        a = self.alpha
        return ((1 + t * (a - 1)).clamp(min=0) ** (a / (a - 1)) - 1) / a

    def activation(self, v: Tensor) -> Tensor:
        return v if self.alpha > 1 else 1 / (1 - self.alpha) - softplus(-v)

    def composed(self, v: Tensor) -> Tensor:
        a = self.alpha
        if a > 1:
            return self.conjugate(v)
        near = torch.log(softplus(-v.clamp(max=FAR)))
        log_base = math.log(1 - a) + torch.where(v > FAR, -v, near)  # of 1 + g_f(v)(α − 1)
        return torch.expm1(a / (a - 1) * log_base) / a
