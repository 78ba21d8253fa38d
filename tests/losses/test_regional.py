from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.losses.regional import decoupled_imitation, fine_grained_imitation

Maps = list[Tensor]
Normalizer = Literal["locations", "elements"]


def row(*cells: Sequence[float]) -> Tensor:
    """A map `(1, channels, 1, cells)` from the channels of each cell."""
    return torch.tensor(cells, dtype=torch.float64).T[None, :, None]


def mask(*cells: int) -> Tensor:
    return torch.tensor([[cells]], dtype=torch.bool)


@pytest.mark.parametrize(("normalizer", "expected"), [("locations", 2.5), ("elements", 1.25)])
def test_fine_grained_by_hand(normalizer: Normalizer, expected: float) -> None:
    teacher = row((1, 2), (0, 0))
    student = torch.zeros_like(teacher, requires_grad=True)
    loss = fine_grained_imitation([student], [teacher], [mask(1, 0)], normalizer=normalizer)
    assert loss.item() == pytest.approx(expected)
    # All levels are one set of cells: (5 + 9) / (2 · 2) instead of (5 / 2 + 9 / 2).
    loss = fine_grained_imitation([student, row((0, 0))], [teacher, row((0, 3))], [mask(1, 0), mask(1)])
    assert loss.item() == pytest.approx(3.5)


def test_decoupled_by_hand() -> None:
    """Inside: 5 / (2 · 2) on the first level, nothing on the second. Outside: 10 / 4 and 16 / 4."""
    teacher = row((1, 2), (3, 1))
    student = torch.zeros_like(teacher, requires_grad=True)
    objects, background = decoupled_imitation([student], [teacher], [mask(1, 0)], [mask(1, 1)])
    assert objects.item() == pytest.approx(1.25)
    assert background.item() == pytest.approx(2.5)
    objects, background = decoupled_imitation(
        [student, row((0, 0))], [teacher, row((4, 0))], [mask(1, 0), mask(0)], [mask(1, 1), mask(1)]
    )
    assert objects.item() == pytest.approx(1.25 / 2)
    assert background.item() == pytest.approx((2.5 + 4) / 2)


def test_padding_is_neither() -> None:
    teacher = row((1, 2), (3, 1))
    parts = decoupled_imitation([0 * teacher], [teacher], [mask(1, 0)], [mask(0, 0)])
    assert [part.item() for part in parts] == [0, 0]


@st.composite
def pyramids(draw: st.DrawFn) -> tuple[Maps, Maps, Maps, Maps]:
    """Features of a student and its teacher, chosen and valid cells: two images, up to three levels."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    share = draw(st.sampled_from([0.0, 0.3, 1.0]))
    channels = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3))

    def maps() -> Maps:
        return [torch.randn(2, channels, *size, generator=generator, dtype=torch.float64) for size in sizes]

    def cells(share: float) -> Maps:
        return [torch.rand(2, *size, generator=generator) < share for size in sizes]

    return maps(), maps(), cells(share), cells(0.7)


def halved(student: Tensor, teacher: Tensor, cells: Tensor) -> tuple[float, int]:
    """Half the sum of squared differences over channels and cells, with loops, and the number of cells."""
    places = cells.nonzero().tolist()
    return sum(float(((student[n, :, y, x] - teacher[n, :, y, x]) ** 2).sum()) / 2 for n, y, x in places), len(places)


@given(drawn=pyramids())
def test_both_are_their_definitions(drawn: tuple[Maps, Maps, Maps, Maps]) -> None:
    students, teachers, chosen, valid = drawn
    channels = students[0].shape[1]
    levels = [halved(*level) for level in zip(students, teachers, chosen, strict=True)]
    expected = sum(total for total, _ in levels) / max(1, sum(count for _, count in levels))
    loss = fine_grained_imitation(students, teachers, chosen)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    by_elements = fine_grained_imitation(students, teachers, chosen, normalizer="elements")
    assert by_elements.item() == pytest.approx(expected / channels, rel=1e-9, abs=1e-12)

    parts = decoupled_imitation(students, teachers, chosen, valid)
    for part, sign in zip(parts, (True, False), strict=True):
        means = [
            total / max(1, count) / channels
            for total, count in (
                halved(s, t, (c == sign) & v) for s, t, c, v in zip(students, teachers, chosen, valid, strict=True)
            )
        ]
        assert part.item() == pytest.approx(sum(means) / len(means), rel=1e-9, abs=1e-12)
    # With every cell chosen, the foreground is the whole map.
    everywhere = [torch.ones_like(level) for level in chosen]
    inside, outside = decoupled_imitation(students, teachers, everywhere, everywhere)
    assert outside.item() == 0
    assert inside.item() > 0


def test_other_shapes_are_refused() -> None:
    four, two = torch.rand(1, 4, 2, 3), torch.rand(1, 2, 2, 3)
    cells = torch.ones(1, 2, 3, dtype=torch.bool)
    with pytest.raises(DetdistillError, match="different channels"):
        fine_grained_imitation([four], [two], [cells])
    with pytest.raises(DetdistillError, match="valid"):
        decoupled_imitation([four], [four], [cells], [cells[:, :1]])
