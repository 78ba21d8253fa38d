from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from detdistill.core.annotations import fingerprint
from detdistill.data.opening import open_dataset
from detdistill.detectors.description import read_description, was_trained_on
from detdistill.detectors.storage import save_detector
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector


def test_a_detector_knows_the_images_it_was_trained_on(tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "data")
    seen, other = open_dataset(data, "train"), open_dataset(data, "val")
    provenance = {"data": {"source": seen.source, "annotations_sha256": fingerprint(seen)}}
    save_detector(tiny_detector(classes=seen.classes), tmp_path / "run", provenance=provenance)
    description = read_description(tmp_path / "run")
    assert was_trained_on(description, seen)
    assert not was_trained_on(description, other)
    assert not was_trained_on(replace(description, provenance={}), seen)
