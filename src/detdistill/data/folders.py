"""Which files a folder holds, and which of them a name in an annotation file means."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import NamedTuple

from detdistill.core.errors import Problem
from detdistill.core.images import ENDINGS

IMAGE_FOLDERS = ("images", "jpegimages", "image", "imgs", "img")
"""Usual names of an image folder, in lower case."""

FOLLOW_LINKS = "follow links with --follow-links (in a recipe: data.follow_links: true)"

_FOREIGN = frozenset(
    {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "thumbs.db"}
)
"""What macOS, Windows and network storage leave beside images, in lower case."""

LONGEST_PATH = 4_096
"""Characters of a path: Linux's limit, in bytes."""

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_USUAL = re.compile(r"(?:[^./\\:\0][^/\\:\0]*/)*[^./\\:\0][^/\\:\0]*")
"""A relative name with slashes, of which no part begins with a dot."""


class Found(NamedTuple):
    """What a name in an annotation file means.

    Attributes:
        name: The file, relative to the folder, with forward slashes; the name as given if it cannot be used.
        fault: Why it cannot be used; None for a file that may be read.
        dropped: Leading folders of the given name that are not here. Two names that mean one file and differ in
            them are the names of two files elsewhere.
        missing: There is no such file.
    """

    name: str
    fault: str | None = None
    dropped: str = ""
    missing: bool = False


@dataclass
class _Listing:
    """The entries of one folder: names, each with whether a symbolic link is on the way to it."""

    files: dict[str, bool] = field(default_factory=dict)
    folders: dict[str, bool] = field(default_factory=dict)

    @cached_property
    def files_alike(self) -> dict[str, list[str]]:
        return _by(_folded, self.files)

    @cached_property
    def folders_alike(self) -> dict[str, list[str]]:
        return _by(_folded, self.folders)

    @cached_property
    def images_by_stem(self) -> dict[str, list[str]]:
        return _by(lambda name: _folded(PurePath(name).stem), [name for name in self.files if is_image(name)])


