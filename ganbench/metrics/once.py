"""What a metric computes of the data alone: once, and where the samples are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import device

T = TypeVar("T")


class Once(Generic[T]):
    """A value that `compute` makes on the device on which it is first asked for; later it is the same one.

    A metric's `reference` sees only data, which lie on the CPU, where a large net would take hours over them.
    """

    def __init__(self, compute: Callable[[device], T]) -> None:
        self.compute = compute
        self.found: list[T] = []

    def on(self, place: device) -> T:
        """The value, made on `place` if it is not there yet."""
        if not self.found:
            self.found.append(self.compute(place))
        return self.found[0]
