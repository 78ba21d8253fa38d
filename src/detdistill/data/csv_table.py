"""Boxes in a CSV table, one a row, as TensorFlow's tutorials, Roboflow and users of torchvision have it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem
from detdistill.core.images import ENDINGS, Size, image_size
from detdistill.data.assembly import UNKNOWN_SIZE, ImageEntry, assemble, image_columns, shown, to_number
from detdistill.data.folders import IMAGE_FOLDERS, Folder, Found, files_in, folders_in, holds
from detdistill.data.objects import Box, ObjectList
from detdistill.data.splits import ReadOptions, Split, is_split_name, split_word
from detdistill.data.text_files import first_lines, read_text
from detdistill.data.voc_annotation import counted_from_0

LOOKED_FOR = "CSV: *.csv with the columns filename, class, xmin, ymin, xmax, ymax, also in images/, data/ or train/"

_IMAGE = (
    *("filename", "file_name", "file", "filepath", "file_path", "path"),
    *("image", "image_name", "image_path", "image_id", "img", "img_path"),
)
_CLASS = ("class", "class_name", "label", "label_name", "category", "category_name")
_WIDTH, _HEIGHT = ("width", "image_width", "img_width"), ("height", "image_height", "img_height")
_VOC = (("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"))
_CORNERS = (*_VOC, ("x1", "y1", "x2", "y2"), ("x0", "y0", "x1", "y1"), ("left", "top", "right", "bottom"))
_EXPECTED = (
    "one column for the image (filename, path, image_id …), one for the class (class, label …) and four for the "
    "corners in pixels (xmin, ymin, xmax, ymax or x1, y1, x2, y2); width and height of the image are optional"
)
_DELIMITERS = (",", ";", "\t")
_FOLDERS = (*IMAGE_FOLDERS, "annotations", "data", "labels")
_PROBED_ROWS = 100


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read.

    Attributes:
        image: Name of the column of image names.
        label: Name of the column of class names.
        corners: Names of the columns of x1, y1, x2, y2.
        size: Names of the columns of the image's height and width; None without.
        delimiter: Character between the columns.
    """

    image: str
    label: str
    corners: tuple[str, str, str, str]
    size: tuple[str, str] | None
    delimiter: str

    @property
    def counts_from_1(self) -> bool:
        """Whether the corners have VOC's names and so VOC's numbers."""
        return tuple(name.strip().lower() for name in self.corners) in _VOC


@dataclass
class _Image:
    """One image of a table."""

    place: str
    found: Found
    sizes: set[tuple[str, str]] = field(default_factory=set)
    rows: list[tuple[str, str, Box]] = field(default_factory=list)


def csv_splits(root: Path, rejected: list[Problem]) -> list[Split]:
    """Return the splits of the CSV tables of boxes in a folder and its usual subfolders; others are `rejected`."""
    parts = [part for part in folders_in(root) if _is_part(part)]
    splits = []
    for file in [file for folder in (root, *parts) for file in files_in(folder, {".csv"})]:
        try:
            read_columns(file)
        except DataError as error:
            rejected.append(Problem(str(file), str(error).removeprefix(f"{file}: ")))
        else:
            splits.append(csv_split(file, root))
    return splits


def _is_part(folder: Path) -> bool:
    return folder.name.lower() in _FOLDERS or is_split_name(folder.name)


def csv_split(file: Path, root: Path | None = None) -> Split:
    """Return the split that a table holds, named by the usual name in the file's or folder's name, or by the file.

    Args:
        file: The table.
        root: The dataset's folder; None: the table's own, or the one above a usual subfolder.
    """
    folder = file.absolute().parent
    if root is None:
        root = folder.parent if _is_part(folder) else folder
    inside = folder != root.absolute()
    name = split_word(file.stem) or (split_word(folder.name) if inside else None) or file.stem
    return Split(name, "CSV", file, partial(read_csv, file, name, root))


def read_columns(file: Path) -> Columns:
    """Return the columns of a table by its first line.

    Raises:
        DataError: The columns are missing or ambiguous; the message lists what was found and what is expected.
    """
    header = next(iter(first_lines(file)), "")
    fault = ""
    for delimiter in _DELIMITERS:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        columns = _columns(names, delimiter)
        if isinstance(columns, Columns):
            return columns
        fault = fault or columns
    raise DataError(f"{file}: {fault}. Found the header {shown(header)}; expected {_EXPECTED}")


