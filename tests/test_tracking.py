"""Trackers: what is logged of a run, once, and never at the cost of a result."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.console import Console
from runs import written

from ganbench.errors import RequestError, SuiteError
from ganbench.execution import run as execute
from ganbench.execution import tracking
from ganbench.execution.tracking import Seed, Tracker
from ganbench.suite.load import dump, load
from ganbench.suite.spec import TrackerName

SUITE = """\
name: tracked
seeds: 2
train: {steps: 20, batch: 8}
datasets: [ring: {n_train: 200, n_valid: 20, n_test: 50}]
methods: [./plugins_for_runs.py:TinyGAN, ./plugins_for_runs.py:Diverging]
metrics: [./plugins_for_runs.py:MeanNorm]
"""


ODD = """\
from dataclasses import dataclass
from ganbench import Score, Value, metric

@metric(Value("FID@50k", "1", "lower"), Value("FID#50k", "1", "lower"), name="odd")
@dataclass(frozen=True)
class Odd:
    \'\'\'Two numbers.\'\'\'
    def __call__(self, model, data):
        return Score(1.0), Score(2.0)
"""


class Fake:
    """A tracker that remembers what it was told; raises at the seeds in `bad`."""

    seen: list[Seed]
    bad: tuple[int, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, seed: Seed, folder: Path) -> None:
        """Remember it."""
        if seed.seed in self.bad:
            raise ConnectionError("nobody answers\nat all")
        self.seen.append(seed)


def run(folder: Path, *overrides: str, **options: Any) -> tuple[int, str]:
    """Run the suite of a folder; exit code and what was printed."""
    file = io.StringIO()
    suite = load(folder / "suite.yaml", overrides)
    code = execute.run(suite, folder / "out", device="cpu", console=Console(file=file, width=200), **options)
    return code, file.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite that has been run without trackers."""
    folder = tmp_path_factory.mktemp("tracked")
    written(folder, "suite.yaml", SUITE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "REPORTS", ())
        assert run(folder)[0] == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, whose reports are left out."""
    monkeypatch.setattr(execute, "REPORTS", ())
    return Path(shutil.copytree(trained, tmp_path / "tracked"))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """A fresh fake, which stands for MLflow."""
    chosen = type("Chosen", (Fake,), {"seen": []})
    monkeypatch.setitem(tracking.TRACKERS, "mlflow", ("json", chosen))
    return chosen


def keys(folder: Path) -> set[str]:
    """The keys of all trainings and scores."""
    return {json.loads(path.read_text())["key"] for path in folder.glob("out/cells/*/seed-*/**/*.json")}


# ---------------------------------------------------------------------------------------------- the key


def test_there_is_a_tracker_of_every_name() -> None:
    assert set(tracking.TRACKERS) == set(get_args(TrackerName))


@pytest.mark.parametrize(
    ("text", "names"),
    [("tensorboard", ("tensorboard",)), ("[wandb, mlflow]", ("wandb", "mlflow")), ("[]", ()), ("", ())],
)
def test_the_key(folder: Path, text: str, names: tuple[str, ...]) -> None:
    suite = load(folder / "suite.yaml", [f"track={text}"])
    assert suite.track == names
    (folder / "again.yaml").write_text(dump(suite))
    assert load(folder / "again.yaml").track == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tensorbord",
            "suite.yaml:7:8: track: 'tensorbord' is not one of its values; did you mean 'tensorboard'?",
        ),
        ("[wandb, wandb]", "suite.yaml:7:16: track[1]: 'wandb' is in the list already"),
        ("{wandb: 1}", "suite.yaml:7:8: track: expected 'tensorboard' or 'mlflow' or 'wandb', got a mapping"),
    ],
)
def test_keys_that_are_wrong(folder: Path, text: str, message: str) -> None:
    path = folder / "suite.yaml"
    path.write_text(f"{path.read_text()}track: {text}\n")
    with pytest.raises(SuiteError) as caught:
        load(path)
    assert message in str(caught.value)


def test_a_missing_package_is_told_before_anything_is_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tracking.TRACKERS, "wandb", ("no_such_package", Fake))
    with pytest.raises(
        RequestError, match=r"wandb is not installed here: pip install 'ganbench\[tracking\]'"
    ):
        run(folder, "track=wandb", "train.steps=21")
    assert len(list(folder.glob("out/cells/*"))) == 2


# ---------------------------------------------------------------------------------------------- what is logged


def test_curves_and_scores_of_every_seed_once(folder: Path, fake: type[Fake]) -> None:
    before = keys(folder)
    assert run(folder, "track=mlflow")[0] == 0
    assert keys(folder) == before  # nothing was trained or scored again
    found = {(seed.label, seed.seed): seed for seed in fake.seen}
    assert set(found) == {(f"ring-{name}", seed) for name in ("tiny_gan", "diverging") for seed in (0, 1)}
    seed = found["ring-tiny_gan", 1]
    assert (seed.suite, seed.status, seed.config["steps"], seed.config["params.width"]) == (
        "tracked",
        "ok",
        20,
        8,
    )
    assert seed.steps[-1] <= 20
    assert {"D", "G", "step"} <= set(seed.curves)
    rows = [json.loads(line) for line in (folder / "out" / "records.jsonl").read_text().splitlines()]
    (row,) = [row for row in rows if row["label"] == "tiny_gan" and row["seed"] == 1]
    assert seed.scores == {row["metric"]: row["value"]}
    assert ("scores/mean_norm", seed.steps[-1], row["value"]) in list(seed.values())
    assert (found["ring-diverging", 0].status, found["ring-diverging", 0].scores) == ("diverged", {})
    run(folder, "track=mlflow")
    assert len(fake.seen) == 4


def test_what_has_changed_is_logged_again(folder: Path, fake: type[Fake]) -> None:
    run(folder, "track=mlflow")
    run(folder, "track=mlflow", "metrics=[./plugins_for_runs.py:MeanNorm, ./plugins_for_runs.py:Range]")
    assert [len(seed.scores) for seed in fake.seen if seed.status == "ok"] == [1, 1, 3, 3]


def test_seeds_are_logged_while_others_are_in_work(
    folder: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the parent, which looks at what running workers have finished."""
    monkeypatch.setattr(tracking, "LOOK_INTERVAL", 0.0)
    early: list[bool] = []
    look = tracking.Tracking.look

    def watched(self: tracking.Tracking, tasks: Any) -> None:
        look(self, tasks)
        early.append(0 < len(fake.seen) < 3)

    monkeypatch.setattr(tracking.Tracking, "look", watched)
    methods = "methods=[./plugins_for_runs.py:TinyGAN, ./plugins_for_runs.py:Raising]"
    assert run(folder, "track=mlflow", "seeds=3", methods, jobs=1)[0] == 1
    assert any(early)
    assert sorted(seed.status for seed in fake.seen) == ["failed"] * 3 + ["ok"] * 3


