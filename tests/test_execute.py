"""Running a suite: what fails, dies, is killed or comes twice harms nothing else, and nothing is done twice."""

from __future__ import annotations

import io
import os
import re
import signal
import time
from dataclasses import replace
from functools import partial
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from runs import OURS, Bench, alive, killed_at_birth, slow, start, until
from safetensors.torch import load_file

from ganbench.errors import DatasetError, GanbenchError, RequestError, StoreError
from ganbench.execution import local
from ganbench.execution import run as execute
from ganbench.execution import worker as work
from ganbench.execution.progress import WAITING, Display, ProgressDir, TaskProgress, print_grid, say
from ganbench.execution.worker import Task
from ganbench.suite import load, plan
from ganbench.suite.plan import Cell

# ---------------------------------------------------------------------------------------------- failures


def test_what_fails_is_written_down_and_the_others_finish(bench: Bench) -> None:
    code = bench.run("Raising", "Diverging", "Hungry", "TinyGAN", "Constant", metrics="MeanNorm Broken")
    assert code == 1
    status = {(row["label"], row["metric"]): row["status"] for row in bench.rows()}
    assert status == {
        ("raising", "mean_norm"): "failed",
        ("raising", "broken"): "failed",
        ("diverging", "mean_norm"): "diverged",
        ("diverging", "broken"): "diverged",
        ("hungry", "mean_norm"): "oom",
        ("hungry", "broken"): "oom",
        ("tiny_gan", "mean_norm"): "ok",
        ("tiny_gan", "broken"): "failed",
        ("constant", "mean_norm"): "ok",
        ("constant", "broken"): "failed",
    }
    assert all((row["value"] is None) == (row["status"] != "ok") for row in bench.rows())
    raising = bench.trainings()["ring-raising/0"]
    assert raising["error"] == "ValueError: no luck today"
    assert 'raise ValueError("no luck today")' in raising["traceback"]
    assert "ring-raising, seeds 0, 1: failed (ValueError: no luck today)" in bench.text
    assert "ring-diverging, seeds 0, 1: diverged (a loss or gradient was not finite at step" in bench.text
    assert "ring-constant, seeds 0, 1: failed (ZeroDivisionError: nothing to divide by)" in bench.text


def test_what_failed_is_tried_again_what_diverged_or_finished_is_not(bench: Bench) -> None:
    bench.run("Raising", "Diverging", "TinyGAN", metrics="MeanNorm Range")
    first = bench.finished()
    bench.run("Raising", "Diverging", "TinyGAN", metrics="MeanNorm Range")
    again = {name for name, when in bench.finished().items() if when != first[name]}
    assert again == {"ring-raising/0", "ring-raising/1"}
    assert "2 of 6 tasks to do" in bench.text


def test_one_diverged_method_is_a_result_a_run_of_nothing_else_is_none(bench: Bench) -> None:
    assert bench.run("Diverging", "Constant") == 0
    assert bench.run("Diverging") == 1
    assert "error: every seed diverged" in bench.text


def test_a_worker_killed_once_is_replaced(bench: Bench) -> None:
    marks = bench.folder / "marks"
    marks.mkdir()
    dying = f"{{method: '{OURS}Dying', params: {{marks: '{marks}', times: 1}}}}"
    assert bench.run(dying, seeds=1) == 0
    assert len(list(marks.iterdir())) == 1
    assert [(row["status"], row["value"]) for row in bench.rows()] == [("ok", 0.0)]
    assert "its worker was killed (signal 9" in bench.text
    assert "trying once more" in bench.text


def test_a_worker_killed_as_it_begins_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "worker_main", partial(killed_at_birth, 1))
    assert bench.run("TinyGAN", "Constant") == 0
    assert bench.text.count("its worker was killed (signal 9") == 1
    assert {row["status"] for row in bench.rows()} == {"ok"}


@pytest.mark.slow
def test_a_server_of_workers_that_is_killed_is_replaced(bench: Bench) -> None:
    assert bench.run("Constant", seeds=1) == 0
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGKILL)
    assert bench.run("Constant", seeds=2) == 0
    assert forkserver._forkserver._forkserver_pid != server  # type: ignore[attr-defined]


