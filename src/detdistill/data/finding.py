"""Which image files are meant by names, folders and patterns."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from glob import glob
from os import PathLike, fspath
from pathlib import Path

from detdistill.core.errors import DetdistillError
from detdistill.core.images import ENDINGS
from detdistill.data.folders import Folder


def find_pictures(paths: Sequence[str | PathLike[str]]) -> list[Path]:
    """Return image files by name, by folder, subfolders included, or by pattern, each once and in the given order.

    Args:
        paths: Names such as `a.jpg`, `shots`, `shots/*.png`. In a folder, hidden files and what is no regular file
            (pipes, sockets, devices) are skipped.

    Raises:
        DetdistillError: There is nothing of a name, a name is no regular file, or no image is in a folder.
    """
    found: dict[Path, None] = {}
    for given in paths:
        name = fspath(given)
        path = Path(name).expanduser()
        mode = _mode(path)
        if mode is None:
            # `Path.glob` wants the part before the pattern apart.
            matches = sorted(map(Path, glob(str(path), recursive=True)))  # noqa: PTH207
            own = [file for file in matches if stat.S_ISREG(_mode(file) or 0)]
        elif stat.S_ISDIR(mode):
            # A dangling link is an error when it is read.
            files = [path / each for each in Folder(path).walk(ENDINGS)]
            own = [file for file in files if stat.S_ISREG(_mode(file) or stat.S_IFREG)]
        elif stat.S_ISREG(mode):
            own = [path]
        else:
            raise DetdistillError(f"{name}: this is a pipe, a socket or a device; expected an image file")
        if not own:
            raise DetdistillError(f"{name}: there is no {'such file' if mode is None else 'image in this folder'}")
        found |= dict.fromkeys(own)
    return list(found)


def _mode(path: Path) -> int | None:
    """The file type and permissions of what a name leads to; None if there is nothing."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # or no possible name
        return None
