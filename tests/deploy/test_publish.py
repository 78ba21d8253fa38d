from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import detdistill
from detdistill.cli import main
from detdistill.core.annotations import ImageTable
from detdistill.core.errors import DetdistillError
from detdistill.core.structures import Detections
from detdistill.data.opening import open_dataset
from detdistill.deploy.publish import limits, made, publish, typical_image, without_folders
from detdistill.detectors.saving import save_detector
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.results import Results
from detdistill.training.run import distill
from support.small_runs import TINY, small_distillation, write_boxes, write_teacher
from support.tiny_detector import tiny_detector


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A distilled run, and its data set."""
    folder = tmp_path_factory.mktemp("distilled")
    data = write_boxes(folder / "data")
    teacher = write_teacher(folder / "teacher", strides=(16, 32), extra_levels=0)
    # The exporter takes time for every level.
    few = replace(TINY, strides=(16, 32), pyramid=replace(TINY.pyramid, extra_levels=0))
    distill(small_distillation(data, teacher, epochs=1, detector=few), None, folder / "run")
    return folder / "run", data


def test_what_is_given_away(run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, data = run
    out = tmp_path / "green-or-red"
    assert main(["publish", str(folder), "--out", str(out), "--data", str(data), "--split", "val"]) == 0
    names = ["README.md", "example.jpg", "model.json", "model.onnx", "model.safetensors"]
    assert sorted(file.name for file in out.iterdir()) == names
    assert "the picture is one of your images" in capsys.readouterr().out
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: detdistill\n")
    for text in ("# green-or-red", "rank_mimicking (weight", "4 images", "No licence was given", "teacher"):
        assert text in card
    for file in ("README.md", "model.json", "model.onnx"):
        assert str(folder.parent).encode() not in (out / file).read_bytes(), "whose folders it came from is private"
    detector = detdistill.load(out)
    assert len(detector.predict([data / "val" / "0.png"], threshold=0.0)) == 1
    with Image.open(out / "example.jpg") as picture:
        assert max(picture.size) >= 600, "small pictures are enlarged"
    assert main(["publish", str(folder), "--out", str(out), "--data", str(data), "--split", "val"]) == 1
    assert "is not empty: give a new folder" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_folder_is_told(run: tuple[Path, Path], tmp_path: Path) -> None:
    folder, data = run
    (tmp_path / "file").write_text("kept")
    with pytest.raises(DetdistillError, match="file: this is not a folder"):
        publish(folder, tmp_path / "file", dataset=data)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_detector_of_unknown_image_size_is_not_published(
    run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_detector(tiny_detector(classes=("green", "red")), tmp_path / "run")
    command = [
        "publish",
        str(tmp_path / "run"),
        "--out",
        str(tmp_path / "out"),
        "--data",
        str(run[1]),
        "--split",
        "val",
    ]
    assert main(command) == 1
    assert "does not tell the size of images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/home/me/data/scenes/train.json", "scenes/train.json"),
        ("runs/teacher", "runs/teacher"),
        ("gfl.pth", "gfl.pth"),
        ({"a": ["/x/y/z", 1, None]}, {"a": ["y/z", 1, None]}),
    ],
)
def test_paths_are_cut(value: Any, kept: Any) -> None:
    assert without_folders(value) == kept


def test_what_is_not_known_is_not_said() -> None:
    assert made({}) == []
    assert made({"imported_from": "gfl.pth", "sha256": "0"}) == ["Taken over from `gfl.pth`."]
    values: list[Any] = [None, 5, "text", [], {"source": 1}, {"folder": ["a"]}]
    for value in values:
        for key in ("data", "teacher", "weights", "terms", "seed", "epoch", "imported_from"):
            assert all("\n" not in sentence for sentence in made({key: value, "epoch": value}))
    taught = {"teacher": {"source": "t", "sha256": None}, "terms": {"hint": {}}, "weights": {}}
    assert made(taught) == ["Taught by `t`: hint."]


def test_limits_are_those_of_the_scores(tmp_path: Path) -> None:
    dataset = open_dataset(write_boxes(tmp_path), "val")
    dataset = replace(dataset, images=replace(dataset.images, labels=np.zeros_like(dataset.images.labels)))
    scores = coco_metrics(dataset, Results.empty())
    said = " ".join(limits(dataset, scores, trained_on=False))
    assert "the very images" not in said
    assert "the very images that it was trained on" in limits(dataset, scores, trained_on=True)[0]
    assert "Not scored, for want of objects: red." in said
    assert "Scored on few objects: green (" in said
    assert "no objects to score that are" in said


def test_the_example_is_the_median_image_not_the_first(tmp_path: Path) -> None:
    """Of five images the detections in two are worse, and in two better, than in the third."""
    dataset = open_dataset(write_boxes(tmp_path, val=5), "val")
    records = [replace(image, file_name=f"{number}.png") for number, image in enumerate(dataset.images)]
    dataset = replace(dataset, images=ImageTable.of(records))
    share = {0: 1.0, 1: 0.0, 2: 1.0, 3: 0.0, 4: 0.5}  # of the objects that are found; more are shown than there are
    found = []
    for index, record in enumerate(records):
        boxes = torch.from_numpy(record.boxes).float()
        wrong = round((1 - share[index]) * 10)
        scores = torch.cat((torch.full((len(boxes),), 0.9), torch.full((wrong,), 0.8), torch.full((50,), 0.1)))
        far = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(wrong + 50, 4)
        labels = torch.from_numpy(record.labels) if share[index] else torch.from_numpy(1 - record.labels)
        labels = torch.cat((labels, labels[:1].expand(wrong + 50)))
        found.append((index, Detections(torch.cat((boxes, far)), scores, labels)))
    assert typical_image(dataset, Results.from_detections(found), {}).file_name == "4.png"
    assert typical_image(dataset, Results.empty(), {}).file_name == "2.png", "of equals the middle one"
