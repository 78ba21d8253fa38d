from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.texts import (
    LONGEST_LINE,
    LONGEST_NAME,
    MOST_LINES,
    message,
    name_of,
    one_line,
    points,
    printable,
    shortened,
)

ALL = "".join(map(chr, range(sys.maxunicode + 1)))
BIDI = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def is_active(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(letter) in BIDI


def test_nothing_that_a_terminal_acts_on_is_left() -> None:
    active = {letter for letter in ALL if is_active(letter)}
    assert active & set(printable(ALL)) == {"\t", "\n"}
    assert not active & set(one_line(ALL, 10 * len(ALL)))


def test_letters_of_all_writing_systems_stay() -> None:
    letters = "".join(letter for letter in ALL if unicodedata.category(letter)[0] in "LMNPS" or letter == " ")
    assert printable(letters) == letters
    words = "Zürich, Ελλάδα, кошка, 猫, 고양이, קוטל, قطة, می‌خواهم, बिल्ली, 👩‍🚀, ❤️"
    assert one_line(words) == printable(words) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb", "a\\u202eb"),
        ("\udc80", "\\udc80"),
        ("a\nerror: b", "a\\nerror: b"),
        ("\x9b2J\0", "\\x9b2J\\x00"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_escapes_are_those_of_python(text: str, shown: str) -> None:
    assert one_line(text) == shown


@given(st.text(st.characters(codec=None), max_size=300), st.integers(4, 200))
def test_a_line_is_printable_and_bounded(text: str, longest: int) -> None:
    line = one_line(text, longest)
    assert len(line) <= longest
    assert not any(map(is_active, line))
    assert one_line(line, longest) == line


@given(st.text(max_size=60), st.integers(4, 60))
def test_a_text_that_fits_is_not_shortened(text: str, longest: int) -> None:
    short = shortened(text, longest)
    assert short == text if len(text) <= longest else len(short) == longest


def test_a_message_is_bounded() -> None:
    text = message("\n".join(["x" * 10 * LONGEST_LINE] * 10 * MOST_LINES))
    assert text.count("\n") == MOST_LINES
    assert text.endswith("… and 900 more lines")
    assert max(map(len, text.split("\n"))) == LONGEST_LINE
    assert message("a\nb") == "a\nb"


def test_a_name_keeps_its_start_and_its_end() -> None:
    name = name_of("start" + 300_000 * "x" + "end")
    assert len(name) == LONGEST_NAME
    assert name.startswith("start")
    assert name.endswith("end")


def test_points() -> None:
    assert points(0.1234) == "12.3"
    assert points(None) == "–"
