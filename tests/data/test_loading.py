from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable
from detdistill.core.errors import DataError
from detdistill.core.image_options import ImageOptions
from detdistill.data.batching import Draw, TrainingBatches
from detdistill.data.loading import (
    Batch,
    Collate,
    DetectionImages,
    evaluation_loader,
    training_loader,
    unlabelled_images,
)
from detdistill.data.transforms import EvaluationTransform, TrainingTransform

VARIED = ImageOptions(short_side=50, long_side=90, scale_jitter=(0.5, 2.0), photometric=0.5)


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    """Eleven noise images of different sizes; image i has i % 4 objects, the second is crowd, the third difficult."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(11):
        height, width, count = 40 + 3 * i, 70 - 2 * i, i % 4
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        corners = rng.uniform(0, 20, (count, 2))
        boxes = np.concatenate((corners, corners + rng.uniform(10, 20, (count, 2))), axis=1)
        records.append(
            ImageRecord(
                image_id=i,
                path=path,
                file_name=path.name,
                width=width,
                height=height,
                boxes=boxes,
                labels=np.arange(count),
                areas=np.ones(count),
                crowd=np.arange(count) == 1,
                difficult=np.arange(count) == 2,
            )
        )
    return DetectionDataset("test", ("a", "b", "c"), (1, 2, 3), ImageTable.of(records))


def epochs(dataset: DetectionDataset, workers: int, numbers: tuple[int, ...], *, cache: bool = False) -> list[Batch]:
    loader = training_loader(dataset, VARIED, batch_size=3, seed=5, workers=workers, cache=cache)
    assert isinstance(loader.batch_sampler, TrainingBatches)
    batches = []
    for epoch in numbers:
        loader.batch_sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert [batch.indices for batch in first] == [batch.indices for batch in second]
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.images, other.images)
        for name in ("boxes", "labels", "image", "sizes", "ignored", "ignored_image"):
            assert torch.equal(getattr(one.targets, name), getattr(other.targets, name)), name


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_no_bit(dataset: DetectionDataset, workers: int) -> None:
    assert_same(epochs(dataset, 0, (0, 1)), epochs(dataset, workers, (0, 1)))


def test_an_epoch_does_not_depend_on_those_before_nor_on_what_else_was_drawn(dataset: DetectionDataset) -> None:
    both = epochs(dataset, 0, (0, 1))
    torch.rand(17)
    assert_same(both[len(both) // 2 :], epochs(dataset, 0, (1,)))


def test_the_cache_changes_no_bit(dataset: DetectionDataset) -> None:
    assert_same(epochs(dataset, 0, (0, 1), cache=True), epochs(dataset, 0, (0, 1)))


def test_the_cache_reads_each_file_once(dataset: DetectionDataset) -> None:
    images = DetectionImages(dataset, EvaluationTransform(VARIED), cache=True)
    before = images[Draw(0, 3)]
    dataset.images[3].path.unlink()
    assert torch.equal(images[Draw(1, 3)][1].image, before[1].image)


def test_epochs_show_images_differently(dataset: DetectionDataset) -> None:
    images = DetectionImages(dataset, TrainingTransform(VARIED), seed=5)
    first, second = images[Draw(0, 4)][1].image, images[Draw(1, 4)][1].image
    assert first.shape != second.shape or not torch.equal(first, second)


def test_loading_leaves_the_global_generator_alone(dataset: DetectionDataset) -> None:
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    epochs(dataset, 0, (0,))
    assert torch.equal(state, torch.random.get_rng_state())


def test_images_are_padded_with_zeros_to_a_multiple_and_keep_true_sizes(dataset: DetectionDataset) -> None:
    for batch in evaluation_loader(dataset, ImageOptions(50, 90), batch_size=4):
        assert batch.images.dtype == torch.uint8
        height, width = batch.images.shape[-2:]
        assert height % 32 == 0
        assert width % 32 == 0
        assert height - 32 < int(batch.targets.sizes[:, 0].max()) <= height
        assert width - 32 < int(batch.targets.sizes[:, 1].max()) <= width
        for image, (true_height, true_width) in zip(batch.images, batch.targets.sizes.tolist(), strict=True):
            assert not image[:, true_height:].any()
            assert not image[:, :, true_width:].any()
            assert image[:, true_height - 1].any()
            assert image[:, :, true_width - 1].any()


def test_a_letterbox_batch_is_the_square_rounded_up(dataset: DetectionDataset) -> None:
    shapes = {
        tuple(batch.images.shape[-2:]) for batch in evaluation_loader(dataset, ImageOptions(letterbox=80), batch_size=2)
    }
    assert shapes == {(96, 96)}


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_an_image_has_its_own_canvas_whatever_the_batch(dataset: DetectionDataset, batch_size: int) -> None:
    options = ImageOptions(short_side=50, long_side=90)
    shown = {}
    for batch in evaluation_loader(dataset, options, batch_size=batch_size):
        for index, original in zip(batch.indices, batch.original_sizes.tolist(), strict=True):
            record = dataset.images[index]
            assert original == [record.height, record.width]
            shown[index] = tuple(batch.images.shape[2:])
            assert shown[index] == options.canvas_of((record.height, record.width))
    assert len(shown) == len(dataset.images)
    assert len(set(shown.values())) > 1


def test_training_pads_an_image_to_the_same_canvas_in_every_epoch(dataset: DetectionDataset) -> None:
    shapes: dict[int, set[tuple[int, ...]]] = {}
    for batch in epochs(dataset, 0, (0, 1, 2)):
        for index in batch.indices:
            shapes.setdefault(index, set()).add(tuple(batch.images.shape[2:]))
    assert sorted(shapes) == list(range(11))
    assert all(len(own) == 1 for own in shapes.values())
    assert len(set.union(*shapes.values())) > 1


@pytest.mark.parametrize(("difficult", "trained", "ignored"), [(False, [0], [1, 2]), (True, [0, 2], [1])])
def test_crowd_is_ignored_and_difficult_too_unless_asked_for(
    dataset: DetectionDataset, difficult: bool, trained: list[int], ignored: list[int]
) -> None:
    images = DetectionImages(dataset, EvaluationTransform(VARIED))
    batch = Collate(dataset, [(96, 96)] * 11, difficult=difficult)([images[Draw(0, 0)], images[Draw(0, 3)]])
    assert batch.targets.labels.tolist() == trained
    assert batch.targets.image.tolist() == [1] * len(trained)
    assert batch.targets.num_images == 2
    record, size = dataset.images[3], batch.targets.sizes[1]
    scale = (size.flip(0) / torch.tensor([record.width, record.height])).repeat(2)
    own = torch.from_numpy(record.boxes).float() * scale
    torch.testing.assert_close(batch.targets.boxes, own[trained])
    torch.testing.assert_close(batch.targets.ignored, own[ignored])
    assert batch.targets.ignored_image.tolist() == [1] * len(ignored)


def test_variation_moves_ignored_boxes_as_it_moves_objects(dataset: DetectionDataset) -> None:
    """The same images with other flags have the same boxes, in other places."""
    flags = [replace(record, crowd=np.zeros_like(record.crowd)) for record in dataset.images]
    plain = replace(dataset, images=ImageTable.of(flags))
    shown, moved = 0, 0
    for number in (3, 7):
        for epoch in range(5):
            both = []
            for one in (dataset, plain):
                images = DetectionImages(one, TrainingTransform(VARIED), seed=5)
                both.append(Collate(one, [(96, 192)] * 11, difficult=True)([images[Draw(epoch, number)]]).targets)
            flagged, all_objects = both
            joined = torch.cat((flagged.boxes, flagged.ignored))
            assert sorted(joined.tolist()) == sorted(all_objects.boxes.tolist())
            assert len(all_objects.ignored) == 0
            shown += len(flagged.ignored)
            moved += bool(len(flagged.ignored)) and not any(
                torch.equal(flagged.ignored[0], box) for box in torch.from_numpy(plain.images[number].boxes).float()
            )
    assert shown > 3
    assert moved > 3


def test_a_batch_without_objects(dataset: DetectionDataset) -> None:
    images = DetectionImages(dataset, EvaluationTransform(VARIED))
    batch = Collate(dataset, [(96, 96)] * 11)([images[Draw(0, 0)], images[Draw(0, 4)]])
    assert batch.targets.boxes.shape == (0, 4)
    assert batch.to("cpu").targets.labels.shape == (0,)


def test_two_processes_see_different_images(dataset: DetectionDataset) -> None:
    seen = [
        [
            index
            for batch in evaluation_loader(dataset, VARIED, batch_size=2, rank=rank, world=2)
            for index in batch.indices
        ]
        for rank in (0, 1)
    ]
    assert [sorted(own) for own in seen] == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9]]


def test_a_batch_size_is_a_maximum(dataset: DetectionDataset) -> None:
    loader = training_loader(dataset, ImageOptions(letterbox=64), batch_size=50, seed=0)
    assert [len(batch.indices) for batch in loader] == [11]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(dataset: DetectionDataset, workers: int) -> None:
    dataset.images[2].path.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"2\.png"):
        list(evaluation_loader(dataset, VARIED, batch_size=4, workers=workers))


def test_a_batch_says_which_images_are_annotated(dataset: DetectionDataset) -> None:
    count = len(dataset.images)
    mixed = replace(dataset, images=ImageTable.joined([dataset.images] * 2), num_labelled=count)
    loader = training_loader(mixed, ImageOptions(letterbox=64), batch_size=4, seed=3, unlabelled_share=0.25)
    assert next(iter(training_loader(dataset, ImageOptions(), batch_size=2, seed=0))).targets.labelled is None
    for batch in loader:
        assert batch.targets.labelled is not None
        assert batch.targets.labelled.tolist() == [index < count for index in batch.indices]
        assert int((~batch.targets.labelled).sum()) == 1
        part = batch.targets.of_images(1, len(batch.indices))
        assert part.labelled is not None
        assert part.labelled.tolist() == batch.targets.labelled.tolist()[1:]


@pytest.mark.parametrize(("batch_size", "share", "expected"), [(16, 0.5, 8), (4, 0.1, 1), (4, 0.99, 3), (2, 0.5, 1)])
def test_both_kinds_have_a_place_in_a_batch(batch_size: int, share: float, expected: int) -> None:
    assert unlabelled_images(batch_size, share) == expected


def test_too_few_unlabelled_images_or_places_are_told(dataset: DetectionDataset) -> None:
    count = len(dataset.images)
    mixed = replace(dataset, images=ImageTable.joined([dataset.images, dataset.images[:2]]), num_labelled=count)
    with pytest.raises(DataError, match=r"distill\.unlabelled\.share"):
        training_loader(mixed, ImageOptions(), batch_size=8, seed=0, unlabelled_share=0.5)
    with pytest.raises(DataError, match="batch_size 1"):
        training_loader(mixed, ImageOptions(), batch_size=1, seed=0, unlabelled_share=0.5)
