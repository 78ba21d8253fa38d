"""Detections in pixels of the image itself."""

from __future__ import annotations

from dataclasses import replace

from detdistill.core.boxes import boxes_to_original
from detdistill.core.mask_pasting import paste_masks
from detdistill.core.structures import Detections


def in_pixels_of_image(found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Detections:
    """Bring detections in a resized image back to the original one, and paste their masks there.

    Args:
        found: In pixels of the resized image.
        size: True height and width of the resized image (without batch padding).
        original: Height and width of the original image.

    Returns:
        The detections in pixels of the original image, clipped to it; `masks` in place of `mask_probabilities`.
    """
    boxes = boxes_to_original(found.boxes, size, original)
    masks = None
    if found.mask_probabilities is not None:
        # Masks are pasted at the original's size, with boxes that are not clipped: clipping would squeeze them.
        scale = boxes.new_tensor((original[1] / size[1], original[0] / size[0])).repeat(2)
        masks = paste_masks(found.mask_probabilities, found.boxes * scale, original)
    return replace(found, boxes=boxes, mask_probabilities=None, masks=masks)
