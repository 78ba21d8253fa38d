from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.data.batching import (
    MOST_CANVASES,
    EvaluationBatches,
    Size,
    TrainingBatches,
    area,
    training_canvases,
)
from detdistill.errors import DataError

SIDES = st.integers(1, 12).map(lambda cells: 32 * cells)
CANVASES = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=40)
FEW_CANVASES = st.lists(st.sampled_from([(64, 96), (96, 64), (96, 96)]), min_size=4, max_size=60)
WORLDS = st.integers(1, 4)


@given(CANVASES, st.integers(1, 5))
def test_few_canvases_cover_all_images(canvases: list[Size], most: int) -> None:
    chosen = training_canvases(canvases, most)
    assert len(set(chosen)) <= most
    for own, canvas in zip(canvases, chosen, strict=True):
        assert own[0] <= canvas[0]
        assert own[1] <= canvas[1]
        assert not [other for other in set(chosen) if area(other) < area(canvas) and covers(other, own)], "the nearest"


def covers(canvas: Size, own: Size) -> bool:
    return own[0] <= canvas[0] and own[1] <= canvas[1]


@given(CANVASES)
def test_as_few_canvases_as_allowed_stay_as_they_are(canvases: list[Size]) -> None:
    if len(set(canvases)) <= MOST_CANVASES:
        assert training_canvases(canvases) == canvases


def test_the_merge_that_adds_the_fewest_pixels_comes_first() -> None:
    canvases = [(96, 64)] * 100 + [(64, 96)] * 100 + [(64, 64)]
    assert training_canvases(canvases, 2) == [(96, 64)] * 100 + [(64, 96)] * 100 + [(64, 96)]


def epoch_of(
    canvases: list[Size], batch_size: int, world: int, epoch: int = 0, seed: int = 3, start: int = 0
) -> list[list[list[int]]]:
    """The batches of every process."""
    shares = []
    for rank in range(world):
        names = [f"{index}.jpg" for index in range(len(canvases))]
        batches = TrainingBatches(names, canvases, batch_size=batch_size, seed=seed, rank=rank, world=world)
        batches.set_epoch(epoch, start)
        listed = list(batches)
        assert {number for batch in listed for number, _ in batch} <= {epoch}
        assert len(listed) == len(batches) - start
        shares.append([[index for _, index in batch] for batch in listed])
    return shares


@given(FEW_CANVASES, st.integers(1, 5), WORLDS, st.integers(0, 9))
def test_an_epoch_shows_every_image_once_in_batches_of_one_canvas(
    canvases: list[Size], batch_size: int, world: int, epoch: int
) -> None:
    shares = epoch_of(canvases, batch_size, world, epoch)
    assert len({len(share) for share in shares}) == 1, "the processes take equally many steps"
    batches = [batch for share in shares for batch in share]
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert all(len({canvases[index] for index in batch}) == 1 for batch in batches)
    shown = Counter(index for batch in batches for index in batch)
    assert set(shown.values()) == {1}
    left_out = len(canvases) - len(shown)
    if any(len(batch) > 1 for batch in batches) or world == 1:
        assert left_out == 0
    else:
        assert left_out < world


@given(FEW_CANVASES, st.integers(1, 5))
def test_as_few_batches_as_hold_the_images_and_all_of_nearly_one_size(canvases: list[Size], batch_size: int) -> None:
    (batches,) = epoch_of(canvases, batch_size, 1)
    for canvas, count in Counter(canvases).items():
        sizes = [len(batch) for batch in batches if canvases[batch[0]] == canvas]
        assert len(sizes) == -(-count // batch_size)
        assert max(sizes) - min(sizes) <= 1


def test_processes_take_batches_of_one_canvas_in_the_same_step() -> None:
    canvases: list[Size] = [(64, 96)] * 32 + [(96, 64)] * 16
    first, second = epoch_of(canvases, 4, 2)
    assert [canvases[batch[0]] for batch in first] == [canvases[batch[0]] for batch in second]


def test_the_order_depends_on_seed_epoch_and_names_alone() -> None:
    canvases: list[Size] = [(64, 96), (96, 64)] * 20
    assert epoch_of(canvases, 4, 1, 3) == epoch_of(canvases, 4, 1, 3)
    assert epoch_of(canvases, 4, 1, 3) != epoch_of(canvases, 4, 1, 4)
    assert epoch_of(canvases, 4, 1, 3) != epoch_of(canvases, 4, 1, 3, seed=4)
    names = [f"{index}.jpg" for index in range(40)]

    def shown(order: list[int]) -> list[list[str]]:
        own, own_canvases = [names[index] for index in order], [canvases[index] for index in order]
        batches = TrainingBatches(own, own_canvases, batch_size=4, seed=0)
        return [[own[index] for _, index in batch] for batch in batches]

    assert shown(list(range(40))) == shown(list(range(40))[::-1])


@given(FEW_CANVASES, st.integers(1, 5), st.integers(0, 4))
def test_an_epoch_resumes_where_it_stopped(canvases: list[Size], batch_size: int, start: int) -> None:
    (whole,) = epoch_of(canvases, batch_size, 1)
    start = min(start, len(whole))
    assert epoch_of(canvases, batch_size, 1, start=start) == [whole[start:]]


def test_other_images_are_left_out_each_epoch_where_batches_cannot_be_divided() -> None:
    canvases: list[Size] = [(64, 64)] * 5 + [(64, 96)] * 4
    left_out = []
    for epoch in range(12):
        shown = {index for share in epoch_of(canvases, 1, 2, epoch) for batch in share for index in batch}
        left_out += list(set(range(9)) - shown)
    assert len(left_out) == 12
    assert len(set(left_out)) > 4


def test_fewer_images_than_processes_is_an_error() -> None:
    with pytest.raises(DataError):
        TrainingBatches(["a", "b"], [(64, 64)] * 2, batch_size=1, seed=0, rank=0, world=3)


@given(st.lists(st.sampled_from([(64, 96), (96, 64)]), max_size=40), st.integers(1, 5), WORLDS)
def test_evaluation_takes_every_image_exactly_once_in_batches_of_one_canvas(
    canvases: list[Size], batch_size: int, world: int
) -> None:
    shares = [list(EvaluationBatches(canvases, batch_size=batch_size, rank=rank, world=world)) for rank in range(world)]
    batches = [[index for _, index in batch] for share in shares for batch in share]
    assert sorted(index for batch in batches for index in batch) == list(range(len(canvases)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert all(len({canvases[index] for index in batch}) == 1 for batch in batches)
    for rank, share in enumerate(shares):
        assert len(EvaluationBatches(canvases, batch_size=batch_size, rank=rank, world=world)) == len(share)
        assert {index % world for batch in share for _, index in batch} <= {rank}
        assert [batch[0] for batch in share] == sorted(batch[0] for batch in share)
