"""GIT (Wang et al. 2022): captioning by one decoder that reads the image's patches as if they were tokens.

Parity of captioning: does the candidate prefer the same next token at each position of a caption that is
given, and does greedy decoding from the begin token write the same caption?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _decoding, _pretrained, _text
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Forward, Outputs, Signature, TensorSpec

REQUIRES = ("torch", "transformers", "PIL")
TASKS: Mapping[str, Mapping[str, int]] = {"captioning": {"image_size": 224, "sequence_length": 20}}
DYNAMIC: Mapping[str, tuple[int, int]] = {"sequence_length": (12, 9)}

# The hub's configs of these names, so that random weights need no hub; the image encoders are CLIP's B/16 and
# L/14.
_LARGE = {
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    }
}
CONFIG = "GitConfig"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "microsoft/git-base": {"vision_config": {}},
    "microsoft/git-base-coco": {"vision_config": {}},
    "microsoft/git-large": _LARGE,
    "microsoft/git-large-coco": _LARGE,
}

# BERT's vocabulary, which GIT writes with, has its words behind the special tokens, of which 103 is the last.
_FIRST_WORD = 104

save = _pretrained.save


def load(model: Model) -> Module:
    """The captioner. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    config = _config(model)
    return _captioner(_pretrained.weights(model, transformers.GitForCausalLM, config), _patches(config) + 1)


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """Token ids (batch, sequence_length) with their mask, and images, to the logits of the token that follows
    each: (batch, sequence_length, vocabulary).

    Raises StageError where the model does not take images of that size or texts of that length.
    """
    config = _config(model)
    size, length = shape["image_size"], shape["sequence_length"]
    vision = config.vision_config
    _pretrained.require_image_size(model, vision.image_size, size)
    if length > config.max_position_embeddings:
        raise StageError(
            f"{model.name} writes at most {config.max_position_embeddings} tokens, and the suite's "
            f"sequence_length is {length}"
        )
    tokens = ("batch", "sequence_length")
    return Signature(
        inputs=(
            TensorSpec("input_ids", "int64", tokens),
            TensorSpec("attention_mask", "int64", tokens),
            TensorSpec("pixel_values", "float32", ("batch", vision.num_channels, size, size)),
        ),
        outputs=(TensorSpec("logits", "float32", (*tokens, config.vocab_size)),),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """The samples' captions as tokens, and their images through CLIP's preprocessing."""
    config, size = _config(model), shape["image_size"]
    vocabulary = _text.Vocabulary(
        size=config.vocab_size,
        pad=config.pad_token_id,
        begin=config.bos_token_id,
        end=config.eos_token_id,
        first=_FIRST_WORD,
    )
    tokens = _text.tokens(model, _text.texts(samples), shape["sequence_length"], vocabulary)
    processor = _pretrained.image_processor(
        model,
        "CLIPImageProcessor",
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
    )
    return {
        "input_ids": tokens.ids,
        "attention_mask": tokens.mask,
        "pixel_values": _pretrained.pixels(processor, samples),
    }


def rollout(model: Model, run: Forward, feeds: Feeds) -> Outputs:  # noqa: ARG001  # the contract; one task
    """`tokens` (batch, steps): the caption that greedy decoding writes after the begin token."""
    return {"tokens": _decoding.continued(_decoding.begun(feeds), run)}


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:  # noqa: ARG001  # the contract
    """Agreement of the next token over what is no padding, and of the caption that is written."""
    return _decoding.next_token_agreement(evidence, evidence.feeds["attention_mask"])


def _captioner(module: Module, image_tokens: int) -> Module:
    """A module that gives the logits of the text alone; the one of transformers is its attribute `model`.

    That one computes logits for the image's tokens too, which come before the text and which nobody reads.
    """
    import torch

    class Captioner(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, input_ids: Any, attention_mask: Any, pixel_values: Any) -> tuple[Any, ...]:
            states = self.model.git(
                input_ids=input_ids,
                attention_mask=attention_mask,
                pixel_values=pixel_values,
                use_cache=False,
            ).last_hidden_state
            return (self.model.output(states[:, image_tokens:]),)

    return Captioner().eval()


def _patches(config: Any) -> int:
    vision = config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2)


def _config(model: Model) -> Any:
    return _pretrained.config(model, PRESETS, CONFIG)
