from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detdistill.analysis.findings import numbers, verdicts
from detdistill.analysis.groups import ALL
from detdistill.analysis.measure import Measured, measure
from detdistill.analysis.observation import MEASURES, Observation
from detdistill.analysis.page import write_analysis
from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.data.opening import open_dataset
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.running import InferenceOptions
from detdistill.teachers.detector_teacher import DetectorTeacher
from support.html_page import Page
from support.pairs import confident
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector

IMAGES = ImageOptions(short_side=64, long_side=64)
OPTIONS = InferenceOptions(batch_size=2)
CLASSES = ("green", "red")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    return open_dataset(write_boxes(tmp_path_factory.mktemp("data"), train=4, val=6), "val")


def detector(head: Any = "gfl", *, seed: int = 0, classes: tuple[str, ...] = CLASSES, **changes: Any) -> DenseDetector:
    return confident(tiny_detector(head, classes, seed=seed, **changes))


def measured(dataset: DetectionDataset, teacher: DenseDetector, *students: DenseDetector) -> Measured:
    named = {f"s{number}": each for number, each in enumerate(students)}
    return measure(DetectorTeacher(teacher), named, dataset, IMAGES, OPTIONS)


def test_who_is_its_own_teacher_lags_in_nothing(dataset: DetectionDataset) -> None:
    found = measured(dataset, detector(), detector())
    (student,) = found.students
    ranks = student.observation.ranks
    assert ranks.mean(ALL, "top1") == 1
    assert ranks.mean(ALL, "tau") == pytest.approx(1)
    assert ranks.mean(ALL, "divergence") == pytest.approx(0, abs=1e-6)
    assert ranks.mean(ALL, "own_best_iou") == ranks.mean(ALL, "teacher_best_iou")
    assert student.scores == found.teacher == student.teachers_order == student.teachers_boxes
    assert student.teachers_order_within == student.scores
    for level in student.observation.levels.values():
        assert level.predictions == 0
        assert level.agreed == level.cells
        assert level.features <= 1e-2 * level.cells
    assert student.observation.objects.cases == []


def test_every_object_with_candidates_counts_once(dataset: DetectionDataset) -> None:
    (student,) = measured(dataset, detector(seed=1, channels=24), detector("retinanet")).students
    table = student.observation.ranks.table(MEASURES)
    total = table[ALL]["objects"]
    assert total == sum(len(record.labels) for record in dataset.images)
    for kind in ("class", "size", "crowding"):
        assert sum(values["objects"] or 0 for (own, _), values in table.items() if own == kind) == total
    assert "cells are compared" in " ".join(student.notes), "anchors per cell differ"


def test_batches_and_the_fit_change_little(dataset: DetectionDataset) -> None:
    teacher, student = DetectorTeacher(detector(seed=1)), detector()
    few = measure(teacher, {"s": student}, dataset, IMAGES, InferenceOptions(batch_size=1))
    all_ = measure(teacher, {"s": student}, dataset, IMAGES, InferenceOptions(batch_size=6))
    one, other = (each.students[0].observation for each in (few, all_))
    assert one.ranks.mean(ALL, "tau") == pytest.approx(other.ranks.mean(ALL, "tau"))
    assert {stride: level.cells for stride, level in one.levels.items()} == {
        stride: level.cells for stride, level in other.levels.items()
    }
    assert few.students[0].scores == all_.students[0].scores


@pytest.mark.parametrize("count", [1, 2])
def test_the_page_and_its_numbers(dataset: DetectionDataset, tmp_path: Path, count: int) -> None:
    students = [detector(seed=number) for number in range(count)]
    found = measured(dataset, detector(seed=5, channels=24), *students)
    said = write_analysis(found, tmp_path / "out")
    page = Page(tmp_path / "out" / "analysis.html")
    observations = [student.observation for student in found.students]
    shown = [
        len(each.objects.cases) + sum(1 + 2 * len(case.strides) for case in each.images.cases) for each in observations
    ]
    assert len(page.of("img")) == sum(shown) > 0
    found_texts = verdicts(found).values()
    headlines = sum(len(verdict.headline) for verdict in found_texts) if count == 1 else count
    assert len(page.of("li")) == headlines + sum(len(verdict.details) for verdict in found_texts), "a finding a bullet"
    read = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert read == json.loads(json.dumps(numbers(found)))
    assert list(read["students"]) == [f"s{number}" for number in range(count)]
    assert said == [sentence for verdict in verdicts(found).values() for sentence in verdict.sentences]
    assert all(any(digit in sentence for digit in "0123456789") for sentence in said), "a number for each"


def test_terms_are_explained_in_the_first_verdict_only(dataset: DetectionDataset) -> None:
    same = detector()
    found = verdicts(measured(dataset, detector(seed=5), same, same))
    first, second = found["s0"].sentences, found["s1"].sentences
    assert len(first) == len(second)
    assert sum(map(len, second)) < sum(map(len, first))
    assert all(sentence.endswith(".") for sentence in (*first, *second))


def test_a_class_that_the_teacher_lacks_is_said(dataset: DetectionDataset) -> None:
    (student,) = measured(dataset, detector(seed=1, classes=("red", "blue")), detector()).students
    assert "classes the teacher lacks: green" in " ".join(student.notes)
    table = student.observation.ranks.table(MEASURES)
    assert ("class", "green") not in table
    assert ("class", "red") in table


@pytest.mark.parametrize(
    ("teacher", "students", "message"),
    [
        (("cat", "dog"), [CLASSES], "no class name in common"),
        (CLASSES, [CLASSES, ("red", "green")], "s0 has green, red; s1 has red, green"),
    ],
)
def test_pairs_that_cannot_be_compared(
    dataset: DetectionDataset, teacher: tuple[str, ...], students: list[tuple[str, ...]], message: str
) -> None:
    with pytest.raises(DetdistillError, match=message):
        measured(dataset, detector(classes=teacher), *(detector(classes=each) for each in students))


def without_objects(dataset: DetectionDataset) -> DetectionDataset:
    columns = ("boxes", "labels", "areas", "crowd", "difficult")
    empty = [replace(record, **{name: getattr(record, name)[:0] for name in columns}) for record in dataset.images]
    return replace(dataset, images=ImageTable.of(empty))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_objects, "there is no object in 6 images to analyse"),
        (lambda data: replace(data, classes=("green", "cow")), "'cow' are not among the expected ones"),
    ],
)
def test_data_that_cannot_be_used(
    dataset: DetectionDataset, change: Callable[[DetectionDataset], DetectionDataset], message: str
) -> None:
    with pytest.raises(DetdistillError, match=message):
        measured(change(dataset), detector(), detector())


def test_galleries_keep_the_worst(dataset: DetectionDataset) -> None:
    (student,) = measured(dataset, detector(seed=1), detector()).students
    cases = student.observation.objects.cases
    losses = [case.divergence for case in cases]
    assert losses == sorted(losses, reverse=True)
    assert len(cases) <= Observation(CLASSES, 6).shown