def read_csv(file: Path, split: str, root: Path, options: ReadOptions) -> DetectionDataset:
    """Read a table of boxes.

    Corners in columns of VOC's names (xmin, ymin, xmax, ymax) carry VOC's numbers, because the usual converters copy
    them from its XML files: 1 is subtracted from xmin and ymin where they are at least 1, as in `read_voc`, so that a
    table and the XML files that it was made from give the same boxes. Corners in columns of other names (x1, y1, x2,
    y2) count from 0 and are used as they are, as torchvision does. A row with an image and neither class nor corners
    is an image without objects.

    Args:
        file: The table.
        split: Its name, one of the hints to the image folder.
        root: The dataset's folder.
        options: How it is read; without an image folder the usual one is taken in which the first images are found.

    Returns:
        The dataset; its classes are the names that its objects have, sorted, its images in order of their first rows,
        identified by their stems; where two have the same stem, all are identified by their path.

    Raises:
        DataError: The dataset cannot be used; all reasons are listed.
    """
    problems: list[Problem] = []
    columns = read_columns(file)
    place = options.images or _image_folder(file, split, root, columns)
    folder = Folder(place, follow_links=options.follow_links)
    images = _images(file, columns, folder, options, problems)
    entries: list[ImageEntry] = []
    objects, names = ObjectList(), []
    stems = [PurePath(image.found.name).stem for image in images]
    unique = len(set(stems)) == len(stems)
    for image, stem in zip(images, stems, strict=True):
        height, width = _size(image, folder.root / image.found.name, problems)
        for row, name, box in image.rows:
            names.append(name)
            objects.add(len(entries), 0, box, row)
        image_id = stem if unique else image.found.name
        entries.append(ImageEntry(image_id, folder.root / image.found.name, image.found.name, width, height))
    if folder.root.name.lower() == split.lower() or len(files_in(file.parent, {".csv"})) == 1:
        problems += _not_in_table(file, images, folder)
    classes = sorted(set(names))
    label_of = {name: label for label, name in enumerate(classes)}
    objects.labels = [label_of[name] for name in names]
    return assemble(str(file), classes, range(1, len(classes) + 1), image_columns(entries), objects.columns(), problems)


def _not_in_table(file: Path, images: Sequence[_Image], folder: Folder) -> list[Problem]:
    """Return one problem that counts the images of a folder without a row; none where all have one."""
    known = {image.found.name for image in images}
    others = [name for name in folder.names(ENDINGS) if name not in known]
    if not others:
        return []
    some = ", ".join(map(shown, others[:5])) + (", …" if len(others) > 5 else "")
    return [
        Problem(str(file), f"images in {folder.root} that the table does not have, not read: {len(others)} ({some})")
    ]


def _columns(names: Sequence[str], delimiter: str) -> Columns | str:
    """Return the columns that are read, or what is wrong with them."""
    by_name: dict[str, str] = {}
    for name in names:
        if name.lower() in by_name:
            return f"the column {name!r} is there twice"
        by_name[name.lower()] = name
    corners = [[by_name[name] for name in four] for four in _CORNERS if all(name in by_name for name in four)]
    images = [by_name[name] for name in _IMAGE if name in by_name]
    labels = [by_name[name] for name in _CLASS if name in by_name]
    for what, found in (("image", images), ("class", labels), ("corners", corners)):
        if len(found) != 1:
            return f"no column for the {what}" if not found else f"several columns for the {what}: {found}"
    width, height = ([by_name[name] for name in given if name in by_name] for given in (_WIDTH, _HEIGHT))
    size = (height[0], width[0]) if len(width) == len(height) == 1 else None
    x1, y1, x2, y2 = corners[0]
    return Columns(images[0], labels[0], (x1, y1, x2, y2), size, delimiter)


