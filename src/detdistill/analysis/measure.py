"""One pass over a data set: a teacher and its students on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
import torch

from detdistill.analysis.differences import LinearMap, fits_of
from detdistill.analysis.error_types import Errors, errors_of
from detdistill.analysis.observation import Observation
from detdistill.analysis.pairing import align, candidates, reordered, swapped
from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.core.modules import modes_kept
from detdistill.core.output import Output
from detdistill.core.progress import track
from detdistill.core.structures import Detections
from detdistill.data.classes import with_classes
from detdistill.data.loading import Batch, evaluation_loader
from detdistill.data.sampling import shuffled
from detdistill.detectors.base import Detector
from detdistill.detectors.running import InferenceOptions, output_of
from detdistill.distill.class_map import ClassMap
from detdistill.distill.view import View
from detdistill.evaluation.coco_metrics import CocoMetrics, coco_metrics
from detdistill.evaluation.predict import in_files
from detdistill.evaluation.results import Results
from detdistill.training.teacher_score import with_student_labels

FITTED_ON = 4
"""Batches of images drawn at random from which the linear maps of features are found; they are kept, not run twice."""
SHOWN = 6
"""Cases of each gallery."""

Found = list[tuple[int, Detections]]


@dataclass(frozen=True, eq=False)
class Student:
    """What was measured of a student.

    Attributes:
        name: of its run.
        notes: what was done to compare it with the teacher.
        observation: ranks and differences.
        scores: of its detections.
        teachers_order: of its boxes, ranked by the teacher's scores.
        teachers_order_within: of its boxes and scores, in the teacher's order among the candidates of each object.
        teachers_boxes: of the teacher's boxes, ranked by its scores.
        errors: their kinds.
    """

    name: str
    notes: Sequence[str]
    observation: Observation
    scores: CocoMetrics
    teachers_order: CocoMetrics
    teachers_order_within: CocoMetrics
    teachers_boxes: CocoMetrics
    errors: Errors


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured.

    Attributes:
        dataset: with the students' classes.
        teacher: the scores of its detections.
        teacher_errors: their kinds.
        students: in the order given.
    """

    dataset: DetectionDataset
    teacher: CocoMetrics
    teacher_errors: Errors
    students: Sequence[Student]


def measure(
    teacher: Detector,
    students: Mapping[str, Detector],
    dataset: DetectionDataset,
    images: ImageOptions,
    options: InferenceOptions = InferenceOptions(),
    *,
    class_map: Mapping[str, str] | None = None,
) -> Measured:
    """Runs all detectors on every image once, without a gradient. Only detections grow with the data set.

    Args:
        teacher: on the device where it is to run.
        students: by name, on the same device; all have the same classes.
        dataset: its classes are among the students'.
        images: the size to resize to, for all of them.
        options: batches, precision, loading processes.
        class_map: classes of the teacher that mean a student's under another name.

    Raises:
        DetdistillError: no class or level in common, or students of different classes.
        DataError: an image cannot be read, or the data set has a class that the students lack.
    """
    classes = _same_classes(students)
    shared = ClassMap(classes, teacher.classes, class_map or {})
    known = with_classes(dataset, classes)
    # In random order, so that the first batches are a sample of all images.
    names = known.images.file_names
    known = replace(known, images=known.images.take(shuffled(range(len(names)), names.__getitem__)))
    if not len(known.images.labels):
        raise DetdistillError(f"{dataset.source}: there is no object in {len(known.images)} images to analyse")
    loader = evaluation_loader(known, images, batch_size=options.batch_size, workers=options.workers)
    found: dict[tuple[str, str], Found] = {}
    observations = {name: Observation(classes, SHOWN) for name in students}
    notes: dict[str, list[str]] = {}

    def work() -> Iterator[tuple[Batch, dict[str, View]]]:
        for batch in track(loader, f"batches of {options.batch_size} images"):
            batch = batch.to(next(teacher.parameters()).device)
            other = _output(teacher, batch, options)
            _keep(found, ("", "teacher"), batch, teacher.detect(other, batch.targets.sizes))
            aligned = {}
            for name, student in students.items():
                own = _output(student, batch, options)
                _keep(found, (name, "own"), batch, student.detect(own, batch.targets.sizes))
                pair, notes[name] = align(student, shared, own, other, batch.targets)
                others = {
                    "order": swapped(pair.teacher, pair.student),
                    "within": reordered(pair.student, candidates(pair)),
                    "boxes": swapped(pair.student, pair.teacher),
                }
                for kind, output in others.items():
                    _keep(found, (name, kind), batch, student.detect(output, batch.targets.sizes))
                aligned[name] = pair
            yield batch, aligned

    with torch.no_grad(), ExitStack() as stack:
        for detector in (teacher, *students.values()):
            stack.enter_context(modes_kept(detector))
            detector.eval()
        batches = work()
        first = list(islice(batches, FITTED_ON))
        maps = {name: _maps(first, name) for name in students}
        for batch, aligned in chain(first, batches):
            for name, pair in aligned.items():
                observations[name].add(batch, pair, maps[name])

    detections = {key: Results.from_detections(parts) for key, parts in found.items()}
    teachers = with_student_labels(detections["", "teacher"], shared)
    return Measured(
        known,
        coco_metrics(known, teachers),
        errors_of(known, teachers),
        [
            Student(
                name,
                [*shared.notes(), *notes[name]],
                observations[name],
                coco_metrics(known, detections[name, "own"]),
                coco_metrics(known, _of_shared(detections[name, "order"], shared)),
                coco_metrics(known, _of_shared(detections[name, "within"], shared)),
                coco_metrics(known, _of_shared(detections[name, "boxes"], shared)),
                errors_of(known, detections[name, "own"]),
            )
            for name in students
        ],
    )


def _same_classes(students: Mapping[str, Detector]) -> tuple[str, ...]:
    (first, classes), *others = ((name, student.classes) for name, student in students.items())
    for name, own in others:
        if own != classes:
            raise DetdistillError(
                f"students of different classes cannot stand side by side: {first} has {', '.join(classes)}; {name} "
                f"has {', '.join(own)}"
            )
    return classes


def _output(detector: Detector, batch: Batch, options: InferenceOptions) -> Output:
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=options.bf16):
        return output_of(detector, batch.images, batch.targets.sizes, channels_last=options.channels_last)


def _keep(found: dict[tuple[str, str], Found], key: tuple[str, str], batch: Batch, own: list[Detections]) -> None:
    found.setdefault(key, []).extend(
        (index, Detections(one.boxes.cpu(), one.scores.cpu(), one.labels.cpu())) for index, one in in_files(batch, own)
    )


def _maps(batches: Sequence[tuple[Batch, Mapping[str, View]]], name: str) -> list[LinearMap]:
    """The linear maps from a student's features to the teacher's, one for each level."""
    fits = None
    for batch, aligned in batches:
        pair = aligned[name]
        fits = fits or fits_of(pair.student.features.maps, pair.teacher.features.maps)
        valid = pair.student.predictions.grid.valid_cells(batch.targets.sizes)
        for fit, own, other, cells in zip(
            fits, pair.student.features.maps, pair.teacher.features.maps, valid, strict=True
        ):
            fit.add(own, other, cells)
    return [fit.solve() for fit in fits or []]


def _of_shared(results: Results, classes: ClassMap) -> Results:
    """Detections of positions among the shared classes, with the student's labels."""
    return Results(results.image, results.xywh, results.scores, np.array(classes.shared)[results.labels])
