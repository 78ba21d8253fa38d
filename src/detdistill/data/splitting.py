"""Sets images aside for validation: always the same ones, and never an image whose near-duplicate is trained on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detdistill.annotations import DetectionDataset, ImageRecord
from detdistill.data.sampling import derived_seed
from detdistill.errors import DataError, Problem
from detdistill.files import new_folder
from detdistill.images import read_image
from detdistill.progress import track

HASH_SIDE = 16
NEAR = 20
"""Bits of 256 by which the hashes of near-duplicates may differ: other size, compression, brightness, a small shift."""

ROWS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class TrainValSplit:
    """A data set in two parts.

    Attributes:
        train: to train on.
        val: to validate on.
        duplicates: the groups of near-duplicates that were kept together, by file name.
    """

    train: DetectionDataset
    val: DetectionDataset
    duplicates: tuple[tuple[str, ...], ...]

    @property
    def one_sided_classes(self) -> tuple[str, ...]:
        """Classes that have objects in one part only."""
        train, val = ({label for record in part.images for label in record.labels} for part in (self.train, self.val))
        return tuple(self.train.classes[label] for label in sorted(train ^ val))


def split_dataset(dataset: DetectionDataset, *, val: float, seed: int) -> TrainValSplit:
    """Splits by a hash of file name and seed; near-duplicates go to the side of the first of them.

    An image's place in the order depends on its own name alone, so images that are added later move few others.

    Args:
        dataset: the annotated images.
        val: share of the images to validate on, above 0 and below 1; it is not exceeded by more than half an image.
        seed: another seed, another split.

    Raises:
        DataError: an image cannot be decoded, or there is no split that leaves both sides an image.
    """
    if not 0 < val < 1:
        raise DataError(f"the share of validation images must lie between 0 and 1, both excluded (given: {val})")
    groups = near_duplicates(_hashes(dataset))
    names = [record.file_name for record in dataset.images]
    ranked = sorted(groups, key=lambda group: min((derived_seed(seed, names[i]), names[i]) for i in group))
    wanted = max(1, round(val * len(names)))
    chosen: set[int] = set()
    for group in ranked:
        if len(chosen) + len(group) <= min(wanted, len(names) - 1):
            chosen.update(group)
    if not chosen:
        raise DataError(
            f"{dataset.source}: cannot be split: its {len(names)} images fall into {len(groups)} group(s) of "
            f"near-duplicates, and none has at most {wanted} images; choose a larger share or add other images"
        )
    records = dataset.images
    return TrainValSplit(
        train=replace(dataset, images=tuple(record for i, record in enumerate(records) if i not in chosen)),
        val=replace(dataset, images=tuple(record for i, record in enumerate(records) if i in chosen)),
        duplicates=tuple(tuple(names[i] for i in group) for group in groups if len(group) > 1),
    )


def difference_hash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """`(256,)` bits: in a 17 x 16 grey thumbnail, is each pixel darker than its right neighbour (Krawetz 2013).

    Args:
        image: `(H, W, 3)` uint8 RGB.
    """
    thumbnail = Image.fromarray(image).convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    grey = np.asarray(thumbnail)
    return (grey[:, :-1] < grey[:, 1:]).reshape(-1)


def near_duplicates(hashes: NDArray[np.bool_], near: int = NEAR) -> list[list[int]]:
    """Groups hashes such that any two that differ in at most `near` bits are in one group (single linkage).

    Two such hashes agree entirely in one of `near + 1` bands of bits, so only hashes that share a band are compared:
    the time grows about linearly with their number, unless most are alike.

    Args:
        hashes: `(n, bits)` bool.
        near: bits by which near-duplicates may differ, less than `bits`.

    Returns:
        The groups, also those of one, each ascending, ordered by their first member.
    """
    bits = hashes.shape[1]
    distinct, inverse = np.unique(hashes, axis=0, return_inverse=True)
    # The scalar product of two vectors of +1 and -1 is bits - 2 * (number of differences).
    signs = np.where(distinct, 1, -1).astype(np.float32)
    group = np.arange(len(distinct))
    # Bits drawn from all over the image: neighbouring bits are equal in all pictures with a plain background.
    for band in np.array_split(np.random.default_rng(0).permutation(bits), near + 1):
        keys = np.packbits(distinct[:, band], axis=1)
        _, bucket = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(bucket.reshape(-1), kind="stable")
        for members in np.split(order, np.cumsum(np.bincount(bucket.reshape(-1)))[:-1]):
            if len(members) > 1:
                _join_near(signs, group, members, bits - 2 * near)
    by_group: dict[int, list[int]] = {}
    for index, label in enumerate(group[inverse.reshape(-1)].tolist()):
        by_group.setdefault(label, []).append(index)
    return list(by_group.values())


def _join_near(
    signs: NDArray[np.float32], group: NDArray[np.int64], members: NDArray[np.int64], least_product: int
) -> None:
    """Gives the `members` that are near one another the same number in `group`."""
    while len(members) > 1:
        if len(members) > ROWS_AT_ONCE:
            # So that rows are often all of one group, and need comparing only with what is not yet in it.
            members = members[np.argsort(group[members], kind="stable")]
        rows = members[:ROWS_AT_ONCE]
        strangers = group[members] != group[rows[0]]
        others = members if strangers[: len(rows)].any() else members[strangers]
        near = signs[rows] @ signs[others].T >= least_product
        near &= group[rows][:, None] != group[others]
        for row in np.flatnonzero(near.any(axis=1)):
            joined = np.unique(np.append(group[others[near[row]]], group[rows[row]]))
            if len(joined) > 1:
                group[np.isin(group, joined)] = joined[0]
        members = members[ROWS_AT_ONCE:]


def _hashes(dataset: DetectionDataset) -> NDArray[np.bool_]:
    hashes, problems = [], []
    for record in track(dataset.images, "comparing images"):
        try:
            hashes.append(difference_hash(read_image(record.path, (record.height, record.width))))
        except DataError as error:
            problems.append(Problem(record.file_name, str(error), fatal=True))
    if problems:
        raise DataError(
            f"{dataset.source}: {len(problems)} images cannot be decoded, so their near-duplicates cannot be found; "
            "mend them, or take them out of the annotations",
            problems,
        )
    return np.array(hashes)


def write_split(split: TrainValSplit, out: Path) -> None:
    """Writes a COCO folder: train.json, val.json and images, a link to the folder where the images are.

    COCO's image ids are kept; images that have none are numbered. The folder appears whole or not at all.

    Args:
        split: what to write.
        out: the folder to make; it must not exist.

    Raises:
        DetdistillError: `out` exists or cannot be written.
    """
    records = (*split.train.images, *split.val.images)
    root = Path(os.path.commonpath([record.path.resolve().parent for record in records]))
    numbered = all(isinstance(record.image_id, int) for record in records)
    ids = {record: record.image_id if numbered else number for number, record in enumerate(records, start=1)}
    with new_folder(out) as folder:
        for name, part in (("train", split.train), ("val", split.val)):
            text = json.dumps(_coco(part, root, ids), ensure_ascii=False, indent=1)
            (folder / f"{name}.json").write_text(text, encoding="utf-8")
        (folder / "images").symlink_to(os.path.relpath(root, out.resolve()), target_is_directory=True)


def _coco(dataset: DetectionDataset, root: Path, ids: dict[ImageRecord, int | str]) -> dict[str, Any]:
    annotations = [annotation for record in dataset.images for annotation in _annotations(dataset, record, ids)]
    return {
        "images": [
            {
                "id": ids[record],
                "file_name": record.path.resolve().relative_to(root).as_posix(),
                "width": record.width,
                "height": record.height,
            }
            for record in dataset.images
        ],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)],
        "categories": [
            {"id": category, "name": name} for category, name in zip(dataset.category_ids, dataset.classes, strict=True)
        ],
    }


def _annotations(
    dataset: DetectionDataset, record: ImageRecord, ids: dict[ImageRecord, int | str]
) -> list[dict[str, Any]]:
    return [
        {
            "image_id": ids[record],
            "category_id": dataset.category_ids[record.labels[i]],
            "bbox": [*record.boxes[i, :2].tolist(), *(record.boxes[i, 2:] - record.boxes[i, :2]).tolist()],
            "area": float(record.areas[i]),
            "iscrowd": int(record.crowd[i]),
            "difficult": int(record.difficult[i]),
        }
        for i in range(len(record.labels))
    ]
