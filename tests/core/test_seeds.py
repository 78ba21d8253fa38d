from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.seeds import derived_seed


@given(st.lists(st.integers(-5, 5) | st.text(alphabet="ab1", max_size=3), max_size=4))
def test_derived_seeds_are_seeds_and_depend_on_where_parts_end(parts: list[int | str]) -> None:
    seed = derived_seed(*parts)
    assert 0 <= seed < 2**63
    assert seed == derived_seed(*parts)
    assert derived_seed("ab", "c", *parts) != derived_seed("a", "bc", *parts)
