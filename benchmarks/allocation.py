"""What `keep_freed_memory` saves: steps of the student of `recipes/small.yaml` with it and without, 320 px, 8 images.

OMP_NUM_THREADS=1 python -m benchmarks.allocation [--rounds 3]

Processes of their own take turns. Times are of the processor, the system's share included; pages are those that a step
gets anew.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median

from benchmarks.step_cost import Case, random_batch, step_of, supervision

from detdistill.allocation import keep_freed_memory
from detdistill.detectors.architecture import Architecture

STUDENT = Architecture("gfl", "tf_efficientnet_lite0", channels=96)
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
    given, kept = ({key: median(each[key] for each in results) for key in results[0]} for results in found.values())
    for way, numbers in (("given back", given), ("kept", kept)):
        print(
            f"{way:10} {1000 * numbers['seconds']:.0f} ms a step, {numbers['pages']:.0f} pages, "
            f"at most {numbers['peak_mib']:.0f} MiB"
        )
    print(
        f"ratio of times {kept['seconds'] / given['seconds']:.3f}, of memory {kept['peak_mib'] / given['peak_mib']:.3f}"
    )


if __name__ == "__main__":
    main()
