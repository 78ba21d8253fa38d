"""PASCAL VOC: an XML file per image, a list of images per part, and the class list in `labelmap.txt`."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.errors import DataError
from detdistill.core.progress import track
from detdistill.data.labelmap import write_labelmap
from detdistill.data.writing.image_files import ImageFiles
from detdistill.data.writing.naming import Part


def write_voc(folder: Path, parts: Sequence[Part], images: ImageFiles) -> None:
    """Write `Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/PART.txt` and `labelmap.txt`.

    Coordinates are counted from 1 and include the last pixel, as `read_voc` describes: xmin = x1 + 1, xmax = x2. They
    have decimals where they are not whole.

    Args:
        folder: an empty folder.
        parts: the parts, with the same classes; without crowd regions.
        images: how image files are placed.

    Raises:
        DetdistillError: a class name cannot be written or an image cannot be placed.
    """
    _check_classes(parts[0].dataset)
    for subfolder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / subfolder).mkdir(parents=True)
    write_labelmap(folder, parts[0].dataset.classes)
    written = set()
    for part in parts:
        listing = folder / "ImageSets" / "Main" / f"{part.name}.txt"
        listing.write_text("".join(f"{file.stem}\n" for file in part.files), encoding="utf-8")
        entries = list(zip(part.files, part.dataset.images, strict=True))
        for file, record in track(entries, f"writing {part.name}"):
            if file not in written:
                written.add(file)
                tree = ElementTree(_annotation(record, part.dataset.classes, file.name))
                indent(tree, "\t")
                tree.write(folder / "Annotations" / f"{file.stem}.xml", encoding="utf-8")
                images.place(record.path, folder / "JPEGImages" / file)


def _check_classes(dataset: DetectionDataset) -> None:
    for name in dataset.classes:
        controls = any(unicodedata.category(letter) in ("Cc", "Cs", "Cn", "Zl", "Zp") for letter in name)
        if controls or not name or name != name.strip():
            raise DataError(
                f"{dataset.source}: the class {name!r} cannot be written as PASCAL VOC; expected a name without "
                "control characters, line breaks, and white space at its ends; rename the class"
            )


def _annotation(record: ImageRecord, classes: Sequence[str], file_name: str) -> Element:
    root = Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", file_name)
    size = SubElement(root, "size")
    for key, value in (("width", record.width), ("height", record.height), ("depth", 3)):
        _add(size, key, str(value))
    _add(root, "segmented", "0")
    for box, label, difficult in zip(record.boxes, record.labels, record.difficult, strict=True):
        element = SubElement(root, "object")
        _add(element, "name", classes[label])
        _add(element, "pose", "Unspecified")
        _add(element, "truncated", "0")
        _add(element, "difficult", str(int(difficult)))
        corners = SubElement(element, "bndbox")
        x1, y1, x2, y2 = box.tolist()
        for key, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            _add(corners, key, f"{value:.6f}".rstrip("0").rstrip("."))
    return root


def _add(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = text
