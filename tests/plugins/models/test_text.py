"""Texts as a model's own tokenizer has them, which is there and knows their words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Sample
from benchbox.plugins.models import _text
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds
from families import Member, small

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "fox", "dog", "lazy", "quick", "brown")


def reader(folder: Path, words: Sequence[str] = WORDS) -> Member:
    """A BERT that was saved with a tokenizer of these words."""
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    transformers.BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return small("bert-small", config={"vocab_size": 12}).saved(folder)


def read(model: Member, text: str, length: int) -> Feeds:
    return model.raw([Sample(text=text)], sequence_length=length)


@pytest.mark.parametrize("name", ["bert-small", "gpt2-small", "t5-small-encoder", "clip-small-texts"])
def test_a_folder_without_a_tokenizer_says_what_to_save(name: str, tmp_path: Path) -> None:
    """Without its files, transformers makes a tokenizer that knows no word."""
    stored = small(name).saved(tmp_path)
    with pytest.raises(StageError) as caught:
        stored.raw([Sample(text="The quick brown fox")])
    assert caught.value.reason == (
        f"{tmp_path} has no tokenizer files, so nobody knows its words. Save the model's tokenizer there "
        "too, with its save_pretrained"
    )


def test_a_folder_with_a_tokenizer_is_read_with_it(tmp_path: Path) -> None:
    """And of a text that is cut off, one known token is enough: what was cut off was known all the same."""
    model = reader(tmp_path)
    feeds = read(model, "The lazy cat", 6)
    assert feeds["input_ids"].tolist() == [[2, 5, 9, 1, 3, 0]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0]]
    assert read(model, "Unheard of by a dog", 2)["input_ids"].tolist() == [[2, 3]]


def test_a_text_without_words_needs_none_that_is_known(tmp_path: Path) -> None:
    model = reader(tmp_path)
    for text in ("", " ", "..."):
        assert read(model, text, 4)["input_ids"][0, 0] == 2


def test_a_tokenizer_that_knows_no_word_is_not_measured(tmp_path: Path) -> None:
    """Its special tokens are all that transformers makes up for a BERT without a vocabulary."""
    model = reader(tmp_path, WORDS[:5])
    with pytest.raises(StageError) as caught:
        model.raw([Sample(text=""), Sample(text="The quick brown fox")])
    assert caught.value.reason == (
        f"the tokenizer of '{tmp_path}' knows no word of 'The quick brown fox': its vocabulary is "
        "missing, or of other texts. Save the model's tokenizer there, with its save_pretrained"
    )


@pytest.mark.parametrize("family", ["t5", "gpt2", "clip"])
def test_a_made_up_tokenizer_of_any_family_knows_no_word(family: str, tmp_path: Path) -> None:
    """As from a hub, where nobody looks for files: T5's marks the spaces, GPT-2's gives nothing at all."""
    (tmp_path / "config.json").write_text(f'{{"model_type": "{family}"}}')
    made_up = transformers.AutoTokenizer.from_pretrained(tmp_path)
    model = Model("m", family, "acme/any", "any", weights="pretrained")
    with pytest.raises(
        StageError, match=r"^the tokenizer of 'acme/any' knows no word of 'The quick brown fox'"
    ):
        _text._require_known(model, made_up, ["The quick brown fox"])
