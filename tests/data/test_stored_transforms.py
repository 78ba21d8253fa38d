"""Stored boxes move exactly as annotations do, and as the image does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError
from detdistill.core.image_options import ImageOptions
from detdistill.core.structures import TeacherBoxes
from detdistill.data.loading import Batch, evaluation_loader, training_loader
from detdistill.data.opening import open_dataset
from detdistill.data.teacher_inputs import TeacherInputs
from detdistill.data.transforms import EvaluationTransform, Sample, TrainingTransform
from support.small_runs import write_boxes
from support.stored_boxes import stored_for

HEIGHT, WIDTH = 96, 128
options = st.builds(
    ImageOptions,
    short_side=st.integers(48, 112),
    long_side=st.integers(112, 160),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    scale_jitter=st.tuples(st.sampled_from([0.6, 1.0]), st.sampled_from([1.0, 1.8])),
    photometric=st.sampled_from([0.0, 1.0]),
)
objects = st.lists(
    st.tuples(st.integers(0, WIDTH - 24), st.integers(0, HEIGHT - 24), st.integers(8, 24), st.integers(8, 24)),
    min_size=1,
    max_size=4,
)


def sample_of(own: torch.Tensor, stored: torch.Tensor, image: torch.Tensor | None = None) -> Sample:
    """Labels and scores of the stored boxes count up, so that each can be told from the others."""
    count, none = len(stored), torch.zeros(len(own), dtype=torch.bool)
    known = torch.diag(torch.linspace(0.1, 0.9, count)) if count else torch.zeros(0, 0)
    return Sample(
        torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8) if image is None else image,
        own,
        torch.arange(len(own)),
        none,
        none,
        TeacherBoxes(stored, torch.arange(count), known, 0.05),
    )


def corners(boxes: list[tuple[int, int, int, int]]) -> torch.Tensor:
    return torch.tensor([[x, y, x + width, y + height] for x, y, width, height in boxes]).float().reshape(-1, 4)


@settings(max_examples=40)
@given(options, objects, st.integers(0, 1000))
def test_stored_boxes_move_as_annotations(
    chosen: ImageOptions, boxes: list[tuple[int, int, int, int]], seed: int
) -> None:
    for transform in (TrainingTransform(chosen), EvaluationTransform(chosen)):
        torch.manual_seed(seed)
        moved = transform(sample_of(corners(boxes), corners(boxes)))
        assert moved.stored is not None
        assert torch.equal(moved.stored.boxes, moved.boxes)
        assert torch.equal(moved.stored.labels, moved.labels)
        assert moved.stored.floor == 0.05
        scores = torch.linspace(0.1, 0.9, len(boxes))[moved.labels]
        assert torch.equal(moved.stored.scores, scores)


@settings(max_examples=40)
@given(options, objects, st.integers(0, 1000))
def test_annotations_and_images_do_not_depend_on_what_is_stored(
    chosen: ImageOptions, boxes: list[tuple[int, int, int, int]], seed: int
) -> None:
    own = corners([(10, 20, 40, 30), (60, 5, 20, 70)])
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    plain = replace(sample_of(own, own, image), stored=None)
    results = []
    for sample in (plain, sample_of(own, corners(boxes), image)):
        torch.manual_seed(seed)
        results.append(TrainingTransform(chosen)(sample))
    assert results[0].stored is None
    for name in ("image", "boxes", "labels"):
        assert torch.equal(getattr(results[0], name), getattr(results[1], name))


@settings(max_examples=40)
@given(
    options,
    st.tuples(st.integers(0, 80), st.integers(0, 50), st.integers(20, 48), st.integers(20, 46)),
    st.integers(0, 1000),
)
def test_a_stored_box_moves_with_its_pixels(chosen: ImageOptions, box: tuple[int, int, int, int], seed: int) -> None:
    """The box is painted white: the image itself says where it must be, to a pixel."""
    chosen = replace(chosen, photometric=0.0)
    (x1, y1, x2, y2) = corners([box])[0].int().tolist()
    image = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    image[:, y1:y2, x1:x2] = 255
    torch.manual_seed(seed)
    moved = TrainingTransform(chosen)(sample_of(torch.zeros(0, 4), corners([box]), image))
    assert moved.stored is not None
    rows, columns = (moved.image[0] > 127).nonzero(as_tuple=True)
    for found in moved.stored.boxes:
        painted = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
        torch.testing.assert_close(painted, found, atol=1.0, rtol=0)
    if not len(moved.stored):
        assert len(rows) <= max(moved.size)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    return open_dataset(write_boxes(tmp_path_factory.mktemp("data")), "train")


def truth_as_stored(dataset: DetectionDataset) -> list[TeacherBoxes]:
    """Each object with the score 1."""
    return [
        TeacherBoxes(
            torch.from_numpy(record.boxes).float(),
            torch.from_numpy(record.labels),
            torch.eye(len(dataset.classes))[torch.from_numpy(record.labels)],
        )
        for record in dataset.images
    ]


def assert_stored_is_truth(batch: Batch) -> None:
    targets = batch.targets
    assert targets.stored is not None
    assert len(targets.stored) == len(batch.indices)
    for place, stored in enumerate(targets.stored):
        assert torch.equal(stored.boxes, targets.boxes[targets.image == place])
        assert torch.equal(stored.labels, targets.labels[targets.image == place])


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_bring_the_boxes_of_each_image(dataset: DetectionDataset, workers: int) -> None:
    stored = stored_for(dataset, truth_as_stored(dataset), dataset.classes)
    chosen = ImageOptions(short_side=64, long_side=64, scale_jitter=(0.7, 1.6))
    training = training_loader(dataset, chosen, batch_size=3, seed=1, workers=workers, teacher=TeacherInputs(stored))
    batches = [*training, *evaluation_loader(dataset, chosen, batch_size=3, workers=workers, stored=stored)]
    assert sorted(index for batch in batches for index in batch.indices) == sorted([*range(8), *range(8)])
    for batch in batches:
        assert_stored_is_truth(batch)
        half = replace(batch, targets=batch.targets.of_images(1, len(batch.indices)), indices=batch.indices[1:])
        assert_stored_is_truth(half)
    plain = next(iter(training_loader(dataset, chosen, batch_size=3, seed=1)))
    assert plain.targets.stored is None
    assert torch.equal(plain.images, batches[0].images)


def test_an_image_without_stored_detections_is_named(dataset: DetectionDataset) -> None:
    some = replace(dataset, images=dataset.images.take([0, 1]))
    stored = stored_for(some, truth_as_stored(some), dataset.classes)
    with pytest.raises(DataError, match=r"2\.png"):
        evaluation_loader(dataset, ImageOptions(short_side=64, long_side=64), batch_size=1, stored=stored)
