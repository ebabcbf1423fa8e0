"""The families on the models of suites/small: what each is fed there, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchbox import plugins
from benchbox.build.reference import _run
from benchbox.plugins.contract import Evidence, Sample
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Outputs, Signature
from benchbox.suite.load import load_suite
from places import SUITES

_rng = np.random.default_rng(0)
PAIRS = [
    Sample(image=_rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), text=text)
    for text in ("a temple", "a flower in front of a very old red wall", "a dahlia")
]
"""Three images of noise, with a short text, a long one, and a shorter one."""


@dataclass(frozen=True, eq=False)
class Member:
    """A model of a family; its module, made once, at the shape and with the dataset that its suite says."""

    model: Model
    shape: Mapping[str, int]
    dataset: str

    @property
    def family(self) -> Any:
        return plugins.load("models", self.model.family)

    @cached_property
    def module(self) -> Any:
        return self.family.load(self.model)

    @property
    def signature(self) -> Signature:
        return self.family.signature(self.model, self.shape)

    @cached_property
    def feeds(self) -> Feeds:
        """What parity would be judged on: samples of the suite's dataset, at the suite's shape."""
        dataset = plugins.load("datasets", self.dataset)
        options = plugins.options(dataset, {})
        return self.fed(
            list(dataset.samples(options, count=self.shape["batch"], split="parity", seed=0)), **self.shape
        )

    def raw(self, samples: Sequence[Sample], **sizes: int) -> Feeds:
        """What the family makes of the samples without its module."""
        return self.family.feeds(self.model, samples, {**self.shape, "batch": len(samples), **sizes})

    def fed(self, samples: Sequence[Sample], **sizes: int) -> Feeds:
        feeds, derive = self.raw(samples, **sizes), getattr(self.family, "derive", None)
        shape = {**self.shape, "batch": len(samples), **sizes}
        return derive(self.model, self.module, feeds, shape) if derive else feeds

    def answers(self, feeds: Feeds | None = None, module: Any = None) -> Outputs:
        """The outputs by name, of `feeds` or of the member's own."""
        names = [spec.name for spec in self.signature.outputs]
        return _run(module or self.module, names, self.feeds if feeds is None else feeds)

    def written(self, feeds: Feeds | None = None) -> Outputs:
        """What is decoded from the answers; nothing where the family does not decode."""
        rollout = getattr(self.family, "rollout", None)
        return rollout(self.model, self.answers, self.feeds if feeds is None else feeds) if rollout else {}

    def metrics(self, reference: Outputs, candidate: Outputs, **rest: Any) -> Mapping[str, float]:
        return self.family.metrics(self.model, Evidence(rest.pop("feeds", {}), reference, candidate, **rest))

    def but(self, **changes: Any) -> Member:
        """The same with another model; `config` is laid over that of the suite."""
        if changes.get("config"):
            changes["config"] = {**self.model.config, **changes["config"]}
        return replace(self, model=replace(self.model, **changes))

    def attentive(self) -> Member:
        """The one that gives its attention; an IDEFICS has some over patches only without its perceiver."""
        perceives = self.model.family == "idefics"
        return self.but(attention=True, **({"config": {"use_resampler": False}} if perceives else {}))

    def saved(self, folder: Path) -> Member:
        """The member that is loaded from where this one's module is saved."""
        self.family.save(self.module, folder)
        return self.but(source=str(folder), weights="pretrained", config={})


@cache
def members() -> Mapping[str, Member]:
    """Each model of suites/small by its name, in the order of files."""
    found: dict[str, Member] = {}
    for file in sorted((SUITES / "small").glob("*.yaml")):
        suite = load_suite(file)
        for case in suite.cases:
            model = case.model.located_from(suite.folder)
            found.setdefault(model.name, Member(model, case.shape, case.dataset.word))
    return found


def small(name: str, **changes: Any) -> Member:
    """The member of that name, which all tests share; another one where something is to be changed."""
    return members()[name].but(**changes) if changes else members()[name]


def parameters(model: Model) -> int:
    """How many the module has, counted without memory for them."""
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in plugins.load("models", model.family).load(model).parameters())
