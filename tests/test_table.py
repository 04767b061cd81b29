"""Records to tables: what is counted, what is compared, what is escaped."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_run import METHODS, NASTY, FakeRun

from ganbench.analysis.summary import summary
from ganbench.contracts import COLUMNS
from ganbench.errors import StoreError
from ganbench.report import tables
from ganbench.report.document import escape_latex, render
from ganbench.store.results import open_run, read_records


def record(**changes: Any) -> dict[str, Any]:
    """A record; what is not said is as here."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {
        "suite": "s",
        "dataset": "ring",
        "method": "gan",
        "label": "gan",
        "tricks": [],
        "params": {},
        "seed": 0,
    }
    row |= {"metric": "modes", "protocol": "aaaaaaaa", "value": 1.0, "unit": "modes", "better": "higher"}
    row |= {
        "status": "ok",
        "seconds": 0.1,
        "train_seconds": 1.0,
        "device": "cpu",
        "dtype": "float32",
        "stack": 1,
    }
    return {**row, "cell": "c", "version": "0.1.0", **changes}


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """Records as `load` gives them."""
    return pd.DataFrame(list(rows), columns=pd.Index(COLUMNS)).astype({"value": "float64", "sem": "float64"})


def seeds(label: str, *values: float | None, **changes: Any) -> list[dict[str, Any]]:
    """Records of one method; None is a seed that diverged."""
    return [
        record(label=label, seed=i, value=value, status="ok" if value is not None else "diverged", **changes)
        for i, value in enumerate(values)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    FakeRun(folder).write(["ring", "line"], [*METHODS, *NASTY], seeds=5)
    tables.write(folder)
    return folder


# ---------------------------------------------------------------------------------------------- reading


def test_load_gives_the_columns_of_the_contract(run: Path) -> None:
    records = read_records(run)
    assert tuple(records.columns) == COLUMNS
    assert len(records) == len((run / "records.jsonl").read_text().splitlines())
    assert records["value"].dtype == np.float64
    assert records[records["label"] == "broken"]["value"].isna().all()


def test_a_run_that_was_opened_is_not_read_again(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["ring", "line"], METHODS, seeds=3)
    before = {path.name: path.read_bytes() for path in tables.write(tmp_path)}
    opened = open_run(tmp_path)
    assert open_run(opened) is opened
    shutil.rmtree(tmp_path / "tables")
    shutil.rmtree(tmp_path / "cells")
    (tmp_path / "records.jsonl").unlink()
    assert {path.name: path.read_bytes() for path in tables.write(opened)} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "records.jsonl: no such file; expected the directory that `run` wrote"),
        ("{}\n", "records.jsonl:1: the record has no 'suite'; run the suite again to rebuild it"),
        (
            json.dumps(record()) + '\n{"suite"',
            "records.jsonl:2: is not a record in JSON; run the suite again to rebuild it",
        ),
        ("[1]\n", "records.jsonl:1: is not a record in JSON; run the suite again to rebuild it"),
    ],
)
def test_load_says_what_is_wrong(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "records.jsonl").write_text(text)
    with pytest.raises(StoreError) as caught:
        read_records(tmp_path)
    assert str(caught.value) == f"{tmp_path}/{message}"


