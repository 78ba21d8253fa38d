from __future__ import annotations

import pytest
import torch

from detdistill.core.structures import BACKGROUND, IGNORED, Targets
from detdistill.distill.opinion_correspondence import left_out
from detdistill.distill.term import OPINIONS
from detdistill.distill.view import Need
from support.by_opinion import FIRST, LAST, predicted, view_of
from support.term_cases import objects

EVERYWHERE = Need(OPINIONS, everywhere=True)


def test_opinions_of_all_candidates_by_hand() -> None:
    """.9 times 1, 1/9, 1/9 and 1/49 for the first class, nothing for the second."""
    view = view_of(torch.zeros(1, 4, 2), predicted((FIRST, 0, 0.9)), (0, -1, -1, -1), objects([FIRST]), need=EVERYWHERE)
    scores = view.teacher.predictions.scores()
    torch.testing.assert_close(scores[0, :, 0], torch.tensor([0.9, 0.1, 0.1, 0.9 / 49]))
    torch.testing.assert_close(scores[0, :, 1], torch.full((4,), 1e-6), rtol=1e-3, atol=0)
    assert view.teacher.predictions.boxes()[0, 0].tolist() == list(FIRST)
    assert view.teacher.predictions.boxes()[0, 1:].isnan().all(), "their IoU with the teacher's box is below 1/2"
    assert view.by_opinion
    assert not view.teacher.features.maps


def test_only_positives_are_judged_where_no_more_is_needed() -> None:
    view = view_of(torch.zeros(1, 4, 2), predicted((FIRST, 0, 0.9)), (0, -1, 0, -2), objects([FIRST]))
    assert view.teacher.predictions.scores()[0, :, 0].isnan().tolist() == [False, True, False, True]


def test_sharpness_is_the_terms() -> None:
    view = view_of(
        torch.zeros(1, 4, 2), predicted((FIRST, 0, 0.9)), (0, 0, -1, -1), objects([FIRST]), need=Need(OPINIONS, 1.0)
    )
    torch.testing.assert_close(view.teacher.predictions.scores()[0, :2, 0], torch.tensor([0.9, 0.3]))


def test_objects_without_an_opinion_of_their_class_drop_out() -> None:
    """The first object has a box of its class, the second one of another class only, the third none."""
    targets = objects([FIRST, FIRST, (40, 40, 60, 60)])
    found = predicted((FIRST, 1, 0.9), (LAST, 0, 0.5))
    view = view_of(torch.zeros(1, 4, 2), found, (1, -1, 2, 0), targets)
    assert view.targets.labels.tolist() == [0, 0, 0], "an IoU of 1/7 with a box of the class is an opinion"
    none = view_of(torch.zeros(1, 4, 2), predicted((FIRST, 1, 0.9)), (1, -1, 2, 0), targets)
    assert none.targets.labels.tolist() == [BACKGROUND] * 3
    assert left_out(none, torch.tensor([[1, -1, 2, 0]]), targets) == [
        "no opinion of 3 of 3 objects in the first batch; they are left out"
    ]


@pytest.mark.parametrize(("floor", "expected"), [(0.05, [0, -1, -1, -1]), (0.2, [0, IGNORED, IGNORED, IGNORED])])
def test_background_below_a_high_floor_is_unknown(floor: float, expected: list[int]) -> None:
    """The opinions are .9, .1, .1 and .02."""
    matched = torch.tensor([[0, -1, -1, -1]])
    view = view_of(
        torch.zeros(1, 4, 2),
        predicted((FIRST, 0, 0.9), floor=floor),
        (0, -1, -1, -1),
        objects([FIRST]),
        need=EVERYWHERE,
    )
    assert view.assignment.matched[0].tolist() == expected
    notes = left_out(view, matched, objects([FIRST]))
    assert len(notes) == (floor > 0.05)
    if notes:
        assert notes[0].startswith("3 of 3 background candidates")


def test_a_teacher_without_any_box_has_no_opinion() -> None:
    view = view_of(torch.zeros(1, 4, 2), predicted(), (0, 0, -1, -1), objects([FIRST]), need=EVERYWHERE)
    assert view.targets.labels.tolist() == [BACKGROUND]


def test_classes_go_by_name() -> None:
    """The teacher's second class is the student's first; its first is unknown to the student."""
    found = predicted((FIRST, 1, 0.8), (FIRST, 0, 0.9))
    view = view_of(
        torch.arange(8.0).view(1, 4, 2), found, (0, -1, -1, -1), objects([FIRST]), teacher_classes=("bird", "cat")
    )
    assert view.student.predictions.class_logits[0, :, 0].tolist() == [0, 2, 4, 6]
    assert view.teacher.predictions.scores()[0, 0].tolist() == pytest.approx([0.8])
    assert view.targets.labels.tolist() == [0]


def test_without_objects() -> None:
    nothing = Targets.from_images([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)], torch.tensor([[64, 64]]))
    view = view_of(torch.zeros(1, 4, 2), predicted((FIRST, 0, 0.9)), (-1, -1, -1, -1), nothing)
    assert view.teacher.predictions.scores().isnan().all()
    assert len(view.targets.labels) == 0
