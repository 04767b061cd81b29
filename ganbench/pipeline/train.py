"""Train a cell: all its seeds as one stack.

Authors write losses for one replica. Here every player's parameters are one contiguous tensor [S, P], a loss
is vectorised over S by `torch.vmap`, and the gradient of the sum over S is the stack of the gradients, since
replicas do not meet. Random numbers are drawn outside vmap by one generator for each seed and name, so a seed
sees the same minibatches and noise whichever seeds run beside it, and so do two methods under one seed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from .. import plugins
from ..arrays import read_array
from ..contracts import Batch, Budget, Data, Draw, Game, Model, Nets, Status
from ..errors import PluginError, SampleError
from ..nets import BatchNorm

if TYPE_CHECKING:
    from .plan import Cell

CURVE_POINTS = 200  # losses kept of each player
CALIBRATION = 1024  # latents from which the statistics of BatchNorm are fixed for sampling
STORED_SAMPLES = 10_000  # kept of a sampler that cannot be stored itself, at the least
BLOCK = 1000  # samples made at a time; fixed, so that the first n never depend on n
PREVIEW_POINTS, PREVIEW_IMAGES = 512, 16  # of each snapshot
FEW = 8  # examples of a rehearsal
DRAWN_AHEAD = 2**18  # random numbers of one seed and draw made at a time

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Progress:
    """How far a stack has come."""

    step: int
    steps: int
    seeds: int
    losses: Mapping[str, float]  # of each player, mean over the seeds that are alive
    rate: float  # rounds of the whole stack in a second


@dataclass(frozen=True)
class Trained:
    """One trained seed."""

    seed: int
    status: Status
    error: str | None
    state: dict[str, Tensor]  # "G.0.weight" -> tensor, for games; what else the sampler of `fit` carries
    samples: Tensor | None  # [N, *shape] floats, for methods that are not games
    curves: dict[str, Tensor]  # "step" [L], and the loss of each player [L]; or those of the sampler
    snapshots: Tensor | None  # [T, n, *shape]
    snapshot_steps: tuple[int, ...]
    seconds: float  # of its stack, divided by the seeds in it
    stack: int  # seeds trained together
    device: str
    dtype: str
    note: str | None = None  # what the record must say, such as a stack split for want of memory


Report = Callable[[Progress], None]


def train(
    cell: Cell, data: Data, seeds: Sequence[int], *, device: str = "cpu", progress: Report | None = None
) -> list[Trained]:
    """Train these seeds of a cell; one result for each, in their order.

    A seed that diverges has the status "diverged" and leaves the others alone. A stack that does not fit
    into memory is trained in halves, and the results say so. Whatever the method itself raises is passed on.
    """
    run = {"game": _train_game, "fit": _train_fit, "samples": _read_samples}[cell.rung]
    try:
        return run(cell, data, tuple(seeds), torch.device(device), progress or (lambda _: None))
    except Exception as error:
        if not out_of_memory(error) or len(seeds) == 1:
            raise
    # Outside the handler: its traceback would keep the tensors alive that did not fit.
    half = len(seeds) // 2
    parts = [
        train(cell, data, part, device=device, progress=progress) for part in (seeds[:half], seeds[half:])
    ]
    note = f"out of memory with {len(seeds)} seeds in one stack: trained as {half} + {len(seeds) - half}"
    return [replace(one, note=f"{note}; {one.note}" if one.note else note) for part in parts for one in part]


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the host or the GPU has no memory left."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def derive(seed: int, purpose: str) -> int:
    """An independent 63-bit seed for one use of a training seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8]) >> 1


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> Generator:
    """A generator of random numbers for one use of a training seed."""
    return Generator(device).manual_seed(derive(seed, purpose))


# ---------------------------------------------------------------------------------------------- one replica


@dataclass(frozen=True)
class Layout:
    """Where the parameters of a player's nets lie in its vector [P]."""

    entries: tuple[tuple[str, str, torch.Size], ...]  # net, parameter, shape

    @classmethod
    def of(cls, nets: Mapping[str, nn.Module], names: Sequence[str]) -> Layout:
        """The layout of these nets, one after the other."""
        return cls(tuple((net, name, p.shape) for net in names for name, p in nets[net].named_parameters()))

    def pack(self, nets: Mapping[str, nn.Module]) -> Tensor:
        """The parameters of these nets as one vector [P]."""
        parts = [nets[net].get_parameter(name).detach().flatten() for net, name, _ in self.entries]
        return torch.cat(parts) if parts else torch.zeros(0)

    def unpack(self, flat: Tensor) -> dict[str, dict[str, Tensor]]:
        """[..., P] -> net -> parameter -> [..., *shape]."""
        found: dict[str, dict[str, Tensor]] = {}
        pieces = flat.split([shape.numel() for _, _, shape in self.entries], dim=-1)
        for (net, name, shape), piece in zip(self.entries, pieces, strict=True):
            found.setdefault(net, {})[name] = piece.unflatten(-1, shape) if shape else piece.squeeze(-1)
        return found


