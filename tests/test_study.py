"""The command line's work from Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from runs import written

import ganbench
from ganbench.errors import StoreError
from ganbench.execution import run
from ganbench.store.layout import file_name

SUITE = """\
name: study
seeds: 2
train: {steps: 20, batch: 8}
datasets: [ring: {n_train: 200, n_valid: 20, n_test: 50}, grid: {n_train: 200, n_valid: 20, n_test: 50}]
methods:
  - {method: ./plugins_for_runs.py:TinyGAN, label: tiny}
  - {method: ./plugins_for_runs.py:Constant, label: constant, datasets: [ring]}
  - {method: ./plugins_for_runs.py:Diverging, label: diverging, datasets: [ring]}
metrics: [./plugins_for_runs.py:MeanNorm, ./plugins_for_runs.py:MeanNorm: {n: 50}]
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory."""
    folder = tmp_path_factory.mktemp("study")
    suite = written(folder, "study.yaml", SUITE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "REPORTS", ())
        records = ganbench.run_suite(suite, folder / "out", device="cpu", quiet=True)
        assert len(records) == 4 * 2 * 2
    return folder / "out"


@pytest.mark.slow
def test_records(out: Path) -> None:
    records = ganbench.load_records(out)
    assert list(records.columns[:3]) == ["suite", "dataset", "method"]
    assert records.groupby("label")["status"].unique().map(list).to_dict() == {
        "tiny": ["ok"], "constant": ["ok"], "diverging": ["diverged"],
    }  # fmt: skip
    # The same metric twice: two columns, two files of scores.
    assert records.groupby("metric")["n"].max().to_dict() == {"mean_norm": 100, "mean_norm(n=50)": 50}
    files = sorted(
        path.name.rpartition("-")[0] for path in out.glob("cells/ring-tiny-*/seed-0/scores/*.json")
    )
    assert files == [file_name("mean_norm"), file_name("mean_norm(n=50)")]


@pytest.mark.slow
def test_a_trained_seed_is_what_the_metric_saw(out: Path) -> None:
    records = ganbench.load_records(out)
    one = records[(records["dataset"] == "ring") & (records["label"] == "tiny") & (records["seed"] == 1)]
    one = one[one["metric"] == "mean_norm"]
    model = ganbench.load_model(out, "tiny", 1, dataset="ring")
    n = int(one["n"].item())
    assert model.samples(n).norm(dim=1).mean().item() == pytest.approx(one["value"].item(), rel=1e-5)
    assert model.generate(torch.zeros(3, 2)).shape == (3, 2)
    assert len(ganbench.load_model(out, "constant", 1).samples(5)) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "seed", "dataset", "message"),
    [
        ("tony", 0, None, "no method has the label 'tony'; did you mean 'tiny'"),
        ("tiny", 0, None, "'tiny' was run on several datasets; say which: ring, grid"),
        ("tiny", 0, "rong", "'tiny' was not run on 'rong'; did you mean 'ring'"),
        ("tiny", 7, "ring", "ring-tiny has no seed 7; its seeds are 0, 1"),
        ("diverging", 0, "ring", "seed 0 of ring-diverging is diverged"),
    ],
)
def test_seeds_that_are_not_there(
    out: Path, label: str, seed: int, dataset: str | None, message: str
) -> None:
    with pytest.raises(ganbench.RequestError, match=message):
        ganbench.load_model(out, label, seed, dataset=dataset)


@pytest.fixture(scope="module")
def sent(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory on another machine: nothing of its suite lies there."""
    folder = tmp_path_factory.mktemp("sent")
    shutil.copytree(out, folder / "out")
    resolved = folder / "out" / "suite.resolved.yaml"
    assert str(out.parent) not in resolved.read_text()
    return folder / "out"


@pytest.mark.slow
def test_a_run_can_be_loaded_where_its_plugins_are_not(out: Path, sent: Path) -> None:
    (source,) = out.parent.glob("plugins_for_runs.py")
    hidden = source.rename(source.with_suffix(".hidden"))
    try:
        here, there = (ganbench.load_model(run, "tiny", 1, dataset="ring") for run in (out, sent))
        assert torch.equal(here.samples(5), there.samples(5))
    finally:
        hidden.rename(source)


@pytest.mark.slow
def test_only_the_label_that_is_loaded_is_looked_at(sent: Path) -> None:
    text = (sent / "suite.resolved.yaml").read_text()
    (sent / "broken.py").write_text("this is no Python\n")
    document = yaml.safe_load(text)
    document["methods"][1]["method"] = "./broken.py:Constant"
    document["methods"][2]["method"] = "./gone.py:Diverging"
    document["metrics"] = [{"metric": "./gone.py:MeanNorm"}]
    document["datasets"][1]["dataset"] = "./gone.py:grid"
    (sent / "suite.resolved.yaml").write_text(yaml.safe_dump(document))
    try:
        assert ganbench.load_model(sent, "tiny", 1, dataset="ring").samples(5).shape == (5, 2)
        with pytest.raises(ganbench.SuiteError, match=r"gone\.py"):
            ganbench.load_model(sent, "diverging", 0)
    finally:
        (sent / "suite.resolved.yaml").write_text(text)


@pytest.mark.slow
def test_a_run_can_be_run_again_from_its_directory(sent: Path) -> None:
    """Nothing is left to do: the copies of the plugins give the same keys."""
    before = ganbench.load_records(sent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "REPORTS", ())
        again = ganbench.run_suite(sent / "suite.resolved.yaml", sent, device="cpu", quiet=True)
    assert before.equals(again)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is not a folder of results"):
        ganbench.load_model(tmp_path, "tiny")


@pytest.mark.parametrize(
    "text", ["3", "methods: 3\ndatasets: []", "methods: [3]\ndatasets: [3]", "methods: []"]
)
def test_a_suite_that_no_run_has_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "suite.resolved.yaml").write_text(text)
    with pytest.raises(StoreError, match=r"is not the resolved suite of a run"):
        ganbench.load_model(tmp_path, "tiny")


def test_data() -> None:
    data = ganbench.load_data("ring", modes=5, n_train=10, n_valid=10, n_test=10)
    assert data.modes is not None
    assert (len(data.modes.centers), data.train.shape) == (5, (10, 2))
    with pytest.raises(ganbench.PluginError, match="did you mean 'ring'"):
        ganbench.load_data("rong")
