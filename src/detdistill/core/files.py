"""Files and folders that are either whole or as they were before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detdistill.core.errors import DetdistillError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file, text as UTF-8, so that no reader and no crash ever sees half of it.

    Raises:
        DetdistillError: the file cannot be written; one that was there before is untouched.
    """
    # A rename would put a file in the place of a device such as /dev/stdout.
    in_place = path.exists() and not path.is_file()
    target = path if in_place else path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with target.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if not in_place:
                file.flush()
                os.fsync(file.fileno())
                target.replace(path)
    except OSError as error:
        if not in_place:
            target.unlink(missing_ok=True)
        raise DetdistillError(f"{path} cannot be written: {error.strerror}") from error


def check_new(folder: Path) -> None:
    """Raises `DetdistillError` if there is something at `folder` already."""
    if folder.exists():
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
