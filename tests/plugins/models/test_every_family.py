"""What is true of every family: on each model of suites/small, made once for all of these tests."""

# ruff: noqa: E501 - the messages of a table are literals, one a line, as the user reads them

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
import families
from benchbox import plugins
from benchbox.build.artifacts import build_artifact
from benchbox.build.cache import Cache
from benchbox.errors import StageError
from benchbox.numerics import padding
from benchbox.plugins.contract import Sample
from benchbox.schema.asked import Dataset
from benchbox.schema.seen import Host
from benchbox.schema.tensors import axis_length
from families import Member

torch = pytest.importorskip("torch")

MEMBERS = families.members()
SEEDED = [m for m in MEMBERS.values() if m.model.weights == "random"]
# A file of one's own is no checkpoint of anybody's, and needs no hub.
CHECKPOINTS = [m for m in SEEDED if m.model.family != "custom"]
ATTENTIVE = [m.attentive() for m in SEEDED if m.model.task in getattr(m.family, "ATTENTION", ())]


KERAS = pytest.mark.skipif(
    importlib.util.find_spec("keras") is None, reason='needs keras: pip install "benchbox[keras]"'
)


def each(members: Iterable[Member]) -> Any:
    params = (
        pytest.param(m, id=m.model.name, marks=[KERAS] * (m.model.family == "keras_vit")) for m in members
    )
    return pytest.mark.parametrize("member", params)


def sizes(member: Member, axes: Any) -> list[int]:
    return [axis_length(axis, member.shape) for axis in axes]


def test_every_family_has_a_small_suite() -> None:
    assert {m.model.family for m in MEMBERS.values()} == set(plugins.names("models"))


SIGNATURES = (Path(__file__).parent / "signatures.txt").read_text(encoding="utf-8").split("\n\n")


@each([*MEMBERS.values(), *ATTENTIVE])
def test_the_signature_is_the_one_that_is_written_down(member: Member) -> None:
    """signatures.txt has a paragraph for each model: name, then a line for each input and output."""
    lines = [
        f"{way} {spec.name} {spec.dtype} ({', '.join(map(str, spec.axes))})"
        for way, specs in (("in ", member.signature.inputs), ("out", member.signature.outputs))
        for spec in specs
    ]
    name = member.model.name + " with attention" * member.model.attention
    assert "\n".join([name, *lines]) in [paragraph.strip() for paragraph in SIGNATURES]


@each(MEMBERS.values())
def test_feeds_are_in_the_order_of_the_signature_with_its_types_and_sizes(member: Member) -> None:
    specs = member.signature.inputs
    assert list(member.feeds) == [spec.name for spec in specs]
    assert [str(array.dtype) for array in member.feeds.values()] == [spec.dtype for spec in specs]
    assert [list(a.shape) for a in member.feeds.values()] == [sizes(member, spec.axes) for spec in specs]
    assert all(array.flags.c_contiguous for array in member.raw(families.PAIRS).values())


@each(MEMBERS.values())
def test_a_module_gives_what_its_signature_says_and_is_in_eval_mode(member: Member) -> None:
    specs, found = member.signature.outputs, member.answers().values()
    assert [str(array.dtype) for array in found] == [spec.dtype for spec in specs]
    assert [list(array.shape) for array in found] == [sizes(member, spec.axes) for spec in specs]
    assert not any(part.training for part in getattr(member.module, "modules", list)())


