"""From a run folder to a verified file."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from detdistill.annotations import DetectionDataset
from detdistill.deploy.canvases import canvas_of, noise, photographs
from detdistill.deploy.onnx import Form, export_onnx
from detdistill.deploy.quantize import quantize
from detdistill.deploy.score import ScoreChange, average_precision, score_onnx
from detdistill.deploy.verify import Verification, verify
from detdistill.detectors.checkpoints import load_detector
from detdistill.detectors.description import read_description
from detdistill.errors import DetdistillError
from detdistill.image_options import ImageOptions
from detdistill.inference.score import score

Precision = Literal["fp32", "fp16", "int8"]

VERIFIED_ON = 16
"""Images."""
CALIBRATED_ON = 64
"""Images."""
TOLERATED = 0.01
"""AP, 0 to 1, that a narrower precision may lose."""


@dataclass(frozen=True)
class Exported:
    """What is known of an exported file.

    Attributes:
        verification: of the file in float32, beside PyTorch.
        change: of AP; None where it was not measured.
    """

    verification: Verification
    change: ScoreChange | None


def export(
    folder: Path,
    file: Path,
    *,
    form: Form = "end_to_end",
    precision: Precision = "fp32",
    size: tuple[int, int] | None = None,
    any_size: bool = False,
    dataset: DetectionDataset | None = None,
    images: int = VERIFIED_ON,
    calibration: DetectionDataset | None = None,
    calibration_images: int = CALIBRATED_ON,
    scored: bool = False,
    tolerated: float = TOLERATED,
) -> Exported:
    """Writes an ONNX file, and runs it beside PyTorch; in float32 first, and of fp16 and int8 the AP is measured.

    Args:
        folder: of the run.
        file: to write.
        form: as in `export_onnx`.
        precision: of the network; boxes are decoded in float32.
        size: height and width of the canvas, multiples of 32; None for the smallest that holds the images of the data
            set, or, without one, what the run was made for.
        any_size: as in `export_onnx`.
        dataset: whose images it is verified and scored on; None for drawn noise.
        images: number of them to verify on.
        calibration: whose images int8 is calibrated on; None for those of `dataset`.
        calibration_images: number of them.
        scored: measure AP in float32 too.
        tolerated: AP, 0 to 1, that may be lost.

    Raises:
        DetdistillError: the detector cannot be exported, the file does not compute what PyTorch does, or it lost more
            AP than it may. The file stays for a look at it.
    """
    description = read_description(folder)
    options = None if description.image_size is None else ImageOptions(**asdict(description.image_size))
    is_scored = scored or precision != "fp32"
    if is_scored and (dataset is None or options is None):
        raise DetdistillError(
            f"{precision} needs a data set, on which AP is measured, and the size of images that {folder} was made "
            "for: give --data, and export a trained or distilled run"
        )
    shown = [image for data in (dataset, calibration) if data is not None for image in data.images]
    canvas = size or canvas_of(folder, description.image_size, shown)
    with tempfile.TemporaryDirectory() as scratch:
        whole = file if precision == "fp32" else Path(scratch) / file.name
        export_onnx(folder, whole, form=form, size=canvas, any_size=any_size)
        if dataset is None or options is None:
            batches = noise(canvas, images)
        else:
            batches = photographs(dataset, options, None if any_size else canvas, images)
        verification = verify(load_detector(folder).eval(), whole, form, description.postprocessing, batches)
        verification.check(file)
        if not is_scored or dataset is None or options is None:  # the latter two were refused above
            return Exported(verification, None)
        if precision == "fp16":
            export_onnx(folder, file, form=form, size=canvas, any_size=any_size, half=True)
        if precision == "int8":
            batches = photographs(calibration or dataset, options, None if any_size else canvas, calibration_images)
            quantize(whole, file, batches)
    change = ScoreChange(
        score(load_detector(folder), dataset, options, average_precision),
        score_onnx(file, form, dataset, options, None if any_size else canvas, description),
        len(dataset.images),
    )
    change.check(file, tolerated)
    return Exported(verification, change)
