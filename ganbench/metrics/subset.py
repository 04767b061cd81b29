"""A random subset of a split that is the same in every run."""

from __future__ import annotations

import torch
from torch import Tensor


def random_subset(split: Tensor, n: int) -> Tensor:
    """`n` rows of `split` [N, ...] in a fixed random order, or all N if there are fewer.

    The first n rows would not do: MNIST's first 5,000 test images are cleaner than the rest (Yadav & Bottou 2019).
    Tensors of the same length, such as images and their labels, get the same order.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    return split[order[:n].to(split.device)]
