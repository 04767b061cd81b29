"""The rounds of a stack, played in the way that is fastest for a game, a number of rounds and a machine.

- few rounds on a CPU: as they are
- on a CPU: each loss and its gradient played back from a recording (`trace.py`), equal to the bit
- many rounds of enough operations on a CPU: the whole round traced once and compiled by Inductor
- on CUDA: the whole round captured as one CUDA graph

Which one follows from the game, the number of rounds and the machine, never from a timing, so that a resumed or a
repeated training takes the same. The last two work on fixed memory: a round reads the same tensors at every call, and
leaves the new state where the old one was.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from .stack import CLOCK, Stack
from .trace import check_recording, record_losses

# Compiling takes half a minute to a minute of one core, and saves a part of a millisecond in each round of a small
# game. These are the numbers of rounds at which it had paid for itself on one machine (docs/speed.md).
MIN_COMPILED_ROUNDS = 50_000
MIN_COMPILED_ROUNDS_LARGE = 3_500  # of a game of at least MIN_LARGE operations a round
MIN_LARGE = 700
MAX_COMPILED = 6_000  # operations a round; compiling takes minutes above
MIN_TORCH = (2, 12)  # 2.11 was seen to compile simultaneous updates wrongly
COMPILED_RTOL = 1e-2  # of the norm: compiled sums are in another order, wrong updates differ by far more

WARM_UP_ROUNDS = (
    3  # played on the capture's stream before it: cuBLAS, cuDNN and the stack fill their caches then
)

Minibatches = Sequence[dict[str, Tensor]]
STATE = ("params", "states", "memory", "alive", "died")  # what a round changes in a stack


class Rounds:
    """Plays the rounds of one training. `note` says what a record must say of the way, None where it makes no
    difference to the numbers."""

    def __init__(self, stack: Stack, steps: int, example: Callable[[], Minibatches]) -> None:
        """steps: rounds of the whole training; example: minibatches of one round, for their shapes"""
        self.stack, self.steps = stack, steps
        self.note: str | None = None
        self.fixed: CompiledRound | CapturedRound | None = None
        device = stack.alive.device.type
        if device == "cuda":
            self.fixed = CapturedRound(stack, example())
        elif device == "cpu" and steps >= MIN_COMPILED_ROUNDS_LARGE:
            self._compile(example())
        if self.fixed is None:
            record_losses(stack, steps)

    def _compile(self, minibatches: Minibatches) -> None:
        try:
            size = count_operations(self.stack, minibatches)
            large = size >= MIN_LARGE
            if size > MAX_COMPILED or (self.steps < MIN_COMPILED_ROUNDS and not large):
                return
            reason = cannot_compile()
            if reason is None:
                self.fixed = CompiledRound(self.stack, minibatches)
                self.note = "rounds compiled"
                return
        except Exception as error:
            # Nothing is lost: the round is played as it is, and an error of a loss shows there with its own traceback.
            inner = getattr(error, "inner_exception", error)  # of what Inductor has run
            reason = next(iter(str(inner).strip().splitlines()), type(inner).__name__)
        finally:
            if self.fixed is None:
                self.stack.layout.cached_inputs.clear()  # as if no round had been tried
        self.note = f"rounds not compiled: {reason}"

    def play(self, step: int, minibatches: Minibatches) -> dict[str, Tensor]:
        """One round; the losses [S] of each player. Raises PluginError where a loss depends on more than its
        inputs."""
        if self.fixed is None:
            return self.stack.play(step, self.steps, minibatches)
        losses = self.fixed.play(step, self.steps, minibatches)
        if isinstance(self.fixed, CapturedRound) and self.fixed.failure:
            self.note = f"rounds not captured as a CUDA graph: {self.fixed.failure}"
            self.fixed = None  # the next rounds are the stack's own
        return losses


def cannot_compile() -> str | None:
    """Why this machine cannot compile a round; None where it can."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < MIN_TORCH:
        return f"PyTorch {torch.__version__} is older than {'.'.join(map(str, MIN_TORCH))}"
    # Inductor's own choice. It is needed even where its cache has the kernels.
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return None if shutil.which(compiler) else f"there is no C++ compiler {compiler!r}"


def count_operations(stack: Stack, minibatches: Minibatches) -> int:
    """The tensor operations of a round, views included. The stack stays where it is, but the caches of its layout are
    filled."""

    class Counter(TorchDispatchMode):
        operations = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.operations += 1
            return func(*args, **(kwargs or {}))

    clock, counter = _clock(minibatches), Counter()
    _play_copy(stack, clock, minibatches)  # the first round fills caches
    with counter:
        _play_copy(stack, clock, minibatches)
    return counter.operations


