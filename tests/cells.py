"""Cells and data for tests, made as a user makes them: from a suite."""

from __future__ import annotations

import textwrap
from pathlib import Path

import torch

from ganbench.contracts import Data
from ganbench.suite.load import load
from ganbench.suite.plan import Cell, make_cells


def cells(
    folder: Path, methods: str, *, train: str = "{steps: 20, batch: 16}", plugins: str = ""
) -> list[Cell]:
    """The cells of a suite with these methods on a small ring; `plugins` is written beside it as mine.py."""
    if plugins:
        (folder / "mine.py").write_text(textwrap.dedent(plugins), encoding="utf-8")
    path = folder / "suite.yaml"
    path.write_text(
        f"name: tiny\nseeds: 4\ntrain: {train}\ndatasets: [ring]\nmethods: {methods}\nmetrics: [kde_ll]\n",
        encoding="utf-8",
    )
    return list(make_cells(load(path)))


def points(n: int = 200, dtype: torch.dtype = torch.float32) -> Data:
    """A blob in the plane."""
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(1)).to(dtype)
    return Data("points", x, x, x, (2,))


def pixels(side: int = 8, channels: int = 1, n: int = 64) -> Data:
    """Random images."""
    x = torch.randint(0, 256, (n, channels, side, side), generator=torch.Generator().manual_seed(1)).byte()
    return Data("pixels", x, x, x, (channels, side, side), (0.0, 1.0))
