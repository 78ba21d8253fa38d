"""How the images of a batch are shown to a teacher: as the student reads them, or at a size of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import Offer
from detdistill.core.structures import Targets, TeacherImages
from detdistill.core.teacher_size import SAME_SIZE, at_ratio, at_ratio_of, canvas_at, in_words
from detdistill.distill.scaled_guidance import ImageScales, scaled_guidance
from detdistill.teachers.teacher import Guidance, TeacherBatch


@dataclass(frozen=True)
class TeacherScale:
    """What lies between the images of a student and those of its teacher.

    Attributes:
        ratio: of the size of the teacher's images to the student's; with 1 both read the same images.
    """

    ratio: Fraction = SAME_SIZE

    def batch(self, images: Tensor, targets: Targets, wanted: frozenset[Offer]) -> TeacherBatch:
        """What the teacher gets of a batch.

        Args:
            images: `(N, 3, H, W)` that the student reads.
            targets: with their sizes, what is stored, and the teacher's images where it has a size of its own.
            wanted: what is read of its guidance.

        Raises:
            DetdistillError: the teacher's images are missing or too small.
        """
        if self.ratio == SAME_SIZE:
            return TeacherBatch(images, targets.sizes, wanted, targets.stored)
        shown, scales = self._shown(images, targets)
        stored = targets.stored and tuple(scales.enlarged(found, place) for place, found in enumerate(targets.stored))
        return TeacherBatch(shown.images, shown.sizes, wanted, stored)

    def for_student(self, guidance: Guidance, images: Tensor, targets: Targets) -> Guidance:
        """What the teacher predicts, in pixels of the student's canvas; the other arguments are those of `batch`."""
        if self.ratio == SAME_SIZE:
            return guidance
        shown, scales = self._shown(images, targets)
        height, width = (float(shown.images.shape[axis] / (self.ratio * images.shape[axis])) for axis in (2, 3))
        return scaled_guidance(guidance, scales, self.ratio, (height, width))

    def example(self, canvas: tuple[int, int], device: torch.device) -> tuple[Tensor, Targets]:
        """Noise without objects on a canvas (height, width), and the targets with what the teacher reads."""
        # Noise moves features about as far as photographs do: adapters take their scale from it.
        images = torch.randint(0, 256, (1, 3, *canvas), dtype=torch.uint8).to(device)
        sizes = torch.tensor([canvas], device=device)
        nothing = Targets.from_images([sizes.new_zeros(0, 4).float()], [sizes.new_zeros(0)], sizes)
        if self.ratio == SAME_SIZE:
            return images, nothing
        shown = torch.randint(0, 256, (1, 3, *canvas_at(canvas, self.ratio)), dtype=torch.uint8).to(device)
        return images, replace(
            nothing, teacher_images=TeacherImages(shown, sizes.new_tensor([at_ratio_of(canvas, self.ratio)]))
        )

    def input(self, student: InputSpec) -> InputSpec:
        """What a student reads, at the size of the teacher's images."""
        size = None if student.size is None else at_ratio(student.size, self.ratio)
        canvas = None if student.canvas is None else canvas_at(student.canvas, self.ratio)
        return replace(student, size=size, canvas=canvas)

    def notes(self, student: InputSpec) -> list[str]:
        """What a user should know about the two sizes, a line each."""
        if self.ratio == SAME_SIZE:
            return []
        size, factor = self.input(student).size, float(self.ratio)
        words = "" if size is None else f" ({in_words(size)})"
        return [
            f"distill.teacher_images: the teacher's images are {factor:.4g} times as large as the student's{words}; "
            f"its forward pass costs about {factor**2:.3g} times as much in every step, unless distill.memory keeps "
            "its predictions, or the teacher resizes its images itself"
        ]

    def _shown(self, images: Tensor, targets: Targets) -> tuple[TeacherImages, ImageScales]:
        """The images that the teacher reads, and how much larger they are."""
        shown = targets.teacher_images
        height, width = canvas_at((images.shape[2], images.shape[3]), self.ratio)
        expected = f"{len(images)} on a canvas of {height}x{width} pixels, {float(self.ratio):.4g} times the student's"
        if shown is None:
            raise DetdistillError(
                f"targets.teacher_images is None; expected {expected}: load the batches with TeacherInputs(ratio=...)"
            )
        found = tuple(shown.images.shape)
        if found[0] != len(images) or found[2] < height or found[3] < width:
            raise DetdistillError(
                f"targets.teacher_images has {found[0]} images on a canvas of {found[2]}x{found[3]} pixels; expected "
                f"{expected}"
            )
        return shown, ImageScales.of(targets.sizes, shown.sizes)
