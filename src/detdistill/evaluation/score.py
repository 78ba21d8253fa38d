"""How good a detector is on a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.data.classes import with_classes
from detdistill.detectors.base import Detector
from detdistill.detectors.running import InferenceOptions
from detdistill.evaluation.gather import score_together
from detdistill.evaluation.predict import predict
from detdistill.evaluation.results import Results

Score = TypeVar("Score")


def score(
    detector: Detector,
    dataset: DetectionDataset,
    images: ImageOptions,
    metric: Callable[[DetectionDataset, Results], Score],
    options: InferenceOptions = InferenceOptions(),
) -> Score:
    """Runs a detector over a data set and scores what it found, once over all processes.

    Args:
        detector: on the device where it is to run; it is left as it was.
        dataset: the ground truth; its classes are among the detector's, by name.
        images: the size to resize to.
        metric: `coco_metrics`, for example.
        options: batches, precision, loading processes.

    Returns:
        What `metric` returned, in every process.

    Raises:
        DataError: the data set has a class that the detector does not know, or an image that cannot be read.
    """
    known = with_classes(dataset, detector.classes)
    found: Results | DetdistillError
    try:
        found = predict(detector, known, images, options)
    except DetdistillError as error:
        found = error
    return score_together(found, lambda results: metric(known, results))
