"""Boxes are checked against their images and grouped by them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import DataError, Problem
from detdistill.data.assembly import (
    ImageEntry,
    assemble,
    image_columns,
    is_number,
    is_text,
    shown,
    to_flag,
    to_number,
)
from detdistill.data.objects import Box, ObjectList, Objects

IMAGES = image_columns([ImageEntry(number, Path(f"{number}.jpg"), f"{number}.jpg", 100, 50) for number in range(3)])


def objects_of(*boxes: tuple[int, Box]) -> Objects:
    objects = ObjectList()
    for number, (image, box) in enumerate(boxes):
        objects.add(image, number % 2, box, f"file: {number}", crowd=number == 1, difficult=number == 2)
    return objects.columns()


@pytest.mark.parametrize(
    ("box", "expected", "word"),
    [
        ((0, 0, 100, 50), (0, 0, 100, 50), None),
        ((10, 20, 30, 40), (10, 20, 30, 40), None),
        ((-0.01, 0, 100.01, 50), (0, 0, 100, 50), None),
        ((-5, 10, 20, 60), (0, 10, 20, 50), "clipped"),
        ((-1e8, -1e8, 1e8, 1e8), (0, 0, 100, 50), "clipped"),
        ((10, 10, 10, 20), None, "no area"),
        ((20, 10, 10, 20), (10, 10, 20, 20), "swapped back"),
        ((20, 60, 10, 20), (10, 20, 20, 50), "swapped back and clipped"),
        ((0.2, 0.1, 0.6, 0.9), None, "fractions"),
        ((10, 10, 20, 10.001), None, "no area"),
        ((100, 10, 120, 20), None, "outside"),
        ((-20, 10, 0, 20), None, "outside"),
        ((10, 50, 20, 60), None, "outside"),
    ],
)
def test_boxes_are_clipped_or_left_out(box: Box, expected: Box | None, word: str | None) -> None:
    sound: list[tuple[int, Box]] = [(0, (10, 10, 20, 20))] * 3
    dataset = assemble("file", ["a", "b"], [1, 2], IMAGES, objects_of((1, box), *sound), [])
    assert dataset.images[1].boxes.tolist() == ([] if expected is None else [list(expected)])
    assert [problem.where for problem in dataset.problems] == ([] if word is None else ["file: 0"])
    outcome = "left out" if expected is None else "changed"
    assert all(str(word) in problem.what and not problem.fatal for problem in dataset.problems)
    assert all((problem.outcome, problem.unit) == (outcome, "annotation") for problem in dataset.problems)
    assert (dataset.annotated, len(dataset.left_out)) == (4, expected is None)


def test_objects_go_to_their_images_in_order() -> None:
    boxes: list[tuple[int, Box]] = [(2, (0, 0, 1, 1)), (0, (0, 0, 2, 2)), (2, (0, 0, 3, 3)), (2, (5, 5, 5, 5))]
    dataset = assemble("file", ["a", "b"], [7, 9], IMAGES, objects_of(*boxes), [])
    assert [image.boxes[:, 2].tolist() for image in dataset.images] == [[2], [], [1, 3]]
    assert [image.labels.tolist() for image in dataset.images] == [[1], [], [0, 0]]
    assert [image.crowd.tolist() for image in dataset.images] == [[True], [], [False, False]]
    assert [image.difficult.tolist() for image in dataset.images] == [[False], [], [False, True]]
    assert (dataset.classes, dataset.category_ids) == (("a", "b"), (7, 9))
    for image in dataset.images:
        assert image.boxes.shape == (len(image.labels), 4)
        assert [column.dtype for column in (image.boxes, image.labels, image.crowd)] == ["float64", "int64", "bool"]


def test_the_annotated_area_counts_and_else_the_clipped_box() -> None:
    objects = ObjectList()
    objects.add(0, 0, (0, 0, 10, 10), "file: 0", area=31.5)
    objects.add(0, 0, (90, 40, 110, 60), "file: 1")
    assert assemble("file", ["a"], [1], IMAGES, objects.columns(), []).images[0].areas.tolist() == [31.5, 100]


def test_all_problems_are_in_the_error_the_fatal_ones_first() -> None:
    problems = [Problem("file: x", "small"), Problem("file: y", "large", fatal=True)]
    with pytest.raises(DataError, match="file: 1 problem makes") as caught:
        assemble("file", ["a", "b"], [1, 2], IMAGES, objects_of((0, (5, 5, 5, 5))), problems)
    assert [problem.where for problem in caught.value.problems] == ["file: y", "file: x", "file: 0"]


def test_boxes_in_another_form_are_one_fatal_problem() -> None:
    boxes: list[tuple[int, Box]] = [(0, (0.1, 0.2, 0.5, 0.6)), (1, (0.3, 0.1, 0.9, 1.0))]
    with pytest.raises(DataError) as caught:
        assemble("file", ["a", "b"], [1, 2], IMAGES, objects_of(*boxes), [])
    assert [(problem.where, problem.fatal) for problem in caught.value.problems] == [("file", True)]


def test_no_image_is_an_error() -> None:
    with pytest.raises(DataError, match="no image"):
        assemble("file", ["a"], [1], image_columns([]), ObjectList().columns(), [])


corners = st.floats(-200, 200)


@given(st.lists(st.tuples(st.integers(0, 2), st.tuples(corners, corners, corners, corners)), max_size=20))
def test_what_is_left_lies_inside_and_nothing_is_lost_unsaid(boxes: list[tuple[int, Box]]) -> None:
    try:
        dataset = assemble("file", ["a", "b"], [1, 2], IMAGES, objects_of(*boxes), [])
    except DataError:  # the boxes look as if they were written in another form
        return
    left = np.concatenate([image.boxes for image in dataset.images])
    assert (left >= 0).all()
    assert (left[:, 2:] <= (100, 50)).all()
    assert (left[:, 2:] > left[:, :2]).all()
    assert len(left) + sum(problem.outcome == "left out" for problem in dataset.problems) == len(boxes)
    assert dataset.annotated == len(boxes)


@pytest.mark.parametrize("value", [0, -3, 2.5, 10**8])
def test_numbers(value: float) -> None:
    assert is_number(value)
    assert to_number(f" {value} ") == value


@pytest.mark.parametrize("value", [True, None, "1", math.nan, math.inf, -math.inf, 10**400, 1e300, [1]])
def test_what_is_no_usable_number(value: object) -> None:
    assert not is_number(value)


@pytest.mark.parametrize("text", [None, "", "x", "nan", "inf", "1e400", "9" * 6000])
def test_texts_without_a_usable_number(text: str | None) -> None:
    assert to_number(text) is None


@pytest.mark.parametrize(
    ("text", "flag"), [("1", True), (" True ", True), ("0", False), ("", False), ("no", False), ("Unspecified", None)]
)
def test_flags_in_texts(text: str, flag: bool | None) -> None:
    assert to_flag(text) is flag


def test_texts_that_cannot_be_written_are_no_texts() -> None:
    assert is_text("Ärger 犬 🐕")
    assert not any(map(is_text, ["", "\ud83d", None, 3]))


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner)))
def test_shown_is_short_and_printable(value: object) -> None:
    nested = [value, "\ud83d\n", "x" * 10_000]
    for _ in range(20):
        nested = [nested] * 9
        assert len(shown(nested)) < 5000
    assert shown([value, "\ud83d\n"]).isprintable()
