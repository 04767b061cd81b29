"""Conformance: does a method, trick, divergence, feature, metric or dataset keep its side of the contract?

Each `check_…` takes a plugin as `registry.find` gives it, its name or file (`gan`, `./mine.py:Symbol`), or the
marked class itself, plays with it for a moment on small data, and gives a list of `Check`s; those that went
wrong say what is wrong and how to mend it. `ganbench test FILE` prints them.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Generator, Tensor

from .. import registry
from ..contracts import Better, Data, Draw, Game, Kind, Labels, Modes, Player, Score, method
from ..errors import GanbenchError
from ..nets import Sequential, adversaries, bce_fake, bce_real, mlp
from ..optim import Adam
from ..registry import Plugin
from ..suite.plan import Cell
from ..suite.spec import DatasetEntry, MethodEntry, Part, TrainSettings
from ..training import loop as engine
from ..training import model as subject
from .divergences import faults

SETTINGS = TrainSettings(steps=3, batch=8, dtype="float64", snapshots=1)
CLOSE = 1e-8  # between numbers in float64 that should be the same
OVERLAP = 0.01  # share of a split's examples in another one from which on it is wrong
N = 400  # examples of each split of the data below


@dataclass(frozen=True)
class Check:
    """One thing that was checked, and what was wrong with it, if anything."""

    name: str
    problem: str | None = None
    advice: bool = False  # whether the problem is only a piece of advice

    @property
    def ok(self) -> bool:
        """Whether the contract is kept."""
        return self.problem is None or self.advice


Checks = Iterator[Check]
Target = Plugin | str | Path | type | Callable[..., Any]


# ---------------------------------------------------------------------------------------------- data


def plane() -> Data:
    """A mixture of two Gaussians in the plane, of which everything is known."""
    centers, std = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), 0.2

    def split(seed: int) -> tuple[Tensor, Tensor]:
        generator = Generator().manual_seed(seed)
        labels = torch.randint(0, 2, (N,), generator=generator)
        return centers[labels] + std * torch.randn(N, 2, generator=generator), labels

    def log_density(x: Tensor) -> Tensor:
        square = (x.unsqueeze(1) - centers.to(x)).square().sum(-1) / std**2
        return torch.logsumexp(-square / 2, 1) - math.log(2 * 2 * math.pi * std**2)

    (train, y), (valid, y_valid), (test, y_test) = map(split, range(3))
    labels = Labels(y, y_valid, y_test)
    return Data("plane", train, valid, test, (2,), None, Modes(centers, std), log_density, labels, ("a", "b"))


def images(side: int = 28) -> Data:
    """Images of one bright square each, in one of two corners."""

    def split(seed: int) -> tuple[Tensor, Tensor]:
        generator = Generator().manual_seed(seed)
        labels = torch.randint(0, 2, (N,), generator=generator)
        x = torch.randint(0, 60, (N, 1, side, side), generator=generator)
        x[labels == 0, :, : side // 2, : side // 2] += 150
        x[labels == 1, :, side // 2 :, side // 2 :] += 150
        return x.to(torch.uint8), labels

    (train, y), (valid, y_valid), (test, y_test) = map(split, range(3))
    labels = Labels(y, y_valid, y_test)
    return Data("images", train, valid, test, (1, side, side), (0.0, 1.0), labels=labels, classes=("a", "b"))


def suitable(needs: Collection[str]) -> Data | None:
    """Small data that have what a plugin needs: points, images, or the first shipped dataset that does."""
    needs = set(needs) - {"generator", "discriminator"}
    if needs <= {"modes", "log_density", "labels"}:
        return plane()
    if needs <= {"pixels", "labels"}:
        return images(8)
    known = registry.catalog()["dataset"].values()
    fit = [p.name for p in known if needs <= {*p.provides} and not any(one.required for one in p.params)]
    return load_data(fit[0]) if fit else None


def load_data(name: str) -> Data:
    """A dataset by its name or file, with its default parameters. Raises PluginError and DatasetError."""
    return registry.load(_plugin("dataset", name))(Generator().manual_seed(0))


# ---------------------------------------------------------------------------------------------- all kinds


def check(plugin: Plugin, data: Data | None = None) -> list[Check]:
    """All checks of a plugin, whatever its kind; `data` for those that need some."""
    if plugin.kind == "dataset":
        return check_dataset(plugin)
    if plugin.kind == "divergence":
        return check_divergence(plugin)
    looks = {
        "method": check_method,
        "trick": check_trick,
        "feature": check_feature,
        "metric": check_metric,
    }
    return looks[plugin.kind](plugin, data)


def _plugin(kind: Kind, target: Target) -> Plugin:
    """Raises PluginError."""
    if isinstance(target, Plugin):
        return target
    if isinstance(target, str | Path):
        return registry.find(kind, str(target))
    return registry.find(kind, f"{inspect.getsourcefile(target)}:{target.__name__}")


def _words(plugin: Plugin) -> Checks:
    """What a reader needs: where it comes from, and what its parameters mean."""
    found = bool(re.search(r"\b(19|20)\d\d\b", plugin.summary))
    advice = (
        "begin its docstring with one line on where it comes from and what it is, such as `Goodfellow et al. 2014, "
        "Algorithm 1: a generator against a discriminator`; `ganbench list` prints that line"
    )
    if plugin.kind in ("method", "trick"):
        yield Check("the docstring begins with its source and year", None if found else advice, advice=True)
    bare = [param.name for param in plugin.params if not param.doc]
    yield Check(
        "every parameter is explained",
        f"write a comment behind {' and '.join(bare)}, in the same line: `lr: float = 1e-3  # learning rate`"
        if bare
        else None,
    )


class _Wrong(Exception):
    """A check failed, and those that build on it make no sense; the text is its problem."""


def _all(part: Part, checks: Callable[[], Checks]) -> list[Check]:
    """What is said of it, then the checks, up to the first after which the others make no sense."""
    found = list(_words(part.plugin))
    required = [
        param.name for param in part.plugin.params if param.required and param.name not in part.params
    ]
    if required:
        text = f"it has not been run; give {' and '.join(required)} a default, so that it can be"
        return [*found, Check("it can be made without parameters", text, advice=True)]
    try:
        found.extend(checks())
    except _Wrong as error:
        found.append(Check(*error.args))
    except GanbenchError as error:
        found.append(Check("it runs", str(error)))
    except Exception as error:
        found.append(Check("it runs", _hint(error)))
    return found


HINTS = {
    "called random operation": "draw no random numbers inside a loss: declare them as draws of the game, "
    "`draws={'noise': (2,)}`, and read b.noise (for nn.Dropout, multiply by a mask made from a draw)",
    ".item()": "inside a loss there are no numbers, only tensors: no .item(), float(x), or `if` on a value "
    "(use torch.where)",
    "data-dependent control flow": "inside a loss, `if` cannot ask for a value: use torch.where",
    "in-place": "inside a loss, do not write into tensors (x += 1, x[0] = 1): make new ones; for nn.BatchNorm take "
    "ganbench.BatchNorm, which has no running statistics",
    "same dtype": "make constants in the type of what they meet, as b.x.new_ones(3) or torch.ones_like(x): games are "
    "also played in float64",
}


def _hint(error: Exception) -> str:
    """An exception in words, with a hint for those that newcomers meet."""
    text = f"{type(error).__name__}: {error}".strip()
    hints = [hint for sign, hint in HINTS.items() if sign in text]
    frames = [
        f for f in _frames(error) if not Path(f[0]).is_relative_to(registry.PACKAGE) and "torch" not in f[0]
    ]
    where = f" ({Path(frames[-1][0]).name}:{frames[-1][1]})" if frames else ""
    return "\n".join([text.split("\n")[0] + where, *hints])


def _frames(error: BaseException) -> list[tuple[str, int]]:
    found, trace = [], error.__traceback__
    while trace:
        found.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return found


# ---------------------------------------------------------------------------------------------- methods


def check_method(target: Target, data: Data | None = None, **params: Any) -> list[Check]:
    """Check a method with these parameters on `data`, else on points or, where it wants images, on images.
    Raises PluginError where there is no such method."""
    plugin = _plugin("method", target)
    part = Part(plugin, params)
    if plugin.rung is None:
        text = "give it `game(self, data)` -> Game, or `fit(self, data, seed, budget)` -> sampler"
        return [*_words(plugin), Check("it has a game or a fit", text)]
    if plugin.needs and data is None:
        data = suitable(plugin.needs)
    if plugin.rung == "fit":
        return _all(part, lambda: _fit(part, data or plane()))
    return _all(part, lambda: _game(_cell(part), data))


def _cell(part: Part, *tricks: Part) -> Cell:
    """A cell for `train`; its dataset is only a name, since the data are handed over beside it."""
    entry = MethodEntry(part.name, part, tricks, (), {}, None)
    nowhere = DatasetEntry(part, "data", {})
    return Cell("conformance", nowhere, entry, (0, 1, 2), SETTINGS, ())


def _game(cell: Cell, data: Data | None) -> Checks:
    data = data or _that_suits(cell)
    game = engine.build(cell, data, 0)
    if not isinstance(game, Game):
        raise _Wrong(
            "it gives a Game", f"it gave a {type(game).__name__}; return Game(nets=..., players=..., ...)"
        )
    yield Check("it gives a Game")
    says = cell.method.part.plugin.provides if cell.method.part else ()
    has = {"bound": game.bound, "discriminator": isinstance(game.nets.get("D"), Sequential) or None}
    lacks = [name for name in says if has.get(name) is None]
    text = f"it says that it provides {' and '.join(lacks)}, but its game has none" if lacks else None
    yield Check("it has what it says it provides", text)
    yield from _round(cell, data)
    trained = engine.train(cell, data, [0, 1, 2])
    yield _diverged(trained)
    yield _alone(cell, data, trained[1])
    yield from _samples(cell, data, trained[1])


def _that_suits(cell: Cell) -> Data:
    """Points, or images for what cannot be built for points; what cannot be built for these either raises
    its exception."""
    try:
        engine.build(cell, plane(), 0)
    except Exception:
        return images()
    return plane()


def _round(cell: Cell, data: Data) -> Checks:
    """The first losses and gradients of two seeds."""
    games = [engine.build(cell, data, seed) for seed in (0, 1)]
    stack = engine.Stack(games, torch.device("cpu"), torch.float64)
    draws = engine.Draws(stack.game, data, (0, 1), SETTINGS.batch, torch.device("cpu"), torch.float64)
    batch = next(draws.rounds(1))[0]
    batch |= {name: torch.tensor(0.0, dtype=torch.float64) for name in ("step", "progress")}
    bad, still = [], []
    for name in stack.game.players:
        loss, grad = stack.gradient(name, batch)
        if loss.shape != (2,):
            shape = list(loss.shape[1:])
            raise _Wrong(
                "losses are single numbers",
                f"the loss of {name!r} has the shape {shape}; end it with .mean()",
            )
        if not (torch.isfinite(loss).all() and torch.isfinite(grad).all()):
            what = "loss" if not torch.isfinite(loss).all() else "gradient"
            bad.append(
                f"the {what} of {name!r} is NaN or infinite before the first step; look for log(0), sqrt(0) or 0/0"
            )
        parts = stack.rules.layouts[name].unpack(grad)
        still += [
            (name, net) for net, slopes in parts.items() if not any(bool(s.any()) for s in slopes.values())
        ]
    yield Check("losses are single numbers")
    yield Check("losses and gradients are finite", "; ".join(bad) or None)
    text = "; ".join(
        f"the loss of {player!r} has no slope in its net {net!r}; is that net left out of it, or behind detach() or "
        "torch.no_grad()?"
        for player, net in still
    )
    yield Check("every loss reaches the nets of its player", text or None)
    idle = [
        net
        for net in stack.game.nets
        if not stack.rules.owner[net] and list(stack.game.nets[net].parameters())
    ]
    text = f"{' and '.join(idle)} belong(s) to no player and will never be trained" if idle else None
    yield Check("every net has a player", text, advice=True)


def _diverged(trained: Sequence[engine.Trained]) -> Check:
    bad = {f"seed {one.seed}: {one.error}" for one in trained if one.status != "ok"}
    return Check(f"{SETTINGS.steps} rounds are played without diverging", "; ".join(sorted(bad)) or None)


def _alone(cell: Cell, data: Data, stacked: engine.Trained) -> Check:
    """The same seed in a stack of three, alone, and where that differs, alone once more."""
    name = "a seed alone gives what it gives in a stack"
    (alone,) = engine.train(cell, data, [stacked.seed])
    if _same(alone, stacked):
        return Check(name)
    (again,) = engine.train(cell, data, [stacked.seed])
    if not _same(again, alone):
        return Check(
            name,
            "two trainings of one seed differ: take all randomness from PyTorch's generator in game() and from draws "
            "in losses, none from random, numpy or the clock",
        )
    return Check(
        name,
        "replicas do not only differ by their parameters and buffers: a tensor made in game() and used in a loss or in "
        "sample is that of the first seed for all. Make it a parameter or buffer of a net",
    )


def _same(first: engine.Trained, second: engine.Trained) -> bool:
    """Whether losses and samples agree. Parameters need not: rounding alone moves a bias before a BatchNorm."""
    pairs = [(first.curves[name], curve) for name, curve in second.curves.items()]
    if first.snapshots is not None and second.snapshots is not None:
        pairs.append((first.snapshots, second.snapshots))
    return all(torch.allclose(one, other, rtol=CLOSE, atol=CLOSE, equal_nan=True) for one, other in pairs)


def _samples(cell: Cell, data: Data, trained: engine.Trained) -> Checks:
    model = subject.model(cell, data, trained.seed, trained.state, None)
    if not isinstance(model, subject.Generated):
        raise TypeError(f"a game gave a {type(model).__name__}")
    z = model._latents(6, "conformance")
    with torch.no_grad():
        x, one = model.generate(z), model.generate(z[2:3])
    if x.shape != (6, *data.shape):
        raise _Wrong(
            "samples have the shape of the data",
            f"6 samples have the shape {list(x.shape)}, expected {[6, *data.shape]}; end the generator with "
            "data.shape, as in mlp(64, 128, data.shape)",
        )
    yield Check("samples have the shape of the data")
    yield Check(
        "samples are finite", None if bool(torch.isfinite(x).all()) else "some values are NaN or infinite"
    )
    yield _in_scale(x, data)
    text = (
        "a latent alone gives another sample than the same latent beside others; let sample treat each on its own "
        "(take ganbench.BatchNorm for nn.BatchNorm, and no statistics of the batch)"
    )
    alike = torch.allclose(x[2:3], one, rtol=CLOSE, atol=CLOSE)
    yield Check("a sample does not depend on its batch", None if alike else text)
    stored = load_tensors(save_tensors({name: tensor.contiguous() for name, tensor in trained.state.items()}))
    again = subject.model(cell, data, trained.seed, stored, None)
    with torch.no_grad():
        alike = torch.equal(again.generate(z), x)
    text = "sample uses something that is neither a parameter, a buffer nor a memory of the game, and so is not stored"
    yield Check("what is stored gives the same samples", None if alike else text)


def _in_scale(x: Tensor, data: Data) -> Check:
    name = "samples lie in the scale of the data"
    low, high = data.scale or (-math.inf, math.inf)
    if low - 1e-3 <= float(x.min()) and float(x.max()) <= high + 1e-3:
        return Check(name)
    found = f"values lie in {float(x.min()):.3g} to {float(x.max()):.3g}, expected {low:g} to {high:g}"
    return Check(name, f"{found}; end the generator with squash=data.scale")


def _fit(part: Part, data: Data) -> Checks:
    cell = _cell(part)
    (first,), (second,) = (engine.train(cell, data, [0]) for _ in range(2))
    yield Check("its sampler gives samples of the data's shape and scale")  # train has looked, and raises
    if first.samples is None or second.samples is None:
        raise TypeError("fit gave no samples")
    alike = torch.equal(first.samples, second.samples)
    text = (
        "two trainings of one seed gave other samples: take randomness from the seed and the sampler's generator, "
        "none from numpy or the clock"
    )
    yield Check("a seed gives the same samples twice", None if alike else text)


# ---------------------------------------------------------------------------------------------- tricks


@method("reference")
@dataclass(frozen=True)
class Reference:
    """Goodfellow et al. 2014, Algorithm 1: the GAN on which tricks are tried. Its generator has BatchNorm."""

    net: str = "mlp"  # of both, "mlp" or "conv"

    def game(self, data: Data) -> Game:
        """The game."""
        nets = adversaries(data, net=self.net, z_dim=4, width=16)
        if self.net == "mlp":
            nets["G"] = mlp(4, 16, 16, data.shape, norm=True, squash=data.scale)
        players = {
            "D": Player("D", lambda n, b: bce_real(n.D(b.x)) + bce_fake(n.D(n.G(b.z))), Adam(1e-2)),
            "G": Player("G", lambda n, b: bce_real(n.D(n.G(b.z))), Adam(1e-2)),
        }
        return Game(nets, players, {"z": (4,)}, lambda n, z: n.G(z))


def check_trick(target: Target, data: Data | None = None, **params: Any) -> list[Check]:
    """Check a trick with these parameters on a small GAN, on `data` or on points. Raises PluginError where
    there is no such trick."""
    part = Part(_plugin("trick", target), params)
    plain = Part(registry.find("method", f"{__file__}:Reference"), {})
    data = data or plane()
    return _all(part, lambda: _trick(_cell(plain), part, data))


def _trick(plain: Cell, part: Part, data: Data) -> Checks:
    cell = _cell(*[p for p in (plain.method.part, part) if p])
    game = engine.build(plain, data, 0)
    given = dict(game.nets)
    tricked = registry.load(part.plugin)(**part.params)(game, data)
    if not isinstance(tricked, Game):
        raise _Wrong(
            "it gives a Game", f"it gave a {type(tricked).__name__}; return the game, as game.with_loss(...)"
        )
    changed = dict(game.nets) != given
    text = (
        "it changed game.nets in place; give a new game by game.with_net, with_loss, with_view or with_memory"
    )
    yield Check("it leaves the game that it is given alone", text if changed else None)
    lost = {name for name in ("z",) if tricked.draws.get(name) != game.draws[name]}
    text = "it takes the draw 'z' away; add draws by game.with_draws, so that methods keep seeing the same latents"
    yield Check("it leaves the draws of the game alone", text if lost else None)
    yield from _game(cell, data)
    yield _effect(plain, cell, data)


def _effect(plain: Cell, cell: Cell, data: Data) -> Check:
    (before,), (after,) = (engine.train(one, data, [0]) for one in (plain, cell))
    shots = [one.snapshots for one in (before, after) if one.snapshots is not None]
    alike = torch.equal(shots[0], shots[1])
    text = "three rounds with it gave the same samples as without; does it return the changed game?"
    return Check("it changes something", text if alike else None)


# ---------------------------------------------------------------------------------------------- metrics


class Sampled:
    """A model whose samples are a split of the data, whose generator is a fixed linear map, and whose game is that
    of `Reference`, not yet played."""

    latent = Draw((4,))

    def __init__(self, data: Data) -> None:
        self.data = data
        self.made = data.floats(data.valid)
        self.map = torch.randn(4, math.prod(data.shape), generator=self.generator("map"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.game: Game = Reference().game(data)
        self.nets = SimpleNamespace(**{name: net.eval() for name, net in self.game.nets.items()})

    def samples(self, n: int) -> Tensor:
        """More than there are come round again, a little apart from themselves."""
        times = -(-n // len(self.made))
        blocks = [self.made + 1e-3 * turn for turn in range(times)]
        return torch.cat(blocks)[:n]

    def generate(self, z: Tensor) -> Tensor:
        """Latents [n, 4] to [n, *shape]."""
        flat = z @ self.map.to(z)
        return (flat if self.data.scale is None else torch.sigmoid(flat)).unflatten(1, self.data.shape)

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        """None: a single step."""
        return ()

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The parameters."""
        return {"G.weight": self.map}

    def generator(self, purpose: str) -> Generator:
        """The same one for the same purpose."""
        return engine.generator(0, purpose)


