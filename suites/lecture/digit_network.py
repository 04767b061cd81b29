"""The features of a network that was trained on the classes of the digits."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from ganbench import classifier, feature, load_data


@feature
@dataclass(frozen=True)
class DigitNetwork:
    """Salimans et al. 2016, section 3.1, with a trained network for f: 128 features of ganbench's classifier of digits.

    The network knows the classes, and does not change while the generator learns. Metrics that use the same classifier
    (class_coverage, classifier_score, frechet) are then the known test to which a generator overtrains.
    [B, 1, 8, 8] -> [B, 128]
    """

    def __post_init__(self):
        _trunk(torch.float32)  # made before the game is played, since it takes random numbers

    def __call__(self, x):
        return _trunk(x.dtype)(x * 2 - 1)  # digits lie in [0, 1]


@cache
def _trunk(dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(classifier(load_data("digits")).net.trunk).to(dtype)
