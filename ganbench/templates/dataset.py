"""A dataset of your own. In a suite beside it: `datasets: [ring, ./mine.py]`."""

import math

import torch

from ganbench import Data, DatasetError, dataset


@dataset()  # provides=("modes", "labels", ...) names what else its Data has, for metrics that need that
def mine(
    generator,  # all random numbers come from it, so that everybody has the same data
    radius: float = 2.0,  # of the circle; every parameter needs a default and such a comment
    std: float = 0.1,  # standard deviation of the noise around it
    n_train: int = 10_000,  # training points
    n_valid: int = 2_000,  # validation points
    n_test: int = 2_000,  # test points
):
    """Points around a circle, as often at every angle. [N, 2]. Raises DatasetError for impossible parameters."""
    if radius <= 0 or std <= 0 or min(n_train, n_valid, n_test) < 1:
        raise DatasetError("mine: radius, std and the numbers of points must be positive")

    def split(n):
        angle = 2 * math.pi * torch.rand(n, generator=generator)
        noise = std * torch.randn(n, 2, generator=generator)
        return radius * torch.stack([angle.cos(), angle.sin()], 1) + noise

    # The training split last, so that a larger n_train changes neither of the others.
    test, valid, train = (split(n) for n in (n_test, n_valid, n_train))
    # Images are uint8 tensors [N, C, H, W] with scale=(0.0, 1.0); everything else is float32.
    return Data("mine", train, valid, test, shape=(2,))
