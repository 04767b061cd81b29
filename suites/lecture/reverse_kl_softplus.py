"""Reverse KL with another output activation than that of the f-GAN paper."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ganbench import Divergence, divergence


@divergence
@dataclass(frozen=True)
class ReverseKLSoftplus(Divergence):
    """Reverse KL, whose f* is finite for t < 0, with g_f = −softplus(−v) in the place of the paper's −exp(−v).

    f = −log u, T* = −1/u, f* = −1 − log(−t), f*(g_f(v)) = −1 − log softplus(−v). Nowozin et al. 2016, section 3.2:
    every increasing function onto the domain of f* will do.
    """

    def f(self, u: Tensor) -> Tensor:
        return -torch.log(u)

    def slope(self, u: Tensor) -> Tensor:
        return -1 / u

    def conjugate(self, t: Tensor) -> Tensor:
        return -1 - torch.log(-t)

    def activation(self, v: Tensor) -> Tensor:
        return -softplus(-v)

    def composed(self, v: Tensor) -> Tensor:
        # Far to the right log softplus(−v) is −v, and softplus underflows.
        return -1 - torch.where(v > 20, -v, torch.log(softplus(-v.clamp(max=20))))
