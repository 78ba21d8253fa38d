from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from detdistill.core.errors import SettingsError
from detdistill.core.image_options import ImageOptions
from detdistill.core.settings import from_values
from detdistill.detectors.description import Description
from detdistill.training.recipe import Recipe


def numbers(schema: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number of a JSON schema, with the field that it belongs to."""
    if isinstance(schema, list):
        for part in schema:
            yield from numbers(part, place)
    if not isinstance(schema, dict):
        return
    if schema.get("type") in ("integer", "number"):
        yield place, schema
    for key, part in schema.items():
        if key in ("properties", "$defs"):
            for name, inner in part.items():
                yield from numbers(inner, f"{place}.{name}")
        elif key not in ("default", "enum", "const"):
            yield from numbers(part, place)


@pytest.mark.parametrize("kind", [Recipe, Description])
def test_every_number_is_bounded_on_both_sides(kind: type) -> None:
    found = list(numbers(TypeAdapter(kind).json_schema(), kind.__name__))
    assert len(found) > 10
    unbounded = [
        place
        for place, schema in found
        if not (schema.keys() & {"minimum", "exclusiveMinimum"} and schema.keys() & {"maximum", "exclusiveMaximum"})
    ]
    assert unbounded == []


@pytest.mark.parametrize("key", ["short_side", "long_side", "letterbox"])
@given(side=st.integers(min_value=8_193) | st.integers(max_value=0))
def test_no_side_beyond_the_bounds(key: str, side: int) -> None:
    with pytest.raises(SettingsError, match=f"images.{key}"):
        from_values(ImageOptions, {key: side}, key="images")


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"seed": 2**70}, "seed"),
        ({"seed": 16**5_000}, "seed"),
        ({"batch_size": 2**64}, "batch_size"),
        ({"optimization": {"learning_rate": 1e300}}, "optimization.learning_rate"),
        ({"schedule": {"milestones": [10**30]}}, r"schedule.milestones\[0\]"),
        ({"data": {"path": "\ud800"}}, "data.path"),
        ({"distill": {"teacher": "t", "class_map": {"a": "b\udfff"}}}, "distill.class_map.a"),
        ({"distill": {"teacher": "t", "class_map": {"\ud800": "b"}}}, "distill.class_map"),
        ({"distill": {"teacher": "t", "terms": {"hint": {"weight": 16**5_000}}}}, "distill.terms.hint.weight"),
        ({("a", "b"): 1}, "key"),
    ],
)
def test_impossible_values_are_errors_that_name_the_field(values: dict[Any, Any], place: str) -> None:
    with pytest.raises(SettingsError, match=place):
        from_values(Recipe, {"data": {"path": "folder"}, **values})


def test_deep_values_are_an_error() -> None:
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(SettingsError, match="levels"):
        from_values(Recipe, {"data": {"path": "folder"}, "distill": {"teacher": "t", "terms": {"hint": {"a": deep}}}})
