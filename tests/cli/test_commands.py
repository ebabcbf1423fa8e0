"""The command line: what it prints, where, with which exit code, and what it does not load."""

from __future__ import annotations

import io
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

import golden_records as golden
import places
from benchbox.build import cache
from benchbox.cli import commands, live, tables
from benchbox.errors import StageError, StoreError, SuiteError
from benchbox.machine import doctor, environment
from benchbox.reporters import labels, wording
from benchbox.results import columns, store
from benchbox.results import runs as frame
from benchbox.runner import planning, runner
from benchbox.runner.observer import Observer
from benchbox.runner.planning import Capability, Planned
from benchbox.runner.runner import Finished
from benchbox.schema.asked import Backend, Case, Step, Threads
from benchbox.schema.seen import Environment, Record
from cases import case, suite

TORCH = case("torch")
ONNX = case("onnx")
INT8 = case("onnx", Step("int8_static", {"samples": 32}), batch=8)
CUDA = case("onnx", backend=Backend("onnxruntime", ("CUDAExecutionProvider",), Threads(1)))
CASES = (TORCH, ONNX, INT8, CUDA)
MACHINE = Environment(
    "a CPU", 2, ("avx2",), 8 * 2**30, "6.1.0", "3.11.7", {"numpy": "2.4.6"}, benchbox="0.1.0"
)


def record(of: Case, outcome: str = "ok", **values: Any) -> Record:
    command = f"benchbox run tiny.yaml --only id={of.id}"
    return Record(
        case=of, outcome=outcome, recorded_at="2026-01-01T12:00:00+00:00", command=command, **values
    )


FAILED = record(
    INT8,
    "failed",
    stage="build",
    reason="killed by SIGKILL",
    detail="first\nsecond\nthird\nfourth\nfifth\n",
    peak_memory_bytes=3 * 2**30,
)
SKIPPED = record(
    CUDA,
    "skipped",
    stage="plan",
    reason="CUDAExecutionProvider is not in onnxruntime 1.31.1",
    hint='pip install "benchbox[cuda]"',
)


COLUMNS = frame.Runs((store.Results("a run", Path(), (), MACHINE, {}),)).to_pandas().columns


def row(of: Case, outcome: str = "ok", **values: Any) -> dict[str, Any]:
    """A row of the table; None where nothing is known."""
    of_case = dict(zip(columns.CASE_NAMES, columns.of_case(of), strict=True))
    head = {"run": "a run", "case_id": of.id, "group": of.group, "machine": MACHINE.machine}
    unknown = dict.fromkeys(COLUMNS)
    return {
        **unknown,
        **head,
        **of_case,
        "opset_asked": of.opset,
        "is_baseline": False,
        "outcome": outcome,
        **values,
    }


def group(*rows: Mapping[str, Any], best: Sequence[int] = ()) -> wording.Group:
    return wording.group(dict(enumerate(rows)), best, ())


