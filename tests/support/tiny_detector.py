from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch

from detdistill.detectors.dense.architecture import Architecture, FeaturePyramid, Towers
from detdistill.detectors.dense.choices import HeadName
from detdistill.detectors.dense.detector import DenseDetector

PYRAMID = {field.name for field in fields(FeaturePyramid)} - {"kind"}


def layers(head: HeadName = "gfl", **changes: Any) -> Architecture:
    """An architecture; keywords such as `channels` are the pyramid's, unless `pyramid` itself is given."""
    pyramid = {name: changes.pop(name) for name in PYRAMID & changes.keys()}
    return Architecture(kind=head, **{"pyramid": FeaturePyramid(**pyramid), **changes})


def tiny_detector(
    head: HeadName = "gfl", classes: Sequence[str] = ("cell", "platelet", "other"), *, seed: int = 0, **changes: Any
) -> DenseDetector:
    """A detector of random weights, small enough to run everywhere."""
    options: dict[str, Any] = {"backbone_width": 0.125, "channels": 16, "towers": Towers(depth=1)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DenseDetector(layers(head, **(options | changes)), classes).eval()
