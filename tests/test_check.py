"""A run against a kept table: the statistics against public ones, each outcome, each format, as a user sees it."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import browser
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import yaml
from click.testing import CliRunner, Result
from fake_run import METHODS, NASTY, FakeRun
from markupsafe import escape

from ganbench import check
from ganbench.analysis import error_rates, reference, stats, verdicts
from ganbench.analysis.check import CheckResult
from ganbench.analysis.summary import summary
from ganbench.analysis.tolerance import Tolerance
from ganbench.analysis.verdicts import OUTCOMES, Outcome
from ganbench.cli.commands import main
from ganbench.contracts import COLUMNS
from ganbench.errors import RequestError, StoreError
from ganbench.report import check as check_formats
from ganbench.report import figures
from ganbench.report import tables as table
from ganbench.store.results import read_records

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parent.parent
SIGNS = {"kde_ll": "higher", "modes": "higher", "recon_mse": "lower", "memorisation": "neither"}
UNITS = {"kde_ll": "nats", "modes": "modes", "recon_mse": "mse", "memorisation": "probability"}
Values = Sequence[float | str]  # of the seeds; a text is how one ended without a value


def records(
    *rows: tuple[str, str, Values], suite: str = "s", dataset: str = "ring", protocol: str = "aaaaaaaa"
) -> list[dict[str, Any]]:
    """Records of (label, metric, values) rows."""
    found = []
    for label, metric, values in rows:
        for seed, value in enumerate(values):
            row: dict[str, Any] = dict.fromkeys(COLUMNS)
            row |= {"suite": suite, "dataset": dataset, "method": "gan", "label": label, "tricks": []}
            row |= {"params": {}, "seed": seed, "metric": metric, "protocol": protocol, "cell": label}
            row |= {"unit": UNITS.get(metric, ""), "better": SIGNS.get(metric, "higher"), "version": "0.1.0"}
            row |= {"seconds": 0.1, "train_seconds": 1.0, "device": "cpu", "dtype": "float32", "stack": 1}
            ended = value if isinstance(value, str) else "ok"
            found.append(row | {"status": ended, "value": None if isinstance(value, str) else float(value)})
    return found


def save(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A run directory of these records."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def keep(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """The kept table of these records, without the other files that `table` writes."""
    path = folder / "summary.csv"
    summary(read_records(save(folder / "kept", rows))).to_csv(path, index=False)
    return path


def judged(
    folder: Path, old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]], *tolerances: str
) -> CheckResult:
    """The verdict on `new` against `old`."""
    return check(save(folder / "run", new), keep(folder, old), tolerances)


def around(mean: float, std: float, n: int = 5) -> list[float]:
    """n values with this mean and this standard deviation."""
    pattern = np.arange(n) - (n - 1) / 2
    return list(mean + std * pattern / pattern.std(ddof=1))


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)], prog_name="ganbench")


# ---------------------------------------------------------------------------------------------- statistics


def sample(*values: Sequence[float]) -> error_rates.Sample:
    """One row for each sequence of seeds."""
    n = np.array([len(row) for row in values])
    std = np.array([np.std(row, ddof=1) if len(row) > 1 else np.nan for row in values])
    return error_rates.Sample(np.array([np.mean(row) for row in values]), std, n)


def entry(values: Sequence[float], **others: Any) -> reference.Entry:
    """The row of a table that seeds with these values have."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    numbers: dict[str, Any] = {
        "mean": float(np.mean(values)),
        "std": std,
        "n_ok": len(values),
        "n": len(values),
    }
    texts = {"protocol": "aaaaaaaa", "unit": "nats", "better": "higher", "failures": {}}
    return reference.Entry("ring", "gan", "kde_ll", **{**texts, **numbers, **others})


def test_p_is_the_greater_of_student_and_welch() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.2, 1.0, 5.0):
        old, new = rng.normal(size=8), rng.normal(0.7, scale, size=5)
        known = [
            scipy.stats.ttest_ind(new, old, equal_var=e, alternative="greater").pvalue for e in (True, False)
        ]
        a, b = sample(old), sample(new)
        assert error_rates.p_greater(b.mean - a.mean, a, b)[0] == pytest.approx(max(known), rel=1e-9)


def test_one_new_seed_is_judged_by_the_spread_of_the_reference() -> None:
    """The prediction interval of the next normal number: t = gap / (s sqrt(1 + 1/n))."""
    old = [1.0, 2.0, 4.0, 5.0]
    a, b = sample(old), sample([9.0])
    t = (9 - 3) / (np.std(old, ddof=1) * (1 + 1 / 4) ** 0.5)
    assert error_rates.p_greater(b.mean - a.mean, a, b)[0] == pytest.approx(scipy.stats.t.sf(t, 3))


@pytest.mark.parametrize(("n", "m"), [(5, 5), (10, 5), (5, 1), (1, 1)])
def test_seeds_without_spread_have_the_greatest_chance_of_a_perfect_split(n: int, m: int) -> None:
    a, b = sample([8.0] * n), sample([7.0] * m)
    q = np.linspace(0, 1, 100_001)
    assert error_rates.p_greater(a.mean - b.mean, a, b)[0] == pytest.approx(
        (q**n * (1 - q) ** m).max(), rel=1e-6
    )
    assert error_rates.p_greater(b.mean - a.mean, a, b)[0] == 1


def test_equivalence_is_that_of_statsmodels() -> None:
    means = pytest.importorskip("statsmodels.stats.weightstats")
    rng = np.random.default_rng(1)
    old, new = rng.normal(size=12), rng.normal(0.1, 1.3, size=9)
    both = means.CompareMeans.from_data(new, old)
    known = max(both.ttost_ind(-1.5, 1.5, usevar=kind)[0] for kind in ("pooled", "unequal"))
    a, b = sample(old), sample(new)
    assert error_rates.p_equal(b.mean - a.mean, np.array([1.5]), a, b)[0] == pytest.approx(known, rel=1e-9)


