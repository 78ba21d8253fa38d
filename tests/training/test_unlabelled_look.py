from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.structures import TeacherBoxes
from detdistill.data.opening import open_dataset
from detdistill.evaluation.results import Results
from detdistill.teachers.stored_teacher import StoredTeacher
from detdistill.training.distillation_settings import Unlabelled
from detdistill.training.recipe import Recipe
from detdistill.training.unlabelled_look import best_thresholds, given_thresholds, unlabelled_notes
from support.small_runs import small_distillation, write_boxes
from support.stored_boxes import boxes_of, stored_for

CLASSES = ("green", "red")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    return open_dataset(write_boxes(tmp_path_factory.mktemp("boxes"), train=9, val=6), "val")


@pytest.fixture(autouse=True)
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """All images are black, whatever their paths."""

    def read(_: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.zeros((*size, 3), np.uint8)

    monkeypatch.setattr("detdistill.data.loading.read_image", read)


def recipe(**options: Any) -> Recipe:
    return small_distillation(Path("data"), Path("teacher"), unlabelled=Unlabelled("more", **options))


def test_thresholds_are_those_of_the_best_f1(data: DetectionDataset) -> None:
    """Every object of the first class is found with .9, and nothing with .4; nothing right of the second."""
    images = data.images
    boxes, labels, image = images.boxes, images.labels.astype(np.int64), images.image_of_object
    own = labels == 0
    wrong = boxes[own] + 500
    xyxy = np.concatenate([boxes[own], wrong, boxes[~own] + 500])
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    count, others = int(own.sum()), int((~own).sum())
    scores = np.array([0.9] * count + [0.4] * count + [0.8] * others)
    found = Results(
        np.concatenate([image[own], image[own], image[~own]]),
        xywh,
        scores,
        np.repeat([0, 0, 1], [count, count, others]),
    )
    assert best_thresholds(data, found) == {"green": pytest.approx(0.9, abs=1e-3), "red": 1.0}
    assert best_thresholds(data, found)["green"] <= 0.9


def test_a_recipe_gives_one_threshold_or_one_for_each_class() -> None:
    assert given_thresholds(Unlabelled("x"), CLASSES) is None
    assert given_thresholds(Unlabelled("x", threshold=0.5), CLASSES) == (0.5, 0.5)
    assert given_thresholds(Unlabelled("x", threshold={"red": 0.2, "green": 0.5}), CLASSES) == (0.5, 0.2)
    for wrong in ({"red": 0.2}, {"red": 0.2, "green": 0.5, "blue": 0.1}):
        with pytest.raises(SettingsError, match=r"distill\.unlabelled\.threshold"):
            given_thresholds(Unlabelled("x", threshold=wrong), CLASSES)


def mixed(data: DetectionDataset, annotated: list[TeacherBoxes], others: list[TeacherBoxes]) -> tuple[Any, Any]:
    """A dataset of as many annotated and unlabelled images as there are boxes, and the teacher that found these."""
    images = data.images.take(np.arange(len(annotated) + len(others)) % len(data.images))
    table = replace(images, paths=type(images.paths).of(f"{number}.png" for number in range(len(images))))
    dataset = replace(data, images=table, num_labelled=len(annotated))
    return dataset, StoredTeacher(stored_for(dataset, [*annotated, *others], CLASSES), {"source": "x", "sha256": "0"})


def found(*scores: float, label: int = 0) -> TeacherBoxes:
    return boxes_of(*((5, 5, 30, 30, label, score) for score in scores), classes=2)


def notes(data: DetectionDataset, annotated: list[TeacherBoxes], others: list[TeacherBoxes]) -> list[str]:
    dataset, teacher = mixed(data, annotated, others)
    return unlabelled_notes(teacher, dataset, (0.5, 1.0), recipe(threshold=0.5))


def test_notes_say_what_is_found_by_class_and_that_a_class_has_no_objects(data: DetectionDataset) -> None:
    told = notes(data, [found(0.9, 0.6), found(0.9)], [found(0.9), found(0.7, 0.2), found(0.1)])
    table = {line.split()[0]: line.split()[1:] for line in told}
    assert table["green"] == ["1.50", "0.67", "0.50"]
    assert table["red"] == ["0.00", "0.00", "none"]
    assert table["all"] == ["1.50", "0.67"]
    assert next(line for line in told if "without" in line).split()[-2:] == ["0.00", "0.33"]
    assert [line for line in told if "WARNING" in line and "no red" in line]


def test_images_of_another_kind_are_warned_of(data: DetectionDataset) -> None:
    alike = [found(0.9, 0.8), found(0.9)] * 10
    told = notes(data, alike, alike)
    assert not [line for line in told if "WARNING" in line and "differ" in line]
    told = notes(data, alike, [found(*[0.9] * 5), found(*[0.9] * 4)] * 10)
    assert len([line for line in told if "WARNING" in line and "objects an image" in line]) == 1
    told = notes(data, alike, [found(0.9), found()] * 10)
    assert len([line for line in told if "WARNING" in line and "without objects" in line]) == 1


def test_a_teacher_that_finds_nothing_there_stops(data: DetectionDataset) -> None:
    with pytest.raises(DetdistillError, match=r"no object in 3 unlabelled images.*distill\.unlabelled\.threshold"):
        notes(data, [found(0.9)], [found(0.4), found(), found(0.1)])
