"""The content of a suite after reading: plain values that can be sent to another process."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .. import registry
from ..contracts import Value
from ..registry import Plugin
from ..search_range import SearchRange
from . import annotations

TrackerName = Literal["tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True)
class TrainSettings:
    """Length, minibatch size and numerical precision of all training."""

    steps: int = 3000  # rounds of the game
    batch: int = 256  # examples in a minibatch
    dtype: Literal["float32", "float64"] = "float32"  # of parameters, latents and examples
    precision: Literal["float32", "tf32", "bf16"] = "float32"  # of products, whose factors may be rounded
    snapshots: int = 4  # sample images saved during training; they do not change results
    checkpoint: float = 10.0  # minutes between saves of a game, which a killed run resumes; changes no number


@dataclass(frozen=True)
class PluginSpec:
    """A plugin with the parameters that the suite gives it."""

    plugin: Plugin
    params: Mapping[str, Any]
    label: str = ""  # distinguishes a metric of a suite from the same one with other parameters

    @property
    def name(self) -> str:
        """The plugin's name, with the label where there is one: `kde_ll(n=500)`."""
        return self._labelled(self.plugin.name)

    def build(self) -> Any:
        """An instance of the plugin with its parameters. Raises PluginError if its file fails or its class rejects the
        parameters. Not for datasets, which are functions: see `execution.worker.load_data`."""
        return registry.build(self.plugin, self.params)

    @property
    def values(self) -> tuple[Value, ...]:
        """The values of a metric, named as in tables: `precision(k=3)`."""
        return tuple(replace(value, name=self._labelled(value.name)) for value in self.plugin.values)

    def _labelled(self, name: str) -> str:
        return f"{name}({self.label})" if self.label else name

    @property
    def reference(self) -> str:
        """The text by which another process finds it: the name of a shipped plugin, `file:symbol` for any other."""
        shipped = registry.catalog()[self.plugin.kind].get(self.plugin.name) == self.plugin
        return self.plugin.name if shipped else f"{self.plugin.path}:{self.plugin.symbol}"

    @property
    def files(self) -> dict[str, Path]:
        """The files and folders that its numbers depend on besides its source, by name: those that its mark lists
        under `reads`, and those that its parameters name (a suite's paths are absolute)."""
        named = {param.name: self.resolved.get(param.name) for param in self.plugin.params if param.is_path}
        reads = {f"reads {name}": self.plugin.path.parent / name for name in self.plugin.reads}
        return reads | {
            name: Path(value)
            for name, value in named.items()
            if isinstance(value, str) and Path(value).is_absolute()
        }

    @property
    def parts(self) -> dict[str, PluginSpec]:
        """The plugins that its parameters name, such as the divergence of an f-GAN."""
        found = {}
        for param in self.plugin.params:
            kind, value = annotations.plugin_kind(param.annotation), self.resolved.get(param.name)
            if kind and value is not None:
                name, params = registry.named(value)
                found[param.name] = PluginSpec(registry.find(kind, name), params)
        return found

    @property
    def resolved(self) -> dict[str, Any]:
        """All parameters with their defaults, in the order of the source. A default that is not a plain value is left
        out; the digest of the file covers it."""
        values = {}
        for param in self.plugin.params:
            if param.name in self.params:
                values[param.name] = self.params[param.name]
            elif not param.required and _is_plain(param.default):
                values[param.name] = param.default
                with suppress(annotations.Mismatch):  # such as None for `x: int = None`, which Python accepts
                    values[param.name] = annotations.coerce(param.annotation, param.default)
        return values


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset of the suite; `train`: the training settings that it overrides.

    split: the examples that metrics see as test data. With "valid", these are the validation examples, and a tenth of
        the training examples, which are not trained on, take the place of the validation examples
    """

    part: PluginSpec
    label: str
    train: Mapping[str, Any]
    split: Literal["test", "valid"] = "test"


@dataclass(frozen=True)
class MethodSpec:
    """A method of the suite with its tricks, or (`part` is None) samples made by another program, a file for each
    seed. `train`: the training settings that it overrides; `datasets`: labels of the datasets it is limited to."""

    label: str
    part: PluginSpec | None
    tricks: tuple[PluginSpec, ...]
    samples: tuple[Path, ...]
    train: Mapping[str, Any]
    datasets: tuple[str, ...] | None
    tuned: str = ""  # how its parameters were chosen, in words; does not change results


@dataclass(frozen=True)
class TuneSettings:
    """A hyperparameter search with the same budget for every method on every dataset, before the comparison.

    by: label of a dataset -> the value by which settings are judged, on validation data
    ranges: label of a method -> parameter ("lr", or "r1.gamma" of a trick) -> its search range, which replaces or
        adds to those of the method's file
    """

    trials: int  # settings to try, the first of which is the method's default
    seeds: tuple[int, ...]  # of the search; disjoint from the suite's
    by: Mapping[str, str]
    steps: int | None  # rounds of a trial; None: as many as in the comparison
    ranges: Mapping[str, Mapping[str, SearchRange]]


@dataclass(frozen=True)
class Suite:
    """The methods, datasets and metrics of a comparison; sweeps are expanded."""

    name: str
    about: str
    seeds: tuple[int, ...]
    train: TrainSettings
    datasets: tuple[DatasetSpec, ...]
    methods: tuple[MethodSpec, ...]
    metrics: tuple[PluginSpec, ...]
    path: Path
    source_text: str
    track: tuple[
        str, ...
    ] = ()  # trackers to which every finished seed is reported; they do not change results
    tune: TuneSettings | None = None


def _is_plain(value: Any) -> bool:
    """Whether a value can be written as JSON."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return abs(value) < float("inf")
    return value is None or isinstance(value, bool | int | str)
