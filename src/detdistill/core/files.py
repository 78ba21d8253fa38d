"""Files and folders that are either whole or as they were before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from detdistill.core.errors import DetdistillError


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
