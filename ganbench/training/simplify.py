"""Makes recorded graphs cheaper: fewer operations, and matrix products in the faster order.

Results stay the same: bit for bit in float32 on the machines where the tests run, up to rounding where a BLAS library
sums a transposed product in another order.
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

# Operations that return their argument where its shape does not change.
IDENTITIES = (aten.alias.default, aten.expand.default, aten.view.default, aten._unsafe_view.default)
PRODUCTS = (aten.mm.default, aten.bmm.default)
MIN_COLUMNS = 16  # a product of fewer columns is slow unless its second factor is transposed


def simplify(module: GraphModule, inputs: Sequence[Any]) -> GraphModule:
    """A function recorded by `make_fx`, in fewer and cheaper operations. It must not modify tensors in place."""
    _remove_identities(module.graph)
    _reorder_products(module.graph)
    module.recompile()
    # Record again: strides have changed, and `same_layout` reads the recorded ones.
    module = make_fx(module)(*inputs)
    _remove_identities(module.graph)
    for node in module.graph.nodes:
        if node.target in PRODUCTS and node.args[0].meta["val"].shape[-1] == 1:
            node.target = aten.mul.Tensor  # a product of a column and a row is a broadcast product
        elif node.target is aten.relu.default:  # unlike relu, clamp_min has an `out=` variant
            node.target, node.args = aten.clamp_min.default, (*node.args, 0)
    module.recompile()
    return module


def functional(module: GraphModule) -> GraphModule:
    """The same graph without operations that change the shape of their argument in place, such as `unsqueeze_`, into
    which products with vectors decompose."""
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
    """Whether a graph modifies tensors in place. Playback cannot plan memory for such a graph: it tracks views, but not
    writes through views."""
    return any(
        isinstance(node.target, OpOverload) and node.target._schema.is_mutable for node in module.graph.nodes
    )


def _remove_identities(graph: Graph) -> None:
    """Remove views of the same shape, copies of the graph's own tensors, and transposes of transposes."""
    for node in list(graph.nodes):
        identity = node.target in IDENTITIES or (
            node.target is aten.clone.default and not _is_input(node.args[0])
        )
        if identity and same_layout(node, node.args[0]):
            node.replace_all_uses_with(node.args[0])
        elif _transposes(node) and _transposes(node.args[0]):
            node.replace_all_uses_with(node.args[0].args[0])
    graph.eliminate_dead_code()


def _reorder_products(graph: Graph) -> None:
    """Compute (XᵀG)ᵀ, the form of vectorised gradients of weights, as GᵀX.

    That needs no copy and takes a quarter of the time if G is narrow, but four times as long if X is. Strides change,
    so views become reshapes. The multiplication by 1 in the bias of a vectorised linear layer is removed.
    """
    for node in graph.nodes:
        if node.target is aten.view.default:
            node.target = aten.reshape.default
        elif (
            node.target is aten.mul.Scalar
            and node.args[1] == 1
            and same_layout(node, node.args[0], strides=False)
        ):
            node.replace_all_uses_with(node.args[0])
        elif _transposes(node) and node.args[0].target in PRODUCTS and len(node.args[0].users) == 1:
            left, right = node.args[0].args
            if _transposes(left) and left.meta["val"].shape[-2] >= MIN_COLUMNS:
                with graph.inserting_before(node):
                    transposed = graph.call_function(aten.transpose.int, (right, -2, -1))
                    product = graph.call_function(node.args[0].target, (transposed, left.args[0]))
                node.replace_all_uses_with(product)
    graph.eliminate_dead_code()


def _is_input(node: Node) -> bool:
    """Whether a node is an input of the graph, or a view of one."""
    while is_view(node):
        node = node.all_input_nodes[0]
    return node.op != "call_function"


def _transposes(node: Any) -> bool:
    """Whether a node swaps the last two axes."""
    if not isinstance(node, Node) or node.target not in (aten.transpose.int, aten.t.default):
        return False
    rank = node.meta["val"].ndim
    return node.target is aten.t.default or {axis % rank for axis in node.args[1:]} == {rank - 2, rank - 1}


def is_view(node: Node) -> bool:
    """Whether a node is a view of its first argument, as each part of a split is."""
    maker = node.all_input_nodes[0] if node.target is getitem else node
    return getattr(maker.target, "is_view", False) or node.target is aten._unsafe_view.default


def same_layout(node: Node, other: Any, strides: bool = True) -> bool:
    """Whether two tensors have the same shape, type and, if asked, strides."""
    one, two = node.meta["val"], other.meta["val"]
    return one.shape == two.shape and one.dtype == two.dtype and (not strides or one.stride() == two.stride())
