"""`detdistill evaluate`: the score of a detector, or of detections that are already there."""

from __future__ import annotations

import sys
from dataclasses import KW_ONLY, asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from detdistill.cli.source import DATA, Source
from detdistill.core.distributed import is_first_process

if TYPE_CHECKING:
    from detdistill.core.annotations import DetectionDataset
    from detdistill.core.image_options import ImageOptions, ImageSize
    from detdistill.evaluation.coco_metrics import CocoMetrics
    from detdistill.evaluation.precision_recall import OperatingPoint
    from detdistill.evaluation.results import Results
    from detdistill.evaluation.voc_metrics import Interpolation, VocMetrics

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
        """Prints the tables and writes the files."""
        from detdistill.core.errors import DetdistillError

        if (self.run_folder is None) == (self.detections is None):
            raise DetdistillError("what is to be evaluated? Give either the folder of a run, or --detections FILE")
        if self.detections is not None and (self.out is not None or self.store_thresholds):
            raise DetdistillError("--out and --store-thresholds need the folder of a run, not --detections")
        if self.run_folder is not None:
            self._evaluate_run(self.run_folder)
        elif self.detections is not None:
            self._evaluate_file(self.detections)

    def _evaluate_file(self, detections: Path) -> None:
        from detdistill.evaluation.results_file import read_results

        if is_first_process():
            dataset = self._dataset(check_images=False)
            self._write(self._print_scores(dataset, read_results(detections, dataset)))

    def _evaluate_run(self, folder: Path) -> None:
        from detdistill.core.distributed import sharing_images
        from detdistill.detectors.description import was_trained_on
        from detdistill.detectors.running import InferenceOptions, chosen_device
        from detdistill.detectors.storage import load_detector, read_description
        from detdistill.evaluation.score import score

        description = read_description(folder)
        images = image_options(
            folder, description.input.size, self.short_side, self.long_side, canvas_of(self.height, self.width)
        )
        options = InferenceOptions(self.batch_size, self.workers, self.bf16, self.channels_last)
        detector = load_detector(folder).to(chosen_device(self.device))
        if self.class_agnostic_nms:
            detector.postprocessing = replace(detector.postprocessing, class_agnostic=True)
        dataset = self._dataset(check_images=True)
        if was_trained_on(description, dataset) and is_first_process():
            print(
                f"WARNING: {folder} was trained on these images, so that its scores say little; give another --split",
                file=sys.stderr,
            )
        with sharing_images():
            score(detector, dataset, images, partial(self._report, folder), options)

    def _report(self, folder: Path, dataset: DetectionDataset, results: Results) -> None:
        """Prints and writes what was found by all processes."""
        from detdistill.detectors.storage import store_thresholds
        from detdistill.evaluation.precision_recall import at_recalls, best_f1, precision_recall
        from detdistill.evaluation.results_file import write_results
        from detdistill.evaluation.voc_metrics import rank_detections

        if self.out is not None:
            write_results(self.out, results, dataset)
        numbers = self._print_scores(dataset, results)
        curves = {name: precision_recall(ranking) for name, ranking in rank_detections(dataset, results).items()}
        best = {name: best_f1(curve) for name, curve in curves.items()}
        _print_best(best)
        numbers["best_f1"] = {name: None if point is None else asdict(point) for name, point in best.items()}
        numbers["precision_recall"] = {
            name: {key: values.tolist() for key, values in vars(at_recalls(curve)).items()}
            for name, curve in curves.items()
        }
        self._write(numbers)
        if self.store_thresholds:
            chosen = {name: point.threshold for name, point in best.items() if point is not None}
            store_thresholds(folder, chosen)
            print(f"the thresholds of {len(chosen)} classes are kept in {folder / 'model.json'}")

    def _dataset(self, *, check_images: bool) -> DetectionDataset:
        from detdistill.data.checking import reading_note

        dataset = self.opened(self.data, check_images=check_images)
        note = reading_note(dataset, self.data)
        if note is not None and is_first_process():
            print(f"note: {note}", file=sys.stderr)
        return dataset

    def _print_scores(self, dataset: DetectionDataset, results: Results) -> dict[str, Any]:
        from detdistill.evaluation.coco_metrics import coco_metrics
        from detdistill.evaluation.voc_metrics import voc_metrics

        print(f"{len(results)} detections in {len(dataset.images)} images of {dataset.source}; scores 0 to 100")
        if self.protocol == "coco":
            metrics = coco_metrics(dataset, results)
            _print_coco(metrics)
        else:
            interpolation: Interpolation = "11-point" if self.protocol == "voc07" else "all-point"
            metrics = _as_coco(voc_metrics(dataset, results, interpolation=interpolation))
            _print_voc(metrics)
        return asdict(metrics)

    def _write(self, numbers: dict[str, Any]) -> None:
        import json

        from detdistill.core.files import write_atomically

        if self.json is not None:
            text = json.dumps(numbers, ensure_ascii=False, allow_nan=False, indent=2)
            write_atomically(self.json, f"{text}\n")


def canvas_of(height: int | None, width: int | None) -> tuple[int, int] | None:
    """Return the canvas that --height and --width name.

    Raises:
        DetdistillError: only one of them is given.
    """
    from detdistill.core.errors import DetdistillError

    if height is None and width is None:
        return None
    if height is None or width is None:
        raise DetdistillError("--height and --width belong together: give both")
    return height, width


def image_options(
    folder: Path,
    made_for: ImageSize | None,
    short_side: int | None,
    long_side: int | None,
    canvas: tuple[int, int] | None,
) -> ImageOptions:
    """Return the image size: the run's, or what the user gives.

    Raises:
        DetdistillError: neither is known.
    """
    from detdistill.core.errors import DetdistillError
    from detdistill.core.image_options import ImageOptions, on_fixed_canvas

    if short_side is None and long_side is None:
        if made_for is None:
            raise DetdistillError(
                f"{folder / 'model.json'}: no image_size; expected the size of the images that the detector was "
                "trained on: give it with --short-side and --long-side (800 and 1333 in most published COCO models)"
            )
        options = ImageOptions(**asdict(made_for))
    else:
        usual = made_for or ImageOptions()
        options = ImageOptions(
            short_side=usual.short_side if short_side is None else short_side,
            long_side=usual.long_side if long_side is None else long_side,
        )
    return options if canvas is None else on_fixed_canvas(options, canvas)


def _print_coco(metrics: CocoMetrics) -> None:
    from detdistill.cli.text_table import print_table
    from detdistill.core.texts import points

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
    from detdistill.cli.text_table import print_table
    from detdistill.core.texts import points

    rows = [*metrics.per_class.items(), ("mean", metrics)]
    print_table(("class", "AP50"), [(name, points(scores.AP50)) for name, scores in rows], last_apart=True)


def _print_best(best: dict[str, OperatingPoint | None]) -> None:
    from detdistill.cli.text_table import print_table
    from detdistill.core.texts import points

    print()
    rows = [
        (name, *(f"{point.threshold:.3f}", points(point.precision), points(point.recall), points(point.f1)))
        if point is not None
        else (name, *"––––")
        for name, point in best.items()
    ]
    print_table(("best F1 at IoU .5", "score from", "precision", "recall", "F1"), rows)


def _as_coco(metrics: VocMetrics) -> CocoMetrics:
    """VOC's score is an AP at IoU .5: machines find it under COCO's name, and the other names undefined."""
    from detdistill.evaluation.coco_metrics import CocoMetrics, CocoScores

    per_class = {name: CocoScores(AP50=value) for name, value in metrics.per_class.items()}
    return CocoMetrics(AP50=metrics.mean, per_class=per_class)
