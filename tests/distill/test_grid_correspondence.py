from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.boxes import encode_deltas
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.output import DENSE, Candidates, Output, Predictions
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Targets
from detdistill.detectors.dense.coders import DeltaCoder, DistanceCoder
from detdistill.detectors.dense.priors import cell_boxes
from detdistill.distill.class_map import ClassMap, identical_classes
from detdistill.distill.grid_correspondence import grid_correspondence
from detdistill.distill.view import View
from detdistill.teachers.teacher import Guidance
from support.term_cases import grid as anchor_grid
from support.term_cases import output as anchor_output

CLASSES = ("cat", "dog", "cow")
Sizes = tuple[tuple[int, int], ...]


def layout(strides: Sequence[int], sizes: Sizes, anchors: int | Sequence[int] = 1) -> Grid:
    counts = [anchors] * len(strides) if isinstance(anchors, int) else anchors
    base = tuple(boxes.repeat(count, 1) for boxes, count in zip(cell_boxes(strides), counts, strict=True))
    return Grid(sizes, tuple((stride, stride) for stride in strides), base)


def output(grid: Grid, *, classes: int = 3, seed: int = 0, quality: bool = False, batch: int = 2) -> Output:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    return Output.dense(
        tuple(draw(batch, 4, height, width) for height, width in grid.sizes),
        Predictions(
            Candidates(grid),
            draw(batch, grid.num_priors, classes),
            draw(batch, grid.num_priors, 4).abs(),
            DistanceCoder("stride"),
            draw(batch, grid.num_priors) if quality else None,
        ),
    )


def some_matches(grid: Grid, objects: int = 3, seed: int = 0) -> Assignment:
    random = torch.Generator().manual_seed(seed)
    return Assignment(torch.randint(IGNORED, objects, (2, grid.num_priors), generator=random))


def truth(*labels: int) -> Targets:
    boxes = torch.tensor([[4.0, 4.0, 30.0, 20.0]]).repeat(len(labels), 1)
    return Targets(boxes, torch.tensor(labels), torch.zeros(len(labels), dtype=torch.int64), torch.full((2, 2), 64))


def align(student: Output, teacher: Output, assignment: Assignment, teacher_classes: tuple[str, ...] = CLASSES) -> View:
    alignment = grid_correspondence(
        student.predictions.grid.strides, teacher.predictions.grid.strides, ClassMap(CLASSES, teacher_classes)
    )
    return alignment(student, Guidance(teacher), {DENSE: assignment}, truth(0, 1, 2))


STRIDES, SIZES = (8, 16, 32), ((8, 8), (4, 4), (2, 2))


def test_equal_grids_and_classes_are_not_copied() -> None:
    grid = layout(STRIDES, SIZES)
    student, teacher, assignment, targets = output(grid), output(grid, seed=1), some_matches(grid), truth(0, 1, 2)
    alignment = grid_correspondence(grid.strides, grid.strides, identical_classes(CLASSES))
    aligned = alignment(student, Guidance(teacher), {DENSE: assignment}, targets)
    assert aligned.student is student
    assert aligned.teacher is teacher
    assert aligned.assignment is assignment
    assert aligned.targets is targets
    assert alignment.notes(student, Guidance(teacher)) == ["levels: strides 8, 16, 32 are compared"]


def test_levels_that_only_one_side_has_are_left_out() -> None:
    own, other = layout((8, 16, 32), SIZES), layout((16, 32, 64), ((4, 4), (2, 2), (1, 1)))
    student, teacher, assignment = output(own), output(other, seed=1), some_matches(own)
    aligned = align(student, teacher, assignment)
    assert aligned.student.predictions.grid.sizes == aligned.teacher.predictions.grid.sizes == ((4, 4), (2, 2))
    assert torch.equal(aligned.student.predictions.class_logits, student.predictions.class_logits[:, 64:])
    assert torch.equal(aligned.teacher.predictions.class_logits, teacher.predictions.class_logits[:, :20])
    assert torch.equal(aligned.assignment.matched, assignment.matched[:, 64:])
    assert torch.equal(aligned.student.predictions.boxes(), student.predictions.boxes()[:, 64:])
    assert all(a is b for a, b in zip(aligned.student.features.maps, student.features.maps[1:], strict=True))
    notes = grid_correspondence(own.strides, other.strides, identical_classes(CLASSES)).notes(
        student, Guidance(teacher)
    )
    assert notes == [
        "levels: strides 16, 32 are compared",
        "levels that only the student has: stride 8, left out",
        "levels that only the teacher has: stride 64, left out",
    ]


def test_rounded_strides_are_taken_for_the_same() -> None:
    """torchvision's step is the canvas divided by the cells: 57 and 114 for strides 64 and 128 at some sizes."""
    alignment = grid_correspondence(
        ((32, 32), (64, 64), (128, 128)),
        ((32, 32), (57, 57), (114, 114)),
        identical_classes(CLASSES),
    )
    assert alignment.levels == ((0, 0), (1, 1), (2, 2))


