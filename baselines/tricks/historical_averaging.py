"""A pull towards the parameters of the past."""

from dataclasses import dataclass

from ganbench import Memory, trick, tunable


@trick
@dataclass(frozen=True)
class HistoricalAveraging:
    """Salimans et al. 2016, section 3.3: every player's loss grows by weight · ‖θ − (1/t) Σ θ[i]‖².

    The mean is over the parameters after every round so far, the initial ones among them, and is a constant
    when the gradient is taken: θ̄ ← θ̄ + (θ − θ̄)/t. It was proposed for low-dimensional games, in which plain
    gradient descent orbits.

    Searched: over four decades down from 1, as the paper gives no value.
    """

    weight: float = tunable(1.0, log=(1e-4, 1.0))  # of the penalty

    def __call__(self, game, data):
        def start(nets):
            means = {player: nets.flat(player) for player in game.players}
            return {**means, "rounds": next(iter(means.values())).new_ones(())}

        def update(memory, nets):
            t = memory["rounds"] + 1
            means = {p: memory[p] + (nets.flat(p) - memory[p]) / t for p in game.players}
            return {**means, "rounds": t}

        def penalised(player):
            def loss(inner, nets, b):
                away = nets.flat(player) - nets.recall("historical_averaging")[player]
                return inner(nets, b) + self.weight * away.square().sum()

            return loss

        game = game.with_memory("historical_averaging", Memory(start, update))
        for player in game.players:
            game = game.with_loss(player, penalised(player))
        return game
