"""Batches. How an image is varied is a function of the seed, the epoch and the image's file name alone.

Not of the number of workers, of what was drawn before, nor of an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from detdistill.core.annotations import DetectionDataset
from detdistill.core.canvas import on_canvas
from detdistill.core.errors import DataError, counted
from detdistill.core.image_options import ImageOptions
from detdistill.core.images import read_image
from detdistill.core.instance_masks import InstanceMasks
from detdistill.core.seeds import derived_seed
from detdistill.core.structures import Targets, TeacherImages
from detdistill.core.teacher_size import SAME_SIZE, canvas_at
from detdistill.data.batching import Draw, EvaluationBatches, Size, TrainingBatches, training_canvases
from detdistill.data.stored_detections import BoxSource
from detdistill.data.teacher_inputs import NOTHING, TeacherInputs
from detdistill.data.transforms import EvaluationTransform, Sample, TrainingTransform, Transform


class DetectionImages(Dataset[tuple[Draw, Sample]]):
    """A data set's images, decoded and transformed, each with its position in `dataset.images`.

    Args:
        dataset: the annotated images.
        transform: what is done to each; it may draw from torch's global generator, which is seeded for the image
            beforehand and put back as it was afterwards.
        seed: of the run.
        cache: keeps every decoded image in memory, as uint8 at its original size, once per worker process.
        stored: what a teacher predicted beforehand in these images.

    Raises:
        DataError: nothing is stored for an image, or for one of another size.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        transform: Transform,
        *,
        seed: int = 0,
        cache: bool = False,
        stored: BoxSource | None = None,
    ) -> None:
        self.dataset = dataset
        self._stored = None if stored is None else stored.boxes_of(dataset)
        self.transform = transform
        self.seed = seed
        self._decoded: dict[int, NDArray[np.uint8]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.dataset.images)

    def __getitem__(self, draw: Draw) -> tuple[Draw, Sample]:
        """Return an image of an epoch with its position in `dataset.images`.

        Raises:
            DataError: the image cannot be decoded.
        """
        epoch, index, _ = draw
        record = self.dataset.images[index]
        sample = Sample(
            image=torch.from_numpy(self._decode(index)).permute(2, 0, 1),
            boxes=torch.tensor(record.boxes, dtype=torch.float32),
            labels=torch.from_numpy(record.labels),
            crowd=torch.tensor(record.crowd),
            difficult=torch.tensor(record.difficult),
            stored=None if self._stored is None else self._stored[index],
            masks=None if record.masks is None else InstanceMasks.of_rles(record.masks, (record.height, record.width)),
        )
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: that would reseed the accelerators too, which the fork does not put back.
            torch.default_generator.manual_seed(derived_seed(self.seed, epoch, record.file_name))
            return draw, self.transform(sample)

    def _decode(self, index: int) -> NDArray[np.uint8]:
        if self._decoded is not None and index in self._decoded:
            return self._decoded[index]
        record = self.dataset.images[index]
        image = read_image(record.path, (record.height, record.width))
        if self._decoded is not None:
            self._decoded[index] = image
        return image


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one step and their ground truth.

    Attributes:
        images: `(N, 3, H, W)` uint8 RGB, each in the upper left corner, the rest 0.
        targets: objects to train on and boxes to ignore, in pixels of the canvas; `targets.sizes` are the images' true
            sizes.
        indices: position of each image in `DetectionDataset.images`.
        original_sizes: `(N, 2)` height and width of each image before resizing.
        counts: False for a batch that only keeps its process in step with the others: neither its loss nor its
            objects count.
    """

    images: Tensor
    targets: Targets
    indices: tuple[int, ...]
    original_sizes: Tensor
    counts: bool = True

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same batch on another device; the sizes before resizing stay where they are."""
        images = self.images.to(device, non_blocking=non_blocking)
        return replace(self, images=images, targets=self.targets.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same batch with its images in page-locked memory (called by DataLoader)."""
        shown, masks = self.targets.teacher_images, self.targets.masks
        targets = self.targets if shown is None else replace(self.targets, teacher_images=shown.pin_memory())
        targets = targets if masks is None else replace(targets, masks=masks.pin_memory())
        return replace(self, images=self.images.pin_memory(), targets=targets)


@dataclass(frozen=True, eq=False)
class Collate:
    """Stacks samples on their canvas and joins their objects.

    Crowd boxes are regions, not objects: background inside them is ignored. So it is inside objects marked `difficult`,
    unless these are to be trained on.

    Attributes:
        dataset: the annotated images, for their original sizes.
        canvases: height and width in pixels of the canvas of each of its images; the same within a batch.
        difficult: train on objects marked `difficult` too, instead of ignoring them.
        teacher_ratio: of the teacher's image size to the student's; its canvas covers the student's times this.
    """

    dataset: DetectionDataset
    canvases: Sequence[Size]
    difficult: bool = False
    teacher_ratio: Fraction = SAME_SIZE

    def __call__(self, samples: Sequence[tuple[Draw, Sample]]) -> Batch:
        """Return the batch of these images, in this order."""
        indices = tuple(draw.image for draw, _ in samples)
        (canvas,) = {self.canvases[index] for index in indices}
        loaded = [sample for _, sample in samples]
        trained = [~sample.crowd & (~sample.difficult | self.difficult) for sample in loaded]
        pairs = list(zip(loaded, trained, strict=True))
        targets = Targets.from_images(
            boxes=[sample.boxes[chosen] for sample, chosen in pairs],
            labels=[sample.labels[chosen] for sample, chosen in pairs],
            sizes=torch.tensor([sample.size for sample in loaded]),
            ignored=[sample.boxes[~chosen] for sample, chosen in pairs],
        )
        stored = tuple(sample.stored for sample in loaded if sample.stored is not None)
        masks = [sample.masks.take(chosen) for sample, chosen in pairs if sample.masks is not None]
        return Batch(
            images=on_canvas([sample.image for sample in loaded], canvas),
            targets=replace(
                targets,
                stored=stored or None,
                labelled=self._labelled(indices),
                teacher_images=self._teacher_images(loaded, canvas),
                masks=InstanceMasks.joined(masks, canvas) if masks else None,
            ),
            indices=indices,
            original_sizes=torch.from_numpy(self.dataset.images.sizes[list(indices)]),
            counts=all(draw.counts for draw, _ in samples),
        )

    def _labelled(self, indices: Sequence[int]) -> Tensor | None:
        """Which of the images are annotated; None if all of the dataset are."""
        count = self.dataset.num_labelled
        return None if count is None else torch.tensor([index < count for index in indices])

    def _teacher_images(self, loaded: Sequence[Sample], canvas: Size) -> TeacherImages | None:
        shown = [sample.teacher_image for sample in loaded if sample.teacher_image is not None]
        if not shown:
            return None
        sizes = torch.tensor([image.shape[-2:] for image in shown])
        return TeacherImages(on_canvas(shown, canvas_at(canvas, self.teacher_ratio)), sizes)


def own_canvases(dataset: DetectionDataset, options: ImageOptions) -> list[Size]:
    """Return the canvas of each image, height and width in pixels."""
    sizes, size_of = dataset.images.distinct_sizes
    # The same few tuples over and over: processes that load images touch no others.
    canvases = [options.canvas_of(size) for size in sizes]
    return [canvases[index] for index in size_of.tolist()]


def training_loader(
    dataset: DetectionDataset,
    options: ImageOptions,
    *,
    batch_size: int,
    seed: int,
    workers: int = 0,
    cache: bool = False,
    difficult: bool = False,
    teacher: TeacherInputs = NOTHING,
    unlabelled_share: float = 0.0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[Batch]:
    """Load shuffled, varied batches; the `batch_sampler` is a `TrainingBatches`, whose epoch the training loop sets.

    Args:
        dataset: the annotated images, and unlabelled ones.
        options: image size and variation.
        batch_size: largest number of images per process and step.
        seed: of the run.
        workers: processes that load; their number changes nothing in the batches.
        cache: keep decoded images in memory, once per worker.
        difficult: train on objects marked `difficult` too, instead of ignoring them.
        teacher: what it gets of these images.
        unlabelled_share: share of each batch that unlabelled images of the dataset fill, see `unlabelled_images`.
        rank: this process.
        world: number of processes.

    Raises:
        DataError: there is no image, or nothing is stored for one, or a batch has room for more unlabelled images than
            there are.
    """
    if not dataset.images:
        raise DataError(f"{dataset.source}: no image to train on")
    labelled = dataset.num_labelled
    unlabelled = 0 if labelled is None else unlabelled_images(batch_size * world, unlabelled_share)
    own = own_canvases(dataset, options)
    if labelled is not None and len(own) - labelled < unlabelled:
        raise DataError(
            f"{counted(len(own) - labelled, 'unlabelled image')}, fewer than the {unlabelled} of each batch; add "
            f"images, or lower distill.unlabelled.share ({unlabelled_share:g} of batch_size {batch_size * world})"
        )
    canvases = training_canvases(
        own[:labelled],
        least=batch_size * world - unlabelled,
        unlabelled=[] if labelled is None else own[labelled:],
        share=unlabelled,
    )
    batches = TrainingBatches(
        dataset.images.file_names,
        canvases,
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        world=world,
        num_labelled=labelled,
        unlabelled_share=unlabelled,
    )
    transform = TrainingTransform(options, teacher.ratio)
    images = DetectionImages(dataset, transform, seed=seed, cache=cache, stored=teacher.stored)
    return _loader(images, batches, Collate(dataset, canvases, difficult, teacher.ratio), workers)


def unlabelled_images(batch_size: int, share: float) -> int:
    """Return how many of a batch's images are unlabelled, at least 1, if there are such images.

    Args:
        batch_size: largest number of images of a step, over all processes.
        share: of these, above 0 and below 1.

    Raises:
        DataError: the batch has one image only.
    """
    if batch_size < 2:
        raise DataError(
            f"batch_size {batch_size}: a batch with unlabelled images has room for one annotated and one unlabelled "
            "image at least; raise batch_size to 2 or more"
        )
    return min(max(1, round(batch_size * share)), batch_size - 1)


def evaluation_loader(
    dataset: DetectionDataset,
    options: ImageOptions,
    *,
    batch_size: int,
    workers: int = 0,
    stored: BoxSource | None = None,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[Batch]:
    """Load every image once over all processes, resized only, each on its own canvas.

    The arguments are those of `training_loader`, but for `stored`: what a teacher predicted beforehand, which comes
    with the targets. Batches hold images of one canvas; `EvaluationBatches` has the order.
    """
    canvases = own_canvases(dataset, options)
    batches = EvaluationBatches(canvases, batch_size=batch_size, rank=rank, world=world)
    images = DetectionImages(dataset, EvaluationTransform(options), stored=stored)
    return _loader(images, batches, Collate(dataset, canvases), workers)


def _loader(images: DetectionImages, batches: Sampler[list[Draw]], collate: Collate, workers: int) -> DataLoader[Batch]:
    return DataLoader(
        images,  # type: ignore[arg-type]  # it yields samples, which `collate` makes a batch of
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        # Without one of its own, the loader draws from the global generator and shifts all that is drawn after.
        generator=torch.Generator(),
    )
