from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.core.structures import TeacherBoxes
from detdistill.data.stored_detections import BoxColumns
from support.stored_boxes import assert_same_boxes, boxes_of, teacher_boxes

found_in_images = st.lists(teacher_boxes(), max_size=4)


@settings(max_examples=25)
@given(found_in_images, st.integers(3, 6))
def test_all_classes_come_back(found: list[TeacherBoxes], top_k: int) -> None:
    columns = BoxColumns.of(found, top_k)
    for row, each in enumerate(found):
        assert_same_boxes(columns.of_image(row, 3, 0.05), each)


@settings(max_examples=25)
@given(found_in_images, st.integers(1, 3))
def test_the_detected_class_and_the_best_others_are_kept(found: list[TeacherBoxes], top_k: int) -> None:
    columns = BoxColumns.of(found, top_k)
    for row, each in enumerate(found):
        kept = columns.of_image(row, 3, 0.05)
        assert torch.equal(kept.scores, each.scores)
        assert kept.labels.tolist() == each.labels.tolist()
        assert ((kept.probabilities == each.probabilities) | (kept.probabilities == 0)).all()
        for own, known, label in zip(kept.probabilities, each.probabilities, each.labels.tolist(), strict=True):
            others = torch.cat((known[:label], known[label + 1 :])).sort(descending=True).values
            kept_others = torch.cat((own[:label], own[label + 1 :])).sort(descending=True).values
            assert kept_others.tolist() == [*others[: top_k - 1].tolist(), *[0.0] * (3 - top_k)]


@settings(max_examples=25)
@given(st.lists(found_in_images, min_size=1, max_size=3))
def test_parts_with_different_numbers_of_classes_are_joined(parts: list[list[TeacherBoxes]]) -> None:
    columns = BoxColumns.joined([BoxColumns.of(found, 1 + number) for number, found in enumerate(parts)])
    row = 0
    for number, found in enumerate(parts):
        alone = BoxColumns.of(found, 1 + number)
        for place in range(len(found)):
            assert_same_boxes(columns.of_image(row, 3, 0.1), alone.of_image(place, 3, 0.1))
            row += 1
    assert len(columns.offsets) == row + 1


def test_columns_of_a_hand_example() -> None:
    found = TeacherBoxes(
        torch.tensor([[0.0, 1, 2, 3], [4, 5, 6, 7]]),
        torch.tensor([2, 0]),
        torch.tensor([[0.1, 0.0, 0.6, 0.3], [0.5, 0.0, 0.0, 0.0]]),
    )
    columns = BoxColumns.of([boxes_of(classes=4), found], 3)
    assert columns.offsets.tolist() == [0, 0, 2]
    assert columns.labels.tolist() == [[2, 3, 0], [0, 0, 0]]
    np.testing.assert_allclose(columns.probabilities, [[0.6, 0.3, 0.1], [0.5, 0, 0]], rtol=1e-6)


def test_one_class_a_box_takes_one_column() -> None:
    assert BoxColumns.of([boxes_of((0, 0, 1, 1, 2, 0.5))], 5).labels.tolist() == [[2]]
