from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from detdistill.data.sampling import even_shares, sample, shuffled

NAMES = st.lists(st.text(alphabet="abc/.", max_size=6), max_size=30, unique=True)


@given(NAMES, st.integers(0, 40))
def test_a_sample_depends_on_names_alone_and_grows(names: list[str], count: int) -> None:
    chosen = sample(names, count, str)
    assert len(chosen) == min(count, len(names))
    assert chosen == [name for name in names if name in set(chosen)], "in their order, each once"
    assert set(chosen) <= set(sample(names, count + 1, str))
    assert set(chosen) == set(sample(names[::-1], count, str))


def test_a_sample_of_sorted_files_holds_every_class() -> None:
    names = [f"{label}/{number:04d}.jpg" for label in "abcde" for number in range(200)]
    counts = {label: sum(name.startswith(label) for name in sample(names, 50, str)) for label in "abcde"}
    assert min(counts.values()) >= 3


@given(NAMES)
def test_shuffling_depends_on_names_alone(names: list[str]) -> None:
    assert sorted(shuffled(names, str)) == sorted(names)
    assert shuffled(names, str) == shuffled(names[::-1], str)


@given(st.integers(0, 50), st.integers(1, 12))
def test_even_shares_cover_the_range_in_order_and_differ_by_one(count: int, shares: int) -> None:
    ranges = even_shares(count, shares)
    assert [place for share in ranges for place in share] == list(range(count))
    lengths = [len(share) for share in ranges]
    assert len(lengths) == shares
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] - lengths[-1] <= 1