def test_correction_is_that_of_statsmodels() -> None:
    several = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(2).uniform(size=(3, 20)) ** 3
    known = [several.multipletests(row, method="fdr_bh")[1] for row in p]
    np.testing.assert_allclose(error_rates.corrected(p), known, rtol=1e-12)


@pytest.mark.parametrize("truth", [0.0, 2.0])
def test_the_advised_seeds_tell_in_eight_of_ten_cases(truth: float) -> None:
    """Equal within one, and a difference beyond it, both with a standard deviation of 1.5."""
    few = entry(around(0, 1.5)), entry(around(truth, 1.5))
    advised = verdicts.seeds_to_tell(*few, 1.0, 0.05, 1)
    drawn = np.random.default_rng(3).normal(0, 1.5, size=(2, 3000, advised))
    n, std = np.full(3000, advised), drawn.std(axis=-1, ddof=1)
    a, b = (error_rates.Sample(drawn[i].mean(axis=-1) + i * truth, std[i], n) for i in (0, 1))
    rise = b.mean - a.mean
    told = error_rates.p_greater(rise, a, b) if truth else error_rates.p_equal(rise, np.ones(3000), a, b)
    assert 0.76 < np.mean(told <= 0.05) < 0.86


def test_seeds_to_tell_at_its_ends() -> None:
    pairs = [
        (around(0, 1), around(0, 1), 0.01),
        ([3.0] * 5, [3.5] * 5, 1.0),
        (around(0, 1), around(0.99, 1), 1.0),
    ]
    needed = [verdicts.seeds_to_tell(entry(old), entry(new), limit, 0.05, 3) for old, new, limit in pairs]
    assert needed == [stats.MAX_SEEDS + 1, 0, stats.MAX_SEEDS + 1]


