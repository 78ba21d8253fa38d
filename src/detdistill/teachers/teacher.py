"""What distillation asks of a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import Offer
from detdistill.core.output import Output, RegionReader, TowerHead, combined
from detdistill.core.structures import TeacherBoxes
from detdistill.data.stored_detections import BoxSource
from detdistill.teachers.opinions import SHARPNESS, Opinions, opinions


@dataclass(frozen=True, eq=False)
class TeacherBatch:
    """What a teacher may look at to predict a batch.

    Attributes:
        images: `(N, 3, H, W)` uint8 RGB, each in the upper left corner of its canvas, at the teacher's size.
        sizes: `(N, 2)` true height and width of each image.
        wanted: what is read of its guidance; a teacher may leave out the rest.
        stored: what was predicted beforehand in each image, already moved by the transforms; None if nothing is stored.
    """

    images: Tensor
    sizes: Tensor
    wanted: frozenset[Offer] = frozenset()
    stored: tuple[TeacherBoxes, ...] | None = None

    def of_images(self, numbers: Sequence[int]) -> TeacherBatch:
        """Some of the images, by their place in the batch."""
        chosen = list(numbers)
        return TeacherBatch(
            self.images[chosen],
            self.sizes[chosen],
            self.wanted,
            None if self.stored is None else tuple(self.stored[number] for number in chosen),
        )


@dataclass(frozen=True, eq=False)
class Guidance:
    """What a teacher predicts for a batch, without gradient, in pixels of the canvas.

    Attributes:
        output: features and dense predictions, from teachers that offer them.
        boxes: each image's boxes, from teachers that offer them.
    """

    output: Output | None = None
    boxes: tuple[TeacherBoxes, ...] | None = None

    @property
    def dense(self) -> Output:
        """The output.

        Raises:
            ValueError: the teacher offers neither features nor a grid, or nobody wanted them.
        """
        if self.output is None:
            raise ValueError("this guidance has no output: the teacher offers neither features nor a grid")
        return self.output

    def opinions(self, boxes: Tensor, image: Tensor, sharpness: float = SHARPNESS) -> Opinions:
        """The teacher's opinion of any boxes, of the teacher's classes.

        A teacher with another way to judge given boxes, such as the second stage of a two-stage detector, returns a
        subclass that overrides this.

        Args:
            boxes: `(K, 4)` in pixels of the canvas.
            image: `(K,)` the image of each, ascending.
            sharpness: γ, see `opinions`.

        Raises:
            ValueError: the guidance has no boxes.
        """
        return opinions(self.set_of_boxes, boxes, image, sharpness)

    @property
    def set_of_boxes(self) -> tuple[TeacherBoxes, ...]:
        """The boxes of each image.

        Raises:
            ValueError: the teacher offers none, or nobody wanted them.
        """
        if self.boxes is None:
            raise ValueError("this guidance has no boxes, so no opinion of others")
        return self.boxes

    @property
    def ratio(self) -> float:
        """Of the size of the images that the teacher read to the student's."""
        return 1.0

    @property
    def extent(self) -> tuple[float, float]:
        """Height and width of the canvas that the teacher read, in those of the student's."""
        return 1.0, 1.0

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        sizes: list[int] = []

        def measured(parts: list[Tensor]) -> Tensor:
            sizes.append(parts[0].nbytes)
            return parts[0]

        if self.output is not None:
            combined([self.output], measured)
        return sum(sizes) + sum(each.boxes.nbytes + each.probabilities.nbytes for each in self.boxes or ())

    def of_image(self, number: int) -> Guidance:
        """That of one image."""
        return Guidance(
            None if self.output is None else combined([self.output], lambda parts: parts[0][number : number + 1]),
            None if self.boxes is None else self.boxes[number : number + 1],
        )

    def moved(self, device: torch.device | str, *, copy: bool = False) -> Guidance:
        """The same on another device."""
        return Guidance(
            None if self.output is None else combined([self.output], lambda parts: parts[0].to(device, copy=copy)),
            None if self.boxes is None else tuple(each.to(device) for each in self.boxes),
        )

    @classmethod
    def joined(cls, parts: Sequence[Guidance]) -> Self:
        """That of a batch, from its images'."""
        outputs = [part.output for part in parts if part.output is not None]
        boxes = [part.boxes for part in parts if part.boxes is not None]
        return cls(combined(outputs, torch.cat) if outputs else None, sum(boxes, start=()) if boxes else None)


@runtime_checkable
class Teacher(Protocol):
    """Whatever predicts for a batch of images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of its predictions."""

    @property
    def kind(self) -> str:
        """Its name in the literature."""

    @property
    def offers(self) -> frozenset[Offer]:
        """What can be asked of it."""

    @property
    def size(self) -> ImageSize | None:
        """The size of the images that it was made for; None if that is not known, or does not matter."""

    @property
    def stored(self) -> BoxSource | None:
        """What it predicted beforehand in the images of a dataset; None for teachers that read images."""

    @property
    def tower_head(self) -> TowerHead | None:
        """The head that runs on given features, of teachers that offer `head`."""

    @property
    def region_reader(self) -> RegionReader | None:
        """The second stage that reads given proposals, of teachers that offer `rois`."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """What a run remembers of it, of JSON types: where it came from, and a hash of what decides its predictions.

        A run is resumed with a teacher of the same origin only.
        """

    def guide(self, batch: TeacherBatch) -> Guidance:
        """Predict a batch, without gradient. The teacher owns its preprocessing."""

    def notes(self, student: InputSpec) -> list[str]:
        """What a user should know about what this teacher reads, a line each.

        Args:
            student: what the student reads, but for the size, which is that of the teacher's images.
        """
