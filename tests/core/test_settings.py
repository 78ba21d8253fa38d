from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, asdict, field, replace
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, PositiveInt, model_validator

from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.settings import from_values, keys, settings, to_values


@settings
class Inner:
    """Inner settings."""

    depth: PositiveInt = 4
    norm: Literal["group", "none"] = "group"
    ema: float | None = None


@settings
class Round:
    """A kind."""

    kind: Literal["round", "oval"] = "round"
    radius: float = 1.0


@settings
class Square:
    """Another kind."""

    side: int
    kind: Literal["square"] = "square"


@settings
class Outer:
    """Settings with everything."""

    name: str
    width: float = 1.0
    sides: tuple[float, float] = (1.0, 2.0)
    strides: tuple[int, ...] = (8, 16)
    cached: bool = False
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = None
    shape: Annotated[Round | Square, Field(discriminator="kind")] = field(default_factory=Round)
    options: Mapping[str, bool | int | float] = field(default_factory=dict)
    anything: Mapping[str, Any] = field(default_factory=dict)
    source: Annotated[str | None, Field(alias="from")] = None
    """Where from."""

    @model_validator(mode="after")
    def _agree(self) -> Outer:
        if self.width == 13:
            raise ValueError("width must not be 13")
        return self


finite = st.floats(allow_nan=False, allow_infinity=False)
inners = st.builds(Inner, st.integers(1, 10**9), st.sampled_from(("group", "none")), st.none() | finite)
outers = st.builds(
    Outer,
    name=st.text(),
    width=finite.filter(lambda width: width != 13),
    sides=st.tuples(finite, finite),
    strides=st.lists(st.integers()).map(tuple),
    inner=inners,
    other=st.none() | inners,
    shape=st.builds(Round, st.sampled_from(("round", "oval")), finite) | st.builds(Square, st.integers()),
    options=st.dictionaries(st.text(), st.booleans() | st.integers() | finite),
    anything=st.dictionaries(st.text(), st.recursive(st.none() | st.text(), st.lists, max_leaves=5)),
    source=st.none() | st.text(),
)


@given(outers)
def test_what_was_written_is_read(outer: Outer) -> None:
    assert from_values(Outer, json.loads(json.dumps(to_values(outer)))) == outer
    assert from_values(Outer, {**to_values(outer), "inner": outer.inner, "shape": outer.shape}) == outer
    assert pickle.loads(pickle.dumps(outer)) == copy.deepcopy(outer) == outer


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "name must be text, not 3"),
        ({"width": "1"}, "width must be a number, not '1'"),
        ({"width": True}, "width must be a number, not true"),
        ({"width": float("nan")}, "width must be a finite number, not nan"),
        ({"width": None}, "width must be a number, not null"),
        ({"width": 13}, "width must not be 13"),
        ({"cached": 1}, "cached must be true or false, not 1"),
        ({"sides": [1.0]}, "sides must be a list of 2, not [1.0]"),
        ({"sides": [1.0, 2.0, 3.0]}, "sides must be a list of 2, not [1.0, 2.0, 3.0]"),
        ({"sides": {"0": 1.0}}, "sides must be a list of 2, not {'0': 1.0}"),
        ({"sides": [1.0, None]}, "sides[1] must be a number, not null"),
        ({"strides": [8, 16.5]}, "strides[1] must be an integer, not 16.5"),
        ({"strides": 8}, "strides must be a list, not 8"),
        ({"inner": {"norm": "grup"}}, "inner.norm must be one of group, none, not 'grup'\ndid you mean group?"),
        ({"inner": {"norm": None}}, "inner.norm must be one of group, none, not null"),
        ({"inner": {"depth": "3"}}, "inner.depth must be an integer, not '3'"),
        ({"inner": {"depth": 0}}, "inner.depth must be greater than 0, not 0"),
        ({"inner": {"depht": 3}}, "there is no key 'inner.depht'\ndid you mean inner.depth?"),
        ({"inner": 3}, "inner must be a group of keys (depth, norm, ema), not 3"),
        ({"inner": {"ema": "half"}}, "inner.ema must be a number or null, not 'half'"),
        ({"other": {"ema": "half"}}, "other.ema must be a number or null, not 'half'"),
        ({"other": [3]}, "other must be a group of keys (depth, norm, ema) or null, not [3]"),
        ({"shape": {"kind": "rund"}}, "shape.kind must be one of round, oval, square, not 'rund'\ndid you mean round?"),
        ({"shape": {"kind": "square"}}, "shape.side is missing"),
        ({"shape": {"kind": "round", "side": 3}}, "there is no key 'shape.side'"),
        ({"shape": {"kind": "oval", "radius": "x"}}, "shape.radius must be a number, not 'x'"),
        ({"options": {"a": "yes"}}, "options.a must be true or false or an integer or a number, not 'yes'"),
        ({"options": [1]}, "options must be keys and values, not [1]"),
        ({"from": 3}, "from must be text or null, not 3"),
        ({"source": "x"}, "there is no key 'source'"),
        ({"more": 1}, "there is no key 'more'"),
        ({"old": 1}, "the key 'old' is now 'inner.depth'"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected_and_found(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_values(Outer, {"name": "a"} | change, renamed={"old": "inner.depth"})
    assert said in str(refused.value)
    assert isinstance(refused.value, DetdistillError)


def test_all_that_is_wrong_is_named_once() -> None:
    with pytest.raises(SettingsError) as refused:
        from_values(Outer, {"width": "a", "inner": {"depth": 0, "norm": 3}})
    assert [line.partition(" ")[0] for line in str(refused.value).splitlines()] == [
        "name",
        "width",
        "inner.depth",
        "inner.norm",
    ]


def test_in_python_too() -> None:
    with pytest.raises(SettingsError, match=r"^Inner: depth must be greater than 0, not 0$"):
        Inner(depth=0)
    with pytest.raises(SettingsError, match="norm"):
        replace(Inner(), norm="x")  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        Inner().depth = 3  # type: ignore[misc]
    assert Outer("a", sides=[1, 2], strides=[4]) == Outer("a", sides=(1, 2), strides=(4,))  # type: ignore[arg-type]
    assert asdict(Outer("a", source="b"))["source"] == to_values(Outer("a", source="b"))["from"] == "b"


def test_a_key_may_stand_before_the_names() -> None:
    with pytest.raises(SettingsError, match=r"^a\.b\.depth must be an integer"):
        from_values(Inner, {"depth": "x"}, key="a.b")
    with pytest.raises(SettingsError, match=r"^a\.b must be a list of 2"):
        from_values(tuple[int, int], [1], key="a.b")


def test_dotted_keys() -> None:
    found = keys(Outer)
    assert {"inner.depth", "other.ema", "shape.kind", "shape.side", "shape.radius", "from"} <= set(found)
    assert len(found) == len(set(found))


def test_an_integer_passes_for_a_number() -> None:
    width = from_values(Outer, {"name": "a", "width": 2}).width
    assert (width, type(width)) == (2.0, float)