class FixedRound:
    """A round on fixed memory, in which the state of its stack lies too."""

    def __init__(self, stack: Stack, minibatches: Minibatches) -> None:
        self.stack = stack
        for name, value in _state(stack).items():
            setattr(stack, name, pytree.tree_map(_contiguous_copy, value))
        self.clock = _clock(minibatches)
        self.minibatches = pytree.tree_map(_contiguous_copy, [dict(one) for one in minibatches])
        self.calls = 0

    def load(self, step: int, steps: int, minibatches: Minibatches) -> None:
        """Write the inputs of a round."""
        for fixed, new in zip(self.minibatches, minibatches, strict=True):
            for name, tensor in fixed.items():
                tensor.copy_(new[name])
        # As numbers they would be constants of the graph.
        self.clock["step"].fill_(step)
        self.clock["progress"].fill_(step / steps)
        self.calls += 1

    def play_eagerly(self, functional: bool) -> dict[str, Tensor]:
        """The stack's own round; the losses [S] of each player."""
        losses, new = _play_copy(self.stack, self.clock, self.minibatches, functional)
        _write(_state(self.stack), new)
        return losses

    def check(self, play: Callable[[], dict[str, Tensor]], functional: bool) -> None:
        """Play a round twice from the same state, and go back there. Raises PluginError where `play` and the stack
        itself differ in a loss or in an optimiser's state: parameters may differ where a gradient is nothing but
        rounding, of which Adam makes whole steps."""
        before = pytree.tree_map(torch.clone, _state(self.stack))
        results = []
        for function in (play, partial(self.play_eagerly, functional)):
            losses = function()
            results.append(pytree.tree_map(torch.clone, (losses, self.stack.states)))
            _write(_state(self.stack), before)
        for player in self.stack.game.players:
            tensors = [pytree.tree_leaves((losses[player], states[player])) for losses, states in results]
            check_recording(f"the loss of player {player!r}", *tensors)


class CompiledRound(FixedRound):
    """A round traced by `make_fx` and compiled by Inductor."""

    def __init__(self, stack: Stack, minibatches: Minibatches) -> None:
        """Raises whatever PyTorch does where a round cannot be traced or compiled, and RuntimeError where the compiled
        round is wrong."""
        super().__init__(stack, minibatches)
        inputs, structure = pytree.tree_flatten((_state(stack), stack.buffers, self.clock, self.minibatches))
        self.inputs = inputs

        def function(*tensors: Tensor) -> tuple[Tensor, ...]:
            state, buffers, clock, minibatches = pytree.tree_unflatten(tensors, structure)
            losses, new = _play_copy(stack, clock, minibatches, functional=True, state=state, buffers=buffers)
            _write(state, new)
            return tuple(losses[player] for player in stack.game.players)

        self.graph = make_fx(function)(
            *map(_contiguous_copy, inputs)
        )  # tracing plays a round: not with the state
        self.graph.graph.eliminate_dead_code()
        self.graph.recompile()
        self.compiled = torch.compile(
            self.graph,
            fullgraph=True,
            dynamic=False,
            options={
                # The inputs are the same tensors at every call, so there is nothing to guard against.
                "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
                # No pool of processes: the other cores belong to other workers.
                "compile_threads": 1,
            },
        )

        # Compile, at the first call, and compare with the trace: PyTorch 2.11 was seen to compile a simultaneous game
        # wrongly, with right losses and wrong updates.
        results = []
        for play in (self.compiled, self.graph):
            tensors = list(map(_contiguous_copy, inputs))
            with torch.no_grad():
                losses = play(*tensors)
            states = pytree.tree_unflatten(tensors, structure)[0]["states"]
            results.append([*losses, *pytree.tree_leaves(states)])
        for one, other in zip(*results, strict=True):
            error, size = (float(torch.nan_to_num(t).norm()) for t in (one - other, other))
            # A loss may be a difference of large terms, so at least 1.
            if error > COMPILED_RTOL * (max(size, 1) if one.ndim == 1 else size):
                raise RuntimeError("the compiled round gives other numbers than its trace")

    def play(self, step: int, steps: int, minibatches: Minibatches) -> dict[str, Tensor]:
        """One round; the losses [S] of each player."""
        with torch.no_grad():
            self.load(step, steps, minibatches)
        if self.calls >= 4 and self.calls.bit_count() == 1:  # rounds 4, 8, 16, ...
            # The trace: what the compiled round rounds differently is no fault of a loss.
            self.check(partial(self._call, self.graph), functional=True)
        return self._call(self.compiled)

    def _call(self, function: Callable[..., tuple[Tensor, ...]]) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(zip(self.stack.game.players, function(*self.inputs), strict=True))


