"""Which examples of a split a metric takes where it does not take them all."""

from __future__ import annotations

import torch
from torch import Tensor


def random_subset(split: Tensor, n: int) -> Tensor:
    """`n` rows of a split [N, ...], or all where there are fewer, in a fixed random order.

    The first rows may differ from the rest: MNIST's first 5,000 test images are the cleaner ones (Yadav & Bottou
    2019). Tensors of one length (images and their labels) are taken in the same order.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    return split[order[:n].to(split.device)]
