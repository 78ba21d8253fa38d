from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.report.page_layout import (
    DESK,
    GRID_GAP,
    LEAST_GRID_WIDTH,
    LEAST_TEXT,
    MARGIN,
    PANEL_GAP,
    PHONE,
    WIDEST,
    content_width,
    drawn_text_size,
    grid_width,
    panel_width,
)


def test_a_phone_shows_two_panels_in_a_row_and_a_desk_four() -> None:
    assert 2 * panel_width(PHONE) + PANEL_GAP == content_width(PHONE) == PHONE - 2 * MARGIN
    assert 4 * panel_width(DESK) + 3 * PANEL_GAP == content_width(DESK) == WIDEST


@given(st.integers(320, 4000))
def test_items_of_a_grid_fill_the_page(window: int) -> None:
    count = (content_width(window) + GRID_GAP) / (grid_width(window) + GRID_GAP)
    assert count == pytest.approx(round(count))
    assert grid_width(window) >= min(LEAST_GRID_WIDTH, content_width(window))


@given(st.integers(50, 4000), st.floats(50, 1100))
def test_text_in_an_image_is_as_large_as_needed_and_no_larger(drawn: int, displayed: float) -> None:
    size = drawn_text_size(drawn, displayed)
    assert size * displayed / drawn >= LEAST_TEXT - 1e-9
    assert (size - 1) * displayed / drawn < LEAST_TEXT