def test_a_tracker_that_raises_costs_nothing(
    folder: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "bad", (1,))
    code, text = run(folder, "track=mlflow")
    assert code == 0
    assert (
        text.count(
            "warning: mlflow failed (ConnectionError: nobody answers) and is switched off for this run"
        )
        == 1
    )
    assert len(fake.seen) == 1
    monkeypatch.setattr(fake, "bad", ())
    assert "warning" not in run(folder, "track=mlflow")[1]
    assert len(fake.seen) == 4


def test_a_tracker_that_does_not_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> Tracker:
        raise OSError("no such server")

    monkeypatch.setitem(tracking.TRACKERS, "mlflow", ("json", refuse))
    with pytest.raises(RequestError, match=r"track: mlflow does not start \(OSError: no such server\)"):
        run(folder, "track=mlflow")


def test_names_that_a_tracker_refuses_are_changed_and_kept_apart() -> None:
    names = ["FID_50k", "FID@50k", "FID#50k", "KID (x)", "précision", "..", "", "a/b", "x" * 99, "x" * 98]
    logged = tracking.allowed_names(names)
    assert len(set(logged.values())) == len(names)
    assert all(re.fullmatch(r"[\w.-]{1,60}", name) and name.strip(".") for name in logged.values())
    assert [logged[name] for name in ("FID_50k", "KID (x)", "précision", "a/b")] == [
        "FID_50k",
        "KID__x_",
        "précision",
        "a_b",
    ]
    assert logged["FID@50k"].startswith("FID_50k-")
    assert tracking.allowed_names(reversed(names)) == logged
    assert tracking.allowed_names(["FID@50k"]) == {"FID@50k": "FID_50k"}


