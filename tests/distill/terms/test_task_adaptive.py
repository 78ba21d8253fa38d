from __future__ import annotations

import pytest
import torch

from detdistill.core.structures import Assignment
from detdistill.distill.terms.task_adaptive import TaskAdaptive, gaussian_maps
from detdistill.distill.view import View
from detdistill.distill.weighting import Weight, Weighting
from support.term_cases import bound, grid, objects, output


def test_gaussian_by_hand() -> None:
    """The box has its centre in a cell's, and its left and upper edges run through the centres of cells."""
    (map_,) = gaussian_maps(grid((4, 4)), objects([[4, 4, 20, 20]], side=32))
    assert map_[0, 1, 1].item() == pytest.approx(1)
    assert map_[0, 0, 1].item() == map_[0, 1, 0].item() == pytest.approx(0.606531, abs=1e-6)
    assert map_[0, 0, 0].item() == pytest.approx(0.367879, abs=1e-6)
    assert map_[0, 2:].sum() == map_[0, :, 2:].sum() == 0


def test_where_boxes_overlap_the_larger_value_counts() -> None:
    alone = [gaussian_maps(grid((4, 4)), objects([box], side=32))[0] for box in ([0, 0, 24, 24], [8, 8, 32, 32])]
    (both,) = gaussian_maps(grid((4, 4)), objects([[0, 0, 24, 24], [8, 8, 32, 32]], side=32))
    assert torch.equal(both, torch.maximum(*alone))


def test_features_count_by_the_gaussian() -> None:
    of = grid((4, 4))
    own = output(of, [torch.zeros(1, 2, 4, 4)], torch.zeros(1, 16, 1))
    features = torch.zeros(1, 2, 4, 4)
    features[0, :, 0, 0] = 3
    other = output(of, [features], torch.zeros(1, 16, 1))
    term = bound(TaskAdaptive(), own, other)
    parts = term(View(own, other, Assignment(torch.full((1, 16), -1)), objects([[4, 4, 20, 20]], side=32)))
    weights = 1 + 2 * 0.606531 + 0.367879
    assert parts["features"].item() == pytest.approx(9 * 0.367879 / weights, rel=1e-5)


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        ((0.25, 0, 0, 0), 0.25**2 / 2),  # better than the prior, which is .5 away
        ((-0.25, 0, 0, 0), 0),  # worse
        ((0, 0, 0, 0), 0),  # the same
    ],
)
def test_boxes_are_learnt_where_the_teacher_is_closer_than_the_prior(
    teacher: tuple[float, ...], expected: float
) -> None:
    of = grid((4, 4), anchors=[[0, 0, 16, 16]])
    own = output(of, [torch.zeros(1, 2, 4, 4)], torch.zeros(1, 16, 1))
    other = output(of, own.features.maps, torch.zeros(1, 16, 1), torch.tensor(teacher).expand(1, 16, 4))
    assignment = torch.full((1, 16), -1)
    assignment[0, 0] = 0
    parts = bound(TaskAdaptive(), own, other)(
        View(own, other, Assignment(assignment), objects([[8, 0, 24, 16]], side=32))
    )
    assert parts["regression"].item() == pytest.approx(expected, abs=1e-7)


def test_the_papers_decay_is_the_linear_one() -> None:
    """The fourth of twelve epochs: .75."""
    weighting = Weighting({"task_adaptive": Weight(1.0, decay="linear")})
    weighting.begin_step(300, 1200, 0)
    assert weighting.weight("task_adaptive") == pytest.approx(0.75)
