"""Digits: the split, the weights that are committed, and whether their logs say what the files hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from sklearn.datasets import load_digits
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification, ViTModel
from transformers.models.vit.modeling_vit import ViTMLP

import places
from benchbox import plugins
from benchbox.plugins.datasets import digits
from benchbox.plugins.models import vit
from benchbox.schema.asked import Model
from benchbox.suite.load import load_suite

SUITES = places.SUITES / "digits"
BASE = SUITES / "base"
RANKS = (4, 8, 16, 32, 64)
SHAPE = {"image_size": 8}
MODEL = Model("digits", "vit", str(BASE), "image-classification", weights="pretrained")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def given(
    count: int, split: Any = "parity", seed: int = 0, task: Any = "upright"
) -> list[tuple[bytes, int | None]]:
    found = digits.samples(digits.Options(task), count=count, split=split, seed=seed)
    return [(np.asarray(s.image).tobytes(), s.label) for s in found]


# --- The split ---


def test_every_image_is_in_one_part_and_none_is_in_both() -> None:
    train, test = (set(digits.part(name).numbers.tolist()) for name in ("train", "test"))
    assert (len(train), len(test), train & test) == (1437, 360, set())
    assert train | test == set(range(1797))


def test_no_picture_of_the_test_part_is_in_the_training_part_under_another_number() -> None:
    train, test = ({i.tobytes() for i in digits.part(name).images} for name in ("train", "test"))
    assert not train & test


def test_each_class_has_36_test_images() -> None:
    assert Counter(digits.part("test").labels.tolist()) == dict.fromkeys(range(10), 36)


def test_the_split_is_this_one_wherever_it_is_made() -> None:
    """Weights that are committed were trained without these numbers, so no other may become test images."""
    assert digits.part("test").numbers[:8].tolist() == [0, 8, 15, 17, 19, 20, 42, 47]
    assert int(digits.part("test").numbers.sum()) == 320_030


@pytest.mark.parametrize("name", ["train", "test"])
def test_pixels_and_labels_are_scikit_learns(name: Any) -> None:
    """0..16 becomes 0..255 in three equal channels, and can be had back."""
    part, source = digits.part(name), load_digits()
    assert (part.images.dtype, part.images.shape[1:]) == (np.uint8, (8, 8, 3))
    assert (part.images.min(), part.images.max()) == (0, 255)
    assert np.array_equal(part.labels, source.target[part.numbers])
    for channel in range(3):
        back = np.rint(part.images[..., channel] / 255 * 16)
        assert np.array_equal(back, source.images[part.numbers])


def test_rotated_is_a_quarter_turn_counter_clockwise_and_inverted_swaps_black_and_white() -> None:
    upright, rotated, inverted = (
        digits.part("test", task).images for task in ("upright", "rotated", "inverted")
    )
    assert np.array_equal(rotated[:, 0, :], upright[:, :, 7])  # the right column becomes the top row
    assert np.array_equal(inverted.astype(int), 255 - upright.astype(int))


# --- What the plug-in gives ---


def test_360_parity_images_are_the_test_part_each_once() -> None:
    part = digits.part("test")
    expected = Counter((i.tobytes(), int(n)) for i, n in zip(part.images, part.labels, strict=True))
    assert Counter(given(360)) == expected


def test_when_the_test_images_run_out_the_first_comes_again() -> None:
    many = given(362)
    assert many[360:] == many[:2]


@pytest.mark.parametrize("task", ["upright", "rotated", "inverted"])
def test_calibration_gives_training_images_and_parity_and_timing_give_test_images(task: Any) -> None:
    train, test = ({i.tobytes() for i in digits.part(name, task).images} for name in ("train", "test"))
    assert {image for image, _ in given(100, "calibration", task=task)} <= train
    assert {image for image, _ in given(100, "parity", task=task)} <= test
    assert {image for image, _ in given(100, "timing", task=task)} <= test


def test_the_seed_orders_the_images() -> None:
    assert given(20) == given(20)
    assert given(20, seed=0) != given(20, seed=1)
    assert given(5) == given(20)[:5]


def test_a_billion_samples_are_made_one_at_a_time() -> None:
    lazily = digits.samples(digits.Options(), count=10**9, split="timing", seed=0)
    assert len(list(islice(lazily, 2))) == 2


def test_images_that_are_kept_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        digits.part("test").images[0, 0, 0, 0] = 1


def test_the_word_is_the_file_name_and_the_summary_its_first_line() -> None:
    assert plugins.summary("datasets", "digits") == (
        "Handwritten digits of scikit-learn: 1,797 real images of 8x8 pixels with labels, split once."
    )


# --- What is committed ---


@pytest.fixture(scope="module")
def turned() -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """Pixel values and labels of the turned test images."""
    return pixels("rotated")


def pixels(task: Any) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    part = digits.part("test", task)
    values = AutoImageProcessor.from_pretrained(BASE)(images=list(part.images), return_tensors="pt")
    return values["pixel_values"], part.labels


def base() -> Any:
    return ViTForImageClassification.from_pretrained(BASE, use_safetensors=True).eval()


def adapted(rank: int) -> Any:
    return PeftModel.from_pretrained(base(), SUITES / f"lora-r{rank}").eval()


def logits(module: Any, values: torch.Tensor) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        found: np.ndarray[Any, Any] = module(pixel_values=values).logits.numpy()
    return found


def accuracy(module: Any, values: torch.Tensor, labels: np.ndarray[Any, Any]) -> float:
    return float((logits(module, values).argmax(-1) == labels).mean())


def test_the_base_names_at_least_97_percent_of_the_test_images_rightly() -> None:
    """From the dataset plug-in through the family's own processor and module, as a suite does it."""
    samples = list(digits.samples(digits.Options(), count=360, split="parity", seed=0))
    values = torch.from_numpy(np.array(vit.feeds(MODEL, samples, SHAPE)["pixel_values"]))
    with torch.inference_mode():
        (found,) = vit.load(MODEL)(values)
    right = float((found.argmax(-1).numpy() == np.array([s.label for s in samples])).mean())
    assert right >= 0.97
    assert right == pytest.approx(read(BASE / "training.json")["test_accuracy"], abs=1 / 360 + 1e-9)


