"""The tree of a suite before it is checked: short forms written out, options of the command line put in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SuiteError, SuiteIssue, did_you_mean
from . import annotations, nodes
from .nodes import Position, YamlNode

KEYS = (
    "name",
    "about",
    "budget",
    "budgets",
    "seeds",
    "train",
    "datasets",
    "methods",
    "metrics",
    "tune",
    "track",
)
ENTRY_KEYS: dict[str, tuple[str, ...]] = {
    "dataset": ("dataset", "params", "label", "train", "split"),
    "method": ("method", "params", "tricks", "label", "sweep", "train", "datasets", "tuned"),
    "samples": ("samples", "label", "datasets"),
    "trick": ("trick", "params"),
    "metric": ("metric", "params"),
}


def long_forms(root: YamlNode) -> YamlNode:
    """The suite with every entry in its long form: `ring: {modes: 8}` as `{dataset: ring, params: ...}`."""
    if not isinstance(root.value, dict):
        return root
    value = dict(root.value)
    for key, kind in (("datasets", "dataset"), ("methods", "method"), ("metrics", "metric")):
        if key in value:
            value[key] = _each(value[key], lambda node, kind=kind: _long_form(node, kind))
    return replace(root, value=value)


def _each(node: YamlNode, change: Callable[[YamlNode], YamlNode]) -> YamlNode:
    return (
        replace(node, value=[change(item) for item in node.value]) if isinstance(node.value, list) else node
    )


def _long_form(node: YamlNode, kind: str) -> YamlNode:
    if isinstance(node.value, str):
        return YamlNode({kind: node}, node.position, {kind: node.position})
    if not isinstance(node.value, dict):
        return node
    if len(node.value) == 1:
        ((name, params),) = node.value.items()
        if name not in (*ENTRY_KEYS[kind], "samples") and (
            params.value is None or isinstance(params.value, dict)
        ):
            position = node.keys[name]
            entry = {kind: YamlNode(name, position), "params": params}
            return YamlNode(entry, node.position, {kind: position, "params": params.position})
    if "tricks" in node.value:
        tricks = _each(node.value["tricks"], lambda trick: _long_form(trick, "trick"))
        return replace(node, value={**node.value, "tricks": tricks})
    return node


def budgeted(root: YamlNode, path: Path, issues: list[SuiteIssue]) -> YamlNode:
    """The tree under its chosen budget: `budget` names one of `budgets`, each a mapping of dotted keys to the values
    that they have under it (`train.steps: 100`, `methods.*.params.width: 60`, where `*` is every entry). The budget
    becomes part of the suite's name, and so of its folder and of every table, so that two budgets never meet in
    one."""
    if not isinstance(root.value, dict) or not {"budget", "budgets"} & root.value.keys():
        return root
    budgets, chosen = root.value.get("budgets"), root.value.get("budget")
    if budgets is None or not isinstance(budgets.value, dict) or not budgets.value:
        at = budgets or root.keys.get("budget", root.position)
        what = "expected the budgets by name, as in `{ci: {train.steps: 100}, full: {}}`"
        issues.append((at.position if isinstance(at, YamlNode) else at).issue("budgets", what))
        return root
    if chosen is None:
        what = f"which of them is meant? Say `budget: {next(iter(budgets.value))}`"
        issues.append(root.keys["budgets"].issue("budgets", what))
        return root
    if chosen.value not in list(budgets.value):
        what = f"there is no budget {chosen.value!r}{did_you_mean(str(chosen.value), budgets.value)}"
        issues.append(chosen.position.issue("budget", what))
        return root
    name = root.value.get("name") or YamlNode(path.stem, chosen.position)
    named = YamlNode(f"{name.value}-{chosen.value}", name.position)
    changed = replace(root, value={**root.value, "name": named})
    return _under(changed, chosen.value, budgets.value[chosen.value], issues)


def _under(root: YamlNode, budget: str, changes: YamlNode, issues: list[SuiteIssue]) -> YamlNode:
    """The tree with the changes of a budget in it."""
    if not isinstance(changes.value, dict | None):
        got = annotations.shown(changes.value)
        what = f"expected a mapping of keys to their values (train.steps: 100), got {got}"
        issues.append(changes.position.issue(f"budgets.{budget}", what))
        return root
    for key, value in (changes.value or {}).items():
        try:
            if not (keys := _steps(key)) or len(keys) > nodes.MAX_DEPTH:
                raise _Unreachable("expected a dotted key, such as train.steps")
            root = _assign(root, keys, value)
        except _Unreachable as error:
            issues.append(changes.keys[key].issue(f"budgets.{budget}.{key}", str(error)))
    return root


def _steps(key: str) -> list[str]:
    """`datasets[0].params` or `datasets.0.params` as its parts."""
    return [part for part in re.split(r"[.\[\]]", key.strip()) if part]


class _Unreachable(Exception):
    """A dotted key leads nowhere."""


def override(
    root: YamlNode, shown: str, option: str, issues: list[SuiteIssue], example: str = "train.steps=100"
) -> YamlNode:
    """The tree with one KEY=VALUE of the command line in it; `shown` is how messages name the option."""
    position = Position(shown, 0, 0)
    key, sign, text = option.partition("=")
    keys = _steps(key)
    if not sign or not keys or len(keys) > nodes.MAX_DEPTH:
        issues.append(position.issue("", f"expected KEY=VALUE, such as {example}"))
        return root
    found: list[SuiteIssue] = []
    try:
        value = nodes.parse(text, shown, found) if text.strip() else YamlNode(None, position)
        root = _assign(root, keys, _moved(value, position))
    except SuiteError as error:
        found.extend(error.issues)
    except _Unreachable as error:
        issues.append(position.issue(key, str(error)))
    issues.extend(position.issue(key, problem.message) for problem in found)
    return root


def _moved(node: YamlNode, position: Position) -> YamlNode:
    """The node as if all of it stood at one position."""
    if isinstance(node.value, dict):
        value: Any = {key: _moved(child, position) for key, child in node.value.items()}
        return YamlNode(value, position, dict.fromkeys(value, position))
    if isinstance(node.value, list):
        return YamlNode([_moved(child, position) for child in node.value], position)
    return YamlNode(node.value, position)


def _assign(node: YamlNode | None, keys: Sequence[str], value: YamlNode) -> YamlNode:
    if not keys:
        return value
    if node is None or node.value is None:
        node = YamlNode({}, value.position)
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
    return YamlNode({**node.value, head: child}, node.position, {head: value.position, **node.keys})
