"""Methods against baselines: closed forms, which way is better, what the seeds cannot tell, and what is refused."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from click.testing import CliRunner
from fake_run import METHODS, NASTY, FakeMethod, FakeRun
from PIL import Image

import ganbench
from ganbench.analysis import rankings, significance
from ganbench.analysis.compare import Comparison, compare
from ganbench.cli.commands import main
from ganbench.contracts import COLUMNS
from ganbench.errors import RequestError
from ganbench.report import comparison, style
from ganbench.store.results import read_records

NAN = math.nan
Values = Mapping[tuple[str, str, str], Sequence[float]]  # (dataset, metric, label) -> a value for each seed


def records(
    values: Values, better: str = "higher", first: Mapping[str, int] | None = None, **changes: Any
) -> pd.DataFrame:
    """Records as `table.load` gives them; NaN is a seed that diverged, `first` the least seed of a label."""
    rows = []
    for (dataset, metric, label), own in values.items():
        for i, value in enumerate(own):
            row = dict.fromkeys(COLUMNS, None) | {"dataset": dataset, "metric": metric, "label": label}
            row |= {"seed": i + (first or {}).get(label, 0), "value": value, "better": better, "unit": "nats"}
            row |= {
                "status": "diverged" if math.isnan(value) else "ok",
                "protocol": metric[:2],
                "cell": label,
            }
            rows.append({**row, **changes})
    return pd.DataFrame(rows)


def two(a: Sequence[float], b: Sequence[float], **changes: Any) -> Comparison:
    """`b` against the baseline `a` by one metric on one dataset."""
    return compare(records({("ring", "kde_ll", "a"): a, ("ring", "kde_ll", "b"): b}, **changes))


def only(compared: Comparison) -> dict[str, Any]:
    """The only comparison."""
    (row,) = compared.rows.to_dict("records")
    return {str(name): value for name, value in row.items()}


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage at every correction, which takes long among many tests."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


A, B = [1.0, 1.3, 0.8, 1.1, 0.9], [3.1, 3.3, 2.6, 3.0, 2.8]

# ---------------------------------------------------------------------------------------------- statistics


def test_tests_and_intervals_are_those_of_scipy() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 7))
    for found, known in (
        (significance.paired(a - b), scipy.stats.ttest_rel(a, b)),
        (significance.unpaired(a, b[:4]), scipy.stats.ttest_ind(a, b[:4], equal_var=False)),
    ):
        np.testing.assert_allclose(found.p, known.pvalue)
        np.testing.assert_allclose(found.interval, known.confidence_interval())
    assert math.isnan(significance.paired(a[:1]).p)
    assert math.isnan(significance.unpaired(a, b[:1]).interval[0])


@pytest.mark.parametrize("first", [{}, {"b": 9}], ids=["paired", "Welch"])
@pytest.mark.parametrize("whole", [False, True])
def test_the_interval_excludes_zero_where_the_test_says_so(first: dict[str, int], whole: bool) -> None:
    """Exactly where p is below 0.05 before it is corrected; whole numbers have rounding errors in both."""
    rng = np.random.default_rng(3)
    made: dict[tuple[str, str, str], list[float]] = {}
    for i in range(40):
        n = 2 + i % 4
        for label, shift in (("a", 0.0), ("b", 2.0)):
            values = rng.normal(shift, 1, n)
            made[f"d{i}", "kde_ll", label] = list(np.round(values) if whole else values)
    rows = compare(records(made, first=first)).rows
    excluded = (rows["low"] > 0) | (rows["high"] < 0)
    assert (excluded == (rows["p"] < 0.05)).all()
    assert 5 < excluded.sum() < 35


def test_the_same_whole_number_in_all_seeds_is_not_certain() -> None:
    """One mode more in both of two seeds happens by chance 1 time in 8, where 7 and 8 are equally likely."""
    assert significance.resolution(np.array([7.0, 8.0, 7.0, -np.inf])) == 1
    assert significance.resolution(np.array([0.5, 3.0, 3.0])) == 2.5
    assert significance.resolution(np.array([1.0, 8.0])) == 1
    assert significance.resolution(np.array([2.0, 2.0])) == 0
    assert significance.paired(np.full(2, 1.0), 1.0).p > 0.12
    assert significance.paired(np.full(5, 7.0), 1.0).p < 1e-4
    assert significance.paired(np.zeros(5)).p == 1


def test_probability_of_improvement_of_two_normals() -> None:
    """P(X > Y) = Φ(δ / sqrt(2)) for equal spreads; the interval covers it."""
    rng = np.random.default_rng(1)
    known = scipy.stats.norm.cdf(1 / math.sqrt(2))
    found = significance.improvement([(rng.normal(1, 1, 400), rng.normal(0, 1, 400)) for _ in range(3)])
    assert found[0] == pytest.approx(known, abs=0.015)
    assert found[1] < known < found[2]
    assert found[2] - found[1] < 0.07


def test_probability_of_improvement_is_mann_whitney_on_average() -> None:
    """As Agarwal et al. 2021 compute it: U / (n m) on each task, then the mean; ties and failures count."""
    a = [np.array([1.0, 2.0, 2.0]), np.array([5.0, 7.0, -np.inf, 1.0])]
    b = [np.array([2.0, 0.0]), np.array([6.0, -np.inf])]
    us = [scipy.stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in zip(a, b, strict=True)]
    assert significance.improvement(list(zip(a, b, strict=True)))[0] == pytest.approx(np.mean(us))
    won = significance.improvement(list(zip(b, a, strict=True)))
    assert won[0] == pytest.approx(1 - np.mean(us))


def test_interquartile_mean_over_seeds_and_datasets() -> None:
    """scipy's trimmed mean of all scores together; the bootstrap is stratified, what a dataset has stays its own, and
    its percentiles are stretched for few seeds."""
    scores = np.random.default_rng(0).normal([[40], [45], [50]], 1, (3, 8))
    found = significance.interquartile_mean(list(scores))
    assert found[0] == pytest.approx(scipy.stats.trim_mean(scores.ravel(), 0.25))
    rng = np.random.default_rng(5)
    drawn = [
        scipy.stats.trim_mean([rng.choice(row, 8) for row in scores], 0.25, axis=None) for _ in range(3000)
    ]
    stretch = math.sqrt(8 / 7) * scipy.stats.t.ppf(0.975, 21) / scipy.stats.norm.ppf(0.975)
    known = found[0] + stretch * (np.quantile(drawn, (0.025, 0.975)) - found[0])
    np.testing.assert_allclose(found[1:], known, atol=0.08)
    assert np.isnan(significance.interquartile_mean([np.array([40.0]), np.array([60.0])])[1:]).all()
    assert significance.interquartile_mean([np.array([100.0, 0.0])])[1:] == (0, 100)


@pytest.mark.parametrize(("n", "datasets", "least"), [(3, 1, 0.93), (5, 1, 0.95), (3, 3, 0.92), (5, 3, 0.93)])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_coverage_of_the_probability_of_improvement(
    n: int, datasets: int, least: float, shift: float
) -> None:
    """With three seeds on one dataset a bootstrap covers .81, .72 and .39 of these."""
    rng, known = np.random.default_rng(4), scipy.stats.norm.cdf(shift / math.sqrt(2))
    ends = [
        significance.improvement([(rng.normal(shift, 1, n), rng.normal(0, 1, n)) for _ in range(datasets)])[
            1:
        ]
        for _ in range(800)
    ]
    assert np.mean([low <= known <= high for low, high in ends]) > least - 0.02


def test_the_interval_of_wins_has_a_width_where_one_always_wins() -> None:
    always = significance.improvement([(np.arange(5.0) + 10, np.arange(5.0))])
    np.testing.assert_allclose(always, (1, 5 / (5 + 1.959964**2), 1))
    assert math.isnan(significance.improvement([(np.ones(1), np.zeros(1))])[1])
    assert "wins 100 % of the pairs" in two([1.0], [2.0]).verdicts[0]


def test_win_rates_are_the_share_of_others_beaten() -> None:
    first, second = significance.win_rates([np.array([3.0, -np.inf]), np.array([1.0, 2.0, 3.0])])
    np.testing.assert_allclose(first, [87.5, 0])
    np.testing.assert_allclose(second, [25, 50, 87.5])


def test_seeds_needed_have_the_power_that_is_promised() -> None:
    rng = np.random.default_rng(0)
    pattern = np.array([1.0, -1.0, 1.0, -1.0])  # standard deviation sqrt(4 / 3)
    needed = significance.seeds_needed(1 + pattern, np.zeros(4), True, 0.01)
    assert needed is not None
    effect = 1 / pattern.std(ddof=1)
    drawn = rng.normal(effect, 1, (2000, needed))
    found = scipy.stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.01
    assert 0.77 < found.mean() < 0.87
    assert (significance.seeds_needed(1 + pattern, pattern[::-1], False, 0.01) or 0) > needed
    assert significance.seeds_needed(pattern, np.zeros(4), True, 0.01) == significance.MAX_SEEDS + 1
    assert significance.seeds_needed(np.ones(1), np.zeros(1), True, 0.01) is None


@pytest.mark.parametrize("pairs", [True, False])
def test_seeds_needed_are_those_of_statsmodels(pairs: bool) -> None:
    from statsmodels.stats.power import TTestIndPower, TTestPower

    rng = np.random.default_rng(0)
    for shift in (0.3, 1.0, 4.0):
        a, b = rng.normal(shift, 1, 6), rng.normal(0, 1, 6)
        needed = significance.seeds_needed(a, b, pairs, 0.01)
        spread = (a - b).std(ddof=1) if pairs else math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
        known = (TTestPower() if pairs else TTestIndPower()).solve_power(
            abs(a.mean() - b.mean()) / spread, power=0.8, alpha=0.01
        )
        assert needed == math.ceil(known)
    huge = significance.seeds_needed(np.array([90.0, 91.0]), np.array([1.0, 3.0]), True, 0.001)
    assert 2 < (huge or 0) < 6


# ---------------------------------------------------------------------------------------------- verdicts


def test_better_worse_and_which_way_that_is() -> None:
    assert only(two(A, B))["verdict"] == "better"
    assert only(two(B, A))["verdict"] == "worse"
    assert only(two(A, B, better="lower"))["verdict"] == "worse"
    row = only(two(A, B, better="lower"))
    assert (row["difference"], row["improvement"]) == (pytest.approx(1.94), 0)
    assert row["low"] < 1.94 < row["high"]
    assert two(A, B).headlines == ["b is better than a on kde_ll."]
    (sentence,) = two(A, B).verdicts
    assert sentence.startswith(
        "b against a by kde_ll: better on ring (+1.940 [1.790, 2.090] nats, p < 0.0001)"
    )


def test_no_difference_cannot_be_told() -> None:
    compared = two(A, [1.1, 1.0, 0.9, 1.2, 1.0])
    row = only(compared)
    assert row["verdict"] == "can't tell"
    assert row["seeds_needed"] > 100
    assert compared.headlines[0].startswith("b or a: can't tell with 5 seeds on kde_ll, where ")
    assert only(two(A, A))["p"] == 1
    assert "no difference was seen in 5 seeds" in two(A, A).verdicts[0]


def test_as_many_seeds_as_are_said_to_be_needed_would_do() -> None:
    compared = two([0.0, 1.0, 2.0, 1.0, 0.5], [1.5, 1.0, 3.0, 2.5, 0.0])
    needed = int(only(compared)["seeds_needed"])
    assert 6 < needed < 40
    assert f"about {needed} would do for the difference seen" in compared.headlines[0]
    assert f"about {needed} seeds would do" in compared.verdicts[0]


def test_seeds_are_paired_where_both_have_them() -> None:
    """What a seed does to both methods alike is no noise."""
    shared = np.array([0.0, 10.0, -5.0, 3.0, 20.0])
    row = only(two(list(shared + A), list(shared + B)))
    assert (row["pairs"], row["test"], row["verdict"]) == (5, "paired t", "better")
    row = only(two(list(shared + A), list(shared + B), first={"b": 5}))
    assert (row["pairs"], row["test"], row["verdict"]) == (0, "Welch", "can't tell")
    assert any("Welch's, unpaired" in note for note in two(A, B, first={"b": 5}).notes)


def test_order_of_the_records_does_not_matter() -> None:
    frame = records({("ring", "kde_ll", "a"): A, ("ring", "kde_ll", "b"): B})
    mixed = frame.sample(frac=1, random_state=0)
    found, same = (compare(f, baseline="a").rows.iloc[0] for f in (frame, mixed))
    assert found["p"] == pytest.approx(same["p"], rel=1e-12)
    assert found["low"] == pytest.approx(same["low"], abs=0.05)


def test_one_seed_says_nothing_and_says_so() -> None:
    compared = two([1.0], [9.0])
    assert only(compared)["verdict"] == "can't tell"
    assert compared.headlines == ["b or a: can't tell with 1 seed on kde_ll."]
    assert "one seed does not show how much seeds vary" in compared.verdicts[0]
    assert "p" not in comparison.as_json(compared).split('"p": ')[1][:4]


def test_values_without_spread() -> None:
    """A copier reaches the same value in every seed; both of them do."""
    assert only(two([1.0] * 5, [8.0] * 5))["verdict"] == "better"
    assert only(two([1.0] * 5, [1.0] * 5))["verdict"] == "can't tell"
    assert only(two([1.0] * 2, [2.0] * 2))["verdict"] == "can't tell"


@pytest.mark.parametrize("first", [{}, {"b": 5}], ids=["paired", "Welch"])
@pytest.mark.parametrize("better", ["higher", "lower"])
def test_what_differs_by_rounding_is_a_tie(better: str, first: dict[str, int]) -> None:
    """The last digits of float32 or float64 win nothing, order nothing and are shown as no difference."""
    a = [0.1 + 0.2, 0.7, 1.1, 1e-17, -25.0]
    for error in (1e-16, 3e-7):
        b = [value * (1 + error) + error for value in a]
        for own, base in ((a, b), (b, a)):
            compared = two(base, own, better=better, first=first)
            row = only(compared)
            assert (row["difference"], row["improvement"], row["p"]) == (0, 0.5, 1)
            assert row["low"] <= 0 <= row["high"]
            assert "no difference was seen in 5 seeds" in compared.verdicts[0]
            assert "It wins 50 %" in compared.verdicts[0]
            assert compared.win_rates["rank"].tolist() == [1.5, 1.5]
    reordered = only(two([0.1, 0.2, 0.3], [0.3, 0.1, 0.2], better=better, first=first))
    assert (reordered["difference"], reordered["improvement"]) == (0, 0.5)
    assert only(two([1.0] * 5, [1 + 3e-6] * 5))["improvement"] == 1


def test_rounding_is_merged_by_its_least_value_and_no_further() -> None:
    values = np.array([1 + 1.6e-6, 1.0, -np.inf, 1 + 0.8e-6, 1e12, 1e-9, 0.0])
    merged = significance.merge_rounding(values)
    np.testing.assert_array_equal(merged, [1 + 1.6e-6, 1, -np.inf, 1, 1e12, 0, 0])
    np.testing.assert_array_equal(significance.merge_rounding(np.array([-np.inf])), [-np.inf])


def test_failed_seeds_lose() -> None:
    good = [*B[:4], NAN]
    row = only(two(A, good))
    assert (row["n_ok"], row["seeds"], row["pairs"]) == (4, 5, 4)
    assert row["improvement"] == pytest.approx(0.8)
    assert row["verdict"] == "can't tell"  # what its other seeds did does not make up for it
    assert "1 of 5 seeds failed" in two(A, good).verdicts[0]
    assert "failed more often" in two(A, good).verdicts[0]
    assert only(two([*A[:4], NAN], B))["verdict"] == "better"  # the baseline fails: no excuse
    assert only(two([*B[:4], NAN], A))["verdict"] == "can't tell"
    assert any("loses every comparison of seeds" in note for note in two(A, good).notes)


def test_a_method_that_always_fails_is_worse() -> None:
    row = only(two(A, [NAN] * 5))
    assert (row["test"], row["verdict"], row["improvement"]) == ("Fisher", "worse", 0)
    assert row["p"] == pytest.approx(2 / 252)
    assert only(two([NAN] * 5, [NAN] * 5))["verdict"] == "can't tell"
    assert "5 of 5 seeds failed" in two(A, [NAN] * 5).verdicts[0]


def test_p_values_are_corrected_over_all_comparisons() -> None:
    """Holm: the least of m is multiplied by m."""
    rng = np.random.default_rng(3)
    values: dict[tuple[str, str, str], list[float]] = {}
    for metric in ("kde_ll", "modes", "swd"):
        for label in ("a", "b", "c"):
            values["ring", metric, label] = list(rng.normal(size=5))
    values["ring", "modes", "c"] = [v + 9 for v in values["ring", "modes", "a"]]
    rows = compare(records(values)).rows
    assert len(rows) == 6
    least = rows.loc[rows["p"].idxmin()]
    assert least["p_corrected"] == pytest.approx(6 * least["p"])
    alone = compare(records(values), method="c", baseline="a", metric="modes").rows.iloc[0]
    assert alone["p_corrected"] == pytest.approx(alone["p"])


def test_datasets_that_differ_are_told_apart() -> None:
    values = {("ring", "modes", "a"): A, ("ring", "modes", "b"): B, ("grid", "modes", "a"): A}
    values |= {("grid", "modes", "b"): [1.1, 1.0, 0.9, 1.2, 1.0]}
    compared = compare(records(values))
    assert compared.overall["verdict"].tolist() == ["mixed"]
    assert compared.overall["improvement"][0] == pytest.approx(compared.rows["improvement"].mean())
    assert compared.headlines[0].startswith(
        "b is better than a on modes (ring); can't tell with 5 seeds on modes (grid)"
    )


def drawn(kind: str, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Five seeds of a method like all others; NaN where one failed."""
    if kind == "modes":
        return rng.binomial(8, 0.9, 5).astype(float)
    values = rng.lognormal(size=5) if kind == "lognormal" else rng.normal(size=5)
    return np.where(rng.random(5) < (0.2 if kind == "failing" else 0), NAN, values)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "lognormal", "modes"])
