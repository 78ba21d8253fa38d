"""Can a detector learn at all? Overfits a few images of a data set; AP50 must come close to 1.

python examples/overfit.py DATA [--head gfl] [--split train] [--images 8] [--steps 600]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from detdistill.core.image_options import ImageOptions
from detdistill.data import open_dataset
from detdistill.data.loading import evaluation_loader
from detdistill.detectors.dense.architecture import Architecture, FeaturePyramid
from detdistill.detectors.dense.detector import HEADS, DenseDetector
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.score import score

FCOS_IMPROVED = {"center_sampling": True, "normalize_boxes": True, "centerness_on_box_tower": True, "giou": True}


def overfit(data: Path, split: str, head: str, num_images: int, steps: int) -> float:
    """Trains on a few images and returns AP50 on the same, 0 to 1."""
    torch.manual_seed(0)
    dataset = open_dataset(data, split)
    dataset = replace(dataset, images=dataset.images[:num_images])
    options = FCOS_IMPROVED if head == "fcos+" else {}
    kind: Any = head.rstrip("+")
    architecture = Architecture(kind, backbone_width=0.5, pyramid=FeaturePyramid(channels=64), options=options)
    detector = DenseDetector(architecture, dataset.classes).to(memory_format=torch.channels_last)
    image_options = ImageOptions(short_side=240, long_side=320)
    batches = list(evaluation_loader(dataset, image_options, batch_size=4))
    inputs = [detector.input.normalization(batch.images, batch.targets.sizes) for batch in batches]
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for step in range(steps):
        index = step % len(batches)
        targets = batches[index].targets
        output = detector(inputs[index].contiguous(memory_format=torch.channels_last))
        terms = detector.loss(output, targets, detector.match(output, targets))
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(tuple(terms.values())).sum())
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 35.0)
        optimizer.step()
        schedule.step()
    metrics = score(detector, dataset, image_options, coco_metrics)
    return metrics.AP50 or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--head", choices=[*HEADS, "fcos+"], default="gfl")
    parser.add_argument("--split", default="train")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=600)
    arguments = parser.parse_args()
    start = time.perf_counter()
    ap50 = overfit(arguments.data, arguments.split, arguments.head, arguments.images, arguments.steps)
    print(f"{arguments.head}: AP50 {ap50:.3f} after {arguments.steps} steps, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
