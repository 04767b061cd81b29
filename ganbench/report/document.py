"""Rendering of reports: with rich for a terminal, with the Jinja templates of this folder for files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..format import escape_markdown, markdown_table, plural

if TYPE_CHECKING:
    from jinja2 import Environment
    from rich.console import RenderableType

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "[": "{[}", "*": "{*}",  # at the start of a row, LaTeX would read them as arguments of the \\\\ before it
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "±": r"$\pm$", "†": r"\dag{}", "‡": r"\ddag{}",
}  # fmt: skip


def terminal(parts: Sequence[RenderableType], width: int, color: bool) -> str:
    """Renderables of rich, one below the other, as text `width` columns wide."""
    from rich.console import Console, Group

    system = "standard" if color else None
    console = Console(width=width, force_terminal=color, highlight=False, color_system=system)
    with console.capture() as written:
        console.print(Group(*parts))
    return "\n".join(line.rstrip() for line in written.get().splitlines()) + "\n"


def render(template: str, **names: Any) -> str:
    """The template of this name in `templates/`, rendered with these variables."""
    return environment().get_template(template).render(names).rstrip("\n") + "\n"


@cache
def environment() -> Environment:
    """The Jinja environment. An undefined variable is an error. HTML and XML are always escaped; Markdown and LaTeX are
    escaped by the filters `md` and `tex`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(("html.j2", "xml.j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["minus"] = lambda text: str(text).replace("-", "−")
    made.filters["plural"] = plural
    # A table cell that is not plain text has attributes with its Markdown and LaTeX.
    made.filters["md"] = lambda cell: getattr(cell, "markdown", None) or escape_markdown(cell)
    made.filters["tex"] = lambda cell: getattr(cell, "latex", None) or escape_latex(cell)
    made.globals["markdown_table"] = lambda heads, rows, right=(): markdown_table(
        list(map(made.filters["md"], heads)), [list(map(made.filters["md"], row)) for row in rows], right
    )
    return made


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped and white space collapsed."""
    return "".join(_TEX.get(c, c) for c in " ".join(text.split()))
