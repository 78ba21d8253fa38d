from __future__ import annotations

from pathlib import Path

import pytest
import torch

import detdistill
from detdistill.cli import main
from detdistill.detectors.dense import DenseDetector
from detdistill.detectors.description import ImageSize, read_description
from mmdet_files import checkpoint, mmdet_state, saved, small


def test_a_checkpoint_becomes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = small("atss")
    path = saved(tmp_path, checkpoint(expected))
    assert main(["import", str(path), "--out", str(tmp_path / "run"), "--iou-threshold", "0.55"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "iou_threshold: 0.55 (the config says 0.7) (given)" in said
    assert "backbone: resnet18, channels (8, 16, 32, 64) (weights)" in said
    detector = detdistill.load(tmp_path / "run")
    assert isinstance(detector, DenseDetector)
    assert detector.head.postprocessing.iou_threshold == 0.55
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(detector(images).class_logits, expected(images).class_logits)
    description = read_description(tmp_path / "run")
    assert description.image_size == ImageSize(800, 1333)
    assert description.provenance["imported_from"] == "checkpoint.pth"


def test_what_is_open_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, mmdet_state(small("retinanet")))
    words = ["import", str(path), "--out", str(tmp_path / "run"), "--classes", "[cat,dog]"]
    assert main(words) == 1
    assert "--head" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    words += ["--head", "retinanet", "--mean", "[1,2,3]", "--std", "[1,1,1]", "--bgr", "false"]
    words += ["--extra-source", "output", "--extra-relu", "true"]
    words += ["--anchor-scales", "[4,5.04,6.35]", "--anchor-ratios", "[0.5,1,2]"]
    words += ["--score-threshold", "0.05", "--iou-threshold", "0.5"]
    assert main(words) == 1
    assert "candidates_per_level" in capsys.readouterr().err
    assert main([*words, "--candidates-per-level", "1000", "--max-detections", "100"]) == 0
    assert detdistill.load(tmp_path / "run").classes == ("cat", "dog")
