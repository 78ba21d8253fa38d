"""Pages that people read: one HTML file with everything in it, light or dark as the reader's system, phone or desk."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import ClassVar, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from detdistill.core.files import write_atomically
from detdistill.report import page_layout
from detdistill.report.charts import PHONE_TEXT, TEXT, Chart, Dots

INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, changes of the writing direction, and surrogates, which UTF-8 cannot hold."""

Hint = Literal["always", "phone"]
LETTER, PHONE_LETTER = 10.0, 8.2
"""Width of a letter in a table, in pixels, on a desk and on a phone; rather too large than too small."""
PADDING, PHONE_PADDING = 20, 10
"""Of a table's cell, left and right together, in pixels."""


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: plain; nothing in it is read as HTML.
    """

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences.

    Attributes:
        items: plain texts, in their order.
    """

    kind: ClassVar[str] = "bullets"
    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Commands or a file, as they are typed.

    Attributes:
        text: with its line breaks.
        folded: heading under which it is hidden until it is opened; empty shows it.
    """

    kind: ClassVar[str] = "code"
    text: str
    folded: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of texts; the first column is aligned to the left, the others to the right.

    A table that is wider than the page scrolls in a box of its own, with a hint above it; the first column stays.

    Attributes:
        columns: the headings.
        rows: one text per column.
        caption: stands below.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    @property
    def hint(self) -> Hint | None:
        """Where the columns may not fit side by side: on any screen, only on a phone, or nowhere."""
        cells = [max(map(len, column)) for column in zip(*self.rows, strict=True)] if self.rows else []
        words = [max(map(len, name.split() or [""])) for name in self.columns]
        widest = [max(pair) for pair in zip_longest(words, cells, fillvalue=0)]
        return _hint(widest)


@dataclass(frozen=True)
class Picture:
    """A picture, which becomes part of the page; it is never wider than the page.

    Attributes:
        content: of the image file.
        description: for those who cannot see it.
        caption: stands below.
        media: format of the image file.
    """

    kind: ClassVar[str] = "picture"
    content: bytes
    description: str
    caption: str = ""
    media: Literal["png", "jpeg"] = "png"

    @property
    def source(self) -> str:
        """As a `data:` address."""
        return f"data:image/{self.media};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Facts:
    """Names and values, such as settings; long values are wrapped.

    Attributes:
        items: value by name.
    """

    kind: ClassVar[str] = "facts"
    items: Mapping[str, str]


@dataclass(frozen=True)
class Matrix:
    """Counts of pairs, shaded by their share of the row: the diagonal in one colour, the rest in another.

    Attributes:
        corner: what rows and columns are.
        columns: the headings.
        rows: the names of the rows, as many as columns.
        counts: one row per name, one number per column; zeros stay empty.
        caption: stands below.
    """

    kind: ClassVar[str] = "matrix"
    corner: str
    columns: Sequence[str]
    rows: Sequence[str]
    counts: Sequence[Sequence[int]]
    caption: str = ""

    @property
    def hint(self) -> Hint | None:
        """Where the columns may not fit side by side: on any screen, only on a phone, or nowhere."""
        return _hint([max(map(len, self.rows), default=0), *(4 for _ in self.columns)])

    @property
    def cells(self) -> list[tuple[str, list[tuple[int, int, str]]]]:
        """Name of each row, and count, percent of the row and colour of each of its cells."""
        table = []
        for place, (name, counts) in enumerate(zip(self.rows, self.counts, strict=True)):
            total = max(sum(counts), 1)
            colors = ("right" if column == place else "wrong" for column in range(len(counts)))
            shares = (round(100 * count / total) for count in counts)
            table.append((name, list(zip(counts, shares, colors, strict=True))))
        return table


@dataclass(frozen=True)
class Grid:
    """Small charts or pictures side by side, as many as the page is wide.

    Attributes:
        items: in their order.
    """

    kind: ClassVar[str] = "grid"
    items: Sequence[Chart | Picture]


@dataclass(frozen=True)
class Panels:
    """Pictures to compare with one another: four in a row on a desk, two on a phone.

    Attributes:
        heading: stands above.
        pictures: in their order; each one's caption names it.
        large_first: the first one is as wide as two.
    """

    kind: ClassVar[str] = "panels"
    heading: str
    pictures: Sequence[Picture]
    large_first: bool = False


Part = Text | Bullets | Code | Facts | Table | Matrix | Picture | Chart | Dots | Grid | Panels


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Attributes:
        heading: plain text.
        parts: from top to bottom.
    """

    heading: str
    parts: Sequence[Part]


def write_report(
    file: Path,
    *,
    title: str,
    summary: Sequence[str],
    sections: Sequence[Section],
    reload_every: int | None = None,
) -> None:
    """Write a page that needs no other file and no network.

    Args:
        file: to write, `.html`.
        title: of the page.
        summary: what the reader should know if they read nothing else, a finding each; several become a list.
        sections: from top to bottom.
        reload_every: seconds after which a browser reads the file again, for a page that is still being written; None
            for a page that is final.

    Raises:
        DetdistillError: the file cannot be written.
    """
    page = _template().render(
        title=title,
        summary=summary,
        sections=sections,
        reload_every=reload_every,
        layout=page_layout,
        text_size=TEXT,
        phone_text_size=PHONE_TEXT,
    )
    write_atomically(file, INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", page))


def _hint(letters: Sequence[int]) -> Hint | None:
    """Where columns of these numbers of letters may be wider than the page."""
    if sum(LETTER * count + PADDING for count in letters) > page_layout.content_width(page_layout.DESK):
        return "always"
    first, *others = (PHONE_LETTER * count + PHONE_PADDING for count in letters)
    on_phone = min(first, page_layout.FIRST_COLUMN * page_layout.PHONE) + sum(others)
    return "phone" if on_phone > page_layout.content_width(page_layout.PHONE) else None


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")
