"""The task of a student that learns from a teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import computed_once
from detdistill.core.errors import DetdistillError
from detdistill.core.seeds import derived_seed
from detdistill.core.structures import ReduceSum, Targets
from detdistill.data.loading import Batch
from detdistill.data.teacher_inputs import TeacherInputs
from detdistill.detectors.base import Detector
from detdistill.detectors.storage import load_detector
from detdistill.distill.building import build_terms
from detdistill.distill.distiller import Distiller
from detdistill.distill.inheritance import inherit
from detdistill.distill.memory import TeacherMemory, memory_note
from detdistill.distill.methods import what_works
from detdistill.distill.preflight import preflight
from detdistill.distill.pseudo_labels import PseudoLabels
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.teachers.callable_teacher import PYTHON, CallableTeacher
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.joint_teacher import reads_images
from detdistill.teachers.loading import GivenTeacher, as_teacher, load_teachers
from detdistill.teachers.teacher import Teacher
from detdistill.training.distillation_settings import Distillation
from detdistill.training.machine import device_beside_training
from detdistill.training.materials import first_batch
from detdistill.training.recipe import Recipe
from detdistill.training.task import Task
from detdistill.training.teacher_reading import inputs_of
from detdistill.training.teacher_score import quick_look, teacher_metrics, teacher_results
from detdistill.training.unlabelled_look import best_thresholds, given_thresholds, unlabelled_notes


class Distilled(Task):
    """A student that learns from ground truth and, by the terms of a recipe, from a teacher.

    Args:
        recipe: With a `distill` section.
        student: The detector that is trained.
        teacher: What it learns from; see `recipe_teacher`.

    Raises:
        DetdistillError: Teacher, student and terms do not fit.
    """

    def __init__(self, recipe: Recipe, student: Detector, teacher: Teacher) -> None:
        super().__init__()
        distillation = recipe.distillation
        self.raw = {}
        self._recipe = recipe
        self._notes: list[str] = []
        if distillation.teacher_images is not None and not reads_images(teacher):
            self._notes.append(
                "distill.teacher_images: of no use here, for the teacher reads no images: its boxes are stored, as "
                "predicted at the size that was used then"
            )
        if distillation.init_from_teacher:
            self._notes.append(inherit(student, _original(teacher, distillation), distillation.init_from_teacher))
        unlabelled = distillation.unlabelled
        self._pseudo_labels = None
        if unlabelled is not None:
            weight = unlabelled.weight if unlabelled.pseudo_labels else 0.0
            self._pseudo_labels = PseudoLabels(given_thresholds(unlabelled, student.classes), weight)
        self._teacher_ap: float | None = None
        terms, weights = build_terms(
            distillation.terms, weight=distillation.weight, ratio=distillation.ratio, detector=student.kind
        )
        self.distiller = Distiller(
            student,
            teacher,
            terms,
            weights=weights,
            class_table=distillation.class_map,
            channels_last=recipe.machine.channels_last,
            memory=TeacherMemory(distillation.memory) if distillation.memory and teacher.stored is None else None,
            pseudo_labels=self._pseudo_labels,
            seed=derived_seed(recipe.seed, "adapters"),
            teacher_ratio=inputs_of(teacher, recipe).ratio,
        )

    @property
    def detector(self) -> Detector:
        """The student."""
        return self.distiller.student

    def forward(self, images: Tensor, targets: Targets, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        """Return the terms of the detection loss, and the weighted distillation terms."""
        losses: dict[str, Tensor] = self.distiller(images, targets, reduce_sum)
        self.raw = self.distiller.raw
        return losses

    def begin_step(self, step: int, total: int, warmup: int) -> None:
        """Let the weights of the terms know where the run is."""
        self.distiller.begin_step(step, total, warmup)

    def end_step(self, reduce_sum: ReduceSum) -> None:
        """Let the weights of the terms learn from the gradients of the step."""
        self.distiller.end_step(reduce_sum)

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms in this step."""
        return self.distiller.weights()

    def origin(self) -> dict[str, Any]:
        """Return teacher, terms and weights."""
        distillation = self._recipe.distillation
        return {
            "made_by": "distillation",
            "teacher": dict(self.distiller.teacher.origin),
            "terms": distillation.terms,
            "weights": {name: weight.value for name, weight in self.distiller.weighting.terms.items()},
        }

    def teacher_ap(self, dataset: DetectionDataset) -> float | None:
        """Return the teacher's COCO AP on a dataset, 0 to 1; None if it reads no images and nothing is stored there."""
        stored = self.distiller.teacher.stored
        if stored is not None and not stored.covered(dataset).all():
            return None
        known: float | None = computed_once(self._teacher_ap, lambda found: found[0])
        if known is not None:
            return known
        device = next(self.distiller.student.parameters()).device
        return teacher_metrics(self.distiller.teacher, dataset, self._recipe, device).AP

    @property
    def teacher_inputs(self) -> TeacherInputs:
        """What the teacher gets of each image beside what the student reads."""
        return inputs_of(self.distiller.teacher, self._recipe)

    def preflight(self, dataset: DetectionDataset, validation: DetectionDataset | None) -> str:
        """Describe what fits between teacher and student, what the first batch gives, and how good the teacher is.

        Args:
            dataset: The training set, with its unlabelled images.
            validation: The validation set, if there is one.

        Raises:
            DetdistillError: The teacher finds next to nothing, and `distill.accept_teacher` is not set; or nothing in
                the unlabelled images.
        """
        recipe = self._recipe
        device = device_beside_training(recipe.machine)
        self.distiller.to(device)
        # First: where a teacher is broken, that is the reason for all that follows.
        look = quick_look(self.distiller.teacher, dataset, validation, recipe, device)
        unlabelled = self._look_at_unlabelled(dataset, validation, device)
        batch = first_batch(recipe, dataset, recipe.images_per_process // recipe.accumulate, self.teacher_inputs)
        batch = batch.to(device)
        report = preflight(self.distiller, batch.images, batch.targets)
        works = what_works(self.distiller.student.offers, self.distiller.teacher.offers)
        return "\n".join([*self._notes, *works, *self._memory_notes(batch, dataset), str(report), *look, *unlabelled])

    def chosen(self, recipe: Recipe) -> Recipe:
        """Return a recipe with the thresholds that were found in the place of `auto`."""
        pseudo_labels, distillation = self._pseudo_labels, recipe.distillation
        if pseudo_labels is None or pseudo_labels.thresholds is None:
            return recipe
        assert distillation.unlabelled is not None
        thresholds = dict(zip(self.detector.classes, pseudo_labels.thresholds, strict=True))
        unlabelled = replace(distillation.unlabelled, threshold=thresholds)
        return replace(recipe, distill=replace(distillation, unlabelled=unlabelled))

    def take(self, recipe: Recipe) -> None:
        """Take the thresholds from a recipe that another process has settled."""
        unlabelled = recipe.distillation.unlabelled
        if self._pseudo_labels is not None and unlabelled is not None:
            self._pseudo_labels.thresholds = given_thresholds(unlabelled, self.detector.classes)

    def _look_at_unlabelled(
        self, dataset: DetectionDataset, validation: DetectionDataset | None, device: torch.device
    ) -> list[str]:
        """Find the thresholds of pseudo-labels, if they are not given, and say what the teacher finds with them."""
        pseudo_labels, recipe, teacher = self._pseudo_labels, self._recipe, self.distiller.teacher
        if pseudo_labels is None:
            return []
        if pseudo_labels.thresholds is None:
            assert validation is not None, "the recipe checks it"
            if teacher.stored is not None and not teacher.stored.covered(validation).all():
                raise DetdistillError(
                    f"distill.unlabelled.threshold auto: nothing is stored for {validation.source}, by which they are "
                    "chosen; predict it too (`detdistill predict TEACHER DATA --store FOLDER`), or give a number"
                )
            results = teacher_results(teacher, validation, recipe, device)
            self._teacher_ap = coco_metrics(validation, results).AP
            pseudo_labels.thresholds = tuple(best_thresholds(validation, results).values())
        return unlabelled_notes(teacher, dataset, pseudo_labels.thresholds, recipe, device)

    def _memory_notes(self, batch: Batch, dataset: DetectionDataset) -> list[str]:
        recipe = self._recipe
        if not recipe.distillation.memory:
            return []
        if self.distiller.teacher.stored is not None:
            return ["teacher memory: of no use here, for the teacher's boxes are stored"]
        guidance = self.distiller.guide(batch.images, batch.targets)
        count = len(batch.images)
        return [memory_note(recipe.distillation.memory, guidance, count, len(dataset.images), recipe.images)]


def recipe_teacher(recipe: Recipe, dataset: DetectionDataset, given: GivenTeacher | None = None) -> Teacher:
    """The teacher of a distillation.

    Args:
        recipe: With a `distill` section.
        dataset: The training set.
        given: A teacher that is an object; None for what `distill.teacher` names.

    Raises:
        DetdistillError: It cannot be loaded, or does not do what a teacher must.
    """
    channels_last, distillation = recipe.machine.channels_last, recipe.distillation
    if given is not None:
        teacher = as_teacher(given, channels_last=channels_last)
        if isinstance(teacher, CallableTeacher) and recipe.machine.devices * recipe.machine.nodes > 1:
            raise DetdistillError(
                f"{distillation.teacher}: a function that is passed in Python teaches in one process; name it as "
                f"{PYTHON}package.module:function for machine.devices {recipe.machine.devices} * machine.nodes "
                f"{recipe.machine.nodes}"
            )
        return teacher
    return load_teachers(
        distillation.teachers, dataset, weights=distillation.teacher_weights, channels_last=channels_last
    )


def _original(teacher: Teacher, distillation: Distillation) -> Detector:
    """The detector that parts of the student can be copied from; batch norms of a loaded teacher are folded.

    Raises:
        DetdistillError: The teacher is no detector of this package.
    """
    if not isinstance(teacher, DetectorTeacher):
        raise DetdistillError(
            f"distill.init_from_teacher copies layers, and the teacher ({teacher.kind}) has none of this package; "
            "leave it empty"
        )
    is_loaded = teacher.origin["sha256"] is not None
    return load_detector(Path(distillation.teachers[0]).expanduser()) if is_loaded else teacher.detector
