"""The PyTorch backend's weights in 4 bits: when they can be had, and which layers they replace."""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType
from typing import Any

import pytest

from benchbox.errors import StageError, Unavailable
from benchbox.plugins.backends import pytorch
from benchbox.schema.asked import Backend, Threads
from benchbox.schema.seen import Artifact
from onnx_files import tiny_vit

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

IN_4_BITS = pytorch.Options(load_in_4bit=True)


def on(device: str) -> Backend:
    return Backend("pytorch", (device,), Threads(1))


class FakeParams(torch.nn.Parameter):
    """Keeps what bitsandbytes' Params4bit is made of, and quantizes nothing."""

    def __new__(cls, data: Any, requires_grad: bool, module: Any, **settings: Any) -> Any:
        made = torch.Tensor._make_subclass(cls, data, requires_grad)
        made.settings = settings
        return made


class FakeLinear(torch.nn.Module):
    """Keeps what bitsandbytes' Linear4bit is made of."""

    def __init__(self, inputs: int, outputs: int, bias: bool, compute_dtype: Any, **settings: Any) -> None:
        super().__init__()
        self.made = (inputs, outputs, bias, compute_dtype, settings)
        self.weight: Any = None
        self.bias: Any = None


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    package = ModuleType("bitsandbytes")
    package.__spec__ = importlib.machinery.ModuleSpec("bitsandbytes", None)
    package.__version__ = "0.0"
    package.supported_torch_devices = {"cuda"}
    package.nn = ModuleType("bitsandbytes.nn")
    package.nn.Linear4bit, package.nn.Params4bit = FakeLinear, FakeParams
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    return package


def test_without_bitsandbytes_a_case_is_skipped_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(Unavailable) as caught:
        pytorch.check(on("cpu"), IN_4_BITS)
    assert caught.value.reason.startswith("load_in_4bit: ")
    assert "bitsandbytes" in caught.value.reason
    assert caught.value.hint == 'pip install "benchbox[qlora]"'


def test_a_device_that_bitsandbytes_has_nothing_for_is_skipped(fake: Any) -> None:
    with pytest.raises(Unavailable, match=r"^bitsandbytes 0\.0 has 4 bits for cuda, not for cpu$"):
        pytorch.check(on("cpu"), IN_4_BITS)
    fake.supported_torch_devices = {"cpu", "cuda"}
    pytorch.check(on("cpu"), IN_4_BITS)


def test_a_device_that_torch_does_not_see_is_skipped(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Unavailable, match=r"sees no cuda device here$"):
        pytorch.check(on("cuda"), IN_4_BITS)


def test_without_the_option_nothing_is_asked_of_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    pytorch.check(on("cpu"), pytorch.Options())


def test_weights_in_4_bits_are_judged_as_such() -> None:
    artifact = Artifact("k", "torch", "fp32", (), {}, 1, "s", 0.0)
    assert pytorch.precision(IN_4_BITS, artifact) == "int4"
    assert pytorch.precision(pytorch.Options(load_in_4bit=True, dtype="bfloat16"), artifact) == "int4"
    assert pytorch.precision(pytorch.Options(), artifact) == "fp32"


def test_the_config_is_that_of_qlora() -> None:
    """Dettmers et al. 2023: normal float, and the scales quantized too."""
    config = pytorch._4_bit_config(IN_4_BITS, torch.float32)
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
    assert config.bnb_4bit_use_double_quant is True
    assert config.bnb_4bit_compute_dtype is torch.float32


def test_every_linear_layer_but_the_last_module_is_replaced(fake: Any) -> None:
    """With its own weight and bias, and what the config says."""
    module = tiny_vit()
    linear = {n: p for n, p in module.named_modules() if type(p) is torch.nn.Linear}
    pytorch._in_4_bits(module, pytorch._4_bit_config(IN_4_BITS, torch.bfloat16))
    replaced = {n: p for n, p in module.named_modules() if isinstance(p, FakeLinear)}
    assert sorted(set(linear) - set(replaced)) == ["model.classifier"]
    assert len(replaced) == 2 * 6
    settings = {"compress_statistics": True, "quant_type": "nf4", "quant_storage": torch.uint8}
    for name, part in replaced.items():
        before = linear[name]
        assert part.made == (before.in_features, before.out_features, True, torch.bfloat16, settings)
        assert torch.equal(part.weight.data, before.weight.data)
        assert part.weight.settings == settings
        assert part.bias is before.bias


def test_the_convolutions_of_gpt2_are_linear_layers_turned_over(fake: Any) -> None:
    from transformers.pytorch_utils import Conv1D

    module = torch.nn.Sequential(Conv1D(6, 4))
    turned = module[0].weight.detach().T.clone()
    pytorch._in_4_bits(module, pytorch._4_bit_config(IN_4_BITS, torch.float32))
    assert module[0].made[:2] == (4, 6)
    assert torch.equal(module[0].weight.data, turned)


def test_adapters_stay_what_they_are(fake: Any) -> None:
    peft = pytest.importorskip("peft")
    module = tiny_vit()
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj", "query", "value"])
    peft.get_peft_model(module.model, lora)
    pytorch._in_4_bits(module, pytorch._4_bit_config(IN_4_BITS, torch.float32))
    kinds = {n: type(p).__name__ for n, p in module.named_modules() if n.endswith(("base_layer", ".default"))}
    assert {kind for name, kind in kinds.items() if name.endswith("base_layer")} == {"FakeLinear"}
    assert {kind for name, kind in kinds.items() if ".lora_A." in name} == {"Linear"}


def test_a_module_without_linear_layers_has_nothing_to_quantize(fake: Any) -> None:
    with pytest.raises(StageError, match="no linear layers"):
        pytorch._in_4_bits(
            torch.nn.Sequential(torch.nn.Tanh()), pytorch._4_bit_config(IN_4_BITS, torch.float32)
        )


def test_bitsandbytes_itself_gives_nearly_the_same_outputs_on_the_cpu() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    if "cpu" not in bitsandbytes.supported_torch_devices:
        pytest.skip(f"bitsandbytes {bitsandbytes.__version__} has nothing for the CPU")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Tanh(), torch.nn.Linear(256, 64)).eval()
    x = torch.randn(4, 64)
    with torch.inference_mode():
        expected = module(x)
        quantized = pytorch._in_4_bits(module, pytorch._4_bit_config(IN_4_BITS, torch.float32)).to("cpu")
        seen = quantized(x)
    assert [str(part.weight.dtype) for part in quantized if hasattr(part, "weight")] == ["torch.uint8"] * 2
    cosine = torch.nn.functional.cosine_similarity(expected, seen).min()
    assert 0.95 < cosine < 0.99999