def test_false_alarms_of_tables_in_which_nothing_differs(kind: str) -> None:
    """Holm's method says nothing of anything where the least p is above 0.05 / comparisons: here 8, two methods
    against one baseline by 4 metrics, five seeds each."""
    rng, tables, alarms = np.random.default_rng(7), 500, 0
    for _ in range(tables):
        least = 1.0
        for _ in range(4):
            base, *others = (drawn(kind, rng) for _ in range(3))
            step = significance.resolution(np.concatenate([base, *others]))
            least = min(least, *(significance.paired(own - base, step).p for own in others))
        alarms += least <= 0.05 / 8
    assert alarms <= scipy.stats.binom.ppf(0.99, tables, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "modes", "failing"])
def test_where_nothing_differs_nothing_is_called_better(kind: str) -> None:
    rng, tables, alarms = np.random.default_rng(7), 25, 0
    for _ in range(tables):
        made = {("ring", m, x): list(drawn(kind, rng)) for m in "klmn" for x in "abc"}
        alarms += bool((compare(records(made)).rows["verdict"] != "can't tell").any())
    assert alarms <= scipy.stats.binom.ppf(0.99, tables, 0.05)


def test_power() -> None:
    """A shift of six standard deviations in one of 4 comparisons of five seeds is found."""
    rng = np.random.default_rng(2)
    for _ in range(5):
        made = {("ring", m, x): list(rng.normal(size=5)) for m in "klmn" for x in "ab"}
        made["ring", "k", "b"] = [v + 6 for v in made["ring", "k", "b"]]
        assert compare(records(made)).rows["verdict"].tolist() == ["better", *["can't tell"] * 3]


