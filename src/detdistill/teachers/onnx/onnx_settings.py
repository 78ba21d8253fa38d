"""Fields of a card that may be missing in an ONNX file. Readable without torch: the command line is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

Layout = Literal["nchw", "nhwc"]
PixelRange = Literal["0..1", "0..255"]
Resize = Literal["stretch", "letterbox", "pad"]
BoxFormat = Literal["xyxy", "cxcywh"]
BoxUnit = Literal["input", "relative", "original"]
ScoreKind = Literal["logit", "probability", "softmax"]
Filling = Literal["input_wh", "input_hw", "resized_wh", "resized_hw", "original_wh", "original_hw", "mask"]


@dataclass(frozen=True, kw_only=True)
class CardSettings:
    """Fields of the card of an ONNX file; None for what is read from the file.

    Attributes:
        image: Name of the input that takes the images.
        layout: Order of the image input's dimensions: nchw or nhwc.
        size: Height and width in pixels that images are resized to, for a file that takes any.
        multiple: Sides of the input are multiples of this, in pixels, for a file that takes any size (1 to 8192).
        pixel_range: Pixel values before mean and std: 0..1 or 0..255.
        mean: Subtracted from pixel values, in the order red, green, blue and in the unit of pixel_range ([0,0,0] for
            none, [0.485,0.456,0.406] for ImageNet's with 0..1).
        std: Pixel values are divided by it, in the same order and unit ([1,1,1] for none, [0.229,0.224,0.225] for
            ImageNet's with 0..1).
        bgr: The network takes blue, green, red.
        resize: How an image gets the input's size: stretch (both sides on their own), letterbox (the ratio is kept, the
            image is centred) or pad (the image is only shrunk, and only if it does not fit, and lies in the upper left
            corner).
        pad_color: Red, green and blue of what letterbox and pad leave free, 0 to 255 ([114,114,114] for YOLO).
        extra_inputs: What other inputs get, by name, such as {orig_target_sizes: input_wh}: input_wh, resized_wh or
            original_wh for width and height of the input, of the resized image in it, or of the image before; input_hw,
            resized_hw, original_hw for height and width; mask for a map of 1 where the image is and 0 elsewhere.
        boxes: Name of the output with the boxes.
        scores: Name of the output with the scores; that of the boxes if one output holds both.
        labels: Name of the output with a class number for each box, where scores have one value for each box; that of
            the boxes if one output holds all.
        rows_last: The output is (batch, values, boxes), not (batch, boxes, values).
        box_format: xyxy (two corners) or cxcywh (centre, width, height).
        box_unit: Unit of the boxes: input (pixels of the input), relative (0 to 1 of the input) or original (pixels of
            the image before it was resized).
        score_kind: What scores are: logit (sigmoid is applied), probability, or softmax (logits, the background among
            them).
        dropped: Columns of the scores, or class numbers, from 0, that are no class: the background of a softmax, gaps
            in category ids.
        merge_equal_boxes: Rows with equal boxes are one box with the scores of several classes.
        grid: Strides of the cells that the boxes come from, in pixels, level by level, row by row, such as [8,16,32];
            [] for none.
        nms: Boxes overlap: IoU above which the lower-scored of two boxes of a class is suppressed (0 to 1).
        floor: Score below which the file gives no boxes, or below which overlapping boxes are not used (0 to 1).
    """

    image: str | None = None
    layout: Layout | None = None
    size: tuple[int, int] | None = None
    multiple: int | None = None
    pixel_range: PixelRange | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    bgr: bool | None = None
    resize: Resize | None = None
    pad_color: tuple[float, float, float] | None = None
    extra_inputs: Mapping[str, Filling] | None = None
    boxes: str | None = None
    scores: str | None = None
    labels: str | None = None
    rows_last: bool | None = None
    box_format: BoxFormat | None = None
    box_unit: BoxUnit | None = None
    score_kind: ScoreKind | None = None
    dropped: tuple[int, ...] | None = None
    merge_equal_boxes: bool | None = None
    grid: tuple[int, ...] | None = None
    nms: float | None = None
    floor: float | None = None

    def given(self) -> dict[str, Any]:
        """Return the fields that are not None, by name."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}


NOTHING_KNOWN = CardSettings()
"""All fields are read from the file."""
