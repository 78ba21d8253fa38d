"""Our own exports as teachers: what they predict is what the detector predicts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detdistill.core.image_options import ImageSize
from detdistill.core.offers import Offer
from detdistill.detectors.saving import save_detector
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.loading import load_teacher
from detdistill.teachers.onnx.importing_onnx import import_onnx
from detdistill.teachers.teacher import TeacherBatch
from support.evaluation_datasets import no_objects
from support.exports import export_once
from support.pairs import confident
from support.tiny_detector import tiny_detector

OPINIONS: frozenset[Offer] = frozenset({"opinions"})


@pytest.mark.slow
def test_the_exported_detector_teaches_like_the_detector(tmp_path: Path) -> None:
    detector = confident(tiny_detector())
    save_detector(detector, tmp_path / "run", image_size=ImageSize(64, 96))
    export_once(tmp_path / "run", tmp_path / "model.onnx", form="raw", size=(64, 96))
    import_onnx(tmp_path / "model.onnx", tmp_path / "teacher")
    teacher = load_teacher(str(tmp_path / "teacher"), no_objects(1, 3))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 64, 96), generator=generator, dtype=torch.uint8)
    batch = TeacherBatch(images, torch.tensor([[64, 96], [64, 80], [50, 96]]), OPINIONS)
    expected, found = DetectorTeacher(detector).guide(batch), teacher.guide(batch)
    assert teacher.classes == detector.classes
    for own, other in zip(expected.set_of_boxes, found.set_of_boxes, strict=True):
        assert len(own) == len(other) > 0
        assert own.floor == other.floor == detector.postprocessing.score_threshold
        assert torch.allclose(own.scores, other.scores, atol=1e-4)
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [20.0, 10.0, 60.0, 50.0], [8.0, 8.0, 24.0, 24.0]])
    image = torch.tensor([0, 1, 2])
    assert expected.opinions(boxes, image).scores.max() > 0.05
    assert torch.allclose(expected.opinions(boxes, image).scores, found.opinions(boxes, image).scores, atol=1e-3)
