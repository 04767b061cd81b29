"""A discriminator that learns no more from some round on."""

from dataclasses import dataclass, replace

import torch

from ganbench import trick


@trick
@dataclass(frozen=True)
class FixedDiscriminator:
    """Metz et al. 2017, section 2.2.1: against a fixed D the best generator puts all its mass on the maxima of D.

    D learns in the first `after` of all rounds and then stays as it is, while G goes on. Two probes, on minibatches:
    the root mean square over samples of the directional derivative of G(z) in z along a random unit vector (0 where G
    ignores z), and the root mean square distance of the samples from their mean. Both in the units of the data.
    """

    after: float = 0.5  # part of the rounds in which D learns
    net: str = "D"  # player that stops
    generator: str = "G"  # net that goes on

    def __call__(self, game, data):
        player = game.player(self.net)
        own = player.schedule

        def schedule(progress):
            learns = torch.as_tensor(progress < self.after).to(torch.float32)
            return learns if own is None else learns * own(progress)

        def slope(nets, b):
            g, z = getattr(nets, self.generator), b.tensors[game.latent]
            direction = z.roll(1, 0)  # other draws, so that no further random numbers are needed
            direction = direction / direction.norm(dim=1, keepdim=True)
            # Jv as the gradient in u of (Jᵀu)·v: forward differentiation warns of what it is built on.
            out, pull_back = torch.func.vjp(g, z)
            _, push_forward = torch.func.vjp(lambda u: pull_back(u)[0], torch.zeros_like(out))
            return push_forward(direction)[0].flatten(1).square().sum(1).mean().sqrt()

        def spread(nets, b):
            x = getattr(nets, self.generator)(b.tensors[game.latent]).flatten(1)
            return (x - x.mean(0)).square().sum(1).mean().sqrt()

        return replace(
            game,
            players={**game.players, self.net: replace(player, schedule=schedule)},
            probes={**game.probes, "slope of G in z": slope, "spread of samples": spread},
        )
