"""What an annotated data set holds, in numbers, and which of its images cannot be decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem, counted
from detdistill.core.images import read_image
from detdistill.core.progress import track
from detdistill.data.image_sizes import unusable_image

SMALL, MEDIUM = 32, 96
"""COCO calls objects below 32 x 32 square pixels small and below 96 x 96 medium."""

SIDE_EDGES = (0, 8, 16, 24, SMALL, 48, 64, MEDIUM, 128, 192, 256, 384, 512)
"""Bounds of the histogram's bins, in pixels: square root of the box's area; the last bin is open."""


@dataclass(frozen=True)
class ClassCounts:
    """How often one class occurs; crowd regions are counted apart.

    Attributes:
        name: of the class.
        category_id: that result files use.
        objects: annotated objects.
        images: that have at least one of these objects.
        small: objects by COCO's measure, which uses the annotated area.
        medium: the same.
        large: the same.
        difficult: objects with VOC's flag.
        crowd: regions of many objects.
    """

    name: str
    category_id: int
    objects: int
    images: int
    small: int
    medium: int
    large: int
    difficult: int
    crowd: int


@dataclass(frozen=True)
class Inspection:
    """A data set in numbers.

    Attributes:
        images: number of images.
        without_objects: images that have none.
        most_objects: the largest number of objects in one image.
        image_sizes: smallest, median and largest (width, height), by number of pixels.
        classes: in the data set's order.
        box_sides: objects per bin of `SIDE_EDGES`.
    """

    images: int
    without_objects: int
    most_objects: int
    image_sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    classes: tuple[ClassCounts, ...]
    box_sides: tuple[int, ...]

    def __str__(self) -> str:
        objects = sum(row.objects for row in self.classes)
        classes = counted(len(self.classes), "class")
        return f"{counted(self.images, 'image')}, {counted(objects, 'object')} of {classes}"


def inspect_dataset(dataset: DetectionDataset) -> Inspection:
    """Counts, without looking at the image files; the data set holds at least one image."""
    images = dataset.images
    labels, boxes, crowd = images.labels, images.boxes, images.crowd
    image = images.image_of_object
    per_image = np.bincount(image[~crowd], minlength=len(images))
    size = np.digitize(images.areas, (SMALL**2, MEDIUM**2))
    classes = []
    for label, (name, category_id) in enumerate(zip(dataset.classes, dataset.category_ids, strict=True)):
        objects = (labels == label) & ~crowd
        small, medium, large = (int((objects & (size == bin_)).sum()) for bin_ in range(3))
        classes.append(
            ClassCounts(
                name=name,
                category_id=category_id,
                objects=int(objects.sum()),
                images=len(np.unique(image[objects])),
                small=small,
                medium=medium,
                large=large,
                difficult=int((objects & images.difficult).sum()),
                crowd=int(((labels == label) & crowd).sum()),
            )
        )
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))[~crowd]
    bins = np.bincount(np.digitize(sides, SIDE_EDGES[1:]), minlength=len(SIDE_EDGES))
    by_pixels = sorted(map(tuple, images.sizes[:, ::-1].tolist()), key=lambda side: (side[0] * side[1], side))
    return Inspection(
        images=len(images),
        without_objects=int((per_image == 0).sum()),
        most_objects=int(per_image.max()),
        image_sizes=(by_pixels[0], by_pixels[len(by_pixels) // 2], by_pixels[-1]),
        classes=tuple(classes),
        box_sides=tuple(bins.tolist()),
    )


def undecodable_images(dataset: DetectionDataset) -> tuple[Problem, ...]:
    """Decode every image, show progress, and return the problems of those that cannot be used, all fatal."""
    problems = []
    for record in track(dataset.images, "decoding images"):
        try:
            read_image(record.path, (record.height, record.width))
        except DataError as error:
            problems.append(unusable_image(record, dataset.source, error))
    return tuple(problems)
