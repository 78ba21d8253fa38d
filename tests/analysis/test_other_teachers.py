"""Teachers without scores or features on the student's cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detdistill.analysis.findings import verdicts
from detdistill.analysis.groups import ALL
from detdistill.analysis.measure import Student, measure
from detdistill.analysis.page import write_analysis
from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import Offer
from detdistill.core.output import Features, Output, RegionReader, TowerHead
from detdistill.data.opening import open_dataset
from detdistill.data.stored_detections import StoredDetections
from detdistill.detectors.base import Detector
from detdistill.detectors.running import InferenceOptions
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.teacher import Guidance, Teacher, TeacherBatch
from support.html_page import Page
from support.pairs import confident
from support.small_runs import write_boxes
from support.stored_boxes import boxes_of, stored_for
from support.tiny_detector import tiny_detector
from support.two_stage import TwoStageDetector

IMAGES = ImageOptions(short_side=48, long_side=48)
"""Smaller than the files: stored boxes must move with the images."""
OPTIONS = InferenceOptions(batch_size=8)
CLASSES = ("green", "red")
OBJECTS, FEW = 32, 6


class StoredTeacher:
    """Predicts what is stored, and looks at no image."""

    kind = "stored"
    origin: Mapping[str, Any] = {}
    offers: frozenset[Offer] = frozenset({"boxes", "opinions"})
    tower_head: TowerHead | None = None
    region_reader: RegionReader | None = None
    size: ImageSize | None = None

    def __init__(self, stored: StoredDetections) -> None:
        self.stored = stored
        self.classes = stored.classes

    def guide(self, batch: TeacherBatch) -> Guidance:
        return Guidance(boxes=batch.stored)

    def notes(self, student: InputSpec) -> list[str]:  # noqa: ARG002 (the contract's)
        return []


class PartialTeacher(DetectorTeacher):
    """A detector of whose output only the parts that it offers are handed over."""

    def __init__(self, detector: Detector, offers: frozenset[Offer]) -> None:
        super().__init__(detector)
        self._offers = offers

    @property
    def offers(self) -> frozenset[Offer]:
        return self._offers

    def guide(self, batch: TeacherBatch) -> Guidance:
        whole = super().guide(batch)
        features = whole.dense.features if "features" in self.offers else Features((), ())
        stages = whole.dense.stages if "grid" in self.offers else {}
        output = Output(features, stages, whole.dense.final)
        return Guidance(output if self.offers & {"features", "grid"} else None, whole.boxes)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """One object an image."""
    found = open_dataset(write_boxes(tmp_path_factory.mktemp("data"), val=OBJECTS), "val")
    columns = ("boxes", "labels", "areas", "crowd", "difficult")
    first = [replace(record, **{name: getattr(record, name)[:1] for name in columns}) for record in found.images]
    return replace(found, images=ImageTable.of(first))


def truth(dataset: DetectionDataset, *, images: int | None = None, classes: tuple[str, ...] = CLASSES) -> StoredTeacher:
    """A teacher that is always right."""
    some = replace(dataset, images=dataset.images[:images])
    found = [boxes_of((*record.boxes[0], float(record.labels[0]), 1.0), classes=len(classes)) for record in some.images]
    return StoredTeacher(stored_for(some, found, classes, floor=0.0))


@pytest.fixture(scope="module")
def few(dataset: DetectionDataset) -> DetectionDataset:
    """Images enough where numbers do not matter."""
    return replace(dataset, images=dataset.images[:FEW])


@pytest.fixture(scope="module")
def whole(few: DetectionDataset) -> Student:
    """A student beside a teacher that offers everything."""
    teacher = DetectorTeacher(confident(tiny_detector("gfl", CLASSES, seed=1)))
    found = student_of(teacher, few, confident(tiny_detector("gfl", CLASSES)))
    assert found.observation.levels
    return found


def student_of(teacher: Teacher, dataset: DetectionDataset, detector: Detector | None = None) -> Student:
    own = confident(tiny_detector("retinanet", CLASSES)) if detector is None else detector
    return measure(teacher, {"s": own}, dataset, IMAGES, OPTIONS).students[0]


def test_stored_detections_that_are_right_order_as_the_truth(dataset: DetectionDataset, tmp_path: Path) -> None:
    found = measure(truth(dataset), {"s": confident(tiny_detector("retinanet", CLASSES))}, dataset, IMAGES, OPTIONS)
    (student,) = found.students
    sources = student.observation.sources
    assert pytest.approx(1) == found.teacher.AP
    assert sources.taus["opinion"].estimate().mean == pytest.approx(1, abs=1e-6)
    assert sources.taus["grid"].estimate().mean is None
    assert sources.groups.table(["without_opinion"])[ALL] == {"objects": OBJECTS, "without_opinion": 0.0}
    assert sources.fit == "opinion"
    assert (student.opinions_order.AP or 0) >= (student.scores.AP or 0)
    assert student.teachers_order is student.teachers_order_within is student.teachers_boxes is None
    assert "left out" in student.notes[-1]

    said = write_analysis(found, tmp_path)
    assert any("{source: opinion}" in sentence for sentence in said)
    text = Page(tmp_path / "analysis.html").text
    assert "Sources of ranking: s" in text
    assert "Observation" not in text
    read = json.loads((tmp_path / "analysis.json").read_text())["students"]["s"]
    assert read["teachers_order"] is None
    assert read["opinions_order"]["AP"] == student.opinions_order.AP
    assert read["ranking"]["fits"] == "opinion"
    assert read["ranking"]["tau_with_iou"]["opinion"]["mean"] == pytest.approx(1, abs=1e-6)
    assert (read["levels"], read["ranks"]) == ({}, [])


BOXES: frozenset[Offer] = frozenset({"boxes", "opinions"})


@pytest.mark.parametrize("more", [frozenset(), frozenset({"features"}), frozenset({"grid"})])
def test_what_a_teacher_does_not_offer_is_left_out(
    few: DetectionDataset, whole: Student, tmp_path: Path, more: frozenset[Offer]
) -> None:
    """The opinions are the same whatever else there is."""
    teacher = PartialTeacher(confident(tiny_detector("gfl", CLASSES, seed=1)), BOXES | more)
    found = measure(teacher, {"s": confident(tiny_detector("gfl", CLASSES))}, few, IMAGES, OPTIONS)
    (student,) = found.students
    assert student.teachers_order == (whole.teachers_order if "grid" in more else None)
    assert not student.observation.levels
    assert student.opinions_order == whole.opinions_order
    assert student.opinions_order_within == whole.opinions_order_within
    opinion, expected = (each.observation.sources.taus["opinion"].estimate() for each in (student, whole))
    assert opinion == expected
    assert write_analysis(found, tmp_path)


def test_teachers_of_other_strides_are_compared_by_opinion(few: DetectionDataset) -> None:
    student = student_of(
        DetectorTeacher(confident(tiny_detector("gfl", CLASSES, strides=(32,), extra_levels=0))),
        few,
        confident(tiny_detector("retinanet", CLASSES, seed=1, strides=(8, 16), extra_levels=0)),
    )
    assert student.teachers_order is None
    assert "no pyramid level in common" in student.notes[-1]
    assert student.observation.sources.groups.mean(ALL, "without_opinion") is not None


def test_students_without_cells_are_compared_by_opinion(few: DetectionDataset) -> None:
    student = student_of(truth(few), few, TwoStageDetector(CLASSES))
    assert student.teachers_order is None
    assert student.opinions_order.AP is not None


def test_a_teacher_of_other_class_names(few: DetectionDataset) -> None:
    teacher = truth(few, classes=("leaf", "red"))
    student = student_of(teacher, few)
    red = int((few.images.labels == 1).sum())
    assert student.observation.sources.groups.table(["without_opinion"])[ALL]["objects"] == red
    found = measure(teacher, {"s": tiny_detector("gfl", CLASSES)}, few, IMAGES, OPTIONS, class_map={"leaf": "green"})
    assert pytest.approx(1) == found.teacher.AP
    assert found.students[0].observation.sources.groups.table(["opinion"])[ALL]["objects"] == FEW


def test_teachers_that_cannot_be_analyzed(few: DetectionDataset) -> None:
    with pytest.raises(DetdistillError, match="3 of the 6 images"):
        student_of(truth(few, images=FEW - 3), few)
    maps = PartialTeacher(tiny_detector("gfl", CLASSES), frozenset({"features"}))
    with pytest.raises(DetdistillError, match="features"):
        student_of(maps, few)


def test_findings_without_cells_have_a_number_each(few: DetectionDataset) -> None:
    found = measure(truth(few), {"s": confident(tiny_detector("gfl", CLASSES))}, few, IMAGES, OPTIONS)
    sentences = verdicts(found)["s"].sentences
    assert all(any(digit in sentence for digit in "0123456789") and sentence.endswith(".") for sentence in sentences)
    assert sum("the predictions that training assigns to it" in sentence for sentence in sentences) == 1
