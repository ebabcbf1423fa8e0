"""A suite is read, checked, multiplied out, narrowed down; whatever is wrong is one clear message."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import places
from benchbox import plugins, suite
from benchbox.errors import SuiteError, UsageError
from benchbox.machine import cgroup
from benchbox.schema.asked import (
    DEFAULT_TOLERANCES,
    Backend,
    Dataset,
    MeasurePlan,
    Model,
    Step,
    Threads,
    Tolerance,
)
from benchbox.suite.load import from_source, load_suite, parse_suite
from mutations import SHIPPED, SNIPPETS, mutated

SUITES = places.SUITES

GOOD = """\
models: {family: vit, source: google/vit-base-patch16-224}
paths: [torch, [onnx, fp16]]
backends: [pytorch, onnxruntime]
inputs: {dataset: sample_images, batch: 1}
threads: 2
"""


def parsed(text: str = GOOD, *overrides: str) -> suite.Suite:
    return parse_suite(text, "s.yaml", overrides)


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, f"{old!r} is in GOOD {GOOD.count(old)} times"
    return GOOD.replace(old, new)


def message(text: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        parsed(text, *overrides)
    return str(caught.value)


# --- What a suite says ---


def test_vit_suite_is_five_paths_on_two_batches():
    """The shipped suite: titles of the whole matrix, in order."""
    titles = [case.title for case in load_suite(SUITES / "vit.yaml").cases]
    assert titles == [
        "vit-base | torch | pytorch | cpu | batch=1 image_size=224",
        "vit-base | torch | pytorch | cpu | batch=8 image_size=224",
        "vit-base | torch | pytorch(compile=true) | cpu | batch=1 image_size=224",
        "vit-base | torch | pytorch(compile=true) | cpu | batch=8 image_size=224",
        "vit-base | onnx | onnxruntime | CPUExecutionProvider | batch=1 image_size=224",
        "vit-base | onnx | onnxruntime | CPUExecutionProvider | batch=8 image_size=224",
        "vit-base | onnx | onnxruntime | CUDAExecutionProvider | batch=1 image_size=224",
        "vit-base | onnx | onnxruntime | CUDAExecutionProvider | batch=8 image_size=224",
        "vit-base | onnx + fp16 | onnxruntime | CPUExecutionProvider | batch=1 image_size=224",
        "vit-base | onnx + fp16 | onnxruntime | CPUExecutionProvider | batch=8 image_size=224",
        "vit-base | onnx + fp16 | onnxruntime | CUDAExecutionProvider | batch=1 image_size=224",
        "vit-base | onnx + fp16 | onnxruntime | CUDAExecutionProvider | batch=8 image_size=224",
        "vit-base | onnx + int8_dynamic | onnxruntime | CPUExecutionProvider | batch=1 image_size=224",
        "vit-base | onnx + int8_dynamic | onnxruntime | CPUExecutionProvider | batch=8 image_size=224",
        "vit-base | onnx + int8_dynamic | onnxruntime | CUDAExecutionProvider | batch=1 image_size=224",
        "vit-base | onnx + int8_dynamic | onnxruntime | CUDAExecutionProvider | batch=8 image_size=224",
        "vit-base | onnx + int8_static | onnxruntime | CPUExecutionProvider | batch=1 image_size=224",
        "vit-base | onnx + int8_static | onnxruntime | CPUExecutionProvider | batch=8 image_size=224",
        "vit-base | onnx + int8_static | onnxruntime | CUDAExecutionProvider | batch=1 image_size=224",
        "vit-base | onnx + int8_static | onnxruntime | CUDAExecutionProvider | batch=8 image_size=224",
    ]


def test_smoke_suite_has_every_exporter_and_pass():
    """The smoke suite takes every path there is, so a new exporter or pass is not forgotten in it."""
    cases = load_suite(SUITES / "smoke.yaml").cases
    words = {step.word for case in cases for step in case.path}
    assert words == {"torch", "onnx", "dynamo", "fp16", "int8_dynamic", "int8_static"}
    assert {case.shape_label for case in cases} == {"batch=2 image_size=32"}
    assert len(cases) == 6


def test_case_holds_all_that_the_suite_says():
    """One whole case against its literal."""
    text = """\
models:
  - {name: mine, family: vit, source: google/vit-base-patch16-224, task: image-features,
     weights: pretrained, seed: 7, config: {hidden_size: 64}, trust_remote_code: true}
paths: [[onnx, {int8_static: {samples: 65}}]]
backends:
  - onnxruntime:
      providers: [[CUDAExecutionProvider, CPUExecutionProvider]]
      provider_options: {CUDAExecutionProvider: {device_id: 1}}
      threads: {intra_op: 3, inter_op: 2}
      python: python3.11
inputs: {dataset: {random: {height: 64}}, image_size: 32, batch: 4}
opset: 18
dynamic_axes: false
"""
    [case] = parsed(text).cases
    assert case == suite.Case(
        model=Model(
            name="mine",
            family="vit",
            source="google/vit-base-patch16-224",
            task="image-features",
            weights="pretrained",
            seed=7,
            config={"hidden_size": 64},
            trust_remote_code=True,
        ),
        path=(Step("onnx"), Step("int8_static", {"samples": 65})),
        backend=Backend(
            word="onnxruntime",
            providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
            threads=Threads(3, 2),
            provider_options={"CUDAExecutionProvider": {"device_id": 1}},
            python="python3.11",
        ),
        shape={"batch": 4, "image_size": 32},
        dataset=Dataset("random", {"height": 64}),
        opset=18,
        dynamic_axes=False,
    )


def test_defaults_fill_what_is_left_out():
    """Random weights, no remote code, the family's task and sizes, batch 1, the name of the source."""
    case = parsed(changed(", batch: 1", "")).cases[0]
    assert case.model == Model(
        name="vit-base-patch16-224",
        family="vit",
        source="google/vit-base-patch16-224",
        task="image-classification",
    )
    assert case.model.weights == "random"
    assert case.model.trust_remote_code is False
    assert (case.shape, case.opset, case.dynamic_axes) == ({"batch": 1, "image_size": 224}, 17, True)
    assert list(case.shape) == ["batch", "image_size"]


