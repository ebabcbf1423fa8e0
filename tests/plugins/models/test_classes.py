"""What the classifiers share: agreement of the best classes, and the classes that a dataset's names mean."""

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
from benchbox.numerics import arrays
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import deit, keras_vit, swin, vit
from benchbox.schema.asked import Dataset, Model
from families import small

torch = pytest.importorskip("torch")

MODEL = cases.MODEL
SHAPE = {"batch": 2, "image_size": 32}

REFERENCE = np.array([[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]] * 2, np.float32)
every = pytest.mark.parametrize("name", ["bert-small", "deit-distilled", "keras-vit-small", "swin", "vit"])


@every
@pytest.mark.parametrize(
    ("candidate", "top1", "top5"),
    [
        (REFERENCE * 0.5 + 3, 1.0, 1.0),
        (REFERENCE[:, ::-1], 0.0, 0.0),
        (REFERENCE[:, [1, 0, 2, 3, 4, 5, 6, 7, 8, 9]], 0.0, 1.0),
        (np.stack([REFERENCE[0], REFERENCE[1, ::-1]]), 0.5, 0.5),
        (REFERENCE[:, [0, 1, 2, 3, 5, 4, 6, 7, 8, 9]], 1.0, 0.8),
    ],
)
def test_agreement_of_the_best_and_the_best_five(name: str, candidate: Any, top1: float, top5: float) -> None:
    found = small(name).metrics({"logits": REFERENCE}, {"logits": candidate})
    assert found == {"top1_agreement": top1, "top5_agreement": pytest.approx(top5)}


@every
def test_of_three_classes_there_is_a_best_three_and_labels_give_an_accuracy(name: str) -> None:
    reference = {"logits": np.array([[2, 1, 0], [0, 2, 1]], np.float32)}
    candidate = {"logits": np.array([[2, 1, 0], [0, 1, 2]], np.float32)}
    assert small(name).metrics(reference, candidate, labels=np.array([0, 2])) == {
        "top1_agreement": 0.5,
        "top5_agreement": 1.0,
        "accuracy": 1.0,
        "reference_accuracy": 0.5,
    }


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
