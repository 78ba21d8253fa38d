"""How good the teachers of a comparison are on the data that its runs are scored on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detdistill.core.files import write_atomically
from detdistill.detectors.storage import load_detector, read_description
from detdistill.training.machine import device_beside_training
from detdistill.training.materials import open_data_part
from detdistill.training.recipe import Recipe
from detdistill.training.teacher_score import teacher_metrics

FILE = "teacher.json"


def teacher_scores(recipe: Recipe, split: str, folder: Path, *, images: str | None = None) -> dict[str, Any]:
    """COCO's numbers of a setting's teacher; once found, they are kept.

    Args:
        recipe: of the setting.
        split: that is reported on.
        folder: of the setting, in which `teacher.json` is kept.
        images: Image folder of the split, where it is not recognised.

    Returns:
        As `outcome.json` has them, 0 to 1.

    Raises:
        DetdistillError: the teacher or the data cannot be used.
    """
    teacher = Path(recipe.distillation.teacher).expanduser()
    key = {"split": split, "weights_sha256": read_description(teacher).weights_sha256}
    file = folder / FILE
    if file.exists():
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if key.items() <= kept.items():
            scores: dict[str, Any] = kept["scores"]
            return scores
    detector = load_detector(teacher).to(device_beside_training(recipe.machine))
    scores = asdict(teacher_metrics(detector, open_data_part(recipe.data, split, images), recipe))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({**key, "scores": scores}, indent=1) + "\n")
    return scores