def test_short_forms_mean_their_long_forms():
    """A mapping for a list of one, a word for a path, a number for a list, a number for intra_op."""
    long = """\
models: [{name: vit-base-patch16-224, family: vit, source: google/vit-base-patch16-224}]
paths: [[{torch: {}}], [onnx, {fp16: }]]
backends: [{pytorch: {providers: [cpu]}}, {onnxruntime: {providers: [[CPUExecutionProvider]]}}]
inputs: {dataset: {sample_images: {}}, batch: [1], image_size: [224]}
threads: {intra_op: [2], inter_op: [1]}
parity: {}
measure: {}
"""
    assert parsed(long).cases == parsed().cases
    assert parsed(long).source == parsed().source


def test_option_that_is_the_default_leaves_no_trace():
    """Spelling out a default makes the same case, with the same id."""
    spelled = parsed(changed("[pytorch,", "[pytorch: {compile: false},"))
    assert spelled.cases == parsed().cases
    compiled = parsed(changed("[pytorch,", "[pytorch: {compile: true},"))
    assert compiled.cases[0].backend.options == {"compile": True}


def test_sizes_and_threads_multiply():
    """Sizes run faster than backends, threads fastest of all."""
    text = changed("batch: 1", "image_size: [32, 64], batch: [1, 2]").replace(
        "threads: 2", "threads: {intra_op: [1, 2], inter_op: 3}"
    )
    cases = [case for case in parsed(text).cases if case.backend.word == "pytorch"]
    assert [(c.shape["batch"], c.shape["image_size"], c.backend.threads.intra_op) for c in cases] == [
        (1, 32, 1),
        (1, 32, 2),
        (1, 64, 1),
        (1, 64, 2),
        (2, 32, 1),
        (2, 32, 2),
        (2, 64, 1),
        (2, 64, 2),
    ]
    assert {case.backend.threads.inter_op for case in cases} == {3}


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


def test_tolerances_keep_the_defaults_that_are_not_named():
    """A named bound replaces its default, null lifts it, other precisions stay."""
    plan = parsed(
        GOOD + "parity: {samples: 5, tolerances: {fp32: {atol: 1e-3}, int8: {cosine: null, sqnr_db: 20}}}"
    ).parity
    assert plan.samples == 5
    assert plan.tolerances == {
        **DEFAULT_TOLERANCES,
        "fp32": Tolerance(atol=1e-3, cosine=0.99999, gradient=1e-2),
        "int8": Tolerance(cosine=None, sqnr_db=20.0),
    }


def test_durations_and_sizes_have_units():
    """20s, 2m and 4 GiB are seconds and bytes."""
    measure = parsed(
        GOOD
        + "measure: {budget_seconds: 2m, block_seconds: 250ms, timeout_seconds: 1.5 h, warm_up_seconds: 0,"
        " memory_limit_bytes: 4 GiB, memory_budget_bytes: 500MB, precision: 1e-2}"
    ).measure
    assert measure == MeasurePlan(
        budget_seconds=120.0,
        precision=0.01,
        block_seconds=0.25,
        timeout_seconds=5400.0,
        warm_up_seconds=0.0,
        memory_limit_bytes=4294967296,
        memory_budget_bytes=500000000,
    )
    assert type(measure.memory_limit_bytes) is int


@pytest.mark.parametrize(
    ("written", "fewest", "most"),
    [
        ("{}", 5, 12),
        ("{replicates: 3}", 3, 12),
        ("{replicates: 20}", 20, 20),
        ("{replicates: 3, most_replicates: 3}", 3, 3),
        ("{most_replicates: 7}", 5, 7),
        ("{replicates: 14, most_replicates: null}", 14, 14),
    ],
)
def test_the_most_processes_are_never_fewer_than_the_fewest(written, fewest, most):
    """And a suite that is read again from what a run kept says the same."""
    loaded = parsed(GOOD + f"measure: {written}\n")
    assert (loaded.measure.replicates, loaded.measure.most_replicates) == (fewest, most)
    assert from_source(loaded.source, loaded.file).measure == loaded.measure


def test_measure_takes_every_field_of_the_plan_with_its_default():
    """A field added to MeasurePlan can be written in a suite, or this fails."""
    assert parsed().measure == MeasurePlan()
    assert set(parsed().source["measure"]) == {field.name for field in fields(MeasurePlan)}


def test_anchor_and_alias_repeat_a_value():
    """YAML's own way of not writing things twice works."""
    text = changed(
        "backends: [pytorch, onnxruntime]",
        "backends: [pytorch: {threads: &t {intra_op: 3}}, onnxruntime: {threads: *t}]",
    )
    assert {case.backend.threads for case in parsed(text).cases} == {Threads(3)}


def test_name_is_that_of_the_file(tmp_path):
    """`suites/mine.yaml` is the suite `mine`, unless it says otherwise; a byte order mark is no trouble."""
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_suite(str(file)).name == "mine"
    assert load_suite(file).file == str(file)
    assert load_suite(file, ["name=other"]).name == "other"


def test_relative_paths_start_at_the_suite(tmp_path, monkeypatch):
    """`./model` lies beside the suite, wherever benchbox is called from; a python that is a link stays one."""
    for name in ("model", "images", "env", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "env" / "python").symlink_to(sys.executable)
    text = GOOD.replace("google/vit-base-patch16-224", "./model").replace(
        "dataset: sample_images", "dataset: {imagefolder: {root: images}}"
    )
    text = text.replace(", onnxruntime]", ", onnxruntime: {python: ./env/python}]")
    (tmp_path / "s.yaml").write_text(text)
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = load_suite("../s.yaml")
    case = loaded.cases[1]
    assert (case.model.source, case.model.name) == ("./model", "model")
    assert case.dataset == Dataset("imagefolder", {"root": "./images"})
    assert case.backend.python == "./env/python"
    here = case.located_from(loaded.folder)
    assert here.model.source == str(tmp_path / "model")
    assert here.dataset == Dataset("imagefolder", {"root": str(tmp_path / "images")})
    assert here.backend.python == str(tmp_path / "env" / "python")
    assert from_source(loaded.source, "../s.yaml") == loaded
    monkeypatch.chdir(tmp_path)
    assert from_source(loaded.source, "../s.yaml", tmp_path) == loaded


