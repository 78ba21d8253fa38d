from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DataError
from detdistill.core.structures import Detections
from detdistill.evaluation.results import Results
from detdistill.evaluation.results_file import ids_of_files, read_results, write_results
from support.evaluation_datasets import dataset, record

TRUTH = DetectionDataset(
    "val.json",
    ("cat", "dog"),
    (18, 90),
    ImageTable.of([record(42, [[0, 0, 4, 4]], [0]), record(7, [[0, 0, 4, 4]], [1])]),
)
GOOD = {"image_id": 42, "category_id": 90, "bbox": [1, 2, 3, 4], "score": 0.5}


def write(folder: Path, content: object) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(content))
    return path


def refusal(folder: Path, content: object) -> str:
    with pytest.raises(DataError) as refused:
        read_results(write(folder, content), TRUTH)
    return str(refused.value)


def test_ids_become_indices(tmp_path: Path) -> None:
    results = read_results(write(tmp_path, [GOOD, {**GOOD, "image_id": 7, "category_id": 18, "more": 1}]), TRUTH)
    assert results.image.tolist() == [0, 1]
    assert results.labels.tolist() == [1, 0]
    assert results.xywh.tolist() == [[1, 2, 3, 4]] * 2
    assert results.boxes.tolist() == [[1, 2, 4, 6]] * 2
    assert results.scores.tolist() == [0.5, 0.5]


def test_an_empty_list_is_no_detection(tmp_path: Path) -> None:
    assert len(read_results(write(tmp_path, []), TRUTH)) == 0


def test_all_unknown_ids_are_listed_once_each(tmp_path: Path) -> None:
    strangers = [{**GOOD, "image_id": image_id} for image_id in (8, "42", 8, 8)]
    with pytest.raises(DataError) as refused:
        read_results(write(tmp_path, [GOOD, *strangers, {**GOOD, "category_id": 1}]), TRUTH)
    assert [problem.where for problem in refused.value.problems] == ["entry 1 and 2 more", "entry 2", "entry 5"]
    for problem, named in zip(refused.value.problems, ("image 8 ", "image '42' ", "class 1 "), strict=True):
        assert problem.what.startswith(named)


def test_a_file_name_and_a_class_name_decide_before_ids(tmp_path: Path) -> None:
    """As `predict --json` writes them, on another machine or in another order of classes."""
    (tmp_path / "images").mkdir()
    images = tuple(replace(image, path=tmp_path / "images" / image.file_name) for image in TRUTH.images)
    for image in images:
        image.path.touch()
    (tmp_path / "images" / "link.jpg").symlink_to(images[0].path)
    truth = replace(TRUTH, images=ImageTable.of(images))
    names = {"file_name": str(images[1].path), "category_name": "cat"}
    relative = {"file_name": "7.jpg", "image_id": "anything"}
    results = read_results(write(tmp_path, [{**GOOD, **names}, {**GOOD, **relative}, GOOD]), truth)
    assert results.image.tolist() == [1, 1, 0]
    assert results.labels.tolist() == [0, 1, 1]


def test_another_image_of_the_same_stem_is_not_taken_for_the_datasets(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    image = replace(TRUTH.images[0], image_id="a", path=tmp_path / "dataset" / "a.jpg", file_name="a.jpg")
    entry = {**GOOD, "image_id": "a", "file_name": str(tmp_path / "a.jpg")}
    with pytest.raises(DataError) as refused:
        read_results(write(tmp_path, [entry]), replace(TRUTH, images=ImageTable.of([image])))
    assert str(tmp_path / "a.jpg") in refused.value.problems[0].what


@pytest.mark.parametrize("name", ["a\0b.jpg", "a\0/b.jpg", "\ud800/b.jpg", "x" * 300_000])
def test_a_hostile_file_name_is_an_unknown_image(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        read_results(write(tmp_path, [GOOD, {**GOOD, "image_id": "?", "file_name": name}]), TRUTH)
    assert [problem.where for problem in refused.value.problems] == ["entry 1"]
    assert len(str(refused.value)) < 3_000


def test_an_unknown_class_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        read_results(write(tmp_path, [{**GOOD, "category_name": "bird"}]), TRUTH)
    assert refused.value.problems[0].what.startswith("class 'bird'")


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        (["x/a.jpg", "x/b.png"], ["a", "b"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (["x/a.jpg", "y/a.jpg", "y/b.jpg"], ["x/a.jpg", "y/a.jpg", "y/b.jpg"]),
        (["x/z/a.jpg", "y/z/a.jpg"], ["x/z/a.jpg", "y/z/a.jpg"]),
        (["a.jpg", "/a.jpg"], ["a.jpg", "/a.jpg"]),
        ([], []),
    ],
)
def test_files_of_one_stem_get_different_ids(files: list[str], ids: list[str]) -> None:
    assert ids_of_files([Path(file) for file in files]) == ids


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@given(st.lists(st.tuples(PATHS, st.sampled_from([".jpg", ".png"])), max_size=12, unique=True))
def test_ids_of_files_differ(files: list[tuple[str, str]]) -> None:
    ids = ids_of_files([Path(name + ending) for name, ending in files])
    assert len(set(ids)) == len(files)


def test_detections_come_in_the_order_of_the_images() -> None:
    """Whatever the batches that they were found in."""
    scores = [0.9, 0.8], [0.7, 0.6]
    one, two = (Detections(torch.zeros(2, 4), torch.tensor(own), torch.zeros(2, dtype=torch.int64)) for own in scores)
    results = Results.from_detections([(3, two), (1, one)])
    assert results.image.tolist() == [1, 1, 3, 3]
    assert results.scores == pytest.approx([0.9, 0.8, 0.7, 0.6])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": float("nan")}, "score nan is not a finite number of at least 0"),
        ({"score": -0.1}, "score -0.1 is not"),
        ({"score": "high"}, "score 'high' is not"),
        ({"score": True}, "score True is not"),
        ({"score": 10**400}, "is not a finite number"),
        ({"bbox": [0, 0, float("inf"), 1]}, "bbox [0, 0, inf, 1] is not four finite numbers"),
        ({"bbox": [1e308, 0, 1e308, 1]}, "bbox [1e+308, 0, 1e+308, 1] is not four finite numbers"),
        ({"bbox": [0, 0, 1]}, "bbox [0, 0, 1] is not four"),
        ({"bbox": {"x": 1}}, "bbox {'x': 1} is not four"),
        ({"bbox": [5, 5, -1, 3]}, "bbox [5, 5, -1, 3] has a negative width or height"),
        ({"image_id": [42]}, "image_id [42] is neither a whole number nor a string"),
        ({"category_id": 90.0}, "category_id 90.0 is neither"),
        ({"category_id": True}, "category_id True is neither"),
    ],
)
def test_entries_that_cannot_be_scored_are_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, [GOOD, GOOD | change])
    assert said in message
    assert "entry 1: " in message
    assert "entry 0" not in message