@pytest.fixture(scope="module")
def rates() -> ModuleType:
    """scripts/error-rates."""
    loader = SourceFileLoader("error_rates", str(ROOT / "scripts" / "error-rates"))
    spec = importlib.util.spec_from_loader("error_rates", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def rate(rates: ModuleType, *how: Any, tables: int = 1000) -> float:
    """Share of the simulated tables in which `check` fails."""
    return next(float(row["caught"]) for row in rates.simulate(*how, tables) if row["procedure"] == "check")


@pytest.mark.parametrize("n_ref", [5, 20])
@pytest.mark.parametrize("rows", [1, 20])
def test_false_alarms_of_a_table(rates: ModuleType, n_ref: int, rows: int) -> None:
    """At most 5 % and three standard errors (1,000 tables), whatever the data are."""
    for kind in rates.KINDS:
        assert rate(rates, kind, rows, n_ref, 5, "no row", 0.0) <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5, (
            kind
        )


@pytest.mark.parametrize(
    ("rows", "n_ref", "n_new", "where", "least"),
    [
        (1, 10, 5, "one row", 0.9),
        (8, 5, 5, "one method", 0.9),
        (20, 10, 5, "one method", 0.9),
        (20, 5, 5, "all rows", 0.98),
        (20, 20, 10, "one row", 0.9),
    ],
)
def test_a_shift_of_two_standard_deviations_is_caught(
    rates: ModuleType, rows: int, n_ref: int, n_new: int, where: str, least: float
) -> None:
    margin = 3 * (least * (1 - least) / 1000) ** 0.5
    assert rate(rates, "normal", rows, n_ref, n_new, where, 2.0) >= least - margin


def test_the_kept_rates_are_those_of_the_script(rates: ModuleType) -> None:
    """Their head names the command, their numbers are below 5 % by two standard errors at most."""
    folder = ROOT / "results" / "reference"
    with (folder / "check-error-rates.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["procedure"] == "check"]
    assert "Made by `scripts/error-rates" in (folder / "check-error-rates.md").read_text(encoding="utf-8")
    quiet = [row for row in rows if row["shifted"] == "no row"]
    assert {row["data"] for row in quiet} == set(rates.KINDS)
    assert all(float(row["caught"]) <= 0.05 + 3 * float(row["se"]) for row in quiet)


# ---------------------------------------------------------------------------------------------- outcomes

OLD = {"kde_ll": around(225, 4), "modes": around(6, 0.7), "recon_mse": around(0.2, 0.01)}
OLD |= {"memorisation": around(0.4, 0.02)}


def outcome(folder: Path, metric: str, old: Values, new: Values, *tolerances: str) -> tuple[Outcome, str]:
    """What becomes of one row."""
    (row,) = judged(folder, records(("gan", metric, old)), records(("gan", metric, new)), *tolerances).rows
    return row.outcome, row.sentence


@pytest.mark.parametrize(
    ("metric", "new", "expected"),
    [
        ("kde_ll", around(201.3, 4), "regressed"),
        ("kde_ll", around(250, 4), "improved"),
        ("recon_mse", around(0.3, 0.01), "regressed"),
        ("recon_mse", around(0.1, 0.01), "improved"),
        ("memorisation", around(0.9, 0.02), "changed"),
        ("memorisation", around(0.1, 0.02), "changed"),
        ("memorisation", around(0.41, 0.02), "unclear"),
        ("kde_ll", around(224, 4), "unclear"),
        ("kde_ll", around(225.1, 0.3, 40), "unclear"),
        ("modes", around(5.5, 0.7), "unclear"),
    ],
)
def test_the_means_of_a_row(tmp_path: Path, metric: str, new: Values, expected: Outcome) -> None:
    assert outcome(tmp_path, metric, OLD[metric], new)[0] == expected


def test_worse_beyond_the_noise_but_within_the_tolerance_is_the_same(tmp_path: Path) -> None:
    old, new = around(225, 0.1), around(224, 0.1)
    assert outcome(tmp_path, "kde_ll", old, new)[0] == "same"
    assert outcome(tmp_path, "kde_ll", old, new, "0.1%")[0] == "regressed"
    assert outcome(tmp_path, "kde_ll", old, new, "0.1%", "kde_ll=2")[0] == "same"
    assert outcome(tmp_path, "kde_ll", old, new, "50%", "kde_ll=0.5")[0] == "regressed"


def test_the_tolerance_is_of_the_references_mean_whatever_its_sign(tmp_path: Path) -> None:
    assert outcome(tmp_path, "kde_ll", around(-200, 0.1), around(-201, 0.1))[0] == "same"
    assert outcome(tmp_path, "kde_ll", around(-200, 0.1), around(-203, 0.1))[0] == "regressed"


def test_the_same_seeds_again_are_the_same(tmp_path: Path) -> None:
    for metric, values in OLD.items():
        found, sentence = outcome(tmp_path, metric, values, values)
        assert found == "same"
        assert sentence.endswith("as before (5 against 5 seeds)")
    assert outcome(tmp_path, "modes", [0.0] * 5, [0.0] * 3)[0] == "same"  # where 1 % is nothing
    assert outcome(tmp_path, "modes", [2.5], [2.5])[0] == "same"


def test_rounding_of_float32_is_no_change(tmp_path: Path) -> None:
    """Also where no tolerance is left and every seed has one value, so that the tests would call any digit worse."""
    for old in (around(225, 4), around(0, 4), [8.0] * 5, [8.0]):
        rounded = [value + 4e-7 * max(map(abs, old)) for value in old]
        found, sentence = outcome(tmp_path, "recon_mse", old, rounded, "0%")
        assert found == "same"
        assert ", the same within rounding (" in sentence
    assert outcome(tmp_path, "recon_mse", [8.0] * 5, [8.0 + 1e-4] * 5, "0%")[0] == "regressed"
    assert not verdicts.within_rounding(entry([1.0, 2.0]), entry([1.0, 2.001]))
    assert not verdicts.within_rounding(entry([1.5]), entry([1.0, 2.0]))


def test_what_moved_says_how_else_it_was_trained(tmp_path: Path) -> None:
    """Seeds that were added later have another stack, so that 0.6 % may be rounding. Of what is the same, nothing."""
    old = records(("gan", "memorisation", around(0.5, 1e-5)), ("gan", "modes", [6.0] * 5))
    new = records(("gan", "memorisation", around(0.503, 1e-5)), ("gan", "modes", [6.0] * 5))
    for row in new:
        row["stack"], row["device"] = (3 if row["seed"] < 3 else 2), "cuda"
    found = judged(tmp_path, old, new, "0.1%")
    assert [row.outcome for row in found.rows] == ["changed", "same"]
    assert found.rows[0].sentence.endswith(
        "; trained on cuda, in the reference cpu; trained in stacks of 2, 3, in the reference 1"
    )
    assert found.rows[1].sentence.endswith("as before (5 against 5 seeds)")
    (note,) = check_formats.notes(found)
    assert "differ by rounding" in note
    assert note in check_formats.as_markdown(found)
    assert json.loads(check_formats.as_json(found))["notes"] == [note]
    assert "differ by rounding" in " ".join(check_formats.as_text(found).split())
    assert check_formats.notes(judged(tmp_path, old, old)) == []
    # A table of an earlier version does not say how it was trained.
    kept = keep(tmp_path, old)
    table = pd.read_csv(kept).drop(columns=["device", "stack"])
    table.to_csv(kept, index=False)
    assert check_formats.notes(check(tmp_path / "run", kept, "0.1%")) == []


def test_environments_that_differ_are_named(tmp_path: Path) -> None:
    for name, mean, torch in (("old", 225, "2.9"), ("new", 201, "2.14")):
        rows = records(("gan", "kde_ll", around(mean, 4)))
        run = save(tmp_path / name, rows)
        (run / "tables").mkdir()
        summary(read_records(run)).to_csv(run / "tables" / "summary.csv", index=False)
        card = {"versions": {"torch": torch, "numpy": "2.4"}, "cores": 2, "command": name}
        (run / "environment.json").write_text(json.dumps(card), encoding="utf-8")
    found = check(tmp_path / "new", tmp_path / "old" / "tables" / "summary.csv")
    assert found.environment == {"torch": ("2.9", "2.14")}
    assert "torch 2.14 (2.9)" in check_formats.notes(found)[0]
    again = check(tmp_path / "new", tmp_path / "new" / "tables" / "summary.csv")
    assert (again.environment, check_formats.notes(again)) == ({}, [])


def test_every_seed_at_one_value_and_then_at_another(tmp_path: Path) -> None:
    assert outcome(tmp_path, "modes", [8.0] * 5, [7.0] * 5)[0] == "regressed"
    assert outcome(tmp_path, "modes", [8.0] * 5, [7.0])[0] == "unclear"
    assert outcome(tmp_path, "modes", [8.0], [7.0])[0] == "unclear"


def test_one_row_in_many_needs_more_than_one_alone(tmp_path: Path) -> None:
    """1.6 standard deviations: p = 0.018 alone, 0.36 among twenty."""
    rows = [(f"m{i}", "kde_ll", around(100, 10)) for i in range(20)]
    worse = [*rows[:-1], ("m19", "kde_ll", around(84, 10))]
    assert judged(tmp_path, records(rows[-1]), records(worse[-1])).rows[0].outcome == "regressed"
    verdict = judged(tmp_path, records(*rows), records(*worse))
    assert verdict.rows[-1].outcome == "unclear"
    assert verdict.ok


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([6.0] * 10, [6.0] * 5, "same"),
        ([6.0] * 5, [6.0] * 4 + ["diverged"], "fewer seeds"),
        ([6.0] * 10, [6.0] * 4 + ["diverged"], "fewer seeds"),
        ([6.0] * 4 + ["diverged"], [6.0] * 3 + ["diverged"] * 2, "fewer seeds"),
        ([6.0] * 4 + ["diverged"], [6.0] * 4 + ["timeout"], "same"),
        ([6.0] * 9 + ["diverged"], [6.0] * 4 + ["diverged"], "same"),  # a tenth of five is up to one
        ([6.0] * 9 + ["diverged"], [6.0] * 5, "same"),
        ([6.0] * 8 + ["diverged"] * 2, [6.0] * 5, "improved"),
        ([6.0] * 5, ["lost"] * 5, "fewer seeds"),
        (["oom"] * 5, [6.0] * 5, "improved"),
        (["failed"] * 5, ["failed"] * 5, "unclear"),
        ([6.0] * 5, [5.0] * 4 + ["diverged"], "regressed"),
        ([5.0] * 5, [6.0] * 4 + ["diverged"], "fewer seeds"),  # survivors are no improvement
    ],
)
def test_seeds_that_failed(tmp_path: Path, old: Values, new: Values, expected: Outcome) -> None:
    found, sentence = outcome(tmp_path, "modes", old, new)
    assert found == expected
    endings = {value for value in [*old, *new] if isinstance(value, str)}
    assert found == "unclear" or all(f" {ending}" in sentence for ending in endings)


