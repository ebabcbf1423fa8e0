"""A thing has one name and a number one form, whichever output it stands in."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import benchbox
import golden_records as golden
from benchbox.cli import compared, tables
from benchbox.comparison import anchoring, gates, reports
from benchbox.reporters import labels, machines, numbers, wording
from benchbox.reporters.formats import html, markdown
from benchbox.reporters.write import write_reports
from benchbox.results.runs import Runs
from benchbox.runner.runner import Finished

WIDE = 400


def shown(what: Any) -> str:
    console = Console(file=io.StringIO(), width=WIDE, highlight=False, markup=False, emoji=False)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined]


def text_of(page: str) -> str:
    """The words of a page, a blank between two elements."""
    words: list[str] = []
    parser = HTMLParser()
    parser.handle_data = words.append  # type: ignore[method-assign]
    parser.feed(page)
    return " ".join(" ".join(words).split())


def unescaped(text: str) -> str:
    """The text without the escapes of Markdown, on one line."""
    return " ".join(text.replace("&lt;", "<").replace("&gt;", ">").split())


def outputs(runs: Runs) -> dict[str, str]:
    groups = wording.groups(runs)
    return {
        "html": text_of(html.render(runs, "")),
        "markdown": markdown.render(runs),
        "terminal": shown(tables.results_table(groups)) + shown(tables.reading(runs.results)),
    }


def compared_outputs(folder: Path, *limits: str) -> dict[str, str]:
    comparison = benchbox.compare([folder, folder])
    judgement = gates.judge(comparison, [gates.parse(text, comparison.metrics) for text in limits])
    return {
        "html": text_of(reports.html(comparison, judgement)),
        "markdown": reports.markdown(comparison, judgement),
        "terminal": shown(compared.comparison_table(comparison))
        + shown(compared.judgement_table(judgement, strict=False)),
    }


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    def make(suite: dict[str, Any] = golden.SUITE, metrics: dict[str, float] | None = None) -> Path:
        folder = golden.write(tmp_path / "run")
        records = [
            replace(r, parity=replace(r.parity, metrics=metrics)) if metrics and r.parity else r
            for r in golden.RECORDS
        ]
        lines = "".join(json.dumps(asdict(record)) + "\n" for record in records)
        (folder / "records.jsonl").write_text(lines, encoding="utf-8")
        (folder / "suite.json").write_text(json.dumps(suite), encoding="utf-8")
        return folder

    return make


def test_a_confidence_that_cannot_be_is_printed_as_what_was_computed_with(run) -> None:
    folder = run({**golden.SUITE, "measure": {"confidence": 1.5, "margin": 0.02}})
    for said in (*outputs(benchbox.load_results(folder)).values(), *compared_outputs(folder).values()):
        assert "95 %" in said
        assert "150 %" not in said


def test_a_damaged_confidence_is_no_difference_between_two_runs(run, tmp_path) -> None:
    damaged = run({**golden.SUITE, "measure": {"confidence": 1.5, "margin": 0.02}})
    assert benchbox.compare([golden.write(tmp_path / "whole"), damaged]).settings == ()


def test_a_perplexity_is_a_number_and_no_share(run, tmp_path) -> None:
    folder = run(metrics={"perplexity": 24.7})
    runs = benchbox.load_results(folder)
    for said in (*outputs(runs).values(), *compared_outputs(folder, "perplexity > 24").values()):
        assert re.search(r"(?<![\d.,])24\.7(?!\d|\.\d)", said)
        assert "2470" not in said
        assert "24.7 %" not in said
    (summary, *_) = write_reports(runs, tmp_path / "reports", ("csv",))
    with summary.open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["perplexity"] == "24.7"
    reports.write(benchbox.compare([folder, folder]), gates.Judgement((), ()), tmp_path / "out")
    with (tmp_path / "out" / "compare.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["perplexity_b"] == "24.7"


def test_what_lies_behind_a_mask_stands_among_the_details(run) -> None:
    """By itself, and only where there is some."""
    (group, *_) = wording.groups(benchbox.load_results(run()))
    row = dict(group.rows[0])
    assert "behind the mask, not judged" not in dict(wording.details(row))
    padded = {"padding_share": 0.2149, "padding_max_abs_error": 4.25, "padding_cosine": 0.96165}
    said = dict(wording.details({**row, **padded, "rel_l2_error": 0.125}))
    assert said["behind the mask, not judged"] == (
        "up to 21 % of the positions, max abs error 4.2e+00, cosine 0.96165"
    )
    assert said["relative L2 error"] == "1.2e-01"
    broken = {**row, **padded, "padding_max_abs_error": None, "padding_cosine": None}
    assert dict(wording.details(broken))["behind the mask, not judged"] == "up to 21 % of the positions"


def test_what_all_outputs_say_of_a_case_they_say_alike(run) -> None:
    """Heading, path, runtime, outcome, verdict, median, cosine; the page draws its conclusion as figures."""
    folder = run()
    runs = benchbox.load_results(folder)
    for group in wording.groups(runs):
        for where, output in outputs(runs).items():
            said = unescaped(output)
            assert group.heading in said, where
            assert where == "html" or group.conclusion in said, where
            for row, runtime in zip(group.rows, group.runtimes, strict=True):
                texts = [row["path"], runtime, row["outcome"], wording.verdict(row)]
                cells = [numbers.number(row["p50_ms"]), numbers.cosine(row["cosine"])]
                assert all(text in said for text in (*texts, *cells)), (where, row["path"])


def test_a_comparison_says_of_a_case_what_the_run_says(run) -> None:
    folder = run()
    (group, *_) = wording.groups(benchbox.load_results(folder))
    for where, output in compared_outputs(folder).items():
        said = unescaped(output)
        assert group.heading in said, where
        for row, runtime in zip(group.rows, group.runtimes, strict=True):
            cells = (numbers.number(row["p50_ms"]), numbers.file_mib(row["artifact_size_mib"]))
            assert all(text in said for text in (row["path"], runtime, *cells)), (where, row["path"])


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (numbers.number(0.012345), "0.01235"),
        (numbers.number(0.012345, narrow=True), "0.0123"),
        (numbers.number(0.0), "0"),
        (numbers.number(None), ""),
        (numbers.plain_number(24.7), "24.7"),
        (numbers.plain_number(1200.0), "1,200"),
        (numbers.interval(0.0071, 1032.1, 0.27), "0.0071 to 1,032"),
        (numbers.interval(0.985, 1.005, 0.991, 3), "0.985 to 1.005"),
        (numbers.ratio(0.0934, 0.0921, 0.0949, narrow=True), "0.09 (0.09-0.09)"),
        (numbers.ratio(0.0934, 0.0921, 0.0949), "0.0934 (0.0921 to 0.0949)"),
        (numbers.ratio(2.0, 1e-9, 1e12), "2.00 (1e-09 to 1,000 or more)"),
        (numbers.agreement(0.57), "57 %"),
        (numbers.agreement(0.99999), "99.9 %"),
        (numbers.cosine(0.57), "0.57000"),
        (numbers.cosine(0.9999999), "0.99999"),
        (numbers.cosine(-0.25, narrow=True), "-0.2500"),
        (numbers.metric("pooled_cosine")(0.98765499), "0.98765"),
        (numbers.growth(1.05), "+5.0 %"),
        (numbers.growth(2.1), "x2.1"),
        (numbers.growth(1e9), "x1,000 or more"),
        (numbers.count(1, "case"), "1 case"),
        (numbers.count(2000, "process", "processes"), "2,000 processes"),
        (labels.threads(1, 1), "1 thread"),
        (labels.threads(4, 2), "4+2 threads"),
    ],
)
def test_a_number_reads_like_this(said: str, text: str) -> None:
    assert said == text


def test_what_keeps_two_machines_apart_is_called_as_the_machine_is_described() -> None:
    assert set(anchoring._machine(golden.ENVIRONMENT)) <= set(machines.NAMES)


def test_the_front_door_names_what_is_there() -> None:
    """`help(benchbox.run)` and what it gives: every `finished.x` and every `benchbox.x` exists."""
    docs = [benchbox.__doc__, benchbox.run.__doc__, Finished.__doc__]
    said = " ".join(doc or "" for doc in docs)
    given = {field.name for field in dataclasses.fields(Finished)} | set(dir(Finished))
    words = re.findall(r"finished\.(\w+)", said)
    assert words
    assert set(words) <= given
    own = re.findall(r"`(\w+)`", Finished.__doc__ or "")
    assert own
    assert set(own) <= given
    assert all(hasattr(benchbox, name) for name in re.findall(r"benchbox\.(\w+)", said))


def quantized(group: wording.Group, count: int) -> wording.Group:
    """The group, the second of its rows with so many of 54 products quantized."""
    share = {"products": 54, "products_quantized": count, "quantized_share": count / 54}
    first, second, *rest = group.rows
    return replace(group, rows=(first, {**second, **share}, *rest))


def test_a_case_of_which_less_than_half_is_quantized_is_named(run) -> None:
    (group, *_) = wording.groups(benchbox.load_results(run()))
    hardly = quantized(group, 1)
    said = f"Less than half is quantized, the rest is not: {group.labels[1]} (1 of 54 products (2 %))."
    assert hardly.hardly_quantized == said
    assert hardly.conclusion.endswith(f" {said}")
    assert dict(wording.details(hardly.rows[1]))["quantized"] == "1 of 54 products (2 %)"
    assert quantized(group, 27).hardly_quantized == group.hardly_quantized == ""


def test_of_five_that_agree_the_two_that_cannot_be_told_apart_are_said_to_be_two_of_five(run) -> None:
    (group, *_) = wording.groups(benchbox.load_results(run()))
    ok = next(row for row in group.rows if row["outcome"] == "ok" and row["p50_ms"])
    five = replace(group, rows=(ok,) * 5, runtimes=("a", "b", "c", "d", "e"), best=(1, 3), agree=5)
    begins = "The fastest cannot be told apart, these 2 of the 5 that agree: "
    assert five.conclusion.startswith(f"{begins}{five.labels[1]}, {five.labels[3]}. Measure longer")
