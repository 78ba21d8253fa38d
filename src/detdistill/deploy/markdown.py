"""Names and texts of strangers in a Markdown file: shown as they are, never read as HTML, a table or a link."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

import yaml

from detdistill.core.texts import LONGEST_LINE, name_of, one_line, printable

# What begins or ends something anywhere in a line; an underscore does so at the edge of a word only.
_SPECIAL = re.compile(r"([\\`*\[\]!|~$^#]|(?<!\w)_|_(?!\w))")
_ADDRESS = re.compile(r"(?i)(://|\bmailto:|\bwww\.|@)")


class Markdown(str):
    """A text that is Markdown already."""

    __slots__ = ()


def plain(text: object, longest: int = LONGEST_LINE) -> Markdown:
    """Return a text in one line in which nothing is Markdown, HTML or an address.

    Args:
        text: Any text.
        longest: Characters from which on it is shortened.
    """
    line = escape(one_line(text, longest), quote=False)
    return Markdown(_ADDRESS.sub(_as_numbers, _SPECIAL.sub(r"\\\1", line)))


def _as_numbers(match: re.Match[str]) -> str:
    """Characters that look the same and make no link."""
    return "".join(letter if letter.isalnum() else f"&#{ord(letter)};" for letter in match[0])


def plain_name(name: object) -> Markdown:
    """Return a name as `plain` does, of at most 80 characters."""
    return plain(name_of(name))


def code(text: object) -> Markdown:
    """Return a text as inline code, whatever back-ticks it holds; also for a cell of a table."""
    line = one_line(text).replace("|", "\N{BROKEN BAR}")
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    space = " " if line[:1] == "`" or line[-1:] == "`" or not line else ""
    return Markdown(f"{fence}{space}{line}{space}{fence}")


def finalized(value: object) -> object:
    """Return what a template puts into a Markdown file: a text is plain unless it is `Markdown`."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markdown) else value


def front_matter(values: Mapping[str, Any]) -> Markdown:
    """Return the YAML header of a Markdown file, a value a key whatever is in it."""
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=10**9)
    return Markdown(f"---\n{printable(text)}---")
