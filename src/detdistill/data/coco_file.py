"""The three lists of a COCO file; of a large one, a block of entries at a time."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from detdistill.core.errors import DataError
from detdistill.core.files import open_regular

PARTS = ("images", "annotations", "categories")
"""The three lists of an annotation file."""

_ENTRIES = 50_000  # in a block
_BLOCK = 1 << 24  # bytes of about as many entries
_MAPPED = 1 << 29  # bytes; smaller files are read, because a mapped file that is cut short ends the process
_LARGEST_UNUSUAL = 1 << 32  # bytes, which Python needs several times as much memory for
_BETWEEN = re.compile(rb"\}\s*,\s*\{")

Row = TypeVar("Row", bound=msgspec.Struct)

_ANYTHING = msgspec.json.Decoder(list[Any])
_UNUSUAL = msgspec.DecodeError, UnicodeDecodeError, RecursionError


@dataclass(frozen=True)
class Block(Generic[Row]):
    """Consecutive entries of a list.

    Attributes:
        start: Number of the first entry, from 0.
        rows: The entries, if all are as COCO writes them.
        entries: The entries as they are, otherwise; then `rows` is empty.
    """

    start: int
    rows: list[Row]
    entries: list[Any]

    def __len__(self) -> int:
        return len(self.rows) + len(self.entries)


class ImageRow(msgspec.Struct, gc=False):
    """An image as COCO writes it."""

    id: int | str
    file_name: str
    height: int
    width: int


class AnnotationRow(msgspec.Struct, gc=False):
    """An annotation as COCO writes it."""

    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    id: int | str | None = None
    area: float | None = None
    iscrowd: int | bool | None = None
    difficult: int | bool | None = None


class MaskedAnnotationRow(AnnotationRow, gc=False):
    """An annotation with the mask of its object, which may be anything."""

    segmentation: Any = None


class CategoryRow(msgspec.Struct):
    """A category as COCO writes it."""

    id: int
    name: str


class _Lists(msgspec.Struct):
    images: list[ImageRow]
    annotations: list[AnnotationRow]
    categories: list[CategoryRow]


class _MaskedLists(_Lists):
    annotations: list[MaskedAnnotationRow]  # type: ignore[assignment]  # a list for reading alone


class CocoFile:
    """An annotation file.

    A file in which nothing is unusual is read as rows: at once, or a large one a block at a time. What is unusual is
    read as it is, the block in which it stands.

    Args:
        file: The JSON.
        masks: Read the `segmentation` of annotations, too.

    Raises:
        DataError: The file cannot be read, or does not hold the three lists.
    """

    def __init__(self, file: Path, *, masks: bool = False) -> None:
        content = _content(file)
        self._file = file
        self._mapped = content if isinstance(content, mmap.mmap) else None
        self._has_rows, self._masks = False, masks
        self._parts: dict[str, Any] = {}
        try:
            if isinstance(content, bytes):
                self._parts = msgspec.structs.asdict(
                    msgspec.json.decode(content, type=_MaskedLists if masks else _Lists)
                )
                self._has_rows = True
                return
        except _UNUSUAL:
            pass
        try:
            parts: dict[str, Any] = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        except _UNUSUAL:
            # Python writes and reads more than JSON: NaN, half characters, other encodings.
            if len(content) > _LARGEST_UNUSUAL:
                what = f"is not JSON as other programs write it, and too large ({len(content):,} bytes) to look for why"
                raise DataError(f"{file}: {what}") from None
            parts = _as_python_reads_it(bytes(content), file)
            if not isinstance(parts, dict):
                what = f"it holds a {type(parts).__name__} where an object is expected"
                raise DataError(f"{file}: is not COCO: {what}") from None
        self._parts = {name: parts[name] for name in PARTS if _is_list(parts.get(name))}
        faulty = [name for name in PARTS if name not in self._parts]
        if faulty:
            raise DataError(f"{file}: is not COCO: {' and '.join(map(repr, faulty))} must be there and be lists")

    def images(self) -> Iterator[Block[ImageRow]]:
        """Yield the images."""
        return self._blocks("images", msgspec.json.Decoder(list[ImageRow]))

    def annotations(self) -> Iterator[Block[AnnotationRow]]:
        """Yield the annotations."""
        row = MaskedAnnotationRow if self._masks else AnnotationRow
        decoder: msgspec.json.Decoder[list[AnnotationRow]] = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
        return self._blocks("annotations", decoder)

    def categories(self) -> Iterator[Block[CategoryRow]]:
        """Yield the categories."""
        return self._blocks("categories", msgspec.json.Decoder(list[CategoryRow]))

    def _blocks(self, part: str, decoder: msgspec.json.Decoder[list[Row]]) -> Iterator[Block[Row]]:
        whole = self._parts[part]
        if isinstance(whole, list):
            for start in range(0, len(whole), _ENTRIES):
                some = whole[start : start + _ENTRIES]
                yield Block(start, some, []) if self._has_rows else Block(start, [], some)
            return
        text, number = memoryview(whole), 0
        start, end = 1, len(text) - 1
        while start < end:
            start, block = _first_block(text, start, end, number, decoder, self._file)
            yield block
            number += len(block)
            if self._mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # what was read need not stay in memory
                self._mapped.madvise(mmap.MADV_DONTNEED)


def _first_block(
    text: memoryview, start: int, end: int, number: int, decoder: msgspec.json.Decoder[list[Row]], file: Path
) -> tuple[int, Block[Row]]:
    """Return the first entries from `start` on, about 16 MiB, and where the next one starts."""
    size = _BLOCK
    while True:
        between = _BETWEEN.search(text, min(start + size, end), end)
        stop, following = (end, end) if between is None else (between.start() + 1, between.end() - 1)
        block = b"".join((b"[", text[start:stop], b"]"))
        # A list that is cut anywhere but between two of its entries is no JSON: what can be read was cut rightly.
        try:
            return following, Block(number, decoder.decode(block), [])
        except _UNUSUAL:
            pass
        try:
            return following, Block(number, [], _ANYTHING.decode(block))
        except _UNUSUAL:
            if stop == end:
                return following, Block(number, [], _as_python_reads_it(block, file))
        size *= 2


def _content(file: Path) -> bytes | mmap.mmap:
    try:
        with open_regular(file) as stream:
            if os.fstat(stream.fileno()).st_size < _MAPPED:
                return stream.read(_MAPPED)
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error


def _as_python_reads_it(content: bytes, file: Path) -> Any:
    try:
        return json.loads(content)
    except RecursionError as error:
        raise DataError(f"{file}: is not COCO: its lists are nested too deeply") from error
    except ValueError as error:
        raise DataError(f"{file}: is not valid JSON ({error})") from error


def _is_list(part: object) -> bool:
    return isinstance(part, list) or (isinstance(part, msgspec.Raw) and bytes(memoryview(part)[:1]) == b"[")
