"""YOLO datasets without a data file: image and label folders, and a text file of class names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem
from detdistill.core.images import ENDINGS
from detdistill.data.folders import IMAGE_FOLDERS, Folder, files_in, folders_in, holds
from detdistill.data.image_lists import leaves, lists_images
from detdistill.data.splits import NAME_THE_IMAGES, ReadOptions, Split, is_split_name, names_a_split
from detdistill.data.text_files import first_lines
from detdistill.data.yolo_config import config_classes, config_files, listed_classes, load_config
from detdistill.data.yolo_reader import CLASS_FILES, LABEL_FOLDERS, LAYOUT, YoloFiles, read_yolo

LOOKED_FOR = (
    "YOLO: *.yaml or obj.data with 'names' and 'train', 'val' or 'test'; or images/ and labels/, or images and labels "
    "in one folder, with classes.txt"
)

_LABEL = re.compile(r"\s*\d+(\.0*)?(\s+[-+]?[\d.]+(e[-+]?\d+)?){4,}\s*", re.IGNORECASE)
_PROBED_LABELS = 20


@dataclass(frozen=True)
class _Pair:
    """An image folder and the folder of its label files, which may be the same."""

    name: str
    images: Path
    labels: Path


def yolo_folder_splits(root: Path, rejected: list[Problem]) -> list[Split]:
    """Return the splits of the usual folders of images and labels, if there is a file of class names.

    Without such a file they are `rejected`. Text files in the folder that list images are the splits of folders that
    are not divided.
    """
    splits = []
    for pair in _pairs(root):
        classes = _class_files(root, pair)
        if not classes:
            what = "YOLO labels without class names: classes.txt, obj.names or data.yaml with 'names' is expected"
            rejected.append(Problem(str(pair.labels), what))
            continue
        lists = [file for file in files_in(root, {".txt"}) if _is_list(file, root)] if pair.name == "all" else []
        splits += [_split(file.stem, root, pair, file) for file in lists] or [_split(pair.name, root, pair, None)]
    return splits


def label_folder_splits(labels: Path, dataset: Path) -> list[Split]:
    """Return the split of a folder of label files that the user named; its images are recognised or given.

    Args:
        labels: The folder.
        dataset: The dataset's folder or file; folders above `labels` are looked at too.
    """
    labels = labels.absolute()
    roots = list(dict.fromkeys([dataset.absolute(), *labels.parents[:3]]))
    roots = [root for root in roots if root.is_dir() and labels.is_relative_to(root)]
    pairs = [(root, pair) for root in roots for pair in _pairs(root) if pair.labels.samefile(labels)]
    pairs += [(root, _Pair("all", labels, labels)) for root in roots]
    root, pair = next(((root, pair) for root, pair in pairs if _class_files(root, pair)), pairs[0])
    return [_split(pair.name, root, pair, None)]


def list_splits(listing: Path) -> list[Split]:
    """Return the split that a text file lists, if class names are in its folder or one of the two above."""
    for root in list(listing.absolute().parents)[:3]:
        if _class_files(root, _Pair("", root, root)):
            return [_split(listing.stem, root, None, listing)]
    return []


def is_label_folder(folder: Path) -> bool:
    """Return whether text files in a folder are YOLO labels; empty ones can be."""
    files = [file for file in files_in(folder, {".txt"}) if file.name.lower() not in CLASS_FILES]
    lines = [_first_line(file) for file in files[:_PROBED_LABELS]]
    return bool(files) and all(not line.strip() or _LABEL.fullmatch(line) for line in lines)


def _split(name: str, root: Path, pair: _Pair | None, listing: Path | None) -> Split:
    annotations = listing or (pair.labels if pair else root)
    return Split(name, LAYOUT, annotations, partial(_read, name, root, pair, listing))


def _read(name: str, root: Path, pair: _Pair | None, listing: Path | None, options: ReadOptions) -> DetectionDataset:
    problems: list[Problem] = []
    place = pair or _Pair(name, root, root)
    source = str(listing or place.labels)
    if listing is None and options.images is None and next(Folder(place.images).walk(ENDINGS), None) is None:
        raise DataError(f"{source}: no image folder was recognised; give it with {NAME_THE_IMAGES}")
    files = _class_files(root, place)
    classes = _classes([file for file in files if not leaves(file, root, options, problems)], source, options, problems)
    images, labels = (pair.images, pair.labels) if pair else (None, None)
    return read_yolo(YoloFiles(source, classes, root, [listing or place.images], images, labels), options, problems)


def _pairs(root: Path) -> list[_Pair]:
    """Return the usual places of images and labels, with a split's name or `all`."""
    found: dict[Path, _Pair] = {}
    for name, folder in (("", root), *((folder.name, folder) for folder in folders_in(root) if _is_split(folder))):
        for pair in _pairs_in(folder, name):
            found.setdefault(pair.labels, pair)
    return list(found.values())


