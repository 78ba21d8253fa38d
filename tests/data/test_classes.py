"""Labels follow class names from one list to another."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError
from detdistill.data import with_classes
from detdistill.data.assembly import ImageEntry, assemble, image_columns
from detdistill.data.classes import with_common_classes
from detdistill.data.objects import ObjectList


def dataset_of(classes: list[str], category_ids: list[int]) -> DetectionDataset:
    """One object of each class."""
    objects = ObjectList()
    for label in range(len(classes)):
        objects.add(0, label, (0, 0, label + 1, 1), f"file: {label}")
    images = image_columns([ImageEntry(1, Path("1.jpg"), "1.jpg", 99, 99)])
    return assemble("val.json", classes, category_ids, images, objects.columns(), [])


def test_labels_follow_the_names() -> None:
    mapped = with_classes(dataset_of(["dog", "cat"], [5, 8]), ["cat", "cow", "dog"])
    assert mapped.classes == ("cat", "cow", "dog")
    assert mapped.images[0].labels.tolist() == [2, 0]
    assert mapped.category_ids == (8, 9, 5)


def test_a_class_that_the_list_lacks_is_an_error_with_both_sides() -> None:
    with pytest.raises(DataError, match=r"val\.json.*'dog'.*'cat', 'cow'"):
        with_classes(dataset_of(["cat", "dog"], [1, 2]), ["cat", "cow"])


def test_an_image_without_objects_stays_without() -> None:
    images = image_columns([ImageEntry(1, Path("1.jpg"), "1.jpg", 9, 9)])
    empty = assemble("val.json", ["cat"], [1], images, ObjectList().columns(), [])
    assert with_classes(empty, ["dog", "cat"]).images[0].labels.tolist() == []


@given(st.permutations("abcdef"), st.integers(0, 6))
def test_every_object_keeps_its_name_and_id(order: list[str], known: int) -> None:
    own = dataset_of(list("abcdef")[:known], [3 * number for number in range(known)])
    mapped = with_classes(own, order)
    labels = mapped.images[0].labels
    assert [mapped.classes[label] for label in labels] == list(own.classes)
    assert [mapped.category_ids[label] for label in labels] == list(own.category_ids)
    assert len(set(mapped.category_ids)) == 6


def test_parts_that_agree_on_ids_keep_them_and_follow_them() -> None:
    one, other = dataset_of(["cat", "dog"], [5, 9]), dataset_of(["dog", "ant"], [9, 12])
    both = with_common_classes([one, other])
    assert [part.classes for part in both] == [("cat", "dog", "ant")] * 2
    assert [part.category_ids for part in both] == [(5, 9, 12)] * 2
    assert [part.images[0].labels.tolist() for part in both] == [[0, 1], [1, 2]]


def test_parts_that_disagree_on_ids_get_new_ones() -> None:
    """PASCAL VOC numbers the classes of each part from 1, sorted by name."""
    both = with_common_classes([dataset_of(["ant", "cat"], [1, 2]), dataset_of(["ant", "bee"], [1, 2])])
    assert [part.classes for part in both] == [("ant", "bee", "cat")] * 2
    assert [part.category_ids for part in both] == [(1, 2, 3)] * 2
    assert [part.images[0].labels.tolist() for part in both] == [[0, 2], [0, 1]]


def test_an_order_that_is_not_of_ids_or_names_is_kept() -> None:
    both = with_common_classes([dataset_of(["dog", "cat"], [1, 2]), dataset_of(["cat", "bee"], [1, 2])])
    assert [part.classes for part in both] == [("dog", "cat", "bee")] * 2
    (alone,) = with_common_classes([dataset_of(["dog", "cat"], [5, 3])])
    assert (alone.classes, alone.category_ids) == (("dog", "cat"), (1, 2))
