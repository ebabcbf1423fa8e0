"""Gradient parity: directional derivatives by central differences, where a graph has no autograd. numpy only.

The derivative along v of s(x) = <w, f(x)> is (s(x + hv) - s(x - hv)) / 2h + O(h^2 s'''). Outputs are fp32; s
is summed in float64, and the step is the one that is really taken once x + hv is rounded to fp32. With noise
e in s, the error is least at h = (3 e / |s'''|)^(1/3) (Nocedal and Wright, Numerical Optimization, 2nd ed.,
section 8.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbox.numerics import arrays

if TYPE_CHECKING:
    from benchbox.schema.tensors import Array, Feeds, Forward, Outputs
else:
    Array = Feeds = Outputs = Forward = Any

Direction = Mapping[str, Array]

GRADIENT = "gradient.npz"
"""The file of a reference that holds its probe."""

# Where s''' is read, relative to the length of the input: wide enough to rise out of the noise of fp32,
# narrow enough for the curve to be still a cubic (on a ViT the differences begin to leave it at a tenth).
_COARSE = 0.03
# Where the noise is read: s is a straight line there to far below fp32.
_FINE = 1e-5
# Steps beyond these, relative to the length of the input, are no derivative any more, or nothing but noise.
_LEAST, _MOST = 1e-4, 0.05


@dataclass(frozen=True)
class Probe:
    """What is differentiated: `directions` have unit length over all continuous inputs together; `cotangents`
    weigh the outputs; `derivatives` are the reference's, one a direction, by autograd; `step` is h."""

    feeds: Feeds
    directions: Sequence[Direction]
    cotangents: Outputs
    derivatives: Sequence[float]
    step: float

    def save(self, file: Path) -> None:
        """Writes an .npz that `load` reads."""
        import numpy as np

        stacked = {name: np.stack([d[name] for d in self.directions]) for name in self.directions[0]}
        np.savez(
            file,
            derivatives=np.asarray(self.derivatives),
            step=np.asarray(self.step),
            **arrays.prefixed("in:", self.feeds),
            **arrays.prefixed("cotangent:", self.cotangents),
            **arrays.prefixed("direction:", stacked),
        )

    @classmethod
    def load(cls, file: Path) -> Probe:
        """The inverse of `save`; objects are refused."""
        stored = arrays.load(file)
        stacked = arrays.without_prefix("direction:", stored)
        count = len(stored["derivatives"])
        return cls(
            feeds=arrays.without_prefix("in:", stored),
            directions=[{name: a[index] for name, a in stacked.items()} for index in range(count)],
            cotangents=arrays.without_prefix("cotangent:", stored),
            derivatives=[float(value) for value in stored["derivatives"]],
            step=float(stored["step"]),
        )


def continuous(feeds: Feeds) -> tuple[str, ...]:
    """The inputs along which there is a derivative: those of floating point."""
    return tuple(name for name, array in feeds.items() if array.dtype.kind == "f")


def directions(feeds: Feeds, count: int, seed: int) -> list[Direction]:
    """`count` random directions over the continuous inputs together, each of unit length."""
    import numpy as np

    rng = np.random.default_rng([seed, count])
    found: list[Direction] = []
    for _ in range(count):
        raw = {name: rng.standard_normal(feeds[name].shape) for name in continuous(feeds)}
        length = np.sqrt(sum(float(np.sum(a * a)) for a in raw.values()))
        found.append({name: (a / length).astype(np.float32) for name, a in raw.items()})
    return found


def cotangents(outputs: Outputs, seed: int) -> Outputs:
    """Random weights for the outputs of floating point, of unit length over all of them together."""
    import numpy as np

    rng = np.random.default_rng([seed])
    raw = {name: rng.standard_normal(a.shape) for name, a in outputs.items() if a.dtype.kind == "f"}
    length = np.sqrt(sum(float(np.sum(a * a)) for a in raw.values()))
    return {name: (a / length).astype(np.float32) for name, a in raw.items()}


def choose_step(run: Forward, feeds: Feeds, along: Sequence[Direction], weights: Outputs) -> float:
    """h = (3 e / |s'''|)^(1/3) for the median direction: e is the noise that second differences show at a
    step so small that nothing else is left of them, s''' comes from a stencil of four points at a coarse
    step."""
    import numpy as np

    length = float(np.sqrt(sum(np.sum(feeds[n].astype(np.float64) ** 2) for n in continuous(feeds)))) or 1.0
    fine, coarse = _FINE * length, _COARSE * length

    def weighed_at(direction: Direction, step: float) -> float:
        return _weighed(run(_moved(feeds, direction, step)), weights)

    middle = weighed_at(along[0], 0.0)
    noises, thirds = [], []
    for direction in along:
        second = weighed_at(direction, fine) - 2 * middle + weighed_at(direction, -fine)
        noises.append(abs(second) / np.sqrt(6.0))  # variances 1 + 4 + 1
        outer = weighed_at(direction, 2 * coarse) - weighed_at(direction, -2 * coarse)
        inner = weighed_at(direction, coarse) - weighed_at(direction, -coarse)
        thirds.append(abs(outer - 2 * inner) / (2 * coarse**3))
    third = float(np.median(thirds))
    best = (3 * float(np.median(noises)) / third) ** (1 / 3) if third > 0 else _MOST * length
    return float(np.clip(best, _LEAST * length, _MOST * length))


def differences(run: Forward, probe: Probe) -> list[float]:
    """The derivative along each direction, by central differences."""
    return [_difference(run, probe, direction) for direction in probe.directions]


def error(reference: Sequence[float], candidate: Sequence[float]) -> float:
    """How far the candidate's derivatives are from the reference's, as vectors: |c - r| / |r|.

    NaN where the candidate is not finite. A single direction may be nearly level, where a ratio of its own
    says nothing; together they are not.
    """
    import numpy as np

    r, c = np.asarray(reference), np.asarray(candidate)
    if not np.isfinite(c).all():
        return float("nan")
    length = float(np.linalg.norm(r))
    return float(np.linalg.norm(c - r) / length) if length > 0 else float(np.linalg.norm(c) > 0)


def _difference(run: Forward, probe: Probe, direction: Direction) -> float:
    import numpy as np

    ahead = _moved(probe.feeds, direction, probe.step)
    behind = _moved(probe.feeds, direction, -probe.step)
    taken = sum(
        float(np.sum((ahead[n].astype(np.float64) - behind[n]) * direction[n].astype(np.float64)))
        for n in direction
    )
    rise = _weighed(run(ahead), probe.cotangents) - _weighed(run(behind), probe.cotangents)
    return rise / taken


def _moved(feeds: Feeds, direction: Direction, step: float) -> Feeds:
    return {
        name: (array + step * direction[name]).astype(array.dtype) if name in direction else array
        for name, array in feeds.items()
    }


def _weighed(outputs: Outputs, weights: Outputs) -> float:
    """<w, f>, summed in float64."""
    import numpy as np

    return sum(float(np.sum(outputs[n].astype(np.float64) * weights[n].astype(np.float64))) for n in weights)
