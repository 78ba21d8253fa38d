"""What the outputs of an ONNX file say, as boxes and class scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_convert

from detdistill.core.boxes import clip_boxes
from detdistill.core.errors import DetdistillError
from detdistill.core.structures import TeacherBoxes
from detdistill.teachers.onnx.onnx_card import Card
from detdistill.teachers.onnx.onnx_check import check_shapes
from detdistill.teachers.onnx.onnx_input import PlacedImages

EPSILON = 1e-6
"""Least and, from 1, largest probability whose logit is taken."""
LARGEST_LOGIT = 50.0
"""Some networks mask candidates by an infinite logit, of which a loss would make NaN."""
ROUNDING = 1e-3
"""How far above 1 or below 0 a probability may be: float16 rounds."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of N images.

    Attributes:
        boxes: `(N, P, 4)` in pixels of the canvas, not clipped.
        probabilities: `(N, P, C)` 0 to 1; 0 where a class is not known.
        logits: `(N, P, C)` their log-odds, the file's own where it gives logits.
    """

    boxes: Tensor
    probabilities: Tensor
    logits: Tensor


def read_rows(path: Path, card: Card, values: Mapping[str, NDArray[Any]], images: PlacedImages) -> Rows:
    """Read the outputs for a batch.

    Args:
        path: of the file, for messages.
        card: what its outputs mean.
        values: the outputs by name.
        images: the batch.

    Raises:
        DetdistillError: An output has another shape than the card says, or values that its meaning excludes.
    """
    outputs = card.outputs
    check_shapes(path, card, {name: value.shape for name, value in values.items()}, images.size)
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    for name, tensor in tensors.items():
        if len(tensor) != len(images.original):
            raise DetdistillError(f"{path}: output {name} has {len(tensor)} images; expected {len(images.original)}")
        if tensor.is_floating_point() and tensor.isnan().any():
            raise DetdistillError(f"{path}: output {name} has {int(tensor.isnan().sum())} values NaN; expected numbers")
    if outputs.is_joined:
        joined = tensors[outputs.boxes].float()
        joined = joined.transpose(1, 2) if outputs.rows_last else joined
        boxes, scores = joined[..., :4], joined[..., 4:]
    else:
        boxes, scores = tensors[outputs.boxes].float(), tensors[outputs.scores].float()
    labels = None if outputs.labels is None else tensors[outputs.labels]
    if labels is not None and outputs.is_joined:
        labels = scores[..., 1:] if outputs.labels == outputs.boxes else labels
        scores = scores[..., :1]
    return _rows(path, card, _in_canvas(path, card, boxes, images), scores, labels)


def _rows(path: Path, card: Card, boxes: Tensor, scores: Tensor, labels: Tensor | None) -> Rows:
    outputs = card.outputs
    if labels is not None:
        probabilities = _one_hot(path, card, scores.reshape(boxes.shape[:2]), labels.reshape(boxes.shape[:2]))
        return Rows(boxes, probabilities, probabilities.logit(EPSILON))
    if outputs.score_kind == "probability":
        probabilities = _checked(path, card, scores)[..., card.class_slots]
        return Rows(boxes, probabilities, probabilities.logit(EPSILON))
    if outputs.score_kind == "softmax":
        probabilities = scores.softmax(dim=-1)[..., card.class_slots]
        return Rows(boxes, probabilities, probabilities.logit(EPSILON))
    logits = scores[..., card.class_slots].clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
    return Rows(boxes, logits.sigmoid(), logits)


def _in_canvas(path: Path, card: Card, boxes: Tensor, images: PlacedImages) -> Tensor:
    """Boxes `(N, P, 4)` of the file as x1 y1 x2 y2 in pixels of the canvas."""
    outputs = card.outputs
    if boxes.isinf().any():
        raise DetdistillError(f"{path}: output {outputs.boxes} has infinite boxes; expected numbers")
    if outputs.box_format == "cxcywh":
        boxes = box_convert(boxes, "cxcywh", "xyxy")
    if outputs.box_unit == "original":
        return boxes
    if outputs.box_unit == "relative":
        height, width = images.size
        boxes = boxes * boxes.new_tensor((width, height, width, height))
    return images.to_canvas(boxes)


def _checked(path: Path, card: Card, scores: Tensor) -> Tensor:
    """Scores that are probabilities."""
    if len(scores.flatten()) and not (scores.min() >= -ROUNDING and scores.max() <= 1 + ROUNDING):
        raise DetdistillError(
            f"{path}: output {card.outputs.scores} has scores from {scores.min():g} to {scores.max():g}; "
            "score_kind is probability, so 0 to 1 was expected: is it logit, or are boxes and scores exchanged?"
        )
    return scores.clamp(0, 1)


def _one_hot(path: Path, card: Card, scores: Tensor, labels: Tensor) -> Tensor:
    """`(N, P, C)` of one score and one slot a row; a negative score marks a row without a detection."""
    scores = _checked(path, card, scores.clamp(min=0))
    is_row = (scores > 0) & (scores >= card.outputs.floor)
    wrong = labels[is_row & ((labels < 0) | (labels >= card.num_slots) | (labels != labels.round()))]
    if len(wrong):
        raise DetdistillError(
            f"{path}: output {card.outputs.labels} has the class number {float(wrong[0]):g}; expected 0 to "
            f"{card.num_slots - 1}: correct classes and dropped, or the output's name"
        )
    slots = torch.where(is_row, labels, 0).long()
    spread = scores.new_zeros(*scores.shape, card.num_slots)
    spread.scatter_(2, slots[..., None], torch.where(is_row, scores, 0.0)[..., None])
    return spread[..., card.class_slots]


def boxes_of_rows(rows: Rows, card: Card, sizes: Tensor) -> tuple[TeacherBoxes, ...]:
    """Return the boxes of each image, from rows that are final.

    Args:
        rows: of N images.
        card: what the file gives.
        sizes: `(N, 2)` true height and width of each image: boxes are cut at its border.
    """
    return tuple(_boxes_of_image(*each, card) for each in zip(rows.boxes, rows.probabilities, sizes, strict=True))


def _boxes_of_image(boxes: Tensor, probabilities: Tensor, size: Tensor, card: Card) -> TeacherBoxes:
    best = probabilities.amax(dim=1)
    kept = (best > 0) & (best >= card.outputs.known_above)
    boxes, probabilities = boxes[kept], probabilities[kept]
    if card.outputs.merge_equal_boxes and len(boxes):
        boxes, group = torch.unique(boxes, dim=0, return_inverse=True)
        merged = probabilities.new_zeros(len(boxes), probabilities.shape[1])
        probabilities = merged.scatter_reduce_(0, group[:, None].expand_as(probabilities), probabilities, "amax")
    boxes = clip_boxes(boxes, size)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    boxes, probabilities = boxes[kept], probabilities[kept]
    best, labels = probabilities.max(dim=1)
    order = best.argsort(descending=True, stable=True)
    return TeacherBoxes(boxes[order], labels[order], probabilities[order], card.outputs.known_above)
