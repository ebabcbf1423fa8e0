"""Keys say what decides an artifact and nothing else; the builder makes what is missing and no more."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
from benchbox import plugins
from benchbox.build import artifacts, cache
from benchbox.build.artifacts import build_artifact
from benchbox.build.cache import Cache
from benchbox.build.feeds import calibration_feeds, no_calibration, parity_shapes, stream
from benchbox.build.keys import _readable, artifact_keys, reference_key
from benchbox.build.reference import _run, _run_twice
from benchbox.errors import StageError
from benchbox.measure.rounds import Ready
from benchbox.numerics import arrays
from benchbox.plugins.contract import PassJob
from benchbox.schema import wire
from benchbox.schema.asked import Case, Dataset, Lora, Model, Step
from benchbox.schema.seen import Host

torch = pytest.importorskip("torch")

PLAIN = Host(frozenset({"avx2"}))
VNNI = Host(frozenset({"avx2", "avx512_vnni"}))
ONNX = cases.case("onnx")
INT8 = cases.case("onnx", "int8_dynamic")


def keys(case: Case, host: Host = PLAIN) -> tuple[str, ...]:
    return artifact_keys(case, host)


def test_paths_share_the_keys_of_their_common_prefix() -> None:
    assert keys(INT8)[0] == keys(ONNX)[0]
    assert keys(cases.case("onnx", "fp16"))[0] == keys(ONNX)[0]
    assert len({*keys(INT8), *keys(cases.case("onnx", "fp16"))}) == 3


@pytest.mark.parametrize(
    "same",
    [
        replace(ONNX, model=replace(cases.MODEL, name="another name")),
        cases.case("onnx", batch=8),
        cases.unfused(),
        replace(ONNX, dataset=Dataset("sample_images")),
        cases.case(Step("onnx", {"do_constant_folding": True})),
    ],
    ids=["name", "batch", "backend", "dataset", "default option"],
)
def test_what_does_not_decide_an_export_is_not_in_its_key(same: Case) -> None:
    assert keys(same) == keys(ONNX)


@pytest.mark.parametrize(
    "other",
    [
        replace(ONNX, model=replace(cases.MODEL, seed=1)),
        replace(ONNX, model=replace(cases.MODEL, config={**cases.CONFIG, "num_labels": 11})),
        replace(ONNX, model=replace(cases.MODEL, weights="pretrained")),
        replace(ONNX, opset=18),
        replace(ONNX, dynamic_axes=False),
        cases.case("dynamo"),
        cases.case(Step("onnx", {"do_constant_folding": False})),
    ],
    ids=["seed", "config", "weights", "opset", "axes", "exporter", "option"],
)
def test_what_decides_an_export_is_in_its_key(other: Case) -> None:
    assert keys(other) != keys(ONNX)


def test_with_fixed_axes_the_batch_decides() -> None:
    fixed = replace(ONNX, dynamic_axes=False)
    assert keys(fixed) != keys(replace(fixed, shape={"batch": 8, "image_size": 32}))


def test_the_bytes_of_a_local_folder_decide_and_not_its_name(tmp_path: Path) -> None:
    def key_of(name: str, text: str) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
        model = replace(cases.MODEL, source=str(tmp_path / name), weights="pretrained", config={})
        return keys(replace(ONNX, model=model))[0]

    assert key_of("a", "{}") != key_of("b", '{"x": 1}')


def test_a_folder_whose_bytes_change_gets_another_key(tmp_path: Path) -> None:
    """In one process, as in a notebook: weights that were trained further are other weights."""
    file = tmp_path / "model.safetensors"
    model = replace(cases.MODEL, source=str(tmp_path), weights="pretrained", config={})
    file.write_bytes(b"before")
    before = keys(replace(ONNX, model=model))
    file.write_bytes(b"after!!")
    assert keys(replace(ONNX, model=model)) != before


def test_what_a_pass_decides_by_the_cpu_is_in_its_key() -> None:
    assert keys(INT8, PLAIN)[0] == keys(INT8, VNNI)[0]
    assert keys(INT8, PLAIN)[1] != keys(INT8, VNNI)[1]


def test_what_a_pass_calibrates_on_is_in_its_key() -> None:
    static = cases.case("onnx", "int8_static")
    other = replace(static, dataset=Dataset("sample_images"))
    assert (keys(other)[0] == keys(static)[0], keys(other)[1] == keys(static)[1]) == (True, False)
    assert keys(replace(INT8, dataset=Dataset("sample_images"))) == keys(INT8)


def test_the_length_that_calibrates_is_in_its_key_and_in_no_other() -> None:
    """One exported graph serves all lengths; activations at one length have other ranges than at another."""
    text = Model("bert", "bert", "google-bert/bert-base-uncased", "text-classification")
    short, long = {"batch": 1, "sequence_length": 8}, {"batch": 1, "sequence_length": 128}

    def keys_at(shape: dict[str, int], word: str) -> tuple[str, ...]:
        return keys(cases.case("onnx", word, model=text, shape=shape, dataset=Dataset("sample_texts")))

    assert keys_at(short, "int8_dynamic") == keys_at(long, "int8_dynamic")
    assert keys_at(short, "int8_static")[0] == keys_at(long, "int8_static")[0]
    assert keys_at(short, "int8_static")[1] != keys_at(long, "int8_static")[1]
    assert keys_at(short, "int8_static") == keys_at({**short, "batch": 8}, "int8_static")


def test_a_pass_that_does_not_say_that_it_calibrates_cannot() -> None:
    with pytest.raises(StageError, match="CALIBRATES = True"):
        no_calibration(samples=1)


def test_what_all_plugins_build_with_is_in_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before, reference = keys(INT8), reference_key(INT8, 4)
    monkeypatch.setattr("benchbox.build.keys.shared_digest", lambda maker: "edited")
    assert not set(before) & set(keys(INT8))
    assert reference_key(INT8, 4) != reference


L4 = replace(PLAIN, gpu="NVIDIA L4", compute_capability="8.9", driver="580.1")


def test_no_key_of_a_cpu_artifact_knows_the_gpu() -> None:
    for word in plugins.own("passes"):
        case = cases.case("onnx", word)
        assert keys(case, L4) == keys(case, PLAIN)


class Fake:
    """A pass of a test, in place of every other; `job` is what it was given."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any] | None = None, **has: Any
    ) -> None:
        self.facts = facts or {}
        has = {"REQUIRES": (), "ACCEPTS": ("onnx",), "PRODUCES": "onnx", "apply": self.apply, **has}
        view = plugins.seen_as("passes", has)
        load = plugins.load
        monkeypatch.setattr(
            plugins, "load", lambda kind, word: view if kind == "passes" else load(kind, word)
        )
        monkeypatch.setattr(plugins, "source_digest", lambda kind, word: word)

    def apply(self, job: PassJob, folder: Path) -> dict[str, Any]:
        self.job = job
        (folder / "model.onnx").write_bytes(b"")
        return self.facts


