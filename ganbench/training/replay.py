"""Replays recorded graphs on fixed memory.

Views are created once, and every operation writes to the same memory at each call. A call is then a list of kernels
without allocations in between, and the results of one kernel are still in the CPU's cache for the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import getitem
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate, map_arg

from .simplify import is_view, same_layout

aten = torch.ops.aten

# Results of these operations depend on shapes only, so they are computed once.
CONSTANTS = (
    aten.ones_like.default, aten.zeros_like.default, aten.full_like.default, aten.full.default, aten.ones.default,
    aten.zeros.default, aten.new_ones.default, aten.new_zeros.default, aten.new_full.default,
    aten.scalar_tensor.default,
)  # fmt: skip

Kernel = Callable[[], Any]


class BufferPool:
    """Memory for results, shared by the graphs of a game, since only one of them runs at a time."""

    def __init__(self) -> None:
        self.free: dict[int, list[Tensor]] = defaultdict(list)  # bytes -> buffers
        self.buffers: list[Tensor] = []

    def reset(self) -> None:
        """Mark all buffers as free."""
        self.free.clear()
        for buffer in self.buffers:
            self.free[len(buffer)].append(buffer)

    def allocate(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """A buffer, and a view of it with the shape, dtype and strides of `tensor`."""
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        size = (last + 1) * tensor.element_size() if tensor.numel() else 0
        if self.free[size]:
            buffer = self.free[size].pop()  # the one released last, which is most likely still in the cache
        else:
            buffer = torch.empty(size, dtype=torch.uint8, device=tensor.device)
            self.buffers.append(buffer)
        return buffer, buffer.view(tensor.dtype).as_strided(tensor.shape, tensor.stride())

    def release(self, buffer: Tensor) -> None:
        """Return a buffer to the pool, for a later result."""
        self.free[len(buffer)].append(buffer)


class Playback:
    """A function of tensors, recorded by `make_fx`, that modifies none of its inputs."""

    def __init__(self, graph: GraphModule, inputs: Sequence[Tensor], pool: BufferPool) -> None:
        """inputs: the tensors with which the function was recorded"""
        self.graph, self.pool = graph, pool
        self.copied: set[int] = set()  # positions of inputs whose memory changes between calls
        self._prepare(inputs)

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The function's results for other tensors of the same shapes."""
        # Kernels hold references to their input tensors. An input at a new address (a minibatch, unlike a parameter)
        # is copied into a fixed tensor from now on.
        moved = {
            position
            for position, tensor in self.inputs.items()
            if position not in self.copied
            and (
                inputs[position].data_ptr() != tensor.data_ptr()
                or inputs[position].stride() != tensor.stride()
            )
        }
        if moved:
            self.copied |= moved
            self._prepare(inputs)
        for position in self.copied:
            self.inputs[position].copy_(inputs[position])
        for kernel in self.kernels:
            kernel()
        return tuple(result() for result in self.results)

    def _prepare(self, inputs: Sequence[Tensor]) -> None:
        """Allocate the memory and choose the kernels, by running the graph once."""
        self.inputs: dict[int, Tensor] = {}
        self.kernels: list[Kernel] = []
        self.results: list[Kernel] = []
        self.pool.reset()
        liveness = Liveness(self.graph)
        values: dict[Node, Any] = {}
        positions = iter(range(len(inputs)))
        for node in self.graph.graph.nodes:
            args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
            if node.op == "placeholder":
                position = next(positions)
                tensor = inputs[position]
                values[node] = tensor.clone() if position in self.copied else tensor
                if node.users:
                    self.inputs[position] = values[node]
            elif node.op == "get_attr":
                values[node] = getattr(self.graph, node.target)
            elif node.op == "output":
                self.results = [
                    values[one] if one in liveness.fresh_outputs else values[one].clone
                    for one in node.args[0]
                ]
            elif node in liveness.fresh_outputs:
                values[node] = partial(node.target, *args, **kwargs)
            elif node in liveness.constants or not _computes(node):
                values[node] = node.target(*args, **kwargs)
            else:
                values[node] = self._add_kernel(node, args, kwargs, liveness, values)
            for buffer in liveness.released(node):
                self.pool.release(buffer)

    def _add_kernel(
        self, node: Node, args: Any, kwargs: Any, liveness: Liveness, values: dict[Node, Any]
    ) -> Any:
        """Add an operation to the kernels; returns the tensor, or list of tensors, that it writes."""
        target: Any = node.target
        expected = target(*args, **kwargs)
        if not isinstance(expected, Tensor):
            # Several results. Unused ones get no memory.
            readers = {part.args[1]: part for part in node.users}
            results: list[Tensor | None] = [None] * len(expected)
            for index, one in enumerate(expected):
                if index in readers and one is not None:
                    liveness.buffers[readers[index]], results[index] = self.pool.allocate(one)
            kernel = partial(_call_and_copy, target, args, kwargs, results)
            kernel()
            self.kernels.append(kernel)
            return results
        argument = liveness.overwritten(node)
        if argument is None:
            liveness.buffers[node], result = self.pool.allocate(expected)
        else:
            result = values[argument]
        self.kernels.append(out_variant(target, args, kwargs, result, expected))
        result.copy_(expected)
        return result


