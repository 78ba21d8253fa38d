"""The kinds of detectors that a recipe or a run folder can name, by the name that `model.json` has for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detdistill.core.input_spec import InputSpec
from detdistill.detectors.base import Detector
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.detectors.two_stage.torchvision_rcnn import TorchvisionRcnn
from detdistill.detectors.two_stage.two_stage_detector import TwoStageDetector

KINDS: dict[str, type[Detector]] = {
    DenseDetector.catalog_name: DenseDetector,
    TorchvisionDetector.catalog_name: TorchvisionDetector,  # type: ignore[type-abstract]  # it builds its subclasses
    TwoStageDetector.catalog_name: TwoStageDetector,
    TorchvisionRcnn.catalog_name: TorchvisionRcnn,
}


def build_detector(architecture: Any, classes: Sequence[str], input: InputSpec = InputSpec()) -> Detector:
    """Build a detector with random weights.

    Args:
        architecture: The layers, of the `architecture_type` of one of the kinds.
        classes: Class names.
        input: What images it reads.

    Raises:
        DetdistillError: The architecture makes no sense.
    """
    kind = next(kind for kind in KINDS.values() if kind.architecture_type is type(architecture))
    return kind.from_architecture(architecture, classes, input)
