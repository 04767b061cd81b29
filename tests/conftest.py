"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: GANBENCH_DATA, else `shared/data` beside the checkout; skips without it."""
    named = os.environ.get("GANBENCH_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: set GANBENCH_DATA ({folder} is no folder)")
    return folder
