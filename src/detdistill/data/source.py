"""A dataset that is named and not yet opened: its path with the options of `open_dataset`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from os import PathLike
from pathlib import Path

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import note
from detdistill.core.overwriting import check_outputs
from detdistill.data.checking import reading_note
from detdistill.data.opening import find_splits, open_dataset
from detdistill.data.splits import choose

_ANNOTATIONS = frozenset({".xml", ".txt", ".yaml", ".yml", ".data", ".csv", ".names", ".pbtxt"})
"""Endings of files of annotations, lists and class names, but JSON, which may be an earlier output."""


@dataclass(frozen=True)
class DatasetSource:
    """Where a dataset is, and how it is read; arguments as in `open_dataset`.

    Attributes:
        path: The dataset's folder or annotation file.
        split: Part of it; not needed where there is only one.
        annotations: Annotation file or folder instead of the recognised one.
        images: Image folder instead of the recognised one.
        follow_links: Follow symbolic links that lead out of the dataset's folder.
        accept_left_out: Read it although more than a tenth of its annotations is unreadable or invalid.
        rescale: Rescale boxes that were annotated for another size of the image.
        masks: Read the objects' masks, too.
    """

    path: str | PathLike[str]
    split: str | None = None
    _: KW_ONLY
    annotations: str | PathLike[str] | None = None
    images: str | PathLike[str] | None = None
    follow_links: bool = False
    accept_left_out: bool = False
    rescale: bool = False
    masks: bool = False

    def open(self, *, check_images: bool = True) -> DetectionDataset:
        """Open the dataset; errors and `check_images` as in `open_dataset`."""
        return open_dataset(
            Path(self.path),
            self.split,
            annotations=None if self.annotations is None else Path(self.annotations),
            images=None if self.images is None else Path(self.images),
            check_images=check_images,
            follow_links=self.follow_links,
            accept_left_out=self.accept_left_out,
            rescale=self.rescale,
            masks=self.masks,
        )

    def split_names(self) -> list[str]:
        """Return the names of all parts of the dataset, at least one.

        Raises:
            DataError: Nothing is recognised as an annotated dataset.
        """
        splits = find_splits(Path(self.path), annotations=self._annotations)
        return list(dict.fromkeys(split.name for split in splits))

    def parts(self) -> dict[str, DatasetSource]:
        """Return the chosen part, or all parts, by the names that the files have.

        Raises:
            DataError: Nothing is recognised, or there is no such part.
        """
        splits = find_splits(Path(self.path), annotations=self._annotations)
        if self.split is not None:
            splits = [choose(splits, self.split, Path(self.path))]
        return {split.name: replace(self, split=split.name) for split in splits}

    def annotation_places(self) -> list[Path]:
        """Return the annotation files, and the folders of annotation files, of all parts."""
        return [split.annotations for split in find_splits(Path(self.path), annotations=self._annotations)]

    @property
    def _annotations(self) -> Path | None:
        return None if self.annotations is None else Path(self.annotations)


DatasetLike = DetectionDataset | DatasetSource | str | PathLike[str]
"""A dataset, or where it is: a path, or a `DatasetSource` for one of several parts and for other options."""


def source_of(dataset: DatasetSource | str | PathLike[str]) -> DatasetSource:
    """Return a path as a `DatasetSource` with the usual options."""
    return dataset if isinstance(dataset, DatasetSource) else DatasetSource(dataset)


def opened(dataset: DatasetLike, *, check_images: bool = True, masks: bool = False) -> DetectionDataset:
    """Open a dataset unless it is one already; a note on standard error tells what was left out or changed.

    Args:
        dataset: The dataset, or where it is.
        check_images: As in `open_dataset`.
        masks: Read the objects' masks, too, also where a `DatasetSource` does not ask for them.

    Raises:
        DataError: As in `open_dataset`.
    """
    if isinstance(dataset, DetectionDataset):
        return dataset
    source = source_of(dataset)
    source = replace(source, masks=source.masks or masks)
    read = source.open(check_images=check_images)
    text = reading_note(read, source.path)
    if text is not None:
        note(text)
    return read


def check_dataset_outputs(
    outputs: Mapping[Path, str], dataset: DatasetLike, read: DetectionDataset, *, makes_folders: bool = False
) -> None:
    """Refuse output files that would replace an image or an annotation file of a dataset.

    Args:
        outputs: What each file is, for messages, such as `--json`, by its path.
        dataset: What was opened; the annotation files of a `DetectionDataset` are not known, and not looked at.
        read: The opened dataset.
        makes_folders: Missing folders of the outputs will be created.

    Raises:
        DetdistillError: As in `check_outputs`.
    """
    inputs: list[Path] = []
    if any(map(os.path.lexists, outputs)):
        inputs += map(Path, read.images.paths)
        if not isinstance(dataset, DetectionDataset):
            source = source_of(dataset)
            inputs += source.annotation_places()
            inputs += [path for path in outputs if _is_annotation_below(path, Path(source.path))]
    check_outputs(outputs, inputs, makes_folders=makes_folders)


def _is_annotation_below(path: Path, root: Path) -> bool:
    """Whether a file in a dataset's folder is one of annotations by its ending: formats read more than they name."""
    real = Path(os.path.realpath(path))
    return real.suffix.lower() in _ANNOTATIONS and real.is_file() and real.is_relative_to(os.path.realpath(root))
