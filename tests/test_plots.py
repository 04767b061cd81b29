"""Plots: which there are, what they show, and that nothing missing stops them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from fake_run import METHODS, NASTY, FakeMethod, FakeRun, write_arrays
from PIL import Image

from ganbench import scaffold
from ganbench.errors import StoreError
from ganbench.metrics.figures import latent, memorisation, modes, reconstruction
from ganbench.report import figures, page, style, tables
from ganbench.store.files import Folder
from ganbench.store.layout import file_name
from ganbench.store.results import Dataset, LazyTensors, Run, open_run

SMALL = (METHODS[0], NASTY[0], NASTY[1], FakeMethod("broken", failures=((0, "failed"), (1, "timeout"))))


def opened(folder: Path) -> Run:
    """The run in a folder, as the command that made it opens it."""
    return open_run(folder, trusted=True)


def styled(run: Run, metric: str, dataset: Dataset) -> style.Style:
    """What a metric draws with."""
    return style.Style(metric, dataset, run.cells, style.colours(run.labels))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    FakeRun(path).write(["ring", "digits"], SMALL, seeds=2)
    return path


@pytest.fixture(scope="module")
def drawn(folder: Path) -> dict[str, figures.Plot]:
    with style.style():
        return {plot.name: plot for plot in figures.figures(opened(folder))}


def texts(plot: figures.Plot) -> list[str]:
    """All that is written in a figure."""
    from matplotlib.text import Text

    return [text.get_text() for text in plot.figure.findobj(Text) if isinstance(text, Text)]


@pytest.mark.parametrize("shape", [(1,), (2,)])
def test_examples_that_are_all_equal_are_drawn(shape: tuple[int, ...]) -> None:
    """Axes have an extent all the same; matplotlib would warn of one of zero."""
    examples = np.full((20, *shape), 5.0, dtype=np.float32)
    dataset = Dataset("constant", {"shape": list(shape)}, {"examples": examples})
    with style.style():
        _, ((ax,),) = style.grid(1, 1, (2.0, 2.0))
        style.examples(ax, dataset, examples, "#000000")
    assert ax.get_xlim() == (4.0, 6.0)


def test_every_plot_is_drawn(drawn: dict[str, figures.Plot]) -> None:
    scores = ("kde_ll", "modes", "high_quality_pct", "reverse_kl", "memorisation", "recon_mse")
    both = ("samples", "snapshots", "curves", "reconstructions")
    assert set(drawn) == {
        *(f"scores-{name}" for name in scores),
        *(f"{kind}-{dataset}" for kind in both for dataset in ("ring", "digits")),
        *(file_name("neighbours", "digits", label) for label in ("gan", "_x", "a$b")),
        "modes-ring",
    }
    assert all(plot.title and plot.caption and plot.alt for plot in drawn.values())


def test_neighbours_say_the_verdict(drawn: dict[str, figures.Plot]) -> None:
    assert drawn["neighbours-digits-gan"].caption.endswith(". Verdict: no sign of copying (3 < 4).")


def test_the_seeds_that_are_shown_are_named(drawn: dict[str, figures.Plot]) -> None:
    for name in ("samples-digits", "snapshots-ring", "reconstructions-ring"):
        assert re.search(r"whose first score is the median \((seed \d|gan: \d)", drawn[name].caption), name
    assert style.median_seeds([("gan", None)]) == "of each method the seed whose first score is the median"


@pytest.mark.parametrize(("low", "high", "expected"), [(0.3, 0.9, {"0.3", "0.6"}), (1.0, 1e4, {"1", "100"})])
def test_a_logarithmic_axis_has_plain_numbers(low: float, high: float, expected: set[str]) -> None:
    figure, ((ax,),) = style.grid(1, 1, (3, 2))
    ax.plot([1, 2], [low, high])
    style.logarithmic(ax, "y")
    style.settle(figure)
    texts = {text.get_text() for text in ax.get_yticklabels(which="both")} - {""}
    assert expected <= texts
    assert all(float(text) > 0 and "e" not in text for text in texts)


@pytest.mark.parametrize(("far", "scale"), [(1.0, "linear"), (1e4, "log")])
def test_distances_that_one_bar_would_hold_are_drawn_by_factors(far: float, scale: str) -> None:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    rng = np.random.default_rng(0)
    details = {"distance_samples": far * rng.uniform(1, 2, 500), "distance_heldout": rng.uniform(1, 2, 500)}
    tools = style.Style("memorisation", cast(Any, None), (), {})
    memorisation._distances(ax, details, "#ff0000", tools)
    assert ax.get_xscale() == scale
    assert max(patch.get_path().vertices[:, 1].max() for patch in ax.patches) < 0.5


def test_floors_and_ceilings_are_lines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controls = {"digits": {"ceiling": {"kde_ll": 300.0}, "floor": {"kde_ll": -1.0}}}
    monkeypatch.setattr(tables, "control_values", lambda run: controls)
    with style.style():
        plot = next(
            p
            for p in figures._scores(opened(folder), style.colours(opened(folder).labels))
            if p.title == "kde_ll"
        )
    assert {"floor", "ceiling"} <= set(texts(plot))
    (panel,) = [ax for ax in plot.figure.axes if ax.get_title() == "digits"]
    assert {-1.0, 300.0} <= {x for line in panel.lines for x in np.asarray(line.get_xdata()).tolist()}


def test_files_are_small_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["line"], SMALL[:1], seeds=2)
    written = figures.write(tmp_path)
    assert [path.relative_to(tmp_path / "plots").suffix for path in written] == [".png", ".svg"] * (
        len(written) // 2
    )
    entries = json.loads((tmp_path / "plots" / "index.json").read_text())["plots"]
    assert {entry["name"] for entry in entries} == {path.stem for path in written}
    assert {"samples-line", "snapshots-line", "neighbours-line-gan"} <= {path.stem for path in written}
    first = {path.name: path.read_bytes() for path in written}
    for path in written[::2]:
        with Image.open(path) as image:
            assert min(image.size) > 150
            assert image.size[0] < 1800
        assert path.stat().st_size < 100_000
    assert first == {path.name: path.read_bytes() for path in figures.write(tmp_path)}
    assert not any(b"<dc:date>" in content for content in first.values())


def test_labels_are_shown_as_they_are(drawn: dict[str, figures.Plot]) -> None:
    for name in ("samples-ring", "samples-digits", "modes-ring", "curves-ring", "scores-kde_ll"):
        assert {"gan", "_x", "a$b"} <= set(texts(drawn[name])), name


def test_a_method_without_a_good_seed_has_a_panel_that_says_so(drawn: dict[str, figures.Plot]) -> None:
    assert "no seed succeeded\n(failed, timeout)" in texts(drawn["samples-digits"])
    assert {"failed", "timeout"} <= set(texts(drawn["samples-ring"]))
    assert "0/2 ok" in texts(drawn["scores-kde_ll"])
    assert not any("broken" in name for name in drawn if name.startswith("neighbours"))


def test_a_method_has_one_colour_in_all_plots(folder: Path, drawn: dict[str, figures.Plot]) -> None:
    from matplotlib.text import Text

    colours = style.colours(opened(folder).labels)
    assert len(set(colours.values())) == len(colours)
    for name in ("samples-ring", "samples-digits", "modes-ring", "curves-ring"):
        found = [
            text
            for text in drawn[name].figure.findobj(Text)
            if isinstance(text, Text) and text.get_text() == "_x"
        ]
        assert {text.get_color() for text in found} == {style.contrasting(colours["_x"], 4.5)}


def test_many_methods_have_different_colours() -> None:
    assert len(set(style.colours([str(i) for i in range(30)]).values())) == 30


def test_contrast_with_white() -> None:
    for colour in style.colours(list("abcdefghi")).values():
        dark = style.contrasting(colour, 4.5)
        luminance = style._luminance(np.array([int(dark[i : i + 2], 16) / 255 for i in (1, 3, 5)]))
        assert 1.05 / (luminance + 0.05) >= 4.4
    assert style.contrasting("#000000", 4.5) == "#000000"


def test_a_run_in_which_all_failed_has_no_plots(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["ring"], [SMALL[-1]], seeds=2)
    assert figures.write(tmp_path) == []


def test_missing_files_are_left_out(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["line"], SMALL[:1], seeds=1)
    shutil.rmtree(tmp_path / "datasets")
    for path in (tmp_path / "cells").rglob("*.safetensors"):
        path.unlink()
    assert {path.stem for path in figures.write(tmp_path)} == {"scores-kde_ll", "scores-memorisation"}


def test_plots_of_an_earlier_suite_are_removed(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "mine.png").write_bytes(b"kept")
    old = [{"name": "scores-old"}, {"name": "../mine"}]
    (tmp_path / "plots" / "index.json").write_text(json.dumps({"plots": old}))
    (tmp_path / "plots" / "scores-old.svg").write_bytes(b"old")
    FakeRun(tmp_path).write(["ring"], [SMALL[-1]], seeds=1)
    assert figures.read_pictures(open_run(tmp_path)) is None
    figures.write(tmp_path)
    assert figures.read_pictures(open_run(tmp_path)) is not None
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["index.json"]
    assert (tmp_path / "mine.png").read_bytes() == b"kept"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["line"], SMALL[:1], seeds=1)
    (tmp_path / "datasets" / "line.safetensors").write_bytes(b"garbage")
    with pytest.raises(StoreError, match=r"line\.safetensors: cannot be read as safetensors"):
        figures.write(tmp_path)


def test_scores_of_an_earlier_plan_are_not_read(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["ring"], SMALL[:1], seeds=1)
    scores = next((tmp_path / "cells").rglob("scores"))
    old = next(scores.glob("modes-*.json"))
    document = json.loads(old.read_text())
    document["details"] = {"counts": [1] * 8}
    (scores / "modes-000000000000.json").write_text(json.dumps(document))
    seed = opened(tmp_path).cells[0].seeds[0]
    details = seed.details("counts")
    assert details is not None
    assert sum(details["counts"]) == 2500


def test_tensors_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "media.safetensors"
    assert dict(LazyTensors(Folder(path.parent), path)) == {}
    write_arrays(path, {"a": np.arange(3), "b": np.ones(2)})
    kept = LazyTensors(Folder(path.parent), path, {"verdict": "fine", "a": "hidden"})
    assert (sorted(kept), len(kept)) == (["a", "b", "verdict"], 3)
    assert (kept["a"].tolist(), kept["verdict"], kept.get("c")) == ([0, 1, 2], "fine", None)
    path.write_bytes(path.read_bytes()[:-1])
    assert "b" in kept
    with pytest.raises(StoreError, match="cannot be read as safetensors"):
        kept["b"]
    with pytest.raises(StoreError, match="cannot be read as safetensors"):
        LazyTensors(Folder(path.parent), path)


def test_of_very_many_methods_the_first_are_drawn_and_the_captions_say_so(
    folder: Path, drawn: dict[str, figures.Plot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MAX_METHODS", 2)
    said = "Only the first 2 of the 4 methods are drawn; tables and score plots show all."
    with style.style():
        few = {plot.name: plot for plot in figures.figures(opened(folder))}
    left_out = {name for name in drawn if name.startswith("neighbours") and name not in few}
    assert left_out == {file_name("neighbours", "digits", "a$b")}
    assert few.keys() == drawn.keys() - left_out
    together = [plot for plot in few.values() if plot.dataset and plot.kind != "neighbours"]
    assert all(plot.caption.endswith(said) for plot in together)
    assert "a$b" in texts(drawn["curves-ring"])
    assert "a$b" not in texts(few["curves-ring"])
    assert "a$b" in texts(few["scores-modes"])
    assert few["scores-modes"].caption == drawn["scores-modes"].caption


def test_of_very_many_methods_and_datasets_plots_of_scores_show_the_first(
    folder: Path, drawn: dict[str, figures.Plot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of 1,600 rows took most of a report's time, and nobody can read them."""
    monkeypatch.setattr(figures, "MAX_ROWS", 2)
    monkeypatch.setattr(figures, "MAX_DATASETS", 1)
    with style.style():
        few = {plot.name: plot for plot in figures.figures(opened(folder))}
    assert {plot.dataset for plot in few.values()} == {"", "ring"}
    shown = few["scores-kde_ll"]
    assert shown.caption.endswith(
        "Only the first 2 of 4 methods are drawn; the tables show all. "
        "Only the first 1 of 2 datasets are drawn; the tables show all."
    )
    assert [ax.get_title() for ax in shown.figure.axes] == ["ring"]
    assert {"gan", "_x"} <= set(texts(shown))
    assert not {"a$b", "broken", "digits"} & set(texts(shown))
    assert shown.figure.get_figheight() < drawn["scores-kde_ll"].figure.get_figheight()


