"""Forward pass of EfficientDet beside effdet's, the same weights in both, in turns.

Both run the network alone, without selecting detections, in evaluation mode and float32; `folded` is ours with the
batch norms that a convolution can compute, as `detdistill` predicts.

    python benchmarks/efficientdet_forward.py [--preset d0] [--size 512] [--batch 1] [--rounds 9] [--threads 1]
"""

from __future__ import annotations

import argparse
import copy
import platform
import time
from collections.abc import Callable
from statistics import median
from typing import Any, get_args

import effdet
import torch
from effdet.config import get_efficientdet_config
from torch import Tensor

from detdistill.detectors.dense.architecture import Architecture
from detdistill.detectors.dense.choices import EfficientDetPreset
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.dense.folding import folded
from detdistill.detectors.importing.effdet_keys import effdet_name

CLASSES = 90


def pair(preset: EfficientDetPreset, size: int) -> tuple[Any, DenseDetector]:
    """Effdet's network and ours, with equal weights but for the order of the box predictor's rows."""
    config = get_efficientdet_config(f"tf_efficientdet_{preset}" if "lite" in preset else f"efficientdet_{preset}")
    config.image_size = (size, size)
    theirs = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    ours = DenseDetector(Architecture("efficientdet", preset=preset), [str(label) for label in range(CLASSES)]).eval()
    state, levels = theirs.state_dict(), len(ours.pyramid.strides)
    ours.load_state_dict({name: state[effdet_name(name, 3, levels, level_first=False)] for name in ours.state_dict()})
    return theirs, ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="d0", choices=get_args(EfficientDetPreset))
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    theirs, ours = pair(arguments.preset, arguments.size)
    images = torch.randn(arguments.batch, 3, arguments.size, arguments.size)
    last = images.to(memory_format=torch.channels_last)
    networks: dict[str, tuple[Callable[[Tensor], object], Tensor]] = {
        "effdet": (theirs, images),
        "detdistill": (ours, images),
        "detdistill, folded": (folded(ours), images),
        "effdet, channels last": (copy.deepcopy(theirs).to(memory_format=torch.channels_last), last),
        "detdistill, folded, channels last": (folded(ours).to(memory_format=torch.channels_last), last),
    }
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    with torch.inference_mode():
        for round_number in range(arguments.rounds + 1):
            for name, (network, given) in networks.items():
                start = time.perf_counter()
                network(given)
                if round_number:  # the first round warms up
                    seconds[name].append(time.perf_counter() - start)
    print(f"torch {torch.__version__}, effdet 0.4.1, {platform.machine()}, {arguments.threads} threads, ", end="")
    print(f"{arguments.preset}, batch {arguments.batch} of {arguments.size} px, float32")
    for name, measured in seconds.items():
        ratio = median(own / other for own, other in zip(measured, seconds["effdet"], strict=True))
        print(f"{name:36} {1000 * median(measured):7.0f} ms   ratio to effdet {ratio:.2f}")


if __name__ == "__main__":
    main()
