"""The page of the lecture: every outcome follows from kept tables, and every number on it is theirs."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import reference
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from ganbench import registry
from ganbench.cli.commands import main
from ganbench.contracts import Data
from ganbench.execution import run
from ganbench.execution.worker import load_data
from ganbench.suite.load import load, shipped_suites
from ganbench.suite.plan import make_cells
from ganbench.training.loop import train
from ganbench.training.trained import TrainedSeed

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "results" / "reference" / "lecture"
SUITES = sorted((ROOT / "suites/lecture").glob("*.yaml"))
NAMES = r"R1|R2|R3GAN|CIFAR-10|denton2015|borisyak2020|Fig\. \d|log\(1 − D\)"  # figures in names, which are no results


def script(name: str) -> ModuleType:
    """A script of this checkout as a module."""
    loader = SourceFileLoader(f"script_{name}", str(ROOT / "scripts" / name))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lecture() -> ModuleType:
    return script("lecture")


def document() -> dict[str, Any]:
    return yaml.safe_load((KEPT / "claims.yaml").read_text(encoding="utf-8"))


def claims() -> list[dict[str, Any]]:
    return [claim for part in document()["parts"] for claim in part["claims"]]


def test_the_page_is_what_the_claims_and_the_tables_say(lecture: ModuleType) -> None:
    assert lecture.PAGE.read_text(encoding="utf-8") == lecture.page(), "run scripts/lecture"


def code_of_notebook(lecture: ModuleType) -> list[str]:
    document = json.loads(lecture.NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_has_the_text_of_the_page(lecture: ModuleType) -> None:
    assert lecture.NOTEBOOK.read_text(encoding="utf-8") == lecture.notebook(), "run scripts/lecture"
    document = json.loads(lecture.notebook())
    text = "\n".join("".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "markdown")
    for line in lecture.page().splitlines():
        assert (
            line in text or line.startswith("<!--") or line in lecture.OF_PAGE or lecture.OF_PAGE[:20] in line
        )


def test_the_notebook_reads_the_rows_of_every_claim(
    lecture: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All cells but those that train, one namespace for all. Their numbers are those of the comparisons."""
    monkeypatch.chdir(ROOT / "docs")
    shown: list[pd.DataFrame] = []
    names: dict[str, Any] = {"display": shown.append}
    first, *cells = code_of_notebook(lecture)
    exec(compile(first, "notebook", "exec"), names)
    reading = [cell for cell in cells if not cell.startswith("again(")]
    assert len(reading) == sum("tests" in claim for claim in claims())
    for cell in reading:
        head, last = cell[: cell.rindex("rows(")], cell[cell.rindex("rows(") :]
        exec(compile(head, "notebook", "exec"), names)
        shown.append(eval(compile(last, "notebook", "eval"), names))
    means = {f"{mean:.12g}" for frame in shown for mean in frame["mean"]}
    for claim in claims():
        for test in claim.get("tests", ()):
            assert f"{lecture.row(lecture.complete(test['of'], claim))['mean']:.12g}" in means


def test_cells_that_train_name_suites_with_a_kept_table(lecture: ModuleType) -> None:
    cells = [cell for cell in code_of_notebook(lecture) if cell.startswith("again(")]
    assert 3 <= len(cells) <= 5
    for cell in cells:
        suite, changes = re.fullmatch(r'again\("(.+?)", "(.+)"\)', cell).groups()
        assert len(load(suite, [changes]).seeds) == len(lecture.RERUN_SEEDS)
        assert (KEPT / f"{suite}.csv").is_file()
        assert not set(lecture.RERUN_SEEDS) & set(load(suite).seeds)


@pytest.mark.slow
def test_a_cell_that_trains_compares_with_the_kept_table(
    lecture: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "REPORTS", ())
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "reference").symlink_to(KEPT.parent)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code_of_notebook(lecture)[0], "notebook", "exec"), names)
    found = names["again"]("kl-covers", "seeds=[20, 21]", "datasets.0.train.steps=5")
    assert "kl-covers against kl-covers.csv" in capsys.readouterr().out
    assert len(found) == len(pd.read_csv(KEPT / "kl-covers.csv"))
    assert found["new mean"].notna().all()


