from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detdistill.core.instance_masks import InstanceMasks
from detdistill.core.structures import Detections
from detdistill.report.drawing import BLACK, COLORS, READABLE, class_color, draw_boxes, draw_detections, text_color
from detdistill.report.marks import Mark

GREY = np.full((100, 160, 3), 90, np.uint8)
ORANGE = class_color(0)


def pixels_of(drawing: NDArray[np.uint8], color: tuple[int, int, int]) -> set[tuple[int, int]]:
    """(x, y) of the pixels in exactly this colour."""
    rows, columns = np.nonzero((drawing == color).all(axis=2))
    return set(zip(columns.tolist(), rows.tolist(), strict=True))


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
def test_the_line_runs_along_the_inside_of_the_box(scale: float) -> None:
    drawing = np.asarray(draw_boxes(GREY, [Mark((20, 30, 60, 80), "", ORANGE)], scale=scale))
    assert drawing.shape == (100 * scale, 160 * scale, 3)
    line = pixels_of(drawing, ORANGE)
    columns, rows = [x for x, _ in line], [y for _, y in line]
    assert (min(columns), min(rows)) == (20 * scale, 30 * scale)
    assert (max(columns) + 1, max(rows) + 1) == (60 * scale, 80 * scale)
    # Two pixels wide, the middle left free.
    assert (round(40 * scale), round(55 * scale)) not in line
    # A black line around it, whatever the drawing's colours.
    assert tuple(drawing[int(30 * scale) - 1, int(40 * scale)]) == BLACK


@pytest.mark.parametrize("scale", [1.0, 3.0, 0.5])
def test_a_mask_shines_through_where_the_object_is(scale: float) -> None:
    crop = np.zeros((20, 10), np.uint8)
    crop[4:16, 2:8] = 1
    mark = Mark((20, 30, 60, 80), "", ORANGE, mask=(crop, (36, 44, 46, 64)))
    drawing = np.asarray(draw_boxes(GREY, [mark], scale=scale)).astype(int)
    covered = (drawing != 90).any(axis=2)
    inside = covered[round(34 * scale) : round(76 * scale), round(24 * scale) : round(56 * scale)]
    assert inside.sum() == 12 * 6 * scale**2
    assert covered[round(50 * scale), round(40 * scale)]
    shown = drawing[round(50 * scale), round(40 * scale)]
    # Between the image and the colour.
    assert ((np.minimum(ORANGE, 90) <= shown) & (shown <= np.maximum(ORANGE, 90))).all()
    assert tuple(shown) != ORANGE


def test_detections_are_drawn_with_their_masks() -> None:
    bitmaps = torch.zeros(2, 640, 640, dtype=torch.uint8)
    bitmaps[0, 120:140, 120:140] = 1
    found = Detections(
        torch.tensor([[100.0, 100, 160, 160], [300, 300, 500, 500]]),
        torch.tensor([0.9, 0.8]),
        torch.tensor([0, 1]),
        masks=InstanceMasks.of_bitmaps(bitmaps),
    )
    image = np.full((640, 640, 3), 90, np.uint8)
    drawn, plain = (
        np.asarray(draw_detections(image, each, ("cat", "dog"))) for each in (found, replace(found, masks=None))
    )
    changed = (drawn != plain).any(axis=2)
    assert changed[120:140, 120:140].all()
    assert changed.sum() == 400


def test_the_image_itself_is_not_drawn_on() -> None:
    image = GREY.copy()
    draw_boxes(image, [Mark((20, 30, 60, 80), "cat", ORANGE)])
    assert np.array_equal(image, GREY)


