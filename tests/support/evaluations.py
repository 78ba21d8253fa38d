"""Evaluations of detections that were made up, for tests of what is shown of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from detdistill.core.annotations import DetectionDataset
from detdistill.data.opening import open_dataset
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.evaluating import Evaluation, evaluation_of
from detdistill.evaluation.results import Results, to_xywh


def boxes_dataset(folder: Path, classes: tuple[str, ...] = ("green", "red")) -> DetectionDataset:
    """The validation set of `write_boxes`, with these names in place of its own; further classes have no objects."""
    found = open_dataset(folder, "val")
    return replace(found, classes=classes, category_ids=tuple(range(1, len(classes) + 1)))


def guessed(dataset: DetectionDataset, *, wrong: float = 0.3, seed: int = 0) -> Evaluation:
    """Every object found where it is, a share of them as another class, and as many detections of nothing."""
    random = np.random.default_rng(seed)
    images = dataset.images
    count = len(images.labels)
    labels = images.labels.astype(np.int64)
    is_wrong = random.random(count) < wrong
    labels = np.where(is_wrong, (labels + 1) % len(dataset.classes), labels)
    nothing = np.array([[0.0, 0.0, 3.0, 3.0]]).repeat(count, axis=0)
    results = Results(
        np.tile(images.image_of_object, 2),
        to_xywh(np.concatenate([images.boxes, nothing])),
        np.concatenate([random.uniform(0.4, 1, count), random.uniform(0, 0.4, count)]),
        np.tile(labels, 2),
    )
    return evaluation_of(dataset, results, coco_metrics(dataset, results))
