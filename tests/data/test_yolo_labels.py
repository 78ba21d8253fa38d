"""Lines of YOLO label files in all their forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.core.errors import Problem
from detdistill.data.objects import Objects
from detdistill.data.yolo_labels import label_lines, read_lines

SIZE = (480, 640)
BOX = (0.5, 0.4, 0.2, 0.1)
PIXELS = [256.0, 168.0, 384.0, 216.0]


def read(text: str, kpt_shape: object = None, size: tuple[int, int] = SIZE) -> tuple[Objects, list[Problem]]:
    problems: list[Problem] = []
    lines = list(label_lines(text, "a.txt", 0))
    return read_lines(lines, [size], 2, kpt_shape, "data.yaml: train", problems), problems


def line(*numbers: float, label: str = "1") -> str:
    return " ".join([label, *(f"{number:.6g}" for number in numbers)])


def pose(points: list[tuple[float, ...]]) -> str:
    return line(*BOX, *(value for point in points for value in point))


THREE = pose([(0.45, 0.38, 2), (0.55, 0.42, 1), (0, 0, 0)])
TWO = pose([(0.45, 0.38), (0.55, 0.42), (0.5, 0.44)])


@pytest.mark.parametrize(
    ("text", "kpt_shape", "changed"),
    [
        (line(*BOX), None, False),
        (line(*BOX, 0.87), None, True),
        (line(*BOX, 1), None, True),
        (line(*BOX, 7), None, True),
        (line(*BOX, 0.87, 7), None, True),
        (THREE, None, True),
        (TWO, None, True),
        (f"{THREE} 0.9", ["3", "3"], True),
        (THREE, ["3", "3"], True),
        (TWO, ["3", "2"], True),
        (pose([(0.9, 0.9), (0.1, 0.1)]), ["2", "2"], True),
        (line(*BOX), ["3", "3"], False),
        (line(*BOX).replace(" ", ","), None, True),
        (line(*BOX).replace(" ", ", "), None, True),
        (line(*BOX).replace(" ", ";"), None, True),
        (line(*BOX).replace(".", ","), None, True),
        (line(*BOX).replace(".", ",").replace(" ", ";"), None, True),
        (line(*BOX).replace(" ", "\t") + "\r", None, False),
        (line(0.5, 0.4, -0.2, 0.1), None, False),  # swapped corners, which `assemble` reports
    ],
)
def test_the_box_is_read_and_changes_are_reported(text: str, kpt_shape: object, changed: bool) -> None:
    objects, problems = read(text, kpt_shape)
    (box,) = objects.boxes
    np.testing.assert_allclose([*sorted(box[::2]), *sorted(box[1::2])], [256, 384, 168, 216], atol=1e-6)
    assert objects.labels == [1]
    if changed:
        assert {(problem.outcome, problem.unit, problem.where) for problem in problems} == {
            ("changed", "annotation", "a.txt:1")
        }
    else:
        assert problems == []


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0.1, 0.5, 0.5, 0.25, 0.3, 1.0), [64, 120, 320, 480]),
        ((0.4, 0.35, 0.6, 0.35, 0.6, 0.45, 0.4, 0.45), PIXELS),  # corners of a box
        ((0.5, 0.35, 0.6, 0.4, 0.5, 0.45, 0.4, 0.4), PIXELS),  # a rotated box
        ((0.1, 0.5, 0.5, 0.25, 0.3, 1.0, 0.7), [64, 120, 320, 480]),  # with a confidence
    ],
)
def test_polygons_and_rotated_boxes_give_their_extent(numbers: tuple[float, ...], expected: list[float]) -> None:
    objects, problems = read(line(*numbers))
    np.testing.assert_allclose(objects.boxes, [expected], atol=1e-6)
    assert [problem.outcome for problem in problems] == ["changed"] * (len(numbers) % 2)


def test_lines_of_different_lengths_are_polygons() -> None:
    polygon = (0.5, 0.5, 0.6, 0.6, 0.55, 0.7)
    objects, problems = read(f"{line(*polygon)}\n{line(*polygon, 0.5, 0.6)}")
    np.testing.assert_allclose(objects.boxes, [[320, 240, 384, 336]] * 2)
    assert problems == []


def test_key_points_beside_boxes_without() -> None:
    objects, problems = read(f"{THREE}\n\n{line(*BOX)}\n")
    np.testing.assert_allclose(objects.boxes, [PIXELS, PIXELS])
    assert [problem.where for problem in problems] == ["a.txt:1"]


@pytest.mark.parametrize("text", ["", "\n \n", "\r\n"])
def test_empty_files_have_no_lines(text: str) -> None:
    assert list(label_lines(text, "a.txt", 0)) == []


@pytest.mark.parametrize(
    "text", ["1 .5 .5 .1", "1", "x .5 .5 .1 .1", "1 .5 .5 .1 x", "1 .5 .5 .1 .1 -1", "1 .5 .5 9 .1", "1,", ",", ";"]
)
def test_unusable_lines_are_left_out(text: str) -> None:
    objects, problems = read(f"{line(*BOX)}\n{line(*BOX)}\n{text}")
    assert len(objects.boxes) == 2
    assert [(problem.outcome, problem.unit, problem.where) for problem in problems] == [
        ("left out", "annotation", "a.txt:3")
    ]


@pytest.mark.parametrize("factors", [(640, 480, 640, 480), (100, 100, 100, 100)])
def test_pixels_and_percent_are_one_fatal_problem(factors: tuple[int, ...]) -> None:
    numbers = [factor * number for factor, number in zip(factors, BOX, strict=True)]
    _, problems = read("\n".join([line(*numbers)] * 3))
    assert [(problem.fatal, problem.where) for problem in problems] == [(True, "data.yaml: train")]


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.floats(0.01, 0.2), st.floats(0.01, 0.2)), min_size=1
    ),
    st.floats(0, 1),
)
def test_a_confidence_changes_no_box(boxes: list[tuple[float, ...]], confidence: float) -> None:
    plain, _ = read("\n".join(line(*box) for box in boxes))
    predicted, problems = read("\n".join(line(*box, confidence) for box in boxes))
    assert predicted.boxes.tolist() == plain.boxes.tolist()
    assert len(problems) == len(boxes)
