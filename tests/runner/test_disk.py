"""Disks that are full, read-only or shared, for real: a clear message or a `failed` row, nothing lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cases
from benchbox.build.cache import Cache
from benchbox.cli import commands
from benchbox.errors import StoreError
from benchbox.measure.rounds import Ready
from benchbox.results import store
from benchbox.runner import runner
from benchbox.schema.asked import Case
from full_record import FULL, HERE, NOW
from watching import Notes, command, workers

pytest.importorskip("torch")

Make = Callable[[Case], Ready]
Mount = Callable[[int], Path]

# Three groups, so that there are three appends; in every group the same artifact.
TRIO = [cases.case("onnx", batch=batch) for batch in (1, 2, 4)]
SUITE = cases.written(budget_seconds=0.1, block_seconds=0.005) | {"paths": ["onnx", ["onnx", "int8_dynamic"]]}


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Makes small disks: a tmpfs of so many bytes."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount the small disk that this test fills")
    made: list[Path] = []

    def make(size_bytes: int) -> Path:
        folder = tmp_path / f"disk-{len(made)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this container may not mount a tmpfs: {done.stderr.strip()}")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Leaves not a byte on the disk; returns the file that takes it all."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


@pytest.fixture(scope="module")
def trio(ready: Make) -> None:
    for case in TRIO:
        ready(case)


def go(results: Path, cache: Path, notes: Notes, **options: Any) -> runner.Finished:
    return runner.run(
        cases.suite(TRIO), results=results, reports=None, cache=cache, observer=notes, **options
    )


def outcomes(results: store.Results) -> list[str]:
    return [record.outcome for record in results.records]


def suite_file(folder: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(SUITE))
    return path


# --- The results folder ---


@pytest.mark.usefixtures("trio")
def test_a_disk_that_fills_up_while_it_runs_loses_no_finished_case(mount: Mount, cache_folder: Path) -> None:
    """The message names what to type, and once there is room that does the rest."""
    disk = mount(2**18)
    notes = Notes(at_recorded=lambda: fill(disk))
    with pytest.raises(StoreError) as caught:
        go(disk, cache_folder, notes)
    message = str(caught.value)
    assert message.startswith(f"cannot write {notes.folder / store.RECORDS}: No space left on device.")
    assert message.endswith(f"continue with: benchbox run --resume {notes.folder}")
    assert outcomes(store.load(notes.folder)) == ["ok"]
    assert workers() == []

    (disk / "filler").unlink()
    again = Notes()
    finished = go(disk, cache_folder, again, resume=notes.folder)
    assert (again.done, again.todo) == (["onnx/1"], ["onnx/2", "onnx/4"])
    assert outcomes(finished.results) == ["ok"] * 3


def test_no_run_begins_on_a_full_disk(mount: Mount, cache_folder: Path) -> None:
    disk = mount(2**16)
    fill(disk)
    with pytest.raises(StoreError, match=r"^cannot create .*/tiny-.*: No space left on device$"):
        go(disk, cache_folder, Notes())


@pytest.mark.usefixtures("trio")
def test_a_results_folder_that_becomes_read_only_loses_no_finished_case(
    mount: Mount, cache_folder: Path
) -> None:
    disk = mount(2**18)
    notes = Notes(at_recorded=lambda: remount(disk, "ro"))
    with pytest.raises(StoreError, match=r"records\.jsonl: Read-only file system\. Finished cases are safe"):
        go(disk, cache_folder, notes)
    assert outcomes(store.load(notes.folder)) == ["ok"]
    assert workers() == []


def test_a_run_into_a_read_only_folder_exits_with_3_and_names_it(mount: Mount, tmp_path: Path) -> None:
    disk = mount(2**16)
    remount(disk, "ro")
    result = CliRunner().invoke(commands.app, ["run", str(suite_file(tmp_path)), "--results", str(disk)])
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: cannot create {disk}/tiny-")
    assert result.stderr.endswith(": Read-only file system\n")


def test_reports_that_find_no_room_exit_with_3_and_the_results_stay(mount: Mount, tmp_path: Path) -> None:
    run = store.create(tmp_path, {"name": "tiny"}, HERE, name="tiny", now=NOW)
    run.append([FULL])
    disk = mount(2**16)
    result = CliRunner().invoke(commands.app, ["report", str(run.folder), "--out", str(disk / "out")])
    assert result.exit_code == 3
    assert result.stderr == f"error: cannot write the reports into {disk / 'out'}: No space left on device\n"
    assert store.load(run.folder).records == (FULL,)


def test_a_run_that_is_killed_while_it_writes_a_record_tears_that_line_and_no_other(tmp_path: Path) -> None:
    """The kernel ends the writer in the middle of the second line: its file may not grow further."""
    run = store.create(tmp_path, {"name": "tiny"}, HERE, name="tiny", now=NOW)
    run.append([FULL])
    whole = (run.folder / store.RECORDS).read_bytes()
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from dataclasses import replace\n"
        "from benchbox.results import store\n"
        "run = store.RunFolder(Path(sys.argv[1])); record = store.load(run.folder).records[0]\n"
        "other = replace(record, case=replace(record.case, opset=18), detail='x' * 50_000)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))\n"
        "run.append([other])\n"
    )
    limit = len(whole) + 20_000
    done = subprocess.run([sys.executable, "-c", code, str(run.folder), str(limit)], check=False)
    assert done.returncode == -signal.SIGXFSZ
    assert (run.folder / store.RECORDS).stat().st_size == limit
    torn = store.load(run.folder)
    assert (torn.records, torn.unreadable) == ((FULL,), (2,))
    run.append([FULL])
    mended = store.load(run.folder)
    assert (mended.records, mended.unreadable) == ((FULL,), (2,))
    result = CliRunner().invoke(commands.app, ["report", str(run.folder), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "1 line of records.jsonl could not be read" in result.stderr
    assert "1 line of records.jsonl could not be read" in (tmp_path / "out" / "report.html").read_text()


# --- The cache ---


def test_a_read_only_cache_fails_each_case_with_the_reason(mount: Mount, tmp_path: Path) -> None:
    disk = mount(2**16)
    remount(disk, "ro")
    finished = go(tmp_path, disk, Notes())
    assert [(r.outcome, r.stage, r.reason) for r in finished.results.records] == [
        ("failed", "reference", f"the cache in {disk} refuses: Read-only file system")
    ] * 3


@pytest.mark.usefixtures("trio")
def test_a_read_only_cache_that_holds_everything_is_enough(
    mount: Mount, cache_folder: Path, tmp_path: Path
) -> None:
    disk = mount(2**28)
    subprocess.run(["cp", "-r", f"{cache_folder}/.", str(disk)], check=True)
    remount(disk, "ro")
    assert outcomes(go(tmp_path, disk, Notes()).results) == ["ok"] * 3


def test_a_cache_on_a_full_disk_fails_each_case_with_the_reason(mount: Mount, tmp_path: Path) -> None:
    """The references find room, the model's weights of half a MiB do not."""
    disk = mount(400 * 2**10)
    finished = go(tmp_path, disk, Notes())
    assert outcomes(finished.results) == ["failed"] * 3
    for record in finished.results.records:
        assert record.stage in ("reference", "build")
        said = re.sub(r"\([\d.,]+ MiB are free there\)", "(some)", record.reason)
        assert said == (
            f"the cache in {disk} refuses: No space left on device (some); make room with: "
            f"benchbox cache clear --cache {disk}, or keep it on another disk: --cache or BENCHBOX_CACHE"
        )
    assert workers() == []
    assert not list(disk.glob("building/*"))


