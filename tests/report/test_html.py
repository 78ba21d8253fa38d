from __future__ import annotations

import base64
from pathlib import Path

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.report.charts import Chart, Dots
from detdistill.report.html import Bullets, Code, Facts, Grid, Matrix, Panels, Part, Picture, Section, Table, Text
from detdistill.report.html import write_report as write
from support.html_page import Page

NASTY = '<script>alert("x")</script> & {{ title }}'


def page_with(tmp_path: Path, *parts: Part) -> Page:
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


def test_a_page_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match="cannot be written"):
        write(tmp_path / "missing" / "page.html", title="", summary=[], sections=[])


def test_a_page_with_dots_has_one_for_each_value(tmp_path: Path) -> None:
    dots = Dots("AP", {"<a>": [1.0, 2.0], "b": [3.0]}, {"b": (2.5, 3.0, 3.5)}, caption="seeds")
    write(tmp_path / "page.html", title="t", summary=["s"], sections=[Section("h", [dots])])
    page = (tmp_path / "page.html").read_text()
    assert page.count("<circle") == 3
    assert "&lt;a&gt;" in page
    assert "seeds" in page


def test_parts_of_all_kinds_are_escaped(tmp_path: Path) -> None:
    chart = Chart(NASTY, NASTY, {NASTY: [(0, 1)]}, NASTY, reference=(NASTY, 1), small=True)
    page = page_with(
        tmp_path,
        Facts({NASTY: NASTY}),
        Matrix(NASTY, [NASTY], [NASTY], [[3]], NASTY),
        Grid([chart, Picture(b"x", NASTY, NASTY, media="jpeg")]),
        Code(NASTY, NASTY),
        Bullets([NASTY]),
        Panels(NASTY, [Picture(b"x", NASTY, NASTY, media="jpeg")]),
        Dots(NASTY, {NASTY[:40]: [1.0]}, {}, (NASTY, 1.0), NASTY),
    )
    assert page.of("script") == []
    assert page.text.count(NASTY) == 2 + 4 + 4 + 1 + 2 + 1 + 2 + 3
    for image in page.of("img"):
        assert image["alt"] == NASTY
        assert str(image["src"]).startswith("data:image/jpeg;base64,")


def test_characters_that_cannot_be_seen_are_replaced(tmp_path: Path) -> None:
    page = page_with(tmp_path, Text("a\x00b\x1bc\ud800d\u202ee\tf\ng é 中"))
    assert "a�b�c�d�e\tf\ng é 中" in page.text


def test_only_a_page_that_is_still_written_reloads_itself(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write(file, title="t", summary=["s"], sections=[], reload_every=30)
    assert {"http-equiv": "refresh", "content": "30"} in Page(file).of("meta")
    write(file, title="t", summary=["s"], sections=[])
    assert not any("http-equiv" in meta for meta in Page(file).of("meta"))


def test_cells_of_a_matrix_tell_their_share_of_the_row() -> None:
    matrix = Matrix("", ["a", "b"], ["a", "b"], [[3, 1], [0, 0]])
    assert matrix.cells == [("a", [(3, 75, "right"), (1, 25, "wrong")]), ("b", [(0, 0, "wrong"), (0, 0, "right")])]


def test_long_tables_scroll_in_their_own_box(tmp_path: Path) -> None:
    for rows, is_tall in ((30, False), (31, True)):
        page = page_with(tmp_path, Table(["a"], [["x"]] * rows))
        assert ["tall" in str(box["class"]) for box in page.of("div")] == [is_tall]


def test_a_single_point_is_drawn(tmp_path: Path) -> None:
    page = page_with(tmp_path, Chart("step", "loss", {"one": [(1, 0.5)]}, counts=True, small=True))
    assert len(page.of("circle")) == 1


def test_only_tables_scroll_sideways(tmp_path: Path) -> None:
    picture = Picture(b"x", "wide")
    line = Chart("step", "loss", {"one": [(0, 1)]})
    page = page_with(tmp_path, picture, line, Dots("AP", {"a": [1.0]}, {}), Panels("h", [picture]), Grid([picture]))
    assert [str(box["class"]) for box in page.of("div")] == ["panels", "grid"]
    page = page_with(tmp_path, Table(["a"], [["1"]]), Matrix("", ["a"], ["a"], [[1]]))
    assert [str(box["class"]) for box in page.of("div")] == ["scroll", "scroll"]
    assert all(box["tabindex"] == "0" for box in page.of("div")), "keys scroll, too"


@pytest.mark.parametrize(
    ("columns", "cell", "hint"),
    [(2, "12.3", None), (7, "12.3 +- 4.5", "phone"), (30, "12.3", "always")],
)
def test_a_table_wider_than_the_page_has_a_hint(tmp_path: Path, columns: int, cell: str, hint: str | None) -> None:
    table = Table(["AP"] * columns, [[cell] * columns])
    assert table.hint == hint
    hints = [str(text["class"]) for text in page_with(tmp_path, table).of("p") if "hint" in str(text.get("class"))]
    assert hints == ([] if hint is None else [f"hint {hint}"])


def test_a_long_first_column_needs_no_hint_on_a_phone_because_it_is_wrapped() -> None:
    assert Table(["", "AP"], [["n" * 60, "12.3"]]).hint is None
    assert Table(["AP", ""], [["12.3", "n" * 60]]).hint == "phone"


def test_a_matrix_of_many_classes_has_a_hint() -> None:
    assert [Matrix("", names, names, [[0] * len(names)] * len(names)).hint for names in (["a"] * 3, ["a"] * 12)] == [
        None,
        "phone",
    ]


def test_panels_show_each_picture_with_its_name(tmp_path: Path) -> None:
    pictures = [Picture(b"x", f"image {name}", name) for name in ("truth", "teacher", "student")]
    page = page_with(tmp_path, Panels("First", pictures, large_first=True))
    assert [image["alt"] for image in page.of("img")] == ["image truth", "image teacher", "image student"]
    assert len(page.of("figcaption")) == 3
    assert [str(box["class"]) for box in page.of("div")] == ["panels large-first"]


def test_dots_stand_at_shares_of_the_width(tmp_path: Path) -> None:
    page = page_with(tmp_path, Dots("AP", {"a": [1.0, 4.0]}, {"a": (1.0, 2.0, 3.0)}, ("teacher", 5.0)))
    (drawing,) = page.of("svg")
    assert "viewbox" not in drawing, "text keeps its size on a phone"
    places = [
        str(each[key]) for tag, key in (("circle", "cx"), ("line", "x1"), ("line", "x2")) for each in page.of(tag)
    ]
    assert all(place.endswith("%") and 0 <= float(place[:-1]) <= 100 for place in places)
