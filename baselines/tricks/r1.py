"""A penalty on the slope of the discriminator where the data lie."""

from dataclasses import dataclass

import torch

from ganbench import trick, tunable


@trick
@dataclass(frozen=True)
class R1:
    """Mescheder et al. 2018, eq. 9: the discriminator's loss grows by γ/2 · E‖∇D(x)‖² over real examples x.

    ∇D is the gradient of the logit in the example. Where D normalises over its minibatch, an example's
    gradient also holds what it does to the logits of the others.

    Searched: γ from 0.05 to 50; the paper takes 10, on small data 0.1 was seen to be better.
    """

    gamma: float = tunable(10.0, log=(0.05, 50))  # weight of the penalty
    net: str = "D"  # net and player that tell real from generated

    def __call__(self, game, data):
        game.net(self.net)

        def loss(inner, nets, b):
            value = inner(nets, b)
            fresh = nets.with_flat(
                self.net, nets.flat(self.net)
            )  # whose first call sees b.x as that of `inner`
            slope = torch.func.grad(lambda x: getattr(fresh, self.net)(x).sum())(b.x)
            return value + self.gamma / 2 * slope.square().flatten(1).sum(1).mean()

        return game.with_loss(self.net, loss)
