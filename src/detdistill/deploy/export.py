"""From a run folder to a verified file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from detdistill.annotations import DetectionDataset
from detdistill.canvas import PADDING
from detdistill.data.loading import evaluation_loader
from detdistill.deploy.onnx import Form, canvas_of, export_onnx
from detdistill.deploy.verify import Canvases, Verification, on_canvas, verify
from detdistill.detectors.checkpoints import load_detector
from detdistill.detectors.description import read_description
from detdistill.image_options import ImageOptions

VERIFIED_ON = 16
"""Images."""
BATCHES = (1, 2, 3)
"""Sizes of the batches that an exported model is tried with, in turns."""


def export(
    folder: Path,
    file: Path,
    *,
    form: Form = "end_to_end",
    size: tuple[int, int] | None = None,
    any_size: bool = False,
    dataset: DetectionDataset | None = None,
    images: int = VERIFIED_ON,
) -> Verification:
    """Writes an ONNX file, and runs it beside PyTorch.

    Args:
        folder: of the run.
        file: to write.
        form: as in `export_onnx`.
        size: as in `export_onnx`.
        any_size: as in `export_onnx`.
        dataset: whose images it is verified on; None for drawn noise.
        images: number of them.

    Raises:
        DetdistillError: the detector cannot be exported, or the file does not compute what PyTorch does. The file stays
            for a look at it.
    """
    export_onnx(folder, file, form=form, size=size, any_size=any_size)
    description = read_description(folder)
    canvas = size or canvas_of(folder, description.image_size)
    if dataset is None or description.image_size is None:
        batches = _noise(canvas, images)
    else:
        batches = _photographs(dataset, ImageOptions(**vars(description.image_size)), canvas, images, any_size=any_size)
    found = verify(load_detector(folder).eval(), file, form, description.postprocessing, batches)
    found.check(file)
    return found


def _noise(canvas: tuple[int, int], count: int) -> Iterator[Canvases]:
    """Blobs of all scales, so that features vary as in photographs; the second half does not fill the canvas."""
    random = torch.Generator().manual_seed(0)
    for number, batch in enumerate(_batch_sizes(count)):
        coarse = [
            torch.nn.functional.interpolate(
                torch.rand(batch, 3, side, side, generator=random), size=canvas, mode="bilinear", align_corners=False
            )
            for side in (2, 5, 16, 64)
        ]
        pixels = (torch.stack(coarse).mean(dim=0) * 255).to(torch.uint8)
        sizes = torch.tensor([canvas] * batch)
        if number % 2:
            sizes = sizes - torch.tensor([canvas[0] // 4, canvas[1] // 3])
            height, width = sizes[0].tolist()
            pixels[:, :, height:], pixels[:, :, :, width:] = 0, 0
        yield pixels, sizes


def _photographs(
    dataset: DetectionDataset, options: ImageOptions, canvas: tuple[int, int], count: int, *, any_size: bool
) -> Iterator[Canvases]:
    few = replace(dataset, images=dataset.images[:count])
    start = 0
    for batch_size in _batch_sizes(len(few.images)):
        part = replace(few, images=few.images[start : start + batch_size])
        start += batch_size
        for batch in evaluation_loader(part, options, batch_size=batch_size, multiple=PADDING):
            pixels = batch.images if any_size else on_canvas(batch.images, canvas)
            yield pixels, batch.targets.sizes


def _batch_sizes(count: int) -> Iterator[int]:
    turn = 0
    while count > 0:
        size = min(BATCHES[turn % len(BATCHES)], count)
        yield size
        count -= size
        turn += 1
