from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detdistill.drawing import BLACK, COLORS, Mark, class_color, draw_boxes, text_color

GREY = np.full((100, 160, 3), 90, np.uint8)
ORANGE = class_color(0)


def pixels_of(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> set[tuple[int, int]]:
    """(x, y) of the pixels in exactly this colour."""
    rows, columns = np.nonzero((picture == color).all(axis=2))
    return set(zip(columns.tolist(), rows.tolist(), strict=True))


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
def test_the_line_runs_along_the_inside_of_the_box(scale: float) -> None:
    picture = np.asarray(draw_boxes(GREY, [Mark((20, 30, 60, 80), "", ORANGE)], scale=scale))
    assert picture.shape == (100 * scale, 160 * scale, 3)
    line = pixels_of(picture, ORANGE)
    columns, rows = [x for x, _ in line], [y for _, y in line]
    assert (min(columns), min(rows)) == (20 * scale, 30 * scale)
    assert (max(columns) + 1, max(rows) + 1) == (60 * scale, 80 * scale)
    # Two pixels wide, the middle left free.
    assert (round(40 * scale), round(55 * scale)) not in line
    # A black line around it, whatever the picture's colours.
    assert tuple(picture[int(30 * scale) - 1, int(40 * scale)]) == BLACK


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
        ((20, 50, 90, 90), "above"),
        ((20, 2, 90, 60), "below"),
        ((20, 2, 90, 98), "inside"),
        ((130, 50, 158, 90), "above"),
    ],
)
def test_a_text_stands_where_there_is_room(box: tuple[float, float, float, float], place: str) -> None:
    without = np.asarray(draw_boxes(GREY, [Mark(box, "", ORANGE)])).astype(int)
    picture = np.asarray(draw_boxes(GREY, [Mark(box, "person", ORANGE)])).astype(int)
    rows, columns = np.nonzero((without != picture).any(axis=2))
    assert columns.max() - columns.min() > 30  # the whole word, also at the right edge
    assert {
        "above": rows.max() < box[1],
        "below": rows.min() >= box[3],
        "inside": rows.min() > box[1] and rows.max() < box[3],
    }[place]


def test_texts_do_not_cover_one_another() -> None:
    one = Mark((20, 30, 60, 70), "person", class_color(0))
    same_place = Mark((22, 31, 61, 71), "person", class_color(1))
    picture = np.asarray(draw_boxes(GREY, [one, same_place]))
    both = [pixels_of(picture, class_color(label)) for label in (0, 1)]
    # The second finds its place below; both grounds are there, apart from the ink on them.
    assert all(len([y for _, y in pixels if y < 30 or y >= 72]) > 200 for pixels in both)


@given(
    boxes=st.lists(st.tuples(*[st.floats(-20, 200, width=32)] * 4), max_size=8),
    text=st.text(max_size=12),
    scale=st.floats(0.05, 3),
)
def test_any_box_and_text_can_be_drawn(boxes: list[tuple[float, float, float, float]], text: str, scale: float) -> None:
    marks = [Mark((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), text, ORANGE, True) for x1, y1, x2, y2 in boxes]
    picture = draw_boxes(GREY, marks, scale=scale)
    assert picture.size == (max(1, round(160 * scale)), max(1, round(100 * scale)))


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
