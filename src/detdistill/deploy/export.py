"""From a run folder to a verified file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import on_fixed_canvas
from detdistill.core.overwriting import check_outputs
from detdistill.data.source import DatasetLike, check_dataset_outputs, opened, source_of
from detdistill.deploy.canvases import Size, known_options, noise, photographs, shared_canvas
from detdistill.deploy.onnx import Form, check_file_name, export_onnx
from detdistill.deploy.onnx_score import ScoreChange, average_precision, score_onnx
from detdistill.deploy.quantize import quantize
from detdistill.deploy.verify import Verification, verify
from detdistill.detectors.storage import files_of_detector, load_detector, read_description
from detdistill.evaluation.score import score

Precision = Literal["fp32", "fp16", "int8"]

TRAIN = "train"
VERIFIED_ON = 16
"""Images."""
CALIBRATED_ON = 64
"""Images."""
NOISE = ((256, 320), (320, 256))
"""Canvases of random noise for a file that takes any."""
TOLERATED = 0.01
"""AP, 0 to 1, that a narrower precision may lose."""


@dataclass(frozen=True)
class Exported:
    """What is known of an exported file.

    Attributes:
        canvas: height and width in pixels that it takes; None for any multiples of 32.
        other_canvases: images of the data whose own canvas is another one: where a network computes over the whole
            canvas, as group norm does, their detections differ from those of `predict`.
        verification: of the file in float32, beside PyTorch.
        change: of AP; None where it was not measured.
        calibrated_on: the images that int8 was calibrated on, in words; None for other precisions.
    """

    canvas: Size | None
    other_canvases: int
    verification: Verification
    change: ScoreChange | None
    calibrated_on: str | None = None


def export(
    folder: Path,
    file: Path,
    *,
    form: Form = "end_to_end",
    precision: Precision = "fp32",
    size: Size | None = None,
    any_size: bool = False,
    class_agnostic: bool = False,
    dataset: DatasetLike | None = None,
    images: int = VERIFIED_ON,
    calibration: DatasetLike | None = None,
    calibration_images: int = CALIBRATED_ON,
    scored: bool = False,
    tolerated: float = TOLERATED,
) -> Exported:
    """Write an ONNX file, and run it beside PyTorch; in float32 first, and of fp16 and int8 the AP is measured.

    Args:
        folder: of the run.
        file: to write; its name ends in `.onnx`.
        form: as in `export_onnx`.
        precision: of the network; boxes are decoded in float32.
        size: height and width of the canvas, multiples of 32; images that do not fit are shrunk. None for the canvas
            that all images of the dataset share; where they have several, or there is no dataset, for any size.
        any_size: the canvas may have any height and width that are multiples of 32; excludes `size`.
        class_agnostic: NMS among the boxes of all classes.
        dataset: whose images it is verified and scored on, or where it is; None for random noise.
        images: number of them to verify on, drawn at random.
        calibration: whose images int8 is calibrated on, or where they are; None for the part `train` of `dataset` where
            it has one, else for `dataset`.
        calibration_images: number of them, drawn at random.
        scored: measure AP in float32 too.
        tolerated: AP, 0 to 1, that may be lost.

    Raises:
        DetdistillError: arguments exclude each other; the file's name does not end in `.onnx`, or it would replace an
            input; the detector cannot be exported; the file does not compute what PyTorch does, or it lost more AP than
            it may. In the last two cases the file stays, to be looked at.
        DataError: a dataset cannot be opened, or has classes that the detector does not know.
    """
    check_file_name(file)
    if any_size and size is not None:
        raise DetdistillError("--any-size and --height/--width exclude each other: give one of them")
    if dataset is None and (scored or precision != "fp32"):
        raise DetdistillError(f"{'--score' if scored else precision} needs --data: what it costs is measured there")
    check_outputs({file: "--out"}, files_of_detector(folder), makes_folders=True)
    description = read_description(folder)
    truth, calibration_set = _opened(file, dataset, calibration, with_calibration=precision == "int8")
    options = None if description.input.size is None else known_options(folder, description.input.size)
    is_scored = scored or precision != "fp32"
    if is_scored and options is None:
        raise DetdistillError(
            f"{folder / 'model.json'}: no image_size; expected the size of the images that the detector was trained "
            "on, at which AP is measured: export a trained or distilled run"
        )
    shown = [image for data in (truth, calibration_set) if data is not None for image in data.images]
    if size is None and not any_size:
        size = shared_canvas(known_options(folder, description.input.size), shown)
    placed = options if options is None or size is None else on_fixed_canvas(options, size)
    postprocessing = replace(
        description.postprocessing, class_agnostic=class_agnostic or description.postprocessing.class_agnostic
    )
    description = replace(description, postprocessing=postprocessing)
    detector = load_detector(folder).eval()
    detector.postprocessing = postprocessing
    with tempfile.TemporaryDirectory() as scratch:
        whole = file if precision == "fp32" else Path(scratch) / file.name
        _write(folder, whole, form, size, class_agnostic=class_agnostic)
        if truth is None or placed is None:
            batches = noise(NOISE if size is None else (size,), images)
        else:
            batches = photographs(truth, placed, images)
        verification = verify(detector, whole, form, postprocessing, batches)
        verification.check(file)
        others = (
            0
            if options is None or size is None
            else sum(options.canvas_of((image.height, image.width)) != size for image in shown)
        )
        if not is_scored or truth is None or options is None or placed is None:  # refused above where it is scored
            return Exported(size, others, verification, None)
        if precision == "fp16":
            _write(folder, file, form, size, class_agnostic=class_agnostic, half=True)
        calibrated_on = None
        if calibration_set is not None:
            quantize(whole, file, photographs(calibration_set, placed, calibration_images))
            count = min(calibration_images, len(calibration_set.images))
            calibrated_on = f"{count} images of {calibration_set.source}"
    change = ScoreChange(
        score(detector, truth, options, average_precision),
        score_onnx(file, form, truth, placed, description),
        len(truth.images),
    )
    change.check(file, tolerated)
    return Exported(size, others, verification, change, calibrated_on)


def _opened(
    file: Path, dataset: DatasetLike | None, calibration: DatasetLike | None, *, with_calibration: bool
) -> tuple[DetectionDataset | None, DetectionDataset | None]:
    """The dataset to verify and score on, and the one to calibrate on, neither of which the file may replace."""
    if dataset is None:
        return None, None
    truth = opened(dataset)
    check_dataset_outputs({file: "--out"}, dataset, truth, makes_folders=True)
    if not with_calibration:
        return truth, None
    if calibration is None and not isinstance(dataset, DetectionDataset):
        source = source_of(dataset)
        calibration = replace(source, split=TRAIN) if TRAIN in source.split_names() else None
    if calibration is None:
        return truth, truth
    calibration_set = opened(calibration)
    check_dataset_outputs({file: "--out"}, calibration, calibration_set, makes_folders=True)
    return truth, calibration_set


def _write(
    folder: Path, file: Path, form: Form, size: Size | None, *, class_agnostic: bool, half: bool = False
) -> None:
    any_size = size is None
    export_onnx(folder, file, form=form, size=size, any_size=any_size, half=half, class_agnostic=class_agnostic)
