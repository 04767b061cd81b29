"""Sampling from an average of the generator over training."""

from dataclasses import dataclass, replace

from ganbench import Memory, trick, tunable


@trick
@dataclass(frozen=True)
class EMA:
    """Yazıcı et al. 2019: samples come from an exponential moving average of the generator's parameters.

    θ̄ ← decay · θ̄ + (1 − decay) · θ after every round, from the initial parameters. Training is as before; only
    samples (and so scores, snapshots and the statistics that are fixed for sampling) use θ̄. After n rounds
    the initial parameters still weigh decayⁿ.

    Searched: averages over about 100, 200, 500 and 1,000 rounds.
    """

    decay: float = tunable(0.999, among=(0.99, 0.995, 0.998, 0.999))  # weight of the past in each round
    player: str = "G"  # whose parameters are averaged

    def __call__(self, game, data):
        game.player(self.player)

        def update(mean, nets):
            return self.decay * mean + (1 - self.decay) * nets.flat(self.player)

        def averaged(sample):
            return lambda nets, z: sample(nets.with_flat(self.player, nets.recall("ema")), z)

        game = game.with_memory("ema", Memory(lambda nets: nets.flat(self.player), update))
        return replace(game, sample=averaged(game.sample), stages=game.stages and averaged(game.stages))
