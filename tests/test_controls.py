"""What stands beside the numbers in tables and reports: controls, verdicts by seeds, cautions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_run import METHODS, FakeRun
from rich.console import Console

from ganbench.analysis import controls
from ganbench.analysis.summary import summary
from ganbench.execution.progress import print_grid
from ganbench.report import figures
from ganbench.report.document import render
from ganbench.report.page import copying
from ganbench.report.tables import ControlTable, control_tables, notes, tables
from ganbench.store.results import Cell, Run, ScoreFile, Seed
from ganbench.store.results import read_records as load

CONTROL = {
    "ceiling": 243.8124,
    "floor": 102,
    "control_train": {"precision": 0.9},
    "n": 3,
    "control_note": "x",
}


def seed(
    number: int,
    metric: str,
    details: dict[str, Any],
    status: str = "ok",
    values: tuple[tuple[str, str], ...] = (),
) -> Seed:
    score = ScoreFile(Path("none.json"), {"metric": metric, "details": details}, values)
    return Seed(number, Path("none"), {"status": status}, (score,))


def run(**cells: list[Seed]) -> Run:
    made = tuple(Cell(Path("none"), "ring", label, {}, tuple(seeds), None) for label, seeds in cells.items())
    return Run(Path("none"), pd.DataFrame(), {}, made)


def test_controls_are_numbers_by_method() -> None:
    frame = controls.controls(run(gan=[seed(i, "kde_ll", CONTROL | {"floor": 100 + i}) for i in (0, 2)]))
    assert frame["control"].tolist() == ["ceiling", "floor", "train precision"]
    assert frame["value"].tolist() == pytest.approx([243.8124, 101, 0.9])
    assert frame["n"].tolist() == [2, 2, 2]


def test_one_row_for_all_methods_or_one_for_each() -> None:
    same = {"ceiling": 243.8124}
    found = control_tables(
        run(gan=[seed(0, "kde_ll", same)], vae=[seed(0, "kde_ll", same), seed(1, "kde_ll", same, "diverged")])
    )
    assert found["ring"].heads == ("control", "kde_ll")
    assert found["ring"].rows == (("real data (ceiling)", "243.8"),)
    apart = run(
        gan=[seed(0, "probe", {"control_pixels": 95})], vae=[seed(0, "probe", {"control_pixels": 96.5})]
    )
    assert control_tables(apart)["ring"].rows == (("pixels, gan", "95"), ("pixels, vae", "96.5"))
    assert control_tables(run(gan=[seed(0, "modes", {"counts": [1, 2]})])) == {}


def test_a_control_of_several_values_is_one_row_in_their_columns() -> None:
    """What the metric calls `floor_gaussian.reverse_kl` stands below `reverse_kl`; a value that only controls have
    gets a column, in which the methods' own stand too; floors and ceilings come first."""
    values = (("modes", "p"), ("reverse_kl", "p"))

    def details(own: int) -> dict[str, Any]:
        ceiling = {"modes": 8, "modes_10_pct": 7, "reverse_kl": 0.0123456}
        floor = {"modes": 5, "modes_10_pct": 0, "reverse_kl": 0.6}
        return {"control_modes_10_pct": own, "accuracy": 0.5, "ceiling": ceiling, "floor_gaussian": floor}

    made = run(
        gan=[seed(0, "modes", details(1), values=values)], vae=[seed(0, "modes", details(6), values=values)]
    )
    found = control_tables(made)["ring"]
    assert found.heads == ("control", "modes_10_pct", "accuracy", "modes", "reverse_kl")
    assert found.rows == (
        ("fitted Gaussian (floor)", "0", "", "5", "0.6"),
        ("real data (ceiling)", "7", "", "8", "0.01235"),
        ("gan", "1", "", "", ""),
        ("vae", "6", "", "", ""),
        ("all methods", "", "0.5", "", ""),
    )
    records = pd.DataFrame({"metric": ["reverse_kl", "modes"]})
    ordered = control_tables(replace(made, records=records))["ring"]
    assert ordered.columns == ("reverse_kl", "modes", "modes_10_pct", "accuracy")


def test_verdicts_are_counted_and_a_caution_is_said_once() -> None:
    said = [
        {"verdict": f"{words} (3 of them)", "caution": "Beware."}
        for words in ("copies", "can't tell", "copies")
    ]
    found = notes(run(kde=[seed(i, "memorisation", details) for i, details in enumerate(said)]).cells)
    assert found == ("Verdict of memorisation, by seeds: kde: copies (2), can't tell (1).", "Beware.")


