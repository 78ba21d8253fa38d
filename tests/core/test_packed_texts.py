"""Packed texts are the texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.packed_texts import PackedTexts, ragged_rows

texts = st.lists(st.text(st.characters() | st.characters(categories=["Cs"]), max_size=8), max_size=12)


@given(texts)
def test_texts_come_back_one_by_one_and_together(given_texts: list[str]) -> None:
    packed = PackedTexts.of(given_texts)
    assert len(packed) == len(given_texts)
    assert list(packed) == given_texts
    assert [packed[index] for index in range(-len(packed), len(packed))] == given_texts * 2
    assert list(packed[1:-1]) == given_texts[1:-1]


@given(texts, texts)
def test_joined_texts_follow_each_other(first: list[str], second: list[str]) -> None:
    parts = [PackedTexts.of(part) for part in (first, [], second)]
    assert list(PackedTexts.joined(parts)) == first + second


@given(texts.filter(bool), st.data())
def test_chosen_texts_come_in_the_chosen_order(given_texts: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(given_texts) - 1)))
    assert list(PackedTexts.of(given_texts).take(np.array(chosen, dtype=np.int64))) == [given_texts[i] for i in chosen]


def test_an_index_beyond_the_end_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        PackedTexts.of(["a"])[1]


def test_rows_of_runs() -> None:
    rows, starts = ragged_rows(np.array([0, 2, 2, 5]), np.array([2, 1, 0, 2]))
    assert rows.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    assert starts.tolist() == [0, 3, 3, 5, 8]