def test_the_median_seed_is_shown(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["ring"], [FakeMethod("gan", 0.5, ((1, "diverged"),))], seeds=6)
    run = opened(tmp_path)
    first = run.records[(run.records["metric"] == "kde_ll") & run.records["value"].notna()]
    median = first.sort_values("value")["seed"].tolist()[2]
    seed = run.cells[0].median("samples")
    assert seed is not None
    assert seed.number == median


def _with_errors(folder: Path, methods: tuple[FakeMethod, ...], errors: dict[str, list[list[float]]]) -> Run:
    """A run on digits in which the methods have these errors [seeds, images]."""
    FakeRun(folder).write(["digits"], methods, seeds=len(next(iter(errors.values()))))
    run = opened(folder)
    for cell in run.cells:
        for seed in cell.ok:
            for score in seed.scores:
                if "reconstructions" in score.details and cell.label in errors:
                    own = {"all_errors": np.array(errors[cell.label][seed.number])}
                    write_arrays(score.path.with_suffix(".safetensors"), {**score.details, **own})
    return opened(folder)


def test_ranks_of_reconstructions(tmp_path: Path) -> None:
    a = [[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.9, 0.9]]
    b = [[0.2, 0.1, 0.4, 0.5], [0.2, 0.2, 0.1, 0.1]]  # seed 0: second, first, second, second
    methods = (FakeMethod("a"), FakeMethod("b"), FakeMethod("kde", interface="fit"))
    run = _with_errors(tmp_path, methods, {"a": a, "b": b})
    found = reconstruction.ranks(run.cells).set_index("label")
    assert list(found.index) == ["a", "b"]
    assert found["rank"].tolist() == pytest.approx([(5 / 4 + 6.5 / 4) / 2, (7 / 4 + 5.5 / 4) / 2])
    assert found["best_pct"].tolist() == pytest.approx([(75 + 37.5) / 2, (25 + 62.5) / 2])
    assert found["best_of_means_pct"].tolist() == [25, 75]  # means: a .1 .2 .6 .65, b .2 .15 .25 .3
    assert (found["rank_low"] < found["rank"]).all()
    with style.style():
        plot = reconstruction.figure(run.cells, styled(run, "reconstruction", run.datasets["digits"]))
    assert plot is not None
    assert any(text.startswith("rank 1.44 [") for text in texts(plot))
    assert "for each of 4 examples" in plot.caption
    path = tmp_path / "tables" / "reconstruction-ranks.csv"
    assert path in tables.write(tmp_path)
    assert path.read_text().splitlines()[1].startswith("digits,a,4,2,1.4375,")


