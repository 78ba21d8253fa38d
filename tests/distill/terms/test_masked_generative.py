from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.core.output import Output
from detdistill.core.structures import Assignment
from detdistill.distill.terms.masked_generative import MaskedGenerative
from detdistill.distill.view import View
from support.term_cases import bound, grid, objects, output

OF = grid((20, 24), (10, 12))
TARGETS = objects([], images=2)
NOTHING = Assignment(torch.full((2, 600), -1))


def side(seed: int, channels: int = 4) -> Output:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(2, channels, *size, generator=generator) for size in OF.sizes]
    return output(OF, maps, torch.zeros(2, 600, 1))


def loss(term: MaskedGenerative, own: Output, other: Output) -> Tensor:
    value: Tensor = term(View(own, other, NOTHING, TARGETS))["features"]
    return value


def term(**options: float) -> MaskedGenerative:
    made = MaskedGenerative(**options)
    bound(made, side(0), side(1))
    return made


def test_nothing_masked_is_the_squared_distance_of_what_is_generated() -> None:
    generative, own, other = term(masked=0.0), side(0), side(1)
    expected = torch.zeros(())
    for generate, mine, theirs in zip(generative.generators, own.features.maps, other.features.maps, strict=True):
        expected = expected + (generate(mine) - theirs).square().sum() / 2
    torch.testing.assert_close(loss(generative, own, other), expected)


def test_everything_masked_leaves_nothing_of_the_student() -> None:
    generative = term(masked=1.0)
    assert torch.equal(loss(generative, side(0), side(1)), loss(generative, side(2), side(1)))


def test_the_share_of_the_cells_is_masked_in_all_channels() -> None:
    generative = term(masked=0.65)
    generative.generators = nn.ModuleList([nn.Identity(), nn.Identity()])
    ones, zeros = (
        output(OF, [torch.full((2, 4, *size), value) for size in OF.sizes], torch.zeros(2, 600, 1))
        for value in (1.0, 0.0)
    )
    shares = [loss(generative, ones, zeros).item() / (4 * 600) for _ in range(5)]
    assert sum(shares) / 5 == pytest.approx(0.35, abs=0.03)
    assert len(set(shares)) > 1
    assert all(share * 600 * 2 == pytest.approx(round(share * 600 * 2), abs=1e-2) for share in shares)


def test_masks_follow_the_number_of_the_step_and_no_other_random_number() -> None:
    generative, own, other = term(), side(0), side(1)
    before = torch.get_rng_state()
    first = [loss(generative, own, other).item() for _ in range(3)]
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(first)) == 3
    resumed = term()
    resumed.load_state_dict(copy.deepcopy(generative.state_dict()))
    torch.manual_seed(99)
    assert loss(resumed, own, other).item() == loss(generative, own, other).item()


def test_a_share_is_0_to_1() -> None:
    with pytest.raises(DetdistillError, match="masked must be 0 to 1, not 65"):
        MaskedGenerative(masked=65)
