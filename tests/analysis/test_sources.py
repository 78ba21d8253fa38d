from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detdistill.analysis.groups import ALL
from detdistill.analysis.pairing import Compared, Ranked, reordered, swapped
from detdistill.analysis.sources import LEAST_OBJECTS, Fit, RankSources, fitting
from detdistill.analysis.tally import Estimate
from detdistill.core.output import DENSE, Output
from detdistill.core.structures import Assignment, TeacherBoxes
from detdistill.distill.class_map import ClassMap, identical_classes
from detdistill.distill.opinion_correspondence import OpinionCorrespondence
from detdistill.distill.view import View
from detdistill.teachers.opinions import SHARPNESS
from detdistill.teachers.teacher import Guidance
from support.term_cases import grid, objects, output

CELLS = grid((2, 4))
"""Boxes of 16 px from the corners of cells of 8 px: x1 is 0, 8, 16, 24 in the first row, where y1 is 0."""
TRUTH = objects([[4, 0, 20, 16]])


def student(logits: Sequence[float]) -> Output:
    """One class; the score of each of the eight cells."""
    return output(CELLS, [torch.zeros(1, 1, 2, 4)], torch.tensor(logits, dtype=torch.float32).view(1, 8, 1))


def teacher_boxes(*boxes: tuple[float, float, float, float], score: float = 0.8) -> TeacherBoxes:
    return TeacherBoxes(
        torch.tensor(boxes).view(-1, 4),
        torch.zeros(len(boxes), dtype=torch.int64),
        torch.full((len(boxes), 1), score),
        0.05,
    )


def compared(
    own: Output,
    found: TeacherBoxes,
    *,
    dense: Output | None = None,
    matched: Sequence[int] = (0, 0, 0, -1, -1, -1, -1, -1),
) -> Compared:
    """The first three cells are the object's candidates."""
    assignment = Assignment(torch.tensor([matched]))
    way = OpinionCorrespondence(identical_classes(["digit"]), everywhere=True)
    view = way(own, Guidance(boxes=(found,)), {DENSE: assignment}, TRUTH)
    has_opinion = view.targets.labels >= 0
    opinion = View(view.student, view.teacher, assignment, TRUTH)
    return Compared(
        None if dense is None else Ranked(View(own, dense, assignment, TRUTH)), Ranked(opinion), has_opinion, []
    )


def added(*parts: Compared) -> RankSources:
    sources = RankSources()
    for part in parts:
        sources.add({ALL: torch.tensor([True])}, torch.tensor([0]), part)
    return sources


def means(sources: RankSources) -> dict[str, float | None]:
    return {order: each.estimate().mean for order, each in sources.taus.items()}


def test_the_orders_of_one_object_by_hand() -> None:
    """The true IoU of boxes at x1 0, 8 and 16 is 192 / 320, 192 / 320 and 64 / 448: the first two are tied.

    The teacher's box is the third candidate: its opinions are .8 times the squares of 0, 1 / 3 and 1.
    """
    pair = compared(
        student([0, 1, 2, 0, 0, 0, 0, 0]), teacher_boxes((16, 0, 32, 16)), dense=student([1, 2, 0, *[9] * 5])
    )
    found = pair.opinion.candidates
    assert found.own_iou.tolist() == pytest.approx([192 / 320, 192 / 320, 64 / 448])
    assert found.other.sigmoid().tolist() == pytest.approx([0, 0.8 / 9, 0.8], abs=1e-5)
    # Of three pairs one is tied in the truth: both others disagree with the student and with the opinions.
    expected = 2 / math.sqrt(3 * 2)
    assert means(added(pair)) == pytest.approx({"student": -expected, "opinion": -expected, "grid": expected})
    difference = added(pair).difference.estimate()
    assert difference.mean == pytest.approx(-2 * expected)
    assert difference.objects == 1


def test_a_teacher_that_predicts_the_object_orders_as_the_truth() -> None:
    pair = compared(student([0, 1, 2, 0, 0, 0, 0, 0]), teacher_boxes((4, 0, 20, 16)))
    assert means(added(pair)) == {
        "student": pytest.approx(-2 / math.sqrt(6)),
        "opinion": pytest.approx(1),
        "grid": None,
    }
    assert added(pair).groups.mean(ALL, "without_opinion") == 0


@pytest.mark.parametrize(
    ("found", "share"),
    [(teacher_boxes(), 1.0), (teacher_boxes((32, 0, 40, 16)), 1.0), (teacher_boxes((31, 0, 40, 16)), 0.0)],
)
def test_objects_that_no_box_of_the_teachers_overlaps_have_no_opinion(found: TeacherBoxes, share: float) -> None:
    """The third candidate ends at x 32. Without opinion an object counts in no tau, but in the share."""
    sources = added(compared(student([0, 1, 2, 0, 0, 0, 0, 0]), found))
    assert sources.groups.mean(ALL, "without_opinion") == share
    assert sources.taus["opinion"].objects == 1 - share
    assert sources.taus["student"].objects == 1


def test_objects_without_candidates_do_not_count() -> None:
    sources = added(compared(student([0] * 8), teacher_boxes((4, 0, 20, 16)), matched=[-1] * 8))
    assert sources.groups.table(["without_opinion"]) == {}
    assert sources.fit == "unknown"


def test_scores_replaced_by_opinions_by_hand() -> None:
    """Each of the student's boxes gets .8 · IoU² with the teacher's; boxes and order are read off that."""
    own = student([3, 2, 1, 0, 0, 0, 0, 0])
    pair = compared(own, teacher_boxes((16, 0, 32, 16)))
    changed = swapped(pair.opinion.view.teacher, pair.opinion.view.student).predictions
    # Half a box aside or lower 128 of 384 px² are shared, half a box aside and lower 64 of 448.
    expected = torch.tensor([0, 1 / 3, 1, 1 / 3, 0, 64 / 448, 1 / 3, 64 / 448]) ** SHARPNESS * 0.8
    torch.testing.assert_close(changed.scores().flatten(), expected, atol=1e-5, rtol=0)
    assert torch.equal(changed.boxes(), own.predictions.boxes())


