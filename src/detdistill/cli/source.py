"""The options of every verb that reads an annotated dataset."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from detdistill.core.errors import DetdistillError

if TYPE_CHECKING:
    from detdistill.data.source import DatasetSource

DATASET = Group("Dataset")
DATA = "Annotated dataset: COCO, PASCAL VOC, YOLO or CSV, a folder or a file."


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which part of a dataset is read, and where its files are if they are not recognised."""

    split: Annotated[str | None, Parameter(help="Part of the dataset, such as val.", group=DATASET)] = None
    annotations: Annotated[
        Path | None,
        Parameter(
            help="Annotation file or folder, instead of the recognised one; from here or in the dataset.", group=DATASET
        ),
    ] = None
    images: Annotated[
        Path | None,
        Parameter(help="Image folder, instead of the recognised one; from here or in the dataset.", group=DATASET),
    ] = None
    follow_links: Annotated[
        bool, Parameter(help="Follow symbolic links that lead out of the dataset's folder.", group=DATASET)
    ] = False
    accept_left_out: Annotated[
        bool,
        Parameter(
            help="Accept that more than a tenth of a part's annotations is unreadable or invalid.", group=DATASET
        ),
    ] = False
    rescale: Annotated[
        bool,
        Parameter(
            help="Rescale boxes whose annotated image size differs from the file's (images resized afterwards).",
            group=DATASET,
        ),
    ] = False

    def source(self, data: Path) -> DatasetSource:
        """Return the dataset with these options, not yet opened."""
        from detdistill.data.source import DatasetSource

        return DatasetSource(data, **{each.name: getattr(self, each.name) for each in fields(Source)})

    def source_if_given(self, data: Path | None) -> DatasetSource | None:
        """Return the dataset with these options, if there is one.

        Raises:
            DetdistillError: One of these options is given without a dataset.
        """
        if data is not None:
            return self.source(data)
        given = [field.name for field in fields(Source) if getattr(self, field.name)]
        if given:
            option = f"--{given[0].replace('_', '-')}"
            raise DetdistillError(f"{option} was given without a dataset; give the dataset with --data")
        return None
