"""Every distillation term, trained shortly on drawn digits: AP beside the same student's without a teacher.

OMP_NUM_THREADS=1 python benchmarks/terms_scenes.py --runs RUNS [--steps 400] [--heads gfl retinanet] [--methods …]

The detectors are those of `make demo` (recipes/demo_*.yaml), for GFL with its head instead of RetinaNet's. A teacher is
trained by its recipe, students for `steps`, rounded to whole epochs: what a term does in a few hundred steps is no
ranking of methods. All terms have their defaults and find their weight themselves. All students of a head start from
the same weights and see the same pictures in the same order, but for the wider ones that `pearson` needs; the final
weights are scored once, on test pictures.

Runs are made and gone on with in the folder RUNS; what `terms_scenes.json` holds is not done again. Losses are means of
the first and of the last three lines of the log. Processor time, preflight included, is left out of runs that were
gone on with.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from detdistill.cli.train import engine
from detdistill.data.opening import open_dataset
from detdistill.data.scenes import write_scenes
from detdistill.detectors.checkpoints import load_detector
from detdistill.detectors.description import read_description
from detdistill.distill.terms import TERMS
from detdistill.evaluation.coco import coco_metrics
from detdistill.inference.predict import predict
from detdistill.training.distillation import distill
from detdistill.training.module import DivergedError
from detdistill.training.recipe import DistillationRecipe, Recipe
from detdistill.training.recipe_file import read_recipe
from detdistill.training.run import train

HERE = Path(__file__).parent
RECIPES = HERE.parent / "recipes"
SIZE = 128
PICTURES = {"train": 3000, "val": 500, "test": 500}
HEADS = ("gfl", "retinanet")
GFL_ANCHORS = {"anchor_scale": 2.0}  # digits: 16 pixels on the finest level

OPTIONS: dict[str, dict[str, Any]] = {"cross_head": {"position": 1}}  # the student's towers have one convolution
METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "teacher": {},
    "baseline": {},
    **{name: {name: OPTIONS.get(name, {})} for name in TERMS},
    "rank_mimicking, plackett_luce": {"rank_mimicking": {"form": "plackett_luce"}},
    "rank_mimicking, topk": {"rank_mimicking": {"candidates": "topk"}},
    "baseline, wide": {},
}
WIDE = {"pearson": "baseline, wide"}
"""Methods that adapt nothing, for students with a pyramid as wide as the teacher's, and whom these stand beside."""
AVERAGED = 3
"""Lines of the log."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--heads", nargs="*", default=HEADS, choices=HEADS)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seed", type=int, default=0, help="of pictures, weights and order")
    parser.add_argument("--results", type=Path, default=HERE / "terms_scenes.json")
    options = parser.parse_args()
    data = options.runs / f"scenes_{options.seed}"
    if not data.exists():
        write_scenes(data, seed=options.seed, size=SIZE, **PICTURES)
    with engine():
        for head in options.heads:
            # Without a teacher nothing can be taught, and without a baseline nothing compared.
            for method in dict.fromkeys(("teacher", "baseline", *options.methods)):
                if all(head in TERMS[name].method.detectors for name in METHODS[method]):
                    record(options, head, method, data)
    print_table(entries(options.results), options.heads)


def entries(results: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(results.read_text()) if results.exists() else []
    return found


def record(options: argparse.Namespace, head: str, method: str, data: Path) -> None:
    recipe = recipe_of(options, head, method, data)
    what = {"head": head, "method": method, "seed": options.seed, "epochs": recipe.schedule.epochs}
    if any(what.items() <= entry.items() for entry in entries(options.results)):
        return
    print(f"\n{head}, {method}: {recipe.schedule.epochs} epochs", file=sys.stderr, flush=True)
    name = method if method == "teacher" else f"{method}, {recipe.schedule.epochs} epochs"
    folder = runs_of(options, head) / name
    is_new, started = not folder.exists(), time.process_time()
    try:
        summary = distill(recipe, folder) if isinstance(recipe, DistillationRecipe) else train(recipe, folder)
    except DivergedError as error:
        print(f"{head}, {method}: {error}", file=sys.stderr, flush=True)
        return
    seconds = time.process_time() - started
    test = open_dataset(data, "test")
    scores = coco_metrics(test, predict(load_detector(folder), test, recipe.images))
    provenance = read_description(folder).provenance
    entry = {
        **what,
        "steps": summary.steps,
        "AP": scores.AP,
        "AP50": scores.AP50,
        "losses": losses(folder / "metrics.jsonl"),
        "weights": provenance.get("weights", {}),
        "cpu_ms_per_step": round(1000 * seconds / summary.steps, 1) if is_new else None,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, shared with other work",
        "python": platform.python_version(),
        "versions": provenance["versions"],
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # Read again: another process may have recorded a run meanwhile.
    options.results.write_text(json.dumps([*entries(options.results), entry], indent=1) + "\n")
    print(f"{head}, {method}: AP {points(scores.AP)}", flush=True)


def runs_of(options: argparse.Namespace, head: str) -> Path:
    folder: Path = options.runs / f"{head}_{options.seed}"
    return folder


def recipe_of(options: argparse.Namespace, head: str, method: str, data: Path) -> Recipe:
    file = method if method == "teacher" else "distilled" if METHODS[method] else "baseline"
    recipe = read_recipe(RECIPES / f"demo_{file}.yaml")
    detector = recipe.detector
    if head == "gfl":
        detector = replace(detector, head="gfl", options=GFL_ANCHORS)
    if method in (*WIDE, *WIDE.values()):
        detector = replace(detector, channels=read_recipe(RECIPES / "demo_teacher.yaml").detector.channels)
    recipe = replace(
        recipe,
        data=replace(recipe.data, path=str(data)),
        detector=detector,
        logging=replace(recipe.logging, every=10),
        seed=options.seed,
    )
    if method == "teacher":
        return recipe
    epochs = max(1, round(options.steps * recipe.batch_size / PICTURES["train"]))
    recipe = replace(recipe, schedule=replace(recipe.schedule, epochs=epochs))
    if not isinstance(recipe, DistillationRecipe):
        return recipe
    return replace(recipe, teacher=str(runs_of(options, head) / "teacher"), terms=METHODS[method])


def losses(metrics: Path) -> dict[str, dict[str, float | bool]]:
    """First and last values of the whole loss and of each term before it was weighted; all lines must be finite."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if "loss" in line]
    found: dict[str, dict[str, float | bool]] = {}
    for name in [key for key in lines[0] if key == "loss" or key.endswith("/raw")]:
        values = [line[name] for line in lines]
        found[name] = {
            "first": fmean(values[:AVERAGED]),
            "last": fmean(values[-AVERAGED:]),
            "finite": all(math.isfinite(value) for value in values),
        }
    return found


def print_table(found: Sequence[dict[str, Any]], heads: Sequence[str]) -> None:
    print("| head | method | steps | AP | beside the baseline | first loss | last loss | CPU ms a step |")
    print("|---|---|---|---|---|---|---|---|")
    for head in heads:
        rows = [entry for entry in found if entry["head"] == head]
        found_ap = {(row["method"], row["seed"], row["epochs"]): row["AP"] for row in rows}
        for row in rows:
            baseline = found_ap.get((WIDE.get(row["method"], "baseline"), row["seed"], row["epochs"]))
            gain = "" if baseline is None else f"{100 * (row['AP'] - baseline):+.1f}"
            shown = next((value for name, value in row["losses"].items() if name != "loss"), row["losses"]["loss"])
            cells = [head, row["method"], str(row["steps"]), points(row["AP"]), gain]
            cells += [f"{shown['first']:.4g}", f"{shown['last']:.4g}", f"{row['cpu_ms_per_step'] or '–'}"]
            print(f"| {' | '.join(cells)} |")


def points(ap: float | None) -> str:
    return "–" if ap is None else f"{100 * ap:.1f}"


if __name__ == "__main__":
    main()
