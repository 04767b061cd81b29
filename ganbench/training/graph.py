"""The rounds of a stack, played in the way that is fastest for a game, a number of rounds and a machine.

- few rounds on a CPU: eagerly
- on a CPU: each loss and its gradient replayed from a recording (`trace.py`), with bit-identical results
- many rounds of enough operations on a CPU: the whole round traced once and compiled by Inductor
- on CUDA: the whole round captured as one CUDA graph

The choice depends on the game, the number of rounds and the machine, never on a timing, so that a resumed or repeated
training makes the same choice. The last two work on fixed memory: a round reads the same tensors at every call and
writes the new state over the old one.
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

# Compiling takes half a minute to a minute of one core, and saves a fraction of a millisecond per round of a small
# game. From these numbers of rounds on, it saved time on the machine of docs/speed.md.
MIN_COMPILED_ROUNDS = 50_000
MIN_COMPILED_ROUNDS_LARGE = 3_500  # of a game of at least MIN_LARGE_OPERATIONS operations a round
MIN_LARGE_OPERATIONS = 700
# Above, a recording of a small game is as fast or faster: on the ring by a fifth at 256 seeds of 128 examples.
MAX_COMPILED_EXAMPLES = 8_192  # of all seeds together, in one minibatch
MAX_COMPILED_OPERATIONS = 6_000  # operations a round; compiling takes minutes above
MIN_TORCH = (2, 12)  # 2.11 compiled simultaneous updates wrongly
COMPILED_RTOL = 1e-2  # of the norm: compiled code sums in another order; wrong updates differ by far more

# Rounds on the capture's stream before the capture, in which cuBLAS, cuDNN and the stack fill their caches.
WARM_UP_ROUNDS = 3

Minibatches = Sequence[dict[str, Tensor]]
STATE = ("params", "states", "memory", "alive", "died")  # attributes of a stack that a round changes


class Rounds:
    """Plays the rounds of one training. `note` describes how, for the records; None if it does not affect rounding."""

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
            large = size >= MIN_LARGE_OPERATIONS
            seeds, batch = minibatches[0]["x"].shape[:2]
            pays = self.steps >= MIN_COMPILED_ROUNDS and seeds * batch <= MAX_COMPILED_EXAMPLES
            if size > MAX_COMPILED_OPERATIONS or not (large or pays):
                return
            reason = cannot_compile()
            if reason is None:
                self.fixed = CompiledRound(self.stack, minibatches)
                self.note = "rounds compiled"
                return
        except Exception as error:
            # Play the round eagerly instead. If a loss is wrong, that raises its error with its own traceback.
            inner = getattr(error, "inner_exception", error)  # the cause that Inductor wraps
            reason = next(iter(str(inner).strip().splitlines()), type(inner).__name__)
        finally:
            if self.fixed is None:
                self.stack.layout.cached_inputs.clear()  # undo what the trial rounds have cached
        self.note = f"rounds not compiled: {reason}"

    def play(self, step: int, minibatches: Minibatches) -> dict[str, Tensor]:
        """One round; returns the losses [S] of each player. Raises PluginError if a loss depends on more than its
        inputs."""
        if self.fixed is None:
            return self.stack.play(step, self.steps, minibatches)
        losses = self.fixed.play(step, self.steps, minibatches)
        if isinstance(self.fixed, CapturedRound) and self.fixed.failure:
            self.note = f"rounds not captured as a CUDA graph: {self.fixed.failure}"
            self.fixed = None  # the next rounds are the stack's own
        return losses


def cannot_compile() -> str | None:
    """Why this machine cannot compile a round; None if it can."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < MIN_TORCH:
        return f"PyTorch {torch.__version__} is older than {'.'.join(map(str, MIN_TORCH))}"
    # Inductor's own choice of a compiler, which it needs even if its cache has the kernels.
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return None if shutil.which(compiler) else f"there is no C++ compiler {compiler!r}"


