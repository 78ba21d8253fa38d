"""An annotated data set from a path, in whichever common format it is."""

from __future__ import annotations

from pathlib import Path

from detdistill.annotations import DetectionDataset
from detdistill.data import coco, voc, yolo
from detdistill.data.checking import check_left_out
from detdistill.data.folders import exists
from detdistill.data.image_sizes import check_sizes
from detdistill.data.splits import Split, choose
from detdistill.errors import DataError

_ONE_SPLIT = (".json", ".txt")


def open_dataset(
    path: str | Path,
    split: str | None = None,
    *,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    check_images: bool = True,
    accept_left_out: bool = False,
    rescale: bool = False,
) -> DetectionDataset:
    """Opens an annotated data set in COCO, PASCAL VOC or YOLO format.

    Args:
        path: the data set's folder, or its annotation file: COCO's JSON, VOC's list in `ImageSets/Main`, YOLO's YAML.
        split: which part of it, by its own name or a usual one: `val` also finds `valid` and `val2017`. Not needed
            where there is only one; not regarded where a file that is one split (JSON, list) is named.
        annotations: such a file, or VOC's folder of XML files, instead of what would be recognised; from the working
            directory or from `path`.
        images: the image folder, instead of what would be recognised; from the working directory or from `path`.
        check_images: every image file must be there and have the annotated size. Scoring detections needs none, where
            sizes are annotated.
        accept_left_out: Read the data set although more than a tenth of its annotations is unreadable or invalid.
        rescale: Rescale boxes that were annotated for another size of the image.

    Returns:
        The data set; what was left out, changed or noted is in its `problems`.

    Raises:
        LeftOutError: More than a tenth of the annotations is unreadable or invalid.
        DataError: nothing or several things were recognised, or the data cannot be used; it lists all problems.
    """
    path = Path(path)
    splits = find_splits(path, annotations=annotations)
    named = path if annotations is None else Path(annotations)
    chosen = splits[0] if named.suffix.lower() in _ONE_SPLIT else choose(splits, split, path)
    dataset = chosen.read(_explicit(path, images) if images is not None else None, check_images)
    if (check_images or rescale) and chosen.layout != yolo.LAYOUT:  # YOLO's sizes are the files'
        dataset = check_sizes(dataset, rescale=rescale)
    if not accept_left_out:
        check_left_out(dataset)
    return dataset


def find_splits(path: str | Path, *, annotations: str | Path | None = None) -> list[Split]:
    """The annotated sets that a path holds, at least one; arguments as in `open_dataset`.

    Raises:
        DataError: there is none.
    """
    path = Path(path)
    named = _explicit(path, annotations) if annotations is not None else path
    if not exists(named):
        raise DataError(f"{named}: there is no such file or folder")
    if named.is_file():
        return _file_splits(named)
    if annotations is not None:
        return voc.annotation_splits(named)
    splits = [*coco.coco_splits(path), *voc.voc_splits(path), *yolo.yolo_splits(path)]
    if not splits:
        try:
            there = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in path.iterdir())
        except OSError as error:
            raise DataError(f"{path}: cannot be listed ({error.strerror})") from error
        some = ", ".join(there[:20]) + (", …" if len(there) > 20 else "") or "nothing"
        looked_for = "\n".join(f"  {text}" for text in (coco.LOOKED_FOR, voc.LOOKED_FOR, yolo.LOOKED_FOR))
        raise DataError(
            f"{path}: holds no annotated data set that is recognised. Looked for\n{looked_for}\n"
            f"and found: {some}\nName the annotation file ('annotations') and the image folder ('images') yourself"
        )
    return splits


def _file_splits(file: Path) -> list[Split]:
    match file.suffix.lower():
        case ".json":
            return [coco.coco_split(file)]
        case ".yaml" | ".yml":
            return yolo.config_splits(file)
        case ".txt":
            return [voc.listing_split(file.absolute().parent.parent.parent / "Annotations", file)]
    raise DataError(
        f"{file}: an annotation file is a COCO .json, a list (.txt) in VOC's ImageSets/Main or a YOLO .yaml"
    )


def _explicit(path: Path, given: str | Path) -> Path:
    """A path that the user gave, from the working directory or else from the data set's folder."""
    tried = Path(given), path / given
    found = next((candidate for candidate in tried if exists(candidate)), None)
    if found is None:
        raise DataError(f"there is neither {tried[0]} nor {tried[1]}")
    return found
