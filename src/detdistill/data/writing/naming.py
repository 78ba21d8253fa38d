"""The parts of a dataset as they are written: safe part names, and a file name for every image."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.errors import DataError, Problem
from detdistill.core.images import ENDINGS, image_ending

Names = dict[str, list[PurePosixPath]]
"""The file names of each part's images."""


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a dataset with the file names that its images get.

    Attributes:
        name: `train`, `val` …, safe as a file name.
        dataset: its images and objects.
        files: the name of each image, relative to the format's image folder, without `..`.
    """

    name: str
    dataset: DetectionDataset
    files: tuple[PurePosixPath, ...]


def safe_part_names(parts: Mapping[str, DetectionDataset]) -> dict[str, DetectionDataset]:
    """Replace what a file name cannot hold in the parts' names: `VOC2007/train` becomes `VOC2007_train`.

    Raises:
        DataError: a name is empty, or two become the same.
    """
    safe: dict[str, DetectionDataset] = {}
    for name, dataset in parts.items():
        file_name = re.sub(r"[^\w.-]+", "_", name).lstrip(".")
        if not file_name or file_name in safe:
            raise DataError(
                f"{dataset.source}: the split name {name!r} cannot be used in a file name; "
                "expected names that differ in letters or digits; convert one split at a time"
            )
        safe[file_name] = dataset
    return safe


def with_coco_names(parts: Mapping[str, DetectionDataset]) -> list[Part]:
    """Name the images of each part in a folder of its own, subfolders kept; a file with two ids is written once."""
    return [
        Part(name, parts[name], tuple(_unique(wanted, [record.path for record in parts[name].images], str)))
        for name, wanted in _short_names(parts).items()
    ]


def with_yolo_names(parts: Mapping[str, DetectionDataset]) -> list[Part]:
    """Name the images of each part in a folder of its own, subfolders kept.

    YOLO finds the labels by the image's name without the ending, in the folder that has `labels` in place of the last
    `images`. So names without the ending are unique, and no subfolder is called `images`.
    """
    named = []
    for name, wanted in _short_names(parts).items():
        records = parts[name].images
        wanted = [
            PurePosixPath(*(folder for folder in file.parent.parts if folder != "images"), _with_ending(file, record))
            for file, record in zip(wanted, records, strict=True)
        ]
        files = _unique(wanted, range(len(wanted)), lambda file: str(file.with_suffix("")))
        named.append(Part(name, parts[name], tuple(files)))
    return named


def with_voc_names(parts: Mapping[str, DetectionDataset]) -> list[Part]:
    """Name the images of all parts in one folder without subfolders; their stems hold no white space.

    Images of one name in different subfolders get the subfolders' names in front. An image that several parts hold
    with the same objects has one name; with different objects, it has one for each.
    """
    wanted: list[PurePosixPath] = []
    owners: list[Hashable] = []
    for name, files in _short_names(parts).items():
        seen: Counter[Hashable] = Counter()
        for file, record in zip(files, parts[name].images, strict=True):
            content = (record.path, *(getattr(record, key).tobytes() for key in ("boxes", "labels", "difficult")))
            seen[content] += 1
            owners.append((content, seen[content]))
            spaceless = [re.sub(r"\s", "_", part) for part in (*file.parent.parts, _with_ending(file, record))]
            wanted.append(PurePosixPath(*spaceless))
    first = dict(zip(owners, wanted, strict=True))
    count = Counter(file.stem for file in first.values())
    flat = [PurePosixPath(file.name if count[file.stem] == 1 else "_".join(file.parts)) for file in wanted]
    unique = iter(_unique(flat, owners, lambda file: file.stem))
    return [Part(name, part, tuple(next(unique) for _ in part.images)) for name, part in parts.items()]


def _short_names(parts: Mapping[str, DetectionDataset]) -> Names:
    """The images' names without the folders that all images of one source have in common.

    Characters that a text file cannot hold become underscores.

    Raises:
        DataError: a name leaves the image folder.
    """
    paths = {name: [_inside(record, part.source) for record in part.images] for name, part in parts.items()}
    by_source: dict[str, list[PurePosixPath]] = {}
    for name, part in parts.items():
        by_source.setdefault(part.source, []).extend(path.parent for path in paths[name])
    depth = {
        source: len(PurePosixPath(os.path.commonpath(folders)).parts) if folders else 0
        for source, folders in by_source.items()
    }
    return {
        name: [PurePosixPath(*map(_writable, path.parts[depth[part.source] :])) for path in paths[name]]
        for name, part in parts.items()
    }


def _inside(record: ImageRecord, source: str) -> PurePosixPath:
    path = PurePath(record.file_name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        what = "leaves the image folder; expected a relative name without '..'; rename the image"
        problem = Problem(f"{source}: image {record.image_id!r}", f"file_name {record.file_name!r} {what}", fatal=True)
        raise DataError(f"{source}: an image cannot be written", [problem])
    return PurePosixPath(path.as_posix())


def _writable(name: str) -> str:
    return "".join("_" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in name)


def _with_ending(file: PurePosixPath, record: ImageRecord) -> str:
    """The file's own name, with an image format's ending added where it has none."""
    return file.name if file.suffix.lower() in ENDINGS else file.name + image_ending(record.path)


def _unique(
    wanted: Sequence[PurePosixPath], owners: Sequence[Hashable], identity: Callable[[PurePosixPath], str]
) -> list[PurePosixPath]:
    """Give each owner the name it wants, with a number added to the stem where another owner has that name.

    Args:
        wanted: the names.
        owners: entries of the same owner get the same name.
        identity: what must differ between the names of two owners.
    """
    reserved = {identity(file) for file in wanted}
    used: set[str] = set()
    last: Counter[str] = Counter()
    name_of: dict[Hashable, PurePosixPath] = {}
    for file, owner in zip(wanted, owners, strict=True):
        if owner in name_of:
            continue
        candidate = file
        while identity(candidate) in used or (candidate != file and identity(candidate) in reserved):
            last[identity(file)] += 1
            candidate = file.with_stem(f"{file.stem}_{last[identity(file)] + 1}")
        used.add(identity(candidate))
        name_of[owner] = candidate
    return [name_of[owner] for owner in owners]