def rendered(what: Any, width: int = 80) -> list[str]:
    """The lines as a terminal without colours shows them, without trailing blanks."""
    console = Console(file=io.StringIO(), width=width, height=30, highlight=False, markup=False, emoji=False)
    console.print(what)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are not drawn, but for one file."""

    def write_reports(runs: frame.Runs, folder: Path) -> list[Path]:
        folder.mkdir(parents=True)
        (folder / "report.html").write_text("a report", encoding="utf-8")
        return [folder / "report.html"]

    monkeypatch.setattr("benchbox.reporters.write.write_reports", write_reports)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working folder with a suite in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text("a suite", encoding="utf-8")
    return tmp_path


def benchbox_(*argv: str) -> Result:
    return CliRunner().invoke(commands.app, argv, prog_name="benchbox")


@dataclass
class FakeRun:
    """A conductor that measures nothing: it remembers its call and leaves the records it is given."""

    records: tuple[Record, ...] = (record(ONNX),)
    interrupted: bool = False
    raises: BaseException | None = None
    called: Mapping[str, Any] | None = None
    cases: int = 0
    problem: str = ""

    def __call__(self, suite: Any, *, observer: Observer, reports: Path | None, **rest: Any) -> Finished:
        self.called = {"suite": suite, "reports": reports, **rest}
        if isinstance(self.raises, SuiteError | StoreError | StageError):
            raise self.raises
        now = datetime(2026, 1, 1, 12, tzinfo=UTC)
        run = store.create(Path(rest["results"]), {}, MACHINE, name="tiny", now=now)
        observer.started(run.folder, [r.case for r in self.records], [])
        for one in self.records:
            observer.entered(one.case, "measure")
            observer.measured(one.case, 117.2e6, 12, 0)
            observer.time_left(65.0, 30.0)
            run.append([one])
            observer.recorded(one)
        if self.raises:
            raise self.raises
        html = (Path(reports) / run.name / "report.html",) if reports else ()
        return Finished(store.load(run.folder), html, self.interrupted, self.problem, self.cases)


@pytest.fixture
def fake_run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeRun]:
    def install(**values: Any) -> FakeRun:
        fake = FakeRun(**values)
        monkeypatch.setattr(runner, "run", fake)
        return fake

    return install


MakeRun = Callable[..., FakeRun]


class TestRun:
    def test_what_was_asked_reaches_the_conductor(self, fake_run: MakeRun) -> None:
        fake = fake_run()
        result = benchbox_(
            "run", "tiny.yaml", "--set", "a=1", "--set", "b=2", "--only", "batch=1", "--skip", "CUDA",
            "--results", "r", "--reports", "p", "--cache", "c",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert fake.called == {
            "suite": Path("tiny.yaml"),
            "overrides": ["a=1", "b=2"],
            "only": ["batch=1"],
            "skip": ["CUDA"],
            "results": Path("r"),
            "reports": Path("p"),
            "cache": Path("c"),
            "resume": None,
        }

    def test_defaults_are_those_of_the_design(self, fake_run: MakeRun) -> None:
        fake = fake_run()
        benchbox_("run", "tiny.yaml")
        assert fake.called == {
            "suite": Path("tiny.yaml"),
            "overrides": [],
            "only": [],
            "skip": [],
            "results": Path("results"),
            "reports": Path("reports"),
            "cache": None,
            "resume": None,
        }

    def test_no_report_writes_records_only(self, fake_run: MakeRun) -> None:
        fake = fake_run()
        benchbox_("run", "tiny.yaml", "--no-report")
        assert fake.called is not None
        assert fake.called["reports"] is None

    @pytest.mark.parametrize(
        ("records", "interrupted", "code"),
        [
            ((record(ONNX),), False, 0),
            ((record(ONNX), SKIPPED), False, 0),
            ((), False, 0),
            ((record(ONNX), record(TORCH, "mismatch", reason="cosine")), False, 1),
            ((record(ONNX), FAILED), False, 1),
            ((record(ONNX),), True, 130),
            ((FAILED,), True, 130),
        ],
    )
    def test_the_exit_code_says_how_it_went(
        self, fake_run: MakeRun, records: tuple[Record, ...], interrupted: bool, code: int
    ) -> None:
        fake_run(records=records, interrupted=interrupted)
        assert benchbox_("run", "tiny.yaml").exit_code == code

    def test_a_case_without_a_record_is_not_ok(self, fake_run: MakeRun) -> None:
        """A disk that lost a line must not end as a success."""
        fake_run(records=(record(ONNX),), cases=2)
        assert benchbox_("run", "tiny.yaml").exit_code == 1

    def test_reports_that_could_not_be_written_are_not_ok(self, fake_run: MakeRun) -> None:
        fake_run(records=(record(ONNX),), problem="cannot write the reports")
        result = benchbox_("run", "tiny.yaml")
        assert result.exit_code == 1
        assert "error: cannot write the reports. Then: benchbox report results/" in result.stderr

    def test_the_table_goes_to_stdout_and_the_events_to_stderr(self, fake_run: MakeRun) -> None:
        """Away from a terminal each event is a line, whole, without colours."""
        fake_run(records=(record(ONNX), SKIPPED))
        result = benchbox_("run", "tiny.yaml")
        name = next(Path("results").iterdir()).name
        assert result.stderr.splitlines() == [
            f"results/{name}: 2 cases",
            f"   0:00  0/2  measuring {ONNX.title}",
            f"   1:05  1/2  ok        {ONNX.title}",
            f"   1:05  1/2  measuring {CUDA.title}",
            (f"   1:05  2/2  skipped   {CUDA.title}: CUDAExecutionProvider is not in onnxruntime 1.31.1"),
        ]
        assert [line.rstrip() for line in result.stdout.splitlines()] == [
            "vit-tiny (random weights), batch=1 image_size=32",
            "path, runtime             outcome         p50 ms  time / baseline    MiB  cosine",
            "onnx                      ok                         inconclusive",
            "onnxruntime CPU",
            "onnx                      skipped",
            "onnxruntime CUDA",
            "",
            "skipped  CUDAExecutionProvider is not in onnxruntime 1.31.1",
            "           vit-tiny | onnx | onnxruntime | CUDAExecutionProvider | batch=1",
            "         image_size=32",
            '         -> pip install "benchbox[cuda]"',
            "",
            f"results  results/{name}",
            f"report   reports/{name}/report.html",
            f"next     python -m webbrowser reports/{name}/report.html",
        ]

    def test_a_failed_case_is_what_to_type_next(self, fake_run: MakeRun) -> None:
        fake_run(records=(FAILED,))
        lines = benchbox_("run", "tiny.yaml").stdout.splitlines()
        assert f"next     benchbox run tiny.yaml --only id={INT8.id}" in lines

    def test_an_interrupted_run_says_how_to_go_on(self, fake_run: MakeRun) -> None:
        fake_run(interrupted=True)
        result = benchbox_("run", "tiny.yaml")
        folder = next(Path("results").iterdir())
        assert result.stderr.splitlines()[-1] == (
            f"interrupted; continue with: benchbox run --resume {folder}"
        )

    def test_what_the_results_do_not_know_is_said_again(self, fake_run: MakeRun) -> None:
        fake_run(interrupted=True)
        result = benchbox_("run", "tiny.yaml", "--reports", "my reports", "--cache", "c", "--no-report")
        folder = next(Path("results").iterdir())
        assert result.stderr.splitlines()[-1] == (
            f"interrupted; continue with: benchbox run --resume {folder} "
            "--no-report --reports 'my reports' --cache c"
        )

    def test_a_second_interrupt_says_so_too(self, fake_run: MakeRun) -> None:
        """It ends the run at once, with an exception out of the conductor."""
        fake_run(raises=KeyboardInterrupt())
        result = benchbox_("run", "tiny.yaml", "--results", "my results")
        folder = next(Path("my results").iterdir())
        assert result.exit_code == 130
        assert result.stderr.splitlines()[-1] == (
            f"interrupted; continue with: benchbox run --resume '{folder}'"
        )

    def test_resume_goes_on_with_the_suite_and_the_terms_of_the_run(
        self, fake_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake = fake_run()
        started_with = {"overrides": ["a=1"], "only": ["batch=1"], "skip": []}
        monkeypatch.setattr(runner, "resumed", lambda run: (f"suite of {run}", started_with))
        assert benchbox_("run", "--resume", "results/tiny-1").exit_code == 0
        assert fake.called is not None
        assert fake.called["suite"] == "suite of results/tiny-1"
        assert fake.called["overrides"] == ["a=1"]
        assert fake.called["only"] == ["batch=1"]
        assert fake.called["resume"] == Path("results/tiny-1")

    @pytest.mark.parametrize(
        "argv",
        [("tiny.yaml", "--resume", "results/x"), ("--resume", "results/x", "--only", "batch=1")],
    )
    def test_resume_takes_no_other_suite_and_no_terms(self, fake_run: MakeRun, argv: Sequence[str]) -> None:
        fake = fake_run()
        result = benchbox_("run", *argv)
        assert (result.exit_code, fake.called) == (2, None)
        assert result.stderr.endswith("leave them out. Type: benchbox run --resume results/x\n")

    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (
                SuiteError("unknown pass: 'fp61' [/]", file="tiny.yaml", line=3, column=9),
                2,
                "error: tiny.yaml:3:9: unknown pass: 'fp61' [/]\n",
            ),
            (
                StoreError("results/x is not a results folder"),
                2,
                "error: results/x is not a results folder\n",
            ),
            (StageError("no answer within 9 s"), 1, "error: no answer within 9 s\n"),
        ],
    )
    def test_an_error_is_one_message_and_no_traceback(
        self, fake_run: MakeRun, error: Exception, code: int, message: str
    ) -> None:
        fake_run(raises=error)
        result = benchbox_("run", "tiny.yaml")
        assert (result.exit_code, result.stdout, result.stderr) == (code, "", message)

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            ((), "error: which suite? For example: benchbox run suites/vit.yaml\n"),
            (
                ("nowhere.yaml",),
                "error: nowhere.yaml:1:1: cannot read the suite: No such file or directory\n",
            ),
            (("--resume", "nowhere"), "error: nowhere is not a results folder: it has no records.jsonl\n"),
        ],
    )
    def test_what_is_not_there_is_a_usage_error(self, argv: Sequence[str], message: str) -> None:
        """The real conductor is asked here: it fails before it starts anything."""
        result = benchbox_("run", *argv)
        assert (result.exit_code, result.stderr) == (2, message)

    def test_an_unknown_option_exits_with_2(self) -> None:
        assert benchbox_("run", "tiny.yaml", "--wrong").exit_code == 2


class TestFinalTable:
    ROWS = (
        row(
            TORCH,
            p50_ms=1254.31,
            p50_low_ms=1251.07,
            p50_high_ms=1257.4,
            is_baseline=True,
            peak_memory_mib=12750.2,
            cosine=1.0,
        ),
        row(
            ONNX,
            "mismatch",
            p50_ms=117.24,
            p50_low_ms=115.91,
            p50_high_ms=118.42,
            ratio=0.0934,
            ratio_low=0.0921,
            ratio_high=0.0949,
            verdict="faster",
            peak_memory_mib=511.4,
            cosine=0.999996,
        ),
        row(
            INT8,
            p50_ms=0.012345,
            p50_low_ms=0.0122,
            p50_high_ms=0.0125,
            ratio=10.21,
            ratio_low=9.874,
            ratio_high=12.5,
            verdict="inconclusive",
            peak_memory_mib=220.0,
            cosine=-0.25,
        ),
        row(CUDA, "skipped", verdict=None),
    )
    GOLDEN = """\
