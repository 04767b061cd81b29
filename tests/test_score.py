"""Scoring: whatever a metric does, there is a record that says so, and never a NaN."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from ganbench import __version__
from ganbench.contracts import COLUMNS, Data, Score
from ganbench.errors import PluginError
from ganbench.scoring import ScoredSeed, Scorer, explain, protocol, unmeasured
from ganbench.store.rundir import Store
from ganbench.suite import load, plan
from ganbench.suite.plan import Cell
from ganbench.training.model import SampleModel
from ganbench.training.trained import TrainedSeed

TRAINED = TrainedSeed(4, "ok", seconds=2.5, stack=2)
MODEL = SampleModel(4, torch.full((200, 2), 3.0))
POINTS = torch.zeros(10, 2)
DATA = Data("points", POINTS, POINTS, POINTS, (2,))
OURS = "./plugins_for_runs.py:"


def planned(folder: Path, metrics: str, about: str = "") -> Cell:
    """A cell with these metrics; `about` is put into the folder as about.py."""
    shutil.copy(Path(__file__).with_name("plugins_for_runs.py"), folder)
    (folder / "about.py").write_text(about)
    (folder / "s.yaml").write_text(
        f"name: scored\nseeds: [4]\ndatasets: [ring]\nmethods: [{OURS}TinyGAN]\nmetrics: [{metrics}]\n"
    )
    cell = plan.make_cells(load.load(folder / "s.yaml"))[0]
    protocols = tuple(protocol(metric, DATA) for metric in cell.metrics)
    return replace(cell, digest="d" * 64, protocols=protocols)


def score(folder: Path, metric: str) -> ScoredSeed:
    """What comes of a metric."""
    return Scorer(planned(folder, metric), DATA)(0, MODEL, TRAINED)


def test_a_value_becomes_a_record(tmp_path: Path) -> None:
    scored = score(tmp_path, f"{OURS}MeanNorm: {{n: 50}}")
    (record,) = scored.records
    assert tuple(asdict(record)) == COLUMNS
    assert record.value == pytest.approx(18**0.5)
    assert (record.sem, record.n, record.unit, record.better) == (0.0, 50, "units", "lower")
    assert (record.status, record.error, record.seed) == ("ok", None, 4)
    assert (record.train_seconds, record.stack, record.version) == (2.5, 2, __version__)
    assert record.seconds >= 0
    assert (scored.status, scored.seed, scored.index, scored.metric) == ("ok", 4, 0, "mean_norm")


def test_details_are_sorted_into_json_and_tensors(tmp_path: Path) -> None:
    scored = score(tmp_path, f"{OURS}MeanNorm")
    assert scored.details == {"max": pytest.approx(18**0.5)}
    assert {name: tuple(t.shape) for name, t in scored.tensors.items()} == {"norms": (100,)}


def test_a_metric_with_two_values_gives_two_records(tmp_path: Path) -> None:
    records = score(tmp_path, f"{OURS}Range").records
    assert [(r.metric, r.value, r.better) for r in records] == [
        ("low", 3.0, "lower"),
        ("high", 3.0, "higher"),
    ]
    assert records[0].protocol == records[1].protocol


CHECKED = """
from ganbench import Score, Value, metric

@metric(Value("low", "units", "lower"), Value("high", "units", "higher"), Value("other", "units", "neither"))
class Checked:
    def protocol(self, data):
        return "with floors"

    def __call__(self, model, data):
        both = {"floor_gaussian": {"low": 2.0, "high": 5.0, "other": 1.0}, "floor_smeared": {"low": 1.5, "high": 4.0}}
        return Score(1.0, details=both), Score(9.0, details={"floor": 6, "invalid": "its control failed"}), Score(3.0)
