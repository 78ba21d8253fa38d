"""`detdistill evaluate`: the score of a detector, or of detections that are already there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from detdistill.cli.source import DATA, Source
from detdistill.core.console import print_out
from detdistill.core.distributed import is_first_process

if TYPE_CHECKING:
    from detdistill.evaluation.coco_metrics import CocoMetrics
    from detdistill.evaluation.evaluating import Scored
    from detdistill.evaluation.precision_recall import OperatingPoint

CLASS_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
RECALL_COLUMNS = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class Evaluate(Source):
    """Score a detector on a data set, or the detections in a COCO-results file without any model.

    Of a detector it also tells, for each class, the score threshold of the best F1 at IoU .5. Processes that torchrun
    started share the images; the first one prints and writes.
    """

    run_folder: Annotated[Path | None, Parameter(help="Folder of a trained, distilled or imported detector.")] = None
    _: KW_ONLY
    data: Annotated[Path, Parameter(help=DATA)]
    detections: Annotated[
        Path | None,
        Parameter(help="Detections to score instead: COCO-results JSON, a list of image_id, category_id, bbox, score."),
    ] = None
    protocol: Annotated[
        Literal["coco", "voc07", "voc10"],
        Parameter(help="COCO's twelve numbers, or PASCAL VOC's AP50 with 11 points (2007) or all points (2010)."),
    ] = "coco"
    json: Annotated[Path | None, Parameter(help="Output file (JSON) of the scores, 0 to 1, null where undefined.")] = (
        None
    )
    out: Annotated[Path | None, Parameter(help="Output file of the detections (COCO-results JSON).")] = None
    store_thresholds: Annotated[
        bool, Parameter(help="Store the score thresholds of the best F1 in the folder's model.json.")
    ] = False
    short_side: Annotated[int | None, Parameter(help="Pixels of the shorter side. Default: as in training.")] = None
    long_side: Annotated[
        int | None, Parameter(help="Upper limit of the longer side, in pixels. Default: as in training.")
    ] = None
    height: Annotated[
        int | None,
        Parameter(help="Height in pixels of one canvas for all images, a multiple of 32, as of an exported file."),
    ] = None
    width: Annotated[int | None, Parameter(help="Width in pixels of one canvas for all images, a multiple of 32.")] = (
        None
    )
    class_agnostic_nms: Annotated[bool, Parameter(help="NMS among the boxes of all classes.")] = False
    batch_size: Annotated[int, Parameter(help="Images at a time.")] = 8
    workers: Annotated[int, Parameter(help="Processes that load images.")] = 0
    bf16: Annotated[bool, Parameter(help="Run the network in bfloat16.")] = False
    channels_last: Annotated[bool, Parameter(help="Store images with the channels innermost, often faster.")] = False
    device: Annotated[str | None, Parameter(help="Device, such as cpu or cuda:1. Default: a GPU if there is one.")] = (
        None
    )

    def run(self) -> None:
        """Prints the tables; the library writes the files."""
        from detdistill.core.errors import DetdistillError

        if (self.run_folder is None) == (self.detections is None):
            raise DetdistillError("what is to be evaluated? Give either the folder of a run, or --detections FILE")
        if self.detections is not None and (self.out is not None or self.store_thresholds):
            raise DetdistillError("--out and --store-thresholds need the folder of a run, not --detections")
        if self.run_folder is not None:
            self._evaluate_run(self.run_folder)
        elif self.detections is not None and is_first_process():
            from detdistill.evaluation.evaluating import evaluate_detections

            source = self.source(self.data)
            self._print(evaluate_detections(self.detections, source, protocol=self.protocol, json=self.json))

    def _evaluate_run(self, folder: Path) -> None:
        from detdistill.core.image_options import canvas_of
        from detdistill.detectors.running import InferenceOptions
        from detdistill.evaluation.evaluating import evaluate

        found = evaluate(
            folder,
            self.source(self.data),
            protocol=self.protocol,
            short_side=self.short_side,
            long_side=self.long_side,
            canvas=canvas_of(self.height, self.width),
            class_agnostic=self.class_agnostic_nms,
            device=self.device,
            options=InferenceOptions(self.batch_size, self.workers, self.bf16, self.channels_last),
            json=self.json,
            detections=self.out,
            keep_thresholds=self.store_thresholds,
        )
        if is_first_process():
            self._print(found)
            _print_best(found.best_f1)
            if self.store_thresholds:
                print_out(f"the thresholds of {len(found.thresholds)} classes are kept in {folder / 'model.json'}")

    def _print(self, found: Scored) -> None:
        images = len(found.dataset.images)
        print_out(f"{len(found.results)} detections in {images} images of {found.dataset.source}; scores 0 to 100")
        if self.protocol == "coco":
            _print_coco(found.scores)
        else:
            _print_voc(found.scores)


def _print_coco(metrics: CocoMetrics) -> None:
    _print_twelve(metrics)
    if metrics.segm is not None:
        print_out("\nmasks:")
        _print_twelve(metrics.segm, "segm ")


def _print_twelve(metrics: CocoMetrics, prefix: str = "") -> None:
    from detdistill.cli.text_table import print_table
    from detdistill.core.texts import points

    rows = [*metrics.per_class.items(), ("mean", metrics)]
    print_table(
        ("class", *(f"{prefix}{column}" for column in CLASS_COLUMNS)),
        [(name, *(points(getattr(scores, column)) for column in CLASS_COLUMNS)) for name, scores in rows],
        last_apart=True,
    )
    print_out()
    print_table(
        ("recall", *(f"{prefix}{column}" for column in RECALL_COLUMNS)),
        [("mean", *(points(getattr(metrics, column)) for column in RECALL_COLUMNS))],
    )


def _print_voc(metrics: CocoMetrics) -> None:
    from detdistill.cli.text_table import print_table
    from detdistill.core.texts import points

    rows = [*metrics.per_class.items(), ("mean", metrics)]
    print_table(("class", "AP50"), [(name, points(scores.AP50)) for name, scores in rows], last_apart=True)


def _print_best(best: Mapping[str, OperatingPoint | None]) -> None:
    from detdistill.cli.text_table import print_table
    from detdistill.core.texts import points

    print_out()
    rows = [
        (name, *(f"{point.threshold:.3f}", points(point.precision), points(point.recall), points(point.f1)))
        if point is not None
        else (name, *"––––")
        for name, point in best.items()
    ]
    print_table(("best F1 at IoU .5", "score from", "precision", "recall", "F1"), rows)
