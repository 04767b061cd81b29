"""Recorded graphs made cheaper: less to call, less memory to go through, and products in the order that is fast.

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
# Elementwise operations; the same with room given for the result, which may be that of an argument, and its name.
ELEMENTWISE = {
    aten.add.Tensor: (aten.add.out, "out"),
    aten.sub.Tensor: (aten.sub.out, "out"),
    aten.mul.Tensor: (aten.mul.out, "out"),
    aten.div.Tensor: (aten.div.out, "out"),
    aten.neg.default: (aten.neg.out, "out"),
    aten.relu.default: (aten.relu_.default, None),  # relu.out takes room and then copies
    aten.tanh.default: (aten.tanh.out, "out"),
    aten.sigmoid.default: (aten.sigmoid.out, "out"),
    aten.softplus.default: (aten.softplus.out, "out"),
    aten.leaky_relu.default: (aten.leaky_relu.out, "out"),
    aten.threshold_backward.default: (aten.threshold_backward.grad_input, "grad_input"),
    aten.tanh_backward.default: (aten.tanh_backward.grad_input, "grad_input"),
    aten.sigmoid_backward.default: (aten.sigmoid_backward.grad_input, "grad_input"),
    aten.softplus_backward.default: (aten.softplus_backward.grad_input, "grad_input"),
    aten.leaky_relu_backward.default: (aten.leaky_relu_backward.grad_input, "grad_input"),
}


def simplify(module: GraphModule, inputs: Sequence[Any]) -> GraphModule:
    """The same function, recorded by `make_fx`, in fewer and cheaper operations. Where its author writes over tensors
    it is left as it is: memory has more names then than are followed here."""
    if any(_mutates(node) for node in module.graph.nodes):
        return module
    _clean(module.graph)
    _turn(module.graph)
    module.recompile()
    module = make_fx(module)(*inputs)  # which notes the strides as they are now
    _clean(module.graph)
    for node in module.graph.nodes:
        if node.target in PRODUCTS and node.args[0].meta["val"].shape[-1] == 1:
            node.target = aten.mul.Tensor  # a column by a row
    _overwrite(module.graph)
    module.recompile()
    return module


def _mutates(node: Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _clean(graph: Graph) -> None:
    """Take away what gives its argument back: views of the same shape, copies of what was made here, and transposes of
    transposes."""
    for node in list(graph.nodes):
        same = node.target in SAME or (node.target is aten.clone.default and _is_made(node.args[0]))
        if same and _alike(node, node.args[0]):
            node.replace_all_uses_with(node.args[0])
        elif _transposes(node) and _transposes(node.args[0]):
            node.replace_all_uses_with(node.args[0].args[0])
    graph.eliminate_dead_code()


def _turn(graph: Graph) -> None:
    """Make (XᵀG)ᵀ, as which vectorised gradients of weights come, GᵀX: it needs no copy, and where G is narrow it takes
    a quarter of the time. Strides change, so nothing may depend on them: views become reshapes, and the factor of one
    goes with which vectorised layers have their biases."""
    for node in graph.nodes:
        if node.target is aten.view.default:
            node.target = aten.reshape.default
        elif (
            node.target is aten.mul.Scalar and node.args[1] == 1 and _alike(node, node.args[0], strides=False)
        ):
            node.replace_all_uses_with(node.args[0])
        elif _transposes(node) and node.args[0].target in PRODUCTS and len(node.args[0].users) == 1:
            left, right = node.args[0].args
            if _transposes(left):
                with graph.inserting_before(node):
                    turned = graph.call_function(aten.transpose.int, (right, -2, -1))
                    product = graph.call_function(node.args[0].target, (turned, left.args[0]))
                node.replace_all_uses_with(product)
    graph.eliminate_dead_code()


def _is_made(node: Node) -> bool:
    """Whether a node's memory is the graph's own, and not what was given to it."""
    while _is_view(node):
        node = node.all_input_nodes[0]
    return node.op == "call_function"


def _overwrite(graph: Graph) -> None:
    """Let results of elementwise operations take the memory of an argument that nothing reads afterwards."""
    owner: dict[Node, Node] = {}  # node -> the one that made the memory it shows
    last: dict[Node, Node] = {}  # owner -> the last node that reads its memory
    for node in graph.nodes:
        owner[node] = owner[node.args[0]] if _is_view(node) else node
        last.update({owner[read]: node for read in node.all_input_nodes})
    for node in graph.nodes:
        if node.target not in ELEMENTWISE:
            continue
        read = [owner[argument] for argument in node.all_input_nodes]
        for argument in node.all_input_nodes:
            its = owner[argument]
            free = its.op == "call_function" and last[its] is node and read.count(its) == 1
            if free and _alike(node, argument) and _alike(node, its, strides=False):
                node.target, room = ELEMENTWISE[node.target]
                node.kwargs = {**node.kwargs, room: argument} if room else node.kwargs
                owner.update({one: its for one, made in owner.items() if made is node})
                last[its] = last[node]
                break


def _transposes(node: Any) -> bool:
    """Whether a node swaps the last two axes."""
    if not isinstance(node, Node) or node.target not in (aten.transpose.int, aten.t.default):
        return False
    rank = node.meta["val"].ndim
    return node.target is aten.t.default or {axis % rank for axis in node.args[1:]} == {rank - 2, rank - 1}


def _is_view(node: Node) -> bool:
    """Whether a node shows memory of its first argument; of the parts of a split, each does."""
    maker = node.all_input_nodes[0] if node.target is getitem else node
    return getattr(maker.target, "is_view", False) or node.target is aten._unsafe_view.default


def _alike(node: Node, other: Any, strides: bool = True) -> bool:
    """Whether two tensors have the same shape, type and, if asked, strides."""
    one, two = node.meta["val"], other.meta["val"]
    return one.shape == two.shape and one.dtype == two.dtype and (not strides or one.stride() == two.stride())
