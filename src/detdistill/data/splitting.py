"""Splits a dataset into parts: always the same ones, and near-duplicates always in one part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.errors import DataError, Problem
from detdistill.core.images import read_image
from detdistill.core.progress import track
from detdistill.core.seeds import derived_seed
from detdistill.data.shares import Group, assign

HASH_SIDE = 16
NEAR = 20
"""Bits of 256 by which the hashes of near-duplicates may differ: other size, compression, brightness, a small shift."""

ROWS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class DatasetSplit:
    """A dataset in two or three parts.

    Attributes:
        parts: `train`, then `val` and `test` as far as they were asked for; together all images, each once.
        duplicates: the groups of near-duplicates that were kept together, by file name.
    """

    parts: dict[str, DetectionDataset]
    duplicates: tuple[tuple[str, ...], ...]

    @property
    def absent_classes(self) -> dict[str, tuple[str, ...]]:
        """For each part, the classes that have objects in another part and none in this one."""
        labels = {name: frozenset[int]().union(*map(_object_labels, part.images)) for name, part in self.parts.items()}
        everywhere = frozenset[int]().union(*labels.values())
        return {
            name: tuple(part.classes[label] for label in sorted(everywhere - labels[name]))
            for name, part in self.parts.items()
        }


def split_dataset(dataset: DetectionDataset, *, val: float, test: float = 0.0, seed: int) -> DatasetSplit:
    """Split by a hash of file name and seed; near-duplicates go to the part of the first of them.

    An image's place in the order depends on its own name alone, so images that are added later move few others. Where
    a part lacks a class, groups are exchanged so that each part has it, if there are enough groups: see `assign`.

    Args:
        dataset: the annotated images.
        val: share of the images to validate on, 0 to below 1; it is not exceeded by more than half an image.
        test: share of the images to test on, the same. 0 makes no such part; one of both is above 0, and together
            they are below 1.
        seed: another seed, another split.

    Returns:
        The parts `train`, `val` (if above 0) and `test` (if above 0), each with at least one image.

    Raises:
        DataError: a share is out of range, an image cannot be decoded, or there is no split that leaves each part an
            image.
    """
    if not (val >= 0 and test >= 0 and 0 < val + test < 1):
        raise DataError(
            f"the shares of val ({val}) and test ({test}) cannot be used; expected numbers from 0 to below 1, one of "
            "them above 0 and their sum below 1"
        )
    records = dataset.images
    names = list(records.file_names)
    wanted = {part: max(1, round(share * len(names))) for part, share in (("val", val), ("test", test)) if share}
    groups = near_duplicates(_hashes(dataset))
    ranked = sorted(groups, key=lambda group: min((derived_seed(seed, names[i]), names[i]) for i in group))
    contents = [
        Group(len(group), frozenset[int]().union(*(_object_labels(records[i]) for i in group))) for group in ranked
    ]
    part_of = {i: part for group, part in zip(ranked, assign(contents, wanted, "train"), strict=True) for i in group}
    parts = {
        part: records.take([index for index in range(len(records)) if part_of[index] == part])
        for part in ("train", *wanted)
    }
    for part, images in parts.items():
        if not images:
            raise DataError(
                f"{dataset.source}: no image is left for {part}: the {len(names)} images fall into {len(groups)} "
                f"group(s) of near-duplicates, which stay together; expected a group of at most "
                f"{wanted.get(part, len(names))} images; choose a larger share or add other images"
            )
    return DatasetSplit(
        parts={part: replace(dataset, images=images) for part, images in parts.items()},
        duplicates=tuple(tuple(names[i] for i in group) for group in groups if len(group) > 1),
    )


def _object_labels(record: ImageRecord) -> frozenset[int]:
    return frozenset(record.labels[~record.crowd].tolist())


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
            "replace them, or remove them from the annotations",
            problems,
        )
    return np.array(hashes)
