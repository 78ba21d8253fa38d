"""A Python function as a teacher."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import BOX_OFFERS, Offer
from detdistill.core.output import RegionReader, TowerHead
from detdistill.core.structures import Detections, TeacherBoxes
from detdistill.data.stored_detections import BoxSource
from detdistill.teachers.teacher import Guidance, TeacherBatch

PYTHON = "python:"
"""Before `package.module:function` where a teacher is named."""
CALLABLE = "callable:"
"""Before the qualified name of a function that was passed in Python, in the record of a run."""
USUAL_FLOOR = 0.05
"""Least score of the boxes of functions that do not say theirs."""

Predict = Callable[[Tensor, Tensor], Sequence[Any]]
"""A function of images `(N, 3, H, W)` uint8 RGB and true sizes `(N, 2)`, height and width, that returns for each image
`Detections`, `TeacherBoxes`, or a dictionary of `boxes` `(J, 4)` x1 y1 x2 y2 in pixels, `scores` `(J,)` 0 to 1 and
`labels` `(J,)`."""


class CallableTeacher:
    """A teacher whose boxes come from a function.

    Args:
        predict: See `Predict`. Its attribute `classes` has the class names; its attribute `floor`, if there is one,
            the least score of its boxes, otherwise 0.05.
        name: What a run remembers.

    Raises:
        DetdistillError: It cannot be called, or has no class names.
    """

    kind = "callable"
    offers: frozenset[Offer] = BOX_OFFERS
    size = None
    stored: BoxSource | None = None
    tower_head: TowerHead | None = None
    region_reader: RegionReader | None = None

    def __init__(self, predict: Predict, name: str) -> None:
        classes = getattr(predict, "classes", None)
        if not callable(predict) or isinstance(predict, type):
            raise DetdistillError(
                f"teacher {name}: a {type(predict).__name__}; expected a function or a callable object"
            )
        if (
            isinstance(classes, str)
            or not isinstance(classes, Sequence)
            or not classes
            or not all(isinstance(each, str) and each for each in classes)
            or len(set(classes)) < len(classes)
        ):
            raise DetdistillError(
                f"teacher {name}: classes is {classes!r}; expected the class names of its labels, for example "
                "predict.classes = ('cat', 'dog')"
            )
        self.classes = tuple(classes)
        self._predict, self._name = predict, name
        self._floor = float(getattr(predict, "floor", USUAL_FLOOR))
        if not 0 <= self._floor < 1:
            raise DetdistillError(f"teacher {name}: floor is {self._floor}; expected a score of at least 0 and below 1")

    @property
    def origin(self) -> Mapping[str, Any]:
        """Its name."""
        return {"source": self._name, "sha256": None}

    @torch.no_grad()
    def guide(self, batch: TeacherBatch) -> Guidance:
        """What the function returns.

        Raises:
            DetdistillError: It is not what `Predict` describes.
        """
        found = self._predict(batch.images, batch.sizes)
        if not isinstance(found, Sequence) or len(found) != len(batch.images):
            what = f"{len(found)} results" if isinstance(found, Sequence) else type(found).__name__
            raise DetdistillError(
                f"teacher {self._name} returned {what} for {len(batch.images)} images; expected a list, one for each"
            )
        return Guidance(boxes=tuple(self._checked(one).to(batch.images.device) for one in found))

    def notes(self, student: InputSpec) -> list[str]:  # noqa: ARG002
        """Nothing: what the function does with images is its own."""
        return []

    def _checked(self, found: Any) -> TeacherBoxes:
        """The boxes of an image in our form, best first."""
        own = self._boxes_of(found)
        classes, scores = len(self.classes), own.probabilities
        count = len(own.boxes)
        if own.boxes.shape != (count, 4) or own.labels.shape != (count,) or scores.shape != (count, classes):
            raise self._wrong(
                f"boxes {tuple(own.boxes.shape)}, labels {tuple(own.labels.shape)} and probabilities "
                f"{tuple(scores.shape)}",
                f"(J, 4), (J,) and (J, {classes})",
            )
        if not bool(own.boxes.isfinite().all()):
            raise self._wrong("a box that is not finite", "pixels of the canvas")
        if not bool(((scores >= 0) & (scores <= 1)).all()):
            raise self._wrong("a score outside 0 to 1", "probabilities")
        return own.keep(own.scores.argsort(descending=True, stable=True))

    def _boxes_of(self, found: Any) -> TeacherBoxes:
        if isinstance(found, TeacherBoxes):
            self._check_labels(found.labels)
            return found
        if isinstance(found, Detections):
            found = {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}
        if not isinstance(found, Mapping) or not {"boxes", "scores", "labels"} <= found.keys():
            raise self._wrong(
                f"a {type(found).__name__}", "Detections, TeacherBoxes, or a dictionary of boxes, scores and labels"
            )
        boxes, scores = (torch.as_tensor(found[name], dtype=torch.float32) for name in ("boxes", "scores"))
        labels = torch.as_tensor(found["labels"], dtype=torch.int64)
        self._check_labels(labels)
        if not len(boxes) == len(scores) == len(labels):
            raise self._wrong(f"{len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels", "equally many")
        return TeacherBoxes.from_detections(
            Detections(boxes.reshape(-1, 4), scores, labels), len(self.classes), self._floor
        )

    def _check_labels(self, labels: Tensor) -> None:
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise self._wrong(f"labels {int(labels.min())} to {int(labels.max())}", f"0 to {len(self.classes) - 1}")

    def _wrong(self, found: str, expected: str) -> DetdistillError:
        return DetdistillError(f"teacher {self._name} returned {found} for an image; expected {expected}")


def name_of(predict: Any) -> str:
    """The name by which a run remembers a function that was passed in Python."""
    kind = predict if hasattr(predict, "__qualname__") else type(predict)
    return f"{CALLABLE}{kind.__module__}.{kind.__qualname__}"


def imported(name: str) -> CallableTeacher:
    """The teacher `python:package.module:function`, from the working directory or anywhere that Python imports from.

    Raises:
        DetdistillError: The name is of another form, the module cannot be imported, or has no such function.
    """
    module, _, attribute = name.removeprefix(PYTHON).partition(":")
    if not module or not attribute:
        raise DetdistillError(f"teacher {name}: expected python:package.module:function")
    here = str(Path.cwd())
    sys.path.append(here)  # after all else: a module here does not hide an installed one
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever a stranger's module raises
        raise DetdistillError(
            f"teacher {name}: {module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(here)
    if not hasattr(found, attribute):
        raise DetdistillError(f"teacher {name}: {module} ({found.__file__}) has no {attribute}")
    return CallableTeacher(getattr(found, attribute), name)
