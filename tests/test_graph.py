"""Whole rounds on fixed memory: captured as a CUDA graph, where a call takes the capture's place here, and compiled."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from cells import cells, pixels, points
from torch.utils import _pytree as pytree

from ganbench import PluginError, registry
from ganbench.training import graph
from ganbench.training.graph import CapturedRound, CompiledRound, Rounds, count_operations
from ganbench.training.loop import train
from ganbench.training.rng import Draws, build_game
from ganbench.training.stack import Stack
from ganbench.training.trace import RecordedFunction

CPU, BATCH, STEPS = torch.device("cpu"), 8, 12
CATALOG = registry.catalog()
GAMES = [name for name, plugin in CATALOG["method"].items() if plugin.interface == "game"]
# Parameters of methods and tricks. 28 pixels have two levels of a pyramid down to 14.
SMALL = {
    "width": "8",
    "z_dim": "4",
    "squarings": "1",
    "coarsest": "14",
    "kernels": "3",
    "k": "2",
    "reference": "4",
}
CRITICS = {"sngan", "wgan", "wgan_gp"}  # of five updates in a round, of which two are tried
ONE_LAYER = {"depth": "1", "g_depth": "1", "v_depth": "1"}  # of hidden ones
ALL = ("unrolling", "instance_noise", "ema", "historical_averaging", "r1")
SLOW = {"dcgan", "gan_2014", "lapgan", "metz_2017", "sngan", "+".join(["gan", *ALL])}


def entry(method, tricks=(), **more):
    def params(kind, name):
        small = {**SMALL, **more, **({"d_steps": "2"} if name in CRITICS else {})}
        given = ", ".join(f"{key}: {value}" for key, value in small.items() if CATALOG[kind][name].param(key))
        return f"{{{kind}: {name}, params: {{{given}}}"

    return (
        params("method", method) + f", tricks: [{', '.join(params('trick', one) + '}' for one in tricks)}]}}"
    )


PAIRS = [
    *((method, ()) for method in GAMES),
    *(("gan", (trick,)) for trick in CATALOG["trick"] if trick != "virtual_batch_norm"),
    ("gan", ALL),
    ("dcgan", ("virtual_batch_norm",)),
]
CASES = [
    pytest.param(
        entry(method, tricks, **ONE_LAYER),
        marks=pytest.mark.slow if {method, "+".join([method, *tricks])} & SLOW else (),
        id="+".join([method, *tricks]),
    )
    for method, tricks in PAIRS
]
QUICK = {"gan", "vae", "gan+historical_averaging"}  # to trace
TRACED = [
    pytest.param(*case.values, marks=() if case.id in QUICK else pytest.mark.slow, id=case.id)
    for case in CASES
]


class Twins:
    """The same games as two stacks, which see the same minibatches: `plain` plays as it is, `other` as `play` says."""

    def __init__(self, folder, methods, play, *, seeds=3, dtype=torch.float64, plugins=""):
        (cell,) = cells(folder, f"[{methods}]", plugins=plugins)
        try:
            self.data = points()
            build_game(cell, self.data, 0)
        except PluginError:
            self.data = pixels(28)
        self.plain, self.other = (
            Stack([build_game(cell, self.data, seed) for seed in range(seeds)], CPU, dtype) for _ in range(2)
        )
        self.plain.looped = self.other.looped = (
            False  # the first round of a loop is vectorised, and rounds differently
        )
        self.draws = Draws(self.plain.game, self.data, range(seeds), BATCH, CPU, dtype)
        self.round = play(self.other, self.draws.example())

    def play(self, rounds=STEPS):
        """The losses of all rounds, of either."""
        return [
            (dict(self.plain.play(step, STEPS, minibatches)), self.round.play(step, STEPS, minibatches))
            for step, minibatches in enumerate(self.draws.rounds(rounds))
        ]

    def alive(self):
        """Parameters, states and memory of the replicas that are alive, of either."""
        living = self.plain.alive
        return [
            [tensor[living] for tensor in pytree.tree_leaves((stack.params, stack.states, stack.memory))]
            for stack in (self.plain, self.other)
        ]


def equal(one, other):
    return torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


@pytest.mark.parametrize("methods", CASES)
def test_a_captured_round_is_the_plain_one_to_the_bit(tmp_path, methods):
    twins = Twins(tmp_path, methods, CapturedRound, dtype=torch.float32)
    addresses = [tensor.data_ptr() for tensor in pytree.tree_leaves(graph._state(twins.other))]
    for plain, captured in twins.play(6):
        assert all(equal(captured[player], plain[player]) for player in plain)
    assert all(map(equal, *twins.alive()))
    assert twins.round.replay
    assert twins.round.failure is None
    # The new state lies where the old one was.
    assert [tensor.data_ptr() for tensor in pytree.tree_leaves(graph._state(twins.other))] == addresses


MINE = """
    import torch
    from dataclasses import dataclass
    from ganbench import Adam, Game, Player, RMSprop, method, mlp

    calls = []

    @method
    @dataclass(frozen=True)
    class Mine:
        def game(self, data):
            return Game({{"G": mlp(2, 2)}}, {{"G": Player("G", self.loss, {optimiser}(1e-2))}}, {{"z": (2,)}},
                        lambda nets, z: nets.G(z))

        def loss(self, nets, b):
            calls.append(1)
            {what}
            return (nets.G(b.z) - b.x).square().mean() * weight
