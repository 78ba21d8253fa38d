"""The detections of a detector in every image of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import rank_and_world
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.core.in_image import in_pixels_of_image
from detdistill.core.modules import modes_kept
from detdistill.core.offers import Offer
from detdistill.core.progress import track
from detdistill.core.structures import Detections
from detdistill.data.loading import Batch, evaluation_loader
from detdistill.data.stored_detections import BoxSource
from detdistill.detectors.base import Detector
from detdistill.detectors.running import InferenceOptions, detect
from detdistill.evaluation.results import Results
from detdistill.teachers.teacher import Teacher, TeacherBatch

BOXES: frozenset[Offer] = frozenset({"boxes"})


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
    with torch.no_grad(), modes_kept(detector):
        detector.eval()
        return _over(
            dataset, images, options, lambda batch: detect(detector, batch.images, batch.targets.sizes, options)
        )


def predict_with_teacher(
    teacher: Teacher,
    dataset: DetectionDataset,
    images: ImageOptions,
    options: InferenceOptions = InferenceOptions(),
    *,
    device: torch.device | None = None,
) -> Results:
    """Find the objects in every image with a teacher of any kind; arguments and processes as of `predict`.

    Args:
        teacher: offers boxes.
        dataset: its images. Its classes do not count: labels are the teacher's.
        images: the size to resize to.
        options: batches, precision, loading processes.
        device: where the teacher is to run; None for the CPU.

    Raises:
        DataError: an image cannot be read.
    """
    place = device or torch.device("cpu")

    def found(batch: Batch) -> list[Detections]:
        batch = batch.to(place, non_blocking=True)
        with torch.autocast(place.type, torch.bfloat16, enabled=options.bf16):
            asked = TeacherBatch(batch.images, batch.targets.sizes, BOXES, batch.targets.stored)
            return [each.detections() for each in teacher.guide(asked).set_of_boxes]

    with torch.no_grad():
        return _over(dataset, images, options, found, teacher.stored)


def _over(
    dataset: DetectionDataset,
    images: ImageOptions,
    options: InferenceOptions,
    found: Callable[[Batch], list[Detections]],
    stored: BoxSource | None = None,
) -> Results:
    """The detections in all images of a dataset, of which `found` returns those of a batch, in pixels of the canvas."""
    rank, world = rank_and_world()
    loader = evaluation_loader(
        dataset,
        images,
        batch_size=options.batch_size,
        workers=options.workers,
        stored=stored,
        rank=rank,
        world=world,
    )
    # One process speaks for all: their shares differ by an image at most.
    batches = track(loader, f"batches of {options.batch_size} images") if rank == 0 else iter(loader)
    return Results.from_detections(one for batch in batches for one in in_files(batch, found(batch)))


def in_files(batch: Batch, found: Sequence[Detections]) -> Iterator[tuple[int, Detections]]:
    """The index of each image of a batch, and what was found there in pixels of the image file.

    Args:
        batch: the images.
        found: for each image, in pixels of the canvas.
    """
    resized, original = batch.targets.sizes.tolist(), batch.original_sizes.tolist()
    for index, one, size, original_size in zip(batch.indices, found, resized, original, strict=True):
        yield index, in_pixels_of_image(one, size, original_size)