def test_missing_new_and_changed_protocols(tmp_path: Path) -> None:
    old = records(("gan", "modes", [6.0] * 5), ("vae", "modes", [2.0] * 5), ("kde", "modes", [8.0] * 5))
    new = records(("vae", "modes", [0.0] * 5), protocol="bbbbbbbb") + records(
        ("kde", "modes", [8.0] * 5), ("mine", "modes", [8.0, 7.0])
    )
    verdict = judged(tmp_path, old, new)
    assert {row.label: (row.outcome, row.sentence) for row in verdict.rows} == {
        "gan": ("missing", "ring, gan: modes is in the reference but not in the results"),
        "vae": (
            "protocol changed",
            "ring, vae: modes was measured in another way (protocol bbbbbbbb, in the reference aaaaaaaa), so it is "
            "not compared; if that was meant, keep a new reference",
        ),
        "kde": ("same", "ring, kde: modes is 8.00 as before (5 against 5 seeds)"),
        "mine": ("new", "ring, mine: modes is not in the reference: 7.50 over 2 seeds"),
    }
    assert [row.label for row in verdict.failed] == ["gan", "vae"]
    assert verdict.headline == (
        "s against summary.csv: 2 of 4 rows fail (1 missing, 1 protocol changed, 1 same, 1 new)"
    )


@pytest.mark.parametrize(
    ("old", "new", "outcome", "words"),
    [
        ("", "why", "not valid", "is not valid, but in the reference it is (1 of 5 seeds: why)"),
        ("why", "why", "unclear", "is not valid, now as in the reference (1 of 5 seeds: why)"),
        ("why", "", "improved", "is valid now, in the reference it is not (1 of 5 seeds: why)"),
    ],
)
def test_values_that_are_not_valid_are_not_compared(
    tmp_path: Path, old: str, new: str, outcome: Outcome, words: str
) -> None:
    tables = [records(("gan", "recon_mse", around(mean, 0.1))) for mean in (1.0, 9.0)]
    for rows, sentence in zip(tables, (old, new), strict=True):
        rows[2]["invalid"] = sentence or None
    verdict = judged(tmp_path, *tables)
    (row,) = verdict.rows
    assert (row.outcome, row.fails, row.p) == (outcome, outcome == "not valid", None)
    assert row.sentence == f"ring, gan: recon_mse {words}"
    assert "†: not valid." in check_formats.as_markdown(verdict)
    side = json.loads(check_formats.as_json(verdict))["rows"][0]["result"]
    assert side["invalid"] == (f"1 of 5 seeds: {new}" if new else "")


@pytest.mark.parametrize(("metric", "floors"), [("kde_ll", (0.5, 1.5)), ("recon_mse", (2.0, 0.5))])
def test_values_at_their_floor_are_marked(tmp_path: Path, metric: str, floors: tuple[float, float]) -> None:
    """A mean of 1 is above the first floor of kde_ll, and not above the second."""
    old, new = (records(("gan", metric, around(1.0, 0.01))) for _ in floors)
    for rows, floor in zip((old, new), floors, strict=True):
        for row in rows:
            row["floor"] = floor
    verdict = judged(tmp_path, old, new)
    (row,) = verdict.rows
    before, now = check_formats.cells(row)[3:5]
    assert ("‡" in before, now.endswith("‡")) == (False, True)
    assert "‡: no better than the floor, which a trivial sampler reaches." in check_formats.as_markdown(
        verdict
    )
    assert (row.reference.floor, row.result.floor) == floors
    # Tables of earlier versions have no floors.
    kept = tmp_path / "summary.csv"
    pd.read_csv(kept).drop(columns=["floor", "at_floor"]).to_csv(kept, index=False)
    (row,) = check(tmp_path / "run", kept).rows
    assert math.isnan(row.reference.floor)
    assert not row.reference.at_floor


def test_another_unit_is_another_protocol(tmp_path: Path) -> None:
    new = [{**row, "better": "lower"} for row in records(("gan", "modes", [6.0] * 5))]
    assert judged(tmp_path, records(("gan", "modes", [6.0] * 5)), new).rows[0].outcome == "protocol changed"


def test_of_two_protocols_the_references_is_taken(tmp_path: Path) -> None:
    old = records(("gan", "modes", [6.0] * 5))
    new = records(("gan", "modes", [1.0] * 5), protocol="bbbbbbbb") + old
    assert [row.outcome for row in judged(tmp_path, old, new).rows] == ["same"]


