"""A teacher's forward pass with its batch norms folded into convolutions, against the detector as it is.

    OMP_NUM_THREADS=1 python benchmarks/folding.py

Both take turns in one run; the ratio of their medians is the figure, the seconds depend on the machine.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from detdistill.detectors.dense.architecture import Architecture, FeaturePyramid, Towers
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.dense.folding import folded

BATCH, HEIGHT, WIDTH = 8, 256, 320
BACKBONES = ("resnet18", "resnet50", "tf_efficientnet_lite0")
ROUNDS = 9


@torch.no_grad()
def seconds(network: nn.Module, pixels: torch.Tensor, *, bf16: bool) -> float:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        start = time.perf_counter()
        network(pixels)
        return time.perf_counter() - start


def main() -> None:
    pixels = torch.randn(BATCH, 3, HEIGHT, WIDTH).contiguous(memory_format=torch.channels_last)
    print(f"{BATCH} images of {HEIGHT}x{WIDTH}, {torch.get_num_threads()} thread(s), medians of {ROUNDS} rounds")
    print(f"{'':33} as it is, folded (s), ratio")
    for backbone in BACKBONES:
        own = Architecture("retinanet", backbone=backbone, pyramid=FeaturePyramid(channels=64), towers=Towers(depth=2))
        detector = DenseDetector(own, ("a", "b", "c")).eval()
        networks = [each.to(memory_format=torch.channels_last) for each in (detector, folded(detector))]
        for bf16 in (False, True):
            taken = [[seconds(network, pixels, bf16=bf16) for network in networks] for _ in range(ROUNDS)]
            plain, fast = (statistics.median(column) for column in zip(*taken[1:], strict=True))
            print(f"{backbone:24} {'bf16' if bf16 else 'float32':8} {plain:.3f} {fast:.3f} {fast / plain:.2f}")


if __name__ == "__main__":
    main()