def _pairs_in(folder: Path, name: str) -> Iterator[_Pair]:
    label_folders = folders_in(folder, LABEL_FOLDERS)
    image_folders = folders_in(folder, IMAGE_FOLDERS)
    for images in image_folders:
        for labels in label_folders:
            parts = [part for part in folders_in(labels) if is_label_folder(part) and (images / part.name).is_dir()]
            if is_label_folder(labels) or not all(_is_split(part) for part in parts):
                yield _Pair(name or "all", images, labels)
            for part in parts:
                if _is_split(part):
                    yield _Pair(part.name, images / part.name, part)
    beside = [(name or "all", folder)]
    if not label_folders:
        beside += [(name or "all", images) for images in image_folders]
        beside += [(part.name, part) for images in image_folders for part in folders_in(images)]
    for part_name, both in beside:
        if _has_labels_beside_images(both):
            yield _Pair(part_name, both, both)


def _is_split(folder: Path) -> bool:
    return is_split_name(folder.name)


def _has_labels_beside_images(folder: Path) -> bool:
    """Whether text files that have an image's stem are YOLO labels."""
    if not holds(folder, {".txt"}) or not holds(folder, ENDINGS):
        return False
    stems = {file.stem for file in files_in(folder, ENDINGS)}
    files = [file for file in files_in(folder, {".txt"}) if file.stem in stems]
    lines = [_first_line(file) for file in files[:_PROBED_LABELS]]
    return any(map(_LABEL.fullmatch, lines)) and all(not line.strip() or _LABEL.fullmatch(line) for line in lines)


def _first_line(file: Path) -> str:
    return next(iter(first_lines(file)), "")


def _is_list(file: Path, root: Path) -> bool:
    return file.name.lower() not in CLASS_FILES and names_a_split(file.stem) and lists_images(file, root)


def _class_files(root: Path, pair: _Pair) -> list[Path]:
    """Return the files of class names in the dataset's folder and beside images and labels."""
    places = dict.fromkeys([root, pair.labels, pair.images, pair.labels.parent, pair.images.parent])
    inside = [place for place in places if place.is_relative_to(root)]
    texts = [file for place in inside for file in files_in(place, {".txt", ".names", ".labels"})]
    return [file for file in texts if file.name.lower() in CLASS_FILES] + config_files(root)


def _classes(files: Sequence[Path], source: str, options: ReadOptions, problems: list[Problem]) -> Sequence[str]:
    """Return the class names of all files, which must agree."""
    lists = []
    for file in files:
        if file.suffix.lower() in (".yaml", ".yml", ".data"):
            lists.append(config_classes(file, load_config(file), problems, follow_links=options.follow_links))
        else:
            lists.append(listed_classes(file, problems))
    for file, names in zip(files[1:], lists[1:], strict=True):
        if list(names) != list(lists[0]):
            what = f"{files[0]} and {file} name different classes; remove or correct one of them"
            problems.append(Problem(source, what, fatal=True))
    if not lists:
        what = "no class names were found: classes.txt, obj.names or data.yaml with 'names' is expected"
        problems.append(Problem(source, what, fatal=True))
    return lists[0] if lists else []
