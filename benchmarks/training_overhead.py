"""What the engine costs: images per second of training beside forward, loss, backward and step alone.

python benchmarks/training_overhead.py DATA [--split train] [--head gfl] [--side 320] [--batch 8] [--workers 1] [--bf16]

The bare loop has its batches in memory. Training loads and varies them, logs, clips, keeps a moving average and saves
after each epoch; what starting takes is left out, as the difference between runs of two epochs and of one.
Other work on the machine makes the ratio meaningless.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import torch

from detdistill.data import open_dataset
from detdistill.data.loading import training_loader
from detdistill.detectors.architecture import Architecture
from detdistill.image_options import ImageOptions
from detdistill.training.materials import starting_detector
from detdistill.training.optim import build_optimizer
from detdistill.training.recipe import Data, Logging, Machine, Optimization, Recipe, Schedule
from detdistill.training.run import train

WARMUP_STEPS = 2


def bare_seconds(recipe: Recipe, steps: int) -> float:
    """Seconds of so many steps of the bare loop."""
    dataset = open_dataset(recipe.data.path, recipe.data.train)
    loader = training_loader(dataset, recipe.images, batch_size=recipe.batch_size, multiple=32, seed=0)
    batches = list(islice(loader, 4))
    detector = starting_detector(recipe, dataset.classes).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(detector, detector.backbone, recipe.optimization)
    start = time.perf_counter()
    for step, batch in enumerate(islice(cycle(batches), WARMUP_STEPS + steps)):
        if step == WARMUP_STEPS:
            start = time.perf_counter()
        pixels = detector.normalization(batch.images, batch.targets.sizes).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.machine.precision == "bf16"):
            output = detector(pixels)
            losses = detector.detection_loss(output, batch.targets, detector.assign(output.grid, batch.targets))
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(tuple(losses.values())).sum())
        optimizer.step()
    return time.perf_counter() - start


def training_seconds(recipe: Recipe, epochs: int) -> float:
    """Seconds of a whole training run."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(replace(recipe, schedule=Schedule(epochs=epochs)), Path(folder) / "run")
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--head", choices=["retinanet", "fcos", "atss", "gfl", "gflv2", "vfnet"], default="gfl")
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    recipe = Recipe(
        data=Data(str(arguments.data), train=arguments.split, val=None, cache=True),
        detector=Architecture(head=arguments.head),
        images=ImageOptions(letterbox=arguments.side),
        batch_size=arguments.batch,
        optimization=Optimization(ema=0.999),
        machine=Machine("cpu", workers=arguments.workers, precision="bf16" if arguments.bf16 else "float32"),
        logging=Logging(every=10),
    )
    steps = len(open_dataset(arguments.data, arguments.split).images) // arguments.batch
    one_epoch = training_seconds(recipe, 1)
    bare = bare_seconds(recipe, steps)
    two_epochs = training_seconds(recipe, 2)
    trained = two_epochs - one_epoch
    images = steps * arguments.batch
    print(f"{torch.get_num_threads()} threads, {steps} steps of {arguments.batch} images of {arguments.side} px")
    print(f"bare loop: {images / bare:.2f} images/s; training: {images / trained:.2f} images/s")
    print(f"training takes {trained / bare:.3f} times as long")


if __name__ == "__main__":
    main()
