"""The kinds of detectors that a run folder can be loaded into, by the name that `model.json` has for them."""

from __future__ import annotations

from detdistill.detectors.base import Detector
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector

KINDS: dict[str, type[Detector]] = {
    DenseDetector.catalog_name: DenseDetector,
    TorchvisionDetector.catalog_name: TorchvisionDetector,  # type: ignore[type-abstract]  # it builds its subclasses
}
