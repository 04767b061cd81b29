"""`ganbench score`: samples that others made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from ganbench import api, scoring
from ganbench.cli.commands import main
from ganbench.contracts import COLUMNS
from ganbench.errors import DatasetError, SampleError
from ganbench.execution.worker import load_data
from ganbench.metrics.diversity import pairwise_diversity
from ganbench.metrics.modes import mode_coverage
from ganbench.metrics.subset import random_subset

FAST = ["--dataset", "ring", "--metrics", "modes,diversity", "--set", "ring.n_train=2000"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["score", *map(str, arguments)], prog_name="ganbench")


def ring(n: int = 3000) -> np.ndarray:
    """Eight modes on a circle of radius 2, as the dataset has them."""
    chance = np.random.default_rng(0)
    angle = chance.integers(0, 8, n) * (np.pi / 4)
    points = 2 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.02 * chance.standard_normal((n, 2))
    return points.astype(np.float32)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    np.save(tmp_path / "mine.npy", ring())
    return tmp_path / "mine.npy"


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 images of 8 × 8 random bytes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, pixels in enumerate(np.random.default_rng(1).integers(0, 256, (60, 8, 8), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


def test_values_are_those_of_the_metrics(samples: Path) -> None:
    result = call(samples, *FAST, "--json")
    assert result.exit_code == 0, result.stderr
    rows = {row["metric"]: row for row in json.loads(result.stdout)}
    assert list(rows) == ["modes", "high_quality_pct", "reverse_kl", "diversity"]
    data = load_data(api.request("ring", [], ["ring.n_train=2000"]).dataset)
    made = api.read(samples, data)[:]  # in a random order
    assert torch.equal(made.sort(0).values, torch.from_numpy(ring()).sort(0).values)
    assert data.modes is not None
    captured = mode_coverage(made[:2500], data.modes)
    assert rows["modes"]["value"] == captured.value == 8
    assert rows["high_quality_pct"]["value"] == captured.details["high_quality_pct"]
    spread = pairwise_diversity(made[:2000], random_subset(data.test, 2000))
    assert (rows["diversity"]["value"], rows["diversity"]["n"]) == (spread.value, 2000)
    assert rows["diversity"]["sem"] == pytest.approx(spread.sem)
    row = rows["reverse_kl"]
    assert (row["unit"], row["better"], row["status"], row["dataset"]) == ("nats", "lower", "ok", "ring")
    assert len(row["protocol"]) == 8
    assert "high-quality samples" in row["protocol_text"]
    assert set(row) - {"protocol_text", "controls", "verdict", "warning", "set"} <= set(COLUMNS)


def test_the_table_says_unit_direction_protocol_and_controls(samples: Path) -> None:
    result = call(samples, *FAST[:3], "modes,c2st", *FAST[4:], "--set", "c2st.n=200")
    assert result.exit_code == 0, result.stderr
    assert "modes  8 modes  (higher is better)\n" in result.stdout
    assert "accuracy  (lower is better)\n    protocol " in result.stdout
    assert "trained on 100 samples and 100 random test examples" in " ".join(result.stdout.split())
    assert "\n    controls: control_train 0." in result.stdout
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_the_verdict_of_copies_stands_below_their_score(tmp_path: Path) -> None:
    data = load_data(api.request("digits", [], []).dataset)
    np.save(tmp_path / "copies.npy", data.train[:300].numpy())
    options = ("--dataset", "digits", "--metrics", "memorisation", "--set", "memorisation.n=300")
    shown = " ".join(call(tmp_path / "copies.npy", *options).stdout.split())
    assert "probability (not ranked) verdict: copies (" in shown
    assert "the nearest real example is a training one for 100.0 % of samples, 81.2 % by chance" in shown
    (row,) = json.loads(call(tmp_path / "copies.npy", *options, "--json").stdout)
    assert row["verdict"].startswith("copies (")


def test_npz_and_float64(tmp_path: Path, samples: Path) -> None:
    np.savez(tmp_path / "mine.npz", samples=ring().astype(np.float64), labels=np.zeros(3))
    assert call(tmp_path / "mine.npz", *FAST, "--json").stdout == call(samples, *FAST, "--json").stdout


def test_without_names_all_metrics_apply_that_need_only_samples() -> None:
    names = {part.name for part in api.request("ring", [], []).metrics}
    assert {"modes", "kde_ll", "memorisation", "prdc", "sliced_wasserstein", "data_copying"} <= names
    assert not {"reconstruction", "parameter_distance"} & names
    assert "modes" not in {part.name for part in api.request("digits", [], []).metrics}


def test_a_folder_of_images(images: Path) -> None:
    data = load_data(api.request("digits", [], []).dataset)
    found = data.floats(api.read(images, data)[:])
    assert found.shape == (60, 1, 8, 8)
    assert (found.dtype, float(found.min()) >= 0, float(found.max()) <= 1) == (torch.float32, True, True)
    expected = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8))
    order = (found.flatten(1) * 255).round().byte().tolist()
    assert sorted(order) == sorted(expected.flatten(1).tolist())
    assert order != expected.flatten(1).tolist()  # the first n are no class of their own
    result = call(images, "--dataset", "digits", "--metrics", "c2st,diversity", "--set", "c2st.n=60",
                  "--set", "diversity.n=60", "--json")  # fmt: skip
    rows = {row["metric"]: row["value"] for row in json.loads(result.stdout)}
    assert rows["c2st"] > 0.8
    assert rows["diversity"] > 1


def test_a_folder_that_does_not_fit(images: Path, tmp_path: Path) -> None:
    digits, points = (load_data(api.request(name, [], []).dataset) for name in ("digits", "ring"))
    with pytest.raises(
        SampleError, match=r"is a folder of images, and ring holds no square images but \[2\]"
    ):
        api.read(images, points)
    Image.new("L", (9, 9)).save(images / "60.png")
    with pytest.raises(DatasetError, match="9 × 9 pixels; expected 8 × 8"):
        api.read(images, digits)
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="it is empty"):
        api.read(tmp_path / "none", digits)


def test_too_few_samples_fail_that_metric_alone(samples: Path) -> None:
    result = call(samples, *FAST, "--set", "diversity.n=4000", "--json")
    assert result.exit_code == 1
    rows = {row["metric"]: row for row in json.loads(result.stdout)}
    assert rows["modes"]["value"] == 8
    assert (rows["diversity"]["value"], rows["diversity"]["status"]) == (None, "failed")
    assert rows["diversity"]["error"] == "4000 samples are needed, 3000 are available"
    assert rows["diversity"]["set"] == "diversity.n=3000"
    assert rows["modes"]["set"] is None
    shown = call(samples, *FAST, "--set", "diversity.n=4000")
    assert shown.exit_code == 1
    assert "\nmodes  8 modes" in shown.stdout
    assert shown.stdout.count("4000 samples are needed") == 1  # at the end, with what to do
    assert shown.stdout.endswith(
        "1 of 2 metrics scored; not scored:\n"
        "  diversity  4000 samples are needed, 3000 are available: --set diversity.n=3000\n"
        "--n 3000 scores all metrics with the available samples; this changes their protocols.\n"
    )


def test_counts_are_checked_before_anything_is_computed(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "Scorer", lambda *_: lambda *_: pytest.fail("a metric was computed"))
    result = call(samples, "--dataset", "ring", "--set", "ring.n_train=2000", "--metrics", "kde_ll,frechet")
    assert result.exit_code == 1
    assert "0 of 2 metrics scored" in result.stdout
    for metric in ("kde_ll", "frechet"):
        assert f"--set {metric}.n=3000\n" in result.stdout


def test_one_option_for_the_samples_of_all_metrics(samples: Path) -> None:
    """An explicit --set goes before it; metrics that take no more than there are test examples are told it too."""
    metrics = ("--metrics", "modes,diversity,c2st", "--set", "c2st.n=100", "--set", "ring.n_test=50")
    rows = json.loads(call(samples, *FAST[:2], *FAST[4:], *metrics, "--n", "400", "--json").stdout)
    assert {row["metric"]: row["n"] for row in rows} == {
        "modes": 400, "high_quality_pct": 400, "reverse_kl": rows[2]["n"], "diversity": 400, "c2st": 50
    }  # fmt: skip
    spelt = ("--set", "modes.n=400", "--set", "diversity.n=400")
    same = json.loads(call(samples, *FAST[:2], *FAST[4:], *metrics, *spelt, "--json").stdout)
    assert same == rows


BLIND = """
from dataclasses import dataclass
from ganbench import Score, Value, metric