vit-tiny (random weights), batch=1 image_size=32
path, runtime             outcome         p50 ms  time / baseline    MiB  cosine
torch                     ok               1,254         baseline 12,750 1.00000
pytorch cpu                          1,251-1,257
onnx                      mismatch         117.2       not ranked    511 0.99999
onnxruntime CPU                      115.9-118.4 0.09 (0.09-0.09)
onnx                      skipped
onnxruntime CUDA
torch · pytorch cpu is the fastest that agrees with the reference: 1,254 (1,251
to 1,257) ms; worst cosine 1.00000. Faster, and left out because it does not
agree: onnx · onnxruntime CPU.

vit-tiny (random weights), batch=8 image_size=32
path, runtime             outcome         p50 ms  time / baseline    MiB  cosine
onnx +                    ok              0.0123     inconclusive    220 -0.2500
int8_static(samples=32)            0.0122-0.0125 10.2 (9.87-12.5)
onnxruntime CPU
"""

    def test_it_fits_80_columns(self) -> None:
        """Models and shapes apart, random weights beside the model's name, intervals below the values."""
        first, second = group(*self.ROWS[:2], self.ROWS[3], best=[0]), group(self.ROWS[2], best=[0])
        lines = rendered(tables.results_table([first, second]))
        assert lines == [*self.GOLDEN.splitlines(), ""]
        assert max(map(len, lines)) <= 80

    def test_an_interval_that_reaches_far_still_fits(self) -> None:
        """Two processes on a busy machine can differ so much that the interval says nothing."""
        wild = row(
            ONNX,
            p50_ms=0.27,
            p50_low_ms=0.0071,
            p50_high_ms=1032.1,
            ratio=0.07,
            ratio_low=0.0,
            ratio_high=3e6,
        )
        lines = rendered(tables.results_table([group(wild)]))
        assert lines[3] == "onnxruntime CPU                     0.0071-1,032 0.07 (0.00->999)"

    @pytest.mark.parametrize(
        ("best", "said"),
        [
            (
                [1],
                (
                    "onnx · onnxruntime CPU is the fastest that agrees with the reference: "
                    "1.000 (not yet known) ms."
                ),
            ),
            (
                [1, 0],
                (
                    "The fastest cannot be told apart: onnx · onnxruntime CPU, torch · pytorch cpu. "
                    "Measure longer, or on a quieter machine."
                ),
            ),
            ([], "No case that agrees with the reference was timed."),
        ],
    )
    def test_what_to_ship_is_said_as_in_the_reports(self, best: Sequence[int], said: str) -> None:
        both = group(row(TORCH, p50_ms=2.0), row(ONNX, p50_ms=1.0), best=best)
        assert both.conclusion == said
        assert " ".join(rendered(tables.results_table([both]))[6:]).strip() == said

    def test_nothing_is_concluded_from_one_case(self) -> None:
        one = group(row(TORCH, p50_ms=2.0), row(CUDA, "skipped"), best=[0])
        assert rendered(tables.results_table([one]))[6:] == [""]

    def test_several_runs_are_apart(self) -> None:
        two = [group({**row(ONNX), "run": name}) for name in ("before", "after")]
        lines = rendered(tables.results_table(two, several_runs=True))
        assert [line for line in lines if "vit-tiny" in line] == [
            "before: vit-tiny (random weights), batch=1 image_size=32",
            "after: vit-tiny (random weights), batch=1 image_size=32",
        ]

    def test_what_cases_differ_in_is_said_beside_the_runtime(self) -> None:
        threads = replace(ONNX, backend=replace(ONNX.backend, threads=Threads(4, 2)))
        old = replace(ONNX, opset=13, dynamic_axes=False)
        found = group(*(row(one) for one in (ONNX, threads, old)))
        assert found.runtimes == (
            "onnxruntime CPU, 1 thread, opset 17, dynamic axes",
            "onnxruntime CPU, 4+2 threads, opset 17, dynamic axes",
            "onnxruntime CPU, 1 thread, opset 13, static axes",
        )

    def test_names_are_text_and_never_markup_or_control(self) -> None:
        """A model called `[red]x[/]` with an escape sequence in it shows as written, less the escape."""
        evil = replace(ONNX, model=replace(ONNX.model, name="[red]x[/]\x1b[31m\n"))
        lines = rendered(tables.results_table([group(row(evil))]))
        assert lines[0] == "[red]x[/] [31m  (random weights), batch=1 image_size=32"
        assert "\x1b" not in "".join(
            rendered(tables.reasons([([record(evil, "failed", reason="\x1b[2J[/]")], 1)]))
        )

    def test_a_reason_is_said_once_with_the_end_of_stderr_and_the_hint(self) -> None:
        other = record(case("onnx", "fp16", backend=CUDA.backend), "skipped")
        skips = [
            replace(other, case=replace(CUDA, opset=opset), stage="plan", reason="no CUDA", hint="get one")
            for opset in (17, 18, 19, 20)
        ]
        assert rendered(tables.reasons([([FAILED], 1), (skips, len(skips))]), width=91) == [
            "failed   at build: killed by SIGKILL",
            "           vit-tiny | onnx + int8_static(samples=32) | onnxruntime | CPUExecutionProvider |",
            "         batch=8 image_size=32",
            "           | second",
            "           | third",
            "           | fourth",
            "           | fifth",
            "           peak memory until then: 3,072 MiB",
            "skipped  no CUDA",
            *["           vit-tiny | onnx | onnxruntime | CUDAExecutionProvider | batch=1 image_size=32"] * 3,
            "           and 1 more",
            "         -> get one",
            "",
        ]


