"""Whether a card and its ONNX file agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from detdistill.core.errors import DetdistillError
from detdistill.teachers.onnx.onnx_card import Card
from detdistill.teachers.onnx.onnx_file import OnnxFile, OnnxTensor, Shape, in_words
from detdistill.teachers.onnx.onnx_input import IMAGE_TYPES, TYPES
from detdistill.teachers.onnx.onnx_signature import cells


def check_card(place: Path, card: Card, file: OnnxFile) -> None:
    """Compare a card with its file.

    Args:
        place: of the card, for messages.
        card: the card.
        file: the file.

    Raises:
        DetdistillError: They contradict each other.
    """
    if card.sha256 != file.sha256:
        raise DetdistillError(
            f"{place}: sha256 is {card.sha256[:12]}…, but {file.path} has {file.sha256[:12]}…: the card is of another "
            "file; import this one"
        )
    _check_inputs(place, card, file)
    for name in card.outputs.names:
        if file.output(name) is None:
            raise DetdistillError(
                f"{place}: outputs: {file.path} has no output {name!r}; its outputs are: "
                f"{', '.join(map(str, file.outputs))}"
            )
    check_shapes(place, card, {each.name: each.shape for each in file.outputs}, card.input.size)


def _check_inputs(place: Path, card: Card, file: OnnxFile) -> None:
    inputs = {each.name: each for each in file.inputs}
    own = card.input
    if own.image not in inputs:
        raise DetdistillError(
            f"{place}: input.image: {file.path} has no input {own.image!r}; its inputs are: "
            f"{', '.join(map(str, file.inputs))}"
        )
    image = inputs.pop(own.image)
    _check_image(place, card, image)
    if inputs.keys() != own.extra_inputs.keys():
        raise DetdistillError(
            f"{place}: input.extra_inputs must be for {', '.join(inputs) or 'no input'}, not for "
            f"{', '.join(own.extra_inputs) or 'none'}: what is given to every input of {file.path}"
        )
    for each in inputs.values():
        if each.type not in TYPES:
            raise DetdistillError(f"{place}: input.extra_inputs.{each.name}: {each.type} cannot be filled")


def _check_image(place: Path, card: Card, image: OnnxTensor) -> None:
    own = card.input
    if image.type not in IMAGE_TYPES:
        raise DetdistillError(f"{place}: input.image: {image.name} has the type {image.type}; expected float or uint8")
    is_plain = own.pixel_range == "0..255" and not any(own.mean) and set(own.std) == {1.0}
    if image.type == "tensor(uint8)" and not is_plain:
        raise DetdistillError(
            f"{place}: input.pixel_range: {image.name} takes uint8; expected 0..255 with mean [0,0,0] and std [1,1,1]"
        )
    sides = own.size or (None, None)
    wanted = (3, *sides) if own.layout == "nchw" else (*sides, 3)
    if len(image.shape) != 4 or any(
        has is not None and needed is not None and has != needed
        for has, needed in zip(image.shape[1:], wanted, strict=True)
    ):
        raise DetdistillError(
            f"{place}: input.size and input.layout mean an input {in_words((None, *wanted))}, but the file has {image}"
        )
    fixed = image.shape[2:4] if own.layout == "nchw" else image.shape[1:3]
    if own.size is None and any(side is not None for side in fixed):
        raise DetdistillError(f"{place}: input.size is null, but {image} has fixed sides; expected height and width")


def check_shapes(place: Path, card: Card, shapes: Mapping[str, Shape], size: tuple[int, int] | None) -> None:
    """Raise `DetdistillError` if outputs have other shapes than a card says.

    Args:
        place: of the card or file, for messages.
        card: the card.
        shapes: by the name of the output; free sizes are not compared.
        size: height and width of the input, None for any.
    """
    outputs = card.outputs
    labelled = outputs.labels is not None
    width = 4
    if outputs.is_joined and labelled:
        width += 2 if outputs.labels == outputs.boxes else 1  # a score, and the label if it is here
    elif outputs.is_joined:
        width += card.num_slots
    rows = _rows(place, card, shapes, outputs.boxes, width, "four values of a box, and scores if they are here")
    for name in outputs.names[1:]:
        columns = None if labelled else card.num_slots
        other = _rows(place, card, shapes, name, columns, f"{card.num_slots} classes and dropped columns")
        if rows is not None and other is not None and other != rows:
            raise DetdistillError(f"{place}: output {name} has {other} rows, but {outputs.boxes} has {rows}")
    if outputs.grid is None or size is None:
        return
    expected = cells(size, outputs.grid)
    strides = ", ".join(map(str, outputs.grid))
    if expected is None:
        raise DetdistillError(f"{place}: outputs.grid: strides {strides} do not divide the input {size[0]}x{size[1]}")
    if rows is not None and rows != expected:
        raise DetdistillError(
            f"{place}: outputs.grid: strides {strides} have {expected} cells on {size[0]}x{size[1]}, but output "
            f"{outputs.scores} has {rows} rows"
        )


def _rows(place: Path, card: Card, shapes: Mapping[str, Shape], name: str, width: int | None, what: str) -> int | None:
    """The number of rows of an output, None if it is free; `width` None for an output with one value a row."""
    shape = shapes[name]
    if width is None:
        if len(shape) == 3 and shape[2] == 1:
            shape = shape[:2]
        expected: Shape = (None, None)
        rows_at = 1
    else:
        expected = (None, width, None) if card.outputs.rows_last else (None, None, width)
        rows_at = 2 if card.outputs.rows_last else 1
    if len(shape) != len(expected) or any(
        has is not None and wanted is not None and has != wanted for has, wanted in zip(shape, expected, strict=True)
    ):
        raise DetdistillError(
            f"{place}: output {name} has the shape {in_words(shapes[name])}; expected {in_words(expected)}: {what}. "
            "Correct classes, dropped, or the output's name"
        )
    return shape[rows_at]
