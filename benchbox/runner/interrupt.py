"""Ctrl-C: once finishes what is in hand, twice stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from benchbox.runner.observer import Observer


class Interrupt:
    """Ctrl-C once asks to finish what is in hand; twice stops at once."""

    def __init__(self, say: Observer) -> None:
        self.asked = False
        self._say = say

    def __enter__(self) -> Interrupt:
        self._in_main = threading.current_thread() is threading.main_thread()
        if self._in_main:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._in_main:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._say.interrupted()
