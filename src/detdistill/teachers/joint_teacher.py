"""Several teachers as one: their boxes are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import BOX_OFFERS, Offer
from detdistill.core.output import RegionReader, TowerHead
from detdistill.core.structures import TeacherBoxes
from detdistill.data.stored_detections import BoxSource, ImageBoxes
from detdistill.teachers.teacher import Guidance, Teacher, TeacherBatch

JOINED_IOU = 0.2
"""Overlap above which the lower-scored of two boxes of one class is dropped: Teach-DETR's (arXiv 2211.11953)."""
MAPS: frozenset[Offer] = frozenset({"features"})


class JointTeacher:
    """Several teachers, whose boxes are joined by class-wise NMS, as in Teach-DETR (Huang et al., arXiv 2211.11953).

    Features come from the first teacher that has them, and so do predictions on a grid if all have the same classes.

    Args:
        teachers: at least two, all with boxes.
        weights: of the scores by which NMS chooses, one for each teacher; empty for equal ones. The kept scores stay as
            they are.

    Raises:
        DetdistillError: another number of weights, or a teacher without boxes.
    """

    kind = "joint"

    def __init__(self, teachers: Sequence[Teacher], weights: Sequence[float] = ()) -> None:
        if weights and len(weights) != len(teachers):
            raise DetdistillError(
                f"distill.teacher_weights has {len(weights)} numbers for {len(teachers)} teachers; expected one each"
            )
        without = [teacher.kind for teacher in teachers if "boxes" not in teacher.offers]
        if without:
            raise DetdistillError(f"teachers are joined by their boxes, and {', '.join(without)} offers none")
        self.teachers = tuple(teachers)
        self.weights = tuple(weights) or (1.0,) * len(teachers)
        self.classes = tuple(dict.fromkeys(name for teacher in teachers for name in teacher.classes))
        self._mapped = next((teacher for teacher in teachers if "features" in teacher.offers), None)

    @property
    def offers(self) -> frozenset[Offer]:
        """Boxes, and what the first teacher with features has on its cells."""
        if self._mapped is None:
            return BOX_OFFERS
        return BOX_OFFERS | (self._mapped.offers if self._mapped.classes == self.classes else MAPS)

    @property
    def size(self) -> ImageSize | None:
        """That of the first teacher that has one."""
        return next((teacher.size for teacher in self.teachers if teacher.size is not None), None)

    @property
    def tower_head(self) -> TowerHead | None:
        """That of the teacher with features."""
        return None if self._mapped is None else self._mapped.tower_head

    @property
    def region_reader(self) -> RegionReader | None:
        """That of the teacher with features."""
        return None if self._mapped is None else self._mapped.region_reader

    @property
    def origin(self) -> Mapping[str, Any]:
        """Those of all, and the weights."""
        return {"teachers": [dict(teacher.origin) for teacher in self.teachers], "weights": list(self.weights)}

    @property
    def stored(self) -> BoxSource | None:
        """The joined boxes of the teachers that read no images."""
        sources = [
            (teacher.stored, weight)
            for teacher, weight in zip(self.teachers, self.weights, strict=True)
            if teacher.stored is not None
        ]
        return JointSource(tuple(sources), self.classes) if sources else None

    def guide(self, batch: TeacherBatch) -> Guidance:
        """The joined boxes of all, and the output of the first teacher with features."""
        output = None
        found: list[list[tuple[TeacherBoxes, float]]] = [[] for _ in batch.images]
        if batch.stored is not None:  # joined already
            weights = [
                weight for each, weight in zip(self.teachers, self.weights, strict=True) if each.stored is not None
            ]
            for own, boxes in zip(found, batch.stored, strict=True):
                own.append((boxes, max(weights)))
        for teacher, weight in zip(self.teachers, self.weights, strict=True):
            if teacher.stored is not None:
                continue
            wanted = batch.wanted | BOX_OFFERS if teacher is self._mapped else BOX_OFFERS
            guidance = teacher.guide(replace(batch, wanted=wanted, stored=None))
            output = guidance.output if teacher is self._mapped else output
            for own, boxes in zip(found, guidance.set_of_boxes, strict=True):
                own.append((with_classes(boxes, teacher.classes, self.classes), weight))
        joined_boxes = tuple(joined(own) if own else nothing(len(self.classes)) for own in found)
        return Guidance(output, tuple(boxes.to(batch.images.device) for boxes in joined_boxes))

    def notes(self, student: InputSpec) -> list[str]:
        """Those of all."""
        own = f"teachers: the boxes of {len(self.teachers)} are joined by NMS within each class (IoU {JOINED_IOU:g})"
        return [own, *dict.fromkeys(note for teacher in self.teachers for note in teacher.notes(student))]


