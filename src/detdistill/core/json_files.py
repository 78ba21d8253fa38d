"""JSON files that we write: whole or not at all, readable whatever names they hold, and read with care."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from detdistill.core.errors import DetdistillError, first_line
from detdistill.core.files import AtomicFile, read_json, write_atomically


def write_json(path: Path, value: Any, *, indent: int | None = None) -> None:
    """Write a JSON file as UTF-8, whole or not at all.

    Args:
        path: File to write.
        value: Of JSON types, with finite numbers.
        indent: Spaces of each level; None for one line.

    Raises:
        DetdistillError: The file cannot be written.
    """
    write_atomically(path, _encoded(value, indent) + b"\n")


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: File to read.
        remedy: What to do about a damaged file, for the message.

    Raises:
        DetdistillError: The file is missing, damaged, or holds something else.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise DetdistillError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DetdistillError(f"{path} is damaged, it is not JSON ({first_line(error)}): {remedy}") from error
    if not isinstance(content, dict):
        raise DetdistillError(f"{path} is damaged: expected a JSON object; {remedy}")
    return content


def check_format(path: Path, content: Mapping[str, Any], newest: int, what: str) -> None:
    """Check the number under `format` in a file of ours.

    Args:
        path: The file, for the message.
        content: What it holds.
        newest: The largest number that this version reads.
        what: What the file should be, for the message.

    Raises:
        DetdistillError: There is no number, or the file was written by a newer version.
    """
    written = content.get("format")
    if type(written) is not int or written < 1:
        raise DetdistillError(f"{path} is not {what}: format is {written!r}; expected 1 to {newest}")
    if written > newest:
        raise DetdistillError(
            f"{path} has format {written} and this detdistill reads up to {newest}: it was written by a newer version; "
            "upgrade with `pip install --upgrade detdistill`"
        )


class JsonListFile:
    """A JSON list that is written entry by entry, so that it is never in memory as a whole.

    Used in a `with` block, at whose end the file appears; an exception in the block leaves what was there before.

    Args:
        path: File to write.

    Raises:
        DetdistillError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file = AtomicFile(path)
        self._separator = "[\n"

    def __enter__(self) -> Self:
        return self

    def add(self, entry: Any) -> None:
        """Append an entry of JSON types, with finite numbers."""
        self._file.write(self._separator)
        self._file.write(_encoded(entry))
        self._separator = ",\n"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            self._file.__exit__(kind, error, trace)
            return
        with self._file:
            self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")


def _encoded(value: Any, indent: int | None = None) -> bytes:
    """JSON as UTF-8. A file name that is not UTF-8 holds lone surrogates, which JSON writes as escapes."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent).encode("utf-8", "backslashreplace")
