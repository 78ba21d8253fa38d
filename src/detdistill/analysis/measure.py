"""One pass over a data set: a teacher and its students on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Literal

import numpy as np
import torch

from detdistill.analysis.differences import LinearFit, LinearMap, fits_of
from detdistill.analysis.error_types import Errors, errors_of
from detdistill.analysis.observation import Observation
from detdistill.analysis.pairing import Compared, compare, reordered, swapped
from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.core.modules import modes_kept
from detdistill.core.offers import Offer
from detdistill.core.output import Output
from detdistill.core.progress import track
from detdistill.core.structures import Detections
from detdistill.data.classes import with_classes
from detdistill.data.loading import Batch, evaluation_loader
from detdistill.data.sampling import shuffled
from detdistill.detectors.base import Detector
from detdistill.detectors.running import InferenceOptions, output_of
from detdistill.distill.class_map import ClassMap
from detdistill.evaluation.coco_metrics import CocoMetrics, coco_metrics
from detdistill.evaluation.predict import in_files
from detdistill.evaluation.results import Results
from detdistill.teachers.teacher import Guidance, Teacher, TeacherBatch
from detdistill.training.teacher_score import with_student_labels

FITTED_ON = 4
"""Batches of images drawn at random from which the linear maps of features are found; they are kept, not run twice."""
SHOWN = 6
"""Cases of each gallery."""

WANTED: frozenset[Offer] = frozenset({"boxes", "opinions"})
"""What a teacher must offer to be compared with."""

Found = list[tuple[int, Detections]]
Kind = Literal["own", "order", "within", "boxes", "opinion", "opinion_within"]
"""Whose boxes, scores and order detections have; see `Student`."""


@dataclass(frozen=True, eq=False)
class Student:
    """What was measured of a student.

    Attributes:
        name: of its run.
        notes: what was done to compare it with the teacher.
        observation: ranks and differences.
        scores: of its detections.
        teachers_order: of its boxes, ranked by the teacher's scores. None, as the next two, if the teacher has no
            scores on its cells.
        teachers_order_within: of its boxes and scores, in the teacher's order among the candidates of each object.
        teachers_boxes: of the teacher's boxes, ranked by its scores.
        opinions_order: of its boxes, ranked by the teacher's opinions of them.
        opinions_order_within: of its boxes and scores, in the opinions' order among the candidates of each object.
        errors: their kinds.
    """

    name: str
    notes: Sequence[str]
    observation: Observation
    scores: CocoMetrics
    teachers_order: CocoMetrics | None
    teachers_order_within: CocoMetrics | None
    teachers_boxes: CocoMetrics | None
    opinions_order: CocoMetrics
    opinions_order_within: CocoMetrics
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
    teacher: Teacher,
    students: Mapping[str, Detector],
    dataset: DetectionDataset,
    images: ImageOptions,
    options: InferenceOptions = InferenceOptions(),
    *,
    class_map: Mapping[str, str] | None = None,
) -> Measured:
    """Runs all detectors on every image once, without a gradient. Only detections grow with the data set.

    Args:
        teacher: of any kind that predicts boxes. Without scores on the students' cells, or without features, what is
            read off these is left out.
        students: by name, on the device where all are to run; all have the same classes.
        dataset: its classes are among the students'.
        images: the size to resize to, for all of them.
        options: batches, precision, loading processes.
        class_map: classes of the teacher that mean a student's under another name.

    Raises:
        DetdistillError: no class in common, students of different classes, a teacher without boxes, or one of stored
            detections that lack some of the images.
        DataError: an image cannot be read, or the data set has a class that the students lack.
    """
    classes = _same_classes(students)
    shared = ClassMap(classes, teacher.classes, class_map or {})
    known = with_classes(dataset, classes)
    _check_teacher(teacher, known)
    # In random order, so that the first batches are a sample of all images.
    names = known.images.file_names
    known = replace(known, images=known.images.take(shuffled(range(len(names)), names.__getitem__)))
    if not len(known.images.labels):
        raise DetdistillError(f"{dataset.source}: there is no object in {len(known.images)} images to analyse")
    loader = evaluation_loader(
        known, images, batch_size=options.batch_size, workers=options.workers, stored=teacher.stored
    )
    device = next(next(iter(students.values())).parameters()).device
    teachers: Found = []
    found: dict[tuple[str, Kind], Found] = {}
    observations = {name: Observation(classes, SHOWN) for name in students}
    notes: dict[str, Sequence[str]] = {}

    def work() -> Iterator[tuple[Batch, dict[str, Compared]]]:
        for batch in track(loader, f"batches of {options.batch_size} images"):
            batch = batch.to(device)
            guidance = _guidance(teacher, batch, options)
            teachers.extend(_on_cpu(batch, [each.detections() for each in guidance.set_of_boxes]))
            pairs = {}
            for name, student in students.items():
                own = _output(student, batch, options)
                pair = compare(student, teacher.offers, shared, own, guidance, batch.targets)
                for kind, output in {"own": own, **_exchanged(pair)}.items():
                    detections = student.detect(output, batch.targets.sizes)
                    found.setdefault((name, kind), []).extend(_on_cpu(batch, detections))
                pairs[name], notes[name] = pair, pair.notes
            yield batch, pairs

    with torch.no_grad(), ExitStack() as stack:
        for student in students.values():
            stack.enter_context(modes_kept(student))
            student.eval()
        batches = work()
        first = list(islice(batches, FITTED_ON))
        maps = {name: _maps(first, name) for name in students}
        for batch, pairs in chain(first, batches):
            for name, pair in pairs.items():
                observations[name].add(batch, pair, maps[name])

    teacher_results = with_student_labels(Results.from_detections(teachers), shared)
    results = {key: Results.from_detections(parts) for key, parts in found.items()}
    scores = {
        (name, kind): coco_metrics(known, each if kind == "own" else _of_shared(each, shared))
        for (name, kind), each in results.items()
    }
    return Measured(
        known,
        coco_metrics(known, teacher_results),
        errors_of(known, teacher_results),
        [
            Student(
                name,
                [*shared.notes(), *notes[name]],
                observations[name],
                scores[name, "own"],
                scores.get((name, "order")),
                scores.get((name, "within")),
                scores.get((name, "boxes")),
                scores[name, "opinion"],
                scores[name, "opinion_within"],
                errors_of(known, results[name, "own"]),
            )
            for name in students
        ],
    )


def _exchanged(pair: Compared) -> dict[Kind, Output]:
    """The student's output with something of the teacher's in the place of its own."""
    opinion = pair.opinion.view
    outputs: dict[Kind, Output] = {
        "opinion": swapped(opinion.teacher, opinion.student),
        "opinion_within": reordered(opinion.student, pair.opinion.candidates),
    }
    if pair.dense is None:
        return outputs
    view = pair.dense.view
    return {
        **outputs,
        "order": swapped(view.teacher, view.student),
        "within": reordered(view.student, pair.dense.candidates),
        "boxes": swapped(view.student, view.teacher),
    }


def _check_teacher(teacher: Teacher, dataset: DetectionDataset) -> None:
    if not teacher.offers >= WANTED:
        raise DetdistillError(
            f"teacher {teacher.kind} cannot be analyzed: it offers {', '.join(sorted(teacher.offers))}; expected a "
            "teacher that predicts boxes"
        )
    if teacher.stored is None:
        return
    missing = int((~teacher.stored.covered(dataset)).sum())
    if missing:
        raise DetdistillError(
            f"teacher {teacher.kind}: nothing is stored for {missing} of the {len(dataset.images)} images of "
            f"{dataset.source}; store the teacher's detections in all of them, or analyze another split"
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


def _guidance(teacher: Teacher, batch: Batch, options: InferenceOptions) -> Guidance:
    targets = batch.targets
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=options.bf16):
        return teacher.guide(TeacherBatch(batch.images, targets.sizes, teacher.offers, targets.stored))


def _output(detector: Detector, batch: Batch, options: InferenceOptions) -> Output:
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=options.bf16):
        return output_of(detector, batch.images, batch.targets.sizes, channels_last=options.channels_last)


def _on_cpu(batch: Batch, own: Sequence[Detections]) -> Iterator[tuple[int, Detections]]:
    for index, one in in_files(batch, own):
        yield index, one.to("cpu")


def _maps(batches: Sequence[tuple[Batch, Mapping[str, Compared]]], name: str) -> list[LinearMap]:
    """The linear maps from a student's features to the teacher's, one for each level; none without features."""
    fits: list[LinearFit] = []
    for batch, pairs in batches:
        dense = pairs[name].dense
        if dense is None or not dense.view.teacher.features.maps:
            return []
        own, other = dense.view.student, dense.view.teacher.features.maps
        fits = fits or fits_of(own.features.maps, other)
        valid = own.predictions.grid.valid_cells(batch.targets.sizes)
        for fit, mine, theirs, cells in zip(fits, own.features.maps, other, valid, strict=True):
            fit.add(mine, theirs, cells)
    return [fit.solve() for fit in fits]


def _of_shared(results: Results, classes: ClassMap) -> Results:
    """Detections of positions among the shared classes, with the student's labels."""
    return replace(results, labels=np.array(classes.shared)[results.labels])
