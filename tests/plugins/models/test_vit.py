"""ViT: a seeded module, its signature, the model's own preprocessing, and what a classifier cares about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
from benchbox.build.cache import Cache
from benchbox.build.feeds import accuracy_notes
from benchbox.build.reference import build_reference
from benchbox.errors import StageError
from benchbox.numerics import arrays
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import deit, keras_vit, swin, vit
from benchbox.schema.asked import Dataset, Model
from benchbox.schema.tensors import Signature, TensorSpec

torch = pytest.importorskip("torch")

MODEL = cases.MODEL
FEATURES = replace(MODEL, task="image-features")
SHAPE = {"batch": 2, "image_size": 32}


def outputs(model: Any, module: Any) -> list[Any]:
    pixels = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    with torch.inference_mode():
        return [t.numpy() for t in module(pixels)]


def test_the_signature_names_inputs_outputs_and_the_batch_axis() -> None:
    assert vit.signature(MODEL, SHAPE) == Signature(
        inputs=(TensorSpec("pixel_values", "float32", ("batch", 3, 32, 32)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 10)),),
    )


@pytest.mark.parametrize("model", [MODEL, FEATURES], ids=lambda m: m.task)
def test_a_module_gives_what_its_signature_says(model: Any) -> None:
    found = outputs(model, vit.load(model))
    specs = vit.signature(model, SHAPE).outputs
    assert [list(a.shape) for a in found] == [
        [2 if axis == "batch" else axis for axis in spec.axes] for spec in specs
    ]
    assert [str(a.dtype) for a in found] == [spec.dtype for spec in specs]


def test_random_weights_are_those_of_the_seed() -> None:
    first, same = outputs(MODEL, vit.load(MODEL)), outputs(MODEL, vit.load(MODEL))
    other = outputs(MODEL, vit.load(replace(MODEL, seed=1)))
    assert np.array_equal(first[0], same[0])
    assert not np.array_equal(first[0], other[0])


def test_a_module_is_in_eval_mode() -> None:
    assert not any(part.training for part in vit.load(MODEL).modules())


def test_a_saved_module_comes_back_as_the_same_module(tmp_path: Path) -> None:
    module = vit.load(MODEL)
    vit.save(module, tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = vit.load(replace(MODEL, source=str(tmp_path), weights="pretrained", config={}))
    assert np.array_equal(outputs(MODEL, module)[0], outputs(MODEL, again)[0])


def test_presets_are_the_hubs_architectures() -> None:
    """ViT-base has 86.6 million parameters, ViT-tiny 5.7 million (Steiner et al. 2021)."""
    from transformers import ViTConfig

    sizes = {
        name: (c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.intermediate_size, c.patch_size)
        for name in vit.PRESETS
        for c in [ViTConfig(**vit.PRESETS[name])]
    }
    assert sizes["google/vit-base-patch16-224"] == (768, 12, 12, 3072, 16)
    assert sizes["google/vit-large-patch16-224"] == (1024, 24, 16, 4096, 16)
    assert sizes["WinKawaks/vit-small-patch16-224"] == (384, 12, 6, 1536, 16)
    assert sizes["WinKawaks/vit-tiny-patch16-224"] == (192, 12, 3, 768, 16)
    tiny = vit.load(replace(MODEL, source="WinKawaks/vit-tiny-patch16-224", config={}))
    assert sum(p.numel() for p in tiny.parameters()) == 5_717_416


@pytest.mark.parametrize("source", ["folder-that-is-not-there", "./nothing/here"])
def test_pretrained_weights_that_cannot_be_had_are_an_error_and_never_random(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=source):
        vit.load(replace(MODEL, source=source, weights="pretrained", config={}))


def test_a_config_without_weights_beside_it_is_an_error(tmp_path: Path) -> None:
    vit.save(vit.load(MODEL), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(StageError, match=r"^pretrained weights of .* cannot be had: "):
        vit.load(replace(MODEL, source=str(tmp_path), weights="pretrained", config={}))


def test_pickled_weights_are_not_weights(tmp_path: Path) -> None:
    """safetensors only: a pickle could run code."""
    module = vit.load(MODEL)
    vit.save(module, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(module.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(StageError, match=r"^pretrained weights of .* cannot be had: "):
        vit.load(replace(MODEL, source=str(tmp_path), weights="pretrained", config={}))


def test_damaged_weights_are_an_error(tmp_path: Path) -> None:
    vit.save(vit.load(MODEL), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!")
    with pytest.raises(StageError, match=r"^pretrained weights of .* cannot be had: "):
        vit.load(replace(MODEL, source=str(tmp_path), weights="pretrained", config={}))


def test_a_checkpoint_of_another_task_is_an_error(tmp_path: Path) -> None:
    """transformers would fill the head with random values."""
    vit.save(vit.load(FEATURES), tmp_path)
    with pytest.raises(StageError) as caught:
        vit.load(replace(MODEL, source=str(tmp_path), weights="pretrained", config={}))
    assert caught.value.reason == (
        f"pretrained weights of {str(tmp_path)!r} lack classifier.bias, classifier.weight of "
        "ViTForImageClassification, which would be random"
    )


def test_an_image_size_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(
        StageError, match=r"^vit-tiny takes images of 32 pixels, and the suite's image_size is 64$"
    ):
        vit.signature(MODEL, {"batch": 1, "image_size": 64})


def test_feeds_are_scaled_to_the_size_and_to_minus_one_to_one() -> None:
    """White is 1, black is -1; the order of axes is channels first."""
    white, black = (np.full((40, 50, 3), value, np.uint8) for value in (255, 0))
    feeds = vit.feeds(MODEL, [Sample(image=white), Sample(image=black)], SHAPE)
    pixels = feeds["pixel_values"]
    assert list(feeds) == ["pixel_values"]
    assert (pixels.shape, str(pixels.dtype), pixels.flags.c_contiguous) == ((2, 3, 32, 32), "float32", True)
    assert np.allclose(pixels[0], 1.0)
    assert np.allclose(pixels[1], -1.0)


def test_colours_keep_their_channels() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    pixels = vit.feeds(MODEL, [Sample(image=red)], SHAPE)["pixel_values"]
    assert [pixels[0, channel].mean() for channel in range(3)] == [1.0, -1.0, -1.0]


REFERENCE = np.array([[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]] * 2, np.float32)


@pytest.mark.parametrize(
    ("candidate", "top1", "top5"),
    [
        (REFERENCE, 1.0, 1.0),
        (REFERENCE * 0.5 + 3, 1.0, 1.0),
        (REFERENCE[:, ::-1], 0.0, 0.0),
        (REFERENCE[:, [1, 0, 2, 3, 4, 5, 6, 7, 8, 9]], 0.0, 1.0),
        (np.stack([REFERENCE[0], REFERENCE[1, ::-1]]), 0.5, 0.5),
        (REFERENCE[:, [0, 1, 2, 3, 5, 4, 6, 7, 8, 9]], 1.0, 0.8),
    ],
)
def test_agreement_of_the_best_and_the_best_five(candidate: Any, top1: float, top5: float) -> None:
    found = vit.metrics(MODEL, Evidence({}, {"logits": REFERENCE}, {"logits": candidate}))
    assert found == {"top1_agreement": top1, "top5_agreement": pytest.approx(top5)}


def test_three_classes_have_a_best_three() -> None:
    few = np.array([[3, 2, 1]], np.float32)
    assert vit.metrics(MODEL, Evidence({}, {"logits": few}, {"logits": few})) == {
        "top1_agreement": 1.0,
        "top5_agreement": 1.0,
    }


def test_features_have_no_classes_to_agree_on() -> None:
    assert vit.metrics(FEATURES, Evidence({}, {}, {})) == {}


COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def perfect(folder: Path, labels: list[str], id2label: dict[int, str] | None = None) -> Model:
    """A saved model that knows the colours, the first of `labels` as class 0, and calls them `id2label`."""
    from transformers import ViTImageProcessor

    config = {**cases.CONFIG, "num_labels": 3, **({} if id2label is None else {"id2label": id2label})}
    model = replace(MODEL, config=config)
    module = vit.load(model)
    samples = [Sample(image=np.full((32, 32, 3), COLOURS[label], np.uint8)) for label in labels]
    values = torch.from_numpy(vit.feeds(model, samples, SHAPE)["pixel_values"])
    with torch.no_grad():
        states = module.model.vit(values).last_hidden_state[:, 0]
        module.model.classifier.weight.copy_(torch.linalg.pinv(states.double()).T)
        module.model.classifier.bias.zero_()
    vit.save(module, folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return replace(model, source=str(folder), weights="pretrained", config={})


def painted(root: Path, **classes: str) -> Path:
    """Four images for each folder (`a__b` is a/b), all of the colour that is given for it."""
    from PIL import Image

    for name, colour in classes.items():
        folder = root / name.replace("__", "/")
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (40, 30), COLOURS[colour]).save(folder / f"{number}.png")
    return root


def accuracy(model: Model, root: Path, cache: Path) -> float | None:
    """What the metrics say of a builder's reference, the same for each batch; None without labels."""
    case = cases.case("torch", model=model, dataset=Dataset("imagefolder", {"root": str(root)}))
    entry = build_reference(case, 8, Cache(cache))
    found = []
    for file in sorted(entry.folder.glob("parity-*.npz")):
        stored = arrays.load(file)
        logits = {"logits": stored["out:logits"]}
        seen = vit.metrics(model, Evidence({}, logits, logits, stored.get("labels")))
        found.append(seen.get("reference_accuracy"))
    (same,) = set(found)
    return same


