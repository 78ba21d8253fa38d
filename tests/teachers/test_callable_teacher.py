from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.structures import Detections, TeacherBoxes
from detdistill.teachers.callable_teacher import CallableTeacher, imported, name_of
from detdistill.teachers.teacher import TeacherBatch

BATCH = TeacherBatch(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.full((2, 2), 32))
BOX, OTHER = [1.0, 2.0, 9.0, 8.0], [0.0, 0.0, 4.0, 4.0]


def function(found: Any, classes: Any = ("cat", "dog"), **attributes: Any) -> Callable[[Tensor, Tensor], Any]:
    """A function that returns the same for every batch."""

    def predict(images: Tensor, sizes: Tensor) -> Any:
        assert images.dtype == torch.uint8
        assert sizes.shape == (len(images), 2)
        return found

    predict.classes = classes  # type: ignore[attr-defined]
    for name, value in attributes.items():
        setattr(predict, name, value)
    return predict


def plain(**changes: Any) -> dict[str, Any]:
    return {"boxes": [OTHER, BOX], "scores": [0.3, 0.8], "labels": [0, 1], **changes}


@pytest.mark.parametrize(
    "one",
    [
        plain(),
        {name: torch.tensor(value) for name, value in plain().items()},
        Detections(torch.tensor([OTHER, BOX]), torch.tensor([0.3, 0.8]), torch.tensor([0, 1])),
        TeacherBoxes(torch.tensor([OTHER, BOX]), torch.tensor([0, 1]), torch.tensor([[0.3, 0.0], [0.0, 0.8]]), 0.05),
    ],
    ids=["lists", "tensors", "detections", "teacher boxes"],
)
def test_several_forms_are_the_same_boxes_best_first(one: Any) -> None:
    nothing: dict[str, list[float]] = {"boxes": [], "scores": [], "labels": []}
    teacher = CallableTeacher(function([one, nothing]), "mine")
    first, second = teacher.guide(BATCH).set_of_boxes
    assert first.boxes.tolist() == [BOX, OTHER]
    assert first.labels.tolist() == [1, 0]
    torch.testing.assert_close(first.probabilities, torch.tensor([[0.0, 0.8], [0.3, 0.0]]))
    assert first.floor == 0.05
    assert len(second) == 0
    assert second.probabilities.shape == (0, 2)
    assert (teacher.classes, dict(teacher.origin)) == (("cat", "dog"), {"source": "mine", "sha256": None})


def test_its_floor_is_an_attribute() -> None:
    teacher = CallableTeacher(function([plain(), plain()], floor=0.2), "mine")
    assert teacher.guide(BATCH).set_of_boxes[0].floor == 0.2
    with pytest.raises(DetdistillError, match="floor is 1"):
        CallableTeacher(function([], floor=1.0), "mine")


@pytest.mark.parametrize("classes", [None, (), "cat", ("cat", "cat"), ("cat", 3), ("",)])
def test_it_needs_class_names(classes: Any) -> None:
    with pytest.raises(DetdistillError, match="teacher mine: classes is"):
        CallableTeacher(function([], classes), "mine")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([plain()], "1 results for 2 images"),
        (None, "NoneType for 2 images"),
        ([plain(labels=[0, 2]), plain()], "labels 0 to 2"),
        ([plain(labels=[-1, 0]), plain()], "labels -1 to 0"),
        ([plain(scores=[0.3, 1.5]), plain()], "score outside 0 to 1"),
        ([plain(scores=[0.3, float("nan")]), plain()], "score outside 0 to 1"),
        ([plain(boxes=[[float("inf"), 0, 1, 1], BOX]), plain()], "not finite"),
        ([plain(scores=[0.3]), plain()], "2 boxes, 1 scores and 2 labels"),
        ([{"boxes": [BOX]}, plain()], "a dict"),
        ([[BOX], plain()], "a list"),
    ],
)
def test_what_it_returns_is_checked(found: Any, words: str) -> None:
    with pytest.raises(DetdistillError, match=f"teacher mine returned .*{words}"):
        CallableTeacher(function(found), "mine").guide(BATCH)


def test_it_is_imported_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_teacher_module.py").write_text(
        "def teach(images, sizes):\n    return [{'boxes': [], 'scores': [], 'labels': []} for _ in images]\n"
        "teach.classes = ('cat',)\nnumber = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    teacher = imported("python:my_teacher_module:teach")
    assert teacher.classes == ("cat",)
    assert [len(boxes) for boxes in teacher.guide(BATCH).set_of_boxes] == [0, 0]
    assert teacher.origin["source"] == "python:my_teacher_module:teach"
    for name, words in (
        ("python:my_teacher_module", "expected python:package.module:function"),
        ("python:my_teacher_module:other", "has no other"),
        ("python:my_teacher_module:number", "a int; expected a function"),
        ("python:no_such_module_at_all:f", "cannot be imported: ModuleNotFoundError"),
    ):
        with pytest.raises(DetdistillError, match=words):
            imported(name)


def test_a_function_passed_in_python_has_its_qualified_name() -> None:
    class Owner:
        classes = ("cat",)

        def __call__(self, *_: Tensor) -> list[Any]:
            return []

    assert name_of(function) == f"callable:{__name__}.function"
    assert name_of(Owner()).endswith("<locals>.Owner")
