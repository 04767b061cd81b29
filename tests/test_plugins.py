"""Plugins: what is read from a file without running it, how they are found, loaded and digested."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import tiny

from ganbench.contracts import Kind, Value
from ganbench.errors import PluginError
from ganbench.registry import UNKNOWN, Param, Plugin, catalog, digest, find, load, scan, shipped


def written(folder: Path, source: str, name: str = "own.py") -> Path:
    path = folder / name
    path.write_text(f"from ganbench import *\n\n\n{source}", encoding="utf-8")
    return path


def only(folder: Path, source: str) -> Plugin:
    (plugin,) = scan(written(folder, source))
    return plugin


# ---------------------------------------------------------------------------------------------- reading


def test_a_default_that_a_formatter_wrapped_keeps_its_comment(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(
        "@method\nclass Mine:\n    lr: float | None = (\n        None  # learning rate\n    )\n    def fit(self): ...\n"
    )
    (plugin,) = scan(tmp_path / "p.py")
    assert [param.doc for param in plugin.params] == ["learning rate"]


def test_every_shipped_parameter_has_a_comment() -> None:
    bare = [
        (kind, name, param.name)
        for kind, plugins in catalog().items()
        for name, plugin in plugins.items()
        for param in plugin.params
        if not param.doc
    ]
    assert bare == []


def test_scan_reads_everything(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    found = {plugin.name: plugin for plugin in scan(tmp_path / "p.py")}
    assert {name: plugin.kind for name, plugin in found.items()} == {
        **{"mine": "method", "own": "method", "noise": "trick"},
        **{"hits": "metric", "probe": "metric", "dots": "dataset", "flat": "dataset"},
    }
    mine = found["mine"]
    assert (mine.symbol, mine.interface, mine.path) == ("Mine", "game", tmp_path / "p.py")
    assert mine.summary == "Someone 2024, eq. 1: a method."
    assert mine.params[:2] == (
        Param("lr", "float", 1e-3, False, "learning rate"),
        Param("sizes", "tuple[int, ...]", (8, 8), False, "hidden units"),
    )
    assert mine.param("clip") == Param("clip", "float | None", None, False, "")
    assert mine.param("nothing") is None
    assert found["own"].interface == "fit"
    assert found["own"].params == (Param("units", "int", None, True, "how many"),)
    assert found["hits"].values == (Value("hits", "modes", "higher"),)
    assert (found["hits"].needs, found["hits"].version) == (("modes",), 1)
    assert (found["probe"].needs, found["probe"].version) == (("generator",), 2)
    assert found["dots"].provides == ("modes",)
    assert found["dots"].params == (
        Param("n", "int", 5, False, ""),
        Param("centre", "tuple[float, float]", (0, 0), False, ""),
    )
    assert found["flat"].params == ()


@pytest.mark.parametrize(
    ("decorator", "name"),
    [
        ("@method", "my_gan"),
        ("@method()", "my_gan"),
        ("@method('other')", "other"),
        ("@method(name='other')", "other"),
        ("@method(name=None)", "my_gan"),
        ("@ganbench.method", "my_gan"),
        ("@dataclass(frozen=True)\n@method", "my_gan"),
    ],
)
def test_names(tmp_path: Path, decorator: str, name: str) -> None:
    assert only(tmp_path, f"{decorator}\nclass MyGAN:\n    def game(self, data): ...\n").name == name


def test_unmarked_things_are_no_plugins(tmp_path: Path) -> None:
    assert scan(written(tmp_path, "@other\nclass A: ...\n\n\nclass B: ...\n\n\nx = 3\n")) == []
    assert scan(written(tmp_path, "")) == []


FIELDS = """\
@method
class Mine:
    count: ClassVar[int] = 3
    _: KW_ONLY
    lr: float = RATE
    tags: list = field(default_factory=list)
    made: int = field(init=False, default=3)
    bare: int = field()
    colour: str = "#fff"  # of # the line
    long: tuple[int, ...] = (
        1,
        2,
    )  # in the end
    negative: int = -1
    product: float = 2 * 3

    def game(self, data): ...
"""


def test_fields(tmp_path: Path) -> None:
    """Only what the constructor takes; defaults that are no literals are not known."""
    assert only(tmp_path, FIELDS).params == (
        Param("lr", "float", UNKNOWN, False, ""),
        Param("tags", "list", UNKNOWN, False, ""),
        Param("bare", "int", None, True, ""),
        Param("colour", "str", "#fff", False, "of # the line"),
        Param("long", "tuple[int, ...]", (1, 2), False, "in the end"),
        Param("negative", "int", -1, False, ""),
        Param("product", "float", UNKNOWN, False, ""),
    )


def test_inherited_fields_and_interfaces(tmp_path: Path) -> None:
    source = """\
class Base:
    lr: float = 1.0
    k: int = 1

    def game(self, data): ...


@method
class Mine(Base):
    z: int = 2
    lr: float = 0.5