def odd_metrics(folder: Path) -> str:
    """A metric whose columns have names that trackers refuse, beside a plain one."""
    (folder / "odd.py").write_text(ODD)
    return "metrics=[./plugins_for_runs.py:MeanNorm, ./odd.py]"


def test_the_original_of_a_changed_name_is_in_the_configuration(folder: Path, fake: type[Fake]) -> None:
    assert run(folder, "track=mlflow", odd_metrics(folder), "methods=[./plugins_for_runs.py:TinyGAN]")[0] == 0
    for seed in fake.seen:
        plain, *changed = seed.scores
        assert plain == "mean_norm"
        assert {seed.config[f"name.scores.{name}"]: seed.scores[name] for name in changed} == {
            "FID@50k": 1.0,
            "FID#50k": 2.0,
        }


# ---------------------------------------------------------------------------------------------- the real ones


def test_tensorboard(folder: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _ in range(2):  # the second time there is nothing to log
        assert run(folder, "track=tensorboard")[0] == 0
    place = folder / "out" / "tracking" / "tensorboard" / "ring-tiny_gan" / "seed-1"
    assert len(list(place.glob("events.*"))) == 1
    events = accumulators.EventAccumulator(str(place)).Reload()
    assert {"curves/D", "curves/G", "scores/mean_norm"} == set(events.Tags()["scalars"])
    curve = events.Scalars("curves/D")
    assert [event.step for event in curve] == sorted({event.step for event in curve})
    assert len(curve) >= 2
    (score,) = events.Scalars("scores/mean_norm")
    rows = [json.loads(line) for line in (folder / "out" / "records.jsonl").read_text().splitlines()]
    (row,) = [row for row in rows if row["label"] == "tiny_gan" and row["seed"] == 1]
    assert score.value == pytest.approx(row["value"], rel=1e-6)


@pytest.mark.slow
def test_mlflow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for _ in range(2):
        assert run(folder, "track=mlflow")[0] == 0
    client = mlflow.MlflowClient(tracking_uri=(folder / "out" / "tracking" / "mlflow" / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("tracked")
    runs = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {f"ring-{name} seed {seed}" for name in ("tiny_gan", "diverging") for seed in (0, 1)}
    one = runs["ring-tiny_gan seed 0"]
    assert one.info.status == "FINISHED"
    assert runs["ring-diverging seed 0"].info.status == "FAILED"
    assert one.data.params["method"] == "tiny_gan"
    assert "scores/mean_norm" in one.data.metrics
    assert len(client.get_metric_history(one.info.run_id, "curves/D")) >= 2
    # Names that MLflow refuses cost nothing; a run that fails in the middle is not left there unfinished.
    odd = odd_metrics(folder)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_terminated", lambda *_: 1 / 0)
        assert "mlflow failed (ZeroDivisionError" in run(folder, "track=mlflow", odd)[1]
    assert {one.info.status for one in client.search_runs([experiment.experiment_id])} == {
        "FINISHED",
        "FAILED",
    }
    assert "warning" not in run(folder, "track=mlflow", odd)[1]
    newest = client.search_runs([experiment.experiment_id], max_results=4, order_by=["start_time DESC"])
    scored = [one.data for one in newest if one.info.status == "FINISHED"]
    assert [len([name for name in each.metrics if name.startswith("scores/")]) for each in scored] == [3, 3]
    for data in scored:
        original = {value: name for name, value in data.params.items() if name.startswith("name.scores.")}
        name = original["FID@50k"].removeprefix("name.scores.")
        assert (data.metrics[f"scores/{name}"], set(original)) == (1.0, {"FID@50k", "FID#50k"})


@pytest.mark.slow
def test_wandb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    odd = odd_metrics(folder)
    code, text = run(folder, "track=wandb", "methods=[./plugins_for_runs.py:TinyGAN]", odd, "name=100% a#b")
    assert (code, "warning" in text) == (0, False)
    runs = list((folder / "out" / "tracking" / "wandb" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == 2
