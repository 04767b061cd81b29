"""Recorded graphs made cheaper without changing a number: less to call, and less memory to go through."""

from __future__ import annotations

from operator import getitem
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten

SAME = (aten.alias.default, aten.expand.default, aten.view.default, aten._unsafe_view.default)
PRODUCTS = (aten.mm.default, aten.bmm.default)
# Elementwise operations, and the same with room given for the result, which may be that of an argument.
ELEMENTWISE = {
    aten.add.Tensor: (aten.add.out, "out"),
    aten.sub.Tensor: (aten.sub.out, "out"),
    aten.mul.Tensor: (aten.mul.out, "out"),
    aten.div.Tensor: (aten.div.out, "out"),
    aten.neg.default: (aten.neg.out, "out"),
    aten.relu.default: (aten.relu.out, "out"),
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


def simplify(module: GraphModule) -> None:
    """Take away operations that do nothing, multiply columns by rows elementwise, and write results over what is
    not read again. The graph is one that `make_fx` has recorded."""
    for node in list(module.graph.nodes):
        if node.target in SAME and _alike(node, node.args[0]):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif node.target in PRODUCTS and node.args[0].meta["val"].shape[-1] == 1:
            node.target = aten.mul.Tensor
    if not any(_mutates(node) for node in module.graph.nodes):
        _overwrite(module.graph)
    module.recompile()


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
                target, room = ELEMENTWISE[node.target]
                node.target, node.kwargs = target, {**node.kwargs, room: argument}
                owner.update({one: its for one, made in owner.items() if made is node})
                last[its] = last[node]
                break


def _mutates(node: Node) -> bool:
    """Whether an operation writes over an argument already, so that memory has more names than are followed here."""
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _is_view(node: Node) -> bool:
    """Whether a node shows memory of its first argument; of the parts of a split, each does."""
    maker = node.all_input_nodes[0] if node.target is getitem else node
    return getattr(maker.target, "is_view", False) or node.target is aten._unsafe_view.default


def _alike(node: Node, other: Any, strides: bool = True) -> bool:
    """Whether two tensors have the same shape, type and, if asked, strides."""
    one, two = node.meta["val"], other.meta["val"]
    return one.shape == two.shape and one.dtype == two.dtype and (not strides or one.stride() == two.stride())