"""
    mine = only(tmp_path, source)
    assert mine.interface == "game"
    assert [(param.name, param.default) for param in mine.params] == [("lr", 0.5), ("k", 1), ("z", 2)]


def test_classes_that_extend_themselves_are_read(tmp_path: Path) -> None:
    source = "class A(B): ...\n\n\nclass B(A): ...\n\n\n@method\nclass C(B, C):\n    def fit(self): ...\n"
    assert only(tmp_path, source).interface == "fit"


def test_arguments_of_a_dataset(tmp_path: Path) -> None:
    source = """\
@dataset()
def dots(
    generator,
    /,
    n,  # how many
    std: float = 0.1,
    *,
    shift: float,
    scale=SCALE,
): ...
"""
    assert only(tmp_path, source).params == (
        Param("n", "Any", None, True, "how many"),
        Param("std", "float", 0.1, False, ""),
        Param("shift", "float", None, True, ""),
        Param("scale", "Any", UNKNOWN, False, ""),
    )
    assert only(tmp_path, "@dataset()\ndef dots(generator=None): ...\n").params == ()


def test_a_plugin_means_the_same_in_another_process(tmp_path: Path) -> None:
    plugin = only(tmp_path, FIELDS)
    again = pickle.loads(pickle.dumps(plugin))
    assert again == plugin
    assert again.params[0].default is UNKNOWN


def test_files_with_a_byte_order_mark_or_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_bytes(b'\xef\xbb\xbf@method\nclass A:\n    """\xc3\xa9"""\n')
    assert scan(path)[0].doc == "é"
    path.write_bytes(b'# coding: latin-1\n@method\nclass A:\n    """\xe9"""\n')
    assert scan(path)[0].doc == "é"


def test_reading_says_no_warnings_and_runs_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, "raise SystemExit('ran')\n\n\n@method\nclass A:\n    '''\\d'''\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [plugin.name for plugin in scan(path)] == ["a"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class A\n", "own.py:4: is not valid Python (expected ':')"),
        ("x = '\0'\n", "own.py:1: is not valid Python (source code string cannot contain null bytes)"),
        ("@metric(needs=NEEDS)\nclass A: ...\n", "own.py:4: @metric of A: write 'NEEDS' as a literal: marks are read "
         "without running the file"),
        ("@metric(needs='modes')\nclass A: ...\n", "own.py:4: @metric of A: needs must be a tuple, got 'modes'"),
        ("@metric(version='2')\nclass A: ...\n", "own.py:4: @metric of A: version must be a int, got '2'"),
        ("@metric(nedes=())\nclass A: ...\n", "own.py:4: @metric of A: there is no argument 'nedes'"),
        ("@metric(Value('a', UNIT, 'higher'))\nclass A: ...\n", "own.py:4: @metric of A: write 'UNIT' as a literal: "
         "marks are read without running the file"),
        ("@metric(*VALUES)\nclass A: ...\n", "own.py:4: @metric of A: write '*VALUES' as a literal: marks are read "
         "without running the file"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read(tmp_path: Path, source: str, message: str) -> None:
    path = written(tmp_path, source)
    with pytest.raises(PluginError) as caught:
        scan(path)
    assert str(caught.value) == f"{tmp_path}/{message}"


def test_a_mark_with_half_a_value(tmp_path: Path) -> None:
    with pytest.raises(
        PluginError, match=r"own\.py:4: @metric of A: .*missing 1 required positional argument"
    ):
        scan(written(tmp_path, "@metric(Value('a', 'nats'))\nclass A: ...\n"))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"own\.py: no such file"):
        scan(tmp_path / "own.py")
    with pytest.raises(PluginError, match="cannot be read"):
        scan(tmp_path)


# --------------------------------------------------------------------------------------------- finding


def test_find_by_file(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    assert find("method", "./p.py:Mine", tmp_path).name == "mine"
    assert find("method", "p.py:own", tmp_path).name == "own"
    assert find("trick", str(tmp_path / "p.py")).name == "noise"
    assert find("trick", "../p.py", tmp_path / "sub").path == (tmp_path / "p.py").resolve()


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("method", "p.py", "p.py: has 2 methods; say which: p.py:Mine or p.py:Own"),
        ("method", "p.py:Mien", "p.py: no method 'Mien'; did you mean 'Mine'?"),
        ("divergence", "p.py", "p.py: nothing in this file is marked @divergence"),
        ("method", "q.py", "q.py: no such file"),
    ],
)
def test_find_says_what_is_wrong(tmp_path: Path, kind: Kind, name: str, message: str) -> None:
    tiny.write(tmp_path)
    with pytest.raises(PluginError) as caught:
        find(kind, name, tmp_path)
    assert str(caught.value).replace(f"{tmp_path}/", "") == message


def test_find_by_name() -> None:
    assert find("method", "gan") is catalog()["method"]["gan"]
    with pytest.raises(PluginError, match="there is no method 'gna'; did you mean 'gan'"):
        find("method", "gna")


def test_the_catalog_is_whole() -> None:
    """Everything shipped says what it is, and nothing has two names."""
    assert shipped("baselines").is_dir()
    for kind, known in catalog().items():
        assert list(known) == sorted(known)
        for name, plugin in known.items():
            assert (plugin.kind, plugin.name) == (kind, name)
            assert plugin.summary, name
            assert kind != "method" or plugin.interface, name
            assert kind != "metric" or plugin.values, name


def test_missing_folders_are_named() -> None:
    with pytest.raises(PluginError, match="the folder 'nowhere' is missing from this installation"):
        shipped("nowhere")


# --------------------------------------------------------------------------------------------- loading


def test_load_gives_what_was_scanned(tmp_path: Path) -> None:
    """The mark that Python makes of a file is the one that was read from its source."""
    tiny.write(tmp_path)
    for plugin in scan(tmp_path / "p.py"):
        loaded = load(plugin)
        mark = loaded.__ganbench__
        assert (mark.kind, mark.name, mark.needs) == (plugin.kind, plugin.name, plugin.needs)
        assert (mark.provides, mark.values, mark.version) == (plugin.provides, plugin.values, plugin.version)
        assert load(plugin) is loaded


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0\n", "own.py:4: ZeroDivisionError while loading: division by zero"),
        ("import nowhere_to_be_found\n", "own.py:4: ModuleNotFoundError while loading: "
         "No module named 'nowhere_to_be_found'"),
        ("raise SystemExit(3)\n", "own.py:4: SystemExit while loading: 3"),
    ],
)  # fmt: skip
def test_files_that_fail_to_load(tmp_path: Path, source: str, message: str) -> None:
    path = written(tmp_path, source + "\n\n@method\nclass A: ...\n")
    (plugin,) = scan(path)
    before = set(sys.modules)
    for _ in range(2):  # the second time too: a module that failed is not kept
        with pytest.raises(PluginError) as caught:
            load(plugin)
        assert str(caught.value) == f"{tmp_path}/{message}"
    assert not [name for name in set(sys.modules) - before if name.startswith("ganbench_plugin")]


def test_neighbours_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "a_neighbour_of_mine.py").write_text("RATE = 0.25\n")
    path = written(
        tmp_path, "from a_neighbour_of_mine import RATE\n\n\n@method\nclass A:\n    lr: float = RATE\n"
    )
    assert load(scan(path)[0]).lr == 0.25


def test_two_files_of_one_name(tmp_path: Path) -> None:
    rates = []
    for folder, rate in (("x", 1), ("y", 2)):
        (tmp_path / folder).mkdir()
        path = written(tmp_path / folder, f"@method\nclass A:\n    lr: float = {rate}\n")
        rates.append(load(scan(path)[0]).lr)
    assert rates == [1, 2]


# --------------------------------------------------------------------------------------------- digests


CODE = '''\
@method
class A:
    """Doc."""

    lr: float = 1e-3  # rate

    def game(self, data):
        return 1
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [("# rate", "# learning rate"), ("1e-3", "0.001"), ("Doc.", "More."), ("return 1", "return (1)")],
)
def test_digests_do_not_see_how_code_is_written(tmp_path: Path, old: str, new: str) -> None:
    first = digest(written(tmp_path, CODE))
    assert digest(written(tmp_path, CODE.replace(old, new))) == first


@pytest.mark.parametrize(
    ("old", "new"),
    [("1e-3", "2e-3"), ("lr", "rate"), ("return 1", "return None"), ("return 1", "return 1.0")],
)
def test_digests_see_what_code_does(tmp_path: Path, old: str, new: str) -> None:
    first = digest(written(tmp_path, CODE))
    assert digest(written(tmp_path, CODE.replace(old, new))) != first


def test_digests_see_the_neighbours_that_are_imported(tmp_path: Path) -> None:
    path = written(
        tmp_path, "import numpy\nfrom helper import x\nimport pack.part\n\n\n@method\nclass A: ...\n"
    )
    (tmp_path / "helper.py").write_text("import second\nx = 1\n")
    (tmp_path / "second.py").write_text("y = 1\nimport helper\n")
    (tmp_path / "stranger.py").write_text("z = 1\n")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "part.py").write_text("w = 1\n")
    before = digest(path)
    (tmp_path / "stranger.py").write_text("z = 2\n")
    assert digest(path) == before
    for name in ("helper.py", "second.py", "pack/part.py"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace("= 1", "= 2"))
        assert digest(path) != before
        (tmp_path / name).write_text(text)
    assert digest(path) == before


def test_a_folder_of_plugins_may_move(tmp_path: Path) -> None:
    first = digest(written(tmp_path, "@method\nclass A: ...\n"))
    (tmp_path / "moved").mkdir()
    assert digest(written(tmp_path / "moved", "@method\nclass A: ...\n")) == first


def test_reading_starts_no_torch() -> None:
    code = "import sys; from ganbench.registry import catalog; catalog(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dataset_may_be_marked_without_parentheses(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ganbench import dataset\n\n@dataset\ndef dots(generator):\n    '''Dots.'''\n    return 3\n"
    )
    (plugin,) = scan(path)
    assert load(plugin)(None) == 3
