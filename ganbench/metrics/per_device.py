"""References computed on the device of the samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import device

T = TypeVar("T")


class PerDevice(Generic[T]):
    """A value that `compute(device)` makes when it is first asked for on that device, and that is then reused.

    A metric's `reference(data)` does not know the device of the samples yet, and the data are on the CPU, where a
    large net would take hours. So it returns a `PerDevice`, and the metric asks for the value on the samples' device.
    """

    def __init__(self, compute: Callable[[device], T]) -> None:
        self.compute = compute
        self.values: dict[device, T] = {}

    def on(self, place: device) -> T:
        """The value on the device `place`."""
        if place not in self.values:
            self.values[place] = self.compute(place)
        return self.values[place]
