"""What the runs of this benchmark begin with: data, a backbone, and teachers of several kinds.

Each teacher is made where the folder of the runs has none. Detectors are trained by `teacher.yaml` with another head.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.any_teacher.rtdetr import rtdetr
from benchmarks.paper_claims.materials import FEW, SIDE, backbone_recipe, layers, scenes

from detdistill.compare.plan import Plan
from detdistill.deploy.export import export
from detdistill.detectors.dense.choices import HeadName
from detdistill.evaluation.storing import store_detections
from detdistill.teachers.onnx.importing_onnx import import_onnx
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import read_recipe
from detdistill.training.run import train

HERE = Path(__file__).parent
HEADS: dict[HeadName, dict[str, Any]] = {
    "gfl": {"anchor_scale": 2.0},  # digits: 16 px on the finest level
    "fcos": {"center_sampling": True, "normalize_boxes": True, "centerness_on_box_tower": True, "giou": True},
    # As many anchors a cell as torchvision's RetinaNet; the student has six.
    "retinanet": {"anchor_scales": (1.25, 1.57, 1.98), "anchor_ratios": (1.0, 1.5, 2.0)},
}
"""Options of the teachers' heads."""


def backbone(student: Recipe, runs: Path) -> Path:
    """The weights that all students begin with: those of a RetinaNet on other scenes."""
    folder = runs / "scenes_backbone_resnet18"
    train(backbone_recipe(student, scenes(runs, seed=1)), folder)
    return folder / "model.safetensors"


def teacher(setting: str, runs: Path) -> Path:
    """What a setting's students are taught by.

    Args:
        setting: `rtdetr`, or a head, `_stored` or `_onnx` behind it for the same detector handed over in another way.
        runs: the folder of the runs.
    """
    name, _, form = setting.partition("_")
    if name == "rtdetr":
        return rtdetr(runs)
    (head,) = [head for head in HEADS if head == name]
    folder = detector(head, runs)
    if form == "stored":
        store_detections(folder, scenes(runs, train=FEW), runs / f"teacher_{setting}")
        return runs / f"teacher_{setting}"
    if form == "onnx":
        imported = runs / f"teacher_{setting}"
        if not imported.exists():
            export(folder, runs / f"{setting}.onnx", size=(SIDE, SIDE))
            import_onnx(runs / f"{setting}.onnx", imported)
        return imported
    return folder


def detector(head: HeadName, runs: Path) -> Path:
    """The folder of a trained detector of this package."""
    recipe = read_recipe(HERE / "teacher.yaml")
    detector = replace(layers(recipe), kind=head, options=HEADS[head])
    folder = runs / f"teacher_{head}"
    train(replace(recipe, data=replace(recipe.data, path=str(scenes(runs))), detector=detector), folder)
    return folder


def prepared(plan: Plan, runs: Path, wanted: set[str]) -> Plan:
    """The plan with the data, the students' first weights and the teachers of the settings that are wanted."""
    settings = dict(plan.settings)
    for name in wanted:
        recipe = plan.settings[name]
        start = replace(recipe.start, backbone=str(backbone(recipe, runs)))
        data = replace(recipe.data, path=str(scenes(runs, train=FEW)))
        distill = replace(recipe.distillation, teacher=str(teacher(name, runs)))
        settings[name] = replace(recipe, data=data, start=start, distill=distill)
    return replace(plan, settings=settings)