def check_metric(target: Target, data: Data | None = None, **params: Any) -> list[Check]:
    """Check a metric with these parameters on `data`, or on what it needs: points, or images. Raises
    PluginError where there is no such metric."""
    part = Part(_plugin("metric", target), params)
    data = data or suitable(part.plugin.needs)
    if data is None:
        text = f"it has not been run; no data here have {' and '.join(part.plugin.needs)}"
        return [*_words(part.plugin), Check("it can be tried", text, advice=True)]
    return _all(part, lambda: _metric(part, data))


def _metric(part: Part, data: Data) -> Checks:
    plugin = part.plugin
    odd = [v.name for v in plugin.values if v.better not in get_args(Better)]
    text = None if plugin.values else "say what it measures: @metric(Value('distance', 'nats', 'lower'))"
    if odd:
        text = f"`better` of {' and '.join(odd)} must be one of: {', '.join(get_args(Better))}"
    yield Check("its values have a name, a unit and a better side", text)
    made = registry.load(plugin)(**part.params)
    sentence = getattr(made, "protocol", lambda _: "")(data)
    text = None if isinstance(sentence, str) else "protocol(data) must give a sentence (str)"
    yield Check("its protocol is a sentence", text)
    first, second = (_scores(made, data) for _ in range(2))
    if len(first) != len(plugin.values) or not all(isinstance(score, Score) for score in first):
        kinds = ", ".join(type(score).__name__ for score in first)
        raise _Wrong(
            "it gives a Score for each value",
            f"it declares {len(plugin.values)} value(s) and gave: {kinds}; return Score(value), or a tuple of them",
        )
    yield Check("it gives a Score for each value")
    bad = [v.name for v, s in zip(plugin.values, first, strict=True) if not math.isfinite(float(s.value))]
    yield Check(
        "its values are finite", f"{' and '.join(bad)} is NaN or infinite for good samples" if bad else None
    )
    alike = all(
        float(a.value) == float(b.value) for a, b in zip(first, second, strict=True) if a.value == a.value
    )
    text = "the same samples gave another value; take random numbers from model.generator(purpose)"
    yield Check("it gives the same value twice", None if alike else text)
    yield Check("its details can be stored", _unstorable(first))


