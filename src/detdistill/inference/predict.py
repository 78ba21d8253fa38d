"""The detections of a detector in every image of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from detdistill.annotations import DetectionDataset
from detdistill.data.loading import Batch, evaluation_loader
from detdistill.data.transforms import boxes_to_original
from detdistill.detectors.dense import Detector
from detdistill.errors import DetdistillError
from detdistill.evaluation.results import Results
from detdistill.image_options import ImageOptions
from detdistill.modules import modes_kept
from detdistill.progress import track
from detdistill.structures import Detections

PADDING = 32
"""Canvas sides are multiples of this, in pixels, as mmdetection and torchvision measured their published scores."""


class DetectorModule(Detector, Protocol):
    """A `Detector` that is an `nn.Module`."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As `nn.Module`'s."""

    def modules(self) -> Iterator[nn.Module]:
        """As `nn.Module`'s."""

    def eval(self) -> nn.Module:
        """As `nn.Module`'s."""


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
    """The device of that name; without one the GPU, where there is one.

    Raises:
        DetdistillError: no such device here.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
        raise DetdistillError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def predict(
    detector: DetectorModule,
    dataset: DetectionDataset,
    images: ImageOptions,
    options: InferenceOptions = InferenceOptions(),
) -> Results:
    """Finds the objects in every image, without a gradient and in evaluation mode; the detector is left as it was.

    Of several processes (`torch.distributed`) each takes its share; `score_together` joins them.

    Args:
        detector: on the device where it is to run.
        dataset: its images; its classes are those of the detector, see `with_classes`.
        images: the size to resize to; the variations for training do not count.
        options: batches, precision, loading processes.

    Returns:
        The detections, in pixels of the image files.

    Raises:
        DetdistillError: other classes than the detector's.
        DataError: an image cannot be read.
    """
    if dataset.classes != detector.classes:
        raise DetdistillError(
            f"{dataset.source} has the classes {', '.join(dataset.classes)} and the detector "
            f"{', '.join(detector.classes)}; bring the data set to the detector's with `with_classes`"
        )
    is_shared = dist.is_available() and dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if is_shared else (0, 1)
    loader = evaluation_loader(
        dataset,
        images,
        batch_size=options.batch_size,
        multiple=PADDING,
        workers=options.workers,
        rank=rank,
        world=world,
    )
    # One process speaks for all: their shares differ by an image at most.
    batches = track(loader, f"batches of {options.batch_size} images") if rank == 0 else iter(loader)
    with torch.no_grad(), modes_kept(detector):
        detector.eval()
        return Results.from_detections(found for batch in batches for found in _detect(detector, batch, options))


def _detect(detector: DetectorModule, batch: Batch, options: InferenceOptions) -> Iterator[tuple[int, Detections]]:
    return in_files(batch, detect(detector, batch.images, batch.targets.sizes, options))


def detect(detector: DetectorModule, images: Tensor, sizes: Tensor, options: InferenceOptions) -> list[Detections]:
    """The detections in a batch, in pixels of its canvas.

    Args:
        detector: in evaluation mode.
        images: `(N, 3, H, W)` uint8 RGB, each in the upper left corner of the canvas, on any device.
        sizes: `(N, 2)` true height and width of each image.
        options: precision and memory format.
    """
    device = next(detector.parameters()).device
    sizes = sizes.to(device)
    pixels = detector.normalization(images.to(device, non_blocking=True), sizes)
    if options.channels_last:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
        output = detector(pixels)
    return detector.detect(output, sizes)


def in_files(batch: Batch, found: Sequence[Detections]) -> Iterator[tuple[int, Detections]]:
    """The index of each image of a batch, and what was found there in pixels of the image file.

    Args:
        batch: the images.
        found: for each image, in pixels of the canvas.
    """
    resized, original = batch.targets.sizes.tolist(), batch.original_sizes.tolist()
    for index, one, size, original_size in zip(batch.indices, found, resized, original, strict=True):
        yield index, Detections(boxes_to_original(one.boxes, size, original_size), one.scores, one.labels)
