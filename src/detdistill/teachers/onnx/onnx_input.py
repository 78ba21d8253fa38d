"""Images as an ONNX file reads them, and where they lie in its input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from detdistill.core.image_options import scaled
from detdistill.teachers.onnx.onnx_card import CardInput
from detdistill.teachers.onnx.onnx_settings import Filling

WHITE = 255.0


@dataclass(frozen=True, eq=False)
class PlacedImages:
    """N images in the input of a file.

    Attributes:
        pixels: `(N, 3, H, W)` float32 RGB, 0 to 255, of the input's size.
        original: `(N, 2)` int64, height and width of each image before it was resized.
        resized: `(N, 2)` int64, height and width of each image in the input.
        offset: `(N, 2)` int64, rows above and columns left of each image in the input.
        unmoved: the canvas is read as it is: nothing was moved or resized.
    """

    pixels: Tensor
    original: Tensor
    resized: Tensor
    offset: Tensor
    unmoved: bool

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        return int(self.pixels.shape[2]), int(self.pixels.shape[3])

    def to_canvas(self, boxes: Tensor) -> Tensor:
        """Bring boxes `(N, P, 4)` from pixels of the input to pixels of the canvas."""
        scale = (self.original / self.resized).flip(1).repeat(1, 2)[:, None]
        return (boxes - self.offset.flip(1).repeat(1, 2)[:, None]) * scale

    def filling(self, kind: Filling) -> Tensor:
        """What another input of the file gets: sizes `(N, 2)`, or a mask `(N, H, W)` of 1 where an image is."""
        if kind == "mask":
            rows, columns = (torch.arange(side) for side in self.size)
            first, last = self.offset, self.offset + self.resized
            is_row = (rows >= first[:, :1]) & (rows < last[:, :1])
            is_column = (columns >= first[:, 1:]) & (columns < last[:, 1:])
            return (is_row[:, :, None] & is_column[:, None]).long()
        of_input = torch.tensor([self.size]).expand_as(self.original)
        what, _, order = kind.partition("_")
        sizes = {"input": of_input, "resized": self.resized, "original": self.original}[what]
        return sizes.flip(1) if order == "wh" else sizes


def input_size(card: CardInput, canvas: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the input for a canvas (height, width)."""
    if card.size is not None:
        return card.size
    height, width = (-(-side // card.multiple) * card.multiple for side in canvas)
    return height, width


def placed(images: Tensor, sizes: Tensor, card: CardInput, *, keep_place: bool) -> PlacedImages:
    """Resize images and put them where a file expects them.

    Args:
        images: `(N, 3, H, W)` uint8 RGB on the CPU, each in the upper left corner of its canvas.
        sizes: `(N, 2)` true height and width of each image, on the CPU.
        card: what the file reads.
        keep_place: read a canvas of the input's size as it is, so that cells of the input are cells of the canvas.
    """
    canvas = int(images.shape[2]), int(images.shape[3])
    target = input_size(card, canvas)
    unmoved = keep_place and target == canvas
    pixels = torch.tensor(card.pad_color, dtype=torch.float32)[:, None, None].repeat(len(images), 1, 1, 1)
    pixels = pixels.expand(-1, -1, *target).contiguous()
    resized, offsets = [], []
    for place, image, (height, width) in zip(pixels, images, sizes.tolist(), strict=True):
        size, (top, left) = _place((height, width), target, "pad" if unmoved else card.resize)
        own = image[:, :height, :width].float()
        if size != (height, width):
            own = F.interpolate(own[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
        place[:, top : top + size[0], left : left + size[1]] = own
        resized.append(size)
        offsets.append((top, left))
    return PlacedImages(pixels, sizes.long(), torch.tensor(resized), torch.tensor(offsets), unmoved)


def as_input(pixels: Tensor, card: CardInput, type_name: str) -> NDArray[np.generic]:
    """Return pixels `(N, 3, H, W)`, 0 to 255 RGB, as the file's input of an element type such as `tensor(float)`."""
    values = pixels / WHITE if card.pixel_range == "0..1" else pixels
    mean, std = (values.new_tensor(channels)[:, None, None] for channels in (card.mean, card.std))
    values = (values - mean) / std
    if card.bgr:
        values = values.flip(1)
    if card.layout == "nhwc":
        values = values.permute(0, 2, 3, 1)
    if type_name == "tensor(uint8)":
        values = values.round().clamp(0, WHITE)
    array: NDArray[np.generic] = values.contiguous().numpy().astype(TYPES[type_name])
    return array


TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
"""Element types of inputs, in onnxruntime's words."""
IMAGE_TYPES = ("tensor(float)", "tensor(float16)", "tensor(double)", "tensor(uint8)")
"""Those that images can have."""


def _place(size: tuple[int, int], target: tuple[int, int], resize: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of a resized image in the input, and the row and column of its upper left corner."""
    if resize == "stretch":
        return target, (0, 0)
    factor = min(wanted / own for wanted, own in zip(target, size, strict=True))
    if resize == "pad":
        factor = min(factor, 1.0)
    height, width = scaled(size, factor)
    if resize == "pad":
        return (height, width), (0, 0)
    return (height, width), ((target[0] - height) // 2, (target[1] - width) // 2)
