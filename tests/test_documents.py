"""The pages that are generated from the code are what the code says."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["document", "papers"])
def test_the_pages_are_what_the_code_and_the_tables_say(monkeypatch, name):
    """Every metric says, too, against what its numbers were checked, and every key of a suite what it is for: else
    scripts/document ends with that."""
    monkeypatch.setattr(sys, "argv", [name, "--check"])
    runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")


def test_every_table_of_a_paper_has_a_page():
    """What was measured for a paper stands on a page, and no table of two budgets in one."""
    sources = [
        yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "docs/papers").glob("*.yaml")
    ]
    shown = {table["suite"] for page in sources for table in page["tables"]}
    kept = {path.stem.rpartition("-")[0] for path in (ROOT / "results/reference/papers").glob("*-*.csv")}
    suites = {path.stem for path in (ROOT / "suites/papers").glob("*.yaml")}
    assert kept <= shown <= suites
    for path in (ROOT / "results/reference/papers").glob("*-*.csv"):
        assert set(pd.read_csv(path)["suite"]) == {path.stem}
