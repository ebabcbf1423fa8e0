"""results/: what is written is read back, whole, and a torn line costs one case and no other."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cases
from benchbox.errors import StoreError
from benchbox.results import store
from benchbox.results.store import RunFolder
from benchbox.schema.seen import (
    Record,
)
from full_record import FULL, HERE, NOW


def record(batch: int = 1, **changes: Any) -> Record:
    plain = Record(cases.case("onnx", batch=batch), "ok", "2026-11-21T02:03:04+00:00", "benchbox run x")
    return replace(plain, **changes)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return store.create(tmp_path, {"name": "tiny"}, HERE, name="tiny", now=NOW)


def test_a_run_is_named_by_suite_time_and_hash(run: RunFolder) -> None:
    name, time, short = run.name.rsplit("-", 2)
    assert (name, time, len(short)) == ("tiny", "20261121T020304", 6)


def test_everything_in_a_record_comes_back(run: RunFolder) -> None:
    run.append([FULL, record()])
    loaded = store.load(run.folder)
    assert loaded.records == (FULL, record())
    assert [r.case.id for r in loaded.records] == [FULL.case.id, record().case.id]
    assert (loaded.name, loaded.suite, loaded.environment) == (run.name, {"name": "tiny"}, HERE)
    assert loaded.unreadable == ()


def test_a_run_can_be_named_by_any_of_its_files(run: RunFolder) -> None:
    run.append([record()])
    assert store.load(run.folder / store.RECORDS).records == (record(),)


def test_one_record_is_one_line(run: RunFolder) -> None:
    run.append([FULL])
    run.append([record()])
    lines = (run.folder / store.RECORDS).read_bytes().splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["mismatch", "ok"]


def test_records_are_on_the_disk_when_append_returns(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
    )
    run.append([record()])
    assert synced == [str(run.folder / store.RECORDS)]


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_costs_its_case_and_no_other(run: RunFolder, kept: int) -> None:
    """Killed while it wrote: 1 byte, 40 bytes, or all but the line feed and a byte of the second record."""
    run.append([record(1)])
    whole = (run.folder / store.RECORDS).read_bytes()
    run.append([record(2)])
    second = (run.folder / store.RECORDS).read_bytes()[len(whole) :].rstrip(b"\n")
    (run.folder / store.RECORDS).write_bytes(whole + second[:kept])
    torn = store.load(run.folder)
    assert (torn.records, torn.unreadable) == ((record(1),), (2,))
    run.append([record(3)])
    mended = store.load(run.folder)
    assert (mended.records, mended.unreadable) == ((record(1), record(3)), (2,))


def test_a_last_line_that_lacks_only_its_line_feed_is_whole(run: RunFolder) -> None:
    run.append([record(1)])
    path = run.folder / store.RECORDS
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert store.load(run.folder).records == (record(1),)
    run.append([record(2)])
    assert store.load(run.folder).records == (record(1), record(2))


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\x00\x00",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b'{"case": 1}',
        b"[" * 100_000,
        b'{"__class__": "os.system"}',
    ],
)
def test_a_damaged_line_in_the_middle_is_named_and_passed_over(run: RunFolder, line: bytes) -> None:
    run.append([record(1)])
    with (run.folder / store.RECORDS).open("ab") as file:
        file.write(line + b"\n")
    run.append([record(2)])
    loaded = store.load(run.folder)
    assert (loaded.records, loaded.unreadable) == ((record(1), record(2)), (2,))


def test_the_last_record_of_a_case_counts(run: RunFolder) -> None:
    run.append([record(1, outcome="failed", reason="killed"), record(2)])
    run.append([record(1)])
    assert {r.case.shape["batch"]: r.outcome for r in store.load(run.folder).records} == {1: "ok", 2: "ok"}


def test_a_record_of_a_newer_benchbox_is_not_guessed_at(run: RunFolder) -> None:
    run.append([record(1), record(2, schema_version=2)])
    loaded = store.load(run.folder)
    assert (loaded.records, loaded.unreadable) == ((record(1),), (2,))


def test_nan_is_never_written(run: RunFolder) -> None:
    assert FULL.parity is not None
    bad = replace(FULL, parity=replace(FULL.parity, noise_floor=float("nan")))
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.append([record(1), bad])
    assert (run.folder / store.RECORDS).read_bytes() == b""


def test_a_disk_that_refuses_is_named_with_what_to_type(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError) as caught:
        run.append([record()])
    assert str(caught.value) == (
        f"cannot write {run.folder / store.RECORDS}: No space left on device. Finished cases are safe; "
        f"free the disk or mend the permissions, then continue with: benchbox run --resume {run.folder}"
    )


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(StoreError, match=r"^cannot create .*results/tiny-.*: Not a directory$"):
        store.create(tmp_path / "results", {}, HERE, name="tiny", now=NOW)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (store.RECORDS, None, "is not a results folder: it has no records.jsonl"),
        (store.ENVIRONMENT, None, "environment.json cannot be read: .*No such file"),
        (store.ENVIRONMENT, "{}", "environment.json cannot be read: "),
        (store.SUITE, "{", "suite.json cannot be read: "),
        (store.SUITE, "[]", "suite.json cannot be read: it holds no mapping"),
        (store.SUITE, "[" * 100_000, "suite.json cannot be read: "),
    ],
)
def test_a_folder_that_is_no_run_is_named(run: RunFolder, file: str, text: str | None, message: str) -> None:
    (run.folder / file).unlink()
    if text is not None:
        (run.folder / file).write_text(text)
    with pytest.raises(StoreError, match=message):
        store.load(run.folder)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("vit", "vit"),
        ("../../etc/passwd", "etc-passwd"),
        ("a b/ü", "a-b"),
        ("...", "unnamed"),
        ("", "unnamed"),
        ("x" * 200, "x" * 80),
    ],
)
def test_no_name_leaves_its_folder(name: str, safe: str) -> None:
    assert store.safe_name(name) == safe


def test_bytes_that_are_no_text_lose_no_record(tmp_path: Path) -> None:
    """A file may be called anything; its name stands in a reason, and must not spoil the line."""
    run = store.create(tmp_path, {"file": "caf\udce9/s.yaml"}, HERE, name="a", now=NOW)
    failed = replace(FULL, outcome="failed", reason="cannot open caf\udce9.bin: é")
    run.append([failed])
    found = store.load(run.folder)
    assert [r.reason for r in found.records] == ["cannot open caf?.bin: é"]
    assert (found.unreadable, found.suite) == ((), {"file": "caf?/s.yaml"})
