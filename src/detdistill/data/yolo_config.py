"""YOLO datasets that a file describes: Ultralytics' and Roboflow's YAML, darknet's and CVAT's `obj.data`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem
from detdistill.core.files import LARGEST_SETTINGS, open_regular
from detdistill.core.yaml_nodes import BoundedComposer, checked_node
from detdistill.data.assembly import shown, to_number
from detdistill.data.folders import FOLLOW_LINKS, exists, files_in, is_within
from detdistill.data.splits import NAME_THE_IMAGES, ReadOptions, Split, is_split_name
from detdistill.data.text_files import LARGEST_NAMES, decoded, read_text
from detdistill.data.yolo_reader import LAYOUT, YoloFiles, read_yolo

_SPLITS = ("train", "val", "valid", "test")

Config = dict[str, Any]


class _TextLoader(BoundedComposer, yaml.BaseLoader):
    """Makes texts only: a class called `no` stays `no` instead of becoming False."""


def config_files(root: Path) -> list[Path]:
    """Return the YAML files in a folder that name classes, and the `*.data` files."""
    return [file for file in files_in(root, {".yaml", ".yml"}) if _names_classes(file)] + files_in(root, {".data"})


def yolo_config_splits(root: Path, rejected: list[Problem]) -> list[Split]:
    """Return the splits of the files in a folder that describe YOLO datasets; others are `rejected`."""
    splits = []
    for file in config_files(root):
        try:
            splits += config_splits(file)
        except DataError as error:
            rejected.append(Problem(str(file), str(error).removeprefix(f"{file}: ")))
    return splits


def config_splits(file: Path) -> list[Split]:
    """Return the splits of one YAML or `*.data` file.

    Raises:
        DataError: The file cannot be used.
    """
    config = load_config(file)
    splits = [key for key in _SPLITS if config.get(key)]
    if not splits:
        raise DataError(
            f"{file}: names no images: expected 'train', 'val' or 'test' with their folder or list; add them, or give "
            f"the image folder with {NAME_THE_IMAGES}"
        )
    return [Split(key, LAYOUT, file, partial(_read, file, config, key)) for key in splits]


def load_config(file: Path) -> Config:
    """Read a YAML or `*.data` file; all values are texts, or lists and dictionaries of them.

    Raises:
        DataError: The file cannot be read.
    """
    text = read_text(file, largest=LARGEST_SETTINGS)
    if file.suffix.lower() == ".data":
        pairs = [line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#")]
        return {key.strip(): value.strip() for key, _, value in pairs}
    try:
        loader = _TextLoader(text)
        root = checked_node(loader)
        config = None if root is None else loader.construct_document(root)
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{file}: is not valid YAML ({error})") from error
    if not isinstance(config, dict):
        raise DataError(f"{file}: is no YOLO data file: 'names' and 'train', 'val' or 'test' are expected")
    return config


def config_classes(file: Path, config: Config, problems: list[Problem], *, follow_links: bool = False) -> Sequence[str]:
    """Return the class names that a file gives or whose file it names, in the order of their indices.

    Args:
        file: The YAML or `*.data` file.
        config: Its content.
        problems: What is wrong is added.
        follow_links: The file of class names may lie outside of the folder of `file`.
    """
    names = config.get("names")
    source = str(file)
    if file.suffix.lower() == ".data":
        place = _place(file.parent, names, follow_links=follow_links)
        if isinstance(place, str):
            problems.append(Problem(source, f"'names' {place}; it must be the text file of class names", fatal=True))
            return []
        classes = listed_classes(place, problems)
        count = config.get("classes", "")
        if classes and count.isdecimal() and to_number(count) != len(classes):
            what = f"'classes' is {shown(count)}, and {place} lists {len(classes)}; correct one of them"
            problems.append(Problem(source, what, fatal=True))
        return classes
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
    problems += _repeated(source, names)
    if "nc" in config and config["nc"] != str(len(names)):
        what = f"'nc' says {shown(config['nc'])} classes and 'names' lists {len(names)}; correct one of them"
        problems.append(Problem(source, what, fatal=True))
    return names


def listed_classes(file: Path, problems: list[Problem]) -> list[str]:
    """Return the class names of a text file, one a line, in the order of their indices."""
    try:
        names = [line.strip() for line in read_text(file, largest=LARGEST_NAMES).rstrip().splitlines()]
    except DataError as error:
        problems.append(Problem(str(file), str(error).removeprefix(f"{file}: "), fatal=True))
        return []
    if not names:
        problems.append(Problem(str(file), "is empty: it must name the classes, one a line", fatal=True))
    elif "" in names:
        line = names.index("") + 1
        what = "is empty between class names, which are counted by line; remove it"
        problems.append(Problem(f"{file}:{line}", what, fatal=True))
    problems += _repeated(str(file), [name for name in names if name])
    return names


def _repeated(source: str, names: Sequence[str]) -> list[Problem]:
    return [
        Problem(source, f"'names' has the class {shown(name)} {count} times", fatal=True)
        for name, count in Counter(names).items()
        if count > 1
    ]


def _read(file: Path, config: Config, split: str, options: ReadOptions) -> DetectionDataset:
    problems: list[Problem] = []
    classes = config_classes(file, config, problems, follow_links=options.follow_links)
    root = _root(file, config, problems, options)
    named = config[split] if isinstance(config[split], list) else [config[split]]
    places = []
    for name in named:
        place = _place(root, name, follow_links=options.follow_links)
        if not isinstance(place, str):
            places.append(place)
        elif options.images is None:
            problems.append(Problem(str(file), f"{split!r} {place}", fatal=True))
    return read_yolo(
        YoloFiles(f"{file}: {split}", classes, root, places, kpt_shape=config.get("kpt_shape")), options, problems
    )


def _names_classes(file: Path) -> bool:
    try:
        with open_regular(file) as stream:
            text = decoded(stream.read(LARGEST_SETTINGS), errors="replace")
    except OSError:
        return False
    return re.search(r"(?m)^\W?names\W", text) is not None


def _root(file: Path, config: Config, problems: list[Problem], options: ReadOptions) -> Path:
    """The folder that `path` names; where it is not there (it was made for another machine), the file's own."""
    path = config.get("path")
    named = file.parent / path if isinstance(path, str) else file.parent
    if not exists(named / "."):
        return file.parent
    if not options.follow_links and not is_within(named, file.parent):
        if options.images is None:
            what = f"'path' names {shown(path)}, which {_outside(file.parent)}"
            problems.append(Problem(str(file), what, fatal=True))
        return file.parent
    return named


