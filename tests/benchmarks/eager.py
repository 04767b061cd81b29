"""The loops that a user would write in plain PyTorch for the games whose speed is measured, and those games.

One seed after the other: modules, `torch.optim.Adam`, `loss.backward()`, as in PyTorch's own examples. The losses are
those of the baselines, which see modules here instead of a replica.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from ganbench import Batch, registry
from ganbench.contracts import Data, Game
from ganbench.datasets.toy import ring
from ganbench.training.graph import CompiledRound
from ganbench.training.rng import Draws, fill
from ganbench.training.stack import Stack
from ganbench.training.trace import record_losses

CPU = torch.device("cpu")


@cache
def points(n: int = 10_000) -> Data:
    """A ring of eight Gaussians."""
    return ring(torch.Generator().manual_seed(0), n_train=n, n_valid=100, n_test=100)


@cache
def pictures(side: int, channels: int, n: int = 4096) -> Data:
    """Images of noise."""
    source = torch.Generator().manual_seed(0)
    splits = [
        torch.randint(0, 256, (m, channels, side, side), dtype=torch.uint8, generator=source)
        for m in (n, 9, 9)
    ]
    return Data("noise", *splits, (channels, side, side), (0.0, 1.0))


@dataclass(frozen=True)
class Case:
    """A game whose speed is measured."""

    method: str
    params: dict[str, object]
    data: Callable[[], Data]
    batch: int
    unrolled: int = 0  # steps that G looks ahead
    stacks: tuple[int, ...] = (1, 4, 16, 64, 256)

    def game(self, seed: int) -> Game:
        """The game of a seed."""
        torch.manual_seed(seed)
        game = registry.load(registry.find("method", self.method))(**self.params).game(self.data())
        if not self.unrolled:
            return game
        return registry.load(registry.find("trick", "unrolling"))(k=self.unrolled)(game, self.data())


# Nowozin et al. 2016, section 4: the nets for MNIST.
PAPER = {"z_dim": 100, "z": "uniform", "g_width": 1200, "g_norm": True, "v_width": 240, "lr": 2e-4}
CASES = {
    "ring MLP, batch 128": Case("gan", {}, points, 128),
    "ring MLP, batch 512": Case("gan", {}, points, 512, stacks=(1, 4, 16, 64)),
    "f-GAN MLP at 28 px, batch 256": Case("fgan", PAPER, lambda: pictures(28, 1), 256, stacks=(1, 4, 16)),
    "f-GAN MLP at 28 px, batch 4096": Case("fgan", PAPER, lambda: pictures(28, 1), 4096, stacks=(1, 4)),
    "DCGAN at 32 px, width 32, batch 64": Case("dcgan", {"width": 32}, lambda: pictures(32, 3), 64, stacks=(1, 4, 16)),
    "ring MLP unrolled 5 steps": Case("gan", {}, points, 128, unrolled=5, stacks=(1, 4, 16, 64)),
    "ring MLP unrolled 10 steps": Case("gan", {}, points, 128, unrolled=10, stacks=(1, 4, 16)),
}  # fmt: skip


class Stacked:
    """The engine, playing a stack of seeds: with recorded losses, as in a training of `rounds`, or `compiled`."""

    def __init__(
        self,
        case: Case,
        seeds: int,
        dtype: torch.dtype = torch.float32,
        rounds: int = 10**6,
        *,
        compiled: bool = False,
    ) -> None:
        games = [case.game(seed) for seed in range(seeds)]
        self.stack = Stack(games, CPU, dtype)
        self.draws = Draws(self.stack.game, case.data(), range(seeds), case.batch, CPU, dtype)
        self.rounds, self.step = self.draws.rounds(10**9), 0
        self.compiled = CompiledRound(self.stack, self.draws.example()) if compiled else None
        if not compiled:
            record_losses(self.stack, rounds)

    def round(self) -> dict[str, Tensor]:
        """Play a round; the losses [S]."""
        losses = (self.compiled or self.stack).play(self.step, 10**6, next(self.rounds))
        self.step += 1
        return losses


class Eager:
    """A plain loop over one seed. `minibatch` may be replaced, to see the same examples as a stack."""

    def __init__(self, case: Case, dtype: torch.dtype = torch.float32) -> None:
        self.data, self.batch, self.dtype = case.data(), case.batch, dtype
        self.game = game = case.game(0)
        self.unrolled = case.unrolled
        for net in game.nets.values():
            net.to(dtype).train()
        self.optimisers = {name: self._adam(name) for name in game.players}
        plain = Case(case.method, case.params, case.data, case.batch)
        self.losses = {name: player.loss for name, player in plain.game(0).players.items()}
        self.nets = SimpleNamespace(**game.nets)
        # D learns from G's examples, not through them.
        self.detached = SimpleNamespace(**{**game.nets, "G": lambda z: game.nets["G"](z).detach()})

    def _adam(self, name: str) -> torch.optim.Adam:
        adam = self.game.players[name].optimiser
        parameters = [p for net in self.game.players[name].owns for p in self.game.nets[net].parameters()]
        return torch.optim.Adam(parameters, lr=adam.lr, betas=adam.betas, eps=adam.eps)

    def minibatch(self) -> dict[str, Tensor]:
        """Real examples and latents."""
        index = torch.randint(len(self.data.train), (self.batch,))
        drawn = {"x": self.data.floats(self.data.train[index], self.dtype)}
        for name in self.game.draws:
            draw = self.game.draw(name)
            drawn[name] = fill(
                torch.empty(self.batch, *draw.shape, dtype=self.dtype), draw, torch.default_generator
            )
        return drawn

    def round(self) -> None:
        """Every player's steps."""
        if self.game.order == "simultaneous":
            self._together(Batch(self.minibatch()))
            return
        for name, player in self.game.players.items():
            for _ in range(player.steps):
                b = Batch(self.minibatch())
                self.optimisers[name].zero_grad()
                if self.unrolled and name == "G":
                    loss = self.losses["G"](self._ahead(b), b)
                else:
                    loss = self.losses[name](self.detached if name == "D" else self.nets, b)
                loss.backward()
                self.optimisers[name].step()

    def _together(self, b: Batch) -> None:
        """Both gradients at the same point, then both moves."""
        grads = {}
        for name, adam in self.optimisers.items():
            own = adam.param_groups[0]["params"]
            grads[name] = torch.autograd.grad(
                self.losses[name](self.detached if name == "D" else self.nets, b), own
            )
        for name, adam in self.optimisers.items():
            for parameter, grad in zip(adam.param_groups[0]["params"], grads[name], strict=True):
                parameter.grad = grad
            adam.step()

    def _ahead(self, b: Batch) -> SimpleNamespace:
        """The nets after D's next steps (Metz et al. 2017, eq. 7-9), by Adam's formula on D's own state."""
        d, group = self.game.nets["D"], self.optimisers["D"].param_groups[0]
        state = self.optimisers["D"].state
        names, values = zip(*d.named_parameters(), strict=True)
        means, squares = ([state[p][key] for p in values] for key in ("exp_avg", "exp_avg_sq"))
        time = float(state[values[0]]["step"])
        fake = self.game.nets["G"](b.z)
        for _ in range(self.unrolled):
            nets = _with(d, names, values, fake)
            grads = torch.autograd.grad(self.losses["D"](nets, b), values, create_graph=True)
            time += 1
            means, squares, values = _adam(group, time, means, squares, values, grads)
        return _with(d, names, values, fake)


def _with(d: nn.Module, names: tuple[str, ...], values: tuple[Tensor, ...], fake: Tensor) -> SimpleNamespace:
    parameters = dict(zip(names, values, strict=True))
    return SimpleNamespace(G=lambda z: fake, D=lambda x: torch.func.functional_call(d, parameters, x))


def _adam(group, time, means, squares, values, grads):
    (b1, b2), lr, eps = group["betas"], group["lr"], group["eps"]
    means = [b1 * m + (1 - b1) * g for m, g in zip(means, grads, strict=True)]
    squares = [b2 * s + (1 - b2) * g * g for s, g in zip(squares, grads, strict=True)]
    moves = [
        (m / (1 - b1**time)) / (((s + 1e-32) / (1 - b2**time)).sqrt() + eps)
        for m, s in zip(means, squares, strict=True)
    ]
    return means, squares, tuple(value - lr * move for value, move in zip(values, moves, strict=True))