def test_no_common_level_names_both_sides_and_the_way_out() -> None:
    with pytest.raises(DetdistillError) as refused:
        grid_correspondence(((4, 4),), ((8, 8), (16, 16)), identical_classes(CLASSES))
    assert "the teacher's strides are 8, 16, the student's 4; choose detector.strides" in str(refused.value)


def test_features_are_resized_bilinearly() -> None:
    own, other = layout((8,), ((1, 4),)), layout((8,), ((1, 2),))
    student, teacher = output(own), output(other)
    teacher.features.maps[0].copy_(torch.tensor([0.0, 4.0]))
    aligned = align(student, teacher, some_matches(own))
    assert aligned.teacher.features.maps[0][1, 2, 0].tolist() == [0, 1, 3, 4]
    (note,) = grid_correspondence(own.strides, other.strides, identical_classes(CLASSES)).notes(
        student, Guidance(teacher)
    )[1:]
    assert note == "the teacher's maps are resized to the student's: stride 8: 1x2 to 1x4"


def test_other_anchors_are_said() -> None:
    own, other = output(layout((8,), ((2, 2),))), output(layout((8,), ((2, 2),), anchors=9))
    notes = grid_correspondence(
        own.predictions.grid.strides, other.predictions.grid.strides, identical_classes(CLASSES)
    ).notes(own, Guidance(other))
    assert notes[1].startswith("anchors per cell: 1 in the student, 9 in the teacher; cells are compared")


def slow_candidates(
    out: Output, sizes: Sizes, *, by_cell: bool
) -> tuple[list[list[int]], list[list[list[float]]], list[list[int]]]:
    """For every image and candidate: the prior it stands for, its class logits, and the first prior of its cell."""
    priors: list[list[int]] = []
    logits: list[list[list[float]]] = []
    cells: list[list[int]] = []
    grid = out.predictions.grid
    for values in out.predictions.class_logits.tolist():
        priors.append([])
        logits.append([])
        cells.append([])
        start = 0
        for (height, width), (rows, columns), anchors in zip(grid.sizes, sizes, grid.anchors_per_cell, strict=True):
            for i in range(rows):
                for j in range(columns):
                    row, column = (2 * i + 1) * height // (2 * rows), (2 * j + 1) * width // (2 * columns)
                    first = start + (row * width + column) * anchors
                    own = values[first : first + anchors]
                    if by_cell:
                        best = max(range(anchors), key=lambda k: (max(own[k]), -k))
                        priors[-1].append(first + best)
                        logits[-1].append([max(column) for column in zip(*own, strict=True)])
                        cells[-1].append(first)
                    else:
                        priors[-1].extend(range(first, first + anchors))
                        logits[-1].extend(own)
                        cells[-1].extend([first] * anchors)
            start += height * width * anchors
    return priors, logits, cells


def assert_same(found: Output, out: Output, sizes: Sizes, *, by_cell: bool) -> None:
    priors, logits, _ = slow_candidates(out, sizes, by_cell=by_cell)
    chosen = torch.tensor(priors)
    image = torch.arange(len(chosen))[:, None]
    assert torch.equal(found.predictions.class_logits, torch.tensor(logits))
    assert torch.equal(found.predictions.boxes(), out.predictions.boxes()[image, chosen])
    some = (torch.tensor([1, 0]), torch.tensor([found.predictions.grid.num_priors - 1, 0]))
    assert torch.equal(found.predictions.boxes(some), found.predictions.boxes()[some])
    assert torch.equal(found.predictions.regression, out.predictions.regression[image, chosen])
    assert out.predictions.quality_logits is not None
    assert found.predictions.quality_logits is not None
    assert torch.equal(found.predictions.quality_logits, out.predictions.quality_logits[image, chosen])
    assert found.predictions.grid.num_priors == found.predictions.class_logits.shape[1]


def slow_matches(assignment: Assignment, grid: Grid) -> list[list[int]]:
    rows = []
    for matched in assignment.matched.tolist():
        cells, start = [], 0
        for (height, width), anchors in zip(grid.sizes, grid.anchors_per_cell, strict=True):
            for _ in range(height * width):
                cells.append(matched[start : start + anchors])
                start += anchors
        rows.append([next((m for m in cell if m >= 0), IGNORED if IGNORED in cell else BACKGROUND) for cell in cells])
    return rows