def test_no_records_make_empty_tables(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text("")
    assert [path.name for path in tables.write(tmp_path)] == [
        "summary.csv",
        "summary.md",
        "summary.tex",
        "summary.html",
    ]


# ---------------------------------------------------------------------------------------------- summary


def test_failed_seeds_are_counted_and_enter_no_mean() -> None:
    rows = [*seeds("gan", 1.0, 3.0, None), record(seed=3, value=None, status="timeout")]
    row = summary(frame(*rows)).iloc[0]
    assert (row["mean"], row["n_ok"], row["n"]) == (2.0, 2, 4)
    assert (row["diverged"], row["timeout"], row["failed"]) == (1, 1, 0)
    assert row["std"] == pytest.approx(math.sqrt(2))


def test_a_missing_value_without_a_status_counts_as_failed() -> None:
    row = summary(frame(*seeds("gan", 1.0), record(seed=1, value=None))).iloc[0]
    assert (row["n_ok"], row["n"], row["failed"]) == (1, 2, 1)


def test_the_two_uncertainties_stand_apart() -> None:
    rows = [record(seed=i, value=v, sem=s) for i, (v, s) in enumerate([(1.0, 0.1), (2.0, 0.5), (3.0, 0.2)])]
    row = summary(frame(*rows)).iloc[0]
    assert row["sem"] == pytest.approx(math.sqrt((0.1**2 + 0.5**2 + 0.2**2) / 3))
    assert row["low"] < 2 < row["high"]


@pytest.mark.parametrize(
    ("sems", "common"),
    [
        ([0.3, 0.4, None], math.sqrt(0.125)),
        ([0.0, 0.4, 0.3], math.sqrt(0.25 / 3)),  # a percentage of 100 has a sem of 0
        ([0.03, 5e-13, 4.7e-13], math.nan),  # neither number tells of the others
        ([0.0, 0.0, 0.2], math.nan),
        ([0.0, 0.0, 0.0], 0.0),
        ([None, None, None], math.nan),
    ],
)
def test_one_standard_error_for_all_seeds(sems: list[float | None], common: float) -> None:
    rows = [record(seed=i, value=float(i), sem=sem) for i, sem in enumerate(sems)]
    assert summary(frame(*rows))["sem"].iloc[0] == pytest.approx(common, nan_ok=True)


def test_one_seed_has_no_interval() -> None:
    row = summary(frame(record())).iloc[0]
    assert row["mean"] == 1
    assert row[["low", "high", "std"]].isna().all()


def test_protocols_are_never_mixed() -> None:
    rows = [*seeds("gan", 1.0, 2.0), *seeds("gan", 5.0, 6.0, protocol="bbbbbbbb"), *seeds("vae", 1.0, 1.5)]
    found = summary(frame(*rows))
    assert found[["label", "protocol", "mean"]].to_numpy().tolist() == [
        ["gan", "aaaaaaaa", 1.5], ["gan", "bbbbbbbb", 5.5], ["vae", "aaaaaaaa", 1.25],
    ]  # fmt: skip
    assert found["mixed"].all()
    assert not found["best"].any()
    shown = tables.tables(found)[0]
    assert [(column.protocol, column.mixed) for column in shown.columns] == [
        ("aaaaaaaa", True),
        ("bbbbbbbb", True),
    ]
    assert shown.rows[1].entries[1] is None


def test_a_failed_seed_without_a_protocol_belongs_to_the_others() -> None:
    rows = [*seeds("gan", 1.0), record(seed=1, value=None, status="failed", protocol="")]
    rows += [record(label="vae", value=None, status="failed", protocol="")]
    found = summary(frame(*rows))
    assert found[["label", "protocol", "n_ok", "n", "mixed"]].to_numpy().tolist() == [
        ["gan", "aaaaaaaa", 1, 2, False], ["vae", "aaaaaaaa", 0, 1, False],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        (seeds("a", 1.0, 2.0) + seeds("b", 3.0, 4.0), ["b"]),
        (seeds("a", 1.0, 2.0, better="lower") + seeds("b", 3.0, 4.0, better="lower"), ["a"]),
        (seeds("a", 1.0, 2.0), []),  # nothing to be better than
        (seeds("a", 1.0) + seeds("b", 2.0), []),  # one seed decides nothing
        (seeds("a", 1.0, 2.0) + seeds("b", 3.0, 4.0, None), []),  # without its diverged seed it looks better
        (seeds("a", 1.0, 2.0, None) + seeds("b", 3.0, 4.0), ["b"]),
        (seeds("a", 1.0, 2.0) + seeds("b", 1.0, 2.0), []),  # all equal
        (seeds("a", 2.0, 2.0) + seeds("b", 2.0, 2.0) + seeds("c", 1.0, 1.0), ["a", "b"]),
        (seeds("a", 1.0, 2.0) + seeds("b", None, None), []),
    ],
)
def test_best_is_marked_where_that_makes_sense(rows: list[dict[str, Any]], best: list[str]) -> None:
    found = summary(frame(*rows))
    assert found[found["best"]]["label"].tolist() == best