def test_texts_beside_reconstructions_stay_in_the_figure() -> None:
    from matplotlib.text import Text

    images = np.random.default_rng(0).random((10, 1, 8, 8))
    dataset = Dataset("digits", {"shape": [1, 8, 8], "scale": [0, 1]}, {"examples": images})
    labels = ("0 steps", "a name of twenty-six letters")
    details = {"targets": images, "reconstructions": images, "errors": np.full(10, 0.0123)}
    cells: Any = [(SimpleNamespace(label=label), details) for label in labels]
    notes = dict.fromkeys(labels, "rank 3.75 [3.62, 3.87]\nfirst 52 [42, 61] %")
    with style.style():
        drawing = style.Style("reconstruction", dataset, [], dict.fromkeys(labels, "#0072b2"))
        figure = style.settle(reconstruction._pictures(cells, notes, drawing))
        for text in figure.findobj(Text):
            box = text.get_window_extent()
            assert not text.get_text() or (box.x0 >= 0 and box.x1 <= figure.bbox.x1), text


def test_no_ranks_of_different_images_or_of_one_method(tmp_path: Path) -> None:
    methods = (FakeMethod("a"), FakeMethod("b"))
    run = _with_errors(tmp_path, methods, {"a": [[0.1, 0.2]], "b": [[0.1, 0.2, 0.3]]})
    assert len(reconstruction.ranks(run.cells)) == 0
    assert len(reconstruction.ranks(run.cells[:1])) == 0
    assert not any(path.name == "reconstruction-ranks.csv" for path in tables.write(tmp_path))


