"""Nestings of dictionaries and tuples of tensors, as which games, states and minibatches come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


def mapped(f: Callable[..., Tensor], *trees: Any) -> Any:
    """`f` on the tensors that stand at the same place of all trees."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: mapped(f, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, tuple):
        return tuple(mapped(f, *parts) for parts in zip(*trees, strict=True))
    return f(*trees)


def leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in the order in which `mapped` comes to them."""
    if isinstance(tree, dict):
        return [leaf for part in tree.values() for leaf in leaves(part)]
    if isinstance(tree, tuple):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree]


def rebuilt(tree: Any, tensors: Any) -> Any:
    """A tree of the same form with other tensors, given in the order of `leaves`."""
    given = iter(tensors)
    return mapped(lambda _: next(given), tree)
