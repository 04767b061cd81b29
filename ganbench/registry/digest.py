"""The content hash of a plugin: a hash of its syntax tree and those of the modules next to it that it imports."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .scan import is_tunable, parse, read_source


def digest(path: Path) -> str:
    """SHA-256 of the syntax trees of a file and of the neighbouring files that it imports. It does not change with
    comments, with notation (`1e-3` for `0.001`), or with the version of Python."""
    # Names relative to the file's folder, so that a checkout elsewhere has the same keys.
    files = sorted(_imported_files(path.resolve()).items())
    forms = ", ".join(f"({name!r}, {content.form})" for name, content in files)
    return hashlib.sha256(f"[{forms}]".encode()).hexdigest()


def neighbours(path: Path) -> list[Path]:
    """A file and all modules in its folder, or in packages there, that it imports directly or indirectly. Raises
    PluginError for a file that cannot be read."""
    return [path.parent / name for name in sorted(_imported_files(path))]


def _imported_files(path: Path) -> dict[str, Content]:
    """The same, as a mapping from the path relative to the file's folder to its content."""
    contents: dict[str, Content] = {}
    queue = [path]
    while queue:
        file = queue.pop()
        name = file.relative_to(path.parent).as_posix()
        if name in contents:
            continue
        contents[name] = _content(file, read_source(file))
        # A change of ganbench itself is covered by the engine's protocol, not by the hash of each plugin.
        for package in contents[name].imported - {"ganbench"}:
            queue += [path.parent / f"{package}.py"] if (path.parent / f"{package}.py").is_file() else []
            queue += sorted((path.parent / package).rglob("*.py"))
    return contents


class Content(NamedTuple):
    """The parts of a file that the digest needs."""

    imported: set[str]  # top-level names of the modules it imports
    form: str  # text of its syntax tree without docstrings


@cache  # several plugins may share a file
def _content(path: Path, source: bytes) -> Content:
    tree = parse(path, source)
    return Content(_imported(tree), repr(_as_lists(_without_docstrings(tree))))


def _as_lists(node: Any) -> Any:
    """A tree as nested lists. Empty fields are left out, since versions of Python differ in their fields, and in the
    output of `ast.dump` and `ast.unparse`."""
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        given = [[name, _as_lists(value)] for name, value in fields if value is not None and value != []]
        return [type(node).__name__, *given]
    return [_as_lists(item) for item in node] if isinstance(node, list) else node


def _imported(tree: ast.Module) -> set[str]:
    """The top-level names of the imported modules, whether by an absolute name or as `from .x import`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level <= 1:
            names.add(node.module.split(".")[0])
    return names


class _SearchRanges(ast.NodeTransformer):
    """Replaces `lr: float = tunable(1e-3, log=(1e-4, 1e-2))` by `lr: float = 1e-3`: search ranges do not affect
    results."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        if is_tunable(node.value) and node.value.args:
            node.value = node.value.args[0]
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        node.names = [alias for alias in node.names if alias.name != "tunable"]
        return node if node.names else None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree without docstrings and search ranges, which do not affect results."""
    tree = _SearchRanges().visit(tree)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
