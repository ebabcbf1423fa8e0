"""Arrays by name in one .npz file, told apart by what their names begin with. numpy only, and no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def load(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file by name; objects are refused."""
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def prefixed(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays under names that begin with `prefix`."""
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def without_prefix(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arrays whose names begin with `prefix`, without it: the inverse of `prefixed`."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
