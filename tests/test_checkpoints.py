"""A training that is killed goes on from its checkpoint to the same numbers, to the bit."""

from __future__ import annotations

import json

import pytest
import torch
from cells import cells, pixels, points
from runs import OURS, Bench
from safetensors.torch import load, load_file, save

from ganbench.execution import worker
from ganbench.training import trace
from ganbench.training.checkpoint import Checkpoint
from ganbench.training.loop import train


class KilledError(Exception):
    """The end of a training, in this process."""


class Bytes:
    """Checkpoints as the bytes that a file would hold; the training is killed after some later round."""

    def __init__(self, at: int, killed: int) -> None:
        self.at, self.killed = at, killed
        self.files: dict[tuple[int, ...], tuple[str, bytes]] = {}
        self.resumed = 0

    def due(self, step: int) -> bool:
        if step == self.killed:
            raise KilledError
        return step == self.at

    def save(self, seeds, checkpoint) -> None:
        document = {"step": checkpoint.step, "seconds": checkpoint.seconds, "details": checkpoint.details}
        tensors = {name: tensor.contiguous().clone() for name, tensor in checkpoint.tensors.items()}
        self.files[seeds] = json.dumps(document), save(tensors)

    def load(self, seeds) -> Checkpoint | None:
        if seeds not in self.files:
            return None
        document, tensors = self.files[seeds]
        self.resumed, self.killed = json.loads(document)["step"], -1
        return Checkpoint(**json.loads(document), tensors=load(tensors))


def same(first, second) -> None:
    """Everything but the time."""
    for one, other in zip(first, second, strict=True):
        assert (one.seed, one.status, one.error) == (other.seed, other.status, other.error)
        for mine, theirs in ((one.state, other.state), (one.curves, other.curves)):
            assert mine.keys() == theirs.keys()
            bits = [(mine[name].numpy().tobytes(), theirs[name].numpy().tobytes()) for name in theirs]
            assert all(one == other for one, other in bits)
        assert one.snapshot_steps == other.snapshot_steps
        assert torch.equal(torch.nan_to_num(one.snapshots), torch.nan_to_num(other.snapshots))


def interrupted(cell, data, seeds, at: int, killed: int):
    """The result of a training that was killed after round `killed` and resumed from its checkpoint at `at`."""
    checkpoints = Bytes(at, killed)
    with pytest.raises(KilledError):
        train(cell, data, seeds, checkpoints=checkpoints)
    result = train(cell, data, seeds, checkpoints=checkpoints)
    assert checkpoints.resumed == at
    return result


PLAIN = "{method: gan, params: {width: 8, z_dim: 4}}"
TRICKS = "{method: gan, params: {width: 8, z_dim: 4, d_steps: 2}, tricks: [instance_noise, ema, historical_averaging]}"
NORM = "{method: fgan, params: {g_width: 8, v_width: 8, z_dim: 4, g_norm: true}}"
METHODS = [
    PLAIN,
    TRICKS,
    *(
        pytest.param(method, marks=pytest.mark.slow)
        for method in (
            "{method: gan, params: {width: 8, z_dim: 4}, tricks: [{unrolling: {k: 2}}]}",
            "{method: wgan, params: {width: 8, z_dim: 4}}",
            NORM,
            "{method: gan, params: {net: conv, width: 4, z_dim: 4}}",
        )
    ),
]
RECORDED = [TRICKS, NORM]


@pytest.mark.parametrize("seeds", [(1,), (0, 1, 2)])
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_training_is_the_same_to_the_bit(tmp_path, method, seeds):
    (cell,) = cells(tmp_path, f"[{method}]", train="{steps: 15, batch: 8, snapshots: 3}")
    data = pixels(8) if "conv" in method else points()
    same(interrupted(cell, data, seeds, at=6, killed=9), train(cell, data, seeds))


@pytest.mark.slow
@pytest.mark.parametrize("method", RECORDED)
def test_a_resumed_recorded_training_is_the_same_to_the_bit(tmp_path, monkeypatch, method):
    """It records its losses anew, in a later round. That recordings of other games change no bit: test_recording."""
    monkeypatch.setattr(trace, "MIN_ROUNDS", 1)
    (cell,) = cells(tmp_path, f"[{method}]", train="{steps: 15, batch: 8, snapshots: 3}")
    same(interrupted(cell, points(), (0, 1, 2), at=6, killed=9), train(cell, points(), (0, 1, 2)))


@pytest.mark.parametrize("at", [1, 4, 5, 8])
def test_wherever_in_a_block_of_random_numbers(tmp_path, monkeypatch, at):
    monkeypatch.setattr("ganbench.training.rng.BLOCK_NUMBERS", 2 * 8 * 4 * 4)  # 4 rounds
    (cell,) = cells(tmp_path, f"[{PLAIN}]", train="{steps: 12, batch: 8}")
    same(interrupted(cell, points(), (0, 1), at, at + 2), train(cell, points(), (0, 1)))


DIVERGES = """
    from dataclasses import dataclass
    from ganbench import Adam, Game, Player, method, mlp

    @method
    @dataclass(frozen=True)
    class Mine:
        def game(self, data):
            return Game({"G": mlp(2, 2)}, {"G": Player("G", self.loss, Adam(1e-2))}, {"z": (2,)},
                        lambda nets, z: nets.G(z))

        def loss(self, nets, b):
            bad = (b.step > 3).logical_and(b.x[0, 0] > 1.0)
            return (nets.G(b.z) - b.x).square().mean() / (1 - bad.float())
"""


