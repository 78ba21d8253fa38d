"""The size that annotations were made for, and the size of the image file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.errors import DataError, Problem
from detdistill.core.images import Size, possible_sizes
from detdistill.core.progress import track
from detdistill.data.assembly import raise_fatal, shown

_RESCALE = (
    "if the images were resized after they were annotated, rescale the boxes with --rescale (in a recipe: "
    "data.rescale: true); otherwise correct the size in the annotations"
)


def check_sizes(dataset: DetectionDataset, *, rescale: bool) -> DetectionDataset:
    """Compare the annotated size of every image with its file's header.

    Args:
        dataset: The annotations.
        rescale: Rescale the boxes of an image whose file has another size, each axis by its own factor, instead of
            refusing it.

    Returns:
        The dataset; where boxes were rescaled, with the files' sizes and a problem each.

    Raises:
        DataError: An image cannot be opened, or has another size than its annotations; all are listed.
    """
    problems = list(dataset.problems)
    records = []
    for record in track(dataset.images, "checking image sizes"):
        place = f"{dataset.source}: image {shown(record.image_id)}"
        try:
            sizes = possible_sizes(record.path)
        except DataError as error:
            problems.append(unusable_image(record, dataset.source, error))
            continue
        records.append(_fitted(record, sizes, place, problems, rescale=rescale))
    raise_fatal(dataset.source, problems)
    return replace(dataset, images=tuple(records), problems=tuple(problems))


def unusable_image(record: ImageRecord, source: str, error: DataError) -> Problem:
    """Return the problem of an image that cannot be opened or decoded."""
    # The same fault of other files has the same description behind the path.
    group = str(error).removeprefix(f"{record.path}: ")
    place = f"{source}: image {shown(record.image_id)}"
    return Problem(place, str(error), fatal=True, unit="image", group=group)


def _fitted(
    record: ImageRecord, sizes: tuple[Size, Size], place: str, problems: list[Problem], *, rescale: bool
) -> ImageRecord:
    """The record for the size of its file, if that can be had."""
    if (record.height, record.width) in sizes:
        return record
    height, width = sizes[0]
    fault = f"size in the annotations is {record.width}x{record.height}, in the file {width}x{height}"
    group = "the size in the annotations differs from the file's"
    if (record.width, record.height) in sizes:
        remedy = "width and height are swapped, correct them in the annotations"
    elif not rescale:
        remedy = _RESCALE
    else:
        across, down = width / record.width, height / record.height
        scale = np.array([across, down, across, down])
        done = "boxes rescaled"
        problems.append(Problem(place, f"{fault}; {done}", outcome="changed", unit="image", group=f"{group}; {done}"))
        return replace(
            record,
            width=width,
            height=height,
            boxes=np.minimum(record.boxes * scale, (width, height, width, height)),
            areas=record.areas * across * down,
        )
    problems.append(Problem(place, f"{fault}; {remedy}", fatal=True, unit="image", group=f"{group}; {remedy}"))
    return record
