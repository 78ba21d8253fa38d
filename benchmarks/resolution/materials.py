"""What the runs of this benchmark begin with: scenes at 192 px, a teacher, and the students' backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.any_teacher.materials import backbone
from benchmarks.paper_claims.materials import FEW, SCENES

from detdistill.compare.plan import Plan
from detdistill.data.scenes import write_scenes
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import read_recipe
from detdistill.training.run import train

HERE = Path(__file__).parent
SIDE = 192


def scenes(runs: Path, *, count: int = SCENES["train"]) -> Path:
    """The folder of the drawn images; with fewer training images, these and all others stay the same."""
    folder = runs / f"scenes_{SIDE}_{count}"
    if not folder.exists():
        write_scenes(folder, seed=0, size=SIDE, **{**SCENES, "train": count})
    return folder


def teacher(runs: Path) -> Path:
    """The folder of the detector that was trained at the size of the scenes."""
    recipe = read_recipe(HERE / "teacher.yaml")
    train(replace(recipe, data=replace(recipe.data, path=str(scenes(runs)))), runs / f"teacher_{SIDE}")
    return runs / f"teacher_{SIDE}"


def prepared(plan: Plan, runs: Path, wanted: set[str]) -> Plan:
    """The plan with data, teacher and the students' first weights in the settings that are wanted."""
    settings = {name: ready(recipe, runs) if name in wanted else recipe for name, recipe in plan.settings.items()}
    return replace(plan, settings=settings)


def ready(recipe: Recipe, runs: Path) -> Recipe:
    """A setting's recipe with all that it begins with."""
    return replace(
        recipe,
        data=replace(recipe.data, path=str(scenes(runs, count=FEW))),
        start=replace(recipe.start, backbone=str(backbone(recipe, runs))),
        distill=replace(recipe.distillation, teacher=str(teacher(runs))),
    )