def _scores(made: Any, data: Data) -> tuple[Any, ...]:
    model: Any = Sampled(data)
    found = made(model, data, made.reference(data)) if hasattr(made, "reference") else made(model, data)
    return found if isinstance(found, tuple) else (found,)


def _unstorable(scores: Sequence[Score]) -> str | None:
    for name, value in (item for score in scores for item in score.details.items()):
        try:
            json.dumps(value, default=lambda v: v.tolist())  # tensors and arrays
        except (TypeError, ValueError, AttributeError):
            return f"details[{name!r}] is a {type(value).__name__}; give numbers, texts, lists or tensors"
    return None


# ---------------------------------------------------------------------------------------------- datasets


def check_dataset(target: Target, **params: Any) -> list[Check]:
    """Check a dataset with these parameters. Raises PluginError where there is no such dataset."""
    part = Part(_plugin("dataset", target), params)
    return _all(part, lambda: _dataset(part))


def _dataset(part: Part) -> Checks:
    with torch.random.fork_rng(devices=[]):
        first, second = (_loaded(part, seed) for seed in (1, 2))
    if not isinstance(first, Data):
        raise _Wrong(
            "it gives Data", f"it gave a {type(first).__name__}; return Data(name, train, valid, test, shape)"
        )
    yield Check("it gives Data")
    splits = {"train": first.train, "valid": first.valid, "test": first.test}
    yield Check("its splits have the shape that it states", _misshapen(first, splits))
    yield Check("its values are finite floats, or bytes for images", _mistyped(first, splits))
    yield from _overlapping(splits)
    alike = all(torch.equal(x, getattr(second, name)) for name, x in splits.items())
    text = "twice the same gave other data; take all randomness from the generator that it is given"
    yield Check("everybody gets the same data", None if alike else text)
    names = ("modes", "log_density", "labels", "simulator")
    has = {name: getattr(first, name) for name in names}
    has["pixels"] = first.train if first.train.dtype == torch.uint8 else None
    says = part.plugin.provides
    lacks = [name for name in says if has.get(name) is None]
    quiet = [name for name, value in has.items() if value is not None and name not in says]
    text = f"it says that it provides {' and '.join(lacks)}, but its Data has none" if lacks else None
    yield Check("it has what it says it provides", text)
    text = (
        f"add provides={tuple(quiet)!r} to @dataset, or no metric that needs it will apply" if quiet else None
    )
    yield Check("it says what it has", text, advice=True)
    yield Check("labels and density fit the examples", _mismatched(first, splits))


