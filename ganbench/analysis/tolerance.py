"""How far a mean may move before anybody asks why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import RequestError, did_you_mean


@dataclass(frozen=True)
class Limit:
    """So many units, or a percentage of the reference's mean."""

    number: float
    percent: bool

    def of(self, mean: float) -> float:
        """The limit in units."""
        return abs(mean) * self.number / 100 if self.percent else self.number


@dataclass(frozen=True)
class Tolerances:
    """A limit for all metrics, and others for some."""

    every: Limit = Limit(1.0, percent=True)
    own: Mapping[str, Limit] = field(default_factory=dict)

    def of(self, metric: str, mean: float) -> float:
        """How far a metric with this mean may move, in its unit."""
        return self.own.get(metric, self.every).of(mean)

    def check_names(self, known: set[str]) -> None:
        """Raises RequestError for a metric that is not known."""
        for metric in self.own:
            if metric not in known:
                hint = did_you_mean(metric, known)
                raise RequestError(f"tolerance of {metric!r}: neither table has such a metric{hint}")


def parse(texts: Iterable[str]) -> Tolerances:
    """`5%` for all metrics, `kde_ll=2` (in its unit) or `kde_ll=1%` for one. Raises RequestError."""
    every, own = Tolerances().every, {}
    for text in texts:
        metric, equals, limit = (part.strip() for part in text.rpartition("="))
        percent = limit.endswith("%")
        number = _number(limit.removesuffix("%"))
        if not 0 <= number < math.inf or bool(metric) != bool(equals) or not (percent or equals):
            raise RequestError(f"tolerance {text!r}: expected 5%, METRIC=2 or METRIC=1%, not below zero")
        if metric:
            own[metric] = Limit(number, percent)
        else:
            every = Limit(number, percent)
    return Tolerances(every, own)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
