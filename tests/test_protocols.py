"""What the hash of a protocol depends on, and how hashes of earlier versions are read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module

import pytest

from ganbench import registry
from ganbench.analysis import reference
from ganbench.conformance.fixtures import images, load_data, plane
from ganbench.contracts import COLUMNS, Data
from ganbench.errors import PluginError
from ganbench.scoring import protocol
from ganbench.store.protocols import _table, current_protocol
from ganbench.store.results import read_records
from ganbench.suite.spec import PluginSpec

# Numbers of formulas and names, which only another `version` of a metric changes.
FORMULAS = re.compile(
    r"2\^\(1/4\)|1/\(1 \+|log\(1 - D\)|L2-SVM|Wasserstein-2|/d \+ 1\)|float64|logspace\(-1, 0, 10\)"
    r"|2 convolutions|first step of length 1,|density is 1 |to 0 along"
)
METRICS = registry.catalog()["metric"]
PARAMS = {  # other settings than the default that say something else in the sentence
    "ais_ll": [{"sigma": 0.5}, {"schedule": "sigmoid"}],
    "c2st": [{"classifier": "mlp"}, {"features": "classifier"}],
    "data_copying": [{"features": "classifier"}],
    "kde_ll": [{"bandwidths": (0.1, 0.2)}],
    "reconstruction": [{"optimiser": "adam"}],
}


def datasets() -> dict[str, Data]:
    colours = images(8)
    splits = {name: getattr(colours, name).expand(-1, 3, -1, -1) for name in ("train", "valid", "test")}
    colours = replace(colours, name="colours", shape=(3, 8, 8), **splits)
    return {data.name: data for data in (plane(), images(8), colours, *map(load_data, ("mixture1d", "xor")))}


DATASETS = datasets()


def provided(data: Data) -> set[str]:
    have = {name for name in ("modes", "log_density", "labels", "simulator") if getattr(data, name)}
    return (
        have | ({"pixels"} if data.scale else set()) | {"generator", "bound", "discriminator", "parameters"}
    )


def cases(name: str) -> Iterator[tuple[PluginSpec, Data]]:
    """The metric of this name with several parameters, on all datasets that have what it needs."""
    for params in ({}, *PARAMS.get(name, ())):
        metric = PluginSpec(METRICS[name], params)
        for data in DATASETS.values():
            usable = data.scale or params.get("features") != "classifier"
            if {*metric.plugin.needs} <= provided(data) and usable:
                yield metric, data


def numbers(value: object) -> Iterator[float]:
    """All numbers in a value, those in texts too."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, str):
        yield from (float(text) for text in re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", value))
    elif isinstance(value, int | float):
        yield float(value)


@pytest.mark.parametrize("name", METRICS)
def test_every_number_of_the_sentence_is_hashed(name: str):
    assert list(cases(name))
    for metric, data in cases(name):
        made = metric.build()
        fields = made.protocol_fields(data)
        hashed = {*numbers(fields), *numbers(dict(metric.resolved))}
        hashed |= {100 * x for x in hashed}  # percentages
        hashed |= {len(x) for x in fields.values() if isinstance(x, list)}  # of a grid
        said = set(numbers(FORMULAS.sub("", made.protocol(data)).replace(data.name, "")))
        assert said <= hashed, data.name


@pytest.mark.parametrize("name", METRICS)
def test_another_sentence_on_other_data_has_another_hash(name: str):
    for metric, data in cases(name):
        old, sentence = protocol(metric, data)
        changes: dict[str, object] = {
            split: getattr(data, split)[:199] for split in ("train", "valid", "test")
        }
        changes |= {"name": "other", "classes": ("a", "b", "c"), "scale": (-1.0, 1.0) if data.scale else None}
        for field, value in changes.items():
            labels = data.labels
            if labels and field in labels._fields:
                labels = labels._replace(**{field: getattr(labels, field)[:199]})
            new, other = protocol(metric, replace(data, **{field: value, "labels": labels}))
            assert new != old or other == sentence, (data.name, field)


@pytest.mark.parametrize("name", METRICS)
def test_a_sentence_can_be_reworded(name: str, monkeypatch: pytest.MonkeyPatch):
    for metric, data in cases(name):
        old, _ = protocol(metric, data)
        with monkeypatch.context() as patch:
            patch.setattr(type(metric.build()), "protocol", lambda self, data: "in other words")
            assert protocol(metric, data) == (old, "in other words")


CONSTANTS = [
    ("ais", "TARGET_ACCEPTANCE", "ais_ll", {}),
    ("ais", "SIGMOID_REACH", "ais_ll", {"schedule": "sigmoid"}),
    ("bounds", "GRID_POINTS", "gaussian_fit", {}),
    ("bounds", "MAX_DIVERGENCE", "gaussian_fit", {}),
    ("classifier", "RECIPE", "classifier_score", {}),
    ("classifier", "FEATURES", "class_coverage", {}),
    ("copying", "MAX_CLUSTERED", "data_copying", {}),
    ("copying", "MIN_CELL_SAMPLES", "data_copying", {}),
    ("copying", "DUPLICATE_QUANTILE", "data_copying", {}),
    ("kde", "GOODFELLOW_GRID", "kde_ll_folds", {}),
    ("kde", "GRID_EXPONENTS", "kde_ll_scales", {}),
    ("prdc", "SEM_PARTS", "prdc", {}),
    ("probe", "POOLED_SIDE", "probe", {}),
    ("probe", "SVM_STRENGTHS", "probe", {}),
    ("reconstruction", "LBFGS_PAIRS", "reconstruction", {}),
    ("reconstruction", "ADAM_RATE", "reconstruction", {"optimiser": "adam"}),
    ("reconstruction", "MAX_SEARCH_SHARE", "reconstruction", {}),
    ("two_sample", "NEURONS", "c2st", {"classifier": "mlp"}),
    ("two_sample", "EPOCHS", "c2st", {"classifier": "mlp"}),
    *(
        ("variational", name, "estimated_divergence", {})
        for name in (
            "HIDDEN_UNITS",
            "KERNEL_SCALES",
            "LEARNING_RATE",
            "BATCH_SIZE",
            "MAX_STEPS",
            "NETS_PER_HALF",
        )
    ),
]


@pytest.mark.parametrize(("module", "constant", "name", "params"), CONSTANTS)
def test_another_constant_has_another_hash(
    module: str, constant: str, name: str, params: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    metric = PluginSpec(METRICS[name], params)
    usable = [data for data in DATASETS.values() if {*metric.plugin.needs} <= provided(data)]
    data = next((data for data in usable if data.scale), usable[0])
    old, _ = protocol(metric, data)
    file = import_module(f"ganbench.metrics.{module}")
    value = getattr(file, constant)
    other = (
        {1: 8, 2: 9}
        if isinstance(value, dict)
        else value[1:]
        if isinstance(value, tuple | range)
        else value / 64
    )
    monkeypatch.setattr(file, constant, other)
    assert protocol(metric, data)[0] != old


WEIGHTS = {"inception": "INCEPTION", "dinov2": "DINOV2"}


@pytest.mark.parametrize("name", WEIGHTS)
def test_other_weights_of_an_extractor_have_another_hash(name: str, monkeypatch: pytest.MonkeyPatch):
    extractors = import_module("ganbench.metrics.extractors")
    found = set()
    for digest in ("a" * 64, "b" * 64):
        monkeypatch.setattr(extractors, "_sha256", lambda file, digest=digest: digest)
        found.add(protocol(PluginSpec(METRICS["frechet"], {"features": name}), DATASETS["images"])[0])
    assert len(found) == 2


# ---------------------------------------------------------------------------------------------- a user's metric

METRIC = """
from dataclasses import dataclass
from ganbench import Score, Value, metric

@metric(Value("mine", "units", "lower"))
@dataclass(frozen=True)
class Mine:
    n: int = 10

    def protocol(self, data):
        return "SENTENCE"

    def protocol_fields(self, data):
        return FIELDS

    def __call__(self, model, data):
        return Score(1.0)
"""


def of_mine(tmp_path, sentence: str, fields: str | None) -> str:
    source = METRIC.replace("SENTENCE", sentence)
    source = (
        source.replace("protocol_fields", "another") if fields is None else source.replace("FIELDS", fields)
    )
    path = tmp_path / f"mine{len(list(tmp_path.iterdir()))}.py"
    path.write_text(source)
    return protocol(PluginSpec(registry.find("metric", str(path)), {}), DATASETS["plane"])[0]


def test_a_metric_of_a_user(tmp_path):
    """Its fields are hashed; where it has none, its sentence is."""
    assert of_mine(tmp_path, "a", None) != of_mine(tmp_path, "b", None)
    one = of_mine(tmp_path, "a", "{'test': len(data.test), 'grid': (1, 2)}")
    assert one == of_mine(tmp_path, "b", "{'grid': [1, 2], 'test': len(data.test)}")
    assert one != of_mine(tmp_path, "a", "{'grid': [1, 2], 'test': len(data.test) - 1}")


def test_fields_that_cannot_be_hashed_are_an_error(tmp_path):
    with pytest.raises(PluginError, match=r"mine0\.py: the protocol of mine failed: TypeError: .*not JSON"):
        of_mine(tmp_path, "a", "{'data': data.train}")
    with pytest.raises(
        PluginError, match=r"protocol_fields of mine must return a mapping of names to numbers"
    ):
        of_mine(tmp_path, "a", "[1, 2]")


# ---------------------------------------------------------------------------------------------- earlier hashes


def test_the_table_of_earlier_hashes():
    table = _table()
    hashes = [*table, *table.values()]
    assert len(set(hashes)) == len(hashes) == 2 * len(table) > 200
    assert all(re.fullmatch("[0-9a-f]{8}", one) for one in hashes)
    assert current_protocol("another") == "another"


def test_records_and_tables_with_earlier_hashes_are_read_with_new_ones(tmp_path):
    (old, new), *_ = _table().items()
    row = dict.fromkeys(COLUMNS) | {
        "suite": "s",
        "dataset": "ring",
        "method": "gan",
        "label": "gan",
        "tricks": [],
    }
    row |= {
        "params": {},
        "seed": 0,
        "metric": "modes",
        "protocol": old,
        "value": 6.0,
        "unit": "",
        "better": "higher",
    }
    row |= {
        "status": "ok",
        "seconds": 0.1,
        "train_seconds": 1.0,
        "device": "cpu",
        "dtype": "float32",
        "stack": 1,
    }
    row |= {"cell": "c", "version": "0.1"}
    (tmp_path / "records.jsonl").write_text(json.dumps(row) + "\n")
    assert list(read_records(tmp_path)["protocol"]) == [new]
    header = ",".join(reference.COLUMNS)
    cells = {
        "suite": "s",
        "dataset": "ring",
        "label": "gan",
        "metric": "modes",
        "protocol": old,
        "better": "higher",
    }
    cells |= {"mean": "6", "n": "1", "n_ok": "1"}
    counts = dict.fromkeys((*reference.FAILURES,), "0")
    (tmp_path / "kept.csv").write_text(
        header + "\n" + ",".join((counts | cells).get(c, "") for c in reference.COLUMNS)
    )
    assert [entry.protocol for entry in reference.read(tmp_path / "kept.csv")[1]] == [new]
