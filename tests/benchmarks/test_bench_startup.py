"""Time of the command line until it answers, as a multiple of an empty Python's."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

CODE = "import sys; from ganbench.cli import main; main(sys.argv[1:])"


def seconds(code: str, *words: str) -> float:
    """The best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)
        best = min(best, time.perf_counter() - start)
    return best


@pytest.mark.parametrize("words", [("--help",), ("list",), ("validate", "quickstart")], ids=" ".join)
def test_start_up(benchmark, words):
    empty = seconds("pass")
    benchmark.pedantic(subprocess.run, args=([sys.executable, "-c", CODE, *words],),
                       kwargs={"capture_output": True, "check": True}, rounds=3)  # fmt: skip
    benchmark.extra_info["empty python, seconds"] = empty
    benchmark.extra_info["ratio"] = benchmark.stats.stats.min / empty