def test_every_number_of_a_comparison_is_one_of_a_kept_table(lecture: ModuleType) -> None:
    tables = [*KEPT.glob("*.csv"), *(KEPT.parent / "papers").glob("*.csv")]
    rows = [pd.read_csv(path) for path in tables if path.stem not in ("times", "reruns")]
    kept = {lecture.value(row) for table in rows for _, row in table.iterrows()}
    text = lecture.PAGE.read_text(encoding="utf-8")
    shown = [
        line
        for line in text.splitlines()
        if line.startswith(("- holds", "- does not hold")) and "−" not in line
    ]
    assert len(shown) > 80
    for line in shown:
        found = re.findall(r"\) (\S+ \[[^]]+\])", line)
        assert all(value in kept for value in found), line


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim["claim"][:40])
def test_a_claim_types_no_number_and_names_what_exists(claim: dict[str, Any], lecture: ModuleType) -> None:
    for key in ("reading", "limit"):
        text = re.sub(rf"\{{[^{{}}]+\}}|{NAMES}", "", claim.get(key, ""))
        assert not re.search(r"\d", text), f"{key} of {claim['claim']!r} has a number that is of no table"
    for test in claim.get("tests", ()):
        entry = lecture.complete(test["of"], claim)
        stem = entry["suite"].removesuffix("-fresh-seeds")
        assert stem in shipped_suites() or stem.rsplit("-", 1)[0] in shipped_suites()
    for picture in claim.get("pictures", ()):
        path = ROOT / picture["file"]
        assert path.is_file()
        assert path.parent != KEPT or path.stat().st_size < reference.MAX_BYTES
    for name in claim.get("checked", ()):
        path, function = name.split("::")
        assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8")
    assert claim.get("tests") or "limit" in claim  # what is not shown says why


def test_every_kept_picture_is_shown() -> None:
    shown = {Path(picture["file"]).name for claim in claims() for picture in claim.get("pictures", ())}
    other = (ROOT / "docs/metric-sensitivity.md").read_text(encoding="utf-8")
    assert {path.name for path in KEPT.glob("*.webp") if f"/{path.name})" not in other} <= shown


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_kept_table_has_the_rows_of_its_suite(path: Path) -> None:
    """A suite that was changed and not run again must not claim a result."""
    table = pd.read_csv(KEPT / f"{path.stem}.csv", dtype={"label": str})
    cells = make_cells(load(str(path), []))
    assert set(zip(table["dataset"], table["label"], strict=True)) == {
        (c.dataset.label, c.method.label) for c in cells
    }
    assert set(table["n"]) == {len(cells[0].seeds)}


# ---------------------------------------------------------------------------------------------- heads of the suites

NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?![A-Za-z_])")


def outcomes(head: str) -> str:
    """The paragraphs of a suite's head that state outcomes: those from "Seen over" to the next empty line."""
    paragraphs = re.split(r"^#\s*$", head, flags=re.MULTILINE)
    found = [re.sub(r"\s*\n# ?", " ", text).strip() for text in paragraphs]
    return " ".join(text[text.index("Seen over") :] for text in found if "Seen over" in text)


def numbers_of(table: str) -> list[float]:
    """All numbers of a kept table for readers, with its controls and counts of verdicts."""
    return [float(one.replace(",", "")) for one in NUMBER.findall(table.split("# ", 1)[1])]


def kept_numbers(text: str, suite: str) -> list[float]:
    """Means, bounds, floors and controls of the tables that a head names, and of the probes beside them."""
    found: list[float] = []
    for stem in {suite, *re.findall(r"([\w-]+)\.(?:md|csv)", text)}:
        for path in KEPT.glob(f"{stem.removesuffix('-probes')}*.csv"):
            table = pd.read_csv(path)
            columns = [name for name in ("mean", "low", "high", "floor", "iqm") if name in table]
            found += [float(one) for one in table[columns].to_numpy().ravel() if pd.notna(one)]
            page = path.with_suffix(".md")
            found += numbers_of(page.read_text(encoding="utf-8")) if page.is_file() else []
    return found


def unsupported(text: str, known: list[float]) -> list[str]:
    """The numbers of a text that none of the known ones rounds to, with the words before them. Signs are not compared,
    since a text may say "costs"."""
    missing = []
    for match in NUMBER.finditer(re.sub(r"results/reference/\S+", "", text)):
        word = match[0].rstrip(",").replace(",", "")
        half = 0.5 * 10.0 ** -len(word.partition(".")[2]) + 1e-9
        if not any(abs(abs(one) - abs(float(word))) <= half for one in known):
            missing.append(match.string[max(0, match.start() - 30) : match.end()])
    return missing


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_outcomes_in_a_head_are_in_the_kept_table(path: Path) -> None:
    """Numbers in the paragraphs that begin with "Seen over": a kept number, or one of the suite's settings."""
    text = path.read_text(encoding="utf-8")
    head, body = text.split("\nname:", 1)
    said = outcomes(head)
    assert said, "the head has no paragraph of outcomes: Seen over N seeds (the kept table): ..."
    seeds = yaml.safe_load(text)["seeds"]
    settings = [float(one.replace(",", "")) for one in NUMBER.findall(body)]
    settings += [float(len(seeds) if isinstance(seeds, list) else seeds)]
    assert unsupported(said, kept_numbers(said, path.stem) + settings) == []


