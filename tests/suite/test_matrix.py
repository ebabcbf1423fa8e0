"""The suite multiplied out: every case, in order; what pairs with nothing or stands there twice."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

from benchbox.schema.asked import Backend, Case, Dataset, Model, Step, Threads
from benchbox.suite.load import load_suite
from suite_texts import SUITES, changed, each_is_told_with_its_place, parsed


def test_vit_suite_is_five_paths_on_two_batches():
    """The shipped suite: titles of the whole matrix, in order."""
    titles = [case.title for case in load_suite(SUITES / "vit.yaml").cases]
    pairs = ["torch | pytorch | cpu", "torch | pytorch(compile=true) | cpu"]
    for path in ("onnx", "onnx + fp16", "onnx + int8_dynamic", "onnx + int8_static"):
        pairs += [f"{path} | onnxruntime | {word}ExecutionProvider" for word in ("CPU", "CUDA")]
    expected = [f"vit-base | {pair} | batch={batch} image_size=224" for pair in pairs for batch in (1, 8)]
    assert titles == expected


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
    assert case == Case(
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


test_a_matrix_that_is_wrong_is_told_with_its_place = each_is_told_with_its_place({
    "path twice": ("[torch,", "[torch, torch,", "s.yaml:2:16: paths.1: this is paths.0 once more"),
    "path that nothing runs": (", onnxruntime]", "]", "s.yaml:2:16: paths.1: no backend of this suite runs onnx + fp16, which produces onnx. Backends that do: onnxruntime."),
    "backend twice": (", onnxruntime]", ", onnxruntime, pytorch: {compile: false}]", "s.yaml:3:34: backends.2: pytorch on cpu is in backends.0 already"),
    "backend with nothing to run": ("[torch, ", "[", "s.yaml:3:12: backends.0: pytorch has nothing to run: it accepts torch, and the paths produce onnx."),
    "too many cases": ("batch: 1", f"batch: {list(range(1, 102))}, image_size: {list(range(1, 101))}", "s.yaml:4:9: inputs: the matrix has up to 40400 cases; at most 10000 are allowed"),
})  # fmt: skip
