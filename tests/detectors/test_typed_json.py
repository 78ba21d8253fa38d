from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.detectors.typed_json import MismatchError, from_json


@dataclass(frozen=True)
class Inner:
    depth: int = 4
    norm: Literal["group", "none"] = "group"


@dataclass(frozen=True)
class Outer:
    name: str
    width: float
    sides: tuple[float, float]
    strides: tuple[int, ...] = (8, 16)
    limits: tuple[int, int] | None = None
    inner: Inner | None = None
    options: Mapping[str, bool | int | float] = field(default_factory=dict)
    anything: Mapping[str, Any] = field(default_factory=dict)


finite = st.floats(allow_nan=False, allow_infinity=False)
outers = st.builds(
    Outer,
    name=st.text(),
    width=finite,
    sides=st.tuples(finite, finite),
    strides=st.lists(st.integers()).map(tuple),
    limits=st.none() | st.tuples(st.integers(), st.integers()),
    inner=st.none() | st.builds(Inner, st.integers(), st.sampled_from(("group", "none"))),
    options=st.dictionaries(st.text(), st.booleans() | st.integers() | finite),
    anything=st.dictionaries(st.text(), st.recursive(st.none() | st.text(), st.lists, max_leaves=5)),
)


def kinds(value: Any) -> Any:
    """The types inside: True equals 1 equals 1.0, but they are not the same option."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    return [kinds(item) for item in value] if isinstance(value, (list, tuple)) else type(value)


@given(outers)
def test_what_was_written_is_read(outer: Outer) -> None:
    read = from_json(Outer, json.loads(json.dumps(asdict(outer))))
    assert read == outer
    assert kinds(asdict(read)) == kinds(asdict(outer))


WHOLE = {"name": "a", "width": 1.0, "sides": [1.0, 2.0], "inner": {"depth": 1}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "name: 3 is not of type str"),
        ({"width": "1"}, "width: '1' is not of type float"),
        ({"width": True}, "width: True is not of type float"),
        ({"width": 10**400}, "is not of type float"),
        ({"width": float("nan")}, "width: nan is not a finite number"),
        ({"sides": [1.0]}, "sides: 1 values instead of 2"),
        ({"sides": {"0": 1.0}}, "is not a list"),
        ({"sides": [1.0, None]}, r"sides\[1\]: None is not of type float"),
        ({"strides": [8, 16.0]}, r"strides\[1\]: 16.0 is not of type int"),
        ({"inner": {"norm": "batch"}}, "inner.norm: 'batch' is none of 'group', 'none'"),
        ({"inner": {"norm": ["group"]}}, "is none of"),
        ({"inner": {"class_path": "os.system"}}, "inner: unknown field class_path"),
        ({"inner": "settings.json"}, "inner: 'settings.json' is not an object"),
        ({"options": {"a": "yes"}}, "options.a: 'yes' is not of type bool"),
        ({"options": [1]}, r"options: \[1\] is not an object"),
        ({"more": 1}, "the file: unknown field more"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(MismatchError, match=said):
        from_json(Outer, WHOLE | change)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(MismatchError, match="the file: missing field sides, width"):
        from_json(Outer, {"name": "a"})


def test_a_whole_number_passes_for_a_float() -> None:
    width = from_json(Outer, WHOLE | {"width": 2}).width
    assert (width, type(width)) == (2.0, float)
