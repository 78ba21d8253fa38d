"""What `keep_freed_memory` saves: steps of the student of `recipes/small.yaml` with it and without, 320 px, 8 images.

OMP_NUM_THREADS=1 python -m benchmarks.allocation [--rounds 3]

Processes of their own take turns. Times are of the processor, the system's share included; pages are those that a step
gets anew. The medians are kept in `allocation.json`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from benchmarks.step_cost import Case, random_batch, step_of, supervision

from detdistill.core.allocation import keep_freed_memory
from detdistill.core.environment import machine
from detdistill.detectors.dense.architecture import Architecture, FeaturePyramid

RECORD = Path(__file__).with_suffix(".json")
STUDENT = Architecture("gfl", "tf_efficientnet_lite0", pyramid=FeaturePyramid(channels=96))
CASE = Case(STUDENT, STUDENT, classes=3, batch=8)
WARM_UP, STEPS = 2, 6


def measured(*, keep: bool) -> dict[str, float]:
    if keep:
        keep_freed_memory()
    step = step_of(supervision(CASE), *random_batch(CASE))
    for _ in range(WARM_UP):
        step()
    pages, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, []
    for _ in range(STEPS):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": median(seconds),
        "pages": (usage.ru_minflt - pages) / STEPS,
        "peak_mib": usage.ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("given back", "kept"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measured(keep=options.only == "kept")))
        return
    found: dict[str, list[dict[str, float]]] = {"given back": [], "kept": []}
    for _ in range(options.rounds):
        for way, results in found.items():
            words = [sys.executable, "-m", "benchmarks.allocation", "--only", way]
            results.append(json.loads(subprocess.check_output(words, text=True)))
    medians = {
        way: {key: round(median(each[key] for each in results), 3) for key in results[0]}
        for way, results in found.items()
    }
    record = {
        "medians": medians,
        "ratios": {key: round(medians["kept"][key] / medians["given back"][key], 3) for key in medians["kept"]},
        "command": f"OMP_NUM_THREADS=1 python -m benchmarks.allocation --rounds {options.rounds}",
        "machine": f"{machine()}, shared with other work",
        "torch": torch.__version__,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
