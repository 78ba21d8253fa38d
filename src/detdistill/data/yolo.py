"""YOLO: a YAML file that names classes and image folders, and one text file of boxes per image."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import yaml

from detdistill.annotations import DetectionDataset
from detdistill.data.assembly import ImageEntry, assemble, shown
from detdistill.data.folders import Folder, exists
from detdistill.data.splits import Split
from detdistill.data.yolo_labels import LabelLine, label_lines, read_lines
from detdistill.errors import DataError, Problem
from detdistill.images import ENDINGS, image_size

LOOKED_FOR = "YOLO: *.yaml with 'names' and 'train', 'val' or 'test'"

LAYOUT = "YOLO"
_SPLITS = ("train", "val", "valid", "test")
_LARGEST_CONFIG = 1 << 20  # bytes; PyYAML is slow, and lists of names are short

Config = dict[str, Any]


def yolo_splits(root: Path) -> list[Split]:
    """The splits of the YAML files in a folder that name classes."""
    files = [file for pattern in ("*.yaml", "*.yml") for file in sorted(root.glob(pattern)) if _names_classes(file)]
    return [split for file in files for split in config_splits(file)]


def config_splits(file: Path) -> list[Split]:
    """The splits of one YAML file.

    Raises:
        DataError: the file cannot be used.
    """
    config = _load(file)
    splits = [key for key in _SPLITS if config.get(key)]
    if not splits:
        raise DataError(f"{file}: names no images: one of 'train', 'val' and 'test' must say where they are")
    return [Split(key, LAYOUT, file, partial(read_yolo, file, config, key)) for key in splits]


def read_yolo(
    file: Path, config: Config, split: str, images: Path | None, _check_images: bool = True
) -> DetectionDataset:
    """Reads YOLO labels.

    An image's boxes are in the text file of the same stem, in the folder whose path has `labels` in place of the last
    `images`; an image without one has no objects. A line is a class index and either centre x, centre y, width and
    height or the corners of a polygon, whose box is taken; all are fractions of the image's (upright) size. That size
    is read from every image, so the images must be there.

    Args:
        file: the YAML file.
        config: its content.
        split: `train`, `val` or `test`. The file says where its images are: a folder, a text file that lists them,
            or a list of these, relative to `path` or to the file itself.
        images: an image folder instead.

    Returns:
        The data set, its images sorted by name or in the order of the text file, identified by their stems; where two
        have the same stem, all are identified by their path without the ending.

    Raises:
        DataError: the data set cannot be used; all reasons are listed.
    """
    problems: list[Problem] = []
    classes = _classes(config, str(file), problems)
    root = _root(file, config)
    paths = _image_paths([images] if images else _places(file, config, split, root, problems), root, problems)
    names = [str(path.relative_to(root)) if path.is_relative_to(root) else path.name for path in paths]
    ids = _identities(paths, names, problems)
    entries: list[ImageEntry] = []
    lines: list[LabelLine] = []
    unlabelled: list[str] = []
    for path, name, image_id in zip(paths, names, ids, strict=True):
        try:
            height, width = image_size(path)
            labels = _label_file(path).read_bytes().decode(errors="replace")
        except DataError as error:
            group = str(error).removeprefix(f"{path}: ")
            problems.append(Problem(f"{file}: {split}", str(error), fatal=True, unit="image", group=group))
            continue
        except FileNotFoundError:
            unlabelled.append(name)
            labels = ""
        except OSError as error:
            problems.append(Problem(str(_label_file(path)), f"cannot be read ({error.strerror})", fatal=True))
            continue
        lines += label_lines(labels, str(_label_file(path)), len(entries))
        entries.append(ImageEntry(image_id, path, name, width, height))
    if unlabelled:
        some = ", ".join(map(shown, unlabelled[:5])) + (", …" if len(unlabelled) > 5 else "")
        what = f"images without a label file, taken as images without objects: {len(unlabelled)} ({some})"
        problems.append(Problem(f"{file}: {split}", what, unit="image", count=len(unlabelled)))
    sizes = [(entry.height, entry.width) for entry in entries]
    objects = read_lines(lines, sizes, len(classes), config.get("kpt_shape"), f"{file}: {split}", problems)
    problems += _labels_without_image(paths)
    return assemble(f"{file}: {split}", classes, range(1, len(classes) + 1), entries, objects, problems)


def _names_classes(file: Path) -> bool:
    try:
        return re.search(rb"(?m)^\W?names\W", file.read_bytes()[:_LARGEST_CONFIG]) is not None
    except OSError:
        return False


def _load(file: Path) -> Config:
    try:
        if file.stat().st_size > _LARGEST_CONFIG:
            raise DataError(f"{file}: is {file.stat().st_size} bytes long; a YOLO data file has at most a megabyte")
        # BaseLoader makes texts only: a class called `no` stays `no` instead of becoming False.
        config = yaml.load(file.read_bytes(), Loader=yaml.BaseLoader)  # noqa: S506
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise DataError(f"{file}: is no YOLO data file: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{file}: is not valid YAML ({error})") from error
    if not isinstance(config, dict):
        raise DataError(f"{file}: is no YOLO data file: 'names' and 'train', 'val' or 'test' are expected")
    return config


def _classes(config: Config, source: str, problems: list[Problem]) -> list[str]:
    """Class names in the order of their indices."""
    names = config.get("names")
    if isinstance(names, dict):
        missing = next((str(index) for index in range(len(names)) if str(index) not in names), None)
        if missing is not None:
            what = f"'names' has {len(names)} classes and none with the index {missing}; number them from 0"
            problems.append(Problem(source, what, fatal=True))
            return []
        names = [names[str(index)] for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        problems.append(Problem(source, "'names' must list the class names", fatal=True))
        return []
    for name, count in Counter(names).items():
        if count > 1:
            problems.append(Problem(source, f"'names' has the class {shown(name)} {count} times", fatal=True))
    if "nc" in config and config["nc"] != str(len(names)):
        what = f"'nc' says {shown(config['nc'])} classes and 'names' lists {len(names)}; correct one of them"
        problems.append(Problem(source, what, fatal=True))
    return names


def _root(file: Path, config: Config) -> Path:
    """The folder that `path` names; where it is not there (it was made for another machine), the file's own."""
    path = config.get("path")
    named = file.parent / path if isinstance(path, str) else file.parent
    return named if exists(named / ".") else file.parent


