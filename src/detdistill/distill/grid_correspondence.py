"""The correspondence of two detectors on a grid: the cells, candidates and classes that both have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.offers import Offer
from detdistill.core.output import Candidates, Output
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Matches, ReduceSum, Targets, single_process
from detdistill.distill.class_map import ClassMap
from detdistill.distill.resampling import features_on, resampled
from detdistill.distill.view import Need, View
from detdistill.teachers.teacher import Guidance

LARGEST_STRIDE_RATIO = 1.25
"""Strides of two levels that are taken for the same: some detectors round the step of coarse levels."""
Strides = Sequence[tuple[float, float]]
"""(vertical, horizontal) step of a cell in pixels of the student's canvas, per level."""

ON_CELLS: frozenset[Offer] = frozenset({"features", "grid", "anchors", "distributions", "head"})
"""What can be read off the cells that two detectors have in common."""


@dataclass(frozen=True)
class GridCorrespondence:
    """The same cells in both detectors. Where they agree already, nothing is copied.

    Levels are paired by stride in pixels of the student's canvas. A teacher's map that differs in size from the
    student's is resampled: features bilinearly, candidates from the nearest cell. Both maps are taken to cover the same
    canvas; where the teacher's canvas covers more, cells are found by their places in pixels. Where the two have
    different numbers of anchors per cell, the candidates are cells, and on the side that has more a cell's score is the
    best of its anchors, class by class, and its box and quality are those of the anchor with the best score of any
    class. Candidates that do not exist in the teacher are `IGNORED`.

    Of a teacher that offers features without predictions at their cells, only the features are brought together; so are
    they where one of the two scores classes there and the other, a region proposal network, objects of any class.
    Between two of these labels are 0.

    Attributes:
        classes: which classes mean the same.
        levels: pairs (student's level, teacher's level).
        offers: of the teacher, as far as views have it.
    """

    classes: ClassMap
    levels: tuple[tuple[int, int], ...]
    offers: frozenset[Offer] = ON_CELLS

    def serving(self, need: Need) -> Self:  # noqa: ARG002
        """Itself: its views have all."""
        return self

    def __call__(
        self,
        student: Output,
        guidance: Guidance,
        matches: Matches,
        targets: Targets,
        reduce_sum: ReduceSum = single_process,
    ) -> View:
        """Bring the outputs of one batch together; arguments as of `Correspondence`."""
        student, teacher = at_cells(student), at_cells(guidance.dense)
        assignment = matches[student.final]
        own_levels, other_levels = ([pair[side] for pair in self.levels] for side in (0, 1))
        matched = _flat_levels(student.predictions.grid, assignment.matched, own_levels)
        student = _with_levels(student, own_levels)
        by_place = guidance.extent != (1.0, 1.0)
        if "grid" not in self.offers:
            targets = replace(targets, labels=self.classes.labels(targets.labels))
            features = features_on(teacher, other_levels, student.predictions.grid, by_place=by_place)
            return View(student, Output(features, {}, teacher.final), Assignment(matched), targets, reduce_sum)
        teacher = _with_levels(teacher, other_levels)
        # Before the best anchor of a cell is chosen: it is the best for a class that both have.
        if student.predictions.any_class:
            labels = self.classes.labels(targets.labels)
            targets = replace(targets, labels=labels.clamp(max=0))
        elif not self.classes.is_identity:
            student = _with_class_logits(student, self.classes.of_student(student.predictions.class_logits))
            teacher = _with_class_logits(teacher, self.classes.of_teacher(teacher.predictions.class_logits))
            targets = replace(targets, labels=self.classes.labels(targets.labels))
        own, other = student.predictions.grid, teacher.predictions.grid
        by_cell = own.anchors_per_cell != other.anchors_per_cell
        if by_cell:
            matched = cell_matches(own, matched)
        if other.sizes != own.sizes or by_place or (by_cell and max(other.anchors_per_cell) > 1):
            teacher = resampled(teacher, own, by_cell=by_cell, by_place=by_place)
        if by_cell and max(own.anchors_per_cell) > 1:
            student = resampled(student, own, by_cell=True)
        exists = teacher.predictions.candidates.valid
        if exists is not None:
            matched = matched.masked_fill(~exists, IGNORED)
        if matched is not assignment.matched:
            assignment = Assignment(matched)
        return View(student, teacher, assignment, targets, reduce_sum)

    def notes(self, student: Output, guidance: Guidance) -> list[str]:
        """What a user should know about levels and anchors, a line each."""
        student, teacher = at_cells(student), at_cells(guidance.dense)
        own_strides, other_strides = strides_of(student), strides_of(teacher)
        own_sizes, other_sizes = _sizes_of(student), _sizes_of(teacher)
        own_words = [f"{stride:g}" for stride, _ in own_strides]
        other_words = [f"{stride * guidance.ratio:g}" for stride, _ in other_strides]
        meeting = ", ".join(own_words[level] for level, _ in self.levels)
        if guidance.ratio == 1:
            notes = [f"levels: strides {meeting} are compared"]
        else:
            theirs = ", ".join(other_words[level] for _, level in self.levels)
            notes = [f"levels: strides {meeting} of the student are compared with strides {theirs} of the teacher"]
        for side, words, used in (
            ("student", own_words, {level for level, _ in self.levels}),
            ("teacher", other_words, {level for _, level in self.levels}),
        ):
            left = [word for level, word in enumerate(words) if level not in used]
            if left:
                notes.append(f"levels that only the {side} has: stride {', '.join(left)}, left out")
        resized = [
            f"stride {own_words[level]}: {_by(other_sizes[theirs])} to {_by(own_sizes[level])}"
            for level, theirs in self.levels
            if own_sizes[level] != other_sizes[theirs]
        ]
        if resized:
            notes.append(f"the teacher's maps are resized to the student's: {', '.join(resized)}")
        if "grid" not in self.offers:
            return notes
        own, other = student.predictions.grid, teacher.predictions.grid
        if own.anchors_per_cell != other.anchors_per_cell:
            notes.append(
                f"anchors per cell: {_counts(own)} in the student, {_counts(other)} in the teacher; "
                "cells are compared, each by the best score of its anchors"
            )
        return notes


