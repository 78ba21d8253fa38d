from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from detdistill.training.yaml_values import read_word, read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.0e-3", 1e-3),
        (".5", 0.5),
        ("5.", 5.0),
        ("3", 3),
        ("-3", -3),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2017-01-01", "2017-01-01"),
        ("0b1", "0b1"),
        ("1e", "1e"),
    ],
)
def test_scalars_of_yaml_1_2(text: str, value: Any) -> None:
    found = read_word(text)
    assert (found, type(found)) == (value, type(value))
    found = read_yaml(f"key: {text}")["key"]
    assert (found, type(found)) == (value, type(value))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values))
def test_what_was_written_is_read_by_both_versions(written: dict[str, Any]) -> None:
    written.pop("class_map", None)
    text = write_yaml(written)
    assert read_yaml(text) == written
    assert yaml.safe_load(text) == written


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("seed: 1\nschedule:\n  epochs: 3\nseed: 2", "'seed' (lines 1 and 4)"),
        ("schedule: {epochs: 3, epochs: 4}", "'epochs' (lines 1 and 1)"),
        ("a: {b: {c: 1,\n c: 1}}", "'c' (lines 1 and 2)"),
        ("class_map: {a: b, a: c}", "'a' (lines 1 and 1)"),
    ],
)
def test_a_key_twice_is_an_error(text: str, lines: str) -> None:
    with pytest.raises(yaml.YAMLError) as refused:
        read_yaml(text)
    assert lines in str(refused.value)


def test_a_key_of_another_group_may_be_there_twice() -> None:
    assert read_yaml("a: {every: 3}\nb: {every: 4}") == {"a": {"every": 3}, "b": {"every": 4}}


@pytest.mark.parametrize(
    "text",
    [
        *["{{x}}", "a: {{x}}", "{{x}: 1}", "? [a]\n: 1", "{a: {{x}}}", "- {{ batch_size }}"],
        *[
            "!!set {a}",
            "!!omap [a: 1]",
            "!!binary aGk=",
            "!!timestamp 2020-01-01",
            "!other x",
            "!!python/name:os.system x",
        ],
        *["!!int word", "!!float word", "!!bool word", "!!null word", "!!timestamp word", "!!int ''", "!!map []"],
        *["9" * 5_000, "a: 0x" + "f" * 5_000, "1e" + "9" * 50, "-" + "9" * 41],
        *['"\\ud800"', 'a: "\\udfff"', '{"\\ud800": 1}'],
    ],
)
def test_what_no_recipe_holds_is_an_error_of_yaml(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)


@pytest.mark.parametrize(
    "word", ["9" * 5_000, "\udc80", "[" * 10_000, "{{x}}", "[&a [*a]]", '"\\ud800"', "0x" + "f" * 5_000]
)
def test_words_that_cannot_be_read(word: str) -> None:
    with pytest.raises(yaml.YAMLError):
        read_word(word)


@given(st.text())
def test_any_text_is_yaml_or_an_error_of_yaml(text: str) -> None:
    for read in (read_yaml, read_word):
        try:
            value = read(text)
        except yaml.YAMLError:
            continue
        json.dumps(value)
