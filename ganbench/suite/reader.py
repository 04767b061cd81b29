"""Check the tree of a suite and turn it into a `Suite`, collecting all mistakes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, get_args
from unicodedata import category, normalize

from .. import registry
from ..contracts import Kind
from ..errors import PluginError, SuiteIssue, did_you_mean
from ..registry import Param, Plugin
from ..search_range import SearchRange
from . import annotations, nodes
from .nodes import BROKEN, Position, YamlNode, join_key
from .normalise import ENTRY_KEYS, KEYS
from .spec import DatasetSpec, MethodSpec, PluginSpec, Suite, TrackerName, TrainSettings, TuneSettings

MAX_SEEDS = 10_000
MAX_SWEEP = 1_000
MAX_NAME = 100
SEED_LIMIT = 2**31
RESERVED = re.compile(
    r"(con|prn|aux|nul|com[0-9]|lpt[0-9]) *(\..*)?", re.IGNORECASE
)  # by Windows, for devices
TRACKER = f"Literal{list(get_args(TrackerName))}"


@dataclass(frozen=True)
class Cursor:
    """A node of the tree with its dotted path, and the list to which its mistakes are added.

    A key that the suite leaves out also has a cursor, without a node, so that rules need not test for it.
    """

    node: YamlNode | None
    key: str
    issues: list[SuiteIssue]

    @property
    def given(self) -> bool:
        """Whether the suite has this key."""
        return self.node is not None

    @property
    def content(self) -> Any:
        """A scalar, a list of nodes or a dictionary of nodes; None if the key is not given."""
        return self.node.value if self.node else None

    def note(self, message: str, name: str = "", at: Position | None = None) -> None:
        """Add a mistake to the issues: at this node, at its key `name`, or at another position."""
        position = at or (self.node.position if self.node else None)
        if position is not None:
            self.issues.append(position.issue(join_key(self.key, name) if name else self.key, message))

    def fields(self, names: Iterable[str], of: str = "") -> dict[str, Cursor]:
        """A cursor for each of these keys of a mapping: the given ones in the order of the file, then the others. An
        empty node counts as an empty mapping. Any other key is a mistake; `of` names the plugin if the keys are its
        parameters."""
        names = tuple(names)
        values: dict[str, YamlNode] = {}
        if isinstance(self.content, dict):
            values = self.content
        elif self.content is not None and self.content is not BROKEN:
            self.note(f"expected a mapping (key: value), got {annotations.describe(self.content)}")
        for name in values:
            if name not in names and self.node:
                unknown = f"{of} has no parameter {name!r}" if of else f"unknown key {name!r}"
                self.note(unknown + did_you_mean(name, names), name, self.node.keys[name])
        order = [*(name for name in values if name in names), *(name for name in names if name not in values)]
        return {name: Cursor(values.get(name), join_key(self.key, name), self.issues) for name in order}

    def items(self, *, least: int = 1) -> list[Cursor]:
        """A cursor for each entry of a list."""
        if self.node is None or self.content is BROKEN:
            return []
        if not isinstance(self.content, list):
            self.note(f"expected a list (- one - two), got {annotations.describe(self.content)}")
            return []
        if len(self.content) < least:
            self.note("is empty; it needs at least one entry")
        return [Cursor(node, f"{self.key}[{i}]", self.issues) for i, node in enumerate(self.content)]

    def value(self, annotation: str, default: Any = None) -> Any:
        """The value, converted to this type; the default if it is missing or wrong."""
        if self.node is None or self.node.is_broken:
            return default
        try:
            return annotations.coerce(annotation, self.node.plain())
        except annotations.Mismatch as mismatch:
            self.note(f"{mismatch}{_quoting_hint(annotation, self.content)}")
            return default

    def name(self, default: str | None, entry: Cursor) -> str:
        """A name that can become a folder: the one given here, else the default. A mistake in the default is noted at
        the entry. Returns "" if the default is None, which happens only where a mistake has been noted already."""
        name = self.value("str", default)
        if name is not None and (reason := unusable(name)):
            at = None if self.given or entry.node is None else entry.node.position
            self.note(reason if self.given else f"{reason}; give it another", at=at)
        return name or ""


class Reader:
    """Turns the tree into a Suite and collects the mistakes. After a mistake it continues with a placeholder, which is
    never used, since `load` raises."""

    def __init__(self, path: Path, issues: list[SuiteIssue]) -> None:
        self.path = path
        self.folder = path.resolve().parent
        self.issues = issues
        self.labels: list[str] = []  # of the datasets, including the invalid ones
        self.valid_datasets: list[DatasetSpec] = []

    # ------------------------------------------------------------ the suite

    def suite(self, root: YamlNode, text: str) -> Suite:
        """The suite; `text` is that of its file."""
        top = Cursor(root, "", self.issues)
        keys = top.fields(KEYS)
        for name in ("datasets", "methods", "metrics"):
            if isinstance(root.value, dict) and not keys[name].given:
                top.note(f"the key {name!r} is missing")
        self.valid_datasets = self.datasets(keys["datasets"])  # first: methods name their labels
        suite = Suite(
            name=keys["name"].name(self.path.stem, top),
            about=keys["about"].value("str", ""),
            seeds=self.seeds(keys["seeds"]),
            train=TrainSettings(**self.train(keys["train"])),
            datasets=tuple(self.valid_datasets),
            methods=tuple(self.methods(keys["methods"])),
            metrics=tuple(self.metrics(keys["metrics"])),
            path=self.path,
            source_text=text,
            track=self.track(keys["track"]),
        )
        return replace(suite, tune=self.tune(keys["tune"], suite)) if keys["tune"].given else suite

    # ------------------------------------------------------------ the search

    def tune(self, tune: Cursor, suite: Suite) -> TuneSettings:
        """The search, whose datasets, methods, metrics and seeds are checked against those of the suite."""
        keys = tune.fields(field.name for field in fields(TuneSettings))
        trials, steps = keys["trials"].value("int", 16), keys["steps"].value("int | None")
        if trials < 2:
            keys["trials"].note(f"expected at least 2 trials, the default and another setting, got {trials}")
        if steps is not None and steps < 1:
            keys["steps"].note(f"must be 1 or more, got {steps}")
        # Settings chosen on the suite's own seeds would be fitted to their noise.
        seeds = self.seeds(keys["seeds"]) if keys["seeds"].given else (1000, 1001)
        if both := sorted(set(seeds) & set(suite.seeds)):
            keys["seeds"].note(
                f"the seed {both[0]} is also one of the suite's; the search needs seeds of its own",
                at=keys["seeds"].node.position if keys["seeds"].node else tune.node and tune.node.position,
            )
        labels = [dataset.label for dataset in suite.datasets]
        by: dict[str, str] = {}
        if not keys["by"].given:
            tune.note(
                "the key 'by' is missing: the value by which settings are judged, for all or for each dataset"
            )
        elif isinstance(keys["by"].content, str):
            by = dict.fromkeys(labels, self.judged_by(keys["by"], suite))
        else:
            by = {
                label: self.judged_by(cursor, suite)
                for label, cursor in keys["by"].fields(labels).items()
                if cursor.given
            }
            if lacks := [label for label in labels if label not in by]:
                keys["by"].note(f"names no value for the dataset {lacks[0]!r}")
        return TuneSettings(trials, seeds, by, steps, self.ranges(keys["ranges"], suite))

    def judged_by(self, value: Cursor, suite: Suite) -> str:
        """The name of a value of the suite's metrics that has a direction."""
        name = value.value("str", "")
        known = {v.name: v for metric in suite.metrics for v in metric.values}
        if name and name not in known:
            value.note(f"no metric of this suite has the value {name!r}{did_you_mean(name, known)}")
        elif name and known[name].better == "neither":
            value.note(f"{name!r} has no better direction, so it cannot judge settings")
        return name

    def ranges(self, ranges: Cursor, suite: Suite) -> dict[str, dict[str, SearchRange]]:
        """Search ranges by the label of a method and the parameter."""
        methods = {method.label: method for method in suite.methods if method.part}
        result: dict[str, dict[str, SearchRange]] = {}
        for label, parameters in ranges.fields(methods).items():
            if not parameters.given:
                continue
            spec = methods[label]
            names = {param.name: param for param in spec.part.plugin.params} if spec.part else {}
            names |= {f"{t.name}.{param.name}": param for t in spec.tricks for param in t.plugin.params}
            result[label] = {}
            for name, limits in parameters.fields(names, of=label).items():
                if limits.given and (found := self.range(limits, names[name])):
                    result[label][name] = found
        return result

    def range(self, limits: Cursor, param: Param) -> SearchRange | None:
        """A search range: `{log: [1e-4, 1e-2]}`, `{linear: [0, 1]}` or `{among: [1, 2, 5]}`."""
        keys = {
            name: cursor for name, cursor in limits.fields(("log", "linear", "among")).items() if cursor.given
        }
        values = {
            name: tuple(self.param(item, param) for item in cursor.items()) for name, cursor in keys.items()
        }
        if any(value is BROKEN for items in values.values() for value in items):  # said already
            return None
        try:
            return SearchRange(**values)
        except PluginError as error:
            limits.note(str(error))
            return None

    def track(self, track: Cursor) -> tuple[str, ...]:
        """The trackers: one by its name, or a list."""
        if track.content is None:
            return ()
        names: list[str] = []
        for item in track.items(least=0) if isinstance(track.content, list) else [track]:
            name = item.value(TRACKER)
            if name in names:
                item.note(f"{name!r} is in the list already")
            elif name is not None:
                names.append(name)
        return tuple(names)

    def seeds(self, seeds: Cursor) -> tuple[int, ...]:
        """The seeds: a number of them, or a list."""
        if seeds.node is None or seeds.node.is_broken:
            return (0, 1, 2, 3, 4)
        if type(seeds.content) is int:
            if not 1 <= seeds.content <= MAX_SEEDS:
                seeds.note(f"expected 1 to {MAX_SEEDS:,} seeds, got {seeds.content}")
                return ()
            return tuple(range(seeds.content))
        if not isinstance(seeds.content, list):
            got = annotations.describe(seeds.content)
            seeds.note(f"expected a number of seeds (5 means 0 to 4) or a list of seeds, got {got}")
            return ()
        numbers: list[int] = []
        for item in seeds.items():
            seed = item.value("int")
            if seed is not None and not 0 <= seed < SEED_LIMIT:
                item.note(f"a seed is a whole number from 0 to {SEED_LIMIT - 1:,}, got {seed}")
            elif seed in numbers:
                item.note(f"the seed {seed} is in the list already")
            elif seed is not None:
                numbers.append(seed)
        return tuple(numbers)

    def train(self, train: Cursor) -> dict[str, Any]:
        """The settings that are given."""
        types = {field.name: str(field.type) for field in fields(TrainSettings)}
        settings: dict[str, Any] = {}
        for name, setting in train.fields(types).items():
            value = setting.value(types[name])
            least = 0 if name == "snapshots" else 1
            if isinstance(value, float) and not 0 < value < math.inf:
                setting.note(f"must be positive and finite, got {value:g}")
            elif isinstance(value, int) and value < least:
                setting.note(f"must be {least} or more, got {value}")
            elif value is not None:
                settings[name] = value
        # TF32 and bfloat16 are ways to multiply float32 numbers.
        if settings.get("dtype") == "float64" and settings.get("precision", "float32") != "float32":
            given = settings["precision"]
            what = f"applies to float32 only; leave out `dtype: float64` or `precision: {given}`"
            train.note(what, "precision")
        return settings

    # ------------------------------------------------------------ plugins and their parameters

    def entry(self, entry: Cursor, kind: str) -> dict[str, Cursor]:
        """The keys of an entry in its long form."""
        keys = entry.fields(ENTRY_KEYS[kind])
        if isinstance(entry.content, dict) and not keys[kind].given:
            entry.note(f"the key {kind!r} is missing: which {kind} is it?")
        return keys

    def part(self, kind: Kind, keys: Mapping[str, Cursor], swept: Iterable[str] = ()) -> PluginSpec | None:
        """The plugin of an entry with its parameters; None if there is no such plugin. `swept`: the parameters that a
        sweep sets."""
        name = keys[kind]
        plugin = self.plugin(kind, name)
        if name.node is None or plugin is None:
            return None
        if kind == "method" and plugin.interface is None:
            name.note(
                f"the class {plugin.symbol} in {plugin.path} has neither `game` nor `fit`; it needs one of them"
            )
        return PluginSpec(plugin, self.params(keys["params"], plugin, name.node.position, swept))

    def plugin(self, kind: Kind, cursor: Cursor) -> Plugin | None:
        """The plugin that is named here; None if there is no such plugin."""
        name = cursor.value("str")
        if name is None:
            return None
        try:
            return registry.find(kind, name, self.folder)
        except PluginError as error:
            others = [other for other, known in registry.catalog().items() if other != kind and name in known]
            cursor.note(f"{error} ({name!r} is a {others[0]})" if others else str(error))
            return None

    def params(
        self, params: Cursor, plugin: Plugin, named: Position, swept: Iterable[str] = ()
    ) -> dict[str, Any]:
        """The parameters that are given. A required one that is missing is a mistake at `named`, the position of the
        plugin's name."""
        known = {param.name: param for param in plugin.params}
        given = {
            name: self.param(cursor, known[name])
            for name, cursor in params.fields(known, of=plugin.name).items()
            if cursor.given
        }
        for param in plugin.params:
            if param.required and param.name not in (*given, *swept):
                expected = annotations.describe_type(param.annotation)
                text = f"{plugin.name} needs the parameter {param.name!r} ({expected})"
                params.note(f"{text}: {param.doc}" if param.doc else text, at=named)
        return given

    def param(self, cursor: Cursor, param: Param) -> Any:
        """The value of a parameter. A file or folder (a `Path`, or a string named `path`) is relative to the suite's
        folder and becomes absolute; so does the file of a plugin that the parameter names."""
        kind = annotations.plugin_kind(param.annotation)
        if kind and isinstance(cursor.content, str | dict):
            return self.reference(kind, cursor)
        value = cursor.value(param.annotation, BROKEN)
        if isinstance(value, str) and param.is_path:
            return str(self.existing(cursor, value))
        return value

    def reference(self, kind: Kind, cursor: Cursor) -> Any:
        """The plugin that a parameter names, as `kl` or `{alpha: {alpha: 0.5}}`, its file made absolute."""
        params = Cursor(None, cursor.key, self.issues)
        if cursor.node and isinstance(cursor.content, dict):
            if len(cursor.content) != 1:
                cursor.note(
                    f"expected one {kind} with its parameters, as in `name: {{...}}`, got {len(cursor.content)} keys"
                )
                return BROKEN
            ((name, node),) = cursor.content.items()
            key = join_key(cursor.key, name)
            params = Cursor(node, key, self.issues)
            cursor = Cursor(YamlNode(name, cursor.node.keys[name]), key, self.issues)
        plugin = self.plugin(kind, cursor)
        if plugin is None or cursor.node is None:
            return BROKEN
        part = PluginSpec(plugin, self.params(params, plugin, cursor.node.position))
        return {part.reference: dict(part.params)} if part.params else part.reference

    def existing(self, cursor: Cursor, name: str) -> Path:
        """The absolute path of a file or folder that must exist, relative to the suite's folder."""
        try:
            path = (self.folder / Path(name).expanduser()).resolve()
            exists = path.exists()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, no such ~user
            cursor.note(f"{name!r} is not a usable path ({error})")
            return self.folder
        if not exists:
            cursor.note(f"there is no file or folder {path}")
        elif not path.is_file() and not path.is_dir():  # reading a pipe would wait for ever
            cursor.note(f"{path} is a pipe or a device; expected a file or a folder")
        return path

    # ------------------------------------------------------------ datasets, methods, metrics

    def datasets(self, datasets: Cursor) -> list[DatasetSpec]:
        """The datasets; keeps their labels for `only`."""
        specs: list[DatasetSpec] = []
        labels: list[tuple[str, Cursor]] = []
        for entry in datasets.items():
            keys = self.entry(entry, "dataset")
            part = self.part("dataset", keys)
            train = self.train(keys["train"])
            split = keys["split"].value("Literal['test', 'valid']", "test")
            label = keys["label"].name(part.name if part else None, entry)
            if part:
                specs.append(DatasetSpec(part, label, train, split))
                labels.append((label, entry))
            self.labels.append(label or str(keys["dataset"].content or ""))
        self.distinct(labels)
        return specs

    def methods(self, methods: Cursor) -> list[MethodSpec]:
        """The methods, sweeps expanded."""
        specs: list[MethodSpec] = []
        labels: list[tuple[str, Cursor]] = []
        for entry in methods.items():
            has_samples = isinstance(entry.content, dict) and "samples" in entry.content
            for spec in self.samples(entry) if has_samples else self.method(entry):
                # Two methods may share a label on different datasets, as tuned ones do.
                taken = [s for s in specs if s.label == spec.label]
                apart = all(
                    s.datasets and spec.datasets and not {*s.datasets} & {*spec.datasets} for s in taken
                )
                labels += [(spec.label, entry)] if not taken or not apart else []
                specs.append(spec)
        self.distinct(labels)
        return specs

    def method(self, entry: Cursor) -> list[MethodSpec]:
        """The methods of an entry: one, or one for each combination of its sweep."""
        keys = self.entry(entry, "method")
        sweep = keys["sweep"]
        part = self.part("method", keys, tuple(sweep.content) if isinstance(sweep.content, dict) else ())
        tricks = self.tricks(keys["tricks"], part)
        train = self.train(keys["train"])
        only = self.only(keys["datasets"])
        default = "+".join([part.name, *(trick.name for trick in tricks)]) if part else None
        label = keys["label"].name(default, entry)
        if part is None:
            return []
        # Every dataset that the method runs on must have what it needs.
        for dataset in self.valid_datasets:
            lacks = sorted(set(part.plugin.needs) - set(dataset.part.plugin.provides))
            if lacks and (only is None or dataset.label in only):
                lack = f"{part.name} needs data with {' and '.join(lacks)}, which {dataset.label!r} does not provide"
                entry.note(f"{lack}; list the datasets that have it under `datasets`", "method")
        base = MethodSpec(label, part, tricks, (), train, only, keys["tuned"].value("str", ""))
        return self.swept(base, part, sweep) if sweep.given else [base]

    def swept(self, base: MethodSpec, part: PluginSpec, sweep: Cursor) -> list[MethodSpec]:
        """A method for each combination of the sweep's values."""
        known = {param.name: param for param in part.plugin.params}
        choices: dict[str, list[Any]] = {}
        if not sweep.content:
            sweep.note("is empty; name a parameter and its values, as in `{lr: [1e-3, 1e-4]}`")
        for name, param in sweep.fields(known, of=part.name).items():
            if not param.given:
                continue
            if name in part.params and sweep.node:
                sweep.note("is also given under `params`; remove one of the two", name, sweep.node.keys[name])
            values = [self.param(item, known[name]) for item in param.items()]
            choices[name] = [value for value in values if value is not BROKEN]
        if not choices or (count := prod(map(len, choices.values()))) == 0:
            return []
        if count > MAX_SWEEP:
            sweep.note(f"makes {count:,} methods; at most {MAX_SWEEP:,} are allowed")
            return []
        specs = []
        for values in product(*choices.values()):
            params = dict(zip(choices, values, strict=True))
            label = "-".join([base.label, *(_choice(known[name], value) for name, value in params.items())])
            if reason := unusable(label):
                sweep.note(f"{reason} (the label that it makes)")
            specs.append(replace(base, label=label, part=replace(part, params={**part.params, **params})))
        return specs

    def tricks(self, tricks: Cursor, method: PluginSpec | None) -> tuple[PluginSpec, ...]:
        """The tricks of a method, in their order."""
        items = tricks.items(least=0)
        parts = [self.part("trick", self.entry(item, "trick")) for item in items]
        if parts and method and method.plugin.interface == "fit":
            tricks.note(
                f"{method.name!r} has its own training loop (fit) and takes no tricks; tricks need a method with a game"
            )
        return tuple(trick for trick in parts if trick)

    def samples(self, entry: Cursor) -> list[MethodSpec]:
        """Samples made by another program: one file, or a list with a file for each seed."""
        keys = entry.fields(ENTRY_KEYS["samples"])
        files = keys["samples"]
        paths: list[Path] = []
        for item in files.items() if isinstance(files.content, list) else [files]:
            name = item.value("str")
            if name is None:
                continue
            if not name.endswith((".npz", ".npy")):
                item.note(f"expected a file of samples (.npz or .npy), got {name!r}")
                continue
            paths.append(self.existing(item, name))
        only = self.only(keys["datasets"])
        label = keys["label"].name(paths[0].stem if paths else None, entry)
        return [MethodSpec(label, None, (), tuple(paths), {}, only)] if paths else []

    def only(self, datasets: Cursor) -> tuple[str, ...] | None:
        """The labels of the datasets that a method is restricted to; None: all."""
        if not datasets.given:
            return None
        labels: list[str] = []
        for item in datasets.items():
            label = item.value("str")
            if label is not None and label not in self.labels:
                unknown = f"no dataset of this suite has the label {label!r}"
                item.note(unknown + did_you_mean(label, self.labels))
            elif label in labels:
                item.note(f"{label!r} is in the list already")
            elif label is not None:
                labels.append(label)
        return tuple(labels)

    def metrics(self, metrics: Cursor) -> list[PluginSpec]:
        """The metrics. One that is listed more than once gets a label, so that no two share a column."""
        specs: list[PluginSpec] = []
        entries: list[Cursor] = []
        for entry in metrics.items():
            keys = self.entry(entry, "metric")
            part = self.part("metric", keys)
            label = keys["label"].value("str", "")
            if part and any(part.plugin == p.plugin and part.resolved == p.resolved for p in specs):
                entry.note(f"the metric {part.plugin.name!r} is in the list already")
            elif part:
                specs.append(replace(part, label=label))
                entries.append(entry)
        specs = [spec if spec.label else replace(spec, label=_variant(spec, specs)) for spec in specs]
        columns: dict[str, str] = {}  # column -> key of the entry that fills it
        for spec, entry in zip(specs, entries, strict=True):
            for column in (value.name for value in spec.values):
                if column in columns:
                    taken = f"the column {column!r} is taken by {columns[column]}"
                    entry.note(f"{taken}; tell them apart with `label: ...`")
                columns.setdefault(column, entry.key)
        return specs

    def distinct(self, labels: Iterable[tuple[str, Cursor]]) -> None:
        """Every label belongs to one entry, and every label to a folder of its own: some file systems do not
        distinguish `GAN` from `gan`, or a precomposed accented letter from a letter followed by an accent."""
        first: dict[str, tuple[str, str]] = {}
        for label, entry in labels:
            folder = normalize("NFKC", label).casefold()
            if folder in first:
                other, key = first[folder]
                taken = f"is taken by {key}"
                if other != label:
                    taken = f"and {other!r} of {key} would be one folder on some disks"
                entry.note(f"the label {label!r} {taken}; tell them apart with `label: ...`")
            first.setdefault(folder, (label, entry.key))


