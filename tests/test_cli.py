"""The command line: what it prints, its exit codes, and how quickly it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tiny
from click.testing import CliRunner, Result

import ganbench
import ganbench.execution
import ganbench.report
from ganbench import __version__
from ganbench.cli import text as command_text
from ganbench.cli.commands import MADE, main
from ganbench.cli.options import KINDS
from ganbench.errors import DatasetError, StoreError
from ganbench.registry import catalog
from ganbench.suite.load import Suite, shipped_suites

COMMANDS = (
    "check",
    "compare",
    "list",
    "new",
    "report",
    "run",
    "score",
    "show",
    "table",
    "test",
    "validate",
)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="ganbench")


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-c", "from ganbench.cli import main; main(prog_name='ganbench')", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands in for the engine and notes what it was asked to do."""
    return stand_in(monkeypatch, lambda: 0)


def stand_in(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = []

    def run(suite: Suite, out: Path, **settings: Any) -> int:
        asked.append({"suite": suite, "out": out, **settings})
        return outcome()

    replace_module(monkeypatch, ganbench.execution, "run", run=run)
    return asked


def replace_module(monkeypatch: pytest.MonkeyPatch, package: ModuleType, name: str, **functions: Any) -> None:
    module = SimpleNamespace(**functions)
    monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", module)
    monkeypatch.setattr(package, name, module, raising=False)


def raising(error: BaseException) -> Any:
    def outcome() -> int:
        raise error

    return outcome


# ------------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("test", "ganbench test my_gan.py"),
        ("run", "ganbench run quickstart"),
        ("new", "ganbench new method my_gan.py"),
        *((f"new {kind}", f"ganbench new {kind} my_") for kind in MADE),
        ("check .", "ganbench check results/runs/quickstart --against quickstart.csv"),
    ],
)
def test_a_missing_argument_is_told_with_an_example(command: str, example: str) -> None:
    done = call(*command.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Error: Missing " in done.stderr
    assert f"For example: {example}" in done.stderr


def test_help_names_every_command() -> None:
    result = call("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in result.stdout
    assert set(main.commands) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"ganbench {command} " in result.stdout.split("Usage:", 1)[1].split("\n", 1)[1]
    assert "--debug" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_version() -> None:
    assert call("--version").stdout == f"ganbench, version {__version__}\n"


def test_a_command_that_is_not_there() -> None:
    result = call("rnu")
    assert result.exit_code == 2
    assert "No such command 'rnu'" in result.stderr


# ------------------------------------------------------------------------------------------------ list


def test_list_shows_everything() -> None:
    result = call("list")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    for kind, known in catalog().items():
        assert not known or f"{kind}s\n" in result.stdout
        for plugin in known.values():
            assert plugin.summary in result.stdout
    for name in shipped_suites():
        assert f"\n  {name}" in result.stdout


def test_list_several_kinds() -> None:
    both = call("list", "methods", "tricks").stdout
    assert both == f"{call('list', 'methods').stdout}\n{call('list', 'tricks').stdout}"
    assert call("list", "tricks", "tricks").stdout == call("list", "tricks").stdout
    assert call("list", "trick").stdout == call("list", "tricks").stdout
    assert "there is no kind 'trikcs'; did you mean 'tricks'?" in call("list", "trikcs").stderr


def test_list_of_a_name_says_what_shows_it() -> None:
    result = call("list", "gan")
    assert result.exit_code == 2
    assert (
        "'gan' is a method; `ganbench show gan` shows it, `ganbench list methods` lists them" in result.stderr
    )
    assert "'quickstart' is a suite; " in call("list", "quickstart").stderr


def test_list_is_aligned() -> None:
    lines = call("list", "tricks").stdout.splitlines()
    assert lines[0] == "tricks"
    names = {plugin.name: plugin for plugin in catalog()["trick"].values()}
    columns = {
        line.index(plugin.summary) for plugin in names.values() for line in lines if plugin.summary in line
    }
    assert len(columns) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_list_as_json(kind: str) -> None:
    rows = json.loads(call("list", kind, "--json").stdout)
    names = {"suites": shipped_suites(), **{f"{one}s": known for one, known in catalog().items()}}[kind]
    assert [row["name"] for row in rows] == list(names)
    assert all(f"{row['kind']}s" == kind and row["about"] and Path(row["path"]).is_file() for row in rows)


def test_list_as_json_says_what_programs_need() -> None:
    rows = {(row["kind"], row["name"]): row for row in json.loads(call("list", "--json").stdout)}
    gan = rows["method", "gan"]
    assert gan["interface"] == "game"
    loss = next(param for param in gan["params"] if param["name"] == "loss")
    assert loss["type"] == "Literal['non-saturating', 'minimax']"
    assert (loss["required"], loss["default"]) == (False, "non-saturating")
    assert "modes" in rows["dataset", "ring"]["provides"]
    path = next(param for param in rows["dataset", "images"]["params"] if param["name"] == "path")
    assert (path["required"], path["default"]) == (True, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("list", "gan"),
            "'gan' is a method; `ganbench show gan` shows it, `ganbench list methods` lists them all",
        ),
        (("list", "gans"), "there is no kind 'gans'; did you mean 'gan'?"),
        (("list", "metrcs"), "there is no kind 'metrcs'; did you mean 'metrics'?"),
        (("show", "methods"), "'methods' is a kind, not a name; `ganbench list methods` lists them all"),
        (("show", "dataset"), "'dataset' is a kind, not a name; `ganbench list datasets` lists them all"),
        (("show", "gna"), "no plugin or suite named 'gna'; did you mean 'gan'?"),
        (
            ("validate", "quickstrat.yaml"),
            "quickstrat.yaml: no such file; did you mean 'quickstart'?",
        ),
        (("validate", "nowhere.yaml"), "nowhere.yaml: no such file\n"),
        (("report", "nowhere"), "Directory 'nowhere' does not exist."),
        (("run", "my_gan.py"), "my_gan.py: is a Python file, not a suite; name it in a suite, as in `methods: [gan, "),
        (("test", "gna"), "gna: no such file"),
        (("score", __file__, "--dataset", "ring", "--metrics", "kde_ll", "--set", "kde_ll=5"),
         "--set kde_ll=5: expected NAME.PARAMETER=VALUE, such as kde_ll.n=5000"),
    ],
)  # fmt: skip
def test_names_that_are_nearly_right(arguments: tuple[str, ...], message: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_shipped_plugin_is_tested_by_its_name() -> None:
    result = call("test", "kl")
    assert result.exit_code == 0
    assert result.stdout.startswith("kl (divergence)")
    assert result.stdout.endswith("all checks passed\n")


def test_a_suite_is_no_run_but_says_where_its_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "runs" / "mine").mkdir(parents=True)
    tiny.write(tmp_path).rename(tmp_path / "mine.yaml")
    for command in ("compare", "report", "table"):
        for name in ("mine", "mine.yaml"):
            result = call(command, name)
            assert result.exit_code == 2
            expected = f"{name!r} is not the folder of a run; did you mean results/runs/mine?"
            assert expected in " ".join(result.stderr.split())
    assert call("validate", "mine").stdout == call("validate", "mine.yaml").stdout


