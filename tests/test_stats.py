"""Intervals over seeds against what is known of them, and numbers in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from ganbench.analysis.stats import by_size, mean_interval, share_interval
from ganbench.format import decimals, p_value, plural, seed_names


def test_one_seed_has_no_interval() -> None:
    low, high = mean_interval(np.array([[3.0], [4.0]]))
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_no_rows() -> None:
    assert [len(side) for side in mean_interval(np.empty((0, 5)))] == [0, 0]


def test_equal_values_have_an_interval_without_width() -> None:
    low, high = mean_interval(np.full((2, 5), 0.1))
    assert low.tolist() == high.tolist() == [0.1, 0.1]


def test_interval_moves_and_scales_with_the_values() -> None:
    values = np.random.default_rng(0).normal(size=(3, 6))
    low, high = mean_interval(values)
    moved_low, moved_high = mean_interval(1e6 + 10 * values)
    np.testing.assert_allclose(moved_low, 1e6 + 10 * low, rtol=1e-12)
    np.testing.assert_allclose(moved_high, 1e6 + 10 * high, rtol=1e-12)


def test_interval_of_a_row_does_not_depend_on_the_others() -> None:
    values = np.random.default_rng(0).normal(size=(1200, 4))
    alone = mean_interval(values[1100:1101])
    together = mean_interval(values)
    np.testing.assert_allclose([alone[0][0], alone[1][0]], [together[0][1100], together[1][1100]], rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_it_is_the_t_interval_of_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(size=(3, n))
    known = scipy.stats.ttest_1samp(values, 0, axis=1).confidence_interval()
    np.testing.assert_allclose(mean_interval(values), (known.low, known.high), rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 10])
def test_coverage_with_few_seeds(n: int) -> None:
    """.95 of the means of normal numbers, whatever n; a percentile bootstrap covers .50, .75, .88 and .92 with 2 to 5.
    Of log-normal numbers it covers .82 at five, the bootstrap .78."""
    rng = np.random.default_rng(1)
    low, high = mean_interval(rng.normal(size=(20_000, n)))
    assert np.mean((low < 0) & (high > 0)) == pytest.approx(0.95, abs=0.006)  # 4 standard errors
    if n == 5:
        low, high = mean_interval(rng.lognormal(size=(20_000, n)))
        assert 0.81 < np.mean((low < math.exp(0.5)) & (high > math.exp(0.5))) < 0.85


def test_interval_of_a_share_is_wilsons() -> None:
    for share, n in ((0.0, 3), (0.5, 5), (1.0, 4)):
        known = scipy.stats.binomtest(round(share * n) if n != 5 else 2, n).proportion_ci(method="wilson")
        np.testing.assert_allclose(
            share_interval(0.4 if n == 5 else share, n), (known.low, known.high), atol=1e-12
        )


def test_ragged_groups_are_taken_by_size() -> None:
    codes = np.array([2, 0, 2, 1, 0, 4])
    found = {
        int(g): sorted(m.tolist())
        for groups, members in by_size(codes, 5)
        for g, m in zip(groups, members, strict=True)
    }
    assert found == {0: [1, 4], 1: [3], 2: [0, 2], 4: [5]}


@pytest.mark.parametrize(
    ("error", "places"),
    [
        (0.034, 3),
        (0.1, 2),
        (0.99, 2),
        (1.3, 1),
        (12, 0),
        (1234, 0),
        (1e-9, 6),
        (0, 2),
        (math.nan, 2),
        (math.inf, 2),
    ],
)
def test_decimals_show_two_digits_of_the_error(error: float, places: int) -> None:
    assert decimals(error) == places


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.00009, "< 0.0001"), (0.0001, "= 0.0001"), (0.0123, "= 0.012"), (0.0496, "= 0.0496"), (0.0504, "= 0.0504"),
     (0.06, "= 0.06"), (0.356, "= 0.36"), (1.0, "= 1")],
)  # fmt: skip
def test_p_values_do_not_cross_5_percent_by_rounding(p: float, text: str) -> None:
    assert p_value(p) == text


def test_counts_and_seeds_in_words() -> None:
    assert [plural(n, "row") for n in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert [seed_names(n) for n in ([3], [0, 2], [0, 1, 2], [0, 1, 3])] == [
        "seed 3", "seeds 0, 2", "seeds 0–2", "seeds 0, 1, 3",
    ]  # fmt: skip
