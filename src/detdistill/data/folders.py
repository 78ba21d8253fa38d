"""Which files a folder holds, and that a name in an annotation file stays inside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath


class Folder:
    """The files under one folder, known from one listing of each subfolder instead of a look at every file.

    Args:
        root: the folder; it may itself be a symbolic link.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real_root = os.path.realpath(root)
        self._listings: dict[PurePath, dict[str, bool]] = {}

    def names(self) -> list[str]:
        """Names of the files and links directly in the folder, sorted."""
        return sorted(self._listing(PurePath()))

    def walk(self) -> Iterator[PurePath]:
        """All files and links below the folder, relative to it, by subfolder and name; links are not followed."""
        for place, subfolders, _ in os.walk(self.root):
            subfolders.sort()
            subfolder = PurePath(place).relative_to(self.root)
            yield from (subfolder / name for name in sorted(self._listing(subfolder)))

    def fault(self, name: str, *, must_exist: bool = True) -> str | None:
        """Why a file name from an annotation file cannot be used.

        Args:
            name: relative to the folder.
            must_exist: a missing file is a fault too.

        Returns:
            What is wrong, or None for a file inside the folder.
        """
        if "\0" in name:
            return "holds a null character, which no file name can"
        path = PurePath(name)
        if path.is_absolute() or ".." in path.parts:
            return f"leaves the folder {self.root}; only files inside it are read"
        linked = self._listing(path.parent).get(path.name)
        if linked is None:
            return f"is not there (looked in {self.root})" if must_exist else None
        if linked and not self._holds(self.root / path):
            return f"is a link that leaves the folder {self.root}; copy the file there"
        return None

    def _listing(self, subfolder: PurePath) -> dict[str, bool]:
        """Every file's name, and whether a symbolic link is on the way to it."""
        if subfolder not in self._listings:
            try:
                place = self.root / subfolder
                linked = os.path.realpath(place) != str(PurePath(self._real_root, *subfolder.parts))
                with os.scandir(place) as entries:
                    self._listings[subfolder] = {
                        entry.name: linked or entry.is_symlink()
                        for entry in entries
                        if entry.is_symlink() or entry.is_file()
                    }
            except (OSError, ValueError):  # no such folder, or no possible name of one
                self._listings[subfolder] = {}
        return self._listings[subfolder]

    def _holds(self, path: Path) -> bool:
        return PurePath(os.path.realpath(path)).is_relative_to(self._real_root)


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; False, too, for a path that the system cannot have or may not see."""
    try:
        return path.exists()
    except OSError:
        return False
