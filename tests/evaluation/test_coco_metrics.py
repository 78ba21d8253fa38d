from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.results import Results
from detdistill.evaluation.results_file import read_results
from support.evaluation_datasets import dataset_from_coco, no_objects
from support.reference_scores import TWELVE, assert_equal_scores, pycocotools_scores

# Overlaps that are just a threshold, such as 8 of 10 pixels, are decided by the last bit of a width.
lengths = st.integers(1, 1000).map(lambda tenths: tenths / 10)
factors = st.sampled_from([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.3])
boxes = st.tuples(lengths, lengths, lengths, lengths).map(list)
# Several steps of size, so that small, medium and large all occur, and few places, so that boxes overlap.
objects = st.tuples(
    st.sampled_from([[8, 8, 16, 16], [8, 8, 40, 64], [8, 12, 40, 60], [0, 0, 120, 120], [4, 0, 112, 120]]) | boxes,
    st.sampled_from([7, 3, 90]),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    image_ids = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=4, unique=True))
    truth: dict[str, Any] = {
        "images": [{"id": image_id, "width": 400, "height": 400} for image_id in image_ids],
        "categories": [{"id": identity, "name": f"class {identity}"} for identity in (7, 3, 90)],
        "annotations": [],
    }
    detections = []
    for image_id in image_ids:
        for box, category in draw(st.lists(objects, max_size=6)):
            area = box[2] * box[3] * draw(st.sampled_from([1, 0.5, 0.1]))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(draw(st.integers(0, 3)) == 0),
                }
            )
        shrunk = st.tuples(st.sampled_from([a["bbox"] for a in truth["annotations"]] or [[0, 0, 9, 9]]), factors)
        likely = st.tuples(shrunk.map(lambda pair: [*pair[0][:2], pair[0][2] * pair[1], pair[0][3]]), st.just(7))
        for box, category in draw(st.lists(objects | likely, max_size=8)):
            copies = draw(st.sampled_from([1] * 9 + [120]))
            score = draw(st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0]) | st.floats(0, 1))
            detections += [{"image_id": image_id, "category_id": category, "bbox": box, "score": score}] * copies
    return truth, detections


@given(cases())
def test_equals_pycocotools(case: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    truth, detections = case
    dataset = dataset_from_coco(truth)
    metrics = coco_metrics(dataset, results_of(detections, truth))
    assert_equal_scores(asdict(metrics), pycocotools_scores(truth, detections))
    for category in truth["categories"]:
        one = {**truth, "categories": [category]}
        expected = pycocotools_scores(
            {**one, "annotations": [a for a in truth["annotations"] if a["category_id"] == category["id"]]},
            [d for d in detections if d["category_id"] == category["id"]],
        )
        assert_equal_scores(asdict(metrics.per_class[category["name"]]), expected)


def results_of(detections: list[dict[str, Any]], truth: dict[str, Any]) -> Results:
    image_of = {image["id"]: index for index, image in enumerate(truth["images"])}
    label_of = {category["id"]: label for label, category in enumerate(truth["categories"])}
    return Results(
        np.array([image_of[entry["image_id"]] for entry in detections], dtype=np.int64),
        np.array([entry["bbox"] for entry in detections], dtype=float).reshape(-1, 4),
        np.array([entry["score"] for entry in detections], dtype=float),
        np.array([label_of[entry["category_id"]] for entry in detections], dtype=np.int64),
    )


def test_the_coco_authors_example(photographs: Path) -> None:
    folder = photographs / "coco_eval"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    detections = folder / "instances_val2014_fakebbox100_results.json"
    dataset = dataset_from_coco(truth)
    metrics = asdict(coco_metrics(dataset, read_results(detections, dataset)))
    published = [0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564]
    assert [round(metrics[name], 3) for name in TWELVE] == published
    assert_equal_scores(metrics, pycocotools_scores(truth, json.loads(detections.read_text())))


def one_object_each(*image_ids: int) -> dict[str, Any]:
    return {
        "images": [{"id": image_id, "width": 99, "height": 99} for image_id in image_ids],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": number, "image_id": image_id, "category_id": 1, "bbox": [0, 0, 8, 8], "area": 64, "iscrowd": 0}
            for number, image_id in enumerate(image_ids, start=1)
        ],
    }


def found_in(image_id: int, start: int) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "bbox": [start, 0, 8, 8], "score": 0.5}


def test_tied_scores_rank_by_image_id_and_not_by_place() -> None:
    """The right detection is in image 2, the wrong one in image 9, which comes first in the file."""
    truth, detections = one_object_each(9, 2), [found_in(9, 50), found_in(2, 0)]
    metrics = coco_metrics(dataset_from_coco(truth), results_of(detections, truth))
    # Right, then wrong: precision 1 up to recall 1/2, which holds 51 of the 101 points.
    assert pytest.approx(51 / 101, abs=1e-12) == metrics.AP50
    assert_equal_scores(asdict(metrics), pycocotools_scores(truth, detections))


@pytest.mark.parametrize(("wrong", "recalls"), [(0, (1, 1, 1)), (9, (0, 1, 1)), (99, (0, 0, 1)), (100, (0, 0, 0))])
def test_recall_counts_the_best_1_10_and_100(wrong: int, recalls: tuple[int, int, int]) -> None:
    truth, detections = one_object_each(1), [found_in(1, 50)] * wrong + [found_in(1, 0)]
    metrics = coco_metrics(dataset_from_coco(truth), results_of(detections, truth))
    assert recalls == (metrics.AR1, metrics.AR10, metrics.AR100)


def test_nothing_found_is_zero_and_nothing_to_find_is_none() -> None:
    truth = {
        "images": [{"id": 1, "width": 9, "height": 9}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 8, 8], "area": 64, "iscrowd": 0}],
    }
    metrics = coco_metrics(dataset_from_coco(truth), Results.empty())
    assert (metrics.AP, metrics.APs, metrics.APl, metrics.AR1) == (0, 0, None, 0)
    assert (metrics.per_class["cat"].AP, metrics.per_class["dog"].AP) == (0, None)


@pytest.mark.parametrize(("images", "classes"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_data_set_without_objects_has_no_score(images: int, classes: int) -> None:
    metrics = asdict(coco_metrics(no_objects(images, classes), Results.empty()))
    assert [metrics[name] for name in TWELVE] == [None] * 12
    assert len(metrics["per_class"]) == classes
