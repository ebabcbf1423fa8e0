"""Text models through the TorchScript exporter: at batches and lengths that were not traced, with padding,
the graph says what the module says, to 1e-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
from benchbox.build.artifacts import build_artifact
from benchbox.build.cache import Cache
from benchbox.build.feeds import Frozen, loaded_module, stream
from benchbox.build.reference import _run
from benchbox.schema.asked import Dataset, Model
from benchbox.schema.seen import Host

pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

_SMALL_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_SMALL_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_SMALL_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.5}
MODELS = [
    Model("bert", "bert", "google-bert/bert-base-uncased", "text-classification", config=_SMALL_BERT),
    Model("gpt2", "gpt2", "openai-community/gpt2", "text-generation-with-past", config=_SMALL_GPT2),
    Model("t5", "t5", "google-t5/t5-small", "decoder-with-past", config=_SMALL_T5),
]
# None of them is traced (build.EXAMPLE_BATCH, DYNAMIC of the families), nor seen by the exporter's own proof.
SHAPES: dict[str, list[dict[str, int]]] = {
    "bert": [{"batch": 5, "sequence_length": 40}, {"batch": 1, "sequence_length": 2}],
    "gpt2": [
        {"batch": 5, "sequence_length": 7, "past_length": 30},
        {"batch": 1, "sequence_length": 1, "past_length": 1},
    ],
    "t5": [
        {"batch": 5, "encoder_length": 40, "decoder_length": 4, "past_length": 33},
        {"batch": 1, "encoder_length": 2, "decoder_length": 1, "past_length": 1},
    ],
}


def run(path: Path, feeds: Any) -> dict[str, Any]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_a_graph_agrees_with_its_module_at_shapes_that_were_not_exported(
    model: Model, tmp_path: Path
) -> None:
    shapes = SHAPES[model.family]
    small = {**model.config, "vocab_size": 200}
    case = cases.case(
        "onnx",
        model=Model(model.name, model.family, model.source, model.task, config=small),
        shape=shapes[0],
        dataset=Dataset("sample_texts"),
    )
    entry = build_artifact(case, Cache(tmp_path), Host(frozenset()))
    padded = []
    for batch in stream(case, "parity", shapes):
        module = loaded_module(Frozen(case.model))
        seen = run(entry.folder / "model.onnx", batch.feeds)
        expected = _run(module, list(seen), batch.feeds)
        assert max(float(np.abs(expected[name] - array).max()) for name, array in seen.items()) < 1e-4
        padded += [(a == 0).any() for name, a in batch.feeds.items() if name.endswith("attention_mask")]
    assert len(padded) == 2
    assert any(padded)
