"""What a step with stored boxes costs beside a plain step of the same student.

    OMP_NUM_THREADS=1 python -m benchmarks.stored_step [--rounds 5] [--json benchmarks/stored_step.json]

A step is forward, loss, backward and optimiser, on random images with random objects, channels last, in float32, with
100 stored boxes in each image and soft labels by opinion. The kinds of step train one student, in turns in one process,
and a ratio is that of the least processor times. On a busy machine a ratio still varies by several hundredths, so the
work that is added (opinions, loss, gradient of the student's logits) is also measured by itself, as a share of a plain
step. Beside it: the opinions of 16 images with 100 boxes and 2,000 positives each, as a share of a plain step of 16
images, and what 100 stored boxes add to the transforms of an image.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.step_cost import CASES, Case, detector, random_batch, step_of
from torch import Tensor

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.environment import machine
from detdistill.core.image_options import ImageOptions
from detdistill.core.packed_texts import PackedTexts
from detdistill.core.structures import Targets, TeacherBoxes
from detdistill.data.stored_detections import BoxColumns, StoredDetections
from detdistill.data.stored_images import ImagesByPath
from detdistill.data.transforms import Sample, TrainingTransform
from detdistill.detectors.running import output_of
from detdistill.distill.distiller import Distiller
from detdistill.distill.terms.soft_label import SoftLabel
from detdistill.distill.weighting import Weight
from detdistill.teachers.opinions import opinions
from detdistill.teachers.stored_teacher import StoredTeacher
from detdistill.training.task import Supervised

BOXES = 100
"""Stored boxes in each image: the most that the package's detectors predict."""
IMAGES, POSITIVES = 16, 2_000
KINDS = ("positives", "all candidates")
"""What soft labels are learned at."""
ALLOWED = {"a step with stored boxes": 1.05, "opinions": 0.03}


def boxes_around(objects: Tensor, labels: Tensor, classes: int, side: int) -> TeacherBoxes:
    """Boxes near the objects of an image, best first, with probabilities of five classes."""
    which = torch.arange(BOXES) % max(1, len(objects))
    boxes = (objects[which] + torch.randn(BOXES, 4) * 6).clamp(0, side)
    boxes = torch.cat((torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:]) + 1), dim=1)
    scores = torch.linspace(0.95, 0.05, BOXES)
    probabilities = torch.zeros(BOXES, classes)
    probabilities[:, torch.randperm(classes)[:5]] = scores[:, None] * torch.rand(BOXES, min(5, classes)) * 0.5
    return TeacherBoxes(boxes, labels[which], probabilities.scatter(1, labels[which][:, None], scores[:, None]), 0.05)


def stored_batch(case: Case) -> tuple[Tensor, Targets]:
    images, targets = random_batch(case)
    stored = tuple(
        boxes_around(
            targets.boxes[targets.image == place], targets.labels[targets.image == place], case.classes, case.side
        )
        for place in range(case.batch)
    )
    return images, replace(targets, stored=stored)


def teacher_of(case: Case, found: Sequence[TeacherBoxes]) -> StoredTeacher:
    classes = tuple(str(label) for label in range(case.classes))
    nothing = DetectionDataset("none", classes, tuple(range(case.classes)), ImageTable.of([]))
    stored = StoredDetections(
        classes, ImagesByPath(PackedTexts.of(nothing.images.paths)), BoxColumns.of(found, 5), 0.05
    )
    return StoredTeacher(stored, {"source": "random boxes", "sha256": None})


