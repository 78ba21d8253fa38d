"""COCO's annotation JSON, and the folder layouts it usually comes in."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from detdistill.annotations import DetectionDataset
from detdistill.data.assembly import UNKNOWN_SIZE, ImageEntry, assemble, is_number, is_text, shown
from detdistill.data.coco_objects import read_objects, whole_number
from detdistill.data.folders import Folder
from detdistill.data.splits import Split, names_a_split
from detdistill.errors import DataError, Problem
from detdistill.images import Size, image_size

LOOKED_FOR = "COCO: *.json, annotations/*.json or */_annotations.coco.json"

_ROBOFLOW = "_annotations.coco.json"
_PARTS = ("images", "annotations", "categories")
_SNIFFED_BYTES = 65536
_PROBED_IMAGES = 100


def coco_splits(root: Path) -> list[Split]:
    """The COCO annotation files in a folder, in the usual layouts."""
    files = list(root.glob(f"*/{_ROBOFLOW}"))
    for folder in (root, root / "annotations"):
        found = list(folder.glob("*.json"))
        # Beside them, COCO's own folder has captions and key points of the same images.
        files += [file for file in found if file.name.startswith("instances_")] or found
    return [coco_split(file) for file in sorted(files) if _looks_like_coco(file)]


def coco_split(file: Path) -> Split:
    """The split that an annotation file holds, named by the file, in Roboflow's layout by the folder."""
    name = file.resolve().parent.name if file.name == _ROBOFLOW else file.stem.removeprefix("instances_")
    return Split(name, "COCO", file, partial(read_coco, file, name))


def read_coco(file: Path, split: str, images: Path | None, check_images: bool) -> DetectionDataset:
    """Reads a COCO annotation file.

    Args:
        file: the JSON.
        split: its name, one of the hints to the image folder.
        images: the image folder; None: the usual one in which the first images are found.
        check_images: every image must be there.

    Returns:
        The data set, its classes in the order of their ids, its images in the file's order.

    Raises:
        DataError: the file cannot be used; all reasons are listed.
    """
    with _collector_paused():
        content = _load(file)
        source = str(file)
        problems: list[Problem] = []
        used = {entry.get("category_id") for entry in content["annotations"] if _has_id(entry, "category_id")}
        classes, category_ids, label_of = _categories(content["categories"], used, source, problems)
        folder = Folder(images or _image_folder(file, split, content["images"]))
        entries, index_of = _images(content["images"], folder, check_images, source, problems)
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


def _looks_like_coco(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            start = stream.read(_SNIFFED_BYTES)
    except OSError:
        return False
    if start.lstrip().startswith(b"["):  # results, not annotations
        return False
    return file.name == _ROBOFLOW or names_a_split(file.stem) or any(f'"{part}"'.encode() in start for part in _PARTS)


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
    faulty = [part for part in _PARTS if not isinstance(content.get(part), list)]
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
    """The first of the usual folders that holds one of the first images, else the first that exists."""
    base = file.parent.parent if file.parent.name == "annotations" else file.parent
    usual = [base / "images" / split, base / split, base / "images", base]
    names = [entry["file_name"] for entry in images if isinstance(entry, dict) and is_text(entry.get("file_name"))]
    for place in usual:
        folder = Folder(place)
        if any(folder.fault(name) is None for name in islice(names, _PROBED_IMAGES)):
            return place
    return next((place for place in usual if place.is_dir()), base)


def _images(
    images: list[Any], folder: Folder, check_images: bool, source: str, problems: list[Problem]
) -> tuple[list[ImageEntry], dict[int | str, int]]:
    """All images, and the place of every image id among them."""
    entries: list[ImageEntry] = []
    index_of: dict[int | str, int] = {}
    id_of_name: dict[str, int | str] = {}
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
        fault = folder.fault(name, must_exist=check_images)
        if fault:
            what, group = f"file_name {shown(name)} {fault}", f"file_name {fault}"
            problems.append(Problem(place, what, fatal=True, unit="image", group=group))
        first_id = id_of_name.setdefault(name, image_id)
        if first_id != image_id:
            what = f"has the file {shown(name)} of image {shown(first_id)}; both are kept"
            group = "has the file of another image; both are kept"
            problems.append(Problem(place, what, unit="image", group=group))
        path = folder.root / name
        height, width = _size(entry, path, place, problems, readable=fault is None)
        index_of[image_id] = len(entries)
        entries.append(ImageEntry(image_id, path, name, width, height))
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
