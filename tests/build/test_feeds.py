"""What is fed is what the suite says and what the model was trained on, or the case fails and says why.

The models are small, saved as transformers saves them, and loaded from their folders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
from benchbox import plugins
from benchbox.build.feeds import _feeds, stream
from benchbox.errors import StageError
from benchbox.plugins.contract import Sample
from benchbox.plugins.models import _pretrained, _text, bert, clip, gpt2, segformer, t5, vit
from benchbox.schema.asked import Dataset, Model
from benchbox.schema.tensors import Feeds, Signature, TensorSpec

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

MASKS, TEXT, CLASSES = "semantic-segmentation", "text-classification", "image-classification"
PHOTOS, SENTENCES = Dataset("sample_images"), Dataset("sample_texts")
BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 12,
}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "fox", "dog", "lazy", "quick", "brown")


def saved(folder: Path, module: Any, *others: Any) -> str:
    """The folder, with a module and what belongs to it."""
    for each in (module, *others):
        each.save_pretrained(folder)
    return str(folder)


def segmenter(folder: Path, **processor: Any) -> Model:
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 16, 40, 64], depths=[1] * 4, decoder_hidden_size=32, num_labels=3
    )
    module = transformers.SegformerForSemanticSegmentation(config)
    source = saved(folder, module, transformers.SegformerImageProcessorPil(**processor))
    return Model("m", "segformer", source, MASKS, weights="pretrained")


def classifier(folder: Path, size: int) -> Model:
    config = transformers.ViTConfig(**cases.CONFIG)
    processor = transformers.ViTImageProcessorPil(size={"height": size, "width": size})
    source = saved(folder, transformers.ViTForImageClassification(config), processor)
    return Model("m", "vit", source, CLASSES, weights="pretrained")


def bert_module() -> Any:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**BERT))


def reader(folder: Path, *others: Any) -> Model:
    return Model("m", "bert", saved(folder, bert_module(), *others), TEXT, weights="pretrained")


def tokenizer(folder: Path, words: Sequence[str] = WORDS) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return transformers.BertTokenizer.from_pretrained(folder)


def fed(model: Model, dataset: Dataset, **sizes: int) -> Feeds:
    shape = {"batch": 2, **sizes}
    return next(
        stream(cases.case("torch", model=model, dataset=dataset, shape=shape), "timing", [shape])
    ).feeds


def refusal(function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(StageError) as caught:
        function(*arguments, **named)
    return caught.value.reason


@pytest.mark.parametrize("size", [64, 256])
def test_a_segmenter_is_fed_the_suites_size_whatever_its_processor_was_saved_with(
    tmp_path: Path, size: int
) -> None:
    """It takes images of any size: its processor's is that of its training, not of what is measured."""
    model = segmenter(tmp_path, size={"height": 64, "width": 64}, image_mean=[0.5] * 3)
    feeds = fed(model, PHOTOS, image_size=size)
    assert feeds["pixel_values"].shape == (2, 3, size, size)


def test_the_rest_of_the_processor_is_the_models_own(tmp_path: Path) -> None:
    """Black is (0 - 0.5) / 0.25 with this mean and deviation."""
    model = segmenter(tmp_path, size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.25] * 3)
    black = [Sample(image=np.zeros((8, 8, 3), np.uint8))]
    values = segformer.feeds(model, black, {"batch": 1, "image_size": 32})["pixel_values"]
    assert values.shape == (1, 3, 32, 32)
    assert np.unique(values).tolist() == [-2.0]


def test_images_of_another_size_than_the_models_are_refused_with_the_file_that_says_so(
    tmp_path: Path,
) -> None:
    assert fed(classifier(tmp_path / "right", 32), PHOTOS, image_size=32)["pixel_values"].shape[2:] == (
        32,
        32,
    )
    wrong = classifier(tmp_path / "wrong", 48)
    assert refusal(fed, wrong, PHOTOS, image_size=32) == (
        "the input pixel_values is 2 x 3 x 48 x 48, and vit takes 2 x 3 x 32 x 32: so makes it the model's "
        "own image processor. Mend size or do_resize in the preprocessor_config.json of "
        f"{tmp_path}/wrong, or change what is under inputs"
    )


