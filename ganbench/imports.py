"""Imports of large libraries, which Python's collector only delays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """For blocks that mostly import. What they make stays and is no garbage, and looking through it takes a fifth of
    their time, and some of every later collection."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