def test_metrics_that_are_not_ranked_are_a_family_of_their_own(tmp_path: Path) -> None:
    """A hundred of them take nothing from the one that can fail."""
    many = [(f"m{i}", "memorisation", around(0.5, 0.1)) for i in range(100)]
    rows = [*many, ("gan", "kde_ll", around(100, 10))]
    worse = [*many, ("gan", "kde_ll", around(84, 10))]
    assert judged(tmp_path, records(*rows), records(*worse)).rows[-1].outcome == "regressed"


def test_sentences(tmp_path: Path) -> None:
    found = judged(
        tmp_path,
        records(("gan", "kde_ll", around(225, 4)), dataset="mnist"),
        records(("gan", "kde_ll", around(201.3, 4)), dataset="mnist"),
    )
    assert found.rows[0].sentence == (
        "mnist, gan: kde_ll fell from 225.0 to 201.3 nats (5 against 5 seeds; tolerance 2.25, corrected p < 0.0001)"
    )
    fell = outcome(tmp_path, "kde_ll", around(225, 4), around(222, 4))[1]
    assert fell == (
        "ring, gan: kde_ll fell from 225.0 to 222.0 nats, neither shown worse nor shown equal (5 against 5 seeds; "
        "tolerance 2.25, corrected p = 0.13); about 23 seeds on each side would tell"
    )
    rose = outcome(tmp_path, "kde_ll", around(225, 40), around(225.2, 40, 3))[1]
    assert rose.endswith("; more than 1,000 seeds on each side would be needed to tell")
    steady = outcome(tmp_path, "kde_ll", around(225, 0.5), around(224.9, 0.5))[1]
    assert (
        steady
        == "ring, gan: kde_ll fell from 225.00 to 224.90 nats, the same within 2.25 (5 against 5 seeds)"
    )
    failed = outcome(tmp_path, "modes", [6.0] * 5, [*around(5.9, 0.1, 3), "diverged", "timeout"])[1]
    assert failed == (
        "ring, gan: modes has a value for 3 of 5 seeds (1 diverged, 1 timeout), in the reference for 5 of 5; over "
        "these it fell from 6.000 to 5.900"
    )


# ---------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("texts", "metric", "mean", "expected"),
    [
        ([], "kde_ll", -200.0, 2.0),
        (["5%"], "kde_ll", -200.0, 10.0),
        (["5%", "kde_ll=2"], "kde_ll", -200.0, 2.0),
        (["kde_ll=2"], "modes", 6.0, 0.06),
        (["kde_ll = 1.5 %", "3%"], "kde_ll", 100.0, 1.5),
        (["a=b=0"], "a=b", 100.0, 0.0),
    ],
)
def test_tolerances(texts: list[str], metric: str, mean: float, expected: float) -> None:
    assert Tolerance.parse(texts).of(metric, mean) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "5", "x", "kde_ll", "kde_ll=", "=5%", "-1%", "nan%", "inf%", "kde_ll=1%%", "%"]
)
def test_tolerances_that_say_nothing(text: str) -> None:
    with pytest.raises(RequestError, match="expected 5%, METRIC=2 or METRIC=1%"):
        Tolerance.parse([text])


def test_a_tolerance_of_no_metric(tmp_path: Path) -> None:
    rows = records(("gan", "kde_ll", OLD["kde_ll"]))
    with pytest.raises(RequestError, match="'kde_l': neither table has such a metric; did you mean 'kde_ll'"):
        judged(tmp_path, rows, rows, "kde_l=2")


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1.0, float("nan")])
def test_an_alpha_that_is_none(tmp_path: Path, alpha: float) -> None:
    with pytest.raises(RequestError, match=re.escape("expected a probability above 0 and below 0.5")):
        check(tmp_path, tmp_path, alpha=alpha)


def test_another_budget_is_no_reference(tmp_path: Path) -> None:
    rows = ("gan", "kde_ll", OLD["kde_ll"])
    with pytest.raises(RequestError) as caught:
        judged(tmp_path, records(rows, suite="paper-full"), records(rows, suite="paper-ci"))
    text = str(caught.value)
    assert "is a table of the suite 'paper-full', but the results are of 'paper-ci'" in text
    assert "numbers of different budgets are never compared" in text


