"""How good the teachers of a comparison are on the data that its runs are scored on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detdistill.compare.kept_record import read_kept
from detdistill.core.files import write_atomically
from detdistill.core.teacher_size import SAME_SIZE
from detdistill.teachers.loading import origin_of
from detdistill.training.distilled import recipe_teacher
from detdistill.training.machine import device_beside_training
from detdistill.training.materials import open_data_part
from detdistill.training.recipe import Recipe
from detdistill.training.teacher_score import teacher_metrics

FILE = "teacher.json"
SIZE_RATIO = "size_ratio"
"""Key of the ratio of the teacher's image size to the student's; absent where both are the same."""


def teacher_scores(recipe: Recipe, split: str, folder: Path, *, images: str | None = None) -> dict[str, Any]:
    """COCO's numbers of a setting's teacher; once found, they are kept.

    Args:
        recipe: of the setting.
        split: that is reported on.
        folder: of the setting, in which `teacher.json` is kept.
        images: Image folder of the split, where it is not recognised.

    Returns:
        As `outcome.json` has them, 0 to 1; nothing for a teacher that reads no images and has none of the split.

    Raises:
        DetdistillError: the teacher or the data cannot be used.
    """
    kept = kept_teacher_scores(recipe, split, folder)
    if kept is not None:
        return kept
    dataset = open_data_part(recipe.data, split, images)
    # Stored detections are those of the training images, whatever ids the images of the split have.
    taught = open_data_part(recipe.data, recipe.data.train, recipe.data.train_images)
    teacher, device = recipe_teacher(recipe, taught), device_beside_training(recipe.machine)
    scores: dict[str, Any] = {}
    if teacher.stored is None or teacher.stored.covered(dataset).all():
        scores = teacher_metrics(teacher, dataset, recipe, device).to_values()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, json.dumps({**_key(recipe, split), "scores": scores}, indent=1) + "\n")
    return scores


def kept_teacher_scores(recipe: Recipe, split: str, folder: Path) -> dict[str, Any] | None:
    """Return the kept scores of a setting's teacher; None if this teacher has not been scored on this split.

    Raises:
        DetdistillError: The teacher is not there, or damaged.
    """
    key, kept = _key(recipe, split), read_kept(folder / FILE)
    is_same = key.items() <= kept.items() and kept.get(SIZE_RATIO) == key.get(SIZE_RATIO)
    scores: dict[str, Any] | None = kept.get("scores") if is_same else None
    return scores


def _key(recipe: Recipe, split: str) -> dict[str, Any]:
    key: dict[str, Any] = {
        "split": split,
        "teachers": [dict(origin_of(source)) for source in recipe.distillation.teachers],
    }
    if recipe.teacher_ratio != SAME_SIZE:
        key[SIZE_RATIO] = str(recipe.teacher_ratio)
    return key
