"""Models at the Hugging Face hub: `owner/name`, or `owner/name@revision` for a branch, a tag or a commit.

A name stands for other bytes tomorrow. What is built is therefore that of one commit: the one that the hub's
cache on this machine holds, which the first build fetches. The commit is in the key and in the record.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchbox.errors import StageError, first_line
from benchbox.schema import paths

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
PROCESSOR = "preprocessor_config.json"

_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w.-]+(/[\w.-]+)*)?", re.ASCII)


def is_id(text: str) -> bool:
    """Whether a source is written as one at the hub."""
    return not paths.is_local(text) and _ID.fullmatch(text) is not None


def split(source: str) -> tuple[str, str | None]:
    """What `from_pretrained` takes: the name, and the commit where it is known, else the revision."""
    if not is_id(source):
        return source, None
    name, revision = _parts(source)
    return name, commit(source) or revision


def commit(source: str) -> str:
    """The commit that the hub's cache on this machine holds for it; empty where it holds none."""
    if not is_id(source):
        return ""
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return ""
    name, revision = _parts(source)
    try:
        found = (try_to_load_from_cache(name, file, revision=revision) for file in (CONFIG, ADAPTER))
        return next((Path(path).parent.name for path in found if isinstance(path, str)), "")
    except HFValidationError:
        return ""


def fetch(source: str, file: str) -> None:
    """Brings one small file of it here, where nothing of it is, so that its commit is known.

    Raises StageError where the hub cannot be reached or has no such model.
    """
    if not is_id(source) or commit(source):
        return
    from huggingface_hub import hf_hub_download

    name, revision = _parts(source)
    try:
        hf_hub_download(name, file, revision=revision)
    except (OSError, ValueError) as error:
        raise StageError(f"{source!r} cannot be had from the hub: {first_line(error)}") from error


def _parts(source: str) -> tuple[str, str | None]:
    name, _, revision = source.partition("@")
    return name, revision or None
