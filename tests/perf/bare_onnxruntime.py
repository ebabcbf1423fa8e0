"""A bare `session.run` loop: what benchbox's numbers are held against. Knows nothing of benchbox.

    python bare_onnxruntime.py MODEL.onnx FEEDS.npz THREADS

For each line on stdin, a number of seconds: one call for the cold caches, then calls for so long; answers
with a line of JSON, the latencies in nanoseconds. At the end of stdin it prints its peak memory in bytes.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

model, feeds_file, threads = sys.argv[1:]
feeds = dict(np.load(feeds_file))
options = ort.SessionOptions()
options.intra_op_num_threads = int(threads)
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
print("ready", flush=True)
for line in sys.stdin:
    session.run(None, feeds)
    latencies = []
    end = time.perf_counter_ns() + int(float(line) * 1e9)
    while not latencies or time.perf_counter_ns() < end:
        started = time.perf_counter_ns()
        session.run(None, feeds)
        latencies.append(time.perf_counter_ns() - started)
    print(json.dumps(latencies), flush=True)
status = Path("/proc/self/status").read_text().splitlines()
peak_kib = next(int(text.split()[1]) for text in status if text.startswith("VmHWM"))
print(json.dumps({"peak_bytes": peak_kib * 1024}), flush=True)
