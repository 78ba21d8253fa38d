from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.structures import Targets
from detdistill.data.loading import Batch
from detdistill.detectors.dense.choices import HeadName
from detdistill.training.accumulation import split, window_normalizers
from detdistill.training.recipe import Optimization, Start
from detdistill.training.run import train
from support.small_runs import TINY, largest_difference, recorded_gradients, small_recipe, state, write_boxes


def batch_of(counts: list[int]) -> Batch:
    """A batch with so many objects in each image."""
    boxes = [torch.rand(count, 4) for count in counts]
    sizes = torch.arange(2 * len(counts)).reshape(-1, 2)
    labels, ignored = [torch.arange(count) for count in counts], [torch.rand(count % 2, 4) for count in counts]
    targets = Targets.from_images(boxes, labels, sizes, ignored=ignored)
    return Batch(torch.rand(len(counts), 3, 4, 4), targets, tuple(range(7, 7 + len(counts))), sizes)


@given(counts=st.lists(st.integers(0, 3), min_size=1, max_size=7), parts=st.integers(1, 8))
def test_parts_join_to_the_batch(counts: list[int], parts: int) -> None:
    batch = batch_of(counts)
    pieces = split(batch, parts)
    sizes = [len(piece.indices) for piece in pieces]
    assert len(pieces) == min(parts, len(counts))
    assert 1 <= min(sizes) <= max(sizes) <= min(sizes) + 1
    assert sum((piece.indices for piece in pieces), ()) == batch.indices
    assert torch.equal(torch.cat([piece.images for piece in pieces]), batch.images)
    assert torch.equal(torch.cat([piece.original_sizes for piece in pieces]), batch.original_sizes)
    for name in ("boxes", "labels", "sizes", "ignored"):
        assert torch.equal(torch.cat([getattr(piece.targets, name) for piece in pieces]), getattr(batch.targets, name))
    for name in ("image", "ignored_image"):
        joined = torch.cat([getattr(piece.targets, name) + sum(sizes[:number]) for number, piece in enumerate(pieces)])
        assert torch.equal(joined, getattr(batch.targets, name))


def test_normalisers_cover_the_window_in_the_order_they_are_asked_for() -> None:
    """Two processes, of which the other one counts ten times as much."""
    counts = {7: (torch.tensor(1.0), torch.tensor([2.0, 3.0])), 8: (torch.tensor(4.0), torch.tensor([5.0, 6.0]))}

    def losses(part: Batch, reduce_sum: object) -> dict[str, Tensor]:
        assert callable(reduce_sum)
        assert not torch.is_grad_enabled()
        return {str(number): reduce_sum(count).sum() for number, count in enumerate(counts[part.indices[0]])}

    parts = split(batch_of([1, 1]), 2)
    for reduce_sum in window_normalizers(parts, losses, lambda value: 11 * value):
        assert reduce_sum(torch.tensor(0.0)).item() == 55
        assert reduce_sum(torch.tensor([0.0, 0.0])).tolist() == [77, 99]


@pytest.mark.parametrize("head", ["gfl", "retinanet", "fcos", "vfnet"])
def test_gradients_of_a_window_are_those_of_the_batch(
    head: HeadName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GFL and VFNet weigh by their predictions. Images without objects are among them; the weights move."""
    data = write_boxes(tmp_path / "data", train=9)
    recipe = small_recipe(
        data,
        epochs=1,
        batch_size=4,
        start=Start(batch_norm="frozen"),
        detector=replace(TINY, kind=head),
        optimization=Optimization(clip_norm=None),
    )
    gradients = {}
    for parts in (1, 2, 4):
        with monkeypatch.context() as patch:
            gradients[parts] = recorded_gradients(patch)
            train(replace(recipe, accumulate=parts), tmp_path / str(parts))
    assert [len(steps) for steps in gradients.values()] == [3, 3, 3]
    for parts in (2, 4):
        for found, expected in zip(gradients[parts], gradients[1], strict=True):
            assert largest_difference(found, expected) < 1e-5


def test_counting_leaves_batch_norm_alone(tmp_path: Path) -> None:
    """Each image is counted once by batch norm, although it passes the network twice."""
    recipe = small_recipe(write_boxes(tmp_path / "data", train=8), epochs=1, accumulate=2)
    train(recipe, tmp_path / "run")
    counter = state(tmp_path / "run")["task"]["student.backbone.network.bn1.num_batches_tracked"]
    assert counter == 2 * 2
