"""A detector of transformers as a teacher."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor

from detdistill.core.errors import DetdistillError, first_line, listed
from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import BOX_OFFERS, Offer
from detdistill.core.output import DENSE, Features, Output, combined
from detdistill.core.structures import TeacherBoxes
from detdistill.teachers.teacher import Guidance, TeacherBatch
from detdistill.teachers.transformers.transformers_folder import (
    PREPROCESSOR,
    Folder,
    local_folder,
    missing_extra,
    read_folder,
)
from detdistill.teachers.transformers.transformers_input import ImageReader, Piece
from detdistill.teachers.transformers.transformers_maps import canvas_grid, canvas_strides, features_on, predictions_on
from detdistill.teachers.transformers.transformers_outputs import boxes_of_queries, maps_of, probabilities_of

MAPS: frozenset[Offer] = frozenset({"features", "grid"})


class TransformersTeacher:
    """A detector of transformers that teaches. It is never changed, and it is no module.

    It predicts in float32 whatever the precision of the training: RT-DETR's boxes in bfloat16 would be off by up to
    2.5 pixels at 640.

    Args:
        source: as the user named it.
        folder: its configuration.
        model: of transformers; is put into evaluation mode and gets no gradient from now on.
        processor: its image processor.
    """

    stored = None
    tower_head = None
    region_reader = None

    def __init__(self, source: str, folder: Folder, model: Any, processor: Any) -> None:
        self.origin: Mapping[str, Any] = {"source": source, "sha256": folder.sha256()}
        self._source, self._folder = source, folder
        self._model = model.eval().requires_grad_(requires_grad=False)
        self._reader = ImageReader(processor, whole_canvas=folder.family.has_grid)
        self._accepted = inspect.signature(model.forward).parameters.keys()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of `id2label`, without unused slots."""
        return self._folder.classes

    @property
    def kind(self) -> str:
        """The `model_type` of its configuration."""
        return self._folder.family.name

    @property
    def offers(self) -> frozenset[Offer]:
        """Boxes and opinions; features where its outputs have maps; a grid where its encoder scores all cells."""
        family = self._folder.family
        maps: frozenset[Offer] = frozenset() if family.maps == "none" else frozenset({"features"})
        return BOX_OFFERS | maps | (frozenset({"grid"}) if family.has_grid else frozenset())

    @property
    def size(self) -> ImageSize | None:
        """That of its image processor; None if the processor leaves images as large as they are."""
        return self._reader.size

    @torch.no_grad()
    def guide(self, batch: TeacherBatch) -> Guidance:
        """Predict a batch: maps if they are wanted, and the boxes of all queries if boxes or opinions are wanted."""
        self.move_to(batch.images.device)
        wants_maps, wants_boxes = bool(batch.wanted & self.offers & MAPS), bool(batch.wanted & BOX_OFFERS)
        outputs: list[Output] = []
        boxes: dict[int, TeacherBoxes] = {}
        pieces = self._reader.pieces(batch)
        for piece in pieces:
            found = self._forward(piece)
            if wants_maps:
                outputs.append(self._output(piece, found))
            if wants_boxes:
                boxes.update(zip(piece.numbers, self._boxes(piece, found), strict=True))
        order = torch.tensor([number for piece in pieces for number in piece.numbers]).argsort()
        return Guidance(
            combined(outputs, lambda parts: torch.cat(parts)[order.to(parts[0].device)]) if outputs else None,
            tuple(boxes[number] for number in range(len(batch.images))) if wants_boxes else None,
        )

    def notes(self, student: InputSpec) -> list[str]:  # noqa: ARG002 (the contract's)
        """How its images are resized, and which slots are left out."""
        maps = "; its maps are resampled to the canvas" if self._reader.resizes and self.offers & MAPS else ""
        notes = [f"input: the teacher's images are {self._reader.in_words()}, as its {PREPROCESSOR} has it{maps}"]
        unused = self._folder.slots - len(self.classes)
        if unused:
            notes.append(f"classes: {unused} slots of the teacher stand for no class (N/A) and are left out")
        return notes

    def move_to(self, device: torch.device) -> None:
        """Move the model to a device, unless it is there."""
        if next(self._model.parameters()).device != device:
            self._model.to(device)

    def _forward(self, piece: Piece) -> Any:
        inputs = {name: value for name, value in piece.inputs.items() if name in self._accepted}
        more = {"output_hidden_states": True} if self._folder.family.keeps_states else {}
        pixels = inputs["pixel_values"]
        try:
            with torch.autocast(pixels.device.type, enabled=False):
                return self._model(**inputs, **more, return_dict=True)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            raise DetdistillError(
                f"teacher {self._source}: {self.kind} cannot read images of {pixels.shape[-2]}x{pixels.shape[-1]} "
                f"pixels: {first_line(error)}; set size in {self._folder.path / PREPROCESSOR} to the size that the "
                "model was trained with"
            ) from error

    def _boxes(self, piece: Piece, found: Any) -> Sequence[TeacherBoxes]:
        family = self._folder.family
        probabilities = self._columns(probabilities_of(found.logits.float(), family.activation))
        boxes = piece.frame.boxes(found.pred_boxes.float())
        return [
            boxes_of_queries(own, scores, one_class=family.activation == "softmax")
            for own, scores in zip(boxes, probabilities, strict=True)
        ]

    def _output(self, piece: Piece, found: Any) -> Output:
        frame, family = piece.frame, self._folder.family
        strides, maps = maps_of(found, family, self._model.config, frame.padded)
        steps = canvas_strides(self._reader.canvas_frame(frame.canvas), strides)
        grid = canvas_grid(frame.canvas, steps, maps[0].device)
        features = Features(features_on(frame, grid, strides, maps), grid.strides)
        if not family.has_grid:
            return Output(features, {}, DENSE)
        logits = self._columns(found.enc_outputs_class)
        predictions = predictions_on(frame, grid, strides, maps, logits, found.enc_outputs_coord_logits)
        return Output(features, {DENSE: predictions}, DENSE)

    def _columns(self, scores: Tensor) -> Tensor:
        """`(N, P, slots)` to `(N, P, C)`."""
        folder = self._folder
        if scores.shape[-1] != folder.slots:
            raise DetdistillError(
                f"teacher {self._source}: the model predicts {scores.shape[-1]} classes, and id2label in its "
                f"config.json has {folder.slots}; give each a name, N/A to those that stand for no class"
            )
        return scores if len(folder.columns) == folder.slots else scores[..., list(folder.columns)]


