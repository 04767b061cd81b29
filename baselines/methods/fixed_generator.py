"""A discriminator alone, against samples whose density is known."""

from dataclasses import dataclass

from torch import nn

from ganbench import (
    Adam,
    Divergence,
    Game,
    Player,
    Rescale,
    Sequential,
    Squash,
    find_divergence,
    method,
    mlp,
    tunable,
)


@method(provides=("bound",))
@dataclass(frozen=True)
class FixedGenerator:
    """Goodfellow et al. 2014, section 4.1; Nowozin et al. 2016, eq. 4: D learns, the generator is N(mean, std²).

    D ascends the variational bound of an f-divergence between data and a generator that stays as it is. Under
    `gan` D tends to p/(p + q) and the bound, Goodfellow's value, to -log 4 + 2 JSD; under every f the output of
    an optimal D is f'(p/q) and the bound is the divergence itself. Samples of images are squashed into their
    scale.

    Searched: the rate, over two decades around the usual 1e-3.
    """

    divergence: str | Divergence = "gan"  # its name or file, or {alpha: {alpha: 2}}
    mean: float = 0.0  # of every number of a sample, in the units of the data
    std: float = 1.0  # of every number of a sample
    width: int = 64  # ELU units of a hidden layer of D
    depth: int = 2  # hidden layers of D
    lr: float = tunable(1e-3, log=(1e-4, 1e-2))  # Adam's learning rate
    betas: tuple[float, float] = (0.9, 0.999)  # of Adam: nothing moves but D, so the usual ones

    def game(self, data):
        f = find_divergence(self.divergence)
        hidden = [self.width] * self.depth
        return Game(
            nets={
                "G": Sequential(Rescale((0.0, 1.0), (self.mean, self.mean + self.std)), Squash(data.scale)),
                "D": mlp(data.shape, *hidden, 1, activation=nn.ELU),
            },
            players={"D": Player("D", lambda nets, b: -self.bound(f, nets, b), Adam(self.lr, self.betas))},
            draws={"z": data.shape},
            sample=lambda nets, z: nets.G(z),
            bound=("D", f),
        )

    def bound(self, f, nets, b):
        """The bound, in the units of the divergence."""
        return f.activation(nets.D(b.x)).mean() - f.composed(nets.D(nets.G(b.z))).mean()
