"""Keys say what decides an artifact and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import cases
from benchbox import plugins
from benchbox.build.keys import _readable, artifact_keys, reference_key
from benchbox.errors import StageError
from benchbox.schema.asked import Case, Dataset, Lora, Model, Step
from benchbox.schema.seen import Host
from fakes import FakePass

PLAIN = Host(frozenset({"avx2"}))
VNNI = Host(frozenset({"avx2", "avx512_vnni"}))
L4 = replace(PLAIN, gpu="NVIDIA L4", compute_capability="8.9", driver="580.1")
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


def test_what_all_plugins_build_with_is_in_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before, reference = keys(INT8), reference_key(INT8, 4)
    monkeypatch.setattr("benchbox.build.keys.shared_digest", lambda maker: "edited")
    assert not set(before) & set(keys(INT8))
    assert reference_key(INT8, 4) != reference


def test_no_key_of_a_cpu_artifact_knows_the_gpu() -> None:
    for word in plugins.own("passes"):
        case = cases.case("onnx", word)
        assert keys(case, L4) == keys(case, PLAIN)


def test_what_a_pass_depends_on_is_in_its_key_and_in_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    FakePass(monkeypatch, DEPENDS_ON=("gpu", "shape"))
    before = keys(INT8, L4)
    assert keys(INT8, replace(L4, driver="999", compute_capability="9.0")) == before
    assert keys(INT8, replace(L4, gpu="NVIDIA H100"))[0] == before[0]
    assert keys(INT8, replace(L4, gpu="NVIDIA H100"))[1] != before[1]
    batch = cases.case("onnx", "int8_dynamic", batch=8)
    assert keys(batch, L4)[0] == before[0]
    assert keys(batch, L4)[1] != before[1]


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
