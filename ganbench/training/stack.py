"""The seeds of a cell as one stack of replicas that play a game.

Authors write losses for one replica. Here every player's parameters are one contiguous tensor [S, P], and a loss is
vectorised over S by `torch.vmap`. Replicas do not interact, so the gradient of the sum over S is the stack of the
gradients. Where vectorising costs more than it saves, replicas take their gradients in a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..contracts import Batch, Game, Nets
from ..errors import PluginError
from ..nets import BatchNorm
from ..optim import InPlace

# On a CPU, a loop over up to this many seeds is faster than vectorised losses. For convolutions a loop over any number
# of seeds is: vmap turns them into grouped convolutions, which oneDNN computes slowly.
MAX_LOOPED_SEEDS = 2
CONVOLUTION = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

CLOCK = ("step", "progress")  # entries of a minibatch that all replicas share

# Player -> parameters [S, P], or [P] for one replica; "" holds the nets of no player.
Params = dict[str, Tensor]


@dataclass(frozen=True)
class ParameterLayout:
    """The positions of the parameters of a player's nets in its vector [P]. A shared parameter occurs once."""

    # For each parameter: the (net, name) of all its uses, and its shape.
    entries: tuple[tuple[tuple[tuple[str, str], ...], torch.Size], ...]

    @classmethod
    def of(cls, nets: Mapping[str, nn.Module], names: Sequence[str]) -> ParameterLayout:
        """The layout of the nets of these names, one after the other."""
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

    def unpack(self, vector: Tensor) -> dict[str, dict[str, Tensor]]:
        """[..., P] -> net -> parameter -> [..., *shape]; the same tensor wherever layers share it."""
        parameters: dict[str, dict[str, Tensor]] = {}
        pieces = vector.split([shape.numel() for _, shape in self.entries], dim=-1)
        for (uses, shape), piece in zip(self.entries, pieces, strict=True):
            tensor = piece.unflatten(-1, shape) if shape else piece.squeeze(-1)
            for net, name in uses:
                parameters.setdefault(net, {})[name] = tensor
        return parameters


@dataclass(frozen=True)
class GameLayout:
    """The structure that all replicas of a game share."""

    game: Game
    players: Mapping[str, ParameterLayout]  # "" is the owner of the nets of no player
    owner: Mapping[str, str]  # net -> player
    # Player -> the pairs (net, draw) where its loss applies a net to a draw, recorded at its first call.
    # `Replica.step` caches the outputs of these.
    cached_inputs: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, game: Game) -> GameLayout:
        """The layout of a game. Raises PluginError for a player with an unknown net, a net with two owners, or a layer
        that nets of two players share."""
        owned = [net for player in game.players.values() for net in player.owns]
        missing = sorted(set(owned) - set(game.nets))
        if missing:
            raise PluginError(f"players own nets that the game does not have: {', '.join(missing)}")
        if len(owned) != len(set(owned)):
            raise PluginError("two players own the same net; each net belongs to one player at most")
        rest = tuple(net for net in game.nets if net not in owned)
        owns = {"": rest, **{name: player.owns for name, player in game.players.items()}}
        owner = {net: player for player, nets in owns.items() for net in nets}
        # Each player has its own vector, so a layer that two players share would be copied into both.
        for first, second in sorted(shared_nets(game.nets)):
            if owner[first] != owner[second]:
                raise PluginError(
                    f"the nets {first!r} and {second!r} share a layer but do not belong to the same player, so it is "
                    f"not clear whose update trains it; give both to one player, as in "
                    f"Player(({first!r}, {second!r}), ...), or make the shared layers a net of their own that one "
                    "player owns, and apply it in the losses before the others"
                )
        players = {player: ParameterLayout.of(game.nets, nets) for player, nets in owns.items()}
        return cls(game, players, owner)


