"""Text files in every encoding that can be known, and an error for the others."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import DataError
from detdistill.data.text_files import decoded, first_lines, read_text

MARKED = {
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(sorted(MARKED)))
def test_a_byte_order_mark_decides_and_is_removed(text: str, encoding: str) -> None:
    if encoding == "utf-16-le" and text.startswith("\0"):
        return  # the same bytes as UTF-32's mark
    assert decoded(MARKED[encoding] + text.encode(encoding)) == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff\0")))
def test_without_a_mark_the_text_is_utf_8(text: str) -> None:
    assert decoded(text.encode()) == text


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("图像一.jpg", "gbk"),
        ("影像.jpg", "big5"),
        ("画像ア.jpg", "shift_jis"),
        ("снимок.jpg", "cp1251"),
        ("Zähne.jpg", "latin-1"),
    ],
)
def test_names_that_are_there_decide(name: str, encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(f"{name}\n".encode(encoding))
    assert read_text(file, lambda text: text.strip() == name) == f"{name}\n"


@pytest.mark.parametrize("is_right", [None, lambda _: False, lambda _: True])
def test_an_encoding_that_nothing_decides_is_an_error(is_right: object, tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes("红细胞\n".encode("gbk"))
    with pytest.raises(DataError, match=r"classes\.txt: .*UTF-8.*iconv"):
        read_text(file, is_right)  # type: ignore[arg-type]


def test_utf_16_without_a_mark_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes("dog\n".encode("utf-16-le"))
    with pytest.raises(DataError, match="UTF-16 without"):
        read_text(file)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt"):
        read_text(tmp_path / "none.txt")
    assert first_lines(tmp_path / "none.txt") == []


def test_first_lines_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text("0123456789\n" * 10_000)
    assert set(first_lines(file)) == {"0123456789"}
    assert 5000 < len(first_lines(file)) < 10_000
    file.write_bytes(b"\xef\xbb\xbfa\nb\xff")
    assert first_lines(file) == ["a", "b\ufffd"]
