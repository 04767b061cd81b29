"""What several metrics share: standard errors against closed forms, pair counts against all pairs and SciPy."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import mannwhitneyu

from ganbench.metrics.statistics import binomial_sem, halves_below, percentage, standard_error


def test_standard_errors() -> None:
    values = torch.arange(1.0, 5.0, dtype=torch.float64)  # variance 5/3
    assert standard_error(values) == pytest.approx(math.sqrt(5 / 12), rel=1e-15)
    assert binomial_sem(0.2, 100) == pytest.approx(0.04, rel=1e-15)
    score = percentage(torch.tensor([True, False, False, False]))
    assert (score.value, score.n) == (25.0, 4)
    assert score.sem == pytest.approx(100 * math.sqrt(3 / 64), rel=1e-15)


def test_pairs_with_ties() -> None:
    x, y = (torch.randint(8, (n,), generator=torch.Generator().manual_seed(n)).double() for n in (30, 50))
    found = halves_below(x, y)
    assert found.tolist() == (2 * (y < x[:, None]).sum(1) + (y == x[:, None]).sum(1)).tolist()
    assert found.sum().item() / 2 == mannwhitneyu(x.numpy(), y.numpy()).statistic
