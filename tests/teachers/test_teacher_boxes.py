from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.structures import Detections
from detdistill.teachers.teacher_boxes import TeacherBoxes
from support.box_strategies import boxes


def test_opinions_by_hand() -> None:
    """IoU 1/3 and 1 with the two boxes: .9 / 9 = .1 beside .05 for the first class, .8 for the second."""
    teacher = TeacherBoxes(
        torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]]), torch.tensor([[0.9, 0.0], [0.05, 0.8]])
    )
    found = teacher.opinions(torch.tensor([[1.0, 0.0, 3.0, 2.0], [7.0, 7.0, 9.0, 9.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.8], [0.0, 0.0]]))


def iou(a: list[float], b: list[float]) -> float:
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / max(sum(areas) - width * height, 1e-9)


@given(boxes(), boxes(), st.integers(0, 2**16))
def test_opinions_are_those_of_a_loop(asked: Tensor, own: Tensor, seed: int) -> None:
    probabilities = torch.rand(len(own), 3, generator=torch.Generator().manual_seed(seed), dtype=own.dtype)
    found = TeacherBoxes(own, probabilities).opinions(asked)
    for box, opinion in zip(asked.tolist(), found.tolist(), strict=True):
        for label in range(3):
            each = [p[label] * iou(box, b) ** 2 for b, p in zip(own.tolist(), probabilities.tolist(), strict=True)]
            assert opinion[label] == pytest.approx(max(each, default=0.0), abs=1e-4)


def test_detections_have_one_class_each() -> None:
    found = Detections(torch.rand(2, 4), torch.tensor([0.7, 0.2]), torch.tensor([2, 0]))
    teacher = TeacherBoxes.from_detections(found, 3, floor=0.05)
    assert teacher.floor == 0.05
    torch.testing.assert_close(teacher.probabilities, torch.tensor([[0.0, 0.0, 0.7], [0.2, 0.0, 0.0]]))


def test_a_teacher_without_boxes_has_no_opinion() -> None:
    teacher = TeacherBoxes(torch.zeros(0, 4), torch.zeros(0, 2))
    assert teacher.opinions(torch.rand(3, 4)).tolist() == [[0.0, 0.0]] * 3