def _rows(text: str, columns: Columns) -> list[tuple[int, Mapping[str, str]]]:
    """Return the rows of a table with their line numbers; empty ones are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=columns.delimiter)
    rows: list[tuple[int, Mapping[str, str]]] = []
    try:
        header = [name.strip() for name in next(reader)]
        for cells in reader:
            if any(cell.strip() for cell in cells):
                padded = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
                rows.append((reader.line_num, dict(zip(header, padded, strict=False))))
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} is not CSV ({error})") from error
    return rows


def _text(file: Path, columns: Columns, folder: Folder) -> str:
    def is_right(text: str) -> bool:
        names = {row[columns.image] for _, row in _rows(text, columns)}
        foreign = [name for name in names if not name.isascii()]
        return bool(foreign) and all(folder.find(name, listed=True).fault is None for name in foreign)

    return read_text(file, is_right)


def _images(
    file: Path, columns: Columns, folder: Folder, options: ReadOptions, problems: list[Problem]
) -> list[_Image]:
    """Return the images of a table with their rows, in order."""
    images: dict[str, _Image] = {}
    by_name: dict[str, _Image | None] = {}
    try:
        rows = _rows(_text(file, columns, folder), columns)
    except DataError as error:
        raise DataError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from error
    for number, row in rows:
        place, name = f"{file}:{number}", row[columns.image]
        if name not in by_name:
            found = folder.find(name, must_exist=options.check_images, listed=True)
            if not name or found.fault:
                problems.append(Problem(place, f"image {shown(name)} {found.fault or 'is not named'}", fatal=True))
                by_name[name] = None
            else:
                known = images.setdefault(found.name, _Image(place, found))
                if known.found.dropped != found.dropped:
                    what = f"image {shown(name)} and another of the table are both taken for {shown(found.name)}"
                    problems.append(Problem(place, f"{what}; correct the names", fatal=True))
                by_name[name] = known
        image = by_name[name]
        if image is None:
            continue
        if columns.size is not None:
            image.sizes.add((row[columns.size[0]], row[columns.size[1]]))
        read = _object(row, columns, place, problems)
        if read is not None:
            image.rows.append((place, *read))
    return list(images.values())


def _object(row: Mapping[str, str], columns: Columns, place: str, problems: list[Problem]) -> tuple[str, Box] | None:
    """Return the class name and x1 y1 x2 y2; None for an image without objects and an unusable row."""
    name, texts = row[columns.label], [row[corner] for corner in columns.corners]
    if not name and not any(texts):
        return None
    x1, y1, x2, y2 = map(to_number, texts)
    if not name:
        problems.append(Problem(place, "has no class; left out", outcome="left out", unit="annotation"))
    elif x1 is None or y1 is None or x2 is None or y2 is None:
        fault = "the corners must be four finite numbers"
        what, group = f"{fault}, are {shown(texts)}; left out", f"{fault}; left out"
        problems.append(Problem(place, what, outcome="left out", unit="annotation", group=group))
    elif columns.counts_from_1:
        (x1, x2), (y1, y2) = counted_from_0(x1, x2), counted_from_0(y1, y2)
        return name, (x1, y1, x2, y2)
    else:
        return name, (x1, y1, x2, y2)
    return None


def _size(image: _Image, path: Path, problems: list[Problem]) -> Size:
    """Return height and width as annotated; where they are not, the image's own."""
    sizes = {tuple(map(to_number, size)) for size in image.sizes}
    if len(sizes) == 1:
        height, width = sizes.pop()
        if height is not None and width is not None and height >= 1 and width >= 1 and height % 1 == width % 1 == 0:
            return int(height), int(width)
    if image.sizes:
        some = ", ".join(f"{shown(width)} x {shown(height)}" for height, width in sorted(image.sizes)[:3])
        fault = "are no size; the image's own is used"
        what, group = f"width and height {some} {fault}", f"width and height {fault}"
        problems.append(Problem(image.place, what, outcome="changed", unit="image", group=group))
    try:
        return image_size(path)
    except DataError as error:
        problems.append(Problem(image.place, f"width and height are missing, and {error}", fatal=True))
        return UNKNOWN_SIZE


def _image_folder(file: Path, split: str, root: Path, columns: Columns) -> Path:
    """Return the first of the usual folders that holds one of the first images, else the table's own."""
    bases = list(dict.fromkeys([file.parent, root]))
    usual = [part for base in bases for part in folders_in(base, {split.lower()})]
    for base in bases:
        shared = folders_in(base, IMAGE_FOLDERS)
        usual += [part for folder in shared for part in folders_in(folder, {split.lower()})] + shared
    usual += bases
    lines = first_lines(file)[:_PROBED_ROWS]
    names = [row[columns.image] for _, row in _rows("\n".join(lines), columns)]
    for place in usual:
        folder = Folder(place)
        if any(name and folder.find(name, listed=True).fault is None for name in names):
            return place
    return next((place for place in usual if holds(place, ENDINGS)), usual[0])