# --- The way back ---


@pytest.mark.parametrize("file", ["vit.yaml", "smoke.yaml"])
def test_suite_is_rebuilt_from_its_source(file, monkeypatch):
    """A resumed run has the same cases, even where the machine has another number of cores by then."""
    loaded = load_suite(SUITES / file)
    stored = json.loads(json.dumps(loaded.source, allow_nan=False))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert from_source(stored, loaded.file) == loaded


def test_damaged_source_is_a_usage_error():
    """A stored suite that was edited by hand is checked like any other."""
    with pytest.raises(SuiteError, match=r"^s.yaml:1:1: opset: 99 is out of range"):
        from_source({**parsed().source, "opset": 99}, "s.yaml")


# --- What is wrong with it: a place, the field, what is allowed, the nearest match ---

WRONG_TEXTS = {
    "empty": ("", "s.yaml:1:1: the suite is empty: it needs models, paths, backends and inputs"),
    "only a comment": ("# soon\n", "s.yaml:1:1: the suite is empty"),
    "a list": ("\n- a\n", "s.yaml:2:1: a suite is a mapping, and this is a list"),
    "a scalar": ("abc", "s.yaml:1:1: a suite is a mapping, and this is 'abc'"),
    "an empty mapping": (
        "{}",
        "\n".join(
            f"s.yaml:1:1: {field}: is missing; this field is required"
            for field in ("models", "paths", "backends", "inputs")
        ),
    ),
    "NUL": ("a: 1\nb: \0", "s.yaml:2:4: a NUL byte is not allowed in a suite"),
    "control character": ("a: \x07", "s.yaml:1:4: the control character U+0007 is not allowed in a suite"),
    "tab": ("models:\n\t- a\n", "s.yaml:2:1: a tab cannot indent YAML: use spaces"),
    "tab after spaces": ("a: 1\n  \tb: 2\n", "s.yaml:2:3: a tab cannot indent YAML: use spaces"),
    "syntax": ("a: [b", "s.yaml:1:6: not YAML: expected ',' or ']', but got '<stream end>'"),
    "duplicate key": (
        GOOD + "paths: [torch]\n",
        "s.yaml:6:1: paths: duplicate key; it was first written in line 2",
    ),
    "python tag": (
        "a: !!python/object/apply:os.system [ls]",
        "s.yaml:1:4: the tag '!!python/object/apply:os.system' is not allowed: a suite holds plain values only",
    ),
    "unknown tag": ("a: !thing b", "s.yaml:1:4: the tag '!thing' is not allowed"),
    "binary": ("a: !!binary eA==", "s.yaml:1:4: the tag '!!binary' is not allowed"),
    "wrong tag": ("a: !!int x", "s.yaml:1:4: 'x' is not a whole number"),
    "several documents": ("a: 1\n---\nb: 2\n", "s.yaml:2:1: a second document begins here"),
    "other YAML": ("%YAML 9.9\n---\na: 1", "s.yaml:1:1: not YAML: found incompatible YAML document"),
    "undefined alias": ("a: *b", "s.yaml:1:4: found undefined alias 'b'"),
    "recursive alias": ("a: &a [*a]", "s.yaml:1:4: an alias (*name) stands inside its own anchor (&name)"),
    "deep nesting": ("a: " + "[" * 5000, "s.yaml:1:27: nested too deeply; at most 24 levels"),
    "integer key": ("1: a", "s.yaml:1:1: a key is a text, and this is a whole number: quote it"),
    "list as key": ("? [a]\n: b", "s.yaml:1:3: a key is a text, and this is a list: quote it"),
    "merge key": ("a: &a {b: 1}\n<<: *a", "s.yaml:2:1: merge keys (<<) are not part of YAML 1.2"),
    "NaN": ("a: .nan", "s.yaml:1:4: .nan is not a finite number"),
    "infinity": ("a: -.inf", "s.yaml:1:4: -.inf is not a finite number"),
    "overflow": ("a: 1e999", "s.yaml:1:4: 1e999 is not a finite number"),
    "huge integer": ("a: " + "9" * 5000, "s.yaml:1:4: this number is too large"),
    "half a character": ('a: "\\uD800"', "s.yaml:1:4: this text holds half a surrogate pair"),
    "impossible escape": ('a: "\\UFFFFFFFF"', "s.yaml:1:1: not YAML: "),
}


@pytest.mark.parametrize("name", WRONG_TEXTS)
def test_text_that_is_no_suite(name):
    """What is no YAML mapping of plain values says where and why."""
    text, expected = WRONG_TEXTS[name]
    assert message(text).startswith(expected)


def test_alias_bomb_is_defused():
    """Nine levels of nine aliases, 400 million values, end before they are expanded."""
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    assert message("\n".join(lines)) == "s.yaml:1:11: its aliases expand to more than 100000 values"


