"""A detector with masks: its detections are pasted, scored, written, read back and drawn."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from detdistill.cli import main
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.core.output import Output
from detdistill.core.rle import bitmap_of
from detdistill.core.structures import Detections
from detdistill.data.loading import training_loader
from detdistill.data.opening import open_dataset
from detdistill.data.source import DatasetSource
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.saving import save_detector
from detdistill.detectors.storage import load_detector
from detdistill.evaluation import evaluating, predict_images
from detdistill.evaluation.example_images import example_section
from detdistill.report.html import Grid, Picture
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector


class Masked(DenseDetector):
    """A dense detector that takes the left half of each box for the object."""

    @property
    def has_masks(self) -> bool:
        return True

    def detect(self, output: Output, sizes: Tensor) -> list[Detections]:
        cells = torch.cat((torch.ones(28, 14), torch.zeros(28, 14)), dim=1)
        found = super().detect(output, sizes)
        return [replace(one, mask_probabilities=cells.expand(len(one), -1, -1)) for one in found]


def loaded(folder: Path) -> DenseDetector:
    detector = load_detector(folder)
    detector.__class__ = Masked
    assert isinstance(detector, Masked)
    return detector


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Objects that fill their boxes; the last of each part has no mask."""
    folder = write_boxes(tmp_path_factory.mktemp("boxes"), train=4, val=3)
    for file in (folder / "annotations").iterdir():
        content = json.loads(file.read_text())
        for annotation in content["annotations"][:-1]:
            x, y, width, height = annotation["bbox"]
            annotation["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        file.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    detector = tiny_detector("atss", open_dataset(data, "train").classes)
    detector.postprocessing = PostProcessing(score_threshold=0.0, candidates_per_level=50, max_detections=9)
    save_detector(detector, folder, image_size=ImageSize(letterbox=96))
    return folder


@pytest.fixture(autouse=True)
def masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "load_detector", loaded)
    monkeypatch.setattr(predict_images, "load_detector", loaded)


def test_masks_are_scored_and_written(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    found = evaluating.evaluate(run, DatasetSource(data, "val"), detections=file, device="cpu")
    assert found.dataset.images.masks is not None
    assert found.scores.segm is not None
    assert found.to_values()["segm AP"] == found.scores.segm.AP
    assert "have no mask" in capsys.readouterr().err
    entries = json.loads(file.read_text())
    assert len(entries) == 27
    for entry in entries:
        x, y, width, height = entry["bbox"]
        # Images of 64 pixels were resized to 96: the masks are of the images' own size.
        bitmap = bitmap_of(entry["segmentation"]["counts"], (64, 64))
        assert entry["segmentation"]["size"] == [64, 64]
        expected = np.zeros((64, 64), bool)
        down, across = np.arange(64)[:, None] + 0.5, np.arange(64) + 0.5
        expected = (down > y + 1) & (down < y + height - 1) & (across > x + 1) & (across < x + width / 2 - 1)
        assert bitmap[expected].all()
        beyond = (down < y - 1) | (down > y + height + 1) | (across < x - 1) | (across > x + width / 2 + 1)
        assert not bitmap[beyond].any()
    again = evaluating.evaluate_detections(file, DatasetSource(data, "val"))
    assert again.scores == found.scores
    words = ["evaluate", "--detections", str(file), "--data", str(data), "--split", "val"]
    assert main(words) == 0
    assert "segm AP50" in capsys.readouterr().out


def test_a_dataset_that_was_read_without_masks_is_scored_by_boxes(run: Path, data: Path) -> None:
    found = evaluating.evaluate(run, open_dataset(data, "val"), device="cpu")
    assert found.scores.segm is None
    assert found.results.masks is not None


def test_example_images_show_masks_above_and_below(run: Path, data: Path) -> None:
    found = evaluating.evaluate(run, DatasetSource(data, "val"), device="cpu")
    plain = replace(found.dataset, images=replace(found.dataset.images, masks=None))
    sections = [
        example_section(dataset, results, [0.0] * len(plain.classes), count=1)
        for dataset, results in ((found.dataset, found.results), (plain, replace(found.results, masks=None)))
    ]
    drawn, bare = (
        np.asarray(Image.open(io.BytesIO(item.content))).astype(int)
        for section in sections
        for part in section.parts
        if isinstance(part, Grid)
        for item in part.items
        if isinstance(item, Picture)
    )
    changed = np.abs(drawn - bare).sum(axis=2) > 60
    half = len(changed) // 2
    assert changed[:half].any()
    assert changed[half:].any()


def test_images_are_predicted_with_masks(run: Path, data: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "found.json", tmp_path / "drawn"
    predict_images.predict_images(run, data / "val", json=file, out=out, threshold=0.0, device="cpu")
    entries = json.loads(file.read_text())
    assert len(entries) == 27
    assert {tuple(entry["segmentation"]["size"]) for entry in entries} == {(64, 64)}
    direct = loaded(run).predict(data / "val" / "0.png", threshold=0.0)
    assert direct.masks is not None
    assert [entry["segmentation"]["counts"] for entry in entries[: len(direct)]] == direct.masks.rles()
    assert len(list(out.iterdir())) == 3


def test_batches_carry_the_masks_of_their_objects(data: Path) -> None:
    dataset = open_dataset(data, "train", masks=True)
    options = ImageOptions(letterbox=96, photometric=0, scale_jitter=(0.7, 1.4))
    loader = training_loader(dataset, options, batch_size=2, seed=3)
    seen = 0
    for batch in loader:
        masks, targets = batch.targets.masks, batch.targets
        assert masks is not None
        assert masks.size == batch.images.shape[-2:]
        assert len(masks) == len(targets.boxes)
        for window, box, present in zip(masks.windows.tolist(), targets.boxes.tolist(), masks.present, strict=True):
            if present:
                assert np.abs(np.subtract(window, box)).max() <= 1
                seen += 1
    assert seen >= 3
    plain = next(iter(training_loader(open_dataset(data, "train"), options, batch_size=2, seed=3)))
    assert plain.targets.masks is None


def test_the_boxes_of_a_batch_do_not_depend_on_masks(data: Path) -> None:
    options = ImageOptions(letterbox=96, scale_jitter=(0.7, 1.4))
    batches = [
        next(iter(training_loader(open_dataset(data, "train", masks=masks), options, batch_size=4, seed=3)))
        for masks in (False, True)
    ]
    assert torch.equal(batches[0].images, batches[1].images)
    assert torch.equal(batches[0].targets.boxes, batches[1].targets.boxes)
