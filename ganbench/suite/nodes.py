"""YAML as a tree whose values know their line and column.

PyYAML composes the tree; this module checks it and converts scalars by the core schema of YAML 1.2 (`no`, `on` and
`10:30` are text, `1e-3` is a number). Anchors, aliases and tags are refused and the depth is limited, so a hostile
file can neither run code nor expand without bound: it gets one error with its position.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import SuiteError, SuiteIssue

MAX_BYTES = 512 * 1024
MAX_DEPTH = 20
MAX_INTEGER = 2**63

BROKEN = object()  # value of a node whose mistake has been reported, so that no second error follows from it

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Position:
    """A point in a file; lines and columns are counted from 1. Line 0 is an option of the command line."""

    file: str
    line: int
    column: int

    def issue(self, key: str, message: str) -> SuiteIssue:
        """A mistake at this position."""
        return SuiteIssue(self.file, self.line, self.column, key, message)


@dataclass(frozen=True)
class YamlNode:
    """A scalar, a list of nodes or a dictionary of nodes, with its position and those of its keys."""

    value: Any
    position: Position
    keys: Mapping[str, Position] = field(default_factory=dict)

    @property
    def is_broken(self) -> bool:
        """Whether a mistake in this node or below it has been reported."""
        children = self.value.values() if isinstance(self.value, dict) else self.value
        return self.value is BROKEN or (
            isinstance(self.value, dict | list) and any(child.is_broken for child in children)
        )

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def read(path: Path, issues: list[SuiteIssue]) -> tuple[YamlNode, str]:
    """The tree and the text of a file. Mistakes that do not prevent reading the rest are added to `issues`; raises
    SuiteError for the others."""
    start = Position(str(path), 1, 1)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _fatal(start, f"cannot be read ({error.strerror or error})") from None
    if len(data) > MAX_BYTES:
        raise _fatal(start, f"is too large for a suite: {len(data):,} bytes, at most {MAX_BYTES:,}")
    # Editors on Windows begin a file with a byte-order mark, which YAML would take for text.
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", errors="replace")
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        hint = "it looks like UTF-16; " if wide else ""
        raise _fatal(_end(before, start.file), f"is not UTF-8; {hint}save the file as UTF-8") from None
    return parse(text, start.file, issues), text


def parse(text: str, file: str, issues: list[SuiteIssue]) -> YamlNode:
    """The tree of a text; positions name `file`. Raises SuiteError as `read` does."""
    try:
        composer = _Composer(text, file)
    except yaml.reader.ReaderError as error:
        position = _end(text[: error.position], file)
        raise _fatal(position, f"the character U+{error.character:04X} is not allowed in YAML") from None
    try:
        node = composer.single_document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from None
    except (
        ValueError,
        OverflowError,
    ):  # PyYAML lets chr()'s error through, for an escape such as "\U0FFFFFFF"
        raise _fatal(_position(composer.get_mark(), file), "is not valid YAML: no such character") from None
    root = _convert(node, "", file, issues) if node else None
    if root is None or root.value is None:
        raise _fatal(Position(file, 1, 1), "is empty; a suite needs at least datasets, methods and metrics")
    return root


def join_key(key: str, name: str) -> str:
    """The dotted path of a key below another: `train` and `steps` give `train.steps`."""
    return f"{key}.{name}" if key else name


def scalar(text: str) -> Any:
    """The value of a plain scalar by the core schema of YAML 1.2; infinity and NaN are floats."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        if len(text) > 40:  # int() is quadratic in the number of digits and raises for more than 4,300
            return math.inf
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    if _FLOAT.fullmatch(text):
        return float(text)
    return math.nan if _NOT_FINITE.fullmatch(text) else text


