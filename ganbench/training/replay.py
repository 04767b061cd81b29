"""Recorded graphs played on fixed memory.

Views are made once, and every operation writes where it wrote the last time, so that a call is a list of kernels
without allocations between them, and what one writes the next finds in the cache.
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

from .simplify import alike, is_view

aten = torch.ops.aten

# What these give depends on shapes alone.
FILLED = (
    aten.ones_like.default, aten.zeros_like.default, aten.full_like.default, aten.full.default, aten.ones.default,
    aten.zeros.default, aten.new_ones.default, aten.new_zeros.default, aten.new_full.default,
    aten.scalar_tensor.default,
)  # fmt: skip

Kernel = Callable[[], Any]


class Memory:
    """Memory for results, shared by the graphs of a game, of which only one plays at a time."""

    def __init__(self) -> None:
        self.free: dict[int, list[Tensor]] = defaultdict(list)
        self.made: list[Tensor] = []

    def restart(self) -> None:
        """All of it is free."""
        self.free.clear()
        for room in self.made:
            self.free[len(room)].append(room)

    def like(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Memory, and a tensor in it with the shape, type and strides of another; that used last comes first, since
        it is still in the cache."""
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        size = (last + 1) * tensor.element_size() if tensor.numel() else 0
        if self.free[size]:
            room = self.free[size].pop()
        else:
            room = torch.empty(size, dtype=torch.uint8, device=tensor.device)
            self.made.append(room)
        return room, room.view(tensor.dtype).as_strided(tensor.shape, tensor.stride())

    def give_back(self, room: Tensor) -> None:
        """Let the next result have it."""
        self.free[len(room)].append(room)


