"""The standings: what is kept, the rank of a new method among it, what is refused, and the command."""

from __future__ import annotations

import json
import math
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from click.testing import CliRunner
from statsmodels.stats.multitest import multipletests

import ganbench
from ganbench import standings as entering
from ganbench.analysis import standings
from ganbench.analysis.search import DatasetSearch, MethodSearch
from ganbench.analysis.standings import Entrant, Measure, Standings
from ganbench.cli.commands import main
from ganbench.contracts import COLUMNS
from ganbench.errors import RequestError, StoreError
from ganbench.execution import run as execution
from ganbench.report import standings as report
from ganbench.suite.plan import PROTOCOL

ROOT = Path(__file__).parent.parent
NAN = math.nan
TRAIN = {"steps": 60, "batch": 32, "dtype": "float32", "precision": "float32"}
SEEDS = np.array([-1.5, -0.7, 0.0, 0.7, 1.5])
SUITE = """\
name: tiny
about: A tiny suite in the shape of the standings.
seeds: 3
train: {steps: 60, batch: 32, snapshots: 1}
datasets: [{dataset: ring, params: {n_train: 3000, n_valid: 1000, n_test: 300}}]
methods:
  - {method: gan, label: gan, params: {z_dim: 4, width: 16, depth: 2}, tricks: [{ema: {decay: 0.9}}]}
  - {method: gan, label: gan+r1, params: {z_dim: 4, width: 16, depth: 2}, tricks: [r1, {ema: {decay: 0.9}}]}
  - {method: vae, label: vae, params: {z_dim: 4, width: 16}, tricks: [{ema: {decay: 0.9, player: VAE}}]}
  - kde
metrics: [{sliced_wasserstein: {n: 200}}, {modes: {n: 200}}]
tune: {trials: 2, seeds: [1000], by: sliced_wasserstein}
"""
MINE = '''
from dataclasses import dataclass
from ganbench import Adam, Game, Player, bce_fake, bce_real, method, mlp, tunable

@method
@dataclass(frozen=True)
class {name}:
    """A GAN."""
    z_dim: int = 8
    width: int = 8
    lr: float = tunable(1e-3, log=(1e-4, 1e-2))

    def game(self, data):
        return Game(
            nets={{"G": mlp(self.z_dim, self.width, data.shape), "D": mlp(data.shape, self.width, 1)}},
            players={{"D": Player("D", self.d_loss, Adam(self.lr)), "G": Player("G", self.g_loss, Adam(self.lr))}},
            draws={{"z": (self.z_dim,)}},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        return bce_real(nets.D(b.x)) + bce_fake(nets.D(nets.G(b.z)))

    def g_loss(self, nets, b):
        return bce_real(nets.D(nets.G(b.z)))
'''


def made(values: Mapping[str, Sequence[float]], better: str = "higher", **changes: Any) -> Standings:
    """Standings of made-up values: `label` or `label-tuned` -> a value for each seed, NaN where it diverged. The
    method `kde` fits by itself."""
    entrants, rows = [], []
    for label, own in values.items():
        name = label.removesuffix("-tuned")
        tuned = "setting 2 of 2" if label != name else ""
        interface = "fit" if name == "kde" else "game"
        entrants.append(Entrant("ring", label, name, ("ema",), {"lr": 0.1}, tuned, interface, TRAIN))
        for seed, value in enumerate(own):
            row = dict.fromkeys(COLUMNS) | {
                **{"suite": "tiny", "dataset": "ring", "method": name, "label": label, "tricks": ["ema"]},
                **{
                    "params": {"lr": 0.1},
                    "seed": seed,
                    "metric": "score",
                    "protocol": "aaaa1111",
                    "unit": "nats",
                },
                **{
                    "value": value,
                    "sem": 0.5,
                    "better": better,
                    "floor": 99.0 if better == "lower" else -99.0,
                    "train_seconds": 1.25,
                },
                **{"status": "diverged" if math.isnan(value) else "ok", "version": "0.1.0", "stack": 5},
                **{"device": "cpu", "dtype": "float32", "cell": label, "seconds": 0.1},
            }
            rows.append([row[name] for name in COLUMNS])
    records = pd.DataFrame(rows, columns=pd.Index(COLUMNS)).astype({"value": "float64", "floor": "float64"})
    search = MethodSearch(
        "gan",
        ({}, {"lr": 0.5}),
        np.array([[1.0, 2.0], [3.0, NAN]]),
        better,
        np.array([[1.5, 2.5], [8.0, NAN]]),
    )
    found = Standings(
        name="tiny",
        about="Made up.",
        made={
            "versions": {"ganbench": "0.1.0"},
            "device": "cpu",
            "command": "ganbench run tiny",
            "schema": 1,
        },
        engine=PROTOCOL,
        digests={"ring": "d1" * 32},
        by={"ring": "score"},
        measures=(Measure("ring", "score", "aaaa1111", "nats", better, "how it is measured"),),
        entrants=tuple(entrants),
        searches=(DatasetSearch("ring", "score", "nats", (search,)),),
        records=records,
    )
    return replace(found, **changes)