def load_transformers(source: str) -> TransformersTeacher:
    """Load a teacher from a folder of transformers, or from a hub.

    Args:
        source: folder that `save_pretrained` wrote, or `hf://owner/name`.

    Raises:
        DetdistillError: transformers is not installed, the model cannot be downloaded, its configuration or its image
            processor is missing or cannot be used, or weights are missing or damaged.
    """
    path = local_folder(source)
    folder = read_folder(path)
    try:
        library: Any = import_module("transformers")
    except ImportError as error:
        raise missing_extra(source) from error
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return TransformersTeacher(source, folder, _model(library, path), _processor(library, path))


def _model(library: Any, path: Path) -> Any:
    try:
        model, report = library.AutoModelForObjectDetection.from_pretrained(
            path,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError, MemoryError) as error:
        raise DetdistillError(f"{path}: transformers cannot load the model: {first_line(error)}") from error
    missing = [*report["missing_keys"], *report["mismatched_keys"]]
    if missing:
        raise DetdistillError(
            f"{path}: the weights do not fit config.json; {len(missing)} are missing and would be random: copy both "
            f"files from the same model{listed([str(name) for name in missing])}"
        )
    return model


def _processor(library: Any, path: Path) -> Any:
    try:
        return library.AutoImageProcessor.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        raise DetdistillError(
            f"{path / PREPROCESSOR}: transformers cannot read the image processor: {first_line(error)}"
        ) from error
