from __future__ import annotations

import base64
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.report.html import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Chart,
    Code,
    Dots,
    Picture,
    Section,
    Table,
    Text,
    round_numbers,
)
from detdistill.report.html import write_report as write

NASTY = '<script>alert("x")</script> & {{ title }}'


class Page(HTMLParser):
    """What a browser makes of a page: elements with their attributes, and the text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_with(tmp_path: Path, *parts: Text | Code | Table | Picture | Chart) -> Page:
    file = tmp_path / "page.html"
    write(file, title="A title", summary=["In short."], sections=[Section("A heading", parts)])
    return Page(file)


def test_texts_stand_as_they_are_given(tmp_path: Path) -> None:
    table = Table(("name", "AP"), [(NASTY, "12.3"), ("other", "–")], NASTY)
    page = page_with(tmp_path, Text(NASTY), Code(NASTY), table)
    assert page.of("script") == []
    assert page.text.count(NASTY) == 4
    assert all(words in page.text for words in ("A title", "In short.", "A heading", "12.3", "–"))
    assert len(page.of("td")) == 4


def test_one_finding_is_a_paragraph_and_several_are_a_list(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write(file, title="t", summary=["One.", NASTY], sections=[])
    page = Page(file)
    assert len(page.of("li")) == 2
    assert NASTY in page.text
    assert page_with(tmp_path).of("li") == []


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    page = page_with(tmp_path, Picture(b"\x89PNG", "a cat", "Below."), Chart("step", "loss", {"one": [(0, 1), (1, 0)]}))
    (picture,) = page.of("img")
    assert picture["alt"] == "a cat"
    assert base64.b64decode(str(picture["src"]).removeprefix("data:image/png;base64,")) == b"\x89PNG"
    addresses = [
        value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")
    ]
    assert all(str(address).startswith("data:") for address in addresses)
    assert page.of("link") == []


def test_a_chart_has_a_line_and_a_name_for_each_series(tmp_path: Path) -> None:
    page = page_with(tmp_path, Chart("step", "loss", {"alone": [(0, 2), (100, 1)], "taught": [(0, 2), (100, 0.5)]}))
    assert len(page.of("polyline")) == 2
    assert all(words in page.text for words in ("alone", "taught", "step", "loss"))


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


def test_a_page_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match="cannot be written"):
        write(tmp_path / "missing" / "page.html", title="", summary=[], sections=[])


def test_dots_stand_where_the_axis_says() -> None:
    dots = Dots("AP", {"a": [10.0, 20.0], "b": []}, {"a": (10.0, 15.0, 20.0)}, ("teacher", 30.0))
    assert [text for _, text in dots.ticks] == ["10", "15", "20", "25", "30"]
    assert (dots.place(10), dots.place(30)) == (dots.left, dots.right)
    assert dots.place(20) == (dots.left + dots.right) / 2
    with pytest.raises(DetdistillError, match="dots of AP: there is no value to draw"):
        Dots("AP", {"a": []}, {})


def test_a_page_with_dots_has_one_for_each_value(tmp_path: Path) -> None:
    dots = Dots("AP", {"<a>": [1.0, 2.0], "b": [3.0]}, {"b": (2.5, 3.0, 3.5)}, caption="seeds")
    write(tmp_path / "page.html", title="t", summary=["s"], sections=[Section("h", [dots])])
    page = (tmp_path / "page.html").read_text()
    assert page.count("<circle") == 3
    assert "&lt;a&gt;" in page
    assert "seeds" in page
