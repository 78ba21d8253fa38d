"""A detector of somebody's own class as the one that is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from examples.own_detector import TinyDetector
from torch import Tensor

import detdistill
from detdistill.core.errors import DetdistillError
from detdistill.core.output import Output
from detdistill.core.settings import from_values
from detdistill.core.structures import Detections, Matches, ReduceSum, Targets, single_process
from detdistill.data.source import DatasetSource
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.detectors.saving import save_detector
from detdistill.detectors.storage import load_detector
from detdistill.detectors.two_stage.two_stage_architecture import TwoStageArchitecture
from detdistill.evaluation.evaluating import evaluate
from detdistill.training.distillation_settings import Distillation
from detdistill.training.materials import starting_detector
from detdistill.training.recipe import Start
from detdistill.training.run import check, distill, train
from support.small_runs import lines, small_distillation, small_recipe, write_boxes
from support.tiny_detector import tiny_detector
from support.two_stage import TwoStageDetector

CLASSES = ("green", "red")


def own() -> TinyDetector:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyDetector(CLASSES, width=8)


def test_it_is_trained_scored_and_loaded_again(tmp_path: Path) -> None:
    recipe = small_recipe(write_boxes(tmp_path / "data"))
    before = own().state_dict()
    detector = own()
    summary = train(recipe, tmp_path / "run", detector=detector)
    assert summary.AP is not None
    loaded = detdistill.load(tmp_path / "run", into=own())
    assert loaded.input.size == recipe.images.size
    assert any(not torch.equal(value, before[name]) for name, value in loaded.state_dict().items())
    found = loaded.predict(torch.zeros(48, 64, 3, dtype=torch.uint8).numpy(), threshold=0.0)
    assert len(found) > 0
    with pytest.raises(DetdistillError, match=r"own class examples\.own_detector\.TinyDetector: build it"):
        detdistill.load(tmp_path / "run")
    with pytest.raises(DetdistillError, match="the classes green, red; the given one has red"):
        load_detector(tmp_path / "run", TinyDetector(("red",), width=8))
    with pytest.raises(DetdistillError, match="does not fit the architecture"):
        load_detector(tmp_path / "run", TinyDetector(CLASSES, width=16))


class Masked(TinyDetector):
    """Learns as the other one, takes the whole box for the object, and counts the masks of its batches."""

    has_masks = True
    seen = 0

    def loss(
        self, output: Output, targets: Targets, matches: Matches, reduce_sum: ReduceSum = single_process
    ) -> dict[str, Tensor]:
        if targets.masks is not None:
            assert len(targets.masks) == len(targets.boxes)
            self.seen += int(targets.masks.present.sum())
        return super().loss(output, targets, matches, reduce_sum)

    def detect(self, output: Output, sizes: Tensor) -> list[Detections]:
        found = super().detect(output, sizes)
        return [replace(one, mask_probabilities=torch.ones(len(one), 7, 7)) for one in found]


def with_masks(data: Path) -> Path:
    """The same dataset with masks that fill the boxes."""
    for file in (data / "annotations").iterdir():
        content = json.loads(file.read_text())
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            annotation["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        file.write_text(json.dumps(content))
    return data


def test_a_detector_with_masks_gets_those_of_the_dataset(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = Masked(CLASSES, width=8)
    train(small_recipe(with_masks(write_boxes(tmp_path / "data")), epochs=1), tmp_path / "run", detector=detector)
    assert detector.seen > 3
    scores = lines(tmp_path / "run")[-1]
    assert {"AP", "segm AP", "segm AP50"} <= scores.keys()


@pytest.mark.parametrize("kind", ["mask_rcnn", "faster_rcnn"])
def test_a_recipe_of_a_mask_branch_reads_masks(kind: str, tmp_path: Path) -> None:
    values = {
        "kind": kind,
        "backbone_channels": [8, 8, 8, 8],
        "pyramid": {"channels": 8},
        "proposals": {"sampled": 16, "training_kept": 40, "kept": 30},
        "regions": {"channels": 16, "sampled": 12},
        "masks": {"convolutions": 1, "channels": 8},
    }
    data = with_masks(write_boxes(tmp_path / "data"))
    recipe = replace(small_recipe(data, epochs=1), detector=from_values(TwoStageArchitecture, values))
    train(recipe, tmp_path / "run")
    scores = lines(tmp_path / "run")[-1]
    assert ("segm AP" in scores) == (kind == "mask_rcnn")
    found = evaluate(tmp_path / "run", DatasetSource(data, "val"), device="cpu")
    assert (found.scores.segm is not None) == (kind == "mask_rcnn")
    if found.scores.segm is not None:
        assert pytest.approx(scores["segm AP"], abs=1e-6) == found.scores.segm.AP


def test_two_stages_are_trained_and_scored(tmp_path: Path) -> None:
    recipe = replace(small_recipe(write_boxes(tmp_path / "data")), accumulate=2)
    summary = train(recipe, tmp_path / "run", detector=TwoStageDetector(CLASSES))
    assert summary.AP is not None
    loss = lines(tmp_path / "run")[-2]
    assert {"roi_classification", "roi_box"} <= loss.keys()
    loaded = detdistill.load(tmp_path / "run", into=TwoStageDetector(CLASSES))
    assert isinstance(loaded, TwoStageDetector)


def test_it_learns_from_a_teacher(tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "data")
    save_detector(tiny_detector("gfl", CLASSES), tmp_path / "teacher")
    recipe = small_distillation(data, tmp_path / "teacher")
    assert "levels: strides 16 are compared" in check(recipe, student=own())
    summary = distill(recipe, None, tmp_path / "run", student=own())
    assert summary.steps > 0
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_torchvisions_detectors_are_students_too(tmp_path: Path) -> None:
    plain = small_recipe(write_boxes(tmp_path / "data", train=2, val=1), epochs=1, batch_size=2)
    recipe = replace(plain, optimization=replace(plain.optimization, ema=None))
    recipe = replace(recipe, detector=TorchvisionArchitecture("fcos_resnet50_fpn"))
    train(recipe, tmp_path / "run")
    loaded = detdistill.load(tmp_path / "run")
    assert isinstance(loaded, TorchvisionDetector)
    assert loaded.architecture == recipe.detector
    assert loaded.input.size == recipe.images.size
    section = Distillation(str(tmp_path / "run"), {"rank_mimicking": {}}, accept_teacher=True)
    taught = replace(recipe, distill=section)
    assert "fcos_resnet50_fpn" in check(taught) or "levels" in check(taught)
    with pytest.raises(DetdistillError, match=r"start\.backbone timm"):
        starting_detector(replace(recipe, start=Start(backbone="timm")), CLASSES)


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    with pytest.raises(DetdistillError, match="the classes green, red, the dataset red, green"):
        starting_detector(recipe, ("red", "green"), own())
    with pytest.raises(DetdistillError, match=r"start\.backbone and start\.from are for the recipe's own detector"):
        starting_detector(replace(recipe, start=Start(backbone="lite0")), CLASSES, own())
