"""LoRA adapters: attached, saved beside their base, merged; and the suite's ways to write them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import cases
from benchbox import suite
from benchbox.errors import StageError, SuiteError
from benchbox.plugins.exporters import _lora as shipped
from benchbox.plugins.models import _lora, vit
from benchbox.schema.asked import Lora, Model
from benchbox.suite.load import from_source, load_suite

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)


def adapter(folder: Path, seed: int, rank: int = 4, **changes: object) -> str:
    """An adapter of random values on the tiny ViT's query and value, as PEFT saves it."""
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **changes
    )
    get_peft_model(vit.load(cases.MODEL).model, config).save_pretrained(folder)
    return str(folder)


def logits(module: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        (found,) = module(PIXELS)
    return found


def with_adapters(*loras: Lora) -> Model:
    return replace(cases.MODEL, lora=loras)


def test_an_adapter_changes_what_the_model_says(tmp_path: Path) -> None:
    module = vit.load(with_adapters(Lora(adapter(tmp_path / "a", 1))))
    assert (logits(module) - logits(vit.load(cases.MODEL))).abs().max() > 0.01
    assert shipped.adapters(module) == {
        "lora_parameters": 2 * 2 * 4 * (64 + 64),
        "lora_share": pytest.approx(2048 / sum(p.numel() for p in module.parameters())),
        "lora_layers": 4,
    }


def test_merged_and_attached_say_the_same_and_merging_leaves_the_attached_one_as_it_was(
    tmp_path: Path,
) -> None:
    module = vit.load(with_adapters(Lora(adapter(tmp_path / "a", 1)), Lora(adapter(tmp_path / "b", 2), 0.5)))
    before = logits(module)
    merged = shipped.with_adapters(module, "merged")
    torch.testing.assert_close(logits(merged), before, atol=1e-6, rtol=0)
    assert torch.equal(logits(module), before)
    assert shipped.adapters(merged) == {}
    assert shipped.with_adapters(module, "attached") is module
    names = {name for name, _ in merged.named_parameters()}
    assert names == {name for name, _ in vit.load(cases.MODEL).named_parameters()}


def test_two_adapters_add_up_by_their_weights(tmp_path: Path) -> None:
    """W + w1 alpha/r B1 A1 + w2 alpha/r B2 A2, computed here from the files."""
    first, second = adapter(tmp_path / "a", 1), adapter(tmp_path / "b", 2, rank=8)
    merged = shipped.with_adapters(vit.load(with_adapters(Lora(first), Lora(second, -0.5))), "merged")
    key = "base_model.model.vit.layers.0.attention.q_proj"
    expected = vit.load(cases.MODEL).model.vit.layers[0].attention.q_proj.weight.detach().clone()
    for folder, weight in ((first, 1.0), (second, -0.5)):
        values = load_file(f"{folder}/adapter_model.safetensors")
        expected += weight * 2.0 * values[f"{key}.lora_B.weight"] @ values[f"{key}.lora_A.weight"]
    torch.testing.assert_close(merged.model.vit.layers[0].attention.q_proj.weight, expected)


@pytest.mark.parametrize("how", ["merged", "attached"])
def test_what_is_saved_needs_nothing_but_its_folder(how: shipped.Adapters, tmp_path: Path) -> None:
    module = vit.load(
        with_adapters(Lora(adapter(tmp_path / "a", 1), 2.0), Lora(adapter(tmp_path / "b", 2), 0.5))
    )
    folder = tmp_path / "saved"
    folder.mkdir()
    vit.save(shipped.with_adapters(module, how), folder)
    kept = _lora.saved_adapters(folder)
    assert [Path(lora.source).name for lora in kept] == (
        [] if how == "merged" else ["adapter-0", "adapter-1"]
    )
    for lora in kept:
        said = json.loads((Path(lora.source) / "adapter_config.json").read_text())
        assert said["base_model_name_or_path"] is None
    stored = replace(cases.MODEL, source=str(folder), weights="pretrained", config={})
    torch.testing.assert_close(logits(vit.load(stored)), logits(module), atol=1e-6, rtol=0)


def test_more_than_ten_adapters_keep_their_order(tmp_path: Path) -> None:
    for index in range(12):
        folder = tmp_path / "adapters" / f"adapter-{index}"
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text("{}")
    names = [Path(lora.source).name for lora in _lora.saved_adapters(tmp_path)]
    assert names == [f"adapter-{index}" for index in range(12)]


def test_an_adapter_that_is_not_there_or_lacks_a_layer_is_refused(tmp_path: Path) -> None:
    """What an adapter's file lacks would stay random."""
    with pytest.raises(StageError, match=r"the LoRA adapter .*nowhere.* cannot be attached"):
        vit.load(with_adapters(Lora(str(tmp_path / "nowhere"))))
    file = Path(adapter(tmp_path / "a", 1)) / "adapter_model.safetensors"
    values = load_file(file)
    save_file({key: value for key, value in values.items() if "layers.1" not in key}, file)
    with pytest.raises(StageError, match="missing adapter keys"):
        vit.load(with_adapters(Lora(str(tmp_path / "a"))))


def suite_with(lora: str, folder: Path) -> suite.Suite:
    text = f"""
models: {{family: vit, source: google/vit-base-patch16-224, lora: {lora}}}
paths: [torch, {{torch: {{lora: merged}}}}]
backends: [pytorch]
inputs: {{dataset: sample_images}}
"""
    (folder / "s.yaml").write_text(text)
    return load_suite(folder / "s.yaml")


def test_a_suite_says_adapters_in_three_ways(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    a, b = Lora("./a"), Lora("./b", 0.5)
    assert suite_with("./a", tmp_path).cases[0].model.lora == (a,)
    assert suite_with("{source: ./b, weight: 0.5}", tmp_path).cases[0].model.lora == (b,)
    both = suite_with("[./a, {source: ./b, weight: 0.5}]", tmp_path)
    assert both.cases[0].model.lora == (a, b)
    assert [case.path[0].options for case in both.cases] == [{}, {"lora": "merged"}]
    assert from_source(both.source, "s.yaml", tmp_path).cases == both.cases


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ("./nowhere", "models.lora: './nowhere' does not exist"),
        ("{source: ./a, weigth: 2}", "models.lora.weigth: unknown"),
        ("[./a, {source: ./a, weight: much}]", "models.lora.1.weight: "),
        ("3", "models.lora: should be a path, a hub id, or {source: ...}, not 3"),
    ],
)
def test_a_wrong_adapter_is_told_by_its_place(lora: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(SuiteError) as error:
        suite_with(lora, tmp_path)
    assert said in str(error.value)


def test_an_adapter_that_is_a_pickle_is_refused_unread_with_its_file_and_what_to_do(tmp_path: Path) -> None:
    """The pickle writes a file when somebody loads it."""
    source = adapter(tmp_path / "a", 1)
    (tmp_path / "a" / "adapter_model.safetensors").unlink()
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (ran,))

    torch.save({"weight": Evil()}, tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(StageError) as caught:
        vit.load(with_adapters(Lora(source)))
    assert caught.value.reason == (
        f"the LoRA adapter {source!r} is refused: {source}/adapter_model.bin is a pickle, which can run any "
        "code when it is read. Where you trust it, load it with PEFT and save it anew: "
        "save_pretrained(folder, safe_serialization=True) writes adapter_model.safetensors"
    )
    assert not ran.exists()
