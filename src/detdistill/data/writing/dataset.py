"""A dataset into a new folder, in COCO, PASCAL VOC or YOLO format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from detdistill.core.annotations import DetectionDataset
from detdistill.core.files import new_folder
from detdistill.data.classes import with_common_classes
from detdistill.data.writing.coco_writer import write_coco
from detdistill.data.writing.image_files import ImageFiles, check_output
from detdistill.data.writing.losses import Format, losses, without_crowd
from detdistill.data.writing.naming import Part, safe_part_names, with_coco_names, with_voc_names, with_yolo_names
from detdistill.data.writing.voc_writer import write_voc
from detdistill.data.writing.yolo_parts import yolo_parts
from detdistill.data.writing.yolo_writer import write_yolo


@dataclass(frozen=True, eq=False)
class Written:
    """What was written.

    Attributes:
        parts: the datasets as written, by the names of their splits.
        warnings: what the format cannot hold and what was renamed, with counts.
    """

    parts: dict[str, DetectionDataset]
    warnings: tuple[str, ...]


def write_dataset(parts: Mapping[str, DetectionDataset], out: Path, to: Format, *, link: bool = False) -> Written:
    """Write a dataset with its images into a new folder, which `open_dataset` reads without options.

    Boxes, classes and their order, images without objects, and the flags that the format has are kept. Only boxes are
    written: `DetectionDataset` holds no masks and no key points. The images are copied or linked as they are.

    Args:
        parts: the datasets by the names of their splits, at least one. Differing class lists are merged.
        out: the folder to make; it appears whole or not at all.
        to: `coco` (`annotations/instances_SPLIT.json`, `images/SPLIT/`), `voc` (`Annotations/`, `JPEGImages/`,
            `ImageSets/Main/SPLIT.txt`, `labelmap.txt`) or `yolo` (`data.yaml`, `images/SPLIT/`, `labels/SPLIT/`).
        link: make hard links to the images instead of copies; only within one file system.

    Returns:
        The parts as written, and warnings.

    Raises:
        DetdistillError: `out` exists, lies in a folder of the source's images or cannot be written; a name or an
            image cannot be written in this format.
    """
    check_output(out, parts.values())
    common = dict(zip(parts, with_common_classes(list(parts.values())), strict=True))
    chosen, warnings = yolo_parts(common) if to == "yolo" else (safe_part_names(common), [])
    warnings += losses(chosen.values(), to)
    if to != "coco":
        chosen = {name: without_crowd(part) for name, part in chosen.items()}
    images = ImageFiles(link)
    with new_folder(out) as folder:
        match to:
            case "coco":
                named = with_coco_names(chosen)
                write_coco(folder, named, images)
            case "voc":
                named = with_voc_names(chosen)
                write_voc(folder, named, images)
            case "yolo":
                named = with_yolo_names(chosen)
                write_yolo(folder, named, images)
    return Written(chosen, (*warnings, *_renamed(named)))


def _renamed(parts: Sequence[Part]) -> list[str]:
    """A warning that counts the images whose own names changed, with one of them."""
    pairs = dict.fromkeys(
        (record.file_name, file.name)
        for part in parts
        for record, file in zip(part.dataset.images, part.files, strict=True)
        if PurePath(record.file_name).name != file.name
    )
    if not pairs:
        return []
    before, after = next(iter(pairs))
    images = "1 image was" if len(pairs) == 1 else f"{len(pairs)} images were"
    return [f"{images} renamed, for example {before!r} to {after!r}"]
