from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DataError
from detdistill.data.stored_results import read_stored_results
from support.evaluation_datasets import record

TRUTH = DetectionDataset(
    "train.json",
    ("cat", "dog"),
    (18, 90),
    ImageTable.of([record(42, [[0, 0, 4, 4]], [0]), record(7, [[0, 0, 4, 4]], [1]), record(5, [], [])]),
)
"""Images of 640x480 pixels."""
GOOD = {"image_id": 42, "category_id": 90, "bbox": [1, 2, 3, 4], "score": 0.5}


def write(folder: Path, content: object) -> Path:
    path = folder / "found.json"
    path.write_text(json.dumps(content))
    return path


def refusal(folder: Path, content: object) -> DataError:
    path = write(folder, content)
    with pytest.raises(DataError) as refused:
        read_stored_results(path, TRUTH)
    assert str(path) in str(refused.value)
    return refused.value


def test_entries_become_boxes_best_first(tmp_path: Path) -> None:
    better = {**GOOD, "bbox": [10, 20, 30, 40], "score": 0.75, "category_id": 18}
    other = {**GOOD, "image_id": 7, "score": 0.01}
    found = read_stored_results(write(tmp_path, [GOOD, other, better]), TRUTH)
    assert found.detections.classes == ("cat", "dog")
    assert found.detections.floor == pytest.approx(0.01)
    assert found.detections.images.rows_of(TRUTH).tolist() == [0, 1, 2]
    first, second, third = (found.detections.of(row) for row in range(3))
    assert first.boxes.tolist() == [[10, 20, 40, 60], [1, 2, 4, 6]]
    assert first.labels.tolist() == [0, 1]
    assert first.probabilities.tolist() == [[0.75, 0], [0, 0.5]]
    assert second.labels.tolist() == [1]
    assert len(third) == 0
    (note,) = found.notes
    assert note.startswith("1 of 3 images (33 %)")


def test_names_decide_before_ids_as_in_files_of_predict(tmp_path: Path) -> None:
    entry = {"image_id": "x", "file_name": "7.jpg", "category_id": 1, "category_name": "dog"}
    found = read_stored_results(write(tmp_path, [GOOD | entry]), TRUTH).detections
    assert [len(found.of(row)) for row in range(3)] == [0, 1, 0]
    assert found.of(1).labels.tolist() == [1]


def test_unknown_images_and_classes_are_left_out_counted_and_named(tmp_path: Path) -> None:
    strangers = [{**GOOD, "image_id": number} for number in (8, 9, 9)]
    content = [GOOD, *strangers, {**GOOD, "category_id": 3}, {**GOOD, "category_name": "bird"}]
    found = read_stored_results(write(tmp_path, content), TRUTH)
    assert [len(found.detections.of(row)) for row in range(3)] == [1, 0, 0]
    images, classes, _ = found.notes
    assert images.startswith("3 detections")
    assert "8, 9" in images
    assert classes.startswith("2 detections")
    assert "3, 'bird'" in classes


def test_boxes_are_clipped_and_counted(tmp_path: Path) -> None:
    boxes = [[-5, 10, 20, 20], [630, 470, 100, 100], [700, 0, 5, 5], [0, 0, 640.5, 480], [9, 9, 0, 5]]
    content = [{**GOOD, "bbox": box, "score": 0.9 - 0.1 * number} for number, box in enumerate(boxes)]
    found = read_stored_results(write(tmp_path, content), TRUTH)
    assert found.detections.of(0).boxes.tolist() == [[0, 10, 15, 30], [630, 470, 640, 480], [0, 0, 640, 480]]
    left_out, clipped, _ = found.notes
    assert left_out.startswith("2 boxes")
    assert clipped.startswith("2 boxes")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], "train.json"),
        ({"annotations": []}, "list"),
        (None, "list"),
        ([{**GOOD, "image_id": 1}, {**GOOD, "image_id": "42"}], "1, '42'"),
        ([{**GOOD, "image_id": 1}], "42"),
        ([{**GOOD, "category_id": 1}], "18 cat"),
        ([{**GOOD, "bbox": [700, 0, 5, 5]}], "no area"),
    ],
)
def test_a_file_with_nothing_for_the_dataset_is_refused(content: object, expected: str, tmp_path: Path) -> None:
    assert expected in str(refusal(tmp_path, content))


@pytest.mark.parametrize(
    "change",
    [
        {"score": float("nan")},
        {"score": -0.1},
        {"score": 1.1},
        {"score": 87},
        {"score": True},
        {"score": None},
        {"bbox": [0, 0, float("nan"), 1]},
        {"bbox": [0, 0, 1]},
        {"bbox": [5, 5, -1, 3]},
        {"image_id": None},
        {"category_id": [1]},
    ],
)
def test_malformed_entries_are_named(change: dict[str, Any], tmp_path: Path) -> None:
    problems = refusal(tmp_path, [GOOD, GOOD | change, GOOD]).problems
    assert [problem.where for problem in problems] == ["entry 1"]
    assert next(iter(change)) in problems[0].what


def test_a_score_just_above_1_is_a_rounded_1(tmp_path: Path) -> None:
    found = read_stored_results(write(tmp_path, [{**GOOD, "score": 1.000001}]), TRUTH)
    assert found.detections.of(0).scores.tolist() == [1]


@pytest.mark.parametrize("name", ["a\0b.png", "\ud800.png", "x" * 300_000, "\x1b[31m/\0/y.png"])
def test_hostile_file_names_are_left_out(name: str, tmp_path: Path) -> None:
    found = read_stored_results(write(tmp_path, [GOOD, {**GOOD, "file_name": name, "image_id": "?"}]), TRUTH)
    assert len(found.detections.of(0)) == 1
    assert "\x1b" not in found.notes[0]
    assert len(found.notes[0]) < 1_000


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "found.json")
    with pytest.raises(DataError, match="pipe"):
        read_stored_results(tmp_path / "found.json", TRUTH)


def test_only_images_of_the_same_files_are_covered(tmp_path: Path) -> None:
    """Ids are often 1, 2, 3 … in each part of a dataset."""
    found = read_stored_results(write(tmp_path, [GOOD]), TRUTH).detections
    elsewhere = replace(
        TRUTH, images=ImageTable.of(replace(image, path=tmp_path / image.path) for image in TRUTH.images)
    )
    assert not found.covered(elsewhere).any()
    assert found.covered(replace(TRUTH, images=TRUTH.images.take([2, 0]))).all()


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([42, 7, 5, 1]),
            st.sampled_from([18, 90, 2]),
            st.lists(st.floats(-50, 900), min_size=2, max_size=2),
            st.lists(st.floats(0, 900), min_size=2, max_size=2),
            st.floats(0, 1),
        ),
        max_size=6,
    )
)
def test_all_that_is_read_lies_in_its_image(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, list[float], list[float], float]]
) -> None:
    content = [
        {"image_id": image, "category_id": category, "bbox": [*corner, *sides], "score": score}
        for image, category, corner, sides, score in rows
    ]
    path = write(tmp_path_factory.mktemp("any"), content)
    try:
        found = read_stored_results(path, TRUTH).detections
    except DataError:
        return
    for row in range(3):
        boxes = found.of(row).boxes.numpy()
        assert ((boxes >= 0) & (boxes <= np.array([640, 480, 640, 480]))).all()
        assert found.of(row).scores.tolist() == sorted(found.of(row).scores.tolist(), reverse=True)
        assert (found.of(row).scores >= np.float32(found.floor)).all()