def shared_rows(x: Tensor, y: Tensor) -> tuple[int, float]:
    """How many rows of `x` [n, ...] stand in `y` [m, ...] too, bit for bit, and how many would if both were drawn
    alike: n times the share of rows of `y` that stand there twice. Continuous data have neither; where values are
    whole numbers, rows of independent splits coincide as rows of one split do."""
    own, other = (
        [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in part.cpu().numpy()]
        for part in (x, y)
    )
    times = Counter(other)
    repeated = sum(count for count in times.values() if count > 1) / len(other)
    return sum(row in times for row in own), len(own) * repeated


def _overlapping(splits: Mapping[str, Tensor]) -> Checks:
    """What a method has seen in training, or what a bandwidth was chosen by, is no test."""
    if not all(map(len, splits.values())):
        return  # their shapes are wrong, which is said already
    wrong, few = [], []
    for name, other in (("valid", "train"), ("test", "train"), ("test", "valid")):
        x, y = splits[name], splits[other]
        shared, expected = shared_rows(x, y)
        excess = shared - expected
        text = f"{shared:,} of {len(x):,} {name} examples stand in {other} too"
        text += f", where chance would give {expected:,.0f}" if expected else ""
        if excess > OVERLAP * len(x) or (torch.equal(x, y) and len(x.unique(dim=0)) > 1):
            wrong.append(text)
        elif excess > 5 * math.sqrt(expected):
            few.append(text)
    advice = "draw the splits from different examples, and take repeated ones out before you split"
    text = f"{'; '.join(wrong + few)}; {advice}" if wrong or few else None
    yield Check("its splits hold different examples", text, advice=not wrong)


