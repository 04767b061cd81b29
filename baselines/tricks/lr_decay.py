"""Learning rates that fall during training."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ganbench import trick, tunable


@trick("lr_decay")
@dataclass(frozen=True)
class LRDecay:
    """Every update is multiplied by a factor that falls from 1 to `end` over the rounds. The learning rates
    of Goodfellow et al. 2014 (their code) and of Huang et al. 2024 fall; those of most GANs between are constant.

    With p the fraction of the rounds played: linear 1 - (1 - end) p, cosine (Loshchilov & Hutter 2017, eq. 5)
    end + (1 - end) (1 + cos πp) / 2. For Adam, RMSprop and SGD this is a falling learning rate. The updates that
    unrolling foresees fall with it. At a constant rate players may circle around the equilibrium of a game for ever.

    Searched: both shapes, and an end at 0, 1 % and 10 %.
    """

    shape: Literal["linear", "cosine"] = tunable("linear", among=("linear", "cosine"))  # of the fall
    end: float = tunable(0.0, among=(0.0, 0.01, 0.1))  # factor at the end, at least 0
    player: str | None = None  # whose updates shrink; null: those of all players

    def __post_init__(self):
        if self.end < 0:
            raise ValueError(f"end is {self.end}, expected a factor of at least 0")

    def __call__(self, game, data):
        if self.player is not None:
            game.player(self.player)
        names = list(game.players) if self.player is None else [self.player]
        slower = {
            name: replace(game.players[name], schedule=self._then(game.players[name].schedule))
            for name in names
        }
        return replace(game, players={**game.players, **slower})

    def _then(self, schedule):
        """The schedule of the method itself times this one."""

        def factor(progress):
            done = progress if self.shape == "linear" else (1 - torch.cos(math.pi * progress)) / 2
            own = 1 - (1 - self.end) * done
            return own if schedule is None else schedule(progress) * own

        return factor