def grid_correspondence(
    student: Strides, teacher: Strides, classes: ClassMap, offers: frozenset[Offer] = ON_CELLS
) -> GridCorrespondence:
    """Pair the levels of two detectors by their strides.

    Args:
        student: of its levels.
        teacher: of its levels.
        classes: which classes mean the same.
        offers: of the teacher.

    Raises:
        DetdistillError: no level has the same stride.
    """
    own, other = ([stride for stride, _ in strides] for strides in (student, teacher))
    pairs = []
    for level, own_stride in enumerate(own):
        distance = [abs(math.log(stride / own_stride)) for stride in other]
        nearest = min(range(len(other)), key=distance.__getitem__)
        if distance[nearest] < math.log(LARGEST_STRIDE_RATIO):
            pairs.append((level, nearest))
    if not pairs:
        raise DetdistillError(
            f"teacher and student have no pyramid level in common: the teacher's strides are {_listed(other)}, "
            f"the student's {_listed(own)}; choose detector.strides and "
            "detector.extra_levels of the student so that some agree"
        )
    return GridCorrespondence(classes, tuple(pairs), offers & ON_CELLS)


def at_cells(output: Output) -> Output:
    """The output with the stage on its cells as the final one; as it is, where none is there."""
    return output.on_grid or output


def strides_of(output: Output) -> Strides:
    """Strides of the levels on a grid, or of the feature maps where there is no grid."""
    return output.predictions.grid.strides if output.stages else output.features.strides


def _sizes_of(output: Output) -> list[tuple[int, int]]:
    if output.stages:
        return list(output.predictions.grid.sizes)
    return [(int(level.shape[-2]), int(level.shape[-1])) for level in output.features.maps]


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _flat_levels(grid: Grid, flat: Tensor, levels: Sequence[int]) -> Tensor:
    """Some levels of a flat tensor `(N, P, …)`."""
    if list(levels) == list(range(grid.num_levels)):
        return flat
    parts = grid.split(flat)
    return torch.cat([parts[level] for level in levels], dim=1)


def _with_levels(output: Output, levels: Sequence[int]) -> Output:
    """Some levels of an output, of all that it has per candidate, whatever its type."""
    predictions, maps = output.predictions, output.features.maps
    grid = predictions.grid
    if list(levels) == list(range(grid.num_levels)):
        return output
    chosen = Grid(
        tuple(grid.sizes[level] for level in levels),
        tuple(grid.strides[level] for level in levels),
        tuple(grid.base_anchors[level] for level in levels),
    )
    per_candidate: dict[str, Any] = {
        name: _flat_levels(grid, value, levels)
        for name, value in vars(predictions).items()
        if isinstance(value, Tensor)
    }
    exists = predictions.candidates.valid
    valid = None if exists is None else _flat_levels(grid, exists, levels)
    return Output.dense(
        [maps[level] for level in levels] if maps else [],
        replace(predictions, candidates=Candidates(chosen, valid=valid), **per_candidate),
        output.towers,
    )


def _with_class_logits(output: Output, logits: Tensor) -> Output:
    """An output with other classes, each by itself."""
    return output.with_predictions(output.predictions.with_class_logits(logits))


def cell_matches(grid: Grid, matched: Tensor) -> Tensor:
    """Matches of cells, one a cell, from those of their anchors, `(N, P)`.

    A cell has the object of its first positive anchor, else is `IGNORED` if one of them is, else `BACKGROUND`.
    """
    levels = []
    for level, anchors in zip(grid.split(matched), grid.anchors_per_cell, strict=True):
        by_anchor = level.reshape(len(matched), -1, anchors)
        first = (by_anchor >= 0).int().argmax(dim=-1, keepdim=True)
        match = by_anchor.gather(2, first).squeeze(2)
        positive = (by_anchor >= 0).any(dim=-1)
        levels.append(torch.where(positive, match, by_anchor.amin(dim=-1).clamp(max=BACKGROUND)))
    return torch.cat(levels, dim=1)


def _listed(strides: Sequence[float]) -> str:
    return ", ".join(f"{stride:g}" for stride in strides)


def _counts(grid: Grid) -> str:
    return " and ".join(str(count) for count in dict.fromkeys(grid.anchors_per_cell))
