"""A model trained on the digits of benchbox's dataset: what is tuned, how long, and the log of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoImageProcessor

from benchbox.plugins.datasets import digits

THREADS = 1  # a part of the recipe: with more, sums are taken in another order

_BLACK = -1.0  # what a pixel of 0 is after the processor's rescaling: ink is white on black here
_EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Recipe:
    """How it is trained: AdamW, one cycle of the learning rate, and a moving average of the weights.

    Each time it is seen, an image is shifted by up to `max_shift` pixels, turned by up to `max_degrees`,
    scaled by up to `max_scaling`, and gets up to `mixing` of another image into it. `average_decay` is that
    of the average per step; the average is what is tested and kept.
    """

    seed: int
    epochs: int
    learning_rate: float
    batch: int = 64
    weight_decay: float = 0.05
    warm_up_share: float = 0.2
    label_smoothing: float = 0.1
    max_shift: float = 1.0
    max_degrees: float = 10.0
    max_scaling: float = 0.1
    mixing: float = 0.3
    gradient_clip: float = 1.0
    average_decay: float = 0.99


@dataclass(frozen=True)
class Data:
    """Pixel values as the model takes them, (n, 3, 8, 8) float32, and labels, (n,) int64."""

    train: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Epoch:
    """One pass through the training split. `test_accuracy` is logged, and nothing is chosen by it."""

    epoch: int
    learning_rate: float
    train_loss: float
    test_accuracy: float


@dataclass(frozen=True)
class Training:
    """What came of it; the module that was passed in holds the averaged weights now."""

    epochs: tuple[Epoch, ...]
    seconds: float
    cpu_seconds: float

    @property
    def test_accuracy(self) -> float:
        """At the end, not at the best epoch."""
        return self.epochs[-1].test_accuracy


def start(seed: int) -> None:
    """The same numbers from the same seed."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def data(processor: Path, task: digits.Task, *, validate: bool = False) -> Data:
    """Both splits through the processor of that folder.

    `validate` keeps 360 images of the training split aside and puts them in the place of the test split: that
    is what recipes are chosen by, so that the test split is not chosen by either.
    """
    train, test = (_tensors(processor, digits.part(name, task)) for name in ("train", "test"))
    if not validate:
        return Data(train, test)
    order = torch.randperm(len(train[1]), generator=torch.Generator().manual_seed(0))
    kept, aside = order[360:], order[:360]
    return Data((train[0][kept], train[1][kept]), (train[0][aside], train[1][aside]))


def train(module: Any, digit_data: Data, recipe: Recipe) -> Training:
    """Trains the parameters that want a gradient, and leaves their moving average in the module."""
    started, started_cpu = time.perf_counter(), time.process_time()
    run = _Run(module, recipe, len(digit_data.train[1]))
    epochs = []
    for number in range(1, recipe.epochs + 1):
        rate = run.schedule.get_last_lr()[0]
        loss = run.epoch(*digit_data.train)
        with run.average.in_place_of(run.tuned):
            found = accuracy(module, digit_data.test)
        epochs.append(Epoch(number, rate, loss, found))
    run.average.write_to(run.tuned)
    return Training(tuple(epochs), time.perf_counter() - started, time.process_time() - started_cpu)


def accuracy(module: Any, split: tuple[torch.Tensor, torch.Tensor]) -> float:
    """The share of images whose highest logit is that of their label."""
    images, labels = split
    module.eval()
    with torch.inference_mode():
        found = [module(pixel_values=b).logits.argmax(-1) for b in images.split(_EVALUATION_BATCH)]
    return float((torch.cat(found) == labels).double().mean())


class _Run:
    """A module on its way: optimizer, schedule, the average of its weights, and the run's own randomness."""

    def __init__(self, module: Any, recipe: Recipe, images: int) -> None:
        self.module = module
        self.recipe = recipe
        self.tuned = [p for p in module.parameters() if p.requires_grad]
        self.average = _Average(self.tuned, recipe.average_decay)
        self.random = torch.Generator().manual_seed(recipe.seed)
        self.optimizer = torch.optim.AdamW(self.tuned, recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            recipe.learning_rate,
            total_steps=recipe.epochs * -(-images // recipe.batch),
            pct_start=recipe.warm_up_share,
        )

    def epoch(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Every image once, in a new order. The mean loss."""
        self.module.train()
        total = 0.0
        for batch in torch.randperm(len(labels), generator=self.random).split(self.recipe.batch):
            total += self._step(images[batch], labels[batch]) * len(batch)
        return total / len(labels)

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        wanted = functional.one_hot(labels, self.module.config.num_labels).float()
        mixed, wanted = _mixed(_moved(images, self.recipe, self.random), wanted, self.recipe, self.random)
        logits = self.module(pixel_values=mixed).logits
        loss = functional.cross_entropy(logits, wanted, label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.tuned, self.recipe.gradient_clip)
        self.optimizer.step()
        self.schedule.step()
        self.average.add(self.tuned)
        return float(loss.detach())


class _Average:
    """A moving average of parameters, corrected for its start as Adam's are."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._sums = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def add(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Another step."""
        self._steps += 1
        for total, parameter in zip(self._sums, parameters, strict=True):
            total.lerp_(parameter, 1 - self._decay)

    @torch.no_grad()
    def write_to(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Leaves the average in the parameters."""
        for total, parameter in zip(self._sums, parameters, strict=True):
            parameter.copy_(total / (1 - self._decay**self._steps))

    @contextmanager
    def in_place_of(self, parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
        """The average in the parameters for as long as the context lasts."""
        own = [p.detach().clone() for p in parameters]
        self.write_to(parameters)
        yield
        with torch.no_grad():
            for parameter, value in zip(parameters, own, strict=True):
                parameter.copy_(value)


def _tensors(processor: Path, part: digits.Part) -> tuple[torch.Tensor, torch.Tensor]:
    images = AutoImageProcessor.from_pretrained(processor)(images=list(part.images), return_tensors="pt")
    return images["pixel_values"], torch.tensor(part.labels)


def _moved(images: torch.Tensor, recipe: Recipe, random: torch.Generator) -> torch.Tensor:
    """Each image shifted, turned and scaled by amounts of its own; what comes in is black."""
    count, side = len(images), images.shape[-1]
    angles = _within(count, math.radians(recipe.max_degrees), random)
    scales = 1 + _within(count, recipe.max_scaling, random)
    matrices = torch.zeros(count, 2, 3)
    matrices[:, 0, 0] = matrices[:, 1, 1] = scales * angles.cos()
    matrices[:, 1, 0] = scales * angles.sin()
    matrices[:, 0, 1] = -matrices[:, 1, 0]
    matrices[:, :, 2] = _within((count, 2), recipe.max_shift * 2 / side, random)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images - _BLACK, grid, align_corners=False) + _BLACK


def _mixed(
    images: torch.Tensor, wanted: torch.Tensor, recipe: Recipe, random: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image with a share of another in it, and what is wanted of it too (mixup, Zhang et al. 2018)."""
    other = torch.randperm(len(images), generator=random)
    share = torch.rand(len(images), 1, generator=random) * recipe.mixing
    return images.lerp(images[other], share[..., None, None]), wanted.lerp(wanted[other], share)


def _within(size: Any, most: float, random: torch.Generator) -> torch.Tensor:
    """Uniform between -most and most."""
    return (torch.rand(size, generator=random) * 2 - 1) * most