def test_a_value_whose_control_failed_is_not_compared() -> None:
    values = {
        (d, m, x): own
        for d in ("ring", "grid")
        for m in ("recon", "modes")
        for x, own in zip("abc", (A, B, A), strict=True)
    }
    frame = records(values)
    at = (frame["dataset"] == "ring") & (frame["metric"] == "recon") & (frame["label"] == "b")
    frame.loc[at & (frame["seed"] == 0), "invalid"] = "its own samples have the error 0.02"
    compared = compare(frame)
    assert len(compared.rows) == 7
    ring = compared.rows[compared.rows["dataset"] == "ring"]
    assert list(zip(ring["method"], ring["metric"], strict=True)) == [
        ("b", "modes"),
        ("c", "recon"),
        ("c", "modes"),
    ]
    note = (
        "Not compared because it is not valid: recon of b on ring "
        "(1 of 5 seeds: its own samples have the error 0.02)."
    )
    assert note in compared.notes
    assert note in comparison.as_text(compared, width=300)
    assert note in json.loads(comparison.as_json(compared))["notes"]
    assert compared.win_rates.set_index(["metric", "label"])["datasets"].to_dict()["recon", "b"] == 1
    with pytest.raises(RequestError, match="nothing to compare: recon of b on ring is not valid"):
        compare(frame[frame["dataset"] == "ring"], method="b", baseline="a", metric="recon")
    assert len(compare(frame.drop(columns=["invalid", "floor"])).rows) == 8  # records of earlier versions