def test_a_seed_that_one_method_lacks_is_not_ranked(tmp_path: Path) -> None:
    methods = (FakeMethod("a"), FakeMethod("b", failures=((0, "diverged"),)))
    found = reconstruction.ranks(
        _with_errors(tmp_path, methods, {"a": [[1.0], [0.2]], "b": [[0.5], [0.5]]}).cells
    )
    assert found["n"].tolist() == [1, 1]
    assert found["best_pct"].tolist() == [100, 0]
    assert found["rank_low"].isna().all()


def test_latent_space(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["digits"], SMALL[:1], seeds=1)
    path = next((tmp_path / "cells").rglob("memorisation-*.json"))
    results = np.arange(9).reshape(9, 1, 1, 1) / 8 * np.ones((1, 8, 8))
    images = np.random.default_rng(0).random((8, 10, 1, 8, 8))
    arrays = {"walk": images, "arithmetic_concepts": images[:3, :4], "chain": images[:, :2]}
    write_arrays(path.with_suffix(".safetensors"), {**arrays, "arithmetic_results": results})
    document = json.loads(path.read_text())
    sums = {"arithmetic_kept": 7, "arithmetic_brighter": 9, "chain_sides": [4, 8]}
    document["details"] = {"arithmetic_terms": ["bright 1", "dark 1", "dark 7"], **sums}
    path.write_text(json.dumps(document))
    run = opened(tmp_path)
    with style.style():
        (plot,) = latent.figure(run.cells, styled(run, "latent", run.datasets["digits"]))
    assert plot.name == "latent-digits-gan"
    names = {
        "gan",
        "walks",
        "result amid neighbours",
        "coarse to fine, px",
        "bright 1",
        "− dark 1",
        "+ dark 7",
    }
    assert names | {"4", "8"} <= set(texts(plot))
    assert "7 of these 9" in plot.caption
    sheet = plot.figure.axes[2].images[0].get_array()
    assert sheet is not None
    shown = [round(float(sheet[9 * row, 9 * column]) * 8) for row in range(3) for column in range(3)]
    assert shown == [1, 2, 3, 4, 0, 5, 6, 7, 8]  # the result amid its neighbours


