"""Read a suite: YAML to a `Suite` whose every name, parameter and file has been checked.

All mistakes are reported at once, with file:line:column, the key, and the nearest valid name.
Plugins are read from their source, not run, and nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from .. import registry
from ..contracts import Kind
from ..errors import RequestError, SuiteError, SuiteIssue, did_you_mean
from . import nodes
from .normalise import apply_budget, expand, override
from .reader import Reader
from .spec import DatasetSpec, MethodSpec, PluginSpec, Suite, TrainSettings, TuneSettings

__all__ = [
    "DatasetSpec", "MethodSpec", "PluginSpec", "Suite", "TrainSettings", "TuneSettings",
    "about", "dump", "load", "locate", "shipped_suites", "slug",
]  # fmt: skip


def load(path_or_name: str | Path, overrides: str | Sequence[str] = (), seeds: int | None = None) -> Suite:
    """The suite in a file, or a shipped one by its name.

    `overrides` is "KEY=VALUE", or several of them, with dotted keys (`train.steps=100`,
    `datasets.0.train.steps=5`) and the value in YAML; `budget=full` chooses a budget. `seeds` replaces the
    suite's own. Raises SuiteError with all mistakes, RequestError if there is no such suite.
    """
    if isinstance(overrides, str):  # one option; iterating over it would give its letters
        overrides = (overrides,)
    path = locate(path_or_name)
    issues: list[SuiteIssue] = []
    root, text = nodes.read(path, issues)
    root = expand(root)
    options = [(f"--set {option}", option) for option in overrides]
    if seeds is not None:
        options.append((f"--seeds {seeds}", f"seeds={seeds}"))
    # The budget first, so that all other options override it. Every change may contain short forms, so expand again.
    budgets = [pair for pair in options if pair[1].partition("=")[0].strip() == "budget"]
    for name, option in budgets:
        root = override(root, name, option, issues)
    root = expand(apply_budget(root, path, issues))
    for name, option in options:
        if (name, option) not in budgets:
            root = expand(override(root, name, option, issues))
    suite = Reader(path, issues).suite(root, text)
    if issues:
        raise SuiteError(issues)
    return suite


def shipped_suites() -> dict[str, Path]:
    """The suites that ganbench ships, by name."""
    return {path.stem: path for path in sorted(registry.shipped("suites").rglob("*.yaml"))}


def locate(path_or_name: str | Path) -> Path:
    """The file of a suite, given by path or by the name of a shipped one, with or without the suffix. The shipped suite
    `toy` takes precedence over a file `toy.yaml`, but not over a file `toy`. Raises RequestError if there is none."""
    path = Path(path_or_name)
    if path.suffix == ".py":
        raise RequestError(
            f"{path}: is a Python file, not a suite; name it in a suite, as in `methods: [gan, ./{path.name}]`"
        )
    if os.path.isfile(path):  # Path.is_file raises for names that no file can have
        return path
    known = shipped_suites()
    if str(path_or_name) in known:
        return known[str(path_or_name)]
    if not path.suffix and os.path.isfile(f"{path}.yaml"):
        return Path(f"{path}.yaml")
    if os.path.isdir(path):
        raise RequestError(f"{path}: is a folder; name the suite's YAML file in it")
    if path.suffix in (".yaml", ".yml") and len(path.parts) == 1 and path.stem in known:
        return known[path.stem]
    if path.suffix in (".yaml", ".yml") or len(path.parts) != 1:
        hint = did_you_mean(path.stem, known) if len(path.parts) == 1 else ""
        raise RequestError(f"{path}: no such file{hint if 'did you mean' in hint else ''}")
    raise RequestError(
        f"there is no suite {str(path_or_name)!r}{did_you_mean(str(path_or_name), known)}\n"
        "name a shipped suite (`ganbench list suites`) or the path of a YAML file"
    )


def about(path: Path) -> str:
    """The suite's description; empty if it has none or cannot be read."""
    try:
        root = nodes.read(path, [])[0].plain()
    except SuiteError:
        return ""
    return str(root.get("about") or "") if isinstance(root, dict) else ""


def slug(name: str) -> str:
    """A name as a folder name: unchanged if it is plain ASCII, else with `_` for other characters and a digest of the
    name, so that two names never share a folder."""
    safe = re.sub(r"[^A-Za-z0-9._+=,-]", "_", name)
    safe = re.sub(r"^[.-]", "_", safe)
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


# ------------------------------------------------------------------------------------------- writing


def dump(suite: Suite) -> str:
    """The resolved suite as YAML, with all defaults and with absolute paths: loading it gives the same cells with
    the same keys."""
    document = {
        "name": suite.name,
        "about": suite.about,
        "seeds": list(suite.seeds),
        "train": {field.name: getattr(suite.train, field.name) for field in fields(suite.train)},
        "datasets": [
            _plugin_entry("dataset", entry.part)
            | {"label": entry.label}
            | _if_any(train=dict(entry.train), split="" if entry.split == "test" else entry.split)
            for entry in suite.datasets
        ],
        "methods": [_method_entry(entry) for entry in suite.methods],
        "metrics": [_plugin_entry("metric", part) | _if_any(label=part.label) for part in suite.metrics],
        **_if_any(tune=_search_entry(suite.tune) if suite.tune else None, track=list(suite.track)),
    }
    return yaml.dump(_as_lists(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _plugin_entry(kind: Kind, part: PluginSpec) -> dict[str, Any]:
    return {kind: part.reference, **_if_any(params=part.resolved)}


def _method_entry(entry: MethodSpec) -> dict[str, Any]:
    only = list(entry.datasets or ())
    if entry.part is None:
        return {"samples": list(map(str, entry.samples)), "label": entry.label, **_if_any(datasets=only)}
    tricks = [_plugin_entry("trick", trick) for trick in entry.tricks]
    rest = _if_any(tricks=tricks, train=dict(entry.train), datasets=only, tuned=entry.tuned)
    return {**_plugin_entry("method", entry.part), "label": entry.label, **rest}


def _search_entry(tune: TuneSettings) -> dict[str, Any]:
    ranges = {
        label: {name: _if_any(log=r.log, linear=r.linear, among=r.among) for name, r in own.items()}
        for label, own in tune.ranges.items()
    }
    shown = {"trials": tune.trials, "seeds": list(tune.seeds), "by": dict(tune.by)}
    return {**shown, **_if_any(steps=tune.steps, ranges=ranges)}


def _if_any(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


def _as_lists(value: Any) -> Any:
    """The value with tuples converted to lists, for YAML."""
    if isinstance(value, Mapping):
        return {key: _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


class _Dumper(yaml.SafeDumper):
    """Writes strings so that YAML 1.2 reads them back as strings, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    quoted = not isinstance(nodes.scalar(text), str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


_Dumper.add_representer(str, _represent_text)