@metric(Value("blind", "x", "lower"))
@dataclass(frozen=True)
class Blind:
    many: int = 9000  # samples

    def __call__(self, model, data):
        middle = data.test.mean().item()
        return Score(float(model.samples(self.many).mean()) - middle)
"""


def test_a_metric_whose_need_only_trying_can_tell(tmp_path: Path, samples: Path) -> None:
    """It reads values of the data before it asks for samples."""
    (tmp_path / "blind.py").write_text(BLIND, encoding="utf-8")
    options = ("--dataset", "ring", "--metrics", f"{tmp_path / 'blind.py'}:Blind")
    result = call(samples, *options)
    assert result.exit_code == 1
    assert "blind  9000 samples are needed, 3000 are available: --set blind.many=3000\n" in result.stdout
    assert call(samples, *options, "--set", "blind.many=3000").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--dataset", "rng"], "there is no dataset 'rng'; did you mean 'ring'?"),
        (["--dataset", "ring", "--metrics", "kde"], "there is no metric 'kde'; did you mean 'kde_ll'?"),
        ([*FAST, "--set", "modes.n=many"], "--set modes.n=many: modes.n: expected a whole number"),
        ([*FAST, "--set", "modes.m=3"], "modes has no parameter 'm'"),
        ([*FAST, "--set", "mode.n=3"], "'mode' is neither the dataset nor one of the metrics; did you mean 'modes'?"),
        ([*FAST, "--set", "modes"], "--set modes: expected KEY=VALUE, such as kde_ll.n=5000"),
        (
            ["--dataset", "ring", "--metrics", "reconstruction"],
            "reconstruction: cannot be measured on samples of ring: it needs generator",
        ),
        (["--dataset", "digits", "--metrics", "c2st"], "samples have the shape [3000, 2], expected [N, 1, 8, 8]"),
    ],
)  # fmt: skip
def test_a_wrong_request(samples: Path, arguments: list[str], text: str) -> None:
    result = call(samples, *arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("mine.txt", b"1 2", "mine.txt: expected .npy, .npz or a folder of PNG, JPEG, BMP or WebP images"),
        ("mine.npy", b"1 2", "mine.npy: cannot be read as .npy or .npz"),
        ("nan.npy", None, "values are NaN or infinite"),
        ("empty.npy", None, "samples have the shape [0, 2], expected [N, 2]"),
    ],
)
def test_a_file_that_holds_no_samples(tmp_path: Path, name: str, content: bytes | None, text: str) -> None:
    if content is None:
        np.save(tmp_path / name, ring(30 if name == "nan.npy" else 0) * np.float32("nan"))
    else:
        (tmp_path / name).write_bytes(content)
    result = call(tmp_path / name, *FAST)
    assert result.exit_code == 2
    assert text in result.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = call(tmp_path / "nothing.npy", *FAST)
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


# ------------------------------------------------------------------------------------------ other samples


def test_samples_against_other_samples(tmp_path: Path, samples: Path) -> None:
    """Fresh ones are at 1, those that lack half the modes stand apart from them."""
    np.savez(tmp_path / "theirs.npz", samples=ring()[::-1])
    np.save(tmp_path / "half.npy", ring(6000)[np.abs(ring(6000)[:, 0]) > 1.3])
    wide = {}
    for file in ("mine.npy", "half.npy"):
        result = call(
            tmp_path / file, "--dataset", tmp_path / "theirs.npz", "--metrics", "sliced_wasserstein,kde_ll",
            "--set", "sliced_wasserstein.n=1500", "--set", "kde_ll.n=300", "--json",
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        rows = {row["metric"]: row for row in json.loads(result.stdout)}
        assert {row["dataset"] for row in rows.values()} == {"samples"}
        wide[file] = rows["sliced_wasserstein"]["value"]
    assert wide["mine.npy"] < 0.3 < wide["half.npy"]


def test_a_folder_against_another_folder(images: Path, tmp_path: Path) -> None:
    result = call(images, "--dataset", images, "--metrics", "c2st", "--set", "c2st.n=60", "--json")
    assert result.exit_code == 1  # 6 test images are too few for it
    assert "at least 8 are needed" in json.loads(result.stdout)[0]["error"]
    asked = api.request(str(images), ["diversity"], [])
    assert load_data(asked.dataset).shape == (1, 8, 8)


def test_bytes_are_images_and_floats_are_not(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    for name, array in {"bytes": pixels, "floats": pixels / 255}.items():
        np.save(tmp_path / f"{name}.npy", array)
        data = load_data(api.request(str(tmp_path / f"{name}.npy"), [], []).dataset)
        assert [len(data.train), len(data.valid), len(data.test)] == [20, 4, 16]
        assert (data.scale, data.train.dtype == torch.uint8) == (
            ((0.0, 1.0), True) if name == "bytes" else (None, False)
        )
        every = torch.cat([data.floats(x) for x in (data.train, data.valid, data.test)])
        assert every.sum().item() == pytest.approx(pixels.sum() / 255, rel=1e-5)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros(30), "holds [30]; expected [N, *shape]"),
        (np.zeros((5, 2)), "holds [5, 2]; expected [N, *shape], N at least 10"),
        (np.full((20, 2), np.nan), "40 values are NaN or infinite"),
        (np.array([{}] * 20), "holds Python objects, which ganbench never unpickles"),
    ],
)
def test_other_samples_that_are_none(tmp_path: Path, samples: Path, array: np.ndarray, text: str) -> None:
    np.save(tmp_path / "theirs.npy", array, allow_pickle=True)
    result = call(samples, "--dataset", tmp_path / "theirs.npy", "--metrics", "diversity")
    assert result.exit_code == 2
    assert text in result.stderr


def test_other_samples_that_are_not_there(samples: Path) -> None:
    result = call(samples, "--dataset", "theirs.npz", "--metrics", "diversity")
    assert result.exit_code == 2
    assert "--dataset theirs.npz: samples.path: there is no file or folder" in result.stderr


# ------------------------------------------------------------------------------------------ as people store them


def test_how_samples_and_data_were_read_stands_first(tmp_path: Path, images: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", pixels, np.arange(60))
    options = ("--metrics", "diversity", "--set", "diversity.n=20")
    shown = " ".join(call(tmp_path / "mine.npz", "--dataset", images, *options).stdout.split())
    assert shown.startswith(
        f"samples: {tmp_path}/mine.npz, array 'arr_0' (arr_1 [60] not used): [60, 8, 8] read as [60, 1, 8, 8]; "
        "bytes (uint8) read as pixels, divided by 255; values 0 to 1; taken in a fixed random order "
        f"dataset: {images}: 60 image files; all grey; 48 train, 6 valid, 6 test "
    )
    result = call(images, "--dataset", "digits", *options, "--json")
    assert json.loads(result.stdout)[0]["metric"] == "diversity"
    assert f"samples: {images}: [60, 1, 8, 8]; 60 image files; all grey; bytes" in " ".join(
        result.stderr.split()
    )


def test_two_files_on_two_scales_are_warned_of(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "mine.npy", pixels)
    np.save(tmp_path / "theirs.npy", pixels / 127.5 - 1)
    options = ("--metrics", "diversity", "--set", "diversity.n=20")
    shown = call(tmp_path / "mine.npy", "--dataset", tmp_path / "theirs.npy", *options).stdout
    assert "\nwarning: samples lie in 0 to 1, the data in -1 to 1: if these are two scales" in shown


def test_the_layout_and_the_order_of_files_change_no_score(tmp_path: Path) -> None:
    """Colour images beside others, by rows in the order of their classes, or mixed; first or last the channels."""
    chance = np.random.default_rng(3)
    pixels = np.sort(chance.integers(0, 256, (200, 3, 8, 8), dtype=np.uint8), axis=0)
    np.save(tmp_path / "theirs.npy", chance.integers(0, 256, (200, 3, 8, 8), dtype=np.uint8))
    np.save(tmp_path / "last.npy", np.load(tmp_path / "theirs.npy").transpose(0, 2, 3, 1))
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "b.npy", pixels[chance.permutation(200)].transpose(0, 2, 3, 1))
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, one in enumerate(pixels.transpose(0, 2, 3, 1)):
        Image.fromarray(one).save(folder / f"{i:03}.png")
    values = set()
    for mine in ("a.npy", "b.npy", "folder"):
        for theirs in ("theirs.npy", "last.npy"):
            asked = api.request(str(tmp_path / theirs), ["diversity"], ["diversity.n=50"])
            (found,) = api.score_samples(tmp_path / mine, asked, "cpu")
            values.add(found.records[0].value)
    assert len(values) == 1


def test_one_grey_picture_turns_no_folder_grey(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        Image.new("L" if name == "a.png" else "RGB", (8, 8) if name == "a.png" else (6, 7)).save(
            tmp_path / name
        )
    asked = api.request(str(tmp_path), ["diversity"], [])
    assert (asked.dataset.params["channels"], asked.dataset.params["size"]) == (3, 6)
    for name in ("b.png", "c.png"):
        Image.new("L", (6, 6)).save(tmp_path / name)
    assert api.request(str(tmp_path), ["diversity"], []).dataset.params["channels"] == 1
