"""Ground truth, assignment and detections.

Boxes are x1 y1 x2 y2 in pixels of the batch canvas. Sizes are (height, width). Letters in shapes: N images,
P candidates, C classes, G ground-truth objects and I ignored boxes of the whole batch, K chosen candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from detdistill.core.draws import Draws
from detdistill.core.instance_masks import InstanceMasks

BACKGROUND = -1
IGNORED = -2

ReduceSum = Callable[[Tensor], Tensor]
"""Sums a tensor of counts or weights over all processes; the identity where there is only one."""


def single_process(value: Tensor) -> Tensor:
    """The `ReduceSum` of a run with one process: returns `value` as it is."""
    return value


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in one image, best first.

    Attributes:
        boxes: `(K, 4)` in pixels.
        scores: `(K,)` 0 to 1.
        labels: `(K,)` int64, 0 to C - 1.
        mask_probabilities: `(K, M, M)` 0 to 1, the object's mask on a grid of cells that covers each box; None for a
            detector without masks, and where the masks were pasted.
        masks: of the K objects, in pixels of the image itself; None for a detector without masks, and before
            `in_pixels_of_image` has pasted the probabilities.
    """

    boxes: Tensor = field(default_factory=lambda: torch.zeros(0, 4))
    scores: Tensor = field(default_factory=lambda: torch.zeros(0))
    labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    mask_probabilities: Tensor | None = field(default=None, kw_only=True)
    masks: InstanceMasks | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: Tensor) -> Self:
        """Return some of the detections: `chosen` is a bool mask `(K,)`, or indices in the wanted order."""
        return replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            mask_probabilities=None if self.mask_probabilities is None else self.mask_probabilities[chosen],
            masks=None if self.masks is None else self.masks.take(chosen),
        )

    def to(self, device: torch.device | str) -> Self:
        """The same detections on another device."""
        return replace(
            self,
            boxes=self.boxes.to(device),
            scores=self.scores.to(device),
            labels=self.labels.to(device),
            mask_probabilities=None if self.mask_probabilities is None else self.mask_probabilities.to(device),
            masks=None if self.masks is None else self.masks.to(device),
        )


@dataclass(frozen=True, eq=False)
class TeacherBoxes:
    """What a teacher predicts in one image, best first. Scores of other classes than a box's own may be known.

    Attributes:
        boxes: `(J, 4)` in pixels.
        labels: `(J,)` int64, the class that each box was detected as, 0 to C - 1.
        probabilities: `(J, C)` of the teacher's classes, 0 to 1; 0 where a class is not known.
        floor: the score below which nothing is known: a place without boxes may hold an object of a lower score.
    """

    boxes: Tensor
    labels: Tensor
    probabilities: Tensor
    floor: float = 0.0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def scores(self) -> Tensor:
        """`(J,)` the probability of each box's own class."""
        return self.probabilities.gather(1, self.labels[:, None]).squeeze(1)

    @classmethod
    def from_detections(cls, found: Detections, num_classes: int, floor: float) -> Self:
        """Those of detections, of which only the detected class's score is known."""
        probabilities = found.scores.new_zeros(len(found), num_classes)
        probabilities[torch.arange(len(found), device=found.labels.device), found.labels] = found.scores
        return cls(found.boxes, found.labels, probabilities, floor)

    def detections(self) -> Detections:
        """The boxes with the scores of their own classes."""
        return Detections(self.boxes, self.scores, self.labels)

    def keep(self, chosen: Tensor, boxes: Tensor | None = None) -> Self:
        """Some of the boxes, `chosen` being a bool mask or indices; moved ones if `boxes` `(J, 4)` are given."""
        boxes = self.boxes if boxes is None else boxes
        return replace(self, boxes=boxes[chosen], labels=self.labels[chosen], probabilities=self.probabilities[chosen])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same on another device."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=non_blocking)
            for name in ("boxes", "labels", "probabilities")
        }
        return replace(self, **moved)


