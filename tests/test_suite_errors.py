"""Suites that are wrong: each mistake with its place, its key and what would have been right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny

from ganbench.errors import SuiteError, SuiteIssue
from ganbench.registry import catalog
from ganbench.suite import nodes
from ganbench.suite.load import load

HEAD = "datasets: [p.py:dots]\nmethods: [p.py:Mine]\nmetrics: [p.py:Hits]\n"


def mistakes(path: Path, overrides: tuple[str, ...] = (), seeds: int | None = None) -> list[str]:
    """The messages of a suite without the folder in which it stands."""
    with pytest.raises(SuiteError) as caught:
        load(path, overrides, seeds)
    return [str(issue).replace(f"{path.parent}/", "") for issue in caught.value.issues]


# What is wrong, the lines of the suite after HEAD (or in place of its keys), the mistakes without `suite.yaml:`.
BAD = {
    "unknown key": ("sedes: 5", ["4:1: sedes: unknown key 'sedes'; did you mean 'seeds'?"]),
    "unknown key of train": ("train: {epochs: 5}", [
        "4:9: train.epochs: unknown key 'epochs'; expected one of: "
        "batch, checkpoint, dtype, precision, snapshots, steps",
    ]),
    "unknown dataset": ('datasets: [p.py:dost]', [
        "3:12: datasets[0].dataset: p.py: no dataset 'dost'; did you mean 'dots'?",
    ]),
    "unknown method": ("methods: [gam]", ["3:11: methods[0].method: there is no method 'gam'; did you mean 'gan'?"]),
    "a trick for a method": ("methods: [unrolling]", [
        "3:11: methods[0].method: there is no method 'unrolling'; expected one of: METHODS ('unrolling' is a trick)",
    ]),
    "unknown parameter": ('methods: [p.py:Mine: {lrr: 1}]', [
        "3:23: methods[0].params.lrr: mine has no parameter 'lrr'; did you mean 'lr'?",
    ]),
    "unknown parameter of a trick": ('methods: [{method: p.py:Mine, tricks: [p.py:Noise: {sgima: 1}]}]', [
        "3:53: methods[0].tricks[0].params.sgima: noise has no parameter 'sgima'; did you mean 'sigma'?",
    ]),
    "unknown parameter of a metric": ('metrics: [p.py:Hits: {radios: 1}]', [
        "3:23: metrics[0].params.radios: hits has no parameter 'radios'; did you mean 'radius'?",
    ]),
    "missing parameter": ('methods: [p.py:Own]', [
        "3:11: methods[0].params: own needs the parameter 'units' (a whole number): how many",
    ]),
    "a budget without budgets": ("budget: ci", [
        "4:1: budgets: expected the budgets by name, as in `{ci: {train.steps: 100}, full: {}}`",
    ]),
    "budgets without a budget": ("budgets: {ci: {}}", ["4:1: budgets: no budget is chosen; add `budget: ci`"]),
    "unknown budget": ("budget: fll\nbudgets: {ci: {}, full: {}}", [
        "4:9: budget: there is no budget 'fll'; did you mean 'full'?",
    ]),
    "a budget that is no mapping": ("budget: ci\nbudgets: {ci: 5}", [
        "5:15: budgets.ci: expected a mapping of keys to their values (train.steps: 100), got 5",
    ]),
    "a budget's key that leads nowhere": ("budget: ci\nbudgets: {ci: {datasets.7.label: x}}", [
        "5:16: budgets.ci.datasets.7.label: '7' is not an entry of this list; its entries are 0 to 0",
    ]),
    "a budget's value that is wrong": ("budget: ci\nbudgets: {ci: {train.steps: many}}", [
        "5:29: train.steps: expected a whole number, got the text 'many'",
    ]),
    "a budget's empty key": ("budget: ci\nbudgets: {ci: {'.': 1}}", [
        "5:16: budgets.ci..: expected a dotted key, such as train.steps",
    ]),
    "text for a number": ("train: {steps: many}", [
        "4:16: train.steps: expected a whole number, got the text 'many'",
    ]),
    "a quoted number": ('methods: [p.py:Mine: {lr: "1e-3"}]', [
        "3:27: methods[0].params.lr: expected a number, got the text '1e-3'; remove the quotes",
    ]),
    "a fraction for a whole number": ("train: {steps: 1e3}", [
        "4:16: train.steps: expected a whole number, got 1000.0",
    ]),
    "true for a number": ('methods: [p.py:Mine: {lr: true}]', [
        "3:27: methods[0].params.lr: expected a number, got true",
    ]),
    "no for false": ('methods: [p.py:Mine: {fast: no}]', [
        "3:29: methods[0].params.fast: expected true or false, got the text 'no'",
    ]),
    "no such choice": ('methods: [p.py:Mine: {loss: minmax}]', [
        "3:29: methods[0].params.loss: 'minmax' is not one of its values; did you mean 'minimax'?",
    ]),
    "the wrong length": ('datasets: [p.py:dots: {centre: [1, 2, 3]}]', [
        "3:32: datasets[0].params.centre: expected a list of 2 (a number, a number), got a list of 3",
    ]),
    "the wrong item": ('methods: [p.py:Mine: {sizes: [8, wide]}]', [
        "3:30: methods[0].params.sizes: expected a whole number, got the text 'wide'",
    ]),
    "null where it may not be": ('methods: [p.py:Mine: {clip: null, lr: null}]', [
        "3:39: methods[0].params.lr: expected a number, got nothing",
    ]),
    "or null": ('methods: [p.py:Mine: {clip: much}]', [
        "3:29: methods[0].params.clip: expected a number or null, got the text 'much'",
    ]),
    "a number for a text": ("about: 5", ["4:8: about: expected text, got 5; put it in quotes"]),
    "negative seed": ("seeds: [0, -1]", [
        "4:12: seeds[1]: a seed is a whole number from 0 to 2,147,483,647, got -1",
    ]),
    "huge seed": ("seeds: [2147483648]", [
        "4:9: seeds[0]: a seed is a whole number from 0 to 2,147,483,647, got 2147483648",
    ]),
    "the same seed twice": ("seeds: [1, 2, 1]", ["4:15: seeds[2]: the seed 1 is in the list already"]),
    "no seeds": ("seeds: 0", ["4:8: seeds: expected 1 to 10,000 seeds, got 0"]),
    "too many seeds": ("seeds: 100000", ["4:8: seeds: expected 1 to 10,000 seeds, got 100000"]),
    "an empty list of seeds": ("seeds: []", ["4:8: seeds: is empty; it needs at least one entry"]),
    "seeds as text": ("seeds: five", [
        "4:8: seeds: expected a number of seeds (5 means 0 to 4) or a list of seeds, got the text 'five'",
    ]),
    "no steps": ("train: {steps: 0, batch: -1, snapshots: -1}", [
        "4:16: train.steps: must be 1 or more, got 0",
        "4:26: train.batch: must be 1 or more, got -1",
        "4:41: train.snapshots: must be 0 or more, got -1",
    ]),
    "no time between checkpoints": ("train: {checkpoint: 0}", [
        "4:21: train.checkpoint: must be positive and finite, got 0",
    ]),
    "unknown precision": ("train: {dtype: float16}", [
        "4:16: train.dtype: 'float16' is not one of its values; did you mean 'float64'?",
    ]),
    "no datasets": ("datasets: []", ["3:11: datasets: is empty; it needs at least one entry"]),
    "no methods": ("methods: []", ["3:10: methods: is empty; it needs at least one entry"]),
    "no metrics": ("metrics:", ["3:9: metrics: expected a list (- one - two), got nothing"]),
    "a list for a mapping": ("train: [1]", ["4:8: train: expected a mapping (key: value), got a list"]),
    "a number for a method": ("methods: [5]", ["3:11: methods[0]: expected a mapping (key: value), got 5"]),
    "an entry without its plugin": ("methods: [{label: x}]", [
        "3:11: methods[0]: the key 'method' is missing: which method is it?",
    ]),
    "no such file of plugins": ("methods: [./mien.py]", [
        "3:11: methods[0].method: mien.py: no such file",
    ]),
    "no such file of samples": ("methods: [{samples: theirs.npz}]", [
        "3:21: methods[0].samples: there is no file or folder theirs.npz",
    ]),
    "samples of another kind": ("methods: [{samples: [a.pkl]}]", [
        "3:22: methods[0].samples[0]: expected a file of samples (.npz or .npy), got 'a.pkl'",
    ]),
    "tricks for samples": ("methods: [{samples: tiny.npz, tricks: []}]", [
        "3:31: methods[0].tricks: unknown key 'tricks'; expected one of: datasets, label, samples",
    ]),
    "a trick on what is no game": ('methods: [{method: p.py:Own, params: {units: 1}, tricks: [p.py:Noise]}]', [
        "3:58: methods[0].tricks: 'own' has its own training loop (fit) and takes no tricks; tricks need a method with "
        "a game",
    ]),
    "the same label": ('methods: [p.py:Mine, p.py:Mine]', [
        "3:22: methods[1]: the label 'mine' is taken by methods[0]; tell them apart with `label: ...`",
    ]),
    "the same metric": ('metrics: [p.py:Hits, p.py:Hits: {radius: 3.0}]', [
        "3:22: metrics[1]: the metric 'hits' is in the list already",
    ]),
    "unknown label of a dataset": ('methods: [{method: p.py:Mine, datasets: [dot, dots, dots]}]', [
        "3:42: methods[0].datasets[0]: no dataset of this suite has the label 'dot'; did you mean 'dots'?",
        "3:53: methods[0].datasets[2]: 'dots' is in the list already",
    ]),
    "an empty sweep": ('methods: [{method: p.py:Mine, sweep: {}}]', [
        "3:38: methods[0].sweep: is empty; name a parameter and its values, as in `{lr: [1e-3, 1e-4]}`",
    ]),
    "a sweep without values": ('methods: [{method: p.py:Mine, sweep: {lr: [], clip: 3}}]', [
        "3:43: methods[0].sweep.lr: is empty; it needs at least one entry",
        "3:53: methods[0].sweep.clip: expected a list (- one - two), got 3",
    ]),
    "a sweep of what is fixed": ('methods: [{method: p.py:Mine, params: {lr: 1}, sweep: {lr: [1, a]}}]', [
        "3:56: methods[0].sweep.lr: is also given under `params`; remove one of the two",
        "3:64: methods[0].sweep.lr[1]: expected a number, got the text 'a'",
    ]),
    "a sweep of the same value": ('methods: [{method: p.py:Mine, sweep: {lr: [1, 1.0]}}]', [
        "3:11: methods[0]: the label 'mine-1.0' is taken by methods[0]; tell them apart with `label: ...`",
    ]),
    "a huge sweep": (f'methods: [{{method: p.py:Mine, sweep: {{lr: {[*range(50)]}, clip: {[*range(50)]}}}}}]', [
        "3:38: methods[0].sweep: makes 2,500 methods; at most 1,000 are allowed",
    ]),
    "a key twice": ("seeds: 1\nseeds: 2", ["5:1: seeds: the key 'seeds' is given twice (first in line 4)"]),
    "a parameter twice": ('methods: [p.py:Mine: {lr: 1, lr: 2}]', [
        "3:30: methods[0].p.py:Mine.lr: the key 'lr' is given twice (first in line 3)",
    ]),
    "not a number": ("train: {steps: .nan}", ["4:16: train.steps: .nan is not a finite number"]),
    "infinite": ('methods: [p.py:Mine: {lr: 1e999}]', ["3:27: methods[0].p.py:Mine.lr: 1e999 is not a finite number"]),
    "a name that leaves the folder": ("name: ../../x", [
        "4:7: name: '../../x' cannot be a name: it becomes a folder, which cannot have '/' in its name",
    ]),
    "a label that is no folder": ('methods: [{method: p.py:Mine, label: ..}]', [
        "3:38: methods[0].label: '..' cannot be a name: it becomes a folder",
    ]),
    "an empty label": ('datasets: [{dataset: p.py:dots, label: ""}]', [
        "3:40: datasets[0].label: '' cannot be a name: it becomes a folder",
    ]),
    "a control character in a name": (r'name: "a\0b"', [
        r"4:7: name: 'a\x00b' cannot be a name: it becomes a folder, which cannot have '\x00' in its name",
    ]),
    "an invisible character in a label": (r'methods: [{method: p.py:Mine, label: "a\u202Eb"}]', [
        r"3:38: methods[0].label: 'a\u202eb' cannot be a name: it becomes a folder, which cannot have '\u202e' in "
        "its name",
    ]),
    "a dot at the end of a label": ("methods: [{method: p.py:Mine, label: 'a.'}]", [
        "3:38: methods[0].label: 'a.' cannot be a name: it becomes a folder, which cannot have spaces around it or a "
        "dot at its end",
    ]),
    "a space at the end of a label": ("methods: [{method: p.py:Mine, label: 'a '}]", [
        "3:38: methods[0].label: 'a ' cannot be a name: it becomes a folder, which cannot have spaces around it or a "
        "dot at its end",
    ]),
    "a name that Windows reserves": ("datasets: [{dataset: p.py:dots, label: Con.x}]", [
        "3:40: datasets[0].label: 'Con.x' cannot be a name: it becomes a folder, and Windows reserves that name for a "
        "device",
    ]),
    "labels that differ in case": ("methods: [p.py:Mine, {method: p.py:Mine, label: MINE}]", [
        "3:22: methods[1]: the label 'MINE' and 'mine' of methods[0] would be one folder on some disks; tell them "
        "apart with `label: ...`",
    ]),
    "labels that differ in their Unicode form": ('datasets: [{dataset: p.py:dots, label: "\u00e9"}, '
                                                 '{dataset: p.py:dots, label: "e\u0301"}]', [
        "3:46: datasets[1]: the label 'e\u0301' and '\u00e9' of datasets[0] would be one folder on some disks; tell "
        "them apart with `label: ...`",
    ]),
    "a swept label that is no folder": ("methods: [{method: p.py:Mine, label: com1.x, sweep: {lr: [1]}}]", [
        "3:38: methods[0].label: 'com1.x' cannot be a name: it becomes a folder, and Windows reserves that name for a "
        "device",
        "3:53: methods[0].sweep: 'com1.x-1.0' cannot be a name: it becomes a folder, and Windows reserves that name "
        "for a device (the label that it makes)",
    ]),
    "two metrics with one label": ("metrics: [{metric: p.py:Hits, label: a}, {metric: p.py:Hits, label: a, "
                                   "params: {radius: 2}}]", [
        "3:42: metrics[1]: the column 'hits(a)' is taken by metrics[0]; tell them apart with `label: ...`",
    ]),
    "a long name": (f"name: {'x' * 101}", [
        "4:7: name: this name has 101 characters; at most 100 are allowed, since it becomes a folder name",
    ]),
    "half a character": (r'about: "\ud800"', [
        "4:8: about: this text has an unpaired surrogate, which is not a character",
    ]),
}  # fmt: skip


def bad(lines: str) -> str:
    """HEAD with these lines in place of its own of the same key."""
    key = lines.split(":")[0]
    kept = [line for line in HEAD.splitlines() if not line.startswith(f"{key}:")]
    return "\n".join([*kept, lines, ""])


@pytest.mark.parametrize("case", BAD)
def test_mistakes(case: str, tmp_path: Path) -> None:
    lines, expected = BAD[case]
    (tmp_path / "tiny.npz").touch()
    known = sorted(catalog()["method"])
    methods = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    path = tiny.write(tmp_path, bad(lines))
    assert mistakes(path) == [f"suite.yaml:{text}".replace("METHODS", methods) for text in expected]


# The whole file is wrong: one mistake, and nothing else is looked at.
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "1:1: is empty; a suite needs at least datasets, methods and metrics"),
    "only comments": (b"# later\n", "1:1: is empty; a suite needs at least datasets, methods and metrics"),
    "tab": (b"train:\n\tsteps: 5\n", "2:1: a tab in the indentation; YAML is indented with spaces"),
    "tab after spaces": (
        b"a:\n - b\n  \t- c: d: e\n",
        "3:3: a tab in the indentation; YAML is indented with spaces",
    ),
    "open bracket": (
        b"seeds: [1, 2\nname: x\n",
        "2:5: is not valid YAML: expected ',' or ']', but got ':' "
        "(while parsing a flow sequence that begins in line 1)",
    ),
    "open quote": (
        b"name: 'x\nseeds: 2\n",
        "3:1: is not valid YAML: found unexpected end of stream (while scanning a quoted scalar that begins in line 1)",
    ),
    "colon in text": (
        b"about: why: because\n",
        "1:11: is not valid YAML: mapping values are not allowed here; is the indentation right? "
        "text that has ': ' in it needs quotes",
    ),
    "no such escape": (b'about: "\\U0FFFFFFF"\n', "1:11: is not valid YAML: no such character"),
    "control character": (b"about: a\x00b\n", "1:9: the character U+0000 is not allowed in YAML"),
    "latin-1": (b"# fine\nabout: Sch\xf6n\n", "2:11: is not UTF-8; save the file as UTF-8"),
    "utf-16": ("name: x".encode("utf-16"), "1:1: is not UTF-8; it looks like UTF-16; save the file as UTF-8"),
    "two documents": (
        b"seeds: 1\n---\nseeds: 2\n",
        "2:1: a second document begins here; a suite is one document",
    ),
    "anchor": (
        b"train: &t {steps: 1}\n",
        "1:8: &t: anchors and aliases are not supported; write the value out, or quote the text",
    ),
    "alias": (
        b"name: *x\n",
        "1:7: *x: anchors and aliases are not supported; write the value out, or quote the text",
    ),
    "tag": (
        b"name: !!python/object/apply:os.system ['true']\n",
        "1:7: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not supported; remove it, or quote the text",
    ),
    "bomb": (
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        "1:4: &a: anchors and aliases are not supported; write the value out, or quote the text",
    ),
    "nesting": (b"seeds: " + b"[" * 5000, "1:27: is nested more than 20 deep"),
    "nested mappings": (b"{a: " * 5000, "1:81: is nested more than 20 deep"),
    "too large": (b"# " + b"x" * 524_287, "1:1: is too large for a suite: 524,289 bytes, at most 524,288"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files(case: str, tmp_path: Path) -> None:
    """None of them keeps the reader busy: a bomb of aliases would never end."""
    data, expected = BROKEN[case]
    path = tmp_path / "suite.yaml"
    path.write_bytes(data)
    assert mistakes(path) == [f"suite.yaml:{expected}"]


@pytest.mark.parametrize(("digits", "shown"), [(5000, "999999999999… (5,000 digits)"), (30, None)])
def test_long_numbers(tmp_path: Path, digits: int, shown: str | None) -> None:
    path = tiny.write(tmp_path, HEAD + f"seeds: {'9' * digits}\n")
    why = (
        f"{shown} is not a finite number"
        if shown
        else f"{'9' * digits} is too large for a whole number (64 bits)"
    )
    assert mistakes(path) == [f"suite.yaml:4:8: seeds: {why}"]


@pytest.mark.parametrize(("text", "kind"), [("5", "5"), ("- a", "a list"), ("seeds", "the text 'seeds'")])
def test_a_suite_is_a_mapping(tmp_path: Path, text: str, kind: str) -> None:
    path = tiny.write(tmp_path, text)
    assert mistakes(path) == [f"suite.yaml:1:1: expected a mapping (key: value), got {kind}"]


def test_missing_keys(tmp_path: Path) -> None:
    assert mistakes(tiny.write(tmp_path, "seeds: 1\n")) == [
        f"suite.yaml:1:1: the key {key!r} is missing" for key in ("datasets", "methods", "metrics")
    ]


def test_a_key_that_is_no_text(tmp_path: Path) -> None:
    assert mistakes(tiny.write(tmp_path, HEAD + "train: {[a]: 1}\n")) == [
        "suite.yaml:4:9: train: a key must be text, not a list or mapping"
    ]


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = tiny.write(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert mistakes(path) == ["suite.yaml:1:1: cannot be read (Permission denied)"]


def test_a_method_that_can_do_nothing(tmp_path: Path) -> None:
    source = "from ganbench import method\n\n\n@method\nclass Mine:\n    pass\n"
    (tmp_path / "idle.py").write_text(source)
    path = tiny.write(tmp_path, bad("methods: [idle.py]"))
    assert mistakes(path) == [
        "suite.yaml:3:11: methods[0].method: "
        "the class Mine in idle.py has neither `game` nor `fit`; it needs one of them"
    ]


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Mine\n")
    path = tiny.write(tmp_path, bad("methods: [./mine.py]"))
    assert mistakes(path) == [
        "suite.yaml:3:11: methods[0].method: mine.py:1: is not valid Python (expected ':')"
    ]


def test_a_parameter_that_is_a_path(tmp_path: Path) -> None:
    """Files are looked for beside the suite, wherever the command is given."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "own.py").write_text(
        "from ganbench import dataset\n\n\n@dataset()\ndef own(generator, path: str): ...\n"
    )
    path = tiny.write(tmp_path, bad("datasets: [{./own.py: {path: pictures}}]"))
    assert load(path).datasets[0].part.params == {"path": str(tmp_path / "pictures")}
    path = tiny.write(tmp_path, bad("datasets: [{./own.py: {path: picturse}}]"))
    assert mistakes(path) == ["suite.yaml:3:30: datasets[0].params.path: there is no file or folder picturse"]


