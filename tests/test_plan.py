"""Cells, and the keys under which their results are stored."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from ganbench.errors import PluginError
from ganbench.suite.load import dump, load
from ganbench.suite.plan import Cell, make_cells

SUITE = """\
name: plan
seeds: [4, 2]
train: {steps: 100, batch: 16}
datasets:
  - p.py:dots
  - {dataset: p.py:flat, train: {steps: 50, batch: 8}}
methods:
  - p.py:Mine
  - {method: p.py:Mine, tricks: [p.py:Noise], train: {steps: 7}, datasets: [dots]}
  - {method: p.py:Own, params: {units: 3}}
  - {samples: [a.npz, b.npz, a.npz], label: theirs}
metrics: [p.py:Hits, p.py:Probe]
"""


def cells(folder: Path, suite: str = SUITE, plugins: str = tiny.PLUGINS) -> dict[str, Cell]:
    """The cells of a suite by their labels."""
    folder.mkdir(exist_ok=True)
    (folder / "a.npz").write_bytes(b"a")
    (folder / "b.npz").write_bytes(b"b")
    planned = make_cells(load(tiny.write(folder, suite, plugins)))
    return {cell.label: replace(cell, digest="data") for cell in planned}


@pytest.fixture
def plan(tmp_path: Path) -> dict[str, Cell]:
    return cells(tmp_path)


def test_cells_stand_in_the_order_of_the_suite(plan: dict[str, Cell]) -> None:
    assert list(plan) == [
        *("dots-mine", "dots-mine+noise", "dots-own", "dots-theirs"),
        *("flat-mine", "flat-own", "flat-theirs"),
    ]
    assert {label: cell.interface for label, cell in plan.items() if label.startswith("dots")} == {
        "dots-mine": "game",
        "dots-mine+noise": "game",
        "dots-own": "fit",
        "dots-theirs": "samples",
    }


def test_settings_of_the_method_come_before_those_of_the_dataset(plan: dict[str, Cell]) -> None:
    settings = {label: (cell.train.steps, cell.train.batch) for label, cell in plan.items()}
    assert settings["dots-mine"] == (100, 16)
    assert settings["dots-mine+noise"] == (7, 16)
    assert settings["flat-mine"] == (50, 8)


def test_only_metrics_that_apply(plan: dict[str, Cell]) -> None:
    assert {label: [metric.name for metric in cell.metrics] for label, cell in plan.items()} == {
        "dots-mine": ["hits", "probe"],
        "dots-mine+noise": ["hits", "probe"],
        "dots-own": ["hits"],
        "dots-theirs": ["hits"],
        "flat-mine": ["probe"],
        "flat-own": [],
        "flat-theirs": [],
    }


def test_seeds(plan: dict[str, Cell]) -> None:
    """File i belongs to seed i; everything else has the suite's seeds."""
    assert plan["dots-mine"].seeds == (4, 2)
    assert plan["dots-theirs"].seeds == (0, 1, 2)


def test_cells_can_be_sent_to_another_process(plan: dict[str, Cell]) -> None:
    for cell in plan.values():
        again = pickle.loads(pickle.dumps(cell))
        assert again == cell
        assert again.train_keys == cell.train_keys


def test_a_cell_keeps_the_keys_of_the_sources_with_which_it_was_made(tmp_path: Path) -> None:
    """A run that goes on after a plugin was edited must not store the results under the keys of the new source."""
    before = cells(tmp_path)["dots-mine"]
    sent = pickle.dumps(before)
    (tmp_path / "p.py").write_text(
        tiny.PLUGINS.replace("def game(self, data): ...", "def game(self, data): return data")
    )
    received = pickle.loads(sent)
    assert received == before
    assert replace(received, digest="data") != before


def test_a_cell_has_no_keys_before_its_data_are_known(tmp_path: Path) -> None:
    cells(tmp_path)
    for cell in make_cells(load(tmp_path / "suite.yaml")):
        assert (cell.id, cell.key, cell.train_keys, cell.score_keys) == ("", "", {}, ())


# ------------------------------------------------------------------------------------------------ keys


def all_keys(plan: dict[str, Cell]) -> dict[str, str]:
    """Every training key and score key of a plan."""
    found = {}
    for label, cell in plan.items():
        found[label] = cell.key
        for seed in cell.seeds:
            found[f"{label}/{seed}"] = cell.train_keys[seed]
            for metric, keys in zip(cell.metrics, cell.score_keys, strict=True):
                found[f"{label}/{seed}/{metric.name}"] = keys[seed]
    return found


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert set(before) == set(after)
    return {name for name in before if before[name] != after[name]}


def test_keys_are_distinct(plan: dict[str, Cell]) -> None:
    """Except where the same samples are given for two seeds, and those have the seed in their keys."""
    keys = all_keys(plan)
    on_dots = [key for name, key in keys.items() if name.startswith("dots")]
    assert len(set(on_dots)) == len(on_dots)
    assert all(len(key) == 64 and not set(key) - set("0123456789abcdef") for key in keys.values())
    cell = plan["dots-mine"]
    assert cell.id == f"dots-mine-{cell.key[:12]}"
    assert replace(cell, digest="other data").key != cell.key