@each(SEEDED)
def test_random_weights_are_those_of_the_seed(member: Member) -> None:
    name, first = next(iter(member.answers().items()))
    same, other = (member.but(seed=seed).answers(member.feeds)[name] for seed in (member.model.seed, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@each(SEEDED)
def test_a_saved_module_comes_back_as_the_same_module(member: Member, tmp_path: Path) -> None:
    """Its files say nothing else: what decodes has its settings among them, one's own module its code."""
    own = {"custom": {"custom.json", "code"}}.get(member.model.family, {"config.json"})
    again = member.saved(tmp_path).but(seed=9)
    assert {file.name for file in tmp_path.iterdir()} - {"generation_config.json"} == {
        "model.safetensors",
        *own,
    }
    assert not any(part.training for part in again.module.modules())
    assert again.signature.outputs == member.signature.outputs
    for first, second in zip(member.answers().values(), again.answers(member.feeds).values(), strict=True):
        assert np.array_equal(first, second)


# What loads is the same code for every task of a family, and what reads weights for all that come from one package.
READERS = ("bert", "keras_vit")


@each({m.model.family: m for m in CHECKPOINTS}.values())
def test_pretrained_weights_that_cannot_be_had_are_an_error_and_never_random(
    member: Member, tmp_path: Path
) -> None:
    """Pickled (a pickle could run code) for every family; cut off, damaged, or not there for each reader."""
    again = member.saved(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.unlink()
    torch.save(getattr(member.module, "model", member.module).state_dict(), tmp_path / "pytorch_model.bin")
    assert_unavailable(again)
    if member.model.family in READERS:
        for damage in (b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!", whole[: len(whole) // 2]):
            file.write_bytes(damage)
            assert_unavailable(again)
        for source in ("folder-that-is-not-there", "nothing/here"):
            assert_unavailable(again.but(source=source), said=source)


def assert_unavailable(member: Member, said: str = r"^pretrained weights of .* cannot be had: ") -> None:
    with pytest.raises(StageError, match=said):
        member.family.load(member.model)


@each(ATTENTIVE)
def test_attention_over_the_image_is_one_more_output_and_changes_no_answer(
    member: Member, tmp_path: Path
) -> None:
    """Of four by four patches; the class token takes a share, and what stands before the image sees nothing."""
    plain = member.but(attention=False)
    *answers, spec = member.signature.outputs
    assert tuple(answers) == plain.signature.outputs
    assert (spec.name, spec.dtype) == ("attention", "float32")
    found = member.answers()
    looked = found.pop("attention")
    for name, usual in plain.answers(member.feeds).items():
        assert np.allclose(found[name], usual, rtol=0, atol=1e-5)
    shares = looked.sum(axis=(-2, -1))
    assert np.all(((shares > 0.75) & (shares < 1.0)) | (shares == 0.0))
    assert np.abs(looked[0] - looked[1]).max() > 1e-5
    again = member.saved(tmp_path)
    assert np.array_equal(again.answers(member.feeds)["attention"], looked)


TOP = ("top1_agreement", "top5_agreement")
TOKENS = ("next_token_agreement", "token_agreement")
MASKS = ("mask_agreement", "pixel_agreement")
# What a family judges by; a model that is not named has nothing that a metric could use.
METRICS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("bert-small", "deit", "deit-distilled", "keras-vit-small", "swin", "vit"), TOP),
    **dict.fromkeys(("segformer", "setr-naive", "setr-pup"), MASKS),
    **dict.fromkeys(("blip-small-decoder", "git-small", "gpt2-small-with-past", "idefics-small"), TOKENS),
    **{
        f"{name}-small-{task}": TOKENS
        for name in ("m2m100", "marian", "t5")
        for task in ("decoder", "decoder-with-past")
    },
    "bert-small-features": ("pooled_cosine",),
    "blip-small": ("match_agreement", "match_score_agreement"),
    "clip-small": ("zero_shot_agreement", "caption_rank_agreement", "image_retrieval_agreement"),
    "detr": ("matched_box_iou", "matched_box_agreement", "class_agreement"),
    "gpt2-small": (*TOKENS, "cross_entropy", "reference_cross_entropy"),
}


@each(MEMBERS.values())
def test_equal_outputs_agree_in_all_that_the_task_cares_about(member: Member) -> None:
    """A loss is not an agreement: it is the same on both sides."""
    written = member.written()
    outputs = {**member.answers(), **written}
    found = member.metrics(outputs, outputs, feeds=member.feeds)
    expected = METRICS.get(member.model.name, ())
    assert tuple(found) == expected
    assert set(written) == ({"tokens"} if "token_agreement" in expected else set())
    agreements = {name: value for name, value in found.items() if "cross_entropy" not in name}
    assert agreements == pytest.approx(dict.fromkeys(agreements, 1.0))
    assert len({value for name, value in found.items() if "cross_entropy" in name}) <= 1


READ = {
    **dict.fromkeys(("blip-small-decoder", "git-small", "gpt2-small", "idefics-small"), ("logits",)),
    "bert-small-features": ("last_hidden_state",),
    "gpt2-small-with-past": ("logits", "present.*"),
    "tagger": ("scores",),
    **{f"{name}-small-encoder": ("last_hidden_state",) for name in ("m2m100", "marian", "t5")},
    **{f"{name}-small-decoder": ("present.*.encoder.*",) for name in ("m2m100", "marian", "t5")},
}


@each(MEMBERS.values())
def test_what_texts_have_behind_them_is_not_read_in_outputs_of_tokens_and_in_no_others(
    member: Member,
) -> None:
    """At lengths of which the second text is the half, the outputs that READ names are read there to the half."""
    signature, feeds = member.signature, dict(member.feeds)
    for spec in (spec for spec in signature.inputs if spec.is_mask):
        feeds[spec.name] = np.ones_like(feeds[spec.name])
        feeds[spec.name][1, feeds[spec.name].shape[1] // 2 :] = 0
    read = padding.read_positions(signature, feeds, member.shape)
    patterns = READ.get(member.model.name, ())
    expected = {spec.name for spec in signature.outputs if any(fnmatch(spec.name, p) for p in patterns)}
    assert set(read) == expected
    for name, answer in member.answers().items():
        assert name not in read or np.broadcast_to(read[name], answer.shape)[0].all()


IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
OPENAI = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5] * 3, [0.5] * 3


@pytest.mark.parametrize(
    ("name", "colours"),
    [
        *((name, IMAGENET) for name in ("deit", "segformer", "setr-naive", "swin")),
        *((name, OPENAI) for name in ("blip-small", "clip-small", "git-small", "idefics-small")),
        *((name, HALF) for name in ("vit", "keras-vit-small")),
    ],
)
def test_images_are_scaled_to_the_size_in_the_colours_that_the_family_knows(name: str, colours: Any) -> None:
    """Channels first, red before green and blue; less the mean and over the deviation of each."""
    red = np.zeros((40, 50, 3), np.uint8)
    red[..., 0] = 255
    pixels = MEMBERS[name].raw([Sample(image=red, text="red")])["pixel_values"]
    seen = pixels.reshape(3, -1)
    assert np.allclose(seen, ((np.eye(3)[0] - colours[0]) / colours[1])[:, None], atol=1e-5)


IMAGE = "takes images of {} pixels, and the suite's image_size is {}"


@pytest.mark.parametrize(
    ("name", "sizes", "reason"),
    [
        *[
            (name, {"image_size": pixels + 32}, IMAGE.format(pixels, pixels + 32))
            for name, pixels in {
                **dict.fromkeys(("blip-small", "blip-small-encoder"), 64),
                **dict.fromkeys(("clip-small", "clip-small-images", "git-small"), 64),
                **dict.fromkeys(("deit", "deit-distilled", "keras-vit-small", "swin"), 32),
                **dict.fromkeys(("vit", "vit-features"), 32),
                **dict.fromkeys(("setr-naive", "setr-pup"), 64),
                "idefics-small": 56,
            }.items()
        ],
        ("bert-small", {"sequence_length": 513}, "has 512 positions, and the suite's sequence_length is 513"),
        ("blip-small", {"sequence_length": 65}, "takes at most 64 tokens, and the suite's sequence_length is 65"),
        ("blip-small-decoder", {"sequence_length": 65}, "takes at most 64 tokens, and the suite's sequence_length is 65"),
        ("clip-small-texts", {"sequence_length": 78}, "reads at most 77 tokens, and the suite's sequence_length is 78"),
        ("git-small", {"sequence_length": 65}, "writes at most 64 tokens, and the suite's sequence_length is 65"),
        ("idefics-small", {"sequence_length": 4}, "takes 5 to 64 tokens, and the suite's sequence_length is 4"),
        ("gpt2-small-with-past", {"past_length": 241}, "has 256 positions, and the suite asks for 257 tokens"),
        ("m2m100-small-decoder-with-past", {"past_length": 1019}, "has 1024 positions, and the suite asks for 1025 tokens"),
        ("marian-small-decoder-with-past", {"past_length": 507}, "has 512 positions, and the suite asks for 513 tokens"),
        ("t5-small-decoder-with-past", {"past_length": 9999}, ""),
        ("segformer", {"image_size": 70}, ""),
        ("detr", {"height": 70, "width": 50}, ""),
    ],
)  # fmt: skip
def test_sizes_that_a_model_does_not_take_are_refused(
    name: str, sizes: Mapping[str, int], reason: str
) -> None:
    """Those that have no limit take any."""
    member = MEMBERS[name]
    shape = {**member.shape, **sizes}
    if not reason:
        assert member.family.signature(member.model, shape)
        return
    with pytest.raises(StageError) as caught:
        member.family.signature(member.model, shape)
    assert caught.value.reason == f"{name} {reason}"


@pytest.mark.parametrize(
    ("name", "source", "count"),
    [
        ("bert-small-features", "", 109_482_240),  # Devlin et al. 2018: 110 million
        ("clip-small", "openai/clip-vit-base-patch32", 151_277_313),
        ("clip-small", "openai/clip-vit-base-patch16", 149_620_737),
        ("clip-small", "openai/clip-vit-large-patch14", 427_616_513),
        ("deit-distilled", "", 5_910_800),  # Touvron et al. 2021, table 5: 6 million, with the second head
        ("detr", "", 41_524_768),  # Carion et al. 2020, table 1: 41 million
        ("git-small", "microsoft/git-base", 176_619_066),  # the hub says 177 million
        ("git-small", "microsoft/git-large", 394_196_026),  # and 394
        ("gpt2-small", "", 124_439_808),  # the token embedding is also the head
        ("idefics-small", "", 8_929_679_632),  # the hub says 8.93 billion
        ("keras-vit-small", "keras/vit-tiny-patch16-224", 5_717_416),  # as transformers' own of this shape
        ("m2m100-small-encoder", "", 483_905_536),  # embeddings and head are counted once
        ("marian-small-encoder", "", 74_410_496),
        ("segformer", "", 3_752_694),  # Xie et al. 2021, table 1: B0 has 3.8 million
        ("setr-naive", "setr-large-cityscapes", 305_728_019),  # Zheng et al. 2021, table 2: 306 million
        ("setr-naive", "", 87_619_859),
        ("setr-pup", "", 90_964_499),
        ("swin", "", 28_288_354),  # Liu et al. 2021, table 1: Swin-T has 29 million
        ("t5-small-encoder", "", 60_506_624),  # Raffel et al. 2019: 60.5 million
        ("vit", "WinKawaks/vit-tiny-patch16-224", 5_717_416),  # Steiner et al. 2021: 5.7 million
    ],
)  # fmt: skip
def test_presets_are_the_architectures_of_the_papers_and_the_hub(name: str, source: str, count: int) -> None:
    """Without a source, that of the small suite."""
    model = MEMBERS[name].model
    assert families.parameters(replace(model, source=source or model.source, config={})) == count


# What the exporters do with every family, the zoo runs; here, each kind of axis, of input and of output once.
EXPORTED = [
    *ATTENTIVE,
    *(MEMBERS[name] for name in ("bert-small", "gpt2-small-with-past", "keras-vit-small", "mixer-small")),
    MEMBERS["t5-small-decoder-with-past"],
]


@each(EXPORTED)
def test_a_graph_agrees_with_its_module_at_shapes_that_were_not_exported(
    member: Member, tmp_path: Path
) -> None:
    """At longer batches with padding and at the shortest there are; the exporter looked at others before."""
    import onnxruntime

    case = cases.case("onnx", model=member.model, shape=member.shape, dataset=Dataset(member.dataset))
    entry = build_artifact(case, Cache(tmp_path), Host(frozenset()))
    facts = entry.content["facts"]
    assert [t["name"] for t in facts["outputs"]] == [spec.name for spec in member.signature.outputs]
    assert [t["axes"] for t in facts["inputs"]] == [list(spec.axes) for spec in member.signature.inputs]
    assert facts["verified"]["max_abs_error"] < 1e-5
    session = onnxruntime.InferenceSession(entry.folder / "model.onnx", providers=["CPUExecutionProvider"])
    dynamic = [size for size in getattr(member.family, "DYNAMIC", {}) if size in member.shape]
    least = 5 if member.model.family == "idefics" else 2
    padded = []
    for batch, lengths in (
        (5, {s: member.shape[s] + 8 for s in dynamic}),
        (1, dict.fromkeys(dynamic, least)),
    ):
        feeds = member.fed([*families.PAIRS, *families.PAIRS][:batch], **lengths)
        expected = member.answers(feeds)
        found = dict(zip(expected, session.run(list(expected), dict(feeds)), strict=True))
        assert max(float(np.abs(expected[name] - array).max()) for name, array in found.items()) < 1e-4
        padded += [(a == 0).any() for name, a in feeds.items() if name.endswith("attention_mask")]
    assert any(padded) or not padded
