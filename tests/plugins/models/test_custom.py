"""A torch module of the user's own: trusted or not run, declared, fed, saved, and fit for the exporters."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
from benchbox.build.artifacts import artifact_of, build_artifact
from benchbox.build.cache import Cache
from benchbox.build.keys import artifact_keys, reference_key
from benchbox.errors import StageError, SuiteError
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import custom
from benchbox.reporters.write import write_reports
from benchbox.results import runs
from benchbox.runner import planning, runner
from benchbox.schema.asked import Dataset, Model
from benchbox.schema.seen import Host
from benchbox.suite.load import load_suite, parse_suite
from families import small

torch = pytest.importorskip("torch")

MIXER = small("mixer-small")

# A module that adds to ids what is in a file beside it; the function declares what `DECLARED` says.
BODY = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.randn(3))

    def forward(self, ids, extra):
        return {"b": ids.sum(1), "a": extra * self.scale}

def feeds(samples, shape):
    import numpy
    return {"extra": numpy.zeros((len(samples), 3), "float32"), "ids": numpy.ones(SHAPE_OF_IDS, "int64")}

def net(**arguments):
    return DECLARED
"""
IDS = '{"name": "ids", "dtype": "int64", "axes": ["batch", "tokens"], "range": [0, 9]}'
EXTRA = '{"name": "extra", "dtype": "float32", "axes": ["batch", 3]}'
A = '{"name": "a", "dtype": "float32", "axes": ["batch", 3]}'
B = '{"name": "b", "dtype": "int64", "axes": ["batch"]}'
GOOD = f'{{"module": Net(), "inputs": [{IDS}, {EXTRA}], "outputs": [{A}, {B}]}}'


def written(folder: Path, declared: str = GOOD, ids: str = "(len(samples), shape['tokens'])") -> Model:
    file = folder / "net.py"
    file.write_text(BODY.replace("DECLARED", declared).replace("SHAPE_OF_IDS", ids), encoding="utf-8")
    config = {"sizes": {"tokens": [16, 11]}}
    return Model("net", "custom", f"{file}:net", "inference", config=config, trust_remote_code=True)


def refused(model: Model) -> str:
    with pytest.raises(StageError) as caught:
        custom.load(model)
    return caught.value.reason


# --- trust ---

HOSTILE = """
import pathlib
pathlib.Path(__file__).with_name("it-ran").touch()
def net():
    pathlib.Path(__file__).with_name("it-ran").touch()
"""
SUITE = """
models: {family: custom, source: ./net.py:net, config: {sizes: {tokens: [16, 11]}}}
paths: [torch, onnx]
backends: [pytorch, onnxruntime]
inputs: {dataset: random, tokens: [16, 8]}
"""


def test_a_file_that_the_suite_does_not_trust_is_run_by_nothing(tmp_path: Path, cache_folder: Path) -> None:
    """Neither plan nor run nor report; the failed rows say what to write."""
    (tmp_path / "net.py").write_text(HOSTILE, encoding="utf-8")
    (tmp_path / "s.yaml").write_text(SUITE, encoding="utf-8")
    loaded = load_suite(tmp_path / "s.yaml")
    planned = planning.plan(loaded, cache_folder)
    finished = runner.run(loaded, results=tmp_path / "results", reports=None, cache=cache_folder)
    write_reports(runs.load_results(finished.results.folder), tmp_path / "reports")
    assert (len(planned), [item.unavailable for item in planned]) == (4, [""] * 4)
    reason = (
        "net.py:net is Python code, which was not run: if you trust it, write "
        "trust_remote_code: true under this model in the suite"
    )
    ended = [(r.outcome, r.stage, r.reason) for r in finished.results.records]
    assert ended == [("failed", "reference", reason)] * 4
    assert not (tmp_path / "it-ran").exists()


