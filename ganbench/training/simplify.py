"""Recorded graphs made cheaper: less to call, and products in the order that is fast.

Numbers stay the same: to the bit in float32 where the tests run, to rounding where a library of products adds in
another order when its matrices change places.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten

SAME = (aten.alias.default, aten.expand.default, aten.view.default, aten._unsafe_view.default)
PRODUCTS = (aten.mm.default, aten.bmm.default)
NARROW = 16  # columns; a product of fewer is slow unless its second factor is transposed


def simplify(module: GraphModule, inputs: Sequence[Any]) -> GraphModule:
    """The same function, recorded by `make_fx`, in fewer and cheaper operations. It must write over no tensor."""
    _clean(module.graph)
    _turn(module.graph)
    module.recompile()
    module = make_fx(module)(*inputs)  # which notes the strides as they are now
    _clean(module.graph)
    for node in module.graph.nodes:
        if node.target in PRODUCTS and node.args[0].meta["val"].shape[-1] == 1:
            node.target = aten.mul.Tensor  # a column by a row
        elif node.target is aten.relu.default:  # the same as this, which can write to a place
            node.target, node.args = aten.clamp_min.default, (*node.args, 0)
    module.recompile()
    return module


def functional(module: GraphModule) -> GraphModule:
    """The same without operations that change the shape of their argument in place, as products with vectors do."""
    for node in module.graph.nodes:
        target = node.target
        if not isinstance(target, OpOverload) or torch.Tag.inplace_view not in target.tags:
            continue
        if len(node.args[0].users) == 1:
            name = target._schema.name.split("::")[1].removesuffix("_")
            node.target = getattr(getattr(aten, name), target._overloadname)
    module.recompile()
    return module


def mutates(module: GraphModule) -> bool:
    """Whether it writes over tensors: its memory has more names then than are followed here."""
    return any(
        isinstance(node.target, OpOverload) and node.target._schema.is_mutable for node in module.graph.nodes
    )


def _clean(graph: Graph) -> None:
    """Take away what gives its argument back: views of the same shape, copies of what was made here, and transposes of
    transposes."""
    for node in list(graph.nodes):
        same = node.target in SAME or (node.target is aten.clone.default and _is_made(node.args[0]))
        if same and alike(node, node.args[0]):
            node.replace_all_uses_with(node.args[0])
        elif _transposes(node) and _transposes(node.args[0]):
            node.replace_all_uses_with(node.args[0].args[0])
    graph.eliminate_dead_code()


def _turn(graph: Graph) -> None:
    """Make (XᵀG)ᵀ, as which vectorised gradients of weights come, GᵀX: it needs no copy, and where G is narrow it takes
    a quarter of the time, but where X is narrow four times as much. Strides change, so nothing may depend on them:
    views become reshapes, and the factor of one goes with which vectorised layers have their biases."""
    for node in graph.nodes:
        if node.target is aten.view.default:
            node.target = aten.reshape.default
        elif (
            node.target is aten.mul.Scalar and node.args[1] == 1 and alike(node, node.args[0], strides=False)
        ):
            node.replace_all_uses_with(node.args[0])
        elif _transposes(node) and node.args[0].target in PRODUCTS and len(node.args[0].users) == 1:
            left, right = node.args[0].args
            if _transposes(left) and left.meta["val"].shape[-2] >= NARROW:
                with graph.inserting_before(node):
                    turned = graph.call_function(aten.transpose.int, (right, -2, -1))
                    product = graph.call_function(node.args[0].target, (turned, left.args[0]))
                node.replace_all_uses_with(product)
    graph.eliminate_dead_code()


def _is_made(node: Node) -> bool:
    """Whether a node's memory is the graph's own, and not what was given to it."""
    while is_view(node):
        node = node.all_input_nodes[0]
    return node.op == "call_function"


def _transposes(node: Any) -> bool:
    """Whether a node swaps the last two axes."""
    if not isinstance(node, Node) or node.target not in (aten.transpose.int, aten.t.default):
        return False
    rank = node.meta["val"].ndim
    return node.target is aten.t.default or {axis % rank for axis in node.args[1:]} == {rank - 2, rank - 1}


def is_view(node: Node) -> bool:
    """Whether a node shows memory of its first argument; of the parts of a split, each does."""
    maker = node.all_input_nodes[0] if node.target is getitem else node
    return getattr(maker.target, "is_view", False) or node.target is aten._unsafe_view.default


def alike(node: Node, other: Any, strides: bool = True) -> bool:
    """Whether two tensors have the same shape, type and, if asked, strides."""
    one, two = node.meta["val"], other.meta["val"]
    return one.shape == two.shape and one.dtype == two.dtype and (not strides or one.stride() == two.stride())
