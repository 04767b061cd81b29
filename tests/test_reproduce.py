"""Long runs of the papers' tables: which suites, in what order, resumed and kept; and pages that nobody has read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parent.parent
SUITE = """name: tiny
budget: cpu
budgets: {cpu: {train.steps: 6}, full: {train.steps: 60}}
seeds: 2
train: {batch: 8, snapshots: 0}
datasets: [{ring: {n_train: 200, n_valid: 50, n_test: 100}}]
methods: [gan]
metrics: [{modes: {n: 50}}]
"""


def script(name: str) -> ModuleType:
    """A script of this checkout as a module."""
    loader = SourceFileLoader(f"script_{name}", str(ROOT / "scripts" / name))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def suites() -> dict[str, dict]:
    """The papers' suites that have budgets."""
    found = {
        path.stem: yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / "suites/papers").glob("*.yaml")
    }
    return {name: suite for name, suite in found.items() if "budgets" in suite}


def test_every_paper_has_a_budget_for_hours_on_a_cpu_and_a_rank() -> None:
    reproduce = script("reproduce")
    assert all("cpu" in suite["budgets"] for suite in suites().values())
    assert reproduce.suites_of_budget("cpu") == list(reproduce.ORDER)
    assert sorted(reproduce.ORDER) == sorted(suites())
    assert reproduce.suites_of_budget("no such budget") == []


def test_lossy_copies_stand_for_cifar10_alone() -> None:
    reproduce = script("reproduce")
    assert reproduce.jpeg_settings("denton2015") == ["datasets.0.dataset=cifar10-jpeg"]
    assert reproduce.jpeg_settings("pacgan2018") == []


def test_a_dry_run_measures_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reproduce = script("reproduce")
    monkeypatch.setattr(reproduce, "ENOUGH", 0.001)
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE, encoding="utf-8")
    table = reproduce.measure(str(path), ["train.steps=3600000"])
    (row,) = table.to_dict("records")
    assert (row["cell"], row["seeds"], row["rounds"]) == ("ring-gan", 2, 3600000)
    rate, hours = float(row["ms of a round"]), float(row["core_hours"])
    assert rate > 0
    # 3.6 million rounds: as many hours as milliseconds. One has a decimal, the other two.
    assert hours == pytest.approx(rate, abs=0.0551)


@pytest.mark.slow
def test_a_run_is_kept_with_its_picture_and_resumed(tmp_path: Path) -> None:
    for name in ("reproduce", "keep", "reference.py"):
        (tmp_path / "scripts").mkdir(exist_ok=True)
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    suite = tmp_path / "papers" / "tiny.yaml"
    suite.parent.mkdir()
    suite.write_text(SUITE, encoding="utf-8")
    words = [sys.executable, "scripts/reproduce", "--budget", "cpu", "--jobs", "1", str(suite)]

    def times(programs: Path) -> dict[str, object]:
        """The row of the table of times after a call; `programs`: the folder of `ganbench`."""
        path = os.pathsep.join((str(programs), os.environ["PATH"]))
        env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
        with (tmp_path / "log").open(
            "w"
        ) as log:  # no pipe, which a child at the lowest priority would hold open
            subprocess.run(words, cwd=tmp_path, env=env, check=True, stdout=log, stderr=log)
        (row,) = pd.read_csv(kept / "times.csv").to_dict("records")
        return row

    kept = tmp_path / "results" / "reference" / "papers"
    first = times(Path(sys.executable).parent)
    table = pd.read_csv(kept / "tiny-cpu.csv")
    assert set(table["suite"]) == {"tiny-cpu"}
    assert set(table["n_ok"]) == {2}
    (plot,) = (
        one for one in json.loads((kept / "tiny-cpu.json").read_text("utf-8")) if one["kind"] == "samples"
    )
    assert (kept / plot["file"]).read_bytes().startswith(b"\x89PNG")
    assert plot["alt"]
    assert plot["caption"]
    assert first["minutes"] >= 0
    assert (first["cells"], first["seeds"]) == (1, 2)
    # Again, with a `ganbench` that only writes its arguments down: test_execute has the runs that go on.
    (tmp_path / "ganbench").write_text(f"#!/bin/sh\necho \"$@\" > '{tmp_path / 'arguments'}'\n")
    (tmp_path / "ganbench").chmod(0o755)
    again = times(tmp_path)
    assert (tmp_path / "arguments").read_text() == f"run {suite} --set budget=cpu --jobs 1\n"  # not --fresh
    assert pd.isna(again["minutes"])  # resumed
    assert again["core_hours"] == first["core_hours"]


def test_a_table_that_nobody_has_read_ends_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    papers = script("papers")
    monkeypatch.setattr(papers, "KEPT", tmp_path)
    table = {"heading": "Table 1", "suite": "tiny", "not_run": "too long."}
    assert papers.verdict(table) == ("not run", "too long.", "")
    (tmp_path / "tiny-ci.csv").touch()
    table["verdict"] = {"ci": {"is": "agrees", "why": "the same."}}
    assert papers.verdict(table) == ("agrees", "the same.", "ci")
    (tmp_path / "tiny-cpu.csv").touch()  # says more than the one for CI
    with pytest.raises(
        SystemExit, match=r"read results/reference/papers/tiny-cpu.csv and write `verdict.cpu`"
    ):
        papers.verdict(table)
    table["verdict"]["cpu"] = {"is": "agreeable", "why": "?"}
    with pytest.raises(SystemExit, match="expected one of agrees"):
        papers.verdict(table)


def test_pages_mark_what_is_no_better_than_a_floor() -> None:
    papers = script("papers")
    row = pd.Series({"mean": 1.0, "low": 0.5, "high": 1.5, "std": 0.4, "sem": 0.1, "n_ok": 4, "n": 4})
    assert papers.measured_text(row) == "1.00 [0.50, 1.50]"
    low = pd.concat([row, pd.Series({"at_floor": True, "invalid": float("nan")})])
    assert papers.measured_text(low) == "1.00‡ [0.50, 1.50]"
    assert papers.marks([["a", papers.measured_text(low)]]).startswith("‡ no better than")
    assert (
        papers.measured_text(pd.concat([row, pd.Series({"at_floor": True, "invalid": "why"})]))
        == "1.00† [0.50, 1.50]"
    )


def test_the_overview_has_a_row_for_each_table() -> None:
    text = (ROOT / "docs/papers/index.md").read_text("utf-8")
    for path in (ROOT / "docs/papers").glob("*.yaml"):
        for table in yaml.safe_load(path.read_text("utf-8"))["tables"]:
            assert f"({path.stem}.md), {table['heading']} |" in text
