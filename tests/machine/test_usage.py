"""What threads waited for a core."""

from __future__ import annotations

import threading

from benchbox.machine.clock import Usage
from benchbox.machine.usage import Threads, waited_between


def test_the_longest_wait_of_a_thread_counts_not_the_sum():
    before, after = Usage(0, {1: 100, 2: 50}), Usage(9, {1: 400, 2: 150})
    assert waited_between(before, after) == 300


def test_a_thread_that_is_new_has_waited_nothing_yet():
    assert waited_between(Usage(0, {1: 100}), Usage(9, {1: 100, 2: 7_000})) == 0


def test_where_the_kernel_does_not_tell_nobody_knows(tmp_path):
    threads = Threads(tmp_path / "nowhere")
    threads.look_for_new()
    assert threads.usage().waited_ns is None
    assert waited_between(threads.usage(), Usage(0, {1: 1})) is None


def test_threads_are_found_and_forgotten():
    threads, end = Threads(), threading.Event()
    threads.look_for_new()
    at_first = set(threads.usage().waited_ns or {})
    other = threading.Thread(target=end.wait)
    other.start()
    threads.look_for_new()
    assert set(threads.usage().waited_ns or {}) == {*at_first, other.native_id}
    end.set()
    other.join()
    threads.look_for_new()
    assert set(threads.usage().waited_ns or {}) <= at_first
    threads.close()
    assert threads.usage().waited_ns is None