# Player -> parameters [S, P], or [P] for one replica; "" holds the nets of no player.
Flats = dict[str, Tensor]


@dataclass(frozen=True)
class Rules:
    """What all replicas of a game share."""

    game: Game
    layouts: Mapping[str, Layout]  # of every player's parameters; "" is the owner of the nets of no player
    owner: Mapping[str, str]  # net -> player
    habits: dict[str, set[tuple[str, str]]] = field(
        default_factory=dict
    )  # player -> (net, draw) its loss applies

    @classmethod
    def of(cls, game: Game) -> Rules:
        """Raises PluginError where players and nets do not fit together."""
        owners = [net for player in game.players.values() for net in player.owns]
        missing = sorted(set(owners) - set(game.nets))
        if missing:
            raise PluginError(f"players own nets that the game does not have: {', '.join(missing)}")
        if len(owners) != len(set(owners)):
            raise PluginError("two players own the same net; each net belongs to one player at most")
        rest = [net for net in game.nets if net not in owners]
        owns = {"": tuple(rest), **{name: player.owns for name, player in game.players.items()}}
        layouts = {player: Layout.of(game.nets, nets) for player, nets in owns.items()}
        return cls(game, layouts, {net: player for player, nets in owns.items() for net in nets})


class Replica:
    """The nets of one replica with its live parameters (see contracts.Nets), made anew for every loss."""

    def __init__(
        self,
        rules: Rules,
        flats: Flats,
        states: Mapping[str, tuple[Tensor, ...]],
        memory: Mapping[str, Any],
        buffers: Mapping[str, dict[str, Tensor]],
        batch: Batch | None,
        known: Mapping[tuple[str, int], Tensor] | None = None,
    ) -> None:
        self._rules, self._flats, self._states, self._memory = rules, flats, states, memory
        self._buffers, self._batch = buffers, batch
        self._known = dict(known or {})  # (net, id of a tensor of the minibatch) -> what the net makes of it
        self._unpacked: dict[str, dict[str, Tensor]] = {}
        self._calls: dict[str, int] = {}
        self.applied: set[tuple[str, str]] = set()  # (net, draw)

    def __getattr__(self, name: str) -> Callable[..., Tensor]:
        nets = self.__dict__["_rules"].game.nets if "_rules" in self.__dict__ else {}
        if name not in nets:
            raise AttributeError(f"this game has no net {name!r}; it has: {', '.join(nets)}")
        return lambda *args, **kwargs: self._apply(name, args, kwargs)

    def _apply(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        if self._batch is not None and args:
            if (name, id(args[0])) in self._known and not kwargs:
                return self._known[name, id(args[0])]
            self.applied |= {
                (name, draw) for draw, tensor in self._batch.tensors.items() if tensor is args[0]
            }
            for view in self._rules.game.views.get(name, ()):
                args = (view(args[0], self._batch, call), *args[1:])
        values = {**self._buffers.get(name, {}), **self.parameters(name)}
        return torch.func.functional_call(self._rules.game.nets[name], values, args, kwargs)

    def parameters(self, net: str) -> dict[str, Tensor]:
        """The live parameters of a net by their names."""
        if net not in self._unpacked:
            player = self._rules.owner[net]
            self._unpacked.update(self._rules.layouts[player].unpack(self._flats[player]))
        return self._unpacked.get(net, {})

    def _with(
        self, player: str, flat: Tensor, states: Mapping[str, tuple[Tensor, ...]], batch: Batch | None
    ) -> Replica:
        known = {key: value for key, value in self._known.items() if self._rules.owner[key[0]] != player}
        flats = {**self._flats, player: flat}
        return Replica(self._rules, flats, states, self._memory, self._buffers, batch, known)

    def flat(self, player: str) -> Tensor:
        return self._flats[player]

    def with_flat(self, player: str, vector: Tensor) -> Replica:
        return self._with(player, vector, self._states, self._batch)

    def step(self, player: str, b: Batch) -> Replica:
        spec, here = self._rules.game.players[player], self._flats[player]
        self._foresee(player, b)
        grad = torch.func.grad(lambda flat: spec.loss(self._with(player, flat, self._states, b), b))(here)
        there, state = spec.optimiser.step(here, grad, self._states[player])
        if spec.project:
            there = spec.project(there)
        return self._with(player, there, {**self._states, player: state}, b)

    def _foresee(self, player: str, b: Batch) -> None:
        """Apply the nets that the player's loss applies to draws but does not own, such as G to z in D's loss:
        they stay the same through its steps, and so does the graph behind what they make."""
        for net, draw in self._rules.habits.get(player, ()):
            key = (net, id(b.tensors[draw]))
            if (
                self._rules.owner[net] != player
                and not self._rules.game.views.get(net)
                and key not in self._known
            ):
                self._known[key] = self._apply(net, (b.tensors[draw],), {})

    def recall(self, name: str) -> Any:
        return self._memory[name]


# ---------------------------------------------------------------------------------------------- random numbers


class Draws:
    """The minibatches of every seed, drawn outside vmap, `DRAWN_AHEAD` numbers at a time.

    Each (seed, name) has a generator of its own: a trick that needs more random numbers does not change the
    minibatches or the latents. How many rounds are drawn at once follows from the shapes alone.
    """

    def __init__(
        self,
        game: Game,
        data: Data,
        seeds: Sequence[int],
        batch: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.data, self.device, self.dtype, self.batch = data, device, dtype, batch
        self.train = data.train.to(device)
        self.labels = data.labels.train.to(device) if data.labels else None
        self.draws = {name: game.draw(name) for name in game.draws}
        self.updates = _updates(game)
        names = ("x", *self.draws)
        self.generators = {name: [generator(s, f"draw/{name}", device) for s in seeds] for name in names}
        widest = max([1, *(torch.Size(d.shape).numel() for d in self.draws.values())])
        self.ahead = max(1, min(64, DRAWN_AHEAD // (self.updates * batch * widest)))
        self.buffer: dict[str, Tensor] = {}

    def rounds(self, steps: int) -> Iterator[list[dict[str, Tensor]]]:
        """For every round, the minibatches [S, B, ...] of its updates."""
        for step in range(steps):
            if step % self.ahead == 0:
                self.buffer = {name: self._fill(name) for name in self.generators}
            here = {name: buffer[:, step % self.ahead] for name, buffer in self.buffer.items()}
            yield [self._minibatch({n: v[:, i] for n, v in here.items()}) for i in range(self.updates)]

    def _fill(self, name: str) -> Tensor:
        generators = self.generators[name]
        size = (len(generators), self.ahead, self.updates, self.batch)
        if name == "x":
            out = torch.empty(size, dtype=torch.int64, device=self.device)
            for row, source in zip(out, generators, strict=True):
                row.random_(0, len(self.train), generator=source)
            return out
        draw = self.draws[name]
        out = torch.empty((*size, *draw.shape), dtype=self.dtype, device=self.device)
        for row, source in zip(out, generators, strict=True):
            fill(row, draw, source)
        return out

    def _minibatch(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        index = drawn.pop("x")
        drawn["x"] = self.data.floats(self.train[index], self.dtype)
        if self.labels is not None:
            drawn["y"] = self.labels[index]
        return drawn


def fill(out: Tensor, draw: Draw, source: Generator) -> Tensor:
    """Fill a tensor with the numbers that a draw describes."""
    if draw.low is None or draw.high is None:
        return out.normal_(generator=source)
    return out.uniform_(draw.low, draw.high, generator=source)


def _updates(game: Game) -> int:
    """Minibatches needed in a round: one for each update, or for each simultaneous move."""
    steps = [player.steps for player in game.players.values()]
    return max(steps) if game.order == "simultaneous" else sum(steps)


# ---------------------------------------------------------------------------------------------- the stack


class Stack:
    """The replicas of a game, one for each seed, and how they play."""

    def __init__(self, games: Sequence[Game], device: torch.device, dtype: torch.dtype) -> None:
        self.game = games[0]
        self.rules = Rules.of(self.game)
        for net in self.game.nets.values():
            net.to(device=device, dtype=dtype).train()
        layouts = self.rules.layouts
        self.flats: Flats = {
            player: torch.stack([layout.pack(game.nets) for game in games]).to(device, dtype)
            for player, layout in layouts.items()
        }
        self.states = {name: p.optimiser.init(self.flats[name]) for name, p in self.game.players.items()}
        self.buffers = {net: _stacked_buffers([game.nets[net] for game in games]) for net in self.game.nets}
        self.alive = torch.ones(len(games), dtype=torch.bool, device=device)
        self.died = torch.full((len(games),), -1, device=device)
        self.memory: dict[str, Any] = {}
        self.memory = {
            name: self._each(lambda nets, m=memory: m.init(nets)) for name, memory in self.game.memory.items()
        }

    def play(self, step: int, steps: int, minibatches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """One round; the losses [S] of each player."""
        clock = _clock(step, steps, minibatches[0]["x"])
        batches = iter([{**clock, **minibatch} for minibatch in minibatches])
        play = self._together if self.game.order == "simultaneous" else self._in_turn
        losses = play(batches)
        for name, memory in self.game.memory.items():
            new = self._each(lambda nets, m=memory, n=name: m.update(nets.recall(n), nets))
            self.memory[name] = self._keep(new, self.memory[name])
        self.died = torch.where(~self.alive & (self.died < 0), step, self.died)
        return losses

    def _in_turn(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        losses = {}
        for name, player in self.game.players.items():
            for _ in range(player.steps):
                losses[name], grad = self.gradient(name, next(batches))
                self._update(name, losses[name], grad)
        return losses

    def _together(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for move, batch in enumerate(batches):
            movers = [name for name, player in self.game.players.items() if move < player.steps]
            found = {name: self.gradient(name, batch) for name in movers}
            for name, (loss, grad) in found.items():
                losses[name] = loss
                self._update(name, loss, grad)
        return losses

    def gradient(self, player: str, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A player's losses [S] on minibatches [S, B, ...], and their gradients [S, P]."""
        spec = self.game.players[player]
        flats = {**self.flats, player: self.flats[player].detach().requires_grad_()}

        def loss(flats: Flats, states: Any, memory: Any, buffers: Any, tensors: dict[str, Tensor]) -> Tensor:
            b = Batch(tensors)
            nets = Replica(self.rules, flats, states, memory, buffers, b)
            value = spec.loss(nets, b)
            self.rules.habits.setdefault(player, nets.applied)
            return value

        axes = {name: None if name in ("step", "progress") else 0 for name in batch}
        losses = torch.vmap(loss, in_dims=(0, 0, 0, 0, axes))(
            flats, self.states, self.memory, self.buffers, batch
        )
        if not losses.requires_grad:
            raise PluginError(f"the loss of player {player!r} does not depend on the parameters of its nets")
        (grad,) = torch.autograd.grad(losses.sum(), flats[player])
        return losses.detach(), grad

    def probe(self, step: int, steps: int, minibatch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The game's probes [S] after `step` rounds, on a minibatch [S, B, ...]."""
        tensors = {**_clock(step, steps, minibatch["x"]), **minibatch}
        axes = {name: None if name in ("step", "progress") else 0 for name in tensors}

        def values(flats: Flats, states: Any, memory: Any, buffers: Any, b: dict[str, Tensor]) -> Any:
            batch = Batch(b)
            probes = self.game.probes.items()
            # Nets of its own for each: views count the calls of a net.
            replicas = (Replica(self.rules, flats, states, memory, buffers, batch) for _ in probes)
            return {name: probe(nets, batch) for (name, probe), nets in zip(probes, replicas, strict=True)}

        if not self.game.probes:
            return {}
        with torch.no_grad():
            return torch.vmap(values, in_dims=(0, 0, 0, 0, axes))(
                self.flats, self.states, self.memory, self.buffers, tensors
            )

    def _update(self, player: str, losses: Tensor, grad: Tensor) -> None:
        spec, old = self.game.players[player], self.flats[player]
        with torch.no_grad():
            self.alive = self.alive & torch.isfinite(losses) & torch.isfinite(grad.sum(-1))
            new, state = spec.optimiser.step(old, grad, self.states[player])
            if spec.project:
                new = spec.project(new)
            self.flats[player] = self._keep(new, old)
            self.states[player] = self._keep(state, self.states[player])

    def _keep(self, new: Any, old: Any) -> Any:
        """`new` for the replicas that are alive, `old` for the others, in any nesting of tensors [S, ...]."""
        if self.alive.device.type == "cpu" and bool(self.alive.all()):
            return new  # the usual case, free to find out where the device is the host
        return _map(lambda n, o: torch.where(self.alive.view(-1, *[1] * (n.ndim - 1)), n, o), new, old)

    def _each(self, of: Callable[[Nets], Any]) -> Any:
        """A function of the nets of one replica, for every replica: a tensor [S, ...] or a dict of them."""
        with torch.no_grad():
            return torch.vmap(
                lambda flats, memory, buffers: of(Replica(self.rules, flats, {}, memory, buffers, None))
            )(self.flats, self.memory, self.buffers)

    def replica(self, index: int) -> Replica:
        """One replica as it stands."""
        flats, memory, buffers = _map(lambda t: t[index], (self.flats, self.memory, self.buffers))
        return Replica(self.rules, flats, {}, memory, buffers, None)

    def state(self, index: int, latents: Tensor) -> dict[str, Tensor]:
        """What is stored of one replica: parameters, memory, and the statistics of BatchNorm fixed on
        `latents` [n, ...]."""
        replica = self.replica(index)
        found = {f"memory.{name}": value for name, value in _named(replica._memory)}
        for net in self.game.nets:
            values = {**replica._buffers[net], **replica.parameters(net)}
            found.update({f"{net}.{name}": value for name, value in values.items()})
        found.update(self._statistics(replica, latents))
        return {name: tensor.detach().cpu().clone() for name, tensor in found.items()}

    def _statistics(self, replica: Replica, latents: Tensor) -> dict[str, Tensor]:
        norms = {
            f"{net}.{name}" if name else net: module
            for net, root in self.game.nets.items()
            for name, module in root.named_modules()
            if isinstance(module, BatchNorm)
        }
        if not norms:
            return {}
        for module in norms.values():
            module.seen = None
        with torch.no_grad():
            self.game.sample(replica, latents)
        seen = {name: module.seen for name, module in norms.items() if module.seen}
        return {
            f"{name}.{key}": v
            for name, pair in seen.items()
            for key, v in zip(("mean", "var"), pair, strict=True)
        }


def _clock(step: int, steps: int, like: Tensor) -> dict[str, Tensor]:
    """How far the game has come, as losses see it."""
    return {
        "step": torch.tensor(step, dtype=like.dtype, device=like.device),
        "progress": torch.tensor(step / steps, dtype=like.dtype, device=like.device),
    }


def _stacked_buffers(nets: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Buffers [S, ...] of a net by name, one row for each replica's own net."""
    rows = [dict(net.named_buffers()) for net in nets]
    return {name: torch.stack([row[name].to(like) for row in rows]) for name, like in rows[0].items()}


def _map(f: Callable[..., Tensor], *trees: Any) -> Any:
    """`f` on the tensors that stand at the same place of all trees (dictionaries and tuples of tensors)."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: _map(f, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, tuple):
        return tuple(_map(f, *parts) for parts in zip(*trees, strict=True))
    return f(*trees)


def _named(memory: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, value in memory.items():
        for key, tensor in value.items() if isinstance(value, dict) else (("", value),):
            yield (f"{name}.{key}" if key else name), tensor


# ---------------------------------------------------------------------------------------------- games


def build(cell: Cell, data: Data, seed: int) -> Game:
    """The game of one seed: the method under that seed's random state, then the tricks in their order, each
    under a random state of its own. Raises PluginError where a trick refuses the game."""
    game = _under(seed, lambda: _make(cell.method.part).game(data))
    for part in cell.method.tricks:
        game = _under(seed, lambda g=game, p=part: _make(p)(g, data), f"init/{part.name}")
    return game


def rehearse(cell: Cell, data: Data) -> None:
    """Play one round of a cell with tricks on a few examples, and sample, before anything is trained.

    Raises PluginError where a trick refuses the method, or where the round fails with the tricks and not
    without them. What is wrong with the method itself is left for its training to meet.
    """
    if not cell.method.tricks:
        return
    try:
        _try_round(cell, data)
    except PluginError:
        raise
    except Exception as error:
        if out_of_memory(error):
            return
        if _fails(replace(cell, method=replace(cell.method, tricks=())), data):
            return
        names = " and ".join(part.name for part in cell.method.tricks)
        raise PluginError(
            f"does not go with {names}, without which it plays ({type(error).__name__}: {error})"
        ) from error


def _fails(cell: Cell, data: Data) -> bool:
    try:
        _try_round(cell, data)
    except Exception:
        return True
    return False


def _try_round(cell: Cell, data: Data) -> None:
    """One round of one replica on the CPU: with few examples, or where that fails, since losses may cut a
    minibatch into parts, with a whole minibatch."""
    settings, device, dtype = cell.train, torch.device("cpu"), DTYPES[cell.train.dtype]
    for batch in sorted({min(FEW, settings.batch), settings.batch}):
        game = build(cell, data, 0)
        stack = Stack([game], device, dtype)
        draws = Draws(game, data, [0], batch, device, dtype)
        try:
            stack.play(0, settings.steps, next(draws.rounds(1)))
            with torch.no_grad():
                game.sample(stack.replica(0), latents(game, 0, FEW, device, dtype))
            return
        except PluginError:
            raise
        except Exception:
            if batch == settings.batch:
                raise


def _make(part: Any) -> Any:
    """The method or trick itself, with its parameters."""
    return plugins.load(part.plugin)(**part.params)


def _under(seed: int, make: Callable[[], Any], purpose: str = "init") -> Any:
    """Run with PyTorch's global generators seeded for the initialisation of `seed`, and left as they were."""
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, purpose))
        return make()


def _train_game(
    cell: Cell, data: Data, seeds: Sequence[int], device: torch.device, progress: Report
) -> list[Trained]:
    settings, dtype, started = cell.train, DTYPES[cell.train.dtype], time.monotonic()
    games = [build(cell, data, seed) for seed in seeds]
    stack = Stack(games, device, dtype)
    del games
    diary = Diary(stack, data, seeds, settings.steps, settings.snapshots, progress)
    draws = Draws(stack.game, data, seeds, settings.batch, device, dtype)
    for step, minibatches in enumerate(draws.rounds(settings.steps)):
        losses = stack.play(step, settings.steps, minibatches)
        diary.write(step, losses, minibatches[-1])
        if diary.all_dead:
            break
    seconds = (time.monotonic() - started) / len(seeds)
    steps = torch.tensor(diary.points)
    found = []
    for index, (seed, died) in enumerate(zip(seeds, stack.died.tolist(), strict=True)):
        rows = {**diary.losses, **{f"probe.{name}": values for name, values in diary.probes.items()}}
        curves = {name: torch.stack(values)[:, index].cpu() for name, values in rows.items()}
        found.append(
            Trained(
                seed=seed,
                status="ok" if died < 0 else "diverged",
                error=None if died < 0 else f"a loss or gradient was not finite at step {died}",
                state=stack.state(index, latents(stack.game, seed, CALIBRATION, device, dtype)),
                samples=None,
                curves={"step": steps, **curves},
                snapshots=torch.stack([shot[index] for shot in diary.snapshots]) if diary.snapshots else None,
                snapshot_steps=tuple(diary.snapshot_steps),
                seconds=seconds,
                stack=len(seeds),
                device=_device_name(device),
                dtype=settings.dtype,
            )
        )
    return found


class Diary:
    """What is written down while a stack plays: losses, snapshots, and how far it has come."""

    def __init__(
        self, stack: Stack, data: Data, seeds: Sequence[int], steps: int, snapshots: int, progress: Report
    ) -> None:
        self.stack, self.steps, self.progress = stack, steps, progress
        self.losses: dict[str, list[Tensor]] = {name: [] for name in stack.game.players}
        self.probes: dict[str, list[Tensor]] = {name: [] for name in stack.game.probes}
        self.points: list[int] = []
        self.every = max(1, steps // CURVE_POINTS)
        self.snapshots: list[Tensor] = []  # each [S, n, *shape]
        self.snapshot_steps: list[int] = []
        self.due = (
            {round(steps * part / snapshots) for part in range(1, snapshots + 1)} if snapshots else set()
        )
        few = PREVIEW_POINTS if torch.Size(data.shape).numel() <= 3 else PREVIEW_IMAGES
        dtype = stack.flats[""].dtype
        self.latents = [latents(stack.game, seed, few, stack.alive.device, dtype) for seed in seeds]
        self.told, self.told_at = 0, time.monotonic()
        self.all_dead = False

    def write(self, step: int, losses: Mapping[str, Tensor], minibatch: dict[str, Tensor]) -> None:
        """After round `step`, counted from 0, of which this was the last minibatch [S, B, ...]."""
        done = step + 1
        if step % self.every == 0 or done == self.steps:
            self.points.append(done)
            for name, loss in losses.items():
                self.losses[name].append(loss)
            for name, value in self.stack.probe(done, self.steps, minibatch).items():
                self.probes[name].append(value)
            self.all_dead = not bool(self.stack.alive.any())
        if done in self.due:
            self.snapshot_steps.append(done)
            self.snapshots.append(self._snapshot())
        if time.monotonic() - self.told_at > 0.5 or done == self.steps:
            self._tell(done, losses)

    def _snapshot(self) -> Tensor:
        """Samples of every replica from latents that stay the same through training."""
        with torch.no_grad():
            shots = [
                self.stack.game.sample(self.stack.replica(index), z) for index, z in enumerate(self.latents)
            ]
        return torch.stack(shots).float().cpu()

    def _tell(self, done: int, losses: Mapping[str, Tensor]) -> None:
        now, alive = time.monotonic(), self.stack.alive
        means = {
            name: float(loss[alive].mean()) if bool(alive.any()) else float("nan")
            for name, loss in losses.items()
        }
        rate = (done - self.told) / max(now - self.told_at, 1e-9)
        self.progress(Progress(done, self.steps, len(self.latents), means, rate))
        self.told, self.told_at = done, now


def latents(
    game: Game, seed: int, n: int, device: torch.device, dtype: torch.dtype, purpose: str = "preview"
) -> Tensor:
    """n latents [n, ...] of a seed, for looking at a replica rather than for training it."""
    draw = game.draw(game.latent)
    out = torch.empty((n, *draw.shape), dtype=dtype, device=device)
    return fill(out, draw, generator(seed, purpose, device))


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


# ---------------------------------------------------------------------------------------------- other rungs


def _train_fit(
    cell: Cell, data: Data, seeds: Sequence[int], device: torch.device, progress: Report
) -> list[Trained]:
    """Seed by seed, since nothing is known of the code behind `fit`."""
    part = cell.method.part
    budget = Budget(cell.train.steps, cell.train.batch, device, DTYPES[cell.train.dtype])
    n = max([STORED_SAMPLES, *(int(m.resolved.get("n") or 0) for m in cell.metrics)])
    found = []
    for done, seed in enumerate(seeds):
        started = time.monotonic()
        sampler = _under(seed, lambda s=seed: _make(part).fit(data, s, budget))
        samples = _drawn(sampler, n, generator(seed, "samples", device), data, cell.method.label)
        seconds = time.monotonic() - started
        trained = _sampled(cell, seed, samples, seconds, _device_name(device))
        kept = {name: _kept(getattr(sampler, name, {})) for name in ("state", "curves")}
        found.append(replace(trained, **kept))
        progress(Progress(cell.train.steps, cell.train.steps, 1, {}, (done + 1) / max(seconds, 1e-9)))
    return found


def _drawn(sampler: Any, n: int, generator: Generator, data: Data, label: str) -> Tensor:
    """n samples [n, *shape] of what `fit` gave back. Raises SampleError where it is no sampler."""
    if not callable(sampler):
        raise SampleError(
            f"fit of {label!r} gave back a {type(sampler).__name__}, expected a sampler: a function of the number of "
            "samples and a generator"
        )
    given = sampler(n, generator)
    try:
        samples = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise SampleError(
            f"the sampler of {label!r} gave a {type(given).__name__}, expected a tensor of samples"
        ) from None
    samples = _checked(samples, data, f"the sampler of {label!r}")
    if len(samples) != n:
        raise SampleError(f"the sampler of {label!r} gave {len(samples)} samples instead of {n}")
    return samples


def _read_samples(
    cell: Cell, data: Data, seeds: Sequence[int], device: torch.device, progress: Report
) -> list[Trained]:
    """Samples that were made elsewhere: file i belongs to seed i."""
    files = dict(zip(cell.seeds, cell.method.samples, strict=True))
    return [_sampled(cell, seed, read_samples(files[seed], data), 0.0, "cpu") for seed in seeds]


def read_samples(path: Path, data: Data) -> Tensor:
    """The samples [N, *shape] of an .npy or .npz file (its array `samples`, or its only one) as floats in
    the data's scale; bytes are pixels. Raises SampleError; unpickles nothing."""
    samples = data.floats(read_array(path))
    return _checked(samples, data, str(path))


def _checked(samples: Tensor, data: Data, what: str) -> Tensor:
    if samples.ndim < 1 or not len(samples) or samples[0].numel() != torch.Size(data.shape).numel():
        expected = ", ".join(str(n) for n in ("N", *data.shape))
        raise SampleError(f"{what}: samples have the shape {list(samples.shape)}, expected [{expected}]")
    samples = samples.reshape(len(samples), *data.shape).float()
    if not bool(torch.isfinite(samples).all()):
        raise SampleError(f"{what}: {int((~torch.isfinite(samples)).sum())} values are NaN or infinite")
    if data.scale and (samples.min() < data.scale[0] - 1e-3 or samples.max() > data.scale[1] + 1e-3):
        found = f"{float(samples.min()):.3g} to {float(samples.max()):.3g}"
        raise SampleError(f"{what}: values lie in {found}, expected {data.scale[0]:g} to {data.scale[1]:g}")
    return samples


def _kept(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that a sampler carries, as they are stored."""
    return {name: torch.as_tensor(tensor).detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sampled(cell: Cell, seed: int, samples: Tensor, seconds: float, device: str) -> Trained:
    return Trained(seed, "ok", None, {}, samples, {}, None, (), seconds, 1, device, cell.train.dtype)


# ---------------------------------------------------------------------------------------------- for scoring


def model(
    cell: Cell,
    data: Data,
    seed: int,
    state: dict[str, Tensor],
    samples: Tensor | None,
    *,
    device: str = "cpu",
) -> Model:
    """What a metric sees of a stored seed."""
    if samples is not None:
        return StoredSamples(seed, samples.to(device), state)
    return Generated(build(cell, data, seed), seed, state, torch.device(device))


class StoredSamples:
    """A seed of which only samples are known."""

    latent = game = nets = None

    def __init__(self, seed: int, samples: Tensor, state: Mapping[str, Tensor] | None = None) -> None:
        self.seed, self.stored, self.state = seed, samples, state or {}

    def samples(self, n: int) -> Tensor:
        if n > len(self.stored):
            raise SampleError(f"{n} samples are needed, {len(self.stored)} are at hand")
        return self.stored[:n]

    def generate(self, z: Tensor) -> Tensor:
        raise SampleError("only samples are at hand, not the generator that made them")

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        return ()

    def generator(self, purpose: str) -> Generator:
        return generator(self.seed, f"score/{purpose}", self.stored.device)


class Generated:
    """A seed of a game: its nets with fixed statistics, so that no sample depends on its batch."""

    def __init__(self, game: Game, seed: int, state: Mapping[str, Tensor], device: torch.device) -> None:
        self.game, self.seed, self.device, self.state = game, seed, device, state
        self.latent = game.draw(game.latent)
        self.dtype = next((t.dtype for t in state.values() if t.is_floating_point()), torch.float32)
        for net, module in game.nets.items():
            prefix = f"{net}."
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            module.load_state_dict(own)
            module.to(device=device, dtype=self.dtype).eval().requires_grad_(False)
        rules = Rules.of(game)
        flats = {player: layout.pack(game.nets) for player, layout in rules.layouts.items()}
        buffers = {net: dict(module.named_buffers()) for net, module in game.nets.items()}
        memory = _nested(
            {k.removeprefix("memory."): v.to(device) for k, v in state.items() if k.startswith("memory.")}
        )
        self.nets = Replica(
            rules, {k: v.to(device, self.dtype) for k, v in flats.items()}, {}, memory, buffers, None
        )
        self.made = torch.empty(0, *self.generate(self._latents(1, "shape")).shape[1:], device=device)
        self.stream = self.generator("samples")

    def _latents(self, n: int, purpose: str) -> Tensor:
        return latents(self.game, self.seed, n, self.device, self.dtype, f"score/{purpose}")

    def samples(self, n: int) -> Tensor:
        with torch.no_grad():
            blocks = [self.made]
            while sum(map(len, blocks)) < n:
                z = torch.empty((BLOCK, *self.latent.shape), dtype=self.dtype, device=self.device)
                blocks.append(self.generate(fill(z, self.latent, self.stream)).float())
            self.made = torch.cat(blocks) if len(blocks) > 1 else self.made
        return self.made[:n]

    def generate(self, z: Tensor) -> Tensor:
        return self.game.sample(self.nets, z.to(self.device, self.dtype))

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        return self.game.stages(self.nets, z.to(self.device, self.dtype)) if self.game.stages else ()

    def generator(self, purpose: str) -> Generator:
        return generator(self.seed, f"score/{purpose}", self.device)


def _nested(values: Mapping[str, Tensor]) -> dict[str, Any]:
    """The reverse of `_named`."""
    found: dict[str, Any] = {}
    for name, tensor in values.items():
        outer, _, inner = name.partition(".")
        if inner:
            found.setdefault(outer, {})[inner] = tensor
        else:
            found[outer] = tensor
    return found
