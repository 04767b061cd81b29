"""What stands beside the numbers in tables and reports: controls, verdicts by seeds, cautions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_run import METHODS, FakeRun

from ganbench.analysis import controls
from ganbench.analysis.summary import summary
from ganbench.report.tables import _html, _latex, _markdown, tables
from ganbench.store.results import Cell, Run, ScoreFile, Seed
from ganbench.store.results import read_records as load

CONTROL = {
    "ceiling": 243.8124,
    "floor": 102,
    "control_train": {"precision": 0.9},
    "n": 3,
    "control_note": "x",
}


def seed(number: int, metric: str, details: dict[str, Any], status: str = "ok") -> Seed:
    score = ScoreFile(Path("none.json"), {"metric": metric, "details": details})
    return Seed(number, Path("none"), {"status": status}, (score,))


def run(**cells: list[Seed]) -> Run:
    import pandas as pd

    made = tuple(Cell(Path("none"), "ring", label, {}, tuple(seeds), None) for label, seeds in cells.items())
    return Run(Path("none"), pd.DataFrame(), {}, made)


def test_controls_are_numbers_by_method() -> None:
    frame = controls.controls(run(gan=[seed(i, "kde_ll", CONTROL | {"floor": 100 + i}) for i in (0, 2)]))
    assert frame["control"].tolist() == ["ceiling", "floor", "train precision"]
    assert frame["value"].tolist() == pytest.approx([243.8124, 101, 0.9])
    assert frame["n"].tolist() == [2, 2, 2]


def test_one_for_all_methods_or_one_for_each() -> None:
    same = {"ceiling": 243.8124}
    found = controls.notes(
        run(gan=[seed(0, "kde_ll", same)], vae=[seed(0, "kde_ll", same), seed(1, "kde_ll", same, "diverged")])
    )
    assert found == {"ring": ("Beside kde_ll: ceiling 243.8.",)}
    apart = run(
        gan=[seed(0, "probe", {"control_pixels": 95})], vae=[seed(0, "probe", {"control_pixels": 96.5})]
    )
    assert controls.notes(apart) == {"ring": ("Beside probe: pixels (gan 95, vae 96.5).",)}


def test_verdicts_are_counted_and_a_caution_is_said_once() -> None:
    said = [
        {"verdict": f"{words} (3 of them)", "caution": "Beware."}
        for words in ("copies", "can't tell", "copies")
    ]
    found = controls.notes(run(kde=[seed(i, "memorisation", details) for i, details in enumerate(said)]))
    assert found == {
        "ring": ("Verdict of memorisation, by seeds: kde: copies (2), can't tell (1).", "Beware.")
    }


def test_nothing_beside_nothing() -> None:
    assert controls.notes(run(gan=[seed(0, "modes", {"counts": [1, 2]})])) == {"ring": ()}
    assert controls.controls(run(gan=[])).empty


def test_tables_show_them_escaped(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["ring"], METHODS, 2)
    shown = tables(summary(load(tmp_path)), {"ring": ("Beside <b>_x_</b>: 5 % off.",)})
    assert r"Beside &lt;b&gt;\_x\_&lt;/b&gt;: 5 % off." in _markdown("s", shown)
    assert r"Beside \textless{}b\textgreater{}\_x\_" in _latex("s", shown)
    assert "Beside &lt;b&gt;_x_&lt;/b&gt;: 5 % off." in _html("s", shown)
