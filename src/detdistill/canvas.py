"""Images of different sizes on one canvas, each in its upper left corner."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

PADDING = 32
"""Canvas sides are multiples of this, in pixels, as mmdetection and torchvision measured their published scores."""


def on_one_canvas(images: Sequence[Tensor], *, multiple: int = PADDING, side: int | None = None) -> Tensor:
    """Images `(3, h, w)` of any sizes as `(N, 3, H, W)`; what they leave free is 0.

    Args:
        images: at least one.
        multiple: H and W are multiples of this, in pixels.
        side: least H and W, in pixels; None: as large as the largest image.
    """
    height, width = (
        -(-max(side or 0, *(image.shape[axis] for image in images)) // multiple) * multiple for axis in (1, 2)
    )
    canvas = images[0].new_zeros(len(images), images[0].shape[0], height, width)
    for place, image in zip(canvas, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return canvas