def test_options_are_named(tmp_path: Path) -> None:
    path = tiny.write(tmp_path)
    options = {
        "train.stepz=4": "train.stepz: unknown key 'stepz'; did you mean 'steps'?",
        "train.steps=lots": "train.steps: expected a whole number, got the text 'lots'",
        "datasets.9.label=x": "datasets.9.label: '9' is not an entry of this list; its entries are 0 to 0",
        "datasets.first.label=x": "datasets.first.label: 'first' is not an entry of this list; its entries are 0 to 0",
        "name.x=1": "name.x: there is no key 'x' in the text 'tiny'",
        "methods.0.params.lr=no": "methods[0].params.lr: expected a number, got the text 'no'",
        "methods.0.params.clip=.inf": "methods.0.params.clip: .inf is not a finite number",
        "seeds=[1": "seeds: is not valid YAML: expected ',' or ']', but got '<stream end>'",
        "about=*x": "about: *x: anchors and aliases are not supported; write the value out, or quote the text",
        "steps": "expected KEY=VALUE, such as train.steps=100",
        "=5": "expected KEY=VALUE, such as train.steps=100",
        "a." * 5000 + "=5": "expected KEY=VALUE, such as train.steps=100",
    }
    for option, why in options.items():
        assert mistakes(path, (option,)) == [f"--set {option}: {why}"]
    assert mistakes(path, seeds=0) == ["--seeds 0: seeds: expected 1 to 10,000 seeds, got 0"]


