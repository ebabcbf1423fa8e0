"""A bare loop over a transformers ViT in eager PyTorch, from a folder that `save_pretrained` wrote.

    python bare_pytorch.py FOLDER FEEDS.npz THREADS

For each line on stdin, a number of seconds: one call for the cold caches, then calls for so long; answers
with a line of JSON, the latencies in nanoseconds. At the end of stdin it prints its peak memory in bytes.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import ViTForImageClassification

folder, feeds_file, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
module = ViTForImageClassification.from_pretrained(folder).eval()
pixels = torch.from_numpy(np.load(feeds_file)["pixel_values"])
print("ready", flush=True)
with torch.inference_mode():
    for line in sys.stdin:
        module(pixel_values=pixels)
        latencies = []
        end = time.perf_counter_ns() + int(float(line) * 1e9)
        while not latencies or time.perf_counter_ns() < end:
            started = time.perf_counter_ns()
            module(pixel_values=pixels)
            latencies.append(time.perf_counter_ns() - started)
        print(json.dumps(latencies), flush=True)
status = Path("/proc/self/status").read_text().splitlines()
peak_kib = next(int(text.split()[1]) for text in status if text.startswith("VmHWM"))
print(json.dumps({"peak_bytes": peak_kib * 1024}), flush=True)
