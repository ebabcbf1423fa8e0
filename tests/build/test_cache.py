"""The cache: made once, found by its content, and never believed without its hash."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchbox.build import cache
from benchbox.build.cache import Cache, Entry, Sizes
from benchbox.errors import CorruptArtifact, StageError

ABC = hashlib.sha256(b"abc").hexdigest()


def writing(content: Mapping[str, bytes], calls: list[str] | None = None) -> Callable[[Path], dict[str, Any]]:
    """A maker that writes files, and notes that it was called."""

    def fill(folder: Path) -> dict[str, Any]:
        (calls if calls is not None else []).append(folder.name)
        for name, data in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return {"opset": 17}

    return fill


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_what_was_made_is_found_with_its_hash_size_and_content(store: Cache) -> None:
    made = store.make("k1", writing({"model.onnx": b"abc"}))
    assert made == Cache(store.folder).find("k1")
    assert (made.key, made.files, made.size_bytes) == ("k1", {"model.onnx": ABC}, 3)
    assert (made.content, made.sha256) == ({"opset": 17}, ABC)
    assert (made.folder / "model.onnx").read_bytes() == b"abc"
    assert made.build_seconds > 0


def test_files_in_folders_belong_to_the_entry_and_have_one_hash_together(store: Cache) -> None:
    made = store.make("k1", writing({"b/data": b"abc", "a": b"abc"}))
    assert sorted(made.files) == ["a", "b/data"]
    assert made.sha256 == hashlib.sha256(f"{ABC}  a\n{ABC}  b/data\n".encode()).hexdigest()


def test_an_entry_is_made_once(store: Cache) -> None:
    calls: list[str] = []
    for _ in range(3):
        Cache(store.folder).make("k1", writing({"a": b"abc"}, calls))
    assert calls == ["k1"]


def in_the_place_of(store: Cache, what: str) -> Path:
    """Something where the entry k1 belongs, and a folder elsewhere that nobody may touch."""
    elsewhere = store.folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    place = store.folder / "entries" / "k1"
    place.parent.mkdir(parents=True)
    if what == "a file":
        place.write_text("no entry")
    else:
        place.symlink_to(elsewhere if what == "a link" else store.folder.parent / "gone")
    return place


@pytest.mark.parametrize("what", ["a file", "a link", "a dangling link"])
def test_what_lies_where_an_entry_belongs_is_moved_aside_said_once_and_built_again(
    store: Cache, what: str
) -> None:
    place = in_the_place_of(store, what)
    assert not store.has("k1")
    made = store.make("k1", writing({"model.onnx": b"abc"}))
    assert (made.files, Cache(store.folder).find("k1")) == ({"model.onnx": ABC}, made)
    aside = store.folder / "aside" / "k1"
    kind = "a file" if what == "a file" else "a link"
    assert store.moved_aside == [
        f"{place} was {kind} and no cache entry; it is now {aside}, and is built again"
    ]
    assert aside.is_symlink() == (what != "a file")
    assert not place.is_symlink()
    assert [f.name for f in (store.folder.parent / "elsewhere").iterdir()] == ["mine"]


def test_a_link_in_an_entry_is_not_followed(store: Cache) -> None:
    """It points to the very bytes that were stored, in a file that somebody else may change."""
    made = store.make("k1", writing({"model.onnx": b"abc"}))
    (made.folder / "model.onnx").rename(store.folder / "theirs")
    (made.folder / "model.onnx").symlink_to(store.folder / "theirs")
    assert Cache(store.folder).find("k1") is None
    assert (store.folder / "theirs").read_bytes() == b"abc"


def test_a_folder_in_place_of_a_manifest_is_no_entry(store: Cache) -> None:
    made = store.make("k1", writing({"a": b"abc"}))
    (made.folder / "manifest.json").unlink()
    (made.folder / "manifest.json").mkdir()
    assert Cache(store.folder).find("k1") is None
    assert Cache(store.folder).make("k1", writing({"a": b"abc"})).files == {"a": ABC}


def test_what_was_never_made_is_not_there(store: Cache) -> None:
    assert (store.find("k1"), store.has("k1")) == (None, False)


@pytest.mark.parametrize("damage", ["changed", "longer", "removed"])
def test_changed_bytes_are_found_by_their_hash_and_made_again(store: Cache, damage: str) -> None:
    made = store.make("k1", writing({"model.onnx": b"abc"}))
    file = made.folder / "model.onnx"
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(b"abd" if damage == "changed" else b"abcd")
    with pytest.raises(CorruptArtifact, match=r"model\.onnx is not what was stored"):
        cache.check(made)
    fresh = Cache(store.folder)
    assert fresh.find("k1") is None
    calls: list[str] = []
    again = fresh.make("k1", writing({"model.onnx": b"abc"}, calls))
    assert (calls, again.files, (again.folder / "model.onnx").read_bytes()) == (["k1"], made.files, b"abc")


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"key": "k1"}', '{"surprise": 1}', "null"])
def test_a_manifest_that_cannot_be_read_is_no_entry(store: Cache, manifest: str) -> None:
    made = store.make("k1", writing({"a": b"abc"}))
    (made.folder / cache.MANIFEST).write_text(manifest)
    assert Cache(store.folder).find("k1") is None


def test_a_maker_that_fails_leaves_nothing_behind(store: Cache) -> None:
    def fill(folder: Path) -> dict[str, Any]:
        (folder / "half").write_bytes(b"abc")
        raise StageError("the exporter gave up")

    with pytest.raises(StageError, match="the exporter gave up"):
        store.make("k1", fill)
    assert (store.find("k1"), cache.size(store.folder).bytes) == (None, 0)
    assert store.make("k1", writing({"a": b"abc"})).files == {"a": ABC}


def test_an_oserror_of_the_maker_is_its_own_and_not_the_caches(store: Cache) -> None:
    """A hub that cannot be reached must not read like a full disk."""

    def fill(folder: Path) -> dict[str, Any]:
        raise FileNotFoundError(2, "No such file or directory", "weights")

    with pytest.raises(FileNotFoundError, match="weights"):
        store.make("k1", fill)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match=r"^the cache in .*/file/cache refuses: Not a directory$"):
        Cache(tmp_path / "file" / "cache").make("k1", writing({"a": b"abc"}))


def test_a_cache_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Cache(tmp_path / "file")
    assert store.find("k1") is None
    with pytest.raises(StageError, match=r"^the cache in .*/file refuses: Not a directory$"):
        store.make("k1", writing({"a": b"abc"}))


def test_a_maker_that_is_killed_leaves_no_entry_and_no_lock(store: Cache) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from benchbox.build.cache import Cache\n"
        "def fill(folder):\n"
        "    (folder / 'half').write_bytes(b'abc'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "Cache(Path(sys.argv[1])).make('k1', fill)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store.folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (store.find("k1"), store.has("k1")) == (None, False)
    assert store.make("k1", writing({"a": b"abc"})).files == {"a": ABC}


def test_two_processes_that_want_the_same_entry_make_it_once(store: Cache, tmp_path: Path) -> None:
    """The first one holds the lock until the second one is known to wait for it."""
    log, fifo = tmp_path / "log", tmp_path / "fifo"
    os.mkfifo(fifo)
    code = (
        "import os, sys; from pathlib import Path; from benchbox.build.cache import Cache\n"
        "def fill(folder):\n"
        "    with open(sys.argv[2], 'a') as log: print(os.getpid(), file=log)\n"
        "    print('filling', flush=True); Path(sys.argv[3]).read_text()\n"
        "    (folder / 'a').write_bytes(b'abc'); return {}\n"
        "print('ready', flush=True); print(Cache(Path(sys.argv[1])).make('k1', fill).sha256, flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(store.folder), str(log), str(fifo)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second,
    ):
        for process in (first, second):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        fifo.write_text("go on")  # blocks until one of them is filling
        said = first.communicate()[0] + second.communicate()[0]
    assert sorted(said.split()) == sorted(["filling", ABC, ABC])
    assert len(log.read_text().splitlines()) == 1


def test_size_and_clear(store: Cache, tmp_path: Path) -> None:
    assert cache.size(store.folder) == Sizes(0, 0)
    for key in ("k1", "k2"):
        store.make(key, writing({"a": b"abc"}))
    keep = store.folder / "not-ours"
    keep.write_bytes(b"xyz")
    before = cache.size(store.folder)
    assert (before.artifacts, before.bytes > 6) == (2, True)
    assert cache.clear(store.folder) == Sizes(2, before.bytes - 3)
    assert cache.size(store.folder) == Sizes(0, 3)
    assert keep.read_bytes() == b"xyz"


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCHBOX_CACHE", str(tmp_path))
    assert cache.default_folder() == tmp_path
    monkeypatch.setenv("BENCHBOX_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache.default_folder() == tmp_path / "home" / "benchbox"


def test_a_manifest_says_nothing_of_the_machine(store: Cache) -> None:
    made = store.make("k1", writing({"a": b"abc"}))
    stored = json.loads((made.folder / cache.MANIFEST).read_text())
    assert str(store.folder) not in json.dumps(stored)
    assert Entry(**stored, folder=made.folder) == made
