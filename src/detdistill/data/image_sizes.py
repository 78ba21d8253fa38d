"""The size that annotations were made for, and the size of the image file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable
from detdistill.core.errors import DataError, Problem
from detdistill.core.images import Size, possible_sizes
from detdistill.core.packed_texts import PackedTexts
from detdistill.core.parallel import work_through
from detdistill.core.rle import resized
from detdistill.data.assembly import raise_fatal, shown
from detdistill.data.size_cache import SizeCheck

_RESCALE = (
    "if the images were resized after they were annotated, rescale the boxes with --rescale (in a recipe: "
    "data.rescale: true); otherwise correct the size in the annotations"
)


def check_sizes(dataset: DetectionDataset, *, rescale: bool, use_cache: bool = True) -> DetectionDataset:
    """Compare the annotated size of every image with its file's header.

    Args:
        dataset: The annotations.
        rescale: Rescale the boxes of an image whose file has another size, each axis by its own factor, instead of
            refusing it.
        use_cache: Do not open images that had their annotated sizes when they were opened before, and seem unchanged.

    Returns:
        The dataset; where boxes were rescaled, with the files' sizes and a problem each.

    Raises:
        DataError: An image cannot be opened, or has another size than its annotations; all are listed.
    """
    check = SizeCheck(dataset.images)
    if use_cache and check.is_known():
        return dataset
    problems = list(dataset.problems)
    new_sizes: dict[int, Size] = {}
    sizes = dataset.images.sizes.tolist()
    for index, found in enumerate(work_through(dataset.images.paths, header_sizes, "checking image sizes")):
        if isinstance(found, DataError):
            problems.append(unusable_image(dataset.images[index], dataset.source, found))
        elif tuple(sizes[index]) not in found:
            record = dataset.images[index]
            problem = _other_size(record, found, dataset.source, rescale=rescale)
            problems.append(problem)
            if not problem.fatal:
                new_sizes[index] = found[0]
    raise_fatal(dataset.source, problems)
    if len(problems) == len(dataset.problems):
        check.remember()
    images = _rescaled(dataset.images, new_sizes) if new_sizes else dataset.images
    return replace(dataset, images=images, problems=tuple(problems))


def header_sizes(path: str) -> tuple[Size, Size] | DataError:
    """Return the two sizes that annotations of an image can be made for, or why it cannot be opened."""
    try:
        return possible_sizes(Path(path))
    except DataError as error:
        return error


def unusable_image(record: ImageRecord, source: str, error: DataError) -> Problem:
    """Return the problem of an image that cannot be opened or decoded."""
    # The same fault of other files has the same description behind the path.
    group = str(error).removeprefix(f"{record.path}: ")
    place = f"{source}: image {shown(record.image_id)}"
    return Problem(place, str(error), fatal=True, unit="image", group=group)


def _other_size(record: ImageRecord, sizes: tuple[Size, Size], source: str, *, rescale: bool) -> Problem:
    """Return the problem of an image of another size than its annotations; fatal unless its boxes are rescaled."""
    place = f"{source}: image {shown(record.image_id)}"
    height, width = sizes[0]
    fault = f"size in the annotations is {record.width}x{record.height}, in the file {width}x{height}"
    group = "the size in the annotations differs from the file's"
    if (record.width, record.height) in sizes:
        remedy = "width and height are swapped, correct them in the annotations"
    elif not rescale:
        remedy = _RESCALE
    else:
        done = "boxes rescaled"
        return Problem(place, f"{fault}; {done}", outcome="changed", unit="image", group=f"{group}; {done}")
    return Problem(place, f"{fault}; {remedy}", fatal=True, unit="image", group=f"{group}; {remedy}")


def _rescaled(images: ImageTable, new_sizes: dict[int, Size]) -> ImageTable:
    """Return the table with new sizes, height and width, of some images, their boxes and areas rescaled."""
    sizes = images.sizes.copy()
    sizes[list(new_sizes)] = list(new_sizes.values())
    scale: NDArray[np.float64] = (sizes / images.sizes)[images.image_of_object, ::-1]  # across, down
    changed = (scale != 1).any(axis=1)
    limits = np.tile(sizes[images.image_of_object, ::-1], 2)
    return replace(
        images,
        masks=None if images.masks is None else _resized_masks(images, images.masks, sizes),
        sizes=sizes,
        boxes=np.where(changed[:, None], np.minimum(images.boxes * np.tile(scale, 2), limits), images.boxes),
        areas=np.where(changed, images.areas * scale[:, 0] * scale[:, 1], images.areas),
    )


def _resized_masks(images: ImageTable, masks: PackedTexts, sizes: NDArray[np.int64]) -> PackedTexts:
    """Return the masks at new sizes `(n, 2)` of their images."""
    places = images.image_of_object
    pairs = zip(masks, images.sizes[places].tolist(), sizes[places].tolist(), strict=True)
    return PackedTexts.of(
        resized(text, (old[0], old[1]), (new[0], new[1])) if text and old != new else text for text, old, new in pairs
    )
