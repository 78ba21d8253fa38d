"""ONNX files: a detector's network, with or without post-processing, and all that a program needs to know of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.export import Dim

from detdistill.core.errors import DetdistillError, first_line
from detdistill.core.files import replacing
from detdistill.core.image_options import CANVAS_MULTIPLE
from detdistill.core.onnx_runtime import check_installed
from detdistill.core.quiet import quiet
from detdistill.deploy.canvases import Size, known_options, shared_canvas
from detdistill.deploy.exportable import EndToEnd, Raw
from detdistill.deploy.fixed_padding import fix_padding, needs_canvas
from detdistill.deploy.onnx_operators import onnx_translations
from detdistill.detectors.storage import load_detector, read_description

Form = Literal["end_to_end", "raw"]
OUTPUTS: Mapping[Form, tuple[str, ...]] = {
    "end_to_end": ("boxes", "scores", "labels", "counts"),
    "raw": ("scores", "boxes"),
}
OPSET = 20
LARGEST_BATCH = 64
EXAMPLES = 2
"""Images of the batch that is traced: with one, the exporter would take the batch's size for fixed."""
FREE_EXAMPLE = 640, 896
"""Height and width of that batch for a free canvas: sides that are equal, or a level of one cell, would be taken for
fixed, too."""
METADATA = "detdistill"
EXPORTING = "exporting", "onnx", "onnxruntime", "onnxscript"
"""What for, and which packages are needed."""


def export_onnx(
    folder: Path,
    file: Path,
    *,
    form: Form = "end_to_end",
    size: Size | None = None,
    any_size: bool = False,
    half: bool = False,
    class_agnostic: bool = False,
) -> dict[str, Any]:
    """Write a run folder's detector as an ONNX file of any batch size.

    Args:
        folder: of the run.
        file: to write; its name ends in `.onnx`.
        form: `end_to_end` gives detections, `raw` scores and boxes of all priors.
        size: height and width of the canvas, multiples of 32; None for the run's letterbox or canvas, or any size
            if it has neither.
        any_size: the canvas may have any height and width that are multiples of 32.
        half: weights and network in float16; boxes are decoded in float32.
        class_agnostic: NMS among the boxes of all classes.

    Returns:
        The metadata that the file holds under the key `detdistill`.

    Raises:
        DetdistillError: the extra `export` is missing, the folder or size cannot be used, or the detector cannot be
            exported.
    """
    check_file_name(file)
    check_installed(*EXPORTING)
    description = read_description(folder)
    if class_agnostic:
        agnostic = replace(description.postprocessing, class_agnostic=True)
        description = replace(description, postprocessing=agnostic)
    canvas = size
    if size is None and not any_size:
        canvas = shared_canvas(known_options(folder, description.input.size))
    if canvas is not None and any(side % CANVAS_MULTIPLE or side < CANVAS_MULTIPLE for side in canvas):
        raise DetdistillError(
            f"canvas {canvas[0]}x{canvas[1]}: expected sides that are multiples of {CANVAS_MULTIPLE} pixels"
        )
    detector = load_detector(folder).eval()
    if canvas is None and needs_canvas(detector):
        raise DetdistillError(
            f"{folder}: a file for canvases of any size cannot hold a pyramid with detector.pyramid.padding same; give "
            "the canvas with --height and --width"
        )
    fix_padding(detector)
    if half:
        detector.half()
    model: nn.Module = Raw(detector) if form == "raw" else EndToEnd(detector, description.postprocessing)
    metadata = {
        "version": version("detdistill"),
        "form": form,
        "precision": "fp16" if half else "fp32",
        "classes": list(description.classes),
        "input": "images: N x 3 x H x W, N at least 1, uint8, RGB, 0 to 255, each image in the upper left corner, the "
        "rest 0; sizes: N x 2, int64, true height and width of each image. Normalization is inside.",
        "canvas": f"any multiples of {CANVAS_MULTIPLE}" if canvas is None else list(canvas),
        "resize": None if description.input.size is None else asdict(description.input.size),
        "outputs": list(OUTPUTS[form]),
        "postprocessing": asdict(description.postprocessing),
        "score_thresholds": description.score_thresholds,
        "provenance": dict(description.provenance),
        "weights_sha256": description.weights_sha256,
    }
    example = canvas or FREE_EXAMPLE
    images = torch.randint(0, 256, (EXAMPLES, 3, *example), dtype=torch.uint8)
    sizes = torch.tensor([example] * EXAMPLES)
    batch = Dim("N", min=1, max=LARGEST_BATCH)
    image_dims = {0: batch, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC} if canvas is None else {0: batch}
    try:
        # The exporter tells of every dimension that it names.
        with quiet("torch.onnx", warnings_from=""):
            program = torch.onnx.export(
                model,
                (images, sizes),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images", "sizes"],
                output_names=list(OUTPUTS[form]),
                dynamic_shapes=(image_dims, {0: batch}),
                verbose=False,
                custom_translation_table=onnx_translations(),
            )
    except Exception as error:  # the exporter raises whatever it meets
        raise DetdistillError(f"{folder}: torch cannot export this detector as {form}: {_root(error)}") from error
    assert program is not None
    program.model.metadata_props[METADATA] = json.dumps(metadata, ensure_ascii=False)
    with replacing(file) as partial:
        program.save(str(partial))  # `export(…, file)` would write a second file beside it
    return metadata


def check_file_name(file: Path) -> None:
    """Raise `DetdistillError` if a name does not say that the file is ONNX."""
    if file.suffix.lower() != ".onnx":
        raise DetdistillError(
            f"{file}: the file would hold ONNX; expected a name that ends in .onnx. Convert it for another runtime "
            "afterwards, for example with trtexec for TensorRT"
        )


def _root(error: BaseException) -> str:
    """The first line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