NAMED = {0: "red", 1: "green", 2: "blue"}
PLAIN = {"red": "red", "green": "green", "blue": "blue"}


@pytest.mark.parametrize(
    "folders",
    [
        PLAIN,
        {"red": "red", "blue": "blue"},
        {f"{part}__{name}": name for part in ("train", "val") for name in PLAIN},
        {**PLAIN, ".ipynb_checkpoints": "blue"},
    ],
    ids=["all classes", "two of three", "train and val", "a hidden folder"],
)
def test_a_perfect_model_is_perfect_on_folders_that_are_called_as_its_labels(
    tmp_path: Path, folders: dict[str, str]
) -> None:
    model = perfect(tmp_path / "model", ["red", "green", "blue"], NAMED)
    (tmp_path / "images" / "empty").mkdir(parents=True)
    assert accuracy(model, painted(tmp_path / "images", **folders), tmp_path / "cache") == 1.0


def test_folders_that_the_model_has_no_such_labels_for_give_no_accuracy(tmp_path: Path) -> None:
    """Nor where one of them alone is unknown: the rest would be another data set."""
    model = perfect(tmp_path / "model", ["red", "green", "blue"], NAMED)
    for index, folders in enumerate([{"rot": "red", "blau": "blue"}, {**PLAIN, "yellow": "red"}]):
        root = painted(tmp_path / str(index), **folders)
        assert accuracy(model, root, tmp_path / "cache") is None


