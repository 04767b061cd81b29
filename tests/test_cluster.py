"""Tasks on a Ray cluster: a real one of two nodes on this machine, one of which is killed; and what travels."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from runs import OURS, Bench, until

from ganbench.errors import RequestError, StoreError
from ganbench.execution import ray_cluster, run
from ganbench.execution.progress import WAITING, ProgressDir, TaskProgress, TaskResult
from ganbench.execution.worker import Task
from ganbench.store import layout
from ganbench.store.rundir import Store
from ganbench.suite import load, plan

FAULTS = "./plugins_for_faults.py:"
RAY = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
os.environ.update(
    RAY
)  # here, since Ray reads them once; with a token nobody else can use the nodes of these tests


# ---------------------------------------------------------------------------------------------- what travels


def task(bench: Bench, *methods: str, **settings: Any) -> Task:
    """The only task of a suite."""
    (cell,) = plan.make_cells(load.load(bench.suite(*methods, **settings)))
    cell = replace(cell, digest="digest", protocols=(("", ""),))
    return Task(0, cell, cell.seeds, bench.out, "cpu")


def test_a_payload_brings_users_files_with_their_neighbours(bench: Bench, tmp_path: Path) -> None:
    source = bench.folder / "plugins_for_runs.py"
    source.write_text(source.read_text().replace("import torch\n", "import torch\nimport helper\n", 1))
    (bench.folder / "helper.py").write_text("VALUE = 1\n")
    (bench.folder / "unused.py").write_text("VALUE = 2\n")
    payload = ray_cluster.pack(task(bench, "Constant"), set())
    assert [Path(name).name for name in payload.sources] == ["helper.py", "plugins_for_runs.py"]
    node = tmp_path / "node"
    unpacked = ray_cluster.unpack(payload, node)
    method = unpacked.cell.method.part
    assert method is not None
    assert method.plugin.path.is_relative_to(node)
    assert method.plugin.path.with_name("helper.py").read_text() == "VALUE = 1\n"
    assert unpacked.cell.dataset.part.plugin.path == payload.task.cell.dataset.part.plugin.path
    assert replace(unpacked.cell).train_keys == payload.task.cell.train_keys  # made again
    assert (unpacked.root, unpacked.seeds) == (node / "run", payload.task.seeds)


def test_a_node_with_other_code_does_not_make_keys_of_its_own(bench: Bench, tmp_path: Path) -> None:
    payload = ray_cluster.pack(task(bench, "Constant"), set())
    edited = {name: source + b"EDITED = 1\n" for name, source in payload.sources.items()}
    cell = ray_cluster.unpack(replace(payload, sources=edited), tmp_path / "node").cell
    assert cell.train_keys == payload.task.cell.train_keys
    assert replace(cell) != cell  # which the worker refuses


def test_a_payload_brings_samples(bench: Bench, tmp_path: Path) -> None:
    np.save(bench.folder / "a.npy", np.zeros((9, 2), dtype=np.float32))
    payload = ray_cluster.pack(task(bench, "{samples: [a.npy], label: theirs}"), set())
    (file,) = ray_cluster.unpack(payload, tmp_path / "node").cell.method.samples
    assert file.is_relative_to(tmp_path / "node")
    assert np.load(file).shape == (9, 2)


def test_paths_are_moved_wherever_they_stand() -> None:
    places = [("/a/my.py", "/b/my.py"), ("/lib", "/opt")]
    before = {"of": [Path("/a/my.py"), "/a/my.py:F", "/a/my.pyx", "a/my.py"], "/lib/x": ("/library", 3)}
    after = {"of": [Path("/b/my.py"), "/b/my.py:F", "/a/my.pyx", "a/my.py"], "/opt/x": ("/library", 3)}
    assert ray_cluster.relocate(before, places) == after


@pytest.mark.slow
def test_a_node_gives_back_what_it_made(bench: Bench) -> None:
    assert bench.run("Constant", seeds=1) == 0
    done = bench.untimed()
    (cell,) = bench.out.glob("cells/*")
    digest = json.loads((bench.out / "datasets" / "ring.json").read_text())["digest"]
    planned = replace(task(bench, "Constant", seeds=1).cell, digest=digest)
    payload = ray_cluster.pack(Task(0, planned, (0,), bench.out, "cpu"), {0})
    shutil.rmtree(cell / "seed-0")
    ray_cluster.store_files(Store(bench.out), payload.stored)
    assert Store(bench.out).write_records() != []
    assert bench.untimed() == done


def test_a_node_writes_nothing_outside(bench: Bench) -> None:
    with pytest.raises(StoreError, match="leads out of the run directory"):
        ray_cluster.store_files(Store(bench.out), {"../x.json": b"{}"})
    assert not (bench.folder / "x.json").exists()


def test_another_version_on_a_node_is_refused(bench: Bench) -> None:
    back = ray_cluster.run_on_node(replace(ray_cluster.pack(task(bench, "Constant"), set()), version="0.0.1"))
    assert "the run has 0.0.1; install the same version everywhere" in back.refusal


# ---------------------------------------------------------------------------------------------- no cluster


def test_without_ray_it_says_what_to_install(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RequestError, match=r"pip install 'ganbench\[ray\]'"):
        bench.run("Constant", executor="ray")
    assert not bench.out.exists()


def test_an_address_where_nobody_answers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(RequestError, match=r"no Ray cluster answers at 127\.0\.0\.1:9 \(RAY_ADDRESS\)"):
        bench.run("Constant", executor="ray")
    assert not bench.out.exists()


@pytest.mark.parametrize(
    ("said", "raised", "message"),
    [
        (b"", RuntimeError("Version mismatch: The cluster was started with:\n Ray: 2.1"), "Version mismatch"),
        (b"x InvalidAuthToken: y\n", ConnectionError("Failed to connect"), "needs another token"),
    ],
)
def test_what_ray_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    said: bytes,
    raised: Exception,
    message: str,
) -> None:
    """With the words of Ray 2.60, which takes half a minute to say them."""
    ray = pytest.importorskip("ray")

    def refuse(**settings: object) -> None:
        os.write(2, said)
        raise raised

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(RequestError, match=message) as caught:
        ray_cluster.connect()
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("device", "gpus", "jobs", "expected"),
    [
        ("auto", 0, None, ("cpu", {"jobs": None})),
        ("auto", 2, None, ("cuda", {"share": 1})),
        ("cuda", 2, 4, ("cuda", {"share": 0.25})),
        ("cpu", 2, 4, ("cpu", {"jobs": 4})),
    ],
)
def test_a_task_takes_a_core_or_a_share_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, jobs: int | None, expected: tuple[object, ...]
) -> None:
    monkeypatch.setattr(ray_cluster, "connect", lambda: ray_cluster.Resources(3, 12.0, gpus))
    quiet = Console(quiet=True)
    found, start = run._choose_executor("ray", device, jobs, quiet)
    assert isinstance(start, partial)
    assert (found, start.keywords) == expected
    monkeypatch.setattr(ray_cluster, "connect", lambda: ray_cluster.Resources(3, 12.0, 0))
    with pytest.raises(RequestError, match="no GPU that Ray knows of"):
        run._choose_executor("ray", "cuda", jobs, quiet)


def test_a_task_that_waits_for_another_run_says_so(bench: Bench, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    assert bench.run("Constant", seeds=1) == 0
    cells, _, _ = run.prepare(load.load(bench.folder / "bench.yaml"))
    (one,) = run.split_tasks(cells, bench.out, "cpu", 1)
    progress = ProgressDir(tmp_path)
    cluster = ray_cluster.Cluster(progress)
    cluster.submit(one)
    with (bench.out / layout.lock(one.cell.id, 0)).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert cluster.wait(0) == []
        assert progress.read() == {0: TaskProgress(WAITING, 1)}
    (outcome,) = cluster.wait(0)  # nothing is left to do, so no node is asked
    assert (outcome.task, outcome.result) == (one, TaskResult())
    assert progress.read() == {}


# ---------------------------------------------------------------------------------------------- a cluster


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes of one core each, on this machine and with a token; skips without Ray."""
    pytest.importorskip("ray", reason="needs the extra ganbench[ray]")
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 80_000_000}
    with pytest.MonkeyPatch.context() as patch:
        found = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
        found.add_node(**size)
        patch.setenv("RAY_ADDRESS", found.address)
        yield found
        found.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_gives_the_numbers_of_one_machine_though_a_node_is_killed(bench: Bench, nodes: Any) -> None:
    alone, gate = bench.folder / "alone", bench.folder / "gate"
    waiting = f"{{method: '{OURS}Constant', params: {{gate: '{gate}'}}, label: waiting}}"
    methods = ("TinyGAN", "Constant", waiting)
    gate.touch()
    assert bench.run(*methods, metrics="MeanNorm Range", seeds=2, out=alone) == 0
    gate.unlink()  # until a node is killed

    over, killed = threading.Event(), threading.Event()

    def kill_a_node() -> None:
        until(lambda: over.is_set() or len(bench.finished()) >= 2)
        if not over.is_set():
            nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)
            killed.set()
            gate.touch()

    killer = threading.Thread(target=kill_a_node)
    killer.start()
    try:
        assert bench.run(*methods, metrics="MeanNorm Range", seeds=2, executor="ray") == 0, bench.text
    finally:
        over.set()
        killer.join()  # before the fixture takes the cluster down
    assert killed.is_set()
    assert "Ray: 2 nodes, 2 CPUs, no GPU" in bench.text
    assert bench.untimed() == bench.untimed(alone)
    assert len(bench.rows()) == 18
    assert list(bench.out.rglob("*.tmp")) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_what_tasks_do_on_a_node_is_told_as_on_one_machine(bench: Bench, nodes: Any) -> None:
    shutil.copy(Path(__file__).with_name("plugins_for_faults.py"), bench.folder)
    assert bench.run("TinyGAN", seeds=1) == 0
    finished = bench.finished()
    methods = ("TinyGAN", f"{{method: '{FAULTS}Vanishing'}}", f"{{method: '{FAULTS}Hanging'}}")
    code = bench.run(*methods, metrics="MeanNorm Range", seeds=1, executor="ray", timeout=0.2, jobs=1)
    assert code == 1
    assert {(row["label"], row["status"]) for row in bench.rows()} == {
        ("tiny_gan", "ok"),
        ("vanishing", "lost"),
        ("hanging", "timeout"),
    }
    assert finished.items() <= bench.finished().items()  # scored there, and not trained again
    assert "ended with exit code 0 in the middle of its task, 2 times" in bench.text
    assert "in wait_in_a_thread" in bench.trainings()["ring-hanging/0"]["traceback"]
    assert len(list(bench.out.glob("logs/ring-hanging-*.log"))) >= 1
