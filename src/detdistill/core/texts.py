"""Texts as people read them: numbers, and what comes from files without anything that a terminal acts on."""

from __future__ import annotations

import re

LONGEST_NAME = 80
"""Characters of a name in a table, a drawing or a list. COCO's longest class name has 14, file names seldom over 60."""
LONGEST_LINE = 1_000
"""Characters of a line of a message."""
MOST_LINES = 100
"""Lines of a message."""

# Control characters but tab and line feed, line and paragraph separators, half characters, and characters without a
# shape. Not the two joiners, the variation selectors and the number signs, which belong to writing systems and emoji.
_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)
_BREAKS = re.compile("[\t\n]")
_HALF = re.compile("[\ud800-\udfff]")


def points(value: float | None) -> str:
    """A score of 0 to 1 as people read it, 0 to 100; a dash where it is undefined."""
    return "–" if value is None else f"{100 * value:.1f}"


def clock(seconds: float) -> str:
    """A duration as hours, minutes and seconds: `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def printable(text: str) -> str:
    r"""Return a text with everything escaped that a terminal acts on or that changes the order of letters.

    Letters of all writing systems, tabs and line feeds stay; others become `\x1b`, `\u202e` and so on.
    """
    return _ACTIVE.sub(_escaped, text)


def has_half_character(text: str) -> bool:
    """Return whether a text holds a surrogate: JSON and YAML can write halves of a character, and UTF-8 cannot."""
    return not text.isascii() and _HALF.search(text) is not None


def one_line(text: object, longest: int = LONGEST_LINE) -> str:
    r"""Return a text in one printable line: a line feed becomes `\n`.

    Args:
        text: Any text, for example a name from a file.
        longest: Characters from which on it is shortened.
    """
    return shortened(printable(_BREAKS.sub(_escaped, shortened(str(text), longest))), longest)


def name_of(text: object) -> str:
    """Return a name from a file for a table, a drawing or a list: one printable line of at most 80 characters."""
    return one_line(text, LONGEST_NAME)


def message(text: str) -> str:
    """Return a printable message of at most 100 lines of 1,000 characters."""
    lines = text.split("\n", MOST_LINES)
    kept = [printable(shortened(line, LONGEST_LINE)) for line in lines[:MOST_LINES]]
    if len(lines) > MOST_LINES:
        more = lines[MOST_LINES].count("\n") + 1
        kept.append(f"… and {more:,} more lines")
    return "\n".join(kept)


def shortened(text: str, length: int) -> str:
    """A text of at most `length` characters: a longer one loses its middle, for names often differ at their end."""
    if len(text) <= length:
        return text
    start = (length - 1) // 2
    return f"{text[:start]}…{text[start + 1 - length :]}"


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
