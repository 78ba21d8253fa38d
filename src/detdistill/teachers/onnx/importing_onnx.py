"""An ONNX file into a folder that teaches: the file, and a card that says what it reads and gives."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from detdistill.core.errors import DetdistillError, SettingsError, listed
from detdistill.core.files import check_new, new_folder
from detdistill.core.settings import from_values, to_values
from detdistill.detectors.postprocess import PostProcessing
from detdistill.teachers.onnx.onnx_card import CARD, MODEL, Card, CardInput, CardOutputs, write_card
from detdistill.teachers.onnx.onnx_check import check_card
from detdistill.teachers.onnx.onnx_file import OnnxFile, OnnxTensor, open_onnx
from detdistill.teachers.onnx.onnx_input import input_size
from detdistill.teachers.onnx.onnx_settings import NOTHING_KNOWN, CardSettings
from detdistill.teachers.onnx.onnx_signature import Signature
from detdistill.teachers.onnx.onnx_signatures import recognized
from detdistill.teachers.onnx.onnx_teacher import OnnxTeacher
from detdistill.teachers.teacher import TeacherBatch

TRIED_CANVAS = 256, 256
"""Height and width in pixels of the noise that a file of any size is tried with."""
OPTIONS = {
    "image": "--card.image NAME",
    "layout": "--card.layout nchw or nhwc",
    "size": "--card.size [HEIGHT,WIDTH]",
    "classes": "--classes [cat,dog], the class names in their order",
    "pixel_range": "--card.pixel-range 0..1 or 0..255",
    "mean": "--card.mean [0,0,0] for none, [0.485,0.456,0.406] for ImageNet's",
    "std": "--card.std [1,1,1] for none, [0.229,0.224,0.225] for ImageNet's",
    "resize": "--card.resize stretch, letterbox or pad",
    "pad_color": "--card.pad-color [R,G,B], 0 to 255",
    "extra_inputs": "--card.extra-inputs {NAME: input_wh}; see `detdistill import --help`",
    "boxes": "--card.boxes NAME",
    "scores": "--card.scores NAME",
    "box_format": "--card.box-format xyxy or cxcywh",
    "box_unit": "--card.box-unit input, relative or original",
    "score_kind": "--card.score-kind logit, probability or softmax",
    "dropped": "--card.dropped [COLUMN], the background",
    "floor": "--card.floor SCORE, the threshold that the file was exported with",
}
"""The option that gives each field of the card."""


@dataclass(frozen=True)
class CardFinding:
    """One field of a card.

    Attributes:
        name: of the field.
        value: its value.
        source: `given`, `file`, or the signature that it follows from.
    """

    name: str
    value: Any
    source: str


@dataclass(frozen=True, eq=False)
class ImportedOnnx:
    """An imported ONNX file, and how it was understood.

    Attributes:
        teacher: of the file where it lay before.
        findings: every field of the card, with its source.
        notes: what a user should know, a line each.
    """

    teacher: OnnxTeacher
    findings: tuple[CardFinding, ...]
    notes: tuple[str, ...]


def import_onnx(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    settings: CardSettings = NOTHING_KNOWN,
    classes: Sequence[str] | None = None,
    number_classes: bool = False,
) -> ImportedOnnx:
    """Import an ONNX file as a teacher, into a new folder with a copy of it and a card.

    The exporter is recognised by the names and shapes of the outputs and by metadata. The file is run once, on noise.

    Args:
        path: ONNX file.
        out: Folder to write; it must not exist.
        settings: Fields of the card that cannot be read from the file; they also count more than the file.
        classes: Class names, instead of those in the file.
        number_classes: Name the classes `class_0`, `class_1`, … if the file has no names.

    Returns:
        The teacher, and how it was understood.

    Raises:
        DetdistillError: `out` exists or cannot be written; the file is no ONNX file, is too large or has weights in
            other files; its outputs are not recognised or can be read in two ways; something is not known; or settings
            contradict the file.
    """
    path, out = Path(path), Path(out)
    check_new(out)
    file = open_onnx(path)
    image = _image_input(file, settings)
    shape = _input_values(file, image, settings)
    size = shape["size"]
    count = None if classes is None else len(classes)
    signature = recognized(file, size, count, settings) or _by_hand(file, settings)
    sources = dict.fromkeys(shape, "file")
    values: dict[str, Any] = {"boxes": None, "scores": None, **shape}
    for name, value in signature.values.items():
        if name == "multiple" and size is not None:
            continue
        values[name], sources[name] = value, signature.name
    given = settings.given()
    for name, value in given.items():
        values[name], sources[name] = value, "given"
    _read_grid_and_nms(values, given, signature)
    values["classes"] = _classes(file, values, signature, classes, number_classes=number_classes)
    sources["classes"] = "file" if classes is None and signature.classes is not None else "given"
    _check_known(file, values)
    card = _card(file, signature, values)
    check_card(path, card, file)
    teacher = OnnxTeacher(file, card, {"file": str(path), "onnx_sha256": card.sha256})
    noise = torch.Generator().manual_seed(0)
    shape_tried = 1, 3, *input_size(card.input, TRIED_CANVAS)
    tried = torch.randint(0, 256, shape_tried, generator=noise, dtype=torch.uint8)
    teacher.guide(TeacherBatch(tried, torch.tensor([tried.shape[2:]]), teacher.offers))
    with new_folder(out) as partial:
        shutil.copyfile(path, partial / MODEL)
        write_card(partial, card)
    shown = {**to_values(card.input), **to_values(card.outputs), "classes": ", ".join(card.classes)}
    findings = tuple(CardFinding(name, value, sources.get(name, "default")) for name, value in shown.items())
    return ImportedOnnx(teacher, findings, signature.notes)


def _image_input(file: OnnxFile, settings: CardSettings) -> OnnxTensor:
    if settings.image is not None:
        named = [each for each in file.inputs if each.name == settings.image]
        if not named:
            raise DetdistillError(
                f"{file.path}: image: no input {settings.image!r}; the inputs are: {', '.join(map(str, file.inputs))}"
            )
        return named[0]
    found = [each for each in file.inputs if len(each.shape) == 4]
    if len(found) != 1:
        raise DetdistillError(
            f"{file.path}: image: {len(found)} inputs have four dimensions:{listed(list(file.inputs))}\n"
            f"Name the one that takes the images: {OPTIONS['image']}"
        )
    return found[0]


def _input_values(file: OnnxFile, image: OnnxTensor, settings: CardSettings) -> dict[str, Any]:
    """Name, layout, size and, for bytes, range of the image input."""
    if len(image.shape) != 4:
        raise DetdistillError(f"{file.path}: image: {image} has {len(image.shape)} dimensions; expected four")
    layout = settings.layout
    if layout is None and 3 in (image.shape[1], image.shape[3]):
        layout = "nchw" if image.shape[1] == 3 else "nhwc"
    if layout is None:
        raise DetdistillError(f"{file.path}: layout: no dimension of {image} is 3; give {OPTIONS['layout']}")
    height, width = image.shape[2:4] if layout == "nchw" else image.shape[1:3]
    values: dict[str, Any] = {"image": image.name, "layout": layout, "size": None}
    if settings.size is not None:
        values["size"] = settings.size
    elif height is not None and width is not None:
        values["size"] = height, width
    elif height is not None or width is not None:
        raise DetdistillError(f"{file.path}: size: one side of {image} is fixed; give {OPTIONS['size']}")
    if image.type == "tensor(uint8)":
        values |= {"pixel_range": "0..255", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return values


def _by_hand(file: OnnxFile, settings: CardSettings) -> Signature:
    """The signature of a file of no known exporter, which the caller describes."""
    if settings.boxes is None or settings.scores is None:
        described = [OPTIONS[name] for name in ("boxes", "scores", "box_format", "box_unit", "score_kind")]
        raise DetdistillError(
            f"{file.path}: boxes, scores: these outputs are of no known exporter:{listed(list(file.outputs))}\n"
            f"Describe them: {', '.join(described)}, and --card.labels NAME if there is one class number a box"
        )
    return Signature("given", {})


def _read_grid_and_nms(values: dict[str, Any], given: Mapping[str, Any], signature: Signature) -> None:
    """Turn the options for grid and suppression into fields of the card."""
    if not values.get("grid"):
        values["grid"] = None
    own = signature.values.get("nms")
    if own is None and "nms" not in given:
        return
    own = to_values(own) if isinstance(own, PostProcessing) else own or {}
    changes: dict[str, Any] = {"iou_threshold": given["nms"]} if "nms" in given else {}
    if "floor" in given:
        changes["score_threshold"] = given["floor"]
        values["floor"] = 0.0
    values["nms"] = {**own, **changes}


def _classes(
    file: OnnxFile,
    values: Mapping[str, Any],
    signature: Signature,
    classes: Sequence[str] | None,
    *,
    number_classes: bool,
) -> tuple[str, ...] | None:
    if classes is not None:
        return tuple(classes)
    if signature.classes is not None:
        return signature.classes
    scores = file.output(values["scores"] or "")
    if not number_classes or scores is None or values.get("labels") is not None or len(scores.shape) != 3:
        return None
    columns = scores.shape[1 if values.get("rows_last") else 2]
    if columns is None:
        return None
    count = columns - len(values.get("dropped", ())) - (4 if values["boxes"] == values["scores"] else 0)
    return tuple(f"class_{label}" for label in range(count))


def _check_known(file: OnnxFile, values: Mapping[str, Any]) -> None:
    """Raise `DetdistillError` for all fields that are still unknown."""
    needed = ["classes", "pixel_range", "mean", "std", "resize", "boxes", "scores", "box_format", "box_unit"]
    needed += ["score_kind"] if values.get("labels") is None else []
    needed += ["pad_color"] if values.get("resize") in ("letterbox", "pad") else []
    needed += ["dropped"] if values.get("score_kind") == "softmax" else []
    needed += ["floor"] if "floor" in values else []
    missing = [name for name in needed if values.get(name) is None]
    others = {each.name for each in file.inputs} - {values["image"]} - (values.get("extra_inputs") or {}).keys()
    missing += ["extra_inputs"] if others else []
    if missing:
        raise DetdistillError(
            f"{file.path}: {', '.join(missing)} cannot be read from the file; expected these options:"
            f"{listed([OPTIONS[name] for name in missing])}"
        )


def _card(file: OnnxFile, signature: Signature, values: Mapping[str, Any]) -> Card:
    known = {name: value for name, value in values.items() if value is not None or name in ("size", "grid")}
    if known.get("labels") is not None:
        known.setdefault("score_kind", "probability")
    parts = {
        key: {each.name: known[each.name] for each in fields(kind) if each.name in known}
        for key, kind in (("input", CardInput), ("outputs", CardOutputs))
    }
    try:
        return from_values(
            Card,
            {
                "signature": signature.name,
                "classes": known["classes"],
                "sha256": file.sha256,
                "provenance": {"imported_from": file.path.name},
                **parts,
            },
        )
    except SettingsError as error:
        raise SettingsError(error.problems, f"{file.path}: {CARD}") from None
