"""Suites that are right: what is read, and what is written back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ganbench import registry
from ganbench.errors import RequestError, SuiteError, SuiteIssue
from ganbench.suite import nodes
from ganbench.suite.load import TrainSettings, _Dumper, about, dump, load, locate, shipped_suites, slug
from ganbench.suite.plan import make_cells

FULL = """\
name: full
about: Everything at once.
seeds: [3, 1]
train: {steps: 3000, batch: 64, dtype: float64}
datasets:
  - p.py:dots
  - {dataset: p.py:dots, params: {n: 7}, label: seven}
  - {dataset: p.py:flat, train: {steps: 10}}
methods:
  - p.py:Mine
  - {method: p.py:Mine, params: {lr: 1e-4}, label: slow}
  - {method: p.py:Mine, tricks: [p.py:Noise, {p.py:Noise: {sigma: 1}}], label: noisy, datasets: [dots, seven]}
  - {method: p.py:Mine, tricks: [p.py:Noise]}
  - {method: p.py:Mine, params: {fast: true}, sweep: {lr: [1, 1e-4], sizes: [[4], [4, 4]]}, label: s}
  - {method: p.py:Own, params: {units: 3}, train: {batch: 1}}
  - {samples: [theirs.npz, theirs.npz], label: theirs}
metrics: [p.py:Hits, {p.py:Hits: {radius: 2}}, p.py:Probe]
"""


def small(folder: Path, **keys: str) -> Path:
    """The tiny suite with some of its keys changed."""
    lines = {line.split(": ")[0]: line.split(": ", 1)[1] for line in tiny.SUITE.splitlines()}
    return tiny.write(folder, "\n".join(f"{key}: {value}" for key, value in {**lines, **keys}.items()))


@pytest.fixture
def full(tmp_path: Path) -> Path:
    (tmp_path / "theirs.npz").write_bytes(b"not looked into")
    return tiny.write(tmp_path, FULL)


def test_everything_is_read(full: Path) -> None:
    suite = load(full)
    assert (suite.name, suite.about, suite.seeds) == ("full", "Everything at once.", (3, 1))
    assert suite.train == TrainSettings(steps=3000, batch=64, dtype="float64")
    assert suite.path == full
    assert suite.source_text == full.read_text()
    assert [(d.part.name, d.label, d.part.params, d.train) for d in suite.datasets] == [
        ("dots", "dots", {}, {}),
        ("dots", "seven", {"n": 7}, {}),
        ("flat", "flat", {}, {"steps": 10}),
    ]
    methods = {entry.label: entry for entry in suite.methods}
    assert list(methods) == [
        *("mine", "slow", "noisy", "mine+noise"),
        *("s-1.0-4", "s-1.0-4x4", "s-0.0001-4", "s-0.0001-4x4"),
        *("own", "theirs"),
    ]
    assert methods["slow"].part
    assert methods["slow"].part.params == {"lr": 1e-4}
    assert [trick.params for trick in methods["noisy"].tricks] == [{}, {"sigma": 1.0}]
    assert methods["noisy"].datasets == ("dots", "seven")
    assert methods["s-0.0001-4x4"].part
    assert methods["s-0.0001-4x4"].part.params == {"fast": True, "lr": 1e-4, "sizes": (4, 4)}
    assert methods["own"].train == {"batch": 1}
    assert methods["theirs"].part is None
    assert methods["theirs"].samples == (full.parent / "theirs.npz",) * 2
    assert [(metric.name, metric.params) for metric in suite.metrics] == [
        ("hits", {}),
        ("hits(radius=2.0)", {"radius": 2.0}),
        ("probe", {}),
    ]


def columns(path: Path) -> list[list[str]]:
    return [[value.name for value in metric.values] for metric in load(path).metrics]


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        ("[{p.py:Hits: {radius: 2}}]", ["hits"]),
        ("[{p.py:Hits: {radius: 2}}, {p.py:Hits: {radius: 4}}]", ["hits(radius=2.0)", "hits(radius=4.0)"]),
        ("[{p.py:Hits: {radius: 2}}, {metric: p.py:Hits, label: near}]", ["hits(radius=2.0)", "hits(near)"]),
        ("[{metric: p.py:Hits, label: few}]", ["hits(few)"]),
    ],
)
def test_the_same_metric_twice_has_a_label(tmp_path: Path, metrics: str, names: list[str]) -> None:
    path = small(tmp_path, metrics=metrics)
    assert [metric.name for metric in load(path).metrics] == names
    assert columns(path) == [[name] for name in names]
    again = tmp_path / "resolved.yaml"
    again.write_text(dump(load(path)))
    assert columns(again) == columns(path)


def test_variants_of_a_metric_do_not_move_each_others_keys(tmp_path: Path) -> None:
    """The one with defaults keeps its column and its scores when another is added; protocols know no labels."""
    (alone,), (default, variant) = (
        load(small(tmp_path, metrics=metrics)).metrics
        for metrics in ("[p.py:Hits]", "[p.py:Hits, {p.py:Hits: {radius: 2}}]")
    )
    assert (default.name, variant.name) == ("hits", "hits(radius=2.0)")
    assert default == alone
    cell = make_cells(load(small(tmp_path, metrics="[p.py:Hits]")))[0]
    metrics = (default, replace(default, label="few"), variant)
    assert len({keys[0] for keys in replace(cell, metrics=metrics, digest="0" * 64).score_keys}) == 3
    assert (
        replace(cell, digest="0" * 64).score_keys[0]
        == replace(cell, metrics=metrics, digest="0" * 64).score_keys[0]
    )


def test_defaults_are_resolved_in_the_order_of_the_source(tmp_path: Path) -> None:
    suite = load(small(tmp_path, methods="[{method: p.py:Mine, params: {clip: 1}}]"))
    part = suite.methods[0].part
    assert part is not None
    assert list(part.resolved.items()) == [
        ("lr", 1e-3),
        ("sizes", (8, 8)),
        ("loss", "minimax"),
        ("clip", 1.0),
        ("fast", False),
    ]
    radius = suite.metrics[0].resolved["radius"]
    assert (radius, type(radius)) == (3.0, float)


def test_what_a_suite_need_not_say(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "datasets: [p.py:dots]\nmethods: [p.py:Mine]\nmetrics: [p.py:Hits]\n")
    suite = load(path)
    assert (suite.name, suite.about, suite.seeds, suite.train) == (
        "suite",
        "",
        (0, 1, 2, 3, 4),
        TrainSettings(),
    )


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tiny.write(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path).name == "tiny"


@pytest.mark.parametrize("label", ["_x", "a$b", "=cmd", "<script>", "β-VAE", "a b", ".hidden", "x" * 100])
def test_odd_labels_are_kept(tmp_path: Path, label: str) -> None:
    suite = load(small(tmp_path, methods=f'[{{method: p.py:Mine, label: "{label}"}}]'))
    assert suite.methods[0].label == label


# ------------------------------------------------------------------------------------------- overrides


def test_overrides(tmp_path: Path) -> None:
    options = [
        "train.steps=100",
        "seeds=[5, 7]",
        "datasets.0.train.steps=5",
        "datasets[0].params.n=9",
        "methods.0.params.lr=1e-5",
        "about='on: off'",
    ]
    suite = load(tiny.write(tmp_path), options)
    assert suite.train == TrainSettings(steps=100)
    assert suite.seeds == (5, 7)
    assert suite.datasets[0].train == {"steps": 5}
    assert suite.datasets[0].part.params == {"n": 9}
    assert suite.methods[0].part
    assert suite.methods[0].part.params == {"lr": 1e-5}
    assert suite.about == "on: off"


def test_an_override_replaces_what_stands_there(tmp_path: Path) -> None:
    suite = load(tiny.write(tmp_path), ["methods=[{'p.py:Own': {units: 2}}]", "seeds=9"], seeds=1)
    assert [entry.label for entry in suite.methods] == ["own"]
    assert suite.seeds == (0,)


def test_an_override_can_mend_a_mistake(tmp_path: Path) -> None:
    assert load(small(tmp_path, seeds="none"), ["seeds=2"]).seeds == (0, 1)


# ---------------------------------------------------------------------------------------------- writing


def test_the_resolved_suite_reads_as_the_same(full: Path, tmp_path: Path) -> None:
    first = load(full)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy = elsewhere / "suite.resolved.yaml"
    copy.write_text(dump(first), encoding="utf-8")
    second = load(copy)
    assert dump(second) == dump(first)
    assert (second.name, second.seeds, second.train) == (first.name, first.seeds, first.train)
    assert [entry.label for entry in second.methods] == [entry.label for entry in first.methods]
    assert [e.part and e.part.resolved for e in second.methods] == [
        e.part and e.part.resolved for e in first.methods
    ]
    assert [m.resolved for m in second.metrics] == [m.resolved for m in first.metrics]


@given(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff"), max_size=30
    )
)
def test_text_survives_being_written(text: str) -> None:
    written = yaml.dump({"about": text}, Dumper=_Dumper, allow_unicode=True)
    assert nodes.parse(written, "x", []).plain() == {"about": text}


@pytest.mark.parametrize(
    "text", ["no", "1e-3", "0o17", "null", "~", "", "10:30", ".5", "0x1F", "- a", "*a", "a: b", "'"]
)
def test_text_that_looks_like_something_else_survives(text: str, tmp_path: Path) -> None:
    suite = load(tiny.write(tmp_path))
    copy = tiny.write(tmp_path, dump(suite).replace("about: ''", "about: X"))
    other = load(copy, ["about=" + repr(text) if "'" not in text else 'about="\'"'])
    copy.write_text(dump(other), encoding="utf-8")
    assert load(copy).about == text


# ----------------------------------------------------------------------------------------------- YAML 1.2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("True", True),
        ("false", False),
        ("1e-3", 1e-3),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2E+3", -2000.0),
        ("10:30", "10:30"),
        ("1_000", "1_000"),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("+7", 7),
        ("~", None),
        ("null", None),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    parsed = nodes.parse(f"key: {text}", "x", []).plain()["key"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_places_are_counted_from_one() -> None:
    root = nodes.parse("a: 1\nb:\n  - x\n  - {c: 2}\n", "f", [])
    item = root.value["b"].value[1]
    assert (item.position.line, item.position.column) == (4, 5)
    assert (item.keys["c"].line, item.keys["c"].column) == (4, 6)
    assert (item.value["c"].position.line, item.value["c"].position.column) == (4, 9)


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Any text is either read or answered with a located error."""
    found: Sequence[SuiteIssue] = ()
    try:
        nodes.parse(text, "x", [])
    except SuiteError as error:
        found = error.issues
    assert all(problem.line >= 1 and problem.column >= 1 for problem in found)


