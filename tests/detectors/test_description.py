from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.normalization import Normalization
from detdistill.data.opening import open_dataset
from detdistill.detectors.dense.architecture import Architecture, FeaturePyramid, TorchvisionArchitecture
from detdistill.detectors.description import FORMAT, was_trained_on, write_description
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.saving import save_detector
from detdistill.detectors.storage import read_description
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector


def test_a_detector_knows_the_images_it_was_trained_on(tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "data")
    seen, other = open_dataset(data, "train"), open_dataset(data, "val")
    provenance = {"data": {"source": seen.source, "annotations_sha256": seen.fingerprint}}
    save_detector(tiny_detector(classes=seen.classes), tmp_path / "run", provenance=provenance)
    description = read_description(tmp_path / "run")
    assert was_trained_on(description, seen)
    assert not was_trained_on(description, other)
    assert not was_trained_on(replace(description, provenance={}), seen)


STORED = """{
  "format": 1, "kind": "dense", "classes": ["cell"], "weights_sha256": "0",
  "architecture": {"head": "fcos", "channels": 64, "extra_source": "input"},
  "normalization": {"mean": [1, 2, 3], "std": [4, 5, 6], "bgr": true},
  "postprocessing": {"score_threshold": 0.1, "iou_threshold": 0.5, "candidates_per_level": 10, "max_detections": 5},
  "image_size": {"short_side": 320, "long_side": 640, "letterbox": null}, "provenance": {"seed": 3}
}"""
"""As format 1 was written; format 2 had the canvas and `class_agnostic` beside."""
SIZE = {"short_side": 320, "long_side": 640, "letterbox": None, "canvas": [32, 64]}
FORMAT_3 = {"format": 3, "input": {"normalization": json.loads(STORED)["normalization"], "size": SIZE}}
"""What format 3 has instead of `normalization` and `image_size`."""


@pytest.mark.parametrize(
    ("changes", "canvas"),
    [
        ({}, None),
        (FORMAT_3, (32, 64)),
        ({"format": 2, "image_size": {"short_side": 320, "long_side": 640, "canvas": [320, 640]}}, (320, 640)),
    ],
)
def test_descriptions_of_older_formats_are_read(
    changes: dict[str, Any], canvas: tuple[int, int] | None, tmp_path: Path
) -> None:
    content = json.loads(STORED) | changes
    if content["format"] > 2:
        del content["normalization"], content["image_size"]
    (tmp_path / "model.json").write_text(json.dumps(content))
    found = read_description(tmp_path)
    assert found.format == FORMAT
    assert found.architecture == Architecture("fcos", pyramid=FeaturePyramid(channels=64, extra_source="input"))
    normalization = Normalization((1, 2, 3), (4, 5, 6), bgr=True)
    assert found.input == InputSpec(normalization, ImageSize(320, 640, canvas=canvas))
    assert found.postprocessing == PostProcessing(0.1, 0.5, 10, 5)
    write_description(tmp_path, found)
    assert read_description(tmp_path) == found


def test_torchvision_detectors_of_format_3_are_read(tmp_path: Path) -> None:
    content = json.loads(STORED) | FORMAT_3
    del content["normalization"], content["image_size"]
    content |= {"kind": "torchvision", "architecture": {"network": "fcos_resnet50_fpn", "frozen_norm_eps": 0.0}}
    (tmp_path / "model.json").write_text(json.dumps(content))
    assert read_description(tmp_path).architecture == TorchvisionArchitecture("fcos_resnet50_fpn", 0.0)
