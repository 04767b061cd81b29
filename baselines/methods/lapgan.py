"""The Laplacian pyramid of GANs."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from ganbench import (
    SGD,
    Adam,
    Draw,
    Dropout,
    Game,
    Player,
    PluginError,
    Rescale,
    Sequential,
    bce_fake,
    bce_real,
    method,
    mlp,
)


@method
@dataclass(frozen=True)
class LAPGAN:
    """Denton et al. 2015, section 3: a GAN for the coarsest image, and one for what each finer scale adds to it.

    Sides are halved while they are even and stay at least `coarsest`: 28-14-7, 32-16-8, 96-48-24-12 (the paper:
    28-14-8 for CIFAR, 96-64-32-16-8 for STL). Coarser is the mean of 2×2 pixels, finer is bilinear, the difference
    is what is lost by the two, so that the pyramid holds the image exactly. The coarsest GAN is fully connected. At
    each finer scale G sees a plane of noise and the coarse image and makes a difference, D sees the sum of
    both. All are trained at once, each on real coarse images, as one game of two players a level (G14, D14, ...);
    samples run down the chain of generated ones. D descends ½ (-log D(x) - log(1 - D(G(z)))), G -log D(G(z)), from
    the same point. `z` holds the noise of all levels, coarse to fine. With `conditional` all nets see the class, as
    one more plane that they learn, and z begins with a number that picks one of the classes, all equally often.
    The paper's SGD has a momentum that grows from 0.5 to 0.7 in 250 epochs of minibatches of 128; its rate falls
    by 1.000004 an epoch, which is left out.
    """

    width: int = 16  # filters in the nets of the finer levels; the paper: 64
    units: int = 400  # in both hidden layers of the coarsest G, half in D's; the paper (from memory): 1200
    z_dim: int = 100  # noise of the coarsest level, uniform in [-1, 1) as all noise here
    coarsest: int = 7  # least side of the coarsest level
    conditional: bool = False  # whether the nets see the class
    optimiser: Literal["adam", "sgd"] = "adam"  # of all players; the paper: sgd
    lr: float | None = None  # learning rate; null: 1e-3 for adam, the paper's 0.02 for sgd

    def game(self, data):
        chain = Chain(self._levels(data), data.scale, self._classes(data))
        nets, draws, players = {}, {"z": Draw.uniform(chain.levels[-1].stop, low=-1.0)}, {}
        for level in chain.levels:
            D, G = f"D{level.side}", f"G{level.side}"
            make = self._fully_connected if level.coarsest else self._convolutional
            nets[D], nets[G] = make(level.side, data.shape[0], chain.classes)
            draws[f"drop_{level.side}"] = Draw.uniform(2, nets[D].drawn)  # for real and generated ones
            players[D] = Player(D, lambda nets, b, at=level: chain.d_loss(nets, b, at), self._optimiser(data))
            players[G] = Player(G, lambda nets, b, at=level: chain.g_loss(nets, b, at), self._optimiser(data))
        return Game(nets, players, draws, chain.sample, order="simultaneous", stages=chain.stages)

    def _levels(self, data):
        """From coarse to fine."""
        if len(data.shape) != 3 or data.shape[1] != data.shape[2] or data.scale is None:
            shape = list(data.shape)
            raise PluginError(f"lapgan: the data are no square images; one example has the shape {shape}")
        sides = [data.shape[1]]
        while sides[0] % 2 == 0 and sides[0] // 2 >= self.coarsest:
            sides.insert(0, sides[0] // 2)
        levels, start = [], int(self.conditional)
        for side in sides:
            noise = side * side if levels else self.z_dim
            levels.append(Level(side, start, start + noise, not levels))
            start += noise
        return levels

    def _classes(self, data):
        if not self.conditional:
            return 0
        if data.labels is None:
            raise PluginError("lapgan: conditional is true, but the data have no labels")
        return int(data.labels.train.max()) + 1

    def _optimiser(self, data):
        if self.optimiser == "adam":
            return Adam(1e-3 if self.lr is None else self.lr)
        ramp = max(1, 250 * len(data.train) // 128)
        return SGD(0.02 if self.lr is None else self.lr, momentum=0.5, momentum_end=0.7, ramp=ramp)

    def _fully_connected(self, side, channels, classes):
        """D and G of the coarsest level; D sees images, G sees noise [B, z_dim]."""
        half, plane = self.units // 2, side * side * bool(classes)
        D = Sequential(
            *[nn.Flatten(), nn.Linear(channels * side * side + plane, half), nn.ReLU(), Dropout(0.5, half)],
            *[nn.Linear(half, half), nn.ReLU(), Dropout(0.5, half), nn.Linear(half, 1)],
        )
        G = mlp(self.z_dim + plane, self.units, self.units, (channels, side, side), squash=(-1.0, 1.0))
        return _see_class(D, classes, side), _see_class(G, classes, side)

    def _convolutional(self, side, channels, classes):
        """D and G of a finer level; D sees images, G sees coarse images behind a plane of noise."""
        width, plane, area = self.width, int(classes > 0), (-(-side // 2)) ** 2
        D = Sequential(
            *[nn.Conv2d(channels + plane, width, 5, padding=2), nn.ReLU()],
            *[nn.Conv2d(width, width, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten()],
            *[Dropout(0.5, width * area), nn.Linear(width * area, 1)],
        )
        G = Sequential(
            *[nn.Conv2d(1 + channels + plane, width, 7, padding=3), nn.ReLU()],
            *[nn.Conv2d(width, width, 7, padding=3), nn.ReLU(), nn.Conv2d(width, channels, 5, padding=2)],
        )
        return _see_class(D, classes, side), _see_class(G, classes, side)


@dataclass(frozen=True)
class Level:
    """One scale of the pyramid."""

    side: int
    start: int  # where its noise begins in z
    stop: int
    coarsest: bool


@dataclass(frozen=True)
class Chain:
    """The levels, coarse to fine, and how they play; images lie in [-1, 1] here."""

    levels: list[Level]
    scale: tuple[float, float]  # of the data
    classes: int  # that the nets see; 0: none

    def d_loss(self, nets, b, at):
        real, fake, judge, u = self._meeting(nets, b, at)
        return 0.5 * (bce_real(judge(real, u=u[:, 0])) + bce_fake(judge(fake, u=u[:, 1])))

    def g_loss(self, nets, b, at):
        _, fake, judge, u = self._meeting(nets, b, at)
        return bce_real(judge(fake, u=u[:, 1]))

    def _meeting(self, nets, b, at):
        """Real images of a level, generated ones, its D and the numbers for its dropout."""
        coarse, real = scales(Rescale(self.scale, (-1.0, 1.0))(b.x), at.side)
        seen = self._one_hot(b.y) if self.classes else ()
        fake, D = self._made(nets, b.z, coarse, seen, at), getattr(nets, f"D{at.side}")
        return real, fake, lambda x, u: D(x, *seen, u=u), b.tensors[f"drop_{at.side}"]

    def stages(self, nets, z):
        """What each level makes of what the one before has made, coarse to fine, in the data's scale."""
        seen, images = (), []
        if self.classes:
            seen = self._one_hot(((z[:, 0] + 1) / 2 * self.classes).floor().clamp(max=self.classes - 1))
        for at in self.levels:
            images.append(self._made(nets, z, finer(images[-1]) if images else None, seen, at))
        return tuple(Rescale((-1.0, 1.0), self.scale)(image).clamp(*self.scale) for image in images)

    def sample(self, nets, z):
        return self.stages(nets, z)[-1]

    def _made(self, nets, z, coarse, seen, at):
        """Images [B, C, side, side] of one level."""
        noise, G = z[:, at.start : at.stop], getattr(nets, f"G{at.side}")
        if at.coarsest:
            return G(noise, *seen)
        plane = noise.unflatten(1, (1, at.side, at.side))
        return coarse + G(torch.cat([plane, coarse], 1), *seen)

    def _one_hot(self, y):
        return ((y[:, None] == torch.arange(self.classes, device=y.device)).float(),)


class SeesClass(nn.Module):
    """A net that sees the class, one-hot [B, K], as one more plane of side x side numbers that it learns."""

    def __init__(self, net, classes, side):
        super().__init__()
        self.net, self.side, self.drawn = net, side, net.drawn
        self.plane = nn.Linear(classes, side * side, bias=False)

    def forward(self, x, y, u=None):
        plane = self.plane(y.to(x.dtype))
        plane = plane.unflatten(1, (1, self.side, self.side)) if x.ndim == 4 else plane
        return self.net(torch.cat([x, plane], 1), u=u)


def _see_class(net, classes, side):
    return SeesClass(net, classes, side) if classes else net


# ---------------------------------------------------------------------------------------------- the pyramid


def coarser(x):
    """Half the side: the mean of 2×2 pixels. [B, C, 2s, 2s] -> [B, C, s, s]"""
    return F.avg_pool2d(x, 2)


def finer(x):
    """Twice the side, bilinear. [B, C, s, s] -> [B, C, 2s, 2s]"""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def scales(x, side):
    """Images at a side, behind what is left of them at half of it (None where they cannot be halved)."""
    while x.shape[-1] > side:
        x = coarser(x)
    return (None if side % 2 else finer(coarser(x))), x
