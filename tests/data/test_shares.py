"""Groups of images are shared out by size, and classes are spread over the parts."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from detdistill.data.shares import Group, assign

GROUPS = st.lists(st.builds(Group, st.integers(1, 3), st.frozensets(st.integers(0, 4), max_size=3)), max_size=25)


def sizes(groups: list[Group], parts: list[str]) -> Counter[str]:
    return Counter({part: sum(g.size for g, p in zip(groups, parts, strict=True) if p == part) for part in parts})


@given(GROUPS, st.integers(1, 10), st.integers(1, 10))
def test_no_part_exceeds_its_share_and_spreading_classes_keeps_the_sizes(
    groups: list[Group], val: int, test: int
) -> None:
    wanted = {"val": val, "test": test}
    parts = assign(groups, wanted, "train")
    assert len(parts) == len(groups)
    assert sizes(groups, parts)["val"] <= val
    assert sizes(groups, parts)["test"] <= test
    assert not groups or "train" in parts
    unlabelled = [Group(group.size, frozenset()) for group in groups]
    assert sizes(groups, parts) == sizes(groups, assign(unlabelled, wanted, "train"))


@given(st.permutations([0] * 3 + [1] * 4 + [2] * 8 + [3] * 15))
def test_every_class_with_enough_groups_is_in_every_part(labels: list[int]) -> None:
    groups = [Group(1, frozenset([label])) for label in labels]
    parts = assign(groups, {"val": 6, "test": 6}, "train")
    for part in ("train", "val", "test"):
        assert {label for label, owner in zip(labels, parts, strict=True) if owner == part} == {0, 1, 2, 3}


@given(st.lists(st.frozensets(st.integers(0, 7), max_size=3), min_size=3, max_size=25), st.integers(1, 5))
def test_single_images_leave_no_class_out_of_the_rest_that_it_has_room_for(
    labels: list[frozenset[int]], n: int
) -> None:
    groups = [Group(1, group) for group in labels]
    parts = assign(groups, {"val": n, "test": n}, "train")
    everywhere = frozenset[int]().union(*labels)
    train = [group for group, part in zip(labels, parts, strict=True) if part == "train"]
    # Without an image to spare in train, one class would be exchanged for another.
    spare = [group for group in train if all(sum(label in other for other in train) > 1 for label in group)]
    assert frozenset[int]().union(*train) == everywhere or not spare


def test_groups_are_taken_in_their_order() -> None:
    groups = [Group(1, frozenset()), Group(3, frozenset()), Group(1, frozenset()), Group(2, frozenset())]
    assert assign(groups, {"val": 2, "test": 2}, "train") == ["val", "train", "val", "test"]


def test_a_class_of_one_group_is_in_the_rest() -> None:
    groups = [Group(1, frozenset([7])), Group(1, frozenset()), Group(1, frozenset())]
    assert assign(groups, {"val": 1}, "train") == ["train", "train", "val"]


def test_a_group_that_cannot_be_exchanged_for_its_size_stays() -> None:
    groups = [Group(2, frozenset([7])), Group(3, frozenset())]
    assert assign(groups, {"val": 2}, "train") == ["val", "train"]