WRONG_FIELDS = {
    # models
    "unknown family": (
        "family: vit",
        "family: vti",
        "s.yaml:1:18: models.family: unknown model family: 'vti'. Did you mean 'vit'? Allowed: ",
    ),
    "no family": (
        "family: vit, ",
        "",
        "s.yaml:1:9: models.family: is missing; this field is required",
    ),
    "unknown field": (
        "{family",
        "{sed: 1, family",
        "s.yaml:1:10: models.sed: unknown field: 'sed'. Did you mean 'seed'? Allowed: family, source, name, ",
    ),
    "unknown weights": (
        "{family",
        "{weights: randm, family",
        "s.yaml:1:19: models.weights: unknown word: 'randm'. Did you mean 'random'? Allowed: random, pretrained.",
    ),
    "unknown task": (
        "{family",
        "{task: image-clasification, family",
        "s.yaml:1:16: models.task: unknown task: 'image-clasification'. Did you mean 'image-classification'?",
    ),
    "negative seed": (
        "{family",
        "{seed: -1, family",
        "s.yaml:1:16: models.seed: -1 is out of range. Allowed: 0 to 4294967295.",
    ),
    "text for a truth": (
        "{family",
        "{trust_remote_code: 'true', family",
        "s.yaml:1:29: models.trust_remote_code: should be true or false, not 'true'",
    ),
    "long name": (
        "{family",
        "{name: " + "x" * 81 + ", family",
        "s.yaml:1:16: models.name: is longer than 80 characters",
    ),
    "unprintable name": (
        "{family",
        '{name: "a\\nb", family',
        "s.yaml:1:16: models.name: 'a\\nb' is no name: printable characters only",
    ),
    "missing local source": (
        "google/vit-base-patch16-224",
        "./nowhere",
        "s.yaml:1:31: models.source: './nowhere' does not exist (looked for ",
    ),
    "source that is nothing": (
        "google/vit-base-patch16-224",
        "a/b/c",
        "s.yaml:1:31: models.source: 'a/b/c' is neither a hub id (owner/name, owner/name@revision) nor a local path (./folder)",
    ),
    "source with a NUL": (
        "google/vit-base-patch16-224",
        '"./a\\0b"',
        "s.yaml:1:31: models.source: './a\\x00b' does not exist",
    ),
    "duplicate names": (
        "{family: vit, source: google/vit-base-patch16-224}",
        "[{family: vit, source: a/vit}, {family: vit, source: b/vit}]",
        "s.yaml:1:40: models.1: 'vit' is the name of models.0 already; give each model its own name",
    ),
    # paths
    "unknown exporter": (
        "[torch,",
        "[toch,",
        "s.yaml:2:9: paths.0: unknown exporter: 'toch'. Did you mean 'torch'? Allowed: dynamo, onnx, torch.",
    ),
    "unknown pass": (
        "fp16",
        "fp61",
        "s.yaml:2:23: paths.1.1: unknown pass: 'fp61'. Did you mean 'fp16'? Allowed: fp16, int8_dynamic, ",
    ),
    "pass without exporter": (
        "[onnx, fp16]",
        "[fp16]",
        "s.yaml:2:17: paths.1.0: 'fp16' is a pass; a path begins with an exporter. Allowed: dynamo, onnx, torch.",
    ),
    "exporter in the middle": (
        "fp16",
        "dynamo",
        "s.yaml:2:23: paths.1.1: 'dynamo' is an exporter, which can only come first. Allowed here: ",
    ),
    "pass that does not fit": (
        "[torch,",
        "[[torch, fp16],",
        "s.yaml:2:17: paths.0.1: 'fp16' cannot follow 'torch', which produces torch. It accepts: onnx.",
    ),
    "unknown option of a pass": (
        "fp16]",
        "int8_static: {sampels: 3}]",
        "s.yaml:2:37: paths.1.1.int8_static.sampels: unknown option: 'sampels'. Did you mean 'samples'? Allowed: ",
    ),
    "wrong type of an option": (
        "fp16]",
        "int8_static: {samples: many}]",
        "s.yaml:2:46: paths.1.1.int8_static.samples: should be a whole number, not 'many'",
    ),
    "options of what has none": (
        "[torch,",
        "[torch: {a: 1},",
        "s.yaml:2:17: paths.0.torch.a: unknown option: 'a'. Allowed: lora.",
    ),
    "two words in one step": (
        "fp16]",
        "{fp16: , samples: 3}]",
        "s.yaml:2:23: paths.1.1: names fp16, samples; a step is one word, with its options indented below it",
    ),
    "empty path": ("[torch,", "[[],", "s.yaml:2:9: paths.0: is empty; a path begins with an exporter: "),
    "no paths": ("[torch, [onnx, fp16]]", "[]", "s.yaml:2:8: paths: needs at least one item"),
    "path twice": ("[torch,", "[torch, torch,", "s.yaml:2:16: paths.1: this is paths.0 once more"),
    "path that nothing runs": (
        ", onnxruntime]",
        "]",
        "s.yaml:2:16: paths.1: no backend of this suite runs onnx + fp16, which produces onnx. Backends that do: onnxruntime.",
    ),
    # backends
    "unknown backend": (
        "pytorch,",
        "pytroch,",
        "s.yaml:3:12: backends.0: unknown backend: 'pytroch'. Did you mean 'pytorch'? Allowed: ",
    ),
    "unknown option of a backend": (
        "pytorch,",
        "pytorch: {compil: true},",
        "s.yaml:3:22: backends.0.pytorch.compil: unknown option: 'compil'. Did you mean 'compile'? Allowed: ",
    ),
    "near miss of a generic field": (
        "pytorch,",
        "pytorch: {provider: cpu},",
        "s.yaml:3:22: backends.0.pytorch.provider: unknown option: 'provider'. Did you mean 'providers'?",
    ),
    "unknown provider": (
        "pytorch,",
        "pytorch: {providers: [cpu, cdua]},",
        "s.yaml:3:39: backends.0.pytorch.providers.1: unknown provider: 'cdua'. Did you mean 'cuda'? Allowed: ",
    ),
    "provider twice": (
        "pytorch,",
        "pytorch: {providers: [cpu, cpu]},",
        "s.yaml:3:39: backends.0.pytorch.providers.1: stands in the list twice",
    ),
    "options of a provider that is not used": (
        ", onnxruntime]",
        ", onnxruntime: {provider_options: {CUDAExecutionProvider: {}}}]",
        "s.yaml:3:54: backends.1.onnxruntime.provider_options.CUDAExecutionProvider: is not among this backend's providers: CPUExecutionProvider",
    ),
    "missing interpreter": (
        ", onnxruntime]",
        ", onnxruntime: {python: ./env/bin/python}]",
        "s.yaml:3:43: backends.1.onnxruntime.python: './env/bin/python' does not exist",
    ),
    "options beside their word": (
        "[pytorch,",
        "[{pytorch: , compile: true},",
        "s.yaml:3:12: backends.0: names pytorch, compile; a backend is one word, with its options indented",
    ),
    "backend twice": (
        ", onnxruntime]",
        ", onnxruntime, pytorch: {compile: false}]",
        "s.yaml:3:34: backends.2: pytorch on cpu is in backends.0 already",
    ),
    "backend with nothing to run": (
        "[torch, ",
        "[",
        "s.yaml:3:12: backends.0: pytorch has nothing to run: it accepts torch, and the paths produce onnx.",
    ),
    # inputs
    "no dataset": (
        "dataset: sample_images, ",
        "",
        "s.yaml:4:9: inputs.dataset: is missing; this field is required",
    ),
    "unknown dataset": (
        "sample_images",
        "sample_image",
        "s.yaml:4:19: inputs.dataset: unknown dataset: 'sample_image'. Did you mean 'sample_images'? Allowed: ",
    ),
    "missing option": (
        "sample_images",
        "imagefolder",
        "s.yaml:4:19: inputs.dataset.imagefolder.root: is missing; this field is required",
    ),
    "missing folder": (
        "sample_images",
        "{imagefolder: {root: ./nowhere}}",
        "s.yaml:4:40: inputs.dataset.imagefolder.root: './nowhere' does not exist (looked for ",
    ),
    "dataset that is a list": (
        "sample_images",
        "[a]",
        "s.yaml:4:19: inputs.dataset: should be the word of a dataset, or {word: {option: value}}, not a list",
    ),
    "inputs that are a list": (
        "{dataset: sample_images, batch: 1}",
        "[1]",
        "s.yaml:4:9: inputs: should be a mapping such as {dataset: sample_images, batch: [1, 8]}, not a list",
    ),
    "unknown size": (
        "batch: 1",
        "image_sise: 224",
        "s.yaml:4:34: inputs.image_sise: unknown size: 'image_sise'. Did you mean 'image_size'? Allowed: dataset, ",
    ),
    "batch 0": (
        "batch: 1",
        "batch: 0",
        "s.yaml:4:41: inputs.batch: 0 is out of range. Allowed: 1 to 1048576.",
    ),
    "batch -3": ("batch: 1", "batch: [1, -3]", "s.yaml:4:45: inputs.batch.1: -3 is out of range."),
    "batch true": (
        "batch: 1",
        "batch: true",
        "s.yaml:4:41: inputs.batch: should be a whole number, not true",
    ),
    "batch 1.5": ("batch: 1", "batch: 1.5", "s.yaml:4:41: inputs.batch: should be a whole number, not 1.5"),
    "batch 1.0": ("batch: 1", "batch: 1.0", "s.yaml:4:41: inputs.batch: should be a whole number, not 1.0"),
    "batch text": ("batch: 1", "batch: '1'", "s.yaml:4:41: inputs.batch: should be a whole number, not '1'"),
    "no batch": ("batch: 1", "batch: []", "s.yaml:4:41: inputs.batch: needs at least one item"),
    "batch twice": (
        "batch: 1",
        "batch: [1, 2, 1]",
        "s.yaml:4:48: inputs.batch.2: 1 stands in the list twice",
    ),
    "too many cases": (
        "batch: 1",
        f"batch: {list(range(1, 102))}, image_size: {list(range(1, 101))}",
        "s.yaml:4:9: inputs: the matrix has up to 40400 cases; at most 10000 are allowed",
    ),
    # the rest
    "opset 99": ("threads: 2", "opset: 99", "s.yaml:5:8: opset: 99 is out of range. Allowed: 13 to 23."),
    "opset 12": ("threads: 2", "opset: 12", "s.yaml:5:8: opset: 12 is out of range. Allowed: 13 to 23."),
    "opset text": ("threads: 2", "opset: '17'", "s.yaml:5:8: opset: should be a whole number, not '17'"),
    "threads 0": ("threads: 2", "threads: 0", "s.yaml:5:10: threads: 0 is out of range. Allowed: 1 to 4096."),
    "threads text": ("threads: 2", "threads: x", "s.yaml:5:10: threads: should be a whole number, not 'x'"),
    "threads field": (
        "threads: 2",
        "threads: {intra: 2}",
        "s.yaml:5:11: threads.intra: unknown field: 'intra'. Did you mean 'intra_op'? Allowed: intra_op, inter_op.",
    ),
    "unknown top field": (
        "threads: 2",
        "thread: 2",
        "s.yaml:5:1: thread: unknown field: 'thread'. Did you mean 'threads'? Allowed: models, paths, backends, ",
    ),
    "unknown precision": (
        "threads: 2",
        "parity: {tolerances: {fp23: {atol: 1}}}",
        "s.yaml:5:23: parity.tolerances.fp23: unknown word: 'fp23'. Did you mean 'fp32'? Allowed: fp32, fp16, ",
    ),
    "unknown tolerance": (
        "threads: 2",
        "parity: {tolerances: {fp32: {atl: 1}}}",
        "s.yaml:5:30: parity.tolerances.fp32.atl: unknown field: 'atl'. Did you mean 'atol'? Allowed: ",
    ),
    "cosine 2": (
        "threads: 2",
        "parity: {tolerances: {fp32: {cosine: 2}}}",
        "s.yaml:5:38: parity.tolerances.fp32.cosine: 2.0 is out of range. Allowed: -1 to 1.",
    ),
    "unknown unit": (
        "threads: 2",
        "measure: {budget_seconds: 20 years}",
        "s.yaml:5:27: measure.budget_seconds: '20 years' is not understood. Allowed: a number, or one with a unit ",
    ),
    "one replicate": (
        "threads: 2",
        "measure: {replicates: 1}",
        "s.yaml:5:23: measure.replicates: 1 is out of range. Allowed: 2 to 100.",
    ),
    "fewer processes at most than at least": (
        "threads: 2",
        "measure: {most_replicates: 4}",
        "s.yaml:5:28: measure.most_replicates: 4 is less than replicates, which is 5. Give at least 5 here, ",
    ),
    "measure is a number": ("threads: 2", "measure: 3", "s.yaml:5:10: measure: should be a mapping, not 3"),
    "terminal escape in a key": (
        "threads: 2",
        '"\\e[31mred": 2',
        "s.yaml:5:1: \\x1b[31mred: unknown field: '\\x1b[31mred'. Allowed: ",
    ),
}


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_field_that_is_wrong(name):
    """Each wrong field names its line, its column, itself, what is wrong and what is allowed."""
    old, new, expected = WRONG_FIELDS[name]
    assert message(changed(old, new)).startswith(expected)


