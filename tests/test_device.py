"""Training and scores on a GPU, tried on a pretend one: equal to the CPU to rounding, and no wait within a round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cells import cells, pixels, points
from device_cases import (
    GAMES,
    METHODS,
    METRICS,
    MODELS,
    ON,
    TRICKS,
    cell_of,
    numbers,
    played,
    scored,
    trained_seed,
)
from pretend_cuda import NAME, pretend_cuda
from runs import written

from ganbench import api, registry
from ganbench.contracts import Data
from ganbench.execution import run as execute
from ganbench.execution.progress import ProgressDir
from ganbench.execution.worker import load_data, run_task
from ganbench.metrics import kde, variational
from ganbench.store.rundir import Store
from ganbench.suite.load import load
from ganbench.suite.plan import Cell, make_cells
from ganbench.training.loop import train
from ganbench.training.model import model
from ganbench.training.trained import TrainedSeed

CLOSE = 1e-9  # relative, in float64; what several rounds make of rounding

# ---------------------------------------------------------------------------------------------- rounds

LONG = {"lapgan", "sngan", "metz_2017", "wgan_gp", "gan_2014", "unrolling", "r1", "virtual_batch_norm"}


def check_rounds(folder: Path, method: str, plugins: str = "") -> None:
    """Raises where the rounds of a method on a GPU are not those on the CPU, or wait."""
    cell, data = cell_of(folder, method, plugins)
    expected = played(cell, data, "cpu")
    with pretend_cuda():
        found = played(cell, data, "cuda", debug=True)
    for one, other in zip(found, expected, strict=True):
        # Biases before BatchNorm have a gradient of rounding alone; a probe is NaN where it has no value yet.
        torch.testing.assert_close(one, other, rtol=CLOSE, atol=CLOSE, equal_nan=True)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, id=name, marks=[pytest.mark.slow] if name in LONG else [])
        for name, method in (GAMES | TRICKS).items()
    ],
)
def test_a_round_is_that_of_the_cpu_and_waits_for_nothing(tmp_path, method):
    check_rounds(tmp_path, method)


PLANTED = """
    import torch
    from dataclasses import dataclass
    from ganbench import Adam, Game, Player, method, mlp

    @method
    @dataclass(frozen=True)
    class Planted:
        def game(self, data):
            return Game({"G": mlp(2, 2)}, {"G": Player("G", self.loss, Adam(1e-2))}, {"z": (2,)},
                        lambda nets, z: nets.G(z))

        def loss(self, nets, b):
            return (nets.G(b.z) - b.x).square().mean() * PLANT
