from __future__ import annotations

from typing import Any

import pytest
import torch

from detdistill.core.errors import DetdistillError
from detdistill.core.offers import Offer
from detdistill.core.structures import TeacherBoxes
from detdistill.data.stored_detections import StoredDetections
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.joint_teacher import JointTeacher, joined, with_classes
from detdistill.teachers.teacher import Guidance, Teacher, TeacherBatch
from support.by_opinion import predicted
from support.evaluation_datasets import no_objects
from support.stored_boxes import boxes_of, stored_for
from support.tiny_detector import tiny_detector

A, NEAR_A, B = (0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 11.0, 10.0), (20.0, 20.0, 30.0, 30.0)
IMAGES = no_objects(1, 2)
BATCH = TeacherBatch(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.full((1, 2), 64))


class Fixed:
    """A teacher of the same boxes in every image."""

    kind, stored, size, tower_head, region_reader = "fixed", None, None, None, None

    def __init__(self, found: TeacherBoxes, classes: tuple[str, ...] = ("cat", "dog"), source: str = "fixed") -> None:
        self.found, self.classes = found, classes
        self.offers: frozenset[Offer] = frozenset({"boxes", "opinions"})
        self.origin = {"source": source, "sha256": None}

    def guide(self, batch: TeacherBatch) -> Guidance:
        return Guidance(boxes=(self.found,) * len(batch.images))

    def notes(self, student: Any) -> list[str]:  # noqa: ARG002
        return []


def scores_of(teacher: Teacher, batch: TeacherBatch = BATCH) -> list[tuple[list[float], str, float]]:
    (found,) = teacher.guide(batch).set_of_boxes
    return [
        (box, teacher.classes[label], round(score, 4))
        for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    ]


def test_doubles_of_one_class_are_dropped_by_weighted_scores() -> None:
    first = Fixed(predicted((A, 0, 0.6), (B, 1, 0.3)))
    second = Fixed(predicted((NEAR_A, 0, 0.5), (A, 1, 0.4)))
    assert scores_of(JointTeacher([first, second])) == [
        (list(A), "cat", 0.6),
        (list(A), "dog", 0.4),
        (list(B), "dog", 0.3),
    ]
    weighted = scores_of(JointTeacher([first, second], (0.5, 1.0)))
    assert weighted[0] == (list(NEAR_A), "cat", 0.5), "the score itself stays as it is"


def test_classes_are_joined_by_name() -> None:
    first, second = Fixed(predicted((A, 0, 0.6))), Fixed(predicted((A, 0, 0.7), (B, 1, 0.2)), ("dog", "bird"))
    teacher = JointTeacher([first, second])
    assert teacher.classes == ("cat", "dog", "bird")
    assert scores_of(teacher) == [(list(A), "dog", 0.7), (list(A), "cat", 0.6), (list(B), "bird", 0.2)]


def test_the_floor_is_the_lowest() -> None:
    found = joined([(predicted((A, 0, 0.6), floor=0.5), 1.0), (predicted(floor=0.05), 1.0)])
    assert (found.floor, len(found)) == (0.05, 1)


def test_features_come_from_the_first_that_has_them() -> None:
    detector = DetectorTeacher(tiny_detector(classes=("cat", "dog")))
    teacher = JointTeacher([Fixed(predicted((A, 0, 0.6))), detector])
    assert teacher.offers == detector.offers
    assert teacher.tower_head is detector.tower_head
    guidance = teacher.guide(TeacherBatch(BATCH.images, BATCH.sizes, frozenset({"features", "grid"})))
    expected = detector.guide(BATCH).dense
    assert torch.equal(guidance.dense.features.maps[0], expected.features.maps[0])
    other = JointTeacher([Fixed(predicted(), ("bird",)), detector])
    assert other.offers == {"boxes", "opinions", "features"}, "its scores on the grid are of other classes"
    assert JointTeacher([Fixed(predicted()), Fixed(predicted())]).offers == {"boxes", "opinions"}


def stored(box: tuple[float, ...], label: int, score: float) -> StoredDetections:
    return stored_for(IMAGES, [boxes_of((*box, label, score), classes=2)], ("cat", "dog"))


class Stored(Fixed):
    def __init__(self, source: StoredDetections) -> None:
        super().__init__(predicted())
        self.stored = source  # type: ignore[assignment]
        self.offers = frozenset({"boxes", "opinions"})


def test_stored_boxes_are_joined_before_they_are_moved() -> None:
    both = JointTeacher([Stored(stored(A, 0, 0.6)), Stored(stored(NEAR_A, 0, 0.7)), Fixed(predicted((B, 1, 0.4)))])
    assert both.stored is not None
    assert both.stored.covered(IMAGES).all()
    moved = both.stored.boxes_of(IMAGES)[0]
    assert moved.boxes.tolist() == [list(NEAR_A)]
    batch = TeacherBatch(BATCH.images, BATCH.sizes, stored=(moved,))
    assert scores_of(both, batch) == [(list(NEAR_A), "cat", 0.7), (list(B), "dog", 0.4)]
    assert scores_of(both) == [(list(B), "dog", 0.4)], "nothing is stored for an example"


def test_what_it_remembers() -> None:
    teacher = JointTeacher([Fixed(predicted(), source="a"), Fixed(predicted(), source="b")], (1.0, 0.5))
    assert teacher.origin["weights"] == [1.0, 0.5]
    assert [each["source"] for each in teacher.origin["teachers"]] == ["a", "b"]


def test_wrong_weights_and_teachers_without_boxes_are_refused() -> None:
    with pytest.raises(DetdistillError, match="teacher_weights has 1 numbers for 2 teachers"):
        JointTeacher([Fixed(predicted()), Fixed(predicted())], (1.0,))
    silent = Fixed(predicted())
    silent.offers = frozenset({"features"})
    with pytest.raises(DetdistillError, match="joined by their boxes, and fixed offers none"):
        JointTeacher([Fixed(predicted()), silent])


def test_other_classes_keep_vectors() -> None:
    found = TeacherBoxes(torch.tensor([A]), torch.tensor([1]), torch.tensor([[0.3, 0.6]]))
    moved = with_classes(found, ("cat", "dog"), ("bird", "dog", "cat"))
    assert moved.labels.tolist() == [1]
    torch.testing.assert_close(moved.probabilities, torch.tensor([[0.0, 0.6, 0.3]]))
