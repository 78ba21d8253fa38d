"""COCO's annotation JSON."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DataError, Problem
from detdistill.core.images import Size, image_size
from detdistill.core.packed_texts import PackedTexts
from detdistill.data.assembly import UNKNOWN_SIZE, assemble, shown
from detdistill.data.coco_file import CocoFile
from detdistill.data.coco_images import NOT_ANNOTATED, classes_of, labels_of, read_categories, read_images
from detdistill.data.coco_objects import ObjectReader
from detdistill.data.folders import IMAGE_FOLDERS, Folder, folders_in
from detdistill.data.splits import ReadOptions

ANNOTATION_FOLDERS = ("annotations", "annotation")
"""Names of the folder of annotation files, in lower case."""

_PROBED_IMAGES = 100


def read_coco(file: Path, split: str, options: ReadOptions) -> DetectionDataset:
    """Read a COCO annotation file.

    Args:
        file: The JSON.
        split: Its name, one of the hints to the image folder.
        options: How it is read; without an image folder the usual one is taken in which the first images are found.

    Returns:
        The dataset, its classes in the order of their ids, its images in the file's order.

    Raises:
        DataError: The file cannot be used; all reasons are listed.
    """
    with _collector_paused():
        content = CocoFile(file)
        source = str(file)
        problems: list[Problem] = []
        names = read_categories(content, source, problems)
        images = read_images(content, source, problems)
        reader = ObjectReader(images.index_of, labels_of(names), source, problems)
        objects = reader.read(content)
        del content  # it is larger than what was read from it
        classes, category_ids = classes_of(names, reader.used)
        table = ImageTable.without_objects(list(images.index_of), images.names, images.names, images.sizes)
        folder = Folder(options.images or _image_folder(file, split, images.names), follow_links=options.follow_links)
        table = _located(table, folder, options.check_images, source, problems)
        return assemble(source, classes, category_ids, table, objects, problems)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Python looks for garbage cycles after every so many new lists; in a large JSON that takes most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
        if sys.platform.startswith("linux"):
            # The C library keeps what Python gives back, which here is more than the annotations themselves.
            getattr(ctypes.CDLL(None), "malloc_trim", int)(0)


def _image_folder(file: Path, split: str, names: Sequence[str]) -> Path:
    """Return the first of the usual folders that holds one of the first images, else the first that exists."""
    base = file.parent.parent if file.parent.name.lower() in ANNOTATION_FOLDERS else file.parent
    shared = folders_in(base, (*IMAGE_FOLDERS, "data"))
    usual = [*(folder / split for folder in shared), base / split, *shared, base]
    for place in usual:
        folder = Folder(place)
        if any(folder.find(name).fault is None for name in islice(names, _PROBED_IMAGES)):
            return place
    return next((place for place in usual if place.is_dir()), base)


def _located(
    images: ImageTable, folder: Folder, check_images: bool, source: str, problems: list[Problem]
) -> ImageTable:
    """Return the table with the images' files, and with the files' own sizes where the annotations have none."""
    ids = images.image_ids
    files: list[str] = []
    first_of_name: dict[str, tuple[int, str]] = {}
    unusable: set[int] = set()
    for index, name in enumerate(images.file_names):
        file, fault, dropped, _ = folder.find(name, must_exist=check_images)
        if fault:
            what, group = f"file_name {shown(name)} {fault}", f"file_name {fault}"
            place = f"{source}: image {shown(ids[index])}"
            problems.append(Problem(place, what, fatal=True, unit="image", group=group))
            unusable.add(index)
        first, first_dropped = first_of_name.setdefault(file, (index, dropped))
        if first != index:
            place, same = f"{source}: image {shown(ids[index])}", dropped == first_dropped
            problems.append(_second_of_file(place, name, file, ids[first], is_same_file=same))
        files.append(file)
    paths = PackedTexts.of(f"{folder.root}/{name}" for name in files)
    sizes = images.sizes.copy()
    for index in np.flatnonzero((sizes == NOT_ANNOTATED).any(axis=1)).tolist():
        place = f"{source}: image {shown(ids[index])}"
        sizes[index] = UNKNOWN_SIZE if index in unusable else _own_size(Path(paths[index]), place, problems)
    return replace(images, file_names=PackedTexts.of(files), paths=paths, sizes=sizes)


def _second_of_file(place: str, name: str, file: str, first: int | str, *, is_same_file: bool) -> Problem:
    """Return the problem of an image whose file is that of another image, or is taken for it."""
    if is_same_file:
        what = f"has the file {shown(file)} of image {shown(first)}; both are kept"
        return Problem(place, what, unit="image", group="has the file of another image; both are kept")
    remedy = "give the names relative to the image folder"
    what = f"{shown(name)} and the file_name of image {shown(first)} are both taken for {shown(file)}; {remedy}"
    group = f"two names are taken for one file; {remedy}"
    return Problem(place, what, fatal=True, unit="image", group=group)


def _own_size(path: Path, place: str, problems: list[Problem]) -> Size:
    try:
        return image_size(path)
    except DataError as error:
        group = "width and height are missing, and the image cannot be opened"
        what = f"width and height are missing, and {error}"
        problems.append(Problem(place, what, fatal=True, unit="image", group=group))
        return UNKNOWN_SIZE
