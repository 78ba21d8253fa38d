"""The detector of a run folder, or a file of detections, on a dataset: scores, and the thresholds of the best F1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import is_first_process, note, sharing_images
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.image_options import ImageOptions, options_for
from detdistill.core.json_files import write_json
from detdistill.core.overwriting import check_outputs
from detdistill.data.results_entries import have_masks, read_entries
from detdistill.data.source import DatasetLike, check_dataset_outputs, opened
from detdistill.detectors.description import was_trained_on
from detdistill.detectors.running import InferenceOptions, chosen_device
from detdistill.detectors.storage import files_of_detector, load_detector, read_description, store_thresholds
from detdistill.evaluation.coco_metrics import CocoMetrics, CocoScores, coco_metrics
from detdistill.evaluation.precision_recall import Curve, OperatingPoint, at_recalls, best_f1, precision_recall
from detdistill.evaluation.results import Results
from detdistill.evaluation.results_file import results_of_entries, write_results
from detdistill.evaluation.score import score
from detdistill.evaluation.voc_metrics import rank_detections, voc_metrics

Protocol = Literal["coco", "voc07", "voc10"]
"""COCO's twelve numbers, or PASCAL VOC's AP50 with 11 points (2007) or all points (2010)."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Detections in a dataset, and how good they are.

    Attributes:
        dataset: The ground truth.
        results: The detections.
        scores: Scores 0 to 1; those that the protocol does not define are None.
    """

    dataset: DetectionDataset
    results: Results
    scores: CocoMetrics

    def to_values(self) -> dict[str, Any]:
        """Return the scores, 0 to 1, None where undefined, of JSON types."""
        return self.scores.to_values()


@dataclass(frozen=True, eq=False)
class Evaluation(Scored):
    """What a detector finds in a dataset, with the detector's classes, and how good it is.

    Attributes:
        curves: Precision over recall at IoU .5, by class name.
        best_f1: Score threshold of the best F1 at IoU .5, by class name; None for classes without objects.
        trained_on: Whether the detector was trained on exactly these annotated images.
    """

    curves: Mapping[str, Curve]
    best_f1: Mapping[str, OperatingPoint | None]
    trained_on: bool = False

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds of `best_f1`, as `store_thresholds` takes them."""
        return {name: point.threshold for name, point in self.best_f1.items() if point is not None}

    def to_values(self) -> dict[str, Any]:
        """Return the scores, the points of the best F1 and 101 points of each curve, all 0 to 1, of JSON types."""
        best = {name: None if point is None else asdict(point) for name, point in self.best_f1.items()}
        curves = {
            name: {key: values.tolist() for key, values in vars(at_recalls(curve)).items()}
            for name, curve in self.curves.items()
        }
        return {**super().to_values(), "best_f1": best, "precision_recall": curves}


def evaluate(
    folder: str | PathLike[str],
    dataset: DatasetLike,
    *,
    protocol: Protocol = "coco",
    short_side: int | None = None,
    long_side: int | None = None,
    canvas: tuple[int, int] | None = None,
    class_agnostic: bool = False,
    device: str | None = None,
    options: InferenceOptions = InferenceOptions(),
    json: str | PathLike[str] | None = None,
    detections: str | PathLike[str] | None = None,
    keep_thresholds: bool = False,
) -> Evaluation:
    """Evaluate the detector of a run folder. Processes that torchrun started share the images; the first one writes.

    A warning on standard error says if the detector was trained on these images.

    Args:
        folder: Folder of a trained, distilled or imported detector.
        dataset: The ground truth, or where it is; its classes are among the detector's, by name.
        protocol: How it is scored.
        short_side: Pixels of the shorter side; None for the size that the detector was trained for.
        long_side: Upper limit of the longer side, in pixels; None as for `short_side`.
        canvas: Height and width in pixels, multiples of 32, of one canvas for all images.
        class_agnostic: NMS among the boxes of all classes.
        device: Such as `cpu` or `cuda:1`; None for a GPU if there is one.
        options: Batches, precision, loading processes.
        json: File to write with `Evaluation.to_values()`.
        detections: File to write with the detections (COCO-results JSON).
        keep_thresholds: Store the thresholds of the best F1 in the folder's `model.json`, where `predict` finds them.

    Returns:
        The evaluation, in every process.

    Raises:
        DetdistillError: The folder cannot be loaded, the image size is not known, the device is not available, or an
            output cannot be written or would replace an input.
        DataError: The dataset cannot be opened, has a class that the detector does not know, or an image that cannot
            be read.
    """
    folder = Path(folder)
    images = run_options(folder, short_side=short_side, long_side=long_side, canvas=canvas)
    place = chosen_device(device)
    outputs = _named({"--json": json, "--out": detections})
    check_outputs(outputs, files_of_detector(folder))
    # A large dataset is not read for a detector that cannot be run.
    detector = load_detector(folder).to(place)
    truth = opened(dataset, masks=detector.has_masks)
    check_dataset_outputs(outputs, dataset, truth)
    if class_agnostic:
        detector.postprocessing = replace(detector.postprocessing, class_agnostic=True)
    trained_on = warn_if_trained_on(folder, truth)
    with sharing_images():
        found = score(detector, truth, images, partial(_evaluation, protocol, trained_on), options)
    if is_first_process():
        if detections is not None:
            write_results(Path(detections), found.results, found.dataset)
        if json is not None:
            write_json(Path(json), found.to_values(), indent=2)
        if keep_thresholds:
            store_thresholds(folder, found.thresholds)
    return found


