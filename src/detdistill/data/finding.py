"""Which image files are meant by names, folders and patterns."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from detdistill.core.errors import DetdistillError
from detdistill.core.images import ENDINGS
from detdistill.data.folders import Folder


def find_pictures(paths: Sequence[str]) -> list[Path]:
    """Return image files by name, by folder, subfolders included, or by pattern, each once and in the given order.

    Args:
        paths: Names such as `a.jpg`, `shots`, `shots/*.png`. Hidden files in a folder are skipped.

    Raises:
        DetdistillError: There is nothing of a name, or no image in a folder.
    """
    found: dict[Path, None] = {}
    for name in paths:
        path = Path(name).expanduser()
        if path.is_dir():
            own = [path / each for each in Folder(path).walk(ENDINGS)]
        elif path.exists():
            own = [path]
        else:
            # `Path.glob` wants the part before the pattern apart.
            own = sorted(Path(each) for each in glob(str(path), recursive=True) if Path(each).is_file())  # noqa: PTH207
        if not own:
            raise DetdistillError(
                f"{name}: there is no image in this folder" if path.is_dir() else f"{name}: there is no such file"
            )
        found |= dict.fromkeys(own)
    return list(found)