@pytest.mark.parametrize(("better", "floor"), [("higher", 3.5), ("lower", 0.5)])
def test_no_winner_where_neither_has_learned(better: str, floor: float) -> None:
    """The test finds a difference, but a trivial sampler does as well as both."""
    compared = two(A, B, better=better, floor=floor)
    row = only(compared)
    assert row["verdict"] == "neither has learned"
    assert (row["floor"], row["floor_baseline"]) == (floor, floor)
    assert row["p_corrected"] < 0.001  # the numbers stay
    assert row["difference"] == pytest.approx(1.94)
    assert pd.isna(row["seeds_needed"])
    assert compared.headlines == [
        "b or a: neither has learned on kde_ll, where both are no better than the floor."
    ]
    assert (
        f"neither has learned on ring (+1.940 [1.790, 2.090] nats, p < 0.0001, floor {floor:g})"
        in (compared.verdicts[0])
    )
    assert compared.overall["verdict"].tolist() == ["neither has learned"]
    assert any(note.startswith("Neither has learned: both means") for note in compared.notes)
    found = json.loads(comparison.as_json(compared))
    assert found["schema"] == 3
    assert found["comparisons"][0]["verdict"] == "neither has learned"
    assert f"neither has learned: floor {floor:g}" in comparison.as_markdown(compared)


