from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detdistill.report.tag_layout import Rect, TagLayout, group_by_place, positions, reads_as_tag_of

CANVAS = 400, 300
REACH = 4


def layout(*boxes: Rect, colors: list[int] | None = None) -> TagLayout:
    """Boxes that are no two of one place."""
    return TagLayout(
        CANVAS, np.array(boxes), np.array(colors or [0] * len(boxes)), np.eye(len(boxes)), reach=REACH, gap=1
    )


def test_a_tag_stands_on_the_upper_edge_at_the_left_end() -> None:
    assert layout((100, 100, 200, 200)).place(0, (60, 16)) == (100, 84, 160, 100)


def test_at_the_right_border_of_the_canvas_it_ends_where_its_box_ends() -> None:
    assert layout((370, 100, 390, 200)).place(0, (60, 16)) == (330, 84, 390, 100)


def test_at_the_upper_border_it_stands_inside() -> None:
    assert layout((100, 5, 200, 200)).place(0, (60, 16)) == (100, 5, 160, 21)


def test_of_a_box_that_begins_outside_it_stands_on_the_visible_part() -> None:
    assert layout((-50, -50, 200, 200)).place(0, (60, 16)) == (0, 0, 60, 16)
    assert layout((-50, 10, -5, 100)).place(0, (60, 16)) is None


def test_a_small_box_at_the_upper_border_gets_no_tag_rather_than_one_below() -> None:
    assert layout((100, 0, 120, 12)).place(0, (60, 16)) is None


def test_it_keeps_off_the_edge_of_a_neighbour_whose_tag_it_would_seem_to_be() -> None:
    """Two boxes side by side, their upper edges in line: a wide tag of the first must not reach over the second."""
    assert layout((100, 100, 130, 200), (135, 100, 200, 200)).place(0, (60, 16)) == (70, 84, 130, 100)


def test_it_does_not_stand_inside_the_lower_end_of_the_box_above() -> None:
    """One box below another: on the lower box's upper edge the tag would lie within the upper box."""
    assert layout((100, 104, 200, 200), (100, 20, 200, 106)).place(0, (60, 16)) == (100, 104, 160, 120)


def test_where_all_places_touch_edges_it_may_lie_on_one_of_another_colour() -> None:
    boxes = (100, 100, 200, 200), (90, 101, 210, 199)
    assert layout(*boxes, colors=[0, 0]).place(0, (60, 16)) is None
    assert layout(*boxes, colors=[0, 1]).place(0, (60, 16)) == (100, 84, 160, 100)


def test_the_part_beyond_its_box_keeps_off_edges_of_every_colour() -> None:
    boxes = (100, 100, 120, 140), (125, 100, 200, 140), (30, 100, 95, 140)
    assert layout(*boxes, colors=[0, 1, 2]).place(0, (60, 16)) is None


def test_boxes_of_one_place_are_no_rivals() -> None:
    two = layout((100, 100, 200, 200), (101, 101, 200, 200))
    two.iou = np.ones((2, 2))
    first, second = two.place(0, (40, 16)), two.place(1, (40, 16))
    assert first == (100, 84, 140, 100)
    assert second == (160, 85, 200, 101)


def test_the_part_beyond_its_box_does_not_run_across_another_box() -> None:
    assert layout((100, 100, 120, 140), (120, 20, 170, 200)).place(0, (60, 16)) == (60, 84, 120, 100)
    assert layout((100, 100, 120, 140), (50, 20, 350, 200)).place(0, (60, 16)) == (100, 84, 160, 100)


@pytest.mark.parametrize(("top", "left"), [(92, 70), (100, 70), (107, 70), (109, 100)])
def test_the_part_beyond_its_box_keeps_off_boxes_just_below(top: int, left: int) -> None:
    assert layout((100, 100, 130, 200), (135, top, 200, 200)).place(0, (60, 16)) == (left, 84, left + 60, 100)


def test_a_tag_does_not_hide_small_objects() -> None:
    assert layout((100, 100, 120, 200), (130, 86, 140, 96)).place(0, (60, 16)) == (60, 84, 120, 100)


