"""Images as a model of transformers reads them: resized, normalized and padded by its own image processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detdistill.core.image_options import ImageSize
from detdistill.teachers.teacher import TeacherBatch
from detdistill.teachers.transformers.transformers_maps import Frame


@dataclass(frozen=True)
class Piece:
    """Some images of a batch that a model can read together.

    Attributes:
        numbers: their places in the batch.
        frame: how all of them are read.
        inputs: `pixel_values` `(N, 3, H, W)` float32 and, where the processor makes one, `pixel_mask` `(N, H, W)`.
    """

    numbers: list[int]
    frame: Frame
    inputs: dict[str, Tensor]


class ImageReader:
    """Runs an image processor of transformers on batches.

    Each image is cut out of its canvas and resized from its true size. Images of one size are read together, so that
    what is predicted in an image depends on no other one. Where the processor leaves the size as it is and the model
    takes whole canvases only, the whole canvas is read, with what lies beyond the images as the processor pads.

    Args:
        processor: of transformers.
        whole_canvas: the model reads no other sizes than those of canvases, unless the processor resizes.
    """

    def __init__(self, processor: Any, *, whole_canvas: bool) -> None:
        self._processor = processor
        self._whole_canvas = whole_canvas and not self.resizes
        self._canvas_frames: dict[tuple[int, int], Frame] = {}

    def pieces(self, batch: TeacherBatch) -> list[Piece]:
        """Return the images of a batch in as few pieces as possible."""
        canvas = int(batch.images.shape[-2]), int(batch.images.shape[-1])
        sizes: list[tuple[int, int]] = [(height, width) for height, width in batch.sizes.tolist()]
        crops = [image[:, :height, :width] for image, (height, width) in zip(batch.images, sizes, strict=True)]
        if self._whole_canvas:
            inputs = self._inputs(crops, do_pad=True, pad_size={"height": canvas[0], "width": canvas[1]})
            return [Piece(list(range(len(crops))), Frame(canvas, canvas, canvas, canvas), inputs)]
        pieces = []
        for size in dict.fromkeys(sizes):
            numbers = [number for number, other in enumerate(sizes) if other == size]
            inputs = self._inputs([crops[number] for number in numbers])
            pieces.append(Piece(numbers, _frame(canvas, size, inputs), inputs))
        return pieces

    def canvas_frame(self, canvas: tuple[int, int]) -> Frame:
        """Return how an image as large as a canvas (height, width) would be read."""
        if self._whole_canvas:
            return Frame(canvas, canvas, canvas, canvas)
        if canvas not in self._canvas_frames:
            inputs = self._inputs([torch.zeros(3, *canvas, dtype=torch.uint8)])
            self._canvas_frames[canvas] = _frame(canvas, canvas, inputs)
        return self._canvas_frames[canvas]

    @property
    def resizes(self) -> bool:
        """Whether images are read at other sizes than they have on the canvas."""
        return bool(self._processor.do_resize)

    @property
    def size(self) -> ImageSize | None:
        """The size that images are resized to, as far as it has two sides; None if they are not resized."""
        if not self.resizes:
            return None
        size = dict(self._processor.size or {})
        for names in (("height", "width"), ("shortest_edge", "longest_edge")):
            sides = [side for name in names if isinstance(side := size.get(name), int) and side > 0]
            if len(sides) == len(names):
                return ImageSize(short_side=min(sides), long_side=max(sides))
        return None

    def in_words(self) -> str:
        """The size that images are resized to."""
        size = {key: value for key, value in dict(self._processor.size or {}).items() if value is not None}
        if self._whole_canvas:
            return "as large as on their canvas, with the canvas's padding"
        if not self.resizes:
            return "as large as on their canvas"
        if {"height", "width"} <= size.keys():
            return f"stretched to {size['height']}x{size['width']} pixels"
        return "resized to " + ", ".join(f"{key.replace('_', ' ')} {value} pixels" for key, value in size.items())

    def _inputs(self, images: list[Tensor], **changes: Any) -> dict[str, Tensor]:
        found = self._processor(images=images, return_tensors="pt", input_data_format="channels_first", **changes)
        return {name: found[name] for name in ("pixel_values", "pixel_mask") if name in found}


def _frame(canvas: tuple[int, int], size: tuple[int, int], inputs: dict[str, Tensor]) -> Frame:
    padded = int(inputs["pixel_values"].shape[-2]), int(inputs["pixel_values"].shape[-1])
    if "pixel_mask" not in inputs:
        return Frame(canvas, size, padded, padded)
    mask = inputs["pixel_mask"][0] > 0
    return Frame(canvas, size, (int(mask.any(dim=1).sum()), int(mask.any(dim=0).sum())), padded)