def test_two_runs_at_once_build_each_artifact_once(tmp_path: Path) -> None:
    """Two processes with one empty cache: both are fine, and state the very same builds."""
    file, cache = suite_file(tmp_path), tmp_path / "cache"
    both = [
        subprocess.Popen(
            command("run", file, "--results", tmp_path / name, "--cache", cache, "--no-report"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("one", "other")
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    one, other = (store.load(next((tmp_path / name).iterdir())) for name in ("one", "other"))
    assert outcomes(one) == outcomes(other) == ["ok", "ok"]
    assert [r.artifact for r in one.records] == [r.artifact for r in other.records]
    assert len(list((cache / "entries").iterdir())) == 3  # the reference, the export, the pass
    assert not list((cache / "building").iterdir())


def test_clearing_the_cache_leaves_alone_what_is_being_built(tmp_path: Path) -> None:
    """A builder in another process is held in the middle of its work while the cache is cleared."""
    cache = Cache(tmp_path / "cache")
    cache.make("done", lambda folder: {"kind": str((folder / "a").write_bytes(b"abc"))})
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = (
        "import sys; from pathlib import Path; from benchbox.build.cache import Cache\n"
        "def fill(folder):\n"
        "    (folder / 'a').write_bytes(b'abc'); print('half', flush=True); Path(sys.argv[2]).read_text()\n"
        "    (folder / 'b').write_bytes(b'def'); return {}\n"
        "print(sorted(Cache(Path(sys.argv[1])).make('key', fill).files), flush=True)\n"
    )
    arguments = [sys.executable, "-c", code, str(cache.folder), str(fifo)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "half\n"
        result = CliRunner().invoke(commands.app, ["cache", "clear", "--cache", str(cache.folder)])
        fifo.write_text("go on")
        assert maker.communicate(timeout=60)[0] == "['a', 'b']\n"
    assert result.exit_code == 0
    assert result.stdout.startswith("removed 1 artifact, ")
    fresh = Cache(cache.folder)
    assert fresh.find("done") is None
    found = fresh.find("key")
    assert found is not None
    assert sorted(found.files) == ["a", "b"]


def test_a_run_whose_cache_is_cleared_while_it_builds_ends_with_a_row_for_every_case(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cleared: list[int] = []

    def clear(case: Case, stage: str) -> None:
        if stage == "build":
            cleared.append(
                CliRunner().invoke(commands.app, ["cache", "clear", "--cache", str(cache)]).exit_code
            )

    notes = Notes(at_entered=clear)
    finished = go(tmp_path / "results", cache, notes)
    assert cleared == [0, 0, 0]
    records = finished.results.records
    assert len(records) == 3
    for record in records:
        assert record.outcome == "ok" or record.reason
    kept = Cache(cache)
    assert all(kept.find(entry.name) for entry in (cache / "entries").iterdir())