def test_why_there_is_no_accuracy_is_noted(tmp_path: Path) -> None:
    model = perfect(tmp_path / "model", ["red", "green", "blue"], NAMED)
    known = painted(tmp_path / "known", **PLAIN)
    other = painted(tmp_path / "other", rot="red", blau="blue", gelb="red", lila="red")

    def notes(root: Path) -> list[str]:
        return accuracy_notes(
            cases.case("torch", model=model, dataset=Dataset("imagefolder", {"root": str(root)}))
        )

    assert notes(known) == []
    assert notes(other) == [
        "no accuracy: the classes of imagefolder (blau, gelb, lila ...) are not the labels of the model"
    ]
    assert accuracy_notes(cases.case("torch", model=model)) == []


def test_labels_without_names_are_the_sorted_folders_if_there_are_as_many(tmp_path: Path) -> None:
    model = perfect(tmp_path / "model", ["blue", "green", "red"])
    every = painted(tmp_path / "every", **PLAIN)
    two = painted(tmp_path / "two", red="red", green="green")
    assert accuracy(model, every, tmp_path / "cache") == 1.0
    assert accuracy(model, two, tmp_path / "cache") is None


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["red", "green"], ["green", "red"], {"green": 1, "red": 0}),
        (["red", "green"], ["Green"], {}),
        (["crane", "crane", "kite"], ["kite"], {"kite": 2}),
        (["crane", "crane", "kite"], ["crane", "kite"], {}),
        (["LABEL_0", "LABEL_1"], ["b", "a"], {"a": 0, "b": 1}),
        (["LABEL_0", "LABEL_1"], ["LABEL_1"], {"LABEL_1": 1}),
        (["LABEL_0", "LABEL_1"], ["LABEL_1", "a"], {}),
        (["LABEL_0", "LABEL_1"], ["2", "10"], {}),
        (["LABEL_0", "LABEL_1"], ["1", "2"], {"1": 0, "2": 1}),
        (["LABEL_0", "LABEL_1"], [], {}),
    ],
)
@pytest.mark.parametrize("family", [vit, deit, swin], ids=["vit", "deit", "swin"])
def test_names_are_classes_as_the_labels_of_the_config_say(
    family: Any, labels: list[str], names: list[str], expected: dict[str, int]
) -> None:
    config = {"num_labels": len(labels), "id2label": dict(enumerate(labels))}
    model = replace(MODEL, source=next(iter(family.PRESETS)), config=config)
    assert family.label_ids(model, names) == expected


def test_a_keras_config_has_no_names_of_classes() -> None:
    model = replace(MODEL, source="keras/vit-base-patch16-224", config={"num_labels": 2})
    assert keras_vit.label_ids(model, ["b", "a"]) == {"a": 0, "b": 1}
    assert keras_vit.label_ids(model, ["a", "b", "c"]) == {}
