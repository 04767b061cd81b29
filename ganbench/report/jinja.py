"""The Jinja2 environment of the HTML pages. Escaping is on for every template: `select_autoescape` would miss
names that end in `.html.j2`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..format import plural


@cache
def environment() -> Environment:
    """The templates of the report; text is escaped, and a name that is not given is an error."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["minus"] = lambda text: str(text).replace("-", "−")
    found.filters["plural"] = plural
    return found
