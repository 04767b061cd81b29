"""The papers' numbers: one file a paper, as they stand in the papers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).parent.parent / "results" / "published"
COLUMNS = [
    "paper",
    "table",
    "dataset",
    "method",
    "metric",
    "value",
    "error",
    "error_kind",
    "unit",
    "verified",
]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_a_file_of_published_numbers(path):
    rows = pd.read_csv(path)
    assert list(rows.columns) == COLUMNS
    assert set(rows["paper"]) == {path.stem}
    assert rows["value"].notna().all()
    assert not rows.duplicated(["table", "dataset", "method", "metric"]).any()
    assert rows.loc[rows["error"].notna(), "error_kind"].notna().all()  # an error says what kind it is


def test_a_known_row():
    rows = pd.read_csv(FOLDER / "goodfellow2014.csv").set_index(["dataset", "method"])
    assert tuple(rows.loc[("mnist", "gan"), ["value", "error"]]) == (225, 2)