def test_a_run_without_records(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no records to check"):
        judged(tmp_path, records(("gan", "kde_ll", OLD["kde_ll"])), [])
    with pytest.raises(StoreError, match="no such file"):
        check(tmp_path / "nowhere", tmp_path / "summary.csv")


def test_records_will_do_for_a_run(tmp_path: Path) -> None:
    rows = records(("gan", "kde_ll", OLD["kde_ll"]))
    assert check(read_records(save(tmp_path, rows)), keep(tmp_path, rows), "2%").ok


# ---------------------------------------------------------------------------------------------- the reference

HEAD = ",".join(reference.COLUMNS)
GOOD = "s,ring,gan,kde_ll,aaaaaaaa,nats,higher,1.5,0.5,5,5,0,0,0,0,0"


def test_what_table_writes_is_read_back(tmp_path: Path) -> None:
    """Texts that a spreadsheet would run, too."""
    FakeRun(tmp_path, suite="=suite").write(["ring"], [*METHODS, *NASTY], seeds=3)
    table.write(tmp_path)
    suite, rows = reference.read(tmp_path / "tables" / "summary.csv")
    assert suite == "=suite"
    assert "=cmd" in {row.label for row in rows}
    for old, new in zip(rows, reference.rows_of(summary(read_records(tmp_path))), strict=True):
        assert str(old) == str(new)
    assert check(tmp_path, tmp_path / "tables" / "summary.csv").ok


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; expected the tables/summary.csv of an earlier run"),
        ("", "is empty; expected the tables/summary.csv of an earlier run"),
        ("\x00\n", "row 1 has no column 'suite'; expected the tables/summary.csv of an earlier run, found: "),
        (b"\xff\xfe", "cannot be read as a table in CSV ('utf-8' codec"),
        (HEAD, "has a header but no rows, so there is nothing to compare with"),
        (HEAD.replace(",std", ""), "row 1 has no column 'std'; expected the tables/summary.csv of"),
        (f"{HEAD},mean\n{GOOD},1", "row 1 has two columns 'mean'; expected one"),
        (HEAD.replace(",", ";"), "row 1 has no column 'suite'"),
        (f"{HEAD}\n{GOOD}\n{GOOD},7", "row 3 has 17 columns; expected 16, as in the header"),
        (f"{HEAD}\n{GOOD}\n{GOOD}", "row 3, column 'metric': a second row of ring, gan, kde_ll; expected one"),
        (f"{HEAD}\n{GOOD}\nt,line{GOOD[6:]}", "row 3, column 'suite': 's' and 't'; expected one suite in a table"),
        (f"{HEAD}\n{GOOD.replace('1.5', 'high')}", "row 2, column 'mean': 'high' is not a number"),
        (f"{HEAD}\n{GOOD.replace('1.5', 'inf')}", "row 2, column 'mean': 'inf' is not a finite number"),
        (f"{HEAD}\n{GOOD.replace('1.5', '')}", "row 2, column 'mean': is empty with 5 seeds that are ok"),
        (f"{HEAD}\n{GOOD.replace('0.5', '')}", "row 2, column 'std': '' does not fit 5 seeds that are ok"),
        (f"{HEAD}\n{GOOD.replace('0.5', '-1')}", "row 2, column 'std': '-1' does not fit 5 seeds that are ok"),
        (f"{HEAD}\n{GOOD.replace('5,5,0', '5,5.0,0')}", "row 2, column 'n': '5.0' is not a whole number of seeds"),
        (f"{HEAD}\n{GOOD.replace('5,5,0', '5,6,0')}", "row 2, column 'n': 6 seeds, but 5 ok and 0 failed"),
        (f"{HEAD}\n{GOOD.replace('higher', 'up')}", "row 2, column 'better': 'up'; expected one of: higher, lower"),
    ],
)  # fmt: skip
def test_a_reference_that_is_wrong(tmp_path: Path, text: str | bytes | None, message: str) -> None:
    path = tmp_path / "kept.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RequestError) as caught:
        reference.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_reference_of_a_million_rows_is_refused(tmp_path: Path) -> None:
    path = keep(tmp_path, records(("gan", "modes", [8.0, 7.0])))
    header, row = path.read_text("utf-8").splitlines(keepends=True)
    rows = [row.replace(",gan,", f",gan {i},") for i in range(3)]
    for limit, refused in ((3, False), (2, True)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference, "MAX_ROWS", limit)
            path.write_text(header + "".join(rows), encoding="utf-8")
            if refused:
                with pytest.raises(RequestError, match="has more than 2 rows; expected the tables"):
                    reference.read(path)
            else:
                assert len(reference.read(path)[1]) == 3


