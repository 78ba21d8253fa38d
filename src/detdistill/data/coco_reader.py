"""COCO's annotation JSON."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem
from detdistill.core.images import Size, image_size
from detdistill.data.assembly import UNKNOWN_SIZE, ImageEntry, assemble, is_number, is_text, shown
from detdistill.data.coco_objects import read_objects, whole_number
from detdistill.data.folders import IMAGE_FOLDERS, Folder, Found, folders_in
from detdistill.data.splits import ReadOptions

PARTS = ("images", "annotations", "categories")
"""The three lists of an annotation file."""

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
        content = _load(file)
        source = str(file)
        problems: list[Problem] = []
        used = {entry.get("category_id") for entry in content["annotations"] if _has_id(entry, "category_id")}
        classes, category_ids, label_of = _categories(content["categories"], used, source, problems)
        place = options.images or _image_folder(file, split, content["images"])
        folder = Folder(place, follow_links=options.follow_links)
        entries, index_of = _images(content["images"], folder, options.check_images, source, problems)
        objects = read_objects(content["annotations"], index_of, label_of, source, problems)
        return assemble(source, classes, category_ids, entries, objects, problems)


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


def _load(file: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise DataError(f"{file}: is not COCO: its lists are nested too deeply") from error
    except ValueError as error:
        raise DataError(f"{file}: is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: is not COCO: it holds a {type(content).__name__} where an object is expected")
    faulty = [part for part in PARTS if not isinstance(content.get(part), list)]
    if faulty:
        raise DataError(f"{file}: is not COCO: {' and '.join(map(repr, faulty))} must be there and be lists")
    return content


def _has_id(entry: object, key: str) -> bool:
    return isinstance(entry, dict) and type(entry.get(key)) in (int, str)


def _image_id(entry: object) -> int | str | None:
    """The id of an image: a text, or a whole number, which some tools write with a decimal point."""
    if not isinstance(entry, dict):
        return None
    own_id = entry.get("id")
    return own_id if isinstance(own_id, str) else whole_number(own_id)


def _categories(
    categories: list[Any], used: set[int | str | None], source: str, problems: list[Problem]
) -> tuple[list[str], list[int], dict[int, int]]:
    """Class names and their ids, in order of the ids, and the label of every id."""
    names: dict[int, str] = {}
    for number, entry in enumerate(categories):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not is_text(name) or type(entry.get("id")) is not int:
            what = f"needs a whole-numbered 'id' and a 'name', has {shown(entry)}"
            problems.append(Problem(f"{source}: category number {number}", what, fatal=True))
        elif entry["id"] in names:
            what = f"the id stands for {shown(names[entry['id']])} and for {shown(name)}; give each its own"
            problems.append(Problem(f"{source}: category {entry['id']}", what, fatal=True))
        else:
            names[entry["id"]] = name
    if not categories:
        problems.append(Problem(source, "'categories' is empty: it must name the classes", fatal=True))
    ids_of: dict[str, list[int]] = {}
    for category_id in sorted(names):
        ids_of.setdefault(names[category_id], []).append(category_id)
    for name, ids in ids_of.items():
        if len(ids) > 1:
            what = f"the ids {', '.join(map(str, ids))} have the same name; taken as one class"
            problems.append(Problem(f"{source}: category {shown(name)}", what))
    # Roboflow lists a class twice, as its own super-category, which no annotation uses.
    category_ids = [next((i for i in ids if i in used), ids[0]) for ids in ids_of.values()]
    label_of = {category_id: label for label, ids in enumerate(ids_of.values()) for category_id in ids}
    return list(ids_of), category_ids, label_of


def _image_folder(file: Path, split: str, images: list[Any]) -> Path:
    """Return the first of the usual folders that holds one of the first images, else the first that exists."""
    base = file.parent.parent if file.parent.name.lower() in ANNOTATION_FOLDERS else file.parent
    shared = folders_in(base, (*IMAGE_FOLDERS, "data"))
    usual = [*(folder / split for folder in shared), base / split, *shared, base]
    names = [entry["file_name"] for entry in images if isinstance(entry, dict) and is_text(entry.get("file_name"))]
    for place in usual:
        folder = Folder(place)
        if any(folder.find(name).fault is None for name in islice(names, _PROBED_IMAGES)):
            return place
    return next((place for place in usual if place.is_dir()), base)


def _images(
    images: list[Any], folder: Folder, check_images: bool, source: str, problems: list[Problem]
) -> tuple[list[ImageEntry], dict[int | str, int]]:
    """All images, and the place of every image id among them."""
    entries: list[ImageEntry] = []
    index_of: dict[int | str, int] = {}
    first_of_name: dict[str, tuple[int | str, Found]] = {}
    for number, entry in enumerate(images):
        image_id = _image_id(entry)
        if image_id is None or not is_text(entry.get("file_name")):
            need = "needs an 'id' and a 'file_name'"
            what = f"{need}, has {shown(entry)}"
            problems.append(Problem(f"{source}: image number {number}", what, fatal=True, unit="image", group=need))
            continue
        name = entry["file_name"]
        place = f"{source}: image {shown(image_id)}"
        if image_id in index_of:
            what = f"the id is used twice, for {shown(entries[index_of[image_id]].file_name)} and {shown(name)}"
            group = "the id is used twice; give each image its own"
            what = f"{what}; give each image its own"
            problems.append(Problem(place, what, fatal=True, unit="image", group=group))
            continue
        found = folder.find(name, must_exist=check_images)
        if found.fault:
            what, group = f"file_name {shown(name)} {found.fault}", f"file_name {found.fault}"
            problems.append(Problem(place, what, fatal=True, unit="image", group=group))
        first_id, first = first_of_name.setdefault(found.name, (image_id, found))
        if first.dropped != found.dropped:
            what = f"{shown(name)} and the file_name of image {shown(first_id)} are both taken for {shown(found.name)}"
            group = "two names are taken for one file; give the names relative to the image folder"
            what = f"{what}; give the names relative to the image folder"
            problems.append(Problem(place, what, fatal=True, unit="image", group=group))
        elif first_id != image_id:
            what = f"has the file {shown(found.name)} of image {shown(first_id)}; both are kept"
            group = "has the file of another image; both are kept"
            problems.append(Problem(place, what, unit="image", group=group))
        path = folder.root / found.name
        height, width = _size(entry, path, place, problems, readable=found.fault is None)
        index_of[image_id] = len(entries)
        entries.append(ImageEntry(image_id, path, found.name, width, height))
    return entries, index_of


def _size(entry: dict[str, Any], path: Path, place: str, problems: list[Problem], *, readable: bool) -> Size:
    """Height and width as annotated; where they are not, the image's own."""
    given = entry.get("height"), entry.get("width")
    height, width = given
    if is_number(height) and is_number(width) and height >= 1 and width >= 1 and height % 1 == width % 1 == 0:
        return int(height), int(width)
    if not readable:
        return UNKNOWN_SIZE
    if given != (None, None):
        fault = "are no size in pixels; the image's own is used"
        what, group = f"width {shown(width)} and height {shown(height)} {fault}", f"width and height {fault}"
        problems.append(Problem(place, what, outcome="changed", unit="image", group=group))
    try:
        return image_size(path)
    except DataError as error:
        group = "width and height are missing, and the image cannot be opened"
        problems.append(
            Problem(place, f"width and height are missing, and {error}", fatal=True, unit="image", group=group)
        )
        return UNKNOWN_SIZE
