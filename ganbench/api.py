"""The Python API: run a suite, read its records, load a trained seed, score samples.

Modules that import torch are imported by the functions that need them, so that reading records is fast.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import registry
from .contracts import CONTROLS, Data, Kind, Model, Record
from .errors import DatasetError, RequestError, SampleError, StoreError, SuiteError, SuiteIssue, did_you_mean
from .suite.load import load
from .suite.nodes import Position, YamlNode
from .suite.normalise import override
from .suite.plan import Cell, data_digest, read_cell
from .suite.reader import Cursor, Reader
from .suite.spec import DatasetSpec, MethodSpec, PluginSpec, TrainSettings

if TYPE_CHECKING:
    from pandas import DataFrame

    from .samples import Samples
    from .scoring import ScoredSeed

ARRAYS = (".npy", ".npz")


# ----------------------------------------------------------------------------------- suites and their results


def load_data(name: str, **params: Any) -> Data:
    """A dataset by its name (`ring`) or file (`./mine.py`) with these parameters, the same on every machine. Raises
    PluginError if there is no such dataset or its code fails, and DatasetError if its files are missing or wrong."""
    from .execution import worker

    return worker.load_data(PluginSpec(registry.find("dataset", name), params))


def run_suite(
    suite: str | Path,
    out: str | Path,
    *,
    overrides: str | Sequence[str] = (),
    seeds: int | None = None,
    device: str = "auto",
    jobs: int | None = None,
    quiet: bool = False,
) -> DataFrame:
    """Run a suite, as `ganbench run` does, and return its records; see `load_records`.

    suite: a YAML file, or the name of a shipped one
    out: the run directory, also for tables, plots and report; results that it has already are not computed again
    overrides: "train.steps=100", as after --set, or several of them
    seeds: 0 to seeds - 1 instead of the suite's own
    device: "auto", "cpu" or "cuda"
    jobs: worker processes; by default one for each core, or on CUDA one for each GPU
    quiet: print nothing

    A seed that failed or diverged is a row with a status. A script that calls this needs the usual
    `if __name__ == "__main__":` around it, since workers are processes; a notebook does not. Raises SuiteError with all
    mistakes of the suite, RequestError for missing data, plugins or devices, StoreError for a directory that cannot be
    used, and KeyboardInterrupt; finished results are kept.
    """
    from rich.console import Console

    from .execution import run

    console = Console(quiet=quiet)
    # A seed that failed is a row of the records, so only an interruption is an exception.
    code = run.run(load(suite, overrides, seeds), Path(out), device=device, jobs=jobs, console=console)
    if code == 130:
        raise KeyboardInterrupt
    return load_records(out)


def load_records(out: str | Path) -> DataFrame:
    """The records of a run: a row for each cell, seed and value, with the columns of `ganbench.contracts.COLUMNS`;
    `value` and `sem` are NaN if there are none. Raises StoreError if there is no readable run."""
    from .store.results import read_records

    return read_records(Path(out))


def load_model(
    out: str | Path, label: str, seed: int = 0, *, dataset: str | None = None, device: str = "cpu"
) -> Model:
    """A trained seed of a run, as metrics see it: `.samples(n)`, and for games `.generate(z)`, `.nets` and `.game`.

    label: label of the method in the suite
    seed: one of the suite's seeds
    dataset: label of the dataset, if the method was run on more than one
    device: the device on which to compute

    The method and the dataset are rebuilt from the copies of their sources in the run directory. This runs their code:
    do not load anything from a directory that you do not trust. Files of other methods, datasets and metrics are not
    read and may be missing.

    Raises RequestError for a label or seed that does not exist or was not trained (or was trained on other data or by
    other code), StoreError if there is no run, SuiteError if the plugins of this label cannot be read.
    """
    from .execution import worker
    from .store import layout
    from .store.rundir import Store
    from .training.model import model

    store = Store(Path(out), read_only=True)
    path = store.path(layout.SUITE)
    if (
        store.read_text(path) is None
    ):  # also refuses links, and FIFOs, which would block the reading of the suite
        raise StoreError(f"{out}: is not a folder of results (it has no {layout.SUITE})")
    # Only the plugins of this label are read: the others may be lost.
    cell = read_cell(path, label, dataset)
    if seed not in cell.seeds:
        raise RequestError(
            f"{out}: {cell.label} has no seed {seed}; its seeds are {', '.join(map(str, cell.seeds))}"
        )
    data = worker.load_data(cell.dataset.part, cell.dataset.split)
    # With the digest of the data the cell has its key, under which only the same training is found.
    cell = replace(cell, digest=data_digest(data, cell.dataset.part))
    trained = store.training(cell, seed)
    if trained is None or trained.status != "ok":
        state = f"{trained.status} ({trained.error})" if trained else "not trained"
        raise RequestError(f"{out}: seed {seed} of {cell.label} is {state}; run the suite again")
    return model(cell, data, seed, *store.tensors(cell.id, seed), device=device)


# -------------------------------------------------------------------------- samples of other programs


@dataclass(frozen=True)
class Request:
    """The dataset and the metrics of a scoring, with their parameters."""

    dataset: PluginSpec
    metrics: tuple[PluginSpec, ...]
    n: int | None = None  # number of samples for every metric whose parameters do not set it


@dataclass(frozen=True)
class Shortage:
    """The shortage of samples of a metric."""

    needed: int  # samples
    at_hand: int
    setting: str | None  # "kde_ll.n=300", with which these are enough; None if there is no such parameter


@dataclass(frozen=True)
class Measured:
    """The scores of the samples by one metric. Records without a value have an error."""

    metric: str  # its name
    sentence: str  # of its protocol
    records: tuple[Record, ...]  # one for each value
    controls: Mapping[str, float]  # scores of data, or copies of data, under the same protocol
    verdict: str | None  # the meaning of the values, in words
    warning: str | None
    shortage: Shortage | None = None


def request(dataset: str, metrics: Sequence[str], options: Sequence[str], n: int | None = None) -> Request:
    """The dataset and the metrics of these names (or files); without names, all metrics that need only samples.

    Other samples can take the place of the dataset: an .npy or .npz file, or a folder of images, of which the most
    frequent size is used. `options` are "NAME.PARAMETER=VALUE" for a dataset or metric by its name, with the value in
    YAML; `n` is the number of samples for each metric whose options do not set it. Raises PluginError for an unknown
    name, else SuiteError with all mistakes.
    """
    name, given = _as_dataset(dataset)
    data = registry.find("dataset", name)
    wanted = [registry.find("metric", name) for name in dict.fromkeys(metrics)]
    chosen = wanted or [p for p in registry.catalog()["metric"].values() if set(p.needs) <= {*data.provides}]
    # Options go through the reader of suites, so that they have the same types and the same messages.
    issues: list[SuiteIssue] = []
    nowhere = Position("", 0, 0)
    known = {plugin.name: YamlNode({}, nowhere) for plugin in (data, *chosen)}
    named = Position(f"--dataset {dataset}", 0, 0)
    known[data.name] = YamlNode({key: YamlNode(value, named) for key, value in given.items()}, nowhere)
    tree = YamlNode(known, nowhere)
    for option in options:
        # A key without a dot would replace all parameters of the plugin, or add a plugin.
        if "=" in option and not re.search(r"[.\[]", option.partition("=")[0]):
            position = Position(f"--set {option}", 0, 0)
            issues.append(position.issue("", "expected NAME.PARAMETER=VALUE, such as kde_ll.n=5000"))
            continue
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


def _as_dataset(dataset: str) -> tuple[str, dict[str, Any]]:
    """The name and parameters of the dataset; files of samples and images are datasets of their own kind."""
    from .datasets import files

    path = Path(dataset)
    if path.suffix.lower() in ARRAYS:
        return "samples", {"path": str(path.absolute())}
    if not path.is_dir():
        return dataset, {}
    headers = files.read_headers(files.list_images(path))
    sides = Counter(min(header.width, header.height) for header in headers)
    size = min(sides, key=lambda side: (-sides[side], side))  # the most frequent, the smaller of equals
    channels = 1 if all(header.grey for header in headers) else 3
    return "images", {"path": str(path.absolute()), "size": size, "channels": channels}


def read(path: Path, data: Data) -> Samples:
    """The samples of an .npy or .npz file, or of a folder of images of the data's size. They are in a pseudo-random
    order that depends only on their contents, since metrics score the first n.

    Raises SampleError for samples that do not fit the data, DatasetError for images that are damaged or of another
    size.
    """
    from .datasets import files
    from .samples import Samples, read_samples

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


def score_samples(
    path: Path, asked: Request, device: str = "auto", report: Callable[[str], object] = lambda line: None
) -> Iterator[Measured]:
    """Score the samples at `path` by each metric of the request; yields each result as soon as it is computed. Metrics
    with too few samples, which is known beforehand, come first. Their records, and those of metrics that fail, have an
    error instead of a value. `report` is called with lines on how the samples and the data were read.

    Raises SampleError and DatasetError, before any metric is computed, for samples that do not fit the data.
    """
    from .execution.run import choose_device
    from .execution.worker import load_data
    from .sample_counts import count_setting, samples_needed, too_few, with_param
    from .scoring import Scorer, protocol, unmeasured
    from .training.model import SampleModel
    from .training.trained import TrainedSeed

    device = choose_device(device)
    data = load_data(asked.dataset)
    samples = read(path, data)
    for line in _reading(samples, data):
        report(line)

    # Every metric on `n` samples, unless its own parameters say how many.
    metrics = list(asked.metrics)
    for index, metric in enumerate(metrics) if asked.n is not None else ():
        setting = count_setting(metric, data, asked.n or 0)
        if setting and setting[0] not in metric.params:
            metrics[index] = with_param(metric, *setting)

    # The samples are treated as one seed of a cell that belongs to no suite.
    method = MethodSpec(path.stem, None, (), (path,), {}, None)
    dataset = DatasetSpec(asked.dataset, asked.dataset.name, {})
    protocols = tuple(protocol(metric, data) for metric in metrics)
    cell = Cell("", dataset, method, (0,), TrainSettings(), tuple(metrics), protocols=protocols)
    trained = TrainedSeed(0, "ok", device=device)

    def shortage(metric: PluginSpec, needed: int, setting: tuple[str, int] | None) -> Shortage:
        remedy = f"{metric.name}.{setting[0]}={setting[1]}" if setting else None
        return Shortage(needed, len(samples), remedy)

    needs = [samples_needed(metric, data) or 0 for metric in metrics]
    short = [index for index, needed in enumerate(needs) if needed > len(samples)]
    for index in short:
        scored = unmeasured(cell, index, trained, "failed", too_few(needs[index], len(samples)))
        setting = count_setting(metrics[index], data, len(samples))
        yield _measured(scored, protocols[index][1], shortage(metrics[index], needs[index], setting))
    scorer = Scorer(cell, data)
    for index, metric in enumerate(metrics):
        if index in short:
            continue
        model, lack = SampleModel(0, samples, data=data, device=device), None
        scored = scorer(index, model, trained)
        if model.max_requested > len(samples):  # a need that became known only by running the metric
            names = [
                name
                for name, value in metric.resolved.items()
                if type(value) is int and value == model.max_requested
            ]
            lack = shortage(metric, model.max_requested, (names[0], len(samples)) if names else None)
        yield _measured(scored, protocols[index][1], lack)


def _reading(samples: Samples, data: Data) -> Iterator[str]:
    """Lines on how samples and data were read, with a warning if they seem to be on different scales."""
    from .samples import range_warning

    yield f"samples: {samples}; taken in a fixed random order"
    splits = ", ".join(f"{len(getattr(data, split)):,} {split}" for split in ("train", "valid", "test"))
    scale = f"; values {data.scale[0]:g} to {data.scale[1]:g}" if data.scale else ""
    yield f"dataset: {'; '.join(data.notes) or f'{data.name}: examples of {list(data.shape)}{scale}'}; {splits}"
    if warning := range_warning(samples, data):
        yield f"warning: {warning}"


def _measured(scored: ScoredSeed, sentence: str, shortage: Shortage | None) -> Measured:
    verdict, warning = (
        str(words) if (words := scored.details.get(name)) else None for name in ("verdict", "warning")
    )
    controls = {name: value for name, value in scored.details.items() if name.startswith(CONTROLS)}
    return Measured(
        scored.metric, sentence, scored.records, dict(_numbers(controls)), verdict, warning, shortage
    )


def _numbers(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested mappings, with joined names: `control_train precision`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{before}{name} ")
        elif isinstance(value, int | float):
            yield f"{before}{name}", float(value)
