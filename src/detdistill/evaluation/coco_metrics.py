"""COCO's twelve numbers (Lin et al., ECCV 2014, https://cocodataset.org/#detection-eval) by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset
from detdistill.core.packed_texts import PackedTexts
from detdistill.core.rle import rle_of_counts, rle_of_polygons
from detdistill.evaluation.results import Results, to_xywh

SEGM: Final = "segm"
"""What the names of the scores of masks begin with."""

Entry = dict[str, Any]

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
        segm: the same of the masks; None unless objects and detections have masks.
    """

    per_class: dict[str, CocoScores]
    segm: CocoMetrics | None = None

    def to_values(self) -> dict[str, Any]:
        """Return the scores and `per_class` as JSON types; those of masks begin with `segm`, as `segm AP50`."""
        per_class = {name: asdict(scores) for name, scores in self.per_class.items()}
        values = {name: value for name, value in vars(self).items() if name not in ("per_class", "segm")}
        if self.segm is not None:
            masks = self.segm.to_values()
            for name, scores in masks.pop("per_class").items():
                per_class[name] |= {f"{SEGM} {key}": value for key, value in scores.items()}
            values |= {f"{SEGM} {key}": value for key, value in masks.items()}
        return {**values, "per_class": per_class}


def coco_metrics(dataset: DetectionDataset, results: Results) -> CocoMetrics:
    """Scores detections as pycocotools does.

    Crowd regions are neither rewarded nor punished. VOC's `difficult` means nothing here: those objects count as all
    others. Sizes go by the annotations' own areas.

    Masks are scored where objects and detections have them. An object without a mask then counts as a crowd region of
    its box: a mask there is neither rewarded nor punished. The size of a detection is that of its mask.

    Args:
        dataset: the ground truth; every image of it counts, also those without detections.
        results: the detections; only the 100 best of an image and class count.
    """
    # pycocotools takes images in the order of their ids, which decides between tied scores.
    ids = dataset.images.image_ids
    by_id = sorted(range(len(ids)), key=lambda index: (isinstance(ids[index], str), ids[index]))
    image_ids = np.empty(len(by_id), dtype=np.int64)
    image_ids[by_id] = np.arange(1, len(by_id) + 1)
    boxes = _scored(dataset, _boxes(dataset), results, _detected_boxes(results), image_ids, "bbox")
    if dataset.images.masks is None or results.masks is None:
        return boxes
    objects, found = _masks(dataset, dataset.images.masks), _detected_masks(dataset, results, results.masks)
    return replace(boxes, segm=_scored(dataset, objects, results, found, image_ids, SEGM))


def metrics_and_results(dataset: DetectionDataset, results: Results) -> tuple[CocoMetrics, Results]:
    """Return the scores of detections and the detections: a metric of `score` for callers that look at both."""
    return coco_metrics(dataset, results), results


def _scored(
    dataset: DetectionDataset,
    objects: Iterable[Entry],
    results: Results,
    found: Iterable[Entry],
    image_ids: NDArray[np.int64],
    kind: Literal["bbox", "segm"],
) -> CocoMetrics:
    """The scores of boxes or masks.

    Args:
        dataset: the ground truth.
        objects: what `kind` compares of each object, and its flag `iscrowd`.
        results: the detections.
        found: what `kind` compares of each detection.
        image_ids: `(N,)` the ids that the evaluator knows the images by.
        kind: of the comparison.
    """
    ground_truth = COCO(_coco_dictionary(dataset, objects, image_ids))
    columns = (image_ids[results.image], results.labels + 1, results.scores)
    entries = [
        {"image_id": image_id, "category_id": category, "score": score, **entry}
        for image_id, category, score, entry in zip(*(column.tolist() for column in columns), found, strict=True)
    ]
    evaluator = COCOeval_faster(ground_truth, ground_truth.loadRes(entries), kind)
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


def _coco_dictionary(
    dataset: DetectionDataset, objects: Iterable[Entry], image_ids: NDArray[np.int64]
) -> dict[str, Any]:
    images = dataset.images
    columns = (image_ids[images.image_of_object], images.labels + 1, images.areas)
    # The evaluator takes an annotation's id 0 for "unmatched": ids start at 1.
    annotations = [
        {"id": number, "image_id": image_id, "category_id": category, "area": area, **entry}
        for number, (image_id, category, area, entry) in enumerate(
            zip(*(column.tolist() for column in columns), objects, strict=True), start=1
        )
    ]
    return {
        "images": [
            {"id": image_id, "height": height, "width": width}
            for image_id, (height, width) in zip(image_ids.tolist(), images.sizes.tolist(), strict=True)
        ],
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(dataset.classes)],
    }


def _boxes(dataset: DetectionDataset) -> Iterator[Entry]:
    # Annotations have few decimals: rounding gives the width back that came with them, to the last bit.
    boxes = to_xywh(dataset.images.boxes).round(_DECIMALS)
    for box, crowd in zip(boxes.tolist(), dataset.images.crowd.tolist(), strict=True):
        yield {"bbox": box, "iscrowd": int(crowd)}


def _detected_boxes(results: Results) -> Iterator[Entry]:
    for box in results.xywh.tolist():
        yield {"bbox": box}


def _masks(dataset: DetectionDataset, masks: PackedTexts) -> Iterator[Entry]:
    images = dataset.images
    sizes = images.sizes[images.image_of_object].tolist()
    for text, size, box, crowd in zip(masks, sizes, images.boxes.tolist(), images.crowd.tolist(), strict=True):
        counts = text or _rle_of_box(box, (size[0], size[1]))
        yield {"bbox": box, "segmentation": {"size": size, "counts": counts}, "iscrowd": int(crowd or not text)}


def _detected_masks(dataset: DetectionDataset, results: Results, masks: PackedTexts) -> Iterator[Entry]:
    # Without a box, which would give the detection its size.
    for text, size in zip(masks, dataset.images.sizes[results.image].tolist(), strict=True):
        counts = text or rle_of_counts([size[0] * size[1]], (size[0], size[1]))
        yield {"segmentation": {"size": size, "counts": counts}}


def _rle_of_box(box: Sequence[float], size: tuple[int, int]) -> str:
    x1, y1, x2, y2 = box
    return rle_of_polygons([[x1, y1, x2, y1, x2, y2, x1, y2]], size)


def _summary(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> dict[str, Any]:
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