def test_all_malformed_entries_are_listed(tmp_path: Path) -> None:
    said = refusal(tmp_path, [5, {}, GOOD, {**GOOD, "score": -1}])
    assert "entry 0: a detection is an object, this is a number" in said
    assert "entry 1: has no image_id, category_id, bbox, score" in said
    assert "entry 3: score -1" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b'[{"image_id": 42,', "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"images": [], "annotations": []}', "this is an object, as in an annotation file"),
        (b"null", "this is null"),
    ],
)
def test_other_files_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_results(path, TRUTH)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.json cannot be read: No such file or directory"):
        read_results(tmp_path / "absent.json", TRUTH)
    with pytest.raises(DataError, match=r"cannot be read: Is a directory"):
        read_results(tmp_path, TRUTH)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*GOOD]), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.lists(
        st.dictionaries(st.sampled_from([*GOOD]), json_values, max_size=2).map(lambda change: GOOD | change), max_size=4
    )
)
def test_damaged_entries_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, Any]]
) -> None:
    path = write(tmp_path_factory.mktemp("damaged"), entries)
    try:
        results = read_results(path, TRUTH)
    except DataError:
        return
    assert len(results) == len(entries)
    assert np.isfinite(results.boxes).all()
    assert np.isfinite(results.scores).all()


sides = st.floats(0, 1000, width=32)


@given(st.lists(st.tuples(st.integers(0, 1), sides, sides, sides, sides, st.floats(0, 1), st.integers(0, 1))))
def test_what_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[float, ...]]
) -> None:
    table = np.array(found, dtype=float).reshape(-1, 7)
    results = Results(table[:, 0].astype(np.int64), table[:, 1:5], table[:, 5], table[:, 6].astype(np.int64))
    path = tmp_path_factory.mktemp("written") / "results.json"
    write_results(path, results, TRUTH)
    again = read_results(path, TRUTH)
    assert again.image.tolist() == results.image.tolist()
    assert again.labels.tolist() == results.labels.tolist()
    assert again.scores.tolist() == results.scores.tolist()
    assert again.xywh.tolist() == results.xywh.tolist()


def test_images_without_ids_go_by_stem_and_name_their_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    one = Results(np.array([0]), np.array([[1.0, 2, 3, 4]]), np.array([0.5]), np.array([1]))
    write_results(path, one, dataset(["cat", "dog"], [record("000012", [], [])]))
    assert json.loads(path.read_text()) == [
        {"image_id": "000012", "file_name": "000012.jpg", "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}
    ]
    write_results(path, one, TRUTH)
    assert "file_name" not in json.loads(path.read_text())[0]


def test_detections_of_a_detector_are_joined_in_order() -> None:
    first = Detections(torch.tensor([[0.0, 0, 1, 1], [2, 2, 3, 3]]), torch.tensor([0.9, 0.1]), torch.tensor([1, 0]))
    results = Results.from_detections([(4, first), (2, Detections()), (3, first)])
    assert results.image.tolist() == [3, 3, 4, 4]
    assert results.labels.tolist() == [1, 0, 1, 0]
    assert results.boxes.tolist() == first.boxes.tolist() * 2
    assert results.xywh.tolist() == [[0, 0, 1, 1], [2, 2, 1, 1]] * 2
    assert results.xywh.dtype == np.float64
    assert len(Results.from_detections([])) == 0


def test_a_detector_that_gives_nan_is_named() -> None:
    broken = Detections(torch.zeros(2, 4), torch.tensor([0.9, float("nan")]), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(DataError, match=r"1 of 2 detections hold numbers that are not finite, the first in image 4"):
        Results.from_detections([(4, broken)])
