"""What a teacher finds in images without annotations, beside what it finds in annotated ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError, SettingsError, counted
from detdistill.data.loading import unlabelled_images
from detdistill.data.sampling import sample
from detdistill.evaluation.precision_recall import best_f1, precision_recall
from detdistill.evaluation.results import Results
from detdistill.evaluation.voc_metrics import rank_detections
from detdistill.teachers.teacher import Teacher
from detdistill.training.distillation_settings import Unlabelled
from detdistill.training.recipe import Recipe
from detdistill.training.teacher_score import LOOKED_AT, teacher_results

NONE = 1.0
"""The threshold of a class without objects."""
FACTOR, ERRORS = 1.5, 3.0
"""Two sets of images differ if their means do by this factor, and by so many standard errors."""


def best_thresholds(dataset: DetectionDataset, results: Results) -> dict[str, float]:
    """Return the score of the best F1 of each class at IoU 0.5, rounded to 4 digits; 1 where no detection is right.

    Args:
        dataset: The ground truth.
        results: A teacher's detections, with the dataset's labels.
    """
    best = {name: best_f1(precision_recall(ranking)) for name, ranking in rank_detections(dataset, results).items()}
    # Rounded down, or the very detection that a threshold is the score of would fall below it.
    return {name: NONE if point is None else math.floor(1e4 * point.threshold) / 1e4 for name, point in best.items()}


def given_thresholds(settings: Unlabelled, classes: Sequence[str]) -> tuple[float, ...] | None:
    """Return the threshold of each class that a recipe gives; None if they are to be found.

    Raises:
        SettingsError: A class has none, or one is given for another class.
    """
    if settings.threshold == "auto":
        return None
    if not isinstance(settings.threshold, dict):
        return (settings.threshold,) * len(classes)
    for what, names in (
        ("lacks", [name for name in classes if name not in settings.threshold]),
        ("has, though the data lacks it,", [name for name in settings.threshold if name not in classes]),
    ):
        if names:
            raise SettingsError(
                f"distill.unlabelled.threshold {what} the class {names[0]!r}; expected a number from 0 to 1 for each "
                f"of {', '.join(classes)}, one number for all, or auto"
            )
    return tuple(settings.threshold[name] for name in classes)


@dataclass(frozen=True, eq=False)
class Found:
    """What a teacher finds in some images from its thresholds on.

    Attributes:
        counts: `(images, C)` objects of each class in each image.
        scores: of all these objects.
    """

    counts: NDArray[np.int64]
    scores: NDArray[np.float64]

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Which images have no object."""
        empty: NDArray[np.bool_] = self.counts.sum(axis=1) == 0
        return empty


def look(
    teacher: Teacher,
    dataset: DetectionDataset,
    thresholds: Sequence[float],
    recipe: Recipe,
    device: torch.device | None = None,
) -> Found:
    """Return what a teacher finds in up to 50 images of a dataset, always the same ones."""
    few = sample(range(len(dataset.images)), LOOKED_AT, dataset.images.file_names.__getitem__)
    part = replace(dataset, images=dataset.images.take(few))
    found = teacher_results(teacher, part, recipe, device)
    counts = np.zeros((len(few), len(dataset.classes)), dtype=np.int64)
    is_object = found.scores >= np.array(thresholds)[found.labels]
    np.add.at(counts, (found.image[is_object], found.labels[is_object]), 1)
    return Found(counts, found.scores[is_object])


def unlabelled_notes(
    teacher: Teacher,
    dataset: DetectionDataset,
    thresholds: Sequence[float],
    recipe: Recipe,
    device: torch.device | None = None,
) -> list[str]:
    """Say what a teacher finds in unlabelled images beside annotated ones, a line each, with warnings.

    Args:
        teacher: The teacher.
        dataset: The training set with its unlabelled images.
        thresholds: Of the classes.
        recipe: Of the distillation.
        device: Where the teacher is to run; None for the CPU.

    Raises:
        DetdistillError: It finds nothing in the unlabelled images.
    """
    labelled, unlabelled = dataset.parts
    known, found = (look(teacher, part, thresholds, recipe, device) for part in (labelled, unlabelled))
    if found.empty.all():
        raise DetdistillError(
            f"the teacher finds no object in {counted(len(found.counts), 'unlabelled image')}: no score reaches "
            f"distill.unlabelled.threshold ({min(thresholds):.2g} or more). Lower it, or name images that have objects "
            "of these classes"
        )
    share = unlabelled_images(recipe.batch_size, recipe.unlabelled_share)
    epochs = len(unlabelled.images) / share * (recipe.batch_size - share) / len(labelled.images)
    width = max(len("share of images without"), *map(len, dataset.classes))
    rows = [
        *zip(dataset.classes, known.counts.mean(axis=0), found.counts.mean(axis=0), thresholds, strict=True),
        ("all", known.counts.sum(axis=1).mean(), found.counts.sum(axis=1).mean(), None),
        ("share of images without", known.empty.mean(), found.empty.mean(), None),
        ("mean score", _mean(known.scores), _mean(found.scores), None),
    ]
    lines = [
        f"unlabelled images: {len(unlabelled.images):,} beside {len(labelled.images):,} annotated ones; {share} of the "
        f"{recipe.batch_size} images of a batch, so that each is seen once in {epochs:.1f} epochs",
        f"objects an image that the teacher finds in {len(known.counts)} annotated and {len(found.counts)} unlabelled "
        "images, from the threshold on",
        f"  {'':{width}} {'annotated':>10} {'unlabelled':>10} {'threshold':>10}",
    ]
    for name, own, other, threshold in rows:
        end = "" if threshold is None else f" {'none' if threshold >= NONE else f'{threshold:.2f}':>10}"
        lines.append(f"  {name:{width}} {own:10.2f} {other:10.2f}{end}")
    silent = [name for name, threshold in zip(dataset.classes, thresholds, strict=True) if threshold >= NONE]
    if silent:
        lines.append(f"WARNING: the teacher finds no {', no '.join(silent)}: unlabelled images have no object of it")
    return lines + [f"WARNING: {each}" for each in _differences(known, found)]


def _differences(known: Found, found: Found) -> list[str]:
    """In what unlabelled images differ from annotated ones, by the teacher's eyes."""
    pairs = (
        ("objects an image", known.counts.sum(axis=1), found.counts.sum(axis=1)),
        ("share of images without objects", known.empty, found.empty),
        ("mean score of the objects", known.scores, found.scores),
    )
    return [
        f"annotated and unlabelled images differ in the {what}: {_mean(own):.2f} and {_mean(other):.2f}. Are they of "
        "the same kind? What the teacher says of images of another kind is less often right"
        for what, own, other in pairs
        if _differ(own.astype(float), other.astype(float))
    ]


def _differ(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    if min(len(first), len(second)) < 2:
        return False
    error = math.sqrt(first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second))
    small, large = sorted((float(first.mean()), float(second.mean())))
    return large > FACTOR * small and large - small > ERRORS * error


def _mean(values: NDArray[np.generic]) -> float:
    return float(values.astype(float).mean()) if len(values) else 0.0
