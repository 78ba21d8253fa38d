"""pycocotools, the reference for COCO's numbers."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

TWELVE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def pycocotools_scores(
    truth: dict[str, Any], detections: list[dict[str, Any]], kind: str = "bbox"
) -> list[float | None]:
    """The reference, of boxes or of masks (`segm`).

    It changes what it is given, and cannot be asked about no detections at all.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = copy.deepcopy(truth)
        ground_truth.createIndex()
        found = ground_truth.loadRes(copy.deepcopy(detections)) if detections else COCO()
        evaluator = COCOeval(ground_truth, found, kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [None if value == -1 else value for value in evaluator.stats.tolist()]


def assert_equal_scores(ours: dict[str, Any], reference: list[float | None]) -> None:
    for name, expected in zip(TWELVE, reference, strict=True):
        assert (ours[name] is None) == (expected is None), name
        if expected is not None:
            assert ours[name] == pytest.approx(expected, abs=1e-9, rel=0), name
