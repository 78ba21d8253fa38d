"""The detections of a detector in every image of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from detdistill.core.annotations import DetectionDataset
from detdistill.core.boxes import boxes_to_original
from detdistill.core.distributed import rank_and_world
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.core.modules import modes_kept
from detdistill.core.progress import track
from detdistill.core.structures import Detections
from detdistill.data.loading import Batch, evaluation_loader
from detdistill.detectors.base import Detector
from detdistill.detectors.running import InferenceOptions, detect
from detdistill.evaluation.results import Results


def predict(
    detector: Detector,
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
    rank, world = rank_and_world()
    loader = evaluation_loader(
        dataset,
        images,
        batch_size=options.batch_size,
        workers=options.workers,
        rank=rank,
        world=world,
    )
    # One process speaks for all: their shares differ by an image at most.
    batches = track(loader, f"batches of {options.batch_size} images") if rank == 0 else iter(loader)
    with torch.no_grad(), modes_kept(detector):
        detector.eval()
        return Results.from_detections(found for batch in batches for found in _detect(detector, batch, options))


def _detect(detector: Detector, batch: Batch, options: InferenceOptions) -> Iterator[tuple[int, Detections]]:
    return in_files(batch, detect(detector, batch.images, batch.targets.sizes, options))


def in_files(batch: Batch, found: Sequence[Detections]) -> Iterator[tuple[int, Detections]]:
    """The index of each image of a batch, and what was found there in pixels of the image file.

    Args:
        batch: the images.
        found: for each image, in pixels of the canvas.
    """
    resized, original = batch.targets.sizes.tolist(), batch.original_sizes.tolist()
    for index, one, size, original_size in zip(batch.indices, found, resized, original, strict=True):
        yield index, Detections(boxes_to_original(one.boxes, size, original_size), one.scores, one.labels)