def _outside(root: Path) -> str:
    return f"leaves the folder {root}; move the data file into the dataset's folder, or {FOLLOW_LINKS}"


def _place(root: Path, name: object, *, follow_links: bool) -> Path | str:
    """Return the folder or file that a data file names, or what is wrong with the name.

    Exports carry folders of the place where they were made: Roboflow's `../train/images` and `project/train/images`
    are `train/images`, CVAT's `data/train.txt` is `train.txt`. Such folders are dropped until the rest is there, but
    never the name of a split. What is outside of `root` is refused unless `follow_links`.
    """
    if not isinstance(name, str):
        return f"names {shown(name)}; a folder or text file is expected"
    direct = [path for path in (root / name, root / name.removeprefix("../")) if exists(path)]
    if len(direct) > 1 and not direct[0].samefile(direct[1]):
        return f"names {shown(name)}, which can mean {direct[0].resolve()} and {direct[1]}; write the whole path"
    inside = [path for path in direct if follow_links or is_within(path, root)]
    if inside:
        return inside[0]
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for start, part in enumerate(parts):
        place = _alike(root, parts[start:])
        if place is not None and (follow_links or is_within(place, root)):
            return place
        if is_split_name(part):
            break
    if direct:
        return f"names {shown(name)}, which {_outside(root)}"
    return f"names {shown(name)}, and there is no such folder or file in {root}"


def _alike(root: Path, parts: Sequence[str]) -> Path | None:
    """Return the one path that differs from `root/parts` at most in the case of letters."""
    places = [root]
    for part in parts:
        exact = [place / part for place in places if exists(place / part)]
        places = exact or [
            entry
            for place in places
            if place.is_dir()
            for entry in sorted(place.iterdir())
            if entry.name.lower() == part.lower()
        ]
    return places[0] if len(places) == 1 else None
