"""Numbers as people read them."""

from __future__ import annotations


def points(value: float | None) -> str:
    """A score of 0 to 1 as people read it, 0 to 100; a dash where it is undefined."""
    return "–" if value is None else f"{100 * value:.1f}"


def clock(seconds: float) -> str:
    """A duration as hours, minutes and seconds: `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def shortened(text: str, length: int) -> str:
    """A text of at most `length` characters: a longer one loses its middle, for names often differ at their end."""
    if len(text) <= length:
        return text
    start = (length - 1) // 2
    return f"{text[:start]}…{text[start + 1 - length :]}"
