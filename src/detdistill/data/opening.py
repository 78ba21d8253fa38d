"""An annotated dataset from a path, in whichever common format it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem, listed
from detdistill.data import coco_folders, csv_table, voc_folders, yolo_folders
from detdistill.data import yolo_reader as yolo
from detdistill.data.checking import check_left_out, check_masks
from detdistill.data.coco_folders import annotation_files, coco_split, coco_splits
from detdistill.data.csv_table import csv_split, csv_splits
from detdistill.data.folders import exists, holds
from detdistill.data.image_sizes import check_sizes
from detdistill.data.splits import NAME_THE_ANNOTATIONS, NAME_THE_IMAGES, ReadOptions, Split, choose
from detdistill.data.voc_folders import annotation_splits, annotations_near, listing_split, voc_splits
from detdistill.data.yolo_config import config_splits, yolo_config_splits
from detdistill.data.yolo_folders import is_label_folder, label_folder_splits, list_splits, yolo_folder_splits

_ONE_SPLIT = frozenset({".json", ".txt", ".csv"})
_SEVERAL_SPLITS = frozenset({".yaml", ".yml", ".data"})
_FORMATS = "COCO's .json, a list of images (.txt), YOLO's .yaml or .data, or a table of boxes (.csv)"


def open_dataset(
    path: str | Path,
    split: str | None = None,
    *,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    check_images: bool = True,
    follow_links: bool = False,
    accept_left_out: bool = False,
    rescale: bool = False,
    use_cache: bool = True,
    masks: bool = False,
) -> DetectionDataset:
    """Open an annotated dataset in COCO, PASCAL VOC, YOLO or CSV format.

    Args:
        path: The dataset's folder, or its annotation file: COCO's JSON, VOC's or YOLO's list, YOLO's YAML, a CSV table.
        split: Which part of it, by its own name or a usual one: `val` also finds `valid` and `val2017`. Not needed
            where there is only one; ignored where a file (JSON, list, table) or folder that is one split is named.
        annotations: Such a file, or a folder of annotation files, instead of what would be recognised; from the
            working directory or from `path`.
        images: The image folder, instead of what would be recognised; from the working directory or from `path`.
        check_images: Every image file must be there and have the annotated size. Scoring detections needs none, where
            sizes are annotated.
        follow_links: Follow symbolic links that lead out of the dataset's folder.
        accept_left_out: Read the dataset although more than a tenth of its annotations is unreadable or invalid.
        rescale: Rescale boxes that were annotated for another size of the image.
        use_cache: Take annotations of a COCO file of several megabytes from the user's cache, and do not open images
            that were checked before, if size, time of change and inode of the files are those of then.
        masks: Read the objects' masks, too: COCO's polygons and RLE, YOLO's polygons, VOC's `SegmentationObject`.

    Returns:
        The dataset; what was left out, changed or noted is in its `problems`.

    Raises:
        LeftOutError: More than a tenth of the annotations is unreadable or invalid.
        DataError: Nothing or several things were recognised, or the data cannot be used; it lists all problems.
    """
    path = Path(path)
    splits, rejected = _recognised(path, annotations)
    named = path if annotations is None else Path(annotations)
    is_one_split = len(splits) == 1 and (
        named.suffix.lower() in _ONE_SPLIT or (annotations is not None and splits[0].annotations.is_dir())
    )
    try:
        chosen = splits[0] if is_one_split else choose(splits, split, path)
    except DataError as error:
        raise DataError(f"{error}{_not_read(rejected)}") from error
    given = None if images is None else _explicit(path, images, "the image folder, given with --images")
    dataset = chosen.read(ReadOptions(given, check_images, follow_links, use_cache, masks))
    if (check_images or rescale) and chosen.layout != yolo.LAYOUT:  # YOLO's sizes are the files'
        dataset = check_sizes(dataset, rescale=rescale, use_cache=use_cache)
    if masks:
        dataset = check_masks(dataset)
    if not accept_left_out:
        check_left_out(dataset)
    return dataset


def open_part(
    path: str | Path,
    part: str | None,
    *,
    images: str | Path | None = None,
    follow_links: bool = False,
    accept_left_out: bool = False,
    rescale: bool = False,
    use_cache: bool = True,
    masks: bool = False,
) -> DetectionDataset:
    """Open a part of a dataset that is named by a split's name or by an annotation file or folder.

    Args:
        path: The dataset's folder or annotation file.
        part: The name of a split, or an annotation file or folder, from the working directory or from `path`.
        images: As in `open_dataset`.
        follow_links: As in `open_dataset`.
        accept_left_out: As in `open_dataset`.
        rescale: As in `open_dataset`.
        use_cache: As in `open_dataset`.
        masks: As in `open_dataset`.

    Raises:
        DataError: As in `open_dataset`.
    """
    path = Path(path).expanduser()
    is_place = part is not None and names_annotations(part)
    if part is not None and not is_place and any(exists(base / part) for base in (Path(), path)):
        # A folder, unless there is a split of this name.
        splits = [] if not exists(path) else _recognised(path, None, must_find=False)[0]
        try:
            choose(splits, part, path)
        except DataError:
            is_place = not splits or all(split.name != part for split in splits)
    return open_dataset(
        path,
        None if is_place else part,
        annotations=Path(part).expanduser() if part is not None and is_place else None,
        images=None if images is None else Path(images).expanduser(),
        follow_links=follow_links,
        accept_left_out=accept_left_out,
        rescale=rescale,
        use_cache=use_cache,
        masks=masks,
    )


def names_annotations(part: str) -> bool:
    """Return whether a text is the name of an annotation file and not that of a split, by its ending."""
    return Path(part).suffix.lower() in _ONE_SPLIT | _SEVERAL_SPLITS


def find_splits(path: str | Path, *, annotations: str | Path | None = None) -> list[Split]:
    """Return the annotated sets that a path holds, at least one; arguments as in `open_dataset`.

    Raises:
        DataError: There is none.
    """
    return _recognised(Path(path), annotations)[0]


def _recognised(
    path: Path, annotations: str | Path | None, *, must_find: bool = True
) -> tuple[list[Split], list[Problem]]:
    """Return the splits, and the files that look like annotations and are not read."""
    named = _explicit(path, annotations, "annotations, given with --annotations") if annotations is not None else path
    if not exists(named):
        raise DataError(f"{named}: there is no such file or folder")
    if named.is_file():
        return _file_splits(named), []
    rejected: list[Problem] = []
    if annotations is not None:
        splits = _annotation_folder_splits(named, path, rejected)
    else:
        splits = [*coco_splits(path, rejected), *_without_copies(voc_splits(path), csv_splits(path, rejected))]
        described = yolo_config_splits(path, rejected)
        splits += described or yolo_folder_splits(path, rejected)
    if not splits and must_find:
        raise DataError(_nothing_found(named, rejected))
    return splits, rejected


def _annotation_folder_splits(folder: Path, dataset: Path, rejected: list[Problem]) -> list[Split]:
    """Return the splits of a folder that the user named as that of the annotations."""
    splits = [coco_split(file) for file in annotation_files(folder, rejected)]
    if holds(folder, {".xml"}):
        splits += annotation_splits(folder)
    if not splits and is_label_folder(folder):
        splits += label_folder_splits(folder, dataset)
    return splits or csv_splits(folder, rejected) or voc_splits(folder)


def _without_copies(xml: list[Split], tables: list[Split]) -> list[Split]:
    """Return the splits of XML files, and of tables those of other names.

    TensorFlow's tutorials make `images/train_labels.csv` of the XML files in `images/train/`: the XML files are read,
    and the table is noted.
    """
    table_of = {table.name: table for table in tables}
    names = {split.name for split in xml}
    noted = [_noting(split, table_of[split.name]) if split.name in table_of else split for split in xml]
    return noted + [table for table in tables if table.name not in names]


def _noting(split: Split, copy: Split) -> Split:
    """Return a split whose problems name a copy that is not read."""

    def read(options: ReadOptions) -> DetectionDataset:
        dataset = split.read(options)
        what = f"has the same split as {split.annotations}, from which it may have been made; not read. --annotations"
        problem = Problem(str(copy.annotations), f"{what} {copy.annotations} reads it instead")
        return replace(dataset, problems=(*dataset.problems, problem))

    return replace(split, read=read)


def _file_splits(file: Path) -> list[Split]:
    match file.suffix.lower():
        case ".json":
            return [coco_split(file)]
        case ".yaml" | ".yml" | ".data":
            return config_splits(file)
        case ".csv":
            return [csv_split(file)]
        case ".txt":
            xml = annotations_near(file)
            return (
                [listing_split(xml, file)]
                if xml
                else list_splits(file) or [listing_split(file.absolute().parent.parent.parent / "Annotations", file)]
            )
    raise DataError(f"{file}: is no annotation file; expected {_FORMATS}")


def _nothing_found(path: Path, rejected: list[Problem]) -> str:
    try:
        there = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in path.iterdir())
    except OSError as error:
        return f"{path}: cannot be listed ({error.strerror})"
    some = ", ".join(there[:20]) + (", …" if len(there) > 20 else "") or "nothing"
    formats = (coco_folders.LOOKED_FOR, voc_folders.LOOKED_FOR, yolo_folders.LOOKED_FOR, csv_table.LOOKED_FOR)
    looked_for = "\n".join(f"  {text}" for text in formats)
    return (
        f"{path}: holds no annotated dataset that is recognised. Looked for\n{looked_for}\n"
        f"and found: {some}{_not_read(rejected)}\nGive the annotation file or folder with {NAME_THE_ANNOTATIONS} and "
        f"the image folder with {NAME_THE_IMAGES}"
    )


def _not_read(rejected: list[Problem]) -> str:
    return f"\nNot read:{listed(rejected)}" if rejected else ""


def _explicit(path: Path, given: str | Path, what: str) -> Path:
    """Return the path of `what` that the user gave, from the working directory or else from the dataset's folder."""
    tried = Path(given), path / given
    found = next((candidate for candidate in tried if exists(candidate)), None)
    if found is None:
        raise DataError(f"{what}: there is neither {tried[0]} nor {tried[1]}; correct the path")
    return found
