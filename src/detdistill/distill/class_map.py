"""Which classes of two detectors are the same thing. Names decide, not positions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import yaml
from torch import Tensor

from detdistill.core.class_names import class_table
from detdistill.core.errors import DetdistillError
from detdistill.core.structures import BACKGROUND
from detdistill.core.suggestions import did_you_mean

_COCO_SYNONYMS = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}
"""Names of Pascal VOC that published COCO detectors, such as D-FINE, have for classes of COCO."""
SYNONYMS = _COCO_SYNONYMS | {theirs: own for own, theirs in _COCO_SYNONYMS.items()}
"""The other name of a class that has two."""


@dataclass(frozen=True)
class ClassMap:
    """For every class of the student, the teacher's classes that mean it.

    Attributes:
        student: the student's class names.
        teacher: the teacher's class names.
        table: further names: teacher's class -> student's class; several may lead to one. A class in the table
            does not count under its own name. Whole numbers stand for their digits.

    A class of the teacher that the student lacks is the student's class of the other name in `SYNONYMS`, unless the
    teacher has a class of that name, too, or the table says what it is.
    """

    student: tuple[str, ...]
    teacher: tuple[str, ...]
    table: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises `DetdistillError` for a table with unknown names, or if no class is common to both."""
        object.__setattr__(self, "table", class_table(self.table))
        sides = (("teacher", self.table.keys(), self.teacher), ("student", self.table.values(), self.student))
        for side, given, names in sides:
            unknown = [name for name in given if name not in names]
            if unknown:
                message = f"class_map: the {side} has no class {unknown[0]!r}; its classes are: {', '.join(names)}"
                raise DetdistillError(message + did_you_mean(message.partition(";")[0], names))
        if not self.shared:
            example = yaml.safe_dump(
                {self.teacher[0]: self.student[0]}, default_flow_style=True, allow_unicode=True, width=math.inf
            )
            raise DetdistillError(
                f"teacher and student have no class name in common. The teacher's classes: {', '.join(self.teacher)}. "
                f"The student's: {', '.join(self.student)}. Give pairs of classes that mean the same, for example "
                f"class_map: {example.strip()}"
            )

    @cached_property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """For each class of the student, the labels of the teacher that mean it."""
        meaning = [self.table.get(name, self.synonyms.get(name, name)) for name in self.teacher]
        return tuple(tuple(label for label, name in enumerate(meaning) if name == wanted) for wanted in self.student)

    @cached_property
    def meaning(self) -> Tensor:
        """`(C_teacher,)` the student's label of each class of the teacher; `BACKGROUND` if it has none."""
        labels = torch.full((len(self.teacher),), BACKGROUND)
        for label, sources in enumerate(self.sources):
            labels[list(sources)] = label
        return labels

    @cached_property
    def synonyms(self) -> dict[str, str]:
        """The teacher's classes that are matched by the other name of the student's class: teacher's -> student's."""
        given = {*self.table.keys(), *self.table.values()}
        pairs = {name: SYNONYMS[name] for name in self.teacher if name in SYNONYMS and name not in self.student}
        return {
            theirs: own
            for theirs, own in pairs.items()
            if own in self.student and own not in self.teacher and not {theirs, own} & given
        }

    @cached_property
    def shared(self) -> tuple[int, ...]:
        """The student's labels that the teacher knows, ascending: the C classes on which the two are compared."""
        return tuple(label for label, sources in enumerate(self.sources) if sources)

    @property
    def is_identity(self) -> bool:
        """Label c is the same class on both sides."""
        return self.sources == tuple((label,) for label in range(len(self.teacher)))

    @property
    def unknown_to_teacher(self) -> tuple[str, ...]:
        """The student's classes that the teacher lacks."""
        return tuple(name for name, sources in zip(self.student, self.sources, strict=True) if not sources)

    @property
    def unknown_to_student(self) -> tuple[str, ...]:
        """The teacher's classes that the student lacks."""
        used = {label for sources in self.sources for label in sources}
        return tuple(name for label, name in enumerate(self.teacher) if label not in used)

    def of_student(self, logits: Tensor) -> Tensor:
        """`(…, C_student)` to `(…, C)`, the shared classes."""
        return logits if len(self.shared) == len(self.student) else logits[..., list(self.shared)]

    def of_teacher(self, logits: Tensor) -> Tensor:
        """`(…, C_teacher)` to `(…, C)`: of several classes that mean one, the largest logit."""
        if self.is_identity:
            return logits
        chosen = [self.sources[label] for label in self.shared]
        if all(len(sources) == 1 for sources in chosen):
            return logits[..., [sources[0] for sources in chosen]]
        return torch.stack([logits[..., list(sources)].amax(dim=-1) for sources in chosen], dim=-1)

    def labels(self, labels: Tensor) -> Tensor:
        """`(G,)` the student's labels to positions among the shared classes, or `BACKGROUND`."""
        positions = torch.full((len(self.student),), BACKGROUND, device=labels.device)
        positions[list(self.shared)] = torch.arange(len(self.shared), device=labels.device)
        return positions[labels]

    def notes(self) -> list[str]:
        """What a user should know, in plain words."""
        synonyms = [f"{own} = {theirs}" for theirs, own in self.synonyms.items()]
        by_synonym = [f"classes matched by synonym: {', '.join(synonyms)}"] if synonyms else []
        if self.is_identity:
            return [f"classes: the same {len(self.student)} in the same order", *by_synonym]
        pairs = [
            f"{self.student[label]} = {' or '.join(self.teacher[source] for source in self.sources[label])}"
            for label in self.shared
            if [self.teacher[source] for source in self.sources[label]] != [self.student[label]]
            and self.student[label] not in self.synonyms.values()
        ]
        notes = [
            f"classes: {len(self.shared)} are compared, by name" + (f"; {', '.join(pairs)}" if pairs else ""),
            *by_synonym,
        ]
        if self.unknown_to_teacher:
            notes.append(f"WARNING: {len(self.unknown_to_teacher)} of your {len(self.student)} classes have no teacher")
            notes.append(
                f"classes the teacher lacks: {', '.join(self.unknown_to_teacher)}; what compares classes leaves their "
                "objects out"
            )
        if self.unknown_to_student:
            notes.append(f"classes the student lacks: {len(self.unknown_to_student)} of the teacher's, ignored")
        return notes


def identical_classes(names: Sequence[str]) -> ClassMap:
    """Both sides have these classes."""
    return ClassMap(tuple(names), tuple(names))
