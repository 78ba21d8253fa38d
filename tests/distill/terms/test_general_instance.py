from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from detdistill.core.output import Output
from detdistill.core.structures import Assignment
from detdistill.distill.terms.general_instance import GeneralInstance
from detdistill.distill.view import View
from support.term_cases import bound, grid, objects, output

SIDE = 64
OF = grid((8, 8), anchors=[[0, 0, 16, 16]])
NOWHERE = Assignment(torch.full((1, 64), -1))
NOTHING = objects([], side=SIDE)


def probabilities(places: dict[int, tuple[float, float]]) -> Tensor:
    """Logits `(1, 64, 2)` of two classes: .1 but at some priors."""
    values = torch.full((1, 64, 2), 0.1)
    for prior, own in places.items():
        values[0, prior] = torch.tensor(own)
    return values.logit()


def side(logits: Tensor, features: float = 0.0, deltas: Tensor | None = None) -> Output:
    return output(OF, [torch.full((1, 3, 8, 8), float(features))], logits, deltas)


@pytest.mark.parametrize(("score", "prior"), [("difference_of_best", 20), ("largest_difference", 2)])
def test_sources_differ_in_what_differs_most(
    score: Literal["difference_of_best", "largest_difference"], prior: int
) -> None:
    """At prior 2 both are sure, of different classes; at prior 20 the student is less sure."""
    student = side(probabilities({2: (0.9, 0.1), 20: (0.3, 0.1)}))
    teacher = side(probabilities({2: (0.1, 0.9), 20: (0.7, 0.1)}))
    term = GeneralInstance(score=score, instances=1)
    regions = term.general_instances(student, teacher, NOTHING.sizes)
    assert torch.equal(regions.boxes, OF.priors[[prior]])


@pytest.mark.parametrize("teacher_is_surer", [True, False])
def test_the_box_is_that_of_the_surer(teacher_is_surer: bool) -> None:
    moved = torch.tensor([0.25, 0, 0, 0]).expand(1, 64, 4)
    sure, unsure = probabilities({20: (0.7, 0.1)}), probabilities({})
    student, teacher = side(unsure if teacher_is_surer else sure), side(sure if teacher_is_surer else unsure, 0, moved)
    regions = GeneralInstance(instances=1).general_instances(student, teacher, NOTHING.sizes)
    assert torch.equal(regions.boxes, OF.priors[[20]] + (torch.tensor([4.0, 0, 4, 0]) if teacher_is_surer else 0))


def test_small_boxes_are_no_instances() -> None:
    thin = torch.tensor([0, 0, -0.5, 0]).expand(1, 64, 4)  # 9.7 pixels
    regions = GeneralInstance().general_instances(
        side(probabilities({}), 0, thin), side(probabilities({20: (0.7, 0.1)}), 0, thin), NOTHING.sizes
    )
    assert len(regions.boxes) == 0


def test_by_hand() -> None:
    """One instance. Three channels differ by 2: 12 for its bins. It has the one candidate that is its box."""
    student = side(probabilities({20: (0.5, 0.1)}))
    teacher = side(probabilities({20: (0.8, 0.1)}), 2, torch.tensor([0, 0.01, 0, 0.02]).expand(1, 64, 4))
    term = bound(GeneralInstance(instances=1), student, teacher)
    parts = {name: part.item() for name, part in term(View(student, teacher, NOWHERE, NOTHING)).items()}
    assert parts == pytest.approx(
        {"features": 5e-4 * 12, "relations": 0, "classification": 0.1 * 0.192745, "regression": 0.03}, rel=1e-4
    )


def test_relations_by_hand() -> None:
    """Three instances far from one another, whose features are 0, 1, 2 and 0, 1, 3 in one channel."""
    priors = {9: 0.0, 13: 1.0, 41: 2.0}
    maps = []
    for values in ((0.0, 1.0, 2.0), (0.0, 1.0, 3.0)):
        level = torch.zeros(1, 1, 8, 8)
        for prior, value in zip(priors, values, strict=True):
            row, column = divmod(prior, 8)
            level[0, 0, max(0, row - 1) : row + 3, max(0, column - 1) : column + 3] = value
        maps.append(level)
    student = output(OF, maps[:1], probabilities({}))
    teacher = output(OF, maps[1:], probabilities(dict.fromkeys(priors, (0.9, 0.1))))
    term = bound(GeneralInstance(instances=3), student, teacher)
    assert len(GeneralInstance(instances=3).general_instances(student, teacher, NOTHING.sizes).boxes) == 3
    assert term(View(student, teacher, NOWHERE, NOTHING))["relations"].item() == pytest.approx(40 * 0.0208333, rel=1e-4)
