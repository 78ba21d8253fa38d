from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.draws import Draws
from detdistill.core.structures import BACKGROUND, Assignment
from detdistill.detectors.two_stage.sampling import RandomSampler, sampled

matches = st.lists(st.sampled_from([-2, -1, -1, 0, 1, 5]), max_size=40).map(torch.tensor).map(torch.Tensor.long)


@given(matches, st.integers(1, 20), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 3))
def test_takes_positives_up_to_their_share_and_fills_up(
    matched: torch.Tensor, count: int, share: float, seed: int
) -> None:
    chosen = RandomSampler(count, share)(matched, torch.Generator().manual_seed(seed))
    positives, negatives = int((matched >= 0).sum()), int((matched == BACKGROUND).sum())
    taken = min(positives, int(count * share))
    assert int((chosen & (matched >= 0)).sum()) == taken
    assert int((chosen & (matched == BACKGROUND)).sum()) == min(negatives, count - taken)
    assert not (chosen & (matched == -2)).any()


def test_an_image_draws_the_same_wherever_it_stands() -> None:
    matched = torch.tensor([0, BACKGROUND]).repeat(2, 50)
    sampler = RandomSampler(10, 0.5)
    both = sampled(sampler, Assignment(matched), Draws(3, 7, ("a", "b")), "roi")
    second = sampled(sampler, Assignment(matched[1:]), Draws(3, 7, ("b",)), "roi")
    assert torch.equal(both[1:], second)
    assert not torch.equal(both[0], both[1])
    later = sampled(sampler, Assignment(matched), Draws(3, 8, ("a", "b")), "roi")
    assert not torch.equal(both, later)


def test_without_draws_always_the_same() -> None:
    matched = Assignment(torch.full((2, 60), BACKGROUND))
    first, again = (sampled(RandomSampler(5, 0.5), matched, None, "rpn") for _ in range(2))
    assert torch.equal(first, again)
    assert first.sum(dim=1).tolist() == [5, 5]
