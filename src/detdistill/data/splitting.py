"""Splits a dataset into parts: always the same ones, and near-duplicates always in one part."""

from __future__ import annotations

from dataclasses import dataclass, replace

from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.errors import DataError, Problem
from detdistill.core.seeds import derived_seed
from detdistill.data.fingerprints import Fingerprints, read_fingerprints
from detdistill.data.near_duplicates import near_duplicates
from detdistill.data.shares import Group, assign


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
    groups = near_duplicates(_fingerprints(dataset))
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


def _fingerprints(dataset: DetectionDataset) -> Fingerprints:
    images = dataset.images
    sizes = [(height, width) for height, width in images.sizes.tolist()]
    prints, unreadable = read_fingerprints(list(zip(images.paths, sizes, strict=True)))
    if unreadable:
        raise DataError(
            f"{dataset.source}: {len(unreadable)} images cannot be decoded, so their near-duplicates cannot be found; "
            "replace them, or remove them from the annotations",
            [Problem(images.file_names[index], str(error), fatal=True) for index, error in unreadable.items()],
        )
    return prints
