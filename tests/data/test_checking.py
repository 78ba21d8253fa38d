"""What training refuses, and what it notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable
from detdistill.core.errors import LeftOutError, Problem
from detdistill.core.image_options import ImageOptions
from detdistill.data.checking import (
    Checks,
    below_one_pixel,
    check_left_out,
    reading_note,
    resizing_problems,
    training_problems,
    usability_problems,
    validation_problems,
)
from detdistill.data.transforms import EvaluationTransform, Sample


def record(
    *sides: float, size: tuple[int, int] = (100, 200), crowd: bool = False, difficult: bool = False
) -> ImageRecord:
    """An image of a height and width, with square objects of class 0."""
    count = len(sides)
    boxes = np.array([(10, 10, 10 + side, 10 + side) for side in sides]).reshape(-1, 4)
    return ImageRecord(
        image_id="a",
        path=Path("a.png"),
        file_name="a.png",
        height=size[0],
        width=size[1],
        boxes=boxes.astype(np.float64),
        labels=np.zeros(count, np.int64),
        areas=np.ones(count),
        crowd=np.full(count, crowd),
        difficult=np.full(count, difficult),
    )


def dataset_of(*records: ImageRecord, left_out: int = 0, classes: tuple[str, ...] = ("a",)) -> DetectionDataset:
    problems = [Problem(f"x: {number}", "bad", outcome="left out", unit="annotation") for number in range(left_out)]
    return DetectionDataset("x", classes, tuple(range(len(classes))), ImageTable.of(records), tuple(problems))


@pytest.mark.parametrize(("left_out", "is_error"), [(0, False), (1, False), (2, True), (90, True)])
def test_at_most_a_tenth_may_be_left_out(left_out: int, is_error: bool) -> None:
    dataset = dataset_of(record(*[20] * 9), left_out=left_out)
    assert dataset.annotated == 9 + left_out
    if is_error:
        with pytest.raises(LeftOutError) as caught:
            check_left_out(dataset)
        assert (caught.value.left_out, caught.value.annotated) == (left_out, 9 + left_out)
    else:
        check_left_out(dataset)


def test_only_annotations_that_were_left_out_count() -> None:
    other = [
        Problem("x", "noted", unit="annotation", count=50),
        Problem("x", "changed", outcome="changed", unit="annotation", count=50),
        Problem("x", "no XML", outcome="left out", unit="image", count=50),
    ]
    dataset = replace(dataset_of(record(20, crowd=True), record(20, difficult=True)), problems=tuple(other))
    assert dataset.left_out == ()
    check_left_out(dataset)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0.02, 60), st.floats(0.02, 60)), min_size=1),
    st.tuples(st.integers(64, 300), st.integers(64, 300)),
    st.integers(4, 120),
    st.booleans(),
)
def test_the_same_objects_are_lost_as_in_training(
    sides: list[tuple[float, float]], size: tuple[int, int], side: int, letterbox: bool
) -> None:
    options = ImageOptions(short_side=side, long_side=2 * side, letterbox=side if letterbox else None)
    boxes = np.array([(1, 1, 1 + width, 1 + height) for width, height in sides])
    annotated = replace(record(*[1] * len(sides), size=size), boxes=boxes)
    sample = Sample(
        image=torch.zeros(3, *size, dtype=torch.uint8),
        boxes=torch.from_numpy(boxes).float(),
        labels=torch.arange(len(sides)),
        crowd=torch.zeros(len(sides), dtype=torch.bool),
        difficult=torch.zeros(len(sides), dtype=torch.bool),
    )
    kept = EvaluationTransform(options)(sample).labels.tolist()
    height, width = options.fitted(size)
    resized = (boxes[:, 2:] - boxes[:, :2]) * (width / size[1], height / size[0])
    clear = (np.abs(resized - 1) > 1e-4).all(axis=1)  # float32 may round the others either way
    lost = below_one_pixel(ImageTable.of([annotated]), options)
    assert [n for n in range(len(sides)) if clear[n] and not lost[n]] == [n for n in kept if clear[n]]


@pytest.mark.parametrize(
    ("small", "accept", "fatal"), [(0, False, None), (1, False, False), (2, False, True), (2, True, False)]
)
def test_more_than_a_tenth_below_one_pixel_is_fatal(small: int, accept: bool, fatal: bool | None) -> None:
    dataset = dataset_of(record(*[20] * (10 - small), *[5] * small))
    # At 100 x 200 pixels resized to 15 x 30, 5 px become 0.75 px.
    found = resizing_problems(dataset, ImageOptions(15, 30), difficult=False, accept_left_out=accept)
    assert [(problem.fatal, problem.count, problem.unit) for problem in found] == (
        [] if fatal is None else [(fatal, small, "object")]
    )


@pytest.mark.parametrize("skipped", [record(1, crowd=True), record(1, difficult=True)])
def test_objects_that_training_skips_are_not_lost(skipped: ImageRecord) -> None:
    dataset = dataset_of(record(20), skipped)
    assert resizing_problems(dataset, ImageOptions(15, 30), difficult=False, accept_left_out=False) == []


def problems_of(dataset: DetectionDataset, *, difficult: bool = False) -> list[Problem]:
    return training_problems(dataset, ImageOptions(), difficult=difficult, accept_left_out=False)


def test_nothing_to_train_on_is_fatal() -> None:
    for dataset in (dataset_of(record()), dataset_of(record(20, crowd=True)), dataset_of(record(20, difficult=True))):
        assert [problem.fatal for problem in problems_of(dataset)] == [True]
    assert problems_of(dataset_of(record(20, difficult=True)), difficult=True) == []


def test_a_class_without_objects_is_noted() -> None:
    (problem,) = problems_of(dataset_of(record(20), classes=("a", "b")))
    assert (problem.fatal, problem.unit, problem.count) == (False, "class", 1)
    assert "'b'" in problem.what


def test_a_validation_set_needs_objects_of_known_classes() -> None:
    dataset = dataset_of(record(20), classes=("a", "b"))
    assert validation_problems(dataset, ("b", "a", "c")) == []
    assert validation_problems(dataset) == []
    assert [(problem.fatal, problem.unit) for problem in validation_problems(dataset, ("a",))] == [(True, "class")]
    assert [problem.fatal for problem in validation_problems(dataset_of(record()))] == [True]


@pytest.mark.parametrize("accept", [False, True])
def test_all_rules_are_applied(accept: bool) -> None:
    dataset = dataset_of(record(5, 5), left_out=9)
    checks = Checks(ImageOptions(15, 30), accept_left_out=accept)
    found = usability_problems(dataset, checks, held_out=False, classes=None)
    assert [problem.fatal for problem in found] == ([False] if accept else [True, True])
    # Held-out objects below one pixel do not keep a detector from being trained.
    held_out = usability_problems(dataset, checks, held_out=True, classes=("b",))
    assert [problem.fatal for problem in held_out] == ([True, False] if accept else [True, True, False])


def test_a_note_counts_what_happened() -> None:
    assert reading_note(dataset_of(record(20)), "set") is None
    note = reading_note(dataset_of(record(20), left_out=2), "set")
    assert note is not None
    assert "2 annotations left out" in note
    assert "data inspect set" in note
