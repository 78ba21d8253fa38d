"""The messages are jsonargparse's own: a version that words them otherwise must be seen here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from jsonargparse import ArgumentError, ArgumentParser

from detdistill.core.wrong_values import in_words


@dataclass
class Inner:
    epochs: int = 3
    decay: Literal["step", "cosine"] = "step"
    ema: float | None = None


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = None
    when: Literal[1, 2] | None = None
    sizes: tuple[int, int] | None = None
    is_cached: bool = False
    table: dict[str, dict[str, Any]] = field(default_factory=dict)
    parts: tuple[Literal["pyramid", "head"], ...] = ()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--inner.epochs", "x"], "inner.epochs: expected an integer, not x"),
        (["--inner.epochs", "1.5"], "inner.epochs: expected an integer, not 1.5"),
        (["--inner", "{epochs: x}"], "inner.epochs: expected an integer, not x"),
        (["--inner", "3"], "inner: expected keys and values, not 3"),
        (["--inner.decay", "cosin"], "inner.decay: expected one of step, cosine, not cosin\ndid you mean cosine?"),
        (["--inner.decay", "null"], "inner.decay: expected one of step, cosine, not null"),
        (["--inner.ema", "half"], "inner.ema: expected a number or null, not half"),
        (["--when", "3"], "when: expected one of 1, 2 or null, not 3"),
        (["--is_cached", "maybe"], "is_cached: expected true or false, not maybe"),
        (["--table", "{hint: 3}"], "table: expected keys and values, not 3"),
        (["--table", "[a]"], "table: expected keys and values, not ['a']"),
        (["--parts", "[neck]"], "parts: expected one of pyramid, head, not neck"),
        (["--sizes", "[3]"], "sizes: expected a list of 2 or null, not [3]"),
        (["--parts", "3"], "parts: expected a list, not 3"),
        (["--other", "{epochs: x}"], "other.epochs: expected an integer, not x"),
        (["--other.epochs", "x"], "other.epochs: expected an integer, not x"),
        (["--other.decay", "cosin"], "other.decay: expected one of step, cosine, not cosin\ndid you mean cosine?"),
        (["--other", "[3]"], "other: expected keys and values or null, not [3]"),
    ],
)
def test_what_was_expected_and_what_was_found(words: list[str], said: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Outer, None)
    with pytest.raises(ArgumentError) as refused:
        parser.parse_args(words)
    assert in_words(str(refused.value)) == said


@pytest.mark.parametrize("message", ["unrecognized arguments: --a", 'Parser key "a": no', "", "Expected a b"])
def test_other_messages_stay(message: str) -> None:
    assert in_words(message) == message
