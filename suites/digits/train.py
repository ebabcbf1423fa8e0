"""Trains what this folder holds: a small ViT on handwritten digits, and LoRA adapters to turned ones.

    python suites/digits/train.py all

Everything comes from a seed. The test images (benchbox.datasets.digits says which) are never trained on.
Needs `pip install "benchbox[cpu]"`, no network and no GPU.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import plots
import training
from peft import LoraConfig, get_peft_model
from training import Recipe, Training
from transformers import ViTConfig, ViTForImageClassification, logging

from benchbox.plugins.datasets import digits

FOLDER = Path(__file__).resolve().parent
RANKS = (4, 8, 16, 32, 64)
SHIFTED: digits.Task = "rotated"

ARCHITECTURE = {
    "image_size": 8,
    "patch_size": 2,
    "num_channels": 3,
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "num_labels": 10,
    "initializer_range": 0.1,
}
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": False,
    "size": {"height": 8, "width": 8},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}

# Chosen by `--validate`, which tests on training images that were put aside. A LoRA factor starts at zero, so
# it takes a larger step than weights that were trained before.
BASE = Recipe(seed=0, epochs=100, learning_rate=2e-3)
FULL = Recipe(seed=0, epochs=50, learning_rate=1e-3, mixing=0.0)
LORA = Recipe(seed=0, epochs=50, learning_rate=5e-3, weight_decay=0.0, mixing=0.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    given = _parser().parse_args(arguments)
    given.command(given)


def base(given: argparse.Namespace) -> None:
    """The ViT on upright digits: base/."""
    folder = given.out / "base"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "preprocessor_config.json", PROCESSOR)
    recipe = _recipe(BASE, given)
    training.start(recipe.seed)
    module = ViTForImageClassification(ViTConfig(**ARCHITECTURE, attn_implementation="eager"))
    done = training.train(module, _data(given, "upright"), recipe)
    module.save_pretrained(folder)
    _log(folder, module, done, {"task": "upright", "recipe": asdict(recipe)})


def full(given: argparse.Namespace) -> None:
    """All weights of the base tuned on turned digits; only the log is kept: full/."""
    recipe = _recipe(FULL, given)
    training.start(recipe.seed)
    module = _base(given.out)
    done = training.train(module, _data(given, SHIFTED), recipe)
    _log(given.out / "full", module, done, {"task": SHIFTED, "recipe": asdict(recipe)})


def lora(given: argparse.Namespace) -> None:
    """A LoRA adapter of one rank on turned digits, as PEFT saves it: lora-r<rank>/."""
    folder = given.out / f"lora-r{given.rank}"
    recipe = _recipe(LORA, given)
    training.start(recipe.seed)
    module = get_peft_model(_base(given.out), adapter_config(given.rank))
    module.peft_config["default"].base_model_name_or_path = "../base"  # not where it lies on this machine
    done = training.train(module, _data(given, SHIFTED), recipe)
    module.save_pretrained(folder)
    (folder / "README.md").unlink()  # PEFT's model card: headings that say "More Information Needed"
    _log(folder, module, done, {"task": SHIFTED, "rank": given.rank, "recipe": asdict(recipe)})


def sweep(given: argparse.Namespace) -> None:
    """An adapter of every rank, and what size and accuracy came of each: rank_sweep.json."""
    for rank in RANKS:
        given.rank = rank
        lora(given)
    unadapted = training.accuracy(_base(given.out), _data(given, SHIFTED).test)
    ranks = [_summary(given.out / f"lora-r{rank}") for rank in RANKS]
    _write(given.out / "rank_sweep.json", {"task": SHIFTED, "base_accuracy": unadapted, "ranks": ranks})


def draw(given: argparse.Namespace) -> None:
    """The curves of the logs that are there: plots/*.svg."""
    folder = given.out / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    logs = {name: _read(given.out / name / "training.json") for name in ("base", "full", "lora-r16")}
    ranks = _read(given.out / "rank_sweep.json")["ranks"]
    both = [("LoRA, r=16", logs["lora-r16"], plots.BLUE), ("full fine-tuning", logs["full"], plots.ORANGE)]
    (folder / "base.svg").write_text(plots.figure(_curves([("ViT from scratch", logs["base"], plots.BLUE)])))
    (folder / "lora_and_full.svg").write_text(plots.figure(_curves(both)))
    (folder / "rank_sweep.svg").write_text(plots.figure(_over_rank(ranks)))


def everything(given: argparse.Namespace) -> None:
    """base, full, sweep and plots, in this order."""
    for command in (base, full, sweep, draw):
        command(given)


def adapter_config(rank: int) -> LoraConfig:
    """LoRA on query and value, scaled by alpha / rank = 2 at every rank; the head stays as it is."""
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=["q_proj", "v_proj"],
        lora_dropout=0.0,
        bias="none",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to, instead of this one")
    parser.add_argument("--seed", type=int, help="instead of the recipe's 0")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's own")
    parser.add_argument("--learning-rate", type=float, help="instead of the recipe's own")
    parser.add_argument(
        "--validate", action="store_true", help="test on training images put aside; to choose a recipe by"
    )
    commands: dict[str, Callable[[argparse.Namespace], None]] = {
        "base": base,
        "lora": lora,
        "full": full,
        "sweep": sweep,
        "plots": draw,
        "all": everything,
    }
    words = parser.add_subparsers(required=True, metavar="command")
    for word, command in commands.items():
        help_text = (command.__doc__ or "").partition("\n")[0]
        one = words.add_parser(word, help=help_text, description=help_text)
        one.set_defaults(command=command)
        if command is lora:
            one.add_argument("--rank", type=int, default=16, help="16 by default; alpha is twice the rank")
    return parser


def _recipe(recipe: Recipe, given: argparse.Namespace) -> Recipe:
    asked = {name: getattr(given, name) for name in ("seed", "epochs", "learning_rate")}
    return replace(recipe, **{name: value for name, value in asked.items() if value is not None})


def _base(out: Path) -> Any:
    """Eager attention: at 17 tokens it is quicker to train than the fused one."""
    return ViTForImageClassification.from_pretrained(out / "base", attn_implementation="eager")


def _data(given: argparse.Namespace, task: digits.Task) -> training.Data:
    return training.data(given.out / "base", task, validate=given.validate)


def _log(folder: Path, module: Any, done: Training, about: dict[str, Any]) -> None:
    """training.json: what was done with which versions, what it came to, and every epoch."""
    parameters = sum(p.numel() for p in module.parameters())
    tuned = sum(p.numel() for p in module.parameters() if p.requires_grad)
    folder.mkdir(parents=True, exist_ok=True)
    log = {
        **about,
        "parameters": parameters,
        "trainable_parameters": tuned,
        "trainable_share": tuned / parameters,
        "test_accuracy": done.test_accuracy,
        "seconds": done.seconds,
        "cpu_seconds": done.cpu_seconds,
        "packages": {name: version(name) for name in ("torch", "transformers", "peft", "scikit-learn")},
        "epochs": [asdict(epoch) for epoch in done.epochs],
    }
    _write(folder / "training.json", log)
    said = f"{done.test_accuracy:.2%} right, {tuned:,} parameters, {done.cpu_seconds:.0f} s of CPU time"
    print(f"{folder.name}: {said}", flush=True)  # noqa: T201 - a script's own output; the package has none


def _summary(folder: Path) -> dict[str, Any]:
    log = _read(folder / "training.json")
    kept = ("rank", "trainable_parameters", "trainable_share", "test_accuracy")
    size = (folder / "adapter_model.safetensors").stat().st_size
    return {**{name: log[name] for name in kept}, "adapter_bytes": size}


def _curves(logs: Sequence[tuple[str, Any, str]]) -> list[plots.Panel]:
    """Loss and accuracy over the epochs."""

    def series(value: str, factor: float) -> list[plots.Series]:
        return [
            plots.Series(label, [(e["epoch"], e[value] * factor) for e in log["epochs"]], colour)
            for label, log, colour in logs
        ]

    return [
        plots.Panel(
            "Loss on training images (smoothed labels)",
            "epoch",
            "cross-entropy",
            series("train_loss", 1),
            y_from=0.0,
        ),
        plots.Panel(
            "Accuracy on test images", "epoch", "%", series("test_accuracy", 100), y_from=0.0, y_to=100.0
        ),
    ]


def _over_rank(ranks: Sequence[dict[str, Any]]) -> list[plots.Panel]:
    """Size and accuracy; ranks double from one to the next, so they stand at even distances."""
    ticks = {float(index): str(one["rank"]) for index, one in enumerate(ranks)}
    sizes = [(float(i), one["adapter_bytes"] / 1024) for i, one in enumerate(ranks)]
    accuracies = [(float(i), one["test_accuracy"] * 100) for i, one in enumerate(ranks)]
    size = plots.Series("adapter_model.safetensors", sizes, plots.ORANGE, dots=True)
    accuracy = plots.Series("LoRA on query and value", accuracies, plots.BLUE, dots=True)
    return [
        plots.Panel("Size of the adapter", "rank", "KiB", [size], ticks, y_from=0.0),
        plots.Panel(
            "Accuracy on turned test images", "rank", "%", [accuracy], ticks, y_from=90.0, y_to=100.0
        ),
    ]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
