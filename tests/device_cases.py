"""What is tried on a GPU, or on the pretend one: all games and tricks for some rounds, all metrics on a stored seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from cells import cells, pixels, points
from torch.utils import _pytree as pytree

from ganbench import registry
from ganbench.contracts import Data, Score
from ganbench.errors import PluginError
from ganbench.execution.worker import load_data
from ganbench.suite.load import load
from ganbench.suite.plan import Cell, make_cells
from ganbench.training.loop import train
from ganbench.training.model import model
from ganbench.training.rng import Draws, build_game
from ganbench.training.stack import Stack
from ganbench.training.trained import TrainedSeed

METHODS = registry.catalog()["method"]
METRICS = registry.catalog()["metric"]

# ---------------------------------------------------------------------------------------------- rounds

ROUNDS = 3
SMALL = {"width": "4", "g_width": "8", "v_width": "8"}


def entry(method: str, *tricks: str) -> str:
    """A method with small nets, where it has such a parameter."""
    params = ", ".join(f"{key}: {value}" for key, value in SMALL.items() if METHODS[method].param(key))
    return f"{{method: {method}, params: {{{params}}}, tricks: [{', '.join(tricks)}]}}"


GAMES = {name: entry(name) for name, plugin in METHODS.items() if plugin.interface == "game"}
TRICKS = {name: entry("dcgan", name) for name in registry.catalog()["trick"]}


def played(cell: Cell, data: Data, device: str, debug: bool = False) -> list[torch.Tensor]:
    """Parameters, moments, memory, losses and probes after some rounds on minibatches that the CPU drew; a wait within
    a round raises where `debug`."""
    place = torch.device(device)
    stack = Stack([build_game(cell, data, seed) for seed in range(2)], place, torch.float64)
    draws = Draws(stack.game, data, range(2), 8, torch.device("cpu"), torch.float64)
    losses, probes = {}, {}
    for step, drawn in enumerate(draws.rounds(ROUNDS)):
        minibatches = [{name: tensor.to(place) for name, tensor in one.items()} for one in drawn]
        if debug and step:  # a library may wait when it is first used
            torch.cuda.set_sync_debug_mode("error")
        losses = stack.play(step, ROUNDS, minibatches)
        probes = stack.probe(step + 1, ROUNDS, minibatches[-1])
        if debug:
            torch.cuda.set_sync_debug_mode("default")
    stack.check_buffers()
    assert all(bool(loss.isfinite().all()) for loss in losses.values())
    return [
        one.detach().cpu()
        for one in pytree.tree_leaves((stack.params, stack.states, stack.memory, losses, probes))
    ]


def cell_of(folder: Path, method: str, plugins: str = "") -> tuple[Cell, Data]:
    """A cell of this method, and small data that it takes: points, or images."""
    (cell,) = cells(folder, f"[{method}]", plugins=plugins)
    try:
        build_game(cell, points(), 0)
    except PluginError:
        return cell, pixels(28)  # the smallest that all methods for images take
    return cell, points()


# ---------------------------------------------------------------------------------------------- metrics

RING = "{ring: {n_test: 150, n_valid: 50, n_train: 400}}"
LINE = "{mixture1d: {n_test: 200, n_valid: 50, n_train: 400}}"
MODELS = {
    "ring": (RING, "{method: gan, params: {width: 16, z_dim: 4}}"),
    "line": (LINE, "{method: fgan, params: {divergence: gan, g_depth: 0, z_dim: 1, v_width: 16}}"),
    "digits": ("digits", "{method: gan, params: {net: conv, width: 4, z_dim: 8}}"),
}
LESS = {
    "n": 100, "n_valid": 40, "n_test": 80, "n_train": 80, "projections": 20, "n_control": 3, "candidates": 50,
    "bandwidths": (0.1, 0.2, 0.4),
}  # fmt: skip
LEAST = {
    "ais_ll": {"n": 3, "n_valid": 3, "steps": 4, "leapfrog": 2, "chains": 2, "n_simulated": 2},
    "birthday": {"rate": 0.01},
    "reconstruction": {"n": 4, "steps": 5, "starts": 2},
    "latent": {"n": 4, "steps": 4},
}
# What each metric is tried on; `parameter_distance` needs a search of a simulator.
ON = {
    **dict.fromkeys(
        ("ais_ll", "birthday", "c2st", "data_copying", "data_log_density", "diversity", "estimated_divergence",
         "kde_ll", "kde_ll_cv", "kde_ll_folds", "mode_kl", "modes", "prdc", "sliced_wasserstein"), "ring"),
    **dict.fromkeys(
        ("arithmetic", "class_coverage", "classifier_score", "frechet", "kde_ll_scales", "kernel", "latent",
         "memorisation", "probe", "reconstruction", "sample_classifier", "sharpness"), "digits"),
    **dict.fromkeys(("gaussian_fit", "generator_gradient", "variational_bound"), "line"),
}  # fmt: skip


def trained_seed(folder: Path, name: str, steps: int = 20) -> tuple[Cell, Data, TrainedSeed]:
    """A trained seed of one of `MODELS`, which are trained on the CPU."""
    dataset, method = MODELS[name]
    path = folder / f"{name}.yaml"
    path.write_text(
        f"name: t\nseeds: 1\ntrain: {{steps: {steps}, batch: 16}}\ndatasets: [{dataset}]\nmethods: [{method}]\n"
        "metrics: [kde_ll]\n"
    )
    (cell,) = make_cells(load(path))
    data = load_data(cell.dataset.part)
    return cell, data, train(cell, data, [0])[0]


def scored(metric: str, cell: Cell, data: Data, seed: TrainedSeed, device: str) -> tuple[Score, ...]:
    """What a metric with small settings says of a stored seed."""
    given = {
        key: value for key, value in (LESS | LEAST.get(metric, {})).items() if METRICS[metric].param(key)
    }
    made = registry.load(METRICS[metric])(**given)
    torch.manual_seed(0)
    reference: tuple[Any, ...] = (made.reference(data),) if hasattr(made, "reference") else ()
    found = made(model(cell, data, 0, dict(seed.state), None, device=device), data, *reference)
    return found if isinstance(found, tuple) else (found,)


def numbers(score: Score) -> dict[str, float]:
    """The value, its ± and its controls."""
    found = {"value": score.value, "sem": math.nan if score.sem is None else score.sem}
    for name, control in score.controls.items():
        parts = control.items() if isinstance(control, Mapping) else [("", control)]
        found |= {f"{name} {key}": value for key, value in parts}
    return found
