"""PASCAL VOC: one XML file per image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import Problem
from detdistill.core.images import ENDINGS
from detdistill.core.parallel import work_through
from detdistill.data.assembly import ImageEntry, assemble, image_columns, shown
from detdistill.data.folders import Folder, folders_in, is_image, skipped_files
from detdistill.data.image_lists import leaves
from detdistill.data.labelmap import LABELMAP, read_labelmap
from detdistill.data.objects import ObjectList
from detdistill.data.splits import ReadOptions
from detdistill.data.text_files import read_text
from detdistill.data.voc_annotation import ImageFiles, parsed, read_annotation
from detdistill.data.voc_masks import FOLDER

_UNUSABLE_IMAGE = "the image is not there or leaves its folder"


@dataclass(frozen=True)
class VocFiles:
    """Where the parts of a dataset are.

    Attributes:
        annotations: Folder of XML files.
        images: Folder of images with the same stems.
        listing: Text file with the images of a split, one a line, with or without ending; None: all XML files.
    """

    annotations: Path
    images: Path
    listing: Path | None


def read_voc(files: VocFiles, options: ReadOptions) -> DetectionDataset:
    """Read VOC annotations.

    VOC counts pixels from 1 and includes the last one: a box over a whole image of width W has xmin = 1, xmax = W. It
    becomes x1 = 0, x2 = W here: 1 is subtracted from xmin and ymin only, as in Detectron2. (mmdetection subtracts it
    from all four, which makes every box a pixel narrower than what was annotated.) Labelling tools that write the
    format but count from 0 also write xmin = 0: that stays 0.

    Args:
        files: The parts of the dataset.
        options: How they are read.

    Returns:
        The dataset, with the masks in `SegmentationObject/` if they are wanted; its classes are those of
        `labelmap.txt`, if that is there, then the other names that its objects have, sorted. Images are identified by
        their stems.

    Raises:
        DataError: The dataset cannot be used; all reasons are listed.
    """
    source = str(files.listing or files.annotations)
    problems: list[Problem] = []
    found = _annotated_images(files, options, problems)
    entries: list[ImageEntry] = []
    objects, names = ObjectList(masks=options.masks), []
    read = work_through(found, read_annotation, "reading annotations")
    for image, annotation in zip(found, read, strict=True):
        problems += annotation.problems
        if annotation.size is None:
            continue
        for (number, class_name, box, difficult), mask in zip(annotation.objects, annotation.masks, strict=True):
            names.append(class_name)
            objects.add(len(entries), 0, box, f"{image.xml}: object {number}", difficult=difficult, mask=mask)
        height, width = annotation.size
        entries.append(ImageEntry(image.image_id, image.path, image.file_name, width, height))
    classes = _classes(files.annotations.parent, names, options, problems)
    label_of = {name: label for label, name in enumerate(classes)}
    objects.labels = [label_of[name] for name in names]
    return assemble(source, classes, range(1, len(classes) + 1), image_columns(entries), objects.columns(), problems)


def _annotated_images(files: VocFiles, options: ReadOptions, problems: list[Problem]) -> list[ImageFiles]:
    """Return the images of the split that have a file and annotations."""
    source = str(files.listing or files.annotations)
    xml_folder = Folder(files.annotations, follow_links=options.follow_links)
    image_folder = Folder(options.images or files.images, follow_links=options.follow_links)
    places = folders_in(files.annotations.parent, {FOLDER}) if options.masks else []
    mask_folder = Folder(places[0], follow_links=options.follow_links) if places else None
    image_names = image_folder.names(ENDINGS)
    by_stem: dict[str, list[str]] = {}
    for name in image_names:
        by_stem.setdefault(Path(name).stem, []).append(name)
    files_of_image: list[ImageFiles] = []
    annotated: set[str] = set()
    xml_of_image: dict[str, str] = {}
    for stem, listed_name in _listed_images(files, xml_folder, image_folder, options, problems).items():
        place = f"{source}: {shown(stem)}"
        same_stem = [listed_name] if is_image(listed_name) else by_stem.get(stem, [listed_name])
        annotated.update(same_stem)
        if len(same_stem) > 1:
            what = f"the images {' and '.join(map(shown, same_stem))} share one XML file; rename or remove one of them"
            group = "images share one XML file; rename or remove one of them"
            problems.append(Problem(place, what, fatal=True, unit="image", group=group))
            continue
        image = image_folder.find(same_stem[0], must_exist=options.check_images, listed=True)
        annotated.add(image.name)
        file_name = image.name if is_image(image.name) else f"{image.name}.jpg"
        if image.fault:
            fault = f"image {shown(file_name)} {image.fault}"
            problems.append(_without_image(files, xml_folder, stem, place, fault))
            continue
        found = xml_folder.find(f"{stem}.xml", listed=True)
        if found.fault:
            what, group = f"{shown(f'{stem}.xml')} {found.fault}; left out", f"the XML file {found.fault}; left out"
            problems.append(Problem(place, what, outcome="left out", unit="image", group=group))
            continue
        if xml_of_image.setdefault(image.name, found.name) != found.name:
            what = f"{shown(xml_of_image[image.name])} and {shown(found.name)} both belong to {shown(image.name)}"
            problems.append(Problem(place, f"{what}; remove or rename one of them", fatal=True))
            continue
        image_id = PurePath(found.name).with_suffix("").as_posix()
        path = image_folder.root / file_name
        masks = None if mask_folder is None else _mask_file(mask_folder, stem, place, problems)
        files_of_image.append(ImageFiles(image_id, file_name, path, files.annotations / found.name, masks))
    if files.listing is None:
        problems += [
            Problem(f"{source}: {shown(name)}", "the image has no XML file; left out", outcome="left out", unit="image")
            for name in image_names
            if name not in annotated
        ]
    problems += skipped_files(source, sorted({*xml_folder.skipped, *image_folder.skipped}))
    return files_of_image


def _mask_file(folder: Folder, stem: str, place: str, problems: list[Problem]) -> Path | None:
    """The image of an image's masks; None if there is none, or it cannot be used."""
    found = folder.find(f"{stem}.png", listed=True)
    if found.fault is None:
        return folder.root / found.name
    if not found.missing:
        fault = f"its image of masks {found.fault}"
        problems.append(Problem(place, f"{fault}; its objects have no masks", outcome="changed", unit="image"))
    return None