def test_the_processor_maps_black_to_minus_one_and_ink_to_one_and_resizes_nothing() -> None:
    values, _ = pixels("upright")
    images = digits.part("test").images
    assert tuple(values.shape) == (360, 3, 8, 8)
    assert np.allclose(values.permute(0, 2, 3, 1).numpy(), images / 127.5 - 1, atol=1e-6)


def test_the_base_alone_does_not_know_turned_digits_and_every_adapter_does(turned: Any) -> None:
    assert accuracy(base(), *turned) < 0.5
    for rank in RANKS:
        assert accuracy(adapted(rank), *turned) >= 0.9


def test_an_adapter_attached_and_merged_agree_to_1e_5(turned: Any) -> None:
    attached, merged = adapted(16), adapted(16).merge_and_unload()
    expected = logits(attached, turned[0])
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert np.abs(expected - logits(base(), turned[0])).max() > 1.0
    assert np.abs(logits(merged, turned[0]) - expected).max() <= 1e-5


def test_the_adapter_is_the_one_that_the_issue_names() -> None:
    config = read(SUITES / "lora-r16" / "adapter_config.json")
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 16, 32)
    assert sorted(config["target_modules"]) == ["q_proj", "v_proj"]
    assert config["modules_to_save"] is None
    assert config["base_model_name_or_path"] == "../base"


@pytest.mark.parametrize("rank", RANKS)
def test_a_rank_has_so_many_parameters(rank: int) -> None:
    """Four layers, query and value, of 96 x 96 each: r * (96 + 96) for each of the eight matrices."""
    log = read(SUITES / f"lora-r{rank}" / "training.json")
    with safe_open(SUITES / f"lora-r{rank}" / "adapter_model.safetensors", "pt") as file:
        held = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 - safetensors has no iterator
    assert held == log["trainable_parameters"] == 8 * rank * 192
    assert log["trainable_share"] == pytest.approx(held / (303_274 + held))


def test_the_rank_sweep_says_what_the_files_hold(turned: Any) -> None:
    sweep = read(SUITES / "rank_sweep.json")
    assert [one["rank"] for one in sweep["ranks"]] == list(RANKS)
    assert sweep["base_accuracy"] == pytest.approx(accuracy(base(), *turned), abs=1 / 360 + 1e-9)
    for one in sweep["ranks"]:
        folder = SUITES / f"lora-r{one['rank']}"
        log = read(folder / "training.json")
        assert one["adapter_bytes"] == (folder / "adapter_model.safetensors").stat().st_size
        assert one["test_accuracy"] == log["test_accuracy"] == log["epochs"][-1]["test_accuracy"]
        assert one["test_accuracy"] == pytest.approx(
            accuracy(adapted(one["rank"]), *turned), abs=1 / 360 + 1e-9
        )
        assert one["trainable_parameters"] == log["trainable_parameters"]


@pytest.mark.parametrize("name", ["base", "full", *(f"lora-r{rank}" for rank in RANKS)])
def test_a_log_has_every_epoch_and_its_loss_went_down(name: str) -> None:
    log = read(SUITES / name / "training.json")
    assert [e["epoch"] for e in log["epochs"]] == list(range(1, log["recipe"]["epochs"] + 1))
    assert log["epochs"][-1]["train_loss"] < log["epochs"][0]["train_loss"]
    assert log["test_accuracy"] == log["epochs"][-1]["test_accuracy"]


