"""ViT: the hub's architectures, and a checkpoint of another task."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchbox.errors import StageError
from benchbox.plugins.models import vit
from families import small

pytest.importorskip("torch")


def test_presets_are_the_hubs_architectures() -> None:
    """Dosovitskiy et al. 2021, table 1; Steiner et al. 2021, table 1, for small and tiny."""
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


def test_a_checkpoint_of_another_task_is_an_error(tmp_path: Path) -> None:
    """transformers would fill the head with random values."""
    stored = small("vit-features").saved(tmp_path).but(task="image-classification")
    with pytest.raises(StageError) as caught:
        vit.load(stored.model)
    assert caught.value.reason == (
        f"pretrained weights of {str(tmp_path)!r} lack classifier.bias, classifier.weight of "
        "ViTForImageClassification, which would be random"
    )
