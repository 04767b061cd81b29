"""The seeds of a cell as one stack of replicas, and how they play a game.

Authors write losses for one replica. Here every player's parameters are one contiguous tensor [S, P], a loss
is vectorised over S by `torch.vmap`, and the gradient of the sum over S is the stack of the gradients, since
replicas do not meet. Where that costs more than it saves, replicas take their gradients one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Batch, Game, Nets
from ..errors import PluginError
from ..nets import BatchNorm
from ..optim import InPlace
from .replay import Memory
from .trace import WORTH, Recorded
from .tree import mapped

ALONE = 2  # seeds up to which a loop over them is faster on the CPU than vectorised losses
CONVOLUTION = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


@dataclass(frozen=True)
class Layout:
    """Where the parameters of a player's nets lie in its vector [P]. A parameter that layers share lies there once."""

    entries: tuple[
        tuple[tuple[tuple[str, str], ...], torch.Size], ...
    ]  # (net, parameter) of all its uses; shape

    @classmethod
    def of(cls, nets: Mapping[str, nn.Module], names: Sequence[str]) -> Layout:
        """The layout of these nets, one after the other."""
        shapes: dict[int, torch.Size] = {}
        uses: dict[int, list[tuple[str, str]]] = {}
        for net in names:
            for name, parameter in nets[net].named_parameters(remove_duplicate=False):
                shapes[id(parameter)] = parameter.shape
                uses.setdefault(id(parameter), []).append((net, name))
        return cls(tuple((tuple(uses[key]), shape) for key, shape in shapes.items()))

    def pack(self, nets: Mapping[str, nn.Module]) -> Tensor:
        """The parameters of these nets as one vector [P]."""
        firsts = [uses[0] for uses, _ in self.entries]
        parts = [nets[net].get_parameter(name).detach().flatten() for net, name in firsts]
        return torch.cat(parts) if parts else torch.zeros(0)

    def unpack(self, flat: Tensor) -> dict[str, dict[str, Tensor]]:
        """[..., P] -> net -> parameter -> [..., *shape]; the same tensor wherever layers share it."""
        found: dict[str, dict[str, Tensor]] = {}
        pieces = flat.split([shape.numel() for _, shape in self.entries], dim=-1)
        for (uses, shape), piece in zip(self.entries, pieces, strict=True):
            tensor = piece.unflatten(-1, shape) if shape else piece.squeeze(-1)
            for net, name in uses:
                found.setdefault(net, {})[name] = tensor
        return found


CLOCK = ("step", "progress")  # what minibatches hold that is the same for all replicas

# Player -> parameters [S, P], or [P] for one replica; "" holds the nets of no player.
Flats = dict[str, Tensor]


@dataclass(frozen=True)
class GameLayout:
    """What all replicas of a game share."""

    game: Game
    layouts: Mapping[str, Layout]  # of every player's parameters; "" is the owner of the nets of no player
    owner: Mapping[str, str]  # net -> player
    # Player -> (net, draw) that its loss applies.
    habits: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, game: Game) -> GameLayout:
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
        owner = {net: player for player, nets in owns.items() for net in nets}
        for first, second in sorted(shared_nets(game.nets)):
            if owner[first] != owner[second]:
                raise PluginError(
                    f"the nets {first!r} and {second!r} share a layer but do not belong to the same player, so it is "
                    f"not clear whose update trains it; give both to one player, as in "
                    f"Player(({first!r}, {second!r}), ...), or make the shared layers a net of their own that one "
                    "player owns, and apply it in the losses before the others"
                )
        return cls(game, layouts, owner)