def test_the_dashed_line_is_the_share_of_each_mode_in_the_data(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["ring"], SMALL[:1], seeds=2)
    run, weights = opened(tmp_path), [0.3, *[0.1] * 7]
    equal = run.datasets["ring"]
    unequal = replace(equal, info={**equal.info, "modes": {**equal.info["modes"], "weights": weights}})
    for dataset, shares, caption in (
        (equal, [0.125] * 8, "dashed: all modes equally often"),
        (unequal, weights, "dashed: how often they are in the data"),
    ):
        with style.style():
            plot = modes.figure(run.cells, styled(run, "modes", dataset))
        assert plot is not None
        assert caption in plot.caption
        line = plot.figure.axes[0].lines[-1]
        assert list(line.get_ydata()[:8]) == pytest.approx([100 * share for share in shares])


def test_many_modes_are_a_strip(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["ring"], SMALL[:1], seeds=2)
    for path in (tmp_path / "cells").rglob("modes-*.json"):
        document = json.loads(path.read_text())
        document["details"]["counts"] = list(range(1000))
        path.write_text(json.dumps(document))
    run = opened(tmp_path)
    with style.style():
        plot = modes.figure(run.cells, styled(run, "modes", run.datasets["ring"]))
    assert plot is not None
    assert "each of the 1000 modes" in plot.caption
    assert plot.figure.axes[0].images[0].get_array().shape == (2, 1000)


