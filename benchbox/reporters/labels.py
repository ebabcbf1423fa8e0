"""What a case is called: its path and its runtime, and the model and the shape that it is a case of.

`Case.title` is another name, which `--only` takes: logs and lists of commands use it, for it can be typed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchbox.results import columns
from benchbox.schema.asked import Case


@dataclass(frozen=True)
class Ran:
    """How a case ran, as the columns of the table have it: what its runtime is called by."""

    backend: str
    provider: str
    threads: int
    threads_inter_op: int
    provider_options: str
    opset: int
    dynamic_axes: bool

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Ran:
        """That of a row of the table."""
        return cls(
            backend=row["backend"],
            provider=row["provider"],
            threads=row["threads"],
            threads_inter_op=row["threads_inter_op"],
            provider_options=row["provider_options"],
            opset=row["opset_asked"],
            dynamic_axes=row["dynamic_axes"],
        )

    @classmethod
    def of_case(cls, case: Case) -> Ran:
        """That of a case, whether it has run or not."""
        cells = dict(zip(columns.CASE_NAMES, columns.of_case(case), strict=True))
        return cls.of_row({**cells, "opset_asked": case.opset})


# Said only where cases differ in it.
_EXTRAS: tuple[Callable[[Ran], str], ...] = (
    lambda ran: threads(ran.threads, ran.threads_inter_op),
    lambda ran: ran.provider_options,
    lambda ran: f"opset {ran.opset}",
    lambda ran: "dynamic axes" if ran.dynamic_axes else "static axes",
)


def runtime(ran: Ran) -> str:
    """`onnxruntime CPU`."""
    return f"{ran.backend} {short_provider(ran.provider)}".strip()


def runtimes(all_ran: Sequence[Ran]) -> tuple[str, ...]:
    """`onnxruntime CPU, 4 threads`: the runtime of each, and whatever else tells them apart."""
    said = [[say(ran) for say in _EXTRAS] for ran in all_ran]
    differ = [len(set(column)) > 1 for column in zip(*said, strict=True)]
    return tuple(
        ", ".join(
            filter(None, [runtime(ran), *(fact for fact, told in zip(facts, differ, strict=True) if told)])
        )
        for ran, facts in zip(all_ran, said, strict=True)
    )


def threads(intra_op: int, inter_op: int) -> str:
    """`1 thread`, `4 threads`; `4+2 threads` where operators run beside each other."""
    return f"{thread_counts(intra_op, inter_op)} thread{'s' if (intra_op, inter_op) != (1, 1) else ''}"


def thread_counts(intra_op: int, inter_op: int) -> str:
    """`4`; `4+2` where operators run beside each other."""
    return f"{intra_op}+{inter_op}" if inter_op > 1 else str(intra_op)


def short_provider(provider: str) -> str:
    """`CUDA` for `CUDAExecutionProvider`."""
    return provider.removesuffix("ExecutionProvider") or provider


def label(path: str, runtime: str) -> str:
    """`onnx + fp16 · onnxruntime CPU`: a case among those of its model and shape."""
    return f"{path} · {runtime}"


def in_full(heading: str, label: str) -> str:
    """`vit-base (random weights), batch=1: onnx · onnxruntime CPU`: a case among all others."""
    return f"{heading}: {label}"


def heading(model: str, weights: str, shape: str, run: str = "") -> str:
    """`vit-base (random weights), batch=1`: which model and shape; `run` is named where there are several."""
    return ": ".join(filter(None, (run, f"{model} ({weights} weights), {shape}")))


def heading_of(case: Case, run: str = "") -> str:
    """The heading that a case stands under."""
    return heading(case.model.name, case.model.weights, case.shape_label, run)


def short_titles(cases: Sequence[Case]) -> dict[str, str]:
    """Titles in the width of a terminal, by id: path and runtime, then what is not the same for all."""
    several_models = len({case.model.name for case in cases}) > 1
    differ = {name for case in cases for name, size in case.shape.items() if size != cases[0].shape.get(name)}
    return {
        case.id: " | ".join(
            [
                *([case.model.name] if several_models else []),
                case.path_label,
                runtime(Ran.of_case(case)),
                *(f"{name}={size}" for name, size in case.shape.items() if name in differ),
            ]
        )
        for case in cases
    }


def metric_name(name: str) -> str:
    """`top1 agreement`."""
    return name.replace("_", " ")
