"""PASCAL VOC: one XML file per image, and text files that list the images of a split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from detdistill.annotations import DetectionDataset
from detdistill.data.assembly import UNKNOWN_SIZE, Box, ImageEntry, Objects, assemble, shown, to_flag, to_number
from detdistill.data.folders import Folder
from detdistill.data.splits import Split
from detdistill.errors import DataError, Problem
from detdistill.images import ENDINGS, Size, image_size

LOOKED_FOR = "PASCAL VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/*.txt, also in VOC2007/ or VOCdevkit/VOC2007/"

_LAYOUT = "PASCAL VOC"
_UNUSABLE_IMAGE = "the image is not there or leaves its folder"


@dataclass(frozen=True)
class VocFiles:
    """Where the parts of a data set lie.

    Attributes:
        annotations: folder of XML files.
        images: folder of images with the same stems.
        listing: text file with the stems of a split, one a line; None: all XML files.
    """

    annotations: Path
    images: Path
    listing: Path | None


def voc_splits(root: Path) -> list[Split]:
    """The splits of a VOC folder, or of several years' folders (then named `VOC2007/train`, …)."""
    years = [root, *sorted(root.glob("VOC*")), *sorted(root.glob("VOCdevkit/VOC*"))]
    found = [year for year in years if (year / "Annotations").is_dir()]
    return [
        split
        for year in found
        for split in annotation_splits(year / "Annotations", f"{year.name}/" if len(found) > 1 else "")
    ]


def annotation_splits(annotations: Path, prefix: str = "") -> list[Split]:
    """The splits of one folder of XML files: those that `ImageSets/Main` beside it lists, else one of all files."""
    folder = annotations.parent
    listings = [file for file in sorted(folder.glob("ImageSets/Main/*.txt")) if not _is_of_one_class(file)]
    if not listings:
        files = VocFiles(annotations, folder / "JPEGImages", None)
        return [Split(f"{prefix}all", _LAYOUT, annotations, partial(read_voc, files))]
    return [listing_split(annotations, listing, prefix) for listing in listings]


def listing_split(annotations: Path, listing: Path, prefix: str = "") -> Split:
    """The split that a text file lists."""
    files = VocFiles(annotations, annotations.parent / "JPEGImages", listing)
    return Split(f"{prefix}{listing.stem}", _LAYOUT, listing, partial(read_voc, files))


def read_voc(files: VocFiles, images: Path | None, check_images: bool) -> DetectionDataset:
    """Reads VOC annotations.

    VOC counts pixels from 1 and includes the last one: a box over a whole image of width W has xmin = 1, xmax = W. It
    becomes x1 = 0, x2 = W here: 1 is subtracted from xmin and ymin only, as in Detectron2. (mmdetection subtracts it
    from all four, which makes every box a pixel narrower than what was annotated.) Labelling tools that write the
    format but count from 0 also write xmin = 0: that stays 0.

    Args:
        files: the parts of the data set.
        images: the image folder instead of the recognised one.
        check_images: every image must be there.

    Returns:
        The data set; its classes are the names that its objects have, sorted. Images are identified by their stems.

    Raises:
        DataError: the data set cannot be used; all reasons are listed.
    """
    source = str(files.listing or files.annotations)
    problems: list[Problem] = []
    xml_folder, image_folder = Folder(files.annotations), Folder(images or files.images)
    file_names = {Path(name).stem: name for name in image_folder.names() if Path(name).suffix.lower() in ENDINGS}
    entries: list[ImageEntry] = []
    objects, names = Objects(), []
    stems = _stems(files, xml_folder, problems)
    if files.listing is None:
        problems += [
            Problem(
                f"{source}: {shown(file_names[stem])}",
                "the image has no XML file; left out",
                outcome="left out",
                unit="image",
            )
            for stem in sorted(file_names.keys() - stems)
        ]
    for stem in stems:
        place = f"{source}: {shown(stem)}"
        file_name = file_names.get(stem, f"{stem}.jpg")
        image_fault = image_folder.fault(file_name, must_exist=check_images)
        if image_fault:
            problems.append(_without_image(files, xml_folder, stem, place, f"image {shown(file_name)} {image_fault}"))
            continue
        xml_fault = xml_folder.fault(f"{stem}.xml")
        if xml_fault:
            what, group = f"{shown(f'{stem}.xml')} {xml_fault}; left out", f"the XML file {xml_fault}; left out"
            problems.append(Problem(place, what, outcome="left out", unit="image", group=group))
            continue
        xml = files.annotations / f"{stem}.xml"
        root = _parsed(xml, problems)
        if root is None:
            continue
        height, width = _size(root, xml, image_folder.root / file_name, problems)
        for number, element in enumerate(root.findall("object"), start=1):
            read = _object(element, f"{xml}: object {number}", problems)
            if read is not None:
                name, box, difficult = read
                names.append(name)
                objects.add(len(entries), 0, box, f"{xml}: object {number}", difficult=difficult)
        entries.append(ImageEntry(stem, image_folder.root / file_name, file_name, width, height))
    classes = sorted(set(names))
    label_of = {name: label for label, name in enumerate(classes)}
    objects.labels = [label_of[name] for name in names]
    return assemble(source, classes, range(1, len(classes) + 1), entries, objects, problems)


def _is_of_one_class(listing: Path) -> bool:
    """Whether a list is one of VOC's `aeroplane_train.txt`, which have a second column."""
    try:
        with listing.open("rb") as stream:
            return len(stream.readline(1000).split()) > 1
    except OSError:
        return False


def _stems(files: VocFiles, xml_folder: Folder, problems: list[Problem]) -> list[str]:
    """The images of the split, each once."""
    if files.listing is None:
        return [Path(name).stem for name in xml_folder.names() if name.lower().endswith(".xml")]
    try:
        lines = files.listing.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"{files.listing}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{files.listing}: is not a UTF-8 text ({error})") from error
    stems: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        stem = line.strip()
        if stem in stems:
            problems.append(Problem(f"{files.listing}:{number}", f"lists {shown(stem)} again; read once"))
        elif stem:
            stems[stem] = None
    return list(stems)


def _without_image(files: VocFiles, xml_folder: Folder, stem: str, place: str, fault: str) -> Problem:
    """The problem of annotations whose image cannot be used: fatal if a list names the image."""
    if files.listing is not None:
        return Problem(place, fault, fatal=True, unit="image", group=_UNUSABLE_IMAGE)
    readable = xml_folder.fault(f"{stem}.xml") is None
    root = _parsed(files.annotations / f"{stem}.xml", []) if readable else None
    count = 0 if root is None else len(root.findall("object"))
    done = "its annotations are left out"
    group = f"{_UNUSABLE_IMAGE}; {done}"
    return Problem(place, f"{fault}; {done}", outcome="left out", unit="annotation", count=count, group=group)


def _parsed(xml: Path, problems: list[Problem]) -> Element | None:
    try:
        root = parse(xml).getroot()
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
    (x1, x2), (y1, y2) = _counted_from_0(x1, x2), _counted_from_0(y1, y2)
    return name, (x1, y1, x2, y2), difficult


def _counted_from_0(start: float, end: float) -> tuple[float, float]:
    """Both ends of a box's side in pixels counted from 0, the second one excluded; swapped ends stay swapped."""
    if start > end + 1:
        return start, end - 1 if end >= 1 else end
    return start - 1 if start >= 1 else start, end
