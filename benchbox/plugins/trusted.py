"""Python files that a suite names, run as modules: only where the suite says that they are trusted."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from benchbox.errors import StageError
from benchbox.schema.asked import Model, digest


def require(model: Model) -> None:
    """Raises StageError where a model is code that the suite does not say is trusted."""
    if not model.trust_remote_code:
        raise StageError(
            f"{model.name} is Python code, which was not run: if you trust it, write "
            f"trust_remote_code: true under this model in the suite"
        )


class _Fresh(importlib.machinery.SourceFileLoader):
    """Compiles what is in the file now, and leaves no bytecode beside it."""

    def path_stats(self, path: str) -> Any:
        raise OSError(path)


def imported(file: Path) -> ModuleType:
    """The file as a module, with its folder where it looks for what it imports. Runs it."""
    if not file.is_file():
        raise StageError(f"{file.name} is not there any more")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    name = f"benchbox_custom_{digest(str(file))[:12]}"
    spec = importlib.util.spec_from_file_location(name, file, loader=_Fresh(name, str(file)))
    if spec is None or spec.loader is None:
        raise StageError(f"{file.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, and torch.compile, look modules up by their names
    spec.loader.exec_module(module)
    return module
