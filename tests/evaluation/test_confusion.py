from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset
from detdistill.evaluation.confusion import condensed, confusion_matrix, most_confused
from detdistill.evaluation.results import Results, to_xywh
from detdistill.evaluation.voc_metrics import rank_detections
from support.evaluation_datasets import dataset, no_objects, record

BOX, SHIFTED, FAR = [10.0, 10, 30, 30], [12.0, 10, 32, 30], [100.0, 100, 120, 120]
CLASSES = 3
Detection = tuple[int, list[float], float, int]


def results(*detections: Detection) -> Results:
    """Image, box, score, label."""
    return Results(
        np.array([image for image, _, _, _ in detections], dtype=np.int64),
        to_xywh(np.array([box for _, box, _, _ in detections], dtype=float).reshape(-1, 4)),
        np.array([score for _, _, score, _ in detections], dtype=float),
        np.array([label for _, _, _, label in detections], dtype=np.int64),
    )


def matrix_of(
    objects: list[tuple[list[float], int]], *detections: Detection, threshold: float = 0.0
) -> list[list[int]]:
    """Of one image and two classes."""
    truth = dataset(["cat", "dog"], [record("a", [box for box, _ in objects], [label for _, label in objects])])
    matrix: list[list[int]] = confusion_matrix(truth, results(*detections), [threshold] * 2).tolist()
    return matrix


def test_right_wrong_missed_and_background() -> None:
    objects = [(BOX, 0), (FAR, 1), ([200.0, 200, 250, 250], 1)]
    found = [(0, BOX, 0.9, 0), (0, FAR, 0.8, 0), (0, [300.0, 300, 320, 320], 0.7, 1)]
    assert matrix_of(objects, *found) == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_a_right_detection_counts_before_a_better_one_of_another_class() -> None:
    assert matrix_of([(BOX, 0)], (0, BOX, 0.9, 1), (0, SHIFTED, 0.5, 0)) == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_a_duplicate_is_on_background() -> None:
    assert matrix_of([(BOX, 0)], (0, BOX, 0.9, 0), (0, SHIFTED, 0.5, 0)) == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_the_threshold_itself_counts_and_less_does_not() -> None:
    found = (0, BOX, 0.5, 0)
    assert matrix_of([(BOX, 0)], found, threshold=0.5) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert matrix_of([(BOX, 0)], found, threshold=0.5001) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("kind", ["crowd", "difficult"])
def test_detections_on_ignored_objects_of_any_class_do_not_count(kind: str, label: int) -> None:
    flags = {kind: [1]}
    truth = dataset(["cat", "dog"], [record("a", [BOX], [0], **flags)])  # type: ignore[arg-type]
    assert confusion_matrix(truth, results((0, BOX, 0.9, label)), [0.0, 0.0]).sum() == 0


@pytest.mark.parametrize(("images", "classes"), [(0, 0), (1, 0), (0, 1), (2, 3)])
def test_nothing_at_all_is_a_matrix_of_zeros(images: int, classes: int) -> None:
    matrix = confusion_matrix(no_objects(images, classes), Results.empty(), [0.5] * classes)
    assert matrix.shape == (classes + 1, classes + 1)
    assert not matrix.any()


@st.composite
def cases(draw: st.DrawFn) -> tuple[DetectionDataset, Results]:
    """Up to three images with boxes on a coarse grid, so that many overlap."""
    box = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(2, 4), st.integers(2, 4)).map(
        lambda place: [float(place[0]), float(place[1]), float(place[0] + place[2]), float(place[1] + place[3])]
    )
    label = st.integers(0, CLASSES - 1)
    objects = st.lists(st.tuples(box, label, st.booleans()), max_size=5)
    images = draw(st.lists(objects, min_size=1, max_size=3))
    records = [
        record(
            str(number),
            [box for box, _, _ in content],
            [label for _, label, _ in content],
            difficult=[int(flag and box[0] == 0) for box, _, flag in content],
        )
        for number, content in enumerate(images)
    ]
    detection = st.tuples(st.integers(0, len(images) - 1), box, st.integers(0, 9).map(lambda n: n / 10), label)
    return dataset(["a", "b", "c"], records), results(*draw(st.lists(detection, max_size=12)))


def overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(shared / (sum(areas) - shared))


