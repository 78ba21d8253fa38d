"""Two-stage detectors in ONNX: what onnxruntime finds is what PyTorch finds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detdistill.core.image_options import ImageSize
from detdistill.core.settings import from_values
from detdistill.deploy.export import export
from detdistill.deploy.onnx import Form
from detdistill.detectors.base import Detector
from detdistill.detectors.two_stage.torchvision_rcnn import TorchvisionRcnn
from detdistill.detectors.two_stage.two_stage_architecture import TorchvisionRcnnArchitecture, TwoStageArchitecture
from detdistill.detectors.two_stage.two_stage_detector import TwoStageDetector

pytest.importorskip("onnxruntime")
CLASSES = "cat", "dog", "cow"


def two_stage(kind: str) -> Detector:
    values = {
        "kind": kind,
        "backbone_channels": [8, 8, 8, 8],
        "pyramid": {"channels": 8},
        "proposals": {"kept": 30, "per_level": 60},
        "regions": {"channels": 16},
    }
    torch.manual_seed(0)
    detector = TwoStageDetector(from_values(TwoStageArchitecture, values), CLASSES)
    for head in detector.region_heads:
        torch.nn.init.normal_(head.get_parameter("class_predictor.weight"), std=1.0)
    return detector


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["faster_rcnn", "cascade_rcnn"])
@pytest.mark.parametrize("form", ["end_to_end", "raw"])
def test_a_verified_file(tmp_path: Path, kind: str, form: Form) -> None:
    two_stage(kind).save(tmp_path / "run", image_size=ImageSize(64, 96))
    exported = export(tmp_path / "run", tmp_path / "model.onnx", form=form, size=(64, 96), images=3)
    assert not exported.verification.problems
    assert exported.verification.detections > 0


@pytest.mark.slow
def test_any_canvas_and_any_batch(tmp_path: Path) -> None:
    two_stage("faster_rcnn").save(tmp_path / "run", image_size=ImageSize(64, 96))
    exported = export(tmp_path / "run", tmp_path / "model.onnx", any_size=True, images=4)
    assert not exported.verification.problems
    assert exported.verification.detections > 0


@pytest.mark.slow
def test_torchvisions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = TorchvisionRcnn(TorchvisionRcnnArchitecture("fasterrcnn_mobilenet_v3_large_320_fpn"), CLASSES)
    detector.save(tmp_path / "run", image_size=ImageSize(64, 96))
    exported = export(tmp_path / "run", tmp_path / "model.onnx", size=(64, 96), images=2)
    assert not exported.verification.problems