def test_a_value_whose_control_failed_is_shown_and_not_ranked() -> None:
    """One seed is enough, and a seed that failed says nothing."""
    rows = seeds("a", 3.0, 4.0, 5.0) + seeds("b", 1.0, 2.0, 3.0)
    rows[0]["invalid"] = "its own samples have the error 0.02"
    rows += seeds("c", 0.5, 1.0, None)
    rows[-1]["invalid"] = "no value, no matter"
    found = summary(frame(*rows))
    assert found["invalid"].tolist() == ["1 of 3 seeds: its own samples have the error 0.02", "", ""]
    assert found[found["best"]]["label"].tolist() == ["b"]
    (shown,) = tables.tables(found)
    entry = shown.rows[0].entries[0]
    assert entry is not None
    assert (entry.text[:6], entry.sort) == ("4.00† ", None)
    note = (
        "† modes is not valid here, so neither ranked nor compared: a (1 of 3 seeds: its own samples have the error "
        "0.02)."
    )
    assert shown.notes == (note,)
    assert "4.00† [" in render("summary.md.j2", title="s", tables=[shown])
    assert note in render("summary.md.j2", title="s", tables=[shown])
    assert r"$4.00^\dagger\;[" in render("summary.tex.j2", title="s", tables=[shown])
    assert r"\dag{} modes is" in render("summary.tex.j2", title="s", tables=[shown])
    page = render("summary.html.j2", title="s", tables=[shown])
    assert '<td class="num">4.00<sup>†</sup>' in page
    assert note in page


@pytest.mark.parametrize(("better", "mark", "side"), [("higher", "‡", "above"), ("lower", "", "below")])
def test_a_value_that_is_no_better_than_the_floor_is_marked(better: str, mark: str, side: str) -> None:
    low, high = seeds("a", 1.0, 2.0, better=better, floor=1.6), seeds("b", 3.0, 4.0, better=better, floor=1.6)
    (shown,) = tables.tables(summary(frame(*low, *high)))
    first, second = (row.entries[0] for row in shown.rows)
    assert first is not None
    assert second is not None
    assert (first.mark, second.mark) == (("‡", "") if better == "higher" else ("", "‡"))
    label = "a" if mark else "b"
    forms = {kind: render(f"summary.{kind}.j2", title="s", tables=[shown]) for kind in ("md", "tex", "html")}
    assert all("the floor, which a trivial sampler reaches" in text for text in forms.values())
    value = "1.50" if mark else "3.50"
    marks = {"md": f"{value}‡", "tex": rf"{value}^\ddagger", "html": f"{value}<sup>‡</sup>"}
    assert [forms[kind].count(text) for kind, text in marks.items()] == [1, 1, 1]
    assert shown.notes == (
        f"‡ modes is not {side} the floor, which a trivial sampler reaches: {label} (1.6).",
    )


def test_the_best_of_methods_that_have_not_learned_is_not_bold() -> None:
    def best(floor: float) -> list[str]:
        rows = seeds("a", 1.0, 2.0, floor=floor) + seeds("b", 3.0, 4.0, floor=floor)
        found = summary(frame(*rows))
        return found[found["best"]]["label"].tolist()

    assert best(3.4) == ["b"]
    assert best(3.5) == []  # nor does the second become the best
    (shown,) = tables.tables(summary(frame(*seeds("a", 1.0, 2.0, floor=9), *seeds("b", 3.0, 4.0, floor=9))))
    assert "Bold" not in shown.caption
    assert "**" not in render("summary.md.j2", title="s", tables=[shown])


def test_order_is_that_of_the_records() -> None:
    rows = seeds("z", 1.0) + seeds("a", 1.0) + seeds("z", 1.0, dataset="b")
    found = summary(frame(*rows))
    assert found[["dataset", "label"]].to_numpy().tolist() == [["ring", "z"], ["ring", "a"], ["b", "z"]]


def test_a_summary_of_many_records() -> None:
    rng = np.random.default_rng(0)
    base = pd.DataFrame([record()])
    many = base.loc[base.index.repeat(20_000)].reset_index(drop=True)
    many = many.assign(seed=np.tile(np.arange(5), 4000), value=rng.normal(size=20_000), sem=0.1)
    many = many.assign(
        label=[f"m{i // 200}" for i in range(20_000)], metric=[f"v{i // 5 % 40}" for i in range(20_000)]
    )
    found = summary(many)
    assert len(found) == 4000


# ---------------------------------------------------------------------------------------------- for people


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (3.14159, 0.03, "3.142"),
        (-7.0, 12, "-7"),
        (1e-14, 0.01, "0.000"),
        (2.5e9, 1, "2.5e+09"),
        (8.0, 0, "8.00"),
        (0.000123, math.nan, "0.000123"),
        (math.nan, 1, ""),
        (4.214e-7, 3e-8, "4.21e-07"),
        (0.0, 3e-8, "0.00000"),
        (-1e-9, 0.1, "0.00"),
    ],
)
def test_numbers(value: float, error: float, text: str) -> None:
    assert tables.number(value, error) == text


def test_decimals_follow_the_larger_uncertainty() -> None:
    rows = [record(seed=i, value=v, sem=0.95) for i, v in enumerate([29.3658, 29.3661, 29.3649])]
    entry = tables.tables(summary(frame(*rows)))[0].rows[0].entries[0]
    assert entry is not None
    assert entry.text == "29.37 [29.36, 29.37] ± 0.95"