def count_operations(stack: Stack, minibatches: Minibatches) -> int:
    """The number of tensor operations of a round, including views. The state of the stack does not change, but the
    caches of its layout are filled."""

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
    """A round on fixed memory, which also holds the state of its stack."""

    def __init__(self, stack: Stack, minibatches: Minibatches) -> None:
        self.stack = stack
        for name, value in _state(stack).items():
            setattr(stack, name, pytree.tree_map(_contiguous_copy, value))
        self.clock = _clock(minibatches)
        self.minibatches = pytree.tree_map(_contiguous_copy, [dict(one) for one in minibatches])
        self.calls = 0

    def load(self, step: int, steps: int, minibatches: Minibatches) -> None:
        """Copy the inputs of a round into the fixed memory."""
        for fixed, new in zip(self.minibatches, minibatches, strict=True):
            for name, tensor in fixed.items():
                tensor.copy_(new[name])
        # Tensors, since Python numbers would become constants of the graph.
        self.clock["step"].fill_(step)
        self.clock["progress"].fill_(step / steps)
        self.calls += 1

    def play_eagerly(self, functional: bool) -> dict[str, Tensor]:
        """The stack's own round; returns the losses [S] of each player."""
        losses, new = _play_copy(self.stack, self.clock, self.minibatches, functional)
        _write(_state(self.stack), new)
        return losses

    def check(self, play: Callable[[], dict[str, Tensor]], functional: bool) -> None:
        """Play a round twice, by `play` and by the stack itself, from the same state, and restore that state. Raises
        PluginError if they differ in a loss or in an optimiser's state. Parameters are not compared: if a gradient is
        only rounding error, Adam still makes a full step in its direction."""
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
        """Raises any exception of PyTorch if the round cannot be traced or compiled, and RuntimeError if the compiled
        round is wrong."""
        super().__init__(stack, minibatches)
        inputs, structure = pytree.tree_flatten((_state(stack), stack.buffers, self.clock, self.minibatches))
        self.inputs = inputs

        def function(*tensors: Tensor) -> tuple[Tensor, ...]:
            state, buffers, clock, minibatches = pytree.tree_unflatten(tensors, structure)
            losses, new = _play_copy(stack, clock, minibatches, functional=True, state=state, buffers=buffers)
            _write(state, new)
            return tuple(losses[player] for player in stack.game.players)

        # On copies, since tracing plays a round.
        self.graph = make_fx(function)(*map(_contiguous_copy, inputs))
        self.graph.graph.eliminate_dead_code()
        self.graph.recompile()
        self.compiled = torch.compile(
            self.graph,
            fullgraph=True,
            dynamic=False,
            options={
                # The inputs are the same tensors at every call, so there is nothing to guard against.
                "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
                # No pool of processes, since the other cores are busy with other workers.
                "compile_threads": 1,
            },
        )

        # Compile, by calling it, and compare with the trace: PyTorch 2.11 compiled a simultaneous game wrongly, with
        # right losses but wrong updates.
        results = []
        for play in (self.compiled, self.graph):
            tensors = list(map(_contiguous_copy, inputs))
            with torch.no_grad():
                losses = play(*tensors)
            states = pytree.tree_unflatten(tensors, structure)[0]["states"]
            results.append([*losses, *pytree.tree_leaves(states)])
        for one, other in zip(*results, strict=True):
            error, size = (float(torch.nan_to_num(t).norm()) for t in (one - other, other))
            # A loss may be a small difference of large terms, so its scale is at least 1.
            if error > COMPILED_RTOL * (max(size, 1) if one.ndim == 1 else size):
                raise RuntimeError("the compiled round gives other numbers than its trace")

    def play(self, step: int, steps: int, minibatches: Minibatches) -> dict[str, Tensor]:
        """One round; the losses [S] of each player."""
        with torch.no_grad():
            self.load(step, steps, minibatches)
        if self.calls >= 4 and self.calls.bit_count() == 1:  # rounds 4, 8, 16, ...
            # Check the trace, not the compiled round, which rounds differently without any fault of a loss.
            self.check(partial(self._call, self.graph), functional=True)
        return self._call(self.compiled)

    def _call(self, function: Callable[..., tuple[Tensor, ...]]) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(zip(self.stack.game.players, function(*self.inputs), strict=True))


class CapturedRound(FixedRound):
    """A round as one CUDA graph. On other devices, for tests, the same steps on fixed memory, where "capture" and
    "replay" just play the round."""

    def __init__(self, stack: Stack, minibatches: Minibatches) -> None:
        super().__init__(stack, minibatches)
        self.failure: str | None = None  # why the last round was not captured
        self.replay: Callable[[], None] | None = None
        self.losses: dict[str, Tensor] = {}
        self.cuda = stack.alive.device.type == "cuda"
        self.stream: Any = torch.cuda.Stream() if self.cuda else None

    def play(self, step: int, steps: int, minibatches: Minibatches) -> dict[str, Tensor]:
        """One round; returns the losses [S] of each player. A round that cannot be captured is played eagerly, and
        `failure` says why."""
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
        # Copies, since the next replay overwrites the graph's outputs.
        return {player: loss.clone() for player, loss in self.losses.items()}

    def _attempt(self, function: Callable[[], None]) -> None:
        """Call `function`. If it fails, record why, restore the state, and play the round eagerly."""
        from .loop import out_of_memory  # a local import, since the loop imports this module

        before = pytree.tree_map(torch.clone, _state(self.stack))
        try:
            function()
        except Exception as error:
            if out_of_memory(error):  # the caller then splits the stack
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
        """The same, but an error if anything synchronises with the GPU, which is not possible in a capture."""
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
        # Thread-local, so that other threads of the worker, such as the one that watches its parent, may call CUDA.
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
    """A round from the state of a stack, or from `state`: returns the losses [S] and the new state. `functional`: no
    tensor is modified in place and no number is read; otherwise optimisers may update parameters in place."""
    player = copy(stack)
    player.functional = functional
    player.gradients = {name: partial(player._gradient, name) for name in stack.game.players}
    player.buffers = stack.buffers if buffers is None else buffers
    for name, value in (state or _state(stack)).items():
        # New containers with the same tensors, since a round replaces the entries of its containers.
        setattr(player, name, pytree.tree_map(lambda tensor: tensor, value))
    losses = player.round(clock, minibatches)
    return losses, _state(player)


def _write(state: dict[str, Any], new: dict[str, Any]) -> None:
    """Copy the tensors of `new` into those of `state`."""
    with torch.no_grad():
        for old, value in zip(pytree.tree_leaves(state), pytree.tree_leaves(new), strict=True):
            if value is not old:  # the same tensor has been updated in place
                old.copy_(value)


def _clock(minibatches: Minibatches) -> dict[str, Tensor]:
    return {name: minibatches[0]["x"].new_zeros(()) for name in CLOCK}


def _contiguous_copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)
