"""Formatting of numbers, names and tables for readers."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Sequence

CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def decimals(error: float) -> int:
    """The number of decimals that shows an uncertainty with two significant digits: 0.034 -> 3, 1.3 -> 1, 12 -> 0; at
    most 6. Without an uncertainty (zero, NaN, infinite): 2.
    """
    if not math.isfinite(error) or error <= 0:
        return 2
    return min(max(1 - math.floor(math.log10(error)), 0), 6)


def number(value: float, error: float) -> str:
    """A number with the decimals that its standard error supports; "" for NaN. Without an error (NaN or zero): two
    decimals. A number that would be shown as zeros gets three significant digits: 4.21e-07."""
    if not math.isfinite(value):
        return ""
    known = math.isfinite(error) and error > 0
    shown = decimals(error)
    # In fixed notation these would be a row of zeros, or have more digits than are known.
    if abs(value) >= 1e7 or (not known and 0 < abs(value) < 0.1) or (shown > 5 and 0 < abs(value) < 0.001):
        return f"{value:.3g}"
    return f"{value:z.{min(shown, 5)}f}"  # z: no "-0.00"


def p_value(p: float) -> str:
    """`= 0.004`, `< 0.0001`; two significant digits, but three near 0.05, to show on which side of it p is."""
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
    """A Markdown table; the cells are Markdown already. `right`: right-aligned columns, counted from 0."""
    marks = ["---:" if column in right else "---" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, marks, *rows))


def escape_controls(text: str) -> str:
    """A text with escapes in place of control characters, which a terminal would interpret."""
    return CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], text)


def escape_markdown(text: str) -> str:
    """A text with the special characters of Markdown and HTML escaped, and white space collapsed."""
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]#|~$" else c for c in " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
