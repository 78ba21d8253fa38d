"""The outputs of known exporters, and what they mean. Names count first: shapes alone are ambiguous.

Shapes: N images, Q queries, P cells, C classes, D detections.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detdistill.core.errors import DetdistillError, listed
from detdistill.teachers.onnx.onnx_file import OnnxFile
from detdistill.teachers.onnx.onnx_metadata import own_metadata
from detdistill.teachers.onnx.onnx_settings import CardSettings
from detdistill.teachers.onnx.onnx_signature import IMAGENET, NO_CHANGE, Signature
from detdistill.teachers.onnx.onnx_ultralytics import of_one_output

COCO_COLUMNS = 91
COCO_GAPS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Numbers from 0 to 90 that are no category id of COCO's 80 classes."""


def recognized(
    file: OnnxFile, size: tuple[int, int] | None, count: int | None, given: CardSettings
) -> Signature | None:
    """Return the signature of a file; None if it is not known.

    Args:
        file: the file.
        size: height and width of its input in pixels, None for any.
        count: number of class names that were given; None for those in the file.
        given: fields of the card that were given.

    Raises:
        DetdistillError: The file can be read in two ways, or contradicts itself.
    """
    own = own_metadata(file.path, file.metadata)
    if own is not None:
        return _of_detdistill(file, own)
    names = {output.name for output in file.outputs}
    inputs = {each.name for each in file.inputs}
    joined = file.output("output0")
    if joined is not None and len(names) == 1:
        return of_one_output(file, joined, size, count, given)
    found = None
    if {"dets", "labels"} <= names:
        found = _rfdetr(file, count)
    elif {"labels", "boxes", "scores"} <= names:
        found = _labelled(queries=True) if "orig_target_sizes" in inputs else _labelled(queries=False)
    elif {"logits", "pred_boxes"} <= names:
        found = _transformers(file, count)
    elif {"logits", "boxes"} <= names:
        found = _raw_dfine_seg()
    if found is None or any(getattr(given, key) not in (None, found.values[key]) for key in ("boxes", "scores")):
        return None
    if given.boxes is None:
        _check_single(file, found)
    return found


def _of_detdistill(file: OnnxFile, own: Mapping[str, Any]) -> Signature:
    form, classes, postprocessing = (own.get(key) for key in ("form", "classes", "postprocessing"))
    if form not in ("raw", "end_to_end") or not isinstance(classes, list) or not isinstance(postprocessing, dict):
        raise DetdistillError(
            f"{file.path}: metadata detdistill: expected form, classes and postprocessing, as `detdistill export` "
            "writes them: export the detector again"
        )
    values: dict[str, Any] = {
        "pixel_range": "0..255",
        "resize": "pad",
        "pad_color": (0, 0, 0),
        "multiple": 32,
        "extra_inputs": {"sizes": "resized_hw"},
        "boxes": "boxes",
        "scores": "scores",
        "box_format": "xyxy",
        "box_unit": "input",
        "score_kind": "probability",
        **NO_CHANGE,
    }
    if form == "raw":
        values["nms"] = postprocessing
    else:
        values |= {"labels": "labels", "floor": postprocessing.get("score_threshold", 0.0)}
    return Signature(f"detdistill_{form}", values, tuple(map(str, classes)))


def _labelled(*, queries: bool) -> Signature:
    """`labels, boxes, scores`: the best (query, class) pairs of D-FINE, DEIM and RT-DETR, or of D-FINE-seg."""
    values: dict[str, Any] = {
        "boxes": "boxes",
        "scores": "scores",
        "labels": "labels",
        "box_format": "xyxy",
        "box_unit": "input",
        "score_kind": "probability",
        "merge_equal_boxes": True,
        "pixel_range": "0..1",
    }
    if not queries:
        return Signature("dfine_seg", {**values, **NO_CHANGE})
    # Boxes are relative ones times the size that is handed over: with the input's, they are in its pixels.
    values |= {"extra_inputs": {"orig_target_sizes": "input_wh"}, "resize": "stretch", **NO_CHANGE}
    note = (
        "mean and std: none, as for D-FINE, DEIM and RT-DETR; DEIMv2 with a DINOv3 backbone needs "
        "--card.mean [0.485,0.456,0.406] --card.std [0.229,0.224,0.225]"
    )
    return Signature("dfine", values, notes=(note,))


def _raw_dfine_seg() -> Signature:
    values: dict[str, Any] = {"boxes": "boxes", "scores": "logits", "pixel_range": "0..1", **NO_CHANGE}
    return Signature("dfine_seg_raw", {**values, "box_format": "cxcywh", "box_unit": "relative", "score_kind": "logit"})


def _rfdetr(file: OnnxFile, count: int | None) -> Signature | None:
    """`dets` (N, Q, 4) and `labels` (N, Q, C + 1): with three classes only the names tell them apart."""
    boxes, labels = file.output("dets"), file.output("labels")
    assert boxes is not None
    assert labels is not None
    if len(labels.shape) != 3 or len(boxes.shape) != 3:
        return None  # mmdeploy has the same names for (N, D, 5) and (N, D)
    values: dict[str, Any] = {
        "boxes": "dets",
        "scores": "labels",
        "box_format": "cxcywh",
        "box_unit": "relative",
        "score_kind": "logit",
        "pixel_range": "0..1",
        "resize": "stretch",
        **IMAGENET,
    }
    columns = labels.shape[2]
    if columns == COCO_COLUMNS and count == COCO_COLUMNS - len(COCO_GAPS):
        values["dropped"] = COCO_GAPS
    elif columns is not None:
        values["dropped"] = (columns - 1,)
    return Signature("rfdetr", values)


def _transformers(file: OnnxFile, count: int | None) -> Signature:
    """`logits, pred_boxes`: sigmoid, or softmax with "no object" last where there is a column more than classes."""
    logits = file.output("logits")
    assert logits is not None
    values: dict[str, Any] = {
        "boxes": "pred_boxes",
        "scores": "logits",
        "box_format": "cxcywh",
        "box_unit": "relative",
        "pixel_range": "0..1",
    }
    columns = logits.shape[-1] if logits.shape else None
    notes: tuple[str, ...] = ()
    if columns is not None and count == columns:
        values["score_kind"] = "logit"
    elif columns is not None and count == columns - 1:
        values |= {"score_kind": "softmax", "dropped": (columns - 1,)}
        notes = (
            f"logits have {columns} columns for {count} classes: read as a softmax with 'no object' last, as of DETR "
            "and YOLOS; for a network of sigmoids give a name for each column",
        )
    if "pixel_mask" in {each.name for each in file.inputs}:
        values["extra_inputs"] = {"pixel_mask": "mask"}
    return Signature("transformers", values, notes=notes)


def _check_single(file: OnnxFile, found: Signature) -> None:
    """Raise `DetdistillError` if another output could hold the boxes, too."""
    used = {found.values.get(key) for key in ("boxes", "scores", "labels")}
    others = [each for each in file.outputs if each.name not in used and len(each.shape) == 3 and each.shape[2] == 4]
    if others:
        raise DetdistillError(
            f"{file.path}: outputs {found.values['boxes']} and {', '.join(each.name for each in others)} could both "
            f"hold the boxes:{listed(list(file.outputs))}\nName the right ones: --card.boxes NAME --card.scores NAME"
        )