def _loaded(part: Part, seed: int) -> Any:
    torch.manual_seed(seed)  # which must not matter
    return registry.load(part.plugin)(Generator().manual_seed(0), **part.params)


def _misshapen(data: Data, splits: Mapping[str, Tensor]) -> str | None:
    for name, x in splits.items():
        if x.shape[1:] != data.shape or not len(x):
            return f"{name} has the shape {list(x.shape)}, expected {['N', *data.shape]} with N > 0"
    return None


def _mistyped(data: Data, splits: Mapping[str, Tensor]) -> str | None:
    for name, x in splits.items():
        if x.dtype == torch.uint8:
            if data.scale is None:
                return "images of bytes need scale=(0.0, 1.0)"
            continue
        if x.dtype != torch.float32 or not bool(torch.isfinite(x).all()):
            return f"{name} is {x.dtype}, or holds NaN; give finite torch.float32, or torch.uint8 for images"
    return None


def _mismatched(data: Data, splits: Mapping[str, Tensor]) -> str | None:
    for name, x in splits.items():
        if data.labels and getattr(data.labels, name).shape != (len(x),):
            return f"the labels of {name} have the shape {list(getattr(data.labels, name).shape)}, expected [{len(x)}]"
    if data.log_density:
        found = data.log_density(data.floats(data.test[:5]))
        if found.shape != (len(data.test[:5]),) or not bool(torch.isfinite(found).all()):
            return f"log_density of 5 test examples gave {found.tolist()}, expected 5 finite numbers"
    return None


