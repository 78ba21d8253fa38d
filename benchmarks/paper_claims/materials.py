"""What the runs of the evidence begin with: data, teachers, and the backbones of the students on `scenes`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from detdistill.compare.plan import Plan, read_plan
from detdistill.data.scenes import write_scenes
from detdistill.detectors.dense.architecture import Architecture
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import read_recipe
from detdistill.training.run import train

HERE = Path(__file__).parent
SCENES = {"train": 24000, "val": 500, "test": 2000}
"""So many, for a teacher that had seen 3000 images 16 times knew them by heart: 72 to 80 AP there, 41 elsewhere."""
FEW = 2000
"""Training images of students with few images: the first of them all."""
SIDE = 128
PRETRAINING_EPOCHS = 6
OWN_KIND = ("scenes_few_gfl", "scenes_few_atss", "scenes_few_candidates")
"""Settings whose teacher has the student's head and its options; the other teachers are those of their recipes."""


def prepared(plan: Plan, settings: set[str], runs: Path) -> Plan:
    """The plan with teachers and first weights; those of `settings` are trained where `runs` has none."""
    # The whole plan, whatever of it is done here: another process may read the same file.
    ready = {setting: _ready(setting, recipe, runs) for setting, recipe in plan.settings.items()}
    for setting in settings:
        recipe = ready[setting]
        if setting.startswith("scenes") and recipe.start.backbone:
            train(backbone_recipe(recipe, scenes(runs, seed=1)), Path(recipe.start.backbone).parent)
        train(teacher_recipe(setting, recipe, runs), recipe.distillation.teachers[0])
    return replace(plan, settings=ready)


def _ready(setting: str, recipe: Recipe, runs: Path) -> Recipe:
    teacher = str(runs / teacher_name(setting, recipe))
    recipe = replace(recipe, distill=replace(recipe.distillation, teacher=teacher))
    if not setting.startswith("scenes"):
        return recipe
    backbone = runs / f"scenes_backbone_{layers(recipe).backbone}" / "model.safetensors"
    return replace(recipe, start=replace(recipe.start, backbone=str(backbone)))


def layers(recipe: Recipe) -> Architecture:
    """The detector's layers; every recipe here has a dense detector."""
    assert isinstance(recipe.detector, Architecture)
    return recipe.detector


def scenes(runs: Path, *, seed: int = 0, train: int = SCENES["train"]) -> Path:
    """The folder of the drawn images; with fewer training images, these and all others stay the same."""
    folder = runs / f"scenes_data_{seed}_{train}"
    if not folder.exists():
        write_scenes(folder, seed=seed, size=SIDE, **{**SCENES, "train": train})
    return folder


def backbone_recipe(student: Recipe, data: Path) -> Recipe:
    """Of a plain RetinaNet on other scenes: students begin with its backbone, as the paper's begin with ImageNet's."""
    base = read_plan(HERE / "scenes.yaml", teacher="").settings["scenes_retinanet"]
    recipe = replace(base, distill=None)
    own, plain = layers(student), layers(recipe)
    return replace(
        recipe,
        data=replace(recipe.data, path=str(data)),
        detector=replace(plain, backbone=own.backbone, backbone_channels=own.backbone_channels),
        schedule=replace(recipe.schedule, epochs=PRETRAINING_EPOCHS),
    )


def teacher_file(setting: str) -> Path:
    """The recipe of a setting's teacher."""
    return HERE / f"{setting.partition('_')[0]}_teacher.yaml"


def teacher_name(setting: str, student: Recipe) -> str:
    """Of the folder of a setting's teacher."""
    name = teacher_file(setting).stem
    return f"{name}_{student.detector.kind}" if setting in OWN_KIND else name


def teacher_recipe(setting: str, student: Recipe, runs: Path) -> Recipe:
    """How a setting's teacher is trained."""
    recipe = read_recipe(teacher_file(setting))
    path = str(scenes(runs)) if setting.startswith("scenes") else student.data.path
    recipe = replace(recipe, data=replace(recipe.data, path=path))
    if setting in OWN_KIND:
        detector = replace(layers(recipe), kind=layers(student).kind, options=layers(student).options)
        recipe = replace(recipe, detector=detector)
    return recipe
