from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from detdistill.compare import teachers
from detdistill.compare.teachers import FILE, teacher_scores
from detdistill.core.annotations import DetectionDataset
from detdistill.core.teacher_size import TeacherSize
from detdistill.evaluation.coco_metrics import CocoMetrics
from detdistill.teachers.teacher import Teacher
from detdistill.training.recipe import Recipe
from detdistill.training.teacher_score import teacher_metrics
from support.small_runs import small_distillation, taught_otherwise, write_boxes, write_teacher


def test_a_teacher_is_scored_once_for_each_split_and_anew_when_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[DetectionDataset] = []

    def metrics(teacher: Teacher, dataset: DetectionDataset, recipe: Recipe, device: torch.device) -> CocoMetrics:
        scored.append(dataset)
        return teacher_metrics(teacher, dataset, recipe, device)

    monkeypatch.setattr(teachers, "teacher_metrics", metrics)
    teacher = write_teacher(tmp_path / "teacher")
    recipe = small_distillation(write_boxes(tmp_path / "data", test=3), teacher)
    found = teacher_scores(recipe, "val", tmp_path / "out")
    assert set(found["per_class"]) == {"green", "red"}
    assert teacher_scores(recipe, "val", tmp_path / "out") == found
    assert len(scored) == 1
    teacher_scores(recipe, "test", tmp_path / "out")
    assert len(scored) == 2
    shutil.rmtree(teacher)
    write_teacher(teacher, seed=2)
    teacher_scores(recipe, "test", tmp_path / "out")
    assert len(scored) == 3
    assert (tmp_path / "out" / FILE).exists()
    large = taught_otherwise(recipe, teacher_images=TeacherSize(letterbox=128))
    for number, (at_size, count) in enumerate(((large, 4), (large, 4), (recipe, 5))):
        teacher_scores(at_size, "test", tmp_path / "out")
        assert len(scored) == count, number


def test_stored_detections_of_training_images_are_not_those_of_a_split_with_the_same_ids(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    file.write_text(json.dumps([{"image_id": 0, "category_id": 1, "bbox": [3, 4, 20, 30], "score": 0.05}]))
    recipe = small_distillation(write_boxes(tmp_path / "data"), file)
    assert teacher_scores(recipe, "val", tmp_path / "out") == {}
    assert teacher_scores(recipe, "train", tmp_path / "out")["per_class"]
