"""The pages that are generated from the code are what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).parent.parent


def test_the_pages_are_what_the_code_says():
    """Every metric says, too, against what its numbers were checked, and every key of a suite what it is for: else the
    script ends with that."""
    command = [sys.executable, str(ROOT / "scripts" / "document"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_pages_of_the_papers_are_what_their_tables_say():
    command = [sys.executable, str(ROOT / "scripts" / "papers"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


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
