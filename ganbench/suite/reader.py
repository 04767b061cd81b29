"""Check the tree of a suite and turn it into a `Suite`, collecting all mistakes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, get_args

from .. import registry
from ..contracts import Kind
from ..errors import PluginError, Problem, did_you_mean
from ..registry import Param, Plugin
from . import annotations, nodes
from .nodes import BROKEN, Node, Place, joined
from .normalise import ENTRY_KEYS, KEYS
from .spec import DatasetSpec, MethodSpec, PluginSpec, Suite, TrackerName, TrainSettings

MAX_SEEDS = 10_000
MAX_SWEEP = 1_000
MAX_NAME = 100
SEED_LIMIT = 2**31
TRACKER = f"Literal{list(get_args(TrackerName))}"


class Checker:
    """Turns the tree into a Suite and collects the mistakes. Where something is wrong it goes on with a
    stand-in; nobody sees that one, since `load` raises."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.folder = path.resolve().parent
        self.problems = problems
        self.labels: list[str] = []  # of the datasets, the broken ones too
        self.sound: list[DatasetSpec] = []  # the datasets that are not broken

    # ------------------------------------------------------------ pieces

    def note(self, at: Node | Place, key: str, message: str) -> None:
        place = at.place if isinstance(at, Node) else at
        self.problems.append(place.problem(key, message))

    def fields(self, node: Node | None, key: str, allowed: Iterable[str], of: str = "") -> dict[str, Node]:
        """The known keys of a mapping; nothing at all counts as an empty one."""
        if node is None or node.value is None or node.value is BROKEN:
            return {}
        if not isinstance(node.value, dict):
            self.note(node, key, f"expected a mapping (key: value), got {annotations.shown(node.value)}")
            return {}
        allowed = tuple(allowed)
        for name in node.value:
            if name not in allowed:
                what = f"{of} has no parameter {name!r}" if of else f"unknown key {name!r}"
                self.note(node.keys[name], joined(key, name), what + did_you_mean(name, allowed))
        return {name: child for name, child in node.value.items() if name in allowed}

    def items(self, node: Node | None, key: str, *, least: int = 1) -> list[tuple[Node, str]]:
        """The entries of a list with their keys."""
        if node is None or node.value is BROKEN:
            return []
        if not isinstance(node.value, list):
            self.note(node, key, f"expected a list (- one - two), got {annotations.shown(node.value)}")
            return []
        if len(node.value) < least:
            self.note(node, key, "is empty; it needs one entry at least")
        return [(child, f"{key}[{i}]") for i, child in enumerate(node.value)]

    def value(self, node: Node | None, key: str, annotation: str, default: Any = None) -> Any:
        """A value of this type, or the default where there is none or it is wrong."""
        if node is None or node.is_broken:
            return default
        try:
            value = annotations.coerce(annotation, node.plain())
        except annotations.Mismatch as mismatch:
            self.note(node, key, f"{mismatch}{_quotes(annotation, node.value)}")
            return default
        return value

    def existing(self, node: Node, key: str, name: str) -> Path:
        """A path beside the suite, of something that exists."""
        try:
            path = (self.folder / Path(name).expanduser()).resolve()
            found = path.exists()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, no such ~user
            self.note(node, key, f"{name!r} is not a usable path ({error})")
            return self.folder
        if not found:
            self.note(node, key, f"there is no file or folder {path}")
        return path

    def name(self, node: Node | None, key: str, default: str) -> str:
        """A name that can become a folder."""
        name = self.value(node, key, "str", default)
        if node is not None and (why := unusable(name)):
            self.note(node, key, why)
        return name

    # ------------------------------------------------------------ the suite

    def suite(self, root: Node, text: str) -> Suite:
        found = self.fields(root, "", KEYS)
        for key in ("datasets", "methods", "metrics"):
            if isinstance(root.value, dict) and key not in found:
                self.note(root, "", f"the key {key!r} is missing")
        self.sound = self.datasets(found.get("datasets"))  # first: methods name their labels
        return Suite(
            name=self.name(found.get("name"), "name", self.path.stem),
            about=self.value(found.get("about"), "about", "str", ""),
            seeds=self.seeds(found.get("seeds")),
            train=TrainSettings(**self.train(found.get("train"), "train")),
            datasets=tuple(self.sound),
            methods=tuple(self.methods(found.get("methods"))),
            metrics=tuple(self.metrics(found.get("metrics"))),
            path=self.path,
            source_text=text,
            track=self.track(found.get("track")),
        )

    def track(self, node: Node | None) -> tuple[str, ...]:
        """The trackers: one by its name, or a list."""
        if node is None or node.value is None:
            return ()
        items = self.items(node, "track", least=0) if isinstance(node.value, list) else [(node, "track")]
        names: list[str] = []
        for child, key in items:
            name = self.value(child, key, TRACKER)
            if name in names:
                self.note(child, key, f"{name!r} is in the list already")
            elif name is not None:
                names.append(name)
        return tuple(names)

    def seeds(self, node: Node | None) -> tuple[int, ...]:
        if node is None or node.is_broken:
            return (0, 1, 2, 3, 4)
        if type(node.value) is int:
            if not 1 <= node.value <= MAX_SEEDS:
                self.note(node, "seeds", f"expected 1 to {MAX_SEEDS:,} seeds, got {node.value}")
                return ()
            return tuple(range(node.value))
        if not isinstance(node.value, list):
            got = annotations.shown(node.value)
            self.note(node, "seeds", f"expected how many (5 means 0 to 4) or a list of seeds, got {got}")
            return ()
        seeds: list[int] = []
        for child, key in self.items(node, "seeds"):
            seed = self.value(child, key, "int")
            if seed is not None and not 0 <= seed < SEED_LIMIT:
                self.note(child, key, f"a seed is a whole number from 0 to {SEED_LIMIT - 1:,}, got {seed}")
            elif seed in seeds:
                self.note(child, key, f"the seed {seed} is in the list already")
            elif seed is not None:
                seeds.append(seed)
        return tuple(seeds)

    def train(self, node: Node | None, key: str) -> dict[str, Any]:
        """The settings that are given."""
        types = {field.name: str(field.type) for field in fields(TrainSettings)}
        given: dict[str, Any] = {}
        for name, child in self.fields(node, key, types).items():
            value = self.value(child, joined(key, name), types[name])
            least = 0 if name == "snapshots" else 1
            if isinstance(value, float) and not 0 < value < math.inf:
                self.note(child, joined(key, name), f"must be more than 0 and finite, got {value:g}")
            elif isinstance(value, int) and value < least:
                self.note(child, joined(key, name), f"must be {least} or more, got {value}")
            elif value is not None:
                given[name] = value
        if given.get("dtype") == "float64" and given.get("precision", "float32") != "float32" and node:
            what = f"is of float32, not of float64; leave out `dtype: float64` or `precision: {given['precision']}`"
            self.note(node.value["precision"], joined(key, "precision"), what)
        return given

    # ------------------------------------------------------------ entries

    def part(
        self, kind: Kind, found: Mapping[str, Node], key: str, swept: Iterable[str] = ()
    ) -> PluginSpec | None:
        """The plugin of an entry with its parameters; None where there is no such plugin."""
        node = found.get(kind)
        plugin = self.plugin(kind, node, joined(key, kind))
        if node is None or plugin is None:
            return None
        if kind == "method" and plugin.rung is None:
            what = f"the class {plugin.symbol} in {plugin.path} has neither `game` nor `fit`; it needs one of them"
            self.note(node, joined(key, kind), what)
        return PluginSpec(
            plugin, self.params(found.get("params"), joined(key, "params"), plugin, node, swept)
        )

    def plugin(self, kind: Kind, node: Node | None, key: str) -> Plugin | None:
        """The plugin that is named here; None where there is no such plugin."""
        name = self.value(node, key, "str")
        if node is None or name is None:
            return None
        try:
            return registry.find(kind, name, self.folder)
        except PluginError as error:
            self.note(node, key, f"{error}{_elsewhere(kind, name)}")
            return None

    def params(
        self, node: Node | None, key: str, plugin: Plugin, named: Node, swept: Iterable[str] = ()
    ) -> dict[str, Any]:
        """The parameters that are given; those that are missing are missed at the plugin's name."""
        known = {param.name: param for param in plugin.params}
        given = {
            name: self.param(child, joined(key, name), known[name])
            for name, child in self.fields(node, key, known, of=plugin.name).items()
        }
        missing = [p for p in plugin.params if p.required and p.name not in (*given, *swept)]
        for param in missing:
            what = (
                f"{plugin.name} needs the parameter {param.name!r} ({annotations.expected(param.annotation)})"
            )
            self.note(named, key, f"{what}{': ' if param.doc else ''}{param.doc}")
        return given

    def param(self, node: Node, key: str, param: Param) -> Any:
        """The value of a parameter. A file or folder (a `Path`, or text that is called `path`) is looked for
        beside the suite and becomes absolute; so does the file of a plugin that the parameter names."""
        kind = annotations.refers(param.annotation)
        if kind and isinstance(node.value, str | dict):
            return self.reference(kind, node, key)
        value = self.value(node, key, param.annotation, BROKEN)
        if isinstance(value, str) and param.is_path:
            return str(self.existing(node, key, value))
        return value

    def reference(self, kind: Kind, node: Node, key: str) -> Any:
        """The plugin that a parameter names, as `kl` or `{alpha: {alpha: 0.5}}`, its file made absolute."""
        params = None
        if isinstance(node.value, dict):
            if len(node.value) != 1:
                what = f"expected one {kind} with its parameters, as in `name: {{...}}`, got {len(node.value)} keys"
                self.note(node, key, what)
                return BROKEN
            ((name, params),) = node.value.items()
            node, key = Node(name, node.keys[name]), joined(key, name)
        plugin = self.plugin(kind, node, key)
        if plugin is None:
            return BROKEN
        part = PluginSpec(plugin, self.params(params, key, plugin, node))
        return {part.reference: dict(part.params)} if part.params else part.reference

    def entry(self, node: Node, key: str, kind: str) -> dict[str, Node]:
        """The keys of an entry in its long form."""
        found = self.fields(node, key, ENTRY_KEYS[kind])
        if isinstance(node.value, dict) and kind not in found:
            self.note(node, key, f"the key {kind!r} is missing: which {kind} is it?")
        return found

    def datasets(self, node: Node | None) -> list[DatasetSpec]:
        entries: list[DatasetSpec] = []
        places: list[tuple[str, Place, str]] = []
        for child, key in self.items(node, "datasets"):
            found = self.entry(child, key, "dataset")
            part = self.part("dataset", found, key)
            train = self.train(found.get("train"), joined(key, "train"))
            default = part.name if part else str(found["dataset"].value) if "dataset" in found else ""
            label = self.name(found.get("label"), joined(key, "label"), default)
            if part:
                entries.append(DatasetSpec(part, label, train))
                places.append((label, child.place, key))
            self.labels.append(label)
        self.distinct(places)
        return entries

    def methods(self, node: Node | None) -> list[MethodSpec]:
        entries: list[MethodSpec] = []
        places: list[tuple[str, Place, str]] = []
        for child, key in self.items(node, "methods"):
            made = isinstance(child.value, dict) and "samples" in child.value
            expanded = self.samples(child, key) if made else self.method(child, key)
            entries += expanded
            places += [(entry.label, child.place, key) for entry in expanded]
        self.distinct(places)
        return entries

    def method(self, node: Node, key: str) -> list[MethodSpec]:
        found = self.entry(node, key, "method")
        sweep = found.get("sweep")
        swept = tuple(sweep.value) if sweep and isinstance(sweep.value, dict) else ()
        part = self.part("method", found, key, swept)
        tricks = self.tricks(found.get("tricks"), joined(key, "tricks"), part)
        train = self.train(found.get("train"), joined(key, "train"))
        only = self.only(found.get("datasets"), joined(key, "datasets"))
        default = "+".join([part.name if part else "", *(trick.name for trick in tricks)])
        label = self.name(found.get("label"), joined(key, "label"), default)
        if part is None:
            return []
        self.suits(node, joined(key, "method"), part, only)
        base = MethodSpec(label, part, tricks, (), train, only)
        return [base] if sweep is None else self.swept(base, part, sweep, joined(key, "sweep"))

    def suits(self, node: Node, key: str, part: PluginSpec, only: tuple[str, ...] | None) -> None:
        """Every dataset that the method runs on has what it needs."""
        for dataset in self.sound:
            lacks = sorted(set(part.plugin.needs) - set(dataset.part.plugin.provides))
            if lacks and (only is None or dataset.label in only):
                what = f"{part.name} needs data with {' and '.join(lacks)}, which {dataset.label!r} has not"
                self.note(node, key, f"{what}; say under `datasets` on which it shall run")

    def swept(self, base: MethodSpec, part: PluginSpec, node: Node, key: str) -> list[MethodSpec]:
        """An entry for each combination of the sweep's values."""
        known = {param.name: param for param in part.plugin.params}
        choices: dict[str, list[Any]] = {}
        if not node.value:
            self.note(node, key, "is empty; name a parameter and its values, as in `{lr: [1e-3, 1e-4]}`")
        for name, child in self.fields(node, key, known, of=part.name).items():
            if name in part.params:
                self.note(node.keys[name], joined(key, name), "stands under `params` too; say it once")
            values = [self.param(item, at, known[name]) for item, at in self.items(child, joined(key, name))]
            choices[name] = [value for value in values if value is not BROKEN]
        if not choices or (count := prod(map(len, choices.values()))) == 0:
            return []
        if count > MAX_SWEEP:
            self.note(node, key, f"makes {count:,} methods; {MAX_SWEEP:,} are the most")
            return []
        entries = []
        for values in product(*choices.values()):
            label = "-".join(
                [base.label, *(_choice(known[n], v) for n, v in zip(choices, values, strict=True))]
            )
            if why := unusable(label):
                self.note(node, key, f"{why} (the label that it makes)")
            params = {**part.params, **dict(zip(choices, values, strict=True))}
            entries.append(replace(base, label=label, part=replace(part, params=params)))
        return entries

    def tricks(self, node: Node | None, key: str, part: PluginSpec | None) -> tuple[PluginSpec, ...]:
        if node is None:
            return ()
        parts = [
            self.part("trick", self.entry(child, at, "trick"), at)
            for child, at in self.items(node, key, least=0)
        ]
        if parts and part and part.plugin.rung == "fit":
            what = f"{part.name!r} trains by itself and takes no tricks; they change methods that are a game"
            self.note(node, key, what)
        return tuple(trick for trick in parts if trick)

    def samples(self, node: Node, key: str) -> list[MethodSpec]:
        """Samples made elsewhere: one file, or a list with a file for each seed."""
        found = self.fields(node, key, ENTRY_KEYS["samples"])
        given = found["samples"]
        at = joined(key, "samples")
        files = self.items(given, at) if isinstance(given.value, list) else [(given, at)]
        paths: list[Path] = []
        for child, child_key in files:
            name = self.value(child, child_key, "str")
            if name is None:
                continue
            if not name.endswith((".npz", ".npy")):
                self.note(child, child_key, f"expected a file of samples (.npz or .npy), got {name!r}")
                continue
            paths.append(self.existing(child, child_key, name))
        only = self.only(found.get("datasets"), joined(key, "datasets"))
        label = self.name(found.get("label"), joined(key, "label"), paths[0].stem if paths else "")
        return [MethodSpec(label, None, (), tuple(paths), {}, only)] if paths else []

    def only(self, node: Node | None, key: str) -> tuple[str, ...] | None:
        """The labels of the datasets that a method is restricted to."""
        if node is None:
            return None
        labels: list[str] = []
        for child, at in self.items(node, key):
            label = self.value(child, at, "str")
            if label is not None and label not in self.labels:
                what = f"no dataset of this suite has the label {label!r}"
                self.note(child, at, what + did_you_mean(label, self.labels))
            elif label in labels:
                self.note(child, at, f"{label!r} is in the list already")
            elif label is not None:
                labels.append(label)
        return tuple(labels)

    def metrics(self, node: Node | None) -> list[PluginSpec]:
        parts: list[PluginSpec] = []
        for child, key in self.items(node, "metrics"):
            part = self.part("metric", self.entry(child, key, "metric"), key)
            if part and any(part.plugin == p.plugin and part.resolved == p.resolved for p in parts):
                self.note(child, key, f"the metric {part.name!r} is in the list already")
            elif part:
                parts.append(part)
        return parts

    def distinct(self, labels: Iterable[tuple[str, Place, str]]) -> None:
        first: dict[str, str] = {}
        for label, place, key in labels:
            if label in first:
                why = f"the label {label!r} is taken by {first[label]}; tell them apart with `label: ...`"
                self.note(place, key, why)
            first.setdefault(label, key)