def test_nothing_but_loading_runs_even_a_trusted_file(tmp_path: Path) -> None:
    """The check of a suite, keys of the cache and the metrics of a worker leave it alone."""
    (tmp_path / "net.py").write_text(HOSTILE, encoding="utf-8")
    trusted = SUITE.replace("{family", "{trust_remote_code: true, family")
    case = parse_suite(trusted, str(tmp_path / "s.yaml")).cases[0]
    artifact_keys(case, Host(frozenset()))
    reference_key(case, 4)
    custom.metrics(case.model, Evidence({}, {}, {}))
    assert not (tmp_path / "it-ran").exists()
    assert refused(case.model.located_from(tmp_path)).startswith(
        "net.py:net should return a mapping with module, inputs and outputs"
    )
    assert (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    "ask", [custom.load, lambda m: custom.signature(m, {}), lambda m: custom.feeds(m, [], {})]
)
def test_each_way_to_the_function_asks_for_trust(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(HOSTILE, encoding="utf-8")
    with pytest.raises(StageError, match="which was not run"):
        ask(replace(written(tmp_path), trust_remote_code=False))
    assert not (tmp_path / "it-ran").exists()


def test_no_bytecode_is_left_beside_the_file(tmp_path: Path) -> None:
    custom.load(written(tmp_path))
    assert [f.name for f in tmp_path.iterdir()] == ["net.py"]


# --- what is declared ---


def test_the_rest_of_the_config_is_the_functions() -> None:
    seven = MIXER.but(config={"classes": 7, "depth": 2})
    assert len(seven.module.model.blocks) == 2
    assert seven.signature.outputs[0].axes == ("batch", 7)


def test_outputs_by_name_come_in_the_order_of_the_signature(tmp_path: Path) -> None:
    module = custom.load(written(tmp_path))
    a, b = module(torch.ones(2, 4, dtype=torch.int64), torch.ones(2, 3))
    assert (tuple(a.shape), b.tolist()) == ((2, 3), [4, 4])


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("None", "it returned NoneType"),
        ("{}", "module is missing"),
        (GOOD.replace("Net()", "3"), "module is int, not a torch.nn.Module"),
        (GOOD.replace('"outputs"', '"output"'), "unknown key: 'output'. Did you mean 'outputs'?"),
        (
            GOOD.replace('"int64", "axes"', '"long", "axes"', 1),
            "ids has the dtype 'long'; allowed: float64, ",
        ),
        (GOOD.replace('["batch", 3]', '["batch", 3.5]', 1), "extra has the axes ['batch', 3.5]; "),
        (GOOD.replace("[0, 9]", "[9, 0]"), "the range of ids should be [lowest, highest], "),
        (
            GOOD.replace('"range": [0, 9]', '"mask": "yes"'),
            "mask of ids should be True for one with the axes batch and length, not 'yes'",
        ),
        (GOOD.replace("Net(), ", 'Net(), "feeds": 3, '), "feeds is not a function"),
        (GOOD.replace('"name": "a", ', ""), "'name'"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(declared: str, said: str, tmp_path: Path) -> None:
    reason = refused(written(tmp_path, declared))
    assert reason.startswith(f"net.py:net should return a mapping with module, inputs and outputs: {said}")


def test_a_source_without_a_function_says_how_to_write_one(tmp_path: Path) -> None:
    model = written(tmp_path)
    bare = replace(model, source=str(tmp_path / "net.py"))
    assert refused(bare).startswith(
        "the source of net should be a file and a function, ./file.py:function, not "
    )
    assert refused(replace(model, source=f"{model.source}work")) == "net.py has no function 'network'"


# --- feeds ---


def test_pictures_are_resized_to_the_axes() -> None:
    white = Sample(image=np.full((30, 20, 3), 255, np.uint8))
    pixels = MIXER.raw([white] * 2, height=16, width=12)["pixel_values"]
    assert (pixels.shape, pixels.min(), pixels.max()) == ((2, 3, 16, 12), 1.0, 1.0)


def test_ranges_are_the_functions(tmp_path: Path) -> None:
    feeds = custom.feeds(written(tmp_path), [Sample(text="a")] * 2, {"batch": 2, "tokens": 200})
    assert (list(feeds), feeds["ids"].shape, feeds["ids"].min(), feeds["ids"].max()) == (
        ["ids", "extra"],
        (2, 200),
        0,
        9,
    )


def test_an_input_can_be_declared_a_mask(tmp_path: Path) -> None:
    model = written(tmp_path, GOOD.replace('"range": [0, 9]', '"mask": True'))
    assert [spec.is_mask for spec in custom.signature(model, {}).inputs] == [True, False]
    ids = custom.feeds(model, [Sample(text="a")], {"batch": 1, "tokens": 20})["ids"]
    assert ids.tolist() == [[1] * int(ids.sum()) + [0] * (20 - int(ids.sum()))]


def test_feeds_of_the_users_own_come_in_the_order_of_the_signature(tmp_path: Path) -> None:
    model = written(tmp_path, GOOD.replace("Net(), ", 'Net(), "feeds": feeds, '))
    feeds = custom.feeds(model, [Sample(text="a")], {"batch": 1, "tokens": 4})
    assert [(name, a.tolist()) for name, a in feeds.items()] == [
        ("ids", [[1, 1, 1, 1]]),
        ("extra", [[0.0, 0.0, 0.0]]),
    ]


def test_feeds_that_are_not_as_declared_are_refused(tmp_path: Path) -> None:
    model = written(tmp_path, GOOD.replace("Net(), ", 'Net(), "feeds": feeds, '), ids="(1, 5)")
    with pytest.raises(StageError) as caught:
        custom.feeds(model, [Sample(text="a")], {"batch": 1, "tokens": 4})
    assert caught.value.reason == (
        "feeds returned 'ids' as int64 of shape (1, 5), and int64 of shape (1, 4) was declared"
    )


# --- saving, keys, exporting ---


def test_a_module_without_a_batch_is_refused(tmp_path: Path) -> None:
    """Else every batch would take as long, and be as many samples."""
    model = written(tmp_path, GOOD.replace('"batch"', '"N"'))
    assert refused(model) == (
        "net.py:net should return a mapping with module, inputs and outputs: no input has an axis called "
        "batch: call that so along which samples lie"
    )


def test_an_artifact_is_whole_without_the_folder_that_it_was_made_from(tmp_path: Path) -> None:
    """Its code, and the files that its function is called with; it says nothing of where they lay."""
    project, artifact = tmp_path / "project", tmp_path / "artifact"
    project.mkdir()
    artifact.mkdir()
    own = WEIGHTS.replace("torch.nn.Linear", "Layer")
    (project / "net.py").write_text(f"from layers import Layer\n{own}")
    (project / "layers.py").write_text("from torch.nn import Linear as Layer\n")
    np.save(project / "trained.npy", np.full((2, 3), 1.0, np.float32))
    model = parse_suite(WITH_WEIGHTS, str(project / "s.yaml")).cases[0].model.located_from(project)
    custom.save(custom.load(model), artifact)
    shutil.rmtree(project)
    assert str(tmp_path) not in (artifact / "custom.json").read_text()
    moved = artifact.rename(tmp_path / "elsewhere")
    stored = replace(model, source=str(moved), weights="pretrained", config={})
    with torch.inference_mode():
        assert custom.load(stored)(torch.ones(1, 3))[0].tolist() == [[3.0, 3.0]]


def test_a_saved_module_is_not_run_without_trust_either(tmp_path: Path) -> None:
    stored = MIXER.saved(tmp_path).but(trust_remote_code=False)
    assert "which was not run" in refused(stored.model)


def test_an_edit_of_the_file_or_of_one_beside_it_is_another_model(tmp_path: Path) -> None:
    model = written(tmp_path)
    prints = [custom.fingerprint(model)]
    (tmp_path / "layers.py").write_text("WIDTH = 1\n", encoding="utf-8")
    prints.append(custom.fingerprint(model))
    (tmp_path / "net.py").write_text(HOSTILE, encoding="utf-8")
    prints.append(custom.fingerprint(model))
    assert len(set(prints)) == 3


WEIGHTS = """
import numpy, torch

def net(weights):
    linear = torch.nn.Linear(3, 2, bias=False)
    linear.weight = torch.nn.Parameter(torch.from_numpy(numpy.load(weights)))
    return {"module": linear, "inputs": [{"name": "x", "dtype": "float32", "axes": ["batch", 3]}],
            "outputs": [{"name": "y", "dtype": "float32", "axes": ["batch", 2]}]}
"""
WITH_WEIGHTS = """
models: {family: custom, source: ./net.py:net, trust_remote_code: true, config: {weights: ./trained.npy}}
paths: [torch]
backends: [pytorch]
inputs: {dataset: random}
"""


def test_a_file_that_the_config_names_is_taken_from_the_suite_and_is_part_of_the_model(
    tmp_path: Path,
) -> None:
    """Weights that were trained further are another artifact, under the same case."""
    (tmp_path / "net.py").write_text(WEIGHTS, encoding="utf-8")
    np.save(tmp_path / "trained.npy", np.full((2, 3), 1.0, np.float32))
    case = parse_suite(WITH_WEIGHTS, str(tmp_path / "s.yaml")).cases[0]
    assert case.model.config == {"weights": "./trained.npy"}
    with torch.inference_mode():
        assert custom.load(case.model.located_from(tmp_path))(torch.ones(1, 3))[0].tolist() == [[3.0, 3.0]]
    before = artifact_keys(case, Host(frozenset()), tmp_path)
    np.save(tmp_path / "trained.npy", np.full((2, 3), 2.0, np.float32))
    assert artifact_keys(case, Host(frozenset()), tmp_path) != before


def test_a_file_that_the_config_names_and_that_is_not_there_is_a_wrong_suite(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(WEIGHTS, encoding="utf-8")
    with pytest.raises(SuiteError, match=r"models\.config\.weights: './trained\.npy' does not exist"):
        parse_suite(WITH_WEIGHTS, str(tmp_path / "s.yaml"))


def test_an_edited_file_is_what_runs(tmp_path: Path) -> None:
    """Also within the second in which it was read before, which Python's own bytecode would not notice."""
    assert custom.signature(written(tmp_path), {}).outputs[0].axes == ("batch", 3)
    changed = written(tmp_path, GOOD.replace(A, A.replace('["batch", 3]', '["batch", 4]')))
    assert custom.signature(changed, {}).outputs[0].axes == ("batch", 4)


HALF = """
import torch

class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(8, 4)

    def forward(self, x, k):
        return self.inner(x) * k

def net(**arguments):
    y = {"name": "y", "dtype": DTYPE, "axes": ["batch", 4]}
    return {"module": MODULE, "inputs": [X, K], "outputs": [y]}
"""


@pytest.mark.parametrize(
    ("module", "dtype", "precision"),
    [("Scaled()", "float32", "fp32"), ("Scaled().half()", "float16", "fp16")],
)
@pytest.mark.parametrize("exporter", ["torch", "onnx"])
def test_a_module_is_of_the_precision_of_its_weights_and_takes_a_number_without_axes(
    module: str, dtype: str, precision: str, exporter: str, tmp_path: Path
) -> None:
    text = HALF.replace("MODULE", module).replace("DTYPE", repr(dtype))
    text = text.replace("X,", f'{{"name": "x", "dtype": "{dtype}", "axes": ["batch", 8]}},')
    text = text.replace("K]", f'{{"name": "k", "dtype": "{dtype}", "axes": [], "range": [2, 2]}}]')
    (tmp_path / "net.py").write_text(text, encoding="utf-8")
    model = Model("net", "custom", f"{tmp_path}/net.py:net", "inference", trust_remote_code=True)
    case = cases.case(exporter, model=model, shape={"batch": 1}, dataset=Dataset("random"))
    artifact = artifact_of(build_artifact(case, Cache(tmp_path / "cache"), Host(frozenset())))
    assert artifact.precision == precision
