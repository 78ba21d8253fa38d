"""What the tests of distillation terms share: batches, outputs made by hand, and processes that are only simulated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.output import DENSE, Candidates, Output, Predictions, combined
from detdistill.core.structures import Assignment, Matches, ReduceSum, Targets
from detdistill.detectors.base import Detector
from detdistill.detectors.dense.assigners import MaxIouAssigner
from detdistill.detectors.dense.choices import HeadName
from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.distill.term import Pair, Term
from support.tiny_detector import tiny_detector

Case = tuple[Output, Output, Assignment, Targets]
"""What a term's forward pass takes."""


def grid(*sizes: tuple[int, int], anchors: Sequence[Sequence[float]] = ((0, 0, 16, 16),)) -> Grid:
    """Levels of strides 8, 16, …, with the finest level's anchors, twice as large on every next one."""
    base = torch.tensor(anchors, dtype=torch.float32)
    scales = [2**level for level in range(len(sizes))]
    return Grid(
        sizes, tuple((8 * scale, 8 * scale) for scale in scales), tuple(torch.stack([base * s for s in scales]))
    )


def output(of: Grid, features: Sequence[Tensor], logits: Tensor, deltas: Tensor | None = None) -> Output:
    """A detector's output; without deltas its boxes are the priors."""
    if deltas is None:
        deltas = torch.zeros(*logits.shape[:2], 4)
    return Output.dense(tuple(features), Predictions(Candidates(of), logits, deltas, DeltaCoder()))


def objects(boxes: Sequence[Sequence[float]], *, image: Sequence[int] = (), images: int = 1, side: int = 64) -> Targets:
    """Objects of class 0, in square images."""
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.zeros(len(boxes), dtype=torch.int64),
        torch.tensor(image if image else [0] * len(boxes), dtype=torch.int64),
        torch.tensor([[side, side]] * images),
    )


class Assigning:
    """As much of a detector and a teacher as a term looks at when it is bound."""

    def match(self, output: Output, targets: Targets) -> Matches:
        return {DENSE: MaxIouAssigner()(output.predictions.grid, targets)}


def bound(term: Term, student: Output, teacher: Output) -> Term:
    """The term, bound to a pair of detectors that give such outputs; its adapters are seeded."""
    detector: Any = Assigning()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        term.bind(Pair(detector, detector, student, teacher))
    return term


def batch(images: int, objects_per_image: int = 2, *, seed: int = 0) -> tuple[Tensor, Targets]:
    """Noise of 96 x 128 pixels, the last image smaller, with random objects of three classes."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([[96, 128]] * (images - 1) + [[80, 112]])
    boxes, labels = [], []
    for _ in range(images):
        start = torch.rand(objects_per_image, 2, generator=generator) * 40
        boxes.append(torch.cat((start, start + 12 + torch.rand(objects_per_image, 2, generator=generator) * 28), dim=1))
        labels.append(torch.randint(0, 3, (objects_per_image,), generator=generator))
    pixels = torch.randint(0, 256, (images, 3, 96, 128), generator=generator, dtype=torch.uint8)
    return pixels, Targets.from_images(boxes, labels, sizes)


def outputs(head: HeadName, images: int, objects_per_image: int = 2) -> tuple[Detector, Detector, Case]:
    """Two detectors of random weights, and what they make of a batch; the student's output has a gradient."""
    student, teacher = (cast(Any, tiny_detector(head, seed=seed)) for seed in (0, 1))
    pixels, targets = batch(images, objects_per_image)
    own = student(student.input.normalization(pixels, targets.sizes))
    with torch.no_grad():
        other = teacher(teacher.input.normalization(pixels, targets.sizes))
    return student, teacher, (own, other, student.match(own, targets)[own.final], targets)


def one_image(case: Case, detector: Detector, image: int) -> Case:
    """The case of a process that has only this image."""
    *both, _, targets = case
    own, other = (_of_image(side, image) for side in both)
    part = targets.of_images(image, image + 1)
    return own, other, detector.match(own, part)[own.final], part


def _of_image(side: Output, image: int) -> Output:
    return combined([side], lambda tensors: tensors[0][image : image + 1])


def shares(loss: Callable[[int, ReduceSum], dict[str, Tensor]], processes: int) -> list[dict[str, Tensor]]:
    """What each of several processes gets when all of them exchange their counts."""
    asked: list[list[Tensor]] = []
    for process in range(processes):
        calls: list[Tensor] = []

        def record(own: Tensor, calls: list[Tensor] = calls) -> Tensor:
            calls.append(own)
            return own

        loss(process, record)
        asked.append(calls)
    together = [torch.stack(values).sum(dim=0) for values in zip(*asked, strict=True)]

    def replay(process: int) -> dict[str, Tensor]:
        totals = iter(together)
        return loss(process, lambda _: next(totals))

    return [replay(process) for process in range(processes)]
