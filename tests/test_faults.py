"""What methods, metrics and machines can do to a run: each costs only its own cell (the table is docs/faults.md)."""

from __future__ import annotations

import fcntl
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import fields, replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from runs import Bench, alive, idle, slow, start, until

from ganbench import Data, Labels, Modes
from ganbench.execution import local, worker
from ganbench.execution import run as execute
from ganbench.store.rundir import Store
from ganbench.suite import load
from ganbench.suite.plan import data_digest

FAULTS = "./plugins_for_faults.py:"
NAMED = ("name", "shape", "scale", "classes")  # fields of Data without tensors


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """With the methods that misbehave."""
    shutil.copy(Path(__file__).with_name("plugins_for_faults.py"), bench.folder)
    return bench


def faulty(name: str, **params: object) -> str:
    """A method of that file, in a suite."""
    return f"{{method: '{FAULTS}{name}', params: {params}}}"


def statuses(bench: Bench) -> dict[str, set[str]]:
    """What became of each method's seeds."""
    found: dict[str, set[str]] = {}
    for row in bench.rows():
        found.setdefault(row["label"], set()).add(row["status"])
    return found


# ---------------------------------------------------------------------------------------------- methods


@pytest.mark.slow
def test_methods_that_misbehave_cost_only_their_own_cells(bench: Bench) -> None:
    methods = ("Vanishing", "Interrupting", "Starving", "Crashing")
    assert bench.run(*map(faulty, methods), "Constant", seeds=1) == 1
    assert statuses(bench) == {
        "vanishing": {"lost"},
        "interrupting": {"failed"},
        "starving": {"oom"},
        "crashing": {"lost"},
        "constant": {"ok"},
    }
    errors = {row["label"]: row["error"] for row in bench.rows()}
    assert errors["vanishing"] == "its worker ended with exit code 0 in the middle of its task, 2 times"
    assert errors["interrupting"].startswith("KeyboardInterrupt")
    assert "memory" in errors["starving"]
    assert errors["crashing"] == "its worker died (signal 11), 2 times"
    (log,) = bench.out.glob("logs/ring-crashing-*.log")
    assert "string_at" in log.read_text()
    assert f"see {log}" in bench.text


@pytest.mark.parametrize("what", ["text", "nothing", "shape", "count", "words", "nan"])
def test_nonsense_is_refused_in_words(bench: Bench, what: str) -> None:
    assert bench.run(faulty("Nonsense", what=what), "Constant", seeds=1) == 1
    assert statuses(bench) == {"nonsense": {"failed"}, "constant": {"ok"}}
    error = next(row["error"] for row in bench.rows() if row["label"] == "nonsense")
    assert re.match("the sampler of 'nonsense'|fit of 'nonsense' returned a .*, expected a sampler", error)


def test_a_metric_that_talks_nonsense_has_failed(bench: Bench) -> None:
    path = bench.suite("Constant", seeds=1)
    path.write_text(path.read_text().replace("MeanNorm", f"MeanNorm, {FAULTS}Talk, {FAULTS}Jump"))
    assert bench.run_suite(path) == 1
    assert {row["metric"]: row["status"] for row in bench.rows()} == {
        "mean_norm": "ok",
        "talk": "failed",
        "jump": "ok",
    }
    assert all(row["seconds"] >= 0 and row["train_seconds"] >= 0 for row in bench.rows())


def test_a_method_that_forks_comes_back_once(bench: Bench) -> None:
    log = bench.folder / "log"
    assert bench.run(faulty("Forking", log=str(log)), "Constant", seeds=1) == 0
    assert statuses(bench) == {"forking": {"ok"}, "constant": {"ok"}}
    until(lambda: len(log.read_text().splitlines()) == 2)
    assert list(bench.out.rglob("*.tmp")) == []


@pytest.mark.parametrize("die", [False, True])
def test_what_a_method_forks_ends_with_its_worker(bench: Bench, die: bool) -> None:
    log = bench.folder / "log"
    assert bench.run(faulty("Breeding", log=str(log), die=die), seeds=1) == int(die)
    assert statuses(bench) == {"breeding": {"lost" if die else "ok"}}
    children = [int(line) for line in log.read_text().splitlines()]
    assert len(children) == (2 if die else 1)
    until(lambda: not any(map(alive, children)))


