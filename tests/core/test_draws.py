from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.draws import Draws

numbers = st.integers(0, 10**6)


def drawn(draws: Draws, purpose: str = "") -> list[tuple[float, ...]]:
    """What each image of the batch draws first."""
    places = range(len(draws.images))
    return [tuple(torch.rand(4, generator=draws.generator(place, purpose)).tolist()) for place in places]


@given(numbers, numbers, st.lists(numbers, min_size=1, max_size=6, unique=True))
def test_an_image_draws_the_same_wherever_it_stands(seed: int, step: int, images: list[int]) -> None:
    expected = dict(zip(images, drawn(Draws(seed, step, tuple(images))), strict=True))
    assert drawn(Draws(seed, step, tuple(images))) == list(expected.values())
    shuffled = sorted(images, key=lambda image: hash((image, seed)))
    assert drawn(Draws(seed, step, tuple(shuffled))) == [expected[image] for image in shuffled]


@given(numbers, st.lists(numbers, min_size=1, max_size=6), st.data())
def test_a_share_of_a_batch_draws_what_the_batch_does(step: int, images: list[int], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(images)))
    stop = data.draw(st.integers(start, len(images)))
    whole = Draws(3, step, tuple(images))
    assert drawn(whole.of_images(start, stop)) == drawn(whole)[start:stop]


@given(numbers, numbers, numbers)
def test_seeds_steps_images_and_purposes_differ(seed: int, step: int, image: int) -> None:
    kinds = [Draws(seed, step, (image,)), Draws(seed + 1, step, (image,)), Draws(seed, step + 1, (image,))]
    kinds.append(Draws(seed, step, (image + 1,)))
    found = [drawn(one)[0] for one in kinds] + [drawn(kinds[0], "noise")[0]]
    assert len(set(found)) == len(found)


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = drawn(Draws(0, 0, (0,)))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert drawn(Draws(0, 0, (0,))) == first


def test_an_image_beyond_the_batch_is_refused() -> None:
    with pytest.raises(IndexError):
        Draws(0, 0, (5,)).generator(1)