class Folder:
    """The files under one folder, known from one listing of each subfolder instead of a look at every file.

    Args:
        root: The folder; it may itself be a symbolic link.
        within: The dataset's folder: links that lead out of it are not followed. None: `root`.
        follow_links: Follow all links, also out of the dataset's folder.

    Attributes:
        skipped: Hidden files and files of other programs that `names` and `walk` left out, relative to `root`.
        refused: Linked subfolders that `walk` did not enter because they lead out of the dataset's folder.
    """

    def __init__(self, root: Path, *, within: Path | None = None, follow_links: bool = False) -> None:
        self.root = root
        self.follow_links = follow_links
        self.skipped: list[str] = []
        self.refused: list[str] = []
        self._within = root if within is None else within
        self._real_root = os.path.realpath(root)
        self._real_within = os.path.realpath(self._within)
        self._listings: dict[PurePath, _Listing] = {}
        self._usual_parents: dict[str, _Listing] = {}

    def names(self, endings: Collection[str]) -> list[str]:
        """Return the names of the files directly in the folder with one of these endings (lower case), sorted."""
        return [path.name for path in self._files(PurePath(), endings)]

    def plain_names(self) -> set[str]:
        """Return the names of the files directly in the folder that are no links: `find` finds them as they are."""
        return {name for name, linked in self._listing(PurePath()).files.items() if not linked}

    def walk(self, endings: Collection[str]) -> Iterator[PurePath]:
        """Yield all files with one of these endings below the folder, relative to it, by subfolder and name.

        Linked subfolders are entered where they lead to another place in the dataset's folder, and with
        `follow_links` out of it; each only once, so that circles of links end.
        """
        waiting, entered = [PurePath()], {self._real_root}
        while waiting:
            subfolder = waiting.pop()
            yield from self._files(subfolder, endings)
            following = []
            for name, linked in sorted(self._listing(subfolder).folders.items()):
                if is_foreign(name):
                    self._skip_all(subfolder / name, endings)
                elif not linked or self._enters(subfolder / name, entered):
                    following.append(subfolder / name)
            waiting += reversed(following)

    def find(self, name: str, *, must_exist: bool = True, listed: bool = False) -> Found:
        """Find the file that a name means.

        A file of exactly this name comes first. Else backslashes count as slashes, the case of letters and the
        Unicode form do not count, and of an absolute name, which is one of another machine, the end that is a file
        here counts. More than one such file is a fault.

        Args:
            name: As it stands in the annotation file.
            must_exist: A missing file is a fault too.
            listed: The name stands in a list of images: it may lack the ending, or begin with folders that are not
                here.
        """
        if len(name) > LONGEST_PATH:
            fault = f"is not there (looked in {self.root})" if must_exist else None  # nor could it be
            return Found(name, fault, missing=True)
        usual = None if listed else self._usual(name, must_exist)
        if usual is not None:
            return usual
        if "\0" in name:
            return Found(name, "holds a null character, which no file name can")
        path = PurePath(name)
        if path.is_absolute():
            for root in (self.root.absolute(), self._real_root):
                if path.is_relative_to(root):
                    path = path.relative_to(root)
        dropped = ""
        if path.is_absolute() or ".." in path.parts or path.name not in self._listing(path.parent).files:
            parts = [part for part in str(path).replace("\\", "/").split("/") if part not in ("", ".")]
            absolute = path.is_absolute() or name.startswith("\\") or _DRIVE.match(name) is not None
            if ".." in parts:
                return Found(name, f"leaves the folder {self.root}; only files inside it are read")
            matches = self._matches(parts, bare=listed)
            if not matches and (absolute or listed):
                # The end of the name, without the folders of the machine that it was written on.
                ends = (self._matches(parts[start:], bare=listed) for start in range(1, len(parts)))
                matches = list(dict.fromkeys(match for end in ends for match in end))
            if len(matches) > 1:
                several = " or ".join(match.as_posix() for match in matches[:3])
                return Found(name, f"is not there as written, and could mean {several} (in {self.root}); correct it")
            if not matches and absolute:
                what = f"leaves the folder {self.root}, and no end of the name is a file in it"
                return Found(name, f"{what}; write it relative to the folder, or give the image folder with --images")
            if not matches:
                fault = f"is not there (looked in {self.root})" if must_exist else None
                return Found("/".join(parts), fault, missing=True)
            path = matches[0]
            dropped = "/".join(parts[: len(parts) - len(path.parts)])
        return self._checked(path, dropped, must_exist)

    def _usual(self, name: str, must_exist: bool) -> Found | None:
        """Find a file as `find` does, but fast; None where it takes more than a look."""
        parent, _, last = name.rpartition("/")
        if _USUAL.fullmatch(name) is None:
            return None
        if parent not in self._usual_parents:
            self._usual_parents[parent] = self._listing(PurePath(parent))
        listing = self._usual_parents[parent]
        if listing.files.get(last) is False:
            return Found(name)
        if parent or last in listing.files or _folded(last) in listing.files_alike:
            return None
        return Found(name, f"is not there (looked in {self.root})" if must_exist else None, missing=True)

    def _checked(self, path: PurePath, dropped: str, must_exist: bool) -> Found:
        linked = self._listing(path.parent).files[path.name]
        if linked and not self.follow_links and not self._holds(path):
            fault = f"is a link that leaves the folder {self._within}; copy the file there, or {FOLLOW_LINKS}"
            return Found(path.as_posix(), fault)
        if linked and must_exist and not exists(self.root / path):
            return Found(path.as_posix(), "is a link to a file that does not exist")
        return Found(path.as_posix(), dropped=dropped)

    def _matches(self, parts: list[str], *, bare: bool) -> list[PurePath]:
        """Return the files whose path is this one up to the case of letters (`bare`: and the ending)."""
        if not parts:
            return []
        folders = [PurePath()]
        for part in parts[:-1]:
            folders = [
                folder / name
                for folder in folders
                for name in _nearest(part, self._listing(folder).folders_alike.get(_folded(part), []))
            ]
        last, found = parts[-1], []
        for folder in folders:
            listing = self._listing(folder)
            names = _nearest(last, listing.files_alike.get(_folded(last), []))
            if not names and bare and not is_image(last):
                alike = listing.images_by_stem.get(_folded(last), [])
                names = [name for name in alike if PurePath(name).stem == last] or alike
            found += [folder / name for name in names]
        return found

    def _files(self, subfolder: PurePath, endings: Collection[str]) -> list[PurePath]:
        chosen = []
        for name in sorted(self._listing(subfolder).files):
            if PurePath(name).suffix.lower() in endings:
                if is_foreign(name):
                    self.skipped.append((subfolder / name).as_posix())
                else:
                    chosen.append(subfolder / name)
        return chosen

    def _skip_all(self, subfolder: PurePath, endings: Collection[str]) -> None:
        for place, _, names in os.walk(self.root / subfolder):
            here = PurePath(place).relative_to(self.root)
            self.skipped += [(here / name).as_posix() for name in names if PurePath(name).suffix.lower() in endings]

    def _enters(self, subfolder: PurePath, entered: set[str]) -> bool:
        """Whether `walk` enters a subfolder that a link is on the way to."""
        real = os.path.realpath(self.root / subfolder)
        # What is under the root is walked at its own place.
        if real in entered or PurePath(real).is_relative_to(self._real_root):
            return False
        if not self.follow_links and not PurePath(real).is_relative_to(self._real_within):
            self.refused.append(subfolder.as_posix())
            return False
        entered.add(real)
        return True

    def _listing(self, subfolder: PurePath) -> _Listing:
        if subfolder not in self._listings:
            listing = self._listings[subfolder] = _Listing()
            try:
                place = self.root / subfolder
                inside = str(PurePath(self._real_root, *subfolder.parts))
                linked = os.path.realpath(place) != inside or not self._holds(PurePath())
                with os.scandir(place) as entries:
                    for entry in entries:
                        if _is_folder(entry):
                            listing.folders[entry.name] = linked or entry.is_symlink()
                        elif entry.is_symlink() or entry.is_file():
                            listing.files[entry.name] = linked or entry.is_symlink()
            except (OSError, ValueError):  # no such folder, or no possible name of one
                pass
        return self._listings[subfolder]

    def _holds(self, path: PurePath) -> bool:
        return PurePath(os.path.realpath(self.root / path)).is_relative_to(self._real_within)


