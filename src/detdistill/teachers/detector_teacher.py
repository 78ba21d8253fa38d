"""A detector as a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch

from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.normalization import Normalization
from detdistill.core.offers import BOX_OFFERS, Offer
from detdistill.core.output import RegionReader, TowerHead
from detdistill.core.structures import TeacherBoxes
from detdistill.detectors.base import Detector
from detdistill.detectors.running import output_of
from detdistill.teachers.teacher import Guidance, TeacherBatch


class DetectorTeacher:
    """A detector that teaches. It is never changed, and it is no module.

    So the detector stays out of `parameters()`, `state_dict()`, `train()` and deep copies of whatever holds it.

    Args:
        detector: is put into evaluation mode and gets no gradient from now on.
        channels_last: store images with the channels innermost.
        origin: where it comes from, see `Teacher.origin`; None for the name of its class.
    """

    stored = None

    def __init__(
        self, detector: Detector, *, channels_last: bool = False, origin: Mapping[str, Any] | None = None
    ) -> None:
        self.origin = {"source": type(detector).__name__, "sha256": None} if origin is None else origin
        self.detector = detector.eval().requires_grad_(requires_grad=False)
        self._channels_last = channels_last
        if channels_last:
            detector.to(memory_format=torch.channels_last)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """The detector's."""
        return self.detector.classes

    @property
    def kind(self) -> str:
        """The detector's."""
        return self.detector.kind

    @property
    def size(self) -> ImageSize | None:
        """The detector's."""
        return self.detector.input.size

    @property
    def offers(self) -> frozenset[Offer]:
        """The detector's."""
        return self.detector.offers

    @property
    def tower_head(self) -> TowerHead | None:
        """The detector's."""
        return self.detector.tower_head

    @property
    def region_reader(self) -> RegionReader | None:
        """The detector's."""
        return self.detector.region_reader

    @torch.no_grad()
    def guide(self, batch: TeacherBatch) -> Guidance:
        """The detector's output, and its detections where they are wanted."""
        self.move_to(batch.images.device)
        output = output_of(self.detector, batch.images, batch.sizes, channels_last=self._channels_last)
        if not batch.wanted & BOX_OFFERS:
            return Guidance(output)
        floor = self.detector.postprocessing.score_threshold
        found = self.detector.detect(output, batch.sizes)
        boxes = tuple(TeacherBoxes.from_detections(each, len(self.classes), floor) for each in found)
        return Guidance(output, boxes)

    def notes(self, student: InputSpec) -> list[str]:
        """Whether the two read images in different normalizations, or were made for different sizes."""
        own, notes = self.detector.input, []
        if own.size is not None and student.size is not None and _size(own.size) != _size(student.size):
            notes.append(f"image size: the teacher was made for {_size(own.size)} and gets {_size(student.size)}")
        if student.normalization != own.normalization:
            notes.append(
                f"input: each gets the images in its own normalization; the teacher {_in_words(own.normalization)}; "
                f"the student {_in_words(student.normalization)}"
            )
        return notes

    def move_to(self, device: torch.device) -> None:
        """Moves the detector to a device, unless it is there."""
        parameter = next(self.detector.parameters(), None)
        if parameter is not None and parameter.device != device:
            self.detector.to(device)


def _size(size: ImageSize) -> str:
    if size.letterbox is not None:
        return f"a square of {size.letterbox} px"
    return f"sides of {size.short_side} and at most {size.long_side} px"


def _in_words(normalization: Normalization) -> str:
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (normalization.mean, normalization.std))
    return f"{'BGR' if normalization.bgr else 'RGB'}, mean {mean}, deviation {std}"
