"""YAML read into values that remember where they stand.

A small composer over PyYAML's events: scalars by the core schema of YAML 1.2 (`no`, `on` and `10:30` are
text, `1e-3` is a number), nothing executed, nothing expanded, nothing recursive, so that a hostile or
broken file costs one located error and no time. Anchors, aliases and tags have no place in a suite.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import Problem, SuiteError

MAX_BYTES = 512 * 1024
MAX_DEPTH = 20
MAX_INTEGER = 2**63

BROKEN = object()  # the value of a node whose mistake has been reported already

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Place:
    """A point in a file; lines and columns are counted from 1. Line 0 is an option of the command line."""

    file: str
    line: int
    column: int

    def problem(self, key: str, message: str) -> Problem:
        """A mistake at this place."""
        return Problem(self.file, self.line, self.column, key, message)


@dataclass(frozen=True)
class Node:
    """A scalar, a list of nodes or a dictionary of nodes, its place and the places of its keys."""

    value: Any
    place: Place
    keys: Mapping[str, Place] = field(default_factory=dict)

    @property
    def is_broken(self) -> bool:
        """Whether a mistake in it has been reported already."""
        inside = self.value.values() if isinstance(self.value, dict) else self.value
        return self.value is BROKEN or (
            isinstance(self.value, dict | list) and any(n.is_broken for n in inside)
        )

    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def read(path: Path, problems: list[Problem]) -> tuple[Node, str]:
    """The tree and the text of a file. Mistakes after which reading can go on are added to `problems`;
    raises SuiteError for the others."""
    start = Place(str(path), 1, 1)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _stop(start, f"cannot be read ({error.strerror or error})") from None
    if len(data) > MAX_BYTES:
        raise _stop(start, f"is too large for a suite: {len(data):,} bytes, at most {MAX_BYTES:,}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", errors="replace")
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        hint = "it looks like UTF-16; " if wide else ""
        raise _stop(_end(before, start.file), f"is not UTF-8; {hint}save the file as UTF-8") from None
    return parse(text, start.file, problems), text


def parse(text: str, file: str, problems: list[Problem]) -> Node:
    """The tree of a text; `file` is named in its places. Raises SuiteError as `read` does."""
    root = None
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        place = _end(text[: error.position], file)
        raise _stop(place, f"the character U+{error.character:04X} cannot stand in YAML") from None
    try:
        root = _compose(loader, file, problems)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from None
    except (ValueError, OverflowError):  # an escape such as "\U0FFFFFFF", of which PyYAML makes no error
        raise _stop(_place(loader.get_mark(), file), "is not valid YAML: no such character") from None
    if root is None or root.value is None:
        raise _stop(Place(file, 1, 1), "is empty; a suite needs at least datasets, methods and metrics")
    return root


def joined(key: str, name: str) -> str:
    """The path of keys one key further."""
    return f"{key}.{name}" if key else name


def scalar(text: str) -> Any:
    """A plain scalar by the core schema of YAML 1.2; numbers that are not finite come as such."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        if len(text) > 40:
            return math.inf
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    if _FLOAT.fullmatch(text):
        return float(text)
    return math.nan if _NOT_FINITE.fullmatch(text) else text


# ------------------------------------------------------------------------------------------- composing


@dataclass
class _Open:
    """A list or mapping whose end has not been read."""

    place: Place
    key: str  # the path of keys that leads here
    is_mapping: bool
    children: list[Node] = field(default_factory=list)

    @property
    def awaits_key(self) -> bool:
        return self.is_mapping and len(self.children) % 2 == 0

    @property
    def next_key(self) -> str:
        """The path of keys that leads to the next child."""
        if not self.is_mapping:
            return f"{self.key}[{len(self.children)}]"
        return self.key if self.awaits_key else joined(self.key, str(self.children[-1].value))

    def close(self, problems: list[Problem]) -> Node:
        if not self.is_mapping:
            return Node(self.children, self.place)
        values: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        for key, value in zip(self.children[::2], self.children[1::2], strict=True):
            if not isinstance(key.value, str):
                problems.append(key.place.problem(self.key, "a key must be text, not a list or mapping"))
            elif key.value in keys:
                first = keys[key.value].line
                message = f"the key {key.value!r} stands here a second time (first in line {first})"
                problems.append(key.place.problem(joined(self.key, key.value), message))
            else:
                values[key.value], keys[key.value] = value, key.place
        return Node(values, self.place, keys)