# --------------------------------------------------------------------------------------- names and folders


def test_slugs_are_safe_and_distinct() -> None:
    assert slug("gan+unrolling-0.1_x=2,y") == "gan+unrolling-0.1_x=2,y"
    names = ["a$b", "a<b", "a b", "..", ".", ".x", "-x", "β", "=cmd", "x" * 100, "ü" * 100]
    slugs = [slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    for text in slugs:
        assert not set(text) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+=,-")
        assert text[0] not in ".-"
        assert len(text) <= 107


def test_suites_are_found_by_path_or_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny.write(tmp_path)
    monkeypatch.setattr("ganbench.registry.shipped", lambda folder: tmp_path)
    assert locate(path) == path
    assert locate(str(path)) == path
    assert locate("suite") == path
    assert shipped_suites() == {"suite": path}
    with pytest.raises(RequestError, match="there is no suite 'siute'; did you mean 'suite'"):
        locate("siute")
    with pytest.raises(RequestError, match=r"nowhere\.yaml: no such file"):
        locate(tmp_path / "nowhere.yaml")
    with pytest.raises(RequestError, match="is a folder"):
        locate(tmp_path)
    with pytest.raises(RequestError, match="there is no suite"):
        locate("x" * 5000)


def test_about(tmp_path: Path) -> None:
    assert about(small(tmp_path, about="Why?")) == "Why?"
    assert about(tiny.write(tmp_path)) == ""
    assert about(tiny.write(tmp_path, "[")) == ""


BUDGETS = "budget: ci\nbudgets:\n  ci: {seeds: 2, 'datasets[0].params.n': 5}\n  full: {train.steps: 900}\n"


def test_a_budget_changes_keys_and_the_name(tmp_path: Path) -> None:
    plain = load(tiny.write(tmp_path, tiny.SUITE))
    path = tiny.write(tmp_path, f"{tiny.SUITE}\n{BUDGETS}")
    ci, full = load(path), load(path, ["budget=full"])
    assert (ci.name, full.name) == (f"{plain.name}-ci", f"{plain.name}-full")
    assert (ci.seeds, ci.datasets[0].part.params["n"]) == ((0, 1), 5)
    assert (full.train.steps, full.seeds) == (900, plain.seeds)
    assert load(path, ["train.steps=7", "budget=full"]).train.steps == 7
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(dump(ci))
    assert load(resolved).name == ci.name


@pytest.mark.parametrize("name", sorted(shipped_suites()))
def test_the_shipped_suites_are_right(name: str) -> None:
    text = shipped_suites()[name].read_text(encoding="utf-8")
    for budget in yaml.safe_load(text).get("budgets", {"": {}}):
        suite = load(name, [f"budget={budget}"] if budget else [])
        assert suite.name == (f"{name}-{budget}" if budget else name)
        assert suite.about


def test_reading_and_planning_start_no_torch(full: Path) -> None:
    code = f"""
import sys
from dataclasses import replace
from ganbench.suite.plan import make_cells
from ganbench.suite.load import load
assert replace(make_cells(load({str(full)!r}))[0], digest="d").key
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_shipped_suite_has_a_name_of_its_own() -> None:
    files = [path.stem for path in registry.shipped("suites").rglob("*.yaml")]
    assert sorted(files) == sorted(shipped_suites())


def test_a_shipped_suite_is_found_by_its_name_with_an_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("quickstart.yaml").path == load("quickstart").path
    (tmp_path / "quickstart.yaml").write_text("- mine\n")
    with pytest.raises(SuiteError):  # a file of that name goes first
        load("quickstart.yaml")


def test_one_override_is_no_sequence_of_letters() -> None:
    assert load("quickstart", "train.steps=7").train.steps == 7