# ------------------------------------------------------------------------------------------------ show


def test_show(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    text = call("show", tmp_path / "p.py").stdout
    assert f"mine (method)\n{tmp_path}/p.py\n\nSomeone 2024, eq. 1: a method.\n\nMore about it.\n" in text
    assert "  lr     float                                 0.001    learning rate\n" in text
    assert "  loss   Literal['minimax', 'non-saturating']  minimax\n" in text
    assert "  units  int  required  how many\n" in text
    assert "Values\n  hits  modes  higher is better\n\nNeeds  modes\n" in text
    assert "Provides  modes\n" in text
    assert "without tricks" in text


def test_show_prints_the_ranges_of_a_search(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    assert "Searched" not in call("show", tmp_path / "p.py").stdout
    text = call("show", "wgan").stdout
    assert (
        "Searched by `tune`\n  clip     0.001 to 1, logarithmic\n  lr       1e-05 to 0.01, logarithmic\n"
        "  d_steps  among 1, 5\n" in text
    )
    (row,) = (row for row in json.loads(call("list", "methods", "--json").stdout) if row["name"] == "wgan")
    ranges = {param["name"]: param["search"] for param in row["params"]}
    assert (ranges["clip"], ranges["d_steps"], ranges["width"]) == (
        {"log": [0.001, 1.0]}, {"among": [1, 5]}, None,
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for known in catalog().values() for name in known])
def test_everything_can_be_shown(name: str) -> None:
    result = call("show", name)
    assert result.exit_code == 0
    for known in catalog().values():
        if name in known:
            assert known[name].doc.strip() in result.stdout
            assert str(known[name].path) in result.stdout


@pytest.mark.parametrize("name", list(shipped_suites()))
def test_suites_are_shown_as_they_are(name: str) -> None:
    assert shipped_suites()[name].read_text(encoding="utf-8").strip() in call("show", name).stdout


def test_show_of_nothing(tmp_path: Path) -> None:
    result = call("show", "gna")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: no plugin or suite named 'gna'; did you mean 'gan'?\n"
    (tmp_path / "empty.py").touch()
    assert "nothing in this file is marked" in call("show", tmp_path / "empty.py").stderr


# -------------------------------------------------------------------------------------------- validate


def test_validate(tmp_path: Path) -> None:
    path = tiny.write(tmp_path)
    result = call("validate", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{path}: 'tiny' is valid: 1 dataset, 1 method, 1 cell, 2 trainings\n"
    assert "1 cell, 7 trainings" in call("validate", path, "--seeds", 7).stdout
    assert "1 cell, 1 training\n" in call("validate", path, "--set", "seeds=1").stdout


def test_validate_notes_metrics_that_apply_to_nothing(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, tiny.SUITE.replace("p.py:dots", "p.py:flat"))
    result = call("validate", path)
    assert result.exit_code == 0
    assert result.stdout.endswith("\nnote: 'hits' applies to none of its cells: it needs modes\n")


def test_validate_says_all_mistakes(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, tiny.SUITE.replace("seeds: 2", "seeds: -2\nsedes: 1"))
    result = call("validate", path, "--set", "train.stepz=1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "--set train.stepz=1: train.stepz: unknown key 'stepz'; did you mean 'steps'?\n"
        f"{path}:2:8: seeds: expected 1 to 10,000 seeds, got -2\n"
        f"{path}:3:1: sedes: unknown key 'sedes'; did you mean 'seeds'?\n"
        "3 mistakes; nothing was run.\n"
    )


def test_one_mistake_is_counted_as_one(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "- a\n")
    assert call("validate", path).stderr.endswith("\n1 mistake; nothing was run.\n")


def test_an_unknown_suite() -> None:
    result = call("validate", "qickstart")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: there is no suite 'qickstart'; did you mean 'quickstart'?\n")


# ------------------------------------------------------------------------------------------------- run


def test_run_by_default(tmp_path: Path, execute: list[dict[str, Any]]) -> None:
    assert call("run", tiny.write(tmp_path)).exit_code == 0
    (asked,) = execute
    assert asked.pop("suite").name == "tiny"
    assert asked == {
        "out": Path("results/runs/tiny"),
        "device": "auto",
        "executor": "local",
        "jobs": None,
        "timeout": None,
        "shard": None,
        "fresh": False,
        "dry_run": False,
    }


def test_run_with_everything(tmp_path: Path, execute: list[dict[str, Any]]) -> None:
    options = (
        "--set train.steps=9 --set about=x --seeds 3 --device cpu --executor ray --jobs 2 --timeout 1.5 "
        "--shard 2/8 --fresh --dry-run"
    )
    result = call("run", tiny.write(tmp_path), "--out", tmp_path / "o", *options.split())
    assert result.exit_code == 0, result.stderr
    (asked,) = execute
    suite = asked.pop("suite")
    assert (suite.train.steps, suite.about, suite.seeds) == (9, "x", (0, 1, 2))
    assert asked == {
        "out": tmp_path / "o",
        "device": "cpu",
        "executor": "ray",
        "jobs": 2,
        "timeout": 1.5,
        "shard": (2, 8),
        "fresh": True,
        "dry_run": True,
    }


def test_the_folder_of_an_odd_name_is_plain(tmp_path: Path, execute: list[dict[str, Any]]) -> None:
    call("run", tiny.write(tmp_path), "--set", "name='<b>'")
    assert execute[0]["out"].parent == Path("results/runs")
    assert execute[0]["out"].name.startswith("_b_-")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--shard 0/8", "'0/8' is not I/N with 1 ≤ I ≤ N, such as 2/8"),
        ("--shard 9/8", "'9/8' is not I/N"),
        ("--shard x", "'x' is not I/N"),
        ("--timeout 0", "0.0 is not in the range x>0"),
        ("--executor dask", "'dask' is not one of 'local', 'ray'"),
        ("--jobs 0", "0 is not in the range x>=1"),
        ("--seeds -1", "-1 is not in the range x>=1"),
        ("--device gpu", "'gpu' is not one of 'auto', 'cpu', 'cuda'"),
        ("--sed 3", "No such option"),
    ],
)
def test_wrong_options(tmp_path: Path, execute: list[dict[str, Any]], options: str, message: str) -> None:
    result = call("run", tiny.write(tmp_path), *options.split())
    assert result.exit_code == 2
    assert message in result.stderr
    assert execute == []


