from __future__ import annotations

import pytest

from detdistill.analysis.findings import lack


@pytest.mark.parametrize(
    ("order", "within", "boxes", "said"),
    [
        (0.21, 0.122, 0.155, "the order of its boxes across objects and background"),
        (0.21, 0.19, 0.155, "the order of the candidates of each object"),
        (0.15, 0.13, 0.2, "the boxes themselves"),
        (0.123, 0.11, 0.10, "it lacks little of each alone"),
    ],
)
def test_what_a_student_lacks(order: float, within: float, boxes: float, said: str) -> None:
    assert said in lack(0.119, order=order, within=within, boxes=boxes)
