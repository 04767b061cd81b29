"""`ganbench new`: what it writes keeps the contract, runs as it is, and takes nobody's file away."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner
from rich.console import Console

from ganbench import RequestError, conformance, registry, scaffold
from ganbench.cli.commands import MADE, main
from ganbench.contracts import Kind
from ganbench.execution import run
from ganbench.suite.load import load

TEMPLATES = registry.PACKAGE / "templates"


def made(kind: Kind, path: Path) -> tuple[registry.Plugin, list[str]]:
    """The plugin in a new file, and the commands to go on with."""
    commands = scaffold.write(kind, path)
    (plugin,) = registry.scan(path)
    return plugin, commands


def trial(command: str) -> tuple[str, list[str]]:
    """The suite and the overrides of the proposed `ganbench run`."""
    words = shlex.split(command)
    assert words[:2] == ["ganbench", "run"]
    return words[2], [words[i + 1] for i, word in enumerate(words) if word == "--set"]


def test_there_is_a_template_of_every_kind() -> None:
    assert set(MADE) == {*get_args(Kind), "fit"} == {path.stem for path in TEMPLATES.glob("*.py")}
    assert all(15 <= len(path.read_text("utf-8").splitlines()) <= 45 for path in TEMPLATES.glob("*.py"))


@pytest.mark.parametrize("kind", MADE)
def test_what_is_written_keeps_the_contract_and_fits_a_suite(kind: Kind, tmp_path: Path) -> None:
    plugin, commands = made(kind, tmp_path / f"my_{kind}.py")
    assert (plugin.kind, plugin.name) == ("method" if kind == "fit" else kind, f"my_{kind}")
    assert [check.problem for check in conformance.check(plugin) if check.problem] == []  # advice neither
    assert commands[0] == f"ganbench test {plugin.path}"
    name, overrides = trial(commands[1])
    suite = load(name, overrides)
    named = str(plugin.path)
    parts = [entry.part for entry in (*suite.methods, *suite.datasets) if entry.part] + list(suite.metrics)
    parts += [trick for entry in suite.methods for trick in entry.tricks]
    parts += [inner for part in parts for inner in part.parts.values()]
    assert named in {str(part.plugin.path) for part in parts}


@pytest.mark.parametrize(
    ("kind", "file", "symbol", "name"),
    [
        ("method", "my_gan.py", "MyGan", "my_gan"),
        ("method", "MyGAN.py", "MyGAN", "my_gan"),
        ("method", "gan_2014.py", "Gan_2014", "gan_2014"),
        ("method", "a-b.py", "A_B", "a_b"),
        ("method", "mine.py", "Mine", "mine"),
        ("method", "größe.py", "Größe", "größe"),
        ("metric", "mine_too.py", "MineToo", "mine_too"),
        ("dataset", "Two Rings.py", "two_rings", "two_rings"),
    ],
)
def test_it_is_named_after_its_file(kind: Kind, file: str, symbol: str, name: str, tmp_path: Path) -> None:
    plugin, _ = made(kind, tmp_path / file)
    assert (plugin.symbol, plugin.name) == (symbol, name)
    text = plugin.path.read_text("utf-8")
    assert f"./{file}" in text
    assert symbol == "Mine" or not re.search(r"\bMine\b", text)
    if kind == "metric":
        assert plugin.values[0].name == name


@pytest.mark.parametrize(
    ("kind", "file", "message"),
    [
        ("method", "gan.txt", "must end in .py, such as my_method.py"),
        ("trick", "2x.py", "'2x' gives no valid Python name; start with a letter, such as my_trick.py"),
        ("dataset", "lambda.py", "'lambda' gives no valid Python name"),
        ("method", "__.py", "'__' gives no valid Python name"),
        (
            "method",
            "adam.py",
            "Adam already has a meaning in the file; choose another name, such as my_adam.py",
        ),
        ("dataset", "torch.py", "torch already has a meaning in the file"),
        ("method", "no/my_gan.py", "the folder "),
    ],
)
def test_files_that_cannot_be(kind: Kind, file: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        scaffold.write(kind, tmp_path / file)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "my_gan.py"
    path.write_text("precious")
    done = CliRunner().invoke(main, ["new", "method", str(path)])
    assert done.exit_code == 2
    assert "exists already and is not overwritten" in done.stderr
    assert path.read_text() == "precious"


def test_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "my_gan.py"
    done = CliRunner().invoke(main, ["new", "method", str(path)])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:2] == [f"{path} is written. Next:", f"  ganbench test {path}"]
    assert "Error: Invalid value" in CliRunner().invoke(main, ["new", "gan", str(path)]).stderr


@pytest.mark.slow
def test_all_of_them_in_one_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in MADE:
        scaffold.write(kind, tmp_path / f"my_{kind}.py")
    suite = tmp_path / "mine.yaml"
    suite.write_text(
        "seeds: 1\ntrain: {steps: 3, batch: 8}\ndatasets: [./my_dataset.py]\nmetrics: [./my_metric.py]\n"
        "methods:\n  - {method: ./my_method.py, tricks: [./my_trick.py]}\n"
        "  - {fgan: {divergence: ./my_divergence.py}}\n"
        "  - {method: gan, tricks: [{feature_matching: {features: ./my_feature.py}}]}\n"
    )
    monkeypatch.setattr(run, "REPORTS", ())  # records will do
    out = tmp_path / "out"
    assert run.run(load(suite), out, device="cpu", console=Console(quiet=True)) == 0
    records = (out / "records.jsonl").read_text().splitlines()
    assert len(records) == 3
    assert all('"status": "ok"' in line for line in records)
