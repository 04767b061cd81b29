"""Run directories that somebody sent: no command follows them out, waits for them, or calls what is in them a bug."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_run import FakeMethod, FakeRun

import ganbench
from ganbench.cli.commands import main
from ganbench.errors import StoreError
from ganbench.report import tables
from ganbench.report.figures import read_index
from ganbench.store import layout
from ganbench.store.files import Folder
from ganbench.store.results import Run, open_run, read_records

SECRET = "the secret of somebody else"
COMMANDS = ("table", "report", "compare", "check")
METHODS = (
    FakeMethod("gan", 0.4, interface="fit"),
    FakeMethod("kde", interface="fit"),
)  # few pictures to draw


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with tables, plots and report, and a kept table of it."""
    folder = tmp_path_factory.mktemp("original")
    FakeRun(folder).write(["ring"], METHODS, seeds=2)
    for command in ("report", "table"):
        assert CliRunner().invoke(main, [command, str(folder)]).exit_code == 0
    return folder


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy to spoil; `outside` beside it holds what is nobody's business."""
    shutil.copytree(original, tmp_path / "run")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(f"about: {SECRET}\n")
    return tmp_path / "run"


def call(command: str, run: Path, reference: Path) -> tuple[int, str]:
    """Exit code and output of a command, whose answer to anything must be an exit code and words."""
    more = ["--against", str(reference / "tables" / "summary.csv")] if command == "check" else []
    result = CliRunner().invoke(main, [command, str(run), *more])
    assert "this is a bug" not in result.output
    assert SECRET not in result.output
    return result.exit_code, result.output


