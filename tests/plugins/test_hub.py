"""Models at the hub: one commit is what is built, keyed and recorded. The hub is the cache that it leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
from safetensors.numpy import load_file, save_file

import cases
import places
from benchbox.build.artifacts import artifact_of, build_artifact
from benchbox.build.keys import artifact_keys, of_hub
from benchbox.errors import StageError, SuiteError
from benchbox.plugins import hub
from benchbox.plugins.models import _pretrained, vit
from benchbox.schema.asked import Dataset, Lora, Model
from benchbox.schema.seen import Host
from benchbox.suite.load import parse_suite

DIGITS = places.SUITES / "digits"
FIRST, SECOND = "a" * 40, "b" * 40
TRAINED = Model("digits", "vit", "acme/digits", "image-classification", weights="pretrained")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache of this machine, empty; there is no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def holds(cache: Path, name: str, commit: str, source: Path, branch: str = "main") -> None:
    """The cache as it is after `name` was fetched at that commit, to which the branch points."""
    folder = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(source, folder / "snapshots" / commit, dirs_exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / branch).write_text(commit)


@pytest.fixture
def further(tmp_path: Path) -> Path:
    """The same model, trained further: its weights are half of what they were."""
    folder = tmp_path / "further"
    shutil.copytree(DIGITS / "base", folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: array / 2 for name, array in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder


@pytest.mark.parametrize(
    ("text", "is_id"),
    [
        ("gpt2", True),
        ("google/vit-base-patch16-224", True),
        ("google/vit-base-patch16-224@refs/pr/3", True),
        (f"google/vit-base-patch16-224@{FIRST}", True),
        ("./base", False),
        ("../base", False),
        ("~/base", False),
        ("/data/base", False),
        ("a/b/c", False),
        ("owner/name@", False),
    ],
)
def test_what_is_a_hub_id(text: str, is_id: bool) -> None:
    assert hub.is_id(text) is is_id


def test_a_suite_may_name_a_revision() -> None:
    text = """
models: {family: vit, source: acme/digits@v2, weights: pretrained, lora: acme/adapter@main}
paths: [torch]
backends: [pytorch]
inputs: {dataset: sample_images}
"""
    model = parse_suite(text, "s.yaml").cases[0].model
    assert (model.source, model.lora, model.name) == (
        "acme/digits@v2",
        (Lora("acme/adapter@main"),),
        "digits@v2",
    )
    with pytest.raises(SuiteError, match=r"'acme/digits@' is neither a hub id \(owner/name, owner/name@rev"):
        parse_suite(text.replace("digits@v2", "digits@"), "s.yaml")


def test_a_name_stands_for_the_commit_that_is_here(hub_cache: Path, further: Path) -> None:
    assert hub.split("acme/digits") == ("acme/digits", None)
    assert hub.split("acme/digits@v2") == ("acme/digits", "v2")
    holds(hub_cache, "acme/digits", FIRST, DIGITS / "base")
    holds(hub_cache, "acme/digits", SECOND, further, branch="v2")
    assert hub.split("acme/digits") == ("acme/digits", FIRST)
    assert hub.split("acme/digits@v2") == ("acme/digits", SECOND)
    assert hub.split(f"acme/digits@{FIRST}") == ("acme/digits", FIRST)
    assert hub.split("/data/acme@home/digits") == ("/data/acme@home/digits", None)


def test_an_adapter_has_a_commit_too(hub_cache: Path) -> None:
    holds(hub_cache, "acme/adapter", FIRST, DIGITS / "lora-r4")
    assert hub.commit("acme/adapter") == FIRST


def test_another_commit_is_another_artifact(hub_cache: Path, further: Path) -> None:
    """Weights that were trained further under the same name are not found under the old key."""

    def key_of(model: Model) -> str:
        return artifact_keys(cases.case("torch", model=model), Host(frozenset()))[0]

    holds(hub_cache, "acme/digits", FIRST, DIGITS / "base")
    before = key_of(TRAINED)
    assert key_of(TRAINED) == before
    holds(hub_cache, "acme/digits", SECOND, further)
    assert key_of(TRAINED) != before


def test_what_is_loaded_is_of_the_commit_that_is_in_the_key(hub_cache: Path, further: Path) -> None:
    """The branch points to one commit, the suite says another."""
    holds(hub_cache, "acme/digits", SECOND, further, branch="v2")
    holds(hub_cache, "acme/digits", FIRST, DIGITS / "base")

    def first_weight(source: str) -> float:
        module = vit.load(Model("m", "vit", source, "image-classification", weights="pretrained"))
        return float(next(iter(module.state_dict().values())).flatten()[0])

    assert first_weight("acme/digits") == first_weight(str(DIGITS / "base"))
    assert first_weight("acme/digits@v2") == first_weight(str(further))
    assert first_weight("acme/digits") != first_weight("acme/digits@v2")


def test_the_commit_is_recorded(hub_cache: Path, tmp_path: Path) -> None:
    from benchbox.build.cache import Cache

    holds(hub_cache, "acme/digits", FIRST, DIGITS / "base")
    images = Dataset("random", {"height": 8, "width": 8})  # the model's processor scales none
    case = cases.case("torch", model=TRAINED, dataset=images, shape={"batch": 1, "image_size": 8})
    entry = build_artifact(case, Cache(tmp_path / "cache"), Host(frozenset()))
    assert artifact_of(entry).facts["commits"] == {"acme/digits": FIRST}


def test_without_network_and_without_a_copy_there_is_no_model(hub_cache: Path) -> None:
    with pytest.raises(StageError, match=r"^'acme/digits' cannot be had from the hub: "):
        hub.fetch("acme/digits", hub.CONFIG)
    holds(hub_cache, "acme/digits", FIRST, DIGITS / "base")
    hub.fetch("acme/digits", hub.CONFIG)


def test_random_weights_ask_no_hub(hub_cache: Path) -> None:
    assert list(of_hub(cases.MODEL)) == []


def test_a_folder_without_an_image_processor_says_what_to_save(tmp_path: Path) -> None:
    shutil.copytree(DIGITS / "base", tmp_path / "base")
    (tmp_path / "base" / "preprocessor_config.json").unlink()
    model = Model("m", "vit", str(tmp_path / "base"), "image-classification", weights="pretrained")
    with pytest.raises(StageError) as caught:
        _pretrained.image_processor(model, "ViTImageProcessor")
    assert caught.value.reason == (
        f"{tmp_path}/base has no preprocessor_config.json, so nobody knows how to make its images ready. "
        "Save the model's image processor there too, with its save_pretrained"
    )
