"""Standard errors and pair counts that several metrics share. All values are of one trained seed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..contracts import Score


def standard_error(values: Tensor) -> float:
    """The standard error s/√n of the mean of at least two `values` [n]."""
    return values.std().item() / math.sqrt(len(values))


def binomial_sem(share: float, n: int) -> float:
    """The standard error of a share of n independent yes-or-no outcomes, √(p(1 − p)/n)."""
    return math.sqrt(share * (1 - share) / n)


def percentage(chosen: Tensor) -> Score:
    """The percentage of `chosen` [n] (bool) that is true, with its binomial standard error."""
    share, n = chosen.double().mean().item(), len(chosen)
    return Score(100 * share, 100 * binomial_sem(share, n), n)


def halves_below(x: Tensor, y: Tensor) -> Tensor:
    """For each of `x` [n], twice the number of `y` [m] that are smaller, ties counted half: int64 [n], so that it is
    exact. Half the sum is the Mann-Whitney U."""
    y = y.sort().values
    return torch.searchsorted(y, x) + torch.searchsorted(y, x, right=True)