@pytest.mark.parametrize("recorded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_seeds_that_diverge_before_and_after_the_checkpoint(tmp_path, monkeypatch, recorded):
    monkeypatch.setattr(trace, "MIN_ROUNDS", 1 if recorded else 10**9)
    (cell,) = cells(tmp_path, "[./mine.py]", train="{steps: 14, batch: 8}", plugins=DIVERGES)
    expected = train(cell, points(), (0, 1, 2, 3))
    died = [int(one.error.split()[-1]) for one in expected if one.error]
    assert min(died) < 7
    assert len(died) > sum(step < 7 for step in died)  # some after it
    same(interrupted(cell, points(), (0, 1, 2, 3), at=7, killed=9), expected)


def test_a_checkpoint_of_another_device_is_not_resumed(tmp_path):
    (cell,) = cells(tmp_path, f"[{PLAIN}]", train="{steps: 8, batch: 8}")
    checkpoints = Bytes(at=3, killed=-1)
    expected = train(cell, points(), (0,), checkpoints=checkpoints)
    document, tensors = checkpoints.files[(0,)]
    changed = json.loads(document)
    changed["details"]["device"] = "NVIDIA H200"
    checkpoints.files[(0,)] = json.dumps(changed), tensors
    same(train(cell, points(), (0,), checkpoints=checkpoints), expected)


# ---------------------------------------------------------------------------------------------- in a run


def suite(bench: Bench, folder: str, times: int, checkpoint: float = 1e-6):
    """A game of 20 rounds, with a checkpoint after each round."""
    (bench.folder / folder).mkdir(exist_ok=True)
    killed = f"{{method: '{OURS}Killed', params: {{folder: '{bench.folder / folder}', times: {times}}}}}"
    path = bench.suite(killed, seeds=1)
    path.write_text(path.read_text().replace("batch: 8", f"batch: 8, checkpoint: {checkpoint}"))
    return path


def numbers(bench: Bench, out):
    """Values by seed, and all tensors of the seeds."""
    values = [(row["seed"], row["value"]) for row in bench.rows(out)]
    tensors = {
        (path.parent.name, path.name, name): tensor
        for path in sorted(out.glob("cells/*/seed-*/*.safetensors"))
        for name, tensor in load_file(path).items()
    }
    return values, tensors


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_numbers(bench: Bench) -> None:
    whole = bench.folder / "whole"
    assert bench.run_suite(suite(bench, "undisturbed", 0), whole, jobs=1) == 0
    # A worker is tried twice, so the first run ends with a lost seed; it leaves its checkpoint.
    path = suite(bench, "killed", 2)
    assert bench.run_suite(path, jobs=1) == 1
    assert list(bench.out.glob("cells/*/seed-0/checkpoint-13.safetensors"))
    assert bench.run_suite(path, jobs=1, dry_run=True) == 0
    assert "ring-killed, seed 0: to be resumed after step 13 of 20" in bench.text
    assert bench.run_suite(path, jobs=1) == 0
    assert "ring-killed, seed 0: resumed after step 13\n" in bench.text
    rounds = [int(line) for line in (bench.folder / "killed" / "rounds").read_text().split()]
    assert sorted(set(rounds)) == list(range(20))
    assert (rounds.count(12), rounds.count(13)) == (1, 3)  # it went on from there
    assert not list(bench.out.glob("cells/*/seed-*/checkpoint*"))
    (values, tensors), (expected, others) = numbers(bench, bench.out), numbers(bench, whole)
    assert values == expected
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in others)


@pytest.mark.slow
def test_by_default_there_is_a_checkpoint_every_ten_minutes(bench: Bench) -> None:
    assert bench.run_suite(suite(bench, "default", 1, checkpoint=10.0), jobs=1) == 0
    rounds = (bench.folder / "default" / "rounds").read_text().split()
    assert rounds.count("12") == rounds.count("13") == 2  # killed once, and begun again


@pytest.mark.slow
def test_a_checkpoint_that_is_damaged_or_of_other_versions_is_not_used(bench: Bench, monkeypatch) -> None:
    path = suite(bench, "killed", 2)
    bench.run_suite(path, jobs=1)
    (document,) = bench.out.glob("cells/*/seed-0/checkpoint.json")
    monkeypatch.setattr("ganbench.store.rundir.versions", lambda: {"torch": "1.0"})
    bench.run_suite(path, jobs=1, dry_run=True)
    assert "resumed" not in bench.text
    monkeypatch.undo()
    (tensors,) = document.parent.glob("checkpoint-*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    assert bench.run_suite(path, jobs=1) == 0
    assert "checkpoint.json names checkpoint-13.safetensors, which has changed" in bench.text


def test_the_key_is_in_minutes(bench: Bench, monkeypatch) -> None:
    clock = iter([100.0, 129.9, 130.1])
    monkeypatch.setattr(worker.time, "monotonic", lambda: next(clock))
    (cell,) = cells(bench.folder, "[gan]", train="{steps: 8, batch: 8, checkpoint: 0.5}")
    checkpoints = worker.StoredCheckpoints(None, cell, None)
    assert [checkpoints.due(1), checkpoints.due(2)] == [False, True]
