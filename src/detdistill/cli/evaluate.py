"""`detdistill evaluate`: the score of detections that are already there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from detdistill.cli.parser import Option


@dataclass(frozen=True)
class Evaluate:
    """Score the detections in a COCO-results file; no model and no image is needed."""

    detections: Annotated[Path, Option("COCO-results JSON: a list of image_id, category_id, bbox, score")]
    data: Annotated[Path, Option("the annotated data set: COCO, PASCAL VOC or YOLO, a folder or a file")]
    split: Annotated[str | None, Option("which part of the data set, such as val")] = None
    protocol: Annotated[
        Literal["coco", "voc07", "voc10"],
        Option("COCO's twelve numbers, or PASCAL VOC's mAP with 11 points (2007) or all points (2010)"),
    ] = "coco"
    json: Annotated[Path | None, Option("file to write the numbers to, 0 to 1, null where undefined")] = None

    def run(self) -> None:
        """Prints the table and writes the JSON."""
        raise NotImplementedError