def _compose(loader: Any, file: str, problems: list[Problem]) -> Node | None:
    root: Node | None = None
    stack: list[_Open] = []
    for event in _events(loader):
        place = _place(event.start_mark, file)
        key = stack[-1].next_key if stack else ""
        _refuse(event, place, another=root is not None)
        if isinstance(event, yaml.CollectionStartEvent):
            stack.append(_Open(place, key, isinstance(event, yaml.MappingStartEvent)))
            if len(stack) > MAX_DEPTH:
                raise _stop(place, f"is nested more than {MAX_DEPTH} deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            node = stack.pop().close(problems)
        elif isinstance(event, yaml.ScalarEvent):
            is_key = bool(stack) and stack[-1].awaits_key
            node = Node(event.value if is_key else _value(event, place, key, problems), place)
        else:
            continue
        if stack:
            stack[-1].children.append(node)
        else:
            root = node
    return root


def _events(loader: Any) -> Iterator[Any]:
    while loader.check_event():
        yield loader.get_event()


def _refuse(event: Any, place: Place, *, another: bool) -> None:
    if isinstance(event, yaml.DocumentStartEvent) and another:
        raise _stop(place, "a second document begins here; a suite is one document")
    anchor = getattr(event, "anchor", None)
    if anchor is not None:
        sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
        message = f"{sign}{anchor}: anchors and aliases are not read; write the value out, or quote the text"
        raise _stop(place, message)
    if tag := getattr(event, "tag", None):
        raise _stop(place, f"the tag {tag!r} is not read; remove it, or quote the text")


def _value(event: yaml.ScalarEvent, place: Place, key: str, problems: list[Problem]) -> Any:
    value = scalar(event.value) if event.implicit[0] else event.value
    if isinstance(value, float) and not math.isfinite(value):
        shown = (
            event.value if len(event.value) <= 20 else f"{event.value[:12]}… ({len(event.value):,} digits)"
        )
        problems.append(place.problem(key, f"{shown} is not a finite number"))
        return BROKEN
    if isinstance(value, int) and abs(value) >= MAX_INTEGER:
        problems.append(place.problem(key, f"{event.value} is too large for a whole number (64 bits)"))
        return BROKEN
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        problems.append(place.problem(key, "this text has half of a surrogate pair, which is no character"))
        return BROKEN
    return value


# --------------------------------------------------------------------------------------------- mistakes


def _stop(place: Place, message: str) -> SuiteError:
    return SuiteError([place.problem("", message)])


def _place(mark: yaml.Mark, file: str) -> Place:
    return Place(file, mark.line + 1, mark.column + 1)


def _end(text: str, file: str) -> Place:
    return Place(file, text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> SuiteError:
    mark = error.problem_mark or error.context_mark
    place = _place(mark, file) if mark else Place(file, 1, 1)
    lines = text.split("\n")
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    if tab := re.match(r" *\t", line):
        return _stop(
            Place(file, place.line, tab.end()), "a tab in the indentation; YAML is indented with spaces"
        )
    message = f"is not valid YAML: {error.problem}"
    if error.context and error.context_mark and error.context_mark.line + 1 != place.line:
        message += f" ({error.context} that begins in line {error.context_mark.line + 1})"
    if error.problem and error.problem.startswith("mapping values"):
        message += "; is the indentation right? text that has ': ' in it needs quotes"
    return _stop(place, message)
