"""Search ranges of parameters, for the hyperparameter search. Nothing here imports torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from .errors import PluginError


@dataclass(frozen=True)
class SearchRange:
    """The search range of one parameter; exactly one of the three is given. Raises PluginError for anything else.

    log: least and greatest value, uniform in the logarithm
    linear: least and greatest value, uniform
    among: the values, each as likely as the others
    """

    log: tuple[float, float] | None = None
    linear: tuple[float, float] | None = None
    among: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            raise PluginError(
                "a search range has exactly one of log, linear and among, as in log=(1e-4, 1e-2)"
            )
        ((kind, value),) = given.items()
        if kind == "among":
            if not isinstance(value, tuple | list) or not value:
                raise PluginError(f"among: expected the values to try, as in among=(1, 2, 5); got {value!r}")
            object.__setattr__(self, "among", tuple(tuple(v) if isinstance(v, list) else v for v in value))
            return
        numbers = (
            isinstance(value, tuple | list)
            and len(value) == 2
            and all(type(v) in (int, float) for v in value)
        )
        if not numbers or not value[0] < value[1] or (kind == "log" and value[0] <= 0):
            bounds = "two numbers above 0" if kind == "log" else "two numbers"
            raise PluginError(f"{kind}: expected {bounds}, the least and the greatest value; got {value!r}")
        object.__setattr__(self, kind, (float(value[0]), float(value[1])))

    def value(self, u: float) -> Any:
        """The value at u in [0, 1): `low + u (high - low)`, the same in the logarithm, or one of the choices."""
        if self.among is not None:
            return self.among[min(int(u * len(self.among)), len(self.among) - 1)]
        low, high = self.log or self.linear or (0.0, 0.0)
        if self.log:
            low, high = math.log(low), math.log(high)
        x = low + u * (high - low)
        return math.exp(x) if self.log else x

    def __str__(self) -> str:
        if self.among is not None:
            return "among " + ", ".join(map(str, self.among))
        low, high = self.log or self.linear or (0.0, 0.0)
        return f"{low:g} to {high:g}" + (", logarithmic" if self.log else "")


def tunable(
    default: Any,
    *,
    log: tuple[float, float] | None = None,
    linear: tuple[float, float] | None = None,
    among: tuple[Any, ...] | None = None,
) -> Any:
    """The default of a dataclass field with a range in which a search (`tune:` in a suite) may look for better values:

        lr: float = tunable(1e-3, log=(1e-4, 1e-2))  # Adam's learning rate
        steps: int = tunable(1, among=(1, 2, 5))  # updates in each round

    The range is the same for all datasets; a suite may replace it. Content keys do not depend on it, so trained seeds
    stay valid when it changes. Write it as literals, since it is read without running the file. Raises PluginError as
    `SearchRange` does.
    """
    return field(default=default, metadata={"search": SearchRange(log, linear, among)})