def _with_metric(folder: Path, path: Path) -> Run:
    """A run on the ring in which a user's metric, in this file, stands in the place of `modes`."""
    FakeRun(folder).write(["ring"], SMALL[:2], seeds=2)
    suite = folder / "suite.resolved.yaml"
    suite.write_text(
        f"{suite.read_text()}metrics:\n- metric: {path}\n  params: {{n: 50}}\n- metric: kde_ll\n"
    )
    for score in (folder / "cells").rglob("modes-*.json"):
        document = json.loads(score.read_text())
        score.write_text(json.dumps(document | {"metric": "my_metric", "details": {"gap": [0.5, -0.25]}}))
    return opened(folder)


def test_the_metric_of_a_user_has_its_picture_in_the_report(tmp_path: Path) -> None:
    path = tmp_path / "my_metric.py"
    scaffold.write("metric", path)
    run = _with_metric(tmp_path / "run", path)
    with style.style():
        (plot,) = [plot for plot in figures.figures(run) if plot.kind == "my_metric"]
    assert (plot.name, plot.title) == ("my_metric-ring", "my_metric")
    lines = [line.get_ydata().tolist() for line in plot.figure.axes[0].lines]
    assert lines == [[0.5, -0.25]] * 4  # two methods, two seeds
    assert plot.alt == "Gap of the means of gan, _x."
    text = page.write(run).read_text()
    assert "Samples less data, a line for each seed." in text
    assert "figure left out" not in text


def test_a_picture_that_cannot_be_drawn_is_left_out_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "my_metric.py"
    scaffold.write("metric", path)
    run = _with_metric(tmp_path / "run", path)

    def reasons(text: str) -> list[str]:
        path.write_text(text) if text else path.unlink()
        missing: list[figures.Missing] = []
        with style.style():
            assert not [plot for plot in figures.figures(run, missing) if plot.kind == "my_metric"]
        assert all((one.dataset, one.metric) == ("ring", "my_metric") for one in missing)
        return [one.reason for one in missing]

    text = path.read_text()
    assert reasons(text.replace('seed.details("gap")', "1 / 0")) == [
        f"{path}: its figure failed: ZeroDivisionError: division by zero"
    ]
    # A metric without a picture is not run: it may start torch, or lack what it imports on this machine.
    assert reasons("raise SystemExit\n" + text[: text.index("    def figure")]) == []
    assert reasons("") == [f"{path}: no such file"]
    shown = page.write(run).read_text()
    assert "(figure left out): " in shown
    assert "no such file" in shown


def test_no_code_that_a_strange_run_directory_names_is_run(tmp_path: Path) -> None:
    path = tmp_path / "my_metric.py"
    scaffold.write("metric", path)
    path.write_text(f"raise SystemExit('it was run')\n{path.read_text()}")
    _with_metric(tmp_path / "run", path)
    missing: list[figures.Missing] = []
    with style.style():
        plots = list(figures.figures(open_run(tmp_path / "run"), missing))
    assert not [plot for plot in plots if plot.kind == "my_metric"]
    assert ["only `ganbench run` executes its code" in one.reason for one in missing] == [True]