def test_workers_that_cannot_be_started_end_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(ForkServerProcess, "start", fail)
    with pytest.raises(
        GanbenchError, match=r"no worker process can be started \(Resource temporarily unavailable\)"
    ):
        bench.run("TinyGAN", "Constant")


def test_a_worker_killed_always_is_lost_and_the_others_finish(bench: Bench) -> None:
    marks = bench.folder / "marks"
    marks.mkdir()
    assert bench.run(f"{{method: '{OURS}Dying', params: {{marks: '{marks}'}}}}", "Constant") == 1
    assert [(row["label"], row["status"]) for row in bench.rows()] == [
        ("dying", "lost"),
        ("dying", "lost"),
        ("constant", "ok"),
        ("constant", "ok"),
    ]
    assert len(list(marks.iterdir())) == 4
    assert "was killed (signal 9" in bench.rows()[0]["error"]


def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_is_finished(bench: Bench) -> None:
    bench.run("Constant", seeds=1)
    finished = bench.finished()
    with pytest.raises(StoreError, match="the disk is full; finished results are kept"):
        bench.run("FullDisk", "Constant", seeds=1)
    assert bench.finished() == finished
    assert list(bench.out.rglob("*.tmp")) == []
    assert bench.run("Constant", seeds=1) == 0


@pytest.mark.parametrize("name", ["tables", "page"])
def test_a_report_that_fails_keeps_the_records(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import importlib

    module = importlib.import_module(f"ganbench.report.{name}")

    def fail(folder: Path) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(execute, "REPORTS", (name,))
    monkeypatch.setattr(module, "write", fail)
    assert bench.run("Constant") == 1
    assert len(bench.rows()) == 2
    assert f"error: the {name} could not be written: RuntimeError: no ink" in bench.text
    assert "The records are kept in" in bench.text


def test_a_method_that_exits_has_failed(bench: Bench) -> None:
    assert bench.run("Leaving", seeds=1) == 1
    assert [(row["status"], row["error"]) for row in bench.rows()] == [("failed", "SystemExit: enough")]


# ---------------------------------------------------------------------------------------------- before


def test_missing_data_are_told_before_anything_is_written(bench: Bench) -> None:
    with pytest.raises(DatasetError):
        bench.run("TinyGAN", data="{ring: {modes: 0}}")
    assert not bench.out.exists()


def test_cuda_must_be_there(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert execute.choose_device("auto") == "cpu"
    with pytest.raises(RequestError, match="no CUDA; use --device cpu"):
        execute.choose_device("cuda")


@pytest.mark.parametrize(
    ("visible", "count", "cores", "free", "jobs", "names", "expected"),
    [
        (None, 1, 1, 99, None, ["0"], 1),
        (None, 1, 16, 99, None, ["0"], 4),
        (None, 1, 2, 99, None, ["0"], 2),
        (None, 1, 16, 9, None, ["0"], 2),  # GiB; 4 for each
        (None, 1, 16, 1, None, ["0"], 1),
        (None, 3, 2, 99, None, ["0", "1", "2"], 3),
        ("5,7,", 2, 8, 99, None, ["5", "7"], 8),
        (None, 2, 16, 99, 4, ["0", "1"], 4),
    ],
)
def test_workers_share_gpus_as_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    count: int,
    cores: int,
    free: int,
    jobs: int | None,
    names: list[str],
    expected: int,
) -> None:
    monkeypatch.setattr(execute, "cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free * 2**30, 140 * 2**30))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    device, start = execute._choose_executor("local", "auto", jobs, Console(quiet=True))
    assert isinstance(start, partial)
    assert execute.gpus() == names
    assert (device, start.keywords["jobs"]) == ("cuda", expected)
    assert start.keywords["gpus"] == (names if count > 1 else ())


def test_a_worker_sees_one_gpu_of_several_and_keeps_float32(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = partial(local.Local, jobs=2, device="cpu", gpus=["5", "7"])
    monkeypatch.setattr(execute, "_choose_executor", lambda *_: ("cpu", start))
    assert bench.run("Seeing", seeds=2) == 0
    seen = [path.read_text().strip() for path in bench.out.glob("logs/*.log")]
    assert len(seen) == 2
    assert set(seen) <= {"5 ieee ieee", "7 ieee ieee"}


def test_an_output_that_is_a_file_is_refused(bench: Bench) -> None:
    bench.out.write_text("mine")
    with pytest.raises(StoreError, match="is a file"):
        bench.run("TinyGAN")
    assert bench.out.read_text() == "mine"


def test_a_read_only_output_is_refused_before_training(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    log = bench.folder / "log"

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StoreError, match="cannot be written"):
        bench.run(f"{{method: '{OURS}Constant', params: {{log: '{log}'}}}}")
    assert not log.exists()


def test_a_dry_run_tells_and_writes_nothing(bench: Bench) -> None:
    assert bench.run("TinyGAN", "Constant", dry_run=True) == 0
    assert not bench.out.exists()
    lines = [line.split() for line in bench.text.splitlines()]
    assert ["ring-tiny_gan", "2", "20", "0/2", "0/2", "2", "2"] in lines
    bench.run("Constant")
    before = {path: path.stat().st_mtime_ns for path in bench.out.rglob("*")}
    bench.run("TinyGAN", "Constant", metrics="MeanNorm Range", seeds=3, dry_run=True)
    lines = [line.split() for line in bench.text.splitlines()]
    assert ["ring-tiny_gan", "3", "20", "0/3", "0/6", "3", "6"] in lines
    assert ["ring-constant", "3", "20", "2/3", "2/6", "1", "4"] in lines
    assert {path: path.stat().st_mtime_ns for path in bench.out.rglob("*")} == before


# ---------------------------------------------------------------------------------------------- again


def test_a_metric_with_more_samples_has_fit_trained_again_as_in_a_fresh_folder(bench: Bench) -> None:
    log, fresh = bench.folder / "log", bench.folder / "fresh"
    constant = f"{{method: '{OURS}Constant', params: {{log: '{log}'}}}}"
    assert bench.run(constant, "TinyGAN", seeds=1) == 0
    trained = bench.finished()
    assert bench.run(constant, "TinyGAN", seeds=1, metrics="MeanNorm Many", dry_run=True) == 0
    lines = [line.split() for line in bench.text.splitlines()]
    assert ["ring-constant", "1", "20", "0/1", "0/2", "1", "2"] in lines
    assert ["ring-tiny_gan", "1", "20", "1/1", "1/2", "0", "1"] in lines
    for _ in range(2):  # the second time there is nothing to do
        assert bench.run(constant, "TinyGAN", seeds=1, metrics="MeanNorm Many") == 0
        assert len(log.read_text().splitlines()) == 2
    assert bench.finished()["ring-tiny_gan/0"] == trained["ring-tiny_gan/0"]
    assert bench.run(constant, "TinyGAN", seeds=1, metrics="MeanNorm Many", out=fresh) == 0
    assert bench.untimed() == bench.untimed(fresh)  # scores of the first samples are not kept


def test_the_same_suite_gives_the_same_records(bench: Bench) -> None:
    again = bench.folder / "again"
    assert bench.run("TinyGAN", "Constant", metrics="MeanNorm Range", seeds=3) == 0
    assert bench.run("TinyGAN", "Constant", metrics="MeanNorm Range", seeds=3, out=again, jobs=1) == 0
    assert len(bench.rows()) == 18
    assert bench.untimed() == bench.untimed(again)


def test_only_what_is_new_is_done(bench: Bench) -> None:
    log = bench.folder / "log"
    constant = f"{{method: '{OURS}Constant', params: {{log: '{log}'}}}}"

    def trained() -> list[str]:
        return sorted(line.split()[1] for line in log.read_text().splitlines())

    bench.run(constant)
    bench.run(constant)
    assert trained() == ["0", "1"]
    assert "all 2 tasks are done" in bench.text
    bench.run(constant, seeds=3)  # one more seed
    assert trained() == ["0", "1", "2"]
    assert [row["seed"] for row in bench.rows()] == [0, 1, 2]


def test_a_cell_that_repeats_another_one_is_copied(bench: Bench) -> None:
    """As the tuned row where the search chose the default: it is trained once, and the copy stands on its own."""
    log = bench.folder / "log"
    constant = f"method: '{OURS}Constant', params: {{log: '{log}'}}"
    both = f"{{{constant}, label: first}}", f"{{{constant}, label: second}}"
    assert bench.run(*both) == 0
    assert len(log.read_text().splitlines()) == 2  # one for each seed
    assert "copied from ring-first, which has the same keys" in bench.text
    rows = bench.rows()
    assert [(row["label"], row["cell"].rpartition("-")[0]) for row in rows] == [
        ("first", "ring-first"), ("first", "ring-first"), ("second", "ring-second"), ("second", "ring-second"),
    ]  # fmt: skip
    assert [row["value"] for row in rows[2:]] == [row["value"] for row in rows[:2]]
    assert bench.run(both[1]) == 0  # without the first
    assert [row["label"] for row in bench.rows()] == ["second", "second"]
    assert len(log.read_text().splitlines()) == 2


def test_a_cell_that_repeats_a_failed_one_is_tried_itself(bench: Bench) -> None:
    named = [f"{{method: '{OURS}Raising', label: {name}}}" for name in ("first", "second")]
    assert bench.run("Constant", *named, seeds=1) == 1
    assert [(row["label"], row["status"]) for row in bench.rows()] == [
        ("constant", "ok"), ("first", "failed"), ("second", "failed"),
    ]  # fmt: skip


def test_another_setting_of_a_metric_scores_again_and_trains_nothing(bench: Bench) -> None:
    bench.run("TinyGAN")
    finished, protocols = bench.finished(), {row["protocol"] for row in bench.rows()}
    path = bench.suite("TinyGAN")
    path.write_text(path.read_text().replace("MeanNorm", "MeanNorm: {n: 50}"))
    execute.run(load.load(path), bench.out, device="cpu", console=Console(file=io.StringIO()))
    assert bench.finished() == finished
    assert [row["n"] for row in bench.rows()] == [50, 50]
    assert {row["protocol"] for row in bench.rows()}.isdisjoint(protocols)


def test_an_edited_comment_does_nothing_again_an_edited_method_does(bench: Bench) -> None:
    source = bench.folder / "plugins_for_runs.py"
    bench.run("TinyGAN", seeds=1)
    first = bench.finished()
    source.write_text(source.read_text().replace("# of the hidden layers", "# wider is better"))
    bench.run("TinyGAN", seeds=1)
    assert bench.finished() == first
    source.write_text(source.read_text().replace("1e-2", "2e-2"))
    bench.run("TinyGAN", seeds=1)
    assert len(list(bench.out.glob("cells/*"))) == 2
    assert len(bench.rows()) == 1


def test_a_damaged_checkpoint_is_trained_again_to_the_same_numbers(bench: Bench) -> None:
    bench.run("TinyGAN")
    before, finished = bench.untimed(), bench.finished()
    (path,) = bench.out.glob("cells/*/seed-1/weights.safetensors")
    path.write_bytes(b"garbage")
    assert bench.run("TinyGAN") == 0
    assert "warning: cells/ring-tiny_gan-" in bench.text
    assert "weights.safetensors, which has changed since it was written: moved to quarantine/" in bench.text
    changed = {name for name, when in bench.finished().items() if when != finished[name]}
    assert changed == {"ring-tiny_gan/1"}
    assert [row["value"] for row in bench.untimed()] == pytest.approx(
        [row["value"] for row in before], rel=1e-4
    )


def test_a_damaged_score_is_measured_again_and_nothing_is_trained(bench: Bench) -> None:
    bench.run("TinyGAN")
    before, finished = bench.untimed(), bench.finished()
    (path,) = bench.out.glob("cells/*/seed-0/scores/*.json")
    path.write_text(path.read_text()[:-9])
    assert bench.run("TinyGAN") == 0
    assert bench.text.count("warning: ") == 1
    assert f"{path.relative_to(bench.out)} is not a complete record: moved to quarantine/" in bench.text
    assert (bench.untimed(), bench.finished()) == (before, finished)


def test_fresh_forgets_the_cells_of_the_plan_only(bench: Bench) -> None:
    bench.run("TinyGAN", "Constant")
    finished = bench.finished()
    bench.run("Constant", fresh=True)
    again = {name for name, when in bench.finished().items() if when != finished[name]}
    assert again == {"ring-constant/0", "ring-constant/1"}


def test_shards_together_do_everything_once(bench: Bench) -> None:
    whole = bench.folder / "whole"
    methods = ("TinyGAN", "Constant", "Diverging")
    bench.run(*methods, out=whole)
    bench.run(*methods, shard=(1, 2))
    assert {row["label"] for row in bench.rows()} == {"tiny_gan", "diverging"}
    first = bench.finished()
    bench.run(*methods, shard=(2, 2))
    assert first.items() <= bench.finished().items()
    assert bench.untimed() == bench.untimed(whole)


def test_samples_made_elsewhere_are_scored(bench: Bench) -> None:
    points = np.full((150, 2), 3.0, dtype=np.float32)
    np.save(bench.folder / "a.npy", points)
    np.save(bench.folder / "b.npy", 2 * points)
    assert bench.run("{samples: [a.npy, b.npy], label: theirs}", seeds=1) == 0
    assert [row["value"] for row in bench.rows()] == pytest.approx([18**0.5, 72**0.5])
    np.save(bench.folder / "b.npy", 3 * points)
    assert bench.run("{samples: [a.npy, b.npy], label: theirs}", seeds=1) == 0
    assert bench.rows()[1]["value"] == pytest.approx(162**0.5)


def test_images_made_elsewhere_are_scored_as_pixels(bench: Bench) -> None:
    """Bytes with their channels last, which stay bytes in the run directory, and a note of how they were read."""
    np.save(bench.folder / "theirs.npy", np.full((20, 4, 4, 3), 255, np.uint8))
    np.save(bench.folder / "a.npy", np.full((150, 4, 4, 3), 255, np.uint8))
    data = f"{{dataset: samples, params: {{path: {bench.folder / 'theirs.npy'}}}}}"
    assert bench.run("{samples: a.npy, label: mine}", data=data, seeds=1) == 0
    assert bench.rows()[0]["value"] == pytest.approx(48**0.5)
    (training,) = bench.trainings().values()
    assert training["note"].startswith(
        "[150, 4, 4, 3] read as [N, H, W, C], transposed to [150, 3, 4, 4]; bytes"
    )
    (kept,) = bench.out.glob("cells/*/seed-0/samples.safetensors")
    assert load_file(kept)["samples"].dtype == torch.uint8
    assert f"samples: {bench.folder / 'theirs.npy'}: [20, 4, 4, 3] read as [N, H, W, C]" in bench.text


@pytest.mark.slow
def test_a_run_ends_with_tables_plots_and_a_report(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.run("TinyGAN", "Constant", metrics="MeanNorm Range") == 0
    head = next(line for line in bench.text.splitlines() if line.startswith("method"))
    assert head.split() == ["method", "seeds", "mean_norm", "↓", "low", "↓", "high", "↑"]
    assert bench.text.splitlines()[-1] == f"report: {bench.out / 'report.html'}"
    assert {"report.html", "tables", "plots", "records.jsonl"} <= {path.name for path in bench.out.iterdir()}


# ---------------------------------------------------------------------------------------------- tasks


def planned(bench: Bench, seeds: int, methods: int = 1) -> list[Cell]:
    """A plan of so many cells of so many seeds."""
    named = [f"{{method: '{OURS}TinyGAN', label: m{i}}}" for i in range(methods)]
    return [
        replace(cell, digest="digest")
        for cell in plan.make_cells(load.load(bench.suite(*named, seeds=seeds)))
    ]


@pytest.mark.parametrize(
    ("seeds", "cores", "expected"),
    [(5, 2, [2, 3]), (5, 1, [5]), (1, 4, [1]), (8, 3, [3, 2, 3]), (3, 8, [1, 1, 1])],
)
def test_few_cells_are_cut_so_that_all_cores_are_busy(
    bench: Bench, seeds: int, cores: int, expected: list[int]
) -> None:
    tasks = list(execute.split_tasks(planned(bench, seeds), bench.out, "cpu", cores))
    assert [len(task.seeds) for task in tasks] == expected
    assert [seed for task in tasks for seed in task.seeds] == list(range(seeds))
    assert [task.number for task in tasks] == list(range(len(tasks)))


def test_many_cells_and_cuda_keep_their_stacks_whole(bench: Bench) -> None:
    eight = planned(bench, 4, methods=8)
    assert len(list(execute.split_tasks(eight, bench.out, "cpu", 2))) == 8
    assert len(list(execute.split_tasks(eight[:4], bench.out, "cpu", 2))) == 4
    assert len(list(execute.split_tasks(eight[:3], bench.out, "cpu", 2))) == 6
    assert len(list(execute.split_tasks(eight[:1], bench.out, "cuda", 1))) == 1
    assert len(list(execute.split_tasks(eight[:2], bench.out, "cuda", 2))) == 2
    assert len(list(execute.split_tasks(eight[:1], bench.out, "cuda", 2))) == 2


def test_labels_of_tasks(bench: Bench) -> None:
    (cell,) = planned(bench, 4)

    def label(*seeds: int) -> str:
        return Task(0, cell, seeds, bench.out, "cpu").label

    assert label(2) == "ring-m0, seed 2"
    assert label(0, 1, 2) == "ring-m0, seeds 0–2"
    assert label(0, 2) == "ring-m0, seeds 0, 2"


def test_deaths_are_told_in_words() -> None:
    assert local.describe_exit(-9).startswith("was killed (signal 9")
    assert local.describe_exit(-11) == "died (signal 11)"
    assert local.describe_exit(3) == "ended with exit code 3 in the middle of its task"


def test_the_longest_looking_task_comes_first(bench: Bench) -> None:
    (cell,) = planned(bench, 4)
    task = Task(0, cell, (0, 1, 2, 3), bench.out, "cpu")
    images = replace(task, cell=replace(cell, size=784))
    assert task.cost(0) < task.cost(2) < task.cost(4) < images.cost(4)


# ---------------------------------------------------------------------------------------------- display


def test_workers_are_heard_twice_a_second_and_when_they_turn_to_something_else(tmp_path: Path) -> None:
    progress = ProgressDir(tmp_path)
    tell = progress.reporter(3)
    tell(TaskProgress("training", 2, 10, 100, 50.0, {"G": 0.5}))
    tell(TaskProgress("training", 2, 11, 100, 50.0, {"G": 0.4}))
    assert progress.read() == {3: TaskProgress("training", 2, 10, 100, 50.0, {"G": 0.5})}
    tell(TaskProgress("modes of seed 0", 1))
    assert progress.read() == {3: TaskProgress("modes of seed 0", 1)}
    (tmp_path / "4.json").write_text('{"doing": "tr')
    (tmp_path / "5.json").write_text('{"an older": "form"}')
    assert list(progress.read()) == [3]
    progress.clear(3)
    assert progress.read() == {}


def test_plain_lines_name_start_and_end_of_each_task(bench: Bench) -> None:
    bench.run("Constant", seeds=1)
    lines = bench.text.splitlines()
    assert lines[:2] == ["1 of 1 tasks to do", "ring-constant, seed 0: started"]
    assert re.fullmatch(r"ring-constant, seed 0: finished in \d+\.\d s \(1 of 1\)", lines[2])


def test_the_live_picture_shows_speed_losses_and_time_left(tmp_path: Path) -> None:
    progress, file = ProgressDir(tmp_path), io.StringIO()
    progress.reporter(0)(TaskProgress("training", 4, 250, 1000, 25.0, {"D": 1.25, "G": 0.7}, 120))
    progress.reporter(1)(TaskProgress("kde_ll of seed 2", 1))
    console = Console(file=file, force_terminal=True, width=150, color_system=None)
    with Display(progress, {0: "ring-[gan], seeds 0-3", 1: "ring-vae, seed 2"}, console) as display:
        display.refresh()
        display.bars.refresh()
        display.finish(1, "finished in 2.0 s")
    text = file.getvalue()
    for shown in (
        "ring-[gan], seeds 0-3",
        "step 250 of 1,000  resumed after 120",
        "100 seed·steps/s",
        "D 1.25  G 0.7",
        "0:30 left",
    ):
        assert shown in text
    assert "kde_ll of seed 2" in text
    assert "ring-vae, seed 2: finished in 2.0 s (1 of 2)" in text


def test_a_plain_log_says_how_long_a_task_has_been_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event once, and where the task stands every minute."""
    clock = [0.0]
    monkeypatch.setattr("ganbench.execution.progress.time.monotonic", lambda: clock[0])
    progress, file = ProgressDir(tmp_path), io.StringIO()
    with Display(progress, {0: "ring-gan, seed 0"}, Console(file=file, width=200)) as display:
        for now, report in (
            (0, TaskProgress(WAITING, 1)),
            (59, TaskProgress(WAITING, 1)),
            (61, TaskProgress(WAITING, 1)),
            (62, TaskProgress("loading data", 1)),
            (63, TaskProgress("training", 1, 40, 100, resumed=40)),
            (64, TaskProgress("training", 1, 50, 100, 10.0, {"G": 0.5}, 40)),
            (123, TaskProgress("training", 1, 60, 100, 10.0, {"G": 0.5}, 40)),
            (124, TaskProgress("kde_ll of seed 0", 1)),
            (184, TaskProgress("kde_ll of seed 0", 1)),
        ):
            clock[0] = now
            progress.reporter(0)(report)
            display.refresh()
        display.finish(0, "finished")
    assert file.getvalue().splitlines() == [
        "ring-gan, seed 0: waiting for another run",
        "ring-gan, seed 0: running for 1:01 (waiting for another run)",
        "ring-gan, seed 0: started",
        "ring-gan, seed 0: resumed after step 40",
        "ring-gan, seed 0: running for 2:03 (step 60 of 100, resumed after 40, 10 seed·steps/s, G 0.5, 0:04 "
        "left)",
        "ring-gan, seed 0: running for 3:04 (kde_ll of seed 0)",
        "ring-gan, seed 0: finished (1 of 1)",
    ]


def test_what_a_terminal_would_obey_or_cannot_show_is_escaped() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    say(Console(file=file), "a\x1b[2J b\n↓ \udcff")
    file.flush()
    assert file.buffer.getvalue() == b"a\\x1b[2J b\n\\u2193 \\udcff\n"  # type: ignore[attr-defined]


def test_tables_on_a_terminal_and_elsewhere() -> None:
    rows = [("gan[1]", "5/5"), ("a longer name", "4/5")]
    plain, fancy = io.StringIO(), io.StringIO()
    print_grid("ring", ("method", "seeds"), rows, Console(file=plain, width=20))
    assert plain.getvalue() == "ring\nmethod         seeds\ngan[1]         5/5\na longer name  4/5\n"
    print_grid("ring", ("method", "seeds"), rows, Console(file=fancy, force_terminal=True, width=60))
    assert "gan[1]" in fancy.getvalue()


# ---------------------------------------------------------------------------------------------- interrupted


@pytest.mark.slow
def test_a_run_killed_in_the_middle_is_resumed_to_the_same_table(bench: Bench) -> None:
    gate = bench.folder / "gate"
    methods = ("TinyGAN", f"{{method: '{OURS}Constant', params: {{gate: '{gate}'}}}}")
    process = start(bench, bench.suite(*methods, metrics="MeanNorm Range", seeds=3))
    until(lambda: len(bench.finished()) >= 4)  # a seed of Constant, the others of which wait at the gate
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finished = bench.finished()
    assert len(finished) == 4
    assert not (bench.out / "records.jsonl").exists()
    gate.touch()
    assert bench.run(*methods, metrics="MeanNorm Range", seeds=3) == 0
    assert finished.items() <= bench.finished().items()
    assert list(bench.out.rglob("*.tmp")) == []
    whole = bench.folder / "whole"
    bench.run(*methods, metrics="MeanNorm Range", seeds=3, out=whole)
    assert bench.untimed() == bench.untimed(whole)
    assert len(bench.rows()) == 18


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_what_is_finished_and_no_orphans(bench: Bench, times: int) -> None:
    log = bench.folder / "log"
    process = start(bench, bench.suite("TinyGAN", slow(log, 300), seeds=1))
    until(lambda: log.exists() and list(bench.out.glob("cells/*tiny*/seed-0/scores/*.json")))
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
    text = process.communicate(timeout=600)[0]
    assert process.returncode == 130, text
    assert "interrupted; run the same command again to continue from here" in text
    assert "Traceback" not in text
    until(lambda: not alive(int(log.read_text().split()[0])))
    if times == 1:
        assert [(row["label"], row["status"]) for row in bench.rows()] == [("tiny_gan", "ok")]
    assert bench.run("TinyGAN", seeds=1) == 0


@pytest.mark.slow
def test_two_runs_at_once_train_every_seed_once(bench: Bench) -> None:
    log = bench.folder / "log"
    path = bench.suite(slow(log, 0.3), "TinyGAN", seeds=4)
    runs = [start(bench, path) for _ in range(2)]
    texts = [run.communicate(timeout=600)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], texts
    assert sorted(line.split()[1] for line in log.read_text().splitlines()) == ["0", "1", "2", "3"]
    assert [row["status"] for row in bench.rows()] == ["ok"] * 8


READING = """
import importlib, json, pathlib
from dataclasses import dataclass
import torch
from ganbench import method
@method("reading", reads=("declared.json",))
@dataclass(frozen=True)
class Reading:
    '''Noise.'''
    def fit(self, data, seed, budget):
        beside = pathlib.Path(__file__).parent
        sizes = [json.loads((beside / name).read_text()) for name in ("declared.json", "secret.json")]
        (beside / "written.txt").write_text("1")
        std = sum(sizes) + importlib.import_module("secret_module_of_mine").STD
        return lambda n, generator: std * torch.randn(n, *data.shape, generator=generator)
"""


QUIET = """
from dataclasses import dataclass
from ganbench import trick
@trick
@dataclass(frozen=True)
class Quiet:
    '''Nothing.'''
    def __call__(self, game, data):
        return game
"""


def test_files_that_plugins_read_and_no_key_watches_are_named_once(bench: Bench) -> None:
    """What a key watches, what is only written and what ganbench itself reads or ships is not named."""
    (bench.folder / "quiet.py").write_text(QUIET)
    (bench.folder / "reading.py").write_text(READING)
    (bench.folder / "secret_module_of_mine.py").write_text("STD = 1\n")
    for name in ("declared.json", "secret.json"):
        (bench.folder / name).write_text("1")
    methods = [f"{{method: ./reading.py, label: {label}}}" for label in "ab"]
    methods.append("{method: lsgan, tricks: [./quiet.py]}")
    assert bench.run(*methods, seeds=1) == 0
    named = re.findall(
        r"warning: (\S+) is read by a plugin, but no key watches it.*reads=\('(.*?)',\)", bench.text
    )
    secret = ["secret.json", "secret_module_of_mine.py"]
    assert named == [(str(bench.folder / name), name) for name in secret]
    source = READING.replace(
        '("declared.json",)', '("declared.json", "secret.json", "secret_module_of_mine.py")'
    )
    (bench.folder / "reading.py").write_text(source)
    assert bench.run(*methods, seeds=1) == 0
    assert "1 of 2 tasks to do" in bench.text  # b repeats a
    assert "warning" not in bench.text
