"""Samples that others made, scored against a dataset without a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import registry
from .contracts import CONTROLS, Data, Kind, Record
from .datasets import files
from .errors import DatasetError, SampleError, SuiteError, SuiteIssue, did_you_mean
from .execution.run import choose_device
from .execution.worker import load_data
from .sample_counts import count_setting, samples_needed, too_few, with_param
from .samples import Samples, range_warning, read_samples
from .scoring import ScoredSeed, Scorer, protocol, unmeasured
from .suite.nodes import Position, YamlNode
from .suite.normalise import override
from .suite.plan import Cell
from .suite.reader import Cursor, Reader
from .suite.spec import DatasetSpec, MethodSpec, PluginSpec, TrainSettings
from .training.model import SampleModel
from .training.trained import TrainedSeed

ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Request:
    """Which dataset, which metrics, with which parameters."""

    dataset: PluginSpec
    metrics: tuple[PluginSpec, ...]
    n: int | None = None  # samples that every metric takes, where `metrics` do not say how many


@dataclass(frozen=True)
class Shortage:
    """What a metric lacks for which the samples are too few."""

    needed: int  # samples
    at_hand: int
    setting: str | None  # "kde_ll.n=300", under which these are enough; None where no parameter does that


@dataclass(frozen=True)
class Measured:
    """What one metric says of the samples. Records without a value say why."""

    metric: str  # its name
    sentence: str  # the protocol
    records: tuple[Record, ...]  # one for each value
    controls: Mapping[str, float]  # what data or copies of them score under the same protocol
    verdict: str | None  # what they say in words
    warning: str | None
    shortage: Shortage | None = None


def request(dataset: str, metrics: Sequence[str], options: Sequence[str], n: int | None = None) -> Request:
    """The dataset and the metrics of these names (or files); no names: all metrics that samples suffice for.

    For the dataset also other samples, an .npy or .npz file, or a folder of images, of the commonest size among them.
    `options` are "NAME.PARAMETER=VALUE" for a dataset or metric by its name, the value in YAML; `n` is how many
    samples each metric takes for which the options do not say it. Raises PluginError for a name that is not there,
    else SuiteError with all mistakes.
    """
    name, given = _others(dataset)
    data = registry.find("dataset", name)
    wanted = [registry.find("metric", name) for name in dict.fromkeys(metrics)]
    chosen = wanted or [p for p in registry.catalog()["metric"].values() if set(p.needs) <= {*data.provides}]
    issues: list[SuiteIssue] = []
    nowhere = Position("", 0, 0)
    known = {plugin.name: YamlNode({}, nowhere) for plugin in (data, *chosen)}
    named = Position(f"--dataset {dataset}", 0, 0)
    known[data.name] = YamlNode({key: YamlNode(value, named) for key, value in given.items()}, nowhere)
    tree = YamlNode(known, nowhere)
    for option in options:
        tree = override(tree, f"--set {option}", option, issues, "kde_ll.n=5000")
    for name in set(tree.value) - set(known):
        what = f"{name!r} is neither the dataset nor one of the metrics{did_you_mean(name, known)}"
        issues.append(tree.keys[name].issue(name, what))
    reader = Reader(Path.cwd() / "-", issues)

    def part(kind: Kind, plugin: registry.Plugin) -> PluginSpec:
        params = Cursor(tree.value[plugin.name], plugin.name, issues)
        return PluginSpec(plugin, reader.params(params, plugin, Position(f"--{kind}", 0, 0)))

    asked = Request(part("dataset", data), tuple(part("metric", plugin) for plugin in chosen), n)
    for plugin in wanted:
        if lacking := set(plugin.needs) - set(data.provides):
            what = f"cannot be measured on samples of {data.name}: it needs {' and '.join(sorted(lacking))}"
            issues.append(SuiteIssue("--metrics", 0, 0, plugin.name, what))
    if issues:
        raise SuiteError(issues)
    return asked


def _others(dataset: str) -> tuple[str, dict[str, Any]]:
    """The name and parameters of the dataset that is meant: other samples are data of their own kind."""
    path = Path(dataset)
    if path.suffix.lower() in ARRAYS:
        return "samples", {"path": str(path.absolute())}
    if not path.is_dir():
        return dataset, {}
    headers = files.read_headers(files.list_images(path))
    sides = Counter(min(header.width, header.height) for header in headers)
    size = min(sides, key=lambda side: (-sides[side], side))  # the commonest
    channels = 1 if all(header.grey for header in headers) else 3
    return "images", {"path": str(path.absolute()), "size": size, "channels": channels}


def read(path: Path, data: Data) -> Samples:
    """The samples of an .npy or .npz file, or of a folder of images of the data's size, in a random order that
    their contents decide, since metrics score the first n.

    Raises SampleError, and DatasetError for images that are damaged or of another size.
    """
    if not path.is_dir():
        if path.suffix.lower() not in ARRAYS:
            raise SampleError(f"{path}: expected .npy, .npz or a folder of {files.IMAGE_KINDS} images")
        return read_samples(path, data)
    if len(data.shape) != 3 or data.shape[0] not in (1, 3) or data.shape[1] != data.shape[2]:
        shape = ", ".join(map(str, data.shape))
        raise SampleError(
            f"{path}: is a folder of images, and {data.name} holds no square images but [{shape}]"
        )
    listing, size = files.list_images(path), data.shape[-1]
    headers = files.read_headers(listing)
    other = [i for i, header in enumerate(headers) if (header.width, header.height) != (size, size)]
    if other:
        name, header = listing.names[other[0]], headers[other[0]]
        raise DatasetError(
            f"{path}: {len(other):,} of {len(headers):,} images are of another size, such as {name}, which has "
            f"{header.width} × {header.height} pixels; expected {size} × {size}. Resize them as your model would"
        )
    layout = files.Layout(size=size, channels=1 if data.shape[0] == 1 else 3, exact=True)
    pixels = files.decode_files(path, listing.names, layout).numpy()
    samples = Samples(pixels, str(path), data.shape, data.scale)
    samples.notes = (str(listing), files.channel_note(headers, layout.channels), *samples.notes)
    return samples


def score(
    path: Path, asked: Request, device: str = "auto", report: Callable[[str], object] = lambda line: None
) -> Iterator[Measured]:
    """Each metric of the request on the samples at `path`, as soon as it is there: first those for which the samples
    are too few, which is found out before anything is computed. They and metrics that fail have records without a
    value that say why. `report` is given lines that say how the samples and the data were read.

    Raises SampleError and DatasetError, before any metric is computed, for samples that do not fit the data.
    """
    device = choose_device(device)
    data = load_data(asked.dataset)
    samples = read(path, data)
    for line in _reading(samples, data):
        report(line)
    if asked.n is not None:
        asked = replace(asked, metrics=tuple(_taking(metric, data, asked.n) for metric in asked.metrics))
    protocols = [protocol(metric, data) for metric in asked.metrics]
    cell, trained = _cell(path, asked, protocols), TrainedSeed(0, "ok", device=device)
    needs = [samples_needed(metric, data) or 0 for metric in asked.metrics]
    short = [index for index, needed in enumerate(needs) if needed > len(samples)]
    for index in short:
        scored = unmeasured(cell, index, trained, "failed", too_few(needs[index], len(samples)))
        found = count_setting(asked.metrics[index], data, len(samples))
        yield _measured(scored, protocols[index][1], _shortage(scored, needs[index], len(samples), found))
    scorer = Scorer(cell, data)
    for index in (index for index in range(len(needs)) if index not in short):
        model = SampleModel(0, samples, data=data, device=device)
        scored, shortage = scorer(index, model, trained), None
        if model.most > len(samples):  # of a metric whose need only trying could tell
            found = _that_asked(asked.metrics[index], model.most, len(samples))
            shortage = _shortage(scored, model.most, len(samples), found)
        yield _measured(scored, protocols[index][1], shortage)


def _taking(metric: PluginSpec, data: Data, n: int) -> PluginSpec:
    """The metric on `n` samples, unless its parameters say how many already."""
    found = count_setting(metric, data, n)
    return with_param(metric, *found) if found and found[0] not in metric.params else metric


def _that_asked(metric: PluginSpec, asked: int, at_hand: int) -> tuple[str, int] | None:
    """The parameter that has the value for which the metric asked, and what it would have to be."""
    names = [name for name, value in metric.resolved.items() if type(value) is int and value == asked]
    return (names[0], at_hand) if names else None


def _shortage(scored: ScoredSeed, needed: int, at_hand: int, found: tuple[str, int] | None) -> Shortage:
    setting = f"{scored.metric}.{found[0]}={found[1]}" if found else None
    return Shortage(needed, at_hand, setting)


def _reading(samples: Samples, data: Data) -> Iterator[str]:
    """How samples and data were read, and a warning where they do not seem to be on one scale."""
    yield f"samples: {samples}; taken in a fixed random order"
    splits = ", ".join(f"{len(getattr(data, split)):,} {split}" for split in ("train", "valid", "test"))
    scale = f"; values {data.scale[0]:g} to {data.scale[1]:g}" if data.scale else ""
    known = "; ".join(data.notes) or f"{data.name}: examples of {list(data.shape)}{scale}"
    yield f"dataset: {known}; {splits}"
    if warning := range_warning(samples, data):
        yield f"warning: {warning}"


def _cell(path: Path, asked: Request, protocols: Sequence[tuple[str, str]]) -> Cell:
    """The samples as a cell of a suite without a name."""
    method = MethodSpec(path.stem, None, (), (path,), {}, None)
    dataset = DatasetSpec(asked.dataset, asked.dataset.name, {})
    settings = TrainSettings()
    return Cell("", dataset, method, (0,), settings, asked.metrics, protocols=tuple(protocols))


def _measured(scored: ScoredSeed, sentence: str, shortage: Shortage | None) -> Measured:
    verdict, warning = (
        str(words) if (words := scored.details.get(name)) else None for name in ("verdict", "warning")
    )
    found = {name: value for name, value in scored.details.items() if name.startswith(CONTROLS)}
    controls = dict(_numbers(found))
    return Measured(scored.metric, sentence, scored.records, controls, verdict, warning, shortage)


def _numbers(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested mappings: `control_train precision` for one inside another."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{before}{name} ")
        elif isinstance(value, int | float):
            yield f"{before}{name}", float(value)
