"""`detdistill evaluate`: the score of detections that are already there."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from detdistill.cli.parser import Option

if TYPE_CHECKING:
    from detdistill.evaluation.coco import CocoMetrics
    from detdistill.evaluation.voc import Interpolation, VocMetrics

CLASS_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
RECALL_COLUMNS = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class Evaluate:
    """Score the detections in a COCO-results file; no model and no image is needed."""

    detections: Annotated[Path, Option("COCO-results JSON: a list of image_id, category_id, bbox, score")]
    data: Annotated[Path, Option("the annotated data set: COCO, PASCAL VOC or YOLO, a folder or a file")]
    split: Annotated[str | None, Option("which part of the data set, such as val")] = None
    protocol: Annotated[
        Literal["coco", "voc07", "voc10"],
        Option("COCO's twelve numbers, or PASCAL VOC's AP50 with 11 points (2007) or all points (2010)"),
    ] = "coco"
    json: Annotated[Path | None, Option("file to write the numbers to, 0 to 1, null where undefined")] = None

    def run(self) -> None:
        """Prints the table and writes the JSON."""
        import json
        from dataclasses import asdict

        from detdistill.data.opening import open_dataset
        from detdistill.evaluation.coco import coco_metrics
        from detdistill.evaluation.results import read_results
        from detdistill.evaluation.voc import voc_metrics
        from detdistill.files import write_atomically

        dataset = open_dataset(self.data, self.split, check_images=False)
        if dataset.problems:
            print(
                f"note: {dataset.source}: {len(dataset.problems)} entries were repaired or left out before scoring; "
                f"`detdistill data inspect {self.data}` lists them",
                file=sys.stderr,
            )
        results = read_results(self.detections, dataset)
        print(f"{len(results)} detections in {len(dataset.images)} images of {dataset.source}; scores 0 to 100")
        if self.protocol == "coco":
            metrics = coco_metrics(dataset, results)
            _print_coco(metrics)
        else:
            interpolation: Interpolation = "11-point" if self.protocol == "voc07" else "all-point"
            metrics = _as_coco(voc_metrics(dataset, results, interpolation=interpolation))
            _print_voc(metrics)
        if self.json is not None:
            text = json.dumps(asdict(metrics), ensure_ascii=False, allow_nan=False, indent=2)
            write_atomically(self.json, f"{text}\n")


def _print_coco(metrics: CocoMetrics) -> None:
    from detdistill.cli.table import points, print_table

    rows = [*metrics.per_class.items(), ("mean", metrics)]
    print_table(
        ("class", *CLASS_COLUMNS),
        [(name, *(points(getattr(scores, column)) for column in CLASS_COLUMNS)) for name, scores in rows],
        last_apart=True,
    )
    print()
    print_table(
        ("recall", *RECALL_COLUMNS), [("mean", *(points(getattr(metrics, column)) for column in RECALL_COLUMNS))]
    )


def _print_voc(metrics: CocoMetrics) -> None:
    from detdistill.cli.table import points, print_table

    rows = [*metrics.per_class.items(), ("mean", metrics)]
    print_table(("class", "AP50"), [(name, points(scores.AP50)) for name, scores in rows], last_apart=True)


def _as_coco(metrics: VocMetrics) -> CocoMetrics:
    """VOC's score is an AP at IoU .5: machines find it under COCO's name, and the other names undefined."""
    from detdistill.evaluation.coco import CocoMetrics, CocoScores

    per_class = {name: CocoScores(AP50=value) for name, value in metrics.per_class.items()}
    return CocoMetrics(AP50=metrics.mean, per_class=per_class)