def reads_images(teacher: Teacher) -> bool:
    """Return whether a teacher, or one of several joined, looks at images; the others' boxes are stored."""
    if isinstance(teacher, JointTeacher):
        return any(map(reads_images, teacher.teachers))
    return teacher.stored is None


@dataclass(frozen=True, eq=False)
class JointSource:
    """The joined boxes of several stored detections.

    Attributes:
        sources: with the weight of each.
        classes: of all.
    """

    sources: tuple[tuple[BoxSource, float], ...]
    classes: tuple[str, ...]

    def covered(self, dataset: DetectionDataset) -> NDArray[np.bool_]:
        """`(images,)` the images that all know."""
        known: NDArray[np.bool_] = np.logical_and.reduce([source.covered(dataset) for source, _ in self.sources])
        return known

    def boxes_of(self, dataset: DetectionDataset) -> ImageBoxes:
        """What all predicted in the images of a dataset.

        Raises:
            DataError: an image is not among the stored ones, or has another size.
        """
        return JointBoxes(
            tuple((source.boxes_of(dataset), source.classes, weight) for source, weight in self.sources), self.classes
        )


@dataclass(frozen=True, eq=False)
class JointBoxes:
    """The joined boxes of several stored detections in the images of one dataset.

    Attributes:
        sources: with the classes and the weight of each.
        classes: of all.
    """

    sources: tuple[tuple[ImageBoxes, tuple[str, ...], float], ...]
    classes: tuple[str, ...]

    def __getitem__(self, image: int) -> TeacherBoxes:
        """What all predicted in an image, in pixels of its file."""
        return joined([(with_classes(boxes[image], own, self.classes), weight) for boxes, own, weight in self.sources])


def with_classes(found: TeacherBoxes, own: Sequence[str], classes: Sequence[str]) -> TeacherBoxes:
    """The same boxes with the labels of other classes, which hold their own."""
    places = torch.tensor([classes.index(name) for name in own], device=found.labels.device)
    probabilities = found.probabilities.new_zeros(len(found), len(classes))
    probabilities[:, places] = found.probabilities
    return replace(found, labels=places[found.labels], probabilities=probabilities)


def joined(found: Sequence[tuple[TeacherBoxes, float]]) -> TeacherBoxes:
    """The boxes of several teachers in one image, of the same classes, without doubles; best first.

    Args:
        found: boxes and the weight of their scores, at least one. What one of them knows is known: the floor is the
            lowest.
    """
    boxes = torch.cat([own.boxes for own, _ in found])
    labels = torch.cat([own.labels for own, _ in found])
    probabilities = torch.cat([own.probabilities for own, _ in found])
    weighted = torch.cat([own.scores * weight for own, weight in found])
    whole = TeacherBoxes(boxes, labels, probabilities, min(own.floor for own, _ in found))
    kept = batched_nms(boxes.double(), weighted.double(), labels, JOINED_IOU)
    return whole.keep(kept[whole.scores[kept].argsort(descending=True, stable=True)])


def nothing(classes: int) -> TeacherBoxes:
    """No box at all."""
    return TeacherBoxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, classes))
