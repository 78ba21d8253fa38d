from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.annotations import DetectionDataset
from detdistill.evaluation.results import Results, to_xywh
from detdistill.evaluation.voc_metrics import Interpolation, all_point, eleven_point, image_f1, voc_metrics
from support.evaluation_datasets import dataset, no_objects, record

BOX, NEAR, FAR = [10.0, 10, 30, 30], [10.0, 10, 30, 20], [100.0, 100, 120, 120]


def results(*detections: tuple[int, list[float], float, int]) -> Results:
    """Image, box, score, label."""
    return Results(
        np.array([image for image, _, _, _ in detections], dtype=np.int64),
        to_xywh(np.array([box for _, box, _, _ in detections], dtype=float).reshape(-1, 4)),
        np.array([score for _, _, score, _ in detections], dtype=float),
        np.array([label for _, _, _, label in detections], dtype=np.int64),
    )


def score(ground_truth: DetectionDataset, found: Results, threshold: float = 0.5) -> tuple[float | None, float | None]:
    """mAP with 11 points and with all points."""
    seven = voc_metrics(ground_truth, found, interpolation="11-point", iou_threshold=threshold)
    ten = voc_metrics(ground_truth, found, interpolation="all-point", iou_threshold=threshold)
    return seven.mean, ten.mean


def test_the_curve_worked_by_hand() -> None:
    """Five objects; right, wrong, right, wrong, right: the precisions at recall .2, .4, .6 are 1, 2/3, 3/5."""
    right = np.array([True, False, True, False, True])
    # Recalls 0, .1, .2 have precision 1; .3, .4 have 2/3; .5, .6 have 3/5; .7 to 1 have none.
    assert eleven_point(right, 5) == pytest.approx((3 * 1 + 2 * 2 / 3 + 2 * 3 / 5) / 11, abs=1e-12)
    assert all_point(right, 5) == pytest.approx((1 + 2 / 3 + 3 / 5) / 5, abs=1e-12)


def test_a_later_higher_precision_counts_for_lower_recalls() -> None:
    """Wrong, right, right of two: the precision at recall .5 is 1/2 but 2/3 at recall 1, so 2/3 everywhere."""
    right = np.array([False, True, True])
    assert eleven_point(right, 2) == pytest.approx(2 / 3, abs=1e-12)
    assert all_point(right, 2) == pytest.approx(2 / 3, abs=1e-12)


def test_three_of_ten_reach_the_recall_of_three_tenths() -> None:
    right = np.ones(3, dtype=bool)
    assert eleven_point(right, 10) == pytest.approx(4 / 11, abs=1e-12)
    assert all_point(right, 10) == pytest.approx(0.3, abs=1e-12)


def test_nothing_found_is_zero() -> None:
    assert score(dataset(["cat"], [record("a", [BOX], [0])]), Results.empty()) == (0, 0)


