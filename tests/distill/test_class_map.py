from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.distill.class_map import ClassMap, identical_classes

NAMES = ("cat", "dog", "cow", "car", "bus", "van")


def logits(*values: float) -> Tensor:
    return torch.tensor([values])


def test_the_same_classes_are_not_copied() -> None:
    classes = identical_classes(("cat", "dog"))
    own, other = torch.randn(3, 2), torch.randn(3, 2)
    assert classes.is_identity
    assert classes.of_student(own) is own
    assert classes.of_teacher(other) is other
    assert classes.notes() == ["classes: the same 2 in the same order"]


def test_another_order() -> None:
    classes = ClassMap(("cat", "dog", "cow"), ("cow", "cat", "dog"))
    assert not classes.is_identity
    own = logits(1, 2, 3)
    assert classes.of_student(own) is own
    assert classes.of_teacher(logits(30, 10, 20)).tolist() == [[10, 20, 30]]
    assert classes.labels(torch.tensor([2, 0])).tolist() == [2, 0]
    assert classes.notes() == ["classes: 3 are compared, by name"]


def test_a_teacher_that_knows_more() -> None:
    classes = ClassMap(("dog",), ("cat", "dog", "cow"))
    assert classes.of_teacher(logits(1, 2, 3)).tolist() == [[2]]
    assert classes.unknown_to_student == ("cat", "cow")
    assert "classes the student lacks: 2 of the teacher's, ignored" in classes.notes()


def test_a_teacher_that_knows_less() -> None:
    classes = ClassMap(("cat", "dog", "cow"), ("cow", "cat"))
    assert classes.of_student(logits(1, 2, 3)).tolist() == [[1, 3]]
    assert classes.of_teacher(logits(3, 1)).tolist() == [[1, 3]]
    assert classes.labels(torch.tensor([0, 1, 2, 1])).tolist() == [0, -1, 1, -1]
    assert classes.unknown_to_teacher == ("dog",)
    assert any("lacks: dog; what compares classes leaves their objects out" in note for note in classes.notes())


def test_a_teacher_with_the_first_of_the_classes_is_not_the_same() -> None:
    assert not ClassMap(("cat", "dog"), ("cat",)).is_identity
    assert not ClassMap(("cat",), ("cat", "dog")).is_identity


def test_several_classes_that_mean_one() -> None:
    classes = ClassMap(("vehicle", "cat"), ("car", "cat", "bus"), {"car": "vehicle", "bus": "vehicle"})
    assert classes.of_teacher(torch.tensor([[1.0, 5, 2], [4, 5, 3]])).tolist() == [[2, 5], [4, 5]]
    assert classes.notes() == ["classes: 2 are compared, by name; vehicle = car or bus"]


def test_a_class_in_the_table_does_not_count_under_its_own_name() -> None:
    classes = ClassMap(("cat", "dog"), ("cat", "dog"), {"cat": "dog"})
    assert classes.sources == ((), (0, 1))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"lorry": "cat"}, "the teacher has no class 'lorry'; its classes are: cat, dogs"),
        ({"dogs": "dgo"}, "the student has no class 'dgo'; its classes are: cat, dog\ndid you mean dog?"),
        ({"dog": "dog"}, "did you mean dogs?"),
    ],
)
def test_unknown_names_in_the_table(table: Mapping[str, str], said: str) -> None:
    with pytest.raises(DetdistillError, match="class_map") as refused:
        ClassMap(("cat", "dog"), ("cat", "dogs"), table)
    assert said in str(refused.value)


def test_no_class_in_common_names_both_sides_and_the_way_out() -> None:
    with pytest.raises(DetdistillError) as refused:
        ClassMap(("cat", "dog"), ("Katze", "Hund"))
    assert "teacher's classes: Katze, Hund" in str(refused.value)
    assert "student's: cat, dog" in str(refused.value)
    assert "class_map: {Katze: cat}" in str(refused.value)
    ClassMap(("cat", "dog"), ("Katze", "Hund"), {"Katze": "cat"})


