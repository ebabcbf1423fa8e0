"""`threads` and `backends`: thread counts, providers and their options."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

import os

import pytest

from benchbox.errors import SuiteError
from benchbox.machine import cgroup
from benchbox.schema.asked import Threads
from benchbox.suite.load import parse_suite
from suite_texts import changed, each_is_told_with_its_place, parsed


def test_backend_may_have_threads_of_its_own():
    """The suite's thread counts are for the backends that say nothing."""
    text = changed(", onnxruntime]", ", onnxruntime: {threads: 5}]")
    assert [(c.backend.word, c.backend.threads.intra_op) for c in parsed(text).cases] == [
        ("pytorch", 2),
        ("onnxruntime", 5),
    ]


def test_provider_options_follow_their_provider():
    """A case holds the options of its own providers only, so that those of others do not change its id."""
    providers = "providers: [CPUExecutionProvider, CUDAExecutionProvider]"
    text = changed(
        ", onnxruntime]",
        f", onnxruntime: {{{providers}, provider_options: {{CUDAExecutionProvider: {{device_id: 1}}}}}}]",
    )
    assert [(c.backend.providers, c.backend.provider_options) for c in parsed(text).cases[1:]] == [
        (("CPUExecutionProvider",), {}),
        (("CUDAExecutionProvider",), {"CUDAExecutionProvider": {"device_id": 1}}),
    ]


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"), [(8, None, 8), (8, 2.5, 2), (2, 4.0, 2), (4, 0.5, 1)]
)
def test_threads_default_to_the_cores_in_reach(monkeypatch, affinity, quota, expected):
    """No more than the affinity mask and the container's quota, and at least one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)))
    monkeypatch.setattr(cgroup, "cpu_limit", lambda root: quota)
    case = parsed(changed("threads: 2\n", "")).cases[0]
    assert case.backend.threads == Threads(expected, 1)


def test_a_chain_of_one_provider_is_that_provider():
    """Written in two ways it would be one case twice."""
    text = changed(
        "onnxruntime]", "onnxruntime: {providers: [CPUExecutionProvider, [CPUExecutionProvider]]}]"
    )
    with pytest.raises(SuiteError, match=r"providers\.1: stands in the list twice"):
        parse_suite(text, "s.yaml")


test_a_backend_that_is_wrong_is_told_with_its_place = each_is_told_with_its_place({
    "unknown backend": ("pytorch,", "pytroch,", "s.yaml:3:12: backends.0: unknown backend: 'pytroch'. Did you mean 'pytorch'? Allowed: "),
    "unknown provider": ("pytorch,", "pytorch: {providers: [cpu, cdua]},", "s.yaml:3:39: backends.0.pytorch.providers.1: unknown provider: 'cdua'. Did you mean 'cuda'? Allowed: "),
    "provider twice": ("pytorch,", "pytorch: {providers: [cpu, cpu]},", "s.yaml:3:39: backends.0.pytorch.providers.1: stands in the list twice"),
    "options of a provider that is not used": (", onnxruntime]", ", onnxruntime: {provider_options: {CUDAExecutionProvider: {}}}]", "s.yaml:3:54: backends.1.onnxruntime.provider_options.CUDAExecutionProvider: is not among this backend's providers: CPUExecutionProvider"),
    "missing interpreter": (", onnxruntime]", ", onnxruntime: {python: ./env/bin/python}]", "s.yaml:3:43: backends.1.onnxruntime.python: './env/bin/python' does not exist"),
    "threads 0": ("threads: 2", "threads: 0", "s.yaml:5:10: threads: 0 is out of range. Allowed: 1 to 4096."),
    "threads text": ("threads: 2", "threads: x", "s.yaml:5:10: threads: should be a whole number, not 'x'"),
    "threads field": ("threads: 2", "threads: {intra: 2}", "s.yaml:5:11: threads.intra: unknown field: 'intra'. Did you mean 'intra_op'? Allowed: intra_op, inter_op."),
})  # fmt: skip
