"""The run directory: nothing torn, nothing damaged that is taken for good, nothing outside, nothing lost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ganbench.contracts import COLUMNS, Data, Labels, Modes
from ganbench.errors import RequestError, StoreError
from ganbench.execution.worker import load_data
from ganbench.scoring import unmeasured
from ganbench.store import layout, rundir
from ganbench.store.files import SCHEMA
from ganbench.store.results import read_records
from ganbench.store.rundir import Store, environment, preview, preview_size
from ganbench.suite import load, plan
from ganbench.suite.load import Suite
from ganbench.suite.plan import Cell, data_digest
from ganbench.training.trained import TrainedSeed

SUITE = """
name: stored
seeds: 2
train: {steps: 10, batch: 8}
datasets: [{ring: {n_train: 50, n_valid: 20, n_test: 200}}]
methods: [./plugins_for_runs.py:TinyGAN, {method: ./plugins_for_runs.py:Constant, label: noise}]
metrics: [./plugins_for_runs.py:MeanNorm, ./plugins_for_runs.py:Range]
"""

PINNED = "6f4bf14b7decb65145c78694db05f1121e8ed843b946c2d32025bb7dc3ed6f9c"  # digest of `small()`


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """Two methods on one dataset."""
    folder = tmp_path / "suite"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("plugins_for_runs.py"), folder)
    (folder / "stored.yaml").write_text(SUITE)
    return load.load(folder / "stored.yaml")


@pytest.fixture
def cells(suite: Suite) -> list[Cell]:
    """Two cells of two seeds, with two metrics and three values."""
    protocols = (("12345678", "one"), ("87654321", "two"))
    return [replace(cell, digest="d" * 64, protocols=protocols) for cell in plan.make_cells(suite)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that is ready for a run."""
    store = Store(tmp_path / "out")
    store.prepare()
    return store


def trained(seed: int, **changes: object) -> TrainedSeed:
    """A trained seed of a game."""
    made = TrainedSeed(
        seed=seed,
        status="ok",
        state={"G.0.weight": torch.full((3, 2), float(seed))},
        curves={"step": torch.arange(4), "D": torch.rand(4)},
        snapshots=torch.zeros(2, 5, 2),
        snapshot_steps=(5, 10),
        seconds=1.5,
        stack=2,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # any of its fields


def keep(store: Store, cell: Cell, seed: int = 0, **changes: object) -> Path:
    """Store a trained seed; its folder."""
    store.write_training(cell, trained(seed, **changes), torch.zeros(7, 2))
    return store.root / "cells" / cell.id / f"seed-{seed}"


def read(store: Store, cell: Cell, seed: int = 0) -> TrainedSeed | None:
    """The stored training of a seed."""
    return store.training(cell, seed)


# ---------------------------------------------------------------------------------------------- round trips


def test_a_training_comes_back_as_it_was_written(store: Store, cells: list[Cell]) -> None:
    folder = keep(store, cells[0], 1)
    assert read(store, cells[0], 1) == TrainedSeed(1, "ok", seconds=1.5, stack=2)
    state, samples = store.tensors(cells[0].id, 1)
    assert torch.equal(state["G.0.weight"], torch.ones(3, 2))
    assert samples is None
    assert sorted(path.name for path in folder.iterdir()) == [
        "media.safetensors",
        "train.json",
        "weights.safetensors",
    ]


def test_media_hold_previews_curves_and_snapshots(store: Store, cells: list[Cell]) -> None:
    from safetensors.torch import load_file

    media = load_file(keep(store, cells[0]) / "media.safetensors")
    shapes = {name: tuple(tensor.shape) for name, tensor in media.items()}
    assert shapes == {
        "samples": (7, 2),
        "curve.step": (4,),
        "curve.D": (4,),
        "snapshots": (2, 5, 2),
        "snapshot.step": (2,),
    }
    assert media["snapshot.step"].tolist() == [5, 10]


def test_samples_stand_for_methods_that_are_no_games(store: Store, cells: list[Cell]) -> None:
    keep(store, cells[1], state={}, samples=torch.ones(9, 2))
    state, samples = store.tensors(cells[1].id, 0)
    assert state == {}
    assert samples is not None
    assert samples.shape == (9, 2)


def test_tensors_that_share_memory_can_be_stored(store: Store, cells: list[Cell]) -> None:
    whole = torch.arange(6.0)
    keep(store, cells[0], state={"a": whole[:3], "b": whole, "c": whole.view(2, 3).T})
    state, _ = store.tensors(cells[0].id, 0)
    assert torch.equal(state["c"], whole.view(2, 3).T)


def test_another_key_is_another_training(store: Store, cells: list[Cell]) -> None:
    keep(store, cells[0])
    assert store.training(replace(cells[0], digest="another"), 0) is None
    assert store.warnings == []


def test_a_clock_that_was_set_back_gives_no_negative_seconds(store: Store, cells: list[Cell]) -> None:
    keep(store, cells[0], seconds=-3.0)
    stored = read(store, cells[0])
    assert stored is not None
    assert stored.seconds == 0.0


# ---------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"{", b"[]", b'{"schema": 1}', b'{"key": NaN}', b"[" * 99999]
)
def test_a_damaged_record_is_quarantined_and_named(store: Store, cells: list[Cell], content: bytes) -> None:
    folder = keep(store, cells[0])
    (folder / "train.json").write_bytes(content)
    assert read(store, cells[0]) is None
    name = f"cells/{cells[0].id}/seed-0"
    moved = f"quarantine/{name.replace('/', '__')}.1"
    assert store.warnings == [
        f"{name}/train.json is not a complete record: moved to {moved}; it will be computed again"
    ]
    assert not folder.exists()
    assert (store.root / moved / "train.json").read_bytes() == content


