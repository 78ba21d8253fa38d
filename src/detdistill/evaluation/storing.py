"""The detections of a teacher in every image of a dataset, stored for `detdistill distill`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from detdistill.core.annotations import DetectionDataset
from detdistill.core.boxes import boxes_to_original
from detdistill.core.distributed import note
from detdistill.core.errors import DataError, DetdistillError
from detdistill.core.image_options import ImageOptions, options_for
from detdistill.core.progress import track
from detdistill.core.settings import to_values
from detdistill.core.structures import TeacherBoxes
from detdistill.data.batching import Draw, EvaluationBatches
from detdistill.data.detections_folder import DetectionsHeader
from detdistill.data.loading import Batch, Collate, DetectionImages, own_canvases
from detdistill.data.plain_images import plain_images
from detdistill.data.source import DatasetSource, opened, source_of
from detdistill.data.stored_images import file_digest
from detdistill.data.transforms import EvaluationTransform, Sample
from detdistill.detectors.running import InferenceOptions, chosen_device
from detdistill.evaluation.detections_writer import DetectionsWriter, kept_from_others, left_to_predict, started
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.loading import GivenTeacher, as_teacher, load_teacher
from detdistill.teachers.teacher import Teacher, TeacherBatch

USUAL_FLOOR = 0.05
"""Floor where neither the user nor the teacher gives one; below it, few boxes are of an object."""


@dataclass
class StoredSplits:
    """What was stored.

    Attributes:
        predicted: Number of images that were predicted, by the name of their split.
        before: Number of images that the folder held before, by the name of their split.
        boxes: Number of boxes that were added.
        unreadable: Why each of the other images could not be read.
    """

    predicted: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    boxes: int = 0
    unreadable: dict[Path, str] = field(default_factory=dict)


def store_detections(
    teacher: str | PathLike[str] | GivenTeacher,
    data: DatasetSource | str | PathLike[str],
    out: str | PathLike[str],
    *,
    top_k: int = 5,
    floor: float | None = None,
    short_side: int | None = None,
    long_side: int | None = None,
    device: str | None = None,
    options: InferenceOptions = InferenceOptions(),
) -> StoredSplits:
    """Predict every image of a dataset once and store the boxes, with which `detdistill distill` teaches later.

    Images that the folder holds already are not predicted again, so that an interrupted call can be repeated. Images
    that cannot be read are skipped and returned.

    Args:
        teacher: What `detdistill distill --teacher` takes; or a detector, a function or another teacher.
        data: The dataset: all its splits, or the one that a `DatasetSource` names; or images without annotations, as
            `plain_images` takes them, which are stored as one split with the name of their place.
        out: Folder to write to, created if it does not exist.
        top_k: Largest number of classes whose probabilities are kept for each box, at least 1.
        floor: Score below which nothing is stored, 0 to 1; None for a detector's own threshold, 0.05 for others.
        short_side: Pixels of the shorter side; None for the size that the teacher was made for.
        long_side: Upper limit of the longer side, in pixels; None as for `short_side`.
        device: Such as `cpu` or `cuda:1`; None for a GPU if there is one.
        options: Batches, precision, loading processes.

    Returns:
        The numbers of images and boxes, and the images that could not be read.

    Raises:
        DetdistillError: The teacher cannot be loaded, predicts no boxes or not below its own floor, the image size is
            not known, the folder holds something else or the detections of another teacher, or cannot be written.
        DataError: A split cannot be opened, or has other images of the names that the folder holds.
    """
    _check_call(top_k, floor)
    place, folder = chosen_device(device), Path(out)
    splits = _splits(source_of(data))
    first = opened(next(iter(splits.values())), check_images=False)
    teacher = (
        load_teacher(str(teacher), first, channels_last=options.channels_last)
        if isinstance(teacher, str | PathLike)
        else as_teacher(teacher, channels_last=options.channels_last)
    )
    if teacher.stored is not None or "boxes" not in teacher.offers:
        why = "are stored already" if teacher.stored is not None else "are not offered"
        raise DetdistillError(f"teacher: its boxes {why}; expected a teacher that predicts boxes from images")
    size = options_for(teacher.size, short_side=short_side, long_side=long_side)
    found = StoredSplits()
    with _at_floor(teacher, floor) as own_floor, kept_from_others(folder):
        header = started(folder, _header(teacher, top_k, own_floor, size))
        for number, (split, source) in enumerate(splits.items()):
            dataset = first if number == 0 else opened(source, check_images=False)
            left = left_to_predict(folder, header, split, dataset)
            found.predicted[split], found.before[split] = 0, len(dataset.images) - len(left.images)
            with DetectionsWriter(folder, header, split, left) as writer:
                for loaded in track(_loader(left, size, options), f"{split}: batches of {options.batch_size} images"):
                    found.unreadable |= loaded.unreadable
                    if loaded.batch is None:
                        continue
                    boxes = _predict(teacher, loaded.batch, place, options, left)
                    writer.add(loaded.batch.indices, loaded.digests, [_from(each, own_floor) for each in boxes])
                    found.predicted[split] += len(boxes)
            found.boxes += writer.boxes
            header = writer.header
    return found


def _splits(source: DatasetSource) -> dict[str, DatasetSource | DetectionDataset]:
    """The splits of a dataset by name, or images without annotations."""
    try:
        return dict(source.parts())
    except DataError as error:
        if source.split is not None or source.annotations is not None:
            raise
        try:
            images = plain_images([source.path])
        except DataError:
            raise error from None
    note(f"{source.path}: no annotations are recognised; all {len(images.images):,} images are predicted")
    return {str(Path(source.path).expanduser().resolve()): images}


def _check_call(top_k: int, floor: float | None) -> None:
    if top_k < 1:
        raise DetdistillError(f"top_k (--top-k) is {top_k}; expected at least 1 class for each box")
    if floor is not None and not 0 <= floor < 1:
        raise DetdistillError(f"floor (--floor) is {floor}; expected a score from 0 to below 1")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise DetdistillError("detections are stored by one process; start the command without torchrun")


@contextmanager
def _at_floor(teacher: Teacher, floor: float | None) -> Iterator[float]:
    """Give the floor of the stored boxes; a detector has this threshold within the block."""
    if not isinstance(teacher, DetectorTeacher):
        yield USUAL_FLOOR if floor is None else floor
        return
    detector, own = teacher.detector, teacher.detector.postprocessing
    if floor is not None:
        detector.postprocessing = replace(own, score_threshold=floor)
    try:
        yield detector.postprocessing.score_threshold
    finally:
        detector.postprocessing = own


def _header(teacher: Teacher, top_k: int, floor: float, size: ImageOptions) -> DetectionsHeader:
    return DetectionsHeader(
        classes=teacher.classes,
        floor=floor,
        top_k=top_k,
        image_size=size.size,
        postprocessing=(to_values(teacher.detector.postprocessing) if isinstance(teacher, DetectorTeacher) else None),
        teacher=dict(teacher.origin),
    )


def _predict(
    teacher: Teacher, batch: Batch, place: torch.device, options: InferenceOptions, dataset: DetectionDataset
) -> list[TeacherBoxes]:
    """The teacher's boxes in each image, in pixels of the image file, those without area left out."""
    moved = batch.to(place, non_blocking=True)
    asked = TeacherBatch(moved.images, moved.targets.sizes, frozenset({"boxes"}))
    with torch.no_grad(), torch.autocast(place.type, torch.bfloat16, enabled=options.bf16):
        guidance = teacher.guide(asked)
    boxes = []
    sizes = zip(batch.targets.sizes.tolist(), batch.original_sizes.tolist(), strict=True)
    for index, found, (size, original) in zip(batch.indices, guidance.set_of_boxes, sizes, strict=True):
        if not (found.boxes.isfinite().all() and found.probabilities.isfinite().all()):
            raise DataError(
                f"{dataset.images.file_names[index]}: the teacher predicts numbers that are not finite; its weights "
                "or its precision are broken"
            )
        in_file = boxes_to_original(found.boxes.float(), size, original)
        boxes.append(found.keep((in_file[:, 2:] > in_file[:, :2]).all(dim=1), in_file).to("cpu"))
    return boxes


