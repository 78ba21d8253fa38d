from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.texts import printable
from detdistill.deploy.markdown import Markdown, code, finalized, front_matter, plain, plain_name

ANY = st.text(st.characters(codec=None)) | st.text("a`|<>&*_[]()!#\\\n\r\t ~:/@-.")
UNESCAPED = re.compile(r"(?<!\\)(?:\\\\)*[|`*\[\]!]")
TEXT = st.text().map(printable)
LICENSES = ["mit\nevil: 1", "a: b", "- a", "no", "'", '"', "---", "#", "{{x}}", "!!set"]


@given(ANY)
def test_a_plain_text_is_nothing_but_text(text: str) -> None:
    shown = plain(text)
    assert not set(shown) & set("<>\n\r\x1b\u202e")
    assert not UNESCAPED.search(shown)
    assert "://" not in shown
    assert re.fullmatch(r"(?:[^&]|&(?:lt|gt|amp|#\d+);)*", shown)


@given(ANY)
def test_code_ends_where_it_should(text: str) -> None:
    shown = code(text)
    fence = re.match("`+", shown)
    assert fence is not None
    assert shown.endswith(fence[0])
    inside = shown[len(fence[0]) : -len(fence[0])]
    assert len(fence[0]) not in {len(run) for run in re.findall("`+", inside)}
    assert not set(shown) & set("|\n\r")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a | b\n# c", r"a \| b\\n\# c"),
        ("![x](http://a.b)", r"\!\[x\](http&#58;&#47;&#47;a.b)"),
        ("traffic_light 2-way", "traffic_light 2-way"),
        ("Zürich 猫", "Zürich 猫"),
    ],
)
def test_what_is_escaped(text: str, shown: str) -> None:
    assert plain(text) == shown == finalized(text)


def test_markdown_stays_and_names_are_bounded() -> None:
    assert finalized(Markdown("**bold**")) == "**bold**"
    assert finalized(3) == 3
    assert len(plain_name("x" * 300_000)) == 80


@given(st.dictionaries(st.text("abc", min_size=1), TEXT | st.lists(TEXT)))
def test_the_header_holds_its_keys_and_no_others(values: dict[str, Any]) -> None:
    header = front_matter(values)
    assert header.startswith("---\n")
    assert header.endswith("\n---")
    assert yaml.safe_load(header.removeprefix("---\n").removesuffix("---")) == values


@pytest.mark.parametrize("text", LICENSES)
def test_values_of_the_header_are_quoted(text: str) -> None:
    assert next(yaml.safe_load_all(front_matter({"license": text}))) == {"license": text}