@pytest.mark.parametrize("name", ["0", "1.50", "no", "null", "1e3", "010", "a: b", "{x}", "#1", "- y", "Käfer", " z "])
def test_the_example_of_the_message_is_yaml_that_works(name: str) -> None:
    with pytest.raises(DetdistillError) as refused:
        ClassMap(("apple",), (name,))
    table = yaml.safe_load(str(refused.value).partition("for example ")[2])["class_map"]
    assert ClassMap(("apple",), (name,), table).sources == ((0,),)


VOC_NAMES = ("motorbike", "aeroplane", "sofa", "pottedplant", "diningtable", "tvmonitor")
COCO_NAMES = ("motorcycle", "airplane", "couch", "potted plant", "dining table", "tv")


@pytest.mark.parametrize(("own", "other"), [(COCO_NAMES, VOC_NAMES), (VOC_NAMES, COCO_NAMES)])
def test_both_names_of_a_coco_class_are_the_same_class(own: tuple[str, ...], other: tuple[str, ...]) -> None:
    classes = ClassMap(("cat", *own), (*other, "cat"))
    assert classes.sources == ((6,), (0,), (1,), (2,), (3,), (4,), (5,))
    assert classes.synonyms == dict(zip(other, own, strict=True))
    note = next(note for note in classes.notes() if "synonym" in note)
    assert all(f"{ours} = {theirs}" in note for ours, theirs in zip(own, other, strict=True))
    assert ClassMap(own, other).is_identity
    assert any("synonym" in note for note in ClassMap(own, other).notes())


@pytest.mark.parametrize(
    ("student", "teacher", "table", "sources"),
    [
        (("tv", "cat"), ("tvmonitor", "tv", "cat"), {}, ((1,), (2,))),
        (("tv", "tvmonitor", "cat"), ("tvmonitor", "cat"), {}, ((), (0,), (1,))),
        (("tv", "cat"), ("tvmonitor", "cat"), {"tvmonitor": "cat"}, ((), (0, 1))),
        (("tv", "cat"), ("tvmonitor", "cat"), {"cat": "tv"}, ((1,), ())),
        (("sofa", "tv"), ("tv", "couch"), {}, ((1,), (0,))),
    ],
)
def test_a_synonym_counts_only_where_neither_names_nor_the_table_decide(
    student: tuple[str, ...], teacher: tuple[str, ...], table: Mapping[str, str], sources: tuple[tuple[int, ...], ...]
) -> None:
    assert ClassMap(student, teacher, table).sources == sources


def test_the_number_of_classes_without_a_teacher_is_a_warning() -> None:
    notes = ClassMap(("cat", "dog", "cow"), ("cat",)).notes()
    assert any(note.startswith("WARNING") and "2 of your 3 classes" in note for note in notes)


def test_names_given_as_numbers() -> None:
    table: Any = {0: "apple", 1: 2}
    assert ClassMap(("apple", "2"), ("0", "1"), table).sources == ((0,), (1,))


def slow_teacher_logits(
    student: Sequence[str], teacher: Sequence[str], table: Mapping[str, str], row: Tensor
) -> Tensor:
    best: dict[str, float] = {}
    for name, value in zip(teacher, row.tolist(), strict=True):
        meaning = table.get(name, name)
        best[meaning] = max(value, best.get(meaning, -float("inf")))
    return torch.tensor([best[name] for name in student if name in best])


@given(st.data())
def test_any_two_lists_of_classes(data: st.DataObject) -> None:
    subsets = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
    student, teacher = data.draw(subsets), data.draw(subsets)
    table = data.draw(st.dictionaries(st.sampled_from(teacher), st.sampled_from(student), max_size=3))
    try:
        classes = ClassMap(tuple(student), tuple(teacher), table)
    except DetdistillError:
        assert not {table.get(name, name) for name in teacher} & set(student)
        return
    other = torch.randn(len(teacher))
    assert torch.equal(classes.of_teacher(other), slow_teacher_logits(student, teacher, table, other))
    own = torch.arange(len(student))
    positions = classes.labels(own)
    known = positions >= 0
    assert torch.equal(classes.of_student(own)[positions[known]], own[known])
    assert [student[label] for label in own[~known]] == list(classes.unknown_to_teacher)
