from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detdistill.core.draws import Draws
from detdistill.core.image_options import ImageOptions
from detdistill.core.structures import ReduceSum, Targets
from detdistill.data.batching import TrainingBatches
from detdistill.data.loading import training_loader
from detdistill.data.opening import open_dataset
from detdistill.training.recipe import Recipe
from detdistill.training.run import train
from detdistill.training.task import Supervised
from support.small_runs import small_recipe, write_boxes

Numbers = dict[tuple[int, int | str], list[float]]
"""What each image draws in each step."""


def numbers_of(draws: Draws) -> Numbers:
    return {
        (draws.step, image): torch.rand(3, generator=draws.generator(place)).tolist()
        for place, image in enumerate(draws.images)
    }


def recorded(patch: pytest.MonkeyPatch) -> list[Draws]:
    """The list to which every evaluation of a loss from now on adds the draws that it is given."""
    seen: list[Draws] = []
    forward: Callable[..., dict[str, Tensor]] = Supervised.forward

    def watching(self: Supervised, images: Tensor, targets: Targets, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        assert targets.draws is not None
        assert len(targets.draws.images) == len(images) == targets.num_images
        seen.append(targets.draws)
        return forward(self, images, targets, reduce_sum)

    patch.setattr(Supervised, "forward", watching)
    return seen


def numbers_of_run(recipe: Recipe, out: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Numbers, int]:
    """What each image draws, the same in all evaluations of a step, and how many evaluations there were."""
    with monkeypatch.context() as patch:
        seen = recorded(patch)
        train(recipe, out)
    found: Numbers = {}
    for draws in seen:
        for place, numbers in numbers_of(draws).items():
            assert found.setdefault(place, numbers) == numbers
    return found, len(seen)


def test_an_image_draws_the_same_in_parts_and_in_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_boxes(tmp_path / "data", train=9)
    recipe = small_recipe(data, epochs=2)
    whole, evaluations = numbers_of_run(recipe, tmp_path / "whole", monkeypatch)
    assert evaluations == 2 * 3
    assert len(whole) == 2 * 9
    assert len({tuple(numbers) for numbers in whole.values()}) == len(whole), "steps and images differ"

    in_parts, evaluations = numbers_of_run(small_recipe(data, epochs=2, accumulate=2), tmp_path / "parts", monkeypatch)
    assert evaluations > 2 * 3 * 2, "parts are evaluated twice"
    assert in_parts == whole

    shares: Numbers = {}
    for rank in range(2):
        loader = training_loader(
            open_dataset(data, "train"),
            ImageOptions(letterbox=64),
            batch_size=2,
            seed=recipe.seed,
            rank=rank,
            world=2,
        )
        assert isinstance(loader.batch_sampler, TrainingBatches)
        for epoch in range(2):
            loader.batch_sampler.set_epoch(epoch)
            for number, batch in enumerate(loader):
                if batch.counts:
                    shares |= numbers_of(Draws(recipe.seed, 3 * epoch + number, batch.indices))
    assert shares == whole


def test_another_seed_draws_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_boxes(tmp_path / "data", train=4)
    first, second = (
        numbers_of_run(small_recipe(data, epochs=1, seed=seed), tmp_path / str(seed), monkeypatch)[0] for seed in (0, 1)
    )
    assert first.keys() == second.keys()
    assert all(first[place] != second[place] for place in first)