"""


def test_floors_and_what_is_not_valid_stand_in_the_records(tmp_path: Path) -> None:
    """The best floor of each value: those that its own score holds, and those that are given to it by name."""
    (tmp_path / "checked.py").write_text(CHECKED)
    low, high, other = score(tmp_path, "./checked.py").records
    assert (low.floor, low.invalid) == (1.5, None)
    assert (high.floor, high.invalid) == (6.0, "its control failed")
    assert (other.floor, other.invalid) == (None, None)


NAMED = CHECKED.replace("details=both", "controls=both").replace(
    """details={"floor": 6, "invalid": "its control failed"}""",
    """controls={"floor": 6, "train": 7}, invalid="its control failed", verdict="fine", warning="few", caution="so" """,
)


def test_named_controls_and_sentences_are_stored_as_details_of_these_names_were(tmp_path: Path) -> None:
    """The table of controls, the report and `ganbench score` read the file: it is the same from either."""
    (tmp_path / "checked.py").write_text(NAMED)
    scored = score(tmp_path, "./checked.py")
    assert [(one.floor, one.invalid) for one in scored.records] == [
        (1.5, None),
        (6.0, "its control failed"),
        (None, None),
    ]
    assert scored.details == {
        "floor_gaussian": {"low": 2.0, "high": 5.0, "other": 1.0},
        "floor_smeared": {"low": 1.5, "high": 4.0},
        "floor": 6,
        "control_train": 7,
        "verdict": "fine",
        "warning": "few",
        "caution": "so",
        "invalid": "its control failed",
    }
    assert scored.tensors == {}


def test_a_control_is_a_number() -> None:
    text = (
        r"Score.controls\['train'\]: expected a number, or a mapping .* to numbers; got a Tensor; give float"
    )
    for control in (torch.tensor(1.0), {"low": torch.tensor(1.0)}):
        with pytest.raises(PluginError, match=text):
            Score(1.0, controls={"train": control})


@pytest.mark.parametrize(("how", "text"), [("nan", "nan"), ("inf", "inf"), ("-inf", "-inf")])
def test_a_value_that_is_no_number_is_null_with_a_reason(tmp_path: Path, how: str, text: str) -> None:
    scored = score(tmp_path, f"{OURS}Broken: {{how: '{how}'}}")
    (record,) = scored.records
    assert (record.value, record.sem, record.status) == (None, None, "failed")
    assert record.error == f"broken is {text}, which cannot be averaged"
    assert scored.status == "ok"  # it was measured: doing it again would give the same
    assert scored.details == {"odd": None, "list": [1, None]}
    json.dumps([scored.details, *map(asdict, scored.records)], allow_nan=False)


def test_a_metric_that_raises_is_failed_with_its_traceback(tmp_path: Path) -> None:
    scored = score(tmp_path, f"{OURS}Broken")
    assert (scored.status, scored.error) == ("failed", "ZeroDivisionError: nothing to divide by")
    assert scored.traceback is not None
    assert 'raise ZeroDivisionError("nothing to divide by")' in scored.traceback
    assert [(r.metric, r.value, r.status, r.error) for r in scored.records] == [
        ("broken", None, "failed", "ZeroDivisionError: nothing to divide by")
    ]


def test_a_metric_without_memory_is_oom(tmp_path: Path) -> None:
    scored = score(tmp_path, f"{OURS}Broken: {{how: memory}}")
    assert [scored.status, *(r.status for r in scored.records)] == ["oom", "oom"]


def test_a_metric_must_return_what_it_declares(tmp_path: Path) -> None:
    scored = score(tmp_path, f"{OURS}Broken: {{how: count}}")
    assert scored.status == "failed"
    assert scored.error is not None
    assert scored.error.endswith(
        "broken declares 1 value(s), so it must return a Score; it returned: Score, Score"
    )


def test_too_few_samples_are_told_in_our_own_words(tmp_path: Path) -> None:
    error = "500 samples are needed, 200 are available; `mean_norm: {n: 200}` scores these"
    assert score(tmp_path, f"{OURS}MeanNorm: {{n: 500}}").error == error


def test_too_few_samples_are_found_before_the_reference_is_computed(tmp_path: Path) -> None:
    source = WITH_REFERENCE.replace("return data.test.mean()", "raise AssertionError('it was computed')")
    source = source.replace("model.samples(", "model.samples(990 + ")
    assert "990 + " in source
    one = planned(tmp_path, "./about.py", source)
    error = Scorer(one, DATA)(0, MODEL, TRAINED).error
    assert error is not None
    assert "it was computed" not in error
    assert "samples are needed, 200 are available" in error


WITH_REFERENCE = """
from dataclasses import dataclass
import torch
from ganbench import Score, Value, metric
calls = []

