"""The images and categories of a COCO file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from detdistill.core.errors import Problem
from detdistill.core.images import Size
from detdistill.data.assembly import are_numbers, is_number, is_text, shown
from detdistill.data.coco_file import CocoFile, ImageRow
from detdistill.data.coco_ids import whole_number

NOT_ANNOTATED = (0, 0)
"""Size of an image that the file does not give."""


@dataclass
class CocoImages:
    """The images of a file, one element per image in each list.

    Attributes:
        names: The file names as they are written.
        sizes: Height and width in pixels, `NOT_ANNOTATED` where the file does not give them.
        index_of: Place of each image id, in the order of the images.
    """

    names: list[str] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    index_of: dict[int | str, int] = field(default_factory=dict)

    def extend(self, rows: Sequence[ImageRow]) -> bool:
        """Append images, if nothing about them is unusual, and return whether they were appended."""
        index_of = {row.id: index for index, row in enumerate(rows, len(self.names))}
        sizes = np.array([(row.height, row.width) for row in rows]).reshape(-1, 2)
        usual = sizes.dtype == np.int64 and are_numbers(sizes) and (sizes >= 1).all()
        if not usual or len(index_of) < len(rows) or not self.index_of.keys().isdisjoint(index_of):
            return False
        names = [row.file_name for row in rows]
        if "" in names:
            return False
        self.names += names
        self.sizes += map(tuple, sizes.tolist())
        self.index_of |= index_of
        return True


def read_images(file: CocoFile, source: str, problems: list[Problem]) -> CocoImages:
    """Return the images of a file; what is wrong with them is added to `problems`."""
    images = CocoImages()
    for block in file.images():
        if images.extend(block.rows):
            continue
        for number, row in enumerate(block.rows, block.start):
            _add(images, number, row.id, row.file_name, (row.height, row.width), row, source, problems)
        for number, entry in enumerate(block.entries, block.start):
            known = entry if isinstance(entry, dict) else {}
            own_id, size = known.get("id"), (known.get("height"), known.get("width"))
            image_id = own_id if isinstance(own_id, str) else whole_number(own_id)
            _add(images, number, image_id, known.get("file_name"), size, entry, source, problems)
    return images


def _add(
    images: CocoImages,
    number: int,
    image_id: int | str | None,
    name: object,
    size: tuple[object, object],
    entry: object,
    source: str,
    problems: list[Problem],
) -> None:
    if image_id is None or not is_text(name):
        need = "needs an 'id' and a 'file_name'"
        written = msgspec.to_builtins(entry) if isinstance(entry, ImageRow) else entry
        what = f"{need}, has {shown(written)}"
        problems.append(Problem(f"{source}: image number {number}", what, fatal=True, unit="image", group=need))
        return
    index = images.index_of.setdefault(image_id, len(images.names))
    if index < len(images.names):
        group = "the id is used twice; give each image its own"
        what = f"the id is used twice, for {shown(images.names[index])} and {shown(name)}; give each image its own"
        place = f"{source}: image {shown(image_id)}"
        problems.append(Problem(place, what, fatal=True, unit="image", group=group))
        return
    images.names.append(name)
    images.sizes.append(_size(size, f"{source}: image {shown(image_id)}", problems))


def _size(size: tuple[object, object], place: str, problems: list[Problem]) -> Size:
    """Return height and width as annotated."""
    height, width = size
    if is_number(height) and is_number(width) and height >= 1 and width >= 1 and height % 1 == width % 1 == 0:
        return int(height), int(width)
    if size != (None, None):
        fault = "are no size in pixels; the image's own is used"
        what, group = f"width {shown(width)} and height {shown(height)} {fault}", f"width and height {fault}"
        problems.append(Problem(place, what, outcome="changed", unit="image", group=group))
    return NOT_ANNOTATED


def read_categories(file: CocoFile, source: str, problems: list[Problem]) -> dict[int, str]:
    """Return the category ids and their names; what is wrong with them is added to `problems`."""
    names: dict[int, str] = {}
    rows = 0
    for block in file.categories():
        entries = block.entries or msgspec.to_builtins(block.rows)
        for number, entry in enumerate(entries, block.start):
            name = entry.get("name") if isinstance(entry, dict) else None
            if not is_text(name) or type(entry.get("id")) is not int:
                what = f"needs a whole-numbered 'id' and a 'name', has {shown(entry)}"
                problems.append(Problem(f"{source}: category number {number}", what, fatal=True))
            elif entry["id"] in names:
                what = f"the id stands for {shown(names[entry['id']])} and for {shown(name)}; give each its own"
                problems.append(Problem(f"{source}: category {entry['id']}", what, fatal=True))
            else:
                names[entry["id"]] = name
        rows += len(block)
    if not rows:
        problems.append(Problem(source, "'categories' is empty: it must name the classes", fatal=True))
    ids_of = _ids_of(names)
    for name, ids in ids_of.items():
        if len(ids) > 1:
            what = f"the ids {', '.join(map(str, ids))} have the same name; taken as one class"
            problems.append(Problem(f"{source}: category {shown(name)}", what))
    return names


def classes_of(names: dict[int, str], used: Collection[int | str]) -> tuple[list[str], list[int]]:
    """Return the class names in the order of their ids, and the id of each: one that annotations use, if there is one.

    Roboflow lists a class twice, as its own super-category, which no annotation uses.
    """
    ids_of = _ids_of(names)
    return list(ids_of), [next((i for i in ids if i in used), ids[0]) for ids in ids_of.values()]


def labels_of(names: dict[int, str]) -> dict[int, int]:
    """Return the label of every category id."""
    return {category_id: label for label, ids in enumerate(_ids_of(names).values()) for category_id in ids}


def _ids_of(names: dict[int, str]) -> dict[str, list[int]]:
    ids_of: dict[str, list[int]] = {}
    for category_id in sorted(names):
        ids_of.setdefault(names[category_id], []).append(category_id)
    return ids_of