class Replica:
    """The nets of one replica with its live parameters (see contracts.Nets). Each call of a loss gets a new Replica."""

    def __init__(
        self,
        layout: GameLayout,
        params: Params,
        states: Mapping[str, tuple[Tensor, ...]],
        memory: Mapping[str, Any],
        buffers: Mapping[str, dict[str, Tensor]],
        batch: Batch | None,
        outputs: Mapping[tuple[str, int], Tensor] | None = None,
    ) -> None:
        self._layout, self._params, self._states, self._memory = layout, params, states, memory
        self._buffers, self._batch = buffers, batch
        self._outputs = dict(outputs or {})  # cache: (net, id of a tensor of the minibatch) -> output
        self._parameters: dict[str, dict[str, Tensor]] = {}
        self._calls: dict[str, int] = {}
        self.applied: set[tuple[str, str]] = set()  # (net, draw)

    def __getattr__(self, name: str) -> Callable[..., Tensor]:
        nets = self.__dict__["_layout"].game.nets if "_layout" in self.__dict__ else {}
        if name not in nets:
            raise AttributeError(f"this game has no net {name!r}; it has: {', '.join(nets)}")
        return lambda *args, **kwargs: self._apply(name, args, kwargs)

    def _apply(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        if self._batch is not None and args:
            if (name, id(args[0])) in self._outputs and not kwargs:
                return self._outputs[name, id(args[0])]
            self.applied |= {
                (name, draw) for draw, tensor in self._batch.tensors.items() if tensor is args[0]
            }
            for view in self._layout.game.views.get(name, ()):
                args = (view(args[0], self._batch, call), *args[1:])
        buffers = self._buffers.get(name, {})
        values = {**buffers, **self.parameters(name)}
        # Shared parameters are in `values` under each of their names, so there is nothing to tie.
        result = torch.func.functional_call(
            self._layout.game.nets[name], values, args, kwargs, tie_weights=False
        )
        # functional_call writes what a forward assigns (`self.x = ...`) into `values`, where it would be lost.
        assigned = [buffer for buffer, tensor in buffers.items() if values[buffer] is not tensor]
        if assigned:
            raise changed_buffer_error(name, assigned[0])
        return result

    def parameters(self, net: str) -> dict[str, Tensor]:
        """The live parameters of a net by their names."""
        if net not in self._parameters:
            player = self._layout.owner[net]
            self._parameters.update(self._layout.players[player].unpack(self._params[player]))
        return self._parameters.get(net, {})

    def _with(
        self, player: str, vector: Tensor, states: Mapping[str, tuple[Tensor, ...]], batch: Batch | None
    ) -> Replica:
        # Drop the cached outputs of this player's nets: they belong to its old parameters.
        outputs = {key: value for key, value in self._outputs.items() if self._layout.owner[key[0]] != player}
        params = {**self._params, player: vector}
        return Replica(self._layout, params, states, self._memory, self._buffers, batch, outputs)

    def flat(self, player: str) -> Tensor:
        return self._params[player]

    def with_flat(self, player: str, vector: Tensor) -> Replica:
        return self._with(player, vector, self._states, self._batch)

    def step(self, player: str, b: Batch) -> Replica:
        spec, old = self._layout.game.players[player], self._params[player]
        # Cache the outputs of nets that the loss applies to draws but that this player does not own, such as G(z) in
        # D's loss. They stay constant while it moves, so unrolling k steps computes (and differentiates) them once
        # instead of k times.
        for net, draw in self._layout.cached_inputs.get(player, ()):
            key = (net, id(b.tensors[draw]))
            constant = self._layout.owner[net] != player and not self._layout.game.views.get(net)
            if constant and key not in self._outputs:
                self._outputs[key] = self._apply(net, (b.tensors[draw],), {})
        grad = torch.func.grad(lambda vector: spec.loss(self._with(player, vector, self._states, b), b))(old)
        new, state = spec.optimiser.step(old, grad, self._states[player])
        if spec.schedule:
            new = old + spec.schedule(b.progress) * (new - old)
        if spec.project:
            new = spec.project(new)
        return self._with(player, new, {**self._states, player: state}, b)

    def recall(self, name: str) -> Any:
        return self._memory[name]


class Stack:
    """The replicas of a game, one for each seed, which play it together.

    A round changes `params`, `states`, `memory`, `alive` and `died`, and nothing else.
    """

    def __init__(self, games: Sequence[Game], device: torch.device, dtype: torch.dtype) -> None:
        self.game = games[0]
        self.layout = GameLayout.of(self.game)
        # All replicas use the modules of the first game: parameters and buffers are passed to them at each call.
        for net in self.game.nets.values():
            net.to(device=device, dtype=dtype).train()
        self.params: Params = {
            player: torch.stack([layout.pack(game.nets).to(device, dtype) for game in games])
            for player, layout in self.layout.players.items()
        }
        self.states = {name: p.optimiser.init(self.params[name]) for name, p in self.game.players.items()}
        # Of each net by name, stacked over the replicas: [S, ...]
        self.buffers: dict[str, dict[str, Tensor]] = {}
        for net in self.game.nets:
            rows = [dict(game.nets[net].named_buffers(remove_duplicate=False)) for game in games]
            self.buffers[net] = {
                name: torch.stack([row[name].to(like) for row in rows]) for name, like in rows[0].items()
            }
        self.initial_buffers = pytree.tree_map(torch.clone, self.buffers)
        convolves = any(isinstance(m, CONVOLUTION) for net in self.game.nets.values() for m in net.modules())
        self.looped = device.type == "cpu" and (len(games) <= MAX_LOOPED_SEEDS or convolves)
        # Whether a round must neither modify a tensor in place nor read a number from one, so that it can be traced.
        self.functional = False
        self.gradients: dict[str, Callable[..., tuple[Tensor, ...]]] = {
            player: partial(self._gradient, player) for player in self.game.players
        }
        self.alive = torch.ones(len(games), dtype=torch.bool, device=device)
        self.died = torch.full((len(games),), -1, device=device)  # round in which a replica diverged
        self.memory: dict[str, Any] = {}  # read by `_each`
        self.memory = {
            name: self._each(lambda nets, m=memory: m.init(nets)) for name, memory in self.game.memory.items()
        }

    # ------------------------------------------------------------------------------------------ playing

    def play(self, step: int, steps: int, minibatches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """One round of `steps`, on the minibatches [S, B, ...] of its updates; the losses [S] of each player."""
        return self.round(_clock(step, steps, minibatches[0]["x"]), minibatches)

    def round(self, clock: dict[str, Tensor], minibatches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The same, with "step" and "progress" given as scalar tensors in `clock`."""
        batches = iter([{**clock, **minibatch} for minibatch in minibatches])
        play = self._simultaneous if self.game.order == "simultaneous" else self._alternating
        losses = play(batches)
        for name, memory in self.game.memory.items():
            new = self._each(lambda nets, m=memory, n=name: m.update(nets.recall(n), nets))
            self.memory[name] = self._where_alive(new, self.memory[name])
        if not self._all_alive:
            now = clock["step"].to(self.died.dtype)
            self.died = torch.where(~self.alive & (self.died < 0), now, self.died)
        return losses

    def _alternating(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        losses = {}
        for name, player in self.game.players.items():
            for _ in range(player.steps):
                batch = next(batches)
                losses[name], grad = self.gradient(name, batch)
                self._update(name, losses[name], grad, batch["progress"])
        return losses

    def _simultaneous(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for move, batch in enumerate(batches):
            movers = [name for name, player in self.game.players.items() if move < player.steps]
            # All gradients are taken at the same point, before any player moves.
            gradients = {name: self.gradient(name, batch) for name in movers}
            for name, (loss, grad) in gradients.items():
                losses[name] = loss
                self._update(name, loss, grad, batch["progress"])
        return losses

    def gradient(self, player: str, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A player's losses [S] on minibatches [S, B, ...], and their gradients [S, P]."""
        losses, grad = self.gradients[player](self.params, self.states, self.memory, self.buffers, batch)
        return losses, grad

    def _gradient(
        self, player: str, params: Params, states: Any, memory: Any, buffers: Any, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        # The first call is always vectorised, so that a loss that vmap rejects fails with any number of seeds.
        if self.looped and player in self.layout.cached_inputs:
            own = (params, states, memory, buffers)
            results = [self._gradient_of(player, i, own, batch) for i in range(len(self.alive))]
            losses, grads = zip(*results, strict=True)
            return torch.stack(losses), torch.stack(grads)
        params = {**params, player: params[player].detach().requires_grad_()}
        axes = {name: None if name in CLOCK else 0 for name in batch}
        losses = torch.vmap(partial(self._loss, player), in_dims=(0, 0, 0, 0, axes))(
            params, states, memory, buffers, batch
        )
        return losses.detach(), _loss_gradient(losses.sum(), params[player], player)

    def _gradient_of(
        self, player: str, index: int, stacked: tuple[Any, ...], batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The loss of one replica, a scalar, and its gradient [P]."""
        params, states, memory, buffers = pytree.tree_map(lambda tensor: tensor[index], stacked)
        own = {name: tensor if name in CLOCK else tensor[index] for name, tensor in batch.items()}
        params[player] = params[player].detach().requires_grad_()
        loss = self._loss(player, params, states, memory, buffers, own)
        return loss.detach(), _loss_gradient(loss, params[player], player)

    def _loss(
        self, player: str, params: Params, states: Any, memory: Any, buffers: Any, tensors: dict[str, Tensor]
    ) -> Tensor:
        b = Batch(tensors)
        nets = Replica(self.layout, params, states, memory, buffers, b)
        value = self.game.players[player].loss(nets, b)
        self.layout.cached_inputs.setdefault(player, nets.applied)
        return value

    def _update(self, player: str, losses: Tensor, grad: Tensor, progress: Tensor) -> None:
        spec, old, state = self.game.players[player], self.params[player], self.states[player]
        with torch.no_grad():
            self.alive = self.alive & torch.isfinite(losses + grad.sum(-1))
            in_place = isinstance(spec.optimiser, InPlace) and not self.functional
            before = old.clone() if spec.schedule and in_place else old
            if isinstance(spec.optimiser, InPlace) and in_place:
                # An update is limited by memory bandwidth. So diverged replicas get a gradient that moves nothing;
                # restoring them afterwards would need a copy of all parameters and moments.
                if not self._all_alive:
                    grad = spec.optimiser.freeze(grad, state, ~self.alive.unsqueeze(-1))
                new, state = spec.optimiser.update(old, grad, state)
            else:
                new, next_state = spec.optimiser.step(old, grad, state)
                state = self._where_alive(next_state, state)
            if spec.schedule:
                new = before + spec.schedule(progress) * (new - before)
            if spec.project:
                new = spec.project(new)
            if not in_place or spec.project:
                new = self._where_alive(new, before)
            self.params[player], self.states[player] = new, state

    @property
    def _all_alive(self) -> bool:
        """Whether no replica has diverged. Always False on a GPU, where reading it synchronises, and in a trace."""
        return self.alive.device.type == "cpu" and not self.functional and bool(self.alive.all())

    def _where_alive(self, new: Any, old: Any) -> Any:
        """`new` for the replicas that are alive, `old` for the others, in any nesting of tensors [S, ...]."""
        if self._all_alive:
            return new
        return pytree.tree_map(
            lambda n, o: torch.where(self.alive.view(-1, *[1] * (n.ndim - 1)), n, o), new, old
        )

    def _each(self, function: Callable[[Nets], Any]) -> Any:
        """The values of a function of the nets of one replica for all replicas: a tensor [S, ...] or a dict of them."""
        with torch.no_grad():
            values = torch.vmap(
                lambda params, memory, buffers: function(
                    Replica(self.layout, params, {}, memory, buffers, None)
                )
            )(self.params, self.memory, self.buffers)
            # Copies: parameters are updated in place, and a value may be a view of them.
            return pytree.tree_map(torch.clone, values)

    # ------------------------------------------------------------------------------------------ inspection

    def check_buffers(self) -> None:
        """Raises PluginError if a forward has modified a buffer in place: how often that happens would depend on
        snapshots and recordings, which must not change results. Synchronises with a GPU."""
        for net, buffers in self.buffers.items():
            for name, tensor in buffers.items():
                before = self.initial_buffers[net][name]
                if not torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(before)):
                    raise changed_buffer_error(net, name)

    def probe(self, step: int, steps: int, minibatch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The game's probes [S] after `step` rounds, on a minibatch [S, B, ...]."""
        tensors = {**_clock(step, steps, minibatch["x"]), **minibatch}
        axes = {name: None if name in CLOCK else 0 for name in tensors}

        def values(params: Params, states: Any, memory: Any, buffers: Any, b: dict[str, Tensor]) -> Any:
            batch = Batch(b)
            # A new Replica for each probe, since views depend on the number of calls of a net.
            return {
                name: probe(Replica(self.layout, params, states, memory, buffers, batch), batch)
                for name, probe in self.game.probes.items()
            }

        if not self.game.probes:
            return {}
        with torch.no_grad():
            return torch.vmap(values, in_dims=(0, 0, 0, 0, axes))(
                self.params, self.states, self.memory, self.buffers, tensors
            )

    def replica(self, index: int) -> Replica:
        """One replica in its present state."""
        params, memory, buffers = pytree.tree_map(
            lambda tensor: tensor[index], (self.params, self.memory, self.buffers)
        )
        return Replica(self.layout, params, {}, memory, buffers, None)

    def state(self, index: int, latents: Tensor) -> dict[str, Tensor]:
        """The tensors of one replica to store: parameters, memory, and the statistics of BatchNorm, computed from
        `latents` [n, ...]. Raises PluginError if a forward has changed a buffer."""
        replica = self.replica(index)
        tensors: dict[str, Tensor] = {}
        for name, value in replica._memory.items():
            parts = value if isinstance(value, dict) else {"": value}
            tensors |= {
                f"memory.{name}.{key}" if key else f"memory.{name}": part for key, part in parts.items()
            }
        for net in self.game.nets:
            values = {**replica._buffers[net], **replica.parameters(net)}
            tensors |= {f"{net}.{name}": value for name, value in values.items()}
        tensors |= self._batch_statistics(replica, latents)
        self.check_buffers()
        return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}

    def _batch_statistics(self, replica: Replica, latents: Tensor) -> dict[str, Tensor]:
        """The mean and variance of each BatchNorm's inputs while sampling from these latents."""
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
        # Layers that sampling does not apply, such as those of D, have no statistics.
        statistics = {name: module.seen for name, module in norms.items() if module.seen}
        return {
            f"{name}.{key}": value
            for name, pair in statistics.items()
            for key, value in zip(("mean", "var"), pair, strict=True)
        }


def shared_nets(nets: Mapping[str, nn.Module]) -> set[tuple[str, str]]:
    """The pairs of nets that share a parameter, each pair in the order of the game."""
    parameters = {net: {id(p) for p in module.parameters()} for net, module in nets.items()}
    return {(one, two) for one, two in combinations(nets, 2) if parameters[one] & parameters[two]}


def changed_buffer_error(net: str, buffer: str) -> PluginError:
    """The error for a net whose forward changes a buffer."""
    return PluginError(
        f"the forward of net {net!r} changes its buffer {buffer!r}; the change would be lost or applied twice: "
        "use ganbench.BatchNorm in place of nn.BatchNorm; for a value of your own that changes from round to round, "
        "use the game's memory (Game.memory)"
    )


def _loss_gradient(loss: Tensor, params: Tensor, player: str) -> Tensor:
    """The gradient of a loss. Raises PluginError if it does not depend on the parameters."""
    if not loss.requires_grad:
        raise PluginError(f"the loss of player {player!r} does not depend on the parameters of its nets")
    return torch.autograd.grad(loss, params)[0]


def _clock(step: int, steps: int, like: Tensor) -> dict[str, Tensor]:
    """The entries "step" and "progress" of a minibatch."""
    # Filled on the device: copying a number from the host would synchronise.
    return {"step": like.new_full((), step), "progress": like.new_full((), step / steps)}