@dataclass(frozen=True, eq=False)
class TeacherImages:
    """The images of a batch as a teacher reads them that has a size of its own.

    Attributes:
        images: `(N, 3, H, W)` uint8 RGB, each in the upper left corner of its canvas, the rest 0.
        sizes: `(N, 2)` true height and width of each image.
    """

    images: Tensor
    sizes: Tensor

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same images on another device."""
        images = self.images.to(device, non_blocking=non_blocking)
        return replace(self, images=images, sizes=self.sizes.to(device, non_blocking=non_blocking))

    def of_images(self, start: int, stop: int) -> Self:
        """Return the images from `start` to before `stop`."""
        return replace(self, images=self.images[start:stop], sizes=self.sizes[start:stop])

    def pin_memory(self) -> Self:
        """The same images in page-locked memory."""
        return replace(self, images=self.images.pin_memory())


@dataclass(frozen=True, eq=False)
class Targets:
    """The ground truth of one batch, all its objects in one list.

    Attributes:
        boxes: `(G, 4)` in pixels of the batch canvas.
        labels: `(G,)` int64, 0 to C - 1.
        image: `(G,)` int64, the image each object is in, ascending.
        sizes: `(N, 2)` true height and width of each image; what lies beyond is padding.
        ignored: `(I, 4)` boxes whose inside is no background: crowd regions, and objects too difficult to train on.
        ignored_image: `(I,)` int64, the image each of them is in, ascending.
        draws: random numbers for detectors that draw in `forward` or `match`; None outside of training.
        stored: what a teacher predicted beforehand in each of the N images, moved as the objects were; None if nothing
            is stored.
        labelled: `(N,)` bool, which images are annotated; None for all. In the others objects are what a teacher finds.
        teacher_images: the same images at the teacher's own size; None if it reads the student's.
        masks: of the G objects, on the batch canvas; an object may have none. None if masks are not read.
    """

    boxes: Tensor
    labels: Tensor
    image: Tensor
    sizes: Tensor
    ignored: Tensor = field(default_factory=lambda: torch.zeros(0, 4))
    ignored_image: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    draws: Draws | None = None
    stored: tuple[TeacherBoxes, ...] | None = None
    labelled: Tensor | None = None
    teacher_images: TeacherImages | None = None
    masks: InstanceMasks | None = None

    def __post_init__(self) -> None:
        """Puts the defaults, which are made on the CPU, where the boxes are."""
        for name in ("ignored", "ignored_image"):
            object.__setattr__(self, name, getattr(self, name).to(self.boxes.device))

    @classmethod
    def from_images(
        cls,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        sizes: Tensor,
        ignored: Sequence[Tensor] | None = None,
    ) -> Self:
        """Join per-image boxes `(n, 4)` and labels `(n,)`, and ignored boxes `(i, 4)` where there are any."""
        joined = cls(torch.cat(tuple(boxes)), torch.cat(tuple(labels)), _places(boxes, sizes), sizes)
        if ignored is None:
            return joined
        return replace(joined, ignored=torch.cat(tuple(ignored)), ignored_image=_places(ignored, sizes))

    @classmethod
    def without_objects(cls, sizes: Tensor) -> Self:
        """Those of images of true height and width `sizes` `(N, 2)` of which nothing else is known."""
        nothing = torch.zeros(0, dtype=torch.int64, device=sizes.device)
        return cls(torch.zeros(0, 4, device=sizes.device), nothing, nothing, sizes)

    @property
    def num_images(self) -> int:
        """N."""
        return int(self.sizes.shape[0])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same targets on another device."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=non_blocking)
            for name in ("boxes", "labels", "image", "sizes", "ignored", "ignored_image")
        }
        stored = self.stored and tuple(each.to(device, non_blocking=non_blocking) for each in self.stored)
        labelled = None if self.labelled is None else self.labelled.to(device, non_blocking=non_blocking)
        teacher_images = self.teacher_images and self.teacher_images.to(device, non_blocking=non_blocking)
        masks = None if self.masks is None else self.masks.to(device, non_blocking=non_blocking)
        return replace(self, **moved, stored=stored, labelled=labelled, teacher_images=teacher_images, masks=masks)

    def of_images(self, start: int, stop: int) -> Self:
        """Return the targets of the images from `start` to before `stop`, counted from 0 again."""
        own = (self.image >= start) & (self.image < stop)
        near = (self.ignored_image >= start) & (self.ignored_image < stop)
        return replace(
            self,
            boxes=self.boxes[own],
            labels=self.labels[own],
            image=self.image[own] - start,
            sizes=self.sizes[start:stop],
            ignored=self.ignored[near],
            ignored_image=self.ignored_image[near] - start,
            draws=None if self.draws is None else self.draws.of_images(start, stop),
            stored=self.stored and self.stored[start:stop],
            labelled=None if self.labelled is None else self.labelled[start:stop],
            teacher_images=self.teacher_images and self.teacher_images.of_images(start, stop),
            masks=None if self.masks is None else self.masks.take(own),
        )


def _places(boxes: Sequence[Tensor], sizes: Tensor) -> Tensor:
    """The image of each box of per-image boxes, where `sizes` is."""
    counts = torch.tensor([len(image_boxes) for image_boxes in boxes])
    return torch.arange(len(boxes)).repeat_interleave(counts).to(sizes.device)


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which ground truth each candidate is positive for.

    Attributes:
        matched: `(N, P)` int64: index into the batch's `Targets` (0 to G - 1), `BACKGROUND` (-1) or `IGNORED` (-2).
    """

    matched: Tensor

    @cached_property
    def positive(self) -> tuple[Tensor, Tensor]:
        """Image and prior index of every positive, each `(K,)`, in order of image, then prior."""
        image, prior = (self.matched >= 0).nonzero(as_tuple=True)
        return image, prior

    @cached_property
    def positive_targets(self) -> Tensor:
        """`(K,)` the ground truth of every positive, in the order of `positive`."""
        return self.matched[self.positive]

    def labels(self, targets: Targets) -> Tensor:
        """`(N, P)` class of each candidate; `BACKGROUND` and `IGNORED` stay as they are."""
        if len(targets.labels) == 0:
            return self.matched
        return torch.where(self.matched >= 0, targets.labels[self.matched.clamp(min=0)], self.matched)


Matches = dict[str, Assignment]
"""The assignment of each stage's candidates, by the stage's name."""
