"""COCO's twelve numbers (Lin et al., ECCV 2014, https://cocodataset.org/#detection-eval) by faster-coco-eval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset
from detdistill.evaluation.results import Results, to_xywh

_DECIMALS = 9


@dataclass(frozen=True, kw_only=True)
class CocoScores:
    """Each 0 to 1, or None where there is no object to find or the protocol does not ask.

    Attributes:
        AP: average precision, mean over IoU thresholds .50 to .95 and over classes; at most 100 detections an image.
        AP50: the same at IoU .5.
        AP75: the same at IoU .75.
        APs: the same for objects of less than 32 x 32 pixels.
        APm: the same for objects of 32 x 32 to 96 x 96 pixels.
        APl: the same for objects of more than 96 x 96 pixels.
        AR1: recall with one detection an image, mean over IoU thresholds and classes.
        AR10: the same with ten.
        AR100: the same with a hundred.
        ARs: the same with a hundred, for small objects.
        ARm: the same with a hundred, for medium objects.
        ARl: the same with a hundred, for large objects.
    """

    AP: float | None = None
    AP50: float | None = None
    AP75: float | None = None
    APs: float | None = None
    APm: float | None = None
    APl: float | None = None
    AR1: float | None = None
    AR10: float | None = None
    AR100: float | None = None
    ARs: float | None = None
    ARm: float | None = None
    ARl: float | None = None


@dataclass(frozen=True, kw_only=True)
class CocoMetrics(CocoScores):
    """The scores of a data set.

    Attributes:
        per_class: the same twelve by class name, in the data set's order.
    """

    per_class: dict[str, CocoScores]


def coco_metrics(dataset: DetectionDataset, results: Results) -> CocoMetrics:
    """Scores detections as pycocotools does.

    Crowd regions are neither rewarded nor punished. VOC's `difficult` means nothing here: those objects count as all
    others. Sizes go by the annotations' own areas.

    Args:
        dataset: the ground truth; every image of it counts, also those without detections.
        results: the detections; only the 100 best of an image and class count.
    """
    # pycocotools takes images in the order of their ids, which decides between tied scores.
    ids = dataset.images.image_ids
    by_id = sorted(range(len(ids)), key=lambda index: (isinstance(ids[index], str), ids[index]))
    image_ids = np.empty(len(by_id), dtype=np.int64)
    image_ids[by_id] = np.arange(1, len(by_id) + 1)
    ground_truth = COCO(_coco_dictionary(dataset, image_ids.tolist()))
    detections = ground_truth.loadRes(_coco_detections(results, image_ids))
    evaluator = COCOeval_faster(ground_truth, detections, "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    precision, recall = evaluator.eval["precision"], evaluator.eval["recall"]
    return CocoMetrics(
        **_summary(precision, recall),
        per_class={
            name: CocoScores(**_summary(precision[:, :, [label]], recall[:, [label]]))
            for label, name in enumerate(dataset.classes)
        },
    )


def metrics_and_results(dataset: DetectionDataset, results: Results) -> tuple[CocoMetrics, Results]:
    """Return the scores of detections and the detections: a metric of `score` for callers that look at both."""
    return coco_metrics(dataset, results), results


def _coco_dictionary(dataset: DetectionDataset, image_ids: list[int]) -> dict[str, Any]:
    # The evaluator takes an annotation's id 0 for "unmatched": ids start at 1.
    annotations: list[dict[str, Any]] = []
    for image_id, record in zip(image_ids, dataset.images, strict=True):
        # Annotations have few decimals: rounding gives the width back that came with them, to the last bit.
        boxes = to_xywh(record.boxes).round(_DECIMALS)
        columns = (boxes, record.labels + 1, record.areas, record.crowd.astype(int))
        for box, category, area, crowd in zip(*(column.tolist() for column in columns), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": box,
                    "area": area,
                    "iscrowd": crowd,
                }
            )
    return {
        "images": [{"id": image_id} for image_id in image_ids],
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(dataset.classes)],
    }


def _coco_detections(results: Results, image_ids: NDArray[np.int64]) -> list[dict[str, Any]]:
    columns = (image_ids[results.image], results.labels + 1, results.xywh, results.scores)
    return [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
        for image_id, category, box, score in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _summary(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> dict[str, float | None]:
    """The twelve numbers.

    Args:
        precision: `(10, 101, C, 4, 3)` by IoU threshold, recall, class, size (all, small, medium, large) and limit
            (1, 10, 100 detections); -1 where there is no object.
        recall: `(10, C, 4, 3)`, the same without recall.
    """
    return {
        "AP": _mean(precision[..., 0, 2]),
        "AP50": _mean(precision[0, ..., 0, 2]),
        "AP75": _mean(precision[5, ..., 0, 2]),
        "APs": _mean(precision[..., 1, 2]),
        "APm": _mean(precision[..., 2, 2]),
        "APl": _mean(precision[..., 3, 2]),
        "AR1": _mean(recall[..., 0, 0]),
        "AR10": _mean(recall[..., 0, 1]),
        "AR100": _mean(recall[..., 0, 2]),
        "ARs": _mean(recall[..., 1, 2]),
        "ARm": _mean(recall[..., 2, 2]),
        "ARl": _mean(recall[..., 3, 2]),
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if len(defined) else None