"""
DIES = "weight = torch.where((b.step > 4) & (b.x[0, 0] > 1.0), float('nan'), 1.0 + b.progress)"


@pytest.mark.parametrize("optimiser", ["Adam", "RMSprop"])
def test_a_seed_that_dies_in_the_middle_of_a_captured_round(tmp_path, optimiser):
    plugins = MINE.format(what=DIES, optimiser=optimiser)
    twins = Twins(tmp_path, "./mine.py", CapturedRound, seeds=4, plugins=plugins)
    twins.play()
    assert 0 < int(twins.plain.alive.sum()) < 4
    assert torch.equal(twins.other.died, twins.plain.died)
    assert torch.equal(twins.other.params["G"], twins.plain.params["G"])  # of the dead too
    assert all(map(equal, *twins.alive()))


def test_a_dead_replica_stays_where_it_died(tmp_path):
    plugins = MINE.format(what=DIES, optimiser="Adam")
    twins = Twins(tmp_path, "./mine.py", lambda stack, _: stack, seeds=4, plugins=plugins)
    stack, stayed = twins.plain, 0
    for step, minibatches in enumerate(twins.draws.rounds(STEPS)):
        before = stack.params["G"].clone()
        stack.play(step, STEPS, minibatches)
        moved = (stack.params["G"] != before).any(1)
        assert torch.equal(moved, stack.alive)
        stayed += int((~moved).sum())
    assert stayed > int((~stack.alive).sum()) > 0  # for several rounds
    assert torch.isfinite(stack.params["G"]).all()


# ---------------------------------------------------------------------------------------------- torch.cuda, mocked


REFUSED = "operation not permitted when stream is capturing"


class FakeCuda:
    """What `CapturedRound` uses of torch.cuda, written down in order. Capturing plays nothing; a replay plays the
    round."""

    def __init__(self, monkeypatch, failing=(), error=None):
        self.log, self.failing, self.mode = [], set(failing), 0
        self.error = error or RuntimeError(REFUSED)
        names = ("Stream", "current_stream", "stream", "graph", "CUDAGraph")
        for name in (*names, "get_sync_debug_mode", "set_sync_debug_mode"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def attach(self, stack, minibatches):
        """A captured round that takes the CPU for a GPU."""
        captured = CapturedRound(stack, minibatches)
        captured.cuda, captured.stream, self.captured = True, self.Stream(), captured
        eager = captured._round

        def round():
            self.log.append("record" if "capture" in self.log[-1:] else "round")
            if self.log[-1] in self.failing or ("wait" in self.failing and self.mode == "error"):
                eager()  # it fails at the end, when all has changed
                raise self.error
            if self.log[-1] == "round":
                eager()

        captured._round = round
        self.eager = eager
        return captured

    def Stream(self):
        return SimpleNamespace(wait_stream=lambda other: None)

    current_stream = Stream

    @contextmanager
    def stream(self, stream):
        yield

    @contextmanager
    def graph(self, graph, stream, capture_error_mode):
        self.log.append("capture")
        yield

    def CUDAGraph(self):
        def replay():
            self.log.append("replay")
            self.eager()

        return SimpleNamespace(replay=replay)

    def get_sync_debug_mode(self):
        return self.mode

    def set_sync_debug_mode(self, mode):
        self.log.append(f"sync {mode}")
        self.mode = mode


GAN = entry("gan", ("ema",))
STRICT = ["sync error", "round", "sync 0"]


def test_the_order_of_warming_up_capture_and_replay(tmp_path, monkeypatch):
    fake = FakeCuda(monkeypatch)
    twins = Twins(tmp_path, GAN, fake.attach)
    for plain, captured in twins.play(6):
        assert all(equal(captured[player], plain[player]) for player in plain)
    # The fourth replay of the first one is the check, which goes back to where it began.
    assert fake.log == [
        "round",
        "round",
        *STRICT,
        "capture",
        "record",
        "replay",
        "replay",
        "replay",
        "replay",
    ]
    assert all(map(equal, *twins.alive()))


@pytest.mark.parametrize(
    ("failing", "log"),
    [
        ("wait", ["round", "round", *STRICT, "round", "round", "round", "round"]),
        ("record", ["round", "round", *STRICT, "capture", "record", "round", "round", "round"]),
    ],
)
def test_a_round_that_cannot_be_captured_is_played_as_it_is(tmp_path, monkeypatch, failing, log):
    fake = FakeCuda(monkeypatch, [failing])
    twins = Twins(tmp_path, GAN, fake.attach)
    for plain, captured in twins.play(6):
        assert all(equal(captured[player], plain[player]) for player in plain)
    assert fake.log == log
    assert twins.round.failure == REFUSED
    assert fake.mode == 0
    assert all(map(equal, *twins.alive()))  # what the failed try had changed is put back


def test_memory_that_a_capture_lacks_splits_the_stack(tmp_path, monkeypatch):
    fake = FakeCuda(monkeypatch, ["record"], torch.OutOfMemoryError("CUDA out of memory"))
    twins = Twins(tmp_path, GAN, fake.attach)
    with pytest.raises(torch.OutOfMemoryError):
        twins.play(6)


def test_a_training_says_that_its_round_was_not_captured(tmp_path, monkeypatch):
    fake = FakeCuda(monkeypatch, ["record"])
    (cell,) = cells(tmp_path, f"[{GAN}]", train="{steps: 8, batch: 8}")
    expected = train(cell, points(), [0, 1, 2])

    def choose(self, stack, steps, example):
        self.stack, self.steps, self.note, self.fixed = stack, steps, None, fake.attach(stack, example())

    monkeypatch.setattr(Rounds, "__init__", choose)
    trained = train(cell, points(), [0, 1, 2])
    assert {one.note for one in trained} == {f"rounds not captured as a CUDA graph: {REFUSED}"}
    for one, other in zip(trained, expected, strict=True):
        assert all(torch.equal(one.state[name], other.state[name]) for name in other.state)


# ---------------------------------------------------------------------------------------------- which way


@pytest.fixture
def compiled(monkeypatch):
    """The sizes of the rounds that were to be compiled; none is."""
    sizes = []

    class Compiled(SimpleNamespace):
        def __init__(self, stack, minibatches):
            sizes.append(count_operations(stack, minibatches))

    monkeypatch.setattr(graph, "CompiledRound", Compiled)
    monkeypatch.setattr(graph, "cannot_compile", lambda: None)
    return sizes


def rounds(folder, methods, steps, device="cpu"):
    (cell,) = cells(folder, f"[{methods}]")
    stack = Stack(
        [build_game(cell, points(), seed) for seed in range(3)], torch.device(device), torch.float32
    )
    draws = Draws(stack.game, points(), range(3), BATCH, CPU, torch.float32)
    return Rounds(stack, steps, draws.example)


@pytest.mark.parametrize(
    ("method", "steps", "expected"),
    [
        (entry("gan"), 499, "plain"),
        (entry("gan"), 500, "recorded"),
        (entry("gan"), 49_999, "recorded"),
        (entry("gan"), 50_000, "compiled"),
        (entry("gan", ("unrolling",)), 3_499, "recorded"),
        (entry("gan", ("unrolling",)), 3_500, "compiled"),
        pytest.param(  # minutes of compiling
            "{method: gan, tricks: [{unrolling: {k: 30}}]}", 10**6, "recorded", marks=pytest.mark.slow
        ),
    ],
)
def test_the_way_follows_from_rounds_and_size(tmp_path, compiled, method, steps, expected):
    way = rounds(tmp_path, method, steps)
    recorded = isinstance(way.stack.gradients["G"], RecordedFunction)
    assert (recorded, way.fixed is not None) == (expected == "recorded", expected == "compiled")
    assert way.note == ("rounds compiled" if expected == "compiled" else None)
    assert len(compiled) == (expected == "compiled")


def test_a_large_stack_of_a_small_game_is_played_back(tmp_path, monkeypatch, compiled):
    monkeypatch.setattr(graph, "MAX_COMPILED_EXAMPLES", 3 * BATCH)
    assert rounds(tmp_path, entry("gan"), 50_000).note == "rounds compiled"
    monkeypatch.setattr(graph, "MAX_COMPILED_EXAMPLES", 3 * BATCH - 1)
    assert isinstance(rounds(tmp_path, entry("gan"), 50_000).stack.gradients["G"], RecordedFunction)
    assert rounds(tmp_path, entry("gan", ("unrolling",)), 3_500).note == "rounds compiled"


@pytest.mark.parametrize(
    ("version", "compiler", "reason"),
    [
        ("2.14.1+cpu", "no-such-compiler", "there is no C++ compiler 'no-such-compiler'"),
        ("2.9.0", "true", "PyTorch 2.9.0 is older than 2.12"),
        ("2.14.0", "true", None),
    ],
)
def test_machines_that_cannot_compile(monkeypatch, version, compiler, reason):
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setenv("CXX", compiler)
    assert graph.cannot_compile() == reason


@pytest.mark.parametrize("failure", ["reason", "trace", "numbers"])
def test_what_cannot_be_compiled_is_played_back_with_the_reason(tmp_path, monkeypatch, failure):
    (cell,) = cells(tmp_path, f"[{entry('gan')}]", train="{steps: 6, batch: 8}")
    expected = train(cell, points(), [0, 1, 2])
    for name in ("MIN_COMPILED_ROUNDS", "MIN_COMPILED_ROUNDS_LARGE"):
        monkeypatch.setattr(graph, name, 1)
    monkeypatch.setattr(graph, "cannot_compile", lambda: "no compiler" if failure == "reason" else None)
    reason = "no compiler"
    if failure == "trace":
        reason = "no tracing here"

        def fails(function):
            raise NotImplementedError(f"{reason}\nand more")

        monkeypatch.setattr(graph, "make_fx", fails)
    if failure == "numbers":  # as PyTorch 2.11 did: right losses, wrong updates
        reason = "the compiled round gives other numbers than its trace"

        def wrong(module, **options):
            def play(*tensors):
                losses = module(*tensors)
                for tensor in tensors:
                    if tensor.is_floating_point():
                        tensor.mul_(1.1)
                return losses

            return play

        monkeypatch.setattr(torch, "compile", wrong)
    trained = train(cell, points(), [0, 1, 2])
    assert {one.note for one in trained} == {f"rounds not compiled: {reason}"}
    for one, other in zip(trained, expected, strict=True):
        assert all(torch.equal(one.state[name], other.state[name]) for name in other.state)


# ---------------------------------------------------------------------------------------------- traced and compiled


@pytest.fixture
def traced(monkeypatch):
    """Rounds are traced, and the trace is played instead of compiled."""
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)


@pytest.mark.parametrize("methods", TRACED)
def test_a_traced_round_is_the_plain_one(tmp_path, traced, methods):
    twins = Twins(tmp_path, methods, CompiledRound)
    for plain, other in twins.play(5):
        for player in plain:
            torch.testing.assert_close(other[player], plain[player], rtol=1e-9, atol=1e-9)
    for one, other in zip(*twins.alive(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_a_seed_that_dies_in_the_middle_of_a_traced_round(tmp_path, traced):
    plugins = MINE.format(what=DIES, optimiser="Adam")
    twins = Twins(tmp_path, "./mine.py", CompiledRound, seeds=4, plugins=plugins)
    twins.play()
    assert 0 < int(twins.plain.alive.sum()) < 4
    assert torch.equal(twins.other.died, twins.plain.died)
    torch.testing.assert_close(twins.other.params, twins.plain.params, rtol=1e-10, atol=1e-10)


def test_a_loss_that_counts_its_calls_is_refused(tmp_path, traced):
    plugins = MINE.format(what="weight = 1.0 if len(calls) % 4 else 2.0", optimiser="Adam")
    twins = Twins(tmp_path, "./mine.py", CompiledRound, plugins=plugins)
    with pytest.raises(PluginError, match="the loss of player 'G' returned different values"):
        twins.play(40)


def test_a_resumed_traced_training_is_the_same_to_the_bit(tmp_path, traced, monkeypatch):
    from test_checkpoints import interrupted, same

    for name in ("MIN_COMPILED_ROUNDS", "MIN_COMPILED_ROUNDS_LARGE"):
        monkeypatch.setattr(graph, name, 1)
    monkeypatch.setattr(graph, "cannot_compile", lambda: None)
    (cell,) = cells(tmp_path, f"[{GAN}]", train="{steps: 24, batch: 8, snapshots: 3}")
    whole = train(cell, points(), (0, 1, 2))
    assert {one.note for one in whole} == {"rounds compiled"}
    same(interrupted(cell, points(), (0, 1, 2), at=9, killed=15), whole)


@pytest.mark.slow
@pytest.mark.parametrize("tricks", [("unrolling",), ("historical_averaging", "instance_noise")])
def test_a_compiled_round_is_the_plain_one(tmp_path, tricks):
    twins = Twins(tmp_path, entry("gan", tricks, **ONE_LAYER), CompiledRound)
    for plain, compiled in twins.play():
        for player in plain:
            torch.testing.assert_close(compiled[player], plain[player], rtol=1e-9, atol=1e-9)
    for one, other in zip(*twins.alive(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