class Replica:
    """The nets of one replica with its live parameters (see contracts.Nets), made anew for every loss."""

    def __init__(
        self,
        rules: GameLayout,
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
        buffers = self._buffers.get(name, {})
        values = {**buffers, **self.parameters(name)}
        # Shared parameters are in `values` under each of their names, so there is nothing to tie.
        result = torch.func.functional_call(
            self._rules.game.nets[name], values, args, kwargs, tie_weights=False
        )
        # functional_call puts what a forward assigned (`self.x = ...`) into `values`, where it would be lost.
        assigned = [buffer for buffer, tensor in buffers.items() if values[buffer] is not tensor]
        if assigned:
            raise changed_buffer(name, assigned[0])
        return result

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
        if spec.schedule:
            there = here + spec.schedule(b.progress) * (there - here)
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


class Stack:
    """The replicas of a game, one for each seed, and how they play."""

    def __init__(
        self, games: Sequence[Game], device: torch.device, dtype: torch.dtype, *, rounds: int = 0
    ) -> None:
        """rounds: how many will be played at the least, as far as is known"""
        self.game = games[0]
        self.rules = GameLayout.of(self.game)
        for net in self.game.nets.values():
            net.to(device=device, dtype=dtype).train()
        layouts = self.rules.layouts
        self.flats: Flats = {
            player: torch.stack([layout.pack(game.nets).to(device, dtype) for game in games])
            for player, layout in layouts.items()
        }
        self.states = {name: p.optimiser.init(self.flats[name]) for name, p in self.game.players.items()}
        self.buffers = {net: _stacked_buffers([game.nets[net] for game in games]) for net in self.game.nets}
        self.initial_buffers = mapped(torch.clone, self.buffers)
        alone = len(games) <= ALONE or any(_convolves(net) for net in self.game.nets.values())
        self.one_by_one = device.type == "cpu" and alone
        self.gradients: dict[str, Callable[..., tuple[Tensor, ...]]] = {
            player: partial(self._gradient, player) for player in self.game.players
        }
        if device.type == "cpu" and rounds >= WORTH:
            memory = Memory()
            for player, function in self.gradients.items():
                self.gradients[player] = Recorded(function, f"the loss of player {player!r}", memory)
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
        if not self._all_alive:
            self.died = torch.where(~self.alive & (self.died < 0), step, self.died)
        return losses

    def check_buffers(self) -> None:
        """Raises PluginError where a forward has written into a buffer in place: how often that happens depends on
        snapshots and recordings, which must change no number. Waits for a GPU."""
        for net, buffers in self.buffers.items():
            for name, tensor in buffers.items():
                before = self.initial_buffers[net][name]
                if not torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(before)):
                    raise changed_buffer(net, name)

    def _in_turn(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        losses = {}
        for name, player in self.game.players.items():
            for _ in range(player.steps):
                batch = next(batches)
                losses[name], grad = self.gradient(name, batch)
                self._update(name, losses[name], grad, batch["progress"])
        return losses

    def _together(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for move, batch in enumerate(batches):
            movers = [name for name, player in self.game.players.items() if move < player.steps]
            found = {name: self.gradient(name, batch) for name in movers}
            for name, (loss, grad) in found.items():
                losses[name] = loss
                self._update(name, loss, grad, batch["progress"])
        return losses

    def gradient(self, player: str, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A player's losses [S] on minibatches [S, B, ...], and their gradients [S, P]."""
        losses, grad = self.gradients[player](self.flats, self.states, self.memory, self.buffers, batch)
        return losses, grad

    def _gradient(
        self, player: str, flats: Flats, states: Any, memory: Any, buffers: Any, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        # The first time always through vmap, so that a loss it cannot vectorise is refused whatever the seeds.
        if self.one_by_one and player in self.rules.habits:
            own = (flats, states, memory, buffers)
            found = [self._gradient_of(player, i, own, batch) for i in range(len(self.alive))]
            losses, grads = zip(*found, strict=True)
            return torch.stack(losses), torch.stack(grads)
        flats = {**flats, player: flats[player].detach().requires_grad_()}
        axes = {name: None if name in CLOCK else 0 for name in batch}
        losses = torch.vmap(partial(self._loss, player), in_dims=(0, 0, 0, 0, axes))(
            flats, states, memory, buffers, batch
        )
        return losses.detach(), _slope(losses.sum(), flats[player], player)

    def _gradient_of(
        self, player: str, index: int, stacked: tuple[Any, ...], batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The loss of one replica, a scalar, and its gradient [P]."""
        flats, states, memory, buffers = mapped(lambda tensor: tensor[index], stacked)
        own = {name: tensor if name in CLOCK else tensor[index] for name, tensor in batch.items()}
        flats[player] = flats[player].detach().requires_grad_()
        loss = self._loss(player, flats, states, memory, buffers, own)
        return loss.detach(), _slope(loss, flats[player], player)

    def _loss(
        self, player: str, flats: Flats, states: Any, memory: Any, buffers: Any, tensors: dict[str, Tensor]
    ) -> Tensor:
        b = Batch(tensors)
        nets = Replica(self.rules, flats, states, memory, buffers, b)
        value = self.game.players[player].loss(nets, b)
        self.rules.habits.setdefault(player, nets.applied)
        return value

    def probe(self, step: int, steps: int, minibatch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The game's probes [S] after `step` rounds, on a minibatch [S, B, ...]."""
        tensors = {**_clock(step, steps, minibatch["x"]), **minibatch}
        axes = {name: None if name in CLOCK else 0 for name in tensors}

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

    def _update(self, player: str, losses: Tensor, grad: Tensor, progress: Tensor) -> None:
        spec, old, state = self.game.players[player], self.flats[player], self.states[player]
        with torch.no_grad():
            self.alive = self.alive & torch.isfinite(losses + grad.sum(-1))
            before = old.clone() if spec.schedule else old  # an update in place overwrites `old`
            if isinstance(spec.optimiser, InPlace):
                here = (old, state) if self._all_alive else mapped(torch.clone, (old, state))
                new, next_state = spec.optimiser.update(here[0], grad, here[1])
            else:
                new, next_state = spec.optimiser.step(old, grad, state)
            if spec.schedule:
                new = before + spec.schedule(progress) * (new - before)
            if spec.project:
                new = spec.project(new)
            self.flats[player], self.states[player] = self._keep((new, next_state), (old, state))

    @property
    def _all_alive(self) -> bool:
        """Whether no replica has died; False on a GPU, where asking would wait for it."""
        return self.alive.device.type == "cpu" and bool(self.alive.all())

    def _keep(self, new: Any, old: Any) -> Any:
        """`new` for the replicas that are alive, `old` for the others, in any nesting of tensors [S, ...]."""
        if self._all_alive:
            return new
        return mapped(lambda n, o: torch.where(self.alive.view(-1, *[1] * (n.ndim - 1)), n, o), new, old)

    def _each(self, of: Callable[[Nets], Any]) -> Any:
        """A function of the nets of one replica, for every replica: a tensor [S, ...] or a dict of them."""
        with torch.no_grad():
            found = torch.vmap(
                lambda flats, memory, buffers: of(Replica(self.rules, flats, {}, memory, buffers, None))
            )(self.flats, self.memory, self.buffers)
            # Parameters change in place, and what was taken of them must not change with them.
            return mapped(torch.clone, found)

    def replica(self, index: int) -> Replica:
        """One replica as it stands."""
        flats, memory, buffers = mapped(lambda t: t[index], (self.flats, self.memory, self.buffers))
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
        self.check_buffers()
        return {name: tensor.detach().cpu().clone() for name, tensor in found.items()}

    def _statistics(self, replica: Replica, latents: Tensor) -> dict[str, Tensor]:
        norms = {
            f"{net}.{name}" if name else net: module
            for net, root in self.game.nets.items()
            for name, module in root.named_modules(remove_duplicate=False)
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


def _convolves(net: nn.Module) -> bool:
    return any(isinstance(module, CONVOLUTION) for module in net.modules())


def shared_nets(nets: Mapping[str, nn.Module]) -> set[tuple[str, str]]:
    """The pairs of nets that have a parameter in common, each in the order of the game."""
    parameters = {net: {id(p) for p in module.parameters()} for net, module in nets.items()}
    return {(one, two) for one, two in combinations(nets, 2) if parameters[one] & parameters[two]}


def changed_buffer(net: str, buffer: str) -> PluginError:
    """The error for a net whose forward changes a buffer."""
    return PluginError(
        f"the net {net!r} changes its buffer {buffer!r} when it is applied, which would be lost or counted twice: "
        "use ganbench.BatchNorm in place of nn.BatchNorm; for a value of your own that changes from round to round, "
        "use the game's memory (Game.memory)"
    )


def _slope(loss: Tensor, flat: Tensor, player: str) -> Tensor:
    """The gradient of a loss. Raises PluginError where it depends on no parameter."""
    if not loss.requires_grad:
        raise PluginError(f"the loss of player {player!r} does not depend on the parameters of its nets")
    return torch.autograd.grad(loss, flat)[0]


def _clock(step: int, steps: int, like: Tensor) -> dict[str, Tensor]:
    """How far the game has come, as losses see it."""
    # Filled there: a number that is sent to a GPU is waited for.
    return {"step": like.new_full((), step), "progress": like.new_full((), step / steps)}


def _stacked_buffers(nets: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Buffers [S, ...] of a net by name, one row for each replica's own net."""
    rows = [dict(net.named_buffers(remove_duplicate=False)) for net in nets]
    return {name: torch.stack([row[name].to(like) for row in rows]) for name, like in rows[0].items()}


def _named(memory: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, value in memory.items():
        for key, tensor in value.items() if isinstance(value, dict) else (("", value),):
            yield (f"{name}.{key}" if key else name), tensor
