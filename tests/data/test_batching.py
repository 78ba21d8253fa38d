from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from detdistill.data.batching import MOST_CANVASES, EvaluationBatches, Size, TrainingBatches, area, training_canvases

SIDES = st.integers(1, 12).map(lambda cells: 32 * cells)
CANVASES = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=40)
FEW_CANVASES = st.lists(st.sampled_from([(64, 96), (96, 64), (96, 96)]), min_size=4, max_size=60)
WORLDS = st.integers(1, 4)


@given(CANVASES, st.integers(1, 5), st.integers(1, 9))
def test_few_canvases_cover_all_images(canvases: list[Size], most: int, least: int) -> None:
    chosen = training_canvases(canvases, most=most, least=least)
    assert len(set(chosen)) <= most
    for own, canvas in zip(canvases, chosen, strict=True):
        assert covers(canvas, own)
        assert not [other for other in set(chosen) if area(other) < area(canvas) and covers(other, own)], "the nearest"


def covers(canvas: Size, own: Size) -> bool:
    return own[0] <= canvas[0] and own[1] <= canvas[1]


@given(CANVASES)
def test_as_few_canvases_as_allowed_stay_as_they_are(canvases: list[Size]) -> None:
    if len(set(canvases)) <= MOST_CANVASES:
        assert training_canvases(canvases, least=1) == canvases


def test_the_merge_that_adds_the_fewest_pixels_comes_first() -> None:
    canvases = [(96, 64)] * 100 + [(64, 96)] * 99 + [(64, 64)]
    merged = [(96, 64)] * 100 + [(64, 96)] * 99 + [(64, 96)]
    assert training_canvases(canvases, least=1, most=2) == merged
    assert training_canvases(canvases, least=8) == merged, "a canvas of one image is no batch"


Batches = list[list[int]]


def epoch_of(
    canvases: list[Size], batch_size: int, world: int, epoch: int = 0, seed: int = 3, start: int = 0
) -> list[tuple[Batches, list[bool]]]:
    """The batches of every process, and which of them count."""
    shares = []
    for rank in range(world):
        names = [f"{index}.jpg" for index in range(len(canvases))]
        batches = TrainingBatches(names, canvases, batch_size=batch_size, seed=seed, rank=rank, world=world)
        batches.set_epoch(epoch, start)
        listed = list(batches)
        assert {draw.epoch for batch in listed for draw in batch} <= {epoch}
        assert len(listed) == len(batches) - start
        assert all(len({draw.counts for draw in batch}) == 1 for batch in listed)
        shares.append(([[draw.image for draw in batch] for batch in listed], [batch[0].counts for batch in listed]))
    return shares


@given(FEW_CANVASES, st.integers(1, 5), WORLDS, st.integers(0, 9))
def test_an_epoch_shows_every_image_once_in_batches_of_one_canvas(
    canvases: list[Size], batch_size: int, world: int, epoch: int
) -> None:
    shares = epoch_of(canvases, batch_size, world, epoch)
    assert len({len(batches) for batches, _ in shares}) == 1, "the processes take equally many steps"
    for step in zip(*(batches for batches, _ in shares), strict=True):
        assert all(1 <= len(batch) <= batch_size for batch in step)
        assert len({canvases[index] for batch in step for index in batch}) == 1
    counted = [batch for batches, counts in shares for batch, counts_ in zip(batches, counts, strict=True) if counts_]
    assert sorted(index for batch in counted for index in batch) == list(range(len(canvases)))


@given(FEW_CANVASES, st.integers(1, 4), st.integers(2, 4))
def test_several_processes_see_together_what_one_sees(canvases: list[Size], batch_size: int, world: int) -> None:
    shares = epoch_of(canvases, batch_size, world)
    ((alone, _),) = epoch_of(canvases, batch_size * world, 1)
    for number, step in enumerate(alone):
        together = [index for batches, counts in shares if counts[number] for index in batches[number]]
        assert sorted(together) == sorted(step)