def test_suite_error_knows_its_place():
    """Line and column are fields too, so that an editor can jump there."""
    with pytest.raises(SuiteError) as caught:
        parsed(changed("fp16", "fp61"))
    assert (caught.value.file, caught.value.line, caught.value.column) == ("s.yaml", 2, 23)


def test_block_style_is_located_too():
    """Lines count in the style that people write."""
    text = "models:\n  - family: vit\n    source: a/b\n    sed: 1\npaths:\n  - torch\nbackends:\n  - pytorch\ninputs:\n  dataset: random\n"
    assert message(text).startswith("s.yaml:4:5: models.0.sed: unknown field: 'sed'. Did you mean 'seed'?")


def test_all_errors_come_at_once_in_order_of_lines():
    """One error a line, each with its place."""
    text = GOOD.replace("fp16", "fp61").replace("pytorch", "pytroch").replace("batch: 1", "batch: 0")
    starts = [line[:25] for line in message(text).splitlines()]
    assert starts == [
        "s.yaml:2:23: paths.1.1: u",
        "s.yaml:3:12: backends.0: ",
        "s.yaml:4:41: inputs.batch:"[:25],
    ]


def test_many_errors_are_cut_off_after_ten():
    """A suite that is wrong everywhere does not fill the screen."""
    lines = message(GOOD + "".join(f"field{n}: 1\n" for n in range(14))).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "... and 4 more"