"""


@pytest.mark.parametrize(
    ("plant", "error"),
    [
        ("b.step.item()", "synchronizing CUDA operation"),
        ("b.x.cpu().mean().to(b.x)", "synchronizing CUDA operation"),
        ("torch.ones(1)", "same device"),
    ],
)
def test_a_plant_in_a_round_is_found(tmp_path, plant, error):
    check_rounds(tmp_path, "./mine.py", PLANTED.replace("PLANT", "1.0"))
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(RuntimeError, match=error):
        check_rounds(other, "./mine.py", PLANTED.replace("PLANT", f"({plant})"))


def test_the_pretend_device_captures_a_graph_as_cuda_does():
    with pretend_cuda():
        state, x = torch.zeros(3, device="cuda"), torch.ones(3, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.Stream()):
            state.add_(x)
            twice = (state * 2)[1:]
            split = torch.stack([twice, twice]).unbind()
        assert state.tolist() == [0, 0, 0]  # noted down, not run
        graph.replay()
        x.copy_(torch.full((3,), 10.0, device="cuda"))
        graph.replay()
        assert (state.tolist(), twice.tolist(), split[1].tolist()) == ([11, 11, 11], [22, 22], [22, 22])
        with (
            pytest.raises(RuntimeError, match="not permitted when stream is capturing"),
            torch.cuda.graph(graph),
        ):
            x.sum().item()


# ---------------------------------------------------------------------------------------------- trainings


def both(cell: Cell, data: Data, seeds: list[int]) -> tuple[list[TrainedSeed], list[TrainedSeed]]:
    """Trained on the GPU, and on the CPU."""
    with pretend_cuda():
        found = train(cell, data, seeds, device="cuda")
    return found, train(cell, data, seeds)


def assert_same(found: TrainedSeed, expected: TrainedSeed) -> None:
    assert (found.status, found.error, found.note) == (expected.status, expected.error, expected.note)
    for name in ("state", "curves"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-5, equal_nan=True
        )
    for name in ("samples", "snapshots"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_game_is_trained_with_curves_snapshots_and_fixed_statistics(tmp_path):
    train_ = "{steps: 6, batch: 8, dtype: float64, snapshots: 2}"
    method = "{method: gan, params: {net: conv, width: 4}, tricks: [ema]}"
    (cell,) = cells(tmp_path, f"[{method}]", train=train_)
    for one, other in zip(*both(cell, pixels(8), [0, 3]), strict=True):
        assert_same(one, other)
        assert (one.device, other.device) == (NAME, "cpu")


@pytest.mark.parametrize(
    "method", [name for name, plugin in METHODS.items() if plugin.interface == "fit" and not plugin.needs]
)
def test_fit_trains_on_the_device_that_it_is_given(tmp_path, method):
    (cell,) = cells(tmp_path, f"[{method}]")
    for one, other in zip(*both(cell, points(), [0, 1]), strict=True):
        assert_same(one, other)


SIMULATED = (
    "name: t\nseeds: 1\ntrain: {{steps: 200, batch: 100}}\nmethods: [{}]\nmetrics: [parameter_distance]\n"
    "datasets: [{{poisson: {{n_train: 500, n_valid: 50, n_test: 50}}}}]\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["avo", "bayesian_optimisation"])
def test_searches_of_simulators_score_alike(tmp_path, method):
    path = written(tmp_path, "s.yaml", SIMULATED.format(method))
    (cell,) = make_cells(load(path))
    data = load_data(cell.dataset.part)
    (found,), (expected,) = both(cell, data, [0])
    assert_same(found, expected)
    metric = registry.load(METRICS["parameter_distance"])()
    scores = metric(model(cell, data, 0, expected.state, expected.samples), data)
    with pretend_cuda():
        others = metric(model(cell, data, 0, expected.state, expected.samples, device="cuda"), data)
    assert [one.value for one in others] == pytest.approx([one.value for one in scores], rel=1e-6)


def test_samples_made_elsewhere_are_read(tmp_path):
    np.save(tmp_path / "a.npy", points(50).train.numpy())
    (cell,) = cells(tmp_path, "[{samples: [a.npy, a.npy, a.npy, a.npy], label: mine}]")
    for one, other in zip(*both(cell, points(), [0]), strict=True):
        assert_same(one, other)
    with pretend_cuda():
        seen = model(cell, points(), 0, {}, one.samples, device="cuda").samples(5)
        assert seen.device.type == "cuda"
        assert torch.equal(seen.cpu(), one.samples[:5])


@pytest.mark.slow
def test_a_task_trains_scores_and_stores(tmp_path):
    text = (
        "name: t\nseeds: 2\ntrain: {steps: 20, batch: 8}\ndatasets: [{ring: {n_train: 300, n_valid: 50, n_test: 60}}]\n"
        "methods: [gan]\nmetrics: [{kde_ll: {n: 60}}, {modes: {n: 100}}]\n"
    )
    suite, store = load(written(tmp_path, "s.yaml", text)), Store(tmp_path / "out")
    own_cells, _, _ = execute.prepare(suite)
    (task,) = execute.split_tasks(own_cells, store.root, "cuda", 1)
    store.prepare()
    store.write_plan(suite, own_cells)
    with pretend_cuda():
        result = run_task(task, ProgressDir(tmp_path))
    assert not result.error
    assert not result.warnings
    rows = store.write_records()
    assert {row["device"] for row in rows} == {NAME}
    assert {row["status"] for row in rows} == {"ok"}
    assert len(rows) == 2 * 4


# ---------------------------------------------------------------------------------------------- metrics

# At how many lines of code each metric may wait for the GPU. A line more must be worth it: on a GPU each costs the time
# of some ten kernels. Raise the number then.
WAITS = {
    "ais_ll": 16, "arithmetic": 15, "birthday": 13, "c2st": 7, "class_coverage": 5, "classifier_score": 6,
    "data_copying": 28, "data_log_density": 5, "diversity": 4, "estimated_divergence": 22, "frechet": 4,
    "gaussian_fit": 1, "generator_gradient": 4, "kde_ll": 19, "kde_ll_cv": 20, "kde_ll_folds": 17,
    "kde_ll_scales": 20, "kernel": 4, "latent": 13, "memorisation": 23, "mode_kl": 6, "modes": 6,
    "prdc": 20, "probe": 5, "reconstruction": 10, "sample_classifier": 11, "sharpness": 4, "sliced_wasserstein": 7,
    "variational_bound": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, tuple[Cell, Data, TrainedSeed]]:
    """A trained seed of each kind."""
    folder = tmp_path_factory.mktemp("seeds")
    return {name: trained_seed(folder, name) for name in MODELS}


def check_scores(metric: str, cell: Cell, data: Data, seed: TrainedSeed) -> None:
    """Raises where a metric scores a stored seed otherwise on a GPU than on the CPU, or waits for it at more lines."""
    expected = scored(metric, cell, data, seed, "cpu")
    with pretend_cuda() as device:
        found = scored(metric, cell, data, seed, "cuda")
    for one, other in zip(found, expected, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-5, abs=1e-7, nan_ok=True)
    places = sorted(place for place in device.places if not place.startswith("training/"))
    most = WAITS[metric]
    assert len(places) <= most, f"{metric} waits for the GPU at {len(places)} lines, not {most}: {places}"


def test_every_metric_is_tried():
    assert set(METRICS) == {*ON, "parameter_distance"}


SLOW = {"ais_ll", "estimated_divergence", "kde_ll", "kde_ll_scales", "kde_ll_cv", "prdc"}


@pytest.mark.parametrize(
    "metric", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in ON]
)
def test_a_metric_scores_as_on_the_cpu(trained, monkeypatch, metric):
    monkeypatch.setattr(variational, "MAX_STEPS", 20)
    check_scores(metric, *trained[ON[metric]])


@pytest.mark.parametrize(
    ("plant", "error"),
    [
        pytest.param(lambda x: x.cpu().to(x.device), "waits for the GPU", marks=pytest.mark.slow),
        (lambda x: x * (x.sum() - x.sum()).add(1).item(), "waits for the GPU"),
        (lambda x: x + torch.zeros(x.shape), "same device"),
        pytest.param(lambda x: x.cpu(), "same device", marks=pytest.mark.slow),
    ],
)
def test_a_plant_in_a_metric_is_found(trained, monkeypatch, plant, error):
    right = kde.log_densities

    def planted(samples: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
        return right(plant(samples), *args, **more)

    monkeypatch.setattr(kde, "log_densities", planted)
    with pytest.raises((AssertionError, RuntimeError), match=error):
        check_scores("kde_ll", *trained["ring"])


def test_score_says_the_same_of_samples_elsewhere(tmp_path):
    data = load_data(api.request("ring", [], []).dataset)
    np.save(tmp_path / "made.npy", (data.valid[:120] + 0.01).numpy())
    asked = api.request(
        "ring",
        ["kde_ll_folds", "modes", "sliced_wasserstein"],
        ["ring.n_test=100", "ring.n_train=400", "ring.n_valid=400"],
        n=100,
    )
    expected = list(api.score_samples(tmp_path / "made.npy", asked, device="cpu"))
    with pretend_cuda():
        found = list(api.score_samples(tmp_path / "made.npy", asked, device="cuda"))
    for one, other in zip(found, expected, strict=True):
        assert [row.value for row in one.records] == pytest.approx(
            [row.value for row in other.records], rel=1e-6
        )
        assert {row.status for row in one.records} == {"ok"}


def test_a_stored_seed_has_the_same_samples_on_every_device(trained):
    cell, data, seed = trained["ring"]
    expected = model(cell, data, 0, dict(seed.state), None)
    with pretend_cuda():
        found = model(cell, data, 0, dict(seed.state), None, device="cuda")
        assert found.samples(3).device.type == "cuda"
        torch.testing.assert_close(found.samples(1500).cpu(), expected.samples(1500))
        assert found.generator("x").device.type == "cpu"
