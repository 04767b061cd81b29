"""Search ranges in plugins, the points of a search, and the curve of best scores."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest

from ganbench import PluginError, SuiteError, load_records, run_suite, tunable
from ganbench.analysis.search import DatasetSearch, MethodSearch, changes_of_place, read_search, search_curve
from ganbench.errors import StoreError
from ganbench.execution import cost
from ganbench.execution import search as execution_search
from ganbench.execution.run import run
from ganbench.execution.worker import load_data
from ganbench.registry import catalog, digest, scan
from ganbench.report import search as search_report
from ganbench.report import style
from ganbench.search_range import SearchRange
from ganbench.store import layout
from ganbench.store.rundir import Store
from ganbench.suite.load import dump, load
from ganbench.suite.plan import make_cells
from ganbench.suite.tune import Trial, points, search_space, search_suite, trials, tuned_suite

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
        ("tunable(1e-3, log=LIMITS)", "tunable of lr: write 'LIMITS' as a literal"),
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


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_curve_of_many_trials_agrees_with_simulated_orders(better):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=32)
    scores[[5, 9]] = np.nan
    worst, best = (np.nanmin, np.maximum) if better == "higher" else (np.nanmax, np.minimum)
    filled = np.where(np.isnan(scores), worst(scores), scores)
    orders = np.array([[filled[0], *rng.permutation(filled[1:])] for _ in range(4000)])
    runs = best.accumulate(orders, axis=1)
    error = runs.std(0) / np.sqrt(len(runs))
    assert (np.abs(search_curve(list(scores), better).expected - runs.mean(0)) <= 4.5 * error + 1e-12).all()


def test_the_same_method_searched_longer_wins_only_by_that(tmp_path):
    """At equal trials two copies of a method have the same settings, so neither wins; eight times as many win."""
    suite = suite_of(tmp_path, "{trials: 32, seeds: [1000], by: kde_ll}")
    gan, copy = suite.methods[0], replace(suite.methods[0], label="copy of gan")

    def searched(method, trials_of_it):
        tried = trials(method, replace(suite.tune, trials=trials_of_it))
        scores = [[-abs(np.log(trial.settings.get("g_lr", 1e-4) / 2.3e-3))] for trial in tried]
        settings = tuple(trial.settings for trial in tried)
        return MethodSearch(
            method.label, settings, np.array(scores), "higher", np.full((len(tried), 1), np.nan)
        )

    short, equal, longer = searched(gan, 4), searched(copy, 4), searched(copy, 32)
    assert equal.settings[equal.best] == short.settings[short.best]
    assert longer.means[longer.best] > short.means[short.best] + 0.1
    assert np.array_equal(equal.curve.expected, short.curve.expected)
    assert changes_of_place([short.curve, equal.curve]) == 0


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


# ------------------------------------------------------------------------------------------------ suites

TUNED = """
seeds: [0, 1]
train: {steps: 20, batch: 8}
datasets: [{ring: {n_train: 200, n_valid: 40, n_test: 40}}, {swiss_roll: {n_train: 200, n_valid: 40, n_test: 40}}]
methods:
  - gan
  - {method: gan, params: {g_lr: 0.01, d_lr: 0.01}, tricks: [r1, ema], label: fixed rates}
  - kde
