from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from detdistill.detectors.dense.architecture import Architecture, HeadName, Towers
from detdistill.detectors.dense.detector import DenseDetector


def tiny_detector(
    head: HeadName = "gfl", classes: Sequence[str] = ("cell", "platelet", "other"), *, seed: int = 0, **changes: Any
) -> DenseDetector:
    """A detector of random weights, small enough to run everywhere."""
    options: dict[str, Any] = {"backbone_width": 0.125, "channels": 16, "towers": Towers(depth=1)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DenseDetector(Architecture(head=head, **(options | changes)), classes).eval()
