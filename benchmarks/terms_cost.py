"""What each distillation term costs: a step with it beside a plain step of the same student and the teacher's forward.

OMP_NUM_THREADS=1 python -m benchmarks.terms_cost [--rounds 5] [--heads gfl retinanet] [--methods …]

As in `step_cost.py`: random images with random boxes, channels last, float32, a given weight; all terms take turns in
one process, and a ratio is that of the medians of processor times. Student and teacher are the same for all terms.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch
from benchmarks.step_cost import Case, detector, random_batch, step_of

from detdistill.detectors.dense.architecture import Architecture
from detdistill.distill.distiller import Distiller
from detdistill.distill.methods import supported_heads
from detdistill.distill.terms import TERMS
from detdistill.distill.weighting import Weight
from detdistill.training.task import Supervised

CASES = {
    "gfl": Case(Architecture("gfl", "resnet18"), Architecture("gfl", "resnet50"), classes=20, batch=2),
    "retinanet": Case(Architecture("retinanet", "resnet18"), Architecture("retinanet", "resnet50"), 20, 2),
}
METHODS: dict[str, tuple[str, Mapping[str, Any]]] = {
    **{name: (name, {}) for name in TERMS},
    "rank_mimicking, both": ("rank_mimicking", {"rank_by": "both"}),
    "rank_mimicking, plackett_luce": ("rank_mimicking", {"form": "plackett_luce"}),
    "rank_mimicking, topk": ("rank_mimicking", {"candidates": "topk"}),
    "rank_mimicking, topk, both": ("rank_mimicking", {"candidates": "topk", "rank_by": "both"}),
}
ALLOWED = 1.25
MAY_TAKE_MORE = ("general_instance", "mimic", "focal_global")


def ratios(case: Case, methods: Sequence[str], rounds: int) -> dict[str, float]:
    """Of a step with each method to a plain step and the teacher's forward."""
    images, targets = random_batch(case)
    student = detector(case, case.student).to(memory_format=torch.channels_last)
    teacher = detector(case, case.teacher)
    alone = Distiller(student, teacher, {}, channels_last=True)
    works: dict[str, Callable[[], object]] = {
        "plain": step_of(Supervised(student, channels_last=True), images, targets),
        "teacher": lambda: alone.guide(images, targets),
    }
    for method in methods:
        name, options = METHODS[method]
        terms = {name: TERMS[name](**options)}
        learner = Distiller(student, teacher, terms, weights={name: Weight(1.0)}, channels_last=True)
        works[method] = step_of(learner, images, targets)
    taken: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if round_number:  # the first round warms up
                taken[name].append(time.process_time() - start)
    plain, taught = median(taken.pop("plain")), median(taken.pop("teacher"))
    print(f"{case.student.kind}: plain step {1000 * plain:.0f} ms, teacher {1000 * taught:.0f} ms", flush=True)
    return {method: median(times) / (plain + taught) for method, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--heads", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.rounds} rounds, processor time")
    found: dict[str, dict[str, float]] = {method: {} for method in options.methods}
    for head in options.heads:
        methods = [method for method in options.methods if head in supported_heads(TERMS[METHODS[method][0]].method)]
        for method, ratio in ratios(CASES[head], methods, options.rounds).items():
            found[method][head] = ratio
    print(f"\n| method | {' | '.join(options.heads)} |\n|{'---|' * (1 + len(options.heads))}")
    tried = {method: by_head for method, by_head in found.items() if by_head}
    for method, by_head in sorted(tried.items(), key=lambda item: max(item[1].values())):
        cells = [f"{by_head[head]:.3f}" if head in by_head else "–" for head in options.heads]
        print(f"| {method} | {' | '.join(cells)} |")
    bound = [max(by_head.values()) for method, by_head in tried.items() if method not in MAY_TAKE_MORE]
    print(f"\nworst ratio, {', '.join(MAY_TAKE_MORE)} excepted: {max(bound, default=0):.3f} (allowed: {ALLOWED})")


if __name__ == "__main__":
    main()
