"""What the runs of this benchmark begin with: few annotated images, many others, a teacher and its thresholds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.any_teacher.materials import backbone, detector
from benchmarks.paper_claims.materials import FEW, scenes

from detdistill.compare.plan import Plan
from detdistill.data.opening import open_dataset
from detdistill.teachers.loading import load_teacher
from detdistill.training.recipe import Recipe
from detdistill.training.teacher_score import teacher_results
from detdistill.training.unlabelled_look import best_thresholds

HERE = Path(__file__).parent


def prepared(plan: Plan, runs: Path, wanted: set[str]) -> Plan:
    """The plan with data, teacher, thresholds and the students' first weights in the settings that are wanted."""
    return replace(
        plan,
        settings={name: ready(recipe, runs) if name in wanted else recipe for name, recipe in plan.settings.items()},
    )


def ready(recipe: Recipe, runs: Path) -> Recipe:
    """A setting's recipe with all that it begins with."""
    teacher = str(detector("gfl", runs))
    start = replace(recipe.start, backbone=str(backbone(recipe, runs)))
    data = replace(recipe.data, path=str(scenes(runs, train=FEW)))
    distill = replace(recipe.distillation, teacher=teacher)
    recipe = replace(recipe, data=data, start=start, distill=distill)
    if distill.unlabelled is None:
        return recipe
    images = str(scenes(runs) / "train.json")  # the annotated ones are among them, and are left out
    unlabelled = replace(distill.unlabelled, images=images, threshold=thresholds(recipe))
    return replace(recipe, distill=replace(distill, unlabelled=unlabelled))


def thresholds(recipe: Recipe) -> dict[str, float]:
    """Those of the best F1 on val, found once: the students are not scored there."""
    validation = open_dataset(recipe.data.path, "val")
    teacher = load_teacher(recipe.distillation.teachers[0], validation)
    return best_thresholds(validation, teacher_results(teacher, validation, recipe))