def test_a_pipe_in_place_of_a_reference_is_refused_and_not_waited_for(
    runs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    kept, good, _ = runs
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for options in (("--against", pipe), ("--against", kept, "--output", pipe)):
        done = command(good, *options)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "a pipe or a device; expected " in done.stderr
    assert pipe.is_fifo()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_exit_code_1_of_a_check_means_that_a_table_got_worse(
    runs: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, good, bad = runs
    # Whatever becomes of the output: with /dev/full nobody learns the verdict, so that a good one is an error.
    line = '"$1" -m ganbench check "$2" --against "$3"'
    for run, output, code in ((good, "/dev/full", 2), (bad, "/dev/full", 1), (bad, "&-", 1), (good, "&-", 0)):
        shell = ["bash", "-c", f"{line} >{output}", "bash", sys.executable, str(run), str(kept)]
        done = subprocess.run(shell, capture_output=True, text=True, check=False, cwd=ROOT)
        assert (done.returncode, "bug" in done.stderr) == (code, False)

    def broken(*arguments: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("ganbench.analysis.check.check", broken)
    done = command(good, "--against", kept)
    assert (done.exit_code, "this is a bug" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "results" / "reference").rglob("*.csv")), ids=lambda path: path.stem
)
def test_the_tables_that_are_kept_here_can_be_references(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("\n", 1)[0]
    if "n_ok" in head and "protocol" in head:
        assert reference.read(path)[1]


# ---------------------------------------------------------------------------------------------- as a user


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(a kept table, the same run, a run in which every outcome occurs); with names that must be escaped."""
    folder = tmp_path_factory.mktemp("runs")
    FakeRun(folder / "good", suite="fake <&>").write(["ring", "digits"], [*METHODS, *NASTY], seeds=5)
    path = table.write(folder / "good")[0]
    lines = (folder / "good" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [spoilt(json.loads(line)) for line in lines]
    rows = [row for row in rows if row["metric"] != "recon_mse" or row["label"] != "gan"]
    save(folder / "bad", [*rows, {**rows[-1], "label": "bell\x07 ]]> \ufffe", "status": "ok", "value": 1.0}])
    return path, folder / "good", folder / "bad"


def spoilt(row: dict[str, Any]) -> dict[str, Any]:
    """A record of the run in which something went wrong."""
    changes: dict[str, Any] = {}
    where = (row["label"], row["metric"])
    if where == ("kde", "modes"):
        changes = {"protocol": "bbbbbbbb"}
    elif row["label"] == "kde" and row["seed"] == 4:
        changes = {"value": None, "status": "timeout"}
    elif where == ("gan", "modes"):
        changes = {"value": 4.0, "status": "ok"}
    elif row["value"] is not None and where in (
        ("gan+unrolling", "kde_ll"),
        ("<script>alert(1)</script>", "kde_ll"),
    ):
        changes = {"value": row["value"] - 20 if "gan" in row["label"] else row["value"] + 20}
    elif row["value"] is not None and row["metric"] == "high_quality_pct":
        changes = {"value": row["value"] + 0.3 * row["seed"]}
    elif row["value"] is not None and row["metric"] == "memorisation":
        changes = {"better": "higher"}
    return {**row, **changes}


def test_nothing_is_wrong(runs: tuple[Path, Path, Path]) -> None:
    kept, good, _ = runs
    done = command(good, "--against", kept)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "fake <&> against summary.csv: none of" in done.stdout.splitlines()[-1]


def test_text(runs: tuple[Path, Path, Path]) -> None:
    """Sentences in a column, those that fail last, and not wider than a terminal."""
    kept, _, bad = runs
    done = command(bad, "--against", kept)
    assert (done.exit_code, done.stderr) == (1, "")
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout
    words = " ".join(done.stdout.split())
    assert "regressed ring, gan+unrolling: kde_ll fell from" in words
    assert words.index("improved ring") < words.index("fewer seeds ring") < words.index("missing ring")
    assert "rows fail (" in words[-200:]


def test_colours_are_for_terminals(runs: tuple[Path, Path, Path]) -> None:
    kept, _, bad = runs
    assert "\x1b[1;31mregressed" in check_formats.as_text(check(bad, kept), color=True)


def test_json_has_what_is_documented(runs: tuple[Path, Path, Path]) -> None:
    kept, _, bad = runs
    done = command(bad, "--against", kept, "--format", "json")
    found = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(name))
    assert done.exit_code == 1
    assert list(found) == [
        "schema",
        "ok",
        "suite",
        "reference",
        "alpha",
        "headline",
        "counts",
        "notes",
        "rows",
    ]
    assert {row["outcome"] for row in found["rows"]} == set(OUTCOMES) - {"changed", "not valid"}
    assert found["counts"]["regressed"] == sum(row["outcome"] == "regressed" for row in found["rows"])
    row = next(row for row in found["rows"] if row["outcome"] == "regressed")
    names = [
        "dataset",
        "label",
        "metric",
        "outcome",
        "fails",
        "sentence",
        "tolerance",
        "p",
        "reference",
        "result",
    ]
    assert list(row) == names
    assert row["p"] < 0.05
    assert row["result"]["mean"] < row["reference"]["mean"] - row["tolerance"]
    assert all(f"`{name}`" in PAGE for name in [*found, *row, *row["reference"]])
    assert all(f"| {outcome} |" in PAGE for outcome in OUTCOMES)


def test_junit_is_what_parsers_expect(runs: tuple[Path, Path, Path]) -> None:
    """As pytest writes it: suites, a suite with its counts, cases with classname, name, time."""
    kept, _, bad = runs
    done = command(bad, "--against", kept, "--format", "junit")
    verdict = check(bad, kept)
    root = ElementTree.fromstring(done.stdout.encode())
    suite = root[0]
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases) == len(verdict.rows)
    failures = [failure for case in cases for failure in case.findall("failure")]
    assert int(suite.attrib["failures"]) == len(failures) == len(verdict.failed)
    assert [failure.text for failure in failures] == [row.sentence for row in verdict.failed]
    assert all(failure.attrib["message"] == failure.text for failure in failures)
    assert all(set(case.attrib) == {"classname", "name", "time"} for case in cases)
    assert cases[0].attrib["classname"] == "fake <&>.ring.gan"


def test_markdown_for_a_pull_request(runs: tuple[Path, Path, Path]) -> None:
    """The verdict first, then what matters, then all rows folded away; nothing of a name is markup."""
    kept, good, bad = runs
    text = command(bad, "--against", kept, "--format", "markdown").stdout
    verdict = check(bad, kept)
    assert text.startswith("### ❌ fake &lt;&amp;&gt; against summary.csv: ")
    head, rest = text.split("<details>")
    assert head.count("\n- **") == sum(row.fails or row.outcome == "improved" for row in verdict.rows)
    assert rest.count("\n| ") == len(verdict.rows) + 2
    assert "<script" not in text
    assert all(line.replace("\\|", "").count("|") == 7 for line in rest.splitlines() if line.startswith("|"))
    good_text = command(good, "--against", kept, "--format", "markdown").stdout
    assert good_text.startswith("### ✅ ")
    assert "- **" not in good_text


def test_output_is_a_file(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    kept, good, bad = runs
    path = tmp_path / "check.xml"
    done = command(bad, "--against", kept, "--format", "junit", "--output", path)
    assert done.exit_code == 1
    assert done.stdout == f"{check(bad, kept).headline}\n{path}\n"
    assert path.read_text(encoding="utf-8") == command(bad, "--against", kept, "--format", "junit").stdout
    assert command(good, "--against", kept, "--output", path).exit_code == 0
    assert list(tmp_path.iterdir()) == [path]
    nowhere = command(good, "--against", kept, "--output", tmp_path / "no" / "check.xml")
    assert (nowhere.exit_code, nowhere.stdout) == (2, "")
    assert (
        nowhere.stderr == f"error: {tmp_path}/no/check.xml: the folder {tmp_path}/no does not exist; "
        "create it, or give another --output\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Missing option '--against'"),
        (["--against", "nowhere.csv"], "error: nowhere.csv: no such file"),
        (
            ["--against", str(ROOT / "results" / "reference" / "quickstart.csv")],
            "of the suite 'quickstart', but",
        ),
        (["--tolerance", "kde=2"], "did you mean 'kde_ll'?"),
        (["--tolerance", "2"], "error: tolerance '2': expected 5%"),
        (["--alpha", "2"], "error: alpha is 2.0; expected"),
        (["--format", "xml"], "'xml' is not one of 'text', 'json', 'junit', 'markdown'"),
    ],
)
def test_requests_that_are_wrong(runs: tuple[Path, Path, Path], options: list[str], message: str) -> None:
    kept, good, _ = runs
    against = [] if not options or "--against" in options else ["--against", kept]
    done = command(good, *against, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_options_reach_the_check(runs: tuple[Path, Path, Path]) -> None:
    kept, _, bad = runs
    found = json.loads(
        command(bad, "--against", kept, "--tolerance", "90%", "--tolerance", "kde_ll=30", "--alpha", "0.01",
                "--format", "json").stdout
    )  # fmt: skip
    assert found["alpha"] == 0.01
    assert "regressed" not in found["counts"]
    assert {row["tolerance"] for row in found["rows"] if row["metric"] == "kde_ll"} <= {30.0, None}


# ---------------------------------------------------------------------------------------------- the fixture


def test_the_fixture_of_pytest(runs: tuple[Path, Path, Path], pytester: pytest.Pytester) -> None:
    kept, good, bad = runs
    pytester.makepyfile(f"""
        import pytest
        from ganbench import RequestError

        def test_good(ganbench_check):
            assert ganbench_check({str(good)!r}, {str(kept)!r}).ok

        def test_tolerant(ganbench_check):
            ganbench_check({str(bad)!r}, {str(kept)!r}, tolerance=["90%", "kde_ll=30"])

        def test_bad(ganbench_check):
            ganbench_check({str(bad)!r}, {str(kept)!r})

        def test_wrong(ganbench_check):
            with pytest.raises(RequestError, match="no such file"):
                ganbench_check({str(good)!r}, "nowhere.csv")
    """)
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    done.assert_outcomes(passed=2, failed=2)
    verdict = check(bad, kept)
    done.stdout.fnmatch_lines([f"*{verdict.headline[:60]}*"])
    text = done.stdout.str()
    assert all(f"{row.outcome}: {row.sentence}" in text for row in verdict.failed)
    assert "pytest_plugin.py" not in text  # no traceback into ganbench


def test_the_plugin_is_registered_and_light() -> None:
    (entry,) = (e for e in importlib.metadata.entry_points(group="pytest11") if e.name == "ganbench")
    assert entry.value == "ganbench.pytest_plugin"
    code = (
        "import sys, ganbench.pytest_plugin; sys.exit(bool({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------------------------------------- the report


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Glyph")  # of the label with control characters
def test_the_report_tells_what_was_found(
    runs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same verdict and sentences, escaped; nothing wider than a phone. Without figures, which test_report has."""
    monkeypatch.setattr(figures, "figures", lambda run, missing: iter(()))
    kept, good, bad = runs
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    shutil.copy(bad / "records.jsonl", tmp_path)
    done = CliRunner().invoke(main, ["report", str(tmp_path), "--against", str(kept)])
    assert done.output == f"{tmp_path / 'report.html'}\n"
    text, verdict = (tmp_path / "report.html").read_text(encoding="utf-8"), check(bad, kept)
    section = text[text.index('<h2 id="against">') :].split("</section>")[0]
    assert str(escape(verdict.headline)) in section
    assert all(f": {escape(row.sentence)}</li>" in section for row in verdict.failed)
    assert section.count("<tr title=") == len(verdict.rows)
    assert "<script" not in section
    if (program := browser.found()) is None:
        pytest.skip("no Chromium on the PATH")
    with browser.Browser(program, tmp_path / "profile") as page:
        page.open(tmp_path / "report.html", 375)
        page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.run("document.documentElement.scrollWidth") <= 375
        assert page.problems == []


def test_a_tolerance_of_the_report_needs_a_reference(runs: tuple[Path, Path, Path]) -> None:
    _, good, _ = runs
    done = CliRunner().invoke(main, ["report", str(good), "--tolerance", "5%"])
    assert done.exit_code == 2
    assert "give --against REF.csv too" in done.stderr


# ---------------------------------------------------------------------------------------------- docs/ci.md

PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The page's code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_workflows_of_the_page_are_workflows() -> None:
    assert len(blocks("yaml")) == 2
    for text in blocks("yaml"):
        found = yaml.safe_load(text)
        assert found[True] == "pull_request"  # what YAML 1.1 makes of `on`
        for job in found["jobs"].values():
            assert job["runs-on"] == "ubuntu-latest"
            assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_the_commands_of_the_page_are_right() -> None:
    """Their options exist, and parse."""
    runs = [step.get("run", "") for text in blocks("yaml") for job in yaml.safe_load(text)["jobs"].values()
            for step in job["steps"]]  # fmt: skip
    lines = [
        line for text in [*blocks("sh"), *runs] for line in text.splitlines() if "ganbench check" in line
    ]
    assert len(lines) >= 3
    for line in lines:
        words = shlex.split(line.replace("|| true", ""))[2:]
        main.commands["check"].make_context(
            "check", [word.replace("results/runs/mine", "docs") for word in words]
        )


def test_the_python_of_the_page_is_python() -> None:
    for text in blocks("python"):
        compile(text, "docs/ci.md", "exec")


def test_the_error_rates_of_the_page_are_those_that_were_measured() -> None:
    with (ROOT / "results" / "reference" / "check-error-rates.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["procedure"] == "check" and row["shift"] == "2.0"]
    where = {"only row": ("one row", "1"), "one row of": ("one row", ""), "one method of": ("one method", "")}
    sizes = ["5 5", "5 10", "5 20", "10 10", "10 20"]
    lines = re.findall(
        r"^\| (?:the )?(only row|one row of|one method of) ?(\d*)[^|]*\|(.*)\|$", PAGE, re.MULTILINE
    )
    assert len(lines) == 7
    for what, size, cells in lines:
        shifted, alone = where[what]
        own = {
            f"{r['n_new']} {r['n_ref']}": r
            for r in rows
            if (r["shifted"], r["rows"]) == (shifted, alone or size)
        }
        assert [f"{100 * float(own[key]['caught']):.0f}" for key in sizes] == [
            c.strip() for c in cells.split("|")
        ]
