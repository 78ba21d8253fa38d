"""Where the parts of datasets with one XML file per image are: PASCAL VOC's folders, LabelImg's, Roboflow's."""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path

from detdistill.core.files import open_regular
from detdistill.core.images import ENDINGS
from detdistill.data.folders import IMAGE_FOLDERS, Folder, files_in, folders_in, holds
from detdistill.data.splits import Split, is_split_name
from detdistill.data.voc_reader import VocFiles, read_voc

LOOKED_FOR = (
    "PASCAL VOC: Annotations/*.xml and JPEGImages/ or images/, ImageSets/Main/*.txt, also in VOC2007/ or "
    "VOCdevkit/VOC2007/; *.xml beside the images, also in train/, valid/ and test/"
)

_LAYOUT = "PASCAL VOC"
_XML = frozenset({".xml"})
_ANNOTATION_FOLDERS = ("annotations", "annotation", "xml", "xmls", "labels")
_PROBED_FILES = 100


def voc_splits(root: Path) -> list[Split]:
    """Return the splits of the XML files in a folder, or in several years' folders (then named `VOC2007/train`, …)."""
    kits = [root, *folders_in(root, {"vocdevkit"})]
    years = [root, *(year for kit in kits for year in folders_in(kit) if _is_year(year))]
    found = [(year, folder) for year in years for folder in _xml_folders(year)]
    several = len({year for year, _ in found}) > 1
    return [
        split for year, folder in found for split in annotation_splits(folder, f"{year.name}/" if several else "", year)
    ]


def annotation_splits(annotations: Path, prefix: str = "", root: Path | None = None) -> list[Split]:
    """Return the splits of one folder of XML files: those that `ImageSets/Main` beside it lists, else one of all.

    Args:
        annotations: The folder.
        prefix: Begins the names of the splits.
        root: The dataset's folder; None: the one above.
    """
    sets = [main for sets in folders_in(annotations.parent, {"imagesets"}) for main in folders_in(sets, {"main"})]
    listings = [file for main in sets for file in files_in(main, {".txt"}) if not _is_of_one_class(file)]
    if listings and annotations.name.lower() in _ANNOTATION_FOLDERS:
        return [listing_split(annotations, listing, prefix) for listing in listings]
    files = VocFiles(annotations, _image_folder(annotations), None)
    name = _split_name(annotations, annotations.parent if root is None else root)
    return [Split(f"{prefix}{name}", _LAYOUT, annotations, partial(read_voc, files))]


def listing_split(annotations: Path, listing: Path, prefix: str = "") -> Split:
    """Return the split that a text file lists."""
    files = VocFiles(annotations, _image_folder(annotations), listing)
    return Split(f"{prefix}{listing.stem}", _LAYOUT, listing, partial(read_voc, files))


def annotations_near(listing: Path) -> Path | None:
    """Return the folder of XML files that a list in `ImageSets/Main` or beside the folder belongs to."""
    for above in list(listing.absolute().parents)[:3]:
        for folder in folders_in(above, _ANNOTATION_FOLDERS):
            if holds(folder, _XML):
                return folder
    return None


def _xml_folders(root: Path) -> list[Path]:
    """Return the folders of XML files in the usual places of one dataset."""
    usual = {*_ANNOTATION_FOLDERS, *IMAGE_FOLDERS}
    places = []
    for folder in folders_in(root):
        if folder.name.lower() in usual or is_split_name(folder.name):
            parts = folders_in(folder)
            places += [folder, *(part for part in parts if part.name.lower() in usual or is_split_name(part.name))]
        elif holds(folder, ENDINGS):
            places.append(folder)
    found = [place for place in places if holds(place, _XML)]
    if holds(root, _XML) and (not found or holds(root, ENDINGS)):
        found.insert(0, root)
    return found


def _is_year(folder: Path) -> bool:
    return folder.name.lower().startswith("voc") and folder.name.lower() != "vocdevkit"


def _image_folder(annotations: Path) -> Path:
    """Return the first of the usual folders that holds an image of the first XML files, else the first that exists."""
    above = annotations.parent
    usual = [*folders_in(above, {"jpegimages"}), *folders_in(above, IMAGE_FOLDERS)]
    if is_split_name(annotations.name):  # annotations/train and images/train
        usual = [
            part
            for folder in folders_in(above.parent, IMAGE_FOLDERS)
            for part in (*folders_in(folder, {annotations.name.lower()}), folder)
        ] + usual
    usual += [annotations, above, *(part for part in folders_in(above.parent, IMAGE_FOLDERS))]
    stems = [file.stem for file in islice(files_in(annotations, _XML), _PROBED_FILES)]
    for place in usual:
        folder = Folder(place)
        if any(folder.find(stem, listed=True).fault is None for stem in stems):
            return place
    return next((place for place in usual if holds(place, ENDINGS)), above / "JPEGImages")


def _split_name(annotations: Path, root: Path) -> str:
    """Return the split's name in the path of a folder of XML files, else its own name, or `all` for a usual one."""
    parts = annotations.relative_to(root).parts if annotations.is_relative_to(root) else annotations.parts[-1:]
    unusual = [part for part in parts if part.lower() not in (*_ANNOTATION_FOLDERS, *IMAGE_FOLDERS)]
    return next((part for part in reversed(parts) if is_split_name(part)), "/".join(unusual) or "all")


def _is_of_one_class(listing: Path) -> bool:
    """Whether a list is one of VOC's `aeroplane_train.txt`, which have a second column."""
    try:
        with open_regular(listing) as stream:
            words = stream.readline(1000).split()
    except OSError:
        return False
    return len(words) > 1 and words[-1] in (b"1", b"-1", b"0")