def test_entries_follow_the_standard_error() -> None:
    rows = [record(seed=i, value=v, sem=0.4) for i, v in enumerate([241.8, 243.1, 242.9, 244.0, 242.2])]
    entry = tables.tables(summary(frame(*rows)))[0].rows[0].entries[0]
    assert entry is not None
    assert entry.text == "242.80 [241.74, 243.86] ± 0.40"


def test_seeds_are_shown_when_some_are_missing() -> None:
    whole = tables.tables(summary(frame(*seeds("a", 1.0, 2.0), *seeds("b", 1.0, 2.0))))[0]
    assert not whole.show_seeds
    assert "2 seeds each" in whole.caption
    rows = seeds("a", 1.0, None) + seeds("b", 1.0, 2.0) + seeds("b", 1.0, 2.0, metric="kl")
    partial = tables.tables(summary(frame(*rows, *seeds("a", 1.0, 1.0, metric="kl"))))[0]
    assert partial.show_seeds
    assert [(row.seeds, row.failures) for row in partial.rows] == [("1–2/2", "1 diverged"), ("2/2", "")]
    entry = partial.rows[0].entries[0]
    assert entry is not None
    assert entry.seeds == "1/2"


def test_csv_is_unrounded_and_runs_nothing_in_a_spreadsheet(run: Path) -> None:
    with (run / "tables" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = summary(read_records(run))
    assert [float(row["mean"] or "nan") for row in rows] == pytest.approx(
        found["mean"].tolist(), rel=0, abs=0, nan_ok=True
    )
    assert {row["label"] for row in rows} >= {"'=cmd", "_x", "a$b", "<script>alert(1)</script>"}
    texts = [row[name] for row in rows for name in ("suite", "dataset", "label", "method", "unit")]
    assert not [text for text in texts if text.startswith(("=", "+", "-", "@"))]


def test_markdown() -> None:
    rows = [
        *seeds("a|b", 1.0, 2.0, unit="nats"),
        *seeds("_<x>_", 4.0, 4.0, unit="nats"),
        *seeds("c", None, None, unit="nats"),
    ]
    text = render("summary.md.j2", title="s", tables=tables.tables(summary(frame(*rows))))
    assert text == (
        "# s\n\n## ring\n\n"
        "| method | seeds | modes ↑ (nats) |\n"
        "| --- | ---: | ---: |\n"
        "| a\\|b | 2/2 | 1.50 [-4.85, 7.85] |\n"
        "| \\_&lt;x&gt;\\_ | 2/2 | **4.00** [4.00, 4.00] |\n"
        "| c | 0/2 (2 diverged) | – |\n\n"
        "Mean over training seeds [95 % t interval over seeds; it may leave the range of a score]; "
        "failed seeds are left out of means. Bold: best mean.\n"
    )


def test_a_column_has_one_notation() -> None:
    """Where one value needs an exponent all have one; in LaTeX its minus is no operator."""
    rows = [*seeds("a", 0.3, 0.5), *seeds("b", 2e-12, 4e-12), *seeds("c", None)]
    (table,) = tables.tables(summary(frame(*rows)))
    texts = [row.entries[0].text for row in table.rows if row.entries[0]]
    assert texts == ["4.00e-1 [-8.71e-1, 1.67e0]", "3.00e-12 [-9.71e-12, 1.57e-11]", "–"]
    assert r"$3.00\mathrm{e}{-12}\;[" in render("summary.tex.j2", title="s", tables=[table])
    (plain,) = tables.tables(summary(frame(*seeds("a", 0.3, 0.5))))
    assert plain.rows[0].entries[0] is not None
    assert plain.rows[0].entries[0].mean == "0.40"


def test_latex_is_escaped(run: Path) -> None:
    text = (run / "tables" / "summary.tex").read_text()
    for line in (
        r"\toprule",
        r"a\$b &",
        r"\_x &",
        r"\textless{}script\textgreater{}",
        r"kde\_ll $\uparrow$ (nats)",
    ):
        assert line in text
    assert escape_latex("[a] * 50 % & #1_{x}^~\\") == (
        r"{[}a] {*} 50 \% \& \#1\_\{x\}\textasciicircum{}\textasciitilde{}\textbackslash{}"
    )


def test_html_is_escaped(run: Path) -> None:
    text = (run / "tables" / "summary.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text
    assert text.count("<table") == 2
