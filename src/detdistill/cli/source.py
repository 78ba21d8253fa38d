"""The options of every verb that reads an annotated dataset."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from detdistill.core.errors import DetdistillError

if TYPE_CHECKING:
    from detdistill.core.annotations import DetectionDataset

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

    def opened_if_given(self, data: Path | None) -> DetectionDataset | None:
        """Open the dataset, if there is one.

        Raises:
            DetdistillError: One of these options is given without a dataset; otherwise as in `open_dataset`.
        """
        if data is not None:
            return self.opened(data)
        given = [field.name for field in fields(Source) if getattr(self, field.name)]
        if given:
            option = f"--{given[0].replace('_', '-')}"
            raise DetdistillError(f"{option} was given without a dataset; give the dataset with --data")
        return None

    def opened(self, data: Path, *, check_images: bool = True) -> DetectionDataset:
        """Open the dataset; arguments and errors as in `open_dataset`."""
        from detdistill.data.opening import open_dataset

        return open_dataset(
            data,
            self.split,
            annotations=self.annotations,
            images=self.images,
            check_images=check_images,
            follow_links=self.follow_links,
            accept_left_out=self.accept_left_out,
            rescale=self.rescale,
        )
