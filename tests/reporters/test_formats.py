"""The reports, word for word, from a fixed run (tests/golden_records.py).

After a change that is meant, redraw the golden files and read the difference:
    BENCHBOX_REDRAW=1 pytest tests/reporters && git diff tests/golden
"""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest

import golden_records as golden
import places
from benchbox import plugins
from benchbox.reporters import wording
from benchbox.reporters.formats import html, markdown
from benchbox.reporters.write import write_reports
from benchbox.results import runs as frame
from benchbox.results.store import Results
from benchbox.schema.asked import Step

GOLDEN = places.TESTS / "golden"
PAGE = places.ROOT / "benchbox" / "reporters" / "page"
RUN = "vit-20261121T020304-1a2b3c"


# A libm may differ from another in the last of the seventeen digits that a double is written with.
_LONG_NUMBER = re.compile(r"\d+\.\d{10,}")


def assert_golden(name: str, text: str) -> None:
    """The text is the golden one; long numbers agree in twelve digits."""
    text = _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.12g}", text)
    path = GOLDEN / name
    if os.environ.get("BENCHBOX_REDRAW"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return frame.load_results(golden.write(tmp_path_factory.mktemp("results") / RUN))


@pytest.fixture(scope="module")
def reports(runs, tmp_path_factory):
    return write_reports(runs, tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module")
def page(runs):
    return html.render(runs, "/* plotly.js */")


class Page(HTMLParser):
    """Tags with their attributes, and the text of tables and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.stack: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.stack.append(tag)

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop() != tag:
            pass

    def handle_data(self, data):
        for tag in set(self.stack):
            self.text[tag] = self.text.get(tag, "") + data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def test_the_records_of_the_golden_run_are_the_literals():
    lines = "".join(json.dumps(asdict(record)) + "\n" for record in golden.RECORDS)
    assert_golden("records.jsonl", lines)


def test_every_report_is_written(reports):
    assert [path.name for path in reports] == ["summary.csv", "samples.csv", "report.html", "report.md"]


def test_summary_csv(reports):
    assert_golden("summary.csv", reports[0].read_text(encoding="utf-8"))


def test_samples_csv_holds_every_call(reports, runs):
    with reports[1].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(runs.samples())
    assert rows[0] == {
        "run": RUN,
        "case_id": golden.RECORDS[0].case.id,
        "replicate": "0",
        "round": "0",
        "kind": "warm_up",
        "index": "0",
        "latency_ns": "396000000",
        "disturbed": "",
    }


def test_markdown_report(reports):
    assert_golden("report.md", reports[3].read_text(encoding="utf-8"))


def test_html_report_without_plotly_style_and_script(page):
    """Those two are in the page byte for byte, and the golden file holds what is ours to word."""
    for name in ("report.css", "report.js"):
        verbatim = (PAGE / name).read_text(encoding="utf-8")
        assert page.count(verbatim) == 1
        page = page.replace(verbatim, f"{name}\n")
    assert_golden("report.html", page)


def test_what_names_and_errors_contain_is_never_markup(page, reports):
    """The hostile name is in the page as text, and no script but the three that are ours."""
    parsed = Page(page)
    assert parsed.count("script") == 3
    assert golden.HOSTILE not in page
    assert parsed.text["h2"].count(golden.HOSTILE) >= 1
    assert golden.HOSTILE in parsed.text["pre"]
    assert "</pre>&amp;" in parsed.text["pre"]
    assert golden.HOSTILE not in reports[3].read_text(encoding="utf-8")


def test_data_in_a_script_cannot_end_it():
    hostile = ["</script><script>alert(1)</script>", "<!--", "&lt;"]
    text = html.json_for_script(hostile)
    assert not set("<>&") & set(text)
    assert json.loads(text) == hostile


def test_labels_of_charts_are_text_for_plotly_too(runs):
    evil = replace(golden.RECORDS[1].case, path=(golden.Step("<b>onnx</b>"),))
    results = replace(runs.results[0], records=(replace(golden.RECORDS[1], case=evil),))
    data = Page(html.render(frame.Runs((results,)), "")).text["script"]
    assert "\\u0026lt;b\\u0026gt;onnx" in data


def test_the_page_loads_nothing(page):
    """No address outside the file is fetched: links to the CSV files beside it are all there is."""
    parsed = Page(page)
    assert {attrs["href"] for _, attrs in parsed.tags if "href" in attrs} == {"summary.csv", "samples.csv"}
    assert not [tag for tag, attrs in parsed.tags if "src" in attrs or tag in ("link", "iframe", "img")]
    assert not re.search(r"https?://", page)
    policy = next(a["content"] for t, a in parsed.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_the_page_with_plotly_is_one_file_under_15_mb(reports):
    text = reports[2].read_text(encoding="utf-8")
    assert "plotly.js v" in text
    assert 4e6 < len(text.encode()) < 15e6


def test_a_row_for_every_case_and_a_reason_for_every_row_that_is_not_ok(page):
    parsed = Page(page)
    rows = [attrs for tag, attrs in parsed.tags if tag == "tr" and "id" in attrs]
    assert [attrs["class"] for attrs in rows] == [
        "ok", "ok", "ok best", "mismatch", "mismatch", "failed", "skipped", "ok best", "ok best",
    ]  # fmt: skip
    reasons = [attrs["class"] for tag, attrs in parsed.tags if attrs.get("class", "").startswith("missing ")]
    assert reasons == ["missing failed", "missing mismatch", "missing mismatch", "missing skipped"]
    for record in golden.RECORDS:
        assert record.command in parsed.text["code"]


def test_random_weights_are_said_where_there_are_any(runs):
    notice = "accuracy means nothing"
    pretrained = replace(runs.results[0], records=golden.RECORDS[7:])
    assert notice in html.render(runs, "")
    assert notice in markdown.render(runs)
    assert notice not in html.render(frame.Runs((pretrained,)), "")
    assert notice not in markdown.render(frame.Runs((pretrained,)))


def test_beside_models_with_real_weights_the_note_stands_over_the_groups_it_is_true_of(runs):
    text = markdown.render(runs)
    headings = [block.splitlines() for block in text.split("\n## ")[1:]]
    noted = [block[0] for block in headings if any("accuracy means nothing" in line for line in block)]
    assert noted
    assert all("(random weights)" in heading for heading in noted)
    assert text.count("accuracy means nothing") == len(noted)
    everything_random = replace(
        runs.results[0], records=tuple(r for r in golden.RECORDS if r.case.model.weights == "random")
    )
    assert markdown.render(frame.Runs((everything_random,))).count("accuracy means nothing") == 1


def test_no_recommendation_is_made_between_cases_that_cannot_be_told_apart(page):
    """Each is named with its own figures, as the one answer of the first group is."""
    parsed = Page(page)
    assert "The fastest cannot be told apart:onnx · onnxruntime CPUtorch · pytorch cpu" in parsed.text["p"]
    assert sum(attrs.get("class") == "figures" for _, attrs in parsed.tags) == 3


def test_a_long_run_is_cut_in_the_page_and_says_so(runs, monkeypatch):
    monkeypatch.setattr(html, "MAX_ROWS", 8)
    text = html.render(runs, "")
    assert "7 of 9 cases are shown." in Page(text).text["strong"]
    monkeypatch.setattr(html, "MAX_ROWS", 3)
    assert "3 of 9 cases are shown." in Page(html.render(runs, "")).text["strong"]


@pytest.mark.parametrize("reporter", plugins.names("reporters"))
def test_a_run_without_records_has_reports_too(reporter, tmp_path):
    empty = frame.Runs((Results("empty", tmp_path, (), golden.ENVIRONMENT, {}),))
    written = plugins.load("reporters", reporter).write(empty, tmp_path)
    assert all(path.stat().st_size > 0 for path in written)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("int8_static(samples=64)", "int8_static(samples=64)"),
        ("a | b\n| c", "a \\| b \\| c"),
        ("_emphasis_ *strong* `code`", "\\_emphasis\\_ \\*strong\\* \\`code\\`"),
        ("<img src=x> @someone [x](y)", "&lt;img src=x&gt; &#64;someone \\[x\\](y)"),
    ],
)
def test_markdown_shows_text_as_it_is(text, shown):
    assert markdown.escape(text) == shown


def undecided(count, best):
    """A group of one model and shape, whose rows `best` are twice as fast as the others."""
    records = [golden.RECORDS[0]]
    for number in range(1, count):
        of = golden.case(Step("onnx", {"number": number}))
        ms = 100.0 if number in best else 200.0 + number
        records.append(replace(golden.RECORDS[1], case=of, measurement=golden.measurement(ms, peak_mib=500)))
    return frame.Runs((Results(RUN, None, tuple(records), golden.ENVIRONMENT, golden.SUITE),))


def test_a_group_that_is_cut_keeps_what_it_recommends():
    (one,) = wording.groups(undecided(200, {180}), 150)
    assert (len(one.rows), [one.labels[n] for n in one.best]) == (150, ["onnx(number=180) · onnxruntime CPU"])
    assert one.conclusion.startswith("onnx(number=180) · onnxruntime CPU is the fastest")
    (two,) = wording.groups(undecided(200, {3, 180}), 150)
    assert two.conclusion.startswith(
        "The fastest cannot be told apart, these 2 of the 200 that agree: onnx(number=3)"
    )
    assert "onnx(number=180)" in two.conclusion


def test_sections_of_several_runs_say_which_run_they_are_of(tmp_path):
    runs = frame.load_results(golden.write(tmp_path / "before"), golden.write(tmp_path / "after"))
    headings = re.findall(r"^## .*batch=1 .*$", markdown.render(runs), re.MULTILINE)
    assert [heading for heading in headings if "machine" not in heading] == [
        "## before: vit-base (random weights), batch=1 image_size=224",
        "## after: vit-base (random weights), batch=1 image_size=224",
    ]
    text = html.render(runs, "")
    assert (
        text.count('vit-base (random weights), batch=1 image_size=224 <span class="muted">before</span></h3>')
        == 1
    )
    assert text.count("after, AMD EPYC (Zen 3), 2 cores, 24 GiB</span></summary>") == 2


def test_runs_that_were_judged_differently_say_so(tmp_path):
    before, after = golden.write(tmp_path / "before"), golden.write(tmp_path / "after")
    suite = {
        **golden.SUITE,
        "measure": {"confidence": 0.99, "margin": 0.1},
        "parity": {"tolerances": {"fp32": {"atol": 0.5}}},
    }
    (after / "suite.json").write_text(json.dumps(suite), encoding="utf-8")
    runs = frame.load_results(before, after)
    text = html.render(runs, "")
    assert "95 % (before), 99 % (after) interval for the median" in text
    assert "within 2 % (before), 10 % (after)" in text
    assert "Gate for fp32: atol 0.0001, cosine 0.99999 (before), atol 0.5 (after)." in text
    assert "95 % (before), 99 % (after) confidence" in markdown.render(runs)


def test_a_report_at_the_highest_confidence_has_no_bounds_where_there_are_none(tmp_path):
    """Two processes that differ by a fifth: t is 6366."""
    record = replace(
        golden.RECORDS[0], measurement=golden.measurement(100.0, peak_mib=500, offsets=(0.0, 0.22))
    )
    suite = {**golden.SUITE, "measure": {"confidence": 0.9999, "margin": 0.02}}
    runs = frame.Runs((Results(RUN, None, (record,), golden.ENVIRONMENT, suite),))
    write_reports(runs, tmp_path)
    row = next(csv.DictReader((tmp_path / "summary.csv").open(encoding="utf-8")))
    assert (float(row["p50_ms"]) > 100, row["p50_low_ms"], row["p50_high_ms"]) == (True, "", "")