def test_a_number_that_no_table_has_is_seen() -> None:
    head = "# What.\n# Seen over 5 seeds (x.md): 7.6 modes, 1,000 rounds, -0.25 nats\n# and 46 %.\n#\n# Chosen from 99."
    assert outcomes(head) == "Seen over 5 seeds (x.md): 7.6 modes, 1,000 rounds, -0.25 nats and 46 %."
    assert unsupported(outcomes(head), [5, 7.56, 1000.2, 0.244, 45.6]) == [
        "md): 7.6 modes, 1,000 rounds, -0.25"
    ]
    assert unsupported(outcomes(head), [5, 7.4, 1000, 0.249, 45.6]) == ["Seen over 5 seeds (x.md): 7.6"]


# ---------------------------------------------------------------------------------------------- the rule

COLUMNS = ("suite", "dataset", "label", "metric", "mean", "low", "high", "std", "n_ok", "floor")
ROWS = (
    ("s", "d", "a", "m", 2.0, 1.5, 2.5, 0.4, 5, 1.0),
    ("s", "d", "b", "m", 3.0, 2.6, 3.4, 0.3, 5, 1.0),
    ("s", "d", "few", "m", 9.0, 8.0, 10.0, 0.3, 3, 1.0),
    ("s", "d", "wide", "m", 3.0, 2.0, 4.0, 0.8, 5, 1.0),
)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lecture: ModuleType) -> Path:
    (tmp_path / "lecture").mkdir()
    pd.DataFrame(ROWS, columns=list(COLUMNS)).to_csv(tmp_path / "lecture" / "s.csv", index=False)
    monkeypatch.setattr(lecture, "REFERENCE", tmp_path)
    monkeypatch.setattr(lecture, "ROOT", tmp_path)
    return tmp_path


def claim(*tests: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"claim": "x", "lines": 1, "suite": "s", "dataset": "d", "tests": list(tests), **more}


A, B, FEW, WIDE = ({"label": label, "metric": "m"} for label in ("a", "b", "few", "wide"))
HOLDS, FAILS = {"of": B, "above": A}, {"of": A, "above": B}


def test_a_comparison_holds_where_intervals_do_not_overlap(tables: Path, lecture: ModuleType) -> None:
    for test, expected in (
        ({"of": B, "above": A}, True),
        ({"of": A, "below": B}, True),
        ({"of": WIDE, "above": A}, False),  # 2.0 to 4.0 against 1.5 to 2.5
        ({"of": A, "above": "floor"}, True),
        ({"of": A, "below": "floor"}, False),
        ({"of": A, "above": 1.4}, True),
        ({"of": A, "above": 1.6}, False),
        ({"of": A, "near": 2, "within": 0.5}, True),
        ({"of": A, "near": 2, "within": 0.4}, False),
        ({"of": B, "minus": A, "near": 1, "within": 0.9}, True),  # 0.1 to 1.9
        ({"of": B, "minus": A, "near": 1, "within": 0.8}, False),
    ):
        text, holds, seeds = lecture.compare(test, claim())
        assert (holds, seeds) == (expected, 5), text
    assert lecture.compare({"of": FEW, "above": A}, claim()) == (
        "few (m) 9.00 [8.00, 10.00] above a (m) 2.00 [1.50, 2.50]",
        True,
        3,
    )


def test_the_outcome_follows_from_the_rule(tables: Path, lecture: ModuleType) -> None:
    few = {"of": FEW, "above": A}
    for found, expected in (
        (claim(HOLDS), "shown"),
        (claim(HOLDS, limit="not all"), "shown in part"),
        (claim(HOLDS, FAILS), "shown in part"),
        (claim(HOLDS, few), "shown in part"),
        (claim(FAILS), "not here"),
        (claim(limit="nothing was run"), "not here"),
    ):
        assert lecture.judge(found)[0] == expected


def test_numbers_of_texts_are_read_from_tables(tables: Path, lecture: ModuleType) -> None:
    assert (
        lecture.insert_numbers("as {a|m} and {s|d|b|m}", claim())
        == "as 2.00 [1.50, 2.50] and 3.00 [2.60, 3.40]"
    )