def unusable(name: str) -> str | None:
    """Why a name cannot become a folder; None where it can."""
    if not name.strip() or name in (".", ".."):
        return f"{name!r} cannot be a name: it becomes a folder"
    if len(name) > MAX_NAME:
        return f"this name has {len(name)} characters; {MAX_NAME} are the most, since it becomes a folder"
    if bad := re.search(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029]", name):
        return f"{name!r} cannot be a name: it becomes a folder, which cannot have {bad[0]!r} in its name"
    return None


def _choice(param: Param, value: Any) -> str:
    """A value of a sweep in the label of its method; a plugin by its name and parameters."""
    kind = annotations.refers(param.annotation)
    if kind is None or value is None:
        return _as_label(value)
    name, params = registry.named(value)
    return "-".join([registry.find(kind, name).name, *map(_as_label, params.values())])


def _as_label(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(_as_label, value))
    return value if isinstance(value, str) else annotations.shown(value)


def _quotes(annotation: str, value: Any) -> str:
    """What quotes have to do with a mismatch, if anything."""
    if isinstance(value, str) and not isinstance(plain := nodes.scalar(value), str):
        remedy, other = "remove the quotes", plain
    elif isinstance(value, bool | int | float):
        remedy, other = "put it in quotes", str(value)
    else:
        return ""
    try:
        annotations.coerce(annotation, other)
    except annotations.Mismatch:
        return ""
    return f"; {remedy}"


def _elsewhere(kind: Kind, name: str) -> str:
    """Where else a name that was not found belongs."""
    for other, known in registry.catalog().items():
        if other != kind and name in known:
            return f" ({name!r} is a {other})"
    return ""