def test_a_wrong_suite_runs_nothing(tmp_path: Path, execute: list[dict[str, Any]]) -> None:
    assert call("run", tiny.write(tmp_path, "- a\n")).exit_code == 2
    assert execute == []


@pytest.mark.parametrize("code", [0, 1, 130])
def test_exit_codes_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    stand_in(monkeypatch, lambda: code)
    assert call("run", tiny.write(tmp_path)).exit_code == code


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (DatasetError("mnist: not here"), 2, "error: mnist: not here\n"),
        (StoreError("the folder is read-only"), 2, "error: the folder is read-only\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            ValueError("odd"),
            1,
            "this is a bug in ganbench: ValueError: odd\n"
            "Please report it with what --debug prints (`ganbench --debug ...`).\n",
        ),
    ],
)
def test_errors_become_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, stderr: str
) -> None:
    stand_in(monkeypatch, raising(error))
    result = call("run", tiny.write(tmp_path))
    assert (result.exit_code, result.stderr, result.stdout) == (code, stderr, "")


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize(("error", "code"), [(DatasetError("not here"), 2), (ValueError("odd"), 1)])
def test_debug_shows_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, where: str
) -> None:
    stand_in(monkeypatch, raising(error))
    path = tiny.write(tmp_path)
    result = call("--debug", "run", path) if where == "before" else call("run", path, "--debug")
    assert result.exit_code == code
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert f"{error}\n" in result.stderr


