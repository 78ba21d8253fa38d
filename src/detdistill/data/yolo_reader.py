"""YOLO labels: one text file of boxes per image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem
from detdistill.core.files import read_regular
from detdistill.core.images import Size, image_size
from detdistill.core.parallel import work_through
from detdistill.data.assembly import UNKNOWN_SIZE, ImageEntry, assemble, image_columns, raise_fatal, shown
from detdistill.data.folders import IMAGE_FOLDERS, Folder, folders_in
from detdistill.data.image_lists import images_of
from detdistill.data.splits import ReadOptions
from detdistill.data.text_files import LARGEST_LABELS, decoded
from detdistill.data.yolo_labels import LabelLine, label_lines, read_lines

LAYOUT = "YOLO"
LABEL_FOLDERS = ("labels", "label")
"""Names of the folder of label files, in lower case."""

CLASS_FILES = frozenset({"classes.txt", "obj.names", "classes.names", "_darknet.labels"})
"""Names of text files of class names, one a line, in lower case."""


@dataclass(frozen=True)
class YoloFiles:
    """One split.

    Attributes:
        source: File and split, for messages.
        classes: Class names in the order of their indices.
        root: The dataset's folder.
        places: Image folders, and text files that list images relative to `root`.
        images: Image folder whose labels are in `labels`; None: `labels` takes the place of `images` in the path, or
            labels are beside the images.
        labels: Folder of label files, with the subfolders of `images`.
        kpt_shape: The YAML file's entry of that name, for pose labels.
    """

    source: str
    classes: Sequence[str]
    root: Path
    places: Sequence[Path]
    images: Path | None = None
    labels: Path | None = None
    kpt_shape: object = None


def read_yolo(files: YoloFiles, options: ReadOptions, problems: list[Problem]) -> DetectionDataset:
    """Read YOLO labels.

    An image's boxes are in the text file of the same stem, in the folder whose path has `labels` in place of the last
    `images`, or beside the image; an image without one has no objects. A line is a class index and either centre x,
    centre y, width and height or the corners of a polygon, whose box is taken, and which is the object's mask; all are
    fractions of the image's (upright) size. That size is read from every image, so the images must be there.

    Args:
        files: The parts of the split.
        options: An image folder in it is used instead of the split's folders; a list stays, and its names are looked
            up there.
        problems: What was found before; what is found here is added.

    Returns:
        The dataset, its images sorted by name or in the order of the text file, identified by their stems; where two
        have the same stem, all are identified by their path without the ending.

    Raises:
        DataError: The dataset cannot be used; all reasons are listed.
    """
    if not files.classes:  # every label would be a problem of its own
        raise_fatal(files.source, problems)
    root = files.root
    paths = images_of(files.places, root, files.source, options, problems, images=files.images)
    names = [path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name for path in paths]
    ids = _identities(paths, names, problems)
    label_files = LabelFiles(files, options)
    found: list[LabelledImage] = []
    for path, name, image_id in zip(paths, names, ids, strict=True):
        label_file, fault = label_files.of(path)
        if fault is None:
            found.append(LabelledImage(len(found), image_id, name, path, label_file))
        else:
            problems.append(Problem(f"{files.source}: {shown(name)}", fault, fatal=True))
    entries: list[ImageEntry] = []
    lines: list[LabelLine] = []
    read = work_through(found, read_labelled, "reading labels")
    for image, labels in zip(found, read, strict=True):
        if isinstance(labels, DataError):
            group = str(labels).removeprefix(f"{image.path}: ").removeprefix(f"{image.labels}: ")
            problems.append(Problem(files.source, str(labels), fatal=True, unit="image", group=group))
        (height, width), own_lines = (UNKNOWN_SIZE, []) if isinstance(labels, DataError) else labels
        lines += own_lines
        entries.append(ImageEntry(image.image_id, image.path, image.name, width, height))
    unlabelled = [image.name for image in found if image.labels is None]
    if unlabelled:
        problems.append(_without_labels(unlabelled, len(entries), label_files, files.source))
    sizes = [(entry.height, entry.width) for entry in entries]
    objects = read_lines(lines, sizes, len(files.classes), files.kpt_shape, files.source, problems, masks=options.masks)
    problems += label_files.without_image()
    return assemble(
        files.source, files.classes, range(1, len(files.classes) + 1), image_columns(entries), objects, problems
    )


class LabelledImage(NamedTuple):
    """An image and its label file, if it has one; `place` is its index in the dataset."""

    place: int
    image_id: str
    name: str
    path: Path
    labels: Path | None


def read_labelled(image: LabelledImage) -> tuple[Size, list[LabelLine]] | DataError:
    """Return the size of an image and the lines of its label file, or why one of them cannot be read."""
    try:
        size = image_size(image.path)
        if image.labels is None:
            return size, []
        text = decoded(read_regular(image.labels, LARGEST_LABELS), errors="replace")
    except DataError as error:
        return error
    except OSError as error:
        return DataError(f"{image.labels}: cannot be read ({error.strerror})")
    return size, list(label_lines(text, str(image.labels), image.place))


class LabelFiles:
    """Finds the label files of images.

    Args:
        files: The parts of the split.
        options: Which links are followed.
    """

    def __init__(self, files: YoloFiles, options: ReadOptions) -> None:
        self._files = files
        self._options = options
        self._folders: dict[Path, list[Folder]] = {}

    def of(self, image: Path) -> tuple[Path | None, str | None]:
        """Return an image's label file, None if it has none, and what is wrong with it."""
        found = []
        for folder in self._places(image.parent):
            label = folder.find(f"{image.stem}.txt")
            path = folder.root / label.name
            if label.fault is None:
                found.append(path)
            elif not label.missing:
                return None, f"its label file {path} {label.fault}"
        if len(found) > 1:
            return None, f"has two label files, {found[0]} and {found[1]}; remove one of them"
        return (found[0] if found else None), None

    def looked_in(self) -> list[str]:
        """Return the folders in which labels were looked for."""
        return sorted({str(folder.root) for folders in self._folders.values() for folder in folders})

    def without_image(self) -> list[Problem]:
        """Return the label files, in the folders that belong to these images, that no image has."""
        problems = []
        for image_folder, folders in sorted(self._folders.items()):
            stems = {Path(name).stem.lower() for name in _names(image_folder)}
            for folder in folders:
                if folder.root != image_folder:
                    labels = [name for name in folder.names({".txt"}) if name.lower() not in CLASS_FILES]
                    orphans = [name for name in labels if Path(name).stem.lower() not in stems]
                    what = f"has no image in {image_folder}; not read"
                    problems += [
                        Problem(str(folder.root / name), what, outcome="left out", unit="file") for name in orphans
                    ]
        return problems

    def _places(self, folder: Path) -> list[Folder]:
        """Return the folders in which the labels of the images of one folder can be."""
        if folder not in self._folders:
            places = [self._instead_of_images(folder), folder]
            if self._files.labels is not None:
                images = self._options.images or self._files.images or self._files.root
                inside = folder.relative_to(images) if folder.is_relative_to(images) else PurePath()
                places = [self._files.labels / inside]
            root = self._files.root
            self._folders[folder] = [
                Folder(
                    place,
                    within=root if place.is_relative_to(root) else None,
                    follow_links=self._options.follow_links,
                )
                for place in dict.fromkeys(places)
                if place is not None
            ]
        return self._folders[folder]

    def _instead_of_images(self, folder: Path) -> Path | None:
        """Return the existing folder whose path has `labels` in place of the last `images`."""
        parts, root = folder.parts, self._files.root
        first = len(root.parts) - 1 if folder.is_relative_to(root) else 0
        for at in reversed(range(max(first, 0), len(parts))):
            if parts[at].lower() in IMAGE_FOLDERS:
                for labels in folders_in(Path(*parts[:at]), LABEL_FOLDERS):
                    place = labels.joinpath(*parts[at + 1 :])
                    if place.is_dir():
                        return place
        return None


def _without_labels(unlabelled: Sequence[str], images: int, labels: LabelFiles, source: str) -> Problem:
    some = ", ".join(map(shown, unlabelled[:5])) + (", …" if len(unlabelled) > 5 else "")
    what = f"images without a label file, taken as images without objects: {len(unlabelled)} ({some})"
    if len(unlabelled) == images:
        what += f"; no image of the split has one. Looked in {', '.join(labels.looked_in()[:4])}"
    return Problem(source, what, unit="image", count=len(unlabelled))


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []


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