@pytest.mark.parametrize(
    ("floor", "verdict"),
    [(2.0, "better"), (math.nan, "better"), (None, "better"), (3.1, "neither has learned")],
)
def test_one_above_its_floor_is_enough_for_a_verdict(floor: float | None, verdict: str) -> None:
    assert only(two(A, B, floor=floor))["verdict"] == verdict


def test_floors_are_those_of_each_method_and_metric() -> None:
    """Other metrics keep their verdicts, and each method has its own floor."""
    values = {
        ("ring", metric, label): own
        for metric in ("kde_ll", "modes")
        for label, own in zip("ab", (A, B), strict=True)
    }
    frame = records(values)
    at = frame["metric"] == "kde_ll"
    frame.loc[at & (frame["label"] == "a"), "floor"] = 1.5
    frame.loc[at & (frame["label"] == "b"), "floor"] = 3.25
    compared = compare(frame)
    assert compared.headlines == [
        "b is better than a on modes; neither has learned on kde_ll, where both are no better than the floor."
    ]
    assert "floor 3.25 and 1.5" in compared.verdicts[0]
    frame.loc[at & (frame["label"] == "a"), "floor"] = 0.5
    assert compare(frame).headlines == ["b is better than a on kde_ll and modes."]
    none = two([NAN] * 5, A, floor=9.0)  # a method without a value is not at its floor
    assert only(none)["verdict"] == "better"


