from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.cli.overrides import split_overrides, with_overrides
from detdistill.core.errors import SettingsError

KEYS = {"data", "batch_size", "seed", "schedule", "distill"}


def test_keys_are_taken_out_of_the_other_words() -> None:
    words = [
        "recipe.yaml",
        "--schedule.epochs",
        "3",
        "--out",
        "run",
        "--batch-size=4",
        "--resume",
        "--a.b=c=d",
        "--seed",
        "-1",
    ]
    rest, found = split_overrides(words, KEYS)
    assert rest == ["recipe.yaml", "--out", "run", "--resume"]
    assert found == [("schedule.epochs", "3"), ("batch-size", "4"), ("a.b", "c=d"), ("seed", "-1")]


@pytest.mark.parametrize("words", [["--schedule.epochs"], ["--seed", "--out"]])
def test_a_key_needs_a_value(words: list[str]) -> None:
    with pytest.raises(SettingsError, match=words[0]):
        split_overrides(words, KEYS)


@pytest.mark.parametrize(
    ("key", "text", "values"),
    [
        ("schedule.epochs", "3", {"schedule": {"epochs": 3}}),
        ("optimization.learning_rate", "0.5", {"optimization": {"learning_rate": 0.5}}),
        ("optimization.learning_rate", "1e-3", {"optimization": {"learning_rate": 1e-3}}),
        ("optimization.ema", "null", {"optimization": {"ema": None}}),
        ("data.cache", "true", {"data": {"cache": True}}),
        ("data.val", "no", {"data": {"val": "no"}}),
        ("data.val", "on", {"data": {"val": "on"}}),
        ("data.path", "a: b #c", {"data": {"path": "a: b #c"}}),
        ("data.path", "*.jpg", {"data": {"path": "*.jpg"}}),
        ("data.path", "'3'", {"data": {"path": "3"}}),
        ("schedule.milestones", "[8, 11]", {"schedule": {"milestones": [8, 11]}}),
        ("images.scale-jitter", "[0.7,1.4]", {"images": {"scale_jitter": [0.7, 1.4]}}),
        ("detector.kind", "torchvision", {"detector": {"kind": "torchvision"}}),
        ("detector.pyramid.channels", "64", {"detector": {"pyramid": {"channels": 64}}}),
        ("distill.terms", "a, b", {"distill": {"terms": {"a": {}, "b": {}}}}),
        ("batch-size", "8", {"batch_size": 8}),
    ],
)
def test_values_are_yaml(key: str, text: str, values: dict[str, Any]) -> None:
    assert with_overrides({}, [(key, text)]) == values


def test_a_key_that_is_given_twice_has_the_last_value() -> None:
    assert with_overrides({"seed": 1}, [("seed", "2"), ("seed", "3")]) == {"seed": 3}


def test_a_key_is_in_a_group() -> None:
    assert with_overrides({"schedule": None}, [("schedule.epochs", "2")]) == {"schedule": {"epochs": 2}}
    with pytest.raises(SettingsError, match=r"--schedule\.epochs: schedule must be a group"):
        with_overrides({"schedule": 3}, [("schedule.epochs", "2")])


def test_groups_are_merged_and_the_given_values_stay_as_they_are() -> None:
    values: dict[str, Any] = {"schedule": {"epochs": 5, "decay": "cosine"}, "detector": {"options": {"a": 1}}}
    changed = with_overrides(values, [("schedule", "{epochs: 3}"), ("detector.options", "{b: 2}")])
    assert changed == {"schedule": {"epochs": 3, "decay": "cosine"}, "detector": {"options": {"b": 2}}}
    assert values["schedule"]["epochs"] == 5


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(plain | st.lists(plain))
def test_json_values_come_back(value: Any) -> None:
    found = with_overrides({}, [("a.b", json.dumps(value))])["a"]["b"]
    assert found == value
    assert type(found) is type(value)
