"""What comes from transformers: configs of the right architecture, and the model's own image processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchbox import plugins
from benchbox.errors import StageError
from benchbox.plugins.contract import Sample
from benchbox.plugins.models import _pretrained, clip
from benchbox.schema.asked import Model
from families import small

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def test_the_rest_of_the_processor_is_the_models_own(tmp_path: Path) -> None:
    """Black is (0 - 0.5) / 0.25 with this mean and deviation, whatever the size that was saved."""
    model = small("segformer").saved(tmp_path)
    processor = {"size": {"height": 64, "width": 64}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    transformers.SegformerImageProcessorPil(**processor).save_pretrained(tmp_path)
    values = model.raw([Sample(image=np.zeros((8, 8, 3), np.uint8))], image_size=32)["pixel_values"]
    assert values.shape == (1, 3, 32, 32)
    assert np.unique(values).tolist() == [-2.0]


def test_a_folder_of_another_architecture_says_which_family_takes_it(tmp_path: Path) -> None:
    stored = small("bert-small").saved(tmp_path).but(family="vit", task="image-classification")
    model, vit = stored.model, stored.family
    for ask in (vit.load, lambda model: vit.signature(model, {"batch": 1, "image_size": 32})):
        with pytest.raises(StageError) as caught:
            ask(model)
        assert (
            caught.value.reason == f"{tmp_path} holds a model of the type bert, not vit: write family: bert"
        )


def test_a_folder_that_no_family_takes_is_refused_without_a_guess(tmp_path: Path) -> None:
    """RoBERTa's features would load into a BERT, which counts its positions from another number."""
    config = transformers.RobertaConfig(**small("bert-small").model.config)
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    model = small("bert-small-features").but(source=str(tmp_path), weights="pretrained", config={})
    with pytest.raises(StageError, match=f"^{tmp_path} holds a model of the type roberta, not bert$"):
        model.family.load(model.model)


def test_a_part_that_was_saved_by_itself_is_of_its_family(tmp_path: Path) -> None:
    model = small("clip-small-texts").saved(tmp_path).model
    assert _pretrained.config(model, clip.PRESETS, "CLIPConfig").model_type == "clip_text_model"


@pytest.mark.parametrize(("height", "width"), [(3, 90), (1, 1), (4, 90)])
def test_a_picture_as_high_as_it_has_channels_is_read_as_a_picture(height: int, width: int) -> None:
    """Red is 1, 0, 0, whatever the size: nobody guesses which axis is the channels'."""
    red = np.zeros((height, width, 3), np.uint8)
    red[..., 0] = 255
    for family in ("vit", "detr"):
        plugin = plugins.load("models", family)
        model = Model(family, family, next(iter(plugin.PRESETS)), next(iter(plugin.TASKS)))
        shape = {"batch": 1, "image_size": 224, "height": 64, "width": 96}
        values = plugin.feeds(model, [Sample(image=red)], shape)["pixel_values"]
        channels = values[0].reshape(3, -1).max(axis=1)
        assert channels[0] > 0.9, family
        assert max(channels[1:]) <= 0.0 or family == "detr", family