@metric(Value("distance", "units", "lower"))
@dataclass(frozen=True)
class Distance:
    def reference(self, data):
        calls.append(data.name)
        return data.test.mean()
    def __call__(self, model, data, reference):
        noise = torch.rand(())
        return Score(float(model.samples(5).mean() - reference), n=len(calls), details={"noise": noise})
"""


def test_a_reference_is_computed_once(tmp_path: Path) -> None:
    scorer = Scorer(planned(tmp_path, "./about.py", WITH_REFERENCE), DATA)
    first, second = scorer(0, MODEL, TRAINED), scorer(0, MODEL, TRAINED)
    assert [scored.records[0].value for scored in (first, second)] == [3.0, 3.0]
    assert [scored.records[0].n for scored in (first, second)] == [1, 1]


def test_a_metric_that_draws_from_the_global_generator_is_still_reproducible(tmp_path: Path) -> None:
    scorer = Scorer(planned(tmp_path, "./about.py", WITH_REFERENCE), DATA)
    first = scorer(0, MODEL, TRAINED).tensors["noise"]
    torch.rand(3)
    assert torch.equal(first, scorer(0, MODEL, TRAINED).tensors["noise"])


def test_the_protocol_is_the_hash_of_what_defines_the_number(tmp_path: Path) -> None:
    metric = planned(tmp_path, f"{OURS}MeanNorm: {{n: 50}}").metrics[0]
    short, sentence = protocol(metric, DATA)
    assert sentence == "mean norm of 50 samples on points"
    identity = json.dumps(["mean_norm", 1, {"n": 50}, sentence])
    assert short == hashlib.sha256(identity.encode()).hexdigest()[:8]


def test_other_parameters_are_another_protocol(tmp_path: Path) -> None:
    cell = planned(tmp_path, f"{OURS}Range, {OURS}Broken, {OURS}Broken: {{how: nan}}")
    assert len({short for short, _ in cell.protocols}) == 3


def test_a_protocol_that_fails_is_told_before_anything_runs(tmp_path: Path) -> None:
    source = WITH_REFERENCE.replace("def reference(self, data)", "def protocol(self, data)").replace(
        "return data.test.mean()", "return data.nothing"
    )
    with pytest.raises(PluginError, match=r"about\.py: the protocol of distance failed: AttributeError"):
        planned(tmp_path, "./about.py", source)


def test_a_metric_that_refuses_its_parameters_is_told_before_anything_runs(tmp_path: Path) -> None:
    source = WITH_REFERENCE.replace(
        "    def reference",
        "    def __post_init__(self):\n        raise ValueError('never')\n    def reference",
    )
    with pytest.raises(PluginError, match=r"about\.py: distance: never"):
        planned(tmp_path, "./about.py", source)


def test_a_score_can_be_stored_and_read(tmp_path: Path) -> None:
    one = planned(tmp_path, f"{OURS}MeanNorm")
    store = Store(tmp_path / "out")
    store.prepare()
    store.write_score(one, Scorer(one, DATA)(0, MODEL, TRAINED))
    document = store.score(one, 4, 0)
    assert document is not None
    assert (document["status"], document["protocol_text"]) == ("ok", one.protocols[0][1])
    assert tuple(document["records"][0]) == COLUMNS
    (artefact,) = document["artefacts"]
    assert artefact == f"mean_norm-{one.score_keys[0][4][:12]}.safetensors"


def test_a_score_that_was_never_made_has_a_record_for_each_value(tmp_path: Path) -> None:
    scored = unmeasured(planned(tmp_path, f"{OURS}Range"), 0, TRAINED, "lost", "killed")
    assert [(r.metric, r.value, r.status, r.error) for r in scored.records] == [
        ("low", None, "lost", "killed"),
        ("high", None, "lost", "killed"),
    ]


def test_errors_of_ours_need_no_type() -> None:
    assert explain(PluginError("look here")) == "look here"
    assert explain(KeyError("x")) == "KeyError: 'x'"
