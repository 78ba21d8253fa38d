"""`card.json`: what an ONNX file reads and what its outputs mean."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from detdistill.core.bounds import Count, Number, PositiveFactor, Probability, Side, Stride
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.files import LARGEST_RECORD, read_regular
from detdistill.core.json_files import check_format, read_object, write_json
from detdistill.core.settings import from_values, settings, to_values
from detdistill.detectors.postprocess import PostProcessing
from detdistill.teachers.onnx.onnx_settings import BoxFormat, BoxUnit, Filling, Layout, PixelRange, Resize, ScoreKind

CARD = "card.json"
MODEL = "model.onnx"
FORMAT = 1

Color = Annotated[float, Field(ge=0, le=255)]
Column = Annotated[int, Field(ge=0, le=1_000_000)]


@settings
class CardInput:
    """What the file reads."""

    _: KW_ONLY
    image: str
    """Name of the input that takes the images."""
    layout: Layout = "nchw"
    """Order of its dimensions."""
    size: tuple[Side, Side] | None
    """Height and width in pixels; null for any multiples of `multiple`."""
    multiple: Side = 1
    """Sides are multiples of this, in pixels, where `size` is null."""
    pixel_range: PixelRange
    """Pixel values before mean and std."""
    mean: tuple[Number, Number, Number]
    """Subtracted, in the order red, green, blue and in the unit of `pixel_range`."""
    std: tuple[PositiveFactor, PositiveFactor, PositiveFactor]
    """Divided by, in the same order and unit."""
    bgr: bool = False
    """The network takes blue, green, red."""
    resize: Resize
    """`stretch`: both sides on their own. `letterbox`: the ratio is kept and the image is centred. `pad`: the image
    lies in the upper left corner, and is shrunk if it does not fit."""
    pad_color: tuple[Color, Color, Color] = (0, 0, 0)
    """Red, green and blue of what an image leaves free."""
    extra_inputs: Mapping[str, Filling] = field(default_factory=dict)
    """What other inputs get, by name: see `CardSettings`."""


@settings
class CardOutputs:
    """What the file gives. P rows of N images are boxes; S slots are classes and whatever else has a column."""

    _: KW_ONLY
    boxes: str
    """Name of the output with the boxes, `(N, P, 4)`; with `scores` in the same output, its first four values."""
    scores: str
    """Name of the output with the scores: `(N, P, S)`, or `(N, P)` with `labels`."""
    labels: str | None = None
    """Name of the output with the slot of each box, `(N, P)`, or that of boxes and scores, with the slot last; null
    where scores have all slots."""
    rows_last: bool = False
    """The output is `(N, values, P)`; only where one output holds all."""
    box_format: BoxFormat
    """Two corners, or centre, width and height."""
    box_unit: BoxUnit
    """Pixels of the input, 0 to 1 of the input, or pixels of the image before it was resized."""
    score_kind: ScoreKind
    """`logit`: sigmoid is applied; `probability`; `softmax`: over all slots."""
    dropped: tuple[Column, ...] = ()
    """Slots that are no class; the others are the classes in their order."""
    merge_equal_boxes: bool = False
    """Rows with equal boxes are one box with the scores of several classes."""
    grid: tuple[Stride, ...] | None = None
    """Strides of the cells that rows come from, in pixels, level by level, row by row; null for none."""
    nms: PostProcessing | None = None
    """How overlapping boxes are suppressed; null where the rows are final."""
    floor: Probability = 0.0
    """Score below which the file gives no boxes."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.labels is not None and self.score_kind != "probability":
            raise ValueError(f"score_kind must be probability where there are labels, not {self.score_kind}")
        if self.labels is not None and self.grid is not None:
            raise ValueError("grid must be null where there are labels: a cell needs the scores of all classes")
        if self.score_kind == "softmax" and not self.dropped:
            raise ValueError("dropped must name the background's column where score_kind is softmax")
        if self.rows_last and self.boxes != self.scores:
            raise ValueError("rows_last must be false where boxes and scores are two outputs")
        if self.labels is not None and self.labels in (self.boxes, self.scores) and not self.is_joined:
            raise ValueError("labels must be in the output of boxes and scores, or in an output of their own")
        if self.grid is not None and not self.grid:
            raise ValueError("grid must have a stride, or be null")
        if len(set(self.dropped)) < len(self.dropped):
            raise ValueError(f"dropped must have different columns, not {list(self.dropped)}")
        return self

    @property
    def is_joined(self) -> bool:
        """One output holds boxes, scores and, where there are any, labels."""
        return self.boxes == self.scores

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs that are read."""
        names = (self.boxes, self.scores, self.labels)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def known_above(self) -> float:
        """The score below which nothing is known."""
        return max(self.floor, 0.0 if self.nms is None else self.nms.score_threshold)


@settings
class Card:
    """The contents of `card.json`."""

    _: KW_ONLY
    format: Count = FORMAT
    """Format of the file; a reader refuses what is newer than itself."""
    signature: str
    """The exporter whose outputs were recognised; `given` if they were described by hand."""
    classes: tuple[str, ...]
    """Class names; label c is `classes[c]`."""
    input: CardInput
    """What the file reads."""
    outputs: CardOutputs
    """What it gives."""
    sha256: str
    """SHA-256 of `model.onnx`, in hexadecimal."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the file comes from."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must be names that differ, at least one, not {list(self.classes)}")
        return self

    @property
    def num_slots(self) -> int:
        """S."""
        return len(self.classes) + len(self.outputs.dropped)

    @property
    def class_slots(self) -> list[int]:
        """The slot of each class."""
        return [slot for slot in range(self.num_slots) if slot not in self.outputs.dropped]


def write_card(folder: Path, card: Card) -> None:
    """Write `card.json`, whole or not at all.

    Raises:
        DetdistillError: The file cannot be written.
    """
    write_json(folder / CARD, to_values(card), indent=2)


def card_sha256(folder: Path) -> str:
    """Return the SHA-256 of `card.json`, which has that of the ONNX file in it.

    Raises:
        DetdistillError: The card cannot be read.
    """
    try:
        return hashlib.sha256(read_regular(folder / CARD, LARGEST_RECORD)).hexdigest()
    except OSError as error:
        raise DetdistillError(f"{folder / CARD} cannot be read: {error.strerror}") from error


def read_card(folder: Path) -> Card:
    """Read `card.json`.

    Raises:
        DetdistillError: It is missing, damaged, not ours, or of a newer format.
    """
    path = folder / CARD
    content = read_object(path, "import the ONNX file again")
    check_format(path, content, FORMAT, "the card of an ONNX file")
    try:
        return from_values(Card, content)
    except SettingsError as error:
        raise SettingsError(error.problems, str(path)) from None
