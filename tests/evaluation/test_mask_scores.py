"""The scores of masks are those of pycocotools."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError
from detdistill.core.instance_masks import InstanceMasks
from detdistill.core.packed_texts import PackedTexts
from detdistill.core.rle import bitmap_of, rle_of_bitmap
from detdistill.core.structures import Detections
from detdistill.data import open_dataset
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.evaluating import evaluate_detections
from detdistill.evaluation.results import Results
from detdistill.evaluation.results_file import read_results, write_results
from support.reference_scores import TWELVE, assert_equal_scores, pycocotools_scores

HEIGHT, WIDTH = 120, 140
CATEGORIES = (7, 3)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> dict[str, Any]:
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
    bitmap[y1:y2, x1:x2] = 1
    return {"size": [HEIGHT, WIDTH], "counts": rle_of_bitmap(bitmap)}


corners = st.tuples(st.integers(0, 100), st.integers(0, 80), st.integers(2, 120), st.integers(2, 110)).map(
    lambda some: (some[0], some[1], min(some[0] + some[2], WIDTH), min(some[1] + some[3], HEIGHT))
)
likely = st.sampled_from([(10, 10, 30, 40), (10, 10, 30, 38), (12, 10, 30, 40), (20, 20, 120, 118), (22, 20, 120, 118)])
triangles = corners.map(lambda box: [[box[0], box[1], box[2], box[1], box[0], box[3]]])


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    ids = draw(st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True))
    annotations: list[dict[str, Any]] = []
    detections = []
    for image_id in ids:
        for _ in range(draw(st.integers(0, 4))):
            mask = draw(triangles | (likely | corners).map(lambda box: rectangle(*box)))
            bitmap = reference.decode(
                reference.merge(reference.frPyObjects(mask, HEIGHT, WIDTH)) if isinstance(mask, list) else mask
            )
            x, y, width, height = reference.toBbox(reference.encode(np.asfortranarray(bitmap))).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": draw(st.sampled_from(CATEGORIES)),
                    "bbox": [x, y, max(width, 1), max(height, 1)],
                    "segmentation": mask,
                    "area": float(bitmap.sum()) * draw(st.sampled_from([1, 0.3, 8])),
                    "iscrowd": int(draw(st.integers(0, 3)) == 0),
                }
            )
        detections += [
            {
                "image_id": image_id,
                "category_id": draw(st.sampled_from(CATEGORIES)),
                "segmentation": rectangle(*draw(likely | corners)),
                "score": draw(st.sampled_from([0.0, 0.5, 0.5, 1.0]) | st.floats(0, 1)),
            }
            for _ in range(draw(st.integers(0, 5)))
        ]
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in ids],
        "categories": [{"id": i, "name": f"class {i}"} for i in sorted(CATEGORIES)],
        "annotations": annotations,
    }
    return truth, detections


def opened(folder: Path, truth: dict[str, Any]) -> DetectionDataset:
    file = folder / "val.json"
    file.write_text(json.dumps(truth))
    return open_dataset(file, check_images=False, masks=True, accept_left_out=True)


def results_of(detections: list[dict[str, Any]], dataset: DetectionDataset) -> Results:
    image_of = {image_id: index for index, image_id in enumerate(dataset.images.image_ids)}
    masks = [entry["segmentation"]["counts"] for entry in detections]
    boxes = [reference.toBbox(entry["segmentation"]).tolist() for entry in detections]
    return Results(
        np.array([image_of[entry["image_id"]] for entry in detections], dtype=np.int64),
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array([entry["score"] for entry in detections], dtype=float),
        np.array([dataset.category_ids.index(entry["category_id"]) for entry in detections], dtype=np.int64),
        PackedTexts.of(masks),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("truth")


@settings(max_examples=60)
@given(case=cases())
def test_equals_pycocotools(case: tuple[dict[str, Any], list[dict[str, Any]]], folder: Path) -> None:
    truth, detections = case
    dataset = opened(folder, truth)
    results = results_of(detections, dataset)
    metrics = coco_metrics(dataset, results)
    assert metrics.segm is not None
    assert_equal_scores(vars(metrics.segm), pycocotools_scores(truth, detections, "segm"))
    values = metrics.to_values()
    assert {f"segm {name}": values[f"segm {name}"] for name in TWELVE} == {
        f"segm {name}": getattr(metrics.segm, name) for name in TWELVE
    }
    without = coco_metrics(dataset, replace(results, masks=None))
    assert without.segm is None
    assert without == replace(metrics, segm=None)
    assert not any(name.startswith("segm") for name in without.to_values())


def truth_of(*annotations: dict[str, Any]) -> dict[str, Any]:
    entries = [
        {"id": number, "image_id": 1, "category_id": 3, "iscrowd": 0, "area": 600, **entry}
        for number, entry in enumerate(annotations, start=1)
    ]
    return {
        "images": [{"id": 1, "file_name": "1.jpg", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": entries,
    }


ONE = {"bbox": [10, 10, 20, 30], "segmentation": rectangle(10, 10, 30, 40)}
BARE = {"bbox": [60, 60, 20, 30]}


def found(*boxes: tuple[int, int, int, int]) -> list[dict[str, Any]]:
    return [
        {"image_id": 1, "category_id": 3, "score": 0.9 - number / 10, "segmentation": rectangle(*box)}
        for number, box in enumerate(boxes)
    ]


def test_objects_without_a_mask_neither_reward_nor_punish(tmp_path: Path) -> None:
    dataset = opened(tmp_path, truth_of(ONE, BARE))
    metrics = coco_metrics(dataset, results_of(found((60, 60, 80, 90), (10, 10, 30, 40)), dataset))
    assert metrics.segm is not None
    assert pytest.approx(1) == metrics.segm.AP
    assert pytest.approx(1) == metrics.AP
    nothing = coco_metrics(dataset, results_of(found((60, 60, 80, 90)), dataset))
    assert nothing.segm is not None
    assert nothing.segm.AP == 0


def test_the_size_of_a_detection_is_that_of_its_mask(tmp_path: Path) -> None:
    dataset = opened(tmp_path, truth_of({**ONE, "area": 100}))
    # A false mask of 31 x 32 pixels is small, though a box around it and a pixel elsewhere is large.
    entries = found((90, 80, 121, 112), (10, 10, 30, 40))
    results = results_of(entries, dataset)
    results.xywh[0] = [0, 0, 140, 120]
    metrics = coco_metrics(dataset, results)
    assert metrics.segm is not None
    assert metrics.segm.APs == pytest.approx(0.5)
    assert metrics.APs == pytest.approx(1)


def test_detections_without_a_pixel_are_false(tmp_path: Path) -> None:
    dataset = opened(tmp_path, truth_of(ONE))
    results = results_of(found((0, 0, 1, 1), (10, 10, 30, 40)), dataset)
    masks = PackedTexts.of(["", list(results.masks or ())[1]])
    metrics = coco_metrics(dataset, replace(results, masks=masks))
    assert metrics.segm is not None
    assert pytest.approx(0.5) == metrics.segm.AP


def test_masks_are_written_and_read_back(tmp_path: Path) -> None:
    dataset = opened(tmp_path, truth_of(ONE, BARE))
    results = results_of(found((60, 60, 80, 90), (10, 10, 30, 40)), dataset)
    file = tmp_path / "results.json"
    write_results(file, results, dataset)
    entries = json.loads(file.read_text())
    assert [entry["segmentation"] for entry in entries] == [
        rectangle(60, 60, 80, 90),
        rectangle(10, 10, 30, 40),
    ]
    again = read_results(file, dataset)
    assert again.masks is not None
    assert list(again.masks) == list(results.masks or ())
    scored = evaluate_detections(file, tmp_path / "val.json")
    assert scored.scores.segm is not None
    assert scored.to_values()["segm AP"] == pytest.approx(1)
    assert scored.to_values()["per_class"]["cat"]["segm AP50"] == pytest.approx(1)
    for entry in entries:
        del entry["segmentation"]
    file.write_text(json.dumps(entries))
    assert evaluate_detections(file, tmp_path / "val.json").scores.segm is None


@pytest.mark.parametrize(
    "segmentation",
    [{"size": [WIDTH, HEIGHT], "counts": "0"}, {"size": [HEIGHT, WIDTH], "counts": "zz"}, [[1, 2, 3, 4]], 7],
)
def test_masks_that_cannot_be_read_are_named(tmp_path: Path, segmentation: Any) -> None:
    dataset = opened(tmp_path, truth_of(ONE))
    good = {"image_id": 1, "category_id": 3, "bbox": [1, 1, 2, 2], "score": 0.5}
    file = tmp_path / "results.json"
    file.write_text(json.dumps([good, {**good, "segmentation": segmentation}]))
    with pytest.raises(DataError) as caught:
        read_results(file, dataset)
    assert {problem.where for problem in caught.value.problems} == {"entry 1"}
    assert all("segmentation" in problem.what for problem in caught.value.problems)


def test_detections_of_images_are_joined_with_their_masks() -> None:
    bitmaps = torch.zeros(2, 8, 9, dtype=torch.uint8)
    bitmaps[0, 1:3], bitmaps[1, :, 4] = 1, 1
    one = Detections(
        torch.tensor([[0.0, 1, 9, 3], [4, 0, 5, 8]]),
        torch.tensor([0.9, 0.8]),
        torch.tensor([0, 1]),
        masks=InstanceMasks.of_bitmaps(bitmaps),
    )
    results = Results.from_detections([(3, one), (1, one), (2, Detections(masks=InstanceMasks.empty((4, 4))))])
    assert results.image.tolist() == [1, 1, 3, 3]
    assert results.masks is not None
    np.testing.assert_array_equal([bitmap_of(text, (8, 9)) for text in results.masks], [*bitmaps.numpy()] * 2)
    plain = Results.from_detections([(0, Detections())])
    assert plain.masks is None
    assert list(Results.join([results, plain]).masks or ()) == list(results.masks)


def test_masks_of_coco_are_those_of_pycocotools(photographs: Path, tmp_path: Path) -> None:
    """Masks of the COCO authors' example, and the scores of detections that lack a quarter of the mask's columns."""
    truth = json.loads((photographs / "coco_eval" / "instances_val2014_100.json").read_text())
    crowded = {annotation["image_id"] for annotation in truth["annotations"] if annotation["iscrowd"]}
    first = {image["id"] for image in truth["images"][:15]} | set(sorted(crowded)[:2])
    truth["images"] = [image for image in truth["images"] if image["id"] in first]
    truth["annotations"] = [annotation for annotation in truth["annotations"] if annotation["image_id"] in first]
    dataset = opened(tmp_path, truth)
    assert dataset.images.masks is not None
    assert dataset.problems == ()
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    detections = []
    for number, annotation in enumerate(truth["annotations"]):
        size = sizes[annotation["image_id"]]
        parts = reference.frPyObjects(annotation["segmentation"], *size)
        whole = reference.merge(parts) if isinstance(parts, list) else parts
        bitmap = reference.decode(whole)
        annotation["expected"] = bitmap
        if number % 3:
            bitmap = np.where(np.arange(size[1]) % 4 == 0, 0, bitmap).astype(np.uint8)
        found_mask = {"size": list(size), "counts": rle_of_bitmap(bitmap)}
        keys = {key: annotation[key] for key in ("image_id", "category_id")}
        detections.append({**keys, "score": (number * 7 % 100) / 100, "segmentation": found_mask})
    for record in dataset.images:
        own = [annotation for annotation in truth["annotations"] if annotation["image_id"] == record.image_id]
        assert record.masks is not None
        for annotation, text in zip(own, record.masks, strict=True):
            np.testing.assert_array_equal(bitmap_of(text, (record.height, record.width)), annotation.pop("expected"))
    metrics = coco_metrics(dataset, results_of(detections, dataset))
    assert metrics.segm is not None
    assert_equal_scores(vars(metrics.segm), pycocotools_scores(truth, detections, "segm"))
