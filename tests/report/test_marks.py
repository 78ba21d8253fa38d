from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.report.marks import Box, Mark, Plan, Style, plan_drawing

CANVAS = 640, 480
STYLE = Style.of(CANVAS)
RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
CARD = (100.0, 100.0, 300.0, 400.0)


def plan(marks: list[Mark], per_place: int = 2, scale: float = 1) -> Plan:
    return plan_drawing(marks, scale, CANVAS, STYLE, per_place)


def shifted(box: Box, by: float) -> Box:
    return box[0] + by, box[1] + by, box[2] + by, box[3] + by


def found(*scores: float, box: Box = CARD) -> list[Mark]:
    """Detections on one another, all of other classes."""
    return [Mark(shifted(box, index), f"class{index}", RED, score=score) for index, score in enumerate(scores)]


def test_one_place_shows_its_best_box_and_names_the_next() -> None:
    one = plan(found(0.3, 0.71, 0.2, 0.5))
    assert [mark.score for mark, _ in one.outlines] == [0.71]
    (tag,) = one.tags
    assert tag.lines == ("class1 0.71", "class3 0.50 +2")
    assert tag.rest == 2
    assert tag.box == (101, 101, 301, 401)


@pytest.mark.parametrize(("per_place", "lines", "rest"), [(1, 1, 3), (2, 2, 2), (3, 3, 1), (4, 4, 0), (9, 4, 0)])
def test_at_most_so_many_are_named(per_place: int, lines: int, rest: int) -> None:
    (tag,) = plan(found(0.3, 0.71, 0.2, 0.5), per_place).tags
    assert (len(tag.lines), tag.rest) == (lines, rest)
    assert tag.lines[-1].endswith(f"+{rest}") == bool(rest)


def test_beside_a_small_box_only_the_best_is_named() -> None:
    (tag,) = plan(found(0.3, 0.71, box=(100, 100, 130, 140))).tags
    assert tag.lines == ("class1 0.71 +1",)


def test_ground_truth_is_all_shown_though_boxes_lie_on_one_another() -> None:
    marks = [Mark(CARD, "ace", RED), Mark(shifted(CARD, 1), "king", BLUE), Mark(CARD, "", GREEN)]
    one = plan(marks)
    assert {mark.color for mark, _ in one.outlines} == {RED, BLUE, GREEN}
    assert {tag.lines for tag in one.tags} == {("ace",), ("king",)}


def test_better_scores_lie_on_top() -> None:
    marks = [
        Mark((10, 10, 500, 400), "large", RED, score=0.9),
        Mark((20, 100, 60, 140), "small", RED, score=0.2),
        Mark((200, 200, 300, 300), "middle", RED, score=0.5),
    ]
    assert [mark.text for mark, _ in plan(marks).outlines] == ["small", "middle", "large"]


def test_small_boxes_of_ground_truth_lie_on_large_ones_and_all_lie_on_detections() -> None:
    marks = [
        Mark((20, 100, 60, 140), "small", RED),
        Mark((10, 10, 500, 400), "large", RED),
        Mark((200, 200, 300, 300), "found", RED, score=1.0),
    ]
    assert [mark.text for mark, _ in plan(marks).outlines] == ["found", "large", "small"]


@pytest.mark.parametrize(("scores", "named"), [((0.9, 0.1), "with_mask 0.90"), ((0.1, 0.9), "with_mask 0.90")])
def test_where_two_tags_have_room_for_one_the_best_gets_it(scores: tuple[float, float], named: str) -> None:
    """At the left border, where a tag has one place only."""
    boxes = (0.0, 100.0, 30.0, 140.0), (35.0, 110.0, 60.0, 140.0)
    for box, score in zip(boxes, scores, strict=True):
        assert len(plan([Mark(box, "with_mask", RED, score=score)]).tags) == 1, "alone it has room"
    both = plan([Mark(box, "with_mask", RED, score=score) for box, score in zip(boxes, scores, strict=True)])
    assert [tag.lines for tag in both.tags] == [(named,)]
    assert len(both.outlines) == 2


boxes = st.tuples(st.floats(0, 600), st.floats(0, 440), st.floats(1, 300), st.floats(1, 300)).map(
    lambda one: (one[0], one[1], one[0] + one[2], one[1] + one[3])
)


