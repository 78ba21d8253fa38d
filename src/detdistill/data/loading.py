"""Batches. How an image is varied is a function of the seed, the epoch and the image's file name alone.

Not of the number of workers, of what was drawn before, nor of an interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from detdistill.annotations import DetectionDataset
from detdistill.canvas import on_one_canvas
from detdistill.data.checking import too_few_images
from detdistill.data.sampling import EpochAndIndex, EvaluationSampler, TrainingSampler, derived_seed
from detdistill.data.transforms import EvaluationTransform, Sample, TrainingTransform, Transform
from detdistill.errors import DataError
from detdistill.image_options import ImageOptions
from detdistill.images import read_image
from detdistill.structures import Targets


class DetectionImages(Dataset[tuple[int, Sample]]):
    """A data set's images, decoded and transformed, each with its position in `dataset.images`.

    Args:
        dataset: the annotated images.
        transform: what is done to each; it may draw from torch's global generator, which is seeded for the image
            beforehand and put back as it was afterwards.
        seed: of the run.
        cache: keeps every decoded image in memory, as uint8 at its original size, once per worker process.
    """

    def __init__(self, dataset: DetectionDataset, transform: Transform, *, seed: int = 0, cache: bool = False) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self._decoded: dict[int, NDArray[np.uint8]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.dataset.images)

    def __getitem__(self, key: EpochAndIndex) -> tuple[int, Sample]:
        """Raises `DataError` for an image that cannot be decoded."""
        epoch, index = key
        record = self.dataset.images[index]
        sample = Sample(
            image=torch.from_numpy(self._decode(index)).permute(2, 0, 1),
            boxes=torch.from_numpy(record.boxes).float(),
            labels=torch.from_numpy(record.labels),
            crowd=torch.from_numpy(record.crowd),
            difficult=torch.from_numpy(record.difficult),
        )
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: that would reseed the accelerators too, which the fork does not put back.
            torch.default_generator.manual_seed(derived_seed(self.seed, epoch, record.file_name))
            return index, self.transform(sample)

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
        targets: objects to train on, in pixels of the canvas; `targets.sizes` are the images' true sizes.
        indices: position of each image in `DetectionDataset.images`.
        original_sizes: `(N, 2)` height and width of each image before resizing.
    """

    images: Tensor
    targets: Targets
    indices: tuple[int, ...]
    original_sizes: Tensor

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same batch on another device; the sizes before resizing stay where they are."""
        images = self.images.to(device, non_blocking=non_blocking)
        return replace(self, images=images, targets=self.targets.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same batch with its images in page-locked memory (called by DataLoader)."""
        return replace(self, images=self.images.pin_memory())


@dataclass(frozen=True, eq=False)
class Collate:
    """Pads samples to one canvas and joins their objects.

    Crowd boxes are left out: they are regions, not objects. So are boxes marked `difficult`, as in mmdetection, unless
    asked for.

    Attributes:
        dataset: the annotated images, for their original sizes.
        multiple: the canvas' sides are multiples of this, in pixels: the coarsest stride.
        side: least side of the canvas, in pixels; None: as large as the largest image.
        difficult: train on objects marked `difficult` too.
    """

    dataset: DetectionDataset
    multiple: int
    side: int | None = None
    difficult: bool = False

    def __call__(self, samples: Sequence[tuple[int, Sample]]) -> Batch:
        """The batch of these images, in this order."""
        indices = tuple(index for index, _ in samples)
        records = [self.dataset.images[index] for index in indices]
        chosen = [sample.keep(~sample.crowd & (~sample.difficult | self.difficult)) for _, sample in samples]
        sizes = torch.tensor([sample.size for sample in chosen])
        return Batch(
            images=on_one_canvas([sample.image for sample in chosen], multiple=self.multiple, side=self.side),
            targets=Targets.from_images([s.boxes for s in chosen], [s.labels for s in chosen], sizes),
            indices=indices,
            original_sizes=torch.tensor([(record.height, record.width) for record in records]),
        )


def training_loader(
    dataset: DetectionDataset,
    options: ImageOptions,
    *,
    batch_size: int,
    multiple: int,
    seed: int,
    workers: int = 0,
    cache: bool = False,
    difficult: bool = False,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[Batch]:
    """Loads shuffled, varied batches; its sampler is a `TrainingSampler`, whose epoch the training loop sets.

    Args:
        dataset: the annotated images.
        options: image size and variation.
        batch_size: images per process and step; what does not fill a batch at the epoch's end is left out.
        multiple: canvas sides are multiples of this, in pixels: the coarsest stride.
        seed: of the run.
        workers: processes that load; their number changes nothing in the batches.
        cache: keep decoded images in memory, once per worker.
        difficult: train on objects marked `difficult` too.
        rank: this process.
        world: number of processes.

    Raises:
        DataError: fewer images than one batch needs.
    """
    sampler = TrainingSampler(len(dataset.images), seed=seed, rank=rank, world=world)
    fault = too_few_images(dataset, batch_size, world)
    if fault is not None:
        raise DataError(f"{dataset.source}: {fault}")
    images = DetectionImages(dataset, TrainingTransform(options), seed=seed, cache=cache)
    collate = Collate(dataset, multiple, options.letterbox, difficult)
    return _loader(images, sampler, collate, batch_size, workers, drop_last=True)


def evaluation_loader(
    dataset: DetectionDataset,
    options: ImageOptions,
    *,
    batch_size: int,
    multiple: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[Batch]:
    """Loads every image once over all processes, in order, resized only; arguments as in `training_loader`."""
    images = DetectionImages(dataset, EvaluationTransform(options))
    sampler = EvaluationSampler(len(dataset.images), rank=rank, world=world)
    return _loader(images, sampler, Collate(dataset, multiple, options.letterbox), batch_size, workers, drop_last=False)


def _loader(
    images: Dataset[Any],
    sampler: Sampler[EpochAndIndex],
    collate: Callable[[Sequence[tuple[int, Sample]]], Batch],
    batch_size: int,
    workers: int,
    *,
    drop_last: bool,
) -> DataLoader[Batch]:
    return DataLoader(
        images,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last,
        # Without one of its own, the loader draws from the global generator and shifts all that is drawn after.
        generator=torch.Generator(),
    )