def skipped_files(where: str, names: Collection[str]) -> list[Problem]:
    """Return one problem that counts the files of other programs that were skipped; none without such files."""
    if not names:
        return []
    more = "" if len(names) == 1 else f" and {len(names) - 1:,} more"
    what = f"hidden files and files of other programs were skipped: `{min(names)}`{more}"
    return [Problem(where, what, unit="file", count=len(names))]


def exists(path: Path) -> bool:
    """Return whether there is such a file or folder; False, too, for a path that the system cannot have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_within(path: Path, root: Path) -> bool:
    """Return whether a path is in a folder or is the folder, all links followed."""
    try:
        return PurePath(os.path.realpath(path)).is_relative_to(os.path.realpath(root))
    except (OSError, ValueError):
        return False


def is_image(name: str | PurePath) -> bool:
    """Return whether a file's name has the ending of an image format that is read."""
    return PurePath(name).suffix.lower() in ENDINGS


def is_foreign(name: str) -> bool:
    """Return whether a file or folder is hidden, or left by an operating system or storage."""
    return name.startswith(".") or name.lower() in _FOREIGN


def files_in(folder: Path, endings: Collection[str]) -> list[Path]:
    """Return the files directly in a folder with one of these endings (lower case), sorted; no hidden ones."""
    return [entry for entry in _entries(folder) if entry.suffix.lower() in endings and entry.is_file()]


def folders_in(folder: Path, names: Collection[str] | None = None) -> list[Path]:
    """Return the subfolders, no hidden ones, sorted; with `names` (lower case) those of these names in any case."""
    wanted = [entry for entry in _entries(folder) if names is None or entry.name.lower() in names]
    return [entry for entry in wanted if entry.is_dir()]


def holds(folder: Path, endings: Collection[str]) -> bool:
    """Return whether there is a file with one of these endings (lower case) directly in a folder."""
    try:
        with os.scandir(folder) as entries:
            return any(
                os.path.splitext(entry.name)[1].lower() in endings and not is_foreign(entry.name)  # noqa: PTH122
                for entry in entries
            )
    except OSError:
        return False


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not is_foreign(entry.name))
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circle of links
        return False


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _nearest(name: str, alike: list[str]) -> list[str]:
    return [name] if name in alike else alike


def _by(key: Callable[[str], str], names: Collection[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name in sorted(names):
        grouped.setdefault(key(name), []).append(name)
    return grouped