def test_long_values_are_cut_in_messages():
    """A megabyte of text is not repeated."""
    assert len(message(changed("[pytorch,", f"[{'x' * 100_000},"))) < 300


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, ":1:1: cannot read the suite: No such file or directory"),
        (b"models:\n  - caf\xe9\n", ":2:8: not a UTF-8 text (byte 0xe9); save it as UTF-8"),
        (b"#" * (2 << 20), ":1:1: a suite has at most 1048576 bytes"),
    ],
)
def test_file_that_cannot_be_read(tmp_path, content, expected):
    """A missing file, another encoding, and what cannot be a suite by its size."""
    file = tmp_path / "s.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SuiteError) as caught:
        load_suite(file)
    assert str(caught.value).startswith(f"{file}{expected}")


def test_directory_is_no_suite(tmp_path):
    """A folder is told apart from a file that cannot be read."""
    with pytest.raises(SuiteError, match=r":1:1: this is a directory; name a suite file in it$"):
        load_suite(tmp_path)


def test_impossible_file_name_is_a_usage_error():
    """A NUL in the name is no crash."""
    with pytest.raises(SuiteError, match=r"cannot read the suite: not a file name$"):
        load_suite("a\0b")


# --- Overrides ---


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("models.0.weights=pretrained", lambda c: c.model.weights, "pretrained"),
        ("models.weights=pretrained", lambda c: c.model.weights, "pretrained"),
        ("models.0.config={hidden_size: 64}", lambda c: c.model.config, {"hidden_size": 64}),
        ("models.0.config.hidden_size=64", lambda c: c.model.config, {"hidden_size": 64}),
        ("inputs.batch=3", lambda c: c.shape["batch"], 3),
        ("inputs.batch=[3]", lambda c: c.shape["batch"], 3),
        ("inputs.batch.0=3", lambda c: c.shape["batch"], 3),
        ("opset=18", lambda c: c.opset, 18),
        ("backends.0.pytorch.compile=true", lambda c: c.backend.options, {"compile": True}),
        ("inputs.dataset=random", lambda c: c.dataset.word, "random"),
    ],
)
def test_override_replaces_a_value(override, field, value):
    """Dotted paths reach fields that the suite has, leaves out, or wrote short."""
    assert field(parsed(GOOD, override).cases[0]) == value


def test_override_gives_options_to_a_bare_word():
    """`paths.1.1.fp16.keep_io_types` makes a mapping of the word `fp16`."""
    overridden = parsed(GOOD, "paths.1.1=int8_static", "paths.1.1.int8_static.samples=65")
    assert overridden.cases[1].path == (Step("onnx"), Step("int8_static", {"samples": 65}))


def test_later_override_wins_and_the_source_remembers():
    """A resumed run has the overrides in it."""
    overridden = parsed(GOOD, "opset=18", "opset=19")
    assert overridden.cases[0].opset == 19
    assert from_source(overridden.source, "s.yaml") == overridden


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "models.0.wieghts=pretrained",
            "--set models.0.wieghts=pretrained: models.wieghts: unknown field: 'wieghts'. Did you mean 'weights'? Allowed: ",
        ),
        (
            "mesure.budget_seconds=1",
            "--set mesure.budget_seconds=1: mesure: unknown field: 'mesure'. Did you mean 'measure'? Allowed: ",
        ),
        (
            "measure.precision=0",
            "--set measure.precision=0: measure.precision: 0.0 is out of range. Allowed: ",
        ),
        ("opset=99", "--set opset=99: opset: 99 is out of range. Allowed: 13 to 23."),
        ("opset", "--set opset: write field=value, for example --set models.0.weights=pretrained"),
        ("=1", "--set =1: write field=value"),
        ("a..b=1", "--set a..b=1: write field=value"),
        ("paths.7=x", "--set paths.7=x: paths is a list: write a number from 0 to 1 in place of '7'"),
        ("paths.x=x", "--set paths.x=x: paths is a list: write a number from 0 to 1 in place of 'x'"),
        ("inputs.batch.x=1", "--set inputs.batch.x=1: inputs.batch is 1, which has no field 'x'"),
        ("inputs.batch=[1", "--set inputs.batch=[1: not YAML: expected ',' or ']'"),
        (
            "opset=!!python/name:os.system",
            "--set opset=!!python/name:os.system: the tag '!!python/name:os.system'",
        ),
        ("a" + ".a" * 5000 + "=1", "--set a.a.a."),
    ],
)
def test_wrong_override_names_itself(override, expected):
    """An error in an override is not blamed on a line of the file."""
    assert message(GOOD, override).startswith(expected)


