"""The tolerance of a check: how far a mean may move."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import RequestError, did_you_mean

_EXPECTED = "expected 5%, METRIC=2 or METRIC=1%, not below zero"


@dataclass(frozen=True)
class Tolerance:
    """How far means may move, in per cent of the reference's mean or in units, for all metrics or for single ones."""

    percent: float = 1.0  # of the metrics that `limits` does not name
    # Metric -> (number, whether it is per cent).
    limits: Mapping[str, tuple[float, bool]] = field(default_factory=dict)

    @staticmethod
    def parse(texts: Iterable[str]) -> Tolerance:
        """`5%` for all metrics, `kde_ll=2` (in its unit) or `kde_ll=1%` for one. Raises RequestError otherwise."""
        percent, limits = Tolerance.percent, {}
        for text in texts:
            metric, equals, limit = (part.strip() for part in text.rpartition("="))
            try:
                number = float(limit.removesuffix("%"))
            except ValueError:
                number = math.nan
            relative = limit.endswith("%")
            # Not a bare number: it would apply to all metrics, which have different units.
            if not 0 <= number < math.inf or bool(metric) != bool(equals) or not (relative or equals):
                raise RequestError(f"tolerance {text!r}: {_EXPECTED}")
            if metric:
                limits[metric] = number, relative
            else:
                percent = number
        return Tolerance(percent, limits)

    def of(self, metric: str, mean: float) -> float:
        """How far a metric with this mean may move, in its unit."""
        number, relative = self.limits.get(metric, (self.percent, True))
        return abs(mean) * number / 100 if relative else number

    def check_names(self, known: set[str]) -> None:
        """Raises RequestError for a limit of a metric that is not known."""
        for metric in self.limits:
            if metric not in known:
                hint = did_you_mean(metric, known)
                raise RequestError(f"tolerance of {metric!r}: neither table has such a metric{hint}")
