"""Sizes of a page in CSS pixels, shared by its template and by those who draw for it."""

from __future__ import annotations

DESK, PHONE = 1280, 390
"""Widths of the windows that pages are laid out for."""
NARROW = 600
"""Width of a window up to which the layout for phones is used."""
WIDEST = 1100
"""Width of a page without its margins, at most."""
MARGIN = 16
"""At the left and the right of a page."""
LEAST_TEXT = 12
"""Size of text in charts and images as displayed, at least."""
CHART_WIDEST = 800
"""Width of a chart that stands alone, at most."""
PANEL_GAP = 10
"""Between neighbours in a row of panels."""
PANELS_ON_DESK, PANELS_ON_PHONE = 4, 2
"""Panels in a row. Both are even, so that pairs stay together."""
FIRST_COLUMN = 0.38
"""Width of a table's first column on a phone, relative to the window, at most; longer texts are wrapped."""
GRID_GAP, LEAST_GRID_WIDTH = 24, 310
"""Between neighbours in a grid, and the width from which on it has another column."""


def content_width(window: int) -> int:
    """Return the width of what a page shows in a window of this width."""
    return min(window - 2 * MARGIN, WIDEST)


def panel_width(window: int) -> float:
    """Return the width of one panel in a window of this width."""
    count = PANELS_ON_PHONE if window <= NARROW else PANELS_ON_DESK
    return (content_width(window) - (count - 1) * PANEL_GAP) / count


def grid_width(window: int) -> float:
    """Return the width of one item of a grid in a window of this width."""
    content = content_width(window)
    count = max(1, (content + GRID_GAP) // (LEAST_GRID_WIDTH + GRID_GAP))
    return (content - (count - 1) * GRID_GAP) / count


def drawn_text_size(drawn_width: int, displayed_width: float) -> int:
    """Return the text size to draw with, in pixels of an image, so that the text is readable as displayed.

    Args:
        drawn_width: width of the image in pixels.
        displayed_width: width at which the page shows it.
    """
    return -int(-LEAST_TEXT * drawn_width // displayed_width)
