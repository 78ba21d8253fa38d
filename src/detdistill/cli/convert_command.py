"""`detdistill data convert`: write a dataset in another format, and split it on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from detdistill.cli.source import DATA, Source
from detdistill.core.console import print_out

if TYPE_CHECKING:
    from detdistill.core.annotations import DetectionDataset
    from detdistill.data.splitting import DatasetSplit

LISTED_GROUPS = 20


@dataclass(frozen=True)
class Convert(Source):
    """Write a dataset as COCO, PASCAL VOC or YOLO into a new folder, and split it on request.

    Writes all splits, or one, with copies of the images. What the format cannot hold is reported with counts. COCO
    keeps masks with --masks; key points are not converted.
    """

    path: Annotated[Path, Parameter(help=DATA)]
    _: KW_ONLY
    to: Annotated[Literal["coco", "voc", "yolo"], Parameter(help="Format to write.")]
    out: Annotated[Path, Parameter(help="Output folder; it must not exist.")]
    val: Annotated[
        float,
        Parameter(help="Share of the images for a new val split, 0 to below 1; near-duplicates stay in one split."),
    ] = 0.0
    test: Annotated[float, Parameter(help="Share of the images for a new test split, 0 to below 1.")] = 0.0
    seed: Annotated[int, Parameter(help="Random seed of --val and --test.")] = 0
    masks: Annotated[bool, Parameter(help="Read the objects' masks, too, which --to coco keeps.")] = False
    link: Annotated[
        bool,
        Parameter(
            help="Make hard links to the images instead of copies. A changed image then changes in both folders."
        ),
    ] = False

    def run(self) -> None:
        """Converts and reports.

        Raises:
            DetdistillError: the dataset cannot be read, split or written.
        """
        from detdistill.data.writing.converting import convert_dataset

        converted = convert_dataset(
            replace(self.source(self.path), masks=self.masks),
            self.out,
            self.to,
            val=self.val,
            test=self.test,
            seed=self.seed,
            link=self.link,
        )
        for source in converted.sources:
            print_repairs(source, self.path)
        if converted.split is not None:
            print_split(converted.split)
        for warning in converted.written.warnings:
            print_out(f"warning: {warning}")
        named = {f"{self.out}: {name}": part for name, part in converted.written.parts.items()}
        print_parts(named, None if converted.split is None else len(converted.sources[0].images))


def print_repairs(dataset: DetectionDataset, path: Path) -> None:
    """Print what was left out, changed or noted while a dataset was read."""
    from detdistill.data.checking import reading_note

    note = reading_note(dataset, path)
    if note is not None:
        print_out(note)


def print_split(divided: DatasetSplit) -> None:
    """Lists the near-duplicates that stayed together and the classes that a part lacks."""
    for group in divided.duplicates[:LISTED_GROUPS]:
        print_out(f"near-duplicates, kept together: {', '.join(group)}")
    if len(divided.duplicates) > LISTED_GROUPS:
        print_out(f"… and {len(divided.duplicates) - LISTED_GROUPS} more groups of near-duplicates")
    for name, classes in divided.absent_classes.items():
        if classes:
            print_out(f"warning: {name} has no object of {', '.join(map(repr, classes))}")


def print_parts(parts: Mapping[str, DetectionDataset], total: int | None = None) -> None:
    """Prints images and objects of each part, under the names that are given, and its share of `total` images."""
    for name, part in parts.items():
        images, objects = len(part.images), len(part.images.labels)
        share = f" ({100 * images / total:.1f} %)" if total else ""
        print_out(f"{name}: {images} image{'s' * (images != 1)}{share}, {objects} object{'s' * (objects != 1)}")
