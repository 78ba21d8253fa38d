"""Resized images on a canvas, each in its upper left corner."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def on_canvas(images: Sequence[Tensor], canvas: tuple[int, int]) -> Tensor:
    """Stack images `(3, h, w)` as `(N, 3, H, W)`; what they leave free is 0.

    Args:
        images: at least one, none larger than the canvas.
        canvas: height and width in pixels.
    """
    batch = images[0].new_zeros(len(images), images[0].shape[0], *canvas)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch
