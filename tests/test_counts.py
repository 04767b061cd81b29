"""How many samples a metric asks for, without computing anything."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch

from ganbench import registry
from ganbench.conformance import suitable
from ganbench.contracts import Data
from ganbench.sample_counts import count_setting, samples_needed, with_param
from ganbench.suite.spec import PluginSpec

POINTS = Data("points", torch.rand(90, 2), torch.rand(20, 2), torch.rand(60, 2), (2,))
OF_THE_METHOD = {"generator", "bound", "discriminator", "parameters"}
SHIPPED = [p for p in registry.catalog()["metric"].values() if not OF_THE_METHOD & set(p.needs)]
AT_MOST_TEST = {"c2st", "classifier_score", "estimated_divergence", "frechet", "kernel", "prdc"}

OWN = """
    from dataclasses import dataclass
    from ganbench import Score, Value, metric

    class Base:
        def reference(self, data):
            raise AssertionError("a reference was computed")

    @metric(Value("by_class", "x", "lower"))
    @dataclass(frozen=True)
    class ByClass(Base):
        k: int = 3  # neighbours
        per_class: int = 50  # samples of each of ten classes

        def __call__(self, model, data, reference):
            scale = data.floats(data.train).std(0)
            return Score(float((model.samples(10 * self.per_class) / scale).mean()))

    @metric(Value("all_of_test", "x", "lower"))
    @dataclass(frozen=True)
    class AllOfTest:
        count: int | None = None  # samples; null: as many as test examples

        def __call__(self, model, data):
            return Score(float(model.samples(self.count or len(data.test)).mean()))

    @metric(Value("fixed", "x", "lower"))
    @dataclass(frozen=True)
    class Fixed:
        k: int = 3  # neighbours

        def __call__(self, model, data):
            try:
                return Score(float(model.samples(100).mean()))
            except Exception as error:
                raise ValueError("no luck") from error

    @metric(Value("values_first", "x", "lower"))
    @dataclass(frozen=True)
    class ValuesFirst:
        many: int = 80  # samples

        def __call__(self, model, data):
            return Score(float(model.samples(self.many).mean()) - data.test.mean().item() if data.test[0, 0] > 2 else 0)
"""


@pytest.fixture
def own(tmp_path: Path) -> dict[str, PluginSpec]:
    (tmp_path / "own.py").write_text(textwrap.dedent(OWN), encoding="utf-8")
    return {plugin.name: PluginSpec(plugin, {}) for plugin in registry.scan(tmp_path / "own.py")}


@pytest.mark.parametrize("plugin", SHIPPED, ids=lambda plugin: plugin.name)
def test_the_need_of_every_shipped_metric_is_known(plugin: registry.Plugin) -> None:
    """It is `n`, or the number of test examples where the metric takes no more; and `n` changes it."""
    data = suitable(plugin.needs)
    assert data is not None
    metric = PluginSpec(plugin, {})
    n = metric.resolved["n"]
    assert samples_needed(metric, data) == (min(n, len(data.test)) if plugin.name in AT_MOST_TEST else n)
    assert count_setting(metric, data, 70) == ("n", 70)
    assert samples_needed(with_param(metric, "n", 70), data) == 70


def test_the_need_of_metrics_of_the_users(own: dict[str, PluginSpec]) -> None:
    needs = {name: samples_needed(metric, POINTS) for name, metric in own.items()}
    assert needs == {"by_class": 500, "all_of_test": 60, "fixed": 100, "values_first": None}


def test_the_parameter_is_found_whatever_it_is_called(own: dict[str, PluginSpec]) -> None:
    found = {name: count_setting(metric, POINTS, 40) for name, metric in own.items()}
    assert found == {
        "by_class": ("per_class", 4),
        "all_of_test": ("count", 40),
        "fixed": None,
        "values_first": None,
    }


def test_global_randomness_is_left_alone(own: dict[str, PluginSpec]) -> None:
    before = torch.random.get_rng_state()
    for plugin in SHIPPED:
        samples_needed(PluginSpec(plugin, {}), POINTS)
    assert torch.equal(torch.random.get_rng_state(), before)
