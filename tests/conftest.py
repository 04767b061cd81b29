"""What all tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pretend_cuda import PretendDevice
    from runs import Bench


# Python's garbage collector walks through all objects again and again. Those of the imports stay, so it is off while
# the tests are imported, and leaves these objects alone afterwards.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: GANBENCH_DATA, else `shared/data` beside the checkout; skips without it."""
    named = os.environ.get("GANBENCH_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: set GANBENCH_DATA ({folder} is no folder)")
    return folder


@pytest.fixture
def mnist(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds MNIST, in GANBENCH_DATA too; skips without it."""
    if not (real_data / "MNIST" / "raw").is_dir():
        pytest.skip(f"no MNIST in {real_data}")
    monkeypatch.setenv("GANBENCH_DATA", str(real_data))
    return real_data


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Runs without tables, plots and report, which take longer than they do."""
    from runs import Bench

    from ganbench.execution import run

    monkeypatch.setattr(run, "REPORTS", ())
    monkeypatch.setattr(run, "_print_tables", lambda root, console: None)
    return Bench(tmp_path)


@pytest.fixture
def cuda() -> Callable[[], AbstractContextManager[PretendDevice]]:
    """A pretend CUDA device: `with cuda() as device:`."""
    from pretend_cuda import pretend_cuda

    return pretend_cuda
