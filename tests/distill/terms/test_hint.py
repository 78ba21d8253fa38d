from __future__ import annotations

from typing import Any

import pytest
import torch

from detdistill.core.structures import Assignment, Targets
from detdistill.distill.terms.hint import Hint
from detdistill.distill.view import View
from support.term_cases import bound, grid, output

GRID = grid((1, 4))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("all", (1 + 4 + 9) / 3),  # the last cell is padding
        ("positive", 4.0),
        ("box", (1 + 4) / 2),
    ],
)
def test_which_cells_count(where: Any, expected: float) -> None:
    own = output(GRID, [torch.zeros(1, 2, 1, 4)], torch.zeros(1, 4, 1))
    teacher = torch.tensor([1.0, 2.0, 3.0, 50.0]).expand(1, 2, 1, 4)
    other = output(GRID, [teacher], torch.zeros(1, 4, 1))
    targets = Targets(
        torch.tensor([[0.0, 0.0, 14.0, 8.0]]), torch.tensor([0]), torch.tensor([0]), torch.tensor([[8, 24]])
    )
    term = bound(Hint(where=where), own, other)
    found = term(View(own, other, Assignment(torch.tensor([[-1, 0, -1, -2]])), targets))
    assert set(found) == {"features"}
    assert found["features"].item() == pytest.approx(expected)


@pytest.mark.parametrize("adapter", ["auto", "always"])
def test_an_adapter_may_be_forced(adapter: Any) -> None:
    own = output(GRID, [torch.zeros(1, 2, 1, 4)], torch.zeros(1, 4, 1))
    assert len(list(bound(Hint(adapter=adapter), own, own).parameters())) == (2 if adapter == "always" else 0)
