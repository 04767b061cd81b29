"""Simulators against closed forms, divergences against quadrature, searches against the truth."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cells import points
from torch import Generator, tensor

from ganbench import (
    BoostedDivergence,
    Budget,
    DatasetError,
    PluginError,
    SampleError,
    Search,
    SuiteError,
    conformance,
)
from ganbench.datasets.simulators import asymmetry
from ganbench.metrics.figures import parameter_distance as figure_of_distances
from ganbench.metrics.parameters import ParameterDistance, parameter_distance
from ganbench.registry import find, load
from ganbench.report import style
from ganbench.suite.load import load as load_suite
from ganbench.suite.plan import data_digest, make_cells
from ganbench.training import loop as engine
from ganbench.training import model as subject

NAMES = ("poisson", "xor", "rotated_swiss_roll", "muons")
LOG2 = math.log(2)


def generator(seed=0):
    return Generator().manual_seed(seed)


def data_of(name, n=2000):
    return load(find("dataset", name))(generator(), n_train=n, n_valid=100, n_test=100)


def budget(steps, batch=128):
    return Budget(steps, batch, torch.device("cpu"), torch.float32)


def simulated(name, parameters, n=200_000, seed=1):
    simulate = data_of(name).simulator.simulate
    return simulate(tensor(parameters, dtype=torch.float64), n, generator(seed)).double()


# ---------------------------------------------------------------------------------------------- simulators


@pytest.mark.parametrize("name", NAMES)
def test_data_come_from_the_truth_and_a_simulator_repeats_itself(name):
    data = data_of(name)
    simulator = data.simulator
    assert len(simulator.parameters) == len(simulator.low) == len(simulator.high) == len(simulator.truth)
    assert all(a < t < b for a, t, b in zip(simulator.low, simulator.truth, simulator.high, strict=True))
    assert data.test.equal(simulator.simulate(tensor(simulator.truth), 100, generator()))
    assert data.train.dtype == torch.float32
    assert data.train.shape == (2000, *data.shape)
    assert data_of(name, 1000).test.equal(data.test)
    with pytest.raises(DatasetError, match="n_train must be above 0, got 0"):
        data_of(name, 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_datasets_keep_their_contract(name):
    assert [check.problem for check in conformance.check_dataset(name) if check.problem] == []


@pytest.mark.parametrize("rate", [1.0, 7.0, 20.0])
def test_poisson_mean_and_variance_are_the_rate(rate):
    x = simulated("poisson", [rate])
    assert x.mean().item() == pytest.approx(rate, abs=5 * math.sqrt(rate / len(x)))
    assert x.var().item() == pytest.approx(rate, rel=0.02)
    assert x.equal(x.round())


def test_xor_is_turned_and_its_gaussians_are_long_along_the_diagonal():
    flat, turned = simulated("xor", [0.0]), simulated("xor", [0.7])
    cos, sin = math.cos(0.7), math.sin(0.7)
    rotation = tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    assert torch.allclose(turned, flat @ rotation.T, atol=1e-5)
    one = flat[flat.sum(1) > 0]
    assert torch.allclose(one.mean(0), tensor([2.0, 2.0], dtype=torch.float64), atol=0.01)
    along, across = (one[:, 0] + one[:, 1]) / math.sqrt(2), (one[:, 0] - one[:, 1]) / math.sqrt(2)
    assert along.std().item() == pytest.approx(0.75, rel=0.01)
    assert across.std().item() == pytest.approx(0.25, rel=0.01)


def test_the_swiss_roll_at_its_truth_is_the_toy_and_turns():
    flat, turned = simulated("rotated_swiss_roll", [0.0]), simulated("rotated_swiss_roll", [math.pi / 2])
    assert torch.allclose(turned, torch.stack([-flat[:, 1], flat[:, 0]], dim=1), atol=1e-6)
    toy = load(find("dataset", "swiss_roll"))(generator(3)).train.double()
    assert torch.allclose(flat.mean(0), toy.mean(0), atol=0.02)
    assert torch.allclose(flat.T.cov(), toy.T.cov(), atol=0.02)


@pytest.mark.parametrize("name", ["xor", "muons"])
def test_densities_integrate_to_one_and_have_the_entropy_of_the_data(name):
    data = data_of(name, 100_000)
    if name == "xor":
        axis = torch.linspace(-6, 6, 1201, dtype=torch.float64)
        mass = data.log_density(torch.cartesian_prod(axis, axis)).exp().sum() * 0.01**2
    else:
        grid = torch.linspace(-1, 1, 20_001, dtype=torch.float64)[:, None]
        mass = torch.trapezoid(data.log_density(grid).exp(), dx=1e-4)
        assert data.log_density(tensor([[1.5]])).item() == -math.inf
    assert mass.item() == pytest.approx(1, abs=1e-4)
    # E log p under a wrong density would be smaller: the cross-entropy is least at the true one
    if name == "xor":
        det = 0.75 * 0.25
        entropy = LOG2 + 1 + math.log(2 * math.pi) + math.log(det)
        assert -data.log_density(data.train).mean().item() == pytest.approx(entropy, abs=0.01)


def test_muons_have_the_moments_and_the_asymmetry_of_their_cross_section():
    for energy, fermi in [(42.0, 0.9), (46.5, 1.5), (50.0, 0.5)]:
        x, a = simulated("muons", [energy, fermi]), asymmetry(energy, fermi)
        c = np.linspace(-1, 1, 20_001)
        p = 3 / 8 * (1 + c**2) + a * c
        assert p.min() >= 0
        assert x.mean().item() == pytest.approx(np.trapezoid(p * c, c), abs=5e-3)
        assert (x**2).mean().item() == pytest.approx(np.trapezoid(p * c**2, c), abs=5e-3)
        forward = (x > 0).double().mean().item()
        assert 2 * forward - 1 == pytest.approx(a, abs=6e-3)
        assert x.abs().max() <= 1


def test_the_asymmetry_is_that_of_measurements():
    assert asymmetry(17.25, 1.0) == pytest.approx(-0.09, abs=0.01)  # PETRA, at 34.5 GeV
    # far below the Z, interference alone: -3/(16 sqrt(2) pi alpha) G_F s
    interference = -3 * 1.1663788e-5 * 4 * 137.035999 / (16 * math.sqrt(2) * math.pi)
    assert asymmetry(1.0, 1.0) == pytest.approx(interference, rel=0.02)
    assert asymmetry(91.1876 / 2, 1.0) == pytest.approx(0.017, abs=0.01)  # LEP, on the peak: 3/4 A_l²
    assert asymmetry(42.0, 0.0) == 0
    assert asymmetry(42.0, 0.9) < 0 < asymmetry(50.0, 0.9)


# ---------------------------------------------------------------------------------------------- divergence


def gaussians(shift, n, seed=0):
    draw = torch.randn(2, n, 1, generator=generator(seed))
    return draw[0], draw[1] + shift


def exact_divergence(shift):
    """JSD of N(0, 1) and N(shift, 1) by quadrature, nats."""
    x = np.linspace(-12, 12 + shift, 40_001)
    p, q = (np.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0, shift))
    m = (p + q) / 2
    return float(
        np.trapezoid(sum(r * np.log(np.maximum(r, 1e-300) / np.maximum(m, 1e-300)) for r in (p, q)) / 2, x)
    )


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0, 8.0])
def test_the_divergence_of_gaussians_is_that_of_quadrature(shift):
    found = BoostedDivergence().compare(*gaussians(shift, 20_000))
    assert found.divergence == pytest.approx(exact_divergence(shift), abs=0.012)
    assert found.trees == 100
    assert found.calls == 20_000
    assert found.odds.shape == (10_000,)


@pytest.mark.parametrize("capacity", ["linear", "logarithmic"])
def test_the_adaptive_divergence_never_exceeds_the_plain_one_and_keeps_the_order(capacity):
    plain, adaptive, found = BoostedDivergence(), BoostedDivergence(capacity), []
    for shift in (0.0, 0.25, 0.5, 1.0, 2.0, 8.0):
        full, part = plain.compare(*gaussians(shift, 4000)), adaptive.compare(*gaussians(shift, 4000))
        assert part.divergence + part.gap <= full.divergence + full.gap + 1e-12
        assert part.trees <= full.trees
        found.append(part)
    assert abs(found[0].divergence) < 0.02  # equal distributions: 0, as JSD
    values, trees = [one.divergence for one in found], [one.trees for one in found]
    assert values[:4] == sorted(values[:4])
    assert trees == sorted(trees, reverse=True)
    assert trees[-1] <= 3  # far apart: a few trees see more than log 2/4, the most that is asked for,
    assert min(values[4:]) > 0.1  # and how far makes little difference any more


def test_thresholds_are_those_of_the_paper():
    linear, logarithmic = (BoostedDivergence(c).thresholds for c in ("linear", "logarithmic"))
    assert linear[[0, -1]] == pytest.approx([LOG2 / 4, 0])
    assert np.diff(linear) == pytest.approx(-LOG2 / 4 / 99)
    assert logarithmic[[0, 9, -1]] == pytest.approx([LOG2 / 4, LOG2 / 8, 0])
    assert (logarithmic <= linear + 1e-12).all()


def test_a_comparison_draws_as_much_again_until_nothing_flatters_it():
    drawn = []

    def fake(n):
        drawn.append(n)
        return torch.randn(n, 1, generator=generator(n))

    def real(n):
        return torch.randn(n, 1, generator=generator(n + 1))

    found = BoostedDivergence(gap=0.05)(real, fake, 100, 10_000)
    assert drawn[:3] == [100, 100, 200]
    assert sum(drawn) == found.calls
    assert found.gap <= 0.05
    drawn.clear()
    assert (
        BoostedDivergence(gap=0.0)(real, fake, 100, 700).calls == sum(drawn) == 400
    )  # 800 would be too many
    adaptive = BoostedDivergence("logarithmic", gap=0.05)(real, fake, 100, 10_000)
    assert adaptive.calls < found.calls


# ---------------------------------------------------------------------------------------------- searches


class Counter:
    """A simulator that counts, so that nobody has to be believed."""

    def __init__(self, data):
        self.calls, self.inner = 0, data.simulator.simulate
        self.data = replace(data, simulator=replace(data.simulator, simulate=self))

    def __call__(self, parameters, n, generator):
        self.calls += n
        return self.inner(parameters, n, generator)


def fitted(method, data, steps, seed=0, **params):
    return load(find("method", method))(**params).fit(data, seed, budget(steps))


def scores(sampler, data):
    return ParameterDistance()(SimpleNamespace(state=sampler.state), data)


METHODS = ("avo", "bayesian_optimisation")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("capacity", ["full", "linear", "logarithmic"])
def test_calls_are_counted_and_the_budget_is_kept(method, capacity):
    counter = Counter(data_of("poisson"))
    found = fitted(method, counter.data, 1000, capacity=capacity)
    calls = found.state["calls"]
    assert counter.calls == calls[-1] <= 1000
    assert 1000 - counter.calls < 128  # no room for another comparison
    assert (calls.diff() >= 128).all()
    assert found.state["path"].shape == (len(calls), 1)
    assert found.state["path"].min() >= 1
    assert found.state["path"].max() <= 20
    assert found(50, generator()).shape == (50, 1)
    assert counter.calls == calls[-1] + 50


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_gives_the_same_search_again(method):
    data = data_of("muons")
    one, same, other = (fitted(method, data, 1000, seed).state for seed in (3, 3, 4))
    assert one["path"].equal(same["path"])
    assert one["calls"].equal(same["calls"])
    assert not one["path"].equal(other["path"])


@pytest.mark.parametrize("method", METHODS)
def test_a_search_looks_at_the_data_and_not_at_the_truth(method):
    data = data_of("poisson")
    blind = replace(data, simulator=replace(data.simulator, truth=(math.nan,)))
    assert fitted(method, data, 600).state["path"].equal(fitted(method, blind, 600).state["path"])


@pytest.mark.parametrize("capacity", ["full", "logarithmic"])
def test_bayesian_optimisation_finds_the_poisson_rate(capacity):
    data = data_of("poisson", 20_000)
    for seed in (0, 1):
        passed, answer = scores(fitted("bayesian_optimisation", data, 4000, seed, capacity=capacity), data)
        assert passed.value < 0.03
        assert answer.value < 0.06


def test_only_the_asymmetry_of_muons_can_be_found():
    data = data_of("muons", 20_000)
    energy, fermi = fitted("bayesian_optimisation", data, 16_000).state["parameters"].tolist()
    assert asymmetry(energy, fermi) == pytest.approx(asymmetry(42.0, 0.9), abs=0.2)  # about 0.01 nats


@pytest.mark.parametrize("capacity", ["full", "logarithmic"])
def test_avo_finds_the_poisson_rate_and_narrows_down(capacity):
    data = data_of("poisson", 20_000)
    passed, answer = scores(fitted("avo", data, 12_000, capacity=capacity, lr=0.1), data)
    assert passed.value < 0.03
    assert answer.value < 0.1  # it starts at 0.18


def test_curves_stand_on_a_grid_of_calls():
    data = data_of("poisson")
    search = Search(data, 0, budget(1000))
    for n, place, seen in [(300, 0.5, 0.4), (500, 0.3, 0.1), (100, 0.9, 0.6)]:
        search.simulate(tensor([place]), n)
        search.visit(tensor([place]), seen)
    found = search.found(tensor([0.3]))
    assert found.state["calls"].tolist() == [300, 800, 900]
    assert found.state["path"].flatten().tolist() == pytest.approx([10.5, 6.7, 18.1])
    assert found.curves["step"].tolist() == list(range(5, 1001, 5))
    curve = found.curves["divergence"]
    assert curve[:59].isnan().all()
    assert (curve[59:159] == tensor(0.4)).all()
    assert (curve[179:] == tensor(0.6)).all()
    passed, answer = scores(found, data)
    assert answer.value == pytest.approx(0.3 / 19)
    assert passed.value == pytest.approx(0.3 / 19)
    distance = passed.details["distance"]
    assert distance[:59].isnan().all()
    assert distance[59].item() == pytest.approx(3.5 / 19)
    assert (distance[159:] == distance[-1]).all()


def test_the_distance_is_in_units_of_the_range():
    simulator = data_of("muons").simulator
    assert parameter_distance(tensor([42.0, 0.9]), simulator).item() == pytest.approx(0, abs=1e-7)
    off = parameter_distance(tensor([[45.0, 0.9], [42.0, 1.3], [45.0, 1.3]]), simulator)
    assert off.tolist() == pytest.approx([0.3 / math.sqrt(2), 0.4 / math.sqrt(2), math.sqrt(0.125)])
    with pytest.raises(SampleError, match=r"shape \[1\]; the simulator has 2: beam energy"):
        parameter_distance(tensor([42.0]), simulator)
    with pytest.raises(SampleError, match="stores no path"):
        ParameterDistance()(SimpleNamespace(state={}), data_of("xor"))
    with pytest.raises(SampleError, match="does not come from a simulator"):
        ParameterDistance()(SimpleNamespace(state={}), points())


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_searched_is_refused(method):
    with pytest.raises(PluginError, match="points does not come from one"):
        fitted(method, points(), 1000)
    with pytest.raises(PluginError, match="the budget is 1 "):
        fitted(method, data_of("xor"), 1)
    tiny = fitted(method, data_of("xor"), 3)  # less than a batch
    assert tiny.state["calls"].tolist() == [3]


SUITE = """
name: tiny
seeds: 2
train: {steps: 300, batch: 100}
datasets: [{dataset: poisson, params: {n_train: 1000, n_valid: 100, n_test: 100}}]
methods: [avo, bayesian_optimisation]
metrics: [parameter_distance]
"""


def test_a_suite_keeps_what_a_search_found(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    data = data_of("poisson", 1000)
    for cell in make_cells(load_suite(str(tmp_path / "suite.yaml"))):
        assert [metric.name for metric in cell.metrics] == ["parameter_distance"]
        one, _ = engine.train(cell, data, [0, 1])
        assert (one.status, one.curves.keys()) == ("ok", {"step", "divergence"})
        model = subject.model(cell, data, 0, one.state, one.samples)
        passed, answer = ParameterDistance()(model, data)
        assert 0 <= passed.value <= 1
        assert 0 <= answer.value <= 1


def test_a_method_on_data_without_a_simulator_is_a_mistake_of_the_suite(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE.replace("datasets: [", "datasets: [ring, "), encoding="utf-8")
    with pytest.raises(SuiteError) as caught:
        load_suite(str(path))
    assert [issue.message for issue in caught.value.issues] == [
        f"{name} needs data with simulator, which 'ring' does not provide; "
        "list the datasets that have it under `datasets`"
        for name in METHODS
    ]
    path.write_text(
        SUITE.replace("datasets: [", "datasets: [ring, ").replace(
            "[avo, bayesian_optimisation]", "[gan, {method: avo, datasets: [poisson]}]"
        ),
        encoding="utf-8",
    )
    metrics = [[metric.name for metric in cell.metrics] for cell in make_cells(load_suite(str(path)))]
    assert metrics == [[], [], ["parameter_distance"]]  # gan on ring, gan and avo on poisson


def test_another_range_is_another_dataset():
    data = data_of("poisson")
    wider = replace(data, simulator=replace(data.simulator, high=(30.0,)))
    assert data_digest(data) != data_digest(wider)


def test_searches_are_drawn_against_their_calls():
    calls = np.arange(5, 1001, 5)
    early, late = 0.5 / calls, np.where(calls < 500, np.nan, 0.001)

    def cell(label, *lines):
        found = [{"calls": calls, "distance": line} for line in lines]
        seeds = [SimpleNamespace(details=lambda name, f=f: f if name in f else None) for f in found]
        return SimpleNamespace(label=label, ok=seeds)

    cells = [cell("quick$", early), cell("late", late, early), cell("other")]
    colours = {"quick$": "#111111", "late": "#222222", "other": "#333333"}
    with style.style():
        drawn_with = style.Style("parameter_distance", SimpleNamespace(label="xor"), cells, colours)
        plot = figure_of_distances.figure(cells, drawn_with)
        assert style.png(plot.figure)
    (axes,) = plot.figure.axes
    quick, median = axes.lines
    assert quick.get_ydata() == pytest.approx(early)
    assert np.isnan(median.get_ydata()[0])
    assert median.get_ydata()[-1] == pytest.approx((0.001 + 0.0005) / 2)
    assert {text.get_text() for text in plot.figure.legends[0].get_texts()} == {"quick$", "late"}
    assert not any("$" in label.get_text() for label in axes.get_yticklabels(which="both"))
    assert figure_of_distances.figure([cell("other")], drawn_with) is None
