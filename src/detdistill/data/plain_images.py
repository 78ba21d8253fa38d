"""Images without annotations: folders, patterns, lists of files, and datasets whose annotations do not count."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from glob import has_magic
from os import PathLike
from pathlib import Path

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DataError, DetdistillError, Problem
from detdistill.core.parallel import work_through
from detdistill.data.assembly import shown
from detdistill.data.finding import find_pictures
from detdistill.data.image_sizes import header_sizes
from detdistill.data.source import DatasetSource
from detdistill.data.text_files import read_text

_ANNOTATIONS = frozenset({".json", ".yaml", ".yml", ".data", ".csv"})
"""Endings of annotation files whose images are taken."""


def plain_images(sources: Sequence[str | PathLike[str]]) -> DetectionDataset:
    """Read the sizes of images whose annotations are not known, or do not count.

    Args:
        sources: Image folders, subfolders included; images; patterns such as `shots/*.jpg`; text files that list
            images, one a line, from the file's folder or the working directory; annotation files and lists of a dataset
            (COCO, VOC, YOLO or CSV), of which all parts are taken.

    Returns:
        The images in the given order, each once, without classes and objects. An image's name is its path relative to
        the folder that was given. Images that cannot be opened are left out, with a problem each.

    Raises:
        DataError: A source does not exist or holds no image, or none of the images can be opened.
    """
    names: dict[str, str] = {}
    for source in sources:
        for file, name in named_images(Path(source).expanduser()):
            names.setdefault(str(file), name)
    paths = list(names)
    sizes, problems = [], []
    for path, found in zip(paths, work_through(paths, header_sizes, "reading image sizes"), strict=True):
        if isinstance(found, DataError):
            del names[path]
            what = f"{str(found).removeprefix(f'{path}: ')}; left out"
            problems.append(Problem(path, what, outcome="left out", unit="image"))
        else:
            sizes.append(found[0])
    where = ", ".join(map(str, sources))
    if not sizes:
        raise DataError(f"{where}: none of the {len(paths)} images can be opened", problems)
    images = ImageTable.without_objects([Path(name).stem for name in names.values()], names.values(), names, sizes)
    return DetectionDataset(where, (), (), images, tuple(problems))


def named_images(source: Path) -> Iterator[tuple[Path, str]]:
    """Yield the image files of a source, each with its name there.

    Args:
        source: As in `plain_images`.

    Raises:
        DataError: The source does not exist or holds no image, or its annotations cannot be read.
    """
    if source.is_file() and source.suffix.lower() in _ANNOTATIONS:
        yield from _annotated(source)
    elif source.is_file() and source.suffix.lower() == ".txt":
        yield from _listed(source)
    else:
        try:
            found = find_pictures([source])
        except DetdistillError as error:
            raise DataError(str(error)) from error
        folder = source if source.is_dir() else _before_pattern(source)
        yield from ((path, Path(os.path.relpath(path, folder)).as_posix()) for path in found)


def _before_pattern(source: Path) -> Path:
    """The folder that a pattern, or an image, is in."""
    folder = source.parent
    while has_magic(str(folder)):
        folder = folder.parent
    return folder


def _annotated(source: Path) -> Iterator[tuple[Path, str]]:
    """The images of all parts of a dataset."""
    for part in DatasetSource(source).parts().values():
        images = replace(part, accept_left_out=True).open(check_images=False).images
        yield from zip(map(Path, images.paths), images.file_names, strict=True)


def _listed(listing: Path) -> Iterator[tuple[Path, str]]:
    """The images that a text file names, one a line; a list without file names is one of VOC."""
    lines = [line.strip() for line in read_text(listing).splitlines()]
    entries = [(number, line) for number, line in enumerate(lines, start=1) if line and not line.startswith("#")]
    found = {line: path for _, line in entries for path in (Path(line), listing.parent / line) if path.is_file()}
    if entries and not found:
        yield from _annotated(listing)
        return
    problems = [
        Problem(f"{listing}:{number}", f"there is no image {shown(line)}; correct the path", fatal=True)
        for number, line in entries
        if line not in found
    ]
    if problems or not entries:
        raise DataError(f"{listing}: {'names images that do not exist' if entries else 'names no image'}", problems)
    yield from ((path, line) for line, path in found.items())
