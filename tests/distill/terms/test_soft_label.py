from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from detdistill.core.errors import DetdistillError
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Targets
from detdistill.distill.terms.soft_label import SoftLabel
from detdistill.distill.view import View
from detdistill.losses.distribution import distribution_kl
from detdistill.losses.soft_labels import binary_kl, modulated_binary_cross_entropy
from support.term_cases import bound, grid, objects, output

GRID = grid((1, 4))
BOX = (0.0, 0.0, 16.0, 16.0)
MATCHED = Assignment(torch.tensor([[0, BACKGROUND, 0, IGNORED]]))
POSITIVE, COUNTED = [0, 2], [0, 1, 2]


def both(classes: int = 2) -> Any:
    random = torch.Generator().manual_seed(0)
    return [output(GRID, [torch.zeros(1, 1, 1, 4)], torch.randn(1, 4, classes, generator=random)) for _ in range(2)]


@pytest.mark.parametrize(("where", "cells"), [("positive", POSITIVE), ("all", COUNTED)])
@pytest.mark.parametrize("form", ["binary", "softmax", "modulated"])
def test_the_loss_of_the_chosen_over_the_number_of_positives(form: Any, where: Any, cells: list[int]) -> None:
    own, other = both()
    found = SoftLabel(form=form, where=where, temperature=2.0)(View(own, other, MATCHED, objects([BOX])))
    student, teacher = own.predictions.class_logits[0, cells], other.predictions.class_logits[0, cells]
    losses = {
        "binary": binary_kl(student, teacher, 2.0),
        "softmax": distribution_kl(student, teacher, 2.0),
        "modulated": modulated_binary_cross_entropy(student, teacher),
    }
    assert set(found) == {"classification"}
    torch.testing.assert_close(found["classification"], losses[form].sum() / len(POSITIVE))


def test_by_hand() -> None:
    """Probabilities 1/2 and 1/4 of one class: ½ ln 2 + ½ ln ⅔ = ½ ln 4/3."""
    own, other = (
        output(GRID, [torch.zeros(1, 1, 1, 4)], torch.full((1, 4, 1), value)) for value in (-math.log(3), 0.0)
    )
    found = SoftLabel()(View(own, other, MATCHED, objects([BOX])))
    assert found["classification"].item() == pytest.approx(math.log(4 / 3) / 2)


def test_the_softmax_is_that_of_published_weights() -> None:
    """LD's code averages over classes: logits (ln 3, 0) and (0, 0) give half of their divergence of .130812."""
    own, other = (
        output(GRID, [torch.zeros(1, 1, 1, 4)], torch.tensor([value, 0.0]).expand(1, 4, 2))
        for value in (0.0, math.log(3))
    )
    found = SoftLabel(form="softmax")(View(own, other, MATCHED, objects([BOX])))
    assert found["classification"].item() == pytest.approx(0.065406, abs=1e-6)


@pytest.mark.parametrize("where", ["positive", "all"])
def test_objects_that_the_teacher_has_no_class_for_are_left_out(where: Any) -> None:
    own, other = both()
    boxes = torch.tensor([BOX, BOX])
    targets = Targets(boxes, torch.tensor([0, BACKGROUND]), torch.tensor([0, 0]), torch.tensor([[64, 64]]))
    found = SoftLabel(where=where)(View(own, other, Assignment(torch.tensor([[0, BACKGROUND, 1, IGNORED]])), targets))
    cells = [0] if where == "positive" else [0, 1]
    expected = binary_kl(own.predictions.class_logits[0, cells], other.predictions.class_logits[0, cells]).sum()
    torch.testing.assert_close(found["classification"], expected)


def test_a_softmax_needs_classes_to_compare() -> None:
    own, other = both(classes=1)
    with pytest.raises(DetdistillError, match="only one class in common; choose form binary or modulated"):
        bound(SoftLabel(form="softmax"), own, other)
    bound(SoftLabel(), own, other)