def test_errors_of_file_and_override_stand_side_by_side():
    """Each keeps its own place."""
    lines = message(changed("fp16", "fp61"), "opset=99").splitlines()
    assert [line[:20] for line in lines] == ["s.yaml:2:23: paths.1", "--set opset=99: opse"]


# --- Plug-ins that do not exist yet ---


def fake_plugins(monkeypatch, modules):
    """Adds modules, by kind and word, to the plug-ins that are found."""
    names, load = plugins.names, plugins.load
    monkeypatch.setattr(plugins, "names", lambda kind: tuple(sorted({*names(kind), *modules.get(kind, {})})))
    monkeypatch.setattr(
        plugins, "load", lambda kind, word: modules.get(kind, {}).get(word) or load(kind, word)
    )


@dataclass(frozen=True)
class FakeOptions:
    low: int = 1
    high: int = 2
    names: tuple[str, ...] = ("a",)
    folder: str | None = None

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low <= high is needed")


def fake_pass(accepts, produces):
    return plugins.seen_as("passes", {"ACCEPTS": accepts, "PRODUCES": produces, "Options": FakeOptions})


def test_a_word_without_options_says_that_there_are_none(monkeypatch):
    plain = plugins.seen_as("passes", {"ACCEPTS": ("onnx",), "PRODUCES": "onnx"})
    fake_plugins(monkeypatch, {"passes": {"plain": plain}})
    said = message(changed("[onnx, fp16]", "[onnx, {plain: {a: 1}}]"))
    assert said.startswith("s.yaml:2:32: paths.1.1.plain.a: unknown option: 'a'. There are none.")


def test_each_family_takes_the_sizes_it_knows(monkeypatch):
    """`sequence_length` is for the text model, `image_size` for the image model, `batch` for both."""
    text_family = plugins.seen_as("models", {"TASKS": {"fill-mask": {"sequence_length": 128}}})
    fake_plugins(monkeypatch, {"models": {"text": text_family}})
    models = "[{family: vit, source: a/vit}, {family: text, source: a/text}]"
    suite_text = changed("{family: vit, source: google/vit-base-patch16-224}", models).replace(
        "batch: 1", "sequence_length: [16, 32]"
    )
    both = parsed(suite_text)
    shapes = [(case.model.name, case.shape) for case in both.cases if case.backend.word == "pytorch"]
    assert shapes == [
        ("vit", {"batch": 1, "image_size": 224}),
        ("text", {"batch": 1, "sequence_length": 16}),
        ("text", {"batch": 1, "sequence_length": 32}),
    ]
    assert from_source(both.source, "s.yaml") == both


def test_kind_of_artifact_is_that_of_the_last_pass(monkeypatch):
    """A pass that produces an engine needs a backend that runs engines."""
    known = {"ACCEPTS": ("engine",), "DEFAULT_PROVIDERS": ("gpu",), "KNOWN_PROVIDERS": ("gpu",)}
    backend = plugins.seen_as("backends", known)
    fake_plugins(
        monkeypatch, {"passes": {"engine": fake_pass(("onnx",), "engine")}, "backends": {"runner": backend}}
    )
    text = GOOD.replace("[onnx, fp16]", "[onnx, fp16, engine]").replace("onnxruntime", "runner")
    assert [case.title for case in parsed(text).cases][1:] == [
        "vit-base-patch16-224 | onnx + fp16 + engine | runner | gpu | batch=1 image_size=224"
    ]
    assert message(text.replace("fp16, engine", "engine, fp16")).startswith(
        "s.yaml:2:31: paths.1.2: 'fp16' cannot follow 'engine', which produces engine. It accepts: onnx."
    )


def test_options_are_checked_by_the_plugin(monkeypatch):
    """What a type cannot say, `__post_init__` does; tuples are plain lists in a case."""
    fake_plugins(monkeypatch, {"passes": {"fake": fake_pass(("onnx",), "onnx")}})
    text = changed("fp16", "fake: {names: [x, y], high: 2}")
    assert parsed(text).cases[1].path[1] == Step("fake", {"names": ["x", "y"]})
    assert message(changed("fp16", "fake: {low: 3}")) == "s.yaml:2:29: paths.1.1.fake: low <= high is needed"
    assert message(changed("fp16", "fake: {names: x}")).startswith(
        "s.yaml:2:37: paths.1.1.fake.names: should be a list, not 'x'"
    )


def test_a_chain_of_one_provider_is_that_provider():
    """Written in two ways it would be one case twice."""
    text = changed(
        "onnxruntime]", "onnxruntime: {providers: [CPUExecutionProvider, [CPUExecutionProvider]]}]"
    )
    with pytest.raises(SuiteError, match=r"providers\.1: stands in the list twice"):
        parse_suite(text, "s.yaml")


def test_option_that_begins_with_a_dot_is_a_path(monkeypatch, tmp_path):
    """A LoRA adapter, say, beside the suite."""
    fake_plugins(monkeypatch, {"passes": {"fake": fake_pass(("onnx",), "onnx")}})
    (tmp_path / "adapter").mkdir()
    file = tmp_path / "s.yaml"
    file.write_text(changed("fp16", "fake: {folder: ./adapter}"))
    step = load_suite(file).cases[1].path[1]
    assert step.options == {"folder": "./adapter"}
    assert step.located_from(tmp_path).options == {"folder": str(tmp_path / "adapter")}


# --- Selection ---


def selected(only=(), skip=()):
    cases = load_suite(SUITES / "vit.yaml").cases
    return [case.title for case in suite.select(cases, only, skip)]