def test_a_dashed_box_shows_less_of_its_colour() -> None:
    whole, dashed = (
        len(pixels_of(np.asarray(draw_boxes(GREY, [Mark((20, 30, 60, 80), "", ORANGE, dashed)])), ORANGE))
        for dashed in (False, True)
    )
    assert 0.3 * whole < dashed < 0.8 * whole


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((20, 50, 90, 90), "on it"),
        ((20, 2, 90, 60), "inside"),
        ((130, 50, 158, 90), "on it"),
    ],
)
def test_a_tag_stands_on_its_box_or_inside(box: tuple[float, float, float, float], place: str) -> None:
    without = np.asarray(draw_boxes(GREY, [Mark(box, "", ORANGE)])).astype(int)
    drawing = np.asarray(draw_boxes(GREY, [Mark(box, "person", ORANGE)])).astype(int)
    rows, columns = np.nonzero((without != drawing).any(axis=2))
    assert columns.max() - columns.min() > 30  # the whole word, also at the right edge
    # One row more is the black line around the tag.
    assert {
        "on it": rows.max() <= box[1],
        "inside": rows.min() > box[1] - 2 and rows.max() < box[3],
    }[place]


def test_no_line_parts_a_tag_from_its_box() -> None:
    drawing = np.asarray(draw_boxes(GREY, [Mark((20, 50, 90, 90), "i", ORANGE)]))
    assert (drawing[36:52, 21] == ORANGE).all()


def test_the_best_box_and_tag_hide_worse_ones() -> None:
    blue = class_color(1)
    worse = Mark((20, 50, 100, 90), "dog", blue, score=0.4)
    better = Mark((40, 50, 120, 90), "cat", ORANGE, score=0.6)
    for marks in ([worse, better], [better, worse]):
        drawing = np.asarray(draw_boxes(GREY, marks))
        # Both lines run along here.
        assert (drawing[50:52, 75:100] == ORANGE).all()
        tag = drawing[34:50, 70:]
        assert pixels_of(tag, ORANGE)
        assert not pixels_of(tag, blue)


def test_of_boxes_on_one_another_only_the_best_is_drawn() -> None:
    blue = class_color(1)
    marks = [Mark((21, 51, 91, 91), "dog", blue, score=0.4), Mark((20, 50, 90, 90), "cat", ORANGE, score=0.6)]
    for order in (marks, marks[::-1]):
        drawing = np.asarray(draw_boxes(GREY, order))
        assert pixels_of(drawing, ORANGE)
        assert not pixels_of(drawing, blue)


def test_small_images_are_enlarged_and_lines_and_letters_grow_with_large_ones() -> None:
    found = Detections(torch.tensor([[0.2, 0.3, 0.8, 0.9]]), torch.tensor([0.7]), torch.tensor([0]))
    inked = []
    for side in (64, 640, 2560):
        image = np.full((side, side, 3), 90, np.uint8)
        drawing = draw_detections(image, Detections(found.boxes * side, found.scores, found.labels), ("cat",))
        assert drawing.size == (max(READABLE, side),) * 2
        shown = np.asarray(drawing.resize((READABLE, READABLE), 0))
        inked.append(len(pixels_of(shown, ORANGE)))
    assert inked[0] == inked[1]
    assert inked[2] == pytest.approx(inked[1], rel=0.35)


@settings(max_examples=40)
@given(
    boxes=st.lists(st.tuples(*[st.floats(-20, 200, width=32)] * 4), max_size=8),
    text=st.text(max_size=12),
    scale=st.floats(0.05, 3),
)
def test_any_box_and_text_can_be_drawn(boxes: list[tuple[float, float, float, float]], text: str, scale: float) -> None:
    marks = [Mark((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), text, ORANGE, True) for x1, y1, x2, y2 in boxes]
    drawing = draw_boxes(GREY, marks, scale=scale)
    assert drawing.size == (max(1, round(160 * scale)), max(1, round(100 * scale)))


@pytest.mark.parametrize("color", COLORS)
def test_texts_are_readable_on_every_colour(color: tuple[int, int, int]) -> None:
    def luminance(rgb: tuple[int, int, int]) -> float:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    dark, light = sorted((luminance(color), luminance(text_color(color))))
    assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG 2, level AA


def test_colours_come_round_again() -> None:
    assert class_color(len(COLORS)) == class_color(0)
    assert len(set(COLORS)) == len(COLORS)