def taken_by(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least processor time in seconds of each, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if round_number:  # the first round warms up
                taken[name].append(time.process_time() - start)
    return {name: min(times) for name, times in taken.items()}


def steps(case: Case, rounds: int) -> dict[str, float]:
    images, targets = stored_batch(case)
    assert targets.stored is not None
    teacher = teacher_of(case, targets.stored)

    student = detector(case, case.student).to(memory_format=torch.channels_last)

    def learner(**options: Any) -> Distiller:
        terms = {"soft_label": SoftLabel(source="opinion", **options)}
        return Distiller(student, teacher, terms, weights={"soft_label": Weight(1.0)}, channels_last=True)

    output = output_of(student.train(), images, targets.sizes, channels_last=True)
    matches = student.match(output, targets)
    logits = output.predictions.logits

    def added(taught: Distiller) -> Callable[[], object]:
        (way,) = taught._ways.correspondences

        def work() -> object:
            loss = taught.terms["soft_label"](way(output, taught.guide(images, targets), matches, targets))
            return torch.autograd.grad(loss["classification"], logits)

        return work

    positives, everywhere = learner(), learner(where="all")
    works: dict[str, Callable[[], object]] = {
        "plain": step_of(Supervised(student, channels_last=True), images, targets),
        "positives": step_of(positives, images, targets),
        "all candidates": step_of(everywhere, images, targets),
        "positives, added": added(positives),
        "all candidates, added": added(everywhere),
    }
    return taken_by(works, rounds)


def opinions_time(classes: int, rounds: int) -> float:
    """Seconds for the opinions of 100 boxes in each of 16 images, of 2,000 positives each."""
    torch.manual_seed(0)
    side = 800
    corners = torch.rand(IMAGES, 8, 2) * side * 0.6
    objects = torch.cat((corners, corners + 16 + torch.rand(IMAGES, 8, 2) * side * 0.3), dim=2)
    found = [boxes_around(own, torch.randint(0, classes, (8,)), classes, side) for own in objects]
    which = torch.arange(POSITIVES) % 8
    asked = (objects[:, which] + torch.randn(IMAGES, POSITIVES, 4) * 8).flatten(0, 1)
    image = torch.arange(IMAGES).repeat_interleave(POSITIVES)
    return taken_by({"opinions": lambda: opinions(found, asked, image)}, rounds)["opinions"]


def transforms_time(rounds: int) -> dict[str, float]:
    """Seconds for the transforms of an image of 640x480 pixels, without and with 100 stored boxes."""
    objects = torch.tensor([[100.0, 50, 300, 250], [10, 10, 60, 90]])
    labels, none = torch.tensor([3, 5]), torch.zeros(2, dtype=torch.bool)
    image = torch.randint(0, 256, (3, 480, 640), dtype=torch.uint8)
    plain = Sample(image, objects, labels, none, none)
    stored = replace(plain, stored=boxes_around(objects, labels, 80, 480))
    transform = TrainingTransform(ImageOptions(320, 533, scale_jitter=(0.8, 1.2)))
    works = {name: lambda one=one: transform(one) for name, one in (("plain", plain), ("stored", stored))}
    return taken_by(works, 20 * rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    content: dict[str, Any] = {"machine": machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    content |= {"command": shlex.join(["python", "-m", "benchmarks.stored_step", *sys.argv[1:]])}
    content |= {"rounds": options.rounds, "allowed": ALLOWED, "cases": {}}
    for name, case in ((name, CASES[name]) for name in options.cases):
        found = steps(case, options.rounds)
        plain = found["plain"]
        share = opinions_time(case.classes, options.rounds) / (plain * IMAGES / case.batch)
        content["cases"][name] = {
            "batch": case.batch,
            "plain step, s": round(plain, 4),
            "ratio": {kind: round(found[kind] / plain, 3) for kind in KINDS},
            "added, share": {kind: round(found[f"{kind}, added"] / plain, 4) for kind in KINDS},
            "opinions, share": round(share, 4),
        }
        print(name, content["cases"][name], flush=True)
    moved = transforms_time(options.rounds)
    content["transforms of an image, ms"] = {name: round(1000 * seconds, 3) for name, seconds in moved.items()}
    print(content["transforms of an image, ms"])
    if options.json is not None:
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
