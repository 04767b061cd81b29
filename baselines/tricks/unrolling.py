"""Unrolled optimisation of the opponent."""

from dataclasses import dataclass

from ganbench import trick, tunable


@trick
@dataclass(frozen=True)
class Unrolling:
    """Metz et al. 2017, eq. 7-10: the generator descends its loss against the discriminator of k updates ahead.

    The opponent's own optimiser takes k steps from its live state on the generator's minibatch, and the
    generator's gradient passes through all of them; the opponent itself then moves one ordinary step.

    Searched: the paper's 1, 5 and 10 steps.
    """

    k: int = tunable(5, among=(1, 5, 10))  # steps looked ahead
    player: str = "G"  # who looks ahead
    opponent: str = "D"  # whose steps are foreseen

    def __call__(self, game, data):
        game.player(self.opponent)

        def loss(inner, nets, b):
            for _ in range(self.k):
                nets = nets.step(self.opponent, b)
            return inner(nets, b)

        return game.with_loss(self.player, loss)