def test_devices_are_named_where_seeds_of_two_meet() -> None:
    def trained(label: str, *devices: str, interface: str = "game") -> Cell:
        seeds = tuple(
            Seed(i, Path("none"), {"status": "ok", "device": each}, ()) for i, each in enumerate(devices)
        )
        return Cell(Path("none"), "ring", label, {"interface": interface}, seeds, None)

    mine = trained("mine", "cpu", interface="samples")
    assert notes((trained("gan", "A100", "A100"), trained("vae", "A100"), mine)) == ()
    assert notes((trained("gan", "cpu", "A100", "A100"), trained("vae", "cpu"), mine)) == (
        "Seeds trained on several devices, where their minibatches differ: A100: gan (2); cpu: gan (1), vae (1).",
    )


def test_who_copies_is_said_with_dataset_and_seeds() -> None:
    kinds = {
        "kde": ("copies", "copies", "can't tell: few"),
        "gan": ("no sign of copying",),
        "file": ("copies of test examples",),
    }
    cells = {
        label: [
            seed(i, "memorisation", {"verdict": f"{words} (numbers)"}) for i, words in enumerate(verdicts)
        ]
        for label, verdicts in kinds.items()
    }
    assert copying(run(**cells)) == {
        "kde": "kde copies training examples: on ring in 2 of 3 seeds (memorisation).",
        "file": "file copies real examples: on ring in 1 of 1 seed (memorisation).",
    }


def test_scores_are_drawn_between_floor_and_ceiling() -> None:
    """The best of several floors, and none that differs between methods."""
    known = {"ceiling": {"kde_ll": 240.0}, "floor": {"kde_ll": 100.0}, "floor gaussian": {"kde_ll": 150.0}}
    known |= {"ceiling, gan": {"modes": 8.0}, "floor": {"kde_ll": 100.0, "recon_mse": 0.5}}
    rows = pd.DataFrame({"floor": [math.nan], "better": ["higher"]})
    assert figures._marks("kde_ll", rows, known) == {"ceiling": 240.0, "floor": 150.0}
    assert figures._marks("modes", rows, known) == {}
    assert figures._marks("recon_mse", rows.assign(better="lower", floor=0.25), known) == {"floor": 0.25}
    assert figures._marks("memorisation", rows, known) == {"½: like fresh data": 0.5}


def test_one_notation_in_a_column_of_controls() -> None:
    made = run(
        gan=[seed(0, "recon_mse", {"floor": 0.3, "ceiling": 2.4e-12}), seed(1, "kde_ll", {"floor": -3.5})]
    )
    rows = dict(
        zip(*zip(*((row[0], row[1:]) for row in control_tables(made)["ring"].rows), strict=True), strict=True)
    )
    assert rows == {"trivial sampler (floor)": ("3.00e-1", "-3.5"), "real data (ceiling)": ("2.40e-12", "")}


def test_nothing_beside_nothing() -> None:
    assert notes(run(gan=[seed(0, "modes", {"counts": [1, 2]})]).cells) == ()
    assert controls.controls(run(gan=[])).empty


def test_tables_show_them_escaped(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["ring"], METHODS, 2)
    beside = {"ring": ControlTable(("modes",), (("<b>_x_</b>", "-1.5"),))}
    shown = tables(summary(load(tmp_path)), {"ring": ("Beside <b>_x_</b>: 5 % off.",)}, beside)
    markdown, latex, html = (
        render(f"summary.{kind}.j2", title="s", tables=shown) for kind in ("md", "tex", "html")
    )
    assert r"Beside &lt;b&gt;\_x\_&lt;/b&gt;: 5 % off." in markdown
    assert r"| &lt;b&gt;\_x\_&lt;/b&gt; | -1.5 |" in markdown
    assert r"Beside \textless{}b\textgreater{}\_x\_" in latex
    assert r"\textless{}b\textgreater{}\_x\_\textless{}/b\textgreater{} & $-$1.5 \\" in latex
    assert "Beside &lt;b&gt;_x_&lt;/b&gt;: 5 % off." in html
    assert '<th scope="row">&lt;b&gt;_x_&lt;/b&gt;</th><td class="num">−1.5</td>' in html


@pytest.mark.parametrize("width", [40, 80])
def test_no_number_is_cut_in_a_narrow_terminal(width: int) -> None:
    heads, row = (
        ("control", "high_quality_pct", "reverse_kl"),
        ("fitted Gaussian (floor)", "12.25", "0.003732"),
    )
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as written:
        print_grid("ring: controls", heads, [row], console)
    lines = written.get().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in written.get()
    assert all(number in written.get() for number in row[1:])
