"""How a detector is run on a batch: device, precision, memory format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError, first_line
from detdistill.core.output import Output
from detdistill.core.structures import Detections, Targets

if TYPE_CHECKING:
    from detdistill.detectors.base import Detector


@dataclass(frozen=True)
class InferenceOptions:
    """How fast a data set is worked through. None of it changes what is found, but for the rounding of `bf16`.

    Attributes:
        batch_size: images at a time.
        workers: processes that load images.
        bf16: run the network in bfloat16 where that is safe (autocast).
        channels_last: store images with the channels innermost; faster for most convolutions on CPUs.
    """

    batch_size: int = 8
    workers: int = 0
    bf16: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        """Raises `DetdistillError` for a value out of range."""
        if self.batch_size < 1 or self.workers < 0:
            raise DetdistillError(
                f"batch_size must be at least 1 and workers at least 0, not {self.batch_size} and {self.workers}"
            )


def chosen_device(name: str | None) -> torch.device:
    """The device of that name; without one a GPU, where there is one: of processes that torchrun started each its own.

    Raises:
        DetdistillError: no such device here.
    """
    try:
        device = torch.device(name or _usual_device())
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
        raise DetdistillError(f"device {name!r} cannot be used here: {first_line(error)}") from error
    return device


def _usual_device() -> str:
    gpus = torch.cuda.device_count()
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % gpus}" if gpus else "cpu"


def output_of(
    detector: Detector, images: Tensor, sizes: Tensor, *, channels_last: bool, targets: Targets | None = None
) -> Output:
    """What a detector predicts for a batch, which is first normalised as the detector wants it.

    Args:
        detector: on the images' device.
        images: `(N, 3, H, W)` uint8 RGB, each in the upper left corner of the canvas.
        sizes: `(N, 2)` true height and width of each image.
        channels_last: store images with the channels innermost.
        targets: the objects, in training; None in inference, where the detector is told the sizes alone.

    Raises:
        DetdistillError: the detector does not read this canvas, or is in training mode and its batch norms have a
            single value to normalise.
    """
    detector.input.check_canvas((images.shape[2], images.shape[3]))
    pixels = detector.input.normalization(images, sizes)
    if channels_last:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    try:
        output: Output = detector(pixels, Targets.without_objects(sizes) if targets is None else targets)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = images.shape[2:]
        raise DetdistillError(
            f"batch norm has a single value per channel to normalise: {len(images)} image of {width}x{height} pixels "
            "leaves one cell of the coarsest map; expected at least two cells in the batch. Use a larger image size "
            "(images.short_side, images.letterbox), at least two images in each part of a batch (batch_size, "
            "accumulate), or stored statistics (start.batch_norm: eval)"
        ) from error
    return output


def detect(detector: Detector, images: Tensor, sizes: Tensor, options: InferenceOptions) -> list[Detections]:
    """The detections in a batch, in pixels of its canvas.

    Args:
        detector: in evaluation mode.
        images: `(N, 3, H, W)` uint8 RGB, each in the upper left corner of the canvas, on any device.
        sizes: `(N, 2)` true height and width of each image.
        options: precision and memory format.
    """
    device = next(detector.parameters()).device
    sizes = sizes.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
        output = output_of(detector, images.to(device, non_blocking=True), sizes, channels_last=options.channels_last)
    return detector.detect(output, sizes)
