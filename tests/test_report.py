"""The report: one file, all of it escaped, and honest in words."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import browser
import pytest
from fake_run import METHODS, NASTY, FakeMethod, FakeRun

from ganbench.analysis.compare import compare
from ganbench.analysis.summary import summary
from ganbench.report import figures, tables
from ganbench.report import page as report
from ganbench.store.results import read_records

SCRIPT = "<script>alert(1)</script>"
SMALL = (FakeMethod("gan", 0.4, ((1, "diverged"),)), FakeMethod(SCRIPT, 0.99), NASTY[4])


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element of this name."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        """Its text, spaces as one."""
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    FakeRun(folder, suite="nasty & <b>bold</b>").write(["ring", "digits"], SMALL, seeds=2)
    return report.write(folder)


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_it_is_one_file(path: Path, page: Page) -> None:
    assert path.name == "report.html"
    assert path.stat().st_size < 5_000_000
    assert not page.all("link")[1:]
    links = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(str(link).startswith(("data:", "#")) for link in links)


def test_links_lead_somewhere(page: Page) -> None:
    places = {attributes.get("id") for _, attributes in page.tags}
    wanted = [str(link["href"])[1:] for link in page.all("a")]
    wanted += [str(button["popovertarget"]) for button in page.all("button") if "popovertarget" in button]
    assert len(wanted) > 10
    assert set(wanted) <= places


def test_everything_is_escaped(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert not page.all("b")
    assert SCRIPT in page.text
    assert "nasty & <b>bold</b>" in page.text
    assert "loss <is> not finite" in page.text


def test_pictures_have_words(page: Page) -> None:
    pictures = [image for image in page.all("img") if image.get("width")]
    assert len(pictures) >= 12
    assert all(
        str(image["alt"]) and str(image["src"]).startswith("data:image/png;base64,") for image in pictures
    )


def test_tables_hold_both_uncertainties_and_the_failures(path: Path, page: Page) -> None:
    assert len([t for t in page.all("table") if t.get("class") == "scores"]) == 2
    shown = tables.tables(summary(read_records(path.parent)))[0]
    entry = shown.rows[1].entries[0]
    assert entry is not None
    for text in (entry.mean, f"± {entry.sem}", f"[{entry.low}, {entry.high}]"):
        assert text.replace("-", "−") in page.text
    assert "0/2 2 failed" in page.text
    assert "1/2 1 diverged" in page.text


def test_warnings_protocols_failures_and_versions_are_told(page: Page) -> None:
    assert "The chosen bandwidth 0.1 sits on the edge of the grid" in page.text
    assert "Parzen window of 10,000 samples" in page.text
    assert "ValueError: loss <is> not finite" in page.text
    assert "ganbench run suite.resolved.yaml" in page.text
    assert "torch 2.15.0" in page.text
    assert "Does unrolling bring back the lost modes?" in page.text
    assert "12 training runs: 6 succeeded, 2 diverged, 4 failed." in page.text


def test_a_dataset_says_its_parameters_and_a_protocol_its_datasets_once(page: Page) -> None:
    assert "modes 8, std " in page.text
    measured = page.text[page.text.rindex("How it was measured") : page.text.rindex("What was trained")]
    assert measured.count("Parzen window of 10,000 samples") == 1
    assert "on ring, digits" in measured or "on ring, line" in measured


def test_plots_are_drawn_again_when_the_records_change(tmp_path: Path) -> None:
    method = FakeMethod("gan", interface="fit")
    FakeRun(tmp_path).write(["line"], [method], seeds=1)
    report.write(tmp_path)
    before = (tmp_path / "plots" / "scores-kde_ll.png").stat().st_mtime_ns
    report.write(tmp_path)
    assert (tmp_path / "plots" / "scores-kde_ll.png").stat().st_mtime_ns == before
    FakeRun(tmp_path).write(["line"], [method], seeds=2)
    report.write(tmp_path)
    assert (tmp_path / "plots" / "scores-kde_ll.png").stat().st_mtime_ns > before


def test_the_question_and_the_verdict_come_first(path: Path, page: Page) -> None:
    compared = compare(read_records(path.parent))
    assert len(compared.headlines) == 2
    places = [
        page.text.index(text)
        for text in ("bring back the lost modes?", *compared.headlines, "12 training runs")
    ]
    assert places == sorted(places)
    assert "Holm's method" in page.text
    assert page.text.count("can't tell:") >= 2
    assert not any("Critical-difference diagram" in str(image.get("alt")) for image in page.all("img"))
    assert "No critical-difference diagram of 3 methods: it takes" in page.text


def test_diagrams_where_datasets_are_enough(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["ring", "line", "digits", "photos", "more photos"], METHODS, seeds=2)
    (picture,) = report._diagrams(compare(read_records(tmp_path)))
    assert picture.title == "Ranks by kde_ll"
    assert picture.alt.startswith("Critical-difference diagram of kde_ll; mean ranks: ")


def test_a_score_whose_control_failed_is_marked_everywhere(tmp_path: Path) -> None:
    """In the table, the plot, the comparison and the ranks of reconstructions."""
    sentence = "its own samples have the error 0.02, more than the score"
    FakeRun(tmp_path).write(["ring"], METHODS[:2], seeds=3)
    for path in tmp_path.glob("cells/*unrolling*/seed-1/scores/reconstruction-*.json"):
        found = json.loads(path.read_text())
        found["details"]["invalid"] = sentence
        path.write_text(json.dumps(found))
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    for row in lines:
        if (row["metric"], row["label"], row["seed"]) == ("recon_mse", "gan+unrolling", 1):
            row["invalid"] = sentence
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    text = Page(report.write(tmp_path).read_text()).text
    note = f"† recon_mse is not valid here, so neither ranked nor compared: gan+unrolling (1 of 3 seeds: {sentence})."
    assert text.count(note) == 2  # below the table and below the plot
    assert (
        f"Not compared because it is not valid: recon_mse of gan+unrolling on ring (1 of 3 seeds: {sentence})."
        in text
    )
    assert "Rank among the methods" not in text


def test_it_says_where_not_all_methods_are_drawn(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MAX_METHODS", 1)
    FakeRun(tmp_path).write(
        ["line"], [FakeMethod("kde", interface="fit"), FakeMethod("kde-2", interface="fit")], seeds=2
    )
    text = Page(report.write(tmp_path).read_text()).text
    said = "Only the first 1 of the 2 methods are drawn; tables and score plots show all."
    assert text.count(said) == 2  # below the samples, above the neighbours
    assert "Only the first" not in page.text


def test_it_says_which_datasets_have_no_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MAX_DATASETS", 1)
    FakeRun(tmp_path).write(["ring", "line"], [FakeMethod("kde", interface="fit")], seeds=1)
    text = Page(report.write(tmp_path).read_text()).text
    assert text.count("Figures are drawn of the first 1 of 2 datasets only.") == 1


def test_a_single_method_is_compared_with_nothing(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["line"], [FakeMethod("gan", interface="fit")], seeds=2)
    text = Page(report.write(tmp_path).read_text()).text
    assert "1 method on 1 dataset, 2 training runs: all succeeded." in text
    assert "can't tell" not in text


def test_metrics_of_two_protocols_are_left_out_of_the_verdict(tmp_path: Path) -> None:
    FakeRun(tmp_path).write(["line"], METHODS[1:], seeds=3)
    records = tmp_path / "records.jsonl"
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    for row in rows:
        if row["label"] == "kde" and row["metric"] == "kde_ll":
            row["protocol"] = "another"
    records.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    text = Page(report.write(tmp_path).read_text()).text
    assert "gan+unrolling" in text
    assert "on kde_ll" not in text
    assert "on memorisation" in text


def test_strips_of_training_can_be_played(path: Path, page: Page) -> None:
    strips = [
        json.loads(str(figure["data-frames"])) for figure in page.all("figure") if "data-frames" in figure
    ]
    assert len(strips) == 2
    for sides in strips:
        assert len(sides) == 4 + 2  # four snapshots, the data, and where they end
        assert sides == sorted(sides)
        assert sides[0] > 0.05
        assert sides[-1] <= 1
        widths = [b - a for a, b in pairwise(sides)]
        assert max(widths) - min(widths) < 0.01


def test_bare_records_are_enough(tmp_path: Path) -> None:
    """Old results of which only the records were kept."""
    FakeRun(tmp_path / "full").write(["line"], METHODS, seeds=2)
    (tmp_path / "records.jsonl").write_bytes((tmp_path / "full" / "records.jsonl").read_bytes())
    text = Page(report.write(tmp_path).read_text()).text
    assert "gan+unrolling" in text


def test_no_records_at_all(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text("")
    assert "0 training runs" in Page(report.write(tmp_path).read_text()).text


# ---------------------------------------------------------------------------------------------- in a browser


SORTED = """(() => {
  const head = [...document.querySelectorAll("table.scores thead th")].find((th) => th.textContent.includes("modes"));
  head.querySelector(".sort").click();
  const rows = [...head.closest("table").tBodies[0].rows];
  return [head.getAttribute("aria-sort"), rows.map((row) => Number(row.cells[head.cellIndex].dataset.sort ?? -1))];
})()"""
LOADED = """Promise.all([...document.images].map((image) => { image.loading = "eager"; return image.decode(); }))
  .then(() => [...document.images].every((image) => image.naturalWidth > 0))"""
THEMED = """(() => {
  const paper = () => getComputedStyle(document.body).backgroundColor;
  const before = paper();
  document.getElementById("theme").click();
  return before !== paper();
})()"""
ENLARGED = """(() => {
  document.querySelector("figure > button").click();
  const zoom = document.getElementById("zoom");
  const open = zoom.open && zoom.querySelector("img").src === document.querySelector("figure img").src;
  zoom.click();
  return open && !zoom.open;
})()"""
PLAYED = """(async () => {
  const [canvas, play, slider] = ["canvas", "button", "input"].map((name) => document.querySelector(`.player ${name}`));
  const picture = () => canvas.toDataURL();
  const [last, still] = [picture(), slider.value === slider.max && canvas.hidden];
  const strip = document.querySelector("figure.strip > button");
  play.click();
  const alone = strip.hidden && !canvas.hidden;
  const [first, playing] = [picture(), play.textContent.includes("Pause")];
  await new Promise((done) => setTimeout(done, 1100));
  const second = picture();
  play.click();
  const paused = play.textContent.includes("Play") && slider.value === "2";
  slider.value = slider.max;
  slider.dispatchEvent(new Event("input"));
  const all = [...document.querySelectorAll(".player button")].find((button) => button.textContent === "All steps");
  all.click();
  const back = !strip.hidden && canvas.hidden;
  return still && alone && back && playing && paused && new Set([last, first, second]).size === 3 && picture() === last;
})()"""
POINTED_AT = """(() => {
  const [one, other] = document.querySelectorAll(".info");
  const note = (button) => document.getElementById(button.getAttribute("popovertarget")).matches(":popover-open");
  const enter = (button) => button.dispatchEvent(new PointerEvent("pointerenter", { pointerType: "mouse" }));
  const before = note(one);
  enter(one);
  const shown = note(one);
  one.click();
  one.dispatchEvent(new PointerEvent("pointerleave"));
  const kept = note(one);
  one.click();
  return !before && shown && kept && !note(one) && !note(other);
})()"""
EXPLAINED = """(() => {
  const button = document.querySelector(".info");
  button.click();
  return document.getElementById(button.getAttribute("popovertarget")).matches(":popover-open");
})()"""


@pytest.mark.slow
def test_in_a_browser(path: Path, tmp_path: Path) -> None:
    program = browser.found()
    if not program:
        pytest.skip("there is no Chromium on the PATH")
    with browser.Browser(program, tmp_path) as chromium:
        chromium.open(path)
        direction, values = chromium.run(SORTED)
        assert direction == "descending"
        assert values == sorted(values, reverse=True)
        assert len(set(values)) > 2
        direction, values = chromium.run(SORTED)
        assert direction == "ascending"
        good = [value for value in values if value >= 0]
        assert values == sorted(good) + [-1] * (len(values) - len(good))  # without a value: last
        for script in (LOADED, THEMED, ENLARGED, PLAYED, POINTED_AT, EXPLAINED):
            assert chromium.run(script) is True, script
        chromium.open(path)
        chromium.run('document.querySelector(".info").focus()')
        for event in ("keyDown", "keyUp"):
            chromium.call(
                "Input.dispatchKeyEvent", type=event, key="Enter", code="Enter", windowsVirtualKeyCode=13
            )
        assert chromium.run('document.querySelectorAll(":popover-open").length') == 1
        for width in (1200, 375):
            chromium.open(path, width)
            assert chromium.run("document.documentElement.scrollWidth <= innerWidth"), width
        assert chromium.problems == []


def test_the_page_lets_only_its_own_script_run(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1] or "default-src 'none'" in policy[1]
    assert "'unsafe-inline'" not in policy[1].split("script-src")[1]


def test_index_of_plots_is_json(path: Path) -> None:
    assert json.loads((path.parent / "plots" / "index.json").read_text())["drawn_from"].startswith("0.")
