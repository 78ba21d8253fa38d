"""The task of a student that learns from a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from detdistill.core.annotations import DetectionDataset
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.core.modules import Held
from detdistill.core.seeds import derived_seed
from detdistill.core.structures import ReduceSum, Targets
from detdistill.data.loading import Batch
from detdistill.detectors.base import Detector
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.folding import folded
from detdistill.detectors.storage import load_detector, read_description
from detdistill.distill.building import build_terms
from detdistill.distill.distiller import Distiller
from detdistill.distill.inheritance import inherit
from detdistill.distill.memory import TeacherMemory, memory_note
from detdistill.distill.preflight import preflight
from detdistill.training.machine import device_beside_training
from detdistill.training.materials import first_batch
from detdistill.training.recipe import Recipe
from detdistill.training.task import Task
from detdistill.training.teacher_score import quick_look, teacher_metrics


class Distilled(Task):
    """A student that learns from ground truth and, by the terms of a recipe, from a teacher.

    Args:
        recipe: With a `distill` section.
        student: The detector that is trained.
        teacher: A teacher that is no folder; None for the folder `distill.teacher`.

    Raises:
        DetdistillError: The teacher cannot be loaded, or teacher, student and terms do not fit.
    """

    def __init__(self, recipe: Recipe, student: Detector, teacher: Detector | None = None) -> None:
        super().__init__()
        distillation = recipe.distillation
        self.raw = {}
        self._recipe = recipe
        self._notes: list[str] = []
        self._sha256 = None
        if teacher is None:
            folder = Path(distillation.teacher).expanduser()
            loaded, description = load_detector(folder), read_description(folder)
            self._sha256 = description.weights_sha256
            self._notes += _size_note(recipe.images, description.input.size)
        else:
            check_detector(teacher)
            loaded = teacher
        if distillation.init_from_teacher:
            self._notes.append(inherit(student, loaded, distillation.init_from_teacher))
        # A teacher of the user's own stays as it is. Held: it is no submodule.
        self._held = Held[Detector](folded(loaded) if teacher is None else loaded)
        terms, weights = build_terms(
            distillation.terms, weight=distillation.weight, ratio=distillation.ratio, detector=student.kind
        )
        self.distiller = Distiller(
            student,
            self._held.thing,
            terms,
            weights=weights,
            class_table=distillation.class_map,
            channels_last=recipe.machine.channels_last,
            memory=TeacherMemory(distillation.memory) if distillation.memory else None,
            seed=derived_seed(recipe.seed, "adapters"),
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
            "teacher": {"folder": distillation.teacher, "weights_sha256": self._sha256},
            "terms": distillation.terms,
            "weights": {name: weight.value for name, weight in self.distiller.weighting.terms.items()},
        }

    def teacher_ap(self, dataset: DetectionDataset) -> float | None:
        """Return the teacher's COCO AP on a dataset, 0 to 1."""
        self._held.thing.to(next(self.distiller.student.parameters()).device)
        return teacher_metrics(self._held.thing, dataset, self._recipe).AP

    def preflight(self, dataset: DetectionDataset, validation: DetectionDataset | None) -> str:
        """Describe what fits between teacher and student, what the first batch gives, and how good the teacher is.

        Args:
            dataset: The training set.
            validation: The validation set, if there is one.
        """
        recipe = self._recipe
        batch = first_batch(recipe, dataset, recipe.images_per_process // recipe.accumulate)
        device = device_beside_training(recipe.machine)
        self.distiller.to(device)
        batch = batch.to(device)
        report = preflight(self.distiller, batch.images, batch.targets)
        look = quick_look(self._held.thing, dataset, validation, recipe)
        return "\n".join([*self._notes, *self._memory_notes(batch, dataset), str(report), *look])

    def _memory_notes(self, batch: Batch, dataset: DetectionDataset) -> list[str]:
        recipe = self._recipe
        if not recipe.distillation.memory:
            return []
        guidance = self.distiller.guide(batch.images, batch.targets)
        count = len(batch.images)
        return [memory_note(recipe.distillation.memory, guidance, count, len(dataset.images), recipe.images)]


def _size_note(own: ImageOptions, theirs: ImageSize | None) -> list[str]:
    if theirs is None or _in_words(theirs) == _in_words(own):
        return []
    return [f"image size: the teacher was made for {_in_words(theirs)}; both get {_in_words(own)}"]


def _in_words(size: ImageOptions | ImageSize) -> str:
    if size.letterbox is not None:
        return f"a square of {size.letterbox} px"
    return f"sides of {size.short_side} and at most {size.long_side} px"
