"""Files that are read only if they are files, and files and folders written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, Self

from detdistill.core.errors import DetdistillError

LARGEST_SETTINGS = 1 << 20
"""Bytes of a recipe, a plan or another file of settings that people write. PyYAML needs seconds for a mebibyte."""
LARGEST_RECORD = 1 << 26
"""Bytes of a JSON file that describes a detector or a run. Provenance and a thousand class names need under 1 MiB."""
DEEPEST = 64
"""Levels of nested lists and mappings in a file of settings. Recipes have 4; Python gives up near 1,000."""

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file for reading in bytes. A pipe or device could block for ever, or never end.

    Raises:
        OSError: There is no such file, it cannot be opened, or it is a folder, a pipe, a socket or a device; `strerror`
            says which.
    """
    _check_kind(path, os.stat(path))  # noqa: PTH116  # before opening, which can have effects on a device
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        _check_kind(path, os.fstat(file))
        return os.fdopen(file, "rb")
    except BaseException:
        os.close(file)
        raise


def read_regular(path: str | Path, largest: int | None = None) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file.
        largest: Most bytes that such a file may have; None for any size.

    Raises:
        OSError: As in `open_regular`, or the file is larger.
    """
    with open_regular(path) as file:
        if largest is None:
            return file.read()
        size = os.fstat(file.fileno()).st_size
        # Files of the kernel say that they are empty.
        content = file.read(largest + 1) if size <= largest else b""
        if size > largest or len(content) > largest:
            what = f"is larger than {largest:,} bytes, the most that such a file may have"
            raise OSError(errno.EFBIG, what, str(path))
        return content


def read_json(path: str | Path, largest: int = LARGEST_RECORD) -> Any:
    """Return what a JSON file holds.

    Args:
        path: The file.
        largest: Most bytes that it may have.

    Raises:
        OSError: As in `read_regular`.
        ValueError: It is not JSON, is nested too deeply, or holds an integer of thousands of digits.
    """
    try:
        values = json.loads(read_regular(path, largest))
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None
    level = [values]
    for _ in range(DEEPEST):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return values
    raise ValueError(f"nested more than {DEEPEST} levels deep")


def _check_kind(path: str | Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        if stat.S_ISDIR(state.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        kind = _KINDS.get(stat.S_IFMT(state.st_mode), "something else")
        raise OSError(errno.EINVAL, f"is {kind}, and only regular files are read", str(path))


class AtomicFile:
    """A file that is written piece by piece and gets its name at the end: whole, or as it was before.

    Used in a `with` block; an exception in the block leaves what was there before.

    Args:
        path: File to write; a device such as /dev/stdout is written to in place.

    Raises:
        DetdistillError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # A rename would put a file in the place of a device such as /dev/stdout.
        self._in_place = path.exists() and not path.is_file()
        self._target = path if self._in_place else path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self._file = self._target.open("wb")
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def write(self, content: str | bytes) -> None:
        """Append text, as UTF-8, or bytes.

        Raises:
            DetdistillError: The disk is full, or the file cannot be written for another reason.
        """
        try:
            self._file.write(content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise self._failed(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            with self._file:
                if kind is None and not self._in_place:
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    self._target.replace(self.path)
        except OSError as failure:
            if kind is None:
                raise self._failed(failure) from failure
        finally:
            if not self._in_place:
                self._target.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> DetdistillError:
        return DetdistillError(f"{self.path} cannot be written: {error.strerror}")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, so that no reader and no crash ever sees half of it.

    Raises:
        DetdistillError: The file cannot be written; one that was there before is untouched.
    """
    with AtomicFile(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` with the same ending, for a library that writes by name; at the end it gets the name.

    Folders on the way are created. An exception in the block leaves what was there before, and a link is replaced, not
    followed.

    Raises:
        DetdistillError: The file cannot be written.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise DetdistillError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):  # there is none, or no folder for it
            partial.unlink()


def check_new(folder: Path) -> None:
    """Raises `DetdistillError` if there is something at `folder` already."""
    # A dangling link is something, too.
    if os.path.lexists(folder):
        raise DetdistillError(f"{folder} exists already; name another folder, or remove this one first")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder to fill, which gets its name at the end: `folder` appears whole or not at all.

    Raises:
        DetdistillError: there is something at `folder` already, or it cannot be written.
    """
    check_new(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(folder)
    except OSError as error:
        raise DetdistillError(f"{folder} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
