"""Types of parameters, read from their annotations without running anything.

Supported: int, float, str, bool, Path, None, Literal[...], list[X], Sequence[X], tuple[X, ...],
tuple[X, Y], unions with `|`, and Divergence and Feature, for a parameter that names another plugin.
Other annotations are not checked.
"""

from __future__ import annotations

import ast
from functools import cache
from typing import Any

from ..contracts import Kind
from ..errors import did_you_mean

# The kind of plugin that a parameter of this type names.
PLUGINS: dict[str, Kind] = {"Divergence": "divergence", "Feature": "feature"}


class Mismatch(Exception):
    """A value is not of the type; the text says what was expected and what was given."""


def coerce(annotation: str, value: Any) -> Any:
    """The value converted to its type: integers become floats for `float`, lists become tuples. Raises Mismatch."""
    return _fit(_tree(annotation), value)


def describe_type(annotation: str) -> str:
    """The type in words: `a whole number or null`."""
    return _words(_tree(annotation))


def plugin_kind(annotation: str) -> Kind | None:
    """The kind of plugin that a parameter of this type names; None where it is a plain value."""
    names = {node.id for node in ast.walk(_tree(annotation)) if isinstance(node, ast.Name)}
    return next((kind for name, kind in PLUGINS.items() if name in names), None)


def describe(value: Any) -> str:
    """A value in plain words for a message: `the text 'no'`, `a list`."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"the text {value if len(value) <= 40 else value[:40] + '…'!r}"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return str(value)


@cache
def _tree(annotation: str) -> ast.expr:
    try:
        return _unwrap(ast.parse(annotation.strip(), mode="eval").body)
    except (SyntaxError, ValueError):  # what cannot be read is not checked, as in Python itself
        return ast.Name("Any")


def _unwrap(node: ast.expr) -> ast.expr:
    """`typing.Literal` as `Literal`, `"int"` as `int`."""
    if isinstance(node, ast.Attribute):
        return ast.Name(node.attr)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _tree(node.value)
    return node


def _items(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _fit(node: ast.expr, value: Any) -> Any:
    match _unwrap(node):
        case ast.Name("int") if type(value) is int:  # `is`, since True is an int in Python but not in a suite
            return value
        case ast.Name("float") if type(value) in (int, float):
            return float(value)
        case ast.Name("bool") if isinstance(value, bool):
            return value
        case ast.Name("str" | "Path") if isinstance(value, str):
            return value
        case ast.Constant(None) if value is None:
            return value
        case ast.BinOp(left, ast.BitOr(), right):
            return _either(left, right, value)
        case ast.Subscript(head, inside) if isinstance(head := _unwrap(head), ast.Name):
            return _generic(head.id, _items(inside), value)
        case ast.Name(name) if name in PLUGINS and isinstance(value, str | dict):
            return value
        case ast.Name(name) if name in PLUGINS:
            raise _mismatch(node, value)
        case ast.Name("int" | "float" | "bool" | "str" | "Path") | ast.Constant(None):
            raise _mismatch(node, value)
        case _:
            return value


def _either(left: ast.expr, right: ast.expr, value: Any) -> Any:
    try:
        return _fit(left, value)
    except Mismatch:
        try:
            return _fit(right, value)
        except Mismatch:
            pass
        if isinstance(
            left, ast.Subscript
        ):  # the error inside a list, or the nearest choice, is more specific
            raise
        raise _mismatch(ast.BinOp(left, ast.BitOr(), right), value) from None


def _generic(head: str, inside: list[ast.expr], value: Any) -> Any:
    if head == "Literal":
        return _choice([ast.literal_eval(item) for item in inside], value)
    if head not in ("list", "Sequence", "tuple"):
        return value
    each = head != "tuple" or (len(inside) == 2 and _is_ellipsis(inside[1]))
    if not isinstance(value, list | tuple) or not (each or len(inside) == len(value)):
        raise _mismatch(ast.Subscript(ast.Name(head), ast.Tuple(inside)), value)
    types = [inside[0]] * len(value) if each else inside
    return tuple(_fit(kind, item) for kind, item in zip(types, value, strict=True))


def _choice(choices: list[Any], value: Any) -> Any:
    for choice in choices:
        if choice == value and type(choice) is type(value):  # 1 == True == 1.0
            return choice
    if isinstance(value, str) and all(isinstance(choice, str) for choice in choices):
        raise Mismatch(f"{value!r} is not one of its values{did_you_mean(value, choices)}")
    raise Mismatch(f"expected {_alternatives(choices)}, got {describe(value)}")


def _mismatch(node: ast.expr, value: Any) -> Mismatch:
    got = describe(value)
    if isinstance(value, list | tuple):
        got = f"a list of {len(value)}"
    return Mismatch(f"expected {_words(node)}, got {got}")


def _words(node: ast.expr) -> str:
    match _unwrap(node):
        case ast.Name("int"):
            return "a whole number"
        case ast.Name("float"):
            return "a number"
        case ast.Name("bool"):
            return "true or false"
        case ast.Name("str"):
            return "text"
        case ast.Name("Path"):
            return "a path"
        case ast.Name(name) if name in PLUGINS:
            return f"a {PLUGINS[name]}"
        case ast.Constant(None):
            return "null"
        case ast.BinOp(left, ast.BitOr(), right):
            return f"{_words(left)} or {_words(right)}"
        case ast.Subscript(head, inside) if isinstance(head := _unwrap(head), ast.Name):
            return _generic_words(head.id, _items(inside))
        case _:
            return "any value"


def _generic_words(head: str, inside: list[ast.expr]) -> str:
    if head == "Literal":
        return _alternatives([ast.literal_eval(item) for item in inside])
    if head not in ("list", "Sequence", "tuple"):
        return "any value"
    if head != "tuple" or (len(inside) == 2 and _is_ellipsis(inside[1])):
        return f"a list (each: {_words(inside[0])})"
    return f"a list of {len(inside)} ({', '.join(_words(item) for item in inside)})"


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _alternatives(choices: list[Any]) -> str:
    return " or ".join(repr(choice) if isinstance(choice, str) else describe(choice) for choice in choices)
