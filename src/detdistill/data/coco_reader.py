"""COCO's annotation JSON."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from detdistill.core.allocation import give_back_freed_memory
from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DataError, Problem
from detdistill.core.images import image_size
from detdistill.core.packed_texts import PackedTexts
from detdistill.data.annotation_cache import CacheEntry
from detdistill.data.assembly import UNKNOWN_SIZE, arranged, raise_fatal, shown
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
    source = str(file)
    entry = CacheEntry(file, masks=options.masks)
    content = entry.read() if options.use_cache else None
    if content is None:
        with _collector_paused():
            content, is_of_file_alone = _content(file, split, options)
        if is_of_file_alone and not any(problem.fatal for problem in content.problems):
            entry.write(content)
    problems: list[Problem] = []
    folder = _image_folder(file, split, content.images.file_names, options)
    images = _located(content.images, folder, options.check_images, source, problems)
    problems += content.problems
    raise_fatal(source, problems)
    return replace(content, images=images, problems=tuple(problems))


def _content(file: Path, split: str, options: ReadOptions) -> tuple[DetectionDataset, bool]:
    """Return what the file says, fatal problems included, and whether no size had to be read from an image.

    The images have the names that the file gives them.
    """
    source = str(file)
    problems: list[Problem] = []
    content = CocoFile(file, masks=options.masks)
    names = read_categories(content, source, problems)
    found = read_images(content, source, problems)
    images = ImageTable.without_objects(list(found.index_of), found.names, found.names, found.sizes)
    is_of_file_alone = NOT_ANNOTATED not in found.sizes
    if not is_of_file_alone:
        folder = _image_folder(file, split, found.names, options)
        images = _with_own_sizes(images, folder, options.check_images, source, problems)
    sizes = images.sizes if options.masks else None
    reader = ObjectReader(found.index_of, labels_of(names), source, problems, sizes)
    objects = reader.read(content)
    del content  # it is larger than what was read from it
    classes, category_ids = classes_of(names, reader.used)
    images = arranged(source, images, objects, problems)
    dataset = DetectionDataset(source, tuple(classes), tuple(category_ids), images, tuple(problems))
    return dataset, is_of_file_alone


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
        give_back_freed_memory()  # which is more than the annotations themselves


def _image_folder(file: Path, split: str, names: Sequence[str], options: ReadOptions) -> Folder:
    """Return the first of the usual folders that holds one of the first images, else the first that exists."""
    if options.images is not None:
        return Folder(options.images, follow_links=options.follow_links)
    base = file.parent.parent if file.parent.name.lower() in ANNOTATION_FOLDERS else file.parent
    shared = folders_in(base, (*IMAGE_FOLDERS, "data"))
    usual = [*(folder / split for folder in shared), base / split, *shared, base]
    probed = names[:_PROBED_IMAGES]
    for place in usual:
        folder = Folder(place, follow_links=options.follow_links)
        if any(folder.find(name).fault is None for name in probed):
            return folder
    return Folder(next((place for place in usual if place.is_dir()), base), follow_links=options.follow_links)


def _located(
    images: ImageTable, folder: Folder, check_images: bool, source: str, problems: list[Problem]
) -> ImageTable:
    """Return the table with the images' files."""
    ids = images.image_ids
    files: list[str] = []
    first_of_name: dict[str, tuple[int, str]] = {}
    for index, name in enumerate(images.file_names):
        file, fault, dropped, _ = folder.find(name, must_exist=check_images)
        if fault:
            what, group = f"file_name {shown(name)} {fault}", f"file_name {fault}"
            place = f"{source}: image {shown(ids[index])}"
            problems.append(Problem(place, what, fatal=True, unit="image", group=group))
        first, first_dropped = first_of_name.setdefault(file, (index, dropped))
        if first != index:
            place, same = f"{source}: image {shown(ids[index])}", dropped == first_dropped
            problems.append(_second_of_file(place, name, file, ids[first], is_same_file=same))
        files.append(file)
    paths = PackedTexts.of(f"{folder.root}/{name}" for name in files)
    return replace(images, file_names=PackedTexts.of(files), paths=paths)


def _second_of_file(place: str, name: str, file: str, first: int | str, *, is_same_file: bool) -> Problem:
    """Return the problem of an image whose file is that of another image, or is taken for it."""
    if is_same_file:
        what = f"has the file {shown(file)} of image {shown(first)}; both are kept"
        return Problem(place, what, unit="image", group="has the file of another image; both are kept")
    remedy = "give the names relative to the image folder"
    what = f"{shown(name)} and the file_name of image {shown(first)} are both taken for {shown(file)}; {remedy}"
    group = f"two names are taken for one file; {remedy}"
    return Problem(place, what, fatal=True, unit="image", group=group)


def _with_own_sizes(
    images: ImageTable, folder: Folder, check_images: bool, source: str, problems: list[Problem]
) -> ImageTable:
    """Return the table with the size of its file for every image whose size is not annotated."""
    sizes = images.sizes.copy()
    for index in np.flatnonzero((sizes == NOT_ANNOTATED).any(axis=1)).tolist():
        found = folder.find(images.file_names[index], must_exist=check_images)
        sizes[index] = UNKNOWN_SIZE
        if found.fault is not None:
            continue  # it is found again, and reported, with all images
        try:
            sizes[index] = image_size(folder.root / found.name)
        except DataError as error:
            group = "width and height are missing, and the image cannot be opened"
            what = f"width and height are missing, and {error}"
            place = f"{source}: image {shown(images[index].image_id)}"
            problems.append(Problem(place, what, fatal=True, unit="image", group=group))
    return replace(images, sizes=sizes)