def test_ids_of_odd_labels_are_plain(tmp_path: Path) -> None:
    text = SUITE.replace("- p.py:Mine\n", '- {method: p.py:Mine, label: "<a$b>"}\n')
    cell = next(iter(cells(tmp_path, text).values()))
    assert cell.label == "dots-<a$b>"
    assert cell.id.startswith("dots-_a_b_-")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# learning rate", "# the step of Adam"),
        ("lr: float = 1e-3", "lr: float = 0.001"),
        ("    More about it.\n", "    More.\n\n    And more.\n"),
        ("from typing import Literal\n", "\n\nfrom typing import (\n    Literal,\n)\n"),
    ],
)
def test_keys_do_not_change_with_how_a_plugin_is_written(
    tmp_path: Path, plan: dict[str, Cell], old: str, new: str
) -> None:
    assert old in tiny.PLUGINS
    after = cells(tmp_path / "other", plugins=tiny.PLUGINS.replace(old, new))
    assert changed(all_keys(plan), all_keys(after)) == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: plan\n", "name: other\nabout: Nothing changes.\n"),
        ("- p.py:Mine\n", "- p.py:Mine: {lr: 1e-3}\n"),
        ("- p.py:Mine\n", "- p.py:Mine: {clip: null, sizes: [8, 8], lr: 0.001}\n"),
        ("- p.py:Mine\n", "- {params: {fast: false}, label: mine, method: p.py:Mine}\n"),
        ("metrics: [p.py:Hits, p.py:Probe]", "metrics: [p.py:Probe, p.py:Hits: {radius: 3}]"),
        ("train: {steps: 100, batch: 16}", "train: {batch: 16, steps: 100, dtype: float32, snapshots: 9}"),
    ],
)
def test_keys_do_not_change_with_how_a_suite_is_written(
    tmp_path: Path, plan: dict[str, Cell], old: str, new: str
) -> None:
    assert old in SUITE
    after = cells(tmp_path / "other", SUITE.replace(old, new))
    assert changed(all_keys(plan), all_keys(after)) == set()


def test_the_resolved_suite_has_the_same_keys(tmp_path: Path, plan: dict[str, Cell]) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump(load(tmp_path / "suite.yaml")), encoding="utf-8")
    after = {cell.label: replace(cell, digest="data") for cell in make_cells(load(copy))}
    assert changed(all_keys(plan), all_keys(after)) == set()


def test_a_parameter_of_a_metric_changes_its_scores_only(tmp_path: Path, plan: dict[str, Cell]) -> None:
    after = cells(tmp_path / "other", SUITE.replace("[p.py:Hits,", "[p.py:Hits: {radius: 2},"))
    keys = all_keys(plan)
    assert changed(keys, all_keys(after)) == {name for name in keys if name.endswith("/hits")}


def test_the_version_of_a_metric_changes_its_scores_only(tmp_path: Path, plan: dict[str, Cell]) -> None:
    """The metrics stand in a file of their own, as everything in one file shares its digest."""
    metrics = tiny.PLUGINS.replace("version=2", "version=3")
    folder = tmp_path / "other"
    folder.mkdir()
    for name, text in (("old.py", tiny.PLUGINS), ("new.py", metrics)):
        (folder / name).write_text(text)
    old = all_keys(cells(folder, SUITE.replace("p.py:Probe", "old.py:Probe")))
    new = all_keys(cells(folder, SUITE.replace("p.py:Probe", "new.py:Probe")))
    assert changed(old, new) == {name for name in old if name.endswith("/probe")}


def test_other_seeds_leave_the_keys_of_the_rest(tmp_path: Path, plan: dict[str, Cell]) -> None:
    before, after = all_keys(plan), all_keys(cells(tmp_path / "other", SUITE.replace("[4, 2]", "[2, 9, 4]")))
    assert {name: after[name] for name in before} == before
    assert any("/9" in name for name in after)


@pytest.mark.parametrize(
    ("old", "new", "touched"),
    [
        ("- p.py:Mine\n", "- p.py:Mine: {lr: 0.5}\n", {"dots-mine", "flat-mine"}),
        ("[p.py:Noise]", "[p.py:Noise: {sigma: 1}]", {"dots-mine+noise"}),
        ("units: 3", "units: 4", {"dots-own", "flat-own"}),
        ("steps: 7", "steps: 8", {"dots-mine+noise"}),
        ("steps: 50", "steps: 51", {"flat-mine", "flat-own"}),
        ("batch: 16", "batch: 17", {"dots-mine", "dots-mine+noise", "dots-own"}),
    ],
)
def test_what_changes_a_training(
    tmp_path: Path, plan: dict[str, Cell], old: str, new: str, touched: set[str]
) -> None:
    assert old in SUITE
    after = cells(tmp_path / "other", SUITE.replace(old, new))
    differ = changed(all_keys(plan), all_keys(after))
    assert {name.split("/")[0] for name in differ} == touched
    assert touched <= differ


