"""An ONNX file with a card as a teacher. It owns its preprocessing and runs in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from detdistill.core.boxes import boxes_to_distances
from detdistill.core.errors import DetdistillError, first_line
from detdistill.core.grid import Grid
from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import BOX_OFFERS, Offer
from detdistill.core.output import Candidates, Output, Predictions
from detdistill.core.structures import TeacherBoxes
from detdistill.detectors.dense.coders import DistanceCoder
from detdistill.teachers.onnx.onnx_card import CARD, MODEL, Card, read_card
from detdistill.teachers.onnx.onnx_check import check_card
from detdistill.teachers.onnx.onnx_file import OnnxFile, open_onnx
from detdistill.teachers.onnx.onnx_input import TYPES, PlacedImages, as_input, placed
from detdistill.teachers.onnx.onnx_rows import Rows, boxes_of_rows, read_rows
from detdistill.teachers.opinions import SURE_FLOOR
from detdistill.teachers.teacher import Guidance, TeacherBatch

GRID: frozenset[Offer] = frozenset({"grid"})


class OnnxTeacher:
    """An ONNX file that teaches.

    Where the card has a grid, an image on a canvas of the input's size is read where it lies, not resized again, so
    that the cells of the file are cells of the canvas. On other canvases there are boxes and opinions only.

    Args:
        file: the file.
        card: what it reads and gives; it agrees with the file.
        origin: where it comes from, see `Teacher.origin`.
    """

    stored = None
    tower_head = None
    region_reader = None

    def __init__(self, file: OnnxFile, card: Card, origin: Mapping[str, Any]) -> None:
        self.file, self.card, self.origin = file, card, origin

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """The card's."""
        return self.card.classes

    @property
    def kind(self) -> str:
        """The exporter that was recognised."""
        return self.card.signature

    @property
    def offers(self) -> frozenset[Offer]:
        """Boxes and opinions, and a grid where the card has one."""
        return BOX_OFFERS if self.card.outputs.grid is None else BOX_OFFERS | GRID

    @property
    def size(self) -> ImageSize | None:
        """Images that fit the file's input; None if it takes any size."""
        own = self.card.input.size
        return None if own is None else ImageSize(short_side=min(own), long_side=max(own))

    @torch.no_grad()
    def guide(self, batch: TeacherBatch) -> Guidance:
        """The file's grid and boxes, as far as they are wanted.

        Raises:
            DetdistillError: The file cannot be run, gives what the card excludes, or its grid alone is wanted on a
                canvas of another size than its input.
        """
        outputs = self.card.outputs
        images = placed(batch.images.cpu(), batch.sizes.cpu(), self.card.input, keep_place=outputs.grid is not None)
        has_grid = "grid" in batch.wanted and outputs.grid is not None
        # Boxes and opinions too are wanted where it is not yet known what is used: a grid can be left out.
        if has_grid and not images.unmoved and batch.wanted != self.offers:
            raise DetdistillError(
                f"{self.file.path}: the grid is of an input of {images.size[0]}x{images.size[1]} pixels, but the "
                f"canvas is {batch.images.shape[2]}x{batch.images.shape[3]}; set images.canvas to [{images.size[0]}, "
                f"{images.size[1]}], for the teacher alone with distill.teacher_images, or choose methods that use "
                "opinions (source: opinion)"
            )
        rows = read_rows(self.file.path, self.card, self._run(images), images)
        output = Output.dense([], self._predictions(rows, images)) if has_grid and images.unmoved else None
        boxes = self._boxes(rows, images) if batch.wanted & BOX_OFFERS else None
        return Guidance(output, boxes).moved(batch.images.device)

    def notes(self, student: InputSpec) -> list[str]:
        """What the file reads, and what is left out of what it gives, a line each."""
        own, outputs = self.card.input, self.card.outputs
        size = "any size" if own.size is None else f"{own.size[0]}x{own.size[1]} pixels"
        notes = [f"teacher: {self.file.path} reads {size} ({own.resize})"]
        if outputs.grid is not None and own.size is not None and _canvas(student) != own.size:
            notes.append(
                f"the teacher's grid is left out on canvases of another size than {own.size[0]}x{own.size[1]}; there "
                f"it has boxes and opinions. To use the grid, set images.canvas to [{own.size[0]}, {own.size[1]}], or "
                "distill.teacher_images so that its canvas is that"
            )
        if outputs.known_above > SURE_FLOOR:
            notes.append(
                f"the teacher gives no boxes with a score below {outputs.known_above:g}: objects without a box there "
                f"have no opinion; export it with a threshold of at most {SURE_FLOOR:g}"
            )
        return notes

    def _run(self, images: PlacedImages) -> dict[str, NDArray[Any]]:
        """The outputs by name; a file of a fixed batch size runs several times."""
        own, types = self.card.input, {each.name: each for each in self.file.inputs}
        feeds = {own.image: as_input(images.pixels, own, types[own.image].type)}
        for name, filling in own.extra_inputs.items():
            feeds[name] = images.filling(filling).numpy().astype(TYPES[types[name].type])
        count, fixed = len(images.original), types[own.image].shape[0]
        step = fixed or max(1, count)
        parts = [self._run_once(feeds, start, step) for start in range(0, count, step)]
        return {
            name: np.concatenate([part[place] for part in parts])[:count]
            for place, name in enumerate(self.card.outputs.names)
        }

    def _run_once(self, feeds: Mapping[str, NDArray[Any]], start: int, step: int) -> list[NDArray[Any]]:
        """The outputs for some images; the last one again where there are not enough."""
        names = self.card.outputs.names
        count = len(feeds[self.card.input.image])
        chosen = np.arange(start, start + step).clip(max=count - 1)
        try:
            results = self.file.session.run(list(names), {name: feed[chosen] for name, feed in feeds.items()})
        except Exception as error:  # onnxruntime's own, and of many kinds
            raise DetdistillError(f"{self.file.path} cannot be run: {first_line(error)}") from error
        for name, result in zip(names, results, strict=True):
            if result.ndim < 2 or len(result) != step:
                raise DetdistillError(
                    f"{self.file.path}: output {name} has the shape {result.shape} for {step} images; expected a first "
                    f"dimension of {step}"
                )
        found: list[NDArray[Any]] = results
        return found

    def _predictions(self, rows: Rows, images: PlacedImages) -> Predictions:
        """Rows as predictions on their cells, or, if they come from no cells, on one line of them."""
        strides = self.card.outputs.grid
        if strides is None:
            grid = Grid(((1, rows.boxes.shape[1]),), ((1, 1),), (torch.tensor([[0.0, 0.0, 1.0, 1.0]]),))
        else:
            height, width = images.size
            grid = Grid(
                tuple((height // stride, width // stride) for stride in strides),
                tuple((stride, stride) for stride in strides),
                tuple(torch.tensor([[0.0, 0.0, stride, stride]]) for stride in strides),
            )
        return Predictions(
            Candidates(grid), rows.logits, boxes_to_distances(grid.centers, rows.boxes), DistanceCoder("pixel")
        )

    def _boxes(self, rows: Rows, images: PlacedImages) -> tuple[TeacherBoxes, ...]:
        nms = self.card.outputs.nms
        if nms is None:
            return boxes_of_rows(rows, self.card, images.original)
        found = nms(self._predictions(rows, images), images.original)
        floor = self.card.outputs.known_above
        return tuple(TeacherBoxes.from_detections(each, len(self.classes), floor) for each in found)


def load_onnx_teacher(folder: Path, origin: Mapping[str, Any]) -> OnnxTeacher:
    """Load a folder that `detdistill import` made of an ONNX file.

    Args:
        folder: of the card and the file.
        origin: see `Teacher.origin`.

    Raises:
        DetdistillError: A file is missing or damaged, or they contradict each other.
    """
    card = read_card(folder)
    file = open_onnx(folder / MODEL)
    check_card(folder / CARD, card, file)
    return OnnxTeacher(file, card, origin)


def _canvas(student: InputSpec) -> tuple[int, int] | None:
    """Height and width of the canvas that all images of a student have; None if they have several."""
    if student.canvas is not None:
        return student.canvas
    size = student.size
    return size.canvas_of((1, 1)) if size is not None and (size.letterbox or size.canvas) else None
