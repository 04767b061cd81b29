"""The checks of a method: its game, a few rounds of it and its samples; or its `fit` and its sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ..contracts import Data, Game
from ..errors import GanbenchError, SampleError
from ..nets import Sequential
from ..suite.plan import Cell
from ..suite.spec import PluginSpec
from ..training import loop, model
from ..training.rng import Draws, build_game
from ..training.stack import Stack
from ..training.trained import TrainedSeed
from .checks import (
    RTOL,
    SETTINGS,
    Check,
    CheckFailed,
    Checks,
    Target,
    as_plugin,
    documentation,
    explain,
    merge,
    run_checks,
    trial_cell,
)
from .fixtures import images, plane, suitable

SAMPLER = (
    "a sampler is a function (n, generator) -> tensor [n, *data.shape] of floats in data.scale, which takes its random "
    "numbers from the generator"
)
REFUSAL = (
    "build the nets from data.shape and data.scale; a method that is not meant for such data raises "
    "ganbench.PluginError in game() or fit(), and one for images only has @method(needs=('pixels',))"
)


def check_method(target: Target, data: Data | None = None, **params: Any) -> list[Check]:
    """Check a method with these parameters on `data`, else on points and on small images, if it can be built for both.
    Raises PluginError if there is no such method."""
    plugin = as_plugin("method", target)
    part = PluginSpec(plugin, params)
    if plugin.interface is None:
        text = f"give it `game(self, data)` -> Game, or `fit(self, data, seed, budget)` -> sampler; {SAMPLER}"
        return [*documentation(plugin), Check("it has a game or a fit", text)]
    check = (
        _fit_checks if plugin.interface == "fit" else lambda part, data: game_checks(trial_cell(part), data)
    )
    # Points and images find different mistakes, such as a fixed number of inputs or a missing squash.
    first, *others = [data] if data else _trial_data(part)
    results = run_checks(part, lambda: check(part, first))
    for other in others:
        where = f"on {'images' if len(other.shape) == 3 else 'points'} {list(other.shape)}"
        results = merge(
            results, run_checks(part, lambda data=other: _allow_refusal(check, part, data)), where
        )
    return results


def _trial_data(part: PluginSpec) -> list[Data]:
    """Small data for the checks: points and images, as far as the method can be built for them."""
    plugin = part.plugin
    if plugin.needs and not set(plugin.needs) <= {"labels"}:
        return [suitable(plugin.needs) or plane()]
    if plugin.interface == "fit":  # only training it shows whether it can be built
        return [plane(), images(8)]
    chosen = [data for data in (plane(), images(8)) if _can_be_built(part, data)]
    if not any(len(data.shape) == 3 for data in chosen) and _can_be_built(part, images()):
        chosen.append(images())  # some methods need 28 × 28 pixels
    return chosen or [images()]


def _can_be_built(part: PluginSpec, data: Data) -> bool:
    try:
        build_game(trial_cell(part), data, 0)
    except Exception:
        return False
    return True


def _allow_refusal(check: Callable[[PluginSpec, Data], Checks], part: PluginSpec, data: Data) -> Checks:
    """The checks on further data; none if the method rejects the data with an error of ganbench. If it fails otherwise,
    the problem says how to reject data."""
    try:
        yield from check(part, data)
    except GanbenchError as error:
        if isinstance(error, SampleError):  # of wrong samples, which is no refusal of the data
            raise
    except CheckFailed as error:
        name, problem = error.args
        raise CheckFailed(name, f"{problem}\n{REFUSAL}") from None
    except Exception as error:
        raise CheckFailed("it runs", f"{explain(error)}\n{REFUSAL}") from error


def game_checks(cell: Cell, data: Data) -> Checks:
    """The checks of a game on these data."""
    game = build_game(cell, data, 0)
    if not isinstance(game, Game):
        raise CheckFailed(
            "it gives a Game", f"it returned a {type(game).__name__}; return Game(nets=..., players=..., ...)"
        )
    yield Check("it gives a Game")
    claimed = cell.method.part.plugin.provides if cell.method.part else ()
    has = {"bound": game.bound, "discriminator": isinstance(game.nets.get("D"), Sequential) or None}
    lacks = [name for name in claimed if has.get(name) is None]
    text = f"it says that it provides {' and '.join(lacks)}, but its game has none" if lacks else None
    yield Check("it has what it says it provides", text)
    # Float32 is what suites train in; float64 is what the other checks compare in.
    yield from _loss_checks(cell, data, torch.float32)
    yield from _loss_checks(cell, data, torch.float64)
    # As a stack, in which mistakes of vectorised losses show.
    trained = loop.train(cell, data, [0, 1, 2])
    diverged = {f"seed {one.seed}: {one.error}" for one in trained if one.status != "ok"}
    text = "; ".join(sorted(diverged)) or None
    yield Check(f"{SETTINGS.steps} rounds are played without diverging", text)
    yield _stack_check(cell, data, trained[1])
    yield from _sample_checks(cell, data, trained[1])


def _loss_checks(cell: Cell, data: Data, dtype: torch.dtype) -> Checks:
    """The checks of the first losses and gradients of two seeds; in float32, only that they can be computed."""
    games = [build_game(cell, data, seed) for seed in (0, 1)]
    stack = Stack(games, torch.device("cpu"), dtype)
    draws = Draws(stack.game, data, (0, 1), SETTINGS.batch, torch.device("cpu"), dtype)
    batch = next(draws.rounds(1))[0]
    batch |= {name: torch.tensor(0.0, dtype=dtype) for name in ("step", "progress")}
    bad, still = [], []
    for name in stack.game.players:
        loss, grad = stack.gradient(name, batch)
        if loss.shape != (2,):
            shape = list(loss.shape[1:])
            raise CheckFailed(
                "losses are single numbers",
                f"the loss of {name!r} has the shape {shape}; end it with .mean()",
            )
        if not (torch.isfinite(loss).all() and torch.isfinite(grad).all()):
            what = "loss" if not torch.isfinite(loss).all() else "gradient"
            bad.append(
                f"the {what} of {name!r} is NaN or infinite before the first step; look for log(0), sqrt(0) or 0/0"
            )
        parts = stack.layout.players[name].unpack(grad)
        still += [
            (name, net) for net, slopes in parts.items() if not any(bool(s.any()) for s in slopes.values())
        ]
    if dtype == torch.float32:
        return
    yield Check("losses are single numbers")
    yield Check("losses and gradients are finite", "; ".join(bad) or None)
    text = "; ".join(
        f"the loss of {player!r} has no gradient in its net {net!r}; is that net left out, or behind detach() or "
        "torch.no_grad()?"
        for player, net in still
    )
    yield Check("every loss reaches the nets of its player", text or None)
    # Nets without parameters, such as a fixed filter, need no player.
    idle = [
        net
        for net in stack.game.nets
        if not stack.layout.owner[net] and list(stack.game.nets[net].parameters())
    ]
    text = f"{' and '.join(idle)} belong(s) to no player and will never be trained" if idle else None
    yield Check("every net has a player", text, advice=True)


def _stack_check(cell: Cell, data: Data, stacked: TrainedSeed) -> Check:
    """Compares a seed trained in a stack of three with the same seed alone; if they differ, trains it alone again to
    see whether it is reproducible at all."""
    name = "a seed alone gives what it gives in a stack"
    (alone,) = loop.train(cell, data, [stacked.seed])
    if _equal(alone, stacked):
        return Check(name)
    (again,) = loop.train(cell, data, [stacked.seed])
    if not _equal(again, alone):
        return Check(
            name,
            "two trainings of one seed differ: take all random numbers from PyTorch's generator in game() and from "
            "draws in losses, none from random, numpy or the clock",
        )
    return Check(
        name,
        "replicas differ in more than parameters and buffers: a tensor that game() makes and that a loss or sample "
        "uses is the first seed's for all seeds. Make it a parameter or buffer of a net",
    )


def _equal(first: TrainedSeed, second: TrainedSeed) -> bool:
    """Whether losses and samples agree. Parameters need not: a bias before a BatchNorm moves by rounding alone."""
    pairs = [(first.curves[name], curve) for name, curve in second.curves.items()]
    if first.snapshots is not None and second.snapshots is not None:
        pairs.append((first.snapshots, second.snapshots))
    return all(torch.allclose(one, other, rtol=RTOL, atol=RTOL, equal_nan=True) for one, other in pairs)


def _sample_checks(cell: Cell, data: Data, trained: TrainedSeed) -> Checks:
    subject = model.model(cell, data, trained.seed, trained.state, None)
    if not isinstance(subject, model.TrainedModel):
        raise TypeError(f"a game gave a {type(subject).__name__}")
    z = subject._latents(6, "conformance")
    # One latent of the six alone must give the same sample, or samples would depend on the number that is asked for.
    with torch.no_grad():
        x, one = subject.generate(z), subject.generate(z[2:3])
    if x.shape != (6, *data.shape):
        raise CheckFailed(
            "samples have the shape of the data",
            f"6 samples have the shape {list(x.shape)}, expected {[6, *data.shape]}; end the generator with "
            "data.shape, as in mlp(64, 128, data.shape)",
        )
    yield Check("samples have the shape of the data")
    yield Check(
        "samples are finite", None if bool(torch.isfinite(x).all()) else "some values are NaN or infinite"
    )
    yield _scale_check(x, data)
    text = (
        "the sample of a latent depends on the other latents of its batch; let sample treat each one separately "
        "(use ganbench.BatchNorm instead of nn.BatchNorm, and no statistics of the batch)"
    )
    alike = torch.allclose(x[2:3], one, rtol=RTOL, atol=RTOL)
    yield Check("a sample does not depend on its batch", None if alike else text)
    # Through the bytes of a file, as a metric gets it in another process.
    stored = load_tensors(save_tensors({name: tensor.contiguous() for name, tensor in trained.state.items()}))
    again = model.model(cell, data, trained.seed, stored, None)
    with torch.no_grad():
        alike = torch.equal(again.generate(z), x)
    text = "sample uses something that is neither a parameter, a buffer nor a memory of the game, and so is not stored"
    yield Check("what is stored gives the same samples", None if alike else text)


def _scale_check(x: Tensor, data: Data) -> Check:
    name = "samples lie in the scale of the data"
    low, high = data.scale or (-math.inf, math.inf)
    # A tanh that is rescaled may miss the end of the scale by rounding.
    if low - 1e-3 <= float(x.min()) and float(x.max()) <= high + 1e-3:
        return Check(name)
    remedy = (
        "end the generator with squash=data.scale (mlp, conv_generator) or with Squash(data.scale); after a tanh of "
        "your own use Rescale((-1.0, 1.0), data.scale)"
    )
    found = f"values lie in {float(x.min()):.3g} to {float(x.max()):.3g}, expected {low:g} to {high:g}"
    return Check(name, f"{found}; {remedy}")


def _fit_checks(part: PluginSpec, data: Data) -> Checks:
    cell = trial_cell(part)
    try:
        (first,), (second,) = (loop.train(cell, data, [0]) for _ in range(2))
    except TypeError as error:
        # A fit or sampler with another signature; any other TypeError is a mistake inside of it.
        if "positional argument" not in str(error):
            raise
        raise CheckFailed("it runs", f"{explain(error)}\n{SAMPLER}") from error
    except SampleError as error:
        raise CheckFailed("it runs", f"{error}\n{SAMPLER}") from None
    yield Check("its sampler gives samples of the data's shape and scale")  # else `train` has raised
    if first.samples is None or second.samples is None:
        raise TypeError("fit gave no samples")
    alike = torch.equal(first.samples, second.samples)
    text = (
        "two trainings of one seed gave different samples: take all random numbers from the seed and the sampler's "
        "generator, none from numpy or the clock"
    )
    yield Check("a seed gives the same samples twice", None if alike else text)
