"""Numbers and tables as people read them."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence


def decimals(error: float) -> int:
    """Decimals that show an uncertainty with two significant digits: 0.034 -> 3, 1.3 -> 1, 12 -> 0; at most 6.

    Where there is no uncertainty (zero, NaN, infinite): 2.
    """
    if not math.isfinite(error) or error <= 0:
        return 2
    return min(max(1 - math.floor(math.log10(error)), 0), 6)


def number(value: float, error: float) -> str:
    """A number with as many decimals as its standard error allows; NaN: nothing. Without an error (NaN or
    zero) it has two decimals. Where zeros would hide it, three significant digits: 4.21e-07."""
    if not math.isfinite(value):
        return ""
    known = math.isfinite(error) and error > 0
    shown = decimals(error)
    if abs(value) >= 1e7 or (not known and 0 < abs(value) < 0.1) or (shown > 5 and 0 < abs(value) < 0.001):
        return f"{value:.3g}"
    return f"{value:z.{min(shown, 5)}f}"


def p_value(p: float) -> str:
    """`= 0.004`, `< 0.0001`; two significant digits, three near 0.05, where two would hide on which side p is."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.{3 if 0.045 < p < 0.055 else 2}g}"


def plural(count: int, noun: str) -> str:
    """`1 seed`, `5 seeds`"""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def seed_names(numbers: Sequence[int]) -> str:
    """`seed 3`, `seeds 0, 1, 4`, `seeds 0–4`; numbers in ascending order."""
    if len(numbers) == 1:
        return f"seed {numbers[0]}"
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"seeds {numbers[0]}–{numbers[-1]}"
    return f"seeds {', '.join(map(str, numbers))}"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()) -> str:
    """A table in Markdown of cells that are Markdown already; the columns `right`, counted from 0, are set to the
    right."""
    marks = ["---:" if column in right else "---" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, marks, *rows))


def escape_markdown(text: str) -> str:
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]#|~$" else c for c in " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
