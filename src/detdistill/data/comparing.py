"""The near-duplicates between a part of a dataset and other images, with or without annotations."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from detdistill.core.errors import DataError, counted
from detdistill.data.fingerprints import Fingerprints, read_fingerprints
from detdistill.data.folders import exists
from detdistill.data.near_duplicates import nearest
from detdistill.data.opening import names_annotations
from detdistill.data.plain_images import named_images
from detdistill.data.source import DatasetSource


@dataclass(frozen=True, eq=False)
class ComparedImages:
    """Images that were decoded for a comparison.

    Attributes:
        title: What they are: a part of a dataset, a folder, a pattern.
        names: The file name of each image.
        places: The absolute path of each image, links followed.
        prints: `(n, 320)`, zeros for an image that cannot be decoded.
        unreadable: Index of each image that cannot be decoded, and why.
    """

    title: str
    names: tuple[str, ...]
    places: tuple[str, ...]
    prints: Fingerprints
    unreadable: Mapping[int, DataError]

    @classmethod
    def read(cls, title: str, names: Iterable[str], paths: Sequence[str]) -> ComparedImages:
        """Decode images."""
        prints, unreadable = read_fingerprints([(path, None) for path in paths])
        return cls(title, tuple(names), tuple(map(os.path.realpath, paths)), prints, unreadable)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The near-duplicates between two sets of images.

    Attributes:
        title: What was compared.
        against: What it was compared with.
        images: Number of images compared, those that cannot be decoded included.
        others: Number of the others.
        pairs: File names of each near-duplicate, and of the nearest of the others.
        same_files: Number of images whose file is among the others itself. That alone does not make a near-duplicate.
        unreadable: Number of images that cannot be decoded.
        others_unreadable: Number of the others that cannot be decoded.
    """

    title: str
    against: str
    images: int
    others: int
    pairs: tuple[tuple[str, str], ...]
    same_files: int
    unreadable: int
    others_unreadable: int


def compare_images(images: ComparedImages, others: ComparedImages) -> Comparison:
    """Find the images that are near-duplicates of others, see `near_copies`. A file is none of itself."""
    numbers: dict[str, int] = {}
    files, other_files = (
        np.array([numbers.setdefault(place, len(numbers)) for place in each.places], np.int64)
        for each in (images, others)
    )
    kept, other_kept = (
        np.array([index for index in range(len(each.names)) if index not in each.unreadable], np.int64)
        for each in (images, others)
    )
    found = nearest(images.prints[kept], others.prints[other_kept], (files[kept], other_files[other_kept]))
    near = found >= 0
    pairs = zip(kept[near].tolist(), other_kept[found[near]].tolist(), strict=True)
    return Comparison(
        images.title,
        others.title,
        images=len(images.names),
        others=len(others.names),
        pairs=tuple((images.names[index], others.names[other]) for index, other in pairs),
        same_files=int(np.isin(files, other_files).sum()),
        unreadable=len(images.unreadable),
        others_unreadable=len(others.unreadable),
    )


def read_others(other: str | PathLike[str], dataset: DatasetSource) -> ComparedImages:
    """Decode the images that a dataset is to be compared with; their annotations are not used.

    Args:
        other: The name of a part of the dataset; an annotation file or a list of images, from the working directory or
            from the dataset's folder; the folder of another dataset, for all its parts; or images by name, by folder
            or by pattern.
        dataset: The dataset.

    Raises:
        DataError: There is nothing of this name, there are no images, the annotations cannot be read, or no image can
            be decoded.
    """
    return _decoded(fspath(other), _files_of(fspath(other), dataset))


def read_pictures(path: str | PathLike[str]) -> ComparedImages | None:
    """Decode images by name, by folder or by pattern, without annotations; None if there are none.

    Raises:
        DataError: No image can be decoded.
    """
    try:
        files = {} if names_annotations(fspath(path)) else _pictures(Path(path).expanduser())
    except DataError:
        files = {}
    return _decoded(fspath(path), files) if files else None


def _decoded(title: str, files: Mapping[str, str]) -> ComparedImages:
    """Decode the images of the files with these names by their paths."""
    images = ComparedImages.read(title, files.values(), list(files))
    if len(images.unreadable) == len(files):
        raise DataError(
            f"{title}: {counted(len(files), 'image')}, of which none can be decoded; expected images to compare. "
            f"First: {images.unreadable[0]}"
        )
    return images


def _files_of(name: str, dataset: DatasetSource) -> dict[str, str]:
    """Return the name of each of the others by its path; see `read_others`."""
    parts = _parts_or_none(replace(dataset, split=None))
    if name in parts:
        return _annotated([parts[name]])
    place = next((each for each in (Path(name).expanduser(), Path(dataset.path) / name) if exists(each)), None)
    if place is not None:
        return _files_at(place, dataset)
    try:
        return _pictures(Path(name).expanduser())
    except DataError:
        pass  # no pattern that fits; perhaps another usual name of a part
    try:
        return _annotated(replace(dataset, split=name).parts().values())
    except DataError as error:
        known = f"the parts of {dataset.path}: {', '.join(parts)}" if parts else f"{dataset.path} has no parts"
        raise DataError(
            f"{name}: there is no such file or folder, no image fits it as a pattern, and it is no part of the dataset "
            f"({known}); correct the path"
        ) from error


def _files_at(place: Path, dataset: DatasetSource) -> dict[str, str]:
    """Return the name of each image by its path, of a file or folder."""
    if place.is_dir():
        others = _parts_or_none(DatasetSource(place))
        return _annotated(others.values()) if others else _pictures(place)
    is_own = Path(os.path.realpath(place)).is_relative_to(os.path.realpath(dataset.path))
    is_list = place.suffix.lower() == ".txt" and dataset.images is None
    if is_own and names_annotations(place.name) and not is_list:
        return _annotated(replace(dataset, split=None, annotations=place).parts().values())
    return _pictures(place)


def _parts_or_none(source: DatasetSource) -> dict[str, DatasetSource]:
    """Return the parts of a dataset by name; empty if nothing is recognised as one."""
    try:
        return source.parts()
    except DataError:
        return {}


def _annotated(parts: Iterable[DatasetSource]) -> dict[str, str]:
    files: dict[str, str] = {}
    for part in parts:
        images = replace(part, accept_left_out=True, rescale=False).open(check_images=False).images
        files |= dict(zip(images.paths, images.file_names, strict=True))
    return files


def _pictures(source: Path) -> dict[str, str]:
    return {str(file): name for file, name in named_images(source)}
