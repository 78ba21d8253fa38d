"""What the engine costs: training beside forward, loss, backward and optimiser step of the same batches.

python benchmarks/training_overhead.py DATA [--split train] [--head gfl] [--width 1.0] [--side 320] [--batch 8]
    [--workers 1] [--bf16] [--rounds 12] [--steps 6]

One process takes turns: some steps of a real training run (it loads and varies images, logs, clips, keeps a moving
average), then as many bare steps, on the batches that it has just seen and with a copy of the detector. So other work
on the machine slows both, and the median of the rounds' ratios means something. What a round has to wait for is in its
time; the processor time is that of the training process alone, where loading processes do not count. Saving and
scoring after an epoch are left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from statistics import median
from unittest import mock

import torch

from detdistill.core.image_options import ImageOptions
from detdistill.data import open_dataset
from detdistill.data.loading import Batch
from detdistill.detectors.dense.architecture import Architecture, FeaturePyramid
from detdistill.training.loop import Loop
from detdistill.training.optim import build_optimizer
from detdistill.training.recipe import Data, Logging, Machine, Optimization, Recipe, Schedule
from detdistill.training.run import train

Times = tuple[float, float]
"""Seconds by the clock, and of this process's processor time."""


class TakingTurns(Loop):
    """Training that after some steps sends the same batches through a bare loop.

    Attributes:
        steps: of a round.
        rounds: times of training and of the bare loop.
    """

    steps: int
    rounds: list[tuple[Times, Times]]

    def run(self) -> None:
        """Copies the detector first."""
        self._bare = deepcopy(self.task.detector)
        self._bare_optimizer = build_optimizer(self._bare, self._bare.backbone_module, self.recipe.optimization)
        self._seen: list[Batch] = []
        self._start = times()
        super().run()

    def _train_on(self, batch: Batch) -> None:
        """A round ends when the next batch is there: waiting for it is part of training."""
        if self.step % len(self.batches) == 0:
            self._seen, self._start = [], times()
        if len(self._seen) == self.steps:
            trained, before = since(self._start), times()
            for seen in self._seen:
                self._bare_step(seen)
            self.rounds.append((trained, since(before)))
            self._seen, self._start = [], times()
        self._seen.append(batch)
        super()._train_on(batch)

    def _bare_step(self, batch: Batch) -> None:
        detector, targets = self._bare, batch.targets
        pixels = detector.input.normalization(batch.images, targets.sizes).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.machine.precision == "bf16"):
            output = detector(pixels)
            losses = detector.loss(output, targets, detector.match(output, targets))
        self._bare_optimizer.zero_grad()
        torch.autograd.backward(torch.stack(tuple(losses.values())).sum())
        self._bare_optimizer.step()


def times() -> Times:
    return time.perf_counter(), time.process_time()


def since(start: Times) -> Times:
    now = times()
    return now[0] - start[0], now[1] - start[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--head", choices=["retinanet", "fcos", "atss", "gfl", "gflv2", "vfnet"], default="gfl")
    parser.add_argument("--width", type=float, default=1.0, help="of the backbone, and of 256 channels after it")
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=6, help="of a round")
    arguments = parser.parse_args()
    batches = len(open_dataset(arguments.data, arguments.split).images) // arguments.batch
    rounds_per_epoch = (batches - 1) // arguments.steps
    recipe = Recipe(
        data=Data(str(arguments.data), train=arguments.split, val=None, cache=True),
        detector=Architecture(
            kind=arguments.head,
            backbone_width=arguments.width,
            pyramid=FeaturePyramid(channels=int(256 * arguments.width)),
        ),
        images=ImageOptions(letterbox=arguments.side),
        batch_size=arguments.batch,
        schedule=Schedule(epochs=-(-arguments.rounds // rounds_per_epoch)),
        optimization=Optimization(ema=0.999),
        machine=Machine("cpu", workers=arguments.workers, precision="bf16" if arguments.bf16 else "float32", threads=1),
        logging=Logging(every=10, page=False),
    )
    TakingTurns.steps, TakingTurns.rounds = arguments.steps, []
    with tempfile.TemporaryDirectory() as folder, mock.patch("detdistill.training.run.Loop", TakingTurns):
        train(recipe, Path(folder) / "run")
    # The first round warms up: memory is taken, images are decoded.
    rounds = TakingTurns.rounds[1:]
    images = arguments.steps * arguments.batch
    trained, bare = (images / median(pair[which][0] for pair in rounds) for which in range(2))
    print(f"{torch.get_num_threads()} threads, {arguments.workers} workers, {len(rounds)} rounds of {images} images")
    print(f"training: {trained:.2f} images/s, bare loop: {bare:.2f} images/s (medians)")
    for name, clock in (("time", 0), ("processor time", 1)):
        ratios = sorted(trained[clock] / bare[clock] for trained, bare in rounds)
        print(f"{name}: training takes {median(ratios):.3f} as much ({ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