class _Composer(yaml.SafeLoader):
    """PyYAML's composer, which refuses anchors, aliases, tags and deep nesting before it resolves them."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self.file = file
        self.depth = 0

    def single_document(self) -> yaml.Node | None:
        """The only document of the text; None if there is none."""
        node = self.get_node() if self.check_node() else None
        if self.check_node():
            position = _position(self.peek_event().start_mark, self.file)
            raise _fatal(position, "a second document begins here; a suite is one document")
        return node

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        position = _position(event.start_mark, self.file)
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            remedy = "anchors and aliases are not supported; write the value out, or quote the text"
            raise _fatal(position, f"{sign}{anchor}: {remedy}")
        if tag:
            raise _fatal(position, f"the tag {tag!r} is not supported; remove it, or quote the text")
        # Everything below recurses over the tree, and must not reach Python's own limit.
        if isinstance(event, yaml.CollectionStartEvent) and self.depth == MAX_DEPTH:
            raise _fatal(position, f"is nested more than {MAX_DEPTH} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _convert(node: yaml.Node, key: str, file: str, issues: list[SuiteIssue]) -> YamlNode:
    """PyYAML's node as a `YamlNode`; `key` is its dotted path."""
    position = _position(node.start_mark, file)
    if isinstance(node, yaml.ScalarNode):
        return YamlNode(_checked_scalar(node, position, key, issues), position)
    if isinstance(node, yaml.SequenceNode):
        children = [_convert(child, f"{key}[{i}]", file, issues) for i, child in enumerate(node.value)]
        return YamlNode(children, position)
    values: dict[str, YamlNode] = {}
    keys: dict[str, Position] = {}
    for key_node, value_node in node.value:
        key_position = _position(key_node.start_mark, file)
        if not isinstance(key_node, yaml.ScalarNode):
            issues.append(key_position.issue(key, "a key must be text, not a list or mapping"))
            continue
        name = key_node.value
        value = _convert(value_node, join_key(key, name), file, issues)
        if name in keys:  # PyYAML itself would let the last one win in silence
            message = f"the key {name!r} is given twice (first in line {keys[name].line})"
            issues.append(key_position.issue(join_key(key, name), message))
        else:
            values[name], keys[name] = value, key_position
    return YamlNode(values, position, keys)


def _checked_scalar(node: yaml.ScalarNode, position: Position, key: str, issues: list[SuiteIssue]) -> Any:
    """The value of a scalar; BROKEN, with an issue, if a suite cannot hold it. Quoted scalars and blocks are text."""
    text = node.value
    value = scalar(text) if node.style is None else text  # `style`: the quotes, or | and > of a block
    if isinstance(value, float) and not math.isfinite(value):
        short = text if len(text) <= 20 else f"{text[:12]}… ({len(text):,} digits)"
        message = f"{short} is not a finite number"
    elif isinstance(value, int) and abs(value) >= MAX_INTEGER:
        message = f"{text} is too large for a whole number (64 bits)"
    elif isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        message = "this text has an unpaired surrogate, which is not a character"
    else:
        return value
    issues.append(position.issue(key, message))
    return BROKEN


# --------------------------------------------------------------------------------------------- mistakes


def _fatal(position: Position, message: str) -> SuiteError:
    return SuiteError([position.issue("", message)])


def _position(mark: yaml.Mark, file: str) -> Position:
    return Position(file, mark.line + 1, mark.column + 1)


def _end(text: str, file: str) -> Position:
    return Position(file, text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> SuiteError:
    mark = error.problem_mark or error.context_mark
    position = _position(mark, file) if mark else Position(file, 1, 1)
    lines = text.split("\n")
    line = lines[position.line - 1] if position.line <= len(lines) else ""
    # PyYAML says only that it found a character that cannot start any token.
    if tab := re.match(r" *\t", line):
        at = Position(file, position.line, tab.end())
        return _fatal(at, "a tab in the indentation; YAML is indented with spaces")
    message = f"is not valid YAML: {error.problem}"
    if error.context and error.context_mark and error.context_mark.line + 1 != position.line:
        message += f" ({error.context} that begins in line {error.context_mark.line + 1})"
    if error.problem and error.problem.startswith("mapping values"):
        message += "; is the indentation right? text that has ': ' in it needs quotes"
    return _fatal(position, message)
