"""What batches of one canvas give training: margin that is computed for nothing, and time of a step.

`mixed` are the batches of the first edition: images in random order, all on the smallest canvas that holds the largest
sides among them. `one canvas` are the batches of today. Steps of both are timed in turns within one process.

    python -m benchmarks.canvases RECIPE.yaml --data DATA [--epochs 3] [--steps 10]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from detdistill.core.environment import machine
from detdistill.core.image_options import rounded_up
from detdistill.core.structures import Targets, single_process
from detdistill.data.batching import Size, area
from detdistill.data.loading import Batch, training_loader
from detdistill.detectors.catalog import build_detector
from detdistill.training.materials import open_training_data
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import read_values, recipe_of
from detdistill.training.task import Supervised


def share_of_margin(batches: list[tuple[Size, list[Size]]]) -> float:
    """The share of the computed pixels that lie beyond the images: canvas and images of each batch."""
    computed = sum(area(canvas) * len(images) for canvas, images in batches)
    return 1 - sum(area(image) for _, images in batches for image in images) / computed


def mixed_batches(batches: list[Batch], size: int, seed: int) -> list[Batch]:
    """The images of an epoch in random batches, padded to their neighbours' sides."""
    images = [
        (batch.images[place, :, :height, :width], batch.targets, place)
        for batch in batches
        for place, (height, width) in enumerate(batch.targets.sizes.tolist())
    ]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).tolist()
    found = []
    for start in range(0, len(order) - size + 1, size):
        chosen = [images[index] for index in order[start : start + size]]
        height, width = (rounded_up(max(image.shape[axis] for image, _, _ in chosen)) for axis in (1, 2))
        pixels = chosen[0][0].new_zeros(size, 3, height, width)
        for number, (image, _, _) in enumerate(chosen):
            pixels[number, :, : image.shape[1], : image.shape[2]] = image
        own = [targets.of_images(place, place + 1) for _, targets, place in chosen]
        targets = Targets.from_images(
            [one.boxes for one in own],
            [one.labels for one in own],
            torch.tensor([image.shape[1:] for image, _, _ in chosen]),
            ignored=[one.ignored for one in own],
        )
        found.append(Batch(pixels, targets, tuple(range(size)), targets.sizes))
    return found


def canvas_and_images(batch: Batch) -> tuple[Size, list[Size]]:
    height, width = batch.images.shape[2:]
    return (int(height), int(width)), [(int(h), int(w)) for h, w in batch.targets.sizes.tolist()]


def step_seconds(
    recipe: Recipe, classes: tuple[str, ...], kinds: dict[str, list[Batch]], steps: int
) -> dict[str, float]:
    """Median seconds an image of a forward and backward pass, the kinds of batches in turns."""
    torch.manual_seed(0)
    learner = Supervised(build_detector(recipe.detector, classes), channels_last=True).train()
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(steps + 1):
        for name, batches in kinds.items():
            batch = batches[number % len(batches)]
            start = time.perf_counter()
            losses = learner(batch.images, batch.targets, single_process)
            torch.autograd.backward(torch.stack(tuple(losses.values())).sum())
            if number:
                taken[name].append((time.perf_counter() - start) / len(batch.images))
    return {name: median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    values = read_values(options.recipe)
    values["data"] = {**values.get("data", {}), "path": options.data, "val": None}
    recipe = recipe_of(values, str(options.recipe))
    dataset, _ = open_training_data(replace(recipe.data, val=None), recipe.images)
    loader = training_loader(dataset, recipe.images, batch_size=recipe.batch_size, seed=0)
    kinds: dict[str, list[Batch]] = {"mixed": [], "one canvas": []}
    for epoch in range(options.epochs):
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]  # of a `TrainingBatches`
        batches = list(loader)
        kinds["one canvas"] += batches
        kinds["mixed"] += mixed_batches(batches, recipe.batch_size, epoch)
    seconds = step_seconds(recipe, dataset.classes, kinds, options.steps)
    for name, batches in kinds.items():
        margin = share_of_margin([canvas_and_images(batch) for batch in batches])
        print(f"{name:10}  margin {100 * margin:4.1f} %  {1 / seconds[name]:6.1f} images/s  {len(batches)} batches")
    print(f"ratio of the speeds {seconds['mixed'] / seconds['one canvas']:.2f}; 1 thread, float32, {machine()}")


if __name__ == "__main__":
    main()
