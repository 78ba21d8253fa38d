"""The detector of a run folder on image files: drawings, a file of detections, and counts by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from detdistill.core.errors import DataError
from detdistill.core.images import read_image
from detdistill.core.json_files import JsonListFile
from detdistill.core.overwriting import check_outputs
from detdistill.core.progress import track
from detdistill.core.structures import Detections
from detdistill.data.finding import find_pictures
from detdistill.detectors.predicting import Pixels, above, check_threshold, detect_in_images, score_thresholds
from detdistill.detectors.running import InferenceOptions, chosen_device
from detdistill.detectors.storage import files_of_detector, load_detector
from detdistill.evaluation.evaluating import run_options
from detdistill.evaluation.results_file import ids_of_files
from detdistill.report.drawn_images import DrawnImages
from detdistill.report.image_saving import ImageFormat

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]
"""Images, folders of images, or patterns such as `shots/*.jpg`."""


@dataclass
class ClassCount:
    """How often a class was found.

    Attributes:
        detections: Number of detections.
        images: Number of images with at least one of them.
    """

    detections: int = 0
    images: int = 0


@dataclass(frozen=True)
class PredictedImages:
    """What was found in image files.

    Attributes:
        images: Number of images that could be read.
        counts: How often each class was found, by name.
        unreadable: Why each of the other files could not be read.
    """

    images: int
    counts: Mapping[str, ClassCount]
    unreadable: Mapping[Path, str]

    @property
    def detections(self) -> int:
        """Number of detections of all classes."""
        return sum(count.detections for count in self.counts.values())


def predict_images(
    folder: str | PathLike[str],
    paths: Paths,
    *,
    out: str | PathLike[str] | None = None,
    image_format: ImageFormat | None = None,
    json: str | PathLike[str] | None = None,
    threshold: float | None = None,
    short_side: int | None = None,
    long_side: int | None = None,
    canvas: tuple[int, int] | None = None,
    class_agnostic: bool = False,
    device: str | None = None,
    options: InferenceOptions = InferenceOptions(),
) -> PredictedImages:
    """Find objects in image files with the detector of a run folder.

    Unreadable images are skipped and returned. Only counts stay in memory. Inputs are never overwritten. For detections
    in memory, see `Detector.predict`.

    Args:
        folder: Folder of a trained, distilled or imported detector.
        paths: Images, folders of images (with subfolders), or patterns.
        out: Folder to write images with boxes to, created if it does not exist.
        image_format: Format of these images; None for PNG on PNG and GIF files, and JPEG on all others.
        json: File to write the detections to: COCO-results JSON with file and class names, boxes in pixels of the
            image files, masks as RLE. It appears at the end.
        threshold: Least score, 0 to 1, of all classes; None for the run's thresholds, else 0.3.
        short_side: Pixels of the shorter side; None for the size that the detector was trained for.
        long_side: Upper limit of the longer side, in pixels; None as for `short_side`.
        canvas: Height and width in pixels, multiples of 32, of one canvas for all images.
        class_agnostic: NMS among the boxes of all classes.
        device: Such as `cpu` or `cuda:1`; None for a GPU if there is one.
        options: Batch size and precision.

    Returns:
        Counts by class, and the files that could not be read.

    Raises:
        DetdistillError: The folder cannot be loaded, the image size is not known, a path names no image, the threshold
            is no probability, the device is not available, or an output cannot be written or would replace an input.
    """
    folder = Path(folder)
    check_threshold(threshold)
    size = run_options(folder, short_side=short_side, long_side=long_side, canvas=canvas)
    files = find_pictures([paths] if isinstance(paths, str | PathLike) else paths)
    place = chosen_device(device)
    detector = load_detector(folder).to(place)
    if class_agnostic:
        detector.postprocessing = replace(detector.postprocessing, class_agnostic=True)
    thresholds, default = score_thresholds(detector, threshold)
    inputs = [*files, *files_of_detector(folder)]
    if json is not None:
        check_outputs({Path(json): "--json"}, inputs)
    drawings = None if out is None else DrawnImages(Path(out), files, detector.classes, image_format)
    if drawings is not None and json is not None:
        check_outputs({Path(json): "--json"}, drawings.places.values())
    reading = _Reading(files)
    ids = {} if json is None else dict(zip(files, ids_of_files(files), strict=True))
    counts = {name: ClassCount() for name in detector.classes}
    with ExitStack() as stack:
        entries = None if json is None else stack.enter_context(JsonListFile(Path(json)))
        for found in detect_in_images(detector, reading.images(), size, options):
            file, image = reading.waiting.pop(0)
            shown = above(found, detector.classes, thresholds, default)
            if entries is not None:
                for entry in result_entries(file, ids[file], detector.classes, shown):
                    entries.add(entry)
            if drawings is not None:
                drawings.draw(file, image, shown)
            _count(counts, [detector.classes[label] for label in shown.labels.tolist()])
    return PredictedImages(len(files) - len(reading.unreadable), counts, reading.unreadable)


def result_entries(file: Path, image_id: str, classes: Sequence[str], found: Detections) -> list[dict[str, Any]]:
    """Return the detections of an image file as entries of a COCO-results file, with file and class names.

    Args:
        file: The image.
        image_id: Its id, see `ids_of_files`.
        classes: Names of the labels; the category of label c is c + 1.
        found: In pixels of the image.
    """
    entries: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "file_name": str(file),
            "category_id": label + 1,
            "category_name": classes[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
    if found.masks is not None:
        for entry, counts in zip(entries, found.masks.rles(), strict=True):
            entry["segmentation"] = {"size": list(found.masks.size), "counts": counts}
    return entries


class _Reading:
    """Reads files one after the other, and keeps each image until its detections are there.

    Attributes:
        waiting: Files and images `(H, W, 3)` whose detections are to come, in their order.
        unreadable: Why a file could not be read.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.waiting: list[tuple[Path, Pixels]] = []
        self.unreadable: dict[Path, str] = {}

    def images(self) -> Iterator[Pixels]:
        """Yield the images that can be read."""
        for file in track(self.files, "images"):
            try:
                image = read_image(file)
            except DataError as error:
                self.unreadable[file] = str(error)
                continue
            self.waiting.append((file, image))
            yield image


def _count(counts: Mapping[str, ClassCount], found: Sequence[str]) -> None:
    """Add the classes found in an image."""
    for name in found:
        counts[name].detections += 1
    for name in set(found):
        counts[name].images += 1
