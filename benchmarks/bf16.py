"""What bf16 costs on CPUs without AMX: a step of the demo's teacher in bf16 beside one in float32.

OMP_NUM_THREADS=1 python -m benchmarks.bf16 [--rounds 3]

oneDNN is told to take no newer instructions than those of an older processor, in a process of its own for each. Times
are of the processor, medians of steps in turns; a ratio is bf16's to float32's. They are kept in `bf16.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from benchmarks.step_cost import Case, random_batch, step_of, supervision

from detdistill.core.environment import machine
from detdistill.detectors.dense.architecture import Architecture
from detdistill.training.recipe_file import read_recipe

HERE = Path(__file__).parent
RECORD = Path(__file__).with_suffix(".json")
INSTRUCTIONS = ("AVX2", "AVX512_CORE", "AVX512_CORE_BF16")


def measured(rounds: int) -> dict[str, float]:
    recipe = read_recipe(HERE.parent / "recipes" / "demo_teacher.yaml")
    assert isinstance(recipe.detector, Architecture)
    case = Case(recipe.detector, recipe.detector, classes=10, batch=recipe.batch_size, side=recipe.images.short_side)
    step = step_of(supervision(case), *random_batch(case))
    works: dict[str, Callable[[], object]] = {"float32": step, "bf16": partial(_in_bf16, step)}
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if number:  # the first round warms up
                taken[name].append(time.process_time() - start)
    return {name: round(median(times), 3) for name, times in taken.items()}


def _in_bf16(step: Callable[[], object]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.rounds)))
        return
    words = [sys.executable, "-m", "benchmarks.bf16", "--one", "--rounds", str(options.rounds)]
    seconds = {
        newest: json.loads(subprocess.check_output(words, env={**os.environ, "ONEDNN_MAX_CPU_ISA": newest}, text=True))
        for newest in INSTRUCTIONS
    }
    record = {
        "seconds": seconds,
        "ratios": {newest: round(each["bf16"] / each["float32"], 2) for newest, each in seconds.items()},
        "command": f"OMP_NUM_THREADS=1 python -m benchmarks.bf16 --rounds {options.rounds}",
        "machine": f"{machine()}, shared with other work",
        "torch": torch.__version__,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