@settings(max_examples=40)
@given(
    seeds=st.lists(st.tuples(boxes, st.integers(1, 4)), min_size=1, max_size=8),
    scores=st.lists(st.floats(0, 1), min_size=32, max_size=32),
    per_place=st.integers(1, 3),
)
def test_each_place_gives_one_box_and_counts_the_rest(
    seeds: list[tuple[Box, int]], scores: list[float], per_place: int
) -> None:
    marks = [
        Mark(shifted(box, copy / 8), "name", RED, score=scores[4 * number + copy])
        for number, (box, copies) in enumerate(seeds)
        for copy in range(copies)
    ]
    one = plan(marks, per_place)
    assert len(one.outlines) <= len(marks)
    assert [mark.score for mark, _ in one.outlines] == sorted(mark.score or 0 for mark, _ in one.outlines)
    outlines = [box for _, box in one.outlines]
    # The second of a place never takes the room of another place's best.
    assert [tag.box for tag in one.tags] == [tag.box for tag in plan(marks, per_place=1).tags]
    for tag in one.tags:
        assert tag.box in outlines
        assert 1 <= len(tag.lines) <= per_place
        counted = re.search(r" \+(\d+)$", tag.lines[-1])
        assert tag.rest == (int(counted[1]) if counted else 0)
    if len(one.tags) == len(one.outlines):
        assert sum(len(tag.lines) + tag.rest for tag in one.tags) == len(marks)


def test_a_long_name_is_shortened_and_keeps_its_score() -> None:
    marks = [Mark(CARD, "extremely long name of a class " * 100_000, RED, score=0.5)]
    (tag,) = plan([*marks, *found(0.4, 0.3)], per_place=1).tags
    assert tag.lines[0].startswith("extremely long name")
    assert tag.lines[0].endswith("… 0.50 +2")
    assert tag.rect[2] - tag.rect[0] <= CANVAS[0] / 2


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "中文", "a\nb", "x" * 500, "\u202eabc", "🂡 ace"])
def test_any_text_gets_a_tag(text: str) -> None:
    assert len(plan([Mark(CARD, text, RED)]).tags) == 1


@pytest.mark.parametrize("box", [(float("nan"), 0, 5, 5), (0, 0, float("inf"), 5)])
def test_a_box_that_is_not_finite_is_left_out(box: Box) -> None:
    assert plan([Mark(box, "ace", RED)]) == Plan((), ())


def test_a_mark_without_text_has_no_tag_and_one_with_a_score_has() -> None:
    assert plan([Mark(CARD, " ", RED)]).tags == ()
    assert plan([Mark(CARD, "", RED, score=0.25)]).tags[0].lines == ("0.25",)


def test_boxes_are_scaled_to_whole_pixels() -> None:
    assert plan([Mark((10, 20, 30, 40), "", RED), Mark((50, 50, 50.1, 50.1), "", RED)], scale=0.5).outlines == (
        (Mark((10, 20, 30, 40), "", RED), (5, 10, 15, 20)),
        (Mark((50, 50, 50.1, 50.1), "", RED), (25, 25, 26, 26)),
    )


@given(st.integers(1, 6000), st.integers(1, 6000))
def test_sizes_grow_with_the_drawing(width: int, height: int) -> None:
    style, twice = Style.of((width, height)), Style.of((2 * width, 2 * height))
    assert twice.row >= style.row
    assert twice.line >= style.line
    assert style.row >= 12
    assert style.line >= 2
    if min(width, height) > 1000:
        assert twice.row == pytest.approx(2 * style.row, abs=3)
        assert twice.line == pytest.approx(2 * style.line, abs=1)


def test_a_drawing_of_4000_pixels_can_be_read_at_1000() -> None:
    assert Style.of((4000, 3000)).row / 4 >= STYLE.row


def test_lines_of_small_boxes_are_thin() -> None:
    style = Style.of((4000, 3000))
    assert style.line_of((0, 0, 1000, 1000)) == style.line > 5
    assert style.line_of((0, 0, 20, 1000)) == 2
    assert style.line_of((0, 0, 1, 1)) == 1
