"""The outputs of the package ultralytics, which are all called `output0`, and what they mean.

Shapes: N images, Q queries, P cells, C classes, D detections. Raw YOLO (N, 4 + C, P), YOLO with final rows (N, D, 6),
RT-DETR (N, Q, 4 + C).
"""

from __future__ import annotations

from typing import Any

from detdistill.core.errors import DetdistillError
from detdistill.detectors.postprocess import PostProcessing
from detdistill.teachers.onnx.onnx_file import OnnxFile, OnnxTensor
from detdistill.teachers.onnx.onnx_metadata import UltralyticsMetadata, ultralytics_metadata
from detdistill.teachers.onnx.onnx_settings import CardSettings
from detdistill.teachers.onnx.onnx_signature import NO_CHANGE, Signature, cells

STRIDES = ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64))
"""Of YOLO's levels: usual networks, those with a finer level (P2) and those with a coarser one (P6)."""
MOST_QUERIES = 1_000
"""Rows of a query detector. 300 is usual; the smallest grid of a 640 px input has 8,400."""
MOST_CLASSES = 1_500
"""Columns of a query detector. LVIS has 1,203 classes; the cells of a 320 px input are 2,100."""
YOLO_INPUT: dict[str, Any] = {"pixel_range": "0..1", "resize": "letterbox", "pad_color": (114, 114, 114), **NO_CHANGE}
YOLO_NMS = PostProcessing(iou_threshold=0.7, max_detections=300)
"""Ultralytics' own overlap and number of detections in validation."""


def of_one_output(
    file: OnnxFile, joined: OnnxTensor, size: tuple[int, int] | None, count: int | None, given: CardSettings
) -> Signature | None:
    """Return the signature of the only output of a file, in one of three forms; None for another form.

    Args:
        file: the file.
        joined: its output.
        size: height and width of its input in pixels, None for any.
        count: number of class names that were given; None for those in the file.
        given: fields of the card that were given.

    Raises:
        DetdistillError: The output can be read in two ways, or has other rows than its input has cells.
    """
    meta = ultralytics_metadata(file.path, file.metadata)
    if len(joined.shape) != 3:
        return None
    if meta is not None and given.size is None and None not in (meta.size, size) and meta.size != size:
        raise DetdistillError(
            f"{file.path}: metadata imgsz is {meta.size}, but the input is of {size}; expected the same height and "
            "width: export the network again"
        )
    count = count if count is not None or meta is None or meta.names is None else len(meta.names)
    _, first, second = joined.shape
    forms: list[Signature] = []
    strides = _strides(second, size, given.grid)
    may_be_raw = first is not None and first > 4 and count in (None, first - 4)
    if may_be_raw and strides is not None:
        forms.append(_raw_yolo(strides))
    is_few = first is None or first <= MOST_QUERIES
    if second is not None and 4 < second <= MOST_CLASSES and is_few and count in (None, second - 4):
        forms.append(_ultralytics_rtdetr())
    if second == 6 and is_few:
        forms.append(_end_to_end_yolo(meta))
    forms = [form for form in forms if _agrees(form, meta, given)]
    if len(forms) > 1:
        raise DetdistillError(
            f"{file.path}: output {joined} can be read in {len(forms)} ways: "
            f"{' or '.join(form.name for form in forms)}. Give the class names (--classes), and if that is not enough, "
            f"--card.labels {joined.name} for a score and a class number in each row, or --card.box-unit relative for "
            "the scores of all classes"
        )
    if forms:
        return _with_metadata(forms[0], meta, size)
    if may_be_raw and count is not None and size is not None and strides is None:
        raise DetdistillError(
            f"{file.path}: grid: output {joined} has {second} rows; strides 8, 16, 32 have {cells(size, STRIDES[0])} "
            f"cells on {size[0]}x{size[1]}. Give the right strides, such as --card.grid [4,8,16,32], or --card.grid [] "
            "to use the boxes alone"
        )
    return None


def _with_metadata(form: Signature, meta: UltralyticsMetadata | None, size: tuple[int, int] | None) -> Signature:
    """A form with what the metadata adds."""
    if meta is None:
        return form
    values, notes = dict(form.values), form.notes
    if meta.stride is not None and "multiple" in values:
        values["multiple"] = max(values["multiple"], meta.stride)
    if size is None and meta.size is not None:
        sides = ",".join(map(str, meta.size))
        notes += (
            f"the file takes any size and was exported for [{sides}]: it reads canvases as they are; --card.size "
            f"[{sides}] resizes them",
        )
    return Signature(form.name, values, meta.names, notes)


def _agrees(form: Signature, meta: UltralyticsMetadata | None, given: CardSettings) -> bool:
    """Whether a form is what the metadata and the given values say."""
    if meta is not None and meta.is_final and form.name != "yolo_end_to_end":
        return False
    if meta is not None and meta.is_rtdetr is not None and (form.name == "ultralytics_rtdetr") != meta.is_rtdetr:
        return False
    if given.labels is not None and "labels" not in form.values:
        return False
    return given.box_unit in (None, form.values["box_unit"])


def _raw_yolo(strides: tuple[int, ...]) -> Signature:
    values: dict[str, Any] = {
        "boxes": "output0",
        "scores": "output0",
        "rows_last": True,
        "box_format": "cxcywh",
        "box_unit": "input",
        "score_kind": "probability",
        "grid": strides,
        "multiple": max((32, *strides)),
        "nms": YOLO_NMS,
        **YOLO_INPUT,
    }
    return Signature("yolo_raw", values)


def _end_to_end_yolo(meta: UltralyticsMetadata | None) -> Signature:
    """(N, D, 6): two corners, score and class."""
    values: dict[str, Any] = {
        "boxes": "output0",
        "scores": "output0",
        "labels": "output0",
        "box_format": "xyxy",
        "box_unit": "input",
        "score_kind": "probability",
        "multiple": 32,
        **YOLO_INPUT,
    }
    if meta is not None and meta.has_nms:
        values["floor"] = meta.threshold
    note = (
        "each box has the score of one class, and there is no grid: export with end2end=False and without nms for a "
        "better teacher"
    )
    return Signature("yolo_end_to_end", values, notes=(note,))


def _ultralytics_rtdetr() -> Signature:
    """(N, Q, 4 + C): centre and size, 0 to 1, and probabilities."""
    values: dict[str, Any] = {
        "boxes": "output0",
        "scores": "output0",
        "box_format": "cxcywh",
        "box_unit": "relative",
        "score_kind": "probability",
        "pixel_range": "0..1",
        "resize": "stretch",
        **NO_CHANGE,
    }
    return Signature("ultralytics_rtdetr", values)


def _strides(rows: int | None, size: tuple[int, int] | None, given: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The strides whose cells a number of rows are, empty for none; None if no known ones fit."""
    if given == ():
        return ()
    choices = STRIDES if given is None else (given,)
    if rows is None:
        return choices[0]
    return next((strides for strides in choices if _fit(rows, size, strides)), None)


def _fit(rows: int, size: tuple[int, int] | None, strides: tuple[int, ...]) -> bool:
    """Whether there can be as many cells: on a given input, or on any whose sides the strides divide."""
    if size is not None:
        return cells(size, strides) == rows
    smallest = cells((max(strides), max(strides)), strides)
    return smallest is not None and rows % smallest == 0
