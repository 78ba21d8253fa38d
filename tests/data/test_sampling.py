from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.data.sampling import EvaluationSampler, TrainingSampler, derived_seed
from detdistill.errors import DataError

worlds = st.integers(1, 5)


@given(num_images=st.integers(5, 60), world=worlds, seed=st.integers(), epoch=st.integers(0, 50))
def test_processes_share_an_epoch_evenly_and_without_repeats(
    num_images: int, world: int, seed: int, epoch: int
) -> None:
    samplers = [TrainingSampler(num_images, seed=seed, rank=rank, world=world) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in samplers]
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers] == [num_images // world] * world
    indices = [index for share in shares for _, index in share]
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(range(num_images))
    assert {key_epoch for share in shares for key_epoch, _ in share} == {epoch}


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    def order(seed: int, epoch: int, before: int = 0) -> list[int]:
        sampler = TrainingSampler(50, seed=seed)
        for earlier in range(before):
            sampler.set_epoch(earlier)
            list(sampler)
        sampler.set_epoch(epoch)
        return [index for _, index in sampler]

    assert order(1, 3) == order(1, 3, before=2)
    assert order(1, 3) != order(1, 4)
    assert order(1, 3) != order(2, 3)


@given(start=st.integers(0, 25), world=st.integers(1, 2))
def test_an_epoch_goes_on_where_it_stopped(start: int, world: int) -> None:
    sampler = TrainingSampler(25, seed=7, world=world)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.set_epoch(2, start)
    assert list(sampler) == whole[start:]
    sampler.set_epoch(3)
    assert len(list(sampler)) == len(sampler)


def test_another_image_sits_out_each_epoch() -> None:
    left_out = []
    for epoch in range(8):
        seen: set[int] = set()
        for rank in range(2):
            sampler = TrainingSampler(9, seed=0, rank=rank, world=2)
            sampler.set_epoch(epoch)
            seen |= {index for _, index in sampler}
        left_out += list(set(range(9)) - seen)
    assert len(left_out) == 8
    assert len(set(left_out)) > 3


def test_fewer_images_than_processes_is_an_error() -> None:
    with pytest.raises(DataError, match="2 images are too few"):
        TrainingSampler(2, seed=0, rank=0, world=3)


@given(num_images=st.integers(0, 40), world=worlds)
def test_evaluation_takes_every_image_exactly_once(num_images: int, world: int) -> None:
    shares = [list(EvaluationSampler(num_images, rank=rank, world=world)) for rank in range(world)]
    assert sorted(index for share in shares for _, index in share) == list(range(num_images))
    for rank, share in enumerate(shares):
        assert len(EvaluationSampler(num_images, rank=rank, world=world)) == len(share)


@given(st.lists(st.integers(-5, 5) | st.text(alphabet="ab1", max_size=3), max_size=4))
def test_derived_seeds_are_seeds_and_depend_on_where_parts_end(parts: list[int | str]) -> None:
    seed = derived_seed(*parts)
    assert 0 <= seed < 2**63
    assert seed == derived_seed(*parts)
    assert derived_seed("ab", "c", *parts) != derived_seed("a", "bc", *parts)
