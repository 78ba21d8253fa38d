"""How good a teacher is on the data of a distillation."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import torch

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.data.sampling import sample
from detdistill.distill.class_map import ClassMap
from detdistill.evaluation.coco_metrics import CocoMetrics, coco_metrics
from detdistill.evaluation.gather import score_together
from detdistill.evaluation.predict import predict_with_teacher
from detdistill.evaluation.results import Results
from detdistill.teachers.teacher import Teacher
from detdistill.training.recipe import Recipe
from detdistill.training.scoring import inference_options
from detdistill.training.teacher_reading import images_of

LOOKED_AT = 50
"""Images of a dataset that are drawn to estimate the teacher's AP."""
HARDLY_ANY = 0.01
"""AP50, 0 to 1, below which a teacher is taken for broken."""
REASONS = (
    "Likely reasons: class names that differ from the data's or stand in another order (class_map); another image "
    "size, scale (0 to 255 or 0 to 1), mean or channel order (RGB or BGR) than in its training; boxes in another form "
    "(corners, or centre and size; pixels, or 0 to 1) or swapped with the scores; an untrained teacher."
)
BY_HEART = 0.15
"""AP, 0 to 1, by which a teacher is better on the images that it is to teach than on others, if it knows them."""


def quick_look(
    teacher: Teacher,
    dataset: DetectionDataset,
    validation: DetectionDataset | None,
    recipe: Recipe,
    device: torch.device | None = None,
) -> list[str]:
    """What a few images say of a teacher, in plain words.

    It warns of a teacher that overfits the training images: on them its scores are little more than the labels, which
    the student has anyway.

    Args:
        teacher: the teacher.
        dataset: the training images, of which some with objects are drawn at random, always the same ones.
        validation: other images; None if there are none, and then the second warning cannot be given.
        recipe: of the distillation.
        device: where the teacher is to run; None for the CPU.

    Raises:
        DetdistillError: the teacher finds next to nothing, on the validation images if it knows them, and
            `distill.accept_teacher` is not set.
    """
    if validation is not None and teacher.stored is not None and not teacher.stored.covered(validation).all():
        words = _look(teacher, dataset, recipe, device)[1]
        return [*words, f"nothing is stored for {validation.source}: the teacher is scored on training images"]
    if validation is None:
        return _look(teacher, dataset, recipe, device)[1]
    elsewhere, words = _look(teacher, validation, recipe, device)
    taught, (found, *_) = _look(teacher, dataset, recipe, device)
    words.insert(1, found)
    if taught - elsewhere > BY_HEART:
        words.append(
            "WARNING: the teacher appears to overfit the training images, so that the student learns little from it "
            "beyond the labels. Train the teacher with more images or more augmentation"
        )
    return words


def _look(
    teacher: Teacher, dataset: DetectionDataset, recipe: Recipe, device: torch.device | None
) -> tuple[float, list[str]]:
    """A teacher's AP, 0 to 1, on a few images, and in words: what was found, and warnings."""
    with_objects = np.flatnonzero(dataset.images.counts).tolist()
    few = replace(
        dataset, images=dataset.images.take(sample(with_objects, LOOKED_AT, dataset.images.file_names.__getitem__))
    )
    metrics = teacher_metrics(teacher, few, recipe, device)
    missing = ClassMap(dataset.classes, teacher.classes, recipe.distillation.class_map).unknown_to_teacher
    known = {name: scores for name, scores in metrics.per_class.items() if name not in missing}
    ap, ap50 = (
        fmean([value for scores in known.values() if (value := getattr(scores, name)) is not None] or [0.0])
        for name in ("AP", "AP50")
    )
    found = f"the teacher's AP on {len(few.images)} images of {dataset.source}: {100 * ap:.1f}"
    if missing:
        found += " over the classes that it knows"
    if ap50 < HARDLY_ANY:
        broken = (
            f"{found}, AP50 {100 * ap50:.1f}; expected at least {100 * HARDLY_ANY:g} of a teacher that works. {REASONS}"
        )
        if not recipe.distillation.accept_teacher:
            raise DetdistillError(f"{broken} To train nevertheless: --accept-teacher (distill.accept_teacher)")
        return ap, [found, f"WARNING: {broken}"]
    unseen = [name for name, scores in known.items() if scores.AP50 is not None and scores.AP50 < HARDLY_ANY]
    if not unseen:
        return ap, [found]
    return ap, [
        found,
        f"WARNING: the teacher finds no {', no '.join(unseen)}: there is nothing to learn from it about them",
    ]


def teacher_metrics(
    teacher: Teacher, dataset: DetectionDataset, recipe: Recipe, device: torch.device | None = None
) -> CocoMetrics:
    """COCO's numbers of a teacher on a data set; arguments as of `teacher_results`; of several processes all take part.

    Detections of classes that the student lacks do not count.
    """
    found = teacher_results(teacher, dataset, recipe, device)
    return score_together(found, lambda results: coco_metrics(dataset, results))


def teacher_results(
    teacher: Teacher, dataset: DetectionDataset, recipe: Recipe, device: torch.device | None = None
) -> Results:
    """A teacher's detections, with the student's labels; those of classes that the student lacks are left out.

    Args:
        teacher: the teacher.
        dataset: images, with the student's classes.
        recipe: of the distillation.
        device: where the teacher is to run; None for the CPU.
    """
    classes = ClassMap(dataset.classes, teacher.classes, recipe.distillation.class_map)
    found = predict_with_teacher(teacher, dataset, images_of(teacher, recipe), inference_options(recipe), device=device)
    return with_student_labels(found, classes)


def with_student_labels(results: Results, classes: ClassMap) -> Results:
    """A teacher's detections with the student's labels; those of classes that the student lacks are left out."""
    labels = classes.meaning.numpy()[results.labels]
    kept = labels >= 0
    return replace(results, labels=labels).take(np.flatnonzero(kept))