class TestLive:
    def test_a_line_says_what_the_table_will_say(self) -> None:
        """The median over all processes; in the log of a CI this line is the result."""
        out = Console(file=io.StringIO(), width=200, highlight=False)  # the golden machine drifts by 9 %
        lines = live.PlainLines(out)
        lines.started(Path("results/r"), [ONNX], [])
        lines.measured(ONNX, 90.72e6, 1, 1)
        measured = golden.measurement(4.0, peak_mib=1, wobble=0.0, offsets=(0.0, 0.0))
        timed = replace(record(ONNX), measurement=measured)
        lines.recorded(timed)
        (table_ms,) = frame.Runs((store.Results("r", Path(), (timed,), MACHINE, {}),)).table["p50_ms"]
        assert round(table_ms, 3) == 4.14
        assert out.file.getvalue().splitlines()[-1].endswith(": p50 4.140 ms, 2 processes")  # type: ignore[attr-defined]

    def test_a_person_gets_a_table_and_a_log_gets_lines(self) -> None:
        terminal = Console(file=io.StringIO(), force_terminal=True)
        log = Console(file=io.StringIO(), force_terminal=False)
        assert isinstance(live.display(terminal, {"TERM": "xterm"}), live.LiveTable)
        assert isinstance(live.display(log, {"TERM": "xterm"}), live.PlainLines)
        for quiet in ({"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "dumb"}):
            assert isinstance(live.display(terminal, quiet), live.PlainLines)

    def test_the_board_shows_state_median_rounds_and_time_left(self) -> None:
        board = (
            live.Board.of(CASES, done=[])
            .entered(TORCH, "measure")
            .measured(TORCH, 254.31e6, 12, 1)
            .entered(ONNX, "load")
            .recorded(FAILED)
            .at(3725.0, 65.0)
        )
        assert rendered(live.view(board, width=80, height=30)) == [
            "case                                          state        p50 ms rounds process",
            "torch | pytorch cpu | batch=1                 measuring     254.3     12       2",
            "onnx | onnxruntime CPU | batch=1              loading",
            "onnx + int8_static(samples=32) | onnxruntime… failed",
            "onnx | onnxruntime CUDA | batch=1             waiting",
            "",
            "━━━━━━━━╸                           1/4 done, 1 not ok, 1:02:05, about 1:05 left",
            "Ctrl-C stops after what is in hand",
        ]

    def test_one_case_is_built_at_a_time(self) -> None:
        """Nobody says that a build has ended: the next one has begun."""
        board = live.Board.of(CASES, done=[]).entered(TORCH, "build").entered(ONNX, "reference")
        assert [state.word for state in board.states.values()] == ["built", "reference", "waiting", "waiting"]
        assert [state.active for state in board.states.values()] == [False, True, False, False]

    def test_a_title_has_what_tells_cases_apart(self) -> None:
        other = replace(ONNX, model=replace(ONNX.model, name="deit"))
        assert list(labels.short_titles([TORCH, ONNX]).values()) == [
            "torch | pytorch cpu",
            "onnx | onnxruntime CPU",
        ]
        assert list(labels.short_titles([ONNX, INT8]).values()) == [
            "onnx | onnxruntime CPU | batch=1",
            "onnx + int8_static(samples=32) | onnxruntime CPU | batch=8",
        ]
        assert list(labels.short_titles([ONNX, other]).values()) == [
            "vit-tiny | onnx | onnxruntime CPU",
            "deit | onnx | onnxruntime CPU",
        ]

    def test_a_low_terminal_shows_what_is_active_and_what_comes_next(self) -> None:
        states = tuple(
            live.State(str(number), word, finished=word == "ok")
            for number, word in enumerate(["ok", "ok", "ok", "measuring", "waiting", "measuring", "waiting"])
        )
        titles = {count: [s.title for s in live.visible(states, count)] for count in (2, 3, 5, 9)}
        assert titles == {
            2: ["3", "5"],
            3: ["3", "4", "5"],
            5: ["2", "3", "4", "5", "6"],
            9: ["0", "1", "2", "3", "4", "5", "6"],
        }

    def test_a_case_that_ended_is_not_undone_by_its_rounds_as_a_baseline(self) -> None:
        """The baseline goes on being measured beside others after its own record is on the disk."""
        board = live.Board.of([ONNX], done=[record(TORCH)]).recorded(record(ONNX))
        assert board.measured(ONNX, 1.0, 1, 0) == board
        assert board.entered(TORCH, "load") == board
        assert (board.finished, board.total) == (2, 2)

    def test_the_terminal_is_redrawn_at_most_twice_a_second(self) -> None:
        """Redraws between blocks take time from the run, so blocks alone do not cause them."""
        console = Console(file=io.StringIO(), force_terminal=True, width=80, height=30)
        with live.LiveTable(console) as table:
            table.started(Path("results/x"), [ONNX], [])
            shown = len(console.file.getvalue())  # type: ignore[attr-defined]
            table.measured(ONNX, 117.2e6, 1, 0)
            table.time_left(0.4, None)
            assert len(console.file.getvalue()) == shown  # type: ignore[attr-defined]
            table.time_left(0.6, None)
            assert "117.2" in console.file.getvalue()[shown:]  # type: ignore[attr-defined]

    def test_a_stage_is_said_once_however_many_processes_there_are(self) -> None:
        console = Console(file=io.StringIO(), width=80)
        with live.PlainLines(console) as lines:
            lines.started(Path("results/x"), [ONNX], [record(TORCH)])
            for _ in range(3):
                lines.entered(ONNX, "load")
                lines.entered(ONNX, "measure")
        assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
            "results/x: 1 case, 1 done before",
            f"   0:00  1/2  loading   {ONNX.title}",
            f"   0:00  1/2  measuring {ONNX.title}",
        ]


class TestOtherCommands:
    def test_plan_shows_the_matrix_and_runs_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Any] = []
        hint = 'pip install "benchbox[cuda]"'

        def plan(suite: Any, folder: Path | None) -> tuple[Planned, ...]:
            asked.append((suite.cases, folder))
            return (
                Planned(TORCH, (True,), "", "", is_baseline=True),
                Planned(INT8, (True, False), "", "", is_baseline=False),
                Planned(CUDA, (False,), "no CUDA", hint, is_baseline=False),
            )

        monkeypatch.setattr("benchbox.suite.load.load_suite", lambda path, overrides: suite(CASES))
        monkeypatch.setattr(planning, "plan", plan)
        result = benchbox_("plan", "tiny.yaml", "--only", "batch=1", "--cache", "c")
        assert asked == [((TORCH, ONNX, CUDA), Path("c"))]
        assert result.exit_code == 0, result.output
        assert [line.rstrip() for line in result.stdout.splitlines()] == [
            "vit-tiny (random weights), batch=1 image_size=32",
            "path                            runtime                         artifact",
            "torch                           pytorch cpu                     built",
            "onnx                            onnxruntime CUDA                cannot run here",
            "",
            "vit-tiny (random weights), batch=8 image_size=32",
            "path                            runtime                         artifact",
            "onnx + int8_static(samples=32)  onnxruntime CPU                 1 of 2 steps",
            "",
            "1 case cannot run here: no CUDA",
            f"-> {hint}",
            "next     benchbox run tiny.yaml --only batch=1",
        ]

    def test_a_long_table_is_cut_and_says_where_the_rest_is(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was measured is shown before what cannot run here."""
        run = store.create(here / "results", {}, MACHINE, name="a", now=datetime(2026, 1, 1, 12, tzinfo=UTC))
        run.append([record(CUDA, "skipped", reason="no CUDA"), record(ONNX), record(TORCH), record(INT8)])
        monkeypatch.setattr(tables, "MOST_ROWS", 2)
        shown = benchbox_("report", str(run.folder)).stdout
        assert [line[:7] for line in shown.splitlines()[2:6:2]] == ["onnx   ", "torch  "]
        assert "2 more cases are in summary.csv" in shown.splitlines()
        assert "skipped  no CUDA" in [line.rstrip() for line in shown.splitlines()]

    def test_report_is_redrawn_from_results_alone(self, here: Path) -> None:
        now = datetime(2026, 1, 1, 12, tzinfo=UTC)
        runs = [store.create(here / "results", {}, MACHINE, name=name, now=now) for name in ("a", "b")]
        for run in runs:
            run.append([record(ONNX)])
        one = benchbox_("report", str(runs[0].folder))
        assert (one.exit_code, (here / f"reports/{runs[0].name}/report.html").is_file()) == (0, True)
        both = benchbox_("report", *(str(run.folder) for run in runs), "--out", "compared")
        assert both.exit_code == 0
        assert "report   compared/report.html" in both.stdout.splitlines()

    def test_the_folder_of_a_report_of_many_runs_has_a_name_that_fits(self, here: Path) -> None:
        """Ten names of 23 letters; and a run that is named twice is in the report once."""
        now = datetime(2026, 1, 1, 12, tzinfo=UTC)
        runs = [store.create(here / "results", {}, MACHINE, name=f"run{n}", now=now) for n in range(10)]
        for run in runs:
            run.append([record(ONNX)])
        done = benchbox_("report", *(str(run.folder) for run in runs), f"{runs[0].folder}/.")
        assert done.exit_code == 0
        (folder,) = (here / "reports").iterdir()
        assert folder.name.startswith(f"{runs[0].name}+9-more-")
        assert done.stdout.count("results  ") == 10

    def test_report_of_what_is_no_run_is_a_usage_error(self) -> None:
        result = benchbox_("report", "nowhere")
        assert (result.exit_code, result.stderr) == (
            2,
            "error: nowhere is not a results folder: it has no records.jsonl\n",
        )

    CAPABILITIES = (
        Capability("passes", "fp16", "Half precision.", available=True),
        Capability("backends", "onnxruntime", "ONNX Runtime.", available=True, providers=("A", "B")),
        Capability(
            "backends",
            "tensorrt",
            "TensorRT.",
            available=False,
            reason="needs tensorrt",
            hint="pip install x",
        ),
    )

    def test_list_says_what_runs_here_and_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(planning, "capabilities", lambda: self.CAPABILITIES)
        assert [line.rstrip() for line in benchbox_("list").stdout.splitlines()] == [
            "passes",
            "fp16          Half precision.                                             ready",
            "",
            "backends",
            "onnxruntime   ONNX Runtime.                                               ready",
            "              A, B",
            "tensorrt      TensorRT.                                                   absent",
            "              needs tensorrt",
            "              -> pip install x",
            "",
        ]

    def test_list_as_json_is_for_machines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(planning, "capabilities", lambda: self.CAPABILITIES)
        assert json.loads(benchbox_("list", "--json").stdout)[1] == {
            "kind": "backends",
            "word": "onnxruntime",
            "summary": "ONNX Runtime.",
            "available": True,
            "providers": ["A", "B"],
            "reason": "",
            "hint": "",
            "origin": "benchbox",
            "hides": [],
        }

    @pytest.fixture
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        backends = tuple(c for c in self.CAPABILITIES if c.kind == "backends")
        monkeypatch.setattr(planning, "capabilities", {"backends": backends}.__getitem__)
        monkeypatch.setattr(environment, "describe", lambda: MACHINE)
        monkeypatch.setattr(doctor, "take_readings", lambda machine: doctor.Readings(machine, 2**30))

    @pytest.mark.usefixtures("machine")
    def test_doctor_says_what_the_machine_is_and_what_to_type(self) -> None:
        result = benchbox_("doctor")
        lines = [line.rstrip() for line in result.stdout.splitlines()]
        assert result.exit_code == 0
        assert lines[:10] == [
            "CPU            a CPU",
            "int8           AVX2 without VNNI: unsigned-times-signed products saturate,",
            "               passes clip weights",
            "cores          2",
            "memory         8.0 GiB",
            "GPU driver     no NVIDIA driver",
            "kernel         6.1.0",
            "Python         3.11.7",
            "packages       numpy 2.4.6",
            "benchbox       0.1.0",
        ]
        assert "fp16" not in result.stdout
        assert lines[-4:] == [
            "ok       2 cores",
            "ok       no memory in swap",
            "ok       each core is a whole one",
            "ok       no virtual machine and no container",
        ]
        assert "warning  1.0 GiB of memory free" in lines
        assert "note     no C++ compiler" in lines

    @pytest.mark.usefixtures("machine")
    def test_doctor_as_json_has_all_three_parts(self) -> None:
        said = json.loads(benchbox_("doctor", "--json").stdout)
        assert said["environment"]["cpu_model"] == "a CPU"
        assert [backend["word"] for backend in said["backends"]] == ["onnxruntime", "tensorrt"]
        assert said["findings"][0]["level"] == "warning"

    def test_schema_is_json_schema(self) -> None:
        said = json.loads(benchbox_("schema").stdout)
        assert said["$schema"].startswith("http://json-schema.org/")
        assert {"models", "paths", "backends"} <= set(said["properties"])

    def test_cache_is_sized_and_cleared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cache, "size", lambda folder: cache.Sizes(3, 5 * 2**20))
        monkeypatch.setattr(cache, "clear", lambda folder: cache.Sizes(3, 5 * 2**20))
        assert benchbox_("cache", "path", "--cache", "c").stdout == "c\n"
        assert benchbox_("cache", "size", "--cache", "c").stdout == "3 artifacts, 5.000 MiB in c\n"
        assert benchbox_("cache", "clear", "--cache", "c").stdout == "removed 3 artifacts, 5.000 MiB from c\n"

    def test_the_version_is_the_packages(self) -> None:
        assert benchbox_("--version").stdout == "0.1.0\n"

    @pytest.mark.parametrize(
        "command",
        [
            "",
            "run",
            "plan",
            "report",
            "list",
            "doctor",
            "schema",
            "cache",
            "cache path",
            "cache size",
            "cache clear",
        ],
    )
    def test_every_help_ends_with_an_example(self, command: str) -> None:
        result = benchbox_(*command.split(), "--help")
        after = result.stdout.partition("Examples")[2].split()
        assert result.exit_code == 0
        assert "benchbox" in " ".join(after)


HEAVY = ("torch", "onnx", "onnxruntime", "transformers", "pandas", "tensorrt", "sklearn", "pydantic", "scipy")
MAIN = "from benchbox.cli.commands import main; main()"
HELP = "import sys; sys.argv = ['benchbox', '--help']; from benchbox.cli.commands import main; main()"


def python(code: str, *, folder: Path = places.ROOT) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        env=environ,
        check=True,
    )


class TestStart:
    @pytest.mark.parametrize("code", ["import benchbox", HELP])
    def test_no_framework_is_loaded_to_import_or_to_help(self, code: str) -> None:
        """`-X importtime` names every module that was imported: `import time: 12 | 34 | name`."""
        done = python(code)
        loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
        assert "benchbox" in loaded
        assert loaded.isdisjoint(HEAVY)

    def test_help_takes_at_most_0_4_seconds_of_cpu_time(self) -> None:
        """The median of ten processes, as the kernel counts them after they were waited for."""
        python(HELP)  # compiles to bytecode

        def seconds() -> Iterator[float]:
            for _ in range(10):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                python(HELP)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                yield after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        assert statistics.median(seconds()) <= 0.4

    def test_a_full_disk_behind_stdout_is_an_error_without_a_traceback(self) -> None:
        code = f"import sys; sys.argv = ['benchbox', 'cache', 'path']; {MAIN}"
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("error: No space left on device\n")
        assert done.returncode != 0

    def test_a_terminal_that_knows_ascii_only_gets_every_line(self) -> None:
        suite = places.SUITES / "smoke.yaml"
        argv = ["benchbox", "plan", str(suite), "--set", "models.0.name=ü"]
        code = f"import sys; sys.argv = {argv!r}; from benchbox.cli.commands import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("\\xfc (random weights), batch=2 image_size=32\n")

    @pytest.mark.parametrize("command", ["list", "schema", "--help"])
    def test_a_closed_pipe_ends_the_command_quietly(self, command: str) -> None:
        """`benchbox list | head -1`: no traceback, whatever is left unsaid."""
        code = f"import sys; sys.argv = ['benchbox', {command!r}]; {MAIN}"
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                [sys.executable, "-c", code],
                stdout=writing,
                stderr=subprocess.PIPE,
                cwd=places.ROOT,
                text=True,
                check=False,
            )
        finally:
            os.close(writing)
        assert done.stderr == ""