def unusable(name: str) -> str | None:
    """Why a name cannot be a folder's on Linux, macOS or Windows; None if it can."""
    if not name.strip() or name in (".", ".."):
        return f"{name!r} cannot be a name: it becomes a folder"
    if len(name) > MAX_NAME:
        return f"this name has {len(name)} characters; at most {MAX_NAME} are allowed, since it becomes a folder name"
    # Control and invisible characters: a right-to-left override, for one, displays another name than the real one.
    if bad := [c for c in name if c in "/\\" or category(c) in ("Cc", "Cf", "Zl", "Zp")]:
        return f"{name!r} cannot be a name: it becomes a folder, which cannot have {bad[0]!r} in its name"
    if name != name.strip() or name.endswith("."):
        return f"{name!r} cannot be a name: it becomes a folder, which cannot have spaces around it or a dot at its end"
    if RESERVED.fullmatch(normalize("NFKC", name)):
        return f"{name!r} cannot be a name: it becomes a folder, and Windows reserves that name for a device"
    return None


def _variant(metric: PluginSpec, metrics: Sequence[PluginSpec]) -> str:
    """The label of a metric that is listed more than once, such as `n=500`: the parameters that differ both from the
    defaults and from another variant. It is empty for a metric listed once and for the variant with all defaults, so
    that their columns and stored scores stay the same when another variant is added."""
    others = [other.resolved for other in metrics if other.plugin == metric.plugin]
    return ", ".join(
        f"{param.name}={_choice(param, value)}"
        for param in metric.plugin.params
        if (value := metric.params.get(param.name, param.default)) != param.default
        and any(other.get(param.name, param.default) != value for other in others)
    )


def _choice(param: Param, value: Any) -> str:
    """A parameter's value as part of a label; a file by its name, a plugin by its name and parameters."""
    if param.is_path and isinstance(value, str):
        return Path(value).name
    kind = annotations.plugin_kind(param.annotation)
    if kind is None or value is None:
        return _as_label(value)
    name, params = registry.named(value)
    return "-".join([registry.find(kind, name).name, *map(_as_label, params.values())])


def _as_label(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(_as_label, value))
    return value if isinstance(value, str) else annotations.describe(value)


def _quoting_hint(annotation: str, value: Any) -> str:
    """A hint to add or remove quotes, if that would fix a mismatch; to be appended to its message."""
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