# --------------------------------------------------------------------------------------- table, report


def test_table_and_report_say_what_they_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [tmp_path / "a.csv", tmp_path / "a.md"]
    replace_module(monkeypatch, ganbench.report, "tables", write=lambda _: tables)
    replace_module(monkeypatch, ganbench.report, "page", write=lambda folder, _: folder / "r.html")
    assert call("table", tmp_path).stdout == f"{tmp_path}/a.csv\n{tmp_path}/a.md\n"
    assert call("report", tmp_path).stdout == f"{tmp_path}/r.html\n"


@pytest.mark.parametrize("command", ["table", "report"])
def test_results_that_are_not_there(command: str, tmp_path: Path) -> None:
    result = call(command, tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


# ------------------------------------------------------------------------------------------ completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    if shell == "bash":
        assert '  eval "$(_GANBENCH_COMPLETE=bash_source ganbench)"\n' in call("--help").stdout
    result = start(_GANBENCH_COMPLETE=f"{shell}_source")
    assert result.returncode == 0
    assert "_GANBENCH_COMPLETE" in result.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("ganbench va", "validate"),
        ("ganbench show ga", "gan"),
        ("ganbench run quickst", "quickstart"),
        ("ganbench list me", "metrics"),
        ("ganbench run quickstart --dev", "--device"),
    ],
)
def test_names_are_completed(words: str, completed: str) -> None:
    count = len(words.split()) - 1
    result = start(COMP_WORDS=words, COMP_CWORD=str(count), _GANBENCH_COMPLETE="bash_complete")
    assert completed in [line.partition(",")[2] for line in result.stdout.splitlines()]