def test_a_larger_tag_takes_the_place_of_a_smaller_one_or_leaves_it() -> None:
    one = layout((100, 100, 200, 200))
    before = one.place(0, (60, 16))
    assert one.place(0, (60, 32), instead_of=before) == (100, 68, 160, 100)
    kept = list(one.taken)
    assert len(kept) == 1
    assert one.place(0, (1000, 32), instead_of=kept[0]) is None
    assert one.taken == kept


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ((110, 84, 150, 100), True),  # on the upper edge
        ((110, 80, 150, 97), True),  # just above it
        ((110, 70, 150, 86), False),  # well above it
        ((60, 84, 103, 100), False),  # beside it
        ((110, 101, 150, 117), True),  # inside at the upper edge
        ((110, 140, 150, 156), False),  # in the middle
        ((110, 182, 150, 198), True),  # inside at the lower edge
        ((110, 201, 150, 217), False),  # below
        ((110, 192, 150, 208), True),  # across the lower edge
    ],
)
def test_what_reads_as_the_tag_of_a_box(tag: Rect, expected: bool) -> None:
    assert reads_as_tag_of(tag, np.array([[100, 100, 200, 200]]), REACH).tolist() == [expected]


rects = st.tuples(st.integers(-40, 380), st.integers(-40, 280), st.integers(1, 200), st.integers(1, 200)).map(
    lambda one: (one[0], one[1], one[0] + one[2], one[1] + one[3])
)


@settings(max_examples=60)
@given(boxes=st.lists(rects, min_size=1, max_size=12), width=st.integers(5, 120), colors=st.integers(1, 3))
def test_tags_lie_in_the_canvas_touch_their_boxes_and_overlap_no_other(
    boxes: list[Rect], width: int, colors: int
) -> None:
    size = width, 16
    one = layout(*boxes, colors=[index % colors for index in range(len(boxes))])
    tags = [one.place(index, size) for index in range(len(boxes))]
    for box, tag in zip(boxes, tags, strict=True):
        if tag is None:
            continue
        assert tag[0] >= 0
        assert tag[1] >= 0
        assert tag[2] <= CANVAS[0]
        assert tag[3] <= CANVAS[1]
        assert (tag[2] - tag[0], tag[3] - tag[1]) == size
        top = max(box[1], 0)
        assert tag[3] == top or (tag[1] >= top and tag[3] <= box[3]), "on the upper edge or inside"
        assert tag[0] == max(box[0], 0) or tag[2] == min(box[2], CANVAS[0]), "at one of its ends"
    placed = [tag for tag in tags if tag is not None]
    for index, tag in enumerate(placed):
        for other in placed[:index]:
            apart = tag[0] >= other[2] or other[0] >= tag[2] or tag[1] >= other[3] or other[1] >= tag[3]
            assert apart


def test_inside_a_tag_fits_into_its_box_and_covers_half_of_it_at_most() -> None:
    assert len(positions((0, 0, 60, 60), (50, 20))) == 6
    assert len(positions((0, 0, 49, 60), (50, 20))) == 2
    assert len(positions((0, 0, 60, 30), (50, 20))) == 2


def iou_of(count: int, pairs: dict[tuple[int, int], float]) -> NDArray[np.float64]:
    iou = np.eye(count)
    for (one, other), value in pairs.items():
        iou[one, other] = iou[other, one] = value
    return iou


def test_places_form_around_the_best_box() -> None:
    """The third overlaps the second, but not the best of that place."""
    iou = iou_of(4, {(0, 1): 0.8, (1, 2): 0.9, (0, 3): 0.7, (0, 2): 0.6})
    assert group_by_place(iou, [True] * 4) == [[0, 1, 3], [2]]


def test_boxes_that_may_not_join_stand_alone() -> None:
    assert group_by_place(np.ones((3, 3)), [True, False, True]) == [[0, 2], [1]]


@settings(max_examples=50)
@given(
    st.integers(0, 6).flatmap(
        lambda n: st.tuples(
            st.lists(st.lists(st.floats(0, 1), min_size=n, max_size=n), min_size=n, max_size=n),
            st.lists(st.booleans(), min_size=n, max_size=n),
        )
    )
)
def test_each_box_has_one_place_and_the_best_is_first(drawn: tuple[list[list[float]], list[bool]]) -> None:
    values, joins = drawn
    groups = group_by_place(np.array(values).reshape(len(joins), len(joins)), joins)
    assert sorted(index for group in groups for index in group) == list(range(len(joins)))
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
    assert all(group == sorted(group) for group in groups)