@pytest.mark.parametrize(("images", "classes"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_nothing_to_find_is_none(images: int, classes: int) -> None:
    assert score(no_objects(images, classes), Results.empty()) == (None, None)


def test_a_class_without_objects_has_no_part_in_the_mean() -> None:
    metrics = voc_metrics(
        dataset(["cat", "dog"], [record("a", [BOX], [0])]),
        results((0, BOX, 0.9, 0), (0, BOX, 0.9, 1)),
        interpolation="all-point",
    )
    assert metrics.per_class == {"cat": 1, "dog": None}
    assert metrics.mean == 1


def test_an_overlap_of_exactly_the_threshold_is_right() -> None:
    """NEAR is the upper half of BOX: its overlap is 200 / 400."""
    truth = dataset(["cat"], [record("a", [BOX], [0])])
    assert score(truth, results((0, NEAR, 0.9, 0)), threshold=0.5) == (1, 1)
    assert score(truth, results((0, NEAR, 0.9, 0)), threshold=0.51) == (0, 0)


def test_finding_an_object_twice_is_right_once() -> None:
    """Right, wrong, right of two: the precisions are 1 at recall .5 and 2/3 at recall 1."""
    truth = dataset(["cat"], [record("a", [BOX, FAR], [0, 0])])
    found = results((0, NEAR, 0.8, 0), (0, BOX, 0.9, 0), (0, FAR, 0.7, 0))
    assert score(truth, found) == pytest.approx(((6 + 5 * 2 / 3) / 11, (1 + 2 / 3) / 2), abs=1e-12)


def test_the_most_overlapped_object_is_not_given_up_for_a_free_one() -> None:
    """The second detection overlaps the free object by more than .5, but the taken one more: it is wrong."""
    truth = dataset(["cat"], [record("a", [[0.0, 0, 10, 10], [0.0, 0, 10, 7]], [0, 0])])
    found = results((0, [0.0, 0, 10, 10], 0.9, 0), (0, [0.0, 0, 10, 9], 0.8, 0))
    assert score(truth, found) == pytest.approx((6 / 11, 0.5), abs=1e-12)


def test_difficult_objects_are_neither_rewarded_nor_punished() -> None:
    """One object in all; the difficult one may be found, found twice or missed: precision 1 at recall 1."""
    truth = dataset(["cat"], [record("a", [BOX, FAR], [0, 0], difficult=[0, 1])])
    assert score(truth, results((0, BOX, 0.5, 0))) == (1, 1)
    assert score(truth, results((0, FAR, 0.9, 0), (0, FAR, 0.8, 0), (0, BOX, 0.5, 0))) == (1, 1)
    # Only difficult ones: nothing to find.
    assert score(dataset(["cat"], [record("a", [FAR], [0], difficult=[1])]), results((0, FAR, 0.9, 0))) == (None, None)


def test_crowd_regions_are_neither_rewarded_nor_punished() -> None:
    truth = dataset(["cat"], [record(1, [BOX, FAR], [0, 0], crowd=[0, 1])])
    assert score(truth, results((0, FAR, 0.9, 0), (0, BOX, 0.5, 0))) == (1, 1)


def test_tied_scores_rank_by_image_and_then_by_place() -> None:
    """Forty wrong detections in each of two images, one right one, first among those of the first image."""
    truth = dataset(["cat"], [record("a", [BOX], [0]), record("b", [], [])])
    wrong = [(image, FAR, 0.5, 0) for image in (1, 0) for _ in range(40)]
    assert score(truth, results((0, BOX, 0.5, 0), *wrong)) == (1, 1)
    assert score(truth, results(*wrong[:40], (0, BOX, 0.5, 0), *wrong[40:])) == (1, 1)
    assert score(truth, results(*wrong, (0, BOX, 0.5, 0))) == pytest.approx((1 / 41, 1 / 41), abs=1e-12)


def test_boxes_of_another_image_or_class_do_not_count() -> None:
    truth = dataset(["cat", "dog"], [record("a", [BOX], [0]), record("b", [BOX], [1])])
    assert score(truth, results((1, BOX, 0.9, 0), (0, BOX, 0.9, 1))) == (0, 0)


def plain_average_precision(
    truth: DetectionDataset, found: Results, label: int, interpolation: Interpolation, threshold: float
) -> float | None:
    """The development kit's procedure, one detection after the other; the oracle of the test below."""
    total = sum(
        label == own and not (difficult or crowd)
        for image in truth.images
        for own, difficult, crowd in zip(image.labels, image.difficult, image.crowd, strict=True)
    )
    if not total:
        return None
    taken: set[tuple[int, int]] = set()
    right: list[bool] = []
    of_class = [index for index in range(len(found)) if found.labels[index] == label]
    for index in sorted(of_class, key=lambda index: (-found.scores[index], found.image[index])):
        image_index = int(found.image[index])
        image = truth.images[image_index]
        best, chosen = -1.0, -1
        x1, y1, x2, y2 = found.boxes[index]
        for number, (left, top, bottom_right_x, bottom_right_y) in enumerate(image.boxes):
            width, height = min(x2, bottom_right_x) - max(x1, left), min(y2, bottom_right_y) - max(y1, top)
            shared = max(width, 0) * max(height, 0)
            union = (x2 - x1) * (y2 - y1) + (bottom_right_x - left) * (bottom_right_y - top) - shared
            if image.labels[number] == label and shared / union > best:
                best, chosen = shared / union, number
        if best < threshold:
            right.append(False)
        elif not (image.difficult[chosen] or image.crowd[chosen]):
            right.append((image_index, chosen) not in taken)
            taken.add((image_index, chosen))
    curve = [(sum(right[:end]) / total, sum(right[:end]) / end) for end in range(1, len(right) + 1)]
    if interpolation == "11-point":
        return sum(max([p for r, p in curve if r >= tenth / 10], default=0) for tenth in range(11)) / 11
    recalls = sorted({0.0, *(recall for recall, _ in curve)})
    area: float = sum(
        (after - before) * max(p for r, p in curve if r >= after) for before, after in itertools.pairwise(recalls)
    )
    return area


corners = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(1, 5)] * 2)
boxes = corners.map(lambda box: [float(box[0]), float(box[1]), float(box[0] + box[2]), float(box[1] + box[3])])
objects = st.lists(st.tuples(boxes, st.integers(0, 1), st.integers(0, 1), st.booleans()), max_size=6)
detections = st.tuples(st.integers(0, 2), boxes, st.sampled_from([0.1, 0.5, 0.9]) | st.floats(0, 1), st.integers(0, 1))


@given(st.tuples(objects, objects, objects), st.lists(detections, max_size=25), st.sampled_from([0.3, 0.5, 0.75]))
def test_equals_the_plain_procedure(
    images: tuple[list[tuple[list[float], int, int, bool]], ...],
    found: list[tuple[int, list[float], float, int]],
    threshold: float,
) -> None:
    truth = dataset(
        ["cat", "dog"],
        [
            record(
                number,
                [box for box, _, _, _ in image],
                [label for _, label, _, _ in image],
                difficult=[flag for _, _, flag, _ in image],
                crowd=[int(flag) for _, _, _, flag in image],
            )
            for number, image in enumerate(images)
        ],
    )
    interpolations: tuple[Interpolation, ...] = ("11-point", "all-point")
    for interpolation in interpolations:
        metrics = voc_metrics(truth, results(*found), interpolation=interpolation, iou_threshold=threshold)
        for label, name in enumerate(truth.classes):
            expected = plain_average_precision(truth, results(*found), label, interpolation, threshold)
            assert metrics.per_class[name] == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_the_f1_of_each_image_worked_by_hand() -> None:
    """Two right of two and one wrong: 4/5. One of two: 2/3. Nothing there, one found: 0. Nothing at all: undefined."""
    images = [
        record("a", [BOX, FAR], [0, 1]),
        record("b", [BOX, FAR], [0, 0]),
        record("c", [], []),
        record("d", [], []),
        record("e", [BOX], [0], difficult=[1]),
    ]
    truth = dataset(["cat", "dog"], images)
    first = (0, BOX, 0.9, 0), (0, FAR, 0.8, 1), (0, FAR, 0.7, 0)
    found = results(*first, (1, BOX, 0.5, 0), (2, BOX, 0.4, 1), (4, BOX, 0.9, 0))
    f1 = image_f1(truth, found)
    assert f1[:3] == pytest.approx([4 / 5, 2 / 3, 0])
    assert np.isnan(f1[3:]).all(), "a difficult object is neither rewarded nor punished"
