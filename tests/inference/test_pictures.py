from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detdistill.data.images import read_image
from detdistill.data.opening import open_dataset
from detdistill.errors import DataError, DetdistillError
from detdistill.image_options import ImageOptions
from detdistill.inference.pictures import above, detect_in_pictures, find_pictures
from detdistill.inference.predict import InferenceOptions, predict
from detdistill.structures import Detections
from pairs import confident
from small_runs import write_boxes
from tiny_detector import tiny_detector


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)


def test_files_folders_and_patterns_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "b.png", "a/2.JPG", "a/deep/1.png", "c1.png", "c2.png")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    monkeypatch.chdir(tmp_path)
    found = [str(path) for path in find_pictures(["b.png", "a", "c*.png", "b.png"])]
    assert found == ["b.png", "a/2.JPG", "a/deep/1.png", "c1.png", "c2.png"]
    assert len(find_pictures(["**/*.png"])) == 4


@pytest.mark.parametrize(
    ("name", "message"), [("x.png", "there is no such file"), ("empty", "no image in this folder")]
)
def test_nothing_by_a_name_is_told(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DetdistillError, match=message):
        find_pictures([str(tmp_path / name)])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_same_as_in_a_data_set(tmp_path: Path, batch_size: int) -> None:
    dataset = open_dataset(write_boxes(tmp_path), "val")
    detector = confident(tiny_detector("gfl", dataset.classes)).train()
    images = ImageOptions(short_side=48, long_side=64)
    options = InferenceOptions(batch_size=batch_size)
    expected = predict(detector, dataset, images, options)
    pictures = [read_image(record.path) for record in dataset.images]
    found = list(detect_in_pictures(detector, pictures, images, options))
    assert sum(map(len, found)) == len(expected) > 0
    assert torch.cat([one.scores for one in found]).tolist() == pytest.approx(expected.scores.tolist())
    assert torch.cat([one.boxes for one in found]).numpy() == pytest.approx(expected.boxes, abs=1e-3)
    assert detector.training


def test_pictures_of_different_sizes_in_one_batch_are_as_alone() -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 90), (64, 64), (90, 30))]
    detector, images = confident(tiny_detector()), ImageOptions(letterbox=64)  # one canvas for all
    together = list(detect_in_pictures(detector, pictures, images, InferenceOptions(batch_size=3)))
    for picture, one in zip(pictures, together, strict=True):
        (alone,) = detect_in_pictures(detector, [picture], images)
        assert len(alone) == len(one)
        torch.testing.assert_close(alone.scores, one.scores, rtol=1e-4, atol=1e-5)
        assert (one.boxes[:, 2] <= picture.shape[1]).all()
        assert (one.boxes[:, 3] <= picture.shape[0]).all()


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"an array \(height, width, 3\) of uint8"):
        list(detect_in_pictures(tiny_detector(), [np.zeros(shape, dtype=np.uint8)], ImageOptions()))


def test_each_class_has_its_threshold() -> None:
    found = Detections(torch.zeros(3, 4), torch.tensor([0.5, 0.4, 0.4]), torch.tensor([0, 0, 1]))
    kept = above(found, ("cat", "dog"), {"cat": 0.45}, 0.3)
    assert kept.labels.tolist() == [0, 1]
    assert kept.scores.tolist() == pytest.approx([0.5, 0.4])
