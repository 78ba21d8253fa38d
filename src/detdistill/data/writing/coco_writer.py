"""COCO: one JSON file of annotations per part, with the images in a folder per part or where they are."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.errors import DataError
from detdistill.core.files import new_folder
from detdistill.core.progress import track
from detdistill.data.assembly import is_text
from detdistill.data.writing.image_files import ImageFiles
from detdistill.data.writing.naming import Part

Ids = list[list[int]]
"""The image ids of each part."""


def write_coco(folder: Path, parts: Sequence[Part], images: ImageFiles) -> None:
    """Write `annotations/instances_PART.json` and `images/PART/`.

    COCO's image and category ids are kept; images without numbers as ids are numbered from 1 over all parts.

    Args:
        folder: an empty folder.
        parts: the parts, with the same classes.
        images: how image files are placed.

    Raises:
        DetdistillError: there is no class or an image cannot be placed.
    """
    (folder / "annotations").mkdir()
    ids = _image_ids([part.dataset for part in parts])
    for part, part_ids in zip(parts, ids, strict=True):
        _write_json(
            folder / "annotations" / f"instances_{part.name}.json",
            part.dataset,
            [file.as_posix() for file in part.files],
            part_ids,
        )
        placed = dict(zip(part.files, part.dataset.images, strict=True))
        for file, record in track(list(placed.items()), f"writing {part.name}"):
            images.place(record.path, folder / "images" / part.name / file)


def write_coco_beside(parts: Mapping[str, DetectionDataset], out: Path) -> None:
    """Write `PART.json` for each part and `images`, a link to the folder where the images are.

    The folder takes little space, and appears whole or not at all. Ids are as in `write_coco`.

    Args:
        parts: the datasets by name, with the same classes.
        out: the folder to make; it must not exist.

    Raises:
        DetdistillError: `out` exists or cannot be written, or there is no class.
    """
    folders = [record.path.resolve().parent for part in parts.values() for record in part.images]
    root = Path(os.path.commonpath(folders))
    ids = _image_ids(list(parts.values()))
    with new_folder(out) as folder:
        for (name, part), part_ids in zip(parts.items(), ids, strict=True):
            files = [record.path.resolve().relative_to(root).as_posix() for record in part.images]
            _write_json(folder / f"{name}.json", part, files, part_ids)
        (folder / "images").symlink_to(os.path.relpath(root, out.resolve()), target_is_directory=True)


def _image_ids(datasets: Sequence[DetectionDataset]) -> Ids:
    """The images' own ids if all are numbers, else numbers from 1; an image in several parts has one number."""
    own = [[record.image_id for record in dataset.images] for dataset in datasets]
    if all(isinstance(image_id, int) for ids in own for image_id in ids):
        return [[int(image_id) for image_id in ids] for ids in own]
    numbers: dict[tuple[Path, int], int] = {}
    result: Ids = []
    for dataset in datasets:
        seen: Counter[Path] = Counter()
        ids = []
        for record in dataset.images:
            seen[record.path] += 1
            ids.append(numbers.setdefault((record.path, seen[record.path]), len(numbers) + 1))
        result.append(ids)
    return result


def _write_json(file: Path, dataset: DetectionDataset, names: Sequence[str], ids: Sequence[int]) -> None:
    """Write entry by entry: the text of a large file is never in memory as a whole."""
    if not dataset.classes:
        raise DataError(f"{dataset.source}: no class found; COCO needs at least one; annotate an object")
    unreadable = next((name for name in (*dataset.classes, *names) if not is_text(name)), None)
    if unreadable is not None:
        raise DataError(f"{dataset.source}: the name {unreadable!r} is no valid text; rename it")
    images = (
        {"id": image_id, "file_name": name, "width": record.width, "height": record.height}
        for image_id, name, record in zip(ids, names, dataset.images, strict=True)
    )
    annotations = (
        annotation
        for image_id, record in zip(ids, dataset.images, strict=True)
        for annotation in _annotations(dataset, record, image_id)
    )
    categories = (
        {"id": category_id, "name": name}
        for category_id, name in zip(dataset.category_ids, dataset.classes, strict=True)
    )
    with file.open("w", encoding="utf-8") as stream:
        stream.write("{")
        for key, entries, after in (
            ("images", images, ","),
            ("annotations", ({"id": number, **entry} for number, entry in enumerate(annotations, start=1)), ","),
            ("categories", categories, "\n}\n"),
        ):
            stream.write(f'\n"{key}": [')
            for number, entry in enumerate(entries):
                stream.write(f"{',' if number else ''}\n{json.dumps(entry, ensure_ascii=False)}")
            stream.write(f"\n]{after}")


def _annotations(dataset: DetectionDataset, record: ImageRecord, image_id: int) -> Iterator[dict[str, Any]]:
    masks = repeat("") if record.masks is None else record.masks
    for i, mask in zip(range(len(record.labels)), masks, strict=False):  # `repeat` does not end
        yield {
            "image_id": image_id,
            "category_id": dataset.category_ids[record.labels[i]],
            "bbox": [*record.boxes[i, :2].tolist(), *(record.boxes[i, 2:] - record.boxes[i, :2]).tolist()],
            "area": float(record.areas[i]),
            "iscrowd": int(record.crowd[i]),
            # Not COCO's own: `open_dataset` reads it, so that VOC's flag survives the change of format.
            "difficult": int(record.difficult[i]),
            **({"segmentation": {"size": [record.height, record.width], "counts": mask}} if mask else {}),
        }
