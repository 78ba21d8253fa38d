"""Text files of other programs: UTF-8 or UTF-16 by their mark, other encodings only where file names decide."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

from detdistill.core.errors import DataError
from detdistill.core.files import open_regular, read_regular

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16, whose little-endian mark UTF-32's begins with.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LEGACY = ("gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1251", "cp1252", "latin-1")
"""The usual encodings of Chinese, Japanese, Korean, Russian and Western European Windows and Linux."""

LARGEST_TEXT = 1 << 29
"""Bytes of a list of images or a table of boxes: about five million lines of a hundred characters."""
LARGEST_NAMES = 1 << 20
"""Bytes of a file of class names: the longest lists in use have 20,000 names."""
LARGEST_LABELS = 1 << 24
"""Bytes of the annotations of one image: about a hundred thousand boxes, or a million corners of polygons."""

_START = 1 << 16  # bytes


def read_text(file: Path, is_right: Callable[[str], bool] | None = None, *, largest: int = LARGEST_TEXT) -> str:
    """Read a text file whose encoding is not known.

    Args:
        file: The file.
        is_right: Whether a decoded text is the one that was written, for example because the file names in it exist.
            Called only for a text that is not UTF-8.
        largest: Most bytes that the file may have.

    Returns:
        The text without a byte order mark. The encoding is that of the mark, else UTF-8, else the one usual encoding
        whose text `is_right`.

    Raises:
        DataError: The file cannot be read, is no regular file, is too large, or its encoding cannot be determined.
    """
    try:
        content = read_regular(file, largest)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    try:
        text = decoded(content)
    except UnicodeDecodeError as error:
        texts = {text for text in _legacy_texts(content) if is_right is not None and is_right(text)}
        if len(texts) == 1:
            return texts.pop()
        raise DataError(
            f"{file}: is not UTF-8 ({error.reason} at byte {error.start}), and its encoding cannot be determined; "
            f"convert the file to UTF-8, for example with `iconv -f GBK -t UTF-8` if it was written as GBK"
        ) from error
    if text[1:2] == "\0" or text[:1] == "\0":
        raise DataError(f"{file}: is UTF-16 without a byte order mark; convert the file to UTF-8")
    return text


def first_lines(file: Path) -> list[str]:
    """Return the whole lines among the first 64 KiB of a text file, to recognise what it is.

    Characters of an unknown encoding come out wrong. A file that cannot be read has no lines.
    """
    try:
        with open_regular(file) as stream:
            content = stream.read(_START)
            is_whole = not stream.read(1)
    except OSError:
        return []
    lines = decoded(content, errors="replace").splitlines()
    return lines if is_whole or len(lines) == 1 else lines[:-1]


def decoded(content: bytes, errors: str = "strict") -> str:
    """Decode by the byte order mark, which is removed; without one as UTF-8.

    Args:
        content: The bytes of a text file.
        errors: As in `bytes.decode`.

    Raises:
        UnicodeDecodeError: The bytes are not a text in that encoding.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, errors)
    return content.decode("utf-8", errors)


def _legacy_texts(content: bytes) -> list[str]:
    texts = []
    for encoding in _LEGACY:
        try:
            texts.append(content.decode(encoding))
        except UnicodeDecodeError:
            continue
    return texts
