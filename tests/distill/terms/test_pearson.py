from __future__ import annotations

import pytest
import torch

from detdistill.core.errors import DetdistillError
from detdistill.core.structures import Assignment, ReduceSum
from detdistill.distill.terms.pearson import Pearson
from detdistill.distill.view import View
from detdistill.losses.features import pearson_imitation
from support.term_cases import bound, grid, objects, output, shares

SIZES = ((8, 8), (4, 4), (2, 2))


def case(channels: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, channels, *size, generator=generator) for size in SIZES)


def test_the_finest_levels_are_compared() -> None:
    own, other = (output(grid(*SIZES), case(4, seed), torch.zeros(2, 84, 1)) for seed in (0, 1))
    term = bound(Pearson(levels=2), own, other)
    loss = term(View(own, other, Assignment(torch.zeros(2, 84)), objects([], images=2)))["features"]
    torch.testing.assert_close(loss, pearson_imitation(own.features.maps[:2], other.features.maps[:2]))


def test_statistics_are_those_of_each_process() -> None:
    """Two processes' shares add up to the mean of what each would have alone."""
    own, other = case(4, 0), case(4, 1)

    def part(image: int, reduce_sum: ReduceSum) -> dict[str, torch.Tensor]:
        mine = ([level[image : image + 1] for level in side] for side in (own, other))
        return {"features": pearson_imitation(*mine, reduce_sum=reduce_sum)}

    total = sum(share["features"] for share in shares(part, 2))
    alone = [
        pearson_imitation([level[image : image + 1] for level in own], [level[image : image + 1] for level in other])
        for image in range(2)
    ]
    torch.testing.assert_close(total, (alone[0] + alone[1]) / 2)


def test_a_narrower_student_is_refused() -> None:
    own, other = (output(grid(*SIZES), case(channels), torch.zeros(2, 84, 1)) for channels in (4, 6))
    with pytest.raises(DetdistillError, match=r"the student's pyramid has 4 channels, the teacher's 6.*channels: 6"):
        bound(Pearson(), own, other)
    with pytest.raises(DetdistillError, match="levels must be at least 1, not 0"):
        Pearson(levels=0)