def _places(file: Path, config: Config, split: str, root: Path, problems: list[Problem]) -> list[Path]:
    """The image folders and text files of a split."""
    named = config[split] if isinstance(config[split], list) else [config[split]]
    places = []
    for name in named:
        # Roboflow's exports say ../train/images for a folder beside the file.
        tried = [name, name.removeprefix("../")] if isinstance(name, str) else []
        found = next((root / path for path in tried if exists(root / path)), None)
        if found is None:
            what = f"{split!r} names {shown(name)}, and there is no such folder or file in {root}"
            problems.append(Problem(str(file), what, fatal=True))
        else:
            places.append(found)
    return places


def _image_paths(places: Sequence[Path], root: Path, problems: list[Problem]) -> list[Path]:
    """The image files of all places, each once."""
    paths: dict[Path, None] = {}
    base = Folder(root)
    for place in places:
        if place.is_dir():
            folder = Folder(place)
            names = [(str(place), str(name)) for name in folder.walk() if name.suffix.lower() in ENDINGS]
        else:
            folder = base
            names = _listed(place, root, problems)
        for where, name in names:
            fault = folder.fault(name)
            if fault:
                problems.append(Problem(where, f"image {shown(name)} {fault}", fatal=True))
            elif folder.root / name in paths:
                problems.append(Problem(where, f"lists {shown(name)} again; read once"))
            else:
                paths[folder.root / name] = None
    return list(paths)


def _listed(listing: Path, root: Path, problems: list[Problem]) -> list[tuple[str, str]]:
    """The entries of a text file of images: where each stands, and its path relative to `root`."""
    try:
        lines = listing.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(str(listing), f"cannot be read as a list of images ({error})", fatal=True))
        return []
    entries = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            # What starts with a dot is relative to the list, anything else to the data set.
            base = listing.parent if line.startswith(".") else root
            path = os.path.normpath(base / line.strip())
            entries.append((f"{listing}:{number}", os.path.relpath(path, root)))
    return entries


def _identities(paths: Sequence[Path], names: Sequence[str], problems: list[Problem]) -> list[str]:
    """The images' ids: their stems, or where two are the same, all paths without the ending."""
    ids = [path.stem for path in paths]
    if len(set(ids)) == len(ids):
        return ids
    ids = [str(PurePath(name).with_suffix("")) for name in names]
    for image_id, count in Counter(ids).items():
        if count > 1:
            what = f"{count} images differ in their endings only and would share one label file; rename them"
            problems.append(Problem(image_id, what, fatal=True))
    return ids


def _label_file(image: Path) -> Path:
    parts = list(image.parts)
    last = next((i for i in reversed(range(len(parts) - 1)) if parts[i] == "images"), None)
    if last is not None:
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def _labels_without_image(paths: Sequence[Path]) -> list[Problem]:
    """The label files, in the folders that belong to these images, that no image has."""
    problems = []
    for folder in sorted({path.parent for path in paths}):
        label_folder = _label_file(folder / "any.jpg").parent
        if label_folder != folder:
            stems = {Path(name).stem for name in Folder(folder).names()}
            labels = [name for name in Folder(label_folder).names() if name.endswith(".txt")]
            orphans = [name for name in labels if Path(name).stem not in stems]
            fault = f"has no image in {folder}; not read"
            problems += [Problem(str(label_folder / name), fault, outcome="left out", unit="file") for name in orphans]
    return problems