def by_loops(truth: DetectionDataset, found: Results, threshold: float) -> NDArray[np.int64]:
    """The same matrix, detection by detection and object by object."""
    matrix = np.zeros((CLASSES + 1, CLASSES + 1), dtype=np.int64)
    for index, image in enumerate(truth.images):
        own = [place for place in range(len(found)) if found.image[place] == index and found.scores[place] >= threshold]
        own.sort(key=lambda place: -found.scores[place])
        free = [not difficult for difficult in image.difficult]
        taken = [False] * len(free)
        rest = []
        for place in own:
            overlaps = [
                overlap(found.boxes[place], box) if label == found.labels[place] else 0.0
                for box, label in zip(image.boxes, image.labels, strict=True)
            ]
            best = int(np.argmax(overlaps)) if overlaps else -1
            if best < 0 or overlaps[best] < 0.5 or (taken[best] and not image.difficult[best]):
                rest.append(place)
            elif not image.difficult[best]:
                taken[best], free[best] = True, False
                matrix[image.labels[best], image.labels[best]] += 1
        for place in rest:
            others = sorted(
                (-overlap(found.boxes[place], box), number)
                for number, (box, label) in enumerate(zip(image.boxes, image.labels, strict=True))
                if label != found.labels[place] and overlap(found.boxes[place], box) >= 0.5
            )
            open_ones = [number for _, number in others if free[number]]
            if open_ones:
                free[open_ones[0]] = False
                matrix[image.labels[open_ones[0]], found.labels[place]] += 1
            elif not any(image.difficult[number] for _, number in others):
                matrix[CLASSES, found.labels[place]] += 1
        for number, is_free in enumerate(free):
            if is_free:
                matrix[image.labels[number], CLASSES] += 1
    return matrix


@settings(max_examples=40)
@given(cases(), st.integers(0, 9).map(lambda n: n / 10))
def test_equals_plain_loops(case: tuple[DetectionDataset, Results], threshold: float) -> None:
    truth, found = case
    assert np.array_equal(confusion_matrix(truth, found, [threshold] * CLASSES), by_loops(truth, found, threshold))


@settings(max_examples=40)
@given(cases(), st.tuples(*[st.floats(0, 1)] * CLASSES))
def test_rows_count_objects_and_the_diagonal_right_detections(
    case: tuple[DetectionDataset, Results], thresholds: tuple[float, ...]
) -> None:
    truth, found = case
    matrix = confusion_matrix(truth, found, thresholds)
    rankings = list(rank_detections(truth, found).values())
    assert matrix[:-1].sum(axis=1).tolist() == [ranking.total for ranking in rankings]
    right = [
        int(ranking.right[ranking.scores >= threshold].sum())
        for ranking, threshold in zip(rankings, thresholds, strict=True)
    ]
    assert matrix.diagonal()[:-1].tolist() == right
    assert matrix[-1, -1] == 0
    taken = found.scores >= np.asarray(thresholds)[found.labels]
    assert (matrix[:, :-1].sum(axis=0) <= np.bincount(found.labels[taken], minlength=CLASSES)).all()
    if not truth.images.difficult.any():
        assert matrix[:, :-1].sum() == taken.sum()


MATRICES = st.integers(1, 6).flatmap(
    lambda classes: st.lists(
        st.lists(st.integers(0, 9), min_size=classes + 1, max_size=classes + 1),
        min_size=classes + 1,
        max_size=classes + 1,
    ).map(lambda rows: np.array(rows, dtype=np.int64))
)


@settings(max_examples=40)
@given(MATRICES, st.integers(1, 8))
def test_no_class_outside_is_confused_more_often_than_one_inside(matrix: NDArray[np.int64], count: int) -> None:
    classes = len(matrix) - 1
    chosen = most_confused(matrix, count)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, classes)

    def mixed_up(label: int) -> int:
        others = [other for other in range(classes) if other != label]
        return int(matrix[label, others].sum() + matrix[others, label].sum())

    outside = [mixed_up(label) for label in range(classes) if label not in chosen]
    assert max(outside, default=0) <= min(map(mixed_up, chosen))


@settings(max_examples=40)
@given(MATRICES, st.data())
def test_a_condensed_matrix_loses_no_count(matrix: NDArray[np.int64], data: st.DataObject) -> None:
    classes = len(matrix) - 1
    labels = data.draw(st.permutations(range(classes)).map(lambda order: order[: len(order) // 2 + 1]))
    small = condensed(matrix, labels)
    assert small.shape == (len(labels) + 2, len(labels) + 2)
    assert small.sum() == matrix.sum()
    for row, label in enumerate(labels):
        assert small[row].sum() == matrix[label].sum()
        assert small[:, row].sum() == matrix[:, label].sum()
        assert small[row, -1] == matrix[label, -1]
    assert small[-1, -1] == matrix[-1, -1]
