"""Assignment of a batch of 8 images of 800 x 1333, against the same assigners written image by image, object by object.

    python benchmarks/assignment.py

The plain implementations are the oracles of the tests; both are timed in turns in one run and must agree. The ratio of
the medians is the figure, the milliseconds depend on the machine.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.structures import Assignment, Targets
from detdistill.detectors.dense.assigners import AtssAssigner, FcosAssigner, MaxIouAssigner
from detdistill.detectors.dense.priors import PriorLayout, anchor_boxes, cell_boxes

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.assigner_oracle import atss_oracle, fcos_oracle, max_iou_oracle

IMAGES, HEIGHT, WIDTH = 8, 800, 1333
STRIDES = (8, 16, 32, 64, 128)
RANGES = ((-1.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, math.inf))
RETINANET_SCALES = [4 * 2 ** (k / 3) for k in range(3)]
ROUNDS = 3

Assigner = Callable[[Grid, Targets], Assignment]
Plain = Callable[[Grid, Targets], Tensor]


def batch(objects: int) -> Targets:
    """Objects of 8 to 440 pixels, log-uniform, anywhere in the images."""
    generator = torch.Generator().manual_seed(0)
    sides = 8 * torch.exp(4 * torch.rand(IMAGES * objects, 2, generator=generator))
    canvas = torch.tensor([WIDTH, HEIGHT])
    centers = torch.rand(IMAGES * objects, 2, generator=generator) * canvas
    boxes = torch.cat(((centers - sides / 2).clamp(min=0), (centers + sides / 2).minimum(canvas)), dim=1)
    image = torch.arange(IMAGES).repeat_interleave(objects)
    return Targets(boxes, torch.zeros_like(image), image, torch.tensor([[HEIGHT, WIDTH]] * IMAGES))


def milliseconds_per_image(assign: Callable[[Grid, Targets], object], grid: Grid, targets: Targets) -> float:
    start = time.process_time()
    assign(grid, targets)
    return (time.process_time() - start) * 1000 / IMAGES


def compare(name: str, assigner: Assigner, plain: Plain, base_anchors: Sequence[Tensor]) -> None:
    sizes = [(math.ceil(HEIGHT / stride), math.ceil(WIDTH / stride)) for stride in STRIDES]
    grid = PriorLayout(STRIDES, base_anchors).grid(sizes, torch.device("cpu"))
    for objects in (1, 20, 100):
        targets = batch(objects)
        assert torch.equal(assigner(grid, targets).matched, plain(grid, targets))
        rounds = [
            (milliseconds_per_image(plain, grid, targets), milliseconds_per_image(assigner, grid, targets))
            for _ in range(ROUNDS)
        ]
        slow, fast = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:14}{grid.num_priors:8}{objects:9}{slow:9.2f}{fast:9.3f}{slow / fast:8.0f}", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    print(f"{IMAGES} images of {HEIGHT}x{WIDTH}, one thread, median of {ROUNDS}, CPU ms per image")
    print(f"{'assigner':14}{'priors':>8}{'objects':>9}{'plain':>9}{'batched':>9}{'ratio':>8}")
    max_iou, atss = MaxIouAssigner(), AtssAssigner()
    compare("MaxIoU", max_iou, partial(max_iou_oracle, max_iou), anchor_boxes(STRIDES, RETINANET_SCALES, (0.5, 1, 2)))
    compare("ATSS", atss, partial(atss_oracle, atss), anchor_boxes(STRIDES, (8,), (1,)))
    for name, radius in (("FCOS", None), ("FCOS, central", 1.5)):
        fcos = FcosAssigner(RANGES, radius)
        compare(name, fcos, partial(fcos_oracle, fcos), cell_boxes(STRIDES))


if __name__ == "__main__":
    main()
