"""Networks for one replica, used by the baselines; the engine vectorises them over seeds.

There are no running statistics. During training, `BatchNorm` uses the statistics of the minibatch. For sampling, they
are measured once after training and then fixed, so that a sample never depends on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from .contracts import Data

Shape = int | tuple[int, ...]
Scale = tuple[float, float] | None
Init = Literal["torch", "he", "dcgan"]


def _size(shape: Shape) -> int:
    return shape if isinstance(shape, int) else math.prod(shape)


class Sequential(nn.Sequential):
    """Layers one after the other; `net(x, upto=k)` stops after hidden layer k, `upto=-1` after the last one.

    A hidden layer is the input of a weight matrix other than the first: the values after activation and
    normalisation, flat where the next layer is linear. `Dropout` layers use the uniform numbers `u` [B, drawn];
    without `u` they do nothing.
    """

    @property
    def reads(self) -> list[int]:
        """Positions of the layers with weights; norms and activations belong to the layer before them."""
        weighted = [index for index, layer in enumerate(self) if next(layer.parameters(), None) is not None]
        return [index for index in weighted if not isinstance(self[index], BatchNorm)]

    @property
    def hidden(self) -> int:
        """Number of hidden layers."""
        return max(len(self.reads) - 1, 0)

    @property
    def drawn(self) -> int:
        """Uniform numbers that its `Dropout` layers need for each example, for the game's draws."""
        return sum(layer.units for layer in self if isinstance(layer, Dropout))

    def forward(self, input: Tensor, upto: int | None = None, u: Tensor | None = None) -> Tensor:
        """All layers, or the values of hidden layer `upto` (counted from 1, or from the end by -1, -2, ...)."""
        for layer in islice(self, None if upto is None else self.reads[upto]):
            if isinstance(layer, Dropout) and u is not None:
                input, u = layer(input, u[:, : layer.units]), u[:, layer.units :]
            else:
                input = layer(input)
        return input


class Dropout(nn.Module):
    """Srivastava et al. 2014: a number is set to zero with probability p, the others are divided by 1 - p.

    The random numbers are a draw of the game: for `Dropout(0.5, 240)` in a `Sequential` D, draw `u` as
    `Draw.uniform(D.drawn)` and call `nets.D(x, u=b.u)`.
    """

    def __init__(self, p: float, units: int) -> None:
        super().__init__()
        self.p, self.units = p, units

    def forward(self, x: Tensor, u: Tensor | None = None) -> Tensor:  # [B, ...], [B, units] in [0, 1)
        return x if u is None else x * (u.reshape(x.shape) >= self.p) / (1 - self.p)


class Rescale(nn.Module):
    """The linear map of one range onto another: `Rescale(data.scale, (-1.0, 1.0))`. [B, ...] -> [B, ...]"""

    def __init__(self, source: tuple[float, float], target: tuple[float, float]) -> None:
        super().__init__()
        self.slope = (target[1] - target[0]) / (source[1] - source[0])
        self.offset = target[0] - source[0] * self.slope

    def forward(self, x: Tensor) -> Tensor:
        return x * self.slope + self.offset


