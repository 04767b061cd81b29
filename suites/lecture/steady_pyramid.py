"""R1 at every level of a pyramid, and samples from averages of all of its generators."""

from dataclasses import dataclass, replace

import torch
from torch.nn.functional import avg_pool2d

from ganbench import Memory, Rescale, trick


@trick
@dataclass(frozen=True)
class SteadyPyramid:
    """Mescheder et al. 2018, eq. 9, and Yazıcı et al. 2019: the tricks r1 and ema for all levels of `lapgan`.

    The loss of each discriminator (D7, D14, ...) grows by γ/2 · E‖∇D(x)‖² over real images of its side, in [-1, 1] as
    it sees them; dropout does not take part. Samples come from θ̄ ← decay · θ̄ + (1 − decay) · θ of all generators.
    In a game of one D and one G, it is r1 and ema.
    """

    gamma: float = 1.0  # weight of the penalty
    decay: float = 0.998  # weight of the past in each round

    def __call__(self, game, data):
        generators = [name for name in game.nets if name.startswith("G")]
        for name in (name for name in game.nets if name.startswith("D")):
            game = game.with_loss(name, self._penalised(name, data))
        for name in generators:
            game = game.with_memory(f"mean of {name}", self._mean(name))

        def averaged(function):
            def of_means(nets, z):
                for name in generators:
                    nets = nets.with_flat(name, nets.recall(f"mean of {name}"))
                return function(nets, z)

            return of_means

        return replace(game, sample=averaged(game.sample), stages=game.stages and averaged(game.stages))

    def _penalised(self, name, data):
        side = int(name[1:] or 0)  # of the images that this D sees

        def loss(inner, nets, b):
            x = b.x
            if side:
                x = Rescale(data.scale, (-1.0, 1.0))(x)
                x = avg_pool2d(x, x.shape[-1] // side)
            slope = torch.func.grad(lambda x: getattr(nets, name)(x).sum())(x)
            return inner(nets, b) + self.gamma / 2 * slope.square().flatten(1).sum(1).mean()

        return loss

    def _mean(self, name):
        def update(mean, nets):
            return self.decay * mean + (1 - self.decay) * nets.flat(name)

        return Memory(lambda nets: nets.flat(name), update)