class Liveness:
    """Which nodes of a graph share memory, and which node reads that memory last."""

    def __init__(self, graph: GraphModule) -> None:
        nodes = list(graph.graph.nodes)
        self.buffers: dict[Node, Tensor] = {}  # owner -> the buffer that it writes
        self.owner: dict[
            Node, Node
        ] = {}  # node -> the node that allocated its memory (itself, unless a view)
        self.last_reader: dict[Node, Node] = {}  # owner -> the last node that reads its memory
        self.constants: set[Node] = set()  # the same at every call
        end = nodes[-1]
        # Results that only the caller reads are computed last, into fresh memory that the caller may keep.
        self.fresh_outputs = {
            node for node in end.all_input_nodes if _computes(node) and list(node.users) == [end]
        }
        for node in nodes:
            self.owner[node] = self.owner[node.args[0]] if is_view(node) else node
            for argument in node.all_input_nodes:
                owner = self.owner[argument]
                at_end = node in self.fresh_outputs or self.last_reader.get(owner) is end
                self.last_reader[owner] = end if at_end else node
            arguments = node.all_input_nodes
            constant = arguments and self.constants.issuperset(arguments) and node.op == "call_function"
            if node.op == "get_attr" or node.target in CONSTANTS or constant:
                self.constants.add(node)

    def overwritten(self, node: Node) -> Node | None:
        """The argument whose memory the result of an elementwise operation can reuse, because nothing reads it
        afterwards; None if there is none. The result becomes part of that memory's owner."""
        target: Any = node.target
        if torch.Tag.pointwise not in target.tags:
            return None
        owners = [self.owner[argument] for argument in node.all_input_nodes]
        for argument in node.all_input_nodes:
            owner = self.owner[argument]
            free = (
                owner.op == "call_function"
                and owner not in self.constants
                and self.last_reader[owner] is node
                and owners.count(owner) == 1
            )
            if free and same_layout(node, argument) and same_layout(node, owner, strides=False):
                for one, its_owner in self.owner.items():
                    if its_owner is node:
                        self.owner[one] = owner
                self.last_reader[owner] = self.last_reader[node]
                return argument
        return None

    def released(self, node: Node) -> Iterator[Tensor]:
        """The buffers that no node after this one reads."""
        for owner in dict.fromkeys(self.owner[argument] for argument in node.all_input_nodes):
            if self.last_reader[owner] is node and owner in self.buffers:
                yield self.buffers.pop(owner)


def _computes(node: Node) -> bool:
    """Whether a node is an operation with new memory for its result, not a view."""
    return node.op == "call_function" and node.target is not getitem and not is_view(node)


def out_variant(target: OpOverload, args: Any, kwargs: Any, result: Tensor, expected: Tensor) -> Kernel:
    """The fastest kernel that writes the result of an operation into `result`, which may be one of its arguments. Each
    candidate is tried on these arguments and must compute `expected`."""
    for candidate, name in _out_candidates(target):
        out = result.clone()  # a trial must not overwrite an argument
        trial = map_aggregate((args, kwargs), lambda one, out=out: out if one is result else one)
        try:
            candidate(*trial[0], **trial[1], **{name: out})
        except (TypeError, RuntimeError):
            continue
        if torch.equal(torch.nan_to_num(out), torch.nan_to_num(expected)):
            return partial(candidate, *args, **kwargs, **{name: result})
    return partial(_call_and_copy, target, args, kwargs, result)


def _out_candidates(target: OpOverload) -> Iterator[tuple[Callable[..., Any], str]]:
    """Functions that write the result of an operation to a given tensor, and the name of that argument."""
    name = target._schema.name.split("::")[1]
    # PyTorch's own functions first: calling one takes half the time of calling an operator.
    for module in (torch, torch._C._nn):  # pyright: ignore[reportAttributeAccessIssue]
        if hasattr(module, name):
            yield getattr(module, name), "out"
    packet = target.overloadpacket
    for overload in packet.overloads():
        variant = getattr(packet, overload)
        outs = [argument.name for argument in variant._schema.arguments if argument.is_out]
        if len(outs) == 1:
            yield variant, outs[0]


def _call_and_copy(target: OpOverload, args: Any, kwargs: Any, results: Any) -> None:
    """Compute and copy, for operations without an `out=` variant and for those with several results, of which some may
    be unused (None in `results`)."""
    values = target(*args, **kwargs)
    pairs = [(results, values)] if isinstance(results, Tensor) else zip(results, values, strict=True)
    for result, value in pairs:
        if result is not None:
            result.copy_(value)
