"""Prepares the tree of a suite for the reader: expands short forms, applies the budget and --set options."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    "metric": ("metric", "params", "label"),
}


def expand(root: YamlNode) -> YamlNode:
    """The suite with every entry in its long form: `ring: {modes: 8}` as `{dataset: ring, params: ...}`."""
    if not isinstance(root.value, dict):
        return root
    # Also before budgets and --set are applied: their keys, `methods.0.params.width`, are those of the long form.
    value = dict(root.value)
    for key, kind in (("datasets", "dataset"), ("methods", "method"), ("metrics", "metric")):
        if key in value:
            value[key] = _expand_list(value[key], kind)
    return replace(root, value=value)


def _expand_list(node: YamlNode, kind: str) -> YamlNode:
    if not isinstance(node.value, list):
        return node
    return replace(node, value=[_expand_entry(item, kind) for item in node.value])


def _expand_entry(node: YamlNode, kind: str) -> YamlNode:
    if isinstance(node.value, str):
        return YamlNode({kind: node}, node.position, {kind: node.position})
    if not isinstance(node.value, dict):
        return node
    # `ring: {modes: 8}` has one key, which is not a key of an entry. If its value is not a mapping, it cannot be
    # parameters: the node is left unchanged, and the reader reports an unknown key.
    if len(node.value) == 1:
        ((name, params),) = node.value.items()
        if name not in (*ENTRY_KEYS[kind], "samples") and (
            params.value is None or isinstance(params.value, dict)
        ):
            position = node.keys[name]
            entry = {kind: YamlNode(name, position), "params": params}
            return YamlNode(entry, node.position, {kind: position, "params": params.position})
    if "tricks" in node.value:
        return replace(node, value={**node.value, "tricks": _expand_list(node.value["tricks"], "trick")})
    return node


def apply_budget(root: YamlNode, path: Path, issues: list[SuiteIssue]) -> YamlNode:
    """The tree with its chosen budget applied: `budget` names one of `budgets`, each a mapping from dotted keys to
    values (`train.steps: 100`, `methods.*.params.width: 60`, where `*` means every entry). The budget becomes part of
    the suite's name, and so of its folder and its tables, so that results of two budgets are never mixed."""
    if not isinstance(root.value, dict) or not {"budget", "budgets"} & root.value.keys():
        return root
    budgets, choice = root.value.get("budgets"), root.value.get("budget")
    if budgets is None or not isinstance(budgets.value, dict) or not budgets.value:
        position = budgets.position if budgets else root.keys.get("budget", root.position)
        message = "expected the budgets by name, as in `{ci: {train.steps: 100}, full: {}}`"
        issues.append(position.issue("budgets", message))
        return root
    if choice is None:
        message = f"no budget is chosen; add `budget: {next(iter(budgets.value))}`"
        issues.append(root.keys["budgets"].issue("budgets", message))
        return root
    if choice.value not in list(budgets.value):  # a list, since the choice may be unhashable
        message = f"there is no budget {choice.value!r}{did_you_mean(str(choice.value), budgets.value)}"
        issues.append(choice.position.issue("budget", message))
        return root
    # The name comes first, so that a budget may itself change any key, `name` too.
    name = root.value.get("name") or YamlNode(path.stem, choice.position)
    full_name = YamlNode(f"{name.value}-{choice.value}", name.position)
    root = replace(root, value={**root.value, "name": full_name})
    changes, key = budgets.value[choice.value], f"budgets.{choice.value}"
    if not isinstance(changes.value, dict | None):
        got = annotations.describe(changes.value)
        message = f"expected a mapping of keys to their values (train.steps: 100), got {got}"
        issues.append(changes.position.issue(key, message))
        return root
    for path_text, value in (changes.value or {}).items():
        try:
            if not (steps := _steps(path_text)) or len(steps) > nodes.MAX_DEPTH:
                raise KeyPathError("expected a dotted key, such as train.steps")
            root = _assign(root, steps, value)
        except KeyPathError as error:
            issues.append(changes.keys[path_text].issue(f"{key}.{path_text}", str(error)))
    return root


def _steps(key: str) -> list[str]:
    """`datasets[0].params` or `datasets.0.params` as its parts."""
    return [part for part in re.split(r"[.\[\]]", key.strip()) if part]


class KeyPathError(Exception):
    """The key path does not exist."""


def override(
    root: YamlNode, name: str, option: str, issues: list[SuiteIssue], example: str = "train.steps=100"
) -> YamlNode:
    """The tree with one KEY=VALUE of the command line applied; messages show `name` (`--set ...`) as the file."""
    position = Position(name, 0, 0)
    key, sign, text = option.partition("=")
    steps = _steps(key)
    if not sign or not steps or len(steps) > nodes.MAX_DEPTH:
        issues.append(position.issue("", f"expected KEY=VALUE, such as {example}"))
        return root
    value_issues: list[SuiteIssue] = []
    try:
        value = nodes.parse(text, name, value_issues) if text.strip() else YamlNode(None, position)
        root = _assign(root, steps, _with_position(position, value))
    except SuiteError as error:
        value_issues.extend(error.issues)
    except KeyPathError as error:
        issues.append(position.issue(key, str(error)))
    # Lines and columns inside the value would mislead, so every issue is reported at the option itself.
    issues.extend(position.issue(key, issue.message) for issue in value_issues)
    return root


def _with_position(position: Position, node: YamlNode) -> YamlNode:
    """The node with this position for itself and everything below it."""
    if isinstance(node.value, dict):
        value: Any = {key: _with_position(position, child) for key, child in node.value.items()}
        return YamlNode(value, position, dict.fromkeys(value, position))
    if isinstance(node.value, list):
        return YamlNode([_with_position(position, child) for child in node.value], position)
    return YamlNode(node.value, position)


def _assign(node: YamlNode | None, steps: Sequence[str], value: YamlNode) -> YamlNode:
    """A copy of the tree with `value` at the path `steps`; missing mappings are created. Raises KeyPathError."""
    if not steps:
        return value
    if node is None or node.value is None:  # `train:` with nothing below it is null in YAML
        node = YamlNode({}, value.position)
    head, rest = steps[0], steps[1:]
    if isinstance(node.value, list):
        if head == "*":
            return replace(node, value=[_assign(item, rest, value) for item in node.value])
        if not (head.isdecimal() and int(head[:9]) < len(node.value)):  # int() refuses thousands of digits
            raise KeyPathError(
                f"{head!r} is not an entry of this list; its entries are 0 to {len(node.value) - 1}"
            )
        items = list(node.value)
        items[int(head)] = _assign(items[int(head)], rest, value)
        return replace(node, value=items)
    if not isinstance(node.value, dict):
        raise KeyPathError(f"there is no key {head!r} in {annotations.describe(node.value)}")
    child = _assign(node.value.get(head), rest, value)
    return YamlNode({**node.value, head: child}, node.position, {head: value.position, **node.keys})
