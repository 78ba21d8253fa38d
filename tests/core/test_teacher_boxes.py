from __future__ import annotations

import torch

from detdistill.core.structures import Detections, Targets, TeacherBoxes


def stored(*scores: float) -> TeacherBoxes:
    """Boxes of the second of two classes."""
    found = Detections(torch.rand(len(scores), 4), torch.tensor(scores), torch.ones(len(scores), dtype=torch.int64))
    return TeacherBoxes.from_detections(found, 2, floor=0.05)


def test_detections_have_one_known_class_each() -> None:
    found = Detections(torch.rand(2, 4), torch.tensor([0.7, 0.2]), torch.tensor([2, 0]))
    teacher = TeacherBoxes.from_detections(found, 3, floor=0.05)
    assert teacher.floor == 0.05
    torch.testing.assert_close(teacher.probabilities, torch.tensor([[0.0, 0.0, 0.7], [0.2, 0.0, 0.0]]))
    again = teacher.detections()
    assert torch.equal(again.boxes, found.boxes)
    assert torch.equal(again.scores, found.scores)
    assert torch.equal(again.labels, found.labels)


def test_some_boxes_are_kept_where_they_were_moved_to() -> None:
    teacher = stored(0.9, 0.5, 0.3)
    kept = teacher.keep(torch.tensor([True, False, True]), teacher.boxes + 1)
    assert kept.scores.tolist() == teacher.scores[[0, 2]].tolist()
    torch.testing.assert_close(kept.boxes, teacher.boxes[[0, 2]] + 1)
    assert kept.floor == 0.05


def test_stored_boxes_go_with_their_images() -> None:
    boxes = stored(0.9), stored(), stored(0.8, 0.7)
    targets = Targets(torch.rand(2, 4), torch.tensor([0, 1]), torch.tensor([0, 2]), torch.full((3, 2), 8), stored=boxes)
    assert targets.of_images(1, 3).stored == boxes[1:]
    moved = targets.to("cpu").stored
    assert moved is not None
    assert [len(each) for each in moved] == [1, 0, 2]
    assert Targets.from_images([torch.rand(1, 4)], [torch.tensor([0])], torch.full((1, 2), 8)).stored is None
