"""What users do: the README's example outside the checkout, and an installation from a wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from ganbench.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def command(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of this Python's ganbench, run in a folder."""
    code = "import sys; from ganbench.cli import main; main(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *words],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def block(language: str, first: str) -> str:
    """The README's code block that begins with this line."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(text for text in blocks if text.startswith(first))


@pytest.fixture
def example(tmp_path):
    """The README's user, in a folder of their own."""
    (tmp_path / "my_gan.py").write_text(block("python", "# my_gan.py"), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(block("yaml", "# mine.yaml"), encoding="utf-8")
    return tmp_path


def test_the_readme_example_is_right(example):
    done = command("validate", "mine.yaml", cwd=example)
    assert done.returncode == 0, done.stderr
    assert "2 datasets, 4 methods, 8 cells, 40 trainings" in done.stdout
    assert len(block("python", "# my_gan.py").splitlines()) <= 42


@pytest.mark.slow
def test_the_readme_example_keeps_the_contract(example):
    done = CliRunner().invoke(main, ["test", str(example / "my_gan.py")])
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_the_readme_example_runs(example):
    quick = ("--seeds", "2", "--set", "train.steps=5", "--set", "metrics=[modes]")
    done = command("run", "mine.yaml", *quick, cwd=example, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    results = example / "results" / "runs" / "mine"
    assert (results / "report.html").stat().st_size > 10_000
    records = (results / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(records) == 4 * 2 * 3  # ring only: digits have no modes
    assert all('"status": "ok"' in line for line in records)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 90
    assert len(README.split()) <= 650


def test_the_tables_of_the_readme_are_the_kept_ones():
    kept = (ROOT / "results/reference/quickstart.md").read_text(encoding="utf-8")
    readme = README.partition("## Your GAN")[0]
    # By dataset and label, the first two values: of the ring modes and quality, of digits likelihood and memorisation.
    shown = {}
    for table in re.split(r"^## ", kept, flags=re.MULTILINE)[1:]:
        dataset, *lines = table.splitlines()
        for line in reversed(
            lines
        ):  # the first table of a dataset counts: its controls may have the same labels
            name, *values = line.strip("| ").split(" | ")
            shown[dataset, name] = values
    for dataset, methods in {
        "ring": ("gan", "unrolled gan", "pacgan"),
        "digits": ("plain gan", "r3gan", "vae"),
        "100 digits": ("r3gan",),
    }.items():
        for label in methods:
            values = shown[dataset, label][:2]
            name = f"{label}, 100 images" if dataset == "100 digits" else label
            assert f"| {name} | {values[0]} | {values[1]} |" in readme.splitlines()


def test_every_command_and_page_of_the_readme_exists():
    shown = {word for word in re.findall(r"\bganbench (\w+)", README) if word in main.commands}
    assert {"run", "list", "show", "test", "score", "compare", "check"} <= shown
    assert "scripts/test" in "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    assert (ROOT / "scripts" / "test").is_file()
    for page in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / page).exists(), page
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file()


@pytest.mark.slow
def test_another_ganbench_in_the_present_folder_is_not_taken(tmp_path):
    """As in a checkout beside an installation: workers use what the command itself uses."""
    (tmp_path / "here" / "ganbench").mkdir(parents=True)
    (tmp_path / "here" / "ganbench" / "__init__.py").write_text("raise RuntimeError('the wrong ganbench')")
    script = tmp_path / "script.py"  # like an installed command, it stands elsewhere
    script.write_text(
        "from ganbench.cli import main\nfrom ganbench.execution import run\n"
        "if __name__ == '__main__':\n    run.REPORTS = ()  # nobody reads them\n    main()\n"
    )
    words = ["run", "quickstart", "--seeds", "1", "--set", "datasets=[ring]", "--set", "methods=[gan]"]
    words += ["--set", "train.steps=3", "--set", "metrics=[modes]"]
    done = subprocess.run(
        [sys.executable, str(script), *words],
        cwd=tmp_path / "here", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_wheel_works_outside_the_checkout(tmp_path):
    pytest.importorskip("hatchling")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = archive.namelist()
    assert "ganbench/_shipped/results/reference/quickstart.csv" in names
    assert not [name for name in names if name.endswith((".png", ".svg", ".webp"))]
    code = "import ganbench; print(ganbench.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(site))
    listed = command("list", "--json", cwd=tmp_path, PYTHONPATH=str(site))
    assert listed.returncode == 0, listed.stderr
    assert str(ROOT) not in listed.stdout
    assert '"unrolling"' in listed.stdout
    assert '"quickstart"' in listed.stdout
    quick = ("--seeds", "1", "--set", "train.steps=3", "--set", "metrics=[modes]", "--set", "datasets=[ring]")
    methods = ("--set", "methods=[{method: gan, tricks: [unrolling]}]")
    done = command(
        "run", "quickstart", *quick, *methods, cwd=tmp_path, PYTHONPATH=str(site), OMP_NUM_THREADS="1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "results" / "runs" / "quickstart" / "report.html").is_file()