def test_what_a_pass_depends_on_is_in_its_key_and_in_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    Fake(monkeypatch, DEPENDS_ON=("gpu", "shape"))
    before = keys(INT8, L4)
    assert keys(INT8, replace(L4, driver="999", compute_capability="9.0")) == before
    assert keys(INT8, replace(L4, gpu="NVIDIA H100"))[0] == before[0]
    assert keys(INT8, replace(L4, gpu="NVIDIA H100"))[1] != before[1]
    batch = cases.case("onnx", "int8_dynamic", batch=8)
    assert keys(batch, L4)[0] == before[0]
    assert keys(batch, L4)[1] != before[1]


@pytest.mark.parametrize(
    ("depends_on", "told", "shape"),
    [
        ((), PLAIN, {"image_size": 32}),
        (("gpu", "driver"), replace(L4, compute_capability=None), {"image_size": 32}),
        (
            ("compute_capability", "shape"),
            replace(PLAIN, compute_capability="8.9"),
            {"batch": 1, "image_size": 32},
        ),
    ],
)
def test_a_pass_is_told_of_machine_and_sizes_what_its_key_holds(
    depends_on: tuple[str, ...],
    told: Host,
    shape: dict[str, int],
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Fake(monkeypatch, DEPENDS_ON=depends_on)
    build_artifact(INT8, Cache(own_cache), L4)
    assert (fake.job.host, fake.job.shape) == (told, shape)
    assert fake.job.signature == plugins.family("vit").signature(INT8.model, INT8.shape)


@pytest.mark.parametrize(
    ("declared", "facts", "precision"),
    [
        (None, {}, "fp32"),
        ("fp16", {}, "fp16"),
        ("fp16", {"precision": "int4"}, "int4"),
        (None, {"precision": "bf16"}, "bf16"),
    ],
)
def test_a_pass_may_say_its_precision_after_the_fact(
    declared: str | None,
    facts: dict[str, Any],
    precision: str,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Fake(monkeypatch, facts, PRECISION=declared)
    made = artifacts.artifact_of(build_artifact(INT8, Cache(own_cache), PLAIN))
    assert made.precision == precision


def test_what_is_told_of_a_machine_comes_back_the_same() -> None:
    assert wire.decode(wire.encode(L4), Host) == L4
    assert wire.encode(L4)["cpu_features"] == ["avx2"]


def test_a_model_with_adapters_depends_on_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = replace(ONNX, model=replace(cases.MODEL, lora=(Lora("./a"),)))
    before = keys(adapted), keys(ONNX)
    real = plugins.versions
    monkeypatch.setattr(
        plugins,
        "versions",
        lambda names: {**real(names), **{n: "99" for n in names if n == "peft"}},
    )
    assert (keys(adapted) == before[0], keys(ONNX) == before[1]) == (False, True)


def test_a_folder_that_cannot_be_read_is_a_reason_and_no_traceback() -> None:
    def refused() -> str:
        raise PermissionError(13, "Permission denied", "model.safetensors")

    with pytest.raises(StageError, match=r"cannot be read: PermissionError: \[Errno 13\] Permission denied"):
        _readable(refused)()


@pytest.mark.parametrize("word", ["onnx", "int8_dynamic"])
def test_an_edited_plugin_builds_anew(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, original = keys(INT8), plugins.source_digest
    monkeypatch.setattr(
        plugins,
        "source_digest",
        lambda kind, name: "edited" if name == word else original(kind, name),
    )
    assert keys(INT8)[-1] != before[-1]


def test_a_reference_belongs_to_model_inputs_and_shape() -> None:
    key = reference_key(ONNX, 4)
    assert reference_key(INT8, 4) == reference_key(cases.unfused(), 4) == key
    others = [
        reference_key(ONNX, 5),
        reference_key(cases.case("onnx", batch=2), 4),
        reference_key(replace(ONNX, model=replace(cases.MODEL, seed=1)), 4),
        reference_key(replace(ONNX, dataset=Dataset("random", {"height": 33})), 4),
        reference_key(replace(ONNX, dynamic_axes=False), 4),
    ]
    assert len({key, *others}) == 6


@pytest.mark.parametrize(
    ("batch", "samples", "dynamic", "expected"),
    [
        (1, 12, True, (3, 1, 3, 1, 3, 1)),
        (1, 1, True, (3, 1)),
        (3, 4, True, (3, 1)),
        (8, 12, True, (8, 3, 1)),
        (8, 13, True, (8, 3, 1, 8, 3, 1)),
        (2, 5, False, (2, 2, 2)),
        (8, 1, False, (8,)),
    ],
)
def test_parity_sees_a_batch_that_no_exporter_saw(
    batch: int, samples: int, dynamic: bool, expected: tuple[int, ...]
) -> None:
    case = replace(cases.case("onnx", batch=batch), dynamic_axes=dynamic)
    assert tuple(shape["batch"] for shape in parity_shapes(case, samples)) == expected


def test_an_artifact_says_what_it_is(ready: Callable[[Case], Ready]) -> None:
    artifact = ready(ONNX).artifact
    assert (artifact.kind, artifact.precision, artifact.steps) == ("onnx", "fp32", (Step("onnx"),))
    assert list(artifact.files) == ["model.onnx"]
    assert artifact.sha256 == cache.hash_file(ready(ONNX).folder / "model.onnx")
    assert artifact.size_bytes == (ready(ONNX).folder / "model.onnx").stat().st_size
    assert artifact.facts["opset"] == 17
    assert artifact.facts["inputs"] == [
        {"name": "pixel_values", "dtype": "float32", "axes": ["batch", 3, 32, 32]}
    ]
    assert artifact.facts["outputs"] == [{"name": "logits", "dtype": "float32", "axes": ["batch", 10]}]
    assert {"torch", "onnx", "transformers"} <= set(artifact.packages)
    assert artifact.build_seconds > 0


def test_a_shared_prefix_is_built_once(ready: Callable[[Case], Ready], cache_folder: Path) -> None:
    plain = ready(ONNX)
    written = (plain.folder / cache.MANIFEST).stat().st_mtime_ns
    quantized = ready(INT8).artifact
    assert (plain.folder / cache.MANIFEST).stat().st_mtime_ns == written
    assert [step.word for step in quantized.steps] == ["onnx", "int8_dynamic"]
    assert (quantized.precision, quantized.facts["opset"]) == ("int8", 17)
    assert quantized.build_seconds > plain.artifact.build_seconds
    assert Cache(cache_folder).has(plain.artifact.key)


def test_a_reference_has_feeds_and_outputs_at_every_shape(ready: Callable[[Case], Ready]) -> None:
    made = ready(cases.case("onnx", batch=2))
    content = made.reference_content
    assert [shape["batch"] for shape in content["shapes"]] == [3, 2, 1]
    assert content["samples"] == 6
    assert 0.0 <= content["noise_floor"] < 1e-5
    assert arrays.load(made.reference / "timing.npz")["pixel_values"].shape == (2, 3, 32, 32)
    first = arrays.load(made.reference / "parity-0.npz")
    assert {name: array.shape for name, array in first.items()} == {
        "in:pixel_values": (3, 3, 32, 32),
        "out:logits": (3, 10),
    }


def test_timing_and_parity_are_different_images(ready: Callable[[Case], Ready]) -> None:
    made = ready(ONNX)
    timed = arrays.load(made.reference / "timing.npz")["pixel_values"][0]
    seen = [
        image
        for index in range(len(made.reference_content["shapes"]))
        for image in arrays.load(made.reference / f"parity-{index}.npz")["in:pixel_values"]
    ]
    assert len(seen) == 4
    assert len({image.tobytes() for image in [timed, *seen]}) == 5


def test_calibration_is_a_stream_of_batches_of_images_that_parity_never_sees() -> None:
    batches = list(calibration_feeds(ONNX, samples=5, batch=2))
    assert [feeds["pixel_values"].shape[0] for feeds in batches] == [2, 2, 1]
    calibrated = {image.tobytes() for feeds in batches for image in feeds["pixel_values"]}
    shape = {"batch": 5, "image_size": 32}
    (seen,) = stream(ONNX, "parity", [shape])
    parity = {image.tobytes() for image in seen.feeds["pixel_values"]}
    assert len(calibrated) == 5
    assert not calibrated & parity


def test_the_noise_floor_is_what_another_number_of_threads_changes() -> None:
    """A module whose output is its number of threads, less 1e-3 of it: as many threads as before, after."""
    before = torch.get_num_threads()
    outputs, noise = _run_twice(
        lambda x: (x * 0 + float(torch.get_num_threads() > 1),), ["y"], {"x": np.ones((1, 2), np.float32)}
    )
    assert noise == 1.0
    assert outputs["y"].tolist() == [[float(before > 1)] * 2]
    assert torch.get_num_threads() == before


def test_a_reference_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(StageError, match=r"^the PyTorch reference itself gives values .* not finite in 'y'$"):
        _run_twice(lambda x: (x / 0,), ["y"], {"x": np.ones((1, 2), np.float32)})


def test_a_lost_artifact_in_the_middle_of_a_path_is_not_needed(
    ready: Callable[[Case], Ready], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step is in the cache: nothing before it is asked for."""
    ready(INT8)
    host = build_host()
    store = Cache(own_cache)
    last = artifact_keys(INT8, host)[-1]
    shutil.copytree(ready(INT8).folder, own_cache / "entries" / last, dirs_exist_ok=True)
    shutil.rmtree(own_cache / "entries" / artifact_keys(INT8, host)[0])
    monkeypatch.setattr(artifacts, "_export", never)
    monkeypatch.setattr(artifacts, "_apply", never)
    assert build_artifact(INT8, store, host).key == last


def build_host() -> Host:
    from benchbox.machine import environment

    return environment.host()


def never(*_: Any) -> Any:
    raise AssertionError("nothing is to be built")


def test_a_graph_with_fixed_axes_is_calibrated_in_its_own_batches() -> None:
    """It takes no others; the samples are rounded up to whole batches."""
    fixed = replace(cases.case("onnx", "int8_static", batch=4), dynamic_axes=False)
    given = [feeds["pixel_values"].shape[0] for feeds in calibration_feeds(fixed, samples=6, batch=1)]
    assert given == [4, 4]
    free = cases.case("onnx", "int8_static", batch=4)
    assert [f["pixel_values"].shape[0] for f in calibration_feeds(free, samples=3, batch=2)] == [2, 1]


def test_outputs_that_nobody_declared_are_counted() -> None:
    def module(x: Any) -> Any:
        return (x, x)

    with pytest.raises(StageError) as caught:
        _run(module, ["y"], {"x": np.ones((1, 2), np.float32)})
    assert caught.value.reason == "the module returns 2 outputs, and 1 are declared: y"