class Playback:
    """A function of tensors, recorded by `make_fx`, that writes over none of them."""

    def __init__(self, graph: GraphModule, given: Sequence[Tensor], memory: Memory) -> None:
        """given: what the function was recorded with"""
        self.graph, self.memory = graph, memory
        self.own: set[int] = set()  # inputs that come from changing places and are copied to a fixed one
        self._prepare(given)

    def __call__(self, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the function gives for other tensors of the same shapes."""
        moved = {
            place
            for place, at in self.inputs.items()
            if place not in self.own
            and (given[place].data_ptr() != at.data_ptr() or given[place].stride() != at.stride())
        }
        if moved:
            self.own |= moved
            self._prepare(given)
        for place in self.own:
            self.inputs[place].copy_(given[place])
        for kernel in self.kernels:
            kernel()
        return tuple(result() for result in self.results)

    def _prepare(self, given: Sequence[Tensor]) -> None:
        """Lay out the memory and find the kernels, by going once through the graph."""
        self.inputs: dict[int, Tensor] = {}
        self.kernels: list[Kernel] = []
        self.results: list[Kernel] = []
        self.memory.restart()
        lives = Lives(self.graph)
        values: dict[Node, Any] = {}
        places = iter(range(len(given)))
        for node in self.graph.graph.nodes:
            args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
            if node.op == "placeholder":
                place = next(places)
                values[node] = given[place].clone() if place in self.own else given[place]
                if node.users:
                    self.inputs[place] = values[node]
            elif node.op == "get_attr":
                values[node] = getattr(self.graph, node.target)
            elif node.op == "output":
                self.results = [
                    values[one] if one in lives.anew else values[one].clone for one in node.args[0]
                ]
            elif node in lives.anew:
                values[node] = partial(operation(node), *args, **kwargs)
            elif node in lives.fixed or not _makes(node):
                values[node] = operation(node)(*args, **kwargs)
            else:
                values[node] = self._kernel(node, args, kwargs, lives, values)
            for room in lives.over(node):
                self.memory.give_back(room)

    def _kernel(self, node: Node, args: Any, kwargs: Any, lives: Lives, values: dict[Node, Any]) -> Any:
        """Add what an operation does to the kernels; gives the place of its result."""
        target = operation(node)
        expected = target(*args, **kwargs)
        if not isinstance(expected, Tensor):
            results = self._parts(node, expected, lives)
            self.kernels.append(partial(_copied, target, args, kwargs, results))
            _copied(target, args, kwargs, results)
            return results
        argument = lives.overwritten(node)
        if argument is None:
            lives.rooms[node], result = self.memory.like(expected)
        else:
            result = values[argument]
        self.kernels.append(writing(target, args, kwargs, result, expected))
        result.copy_(expected)
        return result

    def _parts(self, node: Node, expected: Sequence[Tensor | None], lives: Lives) -> list[Tensor | None]:
        """Places for the results of an operation that has several; what nobody reads gets none."""
        read = {part.args[1]: part for part in node.users}
        results: list[Tensor | None] = [None] * len(expected)
        for index, one in enumerate(expected):
            if index in read and one is not None:
                lives.rooms[read[index]], results[index] = self.memory.like(one)
        return results


class Lives:
    """How long memory is read in a graph, and which of it is whose."""

    def __init__(self, graph: GraphModule) -> None:
        nodes = list(graph.graph.nodes)
        self.rooms: dict[Node, Tensor] = {}  # owner -> the memory it was given
        self.owner: dict[Node, Node] = {}  # node -> the one that made the memory it shows
        self.last: dict[Node, Node] = {}  # owner -> the last node that reads its memory
        self.fixed: set[Node] = set()  # the same at every call
        end = nodes[-1]
        # What nothing but the caller reads is made anew for it, at the end.
        self.anew = {node for node in end.all_input_nodes if _makes(node) and list(node.users) == [end]}
        for node in nodes:
            self.owner[node] = self.owner[node.args[0]] if is_view(node) else node
            for read in node.all_input_nodes:
                its = self.owner[read]
                self.last[its] = end if node in self.anew or self.last.get(its) is end else node
            if self._is_fixed(node):
                self.fixed.add(node)

    def _is_fixed(self, node: Node) -> bool:
        known = bool(node.all_input_nodes) and self.fixed.issuperset(node.all_input_nodes)
        return node.op == "get_attr" or node.target in FILLED or (known and node.op == "call_function")

    def overwritten(self, node: Node) -> Node | None:
        """The argument whose memory the result of an elementwise operation may take, if there is one: nothing reads
        it afterwards. It is the result's from then on."""
        if torch.Tag.pointwise not in operation(node).tags:
            return None
        read = [self.owner[argument] for argument in node.all_input_nodes]
        for argument in node.all_input_nodes:
            its = self.owner[argument]
            free = its.op == "call_function" and its not in self.fixed and self.last[its] is node
            if free and read.count(its) == 1 and alike(node, argument) and alike(node, its, strides=False):
                for one, made in self.owner.items():
                    if made is node:
                        self.owner[one] = its
                self.last[its] = self.last[node]
                return argument
        return None

    def over(self, node: Node) -> Iterator[Tensor]:
        """The memory that nothing reads after a node."""
        for its in dict.fromkeys(self.owner[one] for one in node.all_input_nodes):
            if self.last[its] is node and its in self.rooms:
                yield self.rooms.pop(its)


def operation(node: Node) -> Any:
    """What a node calls."""
    return node.target


def _makes(node: Node) -> bool:
    """Whether a node is an operation with a result of its own."""
    return node.op == "call_function" and node.target is not getitem and not is_view(node)


def writing(target: OpOverload, args: Any, kwargs: Any, result: Tensor, expected: Tensor) -> Kernel:
    """An operation that writes into `result`, which may be one of its arguments, in the fastest way that gives what is
    expected of these arguments."""
    for candidate, name in _candidates(target):
        into = result.clone()  # a try must not spoil the argument
        tried = map_aggregate((args, kwargs), lambda one, into=into: into if one is result else one)
        try:
            candidate(*tried[0], **tried[1], **{name: into})
        except (TypeError, RuntimeError):
            continue
        if torch.equal(torch.nan_to_num(into), torch.nan_to_num(expected)):
            return partial(candidate, *args, **kwargs, **{name: result})
    return partial(_copied, target, args, kwargs, result)


def _candidates(target: OpOverload) -> Iterator[tuple[Callable[..., Any], str]]:
    """Ways to have the result of an operation written to a place, and the name under which they take that: functions
    of PyTorch, which are called in half the time, and the operation itself."""
    name = target._schema.name.split("::")[1]
    for module in (torch, torch._C._nn):  # pyright: ignore[reportAttributeAccessIssue]
        if hasattr(module, name):
            yield getattr(module, name), "out"
    packet = target.overloadpacket
    for overload in packet.overloads():
        operation = getattr(packet, overload)
        places = [argument.name for argument in operation._schema.arguments if argument.is_out]
        if len(places) == 1:
            yield operation, places[0]


def _copied(target: OpOverload, args: Any, kwargs: Any, places: Any) -> None:
    """For operations that cannot write to a place, or have several results, of which some may have none."""
    found = target(*args, **kwargs)
    pairs = [(places, found)] if isinstance(places, Tensor) else zip(places, found, strict=True)
    for place, one in pairs:
        if place is not None:
            place.copy_(one)