class Squash(nn.Module):
    """A sigmoid, scaled to the range of the data; the identity if `scale` is None."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:  # [B, ...] -> [B, ...]
        if self.scale is None:
            return x
        low, high = self.scale
        return torch.sigmoid(x) * (high - low) + low


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) over all axes but the second, without running statistics.

    Training mode: statistics of the minibatch, kept in `seen` for calibration. Evaluation mode: the buffers
    `mean` and `var`, which the engine fills once after training.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("var", torch.ones(features))
        self.eps = eps
        self.seen: tuple[Tensor, Tensor] | None = None  # mean and variance of the last minibatch

    def forward(self, x: Tensor) -> Tensor:  # [B, C, ...] -> [B, C, ...]
        mean, var = self.mean, self.var
        if self.training:
            axes = [axis for axis in range(x.ndim) if axis != 1]
            var, mean = torch.var_mean(x, dim=axes, correction=0)
            self.seen = (mean.detach(), var.detach())
        shape = (1, -1) + (1,) * (x.ndim - 2)
        # Folded into one product and one sum over x, which halves the passes over memory.
        scale = self.weight * torch.rsqrt(var + self.eps)
        return x * scale.view(shape) + (self.bias - mean * scale).view(shape)


class Maxout(nn.Module):
    """Goodfellow et al. 2013: the largest of `pieces` linear maps. [B, in] -> [B, out]."""

    def __init__(self, inputs: int, outputs: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, outputs * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(-1, (-1, self.pieces)).amax(-1)


def mlp(
    *sizes: Shape,
    activation: Callable[[], nn.Module] = nn.ReLU,
    norm: bool = False,
    squash: Scale = None,
    init: Init | Callable[[nn.Linear], None] | None = "torch",
) -> Sequential:
    """A multilayer perceptron: `mlp(64, 128, 128, data.shape)`.

    sizes: width of every layer; the first and the last may be shapes, [B, *first] -> [B, *last]
    norm: BatchNorm between a hidden layer and its activation
    squash: range of the output (`data.scale`), None for all of R
    init: a name of `initialise`, or what is called on every linear layer after PyTorch's own initialisation; None is
        "torch"
    """
    layers: list[nn.Module] = [nn.Flatten()] if not isinstance(sizes[0], int) else []
    for before, after in pairwise(sizes):
        linear = nn.Linear(_size(before), _size(after))
        if callable(init):
            init(linear)
        else:
            initialise(linear, init or "torch")
        layers += [linear, *([BatchNorm(_size(after))] if norm else []), activation()]
    del layers[-2 if norm else -1 :]  # no norm and no activation after the output layer
    if not isinstance(sizes[-1], int):
        layers.append(nn.Unflatten(1, sizes[-1]))
    return Sequential(*layers, *([Squash(squash)] if squash else []))


def orthogonal(gain: float) -> Callable[[nn.Linear], None]:
    """For `mlp(init=…)`: orthogonal weights times `gain`, zero biases (Metz et al. 2017, appendix A)."""

    def init(linear: nn.Linear) -> None:
        nn.init.orthogonal_(linear.weight, gain)
        nn.init.zeros_(linear.bias)

    return init


def initialise(net: nn.Module, init: Init) -> None:
    """Draw the weights of all linear and convolutional layers by a scheme with a name, in place.

    "torch": as PyTorch has made them, uniform of variance 1/(3 · inputs), biases too. The default of `mlp`, since it
        was seen to serve points and images both
    "he": He et al. 2015, eq. 10: N(0, 2/inputs), which keeps the variance through ReLU layers; biases are zero. On
        digits a plain GAN gained 22 nats by it, on the ring it was no help or worse
    "dcgan": Radford et al. 2016, section 4: N(0, 0.02²); biases are zero. The default of the conv nets

    inputs: of one output number; of a transposed convolution in × k² / stride²
    Raises ValueError for another name.
    """
    if init not in ("torch", "he", "dcgan"):
        raise ValueError(f'init: expected "torch", "he" or "dcgan", got {init!r}')
    for layer in net.modules() if init != "torch" else ():
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            continue
        inputs = layer.weight[0].numel()
        if isinstance(layer, nn.ConvTranspose2d):
            inputs = layer.in_channels * math.prod(layer.kernel_size) / math.prod(layer.stride)
        nn.init.normal_(layer.weight, 0.0, 0.02 if init == "dcgan" else math.sqrt(2 / inputs))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _coarsest_map(side: int) -> tuple[int, int]:
    """Side of the coarsest feature map, and the number of doublings from there: 28 -> (7, 2), 64 -> (4, 4)."""
    doublings = 0
    while side % 2 == 0 and side > 4:
        side, doublings = side // 2, doublings + 1
    return side, doublings


def conv_generator(
    latent: int, shape: tuple[int, ...], width: int = 32, squash: Scale = None, init: Init = "dcgan"
) -> Sequential:
    """Latent [B, latent] -> images [B, C, H, W] (H = W = 2^k times a small number), after DCGAN: a linear
    layer, then 4×4 transposed convolutions of stride 2 with BatchNorm and ReLU; `width` channels before
    the last, doubling towards the coarse end."""
    channels, side = shape[0], shape[-1]
    first, doublings = _coarsest_map(side)
    wide = width * 2 ** max(doublings - 1, 0)
    layers: list[nn.Module] = [
        nn.Linear(latent, wide * first * first),
        nn.Unflatten(1, (wide, first, first)),
        BatchNorm(wide),
        nn.ReLU(),
    ]
    for _ in range(doublings - 1):
        layers += [nn.ConvTranspose2d(wide, wide // 2, 4, 2, 1), BatchNorm(wide // 2), nn.ReLU()]
        wide //= 2
    last = nn.ConvTranspose2d(wide, channels, 4, 2, 1) if doublings else nn.Conv2d(wide, channels, 3, 1, 1)
    net = Sequential(*layers, last, *([Squash(squash)] if squash else []))
    initialise(net, init)
    return net


def conv_discriminator(
    shape: tuple[int, ...], width: int = 32, norm: bool = True, init: Init = "dcgan"
) -> Sequential:
    """Images [B, C, H, W] -> logits [B, 1], after DCGAN: 4×4 convolutions of stride 2 with BatchNorm (not on
    the first) and leaky ReLU 0.2; `width` channels after the first, doubling towards the coarse end."""
    channels, side = shape[0], shape[-1]
    last, halvings = _coarsest_map(side)
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for _ in range(halvings - 1):
        layers += [
            nn.Conv2d(width, width * 2, 4, 2, 1),
            *([BatchNorm(width * 2)] if norm else []),
            nn.LeakyReLU(0.2),
        ]
        width *= 2
    net = Sequential(*layers, nn.Flatten(), nn.Linear(width * last * last, 1))
    initialise(net, init)
    return net


def adversaries(
    data: Data,
    *,
    net: str = "mlp",
    z_dim: int,
    width: int,
    depth: int = 2,
    norm: bool = True,
    init: Init | None = None,
) -> dict[str, nn.Module]:
    """The usual two nets for a dataset: G from z [B, z_dim] to [B, *shape] in the data's scale, D from there
    to one number each [B, 1].

    net: "mlp" has `depth` hidden layers of `width` ReLU units in each net, "conv" is DCGAN's for images, with
    `width` channels at the fine end
    norm: whether a convolutional D has BatchNorm. Penalties on its gradient need one without: BatchNorm makes the
    output for one example depend on the others
    init: a name of `initialise`; None is "torch" for "mlp" and "dcgan" for "conv"
    """
    if net == "conv":
        return {
            "G": conv_generator(z_dim, data.shape, width, squash=data.scale, init=init or "dcgan"),
            "D": conv_discriminator(data.shape, width, norm, init=init or "dcgan"),
        }
    hidden = [width] * depth
    generator = mlp(z_dim, *hidden, data.shape, squash=data.scale, init=init or "torch")
    return {"G": generator, "D": mlp(data.shape, *hidden, 1, init=init or "torch")}


def gradient_norm(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Euclidean norm of the gradient of the critic at each example, [B, *shape] -> [B]; differentiable.

    The critic [B, *shape] -> [B, 1] must not mix examples. The norm has no derivative at zero; here it is zero.
    """
    # The gradient of the sum at each example is that of the example's own output, for all examples in one call.
    gradient = torch.func.grad(lambda x: critic(x).sum())(x)
    square = gradient.flatten(1).square().sum(1)
    return torch.sqrt(torch.where(square > 0, square, 1.0)) * (square > 0)


def bce_real(logits: Tensor) -> Tensor:
    """Mean of -log D for D = sigmoid(logits), nats."""
    return F.softplus(-logits).mean()


def bce_fake(logits: Tensor) -> Tensor:
    """Mean of -log(1 - D) for D = sigmoid(logits), nats."""
    return F.softplus(logits).mean()
