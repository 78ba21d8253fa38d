from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.report.charts import (
    BOTTOM,
    DIGIT,
    FIRST,
    LAST,
    LEFT,
    LONGEST_NAME,
    PHONE_TEXT,
    RIGHT,
    SMALL_WIDTH,
    TEXT,
    TOP,
    WIDTH,
    Chart,
    Dots,
    round_numbers,
    short_number,
)
from detdistill.report.page_layout import CHART_WIDEST, DESK, LEAST_TEXT, PHONE, content_width, grid_width

FINITE = st.floats(-1e9, 1e9, allow_nan=False)


def test_points_lie_where_the_numbers_of_the_axes_say() -> None:
    chart = Chart("step", "loss", {"one": [(0, 0), (100, 10), (50, 5)], "broken": [(25, math.nan), (75, 2.5)]})
    (_, one), (_, broken) = chart.paths
    assert one == f"{LEFT:.1f},{BOTTOM:.1f} {RIGHT:.1f},{TOP:.1f} {(LEFT + RIGHT) / 2:.1f},{(TOP + BOTTOM) / 2:.1f}"
    assert broken == f"{LEFT + 0.75 * (RIGHT - LEFT):.1f},{BOTTOM - 0.25 * (BOTTOM - TOP):.1f}"
    assert chart.x_ticks[0] == (LEFT, "0")
    assert chart.x_ticks[-1] == (RIGHT, "100")
    assert chart.y_ticks[0] == (BOTTOM, "0")
    assert chart.y_ticks[-1] == (TOP, "10")


def test_a_chart_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(DetdistillError, match="no finite point"):
        Chart("step", "loss", {"one": [(0, math.inf)], "two": []})
    with pytest.raises(DetdistillError, match="5 lines; four"):
        Chart("step", "loss", {str(line): [(0, 0)] for line in range(5)})


@given(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.one_of(st.just(0.0), st.floats(1e-3, 1e6, allow_nan=False)),
)
def test_round_numbers_enclose_the_range_closely(lowest: float, spread: float) -> None:
    highest = lowest + spread
    numbers = round_numbers(lowest, highest)
    step = numbers[1] - numbers[0]
    slack = 1e-6 * step
    assert numbers[0] <= lowest + slack
    assert numbers[-1] >= highest - slack
    assert numbers[0] > lowest - step - slack
    assert numbers[-1] < highest + 2 * step + slack
    assert 2 <= len(numbers) <= 7
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert any(mantissa == pytest.approx(round_step, rel=1e-3) for round_step in (1, 2, 5))


def test_dots_stand_where_the_axis_says() -> None:
    dots = Dots("AP", {"a": [10.0, 20.0], "b": []}, {"a": (10.0, 15.0, 20.0)}, ("teacher", 30.0))
    assert [text for _, text in dots.ticks] == ["10", "15", "20", "25", "30"]
    assert (dots.place(10), dots.place(20), dots.place(30)) == (FIRST, 50, LAST)
    with pytest.raises(DetdistillError, match="dots of AP: there is no value to draw"):
        Dots("AP", {"a": []}, {})


@settings(max_examples=60)
@given(
    st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=5),
    st.one_of(st.none(), FINITE),
    st.booleans(),
)
def test_everything_lies_inside_the_axes(
    points: list[tuple[float, float]], reference: float | None, small: bool
) -> None:
    named = None if reference is None else ("teacher", reference)
    chart = Chart("step", "loss", {"one": points}, reference=named, small=small)
    for x, y in [chart.place(point) for point in points]:
        assert chart.left - 1e-6 <= x <= chart.right + 1e-6
        assert TOP - 1e-6 <= y <= chart.bottom + 1e-6
    assert reference is None or TOP - 1e-6 <= (chart.reference_y or 0) <= chart.bottom + 1e-6
    texts = [text for _, text in chart.y_ticks]
    assert len(set(texts)) == len(texts)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=5, unique=True))
def test_an_axis_of_counts_goes_from_0_to_the_last_one_in_whole_numbers(steps: list[int]) -> None:
    chart = Chart("step", "loss", {"one": [(step, 0.5) for step in steps]}, counts=True)
    assert chart.x_ticks[0] == (chart.left, "0")
    assert chart.place((max(steps), 0.5))[0] == pytest.approx(chart.right)
    assert all(tick == int(tick) for tick in chart.ticks[0])
    assert all(x <= chart.right + 1e-6 for x, _ in chart.x_ticks)


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 1e-9, 1e9])
def test_a_value_that_is_the_only_one_has_room_around_it(value: float) -> None:
    chart = Chart("step", "loss", {"one": [(1, value), (2, value)]})
    texts = [text for _, text in chart.y_ticks]
    assert len(set(texts)) == len(texts)


def test_only_lines_with_few_points_have_dots() -> None:
    chart = Chart("x", "y", {"many": [(x, x) for x in range(100)], "few": [(1, 2), (math.nan, 1)]})
    assert [number for number, _, _ in chart.dots] == [1]


def test_a_faint_line_is_that_of_its_name() -> None:
    chart = Chart("x", "y", {"a": [(0, 0)], "b": [(1, 1)]}, faint={"b": [(0, 5), (1, 6)]})
    ((number, path),) = chart.faint_paths
    assert number == 1
    assert len(path.split()) == 2
    assert chart.ticks[1][-1] >= 6


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.05, "0.05"), (9000, "9000"), (12000, "12k"), (1.5e6, "1.5M"), (-2e4, "-20k")]
)
def test_numbers_on_axes_are_short(value: float, text: str) -> None:
    assert short_number(value) == text


def test_text_of_charts_can_be_read_at_both_widths() -> None:
    assert min(TEXT * grid_width(window) / SMALL_WIDTH for window in (PHONE, DESK)) >= LEAST_TEXT
    assert TEXT * min(CHART_WIDEST, content_width(DESK)) / WIDTH >= LEAST_TEXT
    assert PHONE_TEXT * content_width(PHONE) / WIDTH >= LEAST_TEXT


@given(st.lists(FINITE, min_size=1, max_size=5), FINITE)
def test_dots_and_their_reference_lie_inside_the_drawing(values: list[float], reference: float) -> None:
    dots = Dots("AP", {"a": values}, {}, ("teacher", reference))
    assert all(FIRST - 1e-6 <= dots.place(value) <= LAST + 1e-6 for value in (*values, reference))
    assert dots.reference_side == ("end" if dots.place(reference) > 50 else "start"), "its name lies inside, too"


def test_numbers_on_the_vertical_axis_have_room_on_a_phone() -> None:
    chart = Chart("step", "loss", {"one": [(0, 0.001), (1, 0.0015)]})
    longest = max(len(text) for _, text in chart.y_ticks)
    assert chart.left - 8 >= DIGIT * PHONE_TEXT * longest


def test_a_long_name_of_a_row_is_shortened() -> None:
    ((name, shown, values),) = Dots("AP", {"n" * 100: [1.0]}, {}).rows
    assert (len(name), values) == (100, [1.0])
    assert len(shown) <= LONGEST_NAME
