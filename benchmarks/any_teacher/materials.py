"""What the runs of this benchmark begin with: data, a backbone, and teachers of several kinds.

Each teacher is trained by `teacher.yaml` with another head where the folder of the runs has none.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.paper_claims.materials import FEW, backbone_recipe, layers, scenes

from detdistill.compare.plan import Plan
from detdistill.detectors.dense.choices import HeadName
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import read_recipe
from detdistill.training.run import train

HERE = Path(__file__).parent
HEADS: dict[HeadName, dict[str, Any]] = {
    "gfl": {"anchor_scale": 2.0},  # digits: 16 px on the finest level
    "fcos": {"center_sampling": True, "normalize_boxes": True, "centerness_on_box_tower": True, "giou": True},
}
"""Options of the teachers' heads."""


def backbone(student: Recipe, runs: Path) -> Path:
    """The weights that all students begin with: those of a RetinaNet on other scenes."""
    folder = runs / "scenes_backbone_resnet18"
    train(backbone_recipe(student, scenes(runs, seed=1)), folder)
    return folder / "model.safetensors"


def teacher(kind: HeadName, runs: Path) -> Path:
    """The folder of a teacher."""
    recipe = read_recipe(HERE / "teacher.yaml")
    detector = replace(layers(recipe), kind=kind, options=HEADS[kind])
    data = replace(recipe.data, path=str(scenes(runs)))
    folder = runs / f"teacher_{kind}"
    train(replace(recipe, data=data, detector=detector), folder)
    return folder


def prepared(plan: Plan, runs: Path, wanted: set[str]) -> Plan:
    """The plan with the data, the students' first weights and the teachers of the settings that are wanted.

    They are made where there are none.
    """
    settings = dict(plan.settings)
    for name in wanted:
        recipe = plan.settings[name]
        start = replace(recipe.start, backbone=str(backbone(recipe, runs)))
        data = replace(recipe.data, path=str(scenes(runs, train=FEW)))
        (kind,) = [kind for kind in HEADS if kind == name]
        distill = replace(recipe.distillation, teacher=str(teacher(kind, runs)))
        settings[name] = replace(recipe, data=data, start=start, distill=distill)
    return replace(plan, settings=settings)
