"""JSON files that we write: whole or not at all, and readable whatever names they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from detdistill.core.files import AtomicFile, write_atomically


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
