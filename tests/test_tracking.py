"""Trackers: what is logged of a run, once, and never at the cost of a result."""

from __future__ import annotations

import io
import json
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
    monkeypatch.setattr(tracking, "LOOK", 0.0)
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
        text.count("warning: mlflow failed (ConnectionError: nobody answers) and is left out from here") == 1
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


@pytest.mark.slow
def test_wandb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    code, text = run(folder, "track=wandb", "methods=[./plugins_for_runs.py:TinyGAN]")
    assert (code, "warning" in text) == (0, False)
    runs = list((folder / "out" / "tracking" / "wandb" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == 2