@pytest.mark.parametrize(
    ("entry", "text"), [({"label": "c"}, "is 0 rows"), ({"suite": "t"}, "no such table")]
)
def test_an_entry_of_no_table_ends_the_script(entry, text, tables: Path, lecture: ModuleType) -> None:
    with pytest.raises(SystemExit, match=text):
        lecture.compare({"of": {**A, **entry}, "above": 0}, claim())


def test_pictures_become_small_files_without_loss_where_that_is_possible(tmp_path: Path) -> None:
    path, noise = tmp_path / "small.webp", Image.effect_noise((600, 360), 90)
    flat = noise.resize((40, 24)).quantize(8).convert("RGB")
    for picture, whole in ((flat, True), (noise, False)):
        reference.save_small(picture, path)
        assert path.stat().st_size < reference.MAX_BYTES
        with Image.open(path) as small:
            assert small.width / small.height == pytest.approx(picture.width / picture.height, rel=0.01)
            assert (small.tobytes() == picture.tobytes()) == whole


# ---------------------------------------------------------------------------------------------- files beside the suites


def trained(folder: Path, steps: int, after: float) -> TrainedSeed:
    """A GAN of a few rounds whose D stops."""
    trick = ROOT / "suites/lecture/fixed_discriminator.py"
    path = folder / f"{steps}-{after}.yaml"
    path.write_text(
        f"seeds: 1\ntrain: {{steps: {steps}, batch: 8, snapshots: 0}}\n"
        "datasets: [ring: {n_train: 50, n_valid: 20, n_test: 20}]\n"
        f"methods: [{{method: gan, params: {{width: 4, z_dim: 2}}, tricks: [{{{trick}: {{after: {after}}}}}]}}]\n"
        "metrics: [modes]\n",
        encoding="utf-8",
    )
    (cell,) = make_cells(load(str(path)))
    return train(cell, load_data(cell.dataset.part), [0])[0]


def test_a_fixed_discriminator_stays_while_the_generator_goes_on(tmp_path: Path) -> None:
    short, long, half = (trained(tmp_path, *given) for given in ((2, 0.0), (5, 0.0), (5, 0.5)))

    def moved(net: str, one: TrainedSeed, other: TrainedSeed) -> bool:
        names = [name for name in one.state if name.startswith(f"{net}.")]
        assert names
        return any(not torch.equal(one.state[name], other.state[name]) for name in names)

    assert not moved("D", short, long)  # it never learns
    assert moved("G", short, long)
    assert moved("D", long, half)
    assert {"probe.slope of G in z", "probe.spread of samples"} <= set(long.curves)
    assert all(torch.isfinite(torch.as_tensor(long.curves[name])).all() for name in long.curves)


FILES = sorted(path.name for path in (ROOT / "suites/lecture").glob("*.py"))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.slow
def test_a_file_beside_the_suites_keeps_its_contract(file: str, request: pytest.FixtureRequest) -> None:
    if file == "thumbnails.py":  # made of MNIST's images
        request.getfixturevalue("mnist")
    done = CliRunner().invoke(main, ["test", str(ROOT / "suites/lecture" / file)])
    assert done.exit_code == 0, done.output


RULES = {
    "pooling": ({"strides": False}, {"AvgPool2d": 2, "Upsample": 2, "ConvTranspose2d": -2, "Conv2d": 2}),
    "no batch norm": ({"norm": False}, {"BatchNorm": -3}),
    "dense": ({"dense": True}, {"Linear": 2, "BatchNorm": 2, "ReLU": 1, "LeakyReLU": 1}),
    "tanh": ({"g_unit": "tanh"}, {"ReLU": -2, "Tanh": 2}),
    "relu": ({"d_unit": "relu"}, {"LeakyReLU": -2, "ReLU": 2}),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_of_dcgan_is_left_out_alone(rule: str) -> None:
    """The layers of both nets, counted, against those with all rules."""
    method = registry.load(registry.find("method", str(ROOT / "suites/lecture/dcgan_rules.py")))
    images = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
    data = Data("images", images, images, images, (1, 28, 28), (0.0, 1.0))

    def layers(**fields: Any) -> Counter[str]:
        nets = method(**fields).game(data).nets
        assert nets["G"](torch.zeros(2, 32)).shape == (2, 1, 28, 28)
        assert nets["D"](torch.zeros(2, 1, 28, 28)).shape == (2, 1)
        return Counter(type(layer).__name__ for net in nets.values() for layer in net)

    fields, expected = RULES[rule]
    whole, other = layers(), layers(**fields)
    assert {
        name: other[name] - whole[name] for name in whole | other if other[name] != whole[name]
    } == expected