def test_an_edited_record_is_caught(store: Store, cells: list[Cell]) -> None:
    path = keep(store, cells[0]) / "train.json"
    path.write_text(path.read_text().replace('"seconds": 1.5', '"seconds": 1.4'))
    assert read(store, cells[0]) is None


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "bit", "missing"])
@pytest.mark.parametrize("name", ["weights.safetensors", "media.safetensors"])
def test_a_damaged_artefact_is_caught(store: Store, cells: list[Cell], name: str, damage: str) -> None:
    path = keep(store, cells[0]) / name
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[-1] ^= 1
    kinds = {"truncated": content[:-5], "empty": b"", "garbage": os.urandom(200), "bit": content}
    path.unlink()
    if damage != "missing":
        path.write_bytes(kinds[damage])
    assert read(store, cells[0]) is None
    assert len(store.warnings) == 1
    assert name in store.warnings[0]
    assert "it will be computed again" in store.warnings[0]
    keep(store, cells[0])
    assert read(store, cells[0]) is not None


def test_a_second_quarantine_does_not_overwrite_the_first(store: Store, cells: list[Cell]) -> None:
    for _ in range(2):
        (keep(store, cells[0]) / "weights.safetensors").write_bytes(b"")
        read(store, cells[0])
    assert len(list((store.root / "quarantine").iterdir())) == 2


def test_a_store_for_reading_only_moves_nothing(store: Store, cells: list[Cell]) -> None:
    folder = keep(store, cells[0])
    (folder / "weights.safetensors").write_bytes(b"")
    assert read(Store(store.root, read_only=True), cells[0]) is None
    assert folder.exists()