def test_code_that_changes_changes_the_keys(tmp_path: Path, plan: dict[str, Cell]) -> None:
    source = tiny.PLUGINS.replace("def game(self, data): ...", "def game(self, data): return data")
    after = cells(tmp_path / "other", plugins=source)
    assert plan["dots-mine"].key != after["dots-mine"].key


def test_samples_are_known_by_their_content(tmp_path: Path, plan: dict[str, Cell]) -> None:
    before = all_keys(plan)
    (tmp_path / "b.npz").write_bytes(b"other samples")
    after = {label: replace(cell) for label, cell in plan.items()}
    differ = changed(before, all_keys(after))
    assert {name for name in differ if "theirs/" in name} == {
        *("dots-theirs/1", "dots-theirs/1/hits", "flat-theirs/1"),
    }
    assert {name for name in differ if "/" not in name} == {"dots-theirs", "flat-theirs"}


READERS = tiny.PLUGINS.replace(
    "@method\nclass Mine", '@method(reads=("w.json", "more"))\nclass Mine'
).replace('needs=("modes",))\nclass Hits', 'needs=("modes",), reads=("h.json",))\nclass Hits')


def readers(folder: Path) -> dict[str, str]:
    """The keys of a suite whose method reads `w.json` and the folder `more`, and a metric `h.json`."""
    folder.mkdir(exist_ok=True)
    (folder / "more").mkdir(exist_ok=True)
    for name in ("w.json", "h.json", "more/a.txt", "more/b.txt"):
        if not (folder / name).exists():
            (folder / name).write_text(name)
    return all_keys(cells(folder, plugins=READERS))


@pytest.mark.parametrize(
    ("name", "touched"),
    [
        ("w.json", {"dots-mine", "dots-mine+noise", "flat-mine"}),
        ("more/b.txt", {"dots-mine", "dots-mine+noise", "flat-mine"}),
        ("more/c.txt", {"dots-mine", "dots-mine+noise", "flat-mine"}),
        ("h.json", {f"dots-{label}" for label in ("mine", "mine+noise", "own", "theirs")}),
    ],
)
def test_files_that_a_plugin_reads_are_known_by_their_content(
    tmp_path: Path, name: str, touched: set[str]
) -> None:
    before = readers(tmp_path)
    assert readers(tmp_path) == before
    (tmp_path / name).write_text("other")
    differ = changed(before, readers(tmp_path))
    assert {key.split("/")[0] for key in differ} == touched
    assert all(key.endswith("/hits") for key in differ) == (name == "h.json")


def test_a_file_that_a_plugin_reads_and_that_is_not_there_is_told(tmp_path: Path) -> None:
    readers(tmp_path)
    (tmp_path / "w.json").unlink()
    with pytest.raises(
        PluginError, match=r"p\.py: mine needs 'reads w\.json', but .*w\.json cannot be read \(No such"
    ):
        all_keys(cells(tmp_path, plugins=READERS))


def test_a_file_that_a_parameter_names_is_known_by_its_content(tmp_path: Path) -> None:
    plugins = tiny.PLUGINS.replace(
        "    units: int  # how many", "    units: int  # how many\n    start: Path"
    )
    suite = SUITE.replace("units: 3", "units: 3, start: start.bin")
    (tmp_path / "start.bin").write_text("zeros")
    before = all_keys(cells(tmp_path, suite, plugins))
    (tmp_path / "start.bin").write_text("ones")
    differ = changed(before, all_keys(cells(tmp_path, suite, plugins)))
    assert {key.split("/")[0] for key in differ} == {"dots-own", "flat-own"}


PINNED = '''
from ganbench import Value, method, metric, trick


@method
class Mine:
    """A method."""

    lr: float = 1e-3
    sizes: tuple[int, ...] = (8, 8)

    def game(self, data):
        return f"{data!r:>4}", self.lr if self.sizes else None


@trick
class Noise:
    sigma: float = 1


@metric(Value("hits", "modes", "higher"), version=3)
class Hits:
    radius: float = 3
'''


def test_the_rule_of_the_keys_is_pinned(tmp_path: Path) -> None:
    """Stored results are found by these keys. A change here makes every result of every user stale: make it
    on purpose, and raise plan.PROTOCOL with it, or plan.READING where only files of samples are concerned."""
    (tmp_path / "pinned.py").write_text(PINNED)
    methods = "[{method: pinned.py, tricks: [pinned.py: {sigma: 0.5}]}, {samples: a.npz}]"
    text = f"seeds: 3\ndatasets: [p.py:dots]\nmethods: {methods}\nmetrics: [pinned.py]\n"
    mine, samples = cells(tmp_path, text).values()
    assert mine.key == "c8b72ceb4fb26e92d307dfd6adb300eaaa665904c46d4fd9c368ea3f09b6811e"
    assert mine.train_keys[2] == "2f5c2e28b008a3430181e7e8047a271bd3439973c41869032add68e0dc0546e7"
    assert mine.score_keys[0][2] == "c11020513a416eecd891ba6822351b623bb606f8ec009aadc8a6d86460ead039"
    assert samples.train_keys[0] == "ad614a4a067f604c1ac6e355a06b85180c7b6654e6f8a23ab9473385b609bbb5"