def test_the_base_has_as_many_parameters_as_its_log_says() -> None:
    log = read(BASE / "training.json")
    held = sum(p.numel() for p in base().parameters())
    assert (held, log["parameters"], log["trainable_share"]) == (303_274, 303_274, 1.0)


def test_no_committed_file_names_a_place_on_a_machine() -> None:
    texts = [p for p in SUITES.rglob("*") if p.suffix in {".json", ".yaml", ".md", ".svg"}]
    assert len(texts) >= 20
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w./])/\w[\w.-]*/|file:", text), path


def test_what_is_committed_is_small() -> None:
    files = [p for p in SUITES.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(p.stat().st_size for p in files) < 8 * 2**20


@pytest.mark.parametrize("name", ["base", "lora_and_full", "rank_sweep"])
def test_a_plot_is_a_picture_that_needs_nothing_else(name: str) -> None:
    text = (SUITES / "plots" / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.findall(".//{*}polyline")
    assert "nan" not in text
    assert "href" not in text


PATHS = {
    *("torch", "onnx", "onnx + fp16", "onnx + int8_dynamic"),
    "onnx + int8_static(samples=256, batch=32)",
}


def test_the_base_suite_measures_every_path_on_the_whole_test_part() -> None:
    suite = load_suite(SUITES / "digits.yaml")
    assert suite.parity.samples == 360
    assert {case.path_label for case in suite.cases} == PATHS
    assert {case.model.source for case in suite.cases} == {"./base"}


def test_the_lora_suite_measures_the_base_and_the_adapter_attached_merged_exported_and_quantized() -> None:
    suite = load_suite(SUITES / "lora.yaml")
    adapters = {case.model.name: [lora.source for lora in case.model.lora] for case in suite.cases}
    assert adapters == {"base": [], "base+lora-r16": ["./lora-r16"]}
    assert {case.path_label for case in suite.cases} == {*PATHS, "torch(lora=merged)"}


def test_the_suite_of_ranks_has_each_rank_attached_and_merged() -> None:
    cases = load_suite(SUITES / "ranks.yaml").cases
    adapters = {(case.model.name, case.path_label, case.model.lora[0].source) for case in cases}
    expected = {(f"r{r}", path, f"./lora-r{r}") for r in RANKS for path in ("torch", "onnx")}
    assert adapters == expected


# --- Numbers that textbooks give ---


def test_lora_of_rank_16_on_query_and_value_of_vit_base_trains_589_824_of_86_million() -> None:
    """12 layers x 2 matrices x 16 x (768 + 768); the ViT alone, without a head, has 86,389,248."""
    with torch.device("meta"):
        module = ViTModel(ViTConfig())
        whole = sum(p.numel() for p in module.parameters())
        adapted = get_peft_model(module, LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"]))
    assert adapted.get_nb_trainable_parameters() == (589_824, whole + 589_824)
    assert whole == 86_389_248


def test_a_feed_forward_block_of_512_and_2048_has_2_099_712_parameters() -> None:
    with torch.device("meta"):
        block = ViTMLP(ViTConfig(hidden_size=512, intermediate_size=2048))
    assert sum(p.numel() for p in block.parameters()) == 2_099_712


def test_vit_base_gives_197_tokens_of_768() -> None:
    with torch.device("meta"):
        module = ViTModel(ViTConfig())
        found = module(pixel_values=torch.empty(1, 3, 224, 224))
    assert tuple(found.last_hidden_state.shape) == (1, 197, 768)


# --- Training ---


def trained(out: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, SUITES / "train.py", "--out", out, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


TWICE = """
import sys
sys.path.insert(0, sys.argv[1])
import train
for out in sys.argv[2:]:
    train.main(["--out", out, "--epochs", "1", "base"])
"""


def test_training_begins_the_same_from_the_same_seed(tmp_path: Path) -> None:
    """One epoch, twice: the same weights, bit by bit."""
    folders = [tmp_path / "first", tmp_path / "second"]
    subprocess.run([sys.executable, "-c", TWICE, SUITES, *folders], check=True, stdout=subprocess.DEVNULL)
    first, second = ((folder / "base" / "model.safetensors").read_bytes() for folder in folders)
    assert first == second


@pytest.mark.slow
def test_training_again_from_the_seed_comes_to_the_same_accuracy(tmp_path: Path) -> None:
    """Within half a point, and so does LoRA on top of it."""
    trained(tmp_path, "base")
    trained(tmp_path, "lora", "--rank", "16")
    for name in ("base", "lora-r16"):
        again, before = (read(f / name / "training.json")["test_accuracy"] for f in (tmp_path, SUITES))
        assert again == pytest.approx(before, abs=0.005)
