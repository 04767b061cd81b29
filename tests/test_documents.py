"""The pages that are generated from the code are what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_pages_are_what_the_code_says():
    """Every metric says, too, against what its numbers were checked, and every key of a suite what it is for: else the
    script ends with that."""
    command = [sys.executable, str(ROOT / "scripts" / "document"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