def _classes(folder: Path, names: list[str], options: ReadOptions, problems: list[Problem]) -> list[str]:
    """The class list beside the annotations, with the names of objects that it lacks added."""
    classes = [] if leaves(folder / LABELMAP, folder, options, problems) else read_labelmap(folder)
    others = sorted(set(names) - set(classes))
    if classes and others:
        what = f"lacks the classes {', '.join(map(shown, others))} of objects; added at the end"
        problems.append(Problem(str(folder / LABELMAP), what))
    return classes + others


def _listed_images(
    files: VocFiles, xml_folder: Folder, image_folder: Folder, options: ReadOptions, problems: list[Problem]
) -> dict[str, str]:
    """Return the stems of the split's images, and the name of each as it is listed."""
    if files.listing is None:
        return {Path(name).stem: Path(name).stem for name in xml_folder.names({".xml"})}

    def is_right(text: str) -> bool:
        stems = [name for name in text.split("\n") if not name.isascii()]
        return all(image_folder.find(name.strip(), listed=True).fault is None for name in stems)

    listed: dict[str, str] = {}
    root = files.annotations.parent
    if files.listing.is_relative_to(root) and leaves(files.listing, root, options, problems):
        return listed
    for number, line in enumerate(read_text(files.listing, is_right).split("\n"), start=1):
        name = line.strip()
        stem = name[: -len(Path(name).suffix)] if is_image(name) else name
        if stem in listed:
            problems.append(Problem(f"{files.listing}:{number}", f"lists {shown(name)} again; read once"))
        elif stem:
            listed[stem] = name
    return listed


def _without_image(files: VocFiles, xml_folder: Folder, stem: str, place: str, fault: str) -> Problem:
    """The problem of annotations whose image cannot be used: fatal if a list names the image."""
    if files.listing is not None:
        return Problem(place, fault, fatal=True, unit="image", group=_UNUSABLE_IMAGE)
    found = xml_folder.find(f"{stem}.xml", listed=True)
    root = None if found.fault else parsed(files.annotations / found.name, [])
    count = 0 if root is None else len(root.findall("object"))
    done = "its annotations are left out"
    group = f"{_UNUSABLE_IMAGE}; {done}"
    return Problem(place, f"{fault}; {done}", outcome="left out", unit="annotation", count=count, group=group)