def edit(run: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Change every record, as somebody would who sends a directory: without a checksum."""
    path = run / "records.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        change(row)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_relative_path_opens_the_same_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the details of scores, of which pictures, controls and protocols are made."""

    def scores(opened: Run) -> list[tuple[object, object]]:
        return [(score.info, score.values) for cell in opened.cells for s in cell.seeds for score in s.scores]

    expected = scores(open_run(run))
    monkeypatch.chdir(run.parent)
    assert scores(open_run(Path(run.name))) == expected
    assert all(info and values for info, values in expected)


def names(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize(
    ("link", "commands"),
    [
        ("records.jsonl", COMMANDS),
        ("plan.json", ("table", "report")),
        ("datasets", ("table", "report")),
        ("cells", ("table", "report", "compare")),
        ("suite.resolved.yaml", ("report",)),
        ("environment.json", ("report",)),
        ("plots/index.json", ("report",)),
        ("report.html", ("report",)),
        ("tables/summary.csv", ("table",)),
        ("records.jsonl.sha256", COMMANDS),
    ],
)
def test_links_that_lead_out_are_refused(
    run: Path, original: Path, link: str, commands: tuple[str, ...]
) -> None:
    place = run / link
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    outside = run.parent / "outside"
    place.symlink_to(outside if "." not in link else outside / "secret.txt")
    for command in commands:
        code, output = call(command, run, original)
        assert code == 2
        assert "leads out of the run directory, to" in output
    assert list(names(outside)) == ["secret.txt"]
    assert (outside / "secret.txt").read_text() == f"about: {SECRET}\n"


@pytest.mark.parametrize(
    ("folder", "command"), [("tables", "table"), ("plots", "report"), ("tables", "compare")]
)
def test_nothing_is_written_or_removed_outside(run: Path, original: Path, folder: str, command: str) -> None:
    outside = run.parent / "outside"
    for name in ("summary.csv", "compare.csv", "scores.png", "critical-difference-kde_ll.png"):
        (outside / name).write_text("mine")
    index = {"plots": [{"name": name} for name in ("scores", "secret")]}
    (outside / "index.json").write_text(json.dumps(index))
    before = names(outside)
    shutil.rmtree(run / folder)
    (run / folder).symlink_to(outside)
    _, output = call(command, run, original)
    assert "leads out of the run directory" in output
    assert names(outside) == before


def test_a_private_file_does_not_get_into_the_report(run: Path, original: Path) -> None:
    (run / "suite.resolved.yaml").unlink()
    (run / "suite.resolved.yaml").symlink_to(run.parent / "outside" / "secret.txt")
    (run / "report.html").unlink()
    assert call("report", run, original)[0] == 2
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("column", ["cell", "dataset"])
def test_names_in_records_that_lead_out_are_refused(run: Path, original: Path, column: str) -> None:
    outside = run.parent / "outside"
    (outside / "cell.json").write_text(json.dumps({"about": SECRET, "train": {"steps": SECRET}}))
    (run.parent / "outside.json").write_text(json.dumps({"about": SECRET}))
    edit(run, lambda row: row.update({column: "../../outside"}))
    for command in ("table", "report", *(["compare"] if column == "cell" else [])):
        code, output = call(command, run, original)
        assert code == 2
        assert "leads out of the run directory" in output


def test_pictures_outside_are_neither_shown_nor_removed(run: Path, original: Path) -> None:
    outside = run.parent / "outside"
    source = next((run / "plots").glob("*.png"))
    (outside / "private.png").write_bytes(source.read_bytes() + SECRET.encode())
    index = json.loads((run / "plots" / "index.json").read_text())
    index["plots"][0]["name"] = "../../outside/private"
    (run / "plots" / "index.json").write_text(json.dumps(index))
    assert call("report", run, original)[0] == 0
    assert (outside / "private.png").exists()
    index["drawn_from"] = "another version"
    (run / "plots" / "index.json").write_text(json.dumps(index))
    assert call("report", run, original)[0] == 0
    assert (outside / "private.png").exists()


def test_models_are_not_loaded_through_links(run: Path) -> None:
    (run / "suite.resolved.yaml").unlink()
    (run / "suite.resolved.yaml").symlink_to(run.parent / "outside" / "secret.txt")
    with pytest.raises(StoreError, match="leads out of the run directory"):
        ganbench.load_model(run, "gan")
    (run / "records.jsonl").unlink()
    (run / "records.jsonl").symlink_to(run.parent / "outside" / "secret.txt")
    with pytest.raises(StoreError, match="leads out of the run directory"):
        ganbench.load_records(run)


# ---------------------------------------------------------------------------------------------- no files


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("records.jsonl", "table"),
        ("plan.json", "report"),
        ("suite.resolved.yaml", "report"),
        ("environment.json", "report"),
        ("plots/index.json", "report"),
        ("datasets/ring.json", "table"),
        ("datasets/ring.safetensors", "table"),
    ],
)
def test_a_fifo_is_refused_and_not_waited_for(run: Path, original: Path, name: str, command: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    code, output = call(command, run, original)
    assert code == 2
    assert "is a FIFO, expected a file; remove it" in output


@pytest.mark.parametrize("name", ["train.json", "media.safetensors", "scores"])
def test_a_fifo_in_a_seed_is_refused(run: Path, original: Path, name: str) -> None:
    seed = next((run / "cells").glob("ring-gan-*")) / "seed-0"
    place = next(seed.glob("scores/*.json")) if name == "scores" else seed / name
    place.unlink()
    os.mkfifo(place)
    (run / "plots" / "index.json").unlink()
    code, output = call("report", run, original)
    assert code == 2
    assert "is a FIFO, expected a file; remove it" in output


def test_sizes_that_cannot_be_are_refused(run: Path, original: Path) -> None:
    """A file with holes has any size and takes no room."""
    for name, size, command in (("records.jsonl", 2**40, "check"), ("suite.resolved.yaml", 2**30, "report")):
        content = (run / name).read_bytes()
        os.truncate(run / name, size)
        code, output = call(command, run, original)
        assert code == 2
        assert f"has {size:,} bytes, more than any run writes" in output
        (run / name).write_bytes(content)


def test_the_door_opens_files_of_the_directory_alone(tmp_path: Path) -> None:
    files = Folder(tmp_path / "run")
    path = files.write(files.path("a", "b.json"), b"{}")
    assert files.read_bytes(path) == b"{}"
    assert files.read_bytes(files.path("none")) is None
    assert files.read_bytes(files.path("a", "b.json", "none")) is None
    with pytest.raises(StoreError, match="is a folder, expected a file"):
        files.read_bytes(files.path("a"))
    with pytest.raises(StoreError, match="has 2 bytes, more than any run writes"):
        files.read_bytes(path, 1)
    for name in ("a\0b", "a\ud800b"):
        with pytest.raises(StoreError, match="is not a valid path"):
            files.path(name)
    (tmp_path / "run" / "device").symlink_to("/dev/zero")
    with pytest.raises(StoreError, match="leads out of the run directory"):
        files.read_bytes(tmp_path / "run" / "device")
    with pytest.raises(StoreError, match="leads out of the run directory"):
        files.write(files.root / "a" / ".." / ".." / "out.json", b"")
    assert not (tmp_path / "out.json").exists()


def test_a_link_in_place_of_a_temporary_file_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host")
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    files = Folder(tmp_path / "run")
    files.create()
    (files.root / f".a.json.host.{os.getpid()}.tmp").symlink_to(mine)
    files.write(files.path("a.json"), b"new")
    assert (mine.read_text(), (files.root / "a.json").read_text()) == ("mine", "new")


# ---------------------------------------------------------------------------------------------- records


def seal(run: Path) -> None:
    """Write the checksum that a run writes."""
    digest = hashlib.sha256((run / "records.jsonl").read_bytes()).hexdigest()
    (run / layout.RECORDS_SUM).write_text(f"{digest}  records.jsonl\n")


@pytest.mark.parametrize("spoilt", ["cut", "empty", "edited", "checksum"])
def test_records_that_are_not_as_they_were_written_are_refused(
    run: Path, original: Path, spoilt: str
) -> None:
    seal(run)
    assert len(read_records(run)) > 0
    path = run / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    if spoilt == "checksum":
        (run / layout.RECORDS_SUM).write_text("")
    else:
        texts = {
            "cut": lines[:-1],
            "empty": [],
            "edited": [lines[0].replace('"seed": 0', '"seed": 7'), *lines[1:]],
        }
        path.write_text("".join(texts[spoilt]))
    for command in COMMANDS:
        code, output = call(command, run, original)
        assert code == 2
        assert (
            "(its SHA-256 is not that in records.jsonl.sha256); run the suite again to rebuild it, or remove "
            "records.jsonl.sha256 to use the changed file" in output
        )
    (run / layout.RECORDS_SUM).unlink()
    assert call("table", run, original)[0] == 0  # as a directory of an earlier version


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": ["gan"]}, "'label' is [\"gan\"], expected text"),
        ({"seed": "zero"}, "'seed' is \"zero\", expected a whole number"),
        ({"seed": True}, "'seed' is true, expected a whole number"),
        ({"value": "1.5"}, "'value' is \"1.5\", expected a finite number"),
        ({"value": float("nan")}, "'value' is NaN, expected a finite number"),
        ({"n": 10**30}, "'n' is 1" + "0" * 30 + ", expected a whole number"),
        ({"cell": None}, "'cell' is null, expected text"),
        ({"params": []}, "'params' is [], expected an object"),
        ({"tricks": "x" * 99}, "expected a list"),
        ({"error": {}}, "'error' is {}, expected text"),
    ],
)
def test_records_of_other_types_are_refused(
    run: Path, original: Path, change: dict[str, object], words: str
) -> None:
    edit(run, lambda row: row.update(change))
    for command in COMMANDS:
        code, output = call(command, run, original)
        assert code == 2
        assert f"records.jsonl:1: {words}" in output or (words in output and "records.jsonl:1" in output)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plan.json", {"cells": 3}),
        ("plan.json", {"cells": [{"cell": "x", "metrics": [{"metric": "m", "keys": {"one": "k"}}]}]}),
        ("datasets/ring.json", {"shape": "wide"}),
        ("datasets/ring.json", {"shape": [2], "scale": [1]}),
        ("datasets/ring.json", {"shape": [2], "modes": {"centers": [[1], [1, 2]], "std": 1}}),
        ("cells/*/cell.json", {"params": ["lr"]}),
        ("cells/*/seed-0/train.json", {"status": "ok", "seconds": "long"}),
        ("cells/*/seed-0/scores/*.json", {"details": ["x"]}),
        ("cells/*/seed-0/scores/*.json", {"records": [1]}),
    ],
)
def test_documents_of_other_types_are_refused(run: Path, original: Path, name: str, content: object) -> None:
    for path in run.glob(name):
        path.write_text(json.dumps(content))
    code, output = call("report", run, original)
    assert code == 2
    assert "run the suite again to rebuild it" in output


def test_random_bytes_are_told_in_words(run: Path, original: Path) -> None:
    junk = bytes(range(256)) * 8
    for name in ("suite.resolved.yaml", "environment.json", "plan.json", "records.jsonl"):
        content = (run / name).read_bytes()
        (run / name).write_bytes(junk)
        code, output = call("report", run, original)
        assert code == 2
        assert name in output
        (run / name).write_bytes(content)
    (run / "suite.resolved.yaml").write_text("about: &a [*a, *a]\n" + "[" * 5000)
    png = next((run / "plots").glob("*.png"))
    png.write_bytes(b"no picture")
    assert call("report", run, original)[0] == 0  # drawn again
    assert png.read_bytes().startswith(b"\x89PNG")
    for plots in (7, [7], [{}], [{"name": "a/b"}], [{"name": ["a"]}]):
        (run / "plots" / "index.json").write_text(json.dumps({"plots": plots, "drawn_from": 3}))
        assert read_index(Folder(run)) == []


def test_a_clean_directory_gives_what_it_gave(run: Path, original: Path) -> None:
    before = names(original / "tables")
    tables.write(run)
    assert names(run / "tables") == before
