"""The canvases that an exported model takes, and images on them to verify and calibrate it with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions, ImageSize, rounded_up
from detdistill.data.loading import evaluation_loader
from detdistill.data.sampling import sample

BATCHES = (1, 2, 3)
"""Sizes of the batches that an exported model is tried with, in turns."""

Size = tuple[int, int]
"""Height and width in pixels."""

Canvases = tuple[Tensor, Tensor]
"""Images `(N, 3, H, W)` uint8 and their true sizes `(N, 2)`."""


def shared_canvas(options: ImageOptions, images: Sequence[ImageRecord] = ()) -> Size | None:
    """Return the canvas that all images have, or None if they have several or it is not known.

    Args:
        options: the size to resize to.
        images: that the model is for; without any, only a letterbox or a canvas in `options` is the same for all.
    """
    if options.letterbox or options.canvas:
        return options.canvas_of((1, 1))
    canvases = {options.canvas_of((image.height, image.width)) for image in images}
    return canvases.pop() if len(canvases) == 1 else None


def usual_canvas(folder: Path, made_for: ImageSize | None, images: Sequence[ImageRecord] = ()) -> Size:
    """Return a canvas to measure sizes and times on: the most frequent one, or without images a wide one.

    Raises:
        DetdistillError: the image size is unknown.
    """
    options = known_options(folder, made_for)
    counts: dict[Size, int] = {}
    for image in images:
        canvas = options.canvas_of((image.height, image.width))
        counts[canvas] = counts.get(canvas, 0) + 1
    if counts:
        return max(counts, key=lambda canvas: counts[canvas])
    return shared_canvas(options) or (rounded_up(options.short_side), rounded_up(options.long_side))


def known_options(folder: Path, made_for: ImageSize | None) -> ImageOptions:
    """Return the image size of a run folder.

    Raises:
        DetdistillError: `model.json` does not have it.
    """
    if made_for is None:
        raise DetdistillError(
            f"{folder / 'model.json'}: no image_size; expected the size of the images that the detector was trained "
            "on: give the canvas with --height and --width"
        )
    return ImageOptions(**vars(made_for))


def noise(canvases: Sequence[Size], count: int) -> Iterator[Canvases]:
    """Make blobs of all scales, so that features vary as in photographs; every second batch does not fill its canvas.

    Args:
        canvases: height and width of the batches, in turns.
        count: number of images.
    """
    random = torch.Generator().manual_seed(0)
    for number, batch in enumerate(_batch_sizes(count)):
        canvas = canvases[number // 2 % len(canvases)]
        coarse = [
            F.interpolate(
                torch.rand(batch, 3, side, side, generator=random), size=canvas, mode="bilinear", align_corners=False
            )
            for side in (2, 5, 16, 64)
        ]
        pixels = (torch.stack(coarse).mean(dim=0) * 255).to(torch.uint8)
        sizes = torch.tensor([canvas] * batch)
        if number % 2:
            sizes = sizes - torch.tensor([canvas[0] // 4, canvas[1] // 3])
            height, width = sizes[0].tolist()
            pixels[:, :, height:], pixels[:, :, :, width:] = 0, 0
        yield pixels, sizes


def photographs(dataset: DetectionDataset, options: ImageOptions, count: int) -> Iterator[Canvases]:
    """Draw images of a dataset at random, always the same ones, in batches of one to three of the same canvas.

    Args:
        dataset: of the images.
        options: the size to resize to, and the canvas.
        count: number of images.
    """
    names = dataset.images.file_names
    few = replace(dataset, images=dataset.images.take(sample(range(len(names)), count, names.__getitem__)))
    for batch in evaluation_loader(few, options, batch_size=sum(BATCHES)):
        start = 0
        for size in _batch_sizes(len(batch.images)):
            part = slice(start, start + size)
            yield batch.images[part], batch.targets.sizes[part]
            start += size


def _batch_sizes(count: int) -> Iterator[int]:
    turn = 0
    while count > 0:
        size = min(BATCHES[turn % len(BATCHES)], count)
        yield size
        count -= size
        turn += 1
