"""Numbers as people read them."""

from __future__ import annotations


def points(value: float | None) -> str:
    """A score of 0 to 1 as people read it, 0 to 100; a dash where it is undefined."""
    return "–" if value is None else f"{100 * value:.1f}"
