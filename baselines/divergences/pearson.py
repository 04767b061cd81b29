"""Pearson's χ² divergence (Nowozin et al. 2016, tables 1, 2, 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ganbench import Divergence, divergence


@divergence("pearson")
@dataclass(frozen=True)
class Pearson(Divergence):
    """Pearson's χ², ∫ (p − q)²/q.

    f = (u − 1)², T* = 2(u − 1), f* = t²/4 + t, g_f = v. The supremum over u ≥ 0 alone would be −1 for t < −2,
    which no T* reaches; the parabola, as the paper has it, pushes such outputs back.
    """

    def f(self, u: Tensor) -> Tensor:
        return (u - 1).square()

    def slope(self, u: Tensor) -> Tensor:
        return 2 * (u - 1)

    def conjugate(self, t: Tensor) -> Tensor:
        return t.square() / 4 + t

    def activation(self, v: Tensor) -> Tensor:
        return v