def test_a_method_that_changes_the_folder_sends_no_results_elsewhere(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = bench.folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(bench.folder)
    moving = faulty("Moving", folder=str(elsewhere))
    assert bench.run(moving, metrics="MeanNorm Range", seeds=2, out=Path("out")) == 0
    assert [row["status"] for row in bench.rows()] == ["ok"] * 6
    assert list(elsewhere.iterdir()) == []


def test_closed_output_and_unprintable_errors_end_no_run(bench: Bench) -> None:
    assert bench.run(*map(faulty, ("Closing", "Muttering")), "Constant", seeds=1) == 1
    assert statuses(bench) == {"closing": {"ok"}, "muttering": {"failed"}, "constant": {"ok"}}
    assert bench.rows()[1]["error"] == "ValueError: bad byte \\udcff \x1b[2J"
    assert "ring-muttering, seed 0: failed (ValueError: bad byte \\udcff \\x1b[2J)" in bench.text


def test_what_a_method_prints_goes_into_its_log_and_not_to_the_terminal(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench.run(faulty("Printing", megabytes=1), "Constant", seeds=1) == 0
    assert capfd.readouterr() == ("", "")
    (log,) = bench.out.glob("logs/*.log")  # none of what is silent
    assert log.read_text().startswith("x" * 999_999)


def test_a_log_without_end_is_begun_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LOG_LIMIT", 1_500_000)
    assert bench.run(faulty("Printing", megabytes=9, limit=1_500_000), seeds=1) == 0
    (log,) = bench.out.glob("logs/*.log")
    assert log.stat().st_size < 1_600_000
    assert log.read_bytes().endswith(b"the end\n")


# ---------------------------------------------------------------------------------------------- time


@pytest.mark.slow
def test_a_task_that_hangs_is_ended_and_its_stacks_are_kept(bench: Bench) -> None:
    assert bench.run("Constant", seeds=1) == 0  # before the clock runs
    assert bench.run(faulty("Hanging"), "Constant", seeds=1, timeout=0.1) == 1
    assert statuses(bench) == {"hanging": {"timeout"}, "constant": {"ok"}}
    training = bench.trainings()["ring-hanging/0"]
    assert training["error"] == "took longer than 0.1 minutes (--timeout)"
    assert "in wait_in_a_thread" in training["traceback"]
    assert "in fit" in training["traceback"]
    (log,) = bench.out.glob("logs/ring-hanging-*.log")
    assert "in wait_in_a_thread" in log.read_text()
    assert "ring-hanging, seed 0: timeout: took longer than 0.1 minutes" in bench.text
    assert "trying once more" not in bench.text


def test_a_task_without_an_alarm_is_ended_by_the_clock_of_the_parent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "GRACE_PERIOD", 0.2)
    assert bench.run("Constant", seeds=1) == 0  # before the clock runs
    assert bench.run(faulty("Stubborn"), "Constant", seeds=1, timeout=0.04) == 1
    assert statuses(bench) == {"stubborn": {"timeout"}, "constant": {"ok"}}
    assert bench.trainings()["ring-stubborn/0"]["traceback"].startswith("(the worker could not write")


def test_a_run_that_waits_for_another_one_says_so(bench: Bench) -> None:
    assert bench.run("Constant", seeds=1) == 0
    (done,) = bench.out.glob("cells/*/seed-0/train.json")
    done.unlink()
    other = (bench.out / "locks" / f"{done.parts[-3]}-seed-0.lock").open("a")
    fcntl.flock(other, fcntl.LOCK_EX)

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            if "ring-constant, seed 0: waiting for another run" in text:
                other.close()
            return super().write(text)

    loaded = load.load(bench.folder / "bench.yaml")
    assert execute.run(loaded, bench.out, device="cpu", console=Console(file=Terminal())) == 0
    assert other.closed


def test_time_that_is_enough_changes_nothing(bench: Bench) -> None:
    assert bench.run("Constant", seeds=1, timeout=10) == 0
    assert list(bench.out.glob("logs/*")) == []


# ---------------------------------------------------------------------------------------------- the run


def test_records_that_are_missing_in_the_end_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.run("Constant", seeds=1) == 0
    monkeypatch.setattr(worker, "worker_main", idle)
    assert bench.run("Constant", metrics="MeanNorm Range", seeds=2) == 1
    assert "error: 5 of 6 records are missing (ring-constant); run the same command again" in bench.text


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_temporary_folder(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """In this process: Ctrl-C and SIGKILL, which go to others too, have processes of their own."""
    log, temporary = bench.folder / "log", bench.folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    folders, over = [], threading.Event()

    def send() -> None:
        until(lambda: over.is_set() or log.exists())
        folders.extend(temporary.glob("ganbench-*"))
        if not over.is_set():
            os.kill(os.getpid(), number)

    before = signal.signal(number, signal.SIG_DFL)  # tests under nohup ignore SIGHUP
    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert bench.run_suite(bench.suite(slow(log, 300), seeds=1)) == 130
    finally:
        over.set()
        sender.join()
        signal.signal(number, before)
    assert folders
    assert list(temporary.glob("ganbench-*")) == []
    assert "interrupted; run the same command again to continue from here" in bench.text
    until(lambda: not alive(int(log.read_text().split()[0])))


@pytest.mark.slow
def test_a_killed_run_leaves_neither_workers_nor_a_temporary_folder(bench: Bench) -> None:
    log, temporary = bench.folder / "log", bench.folder / ("long" * 20)  # too long for the path of a socket
    temporary.mkdir()
    run = start(bench, bench.suite(slow(log, 300), seeds=1), TMPDIR=str(temporary))
    until(log.exists)
    assert list(temporary.glob("ganbench-*"))
    run.kill()  # this one process, not its group
    text = run.communicate(timeout=600)[0]
    assert run.returncode == -signal.SIGKILL, text
    until(lambda: not alive(int(log.read_text().split()[0])))
    until(lambda: not list(temporary.glob("ganbench-*")))


def test_a_run_removes_temporary_folders_of_runs_that_were_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    monkeypatch.setattr(tempfile, "tempdir", str(bench.folder))
    names = [f"ganbench-{socket.gethostname()}-{pid}-x" for pid in (dead.pid, os.getpid(), "me", 9**99)]
    for name in (*names, "ganbench-me"):
        (bench.folder / name).mkdir()
    assert bench.run("Constant", seeds=1) == 0
    left = sorted(path.name for path in bench.folder.glob("ganbench-*"))
    assert left == sorted([*names[1:], "ganbench-me"])


# ---------------------------------------------------------------------------------------------- files


def test_a_dataset_is_loaded_once_a_run(bench: Bench) -> None:
    log = bench.folder / "log"
    data = f"{{dataset: '{FAULTS}counted', params: {{log: '{log}'}}}}"
    assert bench.run("TinyGAN", "Constant", seeds=3, data=data) == 0
    assert len(log.read_text().splitlines()) == 1
    assert len(bench.rows()) == 6


def test_a_stored_dataset_is_the_same_and_mapped_for_each_worker_alone(tmp_path: Path) -> None:
    x, y = torch.arange(60, dtype=torch.uint8).reshape(10, 1, 2, 3), torch.arange(10)
    data = Data(
        "tiny", x[:5], x[5:8], x[8:], (1, 2, 3), (0.0, 1.0),
        Modes(torch.eye(6), 0.1, 4, torch.arange(1, 7) / 21), None,
        Labels(y[:5], y[5:8], y[8:]), ("a", "b"),
    )  # fmt: skip
    digest = data_digest(data)
    path = worker.save_data(data, digest, tmp_path / "tiny")
    assert path
    for _ in range(2):  # the second time after a worker has written into its tensors
        found, said = worker.read_data(path)
        assert said == digest == data_digest(found)
        plain = [getattr(each, f.name) for each in (data, found) for f in fields(Data) if f.name in NAMED]
        assert plain[: len(NAMED)] == plain[len(NAMED) :]
        assert found.modes
        assert (found.modes.std, found.modes.dims) == (0.1, 4)
        assert found.modes.weights is not None
        assert torch.equal(found.modes.weights, torch.arange(1, 7) / 21)
        found.train.zero_()
    assert worker.save_data(replace(data, log_density=torch.sum), digest, tmp_path / "none") is None
    assert worker.save_data(data, digest, tmp_path / "no" / "folder") is None


def test_files_that_change_while_a_run_goes_on_are_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what the new file makes would be kept under the name of the old one."""
    source = bench.folder / "plugins_for_runs.py"
    write_plan = Store.write_plan

    def edit(*args: Any) -> None:
        write_plan(*args)
        source.write_text(source.read_text().replace("+ seed", "+ 2 * seed"))

    monkeypatch.setattr(Store, "write_plan", edit)
    assert bench.run("Constant", seeds=1) == 1
    assert "have changed since the run started; run the same command again" in bench.rows()[0]["error"]
    monkeypatch.setattr(Store, "write_plan", write_plan)
    assert bench.run("Constant", seeds=1) == 0
    assert [row["status"] for row in bench.rows()] == ["ok"]


# ---------------------------------------------------------------------------------------------- all of them


def test_every_fault_of_the_page_has_its_test() -> None:
    root = Path(__file__).parent
    named = set(re.findall(r"`(test_\w+)`", (root.parent / "docs" / "faults.md").read_text("utf-8")))
    sources = "".join(path.read_text("utf-8") for path in root.glob("test_*.py"))
    assert len(named) > 50
    assert named <= set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))


@pytest.mark.slow
def test_kills_at_random_moments_change_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One kill, of a small suite; the script does as many as it is asked for, nodes of a cluster among them."""
    torture = SourceFileLoader("torture", str(Path(__file__).parents[1] / "scripts" / "torture"))
    module = module_from_spec(spec_from_loader(torture.name, torture))
    torture.exec_module(module)
    small = module.SUITE.replace("steps: 400", "steps: 60").replace("[gan, vae, ", "[")
    assert small.count("steps: 60") == small.count("methods: [{method: gan") == 1
    monkeypatch.setattr(module, "SUITE", small)
    page = tmp_path / "torture.md"
    monkeypatch.setattr(sys, "argv", ["torture", "1", "--out", str(page), "--no-nodes"])
    assert module.main() == 0
    assert "| 1 |" in page.read_text("utf-8")