@given(FEW_CANVASES, st.integers(1, 5))
def test_as_few_batches_as_hold_the_images_and_all_of_nearly_one_size(canvases: list[Size], batch_size: int) -> None:
    ((batches, _),) = epoch_of(canvases, batch_size, 1)
    for canvas, count in Counter(canvases).items():
        sizes = [len(batch) for batch in batches if canvases[batch[0]] == canvas]
        assert len(sizes) == -(-count // batch_size)
        assert max(sizes) - min(sizes) <= 1


def test_the_order_depends_on_seed_epoch_and_names_alone() -> None:
    canvases: list[Size] = [(64, 96), (96, 64)] * 20
    assert epoch_of(canvases, 4, 1, 3) == epoch_of(canvases, 4, 1, 3)
    assert epoch_of(canvases, 4, 1, 3) != epoch_of(canvases, 4, 1, 4)
    assert epoch_of(canvases, 4, 1, 3) != epoch_of(canvases, 4, 1, 3, seed=4)
    names = [f"{index}.jpg" for index in range(40)]

    def shown(order: list[int]) -> list[list[str]]:
        own, own_canvases = [names[index] for index in order], [canvases[index] for index in order]
        batches = TrainingBatches(own, own_canvases, batch_size=4, seed=0)
        return [[own[draw.image] for draw in batch] for batch in batches]

    assert shown(list(range(40))) == shown(list(range(40))[::-1])


@given(FEW_CANVASES, st.integers(1, 5), st.integers(0, 4))
def test_an_epoch_resumes_where_it_stopped(canvases: list[Size], batch_size: int, start: int) -> None:
    ((whole, _),) = epoch_of(canvases, batch_size, 1)
    start = min(start, len(whole))
    ((rest, _),) = epoch_of(canvases, batch_size, 1, start=start)
    assert rest == whole[start:]


@given(st.lists(st.sampled_from([(64, 96), (96, 64)]), max_size=40), st.integers(1, 5), WORLDS)
def test_evaluation_takes_every_image_exactly_once_in_batches_of_one_canvas(
    canvases: list[Size], batch_size: int, world: int
) -> None:
    shares = [list(EvaluationBatches(canvases, batch_size=batch_size, rank=rank, world=world)) for rank in range(world)]
    batches = [[draw.image for draw in batch] for share in shares for batch in share]
    assert sorted(index for batch in batches for index in batch) == list(range(len(canvases)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert all(len({canvases[index] for index in batch}) == 1 for batch in batches)
    for rank, share in enumerate(shares):
        assert len(EvaluationBatches(canvases, batch_size=batch_size, rank=rank, world=world)) == len(share)
        assert {draw.image % world for batch in share for draw in batch} <= {rank}
        assert [batch[0].image for batch in share] == sorted(batch[0].image for batch in share)


@given(FEW_CANVASES, FEW_CANVASES, st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_each_canvas_has_images_of_both_kinds(
    labelled: list[Size], unlabelled: list[Size], least: int, share: int, most: int
) -> None:
    chosen = training_canvases(labelled, least=least, most=most, unlabelled=unlabelled, share=share)
    own, others = chosen[: len(labelled)], chosen[len(labelled) :]
    assert len(set(chosen)) <= most
    assert all(covers(canvas, image) for image, canvas in zip([*labelled, *unlabelled], chosen, strict=True))
    if len(set(chosen)) > 1:
        for canvas in set(chosen):
            assert canvas in own
            assert others.count(canvas) >= share


def unlabelled_epochs(
    canvases: list[Size], labelled: int, share: int, world: int, epochs: int, start: int = 0
) -> list[list[list[tuple[int, int]]]]:
    """Epoch and image of every draw, by process and batch, of some epochs; the first one from a batch on."""
    names = [f"{index}.jpg" for index in range(len(canvases))]
    processes = []
    for rank in range(world):
        batches = TrainingBatches(
            names,
            canvases,
            batch_size=6,
            seed=5,
            rank=rank,
            world=world,
            num_labelled=labelled,
            unlabelled_share=share,
        )
        steps = []
        for epoch in range(epochs):
            batches.set_epoch(epoch, start if epoch == 0 else 0)
            steps += [[(draw.epoch, draw.image) for draw in batch if draw.counts] for batch in batches]
        processes.append(steps)
    return processes


@given(st.integers(1, 30), st.integers(5, 40), st.integers(1, 5), st.integers(1, 3))
def test_unlabelled_images_are_drawn_without_replacement_over_epochs(
    labelled: int, unlabelled: int, share: int, epochs: int
) -> None:
    canvases = [(64, 64)] * (labelled + unlabelled)
    ((*steps,),) = unlabelled_epochs(canvases, labelled, share, 1, epochs)
    for batch in steps:
        own = [image for _, image in batch if image < labelled]
        assert [image for _, image in batch][: len(own)] == own, "annotated images come first"
        assert 1 <= len(own) <= 6 - share
        assert len(batch) - len(own) == share
    taken = [draw for batch in steps for draw in batch if draw[1] >= labelled]
    passes = [taken[start : start + unlabelled] for start in range(0, len(taken), unlabelled)]
    for number, images in enumerate(passes):
        assert {epoch for epoch, _ in images} == {number}
        assert len({image for _, image in images}) == len(images)
    annotated = [image for batch in steps for _, image in batch if image < labelled]
    assert sorted(annotated) == sorted(list(range(labelled)) * epochs), "an epoch is a pass over the annotated images"


@given(FEW_CANVASES, FEW_CANVASES, st.integers(0, 3))
def test_unlabelled_draws_depend_neither_on_processes_nor_on_an_interruption(
    labelled: list[Size], unlabelled: list[Size], start: int
) -> None:
    canvases = training_canvases(labelled, least=3, unlabelled=unlabelled, share=3)
    ((*alone,),) = unlabelled_epochs(canvases, len(labelled), 3, 1, 2)
    ((*resumed,),) = unlabelled_epochs(canvases, len(labelled), 3, 1, 2, start=min(start, len(alone) // 2))
    assert resumed == alone[min(start, len(alone) // 2) :]
    for batch in alone:
        assert len({canvases[image] for _, image in batch}) == 1
    together = unlabelled_epochs(canvases, len(labelled), 6, 2, 2)
    names = [f"{index}.jpg" for index in range(len(canvases))]
    whole = TrainingBatches(names, canvases, batch_size=12, seed=5, num_labelled=len(labelled), unlabelled_share=6)
    expected = [sorted(draw[:2] for draw in batch) for batch in whole]
    assert [sorted([*one, *other]) for one, other in zip(*together, strict=True)][: len(expected)] == expected
