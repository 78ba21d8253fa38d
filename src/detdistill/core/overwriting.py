"""Outputs that must not replace an input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from detdistill.core.errors import DetdistillError

Identity = tuple[int, int]
"""Device and inode of a file."""


def check_outputs(outputs: Mapping[Path, str], inputs: Iterable[Path], *, makes_folders: bool = False) -> None:
    """Refuse output files that cannot be written where they are asked for, or that would replace an input.

    Files are compared by what they are on disk: other spellings of a path, symbolic links and hard links are found.

    Args:
        outputs: What each file is, for messages, such as `--json`, by its path.
        inputs: Files that are read, and folders of which every file is.
        makes_folders: Missing folders of the outputs will be created.

    Raises:
        DetdistillError: An output is a folder, its folder does not exist, or it is an input.
    """
    for path, what in outputs.items():
        if os.path.isdir(path):  # noqa: PTH112
            raise DetdistillError(f"{what} {path} cannot be written: this is a folder; expected the name of a file")
        if not makes_folders and not os.path.isdir(path.parent):  # noqa: PTH112
            raise DetdistillError(f"{what} {path} cannot be written: there is no folder {path.parent}; create it")
    there = {path: what for path, what in outputs.items() if os.path.lexists(path)}
    if not there:
        return
    folders: dict[str, str] = {}
    read: dict[Identity | str, Path] = {}
    inside: list[tuple[Path, Path]] = []
    for path in inputs:
        if os.path.isdir(path):  # noqa: PTH112
            inside.append((Path(os.path.realpath(path)), path))
        else:
            read |= dict.fromkeys(_marks(path, folders), path)
    for path, what in there.items():
        found = next((read[mark] for mark in _marks(path, folders) if mark in read), None)
        real = Path(os.path.realpath(path))
        found = found or next((folder for place, folder in inside if real.is_relative_to(place)), None)
        if found is not None:
            raise DetdistillError(f"{what} {path}: this would replace the input {found}; name another file")


def check_output_folder(folder: Path, what: str, inputs: Iterable[Path]) -> None:
    """Refuse an output folder in which an input file lies.

    Args:
        folder: The folder; it need not exist.
        what: What it is, for messages, such as `--out`.
        inputs: Files that are read; of a symbolic link both its own folder and that of its target count.

    Raises:
        DetdistillError: It is no folder, or an input lies in it.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):  # noqa: PTH112
        raise DetdistillError(f"{what} {folder}: this is not a folder; name another one")
    here, folders = os.path.realpath(folder), dict[str, str]()
    for path in inputs:
        if here in (_real_folder(path, folders), os.path.dirname(_target(path, folders))):  # noqa: PTH120
            raise DetdistillError(
                f"{what} {folder}: this folder holds the input {path.name}, which an output may replace; name another "
                "folder"
            )


def _marks(path: Path, folders: dict[str, str]) -> Iterator[Identity | str]:
    """What two names of one file have in common: the place of the name, and device and inode of the file."""
    yield os.path.join(_real_folder(path, folders), path.name)  # noqa: PTH118
    yield _target(path, folders)
    try:
        found = path.stat()
    except (OSError, ValueError):
        return
    yield found.st_dev, found.st_ino


def _real_folder(path: Path, folders: dict[str, str]) -> str:
    """The folder of a name without links; `folders` keeps what was looked up."""
    parent = os.path.dirname(path)  # noqa: PTH120
    if parent not in folders:
        folders[parent] = os.path.realpath(parent)
    return folders[parent]


def _target(path: Path, folders: dict[str, str]) -> str:
    """The place of the file that a name leads to."""
    if path.is_symlink():
        return os.path.realpath(path)
    return os.path.join(_real_folder(path, folders), path.name)  # noqa: PTH118