# ---------------------------------------------------------------------------------------------- who is compared


def three(**changes: Any) -> pd.DataFrame:
    """Three methods on the ring, two others on digits."""
    values: dict[tuple[str, str, str], Sequence[float]] = {("ring", "modes", x): A for x in "abc"}
    values |= {("digits", "modes", "d"): A, ("digits", "modes", "e"): B}
    return records(values, **changes)


def pairs(compared: Comparison) -> list[str]:
    """`method baseline` of each comparison."""
    return list(compared.rows["method"] + " " + compared.rows["baseline"])


def test_who_is_compared_with_whom() -> None:
    assert pairs(compare(three())) == ["b a", "c a", "e d"]
    assert pairs(compare(three(), baseline="b")) == ["a b", "c b"]
    assert pairs(compare(three(), method="b")) == ["b a", "b c"]
    assert pairs(compare(three(), method=["b", "c"], baseline="a")) == ["b a", "c a"]
    assert pairs(compare(three(), method=["b", "c"])) == ["b c"]
    assert pairs(compare(three(), method=["c", "b"])) == ["c b"]
    assert pairs(compare(three(), baseline=["b", "c"])) == ["a b", "a c"]
    assert "Not compared: d and e." in compare(three(), method="b").notes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "x"}, "no method 'x'; expected one of: a, b, c, d, e"),
        ({"method": "a", "baseline": "a"}, "'a' cannot be compared with itself"),
        ({"method": ["a", "d"]}, "no metric was measured of two of these methods on the same dataset"),
        ({"metric": "mods"}, "no metric 'mods'; did you mean 'modes'?"),
        (
            {"method": "a", "baseline": "d"},
            "no metric was measured of two of these methods on the same dataset",
        ),
    ],
)
def test_requests_that_cannot_be_met(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message.replace("?", r"\?")):
        compare(three(), **arguments)


def test_results_with_nothing_to_compare() -> None:
    with pytest.raises(RequestError, match="hold one method, 'a'; two are needed"):
        compare(records({("ring", "modes", "a"): A}))
    with pytest.raises(RequestError, match="neither higher nor lower is better"):
        compare(three(better="neither"), metric="modes")
    with pytest.raises(RequestError, match="whether higher or lower is better"):
        compare(three(better="neither"))
    with pytest.raises(RequestError, match="hold no method"):
        compare(three().iloc[:0])


def test_protocols_are_not_mixed() -> None:
    frame = three()
    frame.loc[frame["label"] == "b", "protocol"] = "other"
    with pytest.raises(
        RequestError, match=r"'modes' on 'ring' was measured by different protocols.*other \(b\)"
    ):
        compare(frame)
    frame.loc[frame["label"] == "b", "protocol"] = ""  # failed before it was scored
    assert len(compare(frame).rows) == 3


# ---------------------------------------------------------------------------------------------- ranks


# Demšar 2006, table 6: areas under the ROC curve of C4.5 with and without tuned m and cf. In the row of "voting" he
# ranks two that print alike, from digits that are not printed.
DEMSAR = """
.763 .768 .771 .798|.599 .591 .590 .569|.954 .971 .968 .967|.628 .661 .654 .657|.882 .888 .886 .898
.936 .931 .916 .931|.661 .668 .609 .685|.583 .583 .563 .625|.775 .838 .866 .875|1 1 1 1|.940 .962 .965 .962
.619 .666 .614 .669|.972 .981 .9751 .975|.957 .978 .946 .970"""


