"""Short names of run folders."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from detdistill.core.errors import DetdistillError


def names_of(folders: Sequence[str | PathLike[str]]) -> list[str]:
    """Return a name for each folder: the last parts of its path, as few as tell all apart.

    A number alone, such as the folder of a seed, is no name. Links are followed.

    Args:
        folders: Different folders, at least one.

    Raises:
        DetdistillError: A folder is given twice.
    """
    paths = [Path(folder).resolve() for folder in folders]
    for place, path in enumerate(paths):
        if path in paths[:place]:
            first = folders[paths.index(path)]
            raise DetdistillError(
                f"{first} and {folders[place]}: the same folder is given twice; expected different ones"
            )
    parts = [path.relative_to(path.anchor).parts for path in paths]
    names = ["/".join(each) for each in parts]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names) and not any(name.isdigit() for name in names):
            break
    return names
