"""Content-addressed store of artifacts and references: locked, hash-checked, atomic.

<cache>/entries/<key>/manifest.json   what it is, the hash of every file, how long it took
<cache>/entries/<key>/...             the files
<cache>/building/<key>/               being made; renamed into place when complete
<cache>/locks/<key>.lock              held while it is made, by one process on this machine
<cache>/aside/<key>                   what lay where an entry belongs, and is none
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchbox.errors import CorruptArtifact, StageError
from benchbox.machine import clock
from benchbox.schema import wire

MANIFEST = "manifest.json"

# What a full disk and a spent quota say.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Entry:
    """Something that was made and kept: `files` maps names to SHA-256; `content` is the maker's own."""

    key: str
    folder: Path
    files: Mapping[str, str]
    size_bytes: int
    build_seconds: float
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The hash of the one file, or of the list of all files and their hashes."""
        if len(self.files) == 1:
            return next(iter(self.files.values()))
        listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.files.items()))
        return hashlib.sha256(listing.encode()).hexdigest()


@dataclass(frozen=True)
class Sizes:
    """How much a cache holds."""

    artifacts: int
    bytes: int


def default_folder() -> Path:
    """`$BENCHBOX_CACHE`, else the user's cache folder for benchbox."""
    import platformdirs

    given = os.environ.get("BENCHBOX_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("benchbox"))


class Cache:
    """One cache folder. An entry's bytes are checked against its hashes once in a process.

    `moved_aside` says, a sentence each, what was found in the place of an entry: a file, or a link, which is
    not followed wherever it points.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.moved_aside: list[str] = []
        self._checked: dict[str, Entry] = {}

    def find(self, key: str) -> Entry | None:
        """The entry, its bytes checked; None where there is none, or where its bytes have changed.

        A changed entry is removed, so that it is made again.
        """
        if key in self._checked:
            return self._checked[key]
        entry = self._read(key)
        if entry is None:
            return None
        try:
            check(entry)
        except CorruptArtifact:
            shutil.rmtree(entry.folder, ignore_errors=True)
            return None
        self._checked[key] = entry
        return entry

    def has(self, key: str) -> bool:
        """Whether there is an entry, its bytes unchecked."""
        folder = self._entries / key
        return not folder.is_symlink() and (folder / MANIFEST).is_file()

    def make(self, key: str, fill: Callable[[Path], Mapping[str, Any]]) -> Entry:
        """The entry; where there is none, `fill` writes its files into an empty folder first.

        Two processes that want the same entry make it once. A maker that is killed leaves nothing that
        could be mistaken for an entry. Raises StageError where the disk refuses or is full, and whatever
        else `fill` raises.
        """
        import filelock

        lock = filelock.FileLock(self.folder / "locks" / f"{key}.lock")
        with self._on_disk():
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            return self.find(key) or self._fill(key, fill)
        finally:
            lock.release()

    @property
    def _entries(self) -> Path:
        return self.folder / "entries"

    def _read(self, key: str) -> Entry | None:
        folder = self._entries / key
        self._make_way(folder)
        try:
            stored = json.loads((folder / MANIFEST).read_bytes())
            return wire.decode({**stored, "folder": str(folder)}, Entry)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError, IsADirectoryError):
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def _make_way(self, place: Path) -> None:
        """Moves aside what lies where an entry belongs and is no folder of its own."""
        if not place.is_symlink() and (place.is_dir() or not place.exists()):
            return
        aside = self.folder / "aside" / place.name
        with self._on_disk():
            aside.parent.mkdir(parents=True, exist_ok=True)
            place.rename(aside)  # of a link, the link itself
        what = "a link" if aside.is_symlink() else "a file"
        self.moved_aside.append(
            f"{place} was {what} and no cache entry; it is now {aside}, and is built again"
        )

    def _fill(self, key: str, fill: Callable[[Path], Mapping[str, Any]]) -> Entry:
        building = self.folder / "building" / key
        self._make_way(building)
        shutil.rmtree(building, ignore_errors=True)
        with self._on_disk():
            building.mkdir(parents=True)
        watch = clock.Stopwatch.start()
        try:
            content = self._filled(building, fill)
            with self._on_disk():
                _write_manifest(_entry(key, building, watch.seconds(), content))
                self._move_in(building, key)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        found = self._read(key)
        if found is None:
            raise StageError(f"the cache entry {key} vanished while it was made")
        self._checked[key] = found
        return found

    def _filled(self, building: Path, fill: Callable[[Path], Mapping[str, Any]]) -> Mapping[str, Any]:
        try:
            return fill(building)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise _refusal(self.folder, error) from error
            raise

    def _move_in(self, building: Path, key: str) -> None:
        final = self._entries / key
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        building.rename(final)

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """What the disk refuses here is the cache's failure; what it refuses a maker is the maker's, a full
        disk aside."""
        try:
            yield
        except OSError as error:
            raise _refusal(self.folder, error) from error


def check(entry: Entry) -> None:
    """Raises CorruptArtifact where a file is missing or its bytes are not what was stored."""
    for name, expected in entry.files.items():
        path = entry.folder / name
        if path.is_symlink() or not path.is_file() or hash_file(path) != expected:
            raise CorruptArtifact(f"{path} is not what was stored (by its SHA-256); it will be built again")


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size(folder: Path) -> Sizes:
    """How many entries a cache holds, and their bytes on disk."""
    entries = list((folder / "entries").glob(f"*/{MANIFEST}"))
    files = (f for f in folder.rglob("*") if f.is_file())
    return Sizes(len(entries), sum(f.stat().st_size for f in files))


def clear(folder: Path) -> Sizes:
    """Removes everything that benchbox keeps there; says how much it was.

    What another process is making right now stays, and so do the empty files in locks/: who waits for one
    that was removed would no longer keep out who comes after. Raises StageError where the disk refuses.
    """
    before = size(folder)
    for key in sorted({path.name for name in ("entries", "building") for path in (folder / name).glob("*")}):
        _remove(folder, key)
    for name in ("compiled", "runtimes"):
        shutil.rmtree(folder / name, ignore_errors=True)
    left = size(folder)
    return Sizes(before.artifacts - left.artifacts, before.bytes - left.bytes)


def _remove(folder: Path, key: str) -> None:
    import filelock

    try:
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / "locks" / f"{key}.lock", timeout=0):
            for name in ("entries", "building"):
                shutil.rmtree(folder / name / key, ignore_errors=True)
    except filelock.Timeout:
        return
    except OSError as error:
        raise _refusal(folder, error) from error


def _refusal(folder: Path, error: OSError) -> StageError:
    """What the disk said, where, and, where it is full, what to type. A maker writes beside the cache, too (a
    temporary folder), so it is said how much room the cache has."""
    said = f"the cache in {folder} refuses: {error.strerror or error}"
    if error.errno not in _NO_ROOM:
        return StageError(said)
    free_mib = shutil.disk_usage(folder).free / 2**20
    return StageError(
        f"{said} ({free_mib:,.1f} MiB are free there); "
        f"make room with: benchbox cache clear --cache {folder}, "
        "or keep it on another disk: --cache or BENCHBOX_CACHE"
    )


def _entry(key: str, folder: Path, seconds: float, content: Mapping[str, Any]) -> Entry:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return Entry(
        key=key,
        folder=folder,
        files={str(f.relative_to(folder)): hash_file(f) for f in files},
        size_bytes=sum(f.stat().st_size for f in files),
        build_seconds=seconds,
        content=content,
    )


def _write_manifest(entry: Entry) -> None:
    stored = {name: value for name, value in wire.encode(entry).items() if name != "folder"}
    with (entry.folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(stored, file, indent=2, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
