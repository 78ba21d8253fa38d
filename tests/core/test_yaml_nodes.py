from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.files import DEEPEST
from detdistill.core.yaml_nodes import BoundedComposer, checked_node


class _Loader(BoundedComposer, yaml.SafeLoader):
    """PyYAML's, bounded."""


BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}], k{level}: 1}}\n" for level in range(1, 12)
)
VALUES = st.recursive(
    st.integers() | st.text("ab"), lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner), max_leaves=10
)
REFUSED = {
    "bomb of lists": BOMB,
    "bomb of merges": MERGES,
    "bomb of keys": BOMB.replace("[", "{? [").replace("]", "] : 1}"),
    "chain": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, DEEPEST + 5)),
    "itself": "a: &a [*a]",
    "itself as a key": "&a ? *a : 1",
    "deep": "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
    "very deep": "[" * 100_000,
    "deep mappings": "{a: " * 5_000 + "1" + "}" * 5_000,
    "two documents": "a: 1\n---\nb: 1",
    "no character": '"\\UFFFFFFFF"',
    "unknown alias": "*a",
    "control character": "a: \x00",
}
"""Documents that cannot be read, by what is wrong with them."""


@pytest.mark.parametrize("case", REFUSED)
def test_documents_beyond_the_bounds_are_refused(case: str) -> None:
    with pytest.raises(yaml.YAMLError):
        checked_node(_Loader(REFUSED[case]))


def test_aliases_are_counted_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detdistill.core.yaml_nodes.MOST_VALUES", 1_000)
    inner = 98
    text = f"a: &a [{', '.join(['1'] * inner)}]\nb: [{{}}]"
    assert checked_node(_Loader(text.format(", ".join(["*a"] * 7)))) is not None
    with pytest.raises(yaml.YAMLError):
        checked_node(_Loader(text.format(", ".join(["*a"] * 10))))


@given(VALUES)
def test_usual_documents_are_read(values: object) -> None:
    loader = _Loader(yaml.safe_dump([values, values]))
    root = checked_node(loader)
    assert root is not None
    assert loader.construct_document(root) == [values, values]


def test_an_empty_document_has_no_root() -> None:
    assert checked_node(_Loader("")) is None