def test_a_strange_run_directory_cannot_name_a_file_to_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.py"
    path.write_text("raise SystemExit('it was run')\n")
    run = tmp_path / "run"
    _with_metric(run, path)
    (run / "suite.resolved.yaml").write_text(f"metrics: [{path.with_suffix('')}]\n")
    for score in (run / "cells").rglob("modes-*.json"):
        document = json.loads(score.read_text())
        score.write_text(json.dumps(document | {"metric": str(path.with_suffix(""))}))
    with style.style():
        assert "evil" not in " ".join(plot.kind for plot in figures.figures(open_run(run)))


def test_a_labelled_metric_has_its_own_picture(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["ring"], SMALL[:2], seeds=2)
    suite = tmp_path / "suite.resolved.yaml"
    suite.write_text(f"{suite.read_text()}metrics:\n- metric: modes\n  label: few\n")
    for score in tmp_path.glob("cells/*/seed-*/scores/modes-*.json"):
        score.write_text(json.dumps(json.loads(score.read_text()) | {"metric": "modes(few)"}))
    with style.style():
        plots = {plot.kind: plot for plot in figures.figures(open_run(tmp_path))}
    assert plots["modes"].title == "Mode occupancy (few)"
    assert plots["modes"].name == style.file_name("modes(few)", "ring")


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_sheet_of_pictures(channels: int) -> None:
    images = np.random.default_rng(0).random((5, channels, 28, 28))
    sheet = style._sheet(images, columns=3)
    assert sheet.shape == ((58, 88, 3) if channels == 3 else (58, 88))
    shown = sheet[30:58, 30:58] if channels == 3 else sheet[30:58, 30:58, None]
    expected = images[4].mean(0, keepdims=True) if channels == 2 else images[4]
    np.testing.assert_allclose(shown, expected.transpose(1, 2, 0))


def test_pixels_without_a_scale_are_shown_from_least_to_greatest() -> None:
    real = np.linspace(-2, 6, 16).reshape(1, 1, 4, 4)
    dataset = Dataset("x", {"shape": [1, 4, 4], "scale": None}, {"examples": real})
    np.testing.assert_allclose(style._unit(real, dataset).ravel()[[0, -1]], [0, 1])


def test_points_in_many_dimensions_show_two(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["ring"], SMALL[:1], seeds=1)
    wide = np.random.default_rng(0).normal(size=(100, 5))
    write_arrays(tmp_path / "datasets" / "ring.safetensors", {"examples": wide})
    (tmp_path / "datasets" / "ring.json").write_text(
        json.dumps({"label": "ring", "shape": [5], "modes": None})
    )
    for path in (tmp_path / "cells").rglob("media.safetensors"):
        write_arrays(path, {"samples": wide * 100})
    run = opened(tmp_path)
    with style.style():
        plot = figures.samples(run.datasets["ring"], list(run.cells), style.colours(run.labels))
    assert plot is not None
    assert any(text.endswith("% outside") for text in texts(plot))


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("samples", "ring"), "samples-ring"),
        (("neighbours", "ring", "gan+unrolling"), "neighbours-ring-gan+unrolling"),
        (("samples", "../../x"), "samples-.._.._x-"),
        (("samples", "a/b"), "samples-a_b-"),
    ],
)
def test_file_names_stay_in_their_folder(parts: tuple[str, ...], name: str) -> None:
    assert file_name(*parts).startswith(name)
    assert "/" not in file_name(*parts)


def test_file_names_stay_apart() -> None:
    assert file_name("a", "x/y") != file_name("a", "x_y") != file_name("a", "x$y")
    assert len(file_name("a", "x" * 500)) < 120
