"""Files whose boxes are written in another form are recognised; sound ones are never taken for such."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.data.box_forms import Form, within_first_pixel, wrong_form

FORMS = st.sampled_from(["corners", "sides"])


def boxes_of(count: int, seed: int, width: int = 640, height: int = 480) -> tuple[Any, Any]:
    """Boxes `(n, 4)` all over images, and the images' sizes `(n, 2)`."""
    random = np.random.default_rng(seed)
    size = np.array([width, height])
    start = random.uniform(0, 0.9, (count, 2))
    end = start + random.uniform(0.02, 1, (count, 2)) * (1 - start)
    return np.concatenate([start, end], axis=1) * np.tile(size, 2), np.tile(size, (count, 1))


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(0, 2**32), FORMS)
def test_sound_boxes_are_in_the_right_form(count: int, seed: int, form: Form) -> None:
    boxes, sizes = boxes_of(count, seed)
    assert wrong_form(boxes, sizes, form) is None
    assert not within_first_pixel(boxes, sizes).any()


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(0, 2**32), FORMS)
def test_fractions_are_recognised(count: int, seed: int, form: Form) -> None:
    boxes, sizes = boxes_of(count, seed)
    fault = wrong_form(boxes / np.tile(sizes, 2), sizes, form)
    assert fault is not None
    assert fault.certain
    assert within_first_pixel(boxes / np.tile(sizes, 2), sizes).all()


@settings(max_examples=40)
@given(st.integers(40, 60), st.integers(0, 2**32), FORMS)
def test_percent_are_recognised(count: int, seed: int, form: Form) -> None:
    boxes, sizes = boxes_of(count, seed)
    fault = wrong_form(100 * boxes / np.tile(sizes, 2), sizes, form)
    assert fault is not None
    assert fault.certain
    # Images of 100 pixels have such boxes.
    assert wrong_form(100 * boxes / np.tile(sizes, 2), np.full_like(sizes, 100), form) is None


@settings(max_examples=40)
@given(st.integers(20, 60), st.integers(0, 2**32))
def test_corners_in_place_of_sides_are_recognised(count: int, seed: int) -> None:
    boxes, sizes = boxes_of(count, seed)
    read = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    fault = wrong_form(read, sizes, "sides")
    assert fault is not None
    assert fault.certain


@settings(max_examples=40)
@given(st.integers(20, 60), st.integers(0, 2**32))
def test_sides_in_place_of_corners_are_recognised(count: int, seed: int) -> None:
    boxes, sizes = boxes_of(count, seed)
    boxes[:, 2:] = boxes[:, :2] + (boxes[:, 2:] - boxes[:, :2]) * 0.3  # small objects, as most are
    read = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    fault = wrong_form(read, sizes, "corners")
    assert fault is not None
    assert fault.certain


@pytest.mark.parametrize("form", ["corners", "sides"])
def test_few_swapped_boxes_are_no_other_form(form: Form) -> None:
    boxes, sizes = boxes_of(20, 0)
    boxes[:5] = boxes[:5][:, [2, 3, 0, 1]]
    assert wrong_form(boxes, sizes, form) is None


def test_whole_numbers_within_the_first_pixel_are_doubtful_only() -> None:
    fault = wrong_form(np.array([[0.0, 0, 1, 1]] * 3), np.array([[640, 480]] * 3), "corners")
    assert fault is not None
    assert not fault.certain


def test_fractions_as_a_form_and_no_boxes_are_not_examined() -> None:
    assert wrong_form(np.array([[0.1, 0.1, 0.2, 0.2]]), np.array([[640, 480]]), "fractions") is None
    assert wrong_form(np.zeros((0, 4)), np.zeros((0, 2)), "corners") is None
