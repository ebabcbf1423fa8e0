"""Numbers beside a neighbour: the same suite quiet and shaken, in turn, and what of it differs.

    python tests/perf/shaking.py [--pairs 3] [--neighbour bursts|always|nice|stop]

`bursts` takes one core for 0.2 to 2 s at a time, half of the time; `always` never stops; `nice` never stops
either, at nice 19; `stop` stops a worker for 5 s now and then. The suite has ViT-base at batch 1 along four
paths, and a model of about 1 ms.

Exit code 1 where a row's median is more than 5 % from its quiet twin (the median of the pairs), where a pair
of rows that is 20 % or more apart quiet has another verdict, or where a run takes more than twice as long.
Beside a neighbour that never stops only a wrong verdict fails: faster for slower, or the other way round.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

import benchbox
from benchbox.reporters import quietness

SUITE = """
models:
  - {name: vit-base, family: vit, source: google/vit-base-patch16-224, weights: random, seed: 0}
  - name: vit-1ms
    family: vit
    source: google/vit-base-patch16-224
    weights: random
    config: {hidden_size: 64, num_hidden_layers: 4, num_attention_heads: 4, intermediate_size: 256}
paths: [torch, [onnx], [onnx, int8_dynamic], [onnx, int8_static]]
backends: [pytorch, onnxruntime]
inputs: {dataset: sample_images, batch: 1, image_size: 224}
measure: {budget_seconds: 5, min_rounds: 1, replicates: 3, most_replicates: 3}
"""
BURSTS = """
import random, time
random.seed(1)
while True:
    until = time.monotonic() + random.uniform(0.2, 2)
    while time.monotonic() < until:
        sum(i * i for i in range(1000))
    time.sleep(random.uniform(0.2, 2))
"""
ALWAYS = "while True: sum(i * i for i in range(1000))"
FARTHEST, APART, SLOWEST = 0.05, 0.20, 2.0


class Run(NamedTuple):
    """Medians in ms and verdicts over the baseline by row, how long it took, and what the report says
    first."""

    p50_ms: Mapping[str, float]
    ratio: Mapping[str, float]
    verdict: Mapping[str, str]
    seconds: float
    said: tuple[str, ...]


def main() -> int:
    """Prints a line a row; 0 where the neighbour changed nothing that matters."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "shaking.yaml"
        suite.write_text(SUITE)
        _run(suite, Path(folder))  # everything is built
        pairs = []
        for _ in range(asked.pairs):
            quiet = _run(suite, Path(folder))
            with _neighbour(asked.neighbour):
                pairs.append((quiet, _run(suite, Path(folder))))
    return _judge(pairs, forgiving=asked.neighbour == "always")


def _run(suite: Path, folder: Path) -> Run:
    begun = time.monotonic()
    finished = benchbox.run(suite, results=folder / "results", reports=None)
    seconds = time.monotonic() - begun
    runs = benchbox.load_results(finished.folder)
    table = runs.to_pandas()
    rows = (table["model"] + " " + table["path"]).tolist()
    return Run(
        dict(zip(rows, table["p50_ms"], strict=True)),
        dict(zip(rows, table["ratio"], strict=True)),
        dict(zip(rows, table["verdict"], strict=True)),
        seconds,
        quietness.of_runs(runs),
    )


@contextlib.contextmanager
def _neighbour(kind: str) -> Iterator[None]:
    if kind == "stop":
        yield from _stopping()
        return
    code = BURSTS if kind == "bursts" else ALWAYS
    nice = 19 if kind == "nice" else 0
    process = subprocess.Popen(["nice", "-n", str(nice), sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _stopping() -> Iterator[None]:
    """Every ten seconds one of our workers is stopped for five."""
    end = threading.Event()

    def stop() -> None:
        while not end.wait(10):
            workers = _workers()
            if not workers:
                continue
            worker = random.choice(workers)
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGSTOP)
                end.wait(5)
                os.kill(worker, signal.SIGCONT)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _workers() -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "benchbox.measure.worker"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(pid) for pid in found.stdout.split()]


def _judge(pairs: list[tuple[Run, Run]], *, forgiving: bool) -> int:
    wrong = 0
    for row in pairs[0][0].p50_ms:
        off = median(shaken.p50_ms[row] / quiet.p50_ms[row] for quiet, shaken in pairs) - 1
        ratio = median(quiet.ratio[row] for quiet, _ in pairs)
        words = [(quiet.verdict[row], shaken.verdict[row]) for quiet, shaken in pairs]
        apart = abs(ratio - 1) >= APART
        changed = sum(first != second for first, second in words) if apart else 0
        opposite = sum({first, second} == {"faster", "slower"} for first, second in words)
        bad = bool(opposite) or (not forgiving and (abs(off) > FARTHEST or changed > len(pairs) // 2))
        wrong += bad
        print(
            f"{'BAD ' if bad else 'ok  '} {row:28} quiet {median(q.p50_ms[row] for q, _ in pairs):8.2f} ms, "
            f"shaken {off:+.1%}; ratio {ratio:.2f}, verdicts {words}"
        )
    longer = median(shaken.seconds / quiet.seconds for quiet, shaken in pairs)
    print(f"wall-clock: {longer:.2f} times as long ({median(q.seconds for q, _ in pairs):.0f} s quiet)")
    print("quiet runs said:", [sentence for quiet, _ in pairs for sentence in quiet.said])
    print("shaken runs said:", [sentence for _, shaken in pairs for sentence in shaken.said])
    return 1 if wrong or (not forgiving and longer > SLOWEST) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--neighbour", choices=["bursts", "always", "nice", "stop"], default="bursts")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
