"""A dataset from one format into another, with a new split on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from detdistill.core.annotations import DetectionDataset
from detdistill.core.files import check_new
from detdistill.data.source import DatasetSource, source_of
from detdistill.data.splitting import DatasetSplit, split_dataset
from detdistill.data.writing.coco_writer import write_coco_beside
from detdistill.data.writing.dataset import Written, write_dataset
from detdistill.data.writing.image_files import check_output
from detdistill.data.writing.losses import Format


@dataclass(frozen=True, eq=False)
class Converted:
    """What was read, split and written.

    Attributes:
        sources: The datasets as they were read; their `problems` tell what was left out or changed.
        split: The new split; None if the parts of the source were kept.
        written: The parts as written, with warnings about what the format cannot hold.
    """

    sources: Sequence[DetectionDataset]
    split: DatasetSplit | None
    written: Written


@dataclass(frozen=True, eq=False)
class WrittenSplit:
    """A split that was written beside a dataset.

    Attributes:
        folder: With `train.json`, `val.json`, `test.json` and a link to the images.
        source: The dataset as it was read.
        split: Its parts.
    """

    folder: Path
    source: DetectionDataset
    split: DatasetSplit


def convert_dataset(
    dataset: DatasetSource | str | PathLike[str],
    out: str | PathLike[str],
    to: Format,
    *,
    val: float = 0.0,
    test: float = 0.0,
    seed: int = 0,
    link: bool = False,
) -> Converted:
    """Write a dataset as COCO, PASCAL VOC or YOLO into a new folder, and split it on request.

    Args:
        dataset: Where the dataset is. Without `val` and `test` all its parts are written, or the named one.
        out: Folder to write; it must not exist. It appears whole or not at all.
        to: Format: `coco`, `voc` or `yolo`, see `write_dataset`.
        val: Share of the images for a new split `val`, 0 to below 1; near-duplicates stay in one split.
        test: Share of the images for a new split `test`, 0 to below 1.
        seed: Of the new split; the same seed gives the same split.
        link: Make hard links to the images instead of copies.

    Raises:
        DetdistillError: `out` exists, lies in a folder of the source's images or cannot be written.
        DataError: The dataset cannot be opened or split, or the format cannot hold a name.
    """
    out, source = Path(out), source_of(dataset)
    check_new(out)
    if not val and not test:
        parts = {name: part.open() for name, part in source.parts().items()}
        return Converted(list(parts.values()), None, write_dataset(parts, out, to, link=link))
    whole = source.open()
    check_output(out, [whole])
    divided = split_dataset(whole, val=val, test=test, seed=seed)
    return Converted([whole], divided, write_dataset(divided.parts, out, to, link=link))


def write_split(
    dataset: DatasetSource | str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
) -> WrittenSplit:
    """Split a dataset, and write the parts as COCO files into a new folder with a link to the images.

    Args:
        dataset: Where the dataset, or the part of it, is.
        out: Folder to write; it must not exist. None for the dataset's path with `_split` added to its name.
        val: Share of the images for `val`, 0 to below 1; near-duplicates stay in one part.
        test: Share of the images for `test`, 0 to below 1; 0 makes no such part.
        seed: The same seed gives the same split.

    Raises:
        DetdistillError: `out` exists or cannot be written.
        DataError: The dataset cannot be opened or split.
    """
    source = source_of(dataset)
    path = Path(source.path).resolve()
    folder = Path(out) if out is not None else path.with_name(f"{path.stem if path.is_file() else path.name}_split")
    check_new(folder)
    whole = source.open()
    divided = split_dataset(whole, val=val, test=test, seed=seed)
    write_coco_beside(divided.parts, folder)
    return WrittenSplit(folder, whole, divided)
