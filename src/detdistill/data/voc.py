"""PASCAL VOC: one XML file per image, and text files that list the images of a split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from detdistill.annotations import DetectionDataset
from detdistill.data.assembly import UNKNOWN_SIZE, Box, ImageEntry, Objects, assemble, shown, to_number
from detdistill.data.folders import Folder
from detdistill.data.labelmap import LABELMAP, read_labelmap
from detdistill.data.splits import Split
from detdistill.errors import DataError, Problem
from detdistill.images import ENDINGS, Size, image_size

LOOKED_FOR = "PASCAL VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/*.txt, also in VOC2007/ or VOCdevkit/VOC2007/"

_LAYOUT = "PASCAL VOC"


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
        The data set; its classes are those of `labelmap.txt`, if that is there, then the other names that its objects
        have, sorted. Images are identified by their stems.

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
            Problem(f"{source}: {shown(file_names[stem])}", "the image has no XML file; left out")
            for stem in sorted(file_names.keys() - stems)
        ]
    for stem in stems:
        place = f"{source}: {shown(stem)}"
        file_name = file_names.get(stem, f"{stem}.jpg")
        image_fault = image_folder.fault(file_name, must_exist=check_images)
        if image_fault:
            listed = files.listing is not None
            way_out = "" if listed else "; its annotations are left out"
            problems.append(Problem(place, f"image {shown(file_name)} {image_fault}{way_out}", fatal=listed))
            continue
        xml_fault = xml_folder.fault(f"{stem}.xml")
        if xml_fault:
            problems.append(Problem(place, f"{shown(f'{stem}.xml')} {xml_fault}; the image is left out"))
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
    classes = _classes(files.annotations.parent, names, problems)
    label_of = {name: label for label, name in enumerate(classes)}
    objects.labels = [label_of[name] for name in names]
    return assemble(source, classes, range(1, len(classes) + 1), entries, objects, problems)


def _classes(folder: Path, names: list[str], problems: list[Problem]) -> list[str]:
    """The class list beside the annotations, with the names of objects that it lacks added."""
    classes = read_labelmap(folder)
    others = sorted(set(names) - set(classes))
    if classes and others:
        what = f"lacks the classes {', '.join(map(shown, others))} of objects; added at the end"
        problems.append(Problem(str(folder / LABELMAP), what))
    return classes + others


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
        what = f"width {shown(given[1])} and height {shown(given[0])} are no size in pixels; the image's own is used"
        problems.append(Problem(str(xml), what))
    try:
        return image_size(image)
    except DataError as error:
        problems.append(Problem(str(xml), f"width and height are missing, and {error}", fatal=True))
        return UNKNOWN_SIZE


def _object(element: Element, place: str, problems: list[Problem]) -> tuple[str, Box, bool] | None:
    """Class name, x1 y1 x2 y2 and the flag `difficult`; None if the object cannot be used."""
    name = (element.findtext("name") or "").strip()
    if not name:
        problems.append(Problem(place, "has no name; left out"))
        return None
    texts = [element.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    x1, y1, x2, y2 = map(to_number, texts)
    if x1 is None or y1 is None or x2 is None or y2 is None:
        problems.append(Problem(place, f"bndbox must have four finite numbers, has {shown(texts)}; left out"))
        return None
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        problems.append(Problem(place, f"difficult must be 0 or 1, is {shown(difficult)}; left out"))
        return None
    return name, (x1 - 1 if x1 >= 1 else x1, y1 - 1 if y1 >= 1 else y1, x2, y2), difficult == "1"
