"""Search ranges in plugins, the points of a search, and the curve of best scores."""

from __future__ import annotations

import textwrap
from itertools import permutations

import numpy as np
import pytest

from ganbench import PluginError, tunable
from ganbench.analysis.search import changes_of_place, search_curve
from ganbench.registry import catalog, digest, scan
from ganbench.search_range import SearchRange

SOURCE = '''
from dataclasses import dataclass
from ganbench import method{more}

@method
@dataclass(frozen=True)
class Mine:
    """A method."""
    lr: float = {lr}  # learning rate
    steps: int = {steps}

    def fit(self, data, seed, budget):
        return None
'''


def written(tmp_path, lr, steps="1", more=", tunable"):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(SOURCE.format(lr=lr, steps=steps, more=more)))
    return path


# ------------------------------------------------------------------------------------------------ ranges


@pytest.mark.parametrize(
    ("limits", "u", "expected"),
    [
        ({"log": (1e-4, 1e-2)}, 0.5, 1e-3),
        ({"log": (1e-4, 1e-2)}, 0.0, 1e-4),
        ({"linear": (1, 3)}, 0.25, 1.5),
        ({"among": (1, 2, 5)}, 0.34, 2),
        ({"among": (1, 2, 5)}, 0.999, 5),
        ({"among": ([0.0, 0.9],)}, 0.5, (0.0, 0.9)),
    ],
)
def test_a_range_maps_the_unit_interval(limits, u, expected):
    value = SearchRange(**limits).value(u)
    assert value == (pytest.approx(expected) if isinstance(expected, float) else expected)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "exactly one of log, linear and among"),
        ({"log": (1, 2), "among": (1,)}, "exactly one of log, linear and among"),
        ({"log": (0, 1)}, "two numbers above 0, the least and the greatest value; got (0, 1)"),
        ({"linear": (2, 1)}, "linear: expected two numbers, the least and the greatest value; got (2, 1)"),
        ({"linear": 2}, "got 2"),
        ({"among": ()}, "among: expected the values to try"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(limits, message):
    with pytest.raises(PluginError) as error:
        tunable(1.0, **limits)
    assert message in str(error.value)


def test_a_tunable_field_is_a_default_with_a_range(tmp_path):
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Settings:
        lr: float = tunable(1e-3, log=(1e-4, 1e-2))

    assert Settings().lr == 1e-3
    (plugin,) = scan(written(tmp_path, "tunable(1e-3, log=(1e-4, 1e-2))", "tunable(1, among=(1, 2))"))
    lr, steps = plugin.params
    assert (lr.default, lr.required, lr.doc, lr.search) == (
        1e-3,
        False,
        "learning rate",
        SearchRange(log=(1e-4, 1e-2)),
    )
    assert (steps.default, steps.search) == (1, SearchRange(among=(1, 2)))


def test_a_range_is_no_part_of_a_key(tmp_path):
    plain = digest(written(tmp_path, "1e-3", more=""))
    assert digest(written(tmp_path, "tunable(1e-3, log=(1e-4, 1e-2))")) == plain
    assert digest(written(tmp_path, "tunable(1e-3, linear=(0, 1))", "tunable(1, among=(1, 2))")) == plain
    assert digest(written(tmp_path, "tunable(2e-3, log=(1e-4, 1e-2))")) != plain


@pytest.mark.parametrize(
    ("written_range", "message"),
    [
        ("tunable(1e-3, log=LIMITS)", "tunable of lr: write 'LIMITS' out"),
        ("tunable(1e-3, log=(2, 1))", "tunable of lr: log: expected two numbers above 0"),
        ("tunable(1e-3, lgo=(1, 2))", "tunable of lr: "),
    ],
)
def test_a_range_that_cannot_be_read_names_its_line(tmp_path, written_range, message):
    with pytest.raises(PluginError) as error:
        scan(written(tmp_path, written_range))
    assert "mine.py:9: " + message in str(error.value)


def test_shipped_defaults_lie_in_their_ranges():
    """Or at their ends: a search never makes a method worse for want of its own default."""
    seen = 0
    for kind in ("method", "trick"):
        for plugin in catalog()[kind].values():
            for param in plugin.params:
                if param.search is None:
                    continue
                seen += 1
                if param.search.among is not None:
                    assert param.default in param.search.among, (plugin.name, param.name)
                    continue
                low, high = param.search.log or param.search.linear
                assert low <= param.default <= high or param.name in ("end",), (plugin.name, param.name)
    assert seen > 35


# ------------------------------------------------------------------------------------------------ curve


def simulated(scores, better):
    """The best of the first n trials, over all orders of the trials after the default."""
    worst = np.nanmin(scores) if better == "higher" else np.nanmax(scores)
    filled = np.where(np.isnan(scores), worst, scores)
    best = np.maximum.accumulate if better == "higher" else np.minimum.accumulate
    return np.array([best(np.array([filled[0], *order])) for order in permutations(filled[1:])])


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize(
    "scores", [[1.0, 3.0, 2.0, -1.0, 5.0, 0.0], [2.0, np.nan, 2.5, 1.0], [4.0, 4.0, 4.0], [1.0]]
)
def test_the_curve_is_the_mean_over_all_orders(scores, better):
    runs, curve = simulated(np.array(scores), better), search_curve(scores, better)
    assert curve.expected == pytest.approx(runs.mean(0), rel=1e-12)
    low, high = np.quantile(runs, [0.05, 0.95], axis=0, method="inverted_cdf")
    if better == "higher":
        assert (curve.low, curve.high) == (pytest.approx(low), pytest.approx(high))
    assert (curve.low <= curve.expected + 1e-12).all()
    assert (curve.expected <= curve.high + 1e-12).all()


def test_a_hundred_trials_do_not_overflow():
    scores = np.random.default_rng(0).normal(size=300)
    curve = search_curve(list(scores), "higher")
    assert curve.expected[-1] == pytest.approx(scores.max())
    assert (np.diff(curve.expected) >= -1e-9).all()


def test_a_search_in_which_all_trials_failed_has_no_curve():
    with pytest.raises(ValueError, match="all trials failed"):
        search_curve([np.nan, np.nan], "higher")


def test_a_method_that_wins_only_by_a_longer_search_does_not_win_at_equal_trials():
    """A lottery: rarely very good. At two trials the steady method is ahead, at all of them the lottery."""
    steady, lottery = search_curve([3.0] * 10, "higher"), search_curve([0.0] * 9 + [5.0], "higher")
    assert steady.expected[1] > lottery.expected[1]
    assert steady.expected[-1] < lottery.expected[-1]
    assert changes_of_place([steady, lottery]) == 1