metrics: [kde_ll: {n: 100}, sliced_wasserstein: {n: 40}]
tune: TUNE
"""


def suite_of(tmp_path, tune="{trials: 4, seeds: [1000], by: kde_ll}"):
    path = tmp_path / "tuned.yaml"
    path.write_text(TUNED.replace("TUNE", tune))
    return load(path)


def test_a_suite_with_a_search(tmp_path):
    suite = suite_of(
        tmp_path,
        "{trials: 8, seeds: [5, 6], by: {ring: sliced_wasserstein, swiss_roll: kde_ll}, steps: 10, "
        "ranges: {gan: {g_lr: {log: [1e-3, 1e-2]}, width: {among: [16, 32]}}}}",
    )
    tune = suite.tune
    assert (tune.trials, tune.seeds, tune.steps) == (8, (5, 6), 10)
    assert tune.by == {"ring": "sliced_wasserstein", "swiss_roll": "kde_ll"}
    assert suite_of(tmp_path).tune.by == {"ring": "kde_ll", "swiss_roll": "kde_ll"}
    assert dump(suite).count("tune:") == 1
    again = tmp_path / "again.yaml"
    again.write_text(dump(suite))
    assert load(again).tune == tune


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        (
            "{by: kde_ll, seeds: [1, 7]}",
            "the seed 1 is also one of the suite's; the search needs seeds of its own",
        ),
        ("{by: kde_lll}", "no metric of this suite has the value 'kde_lll'; did you mean 'kde_ll'?"),
        ("{by: {ring: kde_ll}}", "names no value for the dataset 'swiss_roll'"),
        ("{trials: 3}", "the key 'by' is missing: the value by which settings are judged"),
        ("{by: kde_ll, trials: 1}", "expected at least 2 trials, the default and another setting, got 1"),
        ("{by: kde_ll, steps: 0}", "must be 1 or more, got 0"),
        (
            "{by: kde_ll, ranges: {gan: {glr: {log: [1, 2]}}}}",
            "gan has no parameter 'glr'; did you mean 'g_lr'?",
        ),
        ("{by: kde_ll, ranges: {gna: {}}}", "unknown key 'gna'; did you mean 'gan'?"),
        ("{by: kde_ll, ranges: {gan: {g_lr: {log: [2, 1]}}}}", "log: expected two numbers above 0"),
        ("{by: kde_ll, ranges: {gan: {d_steps: {among: [a]}}}}", "expected a whole number, got the text 'a'"),
        ("{by: kde_ll, trails: 3}", "unknown key 'trails'; did you mean 'trials'?"),
    ],
)
def test_mistakes_in_a_search_are_named(tmp_path, tune, message):
    with pytest.raises(SuiteError) as error:
        suite_of(tmp_path, tune)
    assert message in str(error.value)


def test_what_a_suite_sets_is_fixed_and_the_rest_is_searched(tmp_path):
    suite = suite_of(
        tmp_path,
        "{by: kde_ll, ranges: {gan: {width: {among: [16, 32]}}, fixed rates: {r1.gamma: {linear: [0, 1]}}}}",
    )
    plain, fixed, kde = suite.methods
    ranges = suite.tune.ranges
    assert list(search_space(plain, ranges["gan"])) == ["width", "g_lr", "d_lr", "d_steps"]
    space = search_space(fixed, ranges["fixed rates"])
    assert space == {
        "d_steps": SearchRange(among=(1, 2, 5)),
        "r1.gamma": SearchRange(linear=(0, 1)),
        "ema.decay": SearchRange(among=(0.99, 0.995, 0.998, 0.999)),
    }
    assert search_space(kde, {}) == {}
    assert [trial.number for trial in trials(kde, suite.tune)] == [0]


def test_a_longer_search_begins_with_the_shorter_one_and_methods_share_its_points():
    short, long = points(5, 3), points(40, 3)
    assert np.array_equal(short, long[:5])
    assert np.array_equal(points(40, 2), long[:, :2])
    assert (long >= 0).all()
    assert (long < 1).all()
    # Every eighth of an axis holds an eighth of the first 32 points: it is no random sample.
    assert (np.histogram(points(32, 1), bins=8, range=(0, 1))[0] == 4).all()


def test_the_words_of_a_search_say_how_long_and_over_which_seeds(tmp_path):
    suite = suite_of(tmp_path, "{trials: 4, seeds: [1000, 1001], by: kde_ll, steps: 1500}")
    (_, gan, *_) = tuned_suite(suite, suite.tune, {("ring", "gan"): Trial(0, {})}).methods
    assert gan.tuned == (
        "setting 1 of 4, the best by kde_ll on validation data over seeds 1000, 1001, 1,500 rounds each"
    )


def test_the_trials_are_a_suite_of_their_own(tmp_path):
    suite = suite_of(tmp_path, "{trials: 4, seeds: [1000], by: kde_ll, steps: 10}")
    ring = search_suite(suite, suite.tune, suite.datasets[0])
    assert [m.label for m in ring.methods[:5]] == ["gan #0", "gan #1", "gan #2", "gan #3", "fixed rates #0"]
    assert len(ring.methods) == 9  # kde has nothing to search: one
    assert ring.methods[0].part.params == {}
    assert ring.methods[5].part.params["g_lr"] == 0.01
    assert {"r1", "ema"} == {trick.name for trick in ring.methods[5].tricks}
    assert [metric.name for metric in ring.metrics] == ["kde_ll"]
    assert (ring.seeds, ring.datasets[0].split, ring.train.steps) == ((1000,), "valid", 10)
    path = tmp_path / "search.yaml"
    path.write_text(dump(ring))
    again = load(path)
    assert [m.part.resolved for m in again.methods] == [m.part.resolved for m in ring.methods]
    assert again.datasets[0].split == "valid"


def test_the_best_settings_stand_beside_the_defaults(tmp_path):
    suite = suite_of(tmp_path)
    best = {
        (d, m): Trial(2, {"d_steps": 5})
        for d in ("ring", "swiss_roll")
        for m in ("gan", "fixed rates", "kde")
    }
    tuned = tuned_suite(suite, suite.tune, best)
    assert [m.label for m in tuned.methods] == [
        "gan", "gan-tuned", "gan-tuned", "fixed rates", "fixed rates-tuned", "fixed rates-tuned", "kde",
    ]  # fmt: skip
    assert tuned.methods[1].part.params == {"d_steps": 5}
    assert tuned.methods[1].tuned == "setting 3 of 4, the best by kde_ll on validation data over seed 1000"
    assert tuned.tune is None
    failed = tuned_suite(suite, suite.tune, {("ring", "gan"): Trial(0, {}, failed=True)})
    assert failed.methods[1].tuned == "the default, as all 4 settings failed over seed 1000"
    path = tmp_path / "again.yaml"
    path.write_text(dump(tuned))
    assert [(m.label, m.datasets, m.tuned) for m in load(path).methods] == [
        (m.label, m.datasets, m.tuned) for m in tuned.methods
    ]


def test_methods_that_share_a_label_are_tuned_each_on_its_own_dataset(tmp_path):
    path = tmp_path / "shared.yaml"
    shared = "{method: gan, label: gan, datasets: [LABEL], params: {width: WIDTH}}"
    both = [shared.replace("LABEL", d).replace("WIDTH", w) for d, w in (("ring", "16"), ("swiss_roll", "32"))]
    path.write_text(
        f"{{datasets: [ring, swiss_roll], methods: [{', '.join(both)}], metrics: [kde_ll], tune: {{by: kde_ll}}}}"
    )
    suite = load(path)
    best = {("ring", "gan"): Trial(1, {"g_lr": 0.1}), ("swiss_roll", "gan"): Trial(2, {"g_lr": 0.2})}
    tuned = [m for m in tuned_suite(suite, suite.tune, best).methods if m.tuned]
    assert [(m.label, m.datasets, dict(m.part.params)) for m in tuned] == [
        ("gan-tuned", ("ring",), {"width": 16, "g_lr": 0.1}),
        ("gan-tuned", ("swiss_roll",), {"width": 32, "g_lr": 0.2}),
    ]


# ------------------------------------------------------------------------------------------------ runs

PLUGINS = '''
from dataclasses import dataclass

import torch
from ganbench import Data, Score, Value, dataset, method, metric, tunable


@dataset
def shifted(generator):
    """Its test examples lie elsewhere than all others."""
    low, high = torch.zeros(40, 2), torch.full((40, 2), 5.0)
    return Data("shifted", low, low[:20], high, (2,))


@method
@dataclass(frozen=True)
class Place:
    """All samples at one place."""
    at: float = tunable(2.0, among=(0.0, 5.0, 2.0))

    def fit(self, data, seed, budget):
        if self.at == 5.0 and (data.test == 5.0).any():
            raise RuntimeError("the search sees the test split")
        return lambda n, generator: torch.full((n, 2), self.at)


@metric(Value("distance", "data units", "lower"))
@dataclass(frozen=True)
class Distance:
    """Mean distance of samples and test examples."""

    def protocol(self, data):
        return "all samples"

    def __call__(self, model, data):
        return Score((model.samples(20).mean() - data.test.mean()).abs().item())
'''


@pytest.mark.slow
def test_the_search_sees_no_test_example_and_its_choice_is_scored_on_them(tmp_path):
    """Samples at 5 lie on the test examples, those at 0 on the validation examples."""
    (tmp_path / "mine.py").write_text(PLUGINS)
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "{seeds: [0], train: {steps: 1}, datasets: [./mine.py:shifted], methods: [./mine.py:Place], "
        "metrics: [./mine.py:Distance], tune: {trials: 9, seeds: [7], by: distance}}"
    )
    out = tmp_path / "out"
    records = run_suite(suite, out, quiet=True).set_index("label")["value"]
    assert records["place-tuned"] == pytest.approx(5.0)  # at 0
    assert records["place"] == pytest.approx(3.0)  # at its default
    trials = load_records(out / "search" / "shifted")
    assert set(trials["status"]) == {"ok"}
    assert set(trials["value"]) == {0.0, 2.0, 5.0}
    found = json.loads((out / "search" / "search.json").read_text())["datasets"][0]
    (place,) = found["methods"]
    assert place["settings"][place["best"]] == {"at": 0.0}
    assert np.array(place["seconds"]).shape == (9, 1)
    # What the search showed is said wherever the tuned row stands.
    words = "setting {} of 9, the best by distance on validation data over seed 7"
    number = place["best"] + 1
    note = f"Tuned: place-tuned (setting {number} of 9): the best by distance on validation data over seed 7."
    for name in ("tables/summary.md", "tables/summary.html", "tables/summary.tex", "report.html"):
        assert note in (out / name).read_text("utf-8"), name
    page = (out / "report.html").read_text("utf-8")
    assert f"<small>{words.format(number)}</small>" in page  # What was trained
    assert page.count(note) == 2  # under the table, and beside the protocols
    # Running it again trains nothing.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("train.json")}
    run_suite(suite, out, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("train.json")} == before


def test_a_dry_run_prints_the_cost_of_a_search(tmp_path, capsys, monkeypatch):
    """Trials × rounds × rate: once for settings that differ in fractions only."""
    measured = []

    def rate(cell, data, seeds, device):
        measured.append((cell.label, len(data.test), dict(cell.method.part.params)))
        if cell.method.label.startswith("kde"):
            raise ValueError("it cannot be trained")
        return 0.003 * len(seeds)

    monkeypatch.setattr(cost, "round_seconds", rate)
    suite = suite_of(tmp_path, "{trials: 4, seeds: [1000, 1001], by: kde_ll, steps: 2000}")
    assert run(suite, tmp_path / "out", dry_run=True) == 0
    text = capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    rows = [line.split() for line in text.splitlines()]
    assert rows.count(["gan", "8", "16,000", "3.00", "measured", "0.80"]) == 2  # on either dataset
    assert rows.count(["kde", "2", "4,000", "?", "measured", "?"]) == 2
    assert (
        "cost of the search: about 3.2 minutes of one worker for 36 trainings; scoring is not in it, nor kde, of which "
        "a few rounds could not be trained" in " ".join(text.split())
    )
    gan = [
        params.get("d_steps", "default") for label, _, params in measured if label.startswith("ring-gan #")
    ]
    assert sorted(map(str, gan)) == ["5", "default"]  # which is 1: every choice once, whatever the rates are
    assert {size for _, size, _ in measured} == {
        40
    }  # examples of the validation split stand for the test split


def test_stored_seconds_come_before_measured_ones(tmp_path, monkeypatch):
    suite = suite_of(tmp_path, "{trials: 4, seeds: [1000, 1001], by: kde_ll, steps: 10}")
    trials_of_ring = search_suite(suite, suite.tune, suite.datasets[0])
    cells = [cell for cell in make_cells(trials_of_ring) if cell.method.label.startswith("gan #")]
    pending = [(cells[0], (1001,)), *((cell, cell.seeds) for cell in cells[1:])]

    class Stored:
        def training(self, cell, seed, artefacts):
            return SimpleNamespace(status="ok", seconds=20.0)

    monkeypatch.setattr(cost, "round_seconds", lambda cell, data, seeds, device: 6.0)
    (gan,) = cost.search_costs(Stored(), pending, "cpu")
    alike = sum(cost._alike(cell) == cost._alike(cells[0]) for cell in cells)
    assert 0 < alike < 4
    # 2 s a round where it is stored, 3 s for each of two seeds where it is measured.
    assert gan == cost.Cost("gan", 7, 70, 10 * (2.0 * (2 * alike - 1) + 3.0 * (8 - 2 * alike)), "both")
    assert cost.search_costs(Stored(), [(cells[0], ())], "cpu") == []
    assert cost.total([]) == "cost of the search: none of its trials is left to train"


@pytest.mark.parametrize(("steps", "label"), [(1, "gan"), (3, "gan"), (3000, "gan"), (30, "kde")])
def test_the_rate_of_a_method_is_measured(tmp_path, steps, label):
    suite = suite_of(tmp_path)
    (cell, *_) = (cell for cell in make_cells(suite) if cell.method.label == label)
    cell = replace(cell, train=replace(cell.train, steps=steps))
    data = load_data(cell.dataset.part)
    assert 0 < cost.round_seconds(cell, data, cell.seeds, enough=0.01) < 10


@pytest.mark.slow
def test_a_search_on_data_with_a_density(tmp_path):
    """Its workers load the data themselves, and must see the validation split too."""
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "{seeds: [0], train: {steps: 1}, datasets: [{ring: {n_train: 200, n_valid: 40, n_test: 60}}], methods: [kde], "
        "metrics: [kde_ll: {n: 100}], tune: {trials: 2, seeds: [7], by: kde_ll}}"
    )
    run_suite(suite, tmp_path / "out", quiet=True)
    (record,) = load_records(tmp_path / "out" / "search" / "ring").to_dict("records")
    assert (record["status"], record["error"], record["n"]) == ("ok", None, 40)


# ------------------------------------------------------------------------------------------------ in words


def a_search(better="lower"):
    settings = ({}, {"lr": 0.0021, "d_steps": 5}, {"lr": 0.01, "d_steps": 1})
    scores, seconds = [[3.0, 5.0], [1.0, 2.0], [np.nan, 0.5]], [[1.0, 2.0], [4.0, 8.0], [1.0, 2.0]]
    one = MethodSearch("gan", settings, np.array(scores), better, np.array(seconds), floor=3.5)
    kde = MethodSearch("kde", ({},), np.array([[0.25, 0.25]]), better, np.full((1, 2), np.nan))
    return DatasetSearch("ring", "sliced_wasserstein", "data units", (one, kde))


def test_the_table_of_a_search():
    shown = search_report.table(a_search())
    assert shown.caption.startswith(
        "3 settings of each method, 2 seeds each, judged by sliced_wasserstein ↓ on validation data."
    )
    assert shown.rows == [
        ("gan", "4‡", "1.5", "2 of 3", "lr 0.0021, d_steps 5", "2.12 to 3.38", "1", "6.0 (3.0 to 12)"),
        ("kde", "0.25", "0.25", "1 of 1", "the default", "0.25 to 0.25", "0", ""),
    ]
    assert shown.caption.endswith("range. ‡ Not better than the floor, which a trivial sampler reaches.")
    higher = search_report.table(a_search("higher"))  # there 4 is above the floor, and the best
    assert (higher.rows[0][1:3], "‡" in higher.caption) == (("4", "4"), False)


def test_the_plot_of_a_search():
    with style.style():
        plot = search_report.plot(a_search(), {"gan": "#000000"})
    (ax,) = plot.figure.axes
    assert [line.get_label() for line in ax.lines] == ["gan", "kde"]
    assert list(ax.lines[0].get_ydata()) == pytest.approx([4.0, (1.5 + 4.0) / 2, 1.5])
    assert plot.alt == "Expected best sliced_wasserstein against the number of trials on ring of gan."


def test_a_search_is_read_back_and_a_damaged_one_is_refused(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    path = store.path(layout.SEARCH_RESULT)
    assert read_search(store) == ()
    store.write_json(path, {"trials": 3, "datasets": [execution_search._plain(a_search())]})
    (back,) = read_search(store)
    assert (back.dataset, back.value, back.unit) == ("ring", "sliced_wasserstein", "data units")
    assert np.array_equal(back.methods[0].scores, a_search().methods[0].scores, equal_nan=True)
    assert back.methods[0].best == 1
    assert np.array_equal(back.methods[1].seconds, a_search().methods[1].seconds, equal_nan=True)
    assert (back.methods[0].floor, np.isnan(back.methods[1].floor)) == (3.5, True)
    # An earlier version has kept neither seconds nor floors.
    document = json.loads(path.read_text())
    for method in document["datasets"][0]["methods"]:
        del method["seconds"], method["floor"]
    path.write_text(json.dumps(document))
    (old,) = read_search(store)
    assert np.isnan(old.methods[0].seconds).all()
    assert not old.methods[0].at_floor(99.0)
    path.write_text(
        '{"datasets": [{"dataset": "ring", "value": "x", "unit": "", "methods": [{"scores": 3}]}]}'
    )
    with pytest.raises(StoreError, match="is not the result of a search"):
        read_search(store)


def test_a_folder_of_another_suite_is_refused_before_the_search(tmp_path, monkeypatch):
    from ganbench import RequestError
    from ganbench.execution import run

    def searched(*arguments, **settings):
        raise AssertionError("the search began")

    monkeypatch.setattr(run, "search", searched)
    for name in ("one", "two"):
        text = (
            f"name: {name}\nseeds: 2\ndatasets: [ring]\nmethods: [gan]\nmetrics: [modes]\n"
            "tune: {trials: 2, seeds: [9], by: modes}\n"
        )
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    store = Store(tmp_path / "run")
    store.prepare()
    store.write_plan(load(tmp_path / "one.yaml"), [])
    with pytest.raises(RequestError, match="has the results of another suite"):
        run.run(load(tmp_path / "two.yaml"), tmp_path / "run")
