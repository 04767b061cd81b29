"""The tree of a suite before it is checked: short forms written out, options of the command line put in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import Problem, SuiteError, did_you_mean
from . import annotations, nodes
from .nodes import Node, Place

KEYS = ("name", "about", "budget", "budgets", "seeds", "train", "datasets", "methods", "metrics", "track")
ENTRY_KEYS: dict[str, tuple[str, ...]] = {
    "dataset": ("dataset", "params", "label", "train"),
    "method": ("method", "params", "tricks", "label", "sweep", "train", "datasets"),
    "samples": ("samples", "label", "datasets"),
    "trick": ("trick", "params"),
    "metric": ("metric", "params"),
}


def long_forms(root: Node) -> Node:
    """The suite with every entry in its long form: `ring: {modes: 8}` as `{dataset: ring, params: ...}`."""
    if not isinstance(root.value, dict):
        return root
    value = dict(root.value)
    for key, kind in (("datasets", "dataset"), ("methods", "method"), ("metrics", "metric")):
        if key in value:
            value[key] = _each(value[key], lambda node, kind=kind: _long_form(node, kind))
    return replace(root, value=value)


def _each(node: Node, change: Callable[[Node], Node]) -> Node:
    return (
        replace(node, value=[change(item) for item in node.value]) if isinstance(node.value, list) else node
    )


def _long_form(node: Node, kind: str) -> Node:
    if isinstance(node.value, str):
        return Node({kind: node}, node.place, {kind: node.place})
    if not isinstance(node.value, dict):
        return node
    if len(node.value) == 1:
        ((name, params),) = node.value.items()
        if name not in (*ENTRY_KEYS[kind], "samples") and (
            params.value is None or isinstance(params.value, dict)
        ):
            place = node.keys[name]
            entry = {kind: Node(name, place), "params": params}
            return Node(entry, node.place, {kind: place, "params": params.place})
    if "tricks" in node.value:
        tricks = _each(node.value["tricks"], lambda trick: _long_form(trick, "trick"))
        return replace(node, value={**node.value, "tricks": tricks})
    return node


def budgeted(root: Node, path: Path, problems: list[Problem]) -> Node:
    """The tree under its chosen budget: `budget` names one of `budgets`, each a mapping of dotted keys to the values
    that they have under it (`train.steps: 100`, `methods.*.params.width: 60`, where `*` is every entry). The budget
    becomes part of the suite's name, and so of its folder and of every table, so that two budgets never meet in
    one."""
    if not isinstance(root.value, dict) or not {"budget", "budgets"} & root.value.keys():
        return root
    budgets, chosen = root.value.get("budgets"), root.value.get("budget")
    if budgets is None or not isinstance(budgets.value, dict) or not budgets.value:
        at = budgets or root.keys.get("budget", root.place)
        what = "expected the budgets by name, as in `{ci: {train.steps: 100}, full: {}}`"
        problems.append((at.place if isinstance(at, Node) else at).problem("budgets", what))
        return root
    if chosen is None:
        what = f"which of them is meant? Say `budget: {next(iter(budgets.value))}`"
        problems.append(root.keys["budgets"].problem("budgets", what))
        return root
    if chosen.value not in list(budgets.value):
        what = f"there is no budget {chosen.value!r}{did_you_mean(str(chosen.value), budgets.value)}"
        problems.append(chosen.place.problem("budget", what))
        return root
    name = root.value.get("name") or Node(path.stem, chosen.place)
    named = Node(f"{name.value}-{chosen.value}", name.place)
    changed = replace(root, value={**root.value, "name": named})
    return _under(changed, chosen.value, budgets.value[chosen.value], problems)


def _under(root: Node, budget: str, changes: Node, problems: list[Problem]) -> Node:
    """The tree with the changes of a budget in it."""
    if not isinstance(changes.value, dict | None):
        got = annotations.shown(changes.value)
        what = f"expected a mapping of keys to their values (train.steps: 100), got {got}"
        problems.append(changes.place.problem(f"budgets.{budget}", what))
        return root
    for key, value in (changes.value or {}).items():
        try:
            if not (keys := _steps(key)) or len(keys) > nodes.MAX_DEPTH:
                raise _Unreachable("expected a dotted key, such as train.steps")
            root = _assign(root, keys, value)
        except _Unreachable as error:
            problems.append(changes.keys[key].problem(f"budgets.{budget}.{key}", str(error)))
    return root


def _steps(key: str) -> list[str]:
    """`datasets[0].params` or `datasets.0.params` as its parts."""
    return [part for part in re.split(r"[.\[\]]", key.strip()) if part]


class _Unreachable(Exception):
    """A dotted key leads nowhere."""


def override(
    root: Node, shown: str, option: str, problems: list[Problem], example: str = "train.steps=100"
) -> Node:
    """The tree with one KEY=VALUE of the command line in it; `shown` is how messages name the option."""
    place = Place(shown, 0, 0)
    key, sign, text = option.partition("=")
    keys = _steps(key)
    if not sign or not keys or len(keys) > nodes.MAX_DEPTH:
        problems.append(place.problem("", f"expected KEY=VALUE, such as {example}"))
        return root
    found: list[Problem] = []
    try:
        value = nodes.parse(text, shown, found) if text.strip() else Node(None, place)
        root = _assign(root, keys, _moved(value, place))
    except SuiteError as error:
        found.extend(error.problems)
    except _Unreachable as error:
        problems.append(place.problem(key, str(error)))
    problems.extend(place.problem(key, problem.message) for problem in found)
    return root


def _moved(node: Node, place: Place) -> Node:
    """The node as if all of it stood at one place."""
    if isinstance(node.value, dict):
        value: Any = {key: _moved(child, place) for key, child in node.value.items()}
        return Node(value, place, dict.fromkeys(value, place))
    if isinstance(node.value, list):
        return Node([_moved(child, place) for child in node.value], place)
    return Node(node.value, place)


def _assign(node: Node | None, keys: Sequence[str], value: Node) -> Node:
    if not keys:
        return value
    if node is None or node.value is None:
        node = Node({}, value.place)
    head, rest = keys[0], keys[1:]
    if isinstance(node.value, list):
        if head == "*":
            return replace(node, value=[_assign(item, rest, value) for item in node.value])
        if not (head.isdecimal() and int(head[:9]) < len(node.value)):
            raise _Unreachable(
                f"{head!r} is no entry of this list; its entries are 0 to {len(node.value) - 1}"
            )
        items = list(node.value)
        items[int(head)] = _assign(items[int(head)], rest, value)
        return replace(node, value=items)
    if not isinstance(node.value, dict):
        raise _Unreachable(f"there is no key {head!r} in {annotations.shown(node.value)}")
    child = _assign(node.value.get(head), rest, value)
    return Node({**node.value, head: child}, node.place, {head: value.place, **node.keys})