# ------------------------------------------------------------------------------------------- start-up


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["list", "--json"], ["show", "gan"], ["validate", "quickstart"]]
)
def test_quick_commands_start_no_torch(arguments: list[str]) -> None:
    code = f"""
import sys
from ganbench.cli import main
try:
    main({arguments!r})
finally:
    print(*sorted({{"torch", "pandas", "numpy", "matplotlib"}} & set(sys.modules)), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == ""


# ------------------------------------------------------------------------------------ unusable output


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in which GB is `python -m ganbench`."""
    line = command.replace("GB", f'"{sys.executable}" -m ganbench')
    environment = {**os.environ, "PYTHONPATH": str(Path(ganbench.__file__).parent.parent), **environment}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )


def test_modules_are_commands(tmp_path: Path) -> None:
    for module in ("ganbench", "ganbench.cli"):
        done = shell(f'"{sys.executable}" -m {module} check . --against nothing.csv', tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("error: nothing.csv: no such file")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_loses_output_with_a_message(tmp_path: Path) -> None:
    done = shell("GB list > /dev/full", tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: stdout cannot be written (No space left on device); part of the output is lost\n"
    )
    assert shell("GB list nonsense > /dev/full 2> /dev/full", tmp_path).returncode == 2


@pytest.mark.parametrize(
    "command", ["GB list >&-", "GB list >&- 2>&- <&-", "GB list | head -1", "GB list | true"]
)
def test_nobody_has_to_listen(command: str, tmp_path: Path) -> None:
    done = shell(command, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_an_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, tiny.SUITE.replace("tiny", "±x"))
    for encoding in (
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        done = shell(f"GB validate {path.name}", tmp_path, **encoding)
        assert (done.returncode, done.stderr) == (0, "")
        assert "is valid: 1 dataset" in done.stdout


def test_closed_streams_do_not_lend_their_numbers(tmp_path: Path) -> None:
    code = """
import os
from ganbench.cli.text import lenient_streams
with lenient_streams():
    with open("kept", "w") as file:
        assert file.fileno() > 2, file.fileno()
        os.write(1, b"printed")
"""
    (tmp_path / "code.py").write_text(code)
    assert shell(f'"{sys.executable}" code.py >&- 2>&-', tmp_path).returncode == 0
    assert (tmp_path / "kept").read_text() == ""


def test_escapes_of_a_terminal_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\\x1b[31mx" in call("show", "\x1b[31mx").stderr
    for error in (ValueError("\x1b[31m\x07"), DatasetError("\x1b[31m\x07")):
        stand_in(monkeypatch, raising(error))
        for options in ((), ("--debug",)):
            result = call("run", tiny.write(tmp_path), *options)
            assert "\\x1b[31m\\x07" in result.stderr
            assert "\x1b" not in result.stderr


def test_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-c", "from ganbench.cli import main; main(['list'])"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""


def test_workers_import_the_package_that_started_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m ganbench` in a checkout runs that checkout, whichever package is installed."""
    from ganbench.execution import local

    seen: list[dict[str, str]] = []
    monkeypatch.setattr(local.forkserver, "ensure_running", lambda: seen.append(dict(os.environ)))
    monkeypatch.setenv("PYTHONPATH", "others")
    root = str(Path(ganbench.__file__).parent.parent)
    for first in (root, "/nowhere"):
        monkeypatch.setattr(sys, "path", [first, *sys.path])
        local.start_server()
        assert os.environ["PYTHONPATH"] == "others"
    assert [each["PYTHONPATH"] for each in seen] == [f"{root}{os.pathsep}others", "others"]
    assert all(each["PYTHONSAFEPATH"] == "1" for each in seen)


@pytest.mark.parametrize(("value", "better", "low"), [(3.0, "higher", True), (3.0, "lower", False)])
def test_score_says_where_a_value_is_no_better_than_its_floor(value: float, better: str, low: bool) -> None:
    names = ("metric", "value", "better", "floor", "unit", "sem", "error", "invalid", "protocol")
    values = ("kde_ll", value, better, 4.5, "nats", None, None, None, "aaaaaaaa")
    measured = SimpleNamespace(
        records=[SimpleNamespace(**dict(zip(names, values, strict=True)))],
        controls={}, verdict="", sentence="how", shortage=None, warning="",
    )  # fmt: skip
    words = "kde_ll is no better than the floor, 4.5, which a trivial sampler reaches"
    assert (words in command_text.score_text(measured)) is low