def test_ranks_of_a_published_example() -> None:
    """Demšar 2006, section 3.2.2: mean ranks 3.143, 2.000, 2.893, 1.964; the critical difference is 1.25 at 5 %, and
    at that level no two differ; F_F = 3.69 without, hence less than, the correction for ties."""
    rows = [line.split() for line in DEMSAR.strip().replace("\n", "|").split("|")]
    labels = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
    values = {
        (f"data {i}", label): pd.Series([float(x)], [0])
        for i, row in enumerate(rows)
        for label, x in zip(labels, row, strict=True)
    }
    found = rankings.ranking("auc", values)
    assert found is not None
    np.testing.assert_allclose(found.ranks, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    assert found.datasets == 14
    assert found.critical == pytest.approx(1.25, abs=0.005)
    assert 0.005 < found.p < scipy.stats.chi2.sf(9.28, 3)  # 9.28 is his value without ties
    assert (found.apart.to_numpy() > 0.05).all()
    assert found.apart.loc["C4.5", "C4.5+m+cf"] < 0.1


def drawn_on(datasets: int, methods: int = 3) -> dict[tuple[str, str], pd.Series]:
    """Methods "0", "1", ... of which each later one is better, of five seeds."""
    rng = np.random.default_rng(0)
    return {
        (f"d{d}", str(k)): pd.Series(rng.normal(k, 0.1, 5)) for d in range(datasets) for k in range(methods)
    }


def test_ranks_are_of_datasets() -> None:
    values = drawn_on(5)
    values["d0", "alone"] = pd.Series(np.zeros(5))
    found = rankings.ranking("modes", values)
    assert found is not None
    assert (found.datasets, found.left_out) == (5, ("alone",))
    assert found.ranks.tolist() == [3, 2, 1]
    assert "no valid value on all of these: alone" in comparison.diagram_caption(found)
    known = scipy.stats.friedmanchisquare(*np.tile([[3], [2], [1]], 5))
    assert found.p == pytest.approx(known.pvalue)


@pytest.mark.parametrize(("methods", "least"), [(3, 5), (4, 6), (5, 6), (10, 8), (20, 12)])
def test_no_diagram_where_it_can_show_nothing(methods: int, least: int) -> None:
    """On so many datasets, and not on fewer, the first of all is told from methods that are alike."""
    from scikit_posthocs import posthoc_nemenyi_friedman

    assert rankings.least_datasets(methods) == least
    assert rankings.ranking("modes", drawn_on(least - 1, methods)) is None
    assert rankings.ranking("modes", drawn_on(least, methods)) is not None
    for datasets in ((least - 1) // 2 * 2, (least + 1) // 2 * 2):  # the nearest even numbers
        order = np.arange(2.0, methods + 1)
        ranks = np.tile([order, order[::-1]], (datasets // 2, 1))  # alike on the mean
        table = np.column_stack([np.ones(datasets), ranks])
        friedman = scipy.stats.friedmanchisquare(*table.T).pvalue
        nemenyi = posthoc_nemenyi_friedman(table).to_numpy()[0, 1:].max()
        assert (max(friedman, nemenyi) < 0.05) == (datasets >= least)


def test_it_is_said_why_there_is_no_diagram() -> None:
    (note,) = [note for note in compare(three()).notes if "diagram" in note]
    assert note == (
        "No critical-difference diagram of 3 methods: it takes 5 datasets or more to tell even a method that is first "
        "on all of them from the others."
    )
    assert not [note for note in two(A, B).notes if "diagram" in note]
    made = {(d, "modes", label): list(own) for (d, label), own in drawn_on(5).items()}
    compared = compare(records(made))
    assert not [note for note in compared.notes if "diagram" in note]
    assert "All methods by modes: 5 datasets; Friedman's test" in comparison.as_text(compared)
    assert "whatever the seeds on each dataset show" in comparison.as_markdown(compared)
    (ranked,) = json.loads(comparison.as_json(compared))["rankings"]
    assert ranked["datasets"] == 5


def test_methods_that_fail_rank_last_and_equal_methods_alike() -> None:
    values = {(f"d{d}", label): pd.Series([1.0, 1.0, 1.0]) for label in "abc" for d in range(5)}
    same = rankings.ranking("modes", values)
    assert same is not None
    assert same.p == 1
    for d in range(5):
        values[f"d{d}", "c"] = pd.Series([-np.inf, 1.0, 1.0])
    found = rankings.ranking("modes", values)
    assert found is not None
    np.testing.assert_allclose(found.ranks, [1.5, 1.5, 3])
    assert (
        rankings.ranking("modes", {(f"d{d}", x): pd.Series([1.0] * 3) for x in "ab" for d in range(9)})
        is None
    )


def test_labels_stand_in_the_diagram_as_they_are() -> None:
    labels = (
        "_x",
        "a$b$",
        "<b>{0}",
        "a name that is far too long for a line, one",
        "a name that is far too long for a line, two",
    )
    rng = np.random.default_rng(0)
    values = {(f"d{d}", x): pd.Series(rng.normal(k, 1, 6)) for k, x in enumerate(labels) for d in range(6)}
    found = rankings.ranking("modes", values)
    assert found is not None
    with style.style():
        figure = comparison.diagram(found, style.colours(labels))
        words = " ".join(text.get_text() for text in figure.axes[0].texts)
        style.png(figure)
    for label in labels[:3]:
        assert label in words
    assert words.count("a name that is far too") == 2


# ---------------------------------------------------------------------------------------------- as a user


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    FakeRun(path).write(["ring", "line"], [*METHODS, NASTY[2], NASTY[3]], seeds=5)
    return path


def ran(*arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of `ganbench compare`."""
    done = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_says_who_is_better_and_keeps_it(folder: Path) -> None:
    code, out, err = ran(folder)
    assert (code, err) == (0, "")
    assert "gan+unrolling is better than gan on kde_ll, modes" in out
    assert "Holm's method" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= max(100, max(map(len, map(str, folder.parents))) + 80)
    csv = pd.read_csv(folder / "tables" / "compare.csv")
    assert set(csv["verdict"]) <= {"better", "worse", "can't tell"}
    assert "'=cmd" in set(csv["method"])
    assert csv["improvement_all"].between(0, 1).all()
    text = (folder / "tables" / "compare.md").read_text()
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
    assert not list((folder / "plots").glob("critical-difference-*"))  # two datasets are too few
    assert "No critical-difference diagram of 4 methods: it takes" in " ".join(out.split())


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five datasets, which are enough for diagrams of three methods."""
    path = tmp_path_factory.mktemp("five")
    FakeRun(path).write(["ring", "line", "digits", "photos", "more photos"], METHODS, seeds=2)
    return path


def test_diagrams_of_an_earlier_comparison_go(five: Path) -> None:
    assert ran(five)[0] == 0
    assert [p.name for p in sorted((five / "plots").glob("critical-*"))] == [
        "critical-difference-kde_ll.png", "critical-difference-kde_ll.svg",
    ]  # fmt: skip
    with Image.open(five / "plots" / "critical-difference-kde_ll.png") as image:
        assert image.width > 600
    assert "## All methods by kde\\_ll" in (five / "tables" / "compare.md").read_text()
    assert ran(five, "--metric", "memorisation")[0] == 0  # on four datasets
    assert not list((five / "plots").glob("critical-*"))


def test_json_has_no_nan_and_all_names(folder: Path) -> None:
    code, out, _ = ran(folder, "--json", "--method", "gan+unrolling", "--baseline", "gan")
    found = json.loads(out, parse_constant=lambda word: pytest.fail(word))
    assert code == 0
    assert set(found) == {
        "schema", "alpha", "headlines", "verdicts", "comparisons", "overall", "standings", "rankings", "notes", "files",
    }  # fmt: skip
    assert {row["method"] for row in found["comparisons"]} == {"gan+unrolling"}


def test_results_that_cannot_be_written_to_are_compared_all_the_same(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes((folder / "records.jsonl").read_bytes())
    (tmp_path / "tables").write_text("a file where a folder should be")
    code, out, err = ran(tmp_path)
    assert code == 0
    assert "is better than" in out
    assert "cannot be written" in err


def test_wrong_requests_exit_with_2(folder: Path, tmp_path: Path) -> None:
    code, _, err = ran(folder, "--method", "gan+unroling")
    assert code == 2
    assert "did you mean 'gan+unrolling'?" in err
    code, _, err = ran(tmp_path)
    assert code == 2
    assert "records.jsonl" in err


def test_several_results_are_joined(tmp_path: Path) -> None:
    """A baseline of one run and a method of another, on the same dataset."""
    FakeRun(tmp_path / "one").write(["line"], [FakeMethod("gan", 0.4)], seeds=5)
    FakeRun(tmp_path / "two").write(["line"], [FakeMethod("mine", 0.95), FakeMethod("gan", 0.4)], seeds=5)
    compared = compare([tmp_path / "one", tmp_path / "two"], method="mine")
    assert set(compared.rows["pairs"]) == {5}
    assert compared.notes[0] == "10 results found in several of the directories; the first was used."
    assert ran(tmp_path / "one", tmp_path / "two")[0] == 0


def test_results_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    FakeRun(tmp_path / "one").write(["line"], [FakeMethod("gan", 0.4)], seeds=2)
    FakeRun(tmp_path / "long", steps=9000).write(["line"], [FakeMethod("mine", 0.95)], seeds=2)
    with pytest.raises(
        RequestError, match=r"different budgets: 3000 steps of 256 in .*one, 9000 steps of 256 in"
    ):
        compare([tmp_path / "one", tmp_path / "long"])
    lines = (
        (tmp_path / "one" / "records.jsonl").read_text().replace('"cell": "line-gan', '"cell": "other-gan')
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "records.jsonl").write_text(lines)
    with pytest.raises(RequestError, match="'gan' on 'line' is not the same in all of these results"):
        compare([tmp_path / "one", tmp_path / "other"])


def test_it_is_a_public_function(folder: Path) -> None:
    assert (
        ganbench.compare(folder, method="kde").headlines
        == compare(read_records(folder), method="kde").headlines
    )