def evaluate_detections(
    file: str | PathLike[str],
    dataset: DatasetLike,
    *,
    protocol: Protocol = "coco",
    json: str | PathLike[str] | None = None,
) -> Scored:
    """Score the detections of a COCO-results file, without any detector. Images are not looked at.

    Where entries have a `segmentation`, masks are scored, too.

    Args:
        file: COCO-results JSON, see `read_results`.
        dataset: The ground truth, or where it is.
        protocol: How it is scored.
        json: File to write with `Scored.to_values()`.

    Raises:
        DataError: The dataset cannot be opened, or the file cannot be read or names other images or classes.
        DetdistillError: The output cannot be written or would replace an input.
    """
    outputs = _named({"--json": json})
    check_outputs(outputs, [Path(file)])
    entries = read_entries(Path(file))
    truth = opened(dataset, check_images=False, masks=have_masks(entries))
    check_dataset_outputs(outputs, dataset, truth)
    results = results_of_entries(Path(file), entries, truth)
    found = Scored(truth, results, scores_of(truth, results, protocol))
    if json is not None:
        write_json(Path(json), found.to_values(), indent=2)
    return found


def warn_if_trained_on(folder: str | PathLike[str], dataset: DetectionDataset) -> bool:
    """Return whether the detector of a run folder was trained on a dataset; if so, warn on standard error.

    Raises:
        DetdistillError: The folder holds no detector.
    """
    trained_on = was_trained_on(read_description(Path(folder)), dataset)
    if trained_on:
        note(f"WARNING: {folder} was trained on these images, so that its scores say little; give another --split")
    return trained_on


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
        SettingsError: A side or the canvas is out of range.
    """
    trained = read_description(folder).input.size
    try:
        return options_for(trained, short_side=short_side, long_side=long_side, canvas=canvas)
    except SettingsError:  # an argument's fault, not the file's
        raise
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


def evaluation_of(
    dataset: DetectionDataset, results: Results, scores: CocoMetrics, *, trained_on: bool = False
) -> Evaluation:
    """Return detections with their scores, curves and operating points.

    Args:
        dataset: The ground truth, with the detector's classes.
        results: The detections.
        scores: Scores of the detections.
        trained_on: Whether the detector was trained on these images.
    """
    curves = {name: precision_recall(ranking) for name, ranking in rank_detections(dataset, results).items()}
    best = {name: best_f1(curve) for name, curve in curves.items()}
    return Evaluation(dataset, results, scores, curves, best, trained_on)


def _evaluation(protocol: Protocol, trained_on: bool, dataset: DetectionDataset, results: Results) -> Evaluation:
    return evaluation_of(dataset, results, scores_of(dataset, results, protocol), trained_on=trained_on)


def _named(files: Mapping[str, str | PathLike[str] | None]) -> dict[Path, str]:
    """The outputs that are wanted, by their path."""
    return {Path(file): what for what, file in files.items() if file is not None}
