"""A small file of plugins, and a suite of them, for tests that run nothing."""

from __future__ import annotations

from pathlib import Path

PLUGINS = '''
"""Made-up plugins."""

from typing import Literal

from ganbench import Value, dataset, method, metric, trick


@method
class Mine:
    """Someone 2024, eq. 1: a method.

    More about it.
    """

    lr: float = 1e-3  # learning rate
    sizes: tuple[int, ...] = (8, 8)  # hidden units
    loss: Literal["minimax", "non-saturating"] = "minimax"
    clip: float | None = None
    fast: bool = False

    def game(self, data): ...


@method
class Own:
    """Trains by itself."""

    units: int  # how many

    def fit(self, data, seed, budget): ...


@trick
class Noise:
    """A trick."""

    sigma: float = 0.5


@metric(Value("hits", "modes", "higher"), needs=("modes",))
class Hits:
    """Needs modes."""

    radius: float = 3


@metric(Value("probe", "nats", "lower"), needs=("generator",), version=2)
class Probe:
    """Needs a generator."""


@dataset(provides=("modes",))
def dots(generator, n: int = 5, centre: tuple[float, float] = (0, 0)):
    """Dots."""


@dataset()
def flat(generator):
    """No modes."""
'''

SUITE = """\
name: tiny
seeds: 2
datasets: [p.py:dots]
methods: [p.py:Mine]
metrics: [p.py:Hits]
"""


def write(folder: Path, suite: str = SUITE, plugins: str = PLUGINS) -> Path:
    """Both files in a folder; gives the suite's."""
    (folder / "p.py").write_text(plugins, encoding="utf-8")
    path = folder / "suite.yaml"
    path.write_text(suite, encoding="utf-8")
    return path
