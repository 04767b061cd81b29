"""A fixture for projects that test their results with pytest. Imports nothing heavy before it is used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from .analysis.check import Verdict


class GanbenchCheck(Protocol):
    """What the fixture `ganbench_check` gives."""

    def __call__(
        self,
        results: Path | str,
        reference: Path | str,
        tolerance: str | Iterable[str] = (),
        alpha: float = 0.05,
    ) -> Verdict: ...


@pytest.fixture(scope="session")
def ganbench_check() -> GanbenchCheck:
    """`ganbench_check(results, reference, tolerance="5%")` fails the test where `ganbench check` would fail, with the
    same sentences, and returns the verdict otherwise. A request that is wrong raises RequestError."""

    def check(
        results: Path | str,
        reference: Path | str,
        tolerance: str | Iterable[str] = (),
        alpha: float = 0.05,
    ) -> Verdict:
        from .analysis.check import check as compare

        verdict = compare(results, reference, tolerance, alpha)
        if not verdict.ok:
            lines = [verdict.headline, *(f"{row.outcome}: {row.sentence}" for row in verdict.failed)]
            pytest.fail("\n".join(lines), pytrace=False)
        return verdict

    return check
