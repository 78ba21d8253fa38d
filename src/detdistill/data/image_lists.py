"""The image files of a split: all of a folder, or those that a text file lists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from detdistill.core.errors import DataError, Problem
from detdistill.core.images import ENDINGS, UNREADABLE_ENDINGS
from detdistill.data.assembly import shown
from detdistill.data.folders import FOLLOW_LINKS, Folder, Found, is_image, is_within, skipped_files
from detdistill.data.splits import ReadOptions
from detdistill.data.text_files import first_lines, read_text


def images_of(
    places: Sequence[Path],
    root: Path,
    source: str,
    options: ReadOptions,
    problems: list[Problem],
    *,
    images: Path | None = None,
) -> list[Path]:
    """Return the image files of all places, each once.

    Args:
        places: Image folders, and text files that list images.
        root: The dataset's folder; names in lists are relative to it.
        source: File and split, for messages.
        options: An image folder in it replaces the folders, and is where listed names are looked up.
        problems: Receives what is wrong.
        images: Image folder to which listed names may be relative, too.
    """
    if options.images is not None:
        places = [place for place in places if not place.is_dir()] or [options.images]
    paths: dict[Path, Found] = {}
    base = Folder(options.images or root, follow_links=options.follow_links)
    second = None if images is None else Folder(images, within=root, follow_links=options.follow_links)
    skipped: list[str] = []
    for place in places:
        if place != options.images and leaves(place, root, options, problems):
            continue
        if place.is_dir():
            within = root if place.is_relative_to(root) else None
            folder = Folder(place, within=within, follow_links=options.follow_links)
            names = [(str(place), name) for name in _all_in(folder, problems)]
            skipped += folder.skipped
        else:
            folder = base
            names = _listed(place, root, folder, problems)
        for where, name in names:
            found = folder.find(name, listed=folder is base)
            path = folder.root / found.name
            if found.missing and folder is base and options.images is None and second is not None:
                in_second = second.find(name, listed=True)
                if not in_second.missing:
                    found, path = in_second, second.root / in_second.name
            if found.fault:
                what, group = f"image {shown(name)} {found.fault}", f"the image {found.fault}"
                problems.append(Problem(where, what, fatal=True, unit="image", group=group))
            elif path not in paths:
                paths[path] = found
            elif paths[path].dropped == found.dropped:
                problems.append(Problem(where, f"lists {shown(name)} again; read once"))
            else:
                what = f"image {shown(name)} and another of the list are both taken for {path}; correct the names"
                problems.append(Problem(where, what, fatal=True))
    problems += skipped_files(source, skipped)
    return list(paths)


def leaves(place: Path, root: Path, options: ReadOptions, problems: list[Problem]) -> bool:
    """Return whether a file or folder that a dataset names is outside of its folder; that is added as a problem."""
    if options.follow_links or is_within(place, root):
        return False
    what = f"leaves the folder {root}; copy the files there, or {FOLLOW_LINKS}"
    problems.append(Problem(str(place), what, fatal=True))
    return True


def lists_images(listing: Path, root: Path) -> bool:
    """Return whether the first entry of a text file is the name of an image in the dataset's folder."""
    first = next((line.strip() for line in first_lines(listing) if line.strip()), None)
    return first is not None and (is_image(first) or Folder(root).find(first, listed=True).fault is None)


def _all_in(folder: Folder, problems: list[Problem]) -> list[str]:
    names = [name.as_posix() for name in folder.walk(ENDINGS | UNREADABLE_ENDINGS)]
    for name in folder.refused:
        what = f"leads out of the dataset's folder; copy the images there, or {FOLLOW_LINKS}"
        problems.append(Problem(str(folder.root / name), f"the linked folder {what}", fatal=True))
    unread = [name for name in names if name.lower().endswith(tuple(UNREADABLE_ENDINGS))]
    if unread:
        some = ", ".join(map(shown, unread[:3])) + (", …" if len(unread) > 3 else "")
        what = f"images in formats that are not read were left out: {len(unread)} ({some}); save them as JPEG or PNG"
        problems.append(Problem(str(folder.root), what, outcome="left out", unit="image", count=len(unread)))
    left_out = set(unread)
    return [name for name in names if name not in left_out]


def _listed(listing: Path, root: Path, folder: Folder, problems: list[Problem]) -> list[tuple[str, str]]:
    """Return the entries of a text file of images: where each is, and its name relative to the dataset's folder."""

    def names_in(text: str) -> list[tuple[int, str]]:
        lines = enumerate(text.splitlines(), start=1)
        return [(number, _from_root(line.strip(), listing, root)) for number, line in lines if line.strip()]

    def is_right(text: str) -> bool:
        return all(folder.find(name, listed=True).fault is None for _, name in names_in(text) if not name.isascii())

    try:
        text = read_text(listing, is_right)
    except DataError as error:
        problems.append(Problem(str(listing), f"cannot be read as a list of images: {error}", fatal=True))
        return []
    return [(f"{listing}:{number}", name) for number, name in names_in(text)]


def _from_root(name: str, listing: Path, root: Path) -> str:
    """Return a listed name relative to the dataset's folder: what starts with a dot is relative to the list."""
    if name.startswith((".\\", "..\\")):
        name = name.replace("\\", "/")
    if not name.startswith("."):
        return os.path.normpath(name) if name.startswith("/") else name
    return os.path.relpath(os.path.normpath(listing.parent / name), root)
