"""Whether an exported model finds what PyTorch finds, in onnxruntime and on real images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detdistill.core.boxes import pairwise_iou
from detdistill.core.errors import DetdistillError, listed
from detdistill.core.onnx_runtime import session
from detdistill.core.structures import Detections, Targets
from detdistill.deploy.canvases import Canvases
from detdistill.deploy.onnx import Form
from detdistill.detectors.base import Detector
from detdistill.detectors.postprocess import PostProcessing

BOX, SCORE = 0.5, 1e-3
"""Pixels, and probability, by which a detection may differ."""
CLOSE = 1e-3
"""A detection may be there on one side alone if its score or an overlap is as close as this to a threshold."""


@dataclass
class Verification:
    """What was compared.

    Attributes:
        images: compared.
        detections: of PyTorch, or candidates of a raw model.
        box: largest difference of a box, in pixels.
        score: largest difference of a score.
        flips: detections on one side alone, each at a threshold.
        problems: what differs more than it may, in words.
    """

    images: int = 0
    detections: int = 0
    box: float = 0.0
    score: float = 0.0
    flips: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.images} images, {self.detections} detections: boxes differ by at most {self.box:.2g} px, scores by "
            f"{self.score:.2g}; {self.flips} at a threshold are on one side alone"
        )

    def check(self, file: Path) -> None:
        """Raises `DetdistillError` if something differs more than it may."""
        if self.problems:
            raise DetdistillError(f"{file} is not what PyTorch computes:{listed(self.problems)}")


def verify(
    model: Detector,
    file: Path,
    form: Form,
    postprocessing: PostProcessing,
    batches: Iterable[Canvases],
) -> Verification:
    """Runs both on the same canvases.

    Args:
        model: the detector in PyTorch, in evaluation mode.
        file: what was exported.
        form: of the file.
        postprocessing: of the detector.
        batches: canvases.
    """
    runner = session(file)
    found = Verification()
    for images, sizes in batches:
        outputs = runner.run(None, {"images": images.numpy(), "sizes": sizes.numpy()})
        with torch.no_grad():
            targets = Targets.without_objects(sizes)
            predictions = model(model.input.normalization(images, sizes), targets).predictions
        if form == "raw":
            expected = predictions.scores().numpy(), predictions.boxes().numpy()
            limit = sizes[:, None].flip(-1).repeat(1, 1, 2).numpy()
            _compare_raw(found, (expected[0], expected[1].clip(0, limit)), outputs)
        else:
            for number, one in enumerate(postprocessing(predictions, sizes)):
                count = int(outputs[3][number])
                other = Detections(*(torch.from_numpy(each[number, :count]) for each in outputs[:3]))
                _compare(found, one, other, postprocessing)
        found.images += len(images)
    return found


def _compare_raw(found: Verification, expected: Sequence[Any], outputs: Sequence[Any]) -> None:
    score, box = (float(np.abs(one - other).max()) for one, other in zip(expected, outputs, strict=True))
    found.score, found.box = max(found.score, score), max(found.box, box)
    found.detections += expected[0].shape[0] * expected[0].shape[1]
    if score > SCORE or box > BOX:
        found.problems.append(f"batch from image {found.images}: scores differ by {score:.3g}, boxes by {box:.3g} px")


def _compare(found: Verification, one: Detections, other: Detections, postprocessing: PostProcessing) -> None:
    """Pairs the detections of an image; those without a partner must be excused."""
    pairs = partners(one, other)
    found.detections += len(one)
    for mine, theirs in pairs:
        found.box = max(found.box, float((one.boxes[mine] - other.boxes[theirs]).abs().max()))
        found.score = max(found.score, float((one.scores[mine] - other.scores[theirs]).abs()))
    for side, own, rest, paired in (
        ("PyTorch", one, other, {mine for mine, _ in pairs}),
        ("the exported model", other, one, {theirs for _, theirs in pairs}),
    ):
        for place in range(len(own)):
            if place in paired:
                continue
            if is_excused(own, place, rest, postprocessing):
                found.flips += 1
            else:
                found.problems.append(
                    f"image {found.images}: only {side} finds class {int(own.labels[place])} with score "
                    f"{float(own.scores[place]):.4f} at {[round(side_, 1) for side_ in own.boxes[place].tolist()]}"
                )


def partners(one: Detections, other: Detections) -> list[tuple[int, int]]:
    """Pairs of detections of one class whose boxes and scores are within tolerance, each in one pair, nearest first."""
    if not len(one) or not len(other):
        return []
    box = (one.boxes[:, None] - other.boxes[None]).abs().amax(dim=-1)
    score = (one.scores[:, None] - other.scores[None]).abs()
    near = (one.labels[:, None] == other.labels[None]) & (box <= BOX) & (score <= SCORE)
    mine, theirs = near.nonzero(as_tuple=True)
    pairs: list[tuple[int, int]] = []
    used: tuple[set[int], set[int]] = (set(), set())
    for number in (box / BOX + score / SCORE)[mine, theirs].argsort().tolist():
        first, second = int(mine[number]), int(theirs[number])
        if first not in used[0] and second not in used[1]:
            pairs.append((first, second))
            used[0].add(first)
            used[1].add(second)
    return pairs


def is_excused(own: Detections, place: int, other: Detections, postprocessing: PostProcessing) -> bool:
    """Whether a detection that is on one side alone lies at a threshold: of score, of number, or of overlap.

    Where a score is a product with a quality, what passes the threshold of the class score may have any lower one.
    """
    score, label = own.scores[place], own.labels[place]
    if score <= postprocessing.score_threshold + CLOSE:
        return True
    if len(other) >= postprocessing.max_detections and score <= other.scores.min() + CLOSE:
        return True
    for each in (own, other):
        rivals = ((each.labels == label) | postprocessing.class_agnostic) & (each.scores >= score - CLOSE)
        iou = pairwise_iou(own.boxes[place][None], each.boxes[rivals])[0]
        if bool(((iou - postprocessing.iou_threshold).abs() <= CLOSE).any()):
            return True
    return False