@settings(max_examples=60)
@given(
    st.lists(st.tuples(*[st.integers(1, 5)] * 4, *[st.integers(1, 3)] * 2), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_equals_a_plain_loop(shapes: list[tuple[int, ...]], alike: bool, resize: bool, seed: int) -> None:
    own = [shape[4] for shape in shapes]
    other = own if alike else [shape[5] for shape in shapes]
    strides = (8, 16, 32)[: len(shapes)]
    sizes: Sizes = tuple((shape[0], shape[1]) for shape in shapes)
    other_sizes: Sizes = tuple((shape[2], shape[3]) for shape in shapes) if resize else sizes
    student = output(layout(strides, sizes, own), seed=seed, quality=True)
    teacher = output(layout(strides, other_sizes, other), seed=seed + 1, quality=True)
    assignment = some_matches(student.predictions.grid, seed=seed)
    aligned = align(student, teacher, assignment)
    by_cell = own != other
    assert_same(aligned.student, student, sizes, by_cell=by_cell)
    assert_same(aligned.teacher, teacher, sizes, by_cell=by_cell)
    expected = slow_matches(assignment, student.predictions.grid) if by_cell else assignment.matched.tolist()
    assert aligned.assignment.matched.tolist() == expected
    assert aligned.teacher.predictions.grid.sizes == sizes
    for mine, theirs in zip(aligned.student.features.maps, aligned.teacher.features.maps, strict=True):
        assert mine.shape == theirs.shape


def test_the_best_anchor_is_the_best_for_a_class_that_both_have() -> None:
    own, other = layout((8,), ((1, 1),)), layout((8,), ((1, 1),), anchors=2)
    student, teacher = output(own), output(other)
    teacher.predictions.class_logits.copy_(torch.tensor([[9.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    aligned = align(student, teacher, some_matches(own), ("horse", "dog", "cow"))
    assert aligned.teacher.predictions.class_logits.tolist() == [[[1.0, 0.0]]] * 2
    assert torch.equal(aligned.teacher.predictions.boxes(), teacher.predictions.boxes()[:, 1:])


def test_an_object_without_a_class_of_the_teacher_keeps_its_candidates() -> None:
    grid = layout(STRIDES, SIZES)
    student, teacher, assignment = output(grid), output(grid, classes=2, seed=1), some_matches(grid)
    aligned = align(student, teacher, assignment, ("cow", "cat"))
    assert aligned.targets.labels.tolist() == [0, BACKGROUND, 1]
    assert aligned.assignment is assignment
    assert torch.equal(aligned.student.predictions.class_logits, student.predictions.class_logits[..., [0, 2]])
    assert torch.equal(aligned.teacher.predictions.class_logits, teacher.predictions.class_logits[..., [1, 0]])
    assert aligned.student.features is student.features
    assert torch.equal(aligned.teacher.predictions.boxes(), teacher.predictions.boxes())


def test_gradients_reach_the_student_through_cells() -> None:
    own, other = layout(STRIDES, SIZES, anchors=3), layout(STRIDES, SIZES)
    student, teacher = output(own), output(other, seed=1)
    student.predictions.class_logits.requires_grad_()
    student.predictions.regression.requires_grad_()
    aligned = align(student, teacher, some_matches(own))
    torch.autograd.backward(aligned.student.predictions.class_logits.sum() + aligned.student.predictions.boxes().sum())
    assert student.predictions.class_logits.grad is not None
    assert student.predictions.class_logits.grad.sum() == aligned.student.predictions.class_logits.numel()
    assert student.predictions.regression.grad is not None
    assert (student.predictions.regression.grad != 0).any(dim=-1).sum() <= 2 * 84


def test_a_cell_has_the_prior_of_the_anchor_that_it_stands_for() -> None:
    """The best anchor of each is the second, 32 x 8: the deltas are those of the box on that anchor."""
    own = anchor_grid((2, 2), anchors=[[0, 0, 16, 16], [0, 0, 32, 8]])
    logits = torch.tensor([0.0, 1.0]).repeat(4).view(1, 8, 1)
    deltas = torch.tensor([[0.5, 0, 0, 0], [0, 0, 0.1, 0.2]]).repeat(4, 1)[None]
    student = anchor_output(own, [torch.zeros(1, 2, 2, 2)], logits, deltas)
    other = anchor_grid((2, 2))
    teacher = anchor_output(other, student.features.maps, torch.zeros(1, 4, 1))
    alignment = grid_correspondence(own.strides, other.strides, identical_classes(("cat",)))
    aligned = alignment(student, Guidance(teacher), {DENSE: Assignment(torch.full((1, 8), BACKGROUND))}, truth())
    assert isinstance(student.predictions.coder, DeltaCoder)
    index = torch.tensor([0, 0]), torch.tensor([0, 3])
    assert torch.equal(aligned.student.predictions.priors(index), own.priors[[1, 7]])
    encoded = encode_deltas(aligned.student.predictions.priors(index), aligned.student.predictions.boxes(index))
    assert torch.allclose(encoded, deltas[0, [1, 7]], atol=1e-6)
    assert torch.equal(aligned.student.predictions.anchors.priors, own.priors)
    assert torch.equal(aligned.teacher.predictions.anchors.priors, other.priors)