@pytest.mark.parametrize(
    ("only", "skip", "count"),
    [
        ([], [], 20),
        (["batch=1"], [], 10),
        (["batch=1", "batch=8"], [], 20),
        (["model=vit-*", "family=vit", "image_size=224"], [], 20),
        (["path=torch"], [], 4),
        (["path=*int8*"], [], 8),
        (["path=onnx+fp16"], [], 4),
        (["path=onnx + fp16", "batch=1"], [], 2),
        (["path=torch", "path=onnx"], [], 8),
        (["backend=pytorch"], [], 4),
        (["backend=pytorch(*"], [], 2),
        (["provider=cuda"], [], 8),
        (["provider=CPUExecutionProvider", "batch=8"], [], 4),
        (["fp16"], [], 4),
        (["*fp16*batch=8*"], [], 2),
        (["fp16", "int8_dynamic"], [], 8),
        ([], ["provider=CUDA*"], 12),
        ([], ["provider=cuda", "(compile=true"], 10),
        (["path=*int8*"], ["batch=8", "provider=cuda"], 2),
    ],
)
def test_terms_narrow_the_matrix(only, skip, count):
    """Terms of one field are alternatives, different fields must all match, skip takes away."""
    assert len(selected(only, skip)) == count


def test_selection_keeps_the_order_and_takes_ids():
    """An id, or its beginning, names one case."""
    cases = load_suite(SUITES / "vit.yaml").cases
    assert suite.select(cases, [f"id={cases[3].id}", f"id={cases[1].id[:8]}"], []) == (cases[1], cases[3])
    assert suite.select(cases, [cases[5].id], []) == (cases[5],)


@pytest.mark.parametrize(
    ("only", "skip", "expected"),
    [
        (
            ["bacth=1"],
            [],
            "'bacth=1': unknown field 'bacth'. Did you mean 'batch='? Fields: backend, batch, ",
        ),
        (["batch=3"], [], "--only 'batch=3' matches no case. There is: 1, 8."),
        ([], ["path=onnx+fp61"], "--skip 'path=onnx+fp61' matches no case. There is: onnx, onnx + fp16, "),
        (
            ["fp61"],
            [],
            "--only 'fp61' matches no case. Cases:\n  vit-base | torch | pytorch | cpu | batch=1 ",
        ),
        ([""], [], "--only '' matches no case."),
        (
            ["path=torch"],
            ["backend=pytorch"],
            "--only and --skip together leave no case. Cases:\n  vit-base | ",
        ),
    ],
)
def test_term_that_matches_nothing_lists_what_exists(only, skip, expected):
    """A slip in a term does not quietly measure nothing, or everything."""
    with pytest.raises(UsageError) as caught:
        selected(only, skip)
    assert str(caught.value).startswith(expected)


# --- JSON Schema ---


def test_json_schema_knows_words_options_and_fields():
    """An editor completes plug-in words and their options."""
    schema = suite.json_schema()
    definitions = schema["$defs"]
    assert schema["required"] == ["models", "paths", "backends", "inputs"]
    assert set(schema["properties"]) == {
        "models", "paths", "backends", "inputs", "opset", "dynamic_axes", "threads", "parity", "measure", "name",
    }  # fmt: skip
    assert [choice["const"] for choice in definitions["Exporter"]["anyOf"][0]["oneOf"]] == [
        "dynamo",
        "onnx",
        "torch",
    ]
    [static] = [c for c in definitions["Pass"]["anyOf"][1:] if c["required"] == ["int8_static"]]
    assert {"samples", "calibration", "per_channel"} <= set(static["properties"]["int8_static"]["properties"])
    [pytorch] = [c for c in definitions["Backend"]["anyOf"][1:] if c["required"] == ["pytorch"]]
    options = pytorch["properties"]["pytorch"]["properties"]
    assert options["compile"] == {"default": False, "type": "boolean"}
    assert options["providers"]["anyOf"][0] == {"enum": ["cpu", "cuda"]}
    assert {"threads", "python", "provider_options"} <= set(options)
    assert set(definitions["Measure"]["properties"]) == {field.name for field in fields(MeasurePlan)}


def test_json_schema_is_json_and_its_references_resolve():
    """Every $ref has its definition, and every plug-in its description."""
    schema = suite.json_schema()
    text = json.dumps(schema, allow_nan=False)
    references = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert references <= set(schema["$defs"])
    for name in ("Exporter", "Pass", "Backend", "Dataset"):
        assert all(choice["description"] for choice in schema["$defs"][name]["anyOf"])


# --- Whatever is written, a suite loads or says what is wrong ---


@settings(max_examples=300, deadline=None)
@given(mutated())
def test_mutated_suite_loads_or_is_a_usage_error(text):
    """Never a traceback; and what loads has unique cases and can be rebuilt from its source."""
    try:
        loaded = parse_suite(text, str(SUITES / "mutated.yaml"))
    except UsageError as error:
        assert str(error)
        return
    assert len({case.id for case in loaded.cases}) == len(loaded.cases) > 0
    assert from_source(json.loads(json.dumps(loaded.source, allow_nan=False)), loaded.file) == loaded


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 2000))
def test_damaged_bytes_load_or_are_a_usage_error(tmp_path_factory, noise, at):
    """Bytes written over a file are found out by reading it."""
    raw = SHIPPED[0].encode()
    file = tmp_path_factory.mktemp("damaged") / "vit.yaml"
    file.write_bytes(raw[:at] + noise + raw[at + len(noise) :])
    try:
        assert load_suite(file).cases
    except UsageError as error:
        assert str(error).startswith(f"{file}:")


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="modelspathinuyrc.01=[]{}:,- ", max_size=30), st.sampled_from(SNIPPETS))
def test_any_override_applies_or_is_a_usage_error(key, value):
    """Never a traceback, whatever stands after --set."""
    try:
        parsed(GOOD, f"{key}={value}")
    except UsageError as error:
        assert str(error)


def test_a_path_that_was_written_short_is_replaced_by_a_path_of_several_steps() -> None:
    cases = parsed(
        changed("paths: [torch, [onnx, fp16]]", "paths: onnx"), "paths.0=[onnx, fp16]", "backends=onnxruntime"
    ).cases
    assert {case.path_label for case in cases} == {"onnx + fp16"}