def family_of_input(fed: Any, axes: tuple[int | str, ...]) -> Any:
    """A family that feeds one array under the axes."""
    signature = Signature((TensorSpec("x", "float32", axes),), ())
    return plugins.seen_as("models", {"feeds": lambda *_: {"x": fed}, "signature": lambda *_: signature})


@pytest.mark.parametrize(
    ("axes", "seen", "fits"),
    [
        (("batch", 3), (2, 3), True),
        (("batch", 3), (1, 3), False),
        (("batch", 3), (2, 4), False),
        (("batch", 3), (2, 3, 1), False),
        (("batch", "length"), (2, 5), True),
        (("batch", "length"), (2, 6), False),
        (("batch", "past + length"), (2, 12), True),
        (("batch", "past + length"), (2, 5), False),
        (("batch", "encoder_length"), (2, 99), True),
        (("batch", "past + unknown"), (2, 99), True),
        ((), (), True),
    ],
)
def test_an_input_is_as_long_as_its_axes_say_and_axes_without_a_size_are_of_any(
    axes: tuple[int | str, ...], seen: tuple[int, ...], fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"batch": 2, "length": 5, "past": 7}
    family = family_of_input(np.zeros(seen, np.float32), axes)
    monkeypatch.setattr(plugins, "load", lambda *_: family)
    case = cases.case("torch", shape=shape)
    if fits:
        assert _feeds(case, [], shape)["x"].shape == seen
    else:
        assert refusal(_feeds, case, [], shape).startswith("the input x is ")


def test_what_is_said_of_a_wrong_input_names_the_axes_that_have_no_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    family = family_of_input(np.zeros((2, 4), np.float32), ("batch", 3, "rows"))
    monkeypatch.setattr(plugins, "load", lambda *_: family)
    case = cases.case("torch", shape={"batch": 2})
    assert refusal(_feeds, case, [], case.shape) == "the input x is 2 x 4, and vit takes 2 x 3 x rows"


def gpt2_module() -> Any:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)
    )


def t5_module() -> Any:
    config = transformers.T5Config(
        d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8, vocab_size=50, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


def clip_module() -> Any:
    layers = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 16,
    }
    text = {**layers, "vocab_size": 50}
    return transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**text))


@pytest.mark.parametrize(
    ("family", "module", "task", "sizes"),
    [
        (bert, bert_module, TEXT, {"sequence_length": 8}),
        (gpt2, gpt2_module, "text-generation", {"sequence_length": 8}),
        (t5, t5_module, "encoder", {"encoder_length": 8}),
        (clip, clip_module, "text-features", {"sequence_length": 8}),
    ],
    ids=["bert", "gpt2", "t5", "clip"],
)
def test_a_folder_without_a_tokenizer_says_what_to_save(
    family: Any, module: Callable[[], Any], task: str, sizes: Mapping[str, int], tmp_path: Path
) -> None:
    """Without its files, transformers makes a tokenizer that knows no word."""
    model = Model("m", "any", saved(tmp_path, module()), task, weights="pretrained")
    assert refusal(family.feeds, model, [Sample(text="The quick brown fox")], {"batch": 1, **sizes}) == (
        f"{tmp_path} has no tokenizer files, so nobody knows its words. Save the model's tokenizer there "
        "too, with its save_pretrained"
    )


def test_a_folder_with_a_tokenizer_is_read_with_it(tmp_path: Path) -> None:
    model = reader(tmp_path / "model", tokenizer(tmp_path / "words"))
    feeds = bert.feeds(model, [Sample(text="The lazy cat")], {"batch": 1, "sequence_length": 6})
    assert feeds["input_ids"].tolist() == [[2, 5, 9, 1, 3, 0]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0]]