def _from(found: TeacherBoxes, floor: float) -> TeacherBoxes:
    """The boxes of at least a score.

    Raises:
        DetdistillError: The teacher predicts nothing so low.
    """
    if found.floor > floor:
        raise DetdistillError(
            f"floor (--floor) is {floor:g}, and this teacher predicts nothing below {found.floor:g}; expected at least "
            "that"
        )
    return found.keep(found.scores >= floor) if found.floor < floor else found


@dataclass(frozen=True, eq=False)
class _Loaded:
    """Images of one canvas.

    Attributes:
        batch: Those that could be read; None if there are none.
        digests: Number of the content of each of these files, see `file_digest`.
        unreadable: Why each of the others could not be read.
    """

    batch: Batch | None
    digests: Sequence[int]
    unreadable: dict[Path, str]


_Attempt = tuple[Draw, Sample, int] | tuple[Path, str]
"""An image with the number of its file's content, or a path and why it cannot be read."""


class _Readable(Dataset[_Attempt]):
    """Images of which some may be unreadable."""

    def __init__(self, images: DetectionImages) -> None:
        self._images = images

    def __getitem__(self, draw: Draw) -> _Attempt:
        path = Path(self._images.dataset.images.paths[draw.image])
        digest = file_digest(path)
        try:
            _, sample = self._images[draw]
        except DataError as error:
            return path, str(error)
        return (path, f"{path}: the file cannot be read") if digest is None else (draw, sample, digest)


@dataclass(frozen=True, eq=False)
class _Joined:
    """Makes `_Loaded` of what could be read and what could not."""

    collate: Collate

    def __call__(self, attempts: Sequence[_Attempt]) -> _Loaded:
        read = [attempt for attempt in attempts if len(attempt) == 3]
        failed = dict(attempt for attempt in attempts if len(attempt) == 2)
        batch = self.collate([(draw, sample) for draw, sample, _ in read]) if read else None
        return _Loaded(batch, [digest for _, _, digest in read], failed)


def _loader(dataset: DetectionDataset, size: ImageOptions, options: InferenceOptions) -> DataLoader[_Loaded]:
    canvases = own_canvases(dataset, size)
    return DataLoader(
        _Readable(DetectionImages(dataset, EvaluationTransform(size))),  # type: ignore[arg-type]  # see `_Joined`
        batch_sampler=EvaluationBatches(canvases, batch_size=options.batch_size),
        collate_fn=_Joined(Collate(dataset, canvases)),
        num_workers=options.workers,
        generator=torch.Generator(),
    )