def test_the_opinions_order_within_an_object_by_hand() -> None:
    """The third candidate gets the best score, the second keeps the middle one; the others stay."""
    own = student([3, 2, 1, 7, 0, 0, 0, 0])
    pair = compared(own, teacher_boxes((16, 0, 32, 16)))
    changed = reordered(pair.opinion.view.student, pair.opinion.candidates).predictions
    assert changed.class_logits.flatten().tolist() == [1, 2, 3, 7, 0, 0, 0, 0]


@settings(max_examples=30)
@given(logits=st.lists(st.integers(-9, 9), min_size=8, max_size=8))
def test_without_an_opinion_the_students_order_stays(logits: list[int]) -> None:
    own = student(logits)
    pair = compared(own, teacher_boxes())
    changed = reordered(pair.opinion.view.student, pair.opinion.candidates).predictions
    assert torch.equal(changed.class_logits, own.predictions.class_logits)


def test_classes_that_the_teacher_lacks_do_not_count() -> None:
    """Two objects on the same cells of two classes, of which the teacher has one under another name."""
    classes = ClassMap(("cat", "dog"), ("hound", "cow"), {"hound": "dog"})
    both = objects([[0, 0, 16, 16], [8, 0, 24, 16]])
    targets = type(both)(both.boxes, torch.tensor([0, 1]), both.image, both.sizes)
    own = output(CELLS, [torch.zeros(1, 1, 2, 4)], torch.arange(16.0).view(1, 8, 2))
    found = TeacherBoxes(torch.tensor([[8.0, 0.0, 24.0, 16.0]]), torch.tensor([0]), torch.tensor([[0.9, 0.0]]), 0.05)
    assignment = Assignment(torch.tensor([[0, 0, 1, 1, -1, -1, -1, -1]]))
    view = OpinionCorrespondence(classes, everywhere=True)(own, Guidance(boxes=(found,)), {DENSE: assignment}, targets)
    labels: Tensor = classes.labels(targets.labels)
    known = View(view.student, view.teacher, assignment, type(both)(both.boxes, labels, both.image, both.sizes))
    sources = RankSources()
    pair = Compared(None, Ranked(known), view.targets.labels >= 0, [])
    sources.add({ALL: torch.tensor([True, True])}, torch.tensor([0, 0]), pair)
    assert sources.groups.table(["without_opinion"]) == {ALL: {"objects": 1, "without_opinion": 0.0}}
    # Of the dog's candidates, x1 16 and 24, the first overlaps it and the teacher's box.
    assert means(sources) == {"student": pytest.approx(-1), "opinion": pytest.approx(1), "grid": None}


def around(mean: float, half: float, count: int = LEAST_OBJECTS) -> Estimate:
    return Estimate(mean, mean - half, mean + half, count)


@pytest.mark.parametrize(
    ("grid_tau", "opinion_tau", "difference", "fit"),
    [
        (around(-0.03, 0.02), around(0.22, 0.02), around(0.25, 0.03), "opinion"),
        (around(0.4, 0.02), around(0.22, 0.02), around(-0.18, 0.03), "grid"),
        (around(0.2, 0.1), around(0.22, 0.1), around(0.02, 0.03), "either"),
        (around(0.2, 0.01), around(0.22, 0.01), around(0.02, 0.01), "either"),  # certain, but too small to matter
        (around(0.0, 0.1), around(0.2, 0.1), around(0.2, 0.21), "either"),  # large, but not certain
        (around(-0.03, 0.04), around(0.03, 0.04), around(0.06, 0.01), "neither"),
        (around(-0.3, 0.1), around(-0.2, 0.1), around(0.1, 0.05), "neither"),
        (around(0.1, 0.2), around(0.3, 0.1), around(0.2, 0.1, LEAST_OBJECTS - 1), "unknown"),
        (around(0.1, 0.2), around(0.3, 0.1), Estimate(0.2, objects=99), "unknown"),
        (None, around(0.3, 0.1), around(0.3, 0.1), "opinion"),
        (None, around(0.3, 0.4), around(0.3, 0.4), "neither"),
        (None, Estimate(), Estimate(), "unknown"),
        (Estimate(), around(0.3, 0.1), Estimate(), "unknown"),
    ],
)
def test_which_source_fits(grid_tau: Estimate | None, opinion_tau: Estimate, difference: Estimate, fit: Fit) -> None:
    assert fitting(grid_tau, opinion_tau, difference) == fit


@given(
    taus=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    halves=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    count=st.integers(0, 100),
)
def test_a_source_that_fits_is_the_better_one_and_better_than_chance(
    taus: tuple[float, float], halves: tuple[float, float, float], count: int
) -> None:
    first, second = (around(tau, half, count) for tau, half in zip(taus, halves[:2], strict=True))
    difference = around(taus[1] - taus[0], halves[2], count)
    fit = fitting(first, second, difference)
    mirrored = fitting(second, first, around(taus[0] - taus[1], halves[2], count))
    swapped_names: dict[Fit, Fit] = {"grid": "opinion", "opinion": "grid"}
    assert mirrored == swapped_names.get(fit, fit)
    if fit == "opinion":
        assert taus[1] > taus[0]
        assert second.low is not None
        assert second.low > 0
    assert (fit == "unknown") == (count < LEAST_OBJECTS)
