"""The detector of a run folder on a dataset: detections, scores, and the thresholds of the best F1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Literal

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import note, sharing_images
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions, options_for
from detdistill.detectors.description import was_trained_on
from detdistill.detectors.running import InferenceOptions, chosen_device
from detdistill.detectors.storage import load_detector, read_description
from detdistill.evaluation.coco_metrics import CocoMetrics, CocoScores, coco_metrics
from detdistill.evaluation.precision_recall import Curve, OperatingPoint, best_f1, precision_recall
from detdistill.evaluation.results import Results
from detdistill.evaluation.score import score
from detdistill.evaluation.voc_metrics import rank_detections, voc_metrics

Protocol = Literal["coco", "voc07", "voc10"]
"""COCO's twelve numbers, or PASCAL VOC's AP50 with 11 points (2007) or all points (2010)."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a detector finds in a dataset, and how good it is.

    Attributes:
        dataset: The ground truth, with the detector's classes.
        results: The detections.
        scores: Scores 0 to 1; those that the protocol does not define are None.
        curves: Precision over recall at IoU .5, by class name.
        best_f1: Score threshold of the best F1 at IoU .5, by class name; None for classes without objects.
    """

    dataset: DetectionDataset
    results: Results
    scores: CocoMetrics
    curves: Mapping[str, Curve]
    best_f1: Mapping[str, OperatingPoint | None]

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds of `best_f1`, as `store_thresholds` takes them."""
        return {name: point.threshold for name, point in self.best_f1.items() if point is not None}


def evaluate(
    folder: str | PathLike[str],
    dataset: DetectionDataset,
    *,
    protocol: Protocol = "coco",
    short_side: int | None = None,
    long_side: int | None = None,
    canvas: tuple[int, int] | None = None,
    class_agnostic: bool = False,
    device: str | None = None,
    options: InferenceOptions = InferenceOptions(),
) -> Evaluation:
    """Evaluate the detector of a run folder. Processes that torchrun started share the images.

    A warning on standard error says if the detector was trained on these images.

    Args:
        folder: Folder of a trained, distilled or imported detector.
        dataset: The ground truth; its classes are among the detector's, by name.
        protocol: How it is scored.
        short_side: Pixels of the shorter side; None for the size that the detector was trained for.
        long_side: Upper limit of the longer side, in pixels; None as for `short_side`.
        canvas: Height and width in pixels, multiples of 32, of one canvas for all images.
        class_agnostic: NMS among the boxes of all classes.
        device: Such as `cpu` or `cuda:1`; None for a GPU if there is one.
        options: Batches, precision, loading processes.

    Returns:
        The evaluation, in every process.

    Raises:
        DetdistillError: The folder cannot be loaded, the image size is not known, or the device is not available.
        DataError: The dataset has a class that the detector does not know, or an image that cannot be read.
    """
    folder = Path(folder)
    description = read_description(folder)
    images = run_options(folder, short_side=short_side, long_side=long_side, canvas=canvas)
    detector = load_detector(folder).to(chosen_device(device))
    if class_agnostic:
        detector.postprocessing = replace(detector.postprocessing, class_agnostic=True)
    if was_trained_on(description, dataset):
        note(f"WARNING: {folder} was trained on these images, so that its scores say little; give another --split")
    with sharing_images():
        return score(detector, dataset, images, partial(_evaluation, protocol=protocol), options)


def run_options(
    folder: Path,
    *,
    short_side: int | None = None,
    long_side: int | None = None,
    canvas: tuple[int, int] | None = None,
) -> ImageOptions:
    """Return the image size to run the detector of a run folder with; arguments as in `evaluate`.

    Raises:
        DetdistillError: The folder holds no detector, or no size is known.
    """
    trained = read_description(folder).input.size
    try:
        return options_for(trained, short_side=short_side, long_side=long_side, canvas=canvas)
    except DetdistillError as error:
        raise DetdistillError(f"{folder / 'model.json'}: {error}") from error


def scores_of(dataset: DetectionDataset, results: Results, protocol: Protocol = "coco") -> CocoMetrics:
    """Return the scores of detections, 0 to 1.

    VOC's score is an AP at IoU .5: it has COCO's name, and the other scores are None.
    """
    if protocol == "coco":
        return coco_metrics(dataset, results)
    found = voc_metrics(dataset, results, interpolation="11-point" if protocol == "voc07" else "all-point")
    return CocoMetrics(
        AP50=found.mean, per_class={name: CocoScores(AP50=value) for name, value in found.per_class.items()}
    )


def evaluation_of(dataset: DetectionDataset, results: Results, scores: CocoMetrics) -> Evaluation:
    """Return detections with their scores, curves and operating points.

    Args:
        dataset: The ground truth, with the detector's classes.
        results: The detections.
        scores: Scores of the detections.
    """
    curves = {name: precision_recall(ranking) for name, ranking in rank_detections(dataset, results).items()}
    best = {name: best_f1(curve) for name, curve in curves.items()}
    return Evaluation(dataset, results, scores, curves, best)


def _evaluation(dataset: DetectionDataset, results: Results, *, protocol: Protocol) -> Evaluation:
    return evaluation_of(dataset, results, scores_of(dataset, results, protocol))
