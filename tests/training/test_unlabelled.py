from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError
from detdistill.data.opening import open_dataset
from detdistill.training.distillation_settings import Unlabelled
from detdistill.training.recipe import Recipe
from detdistill.training.unlabelled import with_unlabelled
from support.small_runs import small_distillation, write_boxes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Annotated images for training, validation and test; more images in another folder."""
    for number in range(3):
        write_pattern(tmp_path / "more" / f"{number}.png", seed=10 + number)
    return write_boxes(tmp_path / "data", train=3, val=2, test=1)


def write_pattern(file: Path, seed: int, brighter: int = 0) -> None:
    """Large squares of grey, in which a hash sees much."""
    file.parent.mkdir(parents=True, exist_ok=True)
    squares = np.random.default_rng(seed).integers(0, 200, (17, 17), dtype=np.uint8) + brighter
    Image.fromarray(squares.astype(np.uint8)).resize((136, 136), Image.Resampling.NEAREST).convert("RGB").save(file)


def joined(data: Path, *sources: Path, **options: bool) -> DetectionDataset:
    unlabelled = Unlabelled(tuple(map(str, sources)), **options)
    recipe: Recipe = small_distillation(data, data, unlabelled=unlabelled)
    return with_unlabelled(recipe, open_dataset(data, "train"), open_dataset(data, "val"))


def added(dataset: DetectionDataset) -> list[str]:
    return list(dataset.parts[1].images.file_names)


def test_they_follow_the_annotated_images_and_have_no_objects(data: Path, tmp_path: Path) -> None:
    before = open_dataset(data, "train")
    mixed = joined(data, tmp_path / "more")
    assert mixed.num_labelled == 3
    assert mixed.parts[0].fingerprint == before.fingerprint
    assert added(mixed) == ["0.png", "1.png", "2.png"]
    assert mixed.parts[1].images.counts.sum() == 0
    assert mixed.fingerprint != replace(mixed, num_labelled=None).fingerprint
    without: Recipe = small_distillation(data, data)
    assert with_unlabelled(without, before, None) is before


def test_images_of_the_training_set_are_left_out_by_place_and_content(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(data / "train" / "1.png", tmp_path / "more" / "copy.png")
    (tmp_path / "more" / "link.png").symlink_to(data / "train" / "0.png")
    assert added(joined(data, tmp_path / "more")) == ["0.png", "1.png", "2.png"]
    assert "of 5: 2 are images of the training set" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["val", "test"])
def test_near_duplicates_of_held_out_images_are_left_out(
    data: Path, tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of the test part, which training never opens."""
    write_pattern(data / part / "0.png", seed=10)
    with Image.open(data / part / "0.png") as image:
        image.resize((64, 64)).save(data / part / "0.png")
    write_pattern(tmp_path / "more" / "0.png", seed=10, brighter=20)
    assert added(joined(data, tmp_path / "more")) == ["1.png", "2.png"]
    assert "1 are near-duplicates of 3 validation or test images" in capsys.readouterr().err
    assert added(joined(data, tmp_path / "more", check_copies=False)) == ["0.png", "1.png", "2.png"]


def test_images_that_cannot_be_decoded_are_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "more" / "1.png"
    torn.write_bytes(torn.read_bytes()[:150])  # the header is whole
    assert added(joined(data, tmp_path / "more")) == ["0.png", "2.png"]
    assert "1 cannot be decoded" in capsys.readouterr().err


def test_nothing_left_is_an_error(data: Path) -> None:
    with pytest.raises(DataError, match=r"distill\.unlabelled\.images .*: no image is left of 3 images"):
        joined(data, data / "train")
    with pytest.raises(DataError, match=r"distill\.unlabelled\.images: .*nowhere"):
        joined(data, data / "nowhere")