class CapturedRound(FixedRound):
    """A round as one CUDA graph. On other devices the same steps on the same fixed memory, a capture being a call."""

    def __init__(self, stack: Stack, minibatches: Minibatches) -> None:
        super().__init__(stack, minibatches)
        self.failure: str | None = None  # why the last round was not captured
        self.replay: Callable[[], None] | None = None
        self.losses: dict[str, Tensor] = {}
        self.cuda = stack.alive.device.type == "cuda"
        self.stream: Any = torch.cuda.Stream() if self.cuda else None

    def play(self, step: int, steps: int, minibatches: Minibatches) -> dict[str, Tensor]:
        """One round; the losses [S] of each player. Where it cannot be captured it is played as it is, and `failure`
        says why."""
        with torch.no_grad():
            self.load(step, steps, minibatches)
        if self.failure or self.calls < WARM_UP_ROUNDS:
            self._warm_up()
        elif self.calls == WARM_UP_ROUNDS:
            self._attempt(self._warm_up_strictly)
        else:
            if self.replay is None:
                self._attempt(self._capture)
            if self.replay is not None and self.calls.bit_count() == 1:  # rounds 4, 8, 16, ...
                self.check(self._replay, functional=False)
            if self.replay is not None:
                self._replay()
        # Copies: the next replay writes over the graph's own.
        return {player: loss.clone() for player, loss in self.losses.items()}

    def _attempt(self, function: Callable[[], None]) -> None:
        """Call it; where that fails, note why and play the round as it is, from the state before."""
        from .loop import out_of_memory  # here: the loop imports this module

        before = pytree.tree_map(torch.clone, _state(self.stack))
        try:
            function()
        except Exception as error:
            if out_of_memory(error):  # the stack is split then
                raise
            self.failure = next(iter(str(error).strip().splitlines()), type(error).__name__)
            self.replay = None
            _write(_state(self.stack), before)
            self._warm_up()

    def _round(self) -> None:
        self.losses = self.play_eagerly(functional=False)

    def _warm_up(self) -> None:
        """A round on the stream of the capture."""
        if not self.cuda:
            self._round()
            return
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self._round()
        torch.cuda.current_stream().wait_stream(self.stream)

    def _warm_up_strictly(self) -> None:
        """The same, and an error where anything waits for the GPU, which a capture could not."""
        if not self.cuda:
            self._round()
            return
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            self._warm_up()
        finally:
            torch.cuda.set_sync_debug_mode(mode)

    def _capture(self) -> None:
        if not self.cuda:
            self.replay = self._round
            return
        graph = torch.cuda.CUDAGraph()
        # Other threads of the worker, such as the one that watches its parent, may go on.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self._round()  # recorded, not executed
        self.replay = graph.replay

    def _replay(self) -> dict[str, Tensor]:
        assert self.replay is not None  # noqa: S101
        self.replay()
        return self.losses


def _state(stack: Stack) -> dict[str, Any]:
    return {name: getattr(stack, name) for name in STATE}


def _play_copy(
    stack: Stack,
    clock: dict[str, Tensor],
    minibatches: Minibatches,
    functional: bool = True,
    *,
    state: dict[str, Any] | None = None,
    buffers: Any = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A round from the state of a stack, or from another one: the losses [S] and the new state. `functional`: nothing
    is written over and no number is read; otherwise optimisers may update parameters in place."""
    player = copy(stack)
    player.functional = functional
    player.gradients = {name: partial(player._gradient, name) for name in stack.game.players}
    player.buffers = stack.buffers if buffers is None else buffers
    for name, value in (state or _state(stack)).items():
        # New containers with the same tensors: a round puts others into its own.
        setattr(player, name, pytree.tree_map(lambda tensor: tensor, value))
    losses = player.round(clock, minibatches)
    return losses, _state(player)


def _write(state: dict[str, Any], new: dict[str, Any]) -> None:
    """Write a state over another one."""
    with torch.no_grad():
        for old, value in zip(pytree.tree_leaves(state), pytree.tree_leaves(new), strict=True):
            if value is not old:  # else updated in place
                old.copy_(value)


def _clock(minibatches: Minibatches) -> dict[str, Tensor]:
    return {name: minibatches[0]["x"].new_zeros(()) for name in CLOCK}


def _contiguous_copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)
