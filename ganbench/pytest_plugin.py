"""A pytest fixture for projects that test their results. Heavy modules are imported only when it is used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from .analysis.check import CheckResult


class GanbenchCheck(Protocol):
    """The type of the fixture `ganbench_check`."""

    def __call__(
        self,
        results: Path | str,
        reference: Path | str,
        tolerance: str | Iterable[str] = (),
        alpha: float = 0.05,
    ) -> CheckResult: ...


@pytest.fixture(scope="session")
def ganbench_check() -> GanbenchCheck:
    """`ganbench_check(results, reference, tolerance="5%")` fails the test if `ganbench check` would fail, with the same
    sentences; otherwise it returns the result. A wrong request raises RequestError."""

    def check(
        results: Path | str,
        reference: Path | str,
        tolerance: str | Iterable[str] = (),
        alpha: float = 0.05,
    ) -> CheckResult:
        from .analysis.check import check as compare

        result = compare(results, reference, tolerance, alpha)
        if not result.ok:
            lines = [result.headline, *(f"{row.outcome}: {row.sentence}" for row in result.failed)]
            pytest.fail("\n".join(lines), pytrace=False)
        return result

    return check