def test_one_token_of_a_text_is_no_reason_to_refuse_it(tmp_path: Path) -> None:
    """What is cut off was known all the same."""
    model = reader(tmp_path / "model", tokenizer(tmp_path / "words"))
    feeds = bert.feeds(model, [Sample(text="Unheard of by a dog")], {"batch": 1, "sequence_length": 2})
    assert feeds["input_ids"].tolist() == [[2, 3]]


@pytest.mark.parametrize("text", ["", " ", "..."])
def test_a_text_without_words_needs_none_that_is_known(tmp_path: Path, text: str) -> None:
    model = reader(tmp_path / "model", tokenizer(tmp_path / "words"))
    feeds = bert.feeds(model, [Sample(text=text)], {"batch": 1, "sequence_length": 4})
    assert feeds["input_ids"][0, 0] == 2


def test_a_tokenizer_that_knows_no_word_is_not_measured(tmp_path: Path) -> None:
    """Its special tokens are all that transformers makes up for a BERT without a vocabulary."""
    model = reader(tmp_path / "model", tokenizer(tmp_path / "words", WORDS[:5]))
    samples = [Sample(text=""), Sample(text="The quick brown fox")]
    assert refusal(bert.feeds, model, samples, {"batch": 2, "sequence_length": 8}) == (
        f"the tokenizer of '{tmp_path}/model' knows no word of 'The quick brown fox': its vocabulary is "
        "missing, or of other texts. Save the model's tokenizer there, with its save_pretrained"
    )


@pytest.mark.parametrize("family", ["t5", "gpt2", "clip"])
def test_a_made_up_tokenizer_of_any_family_knows_no_word(family: str, tmp_path: Path) -> None:
    """As from a hub, where nobody looks for files: T5's marks the spaces, GPT-2's gives nothing at all."""
    (tmp_path / "config.json").write_text(f'{{"model_type": "{family}"}}')
    made_up = transformers.AutoTokenizer.from_pretrained(tmp_path)
    model = Model("m", family, "acme/any", "any", weights="pretrained")
    assert refusal(_text._require_known, model, made_up, ["The quick brown fox"]).startswith(
        "the tokenizer of 'acme/any' knows no word of 'The quick brown fox'"
    )


def test_random_weights_need_no_tokenizer(tmp_path: Path) -> None:
    config = {**BERT, "vocab_size": 200}
    model = Model("m", "bert", "google-bert/bert-base-uncased", TEXT, config=config)
    assert fed(model, SENTENCES, sequence_length=8)["input_ids"].shape == (2, 8)


def test_a_folder_of_another_architecture_says_which_family_takes_it(tmp_path: Path) -> None:
    model = Model("m", "vit", reader(tmp_path).source, CLASSES, weights="pretrained")
    assert refusal(vit.signature, model, {"batch": 1, "image_size": 32}) == (
        f"{tmp_path} holds a model of the type bert, not vit: write family: bert"
    )
    assert refusal(vit.load, model) == refusal(vit.signature, model, {"batch": 1, "image_size": 32})


def test_a_folder_that_no_family_takes_is_refused_without_a_guess(tmp_path: Path) -> None:
    """RoBERTa's features would load into a BERT, which counts its positions from another number."""
    source = saved(tmp_path, transformers.RobertaModel(transformers.RobertaConfig(**BERT)))
    model = Model("m", "bert", source, "feature-extraction", weights="pretrained")
    assert refusal(bert.load, model) == f"{tmp_path} holds a model of the type roberta, not bert"


def test_a_part_that_was_saved_by_itself_is_of_its_family(tmp_path: Path) -> None:
    model = Model("m", "clip", saved(tmp_path, clip_module()), "text-features", weights="pretrained")
    config = _pretrained.config(model, clip.PRESETS, "CLIPConfig")
    assert config.model_type == "clip_text_model"


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


def test_a_model_that_looks_at_pictures_says_that_texts_are_none() -> None:
    model = Model("vit", "vit", "google/vit-base-patch16-224", "image-classification")
    said = refusal(fed, model, SENTENCES, image_size=224)
    assert said == "this model looks at pictures, and the dataset has none: sample_images has"
