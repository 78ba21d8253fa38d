from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.core.errors import SettingsError
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.core.teacher_size import TeacherSize, at_ratio, at_ratio_of, canvas_at, examples

SIZES = st.tuples(st.integers(64, 500), st.integers(0, 300)).map(lambda pair: ImageSize(pair[0], sum(pair)))
RATIOS = st.fractions(Fraction(1, 2), 4, max_denominator=12)


@settings(max_examples=40)
@given(SIZES, RATIOS)
def test_a_size_at_a_ratio_has_that_ratio_up_to_rounding(size: ImageSize, ratio: Fraction) -> None:
    large = at_ratio(size, ratio)
    found = TeacherSize(short_side=large.short_side, long_side=large.long_side).ratio(size)
    assert abs(size.short_side * found - large.short_side) < 1
    assert abs(size.long_side * found - large.long_side) < 1
    assert TeacherSize(short_side=size.short_side * 2).ratio(size) == 2


@settings(max_examples=40)
@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), RATIOS)
def test_a_canvas_covers_the_other_one_and_no_more_than_needed(cells: tuple[int, int], ratio: Fraction) -> None:
    canvas = cells[0] * 32, cells[1] * 32
    for own, large in zip(canvas, canvas_at(canvas, ratio), strict=True):
        assert large % 32 == 0
        assert own * ratio <= large < own * ratio + 32


@pytest.mark.parametrize(
    ("student", "given", "ratio"),
    [
        (ImageSize(96, 96), {"short_side": 192}, 2),
        (ImageSize(96, 96), {"short_side": 192, "long_side": 192}, 2),
        (ImageSize(96, 128), {"long_side": 64}, Fraction(1, 2)),
        (ImageSize(800, 1333), {"short_side": 400, "long_side": 667}, Fraction(1, 2)),
        (ImageSize(letterbox=320), {"letterbox": 640}, 2),
        (ImageSize(letterbox=300), {"letterbox": 300}, 1),
        (ImageSize(96, 96, canvas=(96, 128)), {"short_side": 192}, 2),
        (ImageSize(96, 96, canvas=(96, 128)), {"canvas": (192, 256)}, 2),
        (ImageSize(96, 96, canvas=(96, 128)), {"short_side": 48, "canvas": (64, 64)}, Fraction(1, 2)),
    ],
)
def test_the_ratio_follows_from_what_is_given(student: ImageSize, given: Any, ratio: Fraction) -> None:
    assert TeacherSize(**given).ratio(student) == ratio


@pytest.mark.parametrize(
    ("student", "given", "names"),
    [
        (ImageSize(96, 96), {"short_side": 192, "long_side": 200}, ["long_side 200", "long_side 192"]),
        (ImageSize(96, 96), {"letterbox": 192}, ["letterbox 192", "short_side 192"]),
        (ImageSize(96, 96), {"canvas": (192, 192)}, ["canvas (192, 192)", "short_side 192"]),
        (ImageSize(letterbox=96), {"short_side": 192}, ["short_side 192", "letterbox 192"]),
        (ImageSize(96, 96, canvas=(96, 128)), {"short_side": 192, "canvas": (192, 288)}, ["canvas[1]", "[192, 256]"]),
        (ImageSize(96, 96, canvas=(96, 128)), {"letterbox": 192}, ["letterbox 192", "[192, 256]"]),
        (ImageSize(800, 1333), {"long_side": 40}, ["short_side", "24"]),
        (ImageSize(800, 1333), {"short_side": 8000}, ["long_side", "13330", "8,192"]),
    ],
)
def test_sizes_without_one_ratio_are_refused_with_one_that_has_it(
    student: ImageSize, given: Any, names: list[str]
) -> None:
    with pytest.raises(SettingsError) as refused:
        TeacherSize(**given).ratio(student)
    for name in ("distill.teacher_images", *names):
        assert name in str(refused.value)


@pytest.mark.parametrize("given", [{}, {"short_side": 31}, {"letterbox": 16}, {"canvas": (100, 100)}])
def test_sizes_that_no_image_can_have_are_refused(given: Any) -> None:
    with pytest.raises(SettingsError, match=next(iter(given), "short_side")):
        TeacherSize(**given)


def test_how_images_vary_stays() -> None:
    options = ImageOptions(96, 128, flip=0.25, scale_jitter=(0.5, 2.0))
    assert at_ratio(options, Fraction(2)) == ImageOptions(192, 256, flip=0.25, scale_jitter=(0.5, 2.0))
    assert at_ratio(options, Fraction(1)) is options
    assert at_ratio_of((3, 100), Fraction(1, 4)) == (1, 25)


def test_examples_leave_out_what_is_out_of_range() -> None:
    said = examples(ImageSize(letterbox=64), [Fraction(1, 4), 2, 200])
    assert "letterbox 128 (ratio 2)" in said
    assert "letterbox 16" not in said
    assert "12800" not in said
