"""One XML file of PASCAL VOC's format."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from detdistill.core.errors import DataError, Problem
from detdistill.core.files import read_regular
from detdistill.core.images import Size, image_size
from detdistill.data.assembly import UNKNOWN_SIZE, shown, to_flag, to_number
from detdistill.data.objects import Box
from detdistill.data.text_files import LARGEST_LABELS
from detdistill.data.voc_masks import read_masks


class ImageFiles(NamedTuple):
    """An image and its annotations.

    Attributes:
        image_id: The stem.
        file_name: Name of the image, relative to the image folder.
        path: The image file.
        xml: The annotations.
        masks: The image of masks; None if it is not read, or there is none.
    """

    image_id: str
    file_name: str
    path: Path
    xml: Path
    masks: Path | None = None


@dataclass(frozen=True)
class Annotation:
    """What an XML file says.

    Attributes:
        size: Height and width of the image in pixels; None if the file cannot be used.
        objects: Of each usable object its number in the file from 1, class name, x1 y1 x2 y2, and flag `difficult`.
        problems: What was changed or left out, and why the file cannot be used.
        masks: The mask of each of `objects` as RLE, an empty text for one without.
    """

    size: Size | None = None
    objects: list[tuple[int, str, Box, bool]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)


def read_annotation(files: ImageFiles) -> Annotation:
    """Read one XML file with the masks of its objects, and the size of its image where the file does not give it."""
    problems: list[Problem] = []
    root = parsed(files.xml, problems)
    if root is None:
        return Annotation(problems=problems)
    size = _size(root, files.xml, files.path, problems)
    objects = []
    for number, element in enumerate(root.findall("object"), start=1):
        read = _object(element, f"{files.xml}: object {number}", problems)
        if read is not None:
            objects.append((number, *read))
    masks = [""] * len(objects)
    if files.masks is not None and size != UNKNOWN_SIZE:
        places = [f"{files.xml}: object {number}" for number, *_ in objects]
        masks = read_masks(files.masks, size, [box for _, _, box, _ in objects], places, problems)
    return Annotation(size, objects, problems, masks)


def parsed(xml: Path, problems: list[Problem]) -> Element | None:
    """Return the root element; None if the file cannot be used, which is added to `problems`."""
    try:
        root = _root(read_regular(xml, LARGEST_LABELS))
    except DefusedXmlException as error:
        problems.append(
            Problem(str(xml), f"refused: XML with entities can be a bomb ({error}); remove them", fatal=True)
        )
    except OSError as error:
        problems.append(Problem(str(xml), f"cannot be read ({error.strerror})", fatal=True))
    # An unknown or wrong encoding comes out as LookupError or ValueError.
    except (ParseError, LookupError, ValueError) as error:
        problems.append(Problem(str(xml), f"is not valid XML ({error}); mend it or remove the image", fatal=True))
    else:
        return root
    return None


def _root(content: bytes) -> Element:
    # Entities, which make XML dangerous, are declared in a document type alone. A null character: it may be UTF-16.
    if b"<!DOCTYPE" in content or b"\0" in content:
        root: Element = fromstring(content)
        return root
    return ElementTree.fromstring(content)  # noqa: S314  # seven times as fast


def _size(root: Element, xml: Path, image: Path, problems: list[Problem]) -> Size:
    """Height and width as annotated; where they are not, the image's own."""
    given = [root.findtext(f"size/{side}") for side in ("height", "width")]
    height, width = map(to_number, given)
    if height is not None and width is not None and height >= 1 and width >= 1 and height % 1 == width % 1 == 0:
        return int(height), int(width)
    if root.find("size") is not None:
        fault = "are no size in pixels; the image's own is used"
        what, group = f"width {shown(given[1])} and height {shown(given[0])} {fault}", f"width and height {fault}"
        problems.append(Problem(str(xml), what, outcome="changed", unit="image", group=group))
    try:
        return image_size(image)
    except DataError as error:
        group = "width and height are missing, and the image cannot be opened"
        problems.append(
            Problem(str(xml), f"width and height are missing, and {error}", fatal=True, unit="image", group=group)
        )
        return UNKNOWN_SIZE


def _object(element: Element, place: str, problems: list[Problem]) -> tuple[str, Box, bool] | None:
    """Class name, x1 y1 x2 y2 and the flag `difficult`; None if the object cannot be used."""
    name = (element.findtext("name") or "").strip()
    if not name:
        problems.append(Problem(place, "has no name; left out", outcome="left out", unit="annotation"))
        return None
    texts = [element.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    x1, y1, x2, y2 = (to_number(text and text.replace(",", ".")) for text in texts)
    if x1 is None or y1 is None or x2 is None or y2 is None:
        fault = "bndbox must have four finite numbers"
        what, group = f"{fault}, has {shown(texts)}; left out", f"{fault}; left out"
        problems.append(Problem(place, what, outcome="left out", unit="annotation", group=group))
        return None
    if any("," in (text or "") for text in texts):
        what = "bndbox has decimal commas; read as decimal points"
        problems.append(Problem(place, what, outcome="changed", unit="annotation"))
    text = element.findtext("difficult") or ""
    difficult = to_flag(text)
    if difficult is None:
        number = to_number(text)
        difficult = number is not None and number > 0
        fault, done = "difficult must be 0 or 1", f"read as {difficult:d}"
        what, group = f"{fault}, is {shown(text.strip())}; {done}", f"{fault}; {done}"
        problems.append(Problem(place, what, outcome="changed", unit="annotation", group=group))
    (x1, x2), (y1, y2) = counted_from_0(x1, x2), counted_from_0(y1, y2)
    return name, (x1, y1, x2, y2), difficult


def counted_from_0(start: float, end: float) -> tuple[float, float]:
    """Return both ends of a box's side, counted from 1 in the file, in pixels from 0, the second one excluded.

    Swapped ends stay swapped.
    """
    if start > end + 1:
        return start, end - 1 if end >= 1 else end
    return start - 1 if start >= 1 else start, end