# ---------------------------------------------------------------------------------------------- features


def check_feature(target: Target, data: Data | None = None, **params: Any) -> list[Check]:
    """Check a feature function with these parameters on `data`, else on points or, where it wants images, on
    images. Raises PluginError where there is no such feature function."""
    part = Part(_plugin("feature", target), params)
    return _all(part, lambda: _feature(registry.load(part.plugin)(**params), data))


def _feature(made: Any, data: Data | None) -> Checks:
    data = data or _that_is_taken(made)
    x = data.floats(data.train[:6], torch.float64).requires_grad_()
    found = made(x)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(x):
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise _Wrong("it gives [B, d]", f"for {len(x)} examples it gave {shape}, expected [{len(x)}, d]")
    yield Check("it gives [B, d]")
    finite = bool(torch.isfinite(found).all())
    yield Check("its features are finite", None if finite else "they hold NaN or infinity")
    (slope,) = torch.autograd.grad(found.sum(), x, allow_unused=True, materialize_grads=True)
    text = "no slope reaches the examples; is it behind detach(), torch.no_grad() or a comparison?"
    yield Check("it can be differentiated", None if bool(slope.any()) else text)
    alone = torch.cat([made(one) for one in x.split(1)])
    alike = torch.allclose(alone, found, rtol=CLOSE, atol=CLOSE, equal_nan=True)
    text = "the features of an example depend on the others beside it; take no statistics over the minibatch"
    yield Check("it takes each example by itself", None if alike else text)


def _that_is_taken(made: Any) -> Data:
    """Points, or images for what cannot be given points."""
    try:
        made(plane().train[:6].double())
    except Exception:
        return images()
    return plane()


# ---------------------------------------------------------------------------------------------- divergences


def check_divergence(target: Target, **params: Any) -> list[Check]:
    """Check an f-divergence with these parameters. Raises PluginError where there is no such divergence."""
    part = Part(_plugin("divergence", target), params)
    return _all(part, lambda: _faults(registry.load(part.plugin)(**params)))


def _faults(divergence: Any) -> Checks:
    for name, problem in faults(divergence):
        yield Check(name, problem)