KEPT = {"gan": SEEDS, "wgan": SEEDS + 5, "vae": SEEDS + 10, "kde": SEEDS + 20}


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Kept standings `tiny`, and the suite that is said to have made them."""
    kept, suites = tmp_path / "kept", tmp_path / "suites"
    suites.mkdir()
    (suites / "tiny.yaml").write_text(SUITE, encoding="utf-8")
    monkeypatch.setattr(standings, "folder", lambda: kept)
    monkeypatch.setattr(entering, "suite_file", lambda name: suites / f"{name}.yaml")
    values = KEPT | {f"{label}-tuned": own + 1 for label, own in KEPT.items() if label != "kde"}
    standings.write(made(values), kept)
    return kept


def call(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="ganbench")


# ---------------------------------------------------------------------------------------------- kept files


def test_what_is_kept_is_read_again(tmp_path, shipped):
    kept = standings.read("tiny")
    frame = ganbench.load_standings("tiny")
    assert list(frame.columns) == list(COLUMNS)
    original = made(KEPT).records
    for name in (
        "value",
        "sem",
        "floor",
        "seed",
        "metric",
        "protocol",
        "unit",
        "better",
        "status",
        "params",
        "method",
    ):
        assert (
            frame.loc[frame["label"] == "wgan", name].tolist()
            == original.loc[original["label"] == "wgan", name].tolist()
        )
    assert frame["train_seconds"].unique().tolist() == [1.25]
    (method,) = kept.searches[0].methods
    assert (method.best, method.settings) == (0, ({}, {}))  # the trial with a failed seed is the worst
    assert np.array_equal(method.scores, [[1, 2], [3, NAN]], equal_nan=True)
    assert np.array_equal(method.seconds, [[1.5, 2.5], [8, NAN]], equal_nan=True)
    assert kept.made == {"versions": {"ganbench": "0.1.0"}, "device": "cpu", "command": "ganbench run tiny"}
    assert kept.budget("ring") == TRAIN
    again = standings.write(kept, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [(shipped / path.name).read_bytes() for path in again]


def test_a_failed_seed_has_no_value(tmp_path, monkeypatch):
    monkeypatch.setattr(standings, "folder", lambda: tmp_path)
    standings.write(made({"gan": [1.0, NAN]}), tmp_path)
    frame = ganbench.load_standings("tiny")
    assert frame["status"].tolist() == ["ok", "diverged"]
    assert frame["value"].isna().tolist() == [False, True]


def test_the_kept_command_names_no_folder_of_its_machine(tmp_path):
    command = "ganbench run /somewhere/suites/tiny.yaml --out /somewhere/else --jobs 1"
    _, path = standings.write(made(KEPT, made={"command": command, "checksum": "1"}), tmp_path)
    assert json.loads(path.read_text())["made"] == {"command": "ganbench run tiny.yaml --jobs 1"}


def test_the_kept_files_are_diffable(shipped):
    """A line for each seed and value, and for each method."""
    assert len((shipped / "tiny.csv").read_text().splitlines()) == 1 + 7 * 5
    text = (shipped / "tiny.json").read_text()
    assert sum('"label": "wgan"' in line for line in text.splitlines()) == 1


def test_unknown_standings_name_the_nearest(shipped):
    with pytest.raises(RequestError, match="there are no standings 'tin'; did you mean 'tiny'"):
        ganbench.load_standings("tin")
    with pytest.raises(RequestError, match="--on rin: no standings have this dataset; did you mean 'ring'"):
        standings.locate("rin")
    assert standings.locate("tiny")[1] == standings.locate("ring")[1] == ("ring",)


def test_without_kept_results_everything_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(standings, "folder", lambda: tmp_path)
    with pytest.raises(RequestError, match="there are none in this installation yet"):
        ganbench.load_standings("ring")
    with pytest.raises(RequestError, match="no standings are kept in this installation yet"):
        standings.locate("ring")
    assert "No suite of the standings has kept results yet" in report.page([], {})


@pytest.mark.parametrize(
    ("before", "after"), [('"format": 2', '"format": 99'), ('"measures"', '"measure"'), ("{", "")]
)
def test_damaged_standings_are_an_error(shipped, before, after):
    path = shipped / "tiny.json"
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(StoreError, match=r"tiny\.json: "):
        ganbench.load_standings("tiny")


def test_shipped_standings_agree_with_their_suites():
    for name in standings.names():
        kept = standings.read(name)
        entering._suite(kept, kept.datasets)
        if kept.searches:
            entering._same_search(kept, entering._suite(kept, kept.datasets), kept.datasets)


# ---------------------------------------------------------------------------------------------- ranks


def entered(values: Sequence[float], label: str = "mine", **changes: Any) -> Standings:
    return made({label: values}, **changes)


def test_the_rank_and_its_interval():
    """Far from two methods, near a third: Welch's p by scipy, Holm's correction over the three."""
    mine = SEEDS + 5.5
    placed = standings.placement(entered(mine), made(KEPT), "mine", ["ring"])
    (place,) = placed.places
    rows = placed.compared.rows.set_index("baseline")
    others = ["gan", "wgan", "vae", "kde"]
    p = [scipy.stats.ttest_ind(mine, KEPT[name], equal_var=False).pvalue for name in others]
    assert rows.loc[others, "p"].tolist() == pytest.approx(p, rel=1e-2)
    assert rows.loc[others, "p_corrected"].tolist() == pytest.approx(
        multipletests(p, method="holm")[1], rel=1e-2
    )
    assert set(rows["test"]) == {"Welch"}  # although both have seeds 0 to 4
    assert rows["verdict"].to_dict() == {
        "gan": "better",
        "wgan": "can't tell",
        "vae": "worse",
        "kde": "worse",
    }
    assert (place.rank, place.low, place.high, place.methods) == (3, 3, 4, 5)


def test_lower_may_be_better():
    placed = standings.placement(entered(SEEDS - 9, better="lower"), made(KEPT, "lower"), "mine", ["ring"])
    (place,) = placed.places
    assert (place.rank, place.low, place.high) == (1, 1, 1)


def test_a_method_without_a_good_seed_is_last():
    placed = standings.placement(entered([NAN] * 5), made(KEPT), "mine", ["ring"])
    (place,) = placed.places
    assert (place.rank, place.high) == (5, 5)
    assert "no seed ended well, so it is last of 5" in report.sentence(placed, place)


def test_one_seed_has_a_rank_and_no_verdict():
    placed = standings.placement(entered([12.0]), made(KEPT), "mine", ["ring"])
    (place,) = placed.places
    assert (place.rank, place.low, place.high) == (2, 1, 5)
    assert "can't tell which of them it is better than" in report.sentence(placed, place)


def test_tuned_and_untuned_share_no_table(shipped):
    kept = standings.read("tiny")
    assert kept.labels("ring", tuned=False) == ["gan", "wgan", "vae", "kde"]
    assert kept.labels("ring", tuned=True) == ["kde", "gan-tuned", "wgan-tuned", "vae-tuned"]
    assert kept.references("ring") == ["kde"]
    placed = standings.placement(made({"mine-tuned": SEEDS + 8}), kept, "mine-tuned", ["ring"])
    (place,) = placed.places
    assert set(placed.compared.rows["baseline"]) == {"gan-tuned", "wgan-tuned", "vae-tuned"}
    assert (place.rank, place.methods) == (2, 4)  # the reference is none of them
    assert next(line[:2] for line in report.lines(placed, place)) == ("–", "kde")
    assert "after the same search: rank 2 of 4 by score [95 %: 2 to 2]" in report.sentence(placed, place)


def test_a_name_of_the_standings_is_told_apart():
    placed = standings.placement(entered(SEEDS, "gan"), made(KEPT), "gan", ["ring"])
    assert placed.label == "gan (here)"
    assert set(placed.compared.rows["method"]) == {"gan (here)"}


def test_a_method_that_was_not_measured_is_no_opponent():
    kept = made(KEPT)
    kept = replace(kept, records=kept.records[kept.records["label"] != "vae"])
    (place,) = standings.placement(entered(SEEDS + 9), kept, "mine", ["ring"]).places
    assert (place.rank, place.methods, list(place.means)) == (2, 4, ["gan", "wgan", "kde", "mine"])


# ---------------------------------------------------------------------------------------------- what is refused

OTHER_BUDGET = replace(made({"mine": SEEDS}).entrants[0], train={**TRAIN, "steps": 5000})
OTHER_MEASURE = Measure("ring", "score", "bbbb2222", "nats", "higher", "with other samples")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"digests": {"ring": "e2" * 32}},
            r"the data are not those of the standings \(SHA-256 e2e2e2e2e2e2 here",
        ),
        ({"engine": PROTOCOL + 1}, "computes otherwise than the one that made the standings"),
        (
            {"entrants": (OTHER_BUDGET,)},
            "not trained for the budget of the standings \\(steps 5000 here, 60 there\\)",
        ),
        (
            {"measures": (OTHER_MEASURE,)},
            r"another protocol[\s\S]*\(bbbb2222\): with other samples[\s\S]*\(aaaa1111\): how it is measured",
        ),
        ({"measures": ()}, "was not scored by score, by which the standings are ranked"),
    ],
)
def test_what_was_made_otherwise_is_refused(changes, message):
    with pytest.raises(RequestError, match=message):
        standings.placement(entered(SEEDS, **changes), made(KEPT), "mine", ["ring"])


def test_a_value_that_ranks_nothing_is_refused():
    with pytest.raises(RequestError, match="not ranked by 'scor'; did you mean 'score'"):
        standings.placement(entered(SEEDS), made(KEPT), "mine", ["ring"], ["scor"])


# ---------------------------------------------------------------------------------------------- this machine


def test_the_same_numbers_agree():
    found = standings.agreement(made({"gan": SEEDS}), made(KEPT), "gan", ["ring"])
    assert (found.agrees, found.same, found.values) == (True, 5, 5)
    assert "5 of 5 values of the same seed are the same to five digits" in report.agreement_sentence(found)


def test_other_numbers_do_not_agree():
    found = standings.agreement(made({"gan": SEEDS + 9}), made(KEPT), "gan", ["ring"])
    assert (found.agrees, found.same) == (False, 0)
    assert "does not agree with the standings: gan" in report.agreement_sentence(found)


def test_seeds_that_failed_agree_with_nothing():
    found = standings.agreement(made({"gan": [NAN] * 5}), made(KEPT), "gan", ["ring"])
    assert found.agrees is False
    assert "by score on ring (5 of 5 seeds failed)" in report.agreement_sentence(found)


def test_one_seed_cannot_tell_whether_machines_agree():
    found = standings.agreement(made({"gan": [0.0]}), made(KEPT), "gan", ["ring"])
    assert found.agrees is None
    assert "cannot be told" in report.agreement_sentence(found)


def test_other_settings_are_no_retraining():
    own = made({"gan": SEEDS})
    own = replace(own, entrants=(replace(own.entrants[0], params={"lr": 0.3}),))
    with pytest.raises(RequestError, match="gan on ring: has other parameters here than in the standings"):
        standings.agreement(own, made(KEPT), "gan", ["ring"])


# ---------------------------------------------------------------------------------------------- what is shown


def outcome(**changes: Any) -> report.Outcome:
    kept, own = made(KEPT), entered(SEEDS + 5.5)
    placed = standings.placement(own, kept, "mine", ["ring"])
    return replace(report.Outcome(kept, own, (placed,), None, (), ("A note.",)), **changes)


def test_as_text():
    text = report.as_text(outcome(), 160)
    assert text.startswith(
        "mine on ring, at its defaults: rank 3 of 5 by score [95 %: 3 to 4]; better than gan; worse"
    )
    assert "A note." in text
    assert [line.split()[1] for line in text.splitlines()[2:7]] == ["kde", "vae", "mine", "wgan", "gan"]


def test_as_json():
    found = json.loads(report.as_json(outcome(), [Path("report.html")]))
    (place,) = found["places"]
    assert (place["rank"], place["low"], place["high"], place["label"]) == (3, 3, 4, "mine")
    assert len(found["comparisons"]) == 4
    assert (found["standings"], found["agrees"], found["files"]) == ("tiny", None, ["report.html"])


def test_the_curve_of_a_new_method_stands_among_the_others(shipped):
    kept = standings.read("tiny")
    search = MethodSearch("mine", ({}, {"lr": 1.0}), np.array([[1.0], [4.0]]), "higher", np.full((2, 1), NAN))
    own = made({"mine-tuned": SEEDS}, searches=(DatasetSearch("ring", "score", "nats", (search,)),))
    placed = standings.placement(own, kept, "mine-tuned", ["ring"])
    found = report.Outcome(kept, own, (placed,), None, (), ())
    plot = report.curves(found, "ring", "mine-tuned")
    assert plot is not None
    assert plot.alt == "Expected best score against the number of trials on ring of mine, gan."
    (block,) = report.template_values(found)["blocks"]
    assert block.plot is not None
    assert [row.label for row in block.table.rows] == [line[1] for line in block.lines]


def test_the_costs_show_both_settings_of_each_method_and_the_reference_as_a_line(shipped):
    kept = standings.read("tiny")
    plot = report.costs(kept, "ring")
    assert plot is not None
    assert plot.alt == "score against seconds of training on ring of vae, wgan, gan."  # the best first
    (ax,) = plot.figure.axes
    points = [
        (line.get_xdata(), line.get_ydata()) for line in ax.lines if line.get_marker() not in ("None", "")
    ]
    means = sorted(round(float(np.ravel(y)[0]), 6) for _, y in points)
    expected = [KEPT[name].mean() + tuned for name in ("gan", "wgan", "vae") for tuned in (0, 1)]
    assert means == pytest.approx(sorted(expected))
    assert {float(np.ravel(x)[0]) for x, _ in points} == {1.25}
    assert [text.get_text() for text in ax.texts] == ["kde"]
    unknown = replace(kept, records=kept.records.assign(train_seconds=NAN))
    assert report.costs(unknown, "ring") is None


def test_the_page_has_a_table_and_five_sentences_for_each_dataset(shipped):
    kept = standings.read("tiny")
    text = report.page(
        [kept], {"tiny": [{"dataset": "ring", "file": "a.png", "alt": "A", "title": "T", "caption": "C"}]}
    )
    assert "## ring" in text
    assert "![A](../results/reference/standings/a.png)" in text
    said = report.conclusions(kept, "ring")
    assert len(said) == 5
    assert said[0].startswith(
        "By score ↑, after the search, vae-tuned is first of 3 methods with 11.00 [9.55, 12.45] nats"
    )  # not kde
    assert said[1] == "With 5 seeds each of the others is worse."
    assert (
        "0 found a setting better than the default in 2 trials. On the seeds of the table 0 of these have"
        in said[2]
    )
    (one,) = kept.searches
    method = replace(one.methods[0], scores=np.array([[1.0], [3.0]]))  # now the second trial is the best
    chosen = replace(kept, searches=(replace(one, methods=(method,)),))
    assert (
        "1 found a setting better than the default in 2 trials. On the seeds of the table 1 of these has"
        in (report.conclusions(chosen, "ring")[2])
    )
    assert "Not shown: 1 dataset can tell no method from the others by ranks" in text
    assert "- score on ring (aaaa1111): how it is measured" in text


def test_the_page_is_what_is_kept():
    script = runpy.run_path(str(ROOT / "scripts" / "standings"))
    assert script["page"]() == (ROOT / "docs" / "standings.md").read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------- a new method


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE.format(name="Mine"), encoding="utf-8")
    return path


def test_a_method_gets_what_is_the_datasets(shipped, mine):
    kept = standings.read("tiny")
    entry = entering.entry([str(mine)], kept, ["ring"])
    (method,) = entry.suite.methods
    assert dict(method.part.params) == {"z_dim": 4, "width": 16}
    assert [(trick.name, dict(trick.params)) for trick in method.tricks] == [("ema", {"decay": 0.9})]  # no r1
    assert (entry.suite.seeds, entry.suite.train.steps, entry.suite.tune) == ((0, 1, 2), 60, None)
    assert entry.notes == (
        "On ring mine has z_dim 4, width 16 and ema (decay 0.9), as the games of the standings have.",
        "mine has no field depth, so its nets are its own; in the standings depth is 2.",
    )


def test_the_search_is_that_of_the_standings(shipped, mine):
    kept = standings.read("tiny")
    search = MethodSearch("gan", ({}, {}), np.array([[1.0], [2.0]]), "lower", np.full((2, 1), NAN))
    kept = replace(kept, searches=(DatasetSearch("ring", "sliced_wasserstein", "", (search,)),))
    entry = entering.entry([str(mine)], kept, ["ring"], tune=True, retrain="gan")
    assert entry.suite.tune is not None
    assert (entry.suite.tune.trials, entry.suite.tune.seeds) == (2, (1000,))
    from ganbench.suite.tune import search_space

    own, again = entry.suite.methods
    assert list(search_space(own, {})) == ["lr"]
    assert search_space(again, {}) == {}  # the baseline is not searched again
    assert again.part.resolved == {**again.part.params}
    with pytest.raises(RequestError, match="does not search on ring as its standings did"):
        entering.entry([str(mine)], standings.read("tiny"), ["ring"], tune=True)
    with pytest.raises(RequestError, match="were made without a search"):
        entering.entry([str(mine)], replace(kept, searches=()), ["ring"], tune=True)


def test_a_suite_that_did_not_make_the_standings_is_refused(shipped, mine):
    kept = standings.read("tiny")
    entrants = tuple(replace(e, train={**TRAIN, "steps": 61}) for e in kept.entrants)
    with pytest.raises(RequestError, match="is not the one that made its standings: on ring it trains for"):
        entering.entry([str(mine)], replace(kept, entrants=entrants), ["ring"])


def test_a_method_that_fits_by_itself_goes_without_tricks(shipped, tmp_path):
    assert call("new", "fit", tmp_path / "own.py").exit_code == 0
    entry = entering.entry([str(tmp_path / "own.py")], standings.read("tiny"), ["ring"])
    assert entry.suite.methods[0].tricks == ()
    assert "own trains by itself and takes no tricks, so it goes without ema" in " ".join(entry.notes)


def test_a_name_of_the_standings_gets_another(shipped, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE.format(name="Gan"), encoding="utf-8")
    assert entering.entry([str(path)], standings.read("tiny"), ["ring"], retrain="gan").label == "my_gan"


def test_samples_are_a_file_for_each_seed(shipped, tmp_path):
    files = [tmp_path / "theirs" / f"{seed}.npz" for seed in range(2)]
    files[0].parent.mkdir()
    for file in files:
        np.savez(file, samples=np.zeros((300, 2), dtype=np.float32))
    kept = standings.read("tiny")
    entry = entering.entry(list(map(str, files)), kept, ["ring"])
    assert (entry.label, entry.suite.methods[0].samples) == ("theirs", tuple(files))
    alone = entering.entry([str(files[0])], kept, ["ring"])
    assert "One file of samples is one seed" in " ".join(alone.notes)
    with pytest.raises(RequestError, match=r"samples are of one dataset; choose it with --on: ring, grid"):
        entering.entry([str(files[0])], kept, ["ring", "grid"])
    with pytest.raises(RequestError, match="there is no such file of samples"):
        entering.entry([str(tmp_path / "none.npz")], kept, ["ring"])


# ---------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{mine}", "--on", "rin"], "no standings have this dataset; did you mean 'ring'?"),
        (
            ["{mine}", "--on", "ring", "--retrain", "gna"],
            "--retrain gna: the standings have no method of this name; did you mean 'gan'?",
        ),
        (["{none}", "--on", "ring"], "none.py: nothing in this file is marked @method"),
        (["{folder}/absent.py", "--on", "ring"], "absent.py: no such file"),
        (["{mine}", "--baseline", "gan"], "the standings have their own methods"),
        (["{mine}", "--method", "gan"], "of several in a file choose with"),
        (["{mine}", "{mine}", "--on", "ring"], "expected one file with a method"),
        (["{mine}", "{folder}"], "expected files alone, or folders of runs alone"),
        (["{folder}", "--tune"], "--tune, --retrain and --out are of a comparison with the standings"),
        (["{folder}", "--on", "ring", "--tune"], "is a run already"),
        (["{folder}", "{folder}", "--on", "ring"], "expected one run"),
        (["{folder}", "--on", "ring"], "no such file; expected the directory that `run` wrote"),
    ],
)
def test_mistakes_are_told(shipped, mine, tmp_path, arguments, message):
    (tmp_path / "none.py").write_text("x = 1\n", encoding="utf-8")
    names = {"mine": mine, "none": tmp_path / "none.py", "folder": tmp_path}
    result = call("compare", *(argument.format(**names) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert message in result.output


@pytest.mark.slow
def test_from_a_suite_to_a_report(tmp_path, monkeypatch):
    """A suite is run and kept; a file, samples and a run are compared with it."""
    kept, suite, run = tmp_path / "kept", tmp_path / "tiny.yaml", tmp_path / "run"
    suite.write_text(SUITE, encoding="utf-8")
    monkeypatch.setattr(standings, "folder", lambda: kept)
    monkeypatch.setattr(entering, "suite_file", lambda name: suite)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(execution, "REPORTS", ())  # nobody reads them
        assert call("run", suite, "--out", run, "--jobs", 2).exit_code == 0
    standings.keep(run, kept)
    frame = ganbench.load_standings("tiny")
    records = ganbench.load_records(run)
    assert frame["value"].tolist() == pytest.approx(records["value"].tolist(), rel=1e-6)
    assert set(frame["label"]) == {"gan", "gan-tuned", "gan+r1", "gan+r1-tuned", "vae", "vae-tuned", "kde"}

    # A file, with the same search and a baseline that is trained again.
    (tmp_path / "mine.py").write_text(MINE.format(name="Mine"), encoding="utf-8")
    result = call("compare", "mine.py", "--on", "tiny", "--tune", "--retrain", "gan", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [(place["label"], place["methods"]) for place in found["places"]] == [
        ("mine", 4),
        ("mine-tuned", 4),
    ]
    assert found["agrees"] is True
    assert any("12 of 12 values of the same seed are the same" in text for text in found["sentences"])
    text = Path(found["files"][0]).read_text(encoding="utf-8")
    assert Path(found["files"][0]) == Path("results/runs/mine-on-ring/report.html")
    for part in ("Among the standings (tiny)", "<mark>mine-tuned</mark>", "Enlarge: Search", "gan+r1-tuned"):
        assert part in text

    # The same run, by one value that was chosen; its own gan is not what is compared.
    result = call(
        "compare", "results/runs/mine-on-ring", "--on", "ring", "--method", "mine", "--metric", "reverse_kl"
    )
    assert result.exit_code == 0, result.output
    assert "mine on ring, at its defaults" in result.stdout
    assert "reverse_kl" in result.stdout

    # Samples.
    rng = np.random.default_rng(0)
    for seed in range(2):
        np.savez(tmp_path / f"s{seed}.npz", samples=rng.normal(size=(300, 2)).astype(np.float32))
    result = call("compare", "s0.npz", "s1.npz", "--on", "ring", "--out", tmp_path / "samples")
    assert result.exit_code == 0, result.output
    assert "nothing is known of its budget" in " ".join(result.stdout.split())
