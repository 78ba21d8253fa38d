from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DetdistillError
from detdistill.data.opening import open_dataset
from detdistill.evaluation.coco_metrics import CocoMetrics, CocoScores
from detdistill.evaluation.results import Results
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.teacher import Teacher
from detdistill.training.recipe import Recipe
from detdistill.training.teacher_score import LOOKED_AT, quick_look, teacher_metrics
from support.small_runs import small_distillation, taught_otherwise, write_boxes
from support.tiny_detector import tiny_detector


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    return open_dataset(write_boxes(tmp_path_factory.mktemp("boxes")), "val")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return small_distillation(tmp_path, tmp_path, class_map={"verde": "green"})


def finding(monkeypatch: pytest.MonkeyPatch, truth: DetectionDataset, names: dict[str, str]) -> None:
    """A teacher finds every object of these classes, names them in its own way, and sees a `ghost` beside each."""

    def predict(teacher: Teacher, dataset: DetectionDataset, *_: Any, **__: Any) -> Results:
        image, boxes, labels = [], [], []
        for index, record in enumerate(dataset.images):
            for box, label in zip(record.boxes, truth.images[index].labels, strict=True):
                name = truth.classes[label]
                if name in names:
                    image += [index, index]
                    boxes += [box, box]
                    labels += [teacher.classes.index(names[name]), teacher.classes.index("ghost")]
        corners = np.array(boxes).reshape(-1, 4)
        xywh = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)
        return Results(np.array(image, np.int64), xywh, np.ones(len(image)), np.array(labels, np.int64))

    monkeypatch.setattr("detdistill.training.teacher_score.predict_with_teacher", predict)


TEACHER = DetectorTeacher(tiny_detector(classes=("ghost", "red", "verde")))


def test_a_teachers_classes_go_by_name(data: DetectionDataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    finding(monkeypatch, data, {"green": "verde", "red": "red"})
    ap = teacher_metrics(TEACHER, data, recipe).AP
    assert ap == pytest.approx(1)
    assert quick_look(TEACHER, data, None, recipe) == [f"the teacher's AP on 4 images of {data.source}: 100.0"]


def test_detections_under_another_name_are_wrong(
    data: DetectionDataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding(monkeypatch, data, {"green": "red", "red": "verde"})
    assert teacher_metrics(TEACHER, data, recipe).AP == 0
    found, warning = quick_look(TEACHER, data, None, recipe)
    assert found.endswith("0.0")
    assert warning.startswith("WARNING: the teacher's AP")
    assert "class_map" in warning
    with pytest.raises(DetdistillError, match=r"AP50 0\.0.*accept_teacher"):
        quick_look(TEACHER, data, None, taught_otherwise(recipe, accept_teacher=False))


def test_a_class_that_the_teacher_never_finds_is_named(
    data: DetectionDataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding(monkeypatch, data, {"green": "verde"})
    _, warning = quick_look(TEACHER, data, None, recipe)
    assert warning == "WARNING: the teacher finds no red: there is nothing to learn from it about them"


def test_a_class_that_the_teacher_lacks_is_no_surprise(
    data: DetectionDataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding(monkeypatch, data, {"green": "verde"})
    (found,) = quick_look(DetectorTeacher(tiny_detector(classes=("ghost", "verde"))), data, None, recipe)
    assert found.endswith(": 100.0 over the classes that it knows")


def test_images_without_objects_are_not_looked_at(
    data: DetectionDataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set may begin with backgrounds, on which no teacher finds anything."""
    first = data.images[0]
    none: Any = {name: getattr(first, name)[:0] for name in ("boxes", "labels", "areas", "crowd", "difficult")}
    backgrounds = tuple(replace(first, file_name=f"background {number}", **none) for number in range(LOOKED_AT))
    later = replace(data, images=ImageTable.of([*backgrounds, *data.images]))
    looked_at: list[DetectionDataset] = []

    def score(_: object, few: DetectionDataset, *__: object) -> CocoMetrics:
        looked_at.append(few)
        return CocoMetrics(per_class={"green": CocoScores(AP=0.5, AP50=0.5)})

    monkeypatch.setattr("detdistill.training.teacher_score.teacher_metrics", score)
    assert quick_look(TEACHER, later, None, recipe) == [f"the teacher's AP on 4 images of {data.source}: 50.0"]
    assert list(looked_at[0].images.file_names) == list(data.images.file_names)


def test_the_teacher_is_tried_on_a_sample_of_files_sorted_by_class(
    data: DetectionDataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = next(image for image in data.images if len(image.labels))
    images = tuple(
        replace(one, file_name=f"{number:04d}.png", labels=np.full(len(one.labels), number >= 300))
        for number in range(600)
    )
    drawn: list[DetectionDataset] = []

    def score(_: object, few: DetectionDataset, *__: object) -> CocoMetrics:
        drawn.append(few)
        return CocoMetrics(per_class={"green": CocoScores(AP=0.5, AP50=0.5)})

    monkeypatch.setattr("detdistill.training.teacher_score.teacher_metrics", score)
    quick_look(TEACHER, replace(data, images=ImageTable.of(images)), None, recipe)
    assert len(drawn[0].images) == LOOKED_AT
    share = np.mean([image.labels[0] for image in drawn[0].images])
    assert 0.25 < share < 0.75


@pytest.mark.parametrize(("taught", "is_warned"), [(0.9, True), (0.6, False)])
def test_a_teacher_that_overfits_the_training_images(
    taught: float,
    is_warned: bool,
    data: DetectionDataset,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def score(_: object, few: DetectionDataset, *__: object) -> CocoMetrics:
        ap = taught if few.source == "train.json" else 0.5
        return CocoMetrics(per_class={"green": CocoScores(AP=ap, AP50=ap)})

    monkeypatch.setattr("detdistill.training.teacher_score.teacher_metrics", score)
    words = quick_look(TEACHER, replace(data, source="train.json"), data, recipe)
    assert words[:2] == [
        f"the teacher's AP on 4 images of {data.source}: 50.0",
        f"the teacher's AP on 4 images of train.json: {100 * taught:.1f}",
    ]
    assert ["overfit" in word for word in words[2:]] == [True] * is_warned
