"""What `machine.precision: auto` and `machine.threads: auto` choose on this machine, and what that saves.

python -m benchmarks.probe [--rounds 5]

For each detector the probe of a training run is made, on random images with random boxes. Then, without the probe,
steps (forward, loss, backward, optimiser) with the chosen values, with one thread in float32, and with all threads in
float32 take turns; times are medians. The results are kept in `probe.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks.step_cost import Case, distiller, random_batch, step_of, supervision

from detdistill.core.environment import machine
from detdistill.core.files import write_atomically
from detdistill.core.image_options import ImageOptions
from detdistill.core.parallel import usable_processors
from detdistill.data.loading import Batch
from detdistill.detectors.dense.architecture import Architecture
from detdistill.distill.distiller import Distiller
from detdistill.training.probe import choose
from detdistill.training.recipe import Data, Machine, Recipe
from detdistill.training.recipe_file import read_recipe
from detdistill.training.task import Supervised
from detdistill.training.trial_steps import Candidate

RECIPES = Path(__file__).parents[1] / "recipes"
RECORD = Path(__file__).with_suffix(".json")
REFERENCE = Candidate("float32", 1)


def layers(recipe: str) -> Architecture:
    found = read_recipe(RECIPES / f"{recipe}.yaml").detector
    assert isinstance(found, Architecture)
    return found


def cases() -> dict[str, tuple[Case, Callable[[Case], Supervised | Distiller]]]:
    teacher, student, lite0, gfl = layers("demo_teacher"), layers("demo_baseline"), layers("small"), Architecture("gfl")
    return {
        "demo's teacher": (Case(teacher, teacher, classes=10, batch=16, side=128), supervision),
        "demo's student, alone": (Case(student, teacher, classes=10, batch=16, side=128), supervision),
        "demo's student, distilled": (Case(student, teacher, classes=10, batch=16, side=128), distiller),
        "GFL with EfficientNet-Lite0, 320 px": (Case(lite0, lite0, classes=3, batch=8), supervision),
        "GFL with ResNet-18, 320 px": (Case(gfl, gfl, classes=3, batch=8), supervision),
    }


def measured(case: Case, learner: Supervised | Distiller, images: int, rounds: int) -> dict[str, Any]:
    """The choice for a learner, and seconds of steps of some images."""
    pixels, targets = random_batch(case)
    batch = Batch(pixels, targets, tuple(range(case.batch)), targets.sizes)
    recipe = Recipe(
        Data("random images"), images=ImageOptions(letterbox=case.side), batch_size=case.batch, machine=Machine("cpu")
    )
    learner.train()
    start = time.perf_counter()
    choice = choose(learner, batch, recipe, torch.device("cpu"))
    seconds = time.perf_counter() - start
    chosen = Candidate(choice.precision, choice.threads)
    candidates = dict.fromkeys((REFERENCE, chosen, Candidate("float32", usable_processors())))
    times = in_turns(learner, pixels[:images], targets.of_images(0, images), list(candidates), rounds)
    return {
        "chosen": str(chosen),
        "reason": choice.reason,
        "probe_seconds": round(seconds, 2),
        "images_of_a_step": images,
        "step_seconds": {str(each): round(value, 4) for each, value in times.items()},
        "times_as_fast": round(times[REFERENCE] / times[chosen], 2),
    }


def in_turns(
    learner: Supervised | Distiller, pixels: torch.Tensor, targets: Any, candidates: list[Candidate], rounds: int
) -> dict[Candidate, float]:
    """The median seconds of a step of each candidate."""
    step = step_of(learner, pixels, targets)
    taken: dict[Candidate, list[float]] = {candidate: [] for candidate in candidates}
    for number in range(rounds + 1):
        for candidate in candidates:
            torch.set_num_threads(candidate.threads)
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=candidate.precision == "bf16"):
                step()
            if number:  # the first round warms up
                taken[candidate].append(time.perf_counter() - start)
    return {candidate: median(seconds) for candidate, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pixels", type=int, default=320**2, help="of all images of a step that is timed at the end")
    options = parser.parse_args()
    results, loads = {}, []
    for name, (case, make) in cases().items():
        loads.append(os.getloadavg()[0])
        images = min(max(options.pixels // case.side**2, 1), case.batch)
        results[name] = measured(case, make(case), images, options.rounds)
        print(name, json.dumps(results[name], indent=1), file=sys.stderr, flush=True)
    loads.append(os.getloadavg()[0])
    record = {
        "results": results,
        "command": f"python -m benchmarks.probe --rounds {options.rounds} --pixels {options.pixels}",
        "machine": f"{machine()}, {usable_processors()} usable, shared with other work",
        "load_average": [round(load, 1) for load in loads],
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
    write_atomically(RECORD, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
