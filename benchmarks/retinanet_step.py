"""Forward, loss and backward of RetinaNet-ResNet-18 beside torchvision's RetinaNet of the same size, in one run.

Both have torchvision's ResNet-18 trunk, a pyramid of 256 channels on strides 8 to 128, four tower convolutions, nine
anchors per cell, and see the same images and boxes; torchvision's own resizing is switched off by the image size.

    python benchmarks/retinanet_step.py [--batch 4] [--size 320] [--rounds 7] [--threads 2]
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import torch
import torchvision
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detdistill.core.structures import Targets
from detdistill.detectors.dense.architecture import Architecture, FeaturePyramid
from detdistill.detectors.dense.detector import DenseDetector

CLASSES = 80
OBJECTS = 10


def torchvision_step(images: Tensor, boxes: list[Tensor], labels: list[Tensor], fast: bool) -> Callable[[], None]:
    """One training step of torchvision's detector, as a call; `fast` is bfloat16 autocast and channels last."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(512, 256),
        norm_layer=torch.nn.BatchNorm2d,
    )
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
    size = images.shape[-1]
    model = RetinaNet(
        backbone,
        CLASSES,
        min_size=size,
        max_size=size,
        anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
    ).train()
    if fast:
        model = model.to(memory_format=torch.channels_last)
    targets = [{"boxes": box, "labels": label} for box, label in zip(boxes, labels, strict=True)]

    def step() -> None:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            terms = model(list(images), targets)
        torch.autograd.backward(torch.stack(tuple(terms.values())).sum())

    return step


def detdistill_step(images: Tensor, boxes: list[Tensor], labels: list[Tensor], fast: bool) -> Callable[[], None]:
    """One training step of our detector, as a call; `fast` is bfloat16 autocast and channels last."""
    names = [str(label) for label in range(CLASSES)]
    pyramid = FeaturePyramid(extra_source="input", extra_relu=True)
    model = DenseDetector(Architecture("retinanet", "resnet18", pyramid=pyramid), names).train()
    if fast:
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    targets = Targets.from_images(boxes, labels, torch.tensor([images.shape[-2:]] * len(images)))

    def step() -> None:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            output = model(images)
        terms = model.loss(output, targets, model.match(output, targets))
        torch.autograd.backward(torch.stack(tuple(terms.values())).sum())

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    images = torch.rand(arguments.batch, 3, arguments.size, arguments.size)
    corners = torch.rand(arguments.batch, OBJECTS, 2) * arguments.size * 0.6
    sides = 8 + torch.rand(arguments.batch, OBJECTS, 2) * arguments.size * 0.35
    boxes = list(torch.cat((corners, corners + sides), dim=-1))
    labels = list(torch.randint(0, CLASSES, (arguments.batch, OBJECTS)))
    steps = {
        (name, fast): step(images, boxes, labels, fast)
        for fast in (False, True)
        for name, step in (("torchvision", torchvision_step), ("detdistill", detdistill_step))
    }
    seconds: dict[tuple[str, bool], list[float]] = {key: [] for key in steps}
    for round_number in range(arguments.rounds + 1):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            if round_number:  # the first round warms up
                seconds[key].append(time.perf_counter() - start)
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {platform.machine()}, ", end="")
    print(f"{arguments.threads} threads, batch {arguments.batch} of {arguments.size} px")
    for fast in (False, True):
        theirs, ours = (1000 * median(seconds[name, fast]) for name in ("torchvision", "detdistill"))
        setting = "bfloat16, channels last" if fast else "float32"
        print(f"{setting:24} torchvision {theirs:7.0f} ms   detdistill {ours:7.0f} ms   ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
