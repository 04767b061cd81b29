"""The documentation does what it says: its commands run, its notebook runs, its site builds without a broken link."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ganbench.cli.commands import main
from ganbench.execution import run

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
INSTALLING = ("python3", ".venv/bin/pip", "source")  # lines that are not run
TINY = {  # what is added to a command
    "run": """--set train.steps=4 --set 'datasets=[ring: {n_train: 500, n_valid: 100, n_test: 200}]'
        --set 'metrics=[modes, {kde_ll: {n: 200, n_valid: 50}}]' --seeds""",
    "score": "--set kde_ll.n=300 --set kde_ll.n_valid=50 --set ring.n_test=500",
}


def blocks(language: str) -> list[str]:
    """The tutorial's blocks of code in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TUTORIAL.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def follow(words: list[str]) -> None:
    """Do a line of the tutorial in the present folder; runs have a tiny budget."""
    match words:
        case ["ganbench", *arguments]:
            small = shlex.split(TINY.get(arguments[0], ""))
            small += ["3" if "--seeds" in arguments else "2"] * (arguments[0] == "run")
            done = CliRunner().invoke(main, [*arguments, *small])
            assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}\n{done.exception!r}"
        case ["python", file]:
            runpy.run_path(file)
        case ["cp", source, target]:
            shutil.copy(source, target)
        case _:
            assert words[0] in INSTALLING


@pytest.mark.slow
def test_the_tutorial_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "REPORTS", ("tables",))
    for text in (*blocks("python"), *blocks("yaml")):
        Path(text.split("\n", 1)[0].removeprefix("# ")).write_text(text, encoding="utf-8")
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) > 15
    for line in lines:
        if "tensorboard" not in line or find_spec("tensorboard"):
            follow(shlex.split(line))
    assert (tmp_path / "results" / "runs" / "mine" / "tables" / "summary.csv").is_file()


# ---------------------------------------------------------------------------------------------- the notebook


def cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_small_and_has_been_run() -> None:
    assert NOTEBOOK.stat().st_size < 300_000
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    outputs = [output for cell in cells() for output in cell["outputs"]]
    kinds = {kind for output in outputs for kind in output.get("data", ())}
    assert {"image/png", "text/html"} <= kinds
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)


SMALLER = {  # in the notebook's suite
    "seeds: 3": "seeds: 2",
    "steps: 1500": "steps: 4",
    "n_test: 2000": "n_train: 500, n_valid: 100, n_test: 200",
    "sliced_wasserstein": "sliced_wasserstein: {n: 200}",
}


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code in this process, one namespace for all, on a smaller budget."""
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "REPORTS", ())
    names: dict[str, Any] = {"__name__": "__notebook__"}
    for cell in cells():
        source = "".join(cell["source"])
        if magic := re.match(r"%%writefile (\S+)\n", source):
            tiny = source[magic.end() :]
            for old, new in SMALLER.items():
                assert old in tiny
                tiny = tiny.replace(old, new)
            Path(magic[1]).write_text(tiny, encoding="utf-8")
        else:
            exec(compile(source, "notebook", "exec"), names)


# ---------------------------------------------------------------------------------------------- the site


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    if find_spec("mkdocs") is None or find_spec("material") is None:
        pytest.skip("no mkdocs-material: pip install 'ganbench[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in (
        "index",
        "tutorial",
        "notebook",
        "api",
        "methods/gan",
        "metrics/kde_ll",
        "results/reference/quickstart",
    ):
        page = (tmp_path / "site" / f"{name}.html").read_text("utf-8")
        loaded = re.findall(r"<(?:script|link|img)\b[^>]*?\b(?:src|href)=\"(https?:[^\"]+)", page)
        assert loaded == [], f"{name} needs the network"
