"""Canvases of one size, as an exported model takes them: how large they must be, and images on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.annotations import DetectionDataset, ImageRecord
from detdistill.canvas import PADDING
from detdistill.data.loading import evaluation_loader
from detdistill.detectors.description import ImageSize
from detdistill.errors import DetdistillError
from detdistill.image_options import ImageOptions

BATCHES = (1, 2, 3)
"""Sizes of the batches that an exported model is tried with, in turns."""

Canvases = tuple[Tensor, Tensor]
"""Images `(N, 3, H, W)` uint8 and their true sizes `(N, 2)`."""


def canvas_of(folder: Path, made_for: ImageSize | None, images: Sequence[ImageRecord] = ()) -> tuple[int, int]:
    """Height and width of the smallest canvas that holds all images, resized as `made_for` says.

    An empty margin is not free: it is computed, and group norm counts it among the features.

    Args:
        folder: of the run, for the message.
        made_for: the size of its images.
        images: none for a square that holds any image, whichever way it lies.

    Raises:
        DetdistillError: the size is not known.
    """
    if made_for is None:
        raise DetdistillError(
            f"{folder / 'model.json'} does not tell the size of images that the detector was made for: give the canvas "
            "with --height and --width"
        )
    options = ImageOptions(**asdict(made_for))
    if options.letterbox or not images:
        side = _up(options.letterbox or options.long_side)
        return side, side
    fitted = [options.fitted((image.height, image.width)) for image in images]
    return _up(max(height for height, _ in fitted)), _up(max(width for _, width in fitted))


def _up(side: int) -> int:
    return -(-side // PADDING) * PADDING


def on_canvas(images: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Images `(N, 3, h, w)` in the upper left corner of a canvas `(N, 3, H, W)`.

    Raises:
        DetdistillError: they are larger.
    """
    height, width = images.shape[-2:]
    if height > canvas[0] or width > canvas[1]:
        raise DetdistillError(
            f"an image of {height}x{width} pixels does not fit on the canvas of {canvas[0]}x{canvas[1]}: export with a "
            "larger --height and --width, or with --any-size"
        )
    return F.pad(images, (0, canvas[1] - width, 0, canvas[0] - height))


def noise(canvas: tuple[int, int], count: int) -> Iterator[Canvases]:
    """Blobs of all scales, so that features vary as in photographs; the second half does not fill the canvas."""
    random = torch.Generator().manual_seed(0)
    for number, batch in enumerate(_batch_sizes(count)):
        coarse = [
            torch.nn.functional.interpolate(
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


def photographs(
    dataset: DetectionDataset, options: ImageOptions, canvas: tuple[int, int] | None, count: int
) -> Iterator[Canvases]:
    """The first images of a data set.

    Args:
        dataset: of the images.
        options: the size to resize to.
        canvas: height and width; None: each batch has the smallest one.
        count: number of images.

    Raises:
        DetdistillError: an image does not fit on the canvas.
    """
    few = replace(dataset, images=dataset.images[:count])
    start = 0
    for batch_size in _batch_sizes(len(few.images)):
        part = replace(few, images=few.images[start : start + batch_size])
        start += batch_size
        for batch in evaluation_loader(part, options, batch_size=batch_size, multiple=1 if canvas else PADDING):
            yield batch.images if canvas is None else on_canvas(batch.images, canvas), batch.targets.sizes


def _batch_sizes(count: int) -> Iterator[int]:
    turn = 0
    while count > 0:
        size = min(BATCHES[turn % len(BATCHES)], count)
        yield size
        count -= size
        turn += 1
