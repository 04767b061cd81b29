"""A method of your own. In a suite beside it: `methods: [gan, ./mine.py]`."""

from dataclasses import dataclass

from ganbench import Adam, Game, Player, method, mlp


@method  # the name in tables is the class's, in snake_case; @method("another") gives another
@dataclass(frozen=True)
class Mine:
    """Mao et al. 2017, eq. 9: least squares instead of cross-entropy. First say where yours comes from."""

    z_dim: int = 32  # latent numbers, N(0, 1); every parameter needs a default and such a comment
    width: int = 128  # units of a hidden layer
    lr: float = 1e-3  # Adam's learning rate of both players

    def game(self, data):
        """The game of one replica; ganbench stacks all seeds of it. data.shape: [*shape] of one example."""
        return Game(
            nets={  # any torch.nn.Module; no running statistics and no random numbers inside
                "G": mlp(self.z_dim, self.width, self.width, data.shape, squash=data.scale),
                "D": mlp(data.shape, self.width, self.width, 1),
            },
            players={  # each owns nets, descends a loss, and moves in this order
                "D": Player("D", self.d_loss, Adam(self.lr)),
                "G": Player("G", self.g_loss, Adam(self.lr)),
            },
            draws={"z": (self.z_dim,)},  # fresh numbers for every example, b.z in the losses
            sample=lambda nets, z: nets.G(z),  # [B, z_dim] -> [B, *shape], when all is over
        )

    def d_loss(self, nets, b):
        """b.x [B, *shape] real examples, b.z [B, z_dim] -> a scalar."""
        return (nets.D(b.x) - 1).square().mean() + nets.D(nets.G(b.z)).square().mean()

    def g_loss(self, nets, b):
        """The same minibatch; only G's parameters move by it."""
        return (nets.D(nets.G(b.z)) - 1).square().mean()