def test_all_mistakes_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
name: a/b
seeds: -1
train: {steps: x, bach: 5}
datasets: [rnig, p.py:dots: {n: 1.5}]
methods:
  - p.py:Mine: {lr: fast}
  - {method: gna, datasets: [ring]}
metrics: [p.py:Hits, mods]
"""
    found = mistakes(tiny.write(tmp_path, text))
    places = [message.split(": ")[:2] for message in found]
    assert places == [
        ["suite.yaml:1:7", "name"],
        ["suite.yaml:2:8", "seeds"],
        ["suite.yaml:3:16", "train.steps"],
        ["suite.yaml:3:19", "train.bach"],
        ["suite.yaml:4:12", "datasets[0].dataset"],
        ["suite.yaml:4:33", "datasets[1].params.n"],
        ["suite.yaml:6:21", "methods[0].params.lr"],
        ["suite.yaml:7:14", "methods[1].method"],
        ["suite.yaml:7:30", "methods[1].datasets[0]"],
        ["suite.yaml:8:22", "metrics[1].metric"],
    ]


def test_a_pipe_in_place_of_samples_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    path = tiny.write(tmp_path, bad("methods: [{samples: pipe.npy}]"))
    (found,) = mistakes(path)
    assert found.endswith("samples: pipe.npy is a pipe or a device; expected a file or a folder")


def test_a_large_suite_is_read(tmp_path: Path) -> None:
    entries = [f"  - {{method: p.py:Mine, params: {{lr: {i}}}, label: m{i}}}" for i in range(300)]
    path = tiny.write(tmp_path, bad("\n".join(["methods:", *entries])))
    assert len(load(path).methods) == 300


def test_the_reader_stands_any_depth_of_keys() -> None:
    issues: list[SuiteIssue] = []
    deep = "".join(f"{'  ' * i}k:\n" for i in range(nodes.MAX_DEPTH - 1)) + "  " * 19 + "k: 1"
    assert nodes.parse(deep, "x", issues).value
    assert issues == []