def test_a_pickle_in_place_of_weights_is_refused_and_not_run(
    store: Store, cells: list[Cell], tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    folder = keep(store, cells[0])
    content = pickle.dumps(Evil())
    (folder / "weights.safetensors").write_bytes(content)
    document = json.loads((folder / "train.json").read_text())
    document["artefacts"]["weights.safetensors"] = hashlib.sha256(content).hexdigest()
    store.write_json(folder / "train.json", document)  # even where the checksums have been forged
    assert read(store, cells[0]) is None
    assert "cannot be read" in store.warnings[0]
    assert not (tmp_path / "executed").exists()


def test_a_record_of_a_newer_ganbench_is_refused_and_left_alone(store: Store, cells: list[Cell]) -> None:
    path = keep(store, cells[0]) / "train.json"
    path.write_text(json.dumps({"schema": SCHEMA + 1, "of": "the future"}))
    with pytest.raises(
        StoreError, match=f"newer ganbench \\(schema {SCHEMA + 1}, this one knows {SCHEMA}\\)"
    ):
        read(store, cells[0])
    assert json.loads(path.read_text())["of"] == "the future"


def test_a_directory_of_a_newer_ganbench_is_refused(store: Store) -> None:
    (store.root / "plan.json").write_text(json.dumps({"schema": SCHEMA + 1}))
    with pytest.raises(StoreError, match="newer ganbench"):
        store.prepare()


# ---------------------------------------------------------------------------------------------- writing


def test_nan_never_gets_into_a_document(store: Store) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        store.write_json(store.root / "x.json", {"value": float("nan")})
    assert not (store.root / "x.json").exists()


def test_temporaries_of_the_dead_are_cleaned_those_of_the_living_stay(store: Store) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = store.root / f".train.json.{socket.gethostname()}.{ended.pid}.tmp"
    living = store.root / f".train.json.{socket.gethostname()}.{os.getpid()}.tmp"
    elsewhere, forgotten = (store.root / f".{name}.another-host.1.tmp" for name in ("new", "old"))
    for path in (dead, living, elsewhere, forgotten):
        path.write_text("half a rec")
    os.utime(forgotten, (0, 0))
    store.prepare()
    assert [path.exists() for path in (dead, living, elsewhere, forgotten)] == [False, True, True, False]


def test_who_gets_a_lock_removes_what_its_last_holder_left(store: Store, cells: list[Cell]) -> None:
    cell = cells[0].id
    left = store.path("cells", cell, "seed-0", "scores", f".x.json.{socket.gethostname()}.{os.getpid()}.tmp")
    left.parent.mkdir(parents=True)
    left.write_text("half")
    with store.lock(cell, [1]):
        assert left.exists()
    with store.lock(cell, [0]):
        assert not left.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_leaves_the_old_record(
    store: Store, cells: list[Cell], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    keep(store, cells[0], status="failed", error="earlier", state={})

    def full(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"disk is full; finished results are kept: free some space"):
            keep(store, cells[0])
    training = read(store, cells[0])
    assert training is not None
    assert training.error == "earlier"
    assert list(store.root.rglob("*.tmp")) == []


def test_a_checkpoint_that_does_not_fit_leaves_nothing(store: Store, cells: list[Cell]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the kernel itself refuses the rest
    try:
        with pytest.raises(StoreError, match=r"weights\.safetensors: the disk is full"):
            keep(store, cells[0], state={"G": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    assert read(store, cells[0]) is None


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(
        StoreError, match=r"cannot be written \(.*\); a run can go to another folder with --out"
    ):
        Store(tmp_path / "out").prepare()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StoreError, match="is a file, expected a folder"):
        Store(tmp_path / "out").prepare()
    with pytest.raises(StoreError, match="there is a file where a folder is needed"):
        Store(tmp_path / "out" / "deeper").prepare()
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("link", ["cells", "cells/{id}", "cells/{id}/seed-0", "cells/{id}/seed-0/train.json"])
def test_links_that_lead_out_are_refused(store: Store, cells: list[Cell], tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "train.json").write_text("{}")
    place = store.root / link.format(id=cells[0].id)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside / "train.json" if link.endswith("json") else outside)
    with pytest.raises(StoreError, match=r"leads out of the run directory, to .*outside"):
        read(store, cells[0])
    with pytest.raises(StoreError, match="leads out of the run directory"):
        keep(store, cells[0])
    assert [path.name for path in outside.iterdir()] == ["train.json"]


@pytest.mark.parametrize("link", ["scores", "scores/{name}"])
def test_scores_behind_links_that_lead_out_are_refused(
    store: Store, cells: list[Cell], suite: Suite, tmp_path: Path, link: str
) -> None:
    cell, outside = cells[0], tmp_path / "outside"
    key = cell.score_keys[0][0]
    name = f"{cell.metrics[0].name}-{key[:12]}.json"
    outside.mkdir()
    (outside / name).write_text("{}")
    store.write_plan(suite, cells)
    place = keep(store, cell) / link.format(name=name)
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(outside / name if link != "scores" else outside)
    with pytest.raises(StoreError, match=r"leads out of the run directory, to .*outside"):
        store.score(cell, 0, 0)
    with pytest.raises(StoreError, match="leads out of the run directory"):
        store.records()
    with pytest.raises(StoreError, match="leads out of the run directory"):
        store.write_json(place if link != "scores" else place / name, {})
    assert (outside / name).read_text() == "{}"


def test_links_that_stay_inside_are_followed(store: Store, cells: list[Cell]) -> None:
    folder = keep(store, cells[0])
    folder.rename(store.root / "elsewhere")
    folder.symlink_to(store.root / "elsewhere")
    assert read(store, cells[0]) is not None


def test_names_that_lead_out_are_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="leads out"):
        store.path(layout.training("../../etc", 0))


def test_a_link_to_the_run_directory_itself_is_fine(store: Store, cells: list[Cell], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.root)
    keep(Store(tmp_path / "link"), cells[0])
    assert read(store, cells[0]) is not None


# ---------------------------------------------------------------------------------------------- locks


def test_the_lock_of_a_killed_holder_is_free(store: Store) -> None:
    holder = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from ganbench.store.rundir import Store
        with Store(Path({str(store.root)!r})).lock("cell", [0, 1]):
            print("held", flush=True)
            time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        waiter = subprocess.Popen(
            [sys.executable, "-c", holder.replace("[0, 1]", "[1, 2]").replace("sleep(600)", "sleep(0)")],
            stdout=subprocess.PIPE,
            text=True,
        )
        with store.lock("cell", [2]), store.lock("another", [0]):
            pass  # other seeds and cells are free
        time.sleep(0.5)
        assert waiter.poll() is None
        process.send_signal(signal.SIGKILL)
        assert waiter.communicate(timeout=600)[0] == "held\n"


# ---------------------------------------------------------------------------------------------- records


def scores(store: Store, cell: Cell, seed: int) -> None:
    """Give a stored seed a score of each metric."""
    one = read(store, cell, seed)
    assert one is not None
    for index in range(len(cell.metrics)):
        store.write_score(cell, unmeasured(cell, index, one, "failed", "for the test"))


def test_records_follow_the_plan_and_its_columns(store: Store, cells: list[Cell], suite: Suite) -> None:
    store.write_plan(suite, cells)
    for cell in reversed(cells):
        for seed in (1, 0):
            keep(store, cell, seed)
            scores(store, cell, seed)
    rows = store.write_records()
    assert all(tuple(row) == COLUMNS for row in rows)
    order = [(row["label"], row["seed"], row["metric"]) for row in rows]
    values = ("mean_norm", "low", "high")
    assert order == [(label, seed, v) for label in ("tiny_gan", "noise") for seed in (0, 1) for v in values]
    lines = (store.root / "records.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert rows[0]["params"] == {"width": 8}
    assert (rows[0]["protocol"], rows[1]["protocol"]) == ("12345678", "87654321")


def test_records_carry_their_checksum(store: Store, cells: list[Cell], suite: Suite) -> None:
    store.write_plan(suite, cells)
    keep(store, cells[0], 0)
    scores(store, cells[0], 0)
    for _ in range(2):
        store.write_records()
        digest = hashlib.sha256((store.root / layout.RECORDS).read_bytes()).hexdigest()
        assert (store.root / layout.RECORDS_SUM).read_text() == f"{digest}  records.jsonl\n"
    assert len(read_records(store.root)) == 3


def test_a_kill_between_records_and_checksum_leaves_records_that_can_be_read(
    store: Store, cells: list[Cell], suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_plan(suite, cells)
    keep(store, cells[0], 0)
    scores(store, cells[0], 0)
    store.write_records()
    keep(store, cells[0], 1)
    scores(store, cells[0], 1)
    write = Store.write

    def kill(self: Store, path: str | Path, content: bytes) -> Path:
        if path == layout.RECORDS_SUM:
            raise KeyboardInterrupt
        return write(self, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", kill)
        with pytest.raises(KeyboardInterrupt):
            store.write_records()
    assert len(read_records(store.root)) == 6


def test_a_seed_that_failed_has_a_row_for_each_value(store: Store, cells: list[Cell], suite: Suite) -> None:
    store.write_plan(suite, cells[:1])
    keep(store, cells[0], 0, status="diverged", error="at step 3")
    keep(store, cells[0], 1)  # trained, not scored yet: no rows
    rows = store.records()
    assert [(row["seed"], row["metric"], row["value"], row["status"], row["error"]) for row in rows] == [
        (0, name, None, "diverged", "at step 3") for name in ("mean_norm", "low", "high")
    ]
    assert [(row["protocol"], row["better"]) for row in rows] == [
        ("12345678", "lower"),
        ("87654321", "lower"),
        ("87654321", "higher"),
    ]
    assert rows[0]["train_seconds"] == 1.5


def test_cells_that_left_the_plan_stay_on_disk_but_not_in_the_records(
    store: Store, cells: list[Cell], suite: Suite
) -> None:
    for cell in cells:
        keep(store, cell)
        scores(store, cell, 0)
    store.write_plan(suite, cells)
    assert {row["label"] for row in store.records()} == {"tiny_gan", "noise"}
    store.write_plan(suite, cells[1:])
    assert {row["label"] for row in store.records()} == {"noise"}
    assert read(store, cells[0]) is not None


def test_a_folder_without_a_plan_is_no_folder_of_results(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a folder of results"):
        Store(tmp_path).records()


def test_a_cell_is_described(store: Store, cells: list[Cell], suite: Suite) -> None:
    store.write_plan(suite, cells)
    cell = json.loads((store.root / "cells" / cells[0].id / "cell.json").read_text())
    assert cell["about"] == "A real GAN, as small as can be."
    assert cell["train"] == {
        "steps": 10, "batch": 8, "dtype": "float32", "precision": "float32", "snapshots": 4, "checkpoint": 10,
    }  # fmt: skip
    assert (cell["interface"], cell["params"], cell["trick_params"]) == ("game", {"width": 8}, [])
    assert cells[0].id.endswith(cell["key"])


def test_removing_a_cell_removes_that_cell(store: Store, cells: list[Cell]) -> None:
    for cell in cells:
        keep(store, cell)
        store.remove(cell)
        store.remove(cell)  # once more: nothing to do
        keep(store, cell)
    store.remove(cells[0])
    assert [read(store, cell) is None for cell in cells] == [True, False]


# ---------------------------------------------------------------------------------------------- data


def small(**changes: object) -> Data:
    """Six points with labels and modes."""
    points = torch.arange(12, dtype=torch.float32).view(6, 2)
    labels = Labels(*(torch.arange(2) for _ in range(3)))
    data = Data(
        "small", points[:2], points[2:4], points[4:], (2,), modes=Modes(points[:1], 0.5), labels=labels
    )
    return replace(data, **changes)  # type: ignore[arg-type]  # any of its fields


def test_the_digest_of_data_is_pinned() -> None:
    """It enters all keys: another value means that everything is trained again, which must be meant."""
    assert data_digest(small()) == PINNED


def test_the_digest_sees_every_part_of_the_data() -> None:
    points = small().train
    changed = points.clone()
    changed[-1, -1] += 1e-6
    labels = Labels(torch.arange(2), torch.arange(2), torch.tensor([0, 0]))
    others = [
        small(name="other"),
        small(train=changed),
        small(valid=points, test=small().valid),
        small(train=points.double()),
        small(train=points.view(1, 4)),
        small(scale=(0.0, 1.0)),
        small(labels=None),
        small(labels=labels),
        small(modes=Modes(points[:1], 0.25)),
        small(modes=Modes(points[:2], 0.5)),
        small(modes=Modes(points[:2], 0.5, weights=torch.tensor([0.25, 0.75]))),
        small(modes=Modes(points[:2], 0.5, weights=torch.tensor([0.75, 0.25]))),
        small(modes=Modes(points[:1], 0.5, dims=1)),
        small(classes=("a", "b")),
        small(classes=("b", "a")),
    ]
    assert len({data_digest(data) for data in [small(), *others]}) == 16


DENSITY = """
import torch
from ganbench import Data, dataset

@dataset(provides=("log_density",))
def dots(generator, shift: float = 0.0):
    x = torch.zeros(10, 2)
    return Data("dots", x, x, x, (2,), log_density=lambda x: -x.square().sum(-1) - shift)
"""


def digest_of(folder: Path, source: str, reference: str = "./dots.py") -> str:
    """The digest of the dataset of a file."""
    folder.mkdir()
    (folder / "dots.py").write_text(source)
    (folder / "one.yaml").write_text(
        f"name: one\nseeds: 1\ndatasets: [{reference}]\nmethods: [gan]\nmetrics: [kde_ll]\n"
    )
    part = load.load(folder / "one.yaml").datasets[0].part
    return data_digest(load_data(part), part)


def test_the_digest_sees_what_the_functions_of_a_dataset_come_from(tmp_path: Path) -> None:
    """The tensors are the same in all of them."""
    known = digest_of(tmp_path / "a", DENSITY)
    assert known == digest_of(tmp_path / "b", DENSITY.replace("import torch", "import torch  # a comment"))
    others = [
        digest_of(tmp_path / "c", DENSITY.replace("-x.square()", "-2 * x.square()")),
        digest_of(tmp_path / "d", DENSITY, "{./dots.py: {shift: 1.0}}"),
        digest_of(tmp_path / "e", DENSITY.replace('("log_density",)', '("log_density",), version=2')),
    ]
    assert len({known, *others}) == 4


def test_the_digest_sees_the_version_of_a_dataset_without_functions(tmp_path: Path) -> None:
    plain = DENSITY.replace(", log_density=lambda x: -x.square().sum(-1) - shift", "")
    known = digest_of(tmp_path / "a", plain)
    edited = digest_of(tmp_path / "b", plain.replace("x = torch.zeros", "x = 1 * torch.zeros"))
    assert known == edited  # its tensors say all
    newer = plain.replace('("log_density",)', '("log_density",), version=2')
    assert known != digest_of(tmp_path / "c", newer)


def ring_entry(tmp_path: Path, text: str) -> load.DatasetSpec:
    """The dataset cell of a suite."""
    (tmp_path / "one.yaml").write_text(
        f"name: one\nseeds: 1\ndatasets: [{text}]\nmethods: [gan]\nmetrics: [kde_ll]\n"
    )
    return load.load(tmp_path / "one.yaml").datasets[0]


def test_the_preview_of_a_density_integrates_to_one(tmp_path: Path) -> None:
    cell = ring_entry(tmp_path, "{dataset: ring, params: {std: 0.2, n_train: 10, n_valid: 10}, label: r}")
    shown = preview(cell, load_data(cell.part), "digest")
    x0, x1, y0, y1 = shown.tensors["extent"].tolist()
    density = shown.tensors["log_density"].exp()
    area = (x1 - x0) * (y1 - y0) / ((density.shape[0] - 1) * (density.shape[1] - 1))
    assert float(density.sum() * area) == pytest.approx(1, abs=2e-3)
    assert shown.tensors["examples"].shape == (2048, 2)
    assert (shown.card["label"], shown.card["digest"], shown.card["n_train"]) == ("r", "digest", 10)
    assert len(shown.card["modes"]["centers"]) == 8


def test_rows_of_the_preview_of_a_density_are_y(tmp_path: Path) -> None:
    points = torch.randn(50, 2)
    data = Data("one", points, points, points, (2,), log_density=lambda x: -((x[:, 1] - 1) ** 2))
    found = preview(ring_entry(tmp_path, "ring"), data, "digest").tensors
    density, (_, _, y0, y1) = found["log_density"], found["extent"].tolist()
    assert torch.equal(density.amax(1), density[:, 0])  # the same along every row
    assert torch.linspace(y0, y1, 200)[density[:, 0].argmax()] == pytest.approx(1, abs=(y1 - y0) / 199)


def test_the_preview_of_a_line(tmp_path: Path) -> None:
    cell = ring_entry(tmp_path, "{mixture1d: {n_train: 10, n_valid: 10}}")
    shown = preview(cell, load_data(cell.part), "digest")
    x0, x1 = shown.tensors["extent"].tolist()
    assert float(shown.tensors["log_density"].exp().mean()) * (x1 - x0) == pytest.approx(1, abs=5e-3)


def test_the_preview_of_images_is_in_their_scale(tmp_path: Path) -> None:
    cell = ring_entry(tmp_path, "ring")
    images = torch.randint(0, 256, (100, 1, 4, 4), dtype=torch.uint8)
    data = Data("pictures", images, images, images, (1, 4, 4), (0.0, 1.0))
    shown = preview(cell, data, "digest").tensors["examples"]
    assert shown.shape == (64, 1, 4, 4)
    assert 0 <= float(shown.min()) < float(shown.max()) <= 1


def test_how_many_examples_are_shown() -> None:
    assert [preview_size(shape) for shape in ((2,), (3,), (4,), (1, 28, 28))] == [2048, 2048, 64, 64]


def test_the_environment_names_what_rounding_depends_on() -> None:
    found = environment("cpu")
    assert re.fullmatch(r".+ \(\w.*\)", found["processor"])
    assert found["threads"] == 1
    assert found["cores"] >= 1


# ---------------------------------------------------------------------------------------------- whose directory it is


def other(suite: Suite, name: str, text: str = "") -> Suite:
    """The suite in another file, edited by `text`."""
    path = suite.path.with_name(name)
    path.write_text(suite.source_text + text)
    return load.load(path)


def test_another_suite_may_not_replace_the_tables(store: Store, suite: Suite, cells: list[Cell]) -> None:
    store.check_suite(suite)  # nobody's yet
    store.write_plan(suite, cells)
    stranger = other(suite, "other.yaml", "about: another\n")
    with pytest.raises(
        RequestError, match=r"has the results of another suite, .*stored\.yaml; .*--out"
    ) as caught:
        store.check_suite(stranger)
    assert str(stranger.path) in str(caught.value)


def test_a_suite_that_is_edited_copied_or_moved_is_the_same(
    store: Store, suite: Suite, cells: list[Cell]
) -> None:
    store.write_plan(suite, cells)
    store.check_suite(other(suite, "stored.yaml", "about: edited\n"))
    copy = other(suite, "copy.yaml")
    store.check_suite(copy)
    store.write_plan(copy, cells)
    store.check_suite(other(suite, "stored.yaml", "about: edited\n"))  # the copy has not taken its place
    suite.path.unlink()
    store.check_suite(other(suite, "moved.yaml", "about: edited\n"))


def test_a_shipped_suite_is_known_by_its_name(store: Store, cells: list[Cell], tmp_path: Path) -> None:
    shipped = load.load("quickstart")
    store.write_plan(shipped, cells)
    store.check_suite(load.load("quickstart", ["train.steps=5"]))
    store.check_suite(replace(shipped, source_text="of another version"))
    mine = tmp_path / "quickstart.yaml"
    mine.write_text(shipped.source_text + "\n# mine\n")
    with pytest.raises(RequestError, match="another suite"):
        store.check_suite(load.load(mine))


@pytest.mark.parametrize("source", [None, "x", {"path": 3}, {"path": "a", "sha256": "b"}])
def test_a_directory_that_does_not_say_whose_it_is_can_be_used(
    store: Store, suite: Suite, source: object
) -> None:
    store.write_json(layout.PLAN, {"suite": "stored", "about": "", "cells": [], "source": source})
    store.check_suite(suite)


# ---------------------------------------------------------------------------------------------- plugins


def test_the_resolved_suite_can_be_read_where_its_plugins_are_not(
    store: Store, suite: Suite, cells: list[Cell], tmp_path: Path
) -> None:
    plugins = suite.path.with_name("plugins_for_runs.py")
    plugins.write_text(f"from helpers import more\n{plugins.read_text()}")
    (suite.path.parent / "helpers").mkdir()
    (suite.path.parent / "helpers" / "more.py").write_text("VALUE = 1\n")
    (suite.path.parent / "secret.py").write_text("never imported\n")
    before = [replace(cell, digest="d" * 64).train_keys for cell in plan.make_cells(load.load(suite.path))]
    store.write_suite(load.load(suite.path))
    moved = store.root.rename(tmp_path / "elsewhere")
    shutil.rmtree(suite.path.parent)
    again = load.load(moved / layout.SUITE)
    assert [replace(cell, digest="d" * 64).train_keys for cell in plan.make_cells(again)] == before
    copies = sorted(path.relative_to(moved / "plugins").parts[1:] for path in moved.rglob("*.py"))
    assert copies == [("helpers", "more.py"), ("plugins_for_runs.py",)]
    assert store.warnings == []
    # The directory's own resolved suite is its suite, and writes the same again.
    own = Store(moved)
    text = (moved / layout.SUITE).read_text()
    own.write_suite(again)
    assert (moved / layout.SUITE).read_text() == text


def test_copies_of_plugins_that_no_suite_names_go(store: Store, suite: Suite) -> None:
    store.write_suite(suite)
    (first,) = (store.root / "plugins").iterdir()
    plugins = suite.path.with_name("plugins_for_runs.py")
    plugins.write_text(plugins.read_text() + "EDITED = True\n")
    store.write_suite(load.load(suite.path))
    (second,) = (store.root / "plugins").iterdir()
    assert first != second


@pytest.mark.parametrize("reads", ["large.bin", "../outside.bin"])
def test_a_plugin_that_needs_too_much_is_not_copied_and_says_so(
    store: Store, suite: Suite, monkeypatch: pytest.MonkeyPatch, reads: str
) -> None:
    monkeypatch.setattr(rundir, "MAX_PLUGIN", 100_000)
    (suite.path.parent / reads).write_bytes(bytes(200_000 if reads == "large.bin" else 1))
    plugins = suite.path.with_name("plugins_for_runs.py")
    plugins.write_text(plugins.read_text().replace("@method\n", f"@method(reads=({reads!r},))\n", 1))
    suite = load.load(suite.path)
    assert suite.methods[0].part is not None
    assert suite.methods[0].part.plugin.reads == (reads,)
    store.write_suite(suite)
    assert list(store.root.glob("plugins/*")) == []
    assert "can be loaded and run again only on machines that have the file" in store.warnings[0]
    assert str(plugins) in (store.root / layout.SUITE).read_text()
